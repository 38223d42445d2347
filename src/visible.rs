//! Text from elsewhere, on its way to a terminal: nothing in it moves the cursor, colours the screen or
//! turns the direction of what follows.

use std::borrow::Cow;
use std::io::Write;

/// `text` with its control characters written out, as in `\x1b` and `\u{202e}`. A new line and a tab
/// stay as they are: see [`visible_line`] for names, where they would make another line.
pub fn visible(text: &str) -> Cow<'_, str> {
    written_out(text, |c| !matches!(c, '\n' | '\t') && is_hidden(c))
}

/// [`visible`] for what belongs into one line, such as a file's name.
pub fn visible_line(text: &str) -> Cow<'_, str> {
    written_out(text, is_hidden)
}

/// JSON with the control characters that its writer leaves as they are (U+007F and up) as escapes of
/// JSON's own: the same values to whoever reads it.
pub(crate) fn visible_json(json: &str) -> Cow<'_, str> {
    replaced(json, |c| c != '\n' && is_hidden(c), |c| format!("\\u{:04x}", u32::from(c)))
}

/// Prints a line for people to standard error, made [`visible`]. A closed pipe is ignored.
pub(crate) fn tell(text: &str) {
    let _ = writeln!(std::io::stderr(), "{}", visible(text));
}

fn written_out(text: &str, hidden: impl Fn(char) -> bool) -> Cow<'_, str> {
    replaced(text, hidden, |c| match c {
        '\n' => "\\n".to_owned(),
        '\t' => "\\t".to_owned(),
        '\r' => "\\r".to_owned(),
        c if c.is_ascii() => format!("\\x{:02x}", u32::from(c)),
        c => c.escape_unicode().to_string(),
    })
}

fn replaced(
    text: &str,
    hidden: impl Fn(char) -> bool,
    shown: impl Fn(char) -> String,
) -> Cow<'_, str> {
    if !text.chars().any(&hidden) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if hidden(c) { out.push_str(&shown(c)) } else { out.push(c) }
    }
    Cow::Owned(out)
}

/// Control characters, and those that change the direction of text or have no width.
pub(crate) fn is_hidden(c: char) -> bool {
    let turns =
        matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    c.is_control() || turns || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_seen_is_written_out() {
        assert_eq!(visible("cat\x1b[31m\u{202e}\u{9b}x\r"), "cat\\x1b[31m\\u{202e}\\u{9b}x\\r");
        assert_eq!(visible("two\nlines\tof it"), "two\nlines\tof it");
        assert_eq!(visible_line("two\nlines\x07"), "two\\nlines\\x07");
        assert_eq!(visible_json("{\n\"a\u{9b}\u{7f}b\"}"), "{\n\"a\\u009b\\u007fb\"}");
        assert!(matches!(visible("Katze, 猫, кошка 🐈"), Cow::Borrowed(_)));
    }
}
