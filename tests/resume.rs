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

/// Notes that a run begins with.
#[derive(Default)]
struct Notes(Vec<String>);

impl Observer for Notes {
    fn message(&mut self, text: &str) {
        self.0.push(text.to_owned());
    }
}

/// Changes a value of `config.json`.
fn edit(folder: &Path, pointer: &str, value: Option<serde_json::Value>) {
    let path = folder.join("config.json");
    let text = std::fs::read_to_string(&path).expect("config.json");
    let mut json: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let (parent, key) = pointer.rsplit_once('/').expect("a path");
    let parent = json.pointer_mut(parent).and_then(|value| value.as_object_mut());
    let parent = parent.expect("an object");
    match value {
        Some(value) => parent.insert(key.to_owned(), value),
        None => parent.remove(key),
    };
    std::fs::write(&path, json.to_string()).expect("a write");
}

/// A resumed run takes its settings from `config.json`: one that was edited would be another run.
#[test]
fn an_edited_config_is_not_resumed() -> Result<()> {
    let base = TrainConfig { epochs: 1, ..config(NESTEROV) };
    let edits: [(&str, serde_json::Value, TrainConfig); 6] = [
        ("lr", 0.5.into(), TrainConfig { lr: 0.5, ..base.clone() }),
        ("batch_size", 4.into(), TrainConfig { batch_size: 4, ..base.clone() }),
        ("seed", 7.into(), TrainConfig { seed: 7, ..base.clone() }),
        ("label_smoothing", 0.0.into(), TrainConfig { label_smoothing: 0.0, ..base.clone() }),
        ("weight_decay", 0.1.into(), TrainConfig { weight_decay: 0.1, ..base.clone() }),
        ("ema", 0.9.into(), TrainConfig { ema: Some(0.9), ..base.clone() }),
    ];
    let folder = tempfile::tempdir().expect("a folder");
    Small::new(base.clone())?.start(folder.path(), &mut ())?;
    let good = std::fs::read(folder.path().join("config.json")).expect("config.json");
    for (name, value, edited) in edits {
        edit(folder.path(), &format!("/train/{name}"), Some(value));
        let more = TrainConfig { epochs: 2, ..edited };
        let error = Small::new(more)?.resume(folder.path(), &mut ()).expect_err("it was edited");
        let error = error.to_string();
        assert!(error.contains("its config.json is not that of its resume state"), "{error}");
        assert!(error.contains(&format!("train.{name} was ")), "{error}");
        std::fs::write(folder.path().join("config.json"), &good).expect("a write");
    }
    // What may change, may be edited too; and what was edited back is as it was.
    edit(folder.path(), "/train/save_minutes", Some(99.0.into()));
    let more = TrainConfig { epochs: 2, save_minutes: 99.0, ..base };
    let mut notes = Notes::default();
    Small::new(more)?.resume(folder.path(), &mut notes)?;
    assert!(notes.0.is_empty(), "{:?}", notes.0);
    Ok(())
}

/// Other instructions come to other bits, which is said; so is what an older run does not tell.
#[test]
fn a_run_that_goes_on_in_another_way_says_so() -> Result<()> {
    let folder = tempfile::tempdir().expect("a folder");
    let base = TrainConfig { epochs: 1, ..config(NESTEROV) };
    Small::new(base.clone())?.start(folder.path(), &mut ())?;
    let resume = |epochs| -> Result<Vec<String>> {
        let (more, mut notes) = (TrainConfig { epochs, ..base.clone() }, Notes::default());
        Small::new(more)?.resume(folder.path(), &mut notes)?;
        Ok(notes.0)
    };
    edit(folder.path(), "/compute/instructions", Some("sse9".into()));
    edit(folder.path(), "/compute/winograd", Some("1 2".into()));
    let notes = resume(2)?;
    assert_eq!(notes.len(), 1, "{notes:?}");
    assert!(notes[0].contains("before sse9; Winograd"), "{notes:?}");
    assert!(notes[0].contains("its bits will not be those"), "{notes:?}");
    assert!(resume(3)?.is_empty(), "it was said, and is recorded");
    edit(folder.path(), "/compute", None);
    assert!(resume(4)?[0].contains("does not say with which instructions"));
    // A table that somebody has edited.
    let metrics = folder.path().join("metrics.csv");
    let text = std::fs::read_to_string(&metrics).expect("metrics.csv");
    std::fs::write(&metrics, text.replacen("\n1,", "\n1,9", 1)).expect("a write");
    let notes = resume(5)?;
    assert!(notes.len() == 1 && notes[0].contains("metrics.csv was not as"), "{notes:?}");
    let again = std::fs::read_to_string(&metrics).expect("metrics.csv");
    assert!(again.starts_with(&text), "written anew");
    Ok(())
}

/// Names in a run folder become names of files elsewhere.
#[test]
fn names_that_lead_elsewhere_are_refused() -> Result<()> {
    let folder = tempfile::tempdir().expect("a folder");
    let base = TrainConfig { epochs: 1, ..config(NESTEROV) };
    let mut small = Small::new(base.clone())?;
    small.config.data.name = "../squares".to_owned();
    let error = small.start(folder.path(), &mut ()).expect_err("no plain name").to_string();
    assert!(error.contains("data.name") && error.contains("slash"), "{error}");
    Small::new(base)?.start(folder.path(), &mut ())?;
    let run = convzoo::train::RunFolder::open(folder.path())?;
    run.config()?;
    for name in ["/x", "..", "a/../../b", "", "a\u{1b}[2J"] {
        edit(folder.path(), "/model/name", Some(name.into()));
        let error = run.config().expect_err("no plain name").to_string();
        assert!(error.contains("config.json: model.name") && !error.contains('\u{1b}'), "{error}");
    }
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
