//! What one run folder says.

use std::path::{Path, PathBuf};

use super::confusion::Confusion;
use crate::files::regular;
use crate::train::{RunConfig, RunFolder, Summary};
use crate::{Error, Result};

/// A line of `metrics.csv`.
#[derive(Clone, Debug, PartialEq)]
pub struct Epoch {
    /// From 1.
    pub epoch: usize,
    /// Mean training loss, label smoothing included.
    pub train_loss: f64,
    /// Share of training pictures that were right, as augmented.
    pub train_top1: f64,
    /// Mean validation loss, where the epoch was evaluated.
    pub val_loss: Option<f64>,
    /// Share of validation pictures that were right, where it was evaluated.
    pub val_top1: Option<f64>,
    /// Training pictures a second.
    pub images_per_s: f64,
    /// Seconds of training and evaluation.
    pub seconds: f64,
}

/// A run, finished or not.
#[derive(Clone, Debug)]
pub struct Record {
    /// Its folder.
    pub folder: PathBuf,
    /// Its settings.
    pub config: RunConfig,
    /// Its epochs so far.
    pub epochs: Vec<Epoch>,
    /// Its outcome; none while it is under way.
    pub summary: Option<Summary>,
    /// Which classes its best weights took for which, where the folder says.
    pub confusion: Option<Confusion>,
    /// Size of its best weights' file.
    pub file_bytes: Option<u64>,
}

impl Record {
    /// Reads a run folder.
    ///
    /// # Errors
    /// Where it holds no run, or one whose files cannot be read.
    pub fn read(folder: &Path) -> Result<Self> {
        let open = RunFolder::open(folder)?;
        let config = open.config()?;
        let outcome = open.file("summary.json");
        let summary = outcome.exists().then(|| open.summary()).transpose()?;
        if let Some(cause) = summary.as_ref().and_then(wrong_share) {
            return Err(Error::file(outcome, cause));
        }
        let metrics = open.file("metrics.csv");
        let epochs = match metrics.exists() {
            true => epochs(&regular::read_text(&metrics)?)
                .map_err(|cause| Error::file(&metrics, cause))?,
            // A run within its first epoch has none yet.
            false => Vec::new(),
        };
        // A summary that an earlier, shorter training left is no outcome of this one.
        let is_whole = |s: &Summary| s.epochs >= config.train.epochs || s.stopped_early;
        let summary = summary.filter(|s| is_whole(s) && s.epochs == epochs.len());
        let file_bytes = std::fs::metadata(open.file("best.safetensors")).ok().map(|m| m.len());
        let confusion = Confusion::of_run(&open)?;
        let folder = folder.to_owned();
        Ok(Record { folder, config, epochs, summary, confusion, file_bytes })
    }

    /// Its folder's own name.
    pub fn name(&self) -> String {
        let name = self.folder.file_name().unwrap_or(self.folder.as_os_str());
        name.to_string_lossy().into_owned()
    }

    /// The epoch with the highest validation top-1, and that; the first such, as the loss between
    /// equals is not asked here.
    fn best(&self) -> Option<(usize, f64)> {
        let evaluated = self.epochs.iter().filter_map(|e| Some((e.epoch, e.val_top1?)));
        evaluated.reduce(|best, next| if next.1 > best.1 { next } else { best })
    }

    /// Validation top-1 of the best epoch.
    pub fn val_top1(&self) -> Option<f64> {
        let summary = self.summary.as_ref().and_then(|summary| summary.best_val_top1);
        summary.or_else(|| self.best().map(|(_, top1)| top1))
    }

    /// The best epoch, from 1.
    pub fn best_epoch(&self) -> Option<usize> {
        let summary = self.summary.as_ref().and_then(|summary| summary.best_epoch);
        summary.or_else(|| self.best().map(|(epoch, _)| epoch))
    }

    /// Top-1 of the best weights on the test pictures.
    pub fn test_top1(&self) -> Option<f64> {
        self.summary.as_ref().and_then(|summary| summary.test_top1)
    }

    /// Training pictures a second over all epochs.
    pub fn images_per_s(&self) -> Option<f64> {
        if let Some(summary) = &self.summary {
            return Some(summary.train_images_per_s);
        }
        let rates = self.epochs.iter().map(|epoch| 1.0 / epoch.images_per_s);
        let mean = rates.sum::<f64>() / self.epochs.len() as f64;
        (mean.is_finite() && mean > 0.0).then_some(1.0 / mean)
    }

    /// Seconds of training and evaluation so far.
    pub fn seconds(&self) -> f64 {
        self.epochs.iter().map(|epoch| epoch.seconds).fold(0.0, |sum, s| sum + s) // `sum` begins at -0
    }

    /// The highest resident memory, in MiB, where it was measured.
    pub fn peak_memory_mib(&self) -> Option<f64> {
        self.summary.as_ref().and_then(|summary| summary.peak_memory_mib)
    }

    /// Whether all its epochs are done.
    pub fn is_finished(&self) -> bool {
        self.summary.is_some()
    }
}

/// A share of right images in a summary that is none, if there is one.
fn wrong_share(summary: &Summary) -> Option<String> {
    let shares = [
        ("val_top1", summary.val_top1),
        ("best_val_top1", summary.best_val_top1),
        ("test_top1", summary.test_top1),
    ];
    shares.into_iter().find_map(|(name, share)| not_a_share(name, share?))
}

