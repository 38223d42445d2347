//! Learning rates as pure functions of the step.

use std::f64::consts::PI;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::optim::check;
use crate::{Error, Result};

/// How the learning rate changes over a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Schedule {
    /// Always the same.
    Constant,
    /// Times `gamma` after every `every` epochs.
    Step {
        /// Epochs between two steps.
        every: f64,
        /// Factor of each step.
        gamma: f64,
    },
    /// Times `gamma` at each milestone.
    MultiStep {
        /// Epochs, counted from the start of the run.
        milestones: Vec<f64>,
        /// Factor of each step.
        gamma: f64,
    },
    /// Half a cosine from the base rate to `min_lr` (Loshchilov and Hutter, 2017).
    Cosine {
        /// Where it would end, one step after the run's last.
        min_lr: f64,
    },
    /// Half a cosine again and again, each from the base rate (Loshchilov and Hutter, 2017, section 3).
    CosineRestarts {
        /// Epochs of the first.
        every: f64,
        /// Length of each over that of the one before.
        growth: f64,
        /// Where each would end.
        min_lr: f64,
    },
    /// Times `factor` when the validation loss has not fallen for more than `patience` evaluations, as
    /// PyTorch's `ReduceLROnPlateau`: by a ten-thousandth at least.
    Plateau {
        /// Factor of each reduction.
        factor: f64,
        /// Evaluations without a lower loss that are borne.
        patience: usize,
        /// It goes no lower.
        min_lr: f64,
    },
    /// `(1 - t)^power`, as GoogLeNet and SqueezeNet were trained.
    Polynomial {
        /// The exponent; 1 is a straight line.
        power: f64,
    },
    /// Up and down once (Smith and Topin, 2018), with cosines as in PyTorch's `OneCycleLR`.
    OneCycle {
        /// Share of the run that goes up.
        pct_start: f64,
        /// The base rate over this is where it begins.
        div_factor: f64,
        /// The beginning over this is where it ends.
        final_div_factor: f64,
    },
}

impl Schedule {
    /// PyTorch's one-cycle schedule.
    pub const ONE_CYCLE: Schedule =
        Schedule::OneCycle { pct_start: 0.3, div_factor: 25.0, final_div_factor: 1e4 };

    /// Its name on the command line.
    pub fn name(&self) -> &'static str {
        match self {
            Schedule::Constant => "constant",
            Schedule::Step { .. } => "step",
            Schedule::MultiStep { .. } => "multi-step",
            Schedule::Cosine { .. } => "cosine",
            Schedule::CosineRestarts { .. } => "cosine-restarts",
            Schedule::Plateau { .. } => "plateau",
            Schedule::Polynomial { .. } => "polynomial",
            Schedule::OneCycle { .. } => "one-cycle",
        }
    }

    /// Refuses numbers that make no sense.
    ///
    /// # Errors
    /// Names the setting.
    pub fn check(&self) -> Result<()> {
        let positive = |name, value: f64| check(name, value, value > 0.0, "above 0");
        match self {
            Schedule::Constant => Ok(()),
            Schedule::Step { every, gamma } => {
                positive("the epochs between steps", *every)?;
                positive("gamma", *gamma)
            }
            Schedule::MultiStep { milestones, gamma } => {
                milestones
                    .iter()
                    .try_for_each(|&m| check("a milestone", m, m >= 0.0, "an epoch"))?;
                positive("gamma", *gamma)
            }
            Schedule::Cosine { min_lr } => check("min_lr", *min_lr, *min_lr >= 0.0, "0 or more"),
            Schedule::CosineRestarts { every, growth, min_lr } => {
                positive("the epochs between restarts", *every)?;
                check("the growth between restarts", *growth, *growth >= 1.0, "1 or more")?;
                check("min_lr", *min_lr, *min_lr >= 0.0, "0 or more")
            }
            Schedule::Plateau { factor, min_lr, .. } => {
                let falls = *factor > 0.0 && *factor < 1.0;
                check("the factor of a plateau", *factor, falls, "between 0 and 1")?;
                check("min_lr", *min_lr, *min_lr >= 0.0, "0 or more")
            }
            Schedule::Polynomial { power } => positive("power", *power),
            Schedule::OneCycle { pct_start, div_factor, final_div_factor } => {
                check("pct_start", *pct_start, (0.0..=1.0).contains(pct_start), "from 0 to 1")?;
                positive("div_factor", *div_factor)?;
                positive("final_div_factor", *final_div_factor)
            }
        }
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())?;
        match self {
            Schedule::Constant | Schedule::OneCycle { .. } => Ok(()),
            Schedule::Step { every, gamma } => write!(f, ", times {gamma} every {every} epochs"),
            Schedule::MultiStep { milestones, gamma } => {
                write!(f, ", times {gamma} at epochs {milestones:?}")
            }
            Schedule::Cosine { min_lr } => write!(f, " to {min_lr}"),
            Schedule::CosineRestarts { every, growth, min_lr } => {
                write!(f, " to {min_lr}, again after {every} epochs")?;
                if *growth == 1.0 { Ok(()) } else { write!(f, ", each {growth} times as long") }
            }
            Schedule::Plateau { factor, patience, .. } => {
                let s = if *patience == 1 { "" } else { "s" };
                write!(
                    f,
                    ", times {factor} after more than {patience} evaluation{s} without a lower loss"
                )
            }
            Schedule::Polynomial { power } => write!(f, ", power {power}"),
        }
    }
}

