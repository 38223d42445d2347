//! Pictures in folders: one folder a class.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::decode::{Limits, decode_file};
use super::picture::Picture;
use super::source::Source;
use crate::error::{Error, Result};

/// Picture files below one folder, each with its class.
pub struct Files {
    root: PathBuf,
    files: Vec<LabelledFile>,
    limits: Limits,
}

/// A file, its path relative to the data set's folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LabelledFile {
    pub(crate) path: PathBuf,
    pub(crate) label: u32,
    pub(crate) bytes: u64,
}

impl Files {
    pub(crate) fn new(root: &Path, files: Vec<LabelledFile>) -> Self {
        Files { root: root.to_path_buf(), files, limits: Limits::default() }
    }
}

impl Source for Files {
    fn len(&self) -> usize {
        self.files.len()
    }

    fn label(&self, index: usize) -> u32 {
        self.files[index].label
    }

    fn name(&self, index: usize) -> String {
        // The same text on every system, for the data set's identity.
        let parts: Vec<_> =
            self.files[index].path.iter().map(|part| part.to_string_lossy()).collect();
        parts.join("/")
    }

    fn picture(&self, index: usize) -> Result<Picture> {
        decode_file(&self.root.join(&self.files[index].path), self.limits)
    }

    fn stamp(&self, index: usize) -> u64 {
        self.files[index].bytes
    }

    fn written(&self, index: usize) -> Option<u64> {
        let about = std::fs::metadata(self.root.join(&self.files[index].path)).ok()?;
        let since = about.modified().ok()?.duration_since(std::time::UNIX_EPOCH).ok()?;
        u64::try_from(since.as_nanos()).ok()
    }
}

/// The parts of a data set in folders, as found.
pub(crate) struct Parts {
    /// The folder that the files' paths are relative to.
    pub(crate) root: PathBuf,
    pub(crate) classes: Vec<String>,
    pub(crate) train: Vec<LabelledFile>,
    pub(crate) val: Option<Vec<LabelledFile>>,
    pub(crate) test: Option<Vec<LabelledFile>>,
}

/// What a folder holds, without hidden entries, sorted by name.
pub(crate) struct Listing {
    pub(crate) folders: Vec<(String, PathBuf)>,
    pub(crate) files: Vec<(String, PathBuf, u64)>,
}

/// Endings of files that lie beside pictures and are none.
const NO_PICTURES: [&str; 10] =
    ["csv", "db", "html", "ini", "json", "md", "pdf", "txt", "xml", "zip"];

/// Whether something that lies among pictures is passed over by its name alone: what is hidden, and
/// files with the ending of a text, a table or the like.
pub(crate) fn is_left_out(path: &Path, is_folder: bool) -> bool {
    let hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
    let ending = path.extension().map(|ending| ending.to_string_lossy().to_lowercase());
    let other = ending.is_some_and(|ending| NO_PICTURES.contains(&ending.as_str()));
    hidden || (other && !is_folder)
}

/// Lists a folder. Links are followed; what is neither folder nor regular file is left out.
pub(crate) fn list(folder: &Path) -> Result<Listing> {
    let complain = |cause: std::io::Error| Error::file(folder, cause);
    let mut listing = Listing { folders: Vec::new(), files: Vec::new() };
    for entry in std::fs::read_dir(folder).map_err(complain)? {
        let entry = entry.map_err(complain)?;
        let (name, path) = (entry.file_name().to_string_lossy().into_owned(), entry.path());
        let about = std::fs::metadata(&path);
        if is_left_out(&path, about.as_ref().is_ok_and(|about| about.is_dir())) {
            continue;
        }
        // A link to nowhere stays in the list: reading it will say so.
        match about {
            Ok(about) if about.is_dir() => listing.folders.push((name, path)),
            Ok(about) if about.is_file() => listing.files.push((name, path, about.len())),
            Ok(_) => {}
            Err(_) => listing.files.push((name, path, 0)),
        }
    }
    listing.folders.sort();
    listing.files.sort();
    Ok(listing)
}

