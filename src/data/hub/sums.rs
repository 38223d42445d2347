//! SHA-256 sums beside files of the cache, as `sha256sum -c` reads them: `NAME.sha256` for `NAME`.

use std::path::{Path, PathBuf};

use super::fetch::hash;
use super::lock::beside;
use crate::error::{Error, Result};
use crate::files;
use crate::files::regular;
use crate::visible::tell;

/// The sums recorded beside one file: its own, and that of what it was made of.
#[derive(Debug)]
pub(crate) struct Sums {
    path: PathBuf,
    /// Sum and name.
    lines: Vec<(String, String)>,
}

impl Sums {
    /// Those beside `file`; empty where there are none.
    ///
    /// # Errors
    /// Names the file of sums that cannot be read.
    pub(crate) fn beside(file: &Path) -> Result<Self> {
        let path = beside(file, ".sha256");
        let lines = match path.exists() {
            true => parse(&regular::read_text(&path)?),
            false => Vec::new(),
        };
        Ok(Sums { path, lines })
    }

    /// The sum of the file called `name`.
    pub(crate) fn of(&self, name: &str) -> Option<&str> {
        let line = self.lines.iter().find(|(_, known)| known == name);
        line.map(|(sum, _)| sum.as_str())
    }

    /// Records the sum of the file called `name`.
    ///
    /// # Errors
    /// The file of sums cannot be written.
    pub(crate) fn record(&mut self, name: &str, sum: String) -> Result<()> {
        self.lines.retain(|(_, known)| known != name);
        self.lines.push((sum, name.to_owned()));
        let lines = self.lines.iter().map(|(sum, name)| format!("{sum}  {name}\n"));
        files::write_bytes(&self.path, lines.collect::<String>().as_bytes())
    }
}

fn parse(text: &str) -> Vec<(String, String)> {
    let lines = text.lines().filter_map(|line| line.split_once("  "));
    lines.map(|(sum, name)| (sum.to_owned(), name.to_owned())).collect()
}

/// The SHA-256 of a file, in hexadecimal.
///
/// # Errors
/// Names the file that cannot be read.
pub(crate) fn sum_of(file: &Path) -> Result<String> {
    hash(file).map_err(|error| Error::file(file, error))
}

/// Records the sum of `file` beside it.
///
/// # Errors
/// One of the two files cannot be read or written.
pub(crate) fn record(file: &Path) -> Result<()> {
    Sums::beside(file)?.record(&name_of(file), sum_of(file)?)
}

/// Compares a file of the cache with the sum it had when it came. One that came before sums were kept
/// has its sum recorded now.
///
/// # Errors
/// The file has changed: says what its sum was and is, and what to do.
pub(crate) fn verify(file: &Path) -> Result<()> {
    let mut sums = Sums::beside(file)?;
    let (name, found) = (name_of(file), sum_of(file)?);
    match sums.of(&name) {
        Some(known) if known == found => Ok(()),
        Some(known) => Err(Error::file(
            file,
            format!(
                "has changed since it was downloaded: its SHA-256 is {found} and was {known}; delete \
                 it, and it is downloaded again"
            ),
        )),
        None => {
            tell(&format!(
                "{}: no SHA-256 was recorded when it was downloaded; it is recorded now",
                file.display()
            ));
            sums.record(&name, found)
        }
    }
}

fn name_of(file: &Path) -> String {
    file.file_name().unwrap_or(file.as_os_str()).to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_has_changed_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.bin");
        std::fs::write(&file, "abc").unwrap();
        verify(&file).unwrap();
        verify(&file).unwrap();
        let sums = std::fs::read_to_string(folder.path().join("a.bin.sha256")).unwrap();
        assert_eq!(
            sums,
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad  a.bin\n"
        );
        std::fs::write(&file, "abd").unwrap();
        let error = verify(&file).unwrap_err().to_string();
        assert!(error.contains("has changed") && error.contains("ba7816bf"), "{error}");
        record(&file).unwrap();
        verify(&file).unwrap();
    }

    #[test]
    fn other_files_sums_stay() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.bin");
        let mut sums = Sums::beside(&file).unwrap();
        sums.record("b.pth", "12".to_owned()).unwrap();
        sums.record("a.bin", "34".to_owned()).unwrap();
        sums.record("a.bin", "56".to_owned()).unwrap();
        let sums = Sums::beside(&file).unwrap();
        assert_eq!((sums.of("a.bin"), sums.of("b.pth")), (Some("56"), Some("12")));
    }
}
