//! Whole runs: that they learn, what they leave behind, and how they fail.

mod common;

use candle_core::{DType, Device};
use common::run::{Small, dataset};
use convzoo::data::{self, DataRequest, Loader, LoaderOptions};
use convzoo::models::{self, Config, Model};
use convzoo::nn::Mode;
use convzoo::ops::{self, CrossEntropyParams};
use convzoo::train::{
    BatchDone, EpochRow, METRICS_HEADER, Observer, Optimizer, Outcome, Rule, RunFolder, Started,
    TrainConfig, evaluate,
};
use convzoo::{Error, Result, weights};

fn config() -> TrainConfig {
    TrainConfig { epochs: 8, batch_size: 8, lr: 0.02, ..Default::default() }
}

/// Takes down what it is told.
#[derive(Default)]
struct Told {
    started: usize,
    batches: Vec<(usize, usize, u64)>,
    rows: Vec<(EpochRow, bool)>,
}

impl Observer for Told {
    fn started(&mut self, start: &Started<'_>) {
        self.started += 1;
        assert_eq!((start.done_epochs, start.done_batches), (0, 0));
    }
    fn batch_done(&mut self, batch: &BatchDone) {
        self.batches.push((batch.epoch, batch.batch, batch.step));
    }
    fn epoch_done(&mut self, row: &EpochRow, best: bool) {
        self.rows.push((row.clone(), best));
    }
}

#[test]
fn a_run_learns_and_leaves_its_folder_whole() -> Result<()> {
    let parent = tempfile::tempdir().expect("a folder");
    let path = parent.path().join("runs/small");
    let small = Small::with(config(), dataset(60, 30))?;
    let mut told = Told::default();
    let outcome = small.start(&path, &mut told)?;
    let Outcome::Finished(summary) = outcome else { panic!("{outcome:?}") };

    assert_eq!((told.started, told.rows.len(), told.batches.len()), (1, 8, 64));
    assert_eq!(told.batches[9], (2, 2, 9));
    let first = &told.rows[0];
    assert!(first.1, "the first epoch is the best so far");
    let best = summary.best_val_top1.expect("it was evaluated");
    assert!(best >= 0.95, "{summary:?}");

    let folder = RunFolder::open(&path)?;
    assert_eq!(folder.config()?, small.config);
    assert_eq!(folder.summary()?.best_val_top1, Some(best));
    assert_eq!((summary.num_classes, summary.epochs, summary.image_size), (3, 8, 12));
    assert_eq!(summary.data_kind, "drawn");
    assert!(summary.train_images_per_s > 0.0 && summary.seconds > 0.0);
    let metrics = std::fs::read_to_string(path.join("metrics.csv")).expect("metrics.csv");
    assert_eq!(metrics.lines().next(), Some(METRICS_HEADER));
    assert_eq!(metrics.lines().count(), 9);

    // The best weights alone give the best accuracy again.
    let file = weights::load(&folder.file("best.safetensors"), &Device::Cpu)?;
    let metadata = file.metadata.as_ref().expect("metadata");
    assert_eq!((metadata.classes.len(), metadata.val_top1), (3, Some(best)));
    let fresh = Small::with(config(), dataset(60, 30))?;
    file.apply(&fresh.network)?;
    let evaluation = evaluate(&fresh.network, &fresh.val, &Device::Cpu)?;
    assert_eq!((evaluation.top1, evaluation.images), (best, 30));

    let error = small.start(&path, &mut ()).expect_err("it holds a run");
    assert!(error.to_string().contains("holds a run already"), "{error}");
    Ok(())
}

#[test]
fn a_loss_that_is_not_finite_stops_at_once() -> Result<()> {
    let parent = tempfile::tempdir().expect("a folder");
    let small = Small::new(TrainConfig { lr: 1e30, optimizer: Rule::SGD, ..config() })?;
    let error = small.start(parent.path(), &mut ()).expect_err("no run survives this rate");
    let Error::Training(text) = error else { panic!("{error:?}") };
    assert!(text.contains("epoch 1") && text.contains("learning rate"), "{text}");
    assert!(!parent.path().join("last.safetensors").exists());
    Ok(())
}

#[test]
fn every_model_learns_a_few_pictures() -> Result<()> {
    // Name, side of the input, learning rate. VGG-16 is as small as it gets: 123 million weights.
    let cases = [
        ("lenet5-relu", 28, 1e-3),
        ("alexnet", 64, 3e-4),
        ("vgg16", 32, 1e-4),
        ("googlenet", 64, 1e-3),
        ("resnet18", 32, 1e-3),
        ("resnet50", 32, 1e-3),
    ];
    let request = DataRequest { limit: Some(8), ..DataRequest::new("cats-dogs-drawn") };
    let dataset = data::open(&request)?;
    for (name, side, lr) in cases {
        let classes = dataset.classes.len();
        let defaults = models::find(name)?.config();
        let config = Config { classes, input: (3, side, side), dropout: Some(0.0), ..defaults };
        let model = Model::with_type(name, config, 1, DType::F32, &Device::Cpu)?;
        let options = LoaderOptions { batch_size: 8, ..Default::default() };
        let loader = Loader::new(dataset.train.clone(), dataset.eval_pipeline(side, 3)?, options)?;
        let params = model.network.params();
        let mut optimizer = Optimizer::new(params, Rule::ADAMW, 0.0, true)?;
        let mut losses = Vec::new();
        // Adam divides by what is left of the gradients: beyond a loss of 0 it leaps, so stop before.
        let learnt = |losses: &[f64]| losses.last().is_some_and(|last| *last < 0.5 * losses[0]);
        for step in 0..20 {
            if learnt(&losses) {
                break;
            }
            for batch in loader.epoch(step, 0) {
                let batch = batch?;
                let out = model.network.forward(&batch.images, Mode::Train { seed: step })?;
                let entropy = CrossEntropyParams::default();
                let loss = ops::cross_entropy(&out.logits, &batch.labels, &entropy)?;
                losses.push(common::values(&loss)[0]);
                optimizer.step(&loss.backward()?, lr)?;
            }
        }
        assert!(learnt(&losses), "{name}: {losses:?}");
    }
    Ok(())
}
