//! A run that is stopped or killed, and goes on, gives the bits of one that was not.

mod common;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use common::run::{Small, bits, dataset};
use convzoo::Result;
use convzoo::train::{
    BatchDone, EpochRow, METRICS_HEADER, Observer, Outcome, Rule, Schedule, TrainConfig, Warmup,
};

const NESTEROV: Rule = Rule::Sgd { momentum: 0.9, dampening: 0.0, nesterov: true };

fn config(optimizer: Rule) -> TrainConfig {
    TrainConfig {
        epochs: 3,
        batch_size: 8,
        optimizer,
        lr: if optimizer == NESTEROV { 0.02 } else { 0.005 },
        schedule: Schedule::ONE_CYCLE,
        warmup: Warmup::epochs(0.5),
        label_smoothing: 0.1,
        ..Default::default()
    }
}

/// Where a run is interrupted.
#[derive(Clone, Copy, Debug, PartialEq)]
enum At {
    /// After so many batches of the second epoch.
    Batch(usize),
    /// In the second epoch's evaluation.
    Evaluation,
    /// After the second epoch.
    EpochEnd,
    Never,
}

struct Interrupt<'a> {
    at: At,
    stop: &'a AtomicBool,
    epoch: usize,
    /// Not a stop that is asked for, but a death on the spot.
    kill: bool,
}

impl Interrupt<'_> {
    fn reached(&mut self, at: At) {
        if self.epoch == 2 && self.at == at {
            assert!(!self.kill, "killed");
            self.stop.store(true, Ordering::Relaxed);
        }
    }
}

impl Observer for Interrupt<'_> {
    fn batch_done(&mut self, batch: &BatchDone) {
        self.epoch = batch.epoch;
        self.reached(At::Batch(batch.batch));
    }
    fn evaluated(&mut self, _: usize, _: usize) {
        self.reached(At::Evaluation);
    }
    fn epoch_done(&mut self, _: &EpochRow, _: bool) {
        self.reached(At::EpochEnd);
    }
}

/// The metrics but for the two columns that measure time.
fn metrics(folder: &Path) -> Vec<Vec<String>> {
    let text = std::fs::read_to_string(folder.join("metrics.csv")).expect("metrics.csv");
    assert_eq!(text.lines().next(), Some(METRICS_HEADER));
    let cells = |line: &str| line.split(',').take(6).map(str::to_owned).collect();
    text.lines().skip(1).map(cells).collect()
}

/// What a run leaves: all bits of its network, its metrics, its weight files.
type Left = (Vec<(String, Vec<u64>)>, Vec<Vec<String>>, Vec<Vec<u8>>);

fn left(small: &Small, folder: &Path) -> Left {
    let files = ["best.safetensors", "last.safetensors"].map(|f| std::fs::read(folder.join(f)));
    let files = files.map(|bytes| bytes.expect("a weight file")).to_vec();
    (bits(small.network.params()), metrics(folder), files)
}

fn on<T: Send>(threads: usize, f: impl FnOnce() -> T + Send) -> T {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
    pool.expect("a thread pool").install(f)
}

/// One run without interruption.
fn whole(optimizer: Rule) -> Result<Left> {
    let folder = tempfile::tempdir().expect("a folder");
    let small = Small::new(config(optimizer))?;
    let outcome = small.start(folder.path(), &mut ())?;
    let Outcome::Finished(summary) = outcome else { panic!("{outcome:?}") };
    assert_eq!(summary.epochs, 3);
    Ok(left(&small, folder.path()))
}