fn not_a_share(name: &str, value: f64) -> Option<String> {
    (!(0.0..=1.0).contains(&value)).then(|| format!("{name} is {value}, not a share from 0 to 1"))
}

/// Most lines of `metrics.csv`: figures are made of all of them.
const MOST_EPOCHS: usize = 100_000;

/// The lines of `metrics.csv`, by the names in its first one: later versions may add columns.
fn epochs(text: &str) -> std::result::Result<Vec<Epoch>, String> {
    let mut lines = text.lines();
    let header: Vec<&str> = lines.next().unwrap_or_default().split(',').collect();
    let mut found: Vec<Epoch> = Vec::new();
    for (number, line) in (2..).zip(lines) {
        let epoch = epoch(&header, line).map_err(|cause| format!("line {number}{cause}"))?;
        if let Some(last) = found.last().filter(|last| last.epoch >= epoch.epoch) {
            let (last, epoch) = (last.epoch, epoch.epoch);
            return Err(format!("line {number}: epoch {epoch} comes after epoch {last}"));
        }
        if found.len() == MOST_EPOCHS {
            return Err(format!("has more than {MOST_EPOCHS} epochs"));
        }
        found.push(epoch);
    }
    Ok(found)
}

/// A line; an error is to stand behind the line's number.
fn epoch(header: &[&str], line: &str) -> std::result::Result<Epoch, String> {
    let cells: Vec<&str> = line.split(',').collect();
    let cell = |name: &str| -> std::result::Result<Option<f64>, String> {
        let column = header.iter().position(|column| *column == name);
        let cell = column.and_then(|column| cells.get(column)).copied().unwrap_or_default();
        if cell.is_empty() {
            return Ok(None);
        }
        cell.parse().map(Some).map_err(|_| format!(": {name} is {cell}, not a number"))
    };
    let needed = |name: &str| cell(name)?.ok_or_else(|| format!(" has no {name}"));
    let number = needed("epoch")?;
    let found = Epoch {
        epoch: number as usize,
        train_loss: needed("train_loss")?,
        train_top1: needed("train_top1")?,
        val_loss: cell("val_loss")?,
        val_top1: cell("val_top1")?,
        images_per_s: needed("images_per_s")?,
        seconds: needed("seconds")?,
    };
    if number < 1.0 || number != found.epoch as f64 {
        return Err(format!(": epoch is {number}, not a whole number from 1"));
    }
    let wrong = not_a_share("train_top1", found.train_top1)
        .or_else(|| not_a_share("val_top1", found.val_top1?));
    match wrong {
        Some(cause) => Err(format!(": {cause}")),
        None if !(found.seconds >= 0.0 && found.seconds.is_finite()) => {
            Err(format!(": seconds is {}, not a time", found.seconds))
        }
        None => Ok(found),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::METRICS_HEADER;

    #[test]
    fn metrics_are_read_by_their_names() {
        let text = format!(
            "{METRICS_HEADER}\n1,0.05,0.7,0.5,,,15.00,2.5\n2,0.04,0.6,0.6,0.65,0.61,15,2.5\n"
        );
        let found = epochs(&text).unwrap();
        assert_eq!((found.len(), found[0].val_top1, found[1].val_top1), (2, None, Some(0.61)));
        let more = "new,epoch,train_loss,train_top1,images_per_s,seconds\nx,1,0.5,0.7,9,3\n";
        assert_eq!(epochs(more).unwrap()[0].train_top1, 0.7);
        assert!(epochs("epoch\none\n").unwrap_err().contains("line 2: epoch is one"));
        assert!(epochs("epoch\n1\n").unwrap_err().contains("line 2 has no train_loss"));
    }

    #[test]
    fn numbers_that_cannot_be_are_refused() {
        let header = "epoch,train_loss,train_top1,val_top1,images_per_s,seconds";
        for (lines, expected) in [
            ("1,0.5,0.7,NaN,9,3", "line 2: val_top1 is NaN, not a share from 0 to 1"),
            ("1,0.5,0.7,1.5,9,3", "val_top1 is 1.5"),
            ("1,0.5,-0.1,,9,3", "train_top1 is -0.1"),
            ("1,0.5,0.7,,9,inf", "seconds is inf, not a time"),
            ("1,0.5,0.7,,9,-1", "seconds is -1"),
            ("0,0.5,0.7,,9,3", "epoch is 0"),
            ("1.5,0.5,0.7,,9,3", "epoch is 1.5"),
            ("1e300,0.5,0.7,,9,3", "not a whole number"),
            ("1,0.5,0.7,,9,3\n1,0.5,0.7,,9,3", "line 3: epoch 1 comes after epoch 1"),
        ] {
            let error = epochs(&format!("{header}\n{lines}\n")).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
        // A loss may be what it is: such an epoch is not drawn.
        assert!(epochs(&format!("{header}\n1,NaN,0.1,,9,3\n2,inf,0.1,,9,3\n")).is_ok());
        let line = |n: usize| format!("{n},0.5,0.5,,9,3\n");
        let many: String = (1..=MOST_EPOCHS + 1).map(line).collect();
        assert!(epochs(&format!("{header}\n{many}")).unwrap_err().contains("more than 100000"));
    }
}
