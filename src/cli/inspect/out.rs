//! Where a command writes what it shows: looked at before the work, used after it.

use std::path::{Path, PathBuf};

use anyhow::bail;
use clap::Args;

use super::scale;
use crate::cli::print_line;
use crate::inspect::{Sheet, ending};

#[derive(Args)]
pub(super) struct Out {
    /// The file: .png, .svg, .jpg or .html [default: the command's name, .png; of `all`, inspect.html]
    #[arg(short, long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Pixels of a PNG or JPEG for one of the sheet's, which is about 1000 wide
    #[arg(long, value_name = "FACTOR", default_value_t = 2.0, value_parser = scale)]
    scale: f64,
}

/// A file that a sheet can be written to.
pub(super) struct Target {
    path: PathBuf,
    scale: f64,
}

impl Out {
    /// The file that is asked for, or this one.
    pub(super) fn target(self, default: &str) -> anyhow::Result<Target> {
        let path = self.out.unwrap_or_else(|| default.into());
        let how = "it is written as .png, .svg, .jpg or .html";
        writable(&path, &["png", "svg", "jpg", "jpeg", "html"], how)?;
        Ok(Target { path, scale: self.scale })
    }
}

impl Target {
    /// Writes a sheet, and says so.
    pub(super) fn write(&self, sheet: &Sheet) -> anyhow::Result<()> {
        match ending(&self.path).as_str() {
            "html" => sheet.page().write(&self.path)?,
            _ => sheet.drawing().write(&self.path, self.scale)?,
        }
        print_line(&format!("wrote {}", self.path.display()))
    }
}

/// Refuses a file of another ending than these, or in a folder that is not there; `how` says what it
/// can be written as.
pub(in crate::cli) fn writable(path: &Path, endings: &[&str], how: &str) -> anyhow::Result<()> {
    if !endings.contains(&ending(path).as_str()) {
        bail!("-o {}: {how}", path.display());
    }
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() && !folder.is_dir() => {
            bail!("-o {}: there is no folder {}; make it first", path.display(), folder.display())
        }
        _ => Ok(()),
    }
}
