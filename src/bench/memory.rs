//! Peak memory of steps of training, in a process of its own.

use serde::{Deserialize, Serialize};

use super::models::{self, Training};
use super::{Case, Row, Settings};
use crate::machine::resident_mib as mib;
use crate::{Error, Result};

/// Resident memory of a process, in MiB.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Memory {
    /// When it had begun and loaded nothing yet.
    pub rss_after_import_mib: f64,
    /// With the network built.
    pub rss_model_built_mib: f64,
    /// The highest.
    pub peak_rss_mib: f64,
    /// How much that is above the beginning.
    pub peak_minus_import_mib: f64,
}

/// Every network's training, three steps of it.
pub(super) fn cases() -> Vec<Case> {
    models::names().map(|name| Case { section: "rss", name, run }).collect()
}

/// Trains the network of the case `name` for three steps and gives this process's memory; a fresh
/// process is needed for the numbers to mean anything.
///
/// # Errors
/// Where there is no such case, or where the system is not Linux.
pub fn measure_here(name: &str) -> Result<Memory> {
    let start = mib("VmRSS")?;
    let mut training = Training::new(name)?;
    let built = mib("VmRSS")?;
    for _ in 0..3 {
        training.step()?;
    }
    let peak = mib("VmHWM")?;
    let tenths = |mib: f64| (mib * 10.0).round() / 10.0;
    Ok(Memory {
        rss_after_import_mib: tenths(start),
        rss_model_built_mib: tenths(built),
        peak_rss_mib: tenths(peak),
        peak_minus_import_mib: tenths(peak - start),
    })
}

fn run(name: &'static str, settings: &Settings) -> Result<Vec<Row>> {
    let Some(command) = settings.child else { return Ok(Vec::new()) };
    let failed = |why: String| Error::Setting(format!("peak memory of {name}: {why}"));
    let output = command(name, settings.threads).and_then(|mut command| command.output());
    let output = output.map_err(|error| failed(error.to_string()))?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        return Err(failed(text.trim().trim_start_matches("error: ").to_owned()));
    }
    let memory =
        serde_json::from_slice(&output.stdout).map_err(|error| failed(error.to_string()))?;
    let row = models::describe_training(name, Row::new("rss", name, settings.threads))?;
    Ok(vec![Row { memory: Some(memory), ..row }])
}
