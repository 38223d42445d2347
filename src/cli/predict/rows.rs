//! What `predict` prints: a row for each file, as text, CSV or JSON, as results come.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;

use crate::cli::terminal::{complain, print_as_json, print_line};
use crate::csv::cell;
use crate::visible::visible_line;

/// How rows are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// A line for people.
    Text,
    /// A line a class.
    Csv,
    /// A line an image, a column a class.
    Wide,
    /// An array, an element a line.
    Json,
    /// An object a line.
    JsonLines,
}

/// A file, and what the network takes it for.
pub struct Row {
    pub image: PathBuf,
    /// A probability for each class, or why there are none.
    pub probabilities: Result<Vec<f32>, String>,
    /// Whether it seems to be the negative of what the network knows.
    pub looks_inverted: bool,
}

/// Prints rows.
pub struct Printer {
    pub format: Format,
    pub classes: Vec<String>,
    /// How many classes of an image are shown.
    pub top: usize,
    /// Whether a row was printed.
    begun: bool,
}

#[derive(Serialize)]
struct JsonRow<'a> {
    image: Cow<'a, str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    image_bytes: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top: Option<Vec<Guess<'a>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    looks_inverted: bool,
}

#[derive(Serialize)]
struct Guess<'a> {
    class: &'a str,
    probability: f32,
}

impl Printer {
    pub fn new(format: Format, classes: Vec<String>, top: usize) -> Self {
        Printer { format, classes, top, begun: false }
    }

    /// What stands before all rows.
    pub fn begin(&self) -> anyhow::Result<()> {
        match self.format {
            Format::Text | Format::JsonLines => Ok(()),
            Format::Csv => print_line("image,rank,class,probability,error"),
            Format::Wide => {
                let names = self.classes.iter().map(|class| name_cell(class));
                let cells = ["image".to_owned()].into_iter().chain(names).chain(["error".into()]);
                print_line(&cells.collect::<Vec<_>>().join(","))
            }
            Format::Json => print_as_json("[", ""),
        }
    }

    pub fn row(&mut self, row: &Row) -> anyhow::Result<()> {
        let first = !std::mem::replace(&mut self.begun, true);
        match (self.format, &row.probabilities) {
            (Format::Text, Ok(shares)) => print_line(&self.text(&row.image, shares)),
            // A row of nothing but an error is not for who reads the others.
            (Format::Text, Err(error)) => {
                complain(error);
                Ok(())
            }
            (Format::Csv, Ok(shares)) => print_line(&self.csv(&row.image, shares)),
            (Format::Csv, Err(error)) => {
                print_line(&format!("{},,,,{}", path_cell(&row.image), name_cell(error)))
            }
            (Format::Wide, _) => print_line(&self.wide(row)),
            (Format::Json, _) => {
                print_as_json(if first { "\n" } else { ",\n" }, "")?;
                print_as_json(&self.json(row)?, "")
            }
            (Format::JsonLines, _) => print_as_json(&self.json(row)?, "\n"),
        }
    }

    /// What stands behind all rows.
    pub fn end(&self) -> anyhow::Result<()> {
        match self.format {
            Format::Json => print_as_json(if self.begun { "\n]" } else { "]" }, "\n"),
            _ => Ok(()),
        }
    }

    /// The likeliest classes, the first first.
    fn guesses(&self, shares: &[f32]) -> Vec<Guess<'_>> {
        let mut order: Vec<usize> = (0..shares.len()).collect();
        order.sort_by(|&a, &b| shares[b].total_cmp(&shares[a]));
        let guess = |i: usize| Guess { class: &self.classes[i], probability: shares[i] };
        order.into_iter().take(self.top).map(guess).collect()
    }

    /// `cat.jpg: cat 98.2 %, dog 1.8 %`
    fn text(&self, image: &Path, shares: &[f32]) -> String {
        let guess = |guess: Guess| {
            format!("{} {:.1} %", visible_line(guess.class), 100.0 * guess.probability)
        };
        let guesses: Vec<_> = self.guesses(shares).into_iter().map(guess).collect();
        format!("{}: {}", visible_line(&image.to_string_lossy()), guesses.join(", "))
    }

    /// `cat.jpg,1,cat,0.982,` and so on.
    fn csv(&self, image: &Path, shares: &[f32]) -> String {
        let image = path_cell(image);
        let line = |(i, guess): (usize, Guess)| {
            format!("{image},{},{},{},", i + 1, name_cell(guess.class), guess.probability)
        };
        self.guesses(shares).into_iter().enumerate().map(line).collect::<Vec<_>>().join("\n")
    }

    /// `cat.jpg,0.982,0.018,`
    fn wide(&self, row: &Row) -> String {
        let mut cells = vec![path_cell(&row.image)];
        match &row.probabilities {
            Ok(shares) => {
                cells.extend(shares.iter().map(f32::to_string));
                cells.push(String::new());
            }
            Err(error) => {
                cells.extend(self.classes.iter().map(|_| String::new()));
                cells.push(name_cell(error));
            }
        }
        cells.join(",")
    }

    fn json(&self, row: &Row) -> serde_json::Result<String> {
        let name = row.image.as_os_str();
        serde_json::to_string(&JsonRow {
            image: name.to_string_lossy(),
            image_bytes: name.to_str().is_none().then(|| STANDARD.encode(name.as_encoded_bytes())),
            top: row.probabilities.as_ref().ok().map(|shares| self.guesses(shares)),
            error: row.probabilities.as_ref().err().map(String::as_str),
            looks_inverted: row.looks_inverted,
        })
    }
}

/// A path as a cell, which no line break of it ends.
fn path_cell(path: &Path) -> String {
    name_cell(&path.to_string_lossy())
}

/// A name or a complaint as a cell.
fn name_cell(text: &str) -> String {
    cell(&visible_line(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printer(format: Format) -> Printer {
        Printer::new(format, ["cat", "=dog", "a\x1b[2Jb"].map(str::to_owned).to_vec(), 2)
    }

    fn row(name: &str, probabilities: Result<Vec<f32>, String>) -> Row {
        Row { image: name.into(), probabilities, looks_inverted: false }
    }

    #[test]
    fn cells_are_neither_formulas_nor_control_characters() {
        let shares = [0.25, 0.125, 0.625];
        let csv = printer(Format::Csv).csv(Path::new("@a,b.png"), &shares);
        let wanted = "\"'@a,b.png\",1,a\\x1b[2Jb,0.625,\n\"'@a,b.png\",2,cat,0.25,";
        assert_eq!(csv, wanted);
        let wide = printer(Format::Wide).wide(&row("a\nb.png", Ok(shares.to_vec())));
        assert_eq!(wide, "a\\nb.png,0.25,0.125,0.625,");
        let wide = printer(Format::Wide).wide(&row("a.png", Err("no, not one".into())));
        assert_eq!(wide, "a.png,,,,\"no, not one\"");
    }

    #[cfg(unix)]
    #[test]
    fn a_name_that_is_not_unicode_is_there_as_bytes_too() {
        use std::os::unix::ffi::OsStrExt;
        let name = std::ffi::OsStr::from_bytes(b"caf\xe9.png");
        let row = Row { image: name.into(), probabilities: Err("x".into()), looks_inverted: true };
        let json = printer(Format::Json).json(&row).unwrap();
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(json["image"], "caf\u{fffd}.png");
        assert_eq!(STANDARD.decode(json["image_bytes"].as_str().unwrap()).unwrap(), b"caf\xe9.png");
        assert_eq!(json["looks_inverted"], true);
    }
}
