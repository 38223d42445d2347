//! The files that `predict` is asked about, one after the other: those that are named, those in folders,
//! those that a list names. Nothing is held but the folders that are open.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::vec;

use crate::data::is_left_out;
use crate::digits::counted;
use crate::visible::visible_line;
use crate::{Error, Result};

/// Most bytes of a path in a list.
const MOST_PATH: u64 = 1 << 16;

/// A file to look at, or why there is nothing to see at this path.
pub struct Found {
    pub path: PathBuf,
    pub problem: Option<String>,
}

type Paths = Box<dyn Iterator<Item = Result<PathBuf>> + Send>;

/// See the module.
pub struct Inputs {
    named: Paths,
    /// What is still to come of the folders that are open, the outermost first.
    open: Vec<vec::IntoIter<PathBuf>>,
    /// The folder that was named, as long as nothing was found in it.
    empty: Option<PathBuf>,
    /// Real paths of the folders below the one that was named: links may lead in circles.
    entered: HashSet<PathBuf>,
    pub left_out: LeftOut,
}

impl Inputs {
    /// Of what is named (`-` is a list on standard input) and the list in a file. Paths of a list are
    /// ended by `end`.
    ///
    /// # Errors
    /// The list cannot be opened.
    pub fn new(named: Vec<PathBuf>, list: Option<&Path>, end: u8) -> Result<Self> {
        let of_list = match list {
            Some(path) if path != Path::new("-") => {
                let file = File::open(path).map_err(|error| Error::file(path, error))?;
                listed(BufReader::new(file), path.to_owned(), end)
            }
            Some(_) => of_standard_input(end),
            None => Box::new(std::iter::empty()),
        };
        let named = named.into_iter().flat_map(move |path| match path == Path::new("-") {
            true => of_standard_input(end),
            false => Box::new(std::iter::once(Ok(path))),
        });
        Ok(Inputs {
            named: Box::new(named.chain(of_list)),
            open: Vec::new(),
            empty: None,
            entered: HashSet::new(),
            left_out: LeftOut::default(),
        })
    }

    /// The next path, or the end of all.
    fn path(&mut self) -> Option<Result<PathBuf>> {
        match self.open.last_mut() {
            Some(folder) => folder.next().map(Ok),
            None => {
                self.entered.clear();
                self.named.next()
            }
        }
    }

    /// Lists a folder, unless it was listed before.
    fn enter(&mut self, folder: &Path) -> io::Result<()> {
        if !self.entered.insert(folder.canonicalize()?) {
            self.left_out.again += 1;
            return Ok(());
        }
        let entries = fs::read_dir(folder)?.map(|entry| Ok(entry?.path()));
        let mut entries = entries.collect::<io::Result<Vec<_>>>()?;
        entries.sort();
        if self.open.is_empty() {
            self.empty = Some(folder.to_owned());
        }
        self.open.push(entries.into_iter());
        Ok(())
    }

    /// What is to be said of a path, if anything is.
    fn look_at(&mut self, path: PathBuf) -> Option<Found> {
        let about = fs::metadata(&path).ok();
        let is_folder = about.as_ref().is_some_and(fs::Metadata::is_dir);
        // A link to nowhere is tried: reading it will say so.
        let is_special = about.is_some_and(|about| !about.is_dir() && !about.is_file());
        if !self.open.is_empty() && (is_special || is_left_out(&path, is_folder)) {
            self.left_out.add(&path);
            return None;
        }
        let problem = match is_folder {
            true => Some(self.enter(&path).err()?.to_string()),
            false => None,
        };
        self.empty = None;
        Some(Found { path, problem })
    }
}

impl Iterator for Inputs {
    type Item = Result<Found>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let found = match self.path() {
                Some(Ok(path)) => self.look_at(path),
                Some(Err(error)) => return Some(Err(error)),
                None => {
                    self.open.pop()?;
                    let empty = self.empty.take_if(|_| self.open.is_empty());
                    empty.map(|path| Found { path, problem: Some("holds no images".to_owned()) })
                }
            };
            if let Some(found) = found {
                return Some(Ok(found));
            }
        }
    }
}

fn of_standard_input(end: u8) -> Paths {
    listed(BufReader::new(io::stdin()), PathBuf::from("standard input"), end)
}

/// The paths of a list, without empty ones; after an error nothing more.
fn listed(mut list: impl BufRead + Send + 'static, name: PathBuf, end: u8) -> Paths {
    let mut over = false;
    let paths = std::iter::from_fn(move || {
        while !over {
            match one(&mut list, end) {
                Ok(None) => return None,
                Ok(Some(path)) if path.as_os_str().is_empty() => {}
                Ok(Some(path)) => return Some(Ok(path)),
                Err(error) => {
                    over = true;
                    return Some(Err(Error::file(&name, error)));
                }
            }
        }
        None
    });
    Box::new(paths)
}

