//! Losses and gradients that are not finite: a run stops within the step and says where it began, or
//! skips the step as if it had not been.

mod common;

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use candle_core::{Device, Tensor};
use common::run::{Small, bits};
use convzoo::Result;
use convzoo::nn::{Mode, Network, Output, Params};
use convzoo::train::{Job, Observer, OnNan, Outcome, RunFolder, TrainConfig, Trainable, Trainer};

fn settings(on_nan: OnNan) -> TrainConfig {
    TrainConfig { epochs: 2, batch_size: 8, lr: 0.02, on_nan, seed: 43, ..Default::default() }
}

/// Multiplies a parameter.
fn scale(small: &Small, name: &str, factor: f64) -> Result<()> {
    let var = &small.network.params().get(name)?.var;
    Ok(var.set(&(var.as_detached_tensor() * factor)?)?)
}

fn failed(small: &Small, folder: &Path) -> String {
    small.start(folder, &mut ()).expect_err("numbers that are not finite").to_string()
}

/// The messages of a run.
#[derive(Default)]
struct Messages(Vec<String>);

impl Observer for Messages {
    fn message(&mut self, text: &str) {
        self.0.push(text.to_owned());
    }
}

#[test]
fn the_engine_names_the_layer_and_the_first_state_stays() -> Result<()> {
    let folder = tempfile::tempdir().expect("a folder");
    let small = Small::new(settings(OnNan::Stop))?;
    scale(&small, "fc.weight", 1e38)?;
    scale(&small, "fc.weight", 1e2)?; // infinite from here on would be refused when saved
    let error = failed(&small, folder.path());
    assert!(error.contains("fc.weight is not finite"), "{error}");

    let folder = tempfile::tempdir().expect("a folder");
    let small = Small::new(settings(OnNan::Stop))?;
    scale(&small, "fc.weight", 1e38)?; // finite, but its sums are not
    scale(&small, "bn.weight", 1e10)?;
    let error = failed(&small, folder.path());
    assert!(error.contains("the first layer whose output is not finite is fc"), "{error}");
    assert!(error.contains("at step 0 (epoch 1, batch 1)"), "{error}");
    assert!(error.contains("--lr") && error.contains("--on-nan skip"), "{error}");
    // The state it began with is there, and comes to the same end.
    let again = small.resume(folder.path(), &mut ()).expect_err("the same numbers").to_string();
    assert_eq!(again, error);
    Ok(())
}

/// Forward all is finite; on the way back, sums of gradients are not.
#[test]
fn gradients_are_looked_at_before_they_change_anything() -> Result<()> {
    for on_nan in [OnNan::Stop, OnNan::Skip] {
        let folder = tempfile::tempdir().expect("a folder");
        let small = Small::new(settings(on_nan))?;
        scale(&small, "fc.weight", 6.5e19)?; // twice, to almost the largest number there is
        scale(&small, "fc.weight", 6.5e19)?;
        scale(&small, "bn.weight", 1e-38)?;
        let before = bits(small.network.params());
        let error = failed(&small, folder.path());
        match on_nan {
            OnNan::Stop => assert!(error.contains("is not finite at step 0"), "{error}"),
            OnNan::Skip => {
                assert!(error.contains("every step of epoch 1 was skipped, 5 in all"), "{error}");
                assert!(bits(small.network.params()) == before, "a skipped step changed something");
            }
        }
    }
    Ok(())
}

/// A network whose logits are spoiled in some of its training passes.
struct Sick<'a> {
    network: &'a Network,
    passes: AtomicUsize,
    spoiled: &'a [usize],
}

impl Trainable for Sick<'_> {
    fn forward(&self, x: &Tensor, mode: Mode) -> Result<Output> {
        let output = self.network.forward(x, mode)?;
        if mode == Mode::Eval {
            return Ok(output);
        }
        let pass = self.passes.fetch_add(1, Ordering::Relaxed);
        let factor = if self.spoiled.contains(&pass) { f64::NAN } else { 1.0 };
        Ok(Output { logits: (output.logits * factor)?, ..output })
    }

    fn params(&self) -> &Params {
        self.network.params()
    }
}

fn job<'a>(small: &'a Small, sick: &'a Sick<'a>) -> Job<'a, Sick<'a>> {
    Job {
        network: sick,
        train: &small.train,
        val: &small.val,
        device: &Device::Cpu,
        config: &small.config,
        stop: &small.stop,
    }
}

#[test]
fn skipped_steps_are_counted_and_leave_no_trace() -> Result<()> {
    let folder = tempfile::tempdir().expect("a folder");
    let small = Small::new(settings(OnNan::Skip))?;
    // The first steps: weights and running statistics must be those of the beginning after them.
    let sick = Sick { network: &small.network, passes: AtomicUsize::new(0), spoiled: &[0, 1, 6] };
    let begun = bits(small.network.params());
    struct Watch<'a>(&'a Small, Vec<(String, Vec<u64>)>, Messages);
    impl Observer for Watch<'_> {
        fn batch_done(&mut self, batch: &convzoo::train::BatchDone) {
            let same = bits(self.0.network.params()) == self.1;
            assert_eq!(same, batch.step < 2, "step {}", batch.step);
            assert_eq!(batch.loss.is_nan(), [0, 1, 6].contains(&batch.step), "step {}", batch.step);
        }
        fn message(&mut self, text: &str) {
            self.2.message(text);
        }
    }
    let mut watch = Watch(&small, begun, Messages::default());
    let outcome = Trainer::start(job(&small, &sick), folder.path())?.run(&mut watch)?;
    let Outcome::Finished(summary) = outcome else { panic!("{outcome:?}") };
    assert_eq!(summary.skipped_steps, 3);
    assert_eq!(RunFolder::open(folder.path())?.summary()?.skipped_steps, 3);
    // The first, the second, the fourth and so on are told: a sick run does not fill the screen.
    let told = |number| format!("skipped, {number} so far: the loss is NaN");
    let skipped = [1, 2, 3].map(|n| watch.2.0.iter().any(|text| text.starts_with(&told(n))));
    assert_eq!(skipped, [true, true, false], "{:?}", watch.2.0);
    Ok(())
}

#[test]
fn without_a_tree_the_step_is_named() -> Result<()> {
    let folder = tempfile::tempdir().expect("a folder");
    let small = Small::new(settings(OnNan::Stop))?;
    let sick = Sick { network: &small.network, passes: AtomicUsize::new(0), spoiled: &[7] };
    let error = Trainer::start(job(&small, &sick), folder.path())?.run(&mut ());
    let error = error.expect_err("a NaN").to_string();
    assert!(error.contains("the loss is NaN at step 7 (epoch 2, batch 3)"), "{error}");
    assert!(error.contains("the weights of epoch 1 are in"), "{error}");
    Ok(())
}
