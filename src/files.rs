//! Files that are whole or not there: written aside, flushed to disk, then renamed, and the rename
//! flushed too.

mod fault;
pub(crate) mod plain;
pub(crate) mod regular;

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, BufWriter, ErrorKind, Write};
use std::path::{Path, PathBuf};

use crate::{Error, Result};
use fault::Faulty;

/// The ending of a file that is being written.
const PART: &str = "part";

/// Writes `path` through `fill`; a reader sees the old file or the whole new one, never a part.
///
/// # Errors
/// Names the file that could not be written; the old one is then untouched.
pub fn write_whole(path: &Path, fill: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<()> {
    write_then(path, fill, |aside| rename(aside, path))
}

/// [`write_whole`] for bytes in memory.
///
/// # Errors
/// Names the file that could not be written.
pub fn write_bytes(path: &Path, bytes: &[u8]) -> Result<()> {
    write_whole(path, |file| file.write_all(bytes))
}

/// [`write_bytes`] that keeps the file that was there as `before`. At any moment one of the two
/// names, at least, is that of a whole file.
///
/// # Errors
/// Names the file that could not be written.
pub fn write_keeping(path: &Path, before: &Path, bytes: &[u8]) -> Result<()> {
    write_then(
        path,
        |file| file.write_all(bytes),
        |aside| {
            if path.exists() {
                rename(path, before)?;
            }
            rename(aside, path)
        },
    )
}

fn write_then(
    path: &Path,
    fill: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    put: impl FnOnce(&Path) -> io::Result<()>,
) -> Result<()> {
    let aside = aside(path);
    let written = write_and_flush(&aside, fill).and_then(|()| put(&aside));
    if let Err(error) = written.and_then(|()| sync_folder(path)) {
        let _ = fs::remove_file(&aside); // may be what could not be made
        return Err(Error::file(path, format!("cannot be written: {}", cause(path, &error))));
    }
    Ok(())
}

/// Why a file could not be written: a folder that is not there is named as such.
fn cause(path: &Path, error: &io::Error) -> String {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() && !folder.is_dir() => {
            format!("there is no folder {}", folder.display())
        }
        _ => error.to_string(),
    }
}

fn write_and_flush(
    path: &Path,
    fill: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> io::Result<()> {
    fault::point("create", path)?;
    let mut file = BufWriter::new(Faulty { file: create_anew(path)?, path });
    fill(&mut file)?;
    file.flush()?;
    fault::point("flush", path)?;
    file.get_ref().file.sync_all()
}

/// A new file in the place of any that is there: a link that somebody else has put there, in a folder of
/// theirs, is not followed.
fn create_anew(path: &Path) -> io::Result<File> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => File::options().write(true).create_new(true).open(path),
    }
}

/// Refuses faults on demand that nobody could make.
pub(crate) fn check_environment() -> Result<()> {
    fault::check()
}

/// Renames a file; not lasting before [`sync_folder`].
pub(crate) fn rename(from: &Path, to: &Path) -> io::Result<()> {
    fault::point("rename", to)?;
    fs::rename(from, to)
}

/// `NAME.PID.part` beside `path`.
fn aside(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.{PART}", std::process::id()));
    path.with_file_name(name)
}

/// Deletes what writers that were killed have left in a folder, and gives its number. Nobody may be
/// writing there.
///
/// # Errors
/// Names the file that cannot be deleted.
pub(crate) fn remove_parts(folder: &Path) -> Result<usize> {
    let complain = |error| Error::file(folder, error);
    let mut count = 0;
    for entry in fs::read_dir(folder).map_err(complain)? {
        let path = entry.map_err(complain)?.path();
        if is_part(&path) && path.is_file() {
            fs::remove_file(&path).map_err(|error| Error::file(&path, error))?;
            count += 1;
        }
    }
    Ok(count)
}

/// Whether a name is one that [`aside`] gives.
fn is_part(path: &Path) -> bool {
    let pid = path.file_stem().and_then(|stem| Path::new(stem).extension()?.to_str());
    let numeric = pid.is_some_and(|pid| pid.bytes().all(|byte| byte.is_ascii_digit()));
    numeric && path.extension() == Some(OsStr::new(PART))
}

/// Makes a rename itself last, where the platform can: a folder is flushed like a file on Unix.
pub(crate) fn sync_folder(path: &Path) -> io::Result<()> {
    let Some(folder) = path.parent() else { return Ok(()) };
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    fault::point("flush folder", folder)?;
    match File::open(folder).and_then(|folder| folder.sync_all()) {
        // Not every system opens folders, not every file system flushes them.
        Err(error) if cannot_flush_folders(error.kind()) => Ok(()),
        done => done,
    }
}

fn cannot_flush_folders(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::Unsupported | ErrorKind::InvalidInput | ErrorKind::PermissionDenied)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_write_leaves_the_old_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.txt");
        write_bytes(&path, b"old").unwrap();
        let failing = |file: &mut dyn Write| {
            file.write_all(b"ne")?;
            Err(io::Error::other("disk full"))
        };
        let error = write_whole(&path, failing).unwrap_err().to_string();
        assert!(error.contains("a.txt") && error.contains("disk full"), "{error}");
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn the_file_before_is_kept_and_parts_are_removed() {
        let folder = tempfile::tempdir().unwrap();
        let [path, before] = ["a", "b"].map(|name| folder.path().join(name));
        for text in ["1", "2", "3"] {
            write_keeping(&path, &before, text.as_bytes()).unwrap();
        }
        assert_eq!([&path, &before].map(|path| fs::read(path).unwrap()), [b"3", b"2"]);
        fs::write(aside(&path), "half").unwrap();
        assert_eq!(remove_parts(folder.path()).unwrap(), 1);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    }

    #[test]
    #[cfg(unix)]
    fn links_in_a_folder_of_somebody_elses_are_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let (mine, target) = (folder.path().join("mine"), folder.path().join("report.html"));
        fs::write(&mine, "mine").unwrap();
        for link in [&target, &aside(&target)] {
            std::os::unix::fs::symlink(&mine, link).unwrap();
        }
        write_bytes(&target, b"new").unwrap();
        assert_eq!(fs::read(&mine).unwrap(), b"mine");
        assert_eq!(fs::read(&target).unwrap(), b"new");
        assert!(!fs::symlink_metadata(&target).unwrap().is_symlink());
    }

    #[test]
    fn a_folder_that_is_gone_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("gone/a.txt");
        let error = write_bytes(&path, b"").unwrap_err().to_string();
        assert!(error.ends_with("gone") && error.contains("there is no folder"), "{error}");
    }
}