/// All picture files in a class's folder and the folders in it, as files of class `label` relative
/// to `root`. Linked folders further down are not followed: they may lead in circles.
///
/// # Errors
/// The folder cannot be read, or holds none.
pub(crate) fn class_files(root: &Path, folder: &Path, label: u32) -> Result<Vec<LabelledFile>> {
    let mut found = Vec::new();
    let mut waiting = vec![folder.to_path_buf()];
    while let Some(folder) = waiting.pop() {
        let listing = list(&folder)?;
        for (_, path, bytes) in listing.files {
            let path = path.strip_prefix(root).unwrap_or(&path).to_path_buf();
            found.push(LabelledFile { path, label, bytes });
        }
        waiting.extend(
            listing.folders.into_iter().map(|(_, path)| path).filter(|path| !path.is_symlink()),
        );
    }
    if found.is_empty() {
        return Err(Error::file(folder, "an empty class: the folder has no pictures"));
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(found)
}

/// The first of `names` that is a folder in `listing`, in whatever case.
pub(crate) fn part_folder<'a>(listing: &'a Listing, names: &[&str]) -> Option<&'a Path> {
    names.iter().find_map(|wanted| {
        let found = listing.folders.iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted));
        found.map(|(_, path)| path.as_path())
    })
}

/// The layouts `--dataset folder` takes.
pub(crate) const LAYOUTS: &str =
    "DIR/train/CLASS/* with DIR/val/CLASS/*, or DIR/CLASS/* with at least two classes";

/// Finds the classes and files of a folder of the user's.
///
/// # Errors
/// The folder has none of the accepted layouts, a class is empty, or the parts have different
/// classes.
pub(crate) fn find(dir: &Path) -> Result<Parts> {
    let listing = list(dir)?;
    let part = |names: &[&str]| part_folder(&listing, names);
    let (train, val) = (part(&["train"]), part(&["val", "valid", "validation"]));
    let Some(train) = train else {
        if let Some(val) = val {
            return Err(Error::file(
                dir,
                format!("has {} but no folder train; accepted: {LAYOUTS}", val.display()),
            ));
        }
        let (classes, train) = part_files(dir, dir)?;
        return Ok(Parts { root: dir.into(), classes, train, val: None, test: None });
    };
    let (classes, files) = part_files(dir, train)?;
    let same_classes = |folder: &Path| -> Result<Vec<LabelledFile>> {
        let (found, files) = part_files(dir, folder)?;
        match found == classes {
            true => Ok(files),
            false => Err(Error::file(folder, difference(&classes, &found))),
        }
    };
    let val = val.map(same_classes).transpose()?;
    let test = part(&["test"]).map(same_classes).transpose()?;
    Ok(Parts { root: dir.into(), classes, train: files, val, test })
}

/// The classes of one part, sorted by name, and their files.
fn part_files(root: &Path, folder: &Path) -> Result<(Vec<String>, Vec<LabelledFile>)> {
    let listing = list(folder)?;
    if listing.folders.len() < 2 {
        return Err(Error::file(
            folder,
            format!(
                "has {} class folders and {} files; at least two classes are needed, as in {LAYOUTS}",
                listing.folders.len(),
                listing.files.len()
            ),
        ));
    }
    let mut files = Vec::new();
    for (label, (_, class)) in listing.folders.iter().enumerate() {
        files.extend(class_files(root, class, label as u32)?);
    }
    Ok((listing.folders.into_iter().map(|(name, _)| name).collect(), files))
}

/// Names the first class that one part has and the other lacks.
fn difference(train: &[String], other: &[String]) -> String {
    let (train, other): (BTreeSet<_>, BTreeSet<_>) =
        (train.iter().collect(), other.iter().collect());
    match (train.difference(&other).next(), other.difference(&train).next()) {
        (Some(class), _) => format!("has no folder for class {class}, which train has"),
        (None, Some(class)) => format!("has class {class}, which train has not"),
        (None, None) => "has other classes than train".into(),
    }
}
