//! `convzoo compare`: several networks, one data set, one budget, one report.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::bail;
use clap::Parser;

use super::args::RunArgs;
use super::budget::{Budget, epochs_within};
use super::matching::{Found, find};
use super::progress::Voice;
use super::report::{Explained, complete, show};
use super::run::train_session;
use super::session::{Session, use_threads};
use super::terminal::complain;
use super::{apart, meaning, signals};
use crate::report::{Report, Sample};

/// Train several networks on one data set, and put them side by side.
///
/// Each network is trained by its own recipe, changed by the flags given here, with one seed or
/// several. A run that is in the folder already and is the same (network, data, seed and every
/// setting) is taken as it is, or goes on where it was broken off: Ctrl-C and the same command again
/// lose nothing. In the end there are report.html, compare.csv and every figure in the folder.
#[derive(Parser)]
#[command(version, max_term_width = 100, mut_args(|arg| meaning::hidden(arg, &NOT_HERE)))]
pub struct CompareArgs {
    /// The networks, as `convzoo list` names them
    #[arg(
        long,
        value_delimiter = ',',
        value_name = "A,B,C",
        default_value = "lenet5-relu,alexnet,vgg16_bn,googlenet,resnet18,resnet50"
    )]
    models: Vec<String>,
    /// The folder of the runs, one a network and seed
    #[arg(long, value_name = "DIR", default_value = "runs/compare")]
    runs: PathBuf,
    /// What each run may take: 12epochs, or 30min (2h, 90s) of training, for which each network's
    /// speed is tried first [default: the recipe's epochs]
    #[arg(long, value_name = "BUDGET", conflicts_with = "epochs")]
    budget: Option<Budget>,
    /// Runs of each network, with seeds from --seed on; the data stay those of the first
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=1000))]
    seeds: u64,
    /// Take runs of the same network, data and seed as they are, whatever their other settings
    #[arg(long)]
    any_settings: bool,
    #[command(flatten)]
    explained: Explained,
    #[command(flatten)]
    run: RunArgs,
}

/// Flags of a single run, or of measuring.
const NOT_HERE: [&str; 6] = ["allow-changed-data", "eval", "out", "resume", "top-k", "tta"];

/// Validation pictures that every network is shown in the report.
const SAMPLES: usize = 4;

/// One run that the comparison needs.
struct Planned {
    model: String,
    seed: u64,
    args: RunArgs,
    found: Found,
    /// Where it is to be, if it is new.
    folder: PathBuf,
}

pub fn compare(mut args: CompareArgs) -> anyhow::Result<ExitCode> {
    let voice = Voice::new(args.run.json);
    meaning::refuse(&NOT_HERE, "it trains several networks, and has its runs in --runs DIR")?;
    use_threads(args.run.threads.take())?; // once: the pool cannot be made again
    if let Some(only) = apart::only() {
        return one(&args, &only, voice);
    }
    let (planned, samples) = plan(&args, None, voice)?;
    let mut folders = Vec::new();
    let mut failed = Vec::new();
    for run in planned {
        let name = format!("{} (seed {})", run.model, run.seed);
        match finished(run) {
            Ok(Some(folder)) => {
                folders.push(folder);
                Report::read(&folders)?.write(&args.runs)?; // as far as it is, for who looks
            }
            Ok(None) => {
                voice.say("go on with the same command");
                return Ok(signals::exit_code());
            }
            Err(error) => {
                complain(&format!("{name}: {error:#}"));
                failed.push(name);
            }
        }
    }
    if folders.is_empty() {
        bail!("not one run was finished");
    }
    let report = args.explained.report(&folders, &samples)?;
    report.write(&args.runs)?;
    show(&report, &args.runs.join("report.html"), args.run.json, voice)?;
    complete(&report)?;
    match &failed[..] {
        [] => Ok(ExitCode::SUCCESS),
        names => bail!("failed, and not in the report: {}", names.join(", ")),
    }
}