/// By name; a step is a tenth every 30 epochs, a cosine ends at 0, a polynomial is a straight line.
impl FromStr for Schedule {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        match name {
            "constant" => Ok(Schedule::Constant),
            "step" => Ok(Schedule::Step { every: 30.0, gamma: 0.1 }),
            "cosine" => Ok(Schedule::Cosine { min_lr: 0.0 }),
            "cosine-restarts" => {
                Ok(Schedule::CosineRestarts { every: 10.0, growth: 2.0, min_lr: 0.0 })
            }
            "plateau" => Ok(Schedule::Plateau { factor: 0.1, patience: 10, min_lr: 0.0 }),
            "polynomial" => Ok(Schedule::Polynomial { power: 1.0 }),
            "one-cycle" => Ok(Schedule::ONE_CYCLE),
            other => Err(Error::Setting(format!(
                "no schedule is called {other}; there are constant, step, cosine, \
                 cosine-restarts, plateau, polynomial, one-cycle"
            ))),
        }
    }
}

/// A straight rise to the schedule's first value, before the schedule begins.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Warmup {
    /// How long it takes.
    pub length: Length,
    /// Share of the schedule's first value that it begins at.
    pub from: f64,
}

/// A part of a run.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Length {
    /// In epochs, not always whole ones.
    Epochs(f64),
    /// In steps of the optimiser.
    Steps(u64),
}

impl Warmup {
    /// No warm-up.
    pub const NONE: Warmup = Warmup { length: Length::Steps(0), from: 0.1 };

    /// A warm-up of so many epochs from a tenth.
    pub fn epochs(epochs: f64) -> Self {
        Warmup { length: Length::Epochs(epochs), from: 0.1 }
    }

    /// Refuses numbers that make no sense.
    ///
    /// # Errors
    /// Names the setting.
    pub fn check(&self) -> Result<()> {
        if let Length::Epochs(epochs) = self.length {
            check("the warm-up's length", epochs, epochs >= 0.0, "0 epochs or more")?;
        }
        check("the warm-up's start", self.from, (0.0..=1.0).contains(&self.from), "from 0 to 1")
    }

    fn steps(&self, per_epoch: u64) -> u64 {
        match self.length {
            Length::Epochs(epochs) => in_steps(epochs, per_epoch),
            Length::Steps(steps) => steps,
        }
    }
}

fn in_steps(epochs: f64, per_epoch: u64) -> u64 {
    (epochs * per_epoch as f64).round() as u64
}

/// The learning rate of every step of a run.
///
/// ```
/// # use convzoo::train::{LearningRate, Schedule, Warmup};
/// let cosine = Schedule::Cosine { min_lr: 0.0 };
/// let rate = LearningRate::new(1.0, cosine, Warmup::epochs(1.0), 100, 10);
/// assert_eq!(rate.at(0), 0.1); // a tenth at first
/// assert_eq!(rate.at(100), 1.0); // the base rate after one epoch of 100 steps
/// assert_eq!(rate.at(550), 0.5); // half way down
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct LearningRate {
    base: f64,
    schedule: Schedule,
    warmup_from: f64,
    warmup: u64,
    per_epoch: u64,
    total: u64,
}

