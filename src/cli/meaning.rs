//! Flags that come with the arguments of a run and mean nothing to a command: its help does not show
//! them, and it refuses them.

use std::ffi::OsString;

use anyhow::bail;
use clap::Arg;

use super::config_file::given;

/// A command's argument, hidden where it is one of `flags`.
pub fn hidden(arg: Arg, flags: &[&str]) -> Arg {
    let meant = arg.get_long().is_some_and(|long| flags.contains(&long));
    if meant { arg.hide(true) } else { arg }
}

/// Refuses flags that are on the command line. A file of --config may have them: it is for several
/// commands.
///
/// # Errors
/// Names the first of them, and says why it means nothing.
pub fn refuse(flags: &[&str], why: &str) -> anyhow::Result<()> {
    let args: Vec<OsString> = std::env::args_os().collect();
    match flags.iter().find(|flag| given(&args, flag)) {
        Some(flag) => bail!("--{flag} does not go with this command: {why}"),
        None => Ok(()),
    }
}
