//! `convzoo weights add RUN`: from a run folder to a folder of weights with a manifest.

use std::path::{Path, PathBuf};

use anyhow::bail;
use candle_core::{DType, Device};
use clap::Args;

use super::print_json;
use super::session::use_threads;
use super::weights::WeightType;
use crate::Error;
use crate::data::{self, DataRequest, Dataset, Loader};
use crate::files::plain::is_plain;
use crate::models::Model;
use crate::train::{RunConfig, RunFolder, evaluate};
use crate::weights::{self, Manifest, ManifestEntry, Measured, fingerprint, portable_command};

#[derive(Args)]
pub struct AddArgs {
    /// The run folder, of a finished run
    run: PathBuf,
    /// The folder of weights; its manifest.json is made or extended
    #[arg(long, value_name = "DIR", default_value = "weights")]
    to: PathBuf,
    /// The file's name there [default: MODEL-DATASET.safetensors]
    #[arg(long, value_name = "FILE")]
    name: Option<String>,
    /// Type of the weights in it
    #[arg(long, value_enum, default_value = "f32")]
    dtype: WeightType,
    /// Where the run's pictures are now, on which the file is measured [default: where they were]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Threads that compute [default: one a core]
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
}

pub fn add(args: &AddArgs) -> anyhow::Result<()> {
    use_threads(args.threads)?;
    let run = RunFolder::open(&args.run)?;
    let (config, summary) = (run.config()?, run.summary()?);
    let name = match &args.name {
        Some(name) if Path::new(name).file_name().is_some_and(|file| *file == **name) => {
            name.clone()
        }
        Some(name) => bail!("--name {name}: a file's name is wanted, without folders"),
        None => format!("{}-{}.safetensors", config.model.name, config.data.name),
    };
    if !is_plain(&name) {
        bail!("{}: {name:?} cannot be a file's name; say one with --name", args.run.display());
    }
    // First of all: without the pictures there is nothing to state.
    let dataset = pictures(args, &config)?;
    std::fs::create_dir_all(&args.to).map_err(|error| Error::file(&args.to, error))?;
    let mut manifest = Manifest::open(&args.to)?;
    let path = args.to.join(&name);
    let dtype = DType::from(args.dtype);
    weights::load(&run.file("best.safetensors"), &Device::Cpu)?.write_as(&path, Some(dtype))?;
    let model = weights::load(&path, &Device::Cpu)?.model(&Device::Cpu)?;
    let val = measure(&model, &config, &dataset, false)?;
    let test =
        dataset.test.is_some().then(|| measure(&model, &config, &dataset, true)).transpose()?;
    let (bytes, sha256) = fingerprint(&path)?;
    let unknown = || "not recorded".to_owned();
    let entry = ManifestEntry {
        file: name,
        bytes,
        sha256,
        architecture: config.model.name.clone(),
        params: model.parameter_count(),
        dtype: dtype.as_str().to_owned(),
        dataset: config.data.name.clone(),
        data_kind: config.data.kind.to_string(),
        data_identity: config.data.identity.clone(),
        val,
        test,
        command: portable_command(&config.command),
        epochs: summary.epochs,
        date: summary.finished.or(config.started).unwrap_or_else(unknown),
        machine: config.machine.map_or_else(unknown, |machine| machine.to_string()),
        version: config.versions.convzoo,
    };
    print_json(&entry)?;
    Ok(manifest.put(entry, &args.to)?)
}

/// The pictures of the run, and no others.
fn pictures(args: &AddArgs, config: &RunConfig) -> anyhow::Result<Dataset> {
    let Some(request) = config.data.request.clone() else {
        bail!("{}: does not say how to find its pictures", args.run.display());
    };
    let data_dir = args.data_dir.clone().or(request.data_dir.clone());
    let dataset = data::open(&DataRequest { data_dir, fallback: false, ..request })?;
    if dataset.identity != config.data.identity {
        bail!(
            "{}: the pictures of {} are not those that the run was validated on (identity {}, and {} \
             in the run); say where they are with --data-dir",
            args.run.display(),
            dataset.origin,
            dataset.identity,
            config.data.identity
        );
    }
    Ok(dataset)
}

/// What the model gets right of the validation or the test pictures.
fn measure(
    model: &Model,
    config: &RunConfig,
    dataset: &Dataset,
    test: bool,
) -> anyhow::Result<Measured> {
    let source = if test { dataset.test.as_ref().unwrap_or(&dataset.val) } else { &dataset.val };
    let pipeline = config.data.eval_pipeline.clone();
    let loader = Loader::new(source.clone(), pipeline, config.train.eval_loader())?;
    let found = evaluate(model, &loader, &Device::Cpu)?;
    Ok(Measured { top1: found.top1, images: found.images })
}
