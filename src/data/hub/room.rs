//! Room on a disk.

use std::path::Path;

use indicatif::HumanBytes;

/// Says what is lacking where the disk that `file` is to be on has not so many `bytes` left.
pub(super) fn must_fit(file: &Path, bytes: u64) -> Result<(), String> {
    let folder = file.parent().unwrap_or(file);
    match free_bytes(folder) {
        Some(free) if free < bytes => Err(format!(
            "{} has {} free, and {} are still to come; make room, or set CONVZOO_CACHE to a folder \
             on another disk",
            folder.display(),
            HumanBytes(free),
            HumanBytes(bytes)
        )),
        _ => Ok(()),
    }
}

/// Bytes that may still be written to the disk that `folder` is on; none where the system does not say.
#[cfg(unix)]
fn free_bytes(folder: &Path) -> Option<u64> {
    use std::os::unix::ffi::OsStrExt;
    let path = std::ffi::CString::new(folder.as_os_str().as_bytes()).ok()?;
    let mut found = std::mem::MaybeUninit::<libc::statvfs>::uninit();
    // SAFETY: `path` ends with a zero byte, and `found` is as large as the system expects.
    let status = unsafe { libc::statvfs(path.as_ptr(), found.as_mut_ptr()) };
    if status != 0 {
        return None;
    }
    // SAFETY: the call succeeded, so it has filled the structure.
    let found = unsafe { found.assume_init() };
    // Their types differ from system to system.
    let bytes = u128::from(found.f_bavail) * u128::from(found.f_frsize);
    Some(u64::try_from(bytes).unwrap_or(u64::MAX))
}

#[cfg(not(unix))]
fn free_bytes(_: &Path) -> Option<u64> {
    None
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn a_disk_has_some_room_and_not_all_there_is() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("f");
        must_fit(&file, 1).unwrap();
        let told = must_fit(&file, u64::MAX).unwrap_err();
        assert!(told.contains("free") && told.contains("CONVZOO_CACHE"), "{told}");
        must_fit(Path::new("/no/such/folder/f"), u64::MAX).unwrap();
    }
}
