//! `convzoo train MODEL`, and every example.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, bail};
use clap::Args;

use super::args::RunArgs;
use super::progress::{View, Voice};
use super::session::Session;
use super::terminal::aside;
use super::{config_file, learn, print_json, scores, signals, thousands};
use crate::data::{DataKind, Loader};
use crate::digits::counted;
use crate::train::{
    Assessment, Assessments, CachedFeatures, ClassWeights, GradientRule, Job, Outcome, RunFolder,
    RunLock, Summary, TensorBoard, TrainConfig, Trainable, Trainer, Views, assess,
};
use crate::weights::{self, SaveType, WeightSource};

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
pub fn run(model: &str, mut args: RunArgs) -> anyhow::Result<ExitCode> {
    let voice = Voice::new(args.json);
    if args.eval && args.weights.is_none() {
        bail!("--eval measures a weight file: say which with --weights FILE");
    }
    if !args.eval && (args.learn.tta.is_some() || !args.learn.top_k.is_empty()) {
        bail!("--tta and --top-k go with eval, or --eval: they are ways to measure");
    }
    if args.learn.top_k.contains(&0) {
        bail!("--top-k: got 0; at least 1");
    }
    if args.resume.is_some() && (args.out.is_some() || args.weights.is_some()) {
        bail!("--resume goes on with a run as it is; --out and --weights begin a new one");
    }
    if args.eval && args.config.is_none() && args.dataset.is_none() {
        args.config = config_beside(&args, model)?;
    }
    let session = Session::new(model, &args, voice)?;
    announce(&session, args.eval, voice);
    if args.eval {
        return measure(&session, &args, voice);
    }
    match train_session(&session, &args, voice)? {
        Some(summary) if args.json => print_json(&summary)?,
        Some(_) => {}
        None => return Ok(signals::exit_code()),
    }
    Ok(ExitCode::SUCCESS)
}

/// The settings of the run whose weights are measured, where they lie in its folder: they say on which
/// pictures, split by which seed.
fn config_beside(args: &RunArgs, model: &str) -> crate::Result<Option<PathBuf>> {
    let Some(WeightSource::File(path)) =
        args.weights.as_deref().map(WeightSource::parse).transpose()?
    else {
        return Ok(None);
    };
    let folder = path.parent().map(RunFolder::open).and_then(Result::ok);
    let same = |folder: &RunFolder| folder.config().is_ok_and(|run| run.model.name == model);
    Ok(folder.filter(same).map(|folder| folder.file("config.json")))
}

/// What is about to be done, in a few lines.
fn announce(session: &Session, only_measured: bool, voice: Voice) {
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
    if only_measured {
        voice.say(&format!("pictures  {}", data.eval_pipeline));
        return;
    }
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
) -> anyhow::Result<Option<Summary>> {
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
            Ok(Some(summary))
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
    parts.insert("val".to_owned(), with("best.safetensors", &val)?);
    let mut summary = summary;
    if let Some(loader) = session.test_loader()? {
        let test = with("best.safetensors", &loader)?;
        (summary.test_top1, summary.test_loss) = (Some(test.top1), Some(test.loss));
        folder.write_summary(&summary)?;
        parts.insert("test".to_owned(), test);
    }
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
    if let (Some(top1), Some(source)) = (summary.test_top1, &session.dataset.test) {
        let count = thousands(source.len() as u64);
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

/// `--eval`: validation pictures, and test pictures where there are any.
fn measure(session: &Session, args: &RunArgs, voice: Voice) -> anyhow::Result<ExitCode> {
    let mut results = serde_json::Map::new();
    results.insert("model".to_owned(), session.config.model.name.clone().into());
    results.insert("dataset".to_owned(), session.config.data.name.clone().into());
    results.insert("data_kind".to_owned(), session.config.data.kind.to_string().into());
    results.insert("classes".to_owned(), session.config.data.classes.clone().into());
    let loaders = [("val", Some(session.val_loader()?)), ("test", session.test_loader()?)];
    for (part, loader) in loaders.into_iter().filter_map(|(part, l)| Some((part, l?))) {
        let views = learn::views(args.learn.tta);
        let (result, detail) = assess(&session.model, &loader, &session.device, views)?;
        let kind = session.config.data.kind;
        let rate = result.images_per_s();
        voice.say(&format!("{part:<9} {} ({kind}), {rate:.1} images/s", scores::line_of(&detail)));
        for &k in &args.learn.top_k {
            voice.say(&format!("{part:<9} top-{k} {:.2} %", 100.0 * detail.top_k(k)));
        }
        voice.say(&format!("\n{}\n", scores::table_of(&detail, &session.config.data.classes)));
        let mut values = serde_json::to_value(result)?;
        if let (Some(all), Some(more)) =
            (values.as_object_mut(), scores::json_of(&detail, &args.learn.top_k)?)
        {
            all.extend(more);
        }
        results.insert(part.to_owned(), values);
    }
    if args.json {
        print_json(&results)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Ctrl-C and the like finish the step and save; asked twice, the last saved state will do.
fn stop_on_ctrl_c() -> anyhow::Result<()> {
    let first = || aside("\nfinishing this step and saving; Ctrl-C again leaves at once");
    signals::stop_when_asked(&STOP, first, signals::leave)
}
