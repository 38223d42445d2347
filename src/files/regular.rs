//! Reading files that somebody else has written: regular files alone, and no more of them than their
//! kind may have.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::path::Path;

use crate::{Error, Result};

/// Most bytes of a file of settings or results: `config.json`, `metrics.csv`, a list of names.
pub(crate) const MOST_TEXT: u64 = 64 << 20;

/// Opens a file for reading. A pipe, a device or a folder is refused, and never waited for.
///
/// # Errors
/// Those of the system, and one that says what is there instead of a regular file.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        // Opening a pipe that nobody writes to would wait for a writer.
        options.custom_flags(libc::O_NONBLOCK);
    }
    let file = options.open(path)?;
    let kind = file.metadata()?.file_type();
    match kind.is_file() {
        true => Ok(file),
        false if kind.is_dir() => Err(io::Error::other("is a folder, not a file")),
        false => Err(io::Error::other("is not a regular file")),
    }
}

/// All bytes of a regular file, which may have `most` of them.
///
/// # Errors
/// Those of [`open`], and one that says how large the file is.
pub(crate) fn read_up_to(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let file = open(path)?;
    let length = file.metadata()?.len();
    let too_large = |bytes: u64| {
        io::Error::other(format!("has {bytes} bytes; a file of this kind may have {most}"))
    };
    if length > most {
        return Err(too_large(length));
    }
    // A file may grow meanwhile, and some have no length before they are read.
    let mut bytes = Vec::with_capacity(usize::try_from(length).unwrap_or(0));
    file.take(most + 1).read_to_end(&mut bytes)?;
    match bytes.len() as u64 {
        found if found > most => Err(too_large(found)),
        _ => Ok(bytes),
    }
}

/// [`read_up_to`], with an error that names the file.
///
/// # Errors
/// Names the file, and why it cannot be read.
pub(crate) fn read(path: &Path, most: u64) -> Result<Vec<u8>> {
    read_up_to(path, most).map_err(|error| Error::file(path, error))
}

/// The text of a regular file of at most [`MOST_TEXT`] bytes.
///
/// # Errors
/// Names the file, and why it cannot be read; bytes that are not UTF-8 are refused.
pub(crate) fn read_text(path: &Path) -> Result<String> {
    String::from_utf8(read(path, MOST_TEXT)?).map_err(|_| Error::file(path, "is not UTF-8 text"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_a_regular_file_is_refused_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let told = |path: &Path| read_text(path).unwrap_err().to_string();
        assert!(told(folder.path()).ends_with("is a folder, not a file"));
        assert!(told(&folder.path().join("none")).contains("No such file"));
        #[cfg(unix)]
        {
            assert!(told(Path::new("/dev/zero")).ends_with("is not a regular file"));
            let pipe = folder.path().join("pipe");
            let made = std::process::Command::new("mkfifo").arg(&pipe).status();
            assert!(made.unwrap().success());
            assert!(told(&pipe).ends_with("pipe: is not a regular file"));
        }
    }

    #[test]
    fn no_more_is_read_than_may_be() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        std::fs::write(&path, "12345").unwrap();
        assert_eq!(read(&path, 5).unwrap(), b"12345");
        let error = read(&path, 4).unwrap_err().to_string();
        assert!(error.ends_with("has 5 bytes; a file of this kind may have 4"), "{error}");
        // Its length is said to be 0.
        if Path::new("/proc/self/status").exists() {
            assert!(!read_text(Path::new("/proc/self/status")).unwrap().is_empty());
        }
    }
}
