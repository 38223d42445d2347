//! What runs came to, side by side: a table, figures, and a page that needs no network.
//!
//! A [`Report`] reads run folders and nothing else. Runs on different data sets are never put into one
//! table; runs that differ in their seed alone make one row, with mean and standard deviation.
//!
//! ```no_run
//! use std::path::{Path, PathBuf};
//!
//! use convzoo::report::Report;
//!
//! # fn main() -> convzoo::Result<()> {
//! let runs = [PathBuf::from("runs/alexnet"), PathBuf::from("runs/resnet18")];
//! let report = Report::read(&runs)?;
//! report.write(Path::new("runs"))?; // report.html, compare.csv and a file for each figure
//! # Ok(())
//! # }
//! ```

mod axes;
mod columns;
mod confusion;
mod curves;
mod figures;
mod labels;
mod page;
mod record;
mod rows;
mod scatter;
mod sections;
mod style;
mod views;

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use crate::digits::counted;
use crate::files::plain::plain_name;
use crate::visible::visible;
use crate::{Result, files};

pub use columns::{Cell, Column, columns, csv};
pub use confusion::Confusion;
pub use record::{Epoch, Record};
pub use rows::{Group, Row, Spread};
pub use views::{Answer, Sample, Views};

/// Runs, in groups that may be compared.
#[derive(Clone, Debug)]
pub struct Report {
    /// One a data set.
    pub groups: Vec<Group>,
    /// Runs that are in no group, since they cannot be read.
    pub left_out: Vec<LeftOut>,
}

/// A run that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftOut {
    /// Its folder.
    pub folder: PathBuf,
    /// The file that is damaged, and how.
    pub cause: String,
}

impl Report {
    /// Reads run folders. Runs with damaged files are in [`Report::left_out`].
    ///
    /// # Errors
    /// Where not one of them can be read: names the first folder that holds no run, or the file that
    /// is damaged.
    pub fn read(folders: &[PathBuf]) -> Result<Self> {
        let (mut records, mut left_out, mut first) = (Vec::new(), Vec::new(), None);
        for folder in folders {
            match Record::read(folder) {
                Ok(record) => records.push(record),
                Err(error) => {
                    left_out.push(LeftOut { folder: folder.clone(), cause: error.to_string() });
                    first.get_or_insert(error);
                }
            }
        }
        match first {
            Some(error) if records.is_empty() => Err(error),
            _ => Ok(Report { groups: Group::all(records), left_out }),
        }
    }

    /// A sentence on the runs that are left out, where there are any.
    pub fn lacks(&self) -> Option<String> {
        let causes: Vec<&str> = self.left_out.iter().map(|run| run.cause.as_str()).collect();
        let runs = counted(causes.len(), "run");
        (!causes.is_empty()).then(|| format!("{runs} left out: {}", causes.join("; ")))
    }

    /// Shows pictures to the best weights of every network, which the page then shows by Grad-CAM.
    ///
    /// # Errors
    /// Where weights cannot be read, or do not fit their network.
    pub fn explain(&mut self, samples: &[Sample]) -> Result<()> {
        for group in self.groups.iter_mut().filter(|_| !samples.is_empty()) {
            group.views = Some(Views::of(group, samples)?);
        }
        Ok(())
    }

    /// The page.
    ///
    /// # Errors
    /// Where a figure cannot be drawn.
    pub fn html(&self) -> Result<String> {
        page::html(self)
    }

    /// Writes `report.html`, `compare.csv` and every figure as a file into `folder`.
    ///
    /// # Errors
    /// Where a figure cannot be drawn, or a file not be written.
    pub fn write(&self, folder: &Path) -> Result<()> {
        files::write_bytes(&folder.join("report.html"), self.html()?.as_bytes())?;
        files::write_bytes(&folder.join("compare.csv"), columns::csv(&self.groups).as_bytes())?;
        let mut taken = HashSet::new();
        for group in &self.groups {
            let prefix =
                if self.groups.len() > 1 { format!("{}-", group.dataset) } else { String::new() };
            let learning = figures::learning(group)?.into_iter().flatten();
            let all = figures::costs(group)?.into_iter().chain(figures::errors(group)?);
            for figure in all.chain(learning).chain(figures::published(group)?) {
                let name = free_name(&format!("{prefix}{}", figure.id), &mut taken);
                let path = folder.join(format!("{name}.svg"));
                files::write_bytes(&path, figure.file().as_bytes())?;
            }
        }
        Ok(())
    }
}

/// The plain name of a figure's file. What runs are called is theirs to say: names that become the same,
/// on systems that do not tell cases apart either, are numbered.
fn free_name(wanted: &str, taken: &mut HashSet<String>) -> String {
    let name = plain_name(wanted);
    let numbered = (2..).map(|n: u32| format!("{name}-{n}"));
    let mut names = std::iter::once(name.clone().into_owned()).chain(numbered);
    let free = names.find(|name| taken.insert(name.to_lowercase()));
    free.unwrap_or_else(|| name.into_owned())
}

/// Text as it stands in HTML and SVG; control characters, which XML does not allow, are written out.
fn escape(text: &str) -> String {
    let text = visible(text);
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\u{fffe}' | '\u{ffff}' => out.push('\u{fffd}'),
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_xml_is_written_out() {
        assert_eq!(
            escape("<a b='c'>\u{0}\x1b&\u{ffff}"),
            "&lt;a b=&#39;c&#39;&gt;\\x00\\x1b&amp;\u{fffd}"
        );
    }

    #[test]
    fn names_of_figures_are_free_and_plain() {
        let mut taken = HashSet::new();
        let names = ["a", "A", "../a", "a"].map(|name| free_name(name, &mut taken));
        assert_eq!(names[..2], ["a", "A-2"]);
        assert_eq!(names[3], "a-3");
        assert!(crate::files::plain::is_plain(&names[2]), "{names:?}");
    }
}
