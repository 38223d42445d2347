//! What this build has, whether it computes rightly on this machine, and how fast: what
//! `convzoo doctor` prints. The one thing to run first on a new machine, above all on a new GPU.

mod checks;
mod facts;
mod speed;

use candle_core::Device;
use serde::Serialize;

use crate::Result;

pub use checks::{Check, Outcome};
pub use facts::{DeviceFacts, Facts, Folder};
pub use speed::Speed;

/// Everything that was found.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// What there is.
    pub facts: Facts,
    /// Each op in each form on each device, beside the definition.
    pub checks: Vec<Check>,
    /// What was timed.
    pub speed: Vec<Speed>,
}

impl Report {
    /// Whether every check was passed, and nothing else was found wrong.
    pub fn sound(&self) -> bool {
        self.facts.problems.is_empty() && self.checks.iter().all(Check::passed)
    }
}

/// Looks at everything; speed only if asked. `say` is told what is under way.
///
/// # Errors
/// Where a measurement cannot be made; what goes wrong in a check is in the report instead.
pub fn examine(with_speed: bool, say: &mut dyn FnMut(&str)) -> Result<Report> {
    let (devices, mut facts) = facts::gather();
    let (mut checks, mut speed) = (Vec::new(), Vec::new());
    for (name, device) in &devices {
        checks.extend(checks::run(name, device, say));
    }
    if with_speed {
        for (name, device) in &devices {
            say(&format!("speed of {name}"));
            match speed::measure_on(name, device) {
                Ok(measured) => speed.extend(measured),
                Err(error) => facts.problems.push(format!("speed of {name}: {error}")),
            }
        }
    }
    Ok(Report { facts, checks, speed })
}

/// A device under the name that `--device` takes.
type Named = (String, Device);
