//! A run in a process of its own: what memory it takes is then its own too.
//!
//! The process gets the command line of this one and, in its environment, which run is meant. It ends,
//! with its state saved, when its standard input does: when this process is told to stop, or dies.

use std::io::Read;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, bail};

use super::{run, signals};

/// Which run of a comparison the process is for: `MODEL SEED`.
const ONLY: &str = "CONVZOO_COMPARE_ONLY";

/// The run that this process is for; none where it is for all.
pub fn only() -> Option<(String, u64)> {
    let text = std::env::var(ONLY).ok()?;
    let (model, seed) = text.rsplit_once(' ')?;
    Some((model.to_owned(), seed.parse().ok()?))
}

/// Stops the run under way when nobody holds the other end of standard input any more.
pub fn stop_with_parent() {
    thread::spawn(|| {
        let mut nothing = [0; 64];
        while std::io::stdin().read(&mut nothing).is_ok_and(|read| read > 0) {}
        run::stop();
    });
}

static STOPPED: AtomicBool = AtomicBool::new(false);

/// Makes a run; true where it was finished, false where it was stopped.
///
/// # Errors
/// Where it failed; the process has said why.
pub fn run_apart(model: &str, seed: u64) -> anyhow::Result<bool> {
    // The process gets Ctrl-C from the terminal itself; this one must outlive it to say what to do.
    signals::stop_when_asked(&STOPPED, || {}, || {})?;
    let program = std::env::current_exe().context("this program cannot be found again")?;
    let mut command = Command::new(program);
    command.args(std::env::args_os().skip(1)).env(ONLY, format!("{model} {seed}"));
    let mut child = command.stdin(Stdio::piped()).spawn().context("no process can be made")?;
    let mut held = child.stdin.take();
    loop {
        if let Some(status) = child.try_wait()? {
            return match status.code() {
                Some(0) => Ok(true),
                Some(code) => match signals::asked_by(code) {
                    Some(signal) => {
                        signals::stopped_by(signal);
                        Ok(false)
                    }
                    None => bail!("see above"),
                },
                None => bail!("its process was ended ({status}); the same command goes on with it"),
            };
        }
        if STOPPED.load(Ordering::SeqCst) {
            drop(held.take());
        }
        thread::sleep(Duration::from_millis(20));
    }
}
