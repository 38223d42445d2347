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

use std::path::{Path, PathBuf};

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
}

impl Report {
    /// Reads run folders.
    ///
    /// # Errors
    /// Names the folder that holds no run, or the file that cannot be read.
    pub fn read(folders: &[PathBuf]) -> Result<Self> {
        let records = folders.iter().map(|folder| Record::read(folder));
        Ok(Report { groups: Group::all(records.collect::<Result<_>>()?) })
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
        for group in &self.groups {
            let prefix =
                if self.groups.len() > 1 { format!("{}-", group.dataset) } else { String::new() };
            let learning = figures::learning(group)?.into_iter().flatten();
            let all = figures::costs(group)?.into_iter().chain(figures::errors(group)?);
            for figure in all.chain(learning).chain(figures::published(group)?) {
                let path = folder.join(format!("{prefix}{}.svg", figure.id));
                files::write_bytes(&path, figure.file().as_bytes())?;
            }
        }
        Ok(())
    }
}

/// Text as it stands in HTML and SVG.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    // XML has no place for control characters.
    for c in visible(text).chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            other => out.push(other),
        }
    }
    out
}