impl LearningRate {
    /// For a run of `epochs` epochs of `per_epoch` steps.
    pub fn new(base: f64, schedule: Schedule, warmup: Warmup, per_epoch: u64, epochs: u64) -> Self {
        LearningRate {
            base,
            schedule,
            warmup_from: warmup.from,
            warmup: warmup.steps(per_epoch),
            per_epoch,
            total: per_epoch * epochs,
        }
    }

    /// The learning rate of step `step`, from 0.
    pub fn at(&self, step: u64) -> f64 {
        if step >= self.warmup {
            return self.scheduled(step);
        }
        let share = step as f64 / self.warmup as f64;
        self.scheduled(self.warmup) * (self.warmup_from + (1.0 - self.warmup_from) * share)
    }

    /// The learning rate of step `step` after evaluations with these losses, from the first: a plateau
    /// depends on them, the other schedules do not.
    pub fn after(&self, step: u64, losses: impl IntoIterator<Item = f64>) -> f64 {
        let lr = self.at(step);
        match self.schedule {
            Schedule::Plateau { factor, patience, min_lr } => {
                let reduced = lr * power(factor, plateaus(losses, patience));
                reduced.max(min_lr.min(lr))
            }
            _ => lr,
        }
    }

    /// Without warm-up. Steps down come at epochs of the run; the smooth schedules stretch over what
    /// the warm-up leaves.
    fn scheduled(&self, step: u64) -> f64 {
        let rest = self.total.saturating_sub(self.warmup).max(1) as f64;
        let at = (step - self.warmup) as f64;
        let t = (at / rest).min(1.0);
        match self.schedule {
            Schedule::Constant | Schedule::Plateau { .. } => self.base,
            Schedule::Step { every, gamma } => {
                let every = in_steps(every, self.per_epoch).max(1);
                self.base * power(gamma, step / every)
            }
            Schedule::MultiStep { ref milestones, gamma } => {
                let passed = |&&m: &&f64| in_steps(m, self.per_epoch) <= step;
                self.base * power(gamma, milestones.iter().filter(passed).count() as u64)
            }
            Schedule::Cosine { min_lr } => cosine(self.base, min_lr, t),
            Schedule::CosineRestarts { every, growth, min_lr } => {
                let first = in_steps(every, self.per_epoch).max(1) as f64;
                cosine(self.base, min_lr, since_restart(at, first, growth))
            }
            Schedule::Polynomial { power } => self.base * (1.0 - t).powf(power),
            Schedule::OneCycle { pct_start, div_factor, final_div_factor } => {
                let first = self.base / div_factor;
                let top = pct_start * rest - 1.0;
                match at <= top {
                    true => cosine(first, self.base, at / top.max(1.0)),
                    false => {
                        let down = (at - top) / (rest - 1.0 - top).max(1.0);
                        cosine(self.base, first / final_div_factor, down.min(1.0))
                    }
                }
            }
        }
    }
}

/// The share of the period under way that is over at step `at`.
fn since_restart(at: f64, first: f64, growth: f64) -> f64 {
    if growth == 1.0 {
        return at % first / first;
    }
    let (mut at, mut period) = (at, first);
    while at >= period {
        at -= period;
        period *= growth;
    }
    at / period
}

/// How often the loss has not fallen for more than `patience` evaluations.
fn plateaus(losses: impl IntoIterator<Item = f64>, patience: usize) -> u64 {
    let (mut best, mut waited, mut times) = (f64::INFINITY, 0, 0);
    for loss in losses {
        if loss < best * (1.0 - 1e-4) {
            (best, waited) = (loss, 0);
            continue;
        }
        waited += 1;
        if waited > patience {
            (waited, times) = (0, times + 1);
        }
    }
    times
}

fn power(gamma: f64, times: u64) -> f64 {
    gamma.powi(i32::try_from(times).unwrap_or(i32::MAX))
}

