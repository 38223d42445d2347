//! Which classes were taken for which.

use crate::Result;
use crate::train::RunFolder;

/// A confusion matrix.
#[derive(Clone, Debug, PartialEq)]
pub struct Confusion {
    /// Names of the classes.
    pub classes: Vec<String>,
    /// For each true class, how many pictures were taken for each class.
    pub counts: Vec<Vec<u64>>,
}

impl Confusion {
    /// What a run's folder says; none where it says nothing.
    ///
    /// # Errors
    /// Where the file is there and cannot be read.
    pub fn of_run(_folder: &RunFolder) -> Result<Option<Self>> {
        Ok(None)
    }

    /// The share of a true class that was taken for a class.
    pub fn share(&self, truth: usize, taken: usize) -> f64 {
        let all: u64 = self.counts[truth].iter().sum();
        if all == 0 { 0.0 } else { self.counts[truth][taken] as f64 / all as f64 }
    }

    /// The pairs that were confused most: truth, taken for, how often.
    pub fn worst(&self, count: usize) -> Vec<(&str, &str, u64)> {
        let mut pairs = Vec::new();
        for (truth, row) in self.counts.iter().enumerate() {
            for (taken, &n) in
                row.iter().enumerate().filter(|(taken, n)| *taken != truth && **n > 0)
            {
                pairs.push((self.classes[truth].as_str(), self.classes[taken].as_str(), n));
            }
        }
        pairs.sort_by(|a, b| b.2.cmp(&a.2));
        pairs.truncate(count);
        pairs
    }
}
