//! `convzoo lr-find MODEL`

use std::path::PathBuf;

use anyhow::Context;
use clap::Args;

use super::args::RunArgs;
use super::curve::{Curve, Mark};
use super::progress::{Voice, bar};
use super::session::Session;
use super::{config_file, print_json, table};
use crate::files;
use crate::train::{Range, RangeTest};

/// Find a learning rate: train some steps with a rate that grows, and look at the loss.
///
/// Where the loss falls fastest is a rate to begin with, where it rises one too many (Smith, 2015).
/// Every flag of `train` may be given; the rate, the schedule and the number of epochs are of no
/// effect.
#[derive(Args)]
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

pub fn lr_find(args: LrFindArgs) -> anyhow::Result<()> {
    let model = match args.model.clone().or(args.named.clone()) {
        Some(model) => model,
        None => {
            let of_file = config_file::repeated(&args.run)?.map(|run| run.model.name);
            of_file.context("say which network to train, as `convzoo list` names it")?
        }
    };
    if args.run.resume.is_some() || args.run.out.is_some() || args.run.eval {
        anyhow::bail!("lr-find leaves no run: --resume, --out and --eval do not go with it");
    }
    let voice = Voice::new(args.run.json);
    let session = Session::new(&model, &args.run, voice)?;
    let test = RangeTest { from: args.from, to: args.to, steps: args.steps };
    let bar = bar(args.steps, "steps");
    let (loader, config) = (session.train_loader()?, &session.config);
    let found = test.run(&session.model, &loader, &session.device, &config.train, &mut |point| {
        if let Some(bar) = &bar {
            bar.set_message(format!("rate {:.2e}  loss {:.4}", point.lr, point.smooth));
            bar.inc(1);
        }
    });
    if let Some(bar) = bar {
        bar.finish_and_clear();
    }
    let found = found?;
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
    let line = |p: &crate::train::RangePoint| format!("{},{:.6},{:.6}\n", p.lr, p.loss, p.smooth);
    "lr,loss,smooth\n".to_owned() + &found.points.iter().map(line).collect::<String>()
}

/// Some twenty of the steps, and what follows from all of them.
fn text(found: &Range, args: &LrFindArgs) -> String {
    let every = found.points.len().div_ceil(20).max(1);
    let row = |(step, point): (usize, &crate::train::RangePoint)| {
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
