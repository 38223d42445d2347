//! Values of steps that are read later, as on a GPU, beside those that are read at once.

use candle_core::DType;

use super::*;
use crate::data::drawn;
use crate::nn::{self, Init, Layer, Network};
use crate::train::{DataInfo, GradientRule, ModelInfo};

fn network() -> Network {
    let layers = nn::numbered([
        nn::conv(3, 4, 3).stride(2).into(),
        nn::batch_norm(4),
        Layer::Relu,
        nn::adaptive_avg_pool(2),
        Layer::Flatten,
        nn::linear(16, 2),
    ]);
    Network::new(layers, &Init::PYTORCH, 1, DType::F32, &Device::Cpu).unwrap()
}

/// All that was told of steps, in order.
#[derive(Default)]
struct Steps(Vec<(u64, f64, Sums)>);

impl Observer for Steps {
    fn batch_done(&mut self, batch: &BatchDone) {
        self.0.push((batch.step, batch.loss, batch.sums));
    }
}

/// What a run of two epochs, of 11 steps each, leaves.
struct Left {
    steps: Vec<(u64, f64, Sums)>,
    reads: [usize; 2],
    rows: Vec<(f64, f64, u64)>,
    weights: Vec<f32>,
}

/// Runs `f` on a trainer of 11 steps an epoch.
fn with_trainer<T>(settings: TrainConfig, f: impl FnOnce(&mut Trainer<'_, Network>) -> T) -> T {
    let (data, network) = (drawn::cats_dogs(1, 43, 8), network());
    let settings = TrainConfig { epochs: 2, batch_size: 4, image_size: 16, ..settings };
    let (augment, plain) =
        (data.train_pipeline(16, 3).unwrap(), data.eval_pipeline(16, 3).unwrap());
    let options = settings.train_loader(43);
    let train = Loader::new(data.train.clone(), augment.clone(), options).unwrap();
    let val = Loader::new(data.val.clone(), plain.clone(), settings.eval_loader()).unwrap();
    let (name, weights, stem) = ("test".to_owned(), None, Default::default());
    let info = ModelInfo { name, params: 1, macs: 1, weights, stem };
    let info_of_data = DataInfo::new(&data, augment, plain);
    let config = RunConfig::new(info, info_of_data, settings, "cpu".to_owned());
    let job = Job {
        network: &network,
        train: &train,
        val: &val,
        device: &Device::Cpu,
        config: &config,
        stop: &AtomicBool::new(false),
    };
    let folder = tempfile::tempdir().unwrap();
    f(&mut Trainer::start(job, folder.path()).unwrap())
}

fn run(read_every: Option<usize>, settings: TrainConfig) -> Left {
    with_trainer(settings, |trainer| {
        trainer.read_every = read_every;
        let mut told = Steps::default();
        let reads = [(); 2].map(|()| {
            assert!(trainer.epoch(&mut told).unwrap() == Went::Through);
            trainer.readings.reads()
        });
        let row = |row: &EpochRow| (row.train_loss, row.train_top1, row.images);
        let params = trainer.job.network.params();
        Left {
            steps: told.0,
            reads,
            rows: trainer.progress.rows.iter().map(row).collect(),
            weights: params.get("0.weight").unwrap().var.flatten_all().unwrap().to_vec1().unwrap(),
        }
    })
}

#[test]
fn values_read_later_are_the_same() {
    let accumulate = GradientRule { accumulate: 3, ..Default::default() };
    for settings in [
        TrainConfig::default(),
        TrainConfig {
            gradients: accumulate,
            mixup: 0.4,
            label_smoothing: 0.1,
            ..Default::default()
        },
    ] {
        let at_once = run(None, settings.clone());
        assert_eq!(at_once.reads, [0, 0]);
        assert_eq!(at_once.steps.len(), 22);
        for (every, reads) in [(1, [11, 22]), (4, [3, 6]), (50, [1, 2])] {
            let later = run(Some(every), settings.clone());
            assert_eq!(later.reads, reads, "every {every}");
            assert_eq!(later.steps, at_once.steps, "every {every}");
            assert_eq!(later.rows, at_once.rows, "every {every}");
            assert!(later.weights == at_once.weights, "every {every}");
        }
    }
}

/// A loss that is not finite ends the run when it is read, before anything is told or saved.
#[test]
fn a_bad_loss_is_seen_when_it_is_read() {
    with_trainer(TrainConfig::default(), |trainer| {
        for (step, loss) in [(3, 0.5f32), (4, f32::NAN)] {
            let row = Tensor::new(&[loss, loss, 1.0, 1.0], &Device::Cpu).unwrap();
            trainer.readings.push(report(step), 2, row);
        }
        let mut told = Steps::default();
        let error = trainer.read(&mut told).unwrap_err().to_string();
        assert!(error.contains("the loss is NaN at step 4 (epoch 1, batch 5)"), "{error}");
        assert!(told.0.is_empty() && trainer.progress.sums == Sums::default());
    });
}

fn report(step: u64) -> BatchDone {
    BatchDone {
        epoch: 1,
        batch: step as usize + 1,
        batches: 11,
        step,
        lr: 0.1,
        loss: f64::NAN,
        sums: Sums::default(),
        images_per_s: 0.0,
    }
}

/// Drawn images of which some cannot be read.
struct Broken(Arc<dyn crate::data::Source>, Vec<usize>);

impl crate::data::Source for Broken {
    fn len(&self) -> usize {
        self.0.len()
    }
    fn label(&self, index: usize) -> u32 {
        self.0.label(index)
    }
    fn name(&self, index: usize) -> String {
        self.0.name(index)
    }
    fn picture(&self, index: usize) -> Result<crate::data::Picture> {
        match self.1.contains(&index) {
            true => Err(Error::file(self.name(index), "static")),
            false => self.0.picture(index),
        }
    }
}

/// Stops the run after this many steps.
struct StopAfter<'a>(usize, &'a AtomicBool);

