//! Everything that a run needs, made from flags once.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, bail};
use candle_core::Device;

use super::args::RunArgs;
use super::progress::Voice;
use super::{config_file, recipe};
use crate::data::{self, DataKind, DataRequest, Dataset, Loader, OnBad, Pipeline, Source};
use crate::models::{self, Config, Model, Stem};
use crate::nn::Engine;
use crate::ops::keep_memory;
use crate::train::{DataInfo, ModelInfo, RunConfig, RunFolder, TrainConfig};
use crate::weights::{self, WeightFile, WeightSource};

/// A model, its pictures and its settings.
pub struct Session {
    pub model: Model,
    pub dataset: Dataset,
    pub config: RunConfig,
    pub device: Device,
    on_bad: OnBad,
}

impl Session {
    /// What `args` ask for; a run that is resumed, or repeated (`--config RUN/config.json`), brings its
    /// own settings. Only the latter may change.
    pub fn new(name: &str, args: &RunArgs, voice: Voice) -> anyhow::Result<Self> {
        models::find(name)?; // a misspelt name must not cost a download
        let saved = args.resume.as_ref().map(|run| RunFolder::open(run)?.config()).transpose()?;
        let repeated = match saved {
            Some(_) => None,
            None => config_file::repeated(args)?,
        };
        if let Some(before) = saved.as_ref().or(repeated.as_ref())
            && before.model.name != name
        {
            let flag = if saved.is_some() { "--resume" } else { "--config" };
            bail!("{flag}: that is a run of {}, not of {name}", before.model.name);
        }
        use_threads(args.threads)?;
        let device = device(&args.device)?;
        let weights =
            args.weights.clone().or(repeated.as_ref().and_then(|r| r.model.weights.clone()));
        let file =
            weights.map(|weights| open_weights(name, &weights, args, &device)).transpose()?;
        let before = saved.as_ref().or(repeated.as_ref());
        let request = request(name, args, before);
        let dataset = data::open(&request)?;
        dataset.notes.iter().for_each(|note| voice.say(note));
        let train = settings(name, args, &dataset, file.as_ref(), before)?;
        let stem = stem(args, file.as_ref(), before);
        let config = model_config(name, &dataset, &train, stem)?;
        if !args.ignore_memory {
            let layers = models::find(name)?.layers(&config)?;
            super::memory::enough(&layers, &train, dataset.train.len(), true, &device)?;
        }
        let mut model = Model::new(name, config, train.seed, &device)?;
        let mut info = ModelInfo::new(&model)?;
        if let Some(file) = &file {
            take_over(file, &model, args, voice)?;
            info.weights = Some(absolute(&file.path).display().to_string());
        } else if let Some(saved) = &saved {
            info.weights = saved.model.weights.clone();
        }
        train.finetune.apply(&mut model.network, train.lr)?;
        let input = (train.channels, train.image_size, train.image_size);
        let on_ops = train.precision.half().is_some();
        if device.is_cpu() && (on_ops || Engine::training(&model.network, input)?.is_none()) {
            keep_memory(); // the ops take fresh memory for every result
        }
        let other = match saved {
            Some(_) => args.learn.changes_pictures(),
            None => other_pictures(args),
        };
        let pipelines = match before.filter(|_| !other) {
            Some(before) => (before.data.train_pipeline.clone(), before.data.eval_pipeline.clone()),
            None => pipelines(name, &dataset, &train, file.as_ref(), args)?,
        };
        let mut data = DataInfo::new(&dataset, pipelines.0, pipelines.1);
        data.request = Some(request);
        if let Some(before) = &repeated
            && before.data.identity != data.identity
        {
            voice.say("the pictures are not those of the run before: the results will differ");
        }
        let config = RunConfig::new(info, data, train, device_name(&device));
        Ok(Session { model, dataset, config, device, on_bad: args.on_bad.into() })
    }

    /// Training pictures.
    pub fn train_loader(&self) -> crate::Result<Loader> {
        let source = &self.dataset.train;
        let mut options = self.config.train.train_loader(source.len());
        options.on_bad = self.on_bad;
        Loader::new(source.clone(), self.config.data.train_pipeline.clone(), options)
    }

    /// Validation pictures.
    pub fn val_loader(&self) -> crate::Result<Loader> {
        self.loader(&self.dataset.val)
    }

    /// Test pictures, where there are any.
    pub fn test_loader(&self) -> crate::Result<Option<Loader>> {
        self.dataset.test.as_ref().map(|source| self.loader(source)).transpose()
    }

