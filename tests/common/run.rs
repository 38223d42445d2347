//! A small data set and a small network, for whole runs that take moments.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use candle_core::{DType, Device};
use convzoo::Result;
use convzoo::data::{DataKind, Dataset, Filter, Loader, Picture, Pipeline, Source, Step, identity};
use convzoo::nn::{self, Init, Layer, Network, Params};
use convzoo::rng::Rng;
use convzoo::train::{
    DataInfo, Job, ModelInfo, Observer, Outcome, RunConfig, TrainConfig, Trainer,
};

/// Noisy squares of 16 pixels: bright at the top left, the top right or the bottom, by class.
pub struct Squares {
    pub seed: u64,
    pub count: usize,
}

impl Source for Squares {
    fn len(&self) -> usize {
        self.count
    }

    fn label(&self, index: usize) -> u32 {
        (index % 3) as u32
    }

    fn name(&self, index: usize) -> String {
        format!("{}/square{index}", self.seed)
    }

    fn picture(&self, index: usize) -> Result<Picture> {
        let mut rng = Rng::stream(self.seed, "squares", &[index as u64]);
        let pixel = |i: usize| {
            let (y, x) = (i / 16, i % 16);
            let class = if y >= 8 { 2 } else { x / 8 };
            let light = if class == index % 3 { 150 } else { 60 };
            (light + rng.below(60)) as u8
        };
        Picture::new(16, 16, 1, (0..256).map(pixel).collect())
    }
}

/// The data set of squares.
pub fn dataset(train: usize, val: usize) -> Dataset {
    let train: Arc<dyn Source> = Arc::new(Squares { seed: 1, count: train });
    let val: Arc<dyn Source> = Arc::new(Squares { seed: 2, count: val });
    Dataset {
        name: "squares".to_owned(),
        kind: DataKind::Drawn,
        classes: ["left", "right", "bottom"].map(str::to_owned).to_vec(),
        channels: 1,
        mean: vec![0.4],
        std: vec![0.2],
        origin: "made by this test".to_owned(),
        identity: identity(&[("train", train.as_ref()), ("val", val.as_ref())]),
        train,
        val,
        test: None,
        notes: Vec::new(),
    }
}

/// Convolution, batch norm, pooling, dropout: all that has state or randomness.
pub fn layers() -> Layer {
    nn::sequential([
        ("conv", nn::conv(1, 6, 3).padding(1).no_bias().into()),
        ("bn", nn::batch_norm(6)),
        ("relu", Layer::Relu),
        ("pool", nn::max_pool(3, 2).padding(1).into()),
        (
            "side",
            nn::aux_head(
                nn::sequential([("flat", Layer::Flatten), ("fc", nn::linear(6 * 36, 3))]),
                0.3,
            ),
        ),
        ("flat", Layer::Flatten),
        ("drop", nn::dropout(0.2)),
        ("fc", nn::linear(6 * 36, 3)),
    ])
}

/// Everything that a run of the small network needs.
pub struct Small {
    pub network: Network,
    pub train: Loader,
    pub val: Loader,
    pub config: RunConfig,
    pub stop: AtomicBool,
}

impl Small {
    /// The network with fresh weights, for these settings.
    pub fn new(train: TrainConfig) -> Result<Self> {
        Small::with(train, dataset(37, 20))
    }

    pub fn with(train: TrainConfig, dataset: Dataset) -> Result<Self> {
        Small::of(layers(), 12, train, dataset)
    }

    /// Another network, on pictures of this side.
    pub fn of(layers: Layer, side: usize, train: TrainConfig, dataset: Dataset) -> Result<Self> {
        let config = TrainConfig { image_size: side, channels: 1, ..train };
        let filter = Filter::Bilinear;
        let normalise = Step::Normalise { mean: dataset.mean.clone(), std: dataset.std.clone() };
        let grey = Step::Channels { channels: 1 };
        let augment = Pipeline::new(vec![
            Step::RandomCrop { size: 14, padding: 1 },
            Step::ResizeExact { size: side, filter },
            grey.clone(),
            normalise.clone(),
        ])?;
        let plain = Pipeline::new(vec![Step::ResizeExact { size: side, filter }, grey, normalise])?;
        let network = Network::new(layers, &Init::PYTORCH, config.seed, DType::F32, &Device::Cpu)?;
        let train_options = config.train_loader(dataset.train.len());
        let model = ModelInfo {
            name: "small".to_owned(),
            params: network.layers().parameter_count(),
            macs: 1,
            weights: None,
            stem: Default::default(),
        };
        let data = DataInfo::new(&dataset, augment.clone(), plain.clone());
        Ok(Small {
            train: Loader::new(dataset.train.clone(), augment, train_options)?,
            val: Loader::new(dataset.val.clone(), plain, config.eval_loader())?,
            config: RunConfig::new(model, data, config, "cpu".to_owned()),
            network,
            stop: AtomicBool::new(false),
        })
    }

    pub fn job(&self) -> Job<'_, Network> {
        Job {
            network: &self.network,
            train: &self.train,
            val: &self.val,
            device: &Device::Cpu,
            config: &self.config,
            stop: &self.stop,
        }
    }

    pub fn start(&self, folder: &Path, observer: &mut dyn Observer) -> Result<Outcome> {
        Trainer::start(self.job(), folder)?.run(observer)
    }

    pub fn resume(&self, folder: &Path, observer: &mut dyn Observer) -> Result<Outcome> {
        Trainer::resume(self.job(), folder)?.run(observer)
    }
}

/// The bits of all parameters and buffers.
pub fn bits(params: &Params) -> Vec<(String, Vec<u64>)> {
    let of = |entry: &nn::Entry| {
        let values = super::values(entry.var.as_tensor());
        (entry.spec.name.clone(), values.iter().map(|v| v.to_bits()).collect())
    };
    params.entries().iter().map(of).collect()
}
