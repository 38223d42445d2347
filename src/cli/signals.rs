//! Signals that ask a program to end. A run finishes its step and saves first; commands that keep
//! nothing leave as every program does.

use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};

use anyhow::Context;

/// Ctrl-C's, where nothing else asked.
const INTERRUPT: i32 = 2;

/// The signal that asked first; 0 where none has.
static ASKED: AtomicI32 = AtomicI32::new(0);

/// Sets `stop` when this process is asked to end: by Ctrl-C, SIGTERM, or a terminal that is closed
/// (SIGHUP). What is ignored when it begins, as SIGHUP is under `nohup`, stays ignored. A second
/// request is for `again`.
///
/// # Errors
/// Where signals cannot be watched.
pub fn stop_when_asked(
    stop: &'static AtomicBool,
    first: impl Fn() + Send + 'static,
    again: impl Fn() + Send + 'static,
) -> anyhow::Result<()> {
    static WATCHED: AtomicBool = AtomicBool::new(false);
    if WATCHED.swap(true, Ordering::SeqCst) {
        return Ok(());
    }
    let asked = move |signal| {
        stopped_by(signal);
        if stop.swap(true, Ordering::SeqCst) { again() } else { first() }
    };
    watch(asked).context("Ctrl-C cannot be watched")
}

/// Remembers which signal ended the work, here or in a process that does a part of it.
pub fn stopped_by(signal: i32) {
    let _ = ASKED.compare_exchange(0, signal, Ordering::SeqCst, Ordering::SeqCst);
}

/// How a process ends that was asked to, as the shell has it: 130 after Ctrl-C, 143 after SIGTERM,
/// 129 after SIGHUP.
pub fn exit_code() -> ExitCode {
    ExitCode::from(code())
}

/// Ends this process at once.
pub fn leave() {
    std::process::exit(code().into())
}

fn code() -> u8 {
    let signal = match ASKED.load(Ordering::SeqCst) {
        0 => INTERRUPT,
        signal => signal,
    };
    u8::try_from(128 + signal).unwrap_or(u8::MAX)
}

/// The signal after which a process ended with this code, if it was asked to end.
pub fn asked_by(code: i32) -> Option<i32> {
    [129, 130, 143].contains(&code).then_some(code - 128)
}

#[cfg(unix)]
fn watch(asked: impl Fn(i32) + Send + 'static) -> std::io::Result<()> {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
    let wanted = [SIGINT, SIGTERM, SIGHUP].into_iter().filter(|&signal| !is_ignored(signal));
    let mut signals = signal_hook::iterator::Signals::new(wanted)?;
    std::thread::Builder::new().spawn(move || signals.forever().for_each(asked))?;
    Ok(())
}

/// Whether whoever began this process had a signal ignored.
#[cfg(unix)]
fn is_ignored(signal: i32) -> bool {
    let mut action = std::mem::MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: without a new action, the call only writes the one in force to `action`, which is of its
    // type and valid when zeroed.
    unsafe {
        libc::sigaction(signal, std::ptr::null(), action.as_mut_ptr()) == 0
            && action.assume_init().sa_sigaction == libc::SIG_IGN
    }
}

#[cfg(not(unix))]
fn watch(asked: impl Fn(i32) + Send + 'static) -> Result<(), ctrlc::Error> {
    ctrlc::set_handler(move || asked(INTERRUPT))
}

/// Makes a file that outgrows what this process may write (`ulimit -f`) an error of the writing, which
/// names the file, instead of a signal (SIGXFSZ) that ends the process.
pub fn fail_at_file_limit() {
    #[cfg(unix)]
    {
        let seen = std::sync::Arc::new(AtomicBool::new(false));
        // Where it cannot be set, such a file ends the process as before.
        let _ = signal_hook::flag::register(signal_hook::consts::SIGXFSZ, seen);
    }
}
