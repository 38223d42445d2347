//! Image files in folders: listing a folder, and reading the files in it.

use std::path::{Path, PathBuf};

use super::decode::{Limits, decode_file};
use super::names;
use super::picture::Picture;
use super::source::Source;
use crate::error::{Error, Result};

/// Image files below one folder, each with its class.
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
        let parts: Vec<_> = self.files[index].path.iter().map(names::text).collect();
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

/// What a folder holds, without hidden entries, sorted by name.
#[derive(Default)]
pub(crate) struct Listing {
    pub(crate) folders: Vec<(String, PathBuf)>,
    pub(crate) files: Vec<(String, PathBuf, u64)>,
    /// Endings of the files that lie beside images and are none.
    pub(crate) others: Vec<String>,
    /// Pipes, sockets and devices.
    pub(crate) irregular: usize,
}

/// Endings of files that lie beside images and are none.
const NO_IMAGES: [&str; 10] =
    ["csv", "db", "html", "ini", "json", "md", "pdf", "txt", "xml", "zip"];

/// Whether something that lies among images is passed over by its name alone: what is hidden or what
/// systems leave behind, and files with the ending of a text, a table or the like.
pub(crate) fn is_left_out(path: &Path, is_folder: bool) -> bool {
    is_litter(path) || (!is_folder && other_ending(path).is_some())
}

/// Hidden entries, and what systems leave behind.
fn is_litter(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.starts_with('.') || name == "__MACOSX"
}

/// The ending of a file that is none of an image.
fn other_ending(path: &Path) -> Option<String> {
    let ending = path.extension().map(|ending| ending.to_string_lossy().to_lowercase());
    ending.filter(|ending| NO_IMAGES.contains(&ending.as_str()))
}

/// Lists a folder. Links are followed.
pub(crate) fn list(folder: &Path) -> Result<Listing> {
    let complain = |cause: std::io::Error| Error::file(folder, cause);
    let mut listing = Listing::default();
    for entry in std::fs::read_dir(folder).map_err(complain)? {
        let entry = entry.map_err(complain)?;
        let (name, path) = (names::text(&entry.file_name()), entry.path());
        if is_litter(&path) {
            continue;
        }
        // A link to nowhere stays in the list: reading it will say so.
        match std::fs::metadata(&path) {
            Ok(about) if about.is_dir() => listing.folders.push((name, path)),
            Ok(about) if about.is_file() => listing.put_file(name, path, about.len()),
            Ok(_) => listing.irregular += 1,
            Err(_) => listing.put_file(name, path, 0),
        }
    }
    listing.folders.sort();
    listing.files.sort();
    listing.others.sort();
    Ok(listing)
}

impl Listing {
    fn put_file(&mut self, name: String, path: PathBuf, bytes: u64) {
        match other_ending(&path) {
            Some(ending) => self.others.push(ending),
            None => self.files.push((name, path, bytes)),
        }
    }
}
