//! `convzoo summary MODEL`

use anyhow::{Context, anyhow};
use clap::Args;
use serde::Serialize;

use super::args::StemName;
use super::{print_json, print_line, table, thousands};
use crate::models;
use crate::nn::{Shape, Step};

#[derive(Args)]
pub struct SummaryArgs {
    /// The network, as `convzoo list` names it
    model: String,
    /// Channels, height and width of the input, as in 3x224x224 [default: the paper's]
    #[arg(long, value_parser = parse_input)]
    input: Option<(usize, usize, usize)>,
    /// Outputs of the last layer [default: the paper's]
    #[arg(long)]
    classes: Option<usize>,
    /// How a ResNet begins
    #[arg(long, value_enum)]
    stem: Option<StemName>,
    /// Show layers down to this depth only; 1 is the outermost
    #[arg(long)]
    depth: Option<usize>,
    /// Print JSON, with `params` and `macs` at its top level
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report {
    model: String,
    input: String,
    params: usize,
    params_with_auxiliary_heads: usize,
    macs: u64,
    layers: Vec<Row>,
}

#[derive(Serialize)]
struct Row {
    name: String,
    kind: &'static str,
    output: String,
    params: usize,
    macs: u64,
}

impl Row {
    /// One layer, or a container with all that lies in it.
    fn of(step: &Step, all: &[Step]) -> Self {
        let below = |other: &&Step| {
            let rest = other.path.strip_prefix(&step.path);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        let inside = || all.iter().filter(below);
        Row {
            name: step.path.clone(),
            kind: step.layer.kind(),
            output: step.output.to_string(),
            params: inside().map(Step::params).sum(),
            macs: inside().map(Step::macs).sum(),
        }
    }
}

pub fn summary(args: SummaryArgs) -> anyhow::Result<()> {
    let architecture = models::find(&args.model)?;
    let mut config = architecture.config();
    config.input = args.input.unwrap_or(config.input);
    config.stem = args.stem.map(Into::into).unwrap_or_default();
    config.classes = args.classes.unwrap_or(config.classes);
    let layers = architecture.layers(&config)?;
    let (c, h, w) = config.input;
    let trace = layers.trace(Shape::Map(c, h, w))?;
    let deepest = args.depth.unwrap_or(usize::MAX);
    let shown = trace.steps.iter().filter(|step| {
        let container = !step.layer.children().is_empty();
        // At the chosen depth a container stands for what is in it; above it, its layers do.
        step.depth > 0 && step.depth <= deepest && (!container || step.depth == deepest)
    });
    // A residual block's body, or a group without a name, has its parent's path and comes before it.
    let mut shown: Vec<_> = shown.collect();
    shown.reverse();
    shown.dedup_by(|inner, outer| inner.path == outer.path);
    shown.reverse();
    let report = Report {
        model: args.model,
        input: format!("{c}x{h}x{w}"),
        params: models::inference_parameters(&layers),
        params_with_auxiliary_heads: layers.parameter_count(),
        macs: trace.macs(),
        layers: shown.iter().map(|step| Row::of(step, &trace.steps)).collect(),
    };
    if args.json { print_json(&report) } else { print_line(&text(&report)) }
}

fn text(report: &Report) -> String {
    let row = |row: &Row| {
        let number = |n: u64| if n == 0 { String::new() } else { thousands(n) };
        vec![
            row.name.clone(),
            row.kind.to_owned(),
            row.output.clone(),
            number(row.params as u64),
            number(row.macs),
        ]
    };
    let rows: Vec<_> = report.layers.iter().map(row).collect();
    let header = ["layer", "kind", "output", "parameters", "multiply-adds"];
    let mut text = table(&header, &rows);
    let total = format!(
        "\n\n{} on {}: {} parameters, {} multiply-adds a picture",
        report.model,
        report.input,
        thousands(report.params as u64),
        thousands(report.macs)
    );
    text.push_str(&total);
    if report.params_with_auxiliary_heads != report.params {
        let all = thousands(report.params_with_auxiliary_heads as u64);
        text.push_str(&format!(" ({all} parameters with the auxiliary heads, trained only)"));
    }
    text
}

/// `3x224x224`, or `3,224,224`.
fn parse_input(text: &str) -> anyhow::Result<(usize, usize, usize)> {
    let numbers = text
        .split(['x', ','])
        .map(|part| part.trim().parse::<usize>().with_context(|| format!("{part:?} is no number")))
        .collect::<anyhow::Result<Vec<_>>>()?;
    match numbers[..] {
        [c, h, w] if c > 0 && h > 0 && w > 0 => Ok((c, h, w)),
        _ => Err(anyhow!("an input is CHANNELSxHEIGHTxWIDTH, as in 3x224x224")),
    }
}
