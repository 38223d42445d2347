//! Which classes were taken for which.

use crate::train::RunFolder;
use crate::{Error, Result};

/// A confusion matrix.
#[derive(Clone, Debug, PartialEq)]
pub struct Confusion {
    /// The part of the data: `test`, or else `val`.
    pub part: String,
    /// Names of the classes.
    pub classes: Vec<String>,
    /// For each true class, how many pictures were taken for each class.
    pub counts: Vec<Vec<u64>>,
    /// How far confidence is from accuracy, as a mean over the pictures.
    pub calibration_error: f64,
}

impl Confusion {
    /// What a run's folder says of its best weights; none where it says nothing.
    ///
    /// # Errors
    /// Where the file is there and cannot be read, or its matrix is not one of its classes.
    pub fn of_run(folder: &RunFolder) -> Result<Option<Self>> {
        let path = folder.file("evaluation.json");
        if !path.exists() {
            return Ok(None);
        }
        let mut found = folder.evaluation()?;
        let part = ["test", "val"].into_iter().find(|part| found.parts.contains_key(*part));
        let Some((part, assessment)) = part.and_then(|part| found.parts.remove_entry(part)) else {
            return Ok(None);
        };
        let (classes, counts) = (found.classes, assessment.confusion);
        let is_square = counts.len() == classes.len();
        if !is_square || counts.iter().any(|row| row.len() != classes.len()) {
            let cause = format!("its confusion matrix is not one of {} classes", classes.len());
            return Err(Error::file(path, cause));
        }
        let calibration_error = assessment.calibration_error;
        Ok(Some(Confusion { part, classes, counts, calibration_error }))
    }

    /// The share of a true class that was taken for a class.
    pub fn share(&self, truth: usize, taken: usize) -> f64 {
        let all: f64 = self.counts[truth].iter().map(|&count| count as f64).sum();
        if all == 0.0 { 0.0 } else { self.counts[truth][taken] as f64 / all }
    }

    /// The pairs that were confused most: truth, taken for, how often.
    pub fn worst(&self, count: usize) -> Vec<(&str, &str, u64)> {
        let mut pairs: Vec<(&str, &str, u64)> = Vec::new();
        for (truth, row) in self.counts.iter().enumerate() {
            for (taken, &n) in row.iter().enumerate() {
                let is_full = pairs.len() == count && pairs.last().is_none_or(|last| last.2 >= n);
                if taken == truth || n == 0 || is_full {
                    continue;
                }
                let place = pairs.partition_point(|pair| pair.2 >= n);
                pairs.insert(place, (&self.classes[truth], &self.classes[taken], n));
                pairs.truncate(count);
            }
        }
        pairs
    }
}
