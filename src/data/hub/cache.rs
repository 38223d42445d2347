//! The folder of downloads: whose it is, and who may write to it.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// Where downloads are kept: `$CONVZOO_CACHE`, else `convzoo` in the user's cache folder
/// (`$XDG_CACHE_HOME`, `~/.cache`; on Windows `%LOCALAPPDATA%`).
///
/// # Errors
/// Neither is set: a folder for all users, as the temporary one is, would not do.
pub fn cache_dir() -> Result<PathBuf> {
    cache_dir_of(|name| env::var_os(name))
}

fn cache_dir_of(variable: impl Fn(&str) -> Option<OsString>) -> Result<PathBuf> {
    let set = |name| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(cache) = set("CONVZOO_CACHE") {
        return Ok(cache);
    }
    // A relative path would mean another cache in every folder, with what somebody else put there.
    let whole = |name| set(name).filter(|path| path.is_absolute());
    let user = match cfg!(windows) {
        true => whole("LOCALAPPDATA"),
        false => whole("XDG_CACHE_HOME").or_else(|| whole("HOME").map(|home| home.join(".cache"))),
    };
    user.map(|user| user.join("convzoo")).ok_or_else(|| {
        let home = if cfg!(windows) { "LOCALAPPDATA" } else { "HOME" };
        let message = format!(
            "no folder for downloads: {home} is not set; set CONVZOO_CACHE to a folder of your own"
        );
        Error::Setting(message)
    })
}

/// Refuses a folder of downloads in which others could have put files, where the system tells that: it
/// must belong to this user or to root, and not everybody may write to it. A folder that is not there
/// yet is fine.
///
/// # Errors
/// Names the folder, and what to do.
pub fn trusted(cache: &Path) -> Result<()> {
    match std::fs::metadata(cache) {
        Ok(found) => match doubt(&found) {
            Some(doubt) => Err(Error::file(cache, doubt)),
            None => Ok(()),
        },
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(Error::file(cache, error)),
    }
}

/// Why a folder is not to be trusted, if there is a reason.
#[cfg(unix)]
fn doubt(folder: &std::fs::Metadata) -> Option<String> {
    use std::os::unix::fs::MetadataExt;
    // SAFETY: the call takes nothing and cannot fail.
    let user = unsafe { libc::geteuid() };
    doubt_of(folder.uid(), folder.mode(), user)
}

#[cfg(not(unix))]
fn doubt(_: &std::fs::Metadata) -> Option<String> {
    None
}

#[cfg(unix)]
fn doubt_of(owner: u32, mode: u32, user: u32) -> Option<String> {
    let what = if owner != user && owner != 0 {
        format!("belongs to another user (number {owner})")
    } else if mode & 0o002 != 0 {
        "may be written to by every user".to_owned()
    } else {
        return None;
    };
    Some(format!(
        "{what}, so what lies there as a download may be anything; set CONVZOO_CACHE to a folder of \
         your own, or change its owner or permissions"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache_with(set: &[(&str, &str)]) -> Result<PathBuf> {
        let set: Vec<_> = set.iter().map(|(name, value)| (*name, OsString::from(value))).collect();
        cache_dir_of(|name| Some(set.iter().find(|(known, _)| *known == name)?.1.clone()))
    }

    #[test]
    #[cfg(not(windows))]
    fn the_cache_is_the_users_own() {
        assert_eq!(cache_with(&[("HOME", "/h")]).unwrap(), Path::new("/h/.cache/convzoo"));
        let other = cache_with(&[("HOME", "/h"), ("XDG_CACHE_HOME", "/x")]).unwrap();
        assert_eq!(other, Path::new("/x/convzoo"));
        assert_eq!(cache_with(&[("CONVZOO_CACHE", "c")]).unwrap(), Path::new("c"));
        for none in [&[][..], &[("HOME", "")], &[("HOME", "here"), ("XDG_CACHE_HOME", "there")]] {
            let error = cache_with(none).unwrap_err().to_string();
            assert!(error.contains("HOME is not set; set CONVZOO_CACHE"), "{error}");
        }
    }

    #[test]
    #[cfg(unix)]
    fn a_folder_that_others_may_write_to_is_refused() {
        assert_eq!([doubt_of(7, 0o40755, 7), doubt_of(0, 0o40755, 7)], [None, None]);
        assert_eq!(doubt_of(7, 0o40775, 7), None, "a group is chosen");
        assert!(doubt_of(8, 0o40700, 7).unwrap().contains("another user (number 8)"));
        assert!(doubt_of(8, 0o40700, 0).is_some());
        assert!(doubt_of(7, 0o40777, 7).unwrap().contains("by every user"));
        assert!(doubt_of(0, 0o41777, 7).is_some(), "the temporary folder");
        let folder = tempfile::tempdir().unwrap();
        trusted(folder.path()).unwrap();
        trusted(&folder.path().join("not there yet")).unwrap();
    }
}
