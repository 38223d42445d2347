//! `convzoo lr-find MODEL`

use std::path::PathBuf;

use anyhow::Context;
use clap::Args;

use super::args::RunArgs;
use super::curve::{Curve, Mark};
use super::learn::LearnArgs;
use super::progress::{Voice, bar};
use super::session::Session;
use super::{config_file, meaning, print_json, table};
use crate::digits::counted;
use crate::files;
use crate::train::{CachedFeatures, Range, RangePoint, RangeTest};

/// Find a learning rate: train some steps with a rate that grows, and look at the loss.
///
/// Where the loss falls fastest is a rate to begin with, where it rises one too many (Smith, 2015).
/// The steps are those that `train` would make with the same flags: clipped and accumulated gradients,
/// class weights, smoothing, mixing, frozen layers and precision count. With --accumulate N a step takes
/// N batches. What only a whole run has (epochs, a schedule, averaged weights, a folder) is refused.
#[derive(Args)]
#[command(mut_args(|arg| meaning::hidden(arg, &NOT_HERE)))]
pub struct LrFindArgs {
    /// The network, as `convzoo list` names it [default: what --config says]
    model: Option<String>,
    /// The same; what a line `model = "NAME"` in a file of --config becomes
    #[arg(long = "model", value_name = "NAME", hide = true)]
    named: Option<String>,
    /// The rate of the first step
    #[arg(long, value_name = "RATE", default_value_t = RangeTest::default().from)]
    from: f64,
    /// The rate of the last step; the test ends before where the loss gets out of hand
    #[arg(long, value_name = "RATE", default_value_t = RangeTest::default().to)]
    to: f64,
    /// How many steps
    #[arg(long, value_name = "N", default_value_t = RangeTest::default().steps)]
    steps: usize,
    /// Where the curve goes, as a picture
    #[arg(long, value_name = "FILE", default_value = "lr-find.svg")]
    svg: PathBuf,
    /// Write the steps as CSV too
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,
    #[command(flatten)]
    run: RunArgs,
}

/// Flags of a run that have no effect on single steps at growing rates.
const NOT_HERE: [&str; 23] = [
    "allow-changed-data",
    "ema",
    "epochs",
    "eval",
    "head-lr",
    "lr",
    "min-lr",
    "on-nan",
    "out",
    "patience",
    "plateau-factor",
    "plateau-patience",
    "restart-every",
    "restart-growth",
    "resume",
    "save-dtype",
    "save-every",
    "schedule",
    "tensorboard",
    "top-k",
    "tta",
    "unfreeze-every",
    "warmup",
];

pub fn lr_find(args: LrFindArgs) -> anyhow::Result<()> {
    meaning::refuse(
        &NOT_HERE,
        "it makes single steps, all layers' rates growing together, and leaves no run",
    )?;
    let model = match args.model.clone().or(args.named.clone()) {
        Some(model) => model,
        None => {
            let of_file = config_file::repeated(&args.run)?.map(|run| run.model.name);
            of_file.context("say which network to train, as `convzoo list` names it")?
        }
    };
    let voice = Voice::new(args.run.json);
    let mut session = Session::new(&model, &of_steps(&args.run), voice)?;
    // All layers keep their shares of a rate that grows: none has one of its own.
    session.config.train.finetune.head_lr = None;
    session.config.train.finetune.apply(&mut session.model.network, BASE)?;
    let test = RangeTest { from: args.from, to: args.to, steps: args.steps };
    let bar = bar(args.steps, "steps");
    let (loader, config) = (session.train_loader()?, &session.config);
    let mut watch = |point: &RangePoint| {
        if let Some(bar) = &bar {
            bar.set_message(format!("rate {:.2e}  loss {:.4}", point.lr, point.smooth));
            bar.inc(1);
        }
    };
    let found = if config.train.finetune.cache_features {
        let network = CachedFeatures::new(&session.model.network)?;
        test.run(&network, &loader, &session.device, &config.train, &mut watch)
    } else {
        test.run(&session.model, &loader, &session.device, &config.train, &mut watch)
    };
    if let Some(bar) = bar {
        bar.finish_and_clear();
    }
    let found = found?;
    let bad = loader.bad_files();
    if !bad.is_empty() {
        let count = counted(bad.len(), "image");
        voice.say(&format!("left out {count} that could not be read: {}", first_names(&bad)));
    }
    let title = format!("{model} on {}: loss over learning rate", config.data.name);
    files::write_bytes(&args.svg, curve(&found, title).svg().as_bytes())?;
    if let Some(path) = &args.csv {
        files::write_bytes(path, csv(&found).as_bytes())?;
    }
    match args.run.json {
        true => print_json(&found)?,
        false => voice.say(&text(&found, &args)),
    }
    Ok(())
}

/// The flags as they act on single steps, whatever a file of --config says of epochs. What is found is
/// to be given as --lr, which is the rate of the last layer too.
fn of_steps(run: &RunArgs) -> RunArgs {
    let learn = LearnArgs { tta: None, top_k: Vec::new(), ..run.learn.clone() };
    RunArgs { lr: Some(BASE), eval: false, out: None, resume: None, learn, ..run.clone() }
}

/// A base rate: the test has its own.
const BASE: f64 = 1.0;

fn first_names(bad: &[(String, String)]) -> String {
    let names: Vec<&str> = bad.iter().take(3).map(|(name, _)| name.as_str()).collect();
    names.join(", ") + if bad.len() > names.len() { ", ..." } else { "" }
}

fn curve(found: &Range, title: String) -> Curve {
    let mark = |x: f64, name: &str| Mark { x, name: format!("{name} {x:.1e}") };
    Curve {
        title,
        x_name: "learning rate".to_owned(),
        y_name: "training loss".to_owned(),
        faint: found.points.iter().map(|point| (point.lr, point.loss)).collect(),
        line: found.points.iter().map(|point| (point.lr, point.smooth)).collect(),
        marks: vec![mark(found.suggestion, "suggested"), mark(found.highest, "highest")],
    }
}

fn csv(found: &Range) -> String {
    let line = |p: &RangePoint| format!("{},{:.6},{:.6}\n", p.lr, p.loss, p.smooth);
    "lr,loss,smooth\n".to_owned() + &found.points.iter().map(line).collect::<String>()
}

/// Some twenty of the steps, and what follows from all of them.
fn text(found: &Range, args: &LrFindArgs) -> String {
    let every = found.points.len().div_ceil(20).max(1);
    let row = |(step, point): (usize, &RangePoint)| {
        let cells = [step.to_string(), format!("{:.2e}", point.lr)];
        let losses = [point.loss, point.smooth].map(|loss| format!("{loss:.4}"));
        cells.into_iter().chain(losses).collect::<Vec<_>>()
    };
    let rows: Vec<_> = found.points.iter().enumerate().step_by(every).map(row).collect();
    let ended = match found.points.len() < args.steps {
        true => format!("; it got out of hand after {} steps", found.points.len()),
        false => String::new(),
    };
    format!(
        "{}\n\nthe loss falls fastest at {:.1e} and stays low up to {:.1e}{ended}\nsuggestion: --lr {:.1e} \
         (a tenth of that; for one-cycle up to {:.1e})\ncurve in {}",
        table(&["step", "rate", "loss", "average"], &rows),
        found.steepest,
        found.highest,
        found.suggestion,
        found.highest / 3.0,
        args.svg.display()
    )
}