fn one(list: &mut impl BufRead, end: u8) -> io::Result<Option<PathBuf>> {
    let mut bytes = Vec::new();
    if list.take(MOST_PATH).read_until(end, &mut bytes)? == 0 {
        return Ok(None);
    }
    if bytes.last() == Some(&end) {
        bytes.pop();
    } else if bytes.len() as u64 == MOST_PATH {
        return Err(io::Error::other(format!("no path has {MOST_PATH} bytes; is this a list?")));
    }
    if end == b'\n' && bytes.last() == Some(&b'\r') {
        bytes.pop(); // written on Windows
    }
    path(bytes).map(Some)
}

#[cfg(unix)]
fn path(bytes: Vec<u8>) -> io::Result<PathBuf> {
    let name: std::ffi::OsString = std::os::unix::ffi::OsStringExt::from_vec(bytes);
    Ok(name.into())
}

#[cfg(not(unix))]
fn path(bytes: Vec<u8>) -> io::Result<PathBuf> {
    String::from_utf8(bytes).map(PathBuf::from).map_err(io::Error::other)
}

/// What lies in the folders and is not looked at.
#[derive(Default)]
pub struct LeftOut {
    count: usize,
    /// The first few.
    names: Vec<String>,
    /// Folders that links lead to once more.
    again: usize,
}

impl LeftOut {
    fn add(&mut self, path: &Path) {
        const SHOWN: usize = 3;
        self.count += 1;
        if self.names.len() < SHOWN {
            let name = path.file_name().unwrap_or(path.as_os_str());
            self.names.push(visible_line(&name.to_string_lossy()).into_owned());
        }
    }

    /// A line about it, where there is something to say.
    pub fn in_words(&self) -> Option<String> {
        let mut parts = Vec::new();
        if self.count > 0 {
            let more = if self.count > self.names.len() { ", ..." } else { "" };
            let (count, names) = (counted(self.count, "file"), self.names.join(", "));
            parts.push(format!("{count} that by name or kind cannot be images ({names}{more})"));
        }
        if self.again > 0 {
            parts.push(format!("{} that links lead to again", counted(self.again, "folder")));
        }
        (!parts.is_empty()).then(|| format!("left out: {}", parts.join("; ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(inputs: Inputs) -> Vec<String> {
        let name = |found: Result<Found>| {
            let Found { path, problem } = found.unwrap();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            problem.map_or(name.clone(), |problem| format!("{name}: {problem}"))
        };
        inputs.map(name).collect()
    }

    #[test]
    fn lists_are_paths_with_whatever_ends_them() {
        let of = |list: &'static [u8], end| {
            listed(list, "list".into(), end).map(|path| path.unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(of(b"a b.png\r\n\nc.png", b'\n'), ["a b.png", "c.png"].map(PathBuf::from));
        assert_eq!(of(b"a\nb\0c", 0), ["a\nb", "c"].map(PathBuf::from));
        let endless = listed(BufReader::new(io::repeat(b'x')), "list".into(), b'\n');
        let results: Vec<_> = endless.collect();
        assert!(results.len() == 1 && results[0].is_err());
    }

    #[test]
    fn folders_are_walked_in_order_and_litter_is_counted() {
        let here = tempfile::tempdir().unwrap();
        let at = |name: &str| here.path().join(name);
        for folder in ["d/b", "d/b/deep", "d/.hidden", "none"] {
            fs::create_dir_all(at(folder)).unwrap();
        }
        for file in ["d/c.png", "d/a.png", "d/b/1.jpg", "d/b/deep/2.jpg", "d/Thumbs.db"] {
            fs::write(at(file), "").unwrap();
        }
        let mut inputs =
            Inputs::new(vec![at("d"), at("none"), at("lost.png")], None, b'\n').unwrap();
        let found: Vec<_> = inputs.by_ref().map(|found| found.unwrap()).collect();
        let shown: Vec<_> = found
            .iter()
            .map(|found| found.path.strip_prefix(here.path()).unwrap().to_str().unwrap())
            .collect();
        assert_eq!(
            shown,
            ["d/a.png", "d/b/1.jpg", "d/b/deep/2.jpg", "d/c.png", "none", "lost.png"]
        );
        assert_eq!(found[4].problem.as_deref(), Some("holds no images"));
        let told = inputs.left_out.in_words().unwrap();
        assert!(told.contains("2 files") && told.contains(".hidden, Thumbs.db"), "{told}");
    }

    #[cfg(unix)]
    #[test]
    fn links_that_lead_in_circles_are_followed_once() {
        let here = tempfile::tempdir().unwrap();
        let (a, b) = (here.path().join("a"), here.path().join("b"));
        fs::create_dir_all(&a).unwrap();
        fs::create_dir_all(&b).unwrap();
        fs::write(b.join("1.png"), "").unwrap();
        std::os::unix::fs::symlink(&b, a.join("to-b")).unwrap();
        std::os::unix::fs::symlink(&a, b.join("to-a")).unwrap();
        let mut inputs = Inputs::new(vec![a.clone(), a.clone()], None, b'\n').unwrap();
        assert_eq!(inputs.by_ref().count(), 2, "once for each time it is named");
        assert!(inputs.left_out.in_words().unwrap().contains("2 folders that links lead to"));
        assert_eq!(names(Inputs::new(vec![b], None, b'\n').unwrap()), ["1.png"]);
    }
}
