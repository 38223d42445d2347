//! A file's bytes without reading it all into memory.

use std::fs::File;
use std::ops::Deref;
use std::path::Path;

use memmap2::Mmap;

use crate::{Error, Result};

/// A whole file, mapped into memory: pages are read when they are looked at.
pub(super) struct Mapped(Mmap);

impl Mapped {
    /// Maps the file at `path`.
    ///
    /// # Errors
    /// Names a file that cannot be read, is no file, or is empty.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let broken = |error| Error::file(path, error);
        let file = File::open(path).map_err(broken)?;
        let found = file.metadata().map_err(broken)?;
        if !found.is_file() {
            return Err(Error::file(path, "is no file; weights are in one"));
        }
        if found.len() == 0 {
            return Err(Error::file(path, "is empty; it may be what a failed download left"));
        }
        // SAFETY: weight files are written aside and renamed, never changed in place, so the bytes
        // stay as they are while mapped.
        let map = unsafe { Mmap::map(&file) }.map_err(broken)?;
        Ok(Mapped(map))
    }
}

impl Deref for Mapped {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}
