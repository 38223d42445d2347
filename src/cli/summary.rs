//! `convzoo summary MODEL`

use anyhow::{Context, anyhow};
use clap::Args;
use serde::Serialize;

use super::args::StemName;
use super::{print_json, print_line, table, thousands};
use crate::inspect::{FieldSize as Seen, Memory, Row, Summary};
use crate::models;
use crate::nn::{Layer, Shape};

/// Show a network layer by layer: shapes, parameters, multiply-adds.
///
/// Memory is that of the maps a layer makes for one picture, in f32; activations, dropout, sums and
/// joins work in place. Field, stride and offset say which input pixels one of its units sees: how
/// many along a side, how far apart those of neighbouring units are, and where the first unit's have
/// their centre. Where units see everything, or parts that differ, there is nothing.
#[derive(Args)]
pub struct SummaryArgs {
    /// The network, as `convzoo list` names it
    model: String,
    /// Channels, height and width of the input, as in 3x224x224 [default: the paper's]
    #[arg(long, value_parser = parse_input)]
    input: Option<(usize, usize, usize)>,
    /// Outputs of the last layer [default: the paper's]
    #[arg(long, value_parser = parse_classes)]
    classes: Option<usize>,
    /// How a ResNet begins
    #[arg(long, value_enum)]
    stem: Option<StemName>,
    /// Show layers down to this depth only; 1 is the outermost
    #[arg(long, value_name = "N")]
    depth: Option<usize>,
    /// Pictures in a batch, for the memory that evaluation and training take
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    batch: u16,
    /// Print JSON, with `params` and `macs` at its top level
    #[arg(long)]
    json: bool,
}

/// The library's summary, with the network's name.
#[derive(Serialize)]
struct Report {
    model: String,
    #[serde(flatten)]
    summary: Summary,
}

pub fn summary(args: SummaryArgs) -> anyhow::Result<()> {
    let (layers, input) = tree(&args.model, args.input, args.classes, args.stem)?;
    let depth = args.depth.unwrap_or(usize::MAX);
    let summary = Summary::new(&layers, input, depth, args.batch.into())?;
    let report = Report { model: args.model, summary };
    if args.json { print_json(&report) } else { print_line(&text(&report)) }
}

/// A network's tree and its input, as flags change them.
pub(super) fn tree(
    model: &str,
    input: Option<(usize, usize, usize)>,
    classes: Option<usize>,
    stem: Option<StemName>,
) -> crate::Result<(Layer, Shape)> {
    let architecture = models::find(model)?;
    let mut config = architecture.config();
    config.input = input.unwrap_or(config.input);
    config.stem = stem.map(Into::into).unwrap_or_default();
    config.classes = classes.unwrap_or(config.classes);
    let (c, h, w) = config.input;
    Ok((architecture.layers(&config)?, Shape::Map(c, h, w)))
}

fn text(report: &Report) -> String {
    let summary = &report.summary;
    let rows: Vec<_> = summary.layers.iter().map(cells).collect();
    let header = [
        "layer",
        "kind",
        "output",
        "parameters",
        "multiply-adds",
        "memory",
        "field",
        "stride",
        "offset",
    ];
    let mut text = table(&header, &rows);
    let total = format!(
        "\n\n{} on {}: {} parameters, {} multiply-adds a picture",
        report.model,
        summary.input,
        thousands(summary.params as u64),
        thousands(summary.macs)
    );
    text.push_str(&total);
    if summary.params_with_auxiliary_heads != summary.params {
        let all = thousands(summary.params_with_auxiliary_heads as u64);
        text.push_str(&format!(" ({all} parameters with the auxiliary heads, trained only)"));
    }
    text.push_str(&memory(&summary.memory));
    text
}

fn cells(row: &Row) -> Vec<String> {
    let number = |n: u64| if n == 0 { String::new() } else { thousands(n) };
    let pair = |(rows, cols): (String, String)| match rows == cols {
        true => rows,
        false => format!("{rows}x{cols}"),
    };
    let field = |part: fn(&Seen) -> (String, String)| {
        row.receptive_field.as_ref().map(part).map_or(String::new(), pair)
    };
    vec![
        row.name.clone(),
        row.kind.to_owned(),
        row.output.clone(),
        number(row.params as u64),
        number(row.macs),
        if row.activation_bytes == 0 { String::new() } else { size(row.activation_bytes) },
        field(|seen| (seen.size.0.to_string(), seen.size.1.to_string())),
        field(|seen| (seen.stride.0.to_string(), seen.stride.1.to_string())),
        field(|seen| (seen.offset.0.to_string(), seen.offset.1.to_string())),
    ]
}

/// What the memory is made of, in lines.
fn memory(memory: &Memory) -> String {
    let batch = match memory.batch {
        1 => "one picture".to_owned(),
        n => format!("a batch of {n}"),
    };
    let line =
        |name: &str, bytes: u64, what: &str| format!("\n  {name:<11} {:>9}  {what}", size(bytes));
    let mut text = "\nmemory in f32:".to_owned();
    text += &line("weights", memory.weights, "the parameters");
    text += &line("maps", memory.activations, "one picture's input and all maps made of it, kept");
    let what = format!("{batch}: the weights, and what maps must be there at once");
    text += &line("evaluation", memory.forward, &what);
    let what = format!("{batch}: weights, gradients and momentum; all maps and their gradients");
    text + &line("training", memory.training, &what)
}

/// Bytes, in kB or MB of 1000.
fn size(bytes: u64) -> String {
    match bytes {
        0..1_000 => format!("{bytes} B"),
        1_000..1_000_000 => format!("{:.1} kB", bytes as f64 / 1e3),
        _ => format!("{:.1} MB", bytes as f64 / 1e6),
    }
}

/// From 1 to a million.
pub(super) fn parse_classes(text: &str) -> anyhow::Result<usize> {
    match text.parse() {
        Ok(classes) if (1..=1_000_000).contains(&classes) => Ok(classes),
        _ => Err(anyhow!("a network has from 1 to 1000000 classes")),
    }
}

/// Most channels of an input, and most pixels along a side of it: as many as a JPEG can have. What is
/// counted of larger ones would not fit into numbers of 64 bits.
const MOST_CHANNELS: usize = 4096;
const MOST_PIXELS: usize = 65_536;

/// `3x224x224`, or `3,224,224`; the x may be large.
pub(super) fn parse_input(text: &str) -> anyhow::Result<(usize, usize, usize)> {
    let numbers = text
        .split(['x', 'X', ','])
        .map(|part| {
            part.trim().parse::<usize>().with_context(|| format!("{part:?} is not a number"))
        })
        .collect::<anyhow::Result<Vec<_>>>()?;
    match numbers[..] {
        [c, h, w] if c > MOST_CHANNELS || h.max(w) > MOST_PIXELS => Err(anyhow!(
            "an input has at most {MOST_CHANNELS} channels, and {MOST_PIXELS} pixels along a side"
        )),
        [c, h, w] if c > 0 && h > 0 && w > 0 => Ok((c, h, w)),
        _ => Err(anyhow!("an input is CHANNELSxHEIGHTxWIDTH, as in 3x224x224")),
    }
}