/// Half a cosine from `a` at `t` = 0 to `b` at `t` = 1.
fn cosine(a: f64, b: f64, t: f64) -> f64 {
    b + (a - b) * (1.0 + (PI * t).cos()) / 2.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_cycle_passes_the_points_of_its_definition() {
        let rate = LearningRate::new(1.0, Schedule::ONE_CYCLE, Warmup::NONE, 10, 10);
        let near = |step, lr: f64| assert!((rate.at(step) - lr).abs() < 1e-12 * lr.max(1e-3));
        near(0, 0.04);
        near(29, 1.0); // 0.3 * 100 - 1
        near(99, 0.04 / 1e4);
        near(64, 0.5 + 0.04 / 1e4 / 2.0); // half way down: 29 + 35
        assert!((1..30).all(|step| rate.at(step) > rate.at(step - 1)));
        assert!((30..100).all(|step| rate.at(step) < rate.at(step - 1)));
    }

    #[test]
    fn every_schedule_is_finite_at_every_length() {
        let schedules = [
            Schedule::Constant,
            Schedule::Step { every: 0.1, gamma: 0.5 },
            Schedule::MultiStep { milestones: vec![0.0, 1.5], gamma: 0.1 },
            Schedule::Cosine { min_lr: 0.001 },
            Schedule::CosineRestarts { every: 0.4, growth: 1.5, min_lr: 0.001 },
            Schedule::CosineRestarts { every: 1.0, growth: 1.0, min_lr: 0.0 },
            Schedule::Plateau { factor: 0.5, patience: 1, min_lr: 0.0 },
            Schedule::Polynomial { power: 2.0 },
            Schedule::ONE_CYCLE,
        ];
        for schedule in schedules {
            for (per_epoch, epochs) in [(1, 1), (1, 2), (3, 1), (7, 3)] {
                for warmup in [Warmup::NONE, Warmup::epochs(0.5), Warmup::epochs(5.0)] {
                    let rate = LearningRate::new(0.1, schedule.clone(), warmup, per_epoch, epochs);
                    for step in 0..per_epoch * epochs + 2 {
                        let lr = rate.at(step);
                        assert!((0.0..=0.1 + 1e-12).contains(&lr), "{schedule} {step}: {lr}");
                    }
                }
            }
        }
    }

    #[test]
    fn warm_up_ends_where_the_schedule_begins() {
        let warmup = Warmup { length: Length::Steps(5), from: 0.2 };
        let rate = LearningRate::new(1.0, Schedule::Cosine { min_lr: 0.0 }, warmup, 15, 1);
        let first: Vec<f64> = (0..6).map(|step| rate.at(step)).collect();
        for (found, expected) in first.iter().zip([0.2, 0.36, 0.52, 0.68, 0.84, 1.0]) {
            assert!((found - expected).abs() < 1e-12, "{first:?}");
        }
        assert!((rate.at(10) - 0.5).abs() < 1e-12);
    }

    #[test]
    fn restarts_come_when_they_should() {
        let restarts = Schedule::CosineRestarts { every: 1.0, growth: 2.0, min_lr: 0.2 };
        let rate = LearningRate::new(1.0, restarts, Warmup::NONE, 10, 7);
        for (step, lr) in [(0, 1.0), (5, 0.6), (10, 1.0), (20, 0.6), (30, 1.0), (50, 0.6)] {
            assert!((rate.at(step) - lr).abs() < 1e-12, "step {step}: {}", rate.at(step));
        }
        assert!(rate.at(9) < 0.23 && rate.at(29) < 0.21);
    }

    #[test]
    fn a_plateau_lowers_the_rate_as_pytorch_does() {
        let plateau = Schedule::Plateau { factor: 0.5, patience: 2, min_lr: 0.2 };
        let rate = LearningRate::new(1.0, plateau, Warmup::NONE, 10, 20);
        // Third evaluation without a fall: one reduction; a fall of less than 1e-4 is none.
        let losses = [1.0, 0.9, 0.9, 0.95, 0.89999, 0.9, 0.9, 0.9, 0.1, 1.0, 1.0, 1.0];
        let after = |count: usize| rate.after(0, losses[..count].iter().copied());
        let expected = [1.0, 1.0, 1.0, 1.0, 1.0, 0.5, 0.5, 0.5, 0.25, 0.25, 0.25, 0.25, 0.2];
        assert_eq!(std::array::from_fn::<_, 13, _>(after), expected);
    }

    #[test]
    fn senseless_settings_are_refused() {
        assert!(Schedule::CosineRestarts { every: 1.0, growth: 0.5, min_lr: 0.0 }.check().is_err());
        assert!(Schedule::Plateau { factor: 1.0, patience: 1, min_lr: 0.0 }.check().is_err());
        assert!(Schedule::Step { every: 0.0, gamma: 0.1 }.check().is_err());
        assert!(Schedule::Cosine { min_lr: f64::NAN }.check().is_err());
        assert!(Warmup::epochs(-1.0).check().is_err());
        assert!("linear".parse::<Schedule>().is_err());
    }
}
