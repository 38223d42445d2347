//! `convzoo eval --weights FILE`, and `--eval` of the examples.

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::bail;
use clap::{Args, CommandFactory};
use serde_json::{Map, Value};

use super::args::RunArgs;
use super::learn::{Tta, views};
use super::measured::{MeasuredArgs, run_beside};
use super::memory::enough_to_measure;
use super::progress::Voice;
use super::session::{device, use_threads};
use super::{config_file, print_json, scores, thousands};
use crate::data::LoaderOptions;
use crate::train::{MeasuredPart, Measuring, RunConfig, assess};
use crate::weights::{self, WeightSource};

/// Pictures in a batch, where nothing is said.
const BATCH: usize = 32;

/// What the flags' own words do not say.
const ABOUT: &str = "All images that are given count. Where the weights record what they were trained \
                     on, the images held out then are measured, or a warning says how many others are \
                     among them. Folders are matched by their names with the weights' classes.";

/// Measure a weight file on images
#[derive(Args, Clone, Debug, Default)]
#[command(after_help = ABOUT)]
pub struct EvalArgs {
    /// The weights: FILE, a run's folder (its best), `pretrained`, `pretrained:TAG` or
    /// hf:ORG/REPO[/FILE]
    #[arg(long, value_name = "WEIGHTS")]
    weights: String,
    /// The network [default: what the weight file says, or the one it fits]
    #[arg(long, value_name = "NAME")]
    model: Option<String>,
    #[command(flatten)]
    images: MeasuredArgs,
    /// Look at each image mirrored too: flip
    #[arg(long, value_enum, value_name = "HOW", hide_possible_values = true)]
    tta: Option<Tta>,
    /// Shares of images whose class is among the first K
    #[arg(long, value_delimiter = ',', value_name = "K,K")]
    top_k: Vec<usize>,
    /// Images computed at once [default: 32]
    #[arg(long, value_name = "N")]
    batch_size: Option<usize>,
    /// Threads that compute [default: one a core]
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// Threads that decode images [default: 2]
    #[arg(long, value_name = "N")]
    workers: Option<usize>,
    /// Where to compute: auto, cpu, cuda, cuda:N or metal [default: auto]
    #[arg(long)]
    device: Option<String>,
    /// Where torchvision's published files are to be had instead [default: $CONVZOO_MIRROR]
    #[arg(long, value_name = "URL")]
    mirror: Option<String>,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

pub fn eval(args: EvalArgs) -> anyhow::Result<ExitCode> {
    measure(&args, None)
}

/// `--eval` of a command that trains: the same, for this network.
pub fn eval_of_run(model: &str, args: &RunArgs) -> anyhow::Result<ExitCode> {
    if let Some(flag) = flag_of_training(std::env::args_os()) {
        bail!("--{flag} has no meaning with --eval; `convzoo eval --help` shows what has");
    }
    let Some(weights) = args.weights.clone() else {
        bail!("--eval measures a weight file: say which with --weights FILE");
    };
    let images = MeasuredArgs {
        dataset: args.dataset.clone(),
        data_dir: args.data_dir.clone(),
        limit: args.limit,
        no_fallback: args.no_fallback,
        on_bad: Some(args.on_bad),
        image_size: args.image_size,
        ..MeasuredArgs::default()
    };
    let eval = EvalArgs {
        weights,
        model: Some(model.to_owned()),
        images,
        tta: args.learn.tta,
        top_k: args.learn.top_k.clone(),
        batch_size: args.batch_size,
        threads: args.threads,
        workers: args.workers,
        device: Some(args.device.clone()),
        mirror: args.mirror.clone(),
        json: args.json,
    };
    measure(&eval, config_file::repeated(args)?)
}

/// The first flag of training on a command line that measures.
fn flag_of_training(args: impl Iterator<Item = OsString>) -> Option<String> {
    let measuring = EvalArgs::augment_args(clap::Command::new("eval"));
    let has = |command: &clap::Command, flag: &str| {
        command.get_arguments().any(|arg| arg.get_long() == Some(flag))
    };
    let training = RunArgs::command();
    args.filter_map(|arg| {
        let flag = arg.to_str()?.strip_prefix("--")?.split('=').next()?.to_owned();
        let only_training = has(&training, &flag) && !has(&measuring, &flag);
        (only_training && !["eval", "config"].contains(&flag.as_str())).then_some(flag)
    })
    .next()
}

/// Measures every part that is asked for; `run` made the weights, where that is said.
fn measure(args: &EvalArgs, run: Option<RunConfig>) -> anyhow::Result<ExitCode> {
    if args.top_k.contains(&0) {
        bail!("--top-k: got 0; at least 1");
    }
    let voice = Voice::new(args.json);
    use_threads(args.threads)?;
    let device = device(args.device.as_deref().unwrap_or("auto"))?;
    let source = WeightSource::parse(&args.weights)?;
    let path = source.fetch(args.model.as_deref(), args.mirror.as_deref())?;
    let file = weights::load(&path, &device)?;
    let name = file.metadata.as_ref().map(|metadata| metadata.architecture.clone());
    let run = run.or_else(|| run_beside(&path, &name?));
    let found = args.images.open(file, args.model.as_deref(), run.as_ref(), &device)?;
    let batch = args.batch_size.unwrap_or(BATCH);
    let largest = found.parts.iter().map(|part| part.source.len()).max().unwrap_or(0);
    enough_to_measure(&found.model, batch.min(largest), &device)?;
    announce(&found, voice)?;
    let mut results = about(&found, &path.display().to_string());
    for part in &found.parts {
        let values = measure_part(args, &found, part, &device, voice)?;
        results.insert(part.part.to_string(), values);
    }
    if args.json {
        print_json(&results)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// What is about to be measured, and what is assumed.
fn announce(found: &Measuring, voice: Voice) -> anyhow::Result<()> {
    let model = &found.model;
    let (channels, height, width) = model.config.input;
    voice.say(&format!(
        "model     {} on {channels}x{height}x{width}: {} parameters, {} multiply-adds an image",
        model.architecture.name,
        thousands(model.parameter_count() as u64),
        thousands(model.macs()?)
    ));
    voice.say(&format!("data      {} ({}) from {}", found.dataset, found.kind, found.origin));
    voice.say(&format!("images    {}", found.pipeline.in_full()));
    for part in &found.parts {
        voice.say(&format!("measured  {}: {}", part.part, part.what));
    }
    found.notes.iter().for_each(|note| voice.say(&format!("note      {note}")));
    found.warnings.iter().for_each(|warning| voice.say(&format!("WARNING   {warning}")));
    Ok(())
}

/// The same for scripts.
fn about(found: &Measuring, weights: &str) -> Map<String, Value> {
    let pairs: [(&str, Value); 11] = [
        ("model", found.model.architecture.name.into()),
        ("weights", weights.into()),
        ("dataset", found.dataset.clone().into()),
        ("data_kind", found.kind.to_string().into()),
        ("data", found.origin.clone().into()),
        ("classes", found.classes.clone().into()),
        ("class_order_assumed", found.order_assumed.into()),
        ("image_size", found.model.config.input.1.into()),
        ("pipeline", found.pipeline.in_full().into()),
        ("notes", found.notes.clone().into()),
        ("warnings", found.warnings.clone().into()),
    ];
    pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

/// One part: its numbers for people, and for scripts.
fn measure_part(
    args: &EvalArgs,
    found: &Measuring,
    part: &MeasuredPart,
    device: &candle_core::Device,
    voice: Voice,
) -> anyhow::Result<Value> {
    let options = LoaderOptions {
        batch_size: args.batch_size.unwrap_or(BATCH),
        workers: args.workers.unwrap_or(2),
        ..LoaderOptions::default()
    };
    let loader = args.images.loader(found, part, options)?;
    let (result, detail) = assess(&found.model, &loader, device, views(args.tta))?;
    let (name, rate) = (part.part, result.images_per_s());
    let line = scores::line_of(&detail);
    voice.say(&format!("{name:<9} {line} ({}), {rate:.1} images/s", found.kind));
    for &k in &args.top_k {
        voice.say(&format!("{name:<9} top-{k} {:.2} %", 100.0 * detail.top_k(k)));
    }
    voice.say(&format!("\n{}\n", scores::table_of(&detail, &found.classes)));
    if let Some(left_out) = scores::left_out(&detail.left_out) {
        voice.say(&left_out);
    }
    let mut values = Map::new();
    values.insert("measured".to_owned(), part.what.clone().into());
    values.insert("overlap".to_owned(), serde_json::to_value(part.overlap)?);
    for more in [serde_json::to_value(result)?, scores::json_of(&detail, &args.top_k)?] {
        if let Value::Object(more) = more {
            values.extend(more);
        }
    }
    Ok(values.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_of_training_are_told_apart() {
        let of = |line: &str| flag_of_training(line.split(' ').map(OsString::from));
        assert_eq!(of("resnet18 --eval --weights w --data-dir lr --top-k=1"), None);
        assert_eq!(of("resnet18 --eval --weights w --lr 5").as_deref(), Some("lr"));
        assert_eq!(of("resnet18 --epochs=3 --eval").as_deref(), Some("epochs"));
    }

    #[test]
    fn the_help_fits_a_screen_or_two() {
        let command = EvalArgs::augment_args(clap::Command::new("eval")).term_width(100);
        let lines = command.clone().render_help().to_string().lines().count();
        assert!(lines < 80, "{lines} lines");
        assert!(command.get_arguments().all(|arg| arg.get_long() != Some("lr")));
    }
}