/// The same run, interrupted, then resumed by a program that begins anew.
fn in_two(optimizer: Rule, at: At, kill: bool, threads: [usize; 2]) -> Result<Left> {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path();
    on(threads[0], || -> Result<()> {
        let small = Small::new(config(optimizer))?;
        let mut interrupt = Interrupt { at, stop: &small.stop, epoch: 0, kill };
        let outcome = catch_unwind(AssertUnwindSafe(|| small.start(path, &mut interrupt)));
        match outcome {
            Ok(outcome) => {
                let stopped = match at {
                    At::Batch(batches) => Outcome::Stopped { epochs: 1, batches },
                    At::Evaluation => Outcome::Stopped { epochs: 1, batches: 5 },
                    At::EpochEnd => Outcome::Stopped { epochs: 2, batches: 0 },
                    At::Never => panic!("not interrupted"),
                };
                assert_eq!(outcome?, stopped);
            }
            Err(_) => assert!(kill),
        }
        Ok(())
    })?;
    on(threads[1], || {
        let other_seed = TrainConfig { seed: 7, ..config(optimizer) };
        let mut small = Small::new(config(optimizer))?;
        small.network = Small::new(other_seed)?.network; // its weights must come from the file
        let mut watch = Interrupt { at: At::Never, stop: &small.stop, epoch: 0, kill };
        assert!(matches!(small.resume(path, &mut watch)?, Outcome::Finished(_)));
        Ok(left(&small, path))
    })
}

#[test]
fn a_stopped_run_goes_on_to_the_same_bits() -> Result<()> {
    for optimizer in [NESTEROV, Rule::ADAMW] {
        let expected = whole(optimizer)?;
        assert_eq!(expected.1.len(), 3);
        for at in [At::Batch(2), At::Batch(5), At::Evaluation, At::EpochEnd] {
            let found = in_two(optimizer, at, false, [1, 2])?;
            assert!(found == expected, "{optimizer}, stopped at {at:?}");
        }
    }
    Ok(())
}

#[test]
fn a_killed_run_goes_on_to_the_same_bits() -> Result<()> {
    let expected = on(1, || whole(NESTEROV))?;
    for at in [At::Batch(3), At::Evaluation] {
        assert!(in_two(NESTEROV, at, true, [2, 1])? == expected, "killed at {at:?}");
    }
    Ok(())
}

#[test]
fn another_run_is_not_resumed() -> Result<()> {
    let folder = tempfile::tempdir().expect("a folder");
    let base = TrainConfig { epochs: 1, ..config(NESTEROV) };
    Small::new(base.clone())?.start(folder.path(), &mut ())?;
    let refused = |small: Small| {
        let error = small.resume(folder.path(), &mut ()).expect_err("it is another run");
        error.to_string()
    };
    let faster = refused(Small::new(TrainConfig { lr: 0.5, ..base.clone() })?);
    assert!(faster.contains("train.lr was 0.02 and is now 0.5"), "{faster}");
    let others = refused(Small::with(base.clone(), dataset(38, 20))?);
    assert!(others.contains("38 for training and 20 for validation"), "{others}");
    let adam = refused(Small::new(config(Rule::ADAMW))?);
    assert!(adam.contains("train.optimizer"), "{adam}");

    // More epochs, loader threads and threads are no other run.
    let longer = TrainConfig { epochs: 2, workers: 2, ..base };
    let outcome = on(2, || Small::new(longer.clone())?.resume(folder.path(), &mut ()))?;
    assert!(matches!(outcome, Outcome::Finished(summary) if summary.epochs == 2));
    assert_eq!(metrics(folder.path()).len(), 2);
    let error = refused(Small::new(TrainConfig { epochs: 1, ..longer })?);
    assert!(error.contains("more than 1 epochs"), "{error}");
    Ok(())
}

#[test]
fn broken_resume_states_are_refused() -> Result<()> {
    let folder = tempfile::tempdir().expect("a folder");
    let [state, before] =
        ["resume.safetensors", "resume.previous.safetensors"].map(|name| folder.path().join(name));
    let base = TrainConfig { epochs: 1, ..config(NESTEROV) };
    let error = Small::new(base.clone())?.resume(folder.path(), &mut ()).expect_err("no run");
    assert!(error.to_string().contains("no config.json"), "{error}");
    Small::new(base.clone())?.start(folder.path(), &mut ())?;
    let good = std::fs::read(&state).expect("a resume state");
    for broken in [&good[..good.len() / 2], &good[..4], b"not a state at all"] {
        std::fs::write(&state, broken).expect("a write");
        std::fs::write(&before, broken).expect("a write");
        let small = Small::new(base.clone())?;
        let bits_before = bits(small.network.params());
        let error = small.resume(folder.path(), &mut ()).expect_err("a broken state");
        assert!(error.to_string().contains("resume.safetensors"), "{error}");
        assert!(bits_before == bits(small.network.params()), "a network half changed");
    }
    Ok(())
}