/// Every run that is needed, and what is there of it; settings that clash are found out before hours
/// are spent. And some pictures to explain the networks by.
fn plan(
    args: &CompareArgs,
    only: Option<&(String, u64)>,
    voice: Voice,
) -> anyhow::Result<(Vec<Planned>, Vec<Sample>)> {
    // One data set for all: it is not that which one of them would choose by itself.
    let dataset = args.run.dataset.clone().unwrap_or_else(|| "cats-dogs".to_owned());
    let (mut planned, mut samples) = (Vec::new(), Vec::new());
    let first = args.run.seed.unwrap_or(0);
    let Some(end) = first.checked_add(args.seeds) else {
        bail!("--seed {first} leaves no room for {} seeds from there on", args.seeds);
    };
    let twice = |(place, model): &(usize, &String)| args.models[..*place].contains(model);
    if let Some((_, model)) = args.models.iter().enumerate().find(twice) {
        bail!("--models names {model} twice");
    }
    for model in &args.models {
        for seed in first..end {
            if only.is_some_and(|(name, number)| name != model || *number != seed) {
                continue;
            }
            let mut run = RunArgs {
                dataset: Some(dataset.clone()),
                seed: Some(seed),
                data_seed: Some(first),
                ..args.run.clone()
            };
            if let Some(Budget::Epochs(epochs)) = args.budget {
                run.epochs = Some(epochs);
            }
            let tells = planned.is_empty() && only.is_none();
            let session = Session::new(model, &run, if tells { voice } else { Voice::silent() })?;
            if planned.is_empty() {
                samples = Sample::of_validation(&session.dataset, SAMPLES)?;
            }
            let wanted = session.config;
            let timed = matches!(args.budget, Some(Budget::Seconds(_)));
            let found = find(&args.runs, &wanted, timed, args.any_settings)?;
            if only.is_none() {
                voice.say(&format!("{model}, seed {seed}: {found}"));
            }
            let folder = args.runs.join(format!("{model}-{}-seed{seed}", wanted.data.name));
            planned.push(Planned { model: model.clone(), seed, args: run, found, folder });
        }
    }
    Ok((planned, samples))
}

/// The folder of a run, after another process has trained what is missing of it; `None` where it was
/// stopped.
fn finished(planned: Planned) -> anyhow::Result<Option<PathBuf>> {
    let Planned { model, seed, found, folder, .. } = planned;
    let folder = match found {
        Found::Finished(folder) => return Ok(Some(folder)),
        Found::Begun { folder, .. } => folder,
        Found::Nothing => folder,
    };
    Ok(apart::run_apart(&model, seed)?.then_some(folder))
}

/// In a process of its own: the run that it is for.
fn one(args: &CompareArgs, only: &(String, u64), voice: Voice) -> anyhow::Result<ExitCode> {
    apart::stop_with_parent();
    let (planned, _) = plan(args, Some(only), voice)?;
    for run in planned {
        if trained(run, args, voice)?.is_none() {
            return Ok(signals::exit_code());
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The folder of a finished run, after training what is missing of it; `None` where it was stopped.
fn trained(planned: Planned, args: &CompareArgs, voice: Voice) -> anyhow::Result<Option<PathBuf>> {
    let Planned { model, seed, args: mut run, found, folder } = planned;
    let folder = match found {
        Found::Finished(folder) => return Ok(Some(folder)),
        Found::Begun { folder, .. } => {
            run = run.going_on_with(&folder);
            folder
        }
        Found::Nothing => {
            run.out = Some(folder.clone());
            folder
        }
    };
    voice.say(&format!("\n== {model}, seed {seed}"));
    if let (Some(Budget::Seconds(seconds)), None) = (args.budget, &run.resume) {
        run.epochs = Some(affordable(&model, &run, seconds, &args.runs, voice)?);
    }
    let session = Session::new(&model, &run, voice)?;
    Ok(train_session(&session, &run, voice)?.map(|_| folder))
}

/// Epochs within so many seconds, on this machine as it is now.
fn affordable(
    model: &str,
    run: &RunArgs,
    seconds: f64,
    runs: &Path,
    voice: Voice,
) -> anyhow::Result<usize> {
    let session = Session::new(model, run, Voice::silent())?;
    let (epochs, each) = epochs_within(seconds, &session, runs)?;
    voice.say(&format!("budget    {epochs} epochs of about {each:.1} s"));
    if each > seconds {
        voice.say("budget    one epoch takes longer than that; it is trained all the same");
    }
    Ok(epochs)
}
