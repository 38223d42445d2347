//! `convzoo train MODEL`, and every example.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, bail};
use clap::Args;
use serde_json::Value;

use super::args::RunArgs;
use super::progress::{View, Voice};
use super::session::Session;
use super::terminal::aside;
use super::{config_file, evaluate, print_json, scores, signals, thousands};
use crate::data::{DataKind, Loader};
use crate::digits::counted;
use crate::train::{
    Assessment, Assessments, CachedFeatures, ClassWeights, GradientRule, Job, Outcome, RunFolder,
    RunLock, Summary, TensorBoard, TrainConfig, Trainable, Trainer, Views, assess,
};
use crate::weights::{self, SaveType};

#[derive(Args)]
pub struct TrainArgs {
    /// The network, as `convzoo list` names it [default: what --config or --resume says]
    model: Option<String>,
    /// The same; what a line `model = "NAME"` in a file of --config becomes
    #[arg(long = "model", value_name = "NAME", hide = true)]
    named: Option<String>,
    #[command(flatten)]
    run: RunArgs,
}

pub fn train(args: TrainArgs) -> anyhow::Result<ExitCode> {
    let model = match args.model.or(args.named) {
        Some(model) => model,
        None => {
            let before = match &args.run.resume {
                Some(run) => Some(RunFolder::open(run)?.config()?),
                None => config_file::repeated(&args.run)?,
            };
            let name = before.map(|run| run.model.name);
            name.context("say which network to train, as `convzoo list` names it")?
        }
    };
    run(&model, args.run)
}

/// Set by Ctrl-C: the step under way is finished, the state saved.
static STOP: AtomicBool = AtomicBool::new(false);

/// Stops the run under way as Ctrl-C does.
pub fn stop() {
    STOP.store(true, Ordering::SeqCst);
}

/// Trains, or with `--eval` only measures.
pub fn run(model: &str, args: RunArgs) -> anyhow::Result<ExitCode> {
    if args.eval {
        return evaluate::eval_of_run(model, &args);
    }
    let voice = Voice::new(args.json);
    if args.learn.tta.is_some() || !args.learn.top_k.is_empty() {
        bail!("--tta and --top-k go with eval, or --eval: they are ways to measure");
    }
    if args.resume.is_some() && (args.out.is_some() || args.weights.is_some()) {
        bail!("--resume goes on with a run as it is; --out and --weights begin a new one");
    }
    let session = Session::new(model, &args, voice)?;
    announce(&session, voice);
    match train_session(&session, &args, voice)? {
        Some((summary, folder)) if args.json => print_json(&in_full(&session, &summary, &folder)?)?,
        Some(_) => {}
        None => return Ok(signals::exit_code()),
    }
    Ok(ExitCode::SUCCESS)
}

/// The outcome for scripts: the summary, and where everything is, from the root of the file system.
fn in_full(session: &Session, summary: &Summary, folder: &RunFolder) -> anyhow::Result<Value> {
    let mut all = serde_json::to_value(summary)?;
    let path = |path: PathBuf| std::path::absolute(&path).unwrap_or(path).display().to_string();
    let files = ["best", "last", "ema"].map(|name| (name, format!("{name}.safetensors")));
    let weights = files.into_iter().filter(|(_, file)| folder.file(file).is_file());
    let weights = weights.map(|(name, file)| (name.to_owned(), path(folder.file(&file)).into()));
    all["run"] = path(folder.path().to_owned()).into();
    all["weights"] = Value::Object(weights.collect());
    all["data"] = session.config.data.origin.clone().into();
    Ok(all)
}

/// What is about to be done, in a few lines.
fn announce(session: &Session, voice: Voice) {
    let config = &session.config;
    let (data, train) = (&config.data, &config.train);
    let side = train.image_size;
    voice.say(&format!(
        "model     {} on {}x{side}x{side}: {} parameters, {} multiply-adds a picture",
        config.model.name,
        train.channels,
        thousands(config.model.params as u64),
        thousands(config.model.macs)
    ));
    voice.say(&format!(
        "data      {} ({}) from {}: {} for training, {} for validation; {}",
        data.name,
        data.kind,
        data.origin,
        thousands(data.train_images as u64),
        thousands(data.val_images as u64),
        some(&data.classes)
    ));
    voice.say(&format!("pictures  {}", data.train_pipeline));
    let warmup = if train.warmup == crate::train::Warmup::NONE { "" } else { " after a warm-up" };
    voice.say(&format!(
        "training  {} epochs of batches of {}, {}, rate {} ({}{warmup}), weight decay {}, \
         label smoothing {}, seed {}",
        train.epochs,
        train.batch_size,
        train.optimizer,
        train.lr,
        train.schedule,
        train.weight_decay,
        train.label_smoothing,
        train.seed
    ));
    let extras = extras(train);
    if !extras.is_empty() {
        voice.say(&format!("with      {}", extras.join(", ")));
    }
    if !train.finetune.is_default() {
        voice.say(&format!("layers    {}", layers(session)));
    }
    voice.say(&format!("device    {}, {}", config.device, counted(config.threads, "thread")));
}

