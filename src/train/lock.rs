//! One run, one process: whoever writes a run's folder holds its lock.

use std::fs::{File, Metadata, OpenOptions, TryLockError};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use crate::{Error, Result};

/// The file in a run's folder that is locked. It stays when the lock is let go: to delete it would be
/// a race.
pub(super) const NAME: &str = "run.lock";

/// The right to write a run's folder, held until dropped. The operating system takes it back when the
/// process ends, however it ends.
#[derive(Debug)]
pub struct RunLock {
    path: PathBuf,
    file: File,
    locked: bool,
}

impl RunLock {
    /// Takes the lock of `folder`, which must exist.
    ///
    /// # Errors
    /// Another process holds it, whose number is told; or the folder cannot be written.
    pub(super) fn take(folder: &Path) -> Result<Self> {
        let path = folder.join(NAME);
        let complain = |error| Error::file(&path, format!("cannot be written: {error}"));
        let mut options = OpenOptions::new();
        let options = options.create(true).truncate(false).read(true).write(true);
        let mut file = options.open(&path).map_err(complain)?;
        let locked = match file.try_lock() {
            Ok(()) => true,
            Err(TryLockError::WouldBlock) => return Err(in_use(folder, file)),
            Err(TryLockError::Error(_)) => false,
        };
        if locked {
            file.set_len(0).map_err(complain)?;
            writeln!(file, "{}", std::process::id()).map_err(complain)?;
        }
        Ok(RunLock { path, file, locked })
    }

    /// What is to be said where the file system has no locks.
    pub(super) fn note(&self) -> Option<String> {
        let text = "this file system has no locks: see to it that no second run writes here";
        (!self.locked).then(|| format!("{}: {text}", self.path.display()))
    }

    /// Refuses to go on where the folder has been deleted, or another is in its place.
    ///
    /// # Errors
    /// Names the folder.
    pub(super) fn check(&self) -> Result<()> {
        let (there, own) = (std::fs::metadata(&self.path), self.file.metadata());
        match (there, own) {
            (Ok(there), Ok(own)) if same_file(&there, &own) => Ok(()),
            _ => {
                let folder = self.path.parent().unwrap_or(&self.path);
                let cause = "was deleted or replaced while the run was writing to it; what it \
                             had saved there is gone, and nothing more is written";
                Err(Error::file(folder, cause))
            }
        }
    }
}

fn in_use(folder: &Path, mut file: File) -> Error {
    let mut pid = String::new();
    let _ = file.read_to_string(&mut pid); // not everywhere can a locked file be read
    let who = match pid.trim().parse::<u32>() {
        Ok(pid) => format!("process {pid} is writing"),
        Err(_) => "another process is writing".to_owned(),
    };
    Error::file(
        folder,
        format!("{who} to this run; wait for it, stop it, or choose another folder"),
    )
}

#[cfg(unix)]
fn same_file(a: &Metadata, b: &Metadata) -> bool {
    use std::os::unix::fs::MetadataExt;
    (a.dev(), a.ino()) == (b.dev(), b.ino())
}

/// Elsewhere a file that is open cannot be deleted.
#[cfg(not(unix))]
fn same_file(_: &Metadata, _: &Metadata) -> bool {
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_has_one_writer() {
        let folder = tempfile::tempdir().unwrap();
        let lock = RunLock::take(folder.path()).unwrap();
        let error = RunLock::take(folder.path()).unwrap_err().to_string();
        assert!(error.contains(&format!("process {} is writing", std::process::id())), "{error}");
        lock.check().unwrap();
        drop(lock);
        let lock = RunLock::take(folder.path()).unwrap();
        std::fs::remove_file(folder.path().join(NAME)).unwrap();
        assert!(lock.check().unwrap_err().to_string().contains("deleted or replaced"));
        std::fs::write(folder.path().join(NAME), "").unwrap();
        assert!(lock.check().is_err(), "another file in its place");
    }
}
