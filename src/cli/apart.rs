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

use super::run;

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
    pass_ctrl_c_on()?;
    let program = std::env::current_exe().context("this program cannot be found again")?;
    let mut command = Command::new(program);
    command.args(std::env::args_os().skip(1)).env(ONLY, format!("{model} {seed}"));
    let mut child = command.stdin(Stdio::piped()).spawn().context("no process can be made")?;
    let mut held = child.stdin.take();
    loop {
        if let Some(status) = child.try_wait()? {
            return match status.code() {
                Some(0) => Ok(true),
                Some(130) => Ok(false),
                Some(_) => bail!("see above"),
                None => bail!("its process was ended ({status}); the same command goes on with it"),
            };
        }
        if STOPPED.load(Ordering::SeqCst) {
            drop(held.take());
        }
        thread::sleep(Duration::from_millis(20));
    }
}

/// The process gets Ctrl-C from the terminal itself; this one must outlive it to say what to do.
fn pass_ctrl_c_on() -> anyhow::Result<()> {
    static SET: AtomicBool = AtomicBool::new(false);
    if SET.swap(true, Ordering::SeqCst) {
        return Ok(());
    }
    ctrlc::set_handler(|| STOPPED.store(true, Ordering::SeqCst)).context("Ctrl-C cannot be watched")
}
