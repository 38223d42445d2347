//! Faults on demand, for tests of what a failed write or a kill leaves behind.
//!
//! Everything done to a file on its way to disk (create, write, flush, rename, flush of the folder)
//! is counted. `CONVZOO_TEST_FILES=fail:N` lets the N-th fail as on a full disk, once;
//! `pause:N` stops there for good, so that a test can kill the process at that very point. Of a
//! write, half is done by then.

use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::{Error, Result};

const VARIABLE: &str = "CONVZOO_TEST_FILES";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Plan {
    Fail(u64),
    Pause(u64),
}

/// Refuses a plan that is none.
pub(super) fn check() -> Result<()> {
    match std::env::var_os(VARIABLE).filter(|text| !text.is_empty()) {
        Some(text) if text.to_str().and_then(parse).is_none() => {
            let text = text.to_string_lossy();
            let message = format!("{VARIABLE}={text}: it takes fail:N or pause:N, in tests");
            Err(Error::Setting(message))
        }
        _ => Ok(()),
    }
}

/// What is asked for; nothing, but in tests.
fn plan() -> Option<Plan> {
    static PLAN: OnceLock<Option<Plan>> = OnceLock::new();
    *PLAN.get_or_init(|| parse(&std::env::var(VARIABLE).ok()?))
}

fn parse(text: &str) -> Option<Plan> {
    let (what, number) = text.split_once(':')?;
    let number = number.parse().ok()?;
    match what {
        "fail" => Some(Plan::Fail(number)),
        "pause" => Some(Plan::Pause(number)),
        _ => None,
    }
}

/// What is to happen at this point, the next one.
fn due() -> Option<Plan> {
    static DONE: AtomicU64 = AtomicU64::new(0);
    let plan = plan()?;
    let number = DONE.fetch_add(1, Ordering::SeqCst) + 1;
    Some(plan).filter(|plan| matches!(plan, Plan::Fail(n) | Plan::Pause(n) if *n == number))
}

fn strike(plan: Plan, what: &str, path: &Path) -> io::Error {
    let place = format!("{what} {}", path.display());
    if let Plan::Pause(number) = plan {
        eprintln!("{VARIABLE}: paused at {number}: {place}");
        loop {
            std::thread::sleep(Duration::from_secs(3600));
        }
    }
    io::Error::new(ErrorKind::StorageFull, format!("no space left ({VARIABLE}: {place})"))
}

/// A point before something is done to `path`.
pub(super) fn point(what: &str, path: &Path) -> io::Result<()> {
    match due() {
        Some(plan) => Err(strike(plan, what, path)),
        None => Ok(()),
    }
}

/// A file whose writes are points too.
pub(super) struct Faulty<'a> {
    pub(super) file: File,
    pub(super) path: &'a Path,
}

impl Write for Faulty<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Some(plan) = due() else { return self.file.write(bytes) };
        self.file.write_all(&bytes[..bytes.len() / 2])?;
        Err(strike(plan, "write", self.path))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plans_are_read() {
        assert_eq!(parse("fail:3"), Some(Plan::Fail(3)));
        assert_eq!(parse("pause:12"), Some(Plan::Pause(12)));
        assert_eq!([parse("fail"), parse("fail:x"), parse("no:1")], [None; 3]);
    }
}
