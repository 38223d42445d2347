//! Files that are whole or not there: written aside, flushed to disk, then renamed.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use crate::{Error, Result};

/// Writes `path` through `fill`; a reader sees the old file or the whole new one, never a part.
///
/// # Errors
/// Names the file that could not be written; the old one is then untouched.
pub fn write_whole(
    path: &Path,
    fill: impl FnOnce(&mut dyn Write) -> std::io::Result<()>,
) -> Result<()> {
    let aside = aside(path);
    let written = write_and_flush(&aside, fill).and_then(|()| fs::rename(&aside, path));
    if let Err(error) = written {
        let _ = fs::remove_file(&aside); // may be what could not be made
        return Err(Error::file(path, format!("cannot be written: {error}")));
    }
    sync_folder(path);
    Ok(())
}

/// [`write_whole`] for bytes in memory.
///
/// # Errors
/// Names the file that could not be written.
pub fn write_bytes(path: &Path, bytes: &[u8]) -> Result<()> {
    write_whole(path, |file| file.write_all(bytes))
}

fn write_and_flush(
    path: &Path,
    fill: impl FnOnce(&mut dyn Write) -> std::io::Result<()>,
) -> std::io::Result<()> {
    let mut file = BufWriter::new(File::create(path)?);
    fill(&mut file)?;
    file.flush()?;
    file.get_ref().sync_all()
}

/// `NAME.PID.part` beside `path`.
fn aside(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.part", std::process::id()));
    path.with_file_name(name)
}

/// Makes the rename itself last, where the platform can: a folder is flushed like a file on Unix.
pub(crate) fn sync_folder(path: &Path) {
    if let Some(folder) = path.parent().filter(|p| !p.as_os_str().is_empty()) {
        // Not every file system allows it; the file's own contents are safe already.
        let _ = File::open(folder).and_then(|folder| folder.sync_all());
    }
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
            Err(std::io::Error::other("disk full"))
        };
        let error = write_whole(&path, failing).unwrap_err().to_string();
        assert!(error.contains("a.txt") && error.contains("disk full"), "{error}");
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
