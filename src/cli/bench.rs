//! `convzoo bench`

use std::process::Command;

use anyhow::bail;
use clap::{Args, ValueEnum};

use super::session::use_threads;
use super::terminal::{aside, is_watched};
use super::{print_line, table};
use crate::bench::{self, Case, Row, Settings, Sides};

#[derive(Args)]
pub struct BenchArgs {
    /// What to measure
    #[arg(value_enum)]
    what: What,
    /// Print a line of JSON for each result
    #[arg(long)]
    json: bool,
    /// Threads that compute [default: one a core]; candle's own ops take theirs from
    /// RAYON_NUM_THREADS
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// Measure these cases only, as in resnet18,vgg16
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    only: Vec<String>,
    /// Measure these sections only: conv, ops; infer, train, scaling, rss (peak memory);
    /// machine
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    section: Vec<String>,
    /// Seconds of timed calls for a layer; networks get twice that
    #[arg(long, value_name = "SECONDS", default_value_t = 0.3)]
    target: f64,
    /// Measure candle's built-in convolution and pooling too, where they can do the case
    #[arg(long)]
    candle: bool,
    /// Measure candle's built-in ops alone, and as they come: the C library is not told to keep freed
    /// memory, as it is for all other measurements of layers
    #[arg(long, conflicts_with = "candle")]
    candle_as_it_comes: bool,
    /// List the cases, section and name, instead of measuring them
    #[arg(long)]
    list: bool,
    /// Train this network in this process and print its memory
    #[arg(long, value_name = "NAME", hide = true)]
    rss_child: Option<String>,
}

impl BenchArgs {
    fn sides(&self) -> Sides {
        match (self.candle, self.candle_as_it_comes) {
            (_, true) => Sides::Candle,
            (true, false) => Sides::Both,
            (false, false) => Sides::Ours,
        }
    }
}

/// What to measure.
#[derive(Clone, Copy, ValueEnum)]
enum What {
    /// Convolution layers, pooling, normalisation and the like, one by one
    Ops,
    /// Whole networks: inference, steps of training, peak memory
    Models,
    /// The machine: products of matrices, memory bandwidth
    Machine,
}

pub fn bench(args: BenchArgs) -> anyhow::Result<()> {
    if !args.target.is_finite() || args.target < 0.0 {
        bail!("--target: got {}; it must be 0 or more seconds", args.target);
    }
    use_threads(args.threads)?;
    if let Some(name) = &args.rss_child {
        return print_line(&serde_json::to_string(&bench::measure_here(name)?)?);
    }
    let what = match args.what {
        What::Ops => bench::What::Ops,
        What::Models => bench::What::Models,
        What::Machine => bench::What::Machine,
    };
    let cases = bench::select(what, &args.section, &args.only)?;
    if args.list {
        return cases
            .iter()
            .try_for_each(|case| print_line(&format!("{} {}", case.section, case.name)));
    }
    let sides = args.sides();
    let settings =
        Settings { target: args.target, sides, child: Some(child), ..Settings::default() };
    if matches!(args.what, What::Ops) && sides != Sides::Candle {
        crate::ops::keep_memory(); // the other side of a comparison is told the same
    }
    let mut rows = Vec::new();
    for case in &cases {
        say(case, args.json);
        let measured = case.run(&settings)?;
        if args.json {
            measured.iter().try_for_each(|row| print_line(&serde_json::to_string(row)?))?;
        }
        rows.extend(measured);
    }
    if args.json { Ok(()) } else { print_line(&text(&rows)) }
}

/// The command that measures the memory of a network's training in a fresh process.
fn child(name: &str, threads: usize) -> std::io::Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    let threads = threads.to_string();
    command.args(["bench", "models", "--rss-child", name, "--threads", &threads]);
    Ok(command)
}

/// Says at a terminal what is under way: a table comes only at the end.
fn say(case: &Case, json: bool) {
    if !json && is_watched() {
        aside(&format!("{} {} ...", case.section, case.name));
    }
}

fn text(rows: &[Row]) -> String {
    let header = [
        "section", "case", "op", "batch", "side", "threads", "by", "ms", "GFLOP/s", "images/s",
        "other",
    ];
    table(&header, &rows.iter().map(cells).collect::<Vec<_>>())
}

fn cells(row: &Row) -> Vec<String> {
    let number = |value: Option<f64>| value.map(significant).unwrap_or_default();
    vec![
        row.section.to_owned(),
        row.name.to_owned(),
        row.op.unwrap_or_default().to_owned(),
        row.batch.map(|batch| batch.to_string()).unwrap_or_default(),
        row.image.map(|[_, _, side]| side.to_string()).unwrap_or_default(),
        row.threads.to_string(),
        row.backend.to_owned(),
        number(row.timing.map(|timing| timing.median_s * 1e3)),
        number(row.rates.gflops),
        number(row.rates.images_per_s),
        other(row),
    ]
}

/// What has a unit of its own.
fn other(row: &Row) -> String {
    if let Some(reason) = &row.cannot {
        return format!("cannot: {reason}");
    }
    if let Some(memory) = &row.memory {
        return format!("peak +{:.0} MiB", memory.peak_minus_import_mib);
    }
    match (row.rates.ns_per_element, row.rates.gbytes_per_s) {
        (Some(ns), _) => format!("{} ns a value", significant(ns)),
        (_, Some(rate)) => format!("{} GB/s", significant(rate)),
        _ => String::new(),
    }
}

/// With about four digits.
fn significant(value: f64) -> String {
    let decimals = (3.0 - value.abs().max(1e-3).log10().floor()).clamp(0.0, 3.0);
    format!("{value:.*}", decimals as usize)
}
