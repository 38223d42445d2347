//! Whether a run that is wanted is there already.

use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::bail;

use crate::Error;
use crate::report::Record;
use crate::train::{RunConfig, RunFolder};

/// What is there of a run.
pub enum Found {
    /// All of it.
    Finished(PathBuf),
    /// So many epochs of it.
    Begun { folder: PathBuf, epochs: usize },
    /// Nothing.
    Nothing,
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Found::Finished(folder) => write!(f, "finished before, in {}", folder.display()),
            Found::Begun { folder, epochs } => {
                write!(f, "goes on after epoch {epochs}, in {}", folder.display())
            }
            Found::Nothing => write!(f, "to be trained"),
        }
    }
}

/// Looks among the runs in `folder` for the one that `wanted` describes: the same network, data, seed
/// and every setting that a resumed run must keep, and the same epochs unless `any_epochs`.
///
/// With `any_settings`, network, data and seed are enough.
///
/// # Errors
/// Where a run of that network, data set and seed is there but differs: the message says in what.
pub fn find(
    folder: &Path,
    wanted: &RunConfig,
    any_epochs: bool,
    any_settings: bool,
) -> anyhow::Result<Found> {
    let mut nearest: Option<(PathBuf, Vec<String>)> = None;
    let mut begun = None;
    for path in run_folders(folder)? {
        let saved = RunFolder::open(&path)?.config()?;
        if !is_candidate(&saved, wanted) {
            continue;
        }
        let differences = differences(&saved, wanted, any_epochs, any_settings);
        if !differences.is_empty() {
            if nearest.as_ref().is_none_or(|(_, least)| differences.len() < least.len()) {
                nearest = Some((path, differences));
            }
            continue;
        }
        let record = Record::read(&path)?;
        if record.is_finished() {
            return Ok(Found::Finished(path));
        }
        begun.get_or_insert(Found::Begun { folder: path, epochs: record.epochs.len() });
    }
    match (begun, nearest) {
        (Some(begun), _) => Ok(begun),
        (None, None) => Ok(Found::Nothing),
        (None, Some((path, differences))) => bail!(
            "{} is a run of {} with other settings: {}; choose another --runs folder, move it away, \
             or take it as it is with --any-settings",
            path.display(),
            wanted.model.name,
            differences.join("; ")
        ),
    }
}

/// Whether it is a run of the same network on the same data set with the same seed.
fn is_candidate(saved: &RunConfig, wanted: &RunConfig) -> bool {
    saved.model.name == wanted.model.name
        && saved.data.name == wanted.data.name
        && saved.train.seed == wanted.train.seed
}

/// What keeps a run from being the one that is wanted; a line each.
fn differences(
    saved: &RunConfig,
    wanted: &RunConfig,
    any_epochs: bool,
    any_settings: bool,
) -> Vec<String> {
    let mut found = wanted.differences(saved);
    let (before, now) = (saved.train.epochs, wanted.train.epochs);
    if !any_epochs && before != now {
        found.push(format!("train.epochs was {before} and is now {now}"));
    }
    readable(&mut found);
    if any_settings {
        found.retain(|difference| difference.starts_with("data.identity"));
    }
    found
}

/// What a user sets comes first; what follows from it is left out, what fills a page only named.
fn readable(found: &mut Vec<String>) {
    let follows = |difference: &String| {
        ["model.params", "model.macs"].iter().any(|count| difference.starts_with(count))
    };
    if !found.iter().all(follows) {
        found.retain(|difference| !follows(difference));
    }
    for difference in found.iter_mut() {
        for part in ["train", "eval"] {
            if difference.starts_with(&format!("data.{part}_pipeline")) {
                *difference = format!("data.{part}_pipeline: pictures are prepared otherwise");
            }
        }
    }
    found.sort_by_key(|difference| !difference.starts_with("train."));
}

/// The run folders within a folder, by name; none where there is no such folder.
///
/// # Errors
/// Where it cannot be read.
pub fn run_folders(folder: &Path) -> crate::Result<Vec<PathBuf>> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Error::file(folder, error)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.map_err(|error| Error::file(folder, error))?.path();
        let hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
        if !hidden && RunFolder::open(&path).is_ok() {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_user_sets_is_told_first() {
        let told = |found: &[&str]| {
            let mut found: Vec<String> = found.iter().map(|line| (*line).to_owned()).collect();
            readable(&mut found);
            found
        };
        let counts = "model.macs was 1 and is now 2";
        let pipeline = "data.eval_pipeline was [{}, {}] and is now [{}]";
        let rate = "train.lr was 0.1 and is now 0.2";
        let said = "data.eval_pipeline: pictures are prepared otherwise";
        assert_eq!(told(&[counts, pipeline, rate]), [rate, said]);
        assert_eq!(told(&[counts]), [counts], "alone, it is all that differs");
    }
}
