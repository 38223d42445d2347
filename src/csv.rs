//! Cells of CSV, such that a spreadsheet takes none of them for a formula.

/// Text as a cell, in quotes where it has to be. Where a spreadsheet would run it (it begins with `=`,
/// `+`, `-`, `@`, a tab or a line break, and is not a number) an apostrophe is put in front, as OWASP
/// advises ("CSV Injection").
pub(crate) fn cell(text: &str) -> String {
    let defused = if is_formula(text) { format!("'{text}") } else { text.to_owned() };
    match defused.contains([',', '"', '\n', '\r']) {
        true => format!("\"{}\"", defused.replace('"', "\"\"")),
        false => defused,
    }
}

fn is_formula(text: &str) -> bool {
    // The last four are the full-width forms.
    let begins = ['=', '+', '-', '@', '\t', '\r', '\n', '＝', '＋', '－', '＠'];
    text.starts_with(begins) && text.parse::<f64>().is_err()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formulas_are_text_and_numbers_stay() {
        assert_eq!(cell("=HYPERLINK(\"x\")"), "\"'=HYPERLINK(\"\"x\"\")\"");
        for formula in ["=1", "+1+1", "-2+3", "@SUM(A1)", "\t=1", "＝1"] {
            assert_eq!(cell(formula), format!("'{formula}"));
        }
        for plain in ["-0.5", "+1e-3", "-0", "cat", "a=b", ""] {
            assert_eq!(cell(plain), plain);
        }
        assert_eq!(cell("a, b"), "\"a, b\"");
    }
}
