//! Reads every picture of a folder as training would, and says what is wrong.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use rayon::prelude::*;
use serde::{Serialize, Serializer};
use sha2::{Digest, Sha256};

use super::cats_dogs;
use super::decode::{Limits, decode_named, read_file};
use super::folder::LabelledFile;
use super::layout::{Everything, Rule, Survey, survey};
use super::names;
use crate::error::{Error, Result};

/// Width and height in pixels.
type Size = (usize, usize);
/// Finds the classes and files of a folder.
type Layout = fn(&Path) -> Result<Survey>;

/// The pictures of one class in one part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ClassReport {
    /// train, val or test.
    pub part: &'static str,
    /// The class's name.
    pub class: String,
    /// Files.
    pub files: usize,
    /// Those of them that cannot be read.
    pub bad: usize,
    /// Bytes of all files.
    pub bytes: u64,
    /// Width and height of the picture with the fewest pixels; none where none can be read.
    pub smallest: Option<Size>,
    /// Of the one in the middle, by pixels.
    pub median: Option<Size>,
    /// Of the one with the most pixels.
    pub largest: Option<Size>,
}

/// A file that is no picture that can be read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BadFile {
    /// Relative to the folder.
    #[serde(serialize_with = "text")]
    pub file: PathBuf,
    /// What is wrong with it.
    pub reason: String,
}

/// Files with the same content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Duplicates {
    /// Two or more, relative to the folder.
    #[serde(serialize_with = "texts")]
    pub files: Vec<PathBuf>,
    /// Whether they lie in different parts: what is measured on them has been trained on.
    pub across_parts: bool,
    /// Whether they are of different classes: one of them is wrong.
    pub across_classes: bool,
}

/// What there is to know about a folder of pictures.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FolderReport {
    /// The folder.
    #[serde(serialize_with = "text")]
    pub folder: PathBuf,
    /// Files in all.
    pub files: usize,
    /// One entry for each class of each part.
    pub classes: Vec<ClassReport>,
    /// Files that cannot be read.
    pub bad_files: Vec<BadFile>,
    /// Files with the same content, by the first one's name.
    pub duplicates: Vec<Duplicates>,
    /// What in the folder is not used, and what was assumed.
    pub notes: Vec<String>,
}

/// A path as text, whatever bytes it has.
fn text<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&names::text(path.as_os_str()))
}

fn texts<S: Serializer>(paths: &[PathBuf], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(paths.iter().map(|path| names::text(path.as_os_str())))
}

impl FolderReport {
    /// Whether there is nothing to mend: every file can be read, and no picture is in two parts or two
    /// classes. The same picture twice within a class is no fault.
    pub fn is_clean(&self) -> bool {
        let wrong = |same: &Duplicates| same.across_parts || same.across_classes;
        self.bad_files.is_empty() && !self.duplicates.iter().any(wrong)
    }
}

/// What one file is.
struct Seen<'a> {
    part: &'static str,
    file: &'a LabelledFile,
    /// None where the file cannot be read at all.
    hash: Option<[u8; 32]>,
    size: Result<Size, String>,
}

/// Reads every picture of `dir`, which is laid out as `--dataset` (`folder` or `cats-dogs`) wants it.
/// `progress` is called with the number of files done and of all, from several threads. A thread holds
/// one picture at a time.
///
/// # Errors
/// A folder that training could not begin with: no classes, an empty class, a class that is in one part
/// alone. A folder that can only be measured, without a training part, is checked as it is.
pub fn check_folder(
    dir: &Path,
    dataset: &str,
    progress: &(dyn Fn(usize, usize) + Sync),
) -> Result<FolderReport> {
    let find: Layout = match dataset {
        "folder" => |dir| survey(dir, Rule::Folders),
        "cats-dogs" => cats_dogs::look,
        other => {
            let cause = "its files are no pictures one by one; folder and cats-dogs can be checked";
            return Err(Error::dataset(other, cause));
        }
    };
    let found = find(dir)?.to_check()?;
    let files = labelled(&found);
    let done = AtomicUsize::new(0);
    let look = |&(part, file): &(&'static str, _)| {
        let seen = look(&found.root, part, file);
        progress(done.fetch_add(1, Ordering::Relaxed) + 1, files.len());
        seen
    };
    let seen: Vec<Seen> = files.par_iter().map(look).collect();
    Ok(FolderReport {
        folder: dir.to_owned(),
        files: seen.len(),
        classes: classes(&found, &seen),
        bad_files: seen.iter().filter_map(bad).collect(),
        duplicates: duplicates(&seen),
        notes: found.notes.clone(),
    })
}

/// All files, part by part.
fn labelled(found: &Everything) -> Vec<(&'static str, &LabelledFile)> {
    let parts = found.parts.iter();
    parts.flat_map(|(part, files)| files.iter().map(move |file| (*part, file))).collect()
}

fn look<'a>(root: &Path, part: &'static str, file: &'a LabelledFile) -> Seen<'a> {
    let (path, limits) = (root.join(&file.path), Limits::default());
    let (hash, size) = match read_file(&path, limits) {
        Ok(bytes) => {
            let size = decode_named(&path, &bytes, limits).map(|p| (p.width, p.height));
            (Some(Sha256::digest(&bytes).into()), size)
        }
        Err(error) => (None, Err(error)),
    };
    let size = size.map_err(|error| match error {
        Error::File { cause, .. } => cause,
        other => other.to_string(),
    });
    Seen { part, file, hash, size }
}

fn bad(seen: &Seen) -> Option<BadFile> {
    let reason = seen.size.as_ref().err()?.clone();
    Some(BadFile { file: seen.file.path.clone(), reason })
}

/// A row for each class of each part, in this order.
fn classes(found: &Everything, seen: &[Seen]) -> Vec<ClassReport> {
    let mut groups: BTreeMap<(usize, u32), Vec<&Seen>> = BTreeMap::new();
    for seen in seen {
        let part = ["train", "val", "test"].iter().position(|part| *part == seen.part);
        groups.entry((part.unwrap_or(0), seen.file.label)).or_default().push(seen);
    }
    let report = |((_, label), seen): (_, Vec<&Seen>)| {
        let mut sizes: Vec<Size> =
            seen.iter().filter_map(|s| s.size.as_ref().ok().copied()).collect();
        sizes.sort_by_key(|&(width, height)| (width * height, width));
        ClassReport {
            part: seen[0].part,
            class: found.classes.get(label as usize).cloned().unwrap_or_default(),
            files: seen.len(),
            bad: seen.len() - sizes.len(),
            bytes: seen.iter().map(|seen| seen.file.bytes).sum(),
            smallest: sizes.first().copied(),
            median: sizes.get(sizes.len() / 2).copied(),
            largest: sizes.last().copied(),
        }
    };
    groups.into_iter().map(report).collect()
}

/// Files whose content is the same, readable or not.
fn duplicates(seen: &[Seen]) -> Vec<Duplicates> {
    let mut groups: BTreeMap<[u8; 32], Vec<&Seen>> = BTreeMap::new();
    for seen in seen {
        if let Some(hash) = seen.hash {
            groups.entry(hash).or_default().push(seen);
        }
    }
    let groups = groups.into_values().filter(|group| group.len() > 1);
    let same = groups.map(|group| Duplicates {
        files: group.iter().map(|seen| seen.file.path.clone()).collect(),
        across_parts: group.iter().any(|seen| seen.part != group[0].part),
        across_classes: group.iter().any(|seen| seen.file.label != group[0].file.label),
    });
    let mut found: Vec<Duplicates> = same.collect();
    found.sort_by(|a, b| a.files.cmp(&b.files));
    found
}