    fn loader(&self, source: &Arc<dyn Source>) -> crate::Result<Loader> {
        let mut options = self.config.train.eval_loader();
        options.on_bad = self.on_bad;
        Loader::new(source.clone(), self.config.data.eval_pipeline.clone(), options)
    }
}

/// The pictures that are wanted: what flags say, or else those of the run that is resumed or repeated.
fn request(name: &str, args: &RunArgs, run: Option<&RunConfig>) -> DataRequest {
    let before = run.and_then(|run| run.data.request.clone());
    let same = |before: &DataRequest| args.dataset.as_ref().is_none_or(|d| *d == before.dataset);
    let mut request = before.filter(same).unwrap_or_else(|| {
        let usual = recipe::default_dataset(name);
        let in_dir = |dir: &PathBuf| data::dataset_in(dir, usual);
        let default = || args.data_dir.as_ref().map_or(usual, in_dir).to_owned();
        DataRequest::new(args.dataset.clone().unwrap_or_else(default))
    });
    request.data_dir = args.data_dir.as_deref().map(absolute).or(request.data_dir);
    let there = |root: &PathBuf| root.join(&request.dataset).is_dir();
    request.data_root = request.data_root.filter(there);
    request.data_root = request.data_root.clone().or_else(|| found_root(&request));
    request.val_split = args.val_split.or(request.val_split);
    request.seed = args.data_seed.or(args.seed).unwrap_or(request.seed);
    request.fallback &= !args.no_fallback;
    request.limit = args.limit.or(request.limit);
    request
}

/// The folder of data sets, as a path that holds from everywhere, where the data set is in it.
fn found_root(request: &DataRequest) -> Option<PathBuf> {
    let root = absolute(&request.root());
    root.join(&request.dataset).is_dir().then_some(root)
}

/// The same path from the root of the file system: a run may go on from another working directory.
fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// Whether pictures are prepared in another way than in the run that is repeated.
fn other_pictures(args: &RunArgs) -> bool {
    args.learn.changes_pictures()
        || args.dataset.is_some()
        || args.image_size.is_some()
        || args.weights.is_some()
        || args.cache_features
}

/// Settings of a run; weights bring their picture size along. Flags change those of one that was there
/// before; one that is resumed will be refused where they would make it another.
fn settings(
    name: &str,
    args: &RunArgs,
    dataset: &Dataset,
    file: Option<&WeightFile>,
    before: Option<&RunConfig>,
) -> anyhow::Result<TrainConfig> {
    if let Some(before) = before {
        let mut config = before.train.clone();
        if args.dataset.is_some() {
            config.channels = dataset.channels;
        }
        recipe::apply(args, &mut config)?;
        config.check()?;
        return Ok(config);
    }
    let metadata = file.and_then(|file| file.metadata.as_ref());
    let channels = metadata.map_or(dataset.channels, |metadata| metadata.input.0);
    let mut args = args.clone();
    args.image_size = args.image_size.or(metadata.map(|metadata| metadata.input.1));
    Ok(recipe::settings(models::find(name)?, dataset.kind, channels, &args)?)
}

/// How a ResNet begins: as the flag says, or the weights.
fn stem(args: &RunArgs, file: Option<&WeightFile>, run: Option<&RunConfig>) -> Stem {
    let of_file = file.and_then(|file| file.metadata.as_ref()).map(|metadata| metadata.stem);
    let of_run = run.map(|run| run.model.stem);
    args.stem.map(Stem::from).or(of_run).or(of_file).unwrap_or_default()
}

/// What is chosen of the network.
fn model_config(
    name: &str,
    dataset: &Dataset,
    train: &TrainConfig,
    stem: Stem,
) -> crate::Result<Config> {
    let architecture = models::find(name)?;
    let input = (train.channels, train.image_size, train.image_size);
    let classes = dataset.classes.len();
    Ok(Config { classes, input, stem, ..architecture.config() })
}

/// The weights that are asked for, fetched if need be.
fn open_weights(
    name: &str,
    weights: &str,
    args: &RunArgs,
    device: &Device,
) -> crate::Result<WeightFile> {
    let path = WeightSource::parse(weights)?.fetch(Some(name), args.mirror.as_deref())?;
    let file = weights::load(&path, device)?;
    // Of a file that fits in part, less is known.
    Ok(file.clone().described(Some(name)).unwrap_or(file))
}

