//! What lies in a folder of images and is not used, as one line.

use std::collections::BTreeSet;
use std::path::Path;

use super::folder::Listing;
use crate::visible::visible_line;

/// Names that a list in a message has at most.
const SHOWN: usize = 5;

/// What is not used.
#[derive(Default)]
pub(super) struct Unused {
    /// Class folders that are not asked for.
    pub(super) classes: Vec<String>,
    /// Folders beside those of the parts.
    pub(super) folders: Vec<String>,
    /// Parts, each with why.
    pub(super) parts: Vec<String>,
    /// Images outside class folders.
    pub(super) loose: usize,
    /// Linked folders within class folders.
    pub(super) links: usize,
    /// Files that are not images.
    others: usize,
    /// Their endings.
    endings: BTreeSet<String>,
    /// Pipes, sockets and devices.
    irregular: usize,
}

impl Unused {
    /// Counts what is left out of a listing.
    pub(super) fn count(&mut self, listing: &Listing) {
        self.others += listing.others.len();
        self.endings.extend(listing.others.iter().map(|ending| format!(".{ending}")));
        self.irregular += listing.irregular;
    }

    /// One line, where there is anything to say.
    pub(super) fn note(&self, dir: &Path) -> Option<String> {
        let mut said = Vec::new();
        let mut names = |what: &str, names: &[String]| {
            if !names.is_empty() {
                said.push(format!("{what} {}", some_of(names)));
            }
        };
        names("the class folders", &self.classes);
        names("the folders", &self.folders);
        names("the parts", &self.parts);
        let endings: Vec<&str> = self.endings.iter().map(String::as_str).collect();
        said.extend(counted(self.loose, "file", "files", "outside class folders"));
        let kinds = format!("({})", some(&endings));
        said.extend(counted(self.others, "other file", "other files", &kinds));
        let within = "within class folders";
        said.extend(counted(self.links, "linked folder", "linked folders", within));
        said.extend(counted(
            self.irregular,
            "pipe or device",
            "pipes or devices",
            "among the files",
        ));
        let dir = visible_line(&dir.display().to_string()).into_owned();
        (!said.is_empty()).then(|| format!("not used in {dir}: {}", said.join("; ")))
    }
}

fn counted(count: usize, one: &str, many: &str, after: &str) -> Option<String> {
    match count {
        0 => None,
        1 => Some(format!("1 {one} {after}")),
        n => Some(format!("{n} {many} {after}")),
    }
}

/// A few of these names, as text.
pub(super) fn some(names: &[&str]) -> String {
    let shown: Vec<_> = names.iter().take(SHOWN).map(|name| visible_line(name)).collect();
    let more = names.len().saturating_sub(SHOWN);
    match more {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

/// [`some`] of owned names.
pub(super) fn some_of(names: &[String]) -> String {
    some(&names.iter().map(String::as_str).collect::<Vec<_>>())
}
