//! A lock between processes: the operating system lets go of it when its holder ends or dies.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::visible::tell;

/// Held until dropped. The empty file stays: to delete it would be a race.
pub(crate) struct Lock {
    _file: File,
}

impl Lock {
    /// Waits for the lock `path`, and says so once if `what` is in someone else's hands.
    pub(crate) fn take(path: PathBuf, what: &str, quiet: bool) -> Result<Lock> {
        create_parent(&path)?;
        let options = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
        let file = options.map_err(|error| Error::file(&path, error))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                if !quiet {
                    tell(&format!("waiting for another process that is fetching {what}"));
                }
                file.lock().map_err(|error| Error::file(&path, error))?;
            }
            Err(TryLockError::Error(error)) => {
                let cause =
                    format!("cannot be locked ({error}); set CONVZOO_CACHE to a local disk");
                return Err(Error::file(path, cause));
            }
        }
        Ok(Lock { _file: file })
    }
}

/// Makes the folder that `path` lies in.
pub(crate) fn create_parent(path: &Path) -> Result<()> {
    match path.parent() {
        Some(folder) => fs::create_dir_all(folder).map_err(|error| Error::file(folder, error)),
        None => Ok(()),
    }
}

/// `path` with `suffix` after its name.
pub(crate) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}