/// What a run does that most do not.
fn extras(train: &TrainConfig) -> Vec<String> {
    let mut all = Vec::new();
    let mut add = |value: Option<f64>, what: &str| {
        all.extend(value.map(|value| format!("{what} {value}")));
    };
    let above = |value: f64| (value > 0.0).then_some(value);
    let GradientRule { clip_norm, clip_value, accumulate } = train.gradients;
    add(above(train.mixup), "mixup");
    add(above(train.cutmix), "cutmix");
    add(clip_norm, "gradients clipped at norm");
    add(clip_value, "gradients clipped at");
    add((accumulate > 1).then_some(accumulate as f64), "batches to a step");
    add(train.ema, "weights averaged with decay");
    add(train.patience.map(|patience| patience as f64), "patience");
    if !train.decay_norms_and_biases {
        all.push("no weight decay on norms and biases".to_owned());
    }
    if !train.precision.is_default() {
        all.push(format!("activations in {}", train.precision));
    }
    match &train.class_weights {
        ClassWeights::Equal => {}
        ClassWeights::Balanced => all.push("classes balanced".to_owned()),
        ClassWeights::Given(weights) => all.push(format!("class weights {weights:?}")),
    }
    all
}

/// How much of the network is trained.
fn layers(session: &Session) -> String {
    let params = session.model.network.params();
    let count = |thawed: bool| {
        let entries = params.trainable().filter(|entry| !thawed || entry.thaw == 0);
        thousands(entries.map(|entry| entry.spec.len() as u64).sum())
    };
    let all = thousands(session.model.network.layers().parameter_count() as u64);
    let finetune = &session.config.train.finetune;
    let mut text = format!("{} of {all} parameters are trained", count(false));
    if finetune.unfreeze_every.is_some() {
        text.push_str(&format!(", {} of them from the beginning", count(true)));
    }
    [vec![text], finetune.in_words()].concat().join(", ")
}

/// The first few names, and how many more there are.
fn some(names: &[String]) -> String {
    const SHOWN: usize = 10;
    let shown = names[..names.len().min(SHOWN)].join(", ");
    match names.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown} and {more} more classes"),
    }
}

/// Trains to the end; `None` where it was stopped.
pub fn train_session(
    session: &Session,
    args: &RunArgs,
    voice: Voice,
) -> anyhow::Result<Option<(Summary, RunFolder)>> {
    let (train, val) = (session.train_loader()?, session.val_loader()?);
    let Ran { folder, lock: _lock, outcome } = if session.config.train.finetune.cache_features {
        let network = CachedFeatures::new(&session.model.network)?;
        train_network(&network, session, [&train, &val], args, voice)?
    } else {
        train_network(&session.model, session, [&train, &val], args, voice)?
    };
    let path = folder.path().display().to_string();
    let skipped = train.bad_files().len() + val.bad_files().len();
    if skipped > 0 {
        voice.say(&format!("left out {skipped} pictures that could not be read"));
    }
    let whole = |error: crate::Error| match folder.path().is_dir() {
        true => anyhow::Error::new(error).context(format!("{path} keeps its last whole state")),
        false => error.into(),
    };
    match outcome.map_err(whole)? {
        Outcome::Finished(summary) => {
            let summary = assess_run(session, &folder, *summary, voice)?;
            conclude(session, &summary, &path, voice);
            Ok(Some((summary, folder)))
        }
        Outcome::Stopped { epochs, batches } => {
            voice.say(&format!(
                "\nstopped after epoch {epochs} and {batches} steps; go on with --resume {path}"
            ));
            Ok(None)
        }
    }
}

/// Where a run is, and how it ended; the lock is held as long as there is something to write.
struct Ran {
    folder: RunFolder,
    lock: Arc<RunLock>,
    outcome: crate::Result<Outcome>,
}

