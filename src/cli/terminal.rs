//! The one way to the terminal: whatever is printed there is made visible first, whoever wrote it.

use std::io::{IsTerminal, Write};

use serde::Serialize;

use crate::visible::{visible, visible_json, visible_line};

/// Prints a line to standard output; unlike `println!`, a closed pipe is an error, not a panic.
pub fn print_line(line: &str) -> anyhow::Result<()> {
    Ok(writeln!(std::io::stdout(), "{}", visible(line))?)
}

/// Prints a value as JSON to standard output.
pub fn print_json(value: &impl Serialize) -> anyhow::Result<()> {
    print_as_json(&serde_json::to_string_pretty(value)?, "\n")
}

/// Prints JSON and what follows it.
pub fn print_as_json(json: &str, end: &str) -> anyhow::Result<()> {
    Ok(write!(std::io::stdout(), "{}{end}", visible_json(json))?)
}

/// Prints a line for people to standard output. A closed pipe is ignored.
pub fn say(text: &str) {
    let _ = writeln!(std::io::stdout(), "{}", visible(text));
}

/// Prints a line for people to standard error. A closed pipe is ignored.
pub fn aside(text: &str) {
    crate::visible::tell(text);
}

/// What went wrong.
pub fn complain(error: &str) {
    aside(&format!("error: {error}"));
}

/// Whether somebody looks at standard error.
pub fn is_watched() -> bool {
    std::io::stderr().is_terminal()
}

/// Says what is under way, in the place of what was said before; `None` takes it away.
pub fn status(what: Option<&str>) {
    let text = what.map(|what| format!("{} ...", visible_line(what))).unwrap_or_default();
    let _ = write!(std::io::stderr(), "\r\x1b[K{text}");
}