impl Observer for StopAfter<'_> {
    fn batch_done(&mut self, _: &BatchDone) {
        self.0 = self.0.saturating_sub(1);
        self.1.store(self.0 == 0, Ordering::Relaxed);
    }
}

/// Trains on `count` images without those that are `bad`, stopped and resumed after every `pause`
/// steps; the images of each epoch, and weights.
fn train_without(count: usize, bad: &[usize], pause: usize) -> Result<(Vec<u64>, Vec<f32>)> {
    // A batch norm of a single value for each image: it cannot learn from one image.
    let layers = nn::numbered([
        nn::conv(3, 4, 3).stride(2).into(),
        nn::adaptive_avg_pool(1),
        nn::batch_norm(4),
        Layer::Flatten,
        nn::linear(4, 2),
    ]);
    let network = Network::new(layers, &Init::PYTORCH, 1, DType::F32, &Device::Cpu)?;
    let data = drawn::cats_dogs(1, count, 4);
    let settings = TrainConfig { epochs: 12, batch_size: 16, image_size: 16, ..Default::default() };
    let plain = data.eval_pipeline(16, 3)?;
    let source = Arc::new(Broken(data.train.clone(), bad.to_vec()));
    let train = Loader::new(source, plain.clone(), settings.train_loader(count))?;
    let val = Loader::new(data.val.clone(), plain.clone(), settings.eval_loader())?;
    let (name, weights, stem) = ("test".to_owned(), None, Default::default());
    let info = ModelInfo { name, params: 1, macs: 1, weights, stem };
    let info_of_data = DataInfo::new(&data, plain.clone(), plain);
    let config = RunConfig::new(info, info_of_data, settings, "cpu".to_owned());
    let (folder, stop) = (tempfile::tempdir().unwrap(), AtomicBool::new(false));
    let job = || Job {
        network: &network,
        train: &train,
        val: &val,
        device: &Device::Cpu,
        config: &config,
        stop: &stop,
    };
    let mut outcome = Trainer::start(job(), folder.path())?.run(&mut StopAfter(pause, &stop))?;
    while matches!(outcome, Outcome::Stopped { .. }) {
        stop.store(false, Ordering::Relaxed);
        outcome = Trainer::resume(job(), folder.path())?.run(&mut StopAfter(pause, &stop))?;
    }
    let text = std::fs::read_to_string(folder.path().join("metrics.csv")).unwrap();
    assert_eq!(text.lines().count(), 1 + 12);
    let progress = checkpoint::read(&RunFolder::open(folder.path())?)?.progress;
    let weights = network.params().get("0.weight").unwrap().var.flatten_all()?.to_vec1()?;
    Ok((progress.rows.iter().map(|row| row.images).collect(), weights))
}

#[test]
fn a_batch_that_shrinks_to_one_image_is_passed_over() {
    // 16, 16 and 2 images, of which one cannot be read: in some epoch it is one of the last two.
    let (images, weights) = train_without(34, &[5], usize::MAX).unwrap();
    assert!(images.contains(&33) && images.contains(&32), "{images:?}");
    assert!(images.iter().all(|images| [32, 33].contains(images)), "{images:?}");
    for pause in [1, 2, 7] {
        let (again, same) = train_without(34, &[5], pause).unwrap();
        assert_eq!((again, same), (images.clone(), weights.clone()), "stopped every {pause} steps");
    }
    // Where that is every batch there is nothing to learn from.
    let all_but_one: Vec<usize> = (1..16).collect();
    let error = train_without(16, &all_but_one, usize::MAX).unwrap_err().to_string();
    assert!(error.contains("no batch of the epoch has two images: 15 of 16"), "{error}");
}
