//! Benchmarks: named cases whose names, sizes and fields are those of a PyTorch script beside which
//! they can be run.
//!
//! A [`Case`] is one layer, op, network or limit of the machine; running it gives [`Row`]s, one a
//! measurement. What the fields of a row mean is said there.
//!
//! ```
//! use convzoo::bench::{self, Settings, What};
//!
//! # fn main() -> convzoo::Result<()> {
//! let cases = bench::select(What::Ops, &[], &["relu_64_112".into()])?;
//! let rows = cases[0].run(&Settings { target: 0.0, ..Settings::default() })?;
//! assert_eq!((rows[0].section, rows[0].op), ("ops", Some("fwd")));
//! # Ok(())
//! # }
//! ```

mod candle;
mod conv;
mod machine;
mod memory;
mod models;
mod ops;
mod pass;
mod row;
mod timing;

use std::process::Command;

use candle_core::{Device, Tensor};

use crate::rng::Rng;
use crate::{Error, Result};

pub use memory::{Memory, measure_here};
pub use models::{infer, train_step};
pub use row::{Rate, Row};
pub use timing::{Plan, Timing, measure};

/// What can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// Convolution layers (section `conv`) and the small ops (section `ops`).
    Ops,
    /// Whole networks: sections `infer`, `train`, `scaling` (other batches and pictures) and `rss`
    /// (peak memory).
    Models,
    /// The machine's limits: section `machine`.
    Machine,
}

impl What {
    /// All its cases, in order.
    pub fn cases(self) -> Vec<Case> {
        match self {
            What::Ops => [conv::cases(), ops::cases()].concat(),
            What::Models => [models::cases(), memory::cases()].concat(),
            What::Machine => machine::cases(),
        }
    }
}

/// Whose code is measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sides {
    /// Ours alone.
    #[default]
    Ours,
    /// Ours, and candle's built-in ops beside them, where there are any.
    Both,
    /// candle's built-in ops alone, as they come: in a process that tells the allocator nothing.
    Candle,
}

impl Sides {
    fn ours(self) -> bool {
        self != Sides::Candle
    }

    /// What candle's rows are called, where there are any.
    fn candle(self) -> Option<&'static str> {
        match self {
            Sides::Ours => None,
            Sides::Both => Some("candle"),
            Sides::Candle => Some("candle as it comes"),
        }
    }
}

/// How to measure.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Threads that compute; those of rayon's pool.
    pub threads: usize,
    /// Seconds of timed calls for a layer; networks and products get twice that.
    pub target: f64,
    /// Whose code is measured, where there is more than ours.
    pub sides: Sides,
    /// The command that runs [`measure_here`] in a fresh process for a network, on so many threads,
    /// and prints what it gives as JSON. Without one, peak memory is not measured.
    pub child: Option<fn(&str, usize) -> std::io::Result<Command>>,
}

impl Default for Settings {
    fn default() -> Self {
        let threads = rayon::current_num_threads();
        Settings { threads, target: 0.3, sides: Sides::Ours, child: None }
    }
}

impl Settings {
    /// How long a single layer is timed.
    fn layer(&self) -> Plan {
        Plan { target: self.target, warmup: 2, min_reps: 3 }
    }

    /// How long a whole network is timed.
    fn network(&self) -> Plan {
        Plan { target: 2.0 * self.target, warmup: 2, min_reps: 3 }
    }
}

/// A thing to measure, under its name.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// `conv`, `ops`, `infer`, `train`, `scaling`, `rss` or `machine`.
    pub section: &'static str,
    /// Its name within the section.
    pub name: &'static str,
    run: fn(&'static str, &Settings) -> Result<Vec<Row>>,
}

impl Case {
    /// Measures it.
    ///
    /// # Errors
    /// What goes wrong in the ops, and where the machine has not enough memory or threads.
    pub fn run(&self, settings: &Settings) -> Result<Vec<Row>> {
        (self.run)(self.name, settings)
    }
}

/// The cases of `what`: those of the named sections and names alone, or all where none is named.
///
/// # Errors
/// Lists the sections or names there are where one is unknown.
pub fn select(what: What, sections: &[String], names: &[String]) -> Result<Vec<Case>> {
    let mut cases = what.cases();
    keep(&mut cases, sections, "section", |case| case.section)?;
    keep(&mut cases, names, "case", |case| case.name)?;
    Ok(cases)
}

/// Keeps the cases that are asked for by `key`.
fn keep(
    cases: &mut Vec<Case>,
    wanted: &[String],
    what: &str,
    key: fn(&Case) -> &'static str,
) -> Result<()> {
    let mut known: Vec<_> = cases.iter().map(key).collect();
    let mut seen = std::collections::HashSet::new();
    known.retain(|&name| seen.insert(name));
    if let Some(unknown) = wanted.iter().find(|name| !seen.contains(name.as_str())) {
        let known = known.join(", ");
        return Err(Error::Setting(format!("there is no {what} {unknown}; there are {known}")));
    }
    cases.retain(|case| wanted.is_empty() || wanted.iter().any(|name| name == key(case)));
    Ok(())
}

/// The entry of this name in a table of cases.
fn entry<'a, T>(table: &'a [T], name: &str, of: fn(&T) -> &str) -> Result<&'a T> {
    let found = table.iter().find(|entry| of(entry) == name);
    found.ok_or_else(|| Error::Setting(format!("there is no case {name}")))
}

/// Values of mean 0 and variance 1, the same in every run.
fn random(shape: &[usize]) -> Result<Tensor> {
    let mut rng = Rng::stream(0, "bench", &shape.iter().map(|&n| n as u64).collect::<Vec<_>>());
    let bound = 3f64.sqrt();
    let values: Vec<f32> =
        (0..shape.iter().product()).map(|_| rng.range(-bound, bound) as f32).collect();
    Ok(Tensor::from_vec(values, shape, &Device::Cpu)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cases_are_found_by_name_and_section() {
        let names = |list: &[&str]| list.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
        let cases = select(What::Models, &names(&["train", "rss"]), &names(&["vgg16"])).unwrap();
        assert_eq!(cases.iter().map(|case| case.section).collect::<Vec<_>>(), ["train", "rss"]);
        let error = select(What::Models, &[], &names(&["resnet19"])).unwrap_err().to_string();
        assert_eq!(error.matches("resnet18").count(), 1, "{error}");
        assert!(select(What::Ops, &names(&["train"]), &[]).is_err());
        for what in [What::Ops, What::Models, What::Machine] {
            for case in what.cases() {
                let same = |other: &&Case| other.name == case.name && other.section == case.section;
                assert_eq!(what.cases().iter().filter(same).count(), 1, "{}", case.name);
            }
        }
    }
}
