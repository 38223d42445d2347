//! What a run may take: epochs, or time, for which a network's speed is tried first.

use std::path::Path;
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use super::session::Session;
use crate::train::{BatchDone, Job, Observer, Trainer};

/// `--budget`
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Budget {
    /// Passes over the training pictures.
    Epochs(usize),
    /// Of training and evaluation.
    Seconds(f64),
}

/// Ten years.
const MOST_SECONDS: f64 = 10.0 * 365.0 * 86400.0;
/// Nobody's patience is longer.
const MOST_EPOCHS: usize = 1_000_000;

impl FromStr for Budget {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let (number, unit) = (&text[..split], text[split..].trim());
        let wrong = || format!("{text} is no budget: 12epochs, 30min, 2h or 90s");
        let seconds = |each: f64| {
            let number: f64 = number.parse().map_err(|_| wrong())?;
            let seconds = each * number;
            if seconds > 0.0 && seconds <= MOST_SECONDS {
                Ok(Budget::Seconds(seconds))
            } else {
                Err(wrong())
            }
        };
        match unit {
            "epoch" | "epochs" => match number.parse() {
                Ok(epochs @ 1..=MOST_EPOCHS) => Ok(Budget::Epochs(epochs)),
                _ => Err(wrong()),
            },
            "s" => seconds(1.0),
            "min" | "minutes" => seconds(60.0),
            "h" | "hours" => seconds(3600.0),
            _ => Err(wrong()),
        }
    }
}

/// Steps, and seconds of them, after which a network's speed is known well enough.
const ENOUGH: (usize, f64) = (6, 4.0);

/// What a picture's evaluation takes of its step of training: the forward pass of three that cost
/// about the same.
const EVALUATION: f64 = 1.0 / 3.0;

/// The epochs that fit into `seconds`, at least one, and about how long each takes. The session's
/// network is trained a little and spoilt by it.
pub fn epochs_within(seconds: f64, session: &Session, runs: &Path) -> anyhow::Result<(usize, f64)> {
    let rate = images_per_s(session, runs)?;
    let data = &session.config.data;
    let images = data.train_images as f64 + EVALUATION * data.val_images as f64;
    let each = images / rate;
    Ok((((seconds / each).floor() as usize).clamp(1, MOST_EPOCHS), each))
}

/// Training pictures a second, by some steps in a folder that is removed again.
fn images_per_s(session: &Session, runs: &Path) -> anyhow::Result<f64> {
    let folder = runs.join(".speed");
    let remove = || match std::fs::remove_dir_all(&folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    };
    remove()?; // what a trial that was killed has left
    let (train, val) = (session.train_loader()?, session.val_loader()?);
    let stop = AtomicBool::new(false);
    let job = Job {
        network: &session.model,
        train: &train,
        val: &val,
        device: &session.device,
        config: &session.config,
        stop: &stop,
    };
    let mut trial = Trial { stop: &stop, first: None, images: 0, seconds: 0.0 };
    let outcome = Trainer::start(job, &folder).and_then(|trainer| trainer.run(&mut trial));
    remove()?;
    outcome?;
    Ok(trial.images as f64 / trial.seconds.max(1e-6))
}

/// Watches steps until their speed is known.
struct Trial<'a> {
    stop: &'a AtomicBool,
    /// When the first step was done, and with how many pictures: it warms up and does not count,
    /// unless it is the only one.
    first: Option<(Instant, u64)>,
    images: u64,
    seconds: f64,
}

impl Observer for Trial<'_> {
    fn batch_done(&mut self, batch: &BatchDone) {
        let images = batch.sums.images;
        match self.first {
            None => {
                self.first = Some((Instant::now(), images));
                (self.images, self.seconds) = (images, images as f64 / batch.images_per_s);
            }
            Some((since, before)) => {
                (self.images, self.seconds) = (images - before, since.elapsed().as_secs_f64());
            }
        }
        let enough = batch.batch > ENOUGH.0 && self.seconds > ENOUGH.1;
        if enough || batch.batch == batch.batches {
            self.stop.store(true, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_has_a_unit() {
        assert_eq!("12epochs".parse(), Ok(Budget::Epochs(12)));
        assert_eq!("30min".parse(), Ok(Budget::Seconds(1800.0)));
        assert_eq!("1.5 h".parse(), Ok(Budget::Seconds(5400.0)));
        for wrong in
            ["12", "0epochs", "1.5epochs", "min", "-3min", "0s", "", "1e400min", "nanmin", "1.2.3s"]
        {
            assert!(wrong.parse::<Budget>().unwrap_err().contains("30min"), "{wrong}");
        }
        for absurd in
            ["9".repeat(400) + "min", "99999999h".into(), "18446744073709551615epochs".into()]
        {
            assert!(absurd.parse::<Budget>().is_err(), "{absurd}");
        }
    }
}