/// Starts a run or goes on with one.
fn train_network<N: Trainable>(
    network: &N,
    session: &Session,
    [train, val]: [&Loader; 2],
    args: &RunArgs,
    voice: Voice,
) -> anyhow::Result<Ran> {
    let Session { device, config, .. } = session;
    let job = Job { network, train, val, device, config, stop: &STOP };
    let trainer = match &args.resume {
        Some(run) if args.allow_changed_data => Trainer::resume_with_changed_data(job, run)?,
        Some(run) => Trainer::resume(job, run)?,
        None => {
            let default = || RunFolder::default_path(&config.model.name, &config.data.name);
            Trainer::start(job, &args.out.clone().unwrap_or_else(default))?
        }
    };
    stop_on_ctrl_c()?;
    let (folder, lock) = (trainer.folder().clone(), trainer.lock());
    voice.say(&format!("run       {}\n", folder.path().display()));
    // A run that goes on keeps writing event files where it has begun to.
    let events = folder.file("tensorboard");
    let wanted = args.learn.tensorboard || (args.resume.is_some() && events.is_dir());
    let board = wanted.then(|| TensorBoard::new(&events)).transpose()?;
    let mut observers = (View::new(voice, config.train.ema.is_some()), board);
    let outcome = trainer.run(&mut observers);
    if let Some(error) = observers.1.and_then(|board| board.failure()) {
        voice.say(&format!("no more event files for TensorBoard: {error}"));
    }
    Ok(Ran { folder, lock, outcome })
}

/// The best weights in detail, on the validation pictures and on the test pictures, where there are
/// any: `evaluation.json`.
fn assess_run(
    session: &Session,
    folder: &RunFolder,
    summary: Summary,
    voice: Voice,
) -> anyhow::Result<Summary> {
    let mut parts = BTreeMap::new();
    let with = |weights: &str, loader: &Loader| -> crate::Result<Assessment> {
        weights::load(&folder.file(weights), &session.device)?.apply(&session.model.network)?;
        Ok(assess(&session.model, loader, &session.device, Views::One)?.1)
    };
    let val = session.val_loader()?;
    if session.config.train.ema.is_some() {
        parts.insert("ema_val".to_owned(), with("ema.safetensors", &val)?);
    }
    let found = with("best.safetensors", &val)?;
    let mut summary = summary;
    summary.val_images = found.images as usize;
    parts.insert("val".to_owned(), found);
    if let Some(loader) = session.test_loader()? {
        let test = with("best.safetensors", &loader)?;
        (summary.test_top1, summary.test_loss) = (Some(test.top1), Some(test.loss));
        summary.test_images = Some(test.images as usize);
        summary.skipped_test_images = test.left_out.len();
        if let Some(left_out) = scores::left_out(&test.left_out) {
            voice.say(&format!("\ntest part\n{left_out}"));
        }
        parts.insert("test".to_owned(), test);
    }
    folder.write_summary(&summary)?;
    let assessments = Assessments {
        weights: "best.safetensors".to_owned(),
        epoch: summary.best_epoch,
        classes: session.config.data.classes.clone(),
        data: session.config.data.origin.clone(),
        parts,
    };
    folder.write_evaluation(&assessments)?;
    if let Some(val) = assessments.parts.get("val") {
        voice.say(&format!("\n{}", scores::table_of(val, &assessments.classes)));
        if session.config.train.save_type != SaveType::F32 {
            voice.say("(with the weights as they are saved, in 16 bits; they were trained in 32)");
        }
    }
    Ok(summary)
}

fn conclude(session: &Session, summary: &Summary, path: &str, voice: Voice) {
    let of = match session.dataset.kind {
        DataKind::Drawn => "drawn pictures, not photographs".to_owned(),
        kind => kind.to_string(),
    };
    let percent = |share: f64| format!("{:.2} %", 100.0 * share);
    voice.say("");
    if let (Some(top1), Some(epoch)) = (summary.best_val_top1, summary.best_epoch) {
        let count = thousands(summary.val_images as u64);
        let share = percent(top1);
        voice.say(&format!("validation accuracy {share} (epoch {epoch}, {count} {of})"));
    }
    if let (Some(top1), Some(epoch)) = (summary.best_ema_top1, summary.best_ema_epoch) {
        let share = percent(top1);
        voice.say(&format!("with averaged weights {share} (epoch {epoch}, ema.safetensors)"));
    }
    if let (Some(top1), Some(count)) = (summary.test_top1, summary.test_images) {
        let count = thousands(count as u64);
        voice.say(&format!("test accuracy {} ({count} {of})", percent(top1)));
    }
    if summary.skipped_steps > 0 {
        voice.say(&format!("skipped {} steps that were not finite", summary.skipped_steps));
    }
    if let Some(scale) = summary.loss_scale {
        let (factor, left_out) = (scale.factor(), scale.left_out());
        voice.say(&format!("loss scaled by {factor} at the end; {left_out} steps left out by it"));
    }
    voice.say(&format!(
        "{:.1} images/s ({} of the time waiting for pictures), {} s in all; weights and metrics in \
         {path}",
        summary.train_images_per_s,
        percent(summary.data_wait),
        summary.seconds.round()
    ));
}

/// Ctrl-C and the like finish the step and save; asked twice, the last saved state will do.
fn stop_on_ctrl_c() -> anyhow::Result<()> {
    let first = || aside("\nfinishing this step and saving; Ctrl-C again leaves at once");
    signals::stop_when_asked(&STOP, first, signals::leave)
}