/// Weights from a file, and what is to be said about them.
fn take_over(file: &WeightFile, model: &Model, args: &RunArgs, voice: Voice) -> anyhow::Result<()> {
    file.remarks.iter().for_each(|remark| voice.say(&format!("weights: {remark}")));
    let applied = match args.partial {
        true => file.apply_partial(&model.network)?,
        false => file.apply_for_training(&model.network)?,
    };
    applied.left_out.iter().for_each(|what| voice.say(&format!("weights: {what}")));
    let path = file.path.display();
    voice.say(&format!("weights: {} tensors from {path}", applied.loaded));
    if !applied.replaced.is_empty() {
        let layers = applied.replaced.join(", ");
        voice.say(&format!("weights: {layers} had another size there and begins anew"));
    }
    if !applied.auxiliary.is_empty() {
        let heads = applied.auxiliary.join(", ");
        voice.say(&format!("weights: {heads} not on both sides; left as it is"));
    }
    Ok(())
}

/// What is done to a training picture, and to one that is measured.
fn pipelines(
    name: &str,
    dataset: &Dataset,
    train: &TrainConfig,
    file: Option<&WeightFile>,
    args: &RunArgs,
) -> crate::Result<(Pipeline, Pipeline)> {
    let mut pipeline = dataset.train_pipeline(train.image_size, train.channels)?;
    if dataset.kind == DataKind::Digits && recipe::shifts_digits(name) {
        pipeline = pipeline.with_shift(2)?;
    }
    let eval = dataset.eval_pipeline(train.image_size, train.channels)?;
    pipeline = args.learn.pipeline(pipeline, &eval)?;
    if train.finetune.cache_features && args.learn.changes_pictures() {
        let message =
            "--cache-features needs the same pictures every time: no --augment or --erase";
        return Err(crate::Error::Setting(message.to_owned()));
    }
    if train.finetune.cache_features {
        pipeline = eval.clone(); // the same pictures every time
    }
    let of_file = file.and_then(|file| file.metadata.as_ref());
    let of_file = of_file.and_then(|m| serde_json::from_value(m.preprocessing.clone()).ok());
    let Some(of_file): Option<Pipeline> = of_file else { return Ok((pipeline, eval)) };
    // Weights want numbers like those that made them.
    Ok((pipeline.normalised_like(&of_file)?, eval.normalised_like(&of_file)?))
}

/// Makes rayon's pool of this many threads.
pub(super) fn use_threads(threads: Option<usize>) -> anyhow::Result<()> {
    let Some(threads) = threads else { return Ok(()) };
    if threads == 0 {
        bail!("--threads: got 0; at least 1 is needed");
    }
    let most = most_threads();
    if threads > most {
        bail!(
            "--threads: got {threads}; at most {most} here, which is more than the cores can use"
        );
    }
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
    pool.build_global().context("--threads: the threads cannot be made")
}

/// Four for each core, and enough for tests of many threads.
fn most_threads() -> usize {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    (4 * cores).max(256)
}

/// `auto`, `cpu`, `cuda`, `cuda:N` or `metal`.
pub(super) fn device(name: &str) -> anyhow::Result<Device> {
    let wrong = || format!("--device {name}: there are auto, cpu, cuda, cuda:N and metal");
    let missing = |feature| {
        format!(
            "--device {name}: not to be had; build with --features {feature} on a machine with it"
        )
    };
    match name.split_once(':').unwrap_or((name, "0")) {
        ("cpu", "0") => Ok(Device::Cpu),
        ("auto", "0") if candle_core::utils::cuda_is_available() => Ok(Device::new_cuda(0)?),
        ("auto", "0") if candle_core::utils::metal_is_available() => Ok(Device::new_metal(0)?),
        ("auto", "0") => Ok(Device::Cpu),
        ("cuda", number) => {
            let number = number.parse().ok().with_context(wrong)?;
            Device::new_cuda(number).with_context(|| missing("cuda"))
        }
        ("metal", "0") => Device::new_metal(0).with_context(|| missing("metal")),
        _ => bail!(wrong()),
    }
}

fn device_name(device: &Device) -> String {
    match device.location() {
        candle_core::DeviceLocation::Cpu => "cpu".to_owned(),
        candle_core::DeviceLocation::Cuda { gpu_id } => format!("cuda:{gpu_id}"),
        candle_core::DeviceLocation::Metal { .. } => "metal".to_owned(),
    }
}
