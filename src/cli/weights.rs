//! `convzoo weights inspect FILE`, `convert IN OUT`, `add RUN`, `check DIR`

use std::path::{Path, PathBuf};

use candle_core::{DType, Device};
use clap::{Args, Subcommand, ValueEnum};
use serde::Serialize;

use super::terminal::aside;
use super::{print_json, print_line, table, thousands};
use crate::weights::{self, Fit, Format, Manifest, ManifestEntry, Metadata, WeightFile};

#[derive(Args)]
pub struct WeightsArgs {
    #[command(subcommand)]
    command: WeightsCommand,
}

#[derive(Subcommand)]
enum WeightsCommand {
    /// Show a file's tensors, what it says about itself, and which networks it fits
    Inspect(InspectArgs),
    /// Turn any file that can be read into safetensors with torchvision's names
    Convert(ConvertArgs),
    /// Put a run's best weights into a folder with a manifest, with what they get right
    Add(super::weights_add::AddArgs),
    /// Hold a folder of weights against its manifest
    Check(CheckArgs),
}

#[derive(Args)]
struct InspectArgs {
    /// A safetensors or PyTorch file; FILE#KEY looks at what a checkpoint keeps under that key
    file: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct ConvertArgs {
    /// A safetensors or PyTorch file; FILE#KEY takes what a checkpoint keeps under that key, FILE#ema
    /// an average
    input: PathBuf,
    /// The safetensors file to write
    output: PathBuf,
    /// Type of the weights in it; a batch norm's statistics keep theirs [default: as they are]
    #[arg(long, value_enum)]
    dtype: Option<WeightType>,
}

#[derive(Args)]
struct CheckArgs {
    /// The folder
    #[arg(default_value = "weights")]
    folder: PathBuf,
}

/// `--dtype`
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum WeightType {
    /// 16 bits, as IEEE 754 has them
    F16,
    /// 16 bits, with the exponents of f32
    Bf16,
    /// 32 bits
    F32,
}

impl From<WeightType> for DType {
    fn from(of: WeightType) -> DType {
        match of {
            WeightType::F16 => DType::F16,
            WeightType::Bf16 => DType::BF16,
            WeightType::F32 => DType::F32,
        }
    }
}

pub fn weights(args: WeightsArgs) -> anyhow::Result<()> {
    match args.command {
        WeightsCommand::Inspect(args) => inspect(&args),
        WeightsCommand::Convert(args) => convert(&args),
        WeightsCommand::Add(args) => super::weights_add::add(&args),
        WeightsCommand::Check(args) => check(&args.folder),
    }
}

/// How many tensors that are not finite are named.
const SHOWN: usize = 8;

#[derive(Serialize)]
struct Report {
    file: PathBuf,
    format: Format,
    fits: Vec<&'static str>,
    classes: Option<usize>,
    values: usize,
    metadata: Option<Metadata>,
    notes: std::collections::BTreeMap<String, String>,
    remarks: Vec<String>,
    not_finite: Vec<String>,
    problem: Option<String>,
    tensors: Vec<Row>,
}

#[derive(Serialize)]
struct Row {
    name: String,
    #[serde(rename = "type")]
    kind: &'static str,
    shape: Vec<usize>,
}

fn inspect(args: &InspectArgs) -> anyhow::Result<()> {
    let report = report(weights::load(&args.file, &Device::Cpu)?)?;
    if args.json { print_json(&report) } else { print_line(&text(&report)) }
}

/// What is to be known about weights before a number that comes of them: on standard error.
pub fn say_remarks(file: &WeightFile) {
    let path = file.path.display();
    file.remarks.iter().for_each(|remark| aside(&format!("weights: {path}: {remark}")));
}

fn report(mut file: WeightFile) -> anyhow::Result<Report> {
    let fits = file.fits()?;
    if let [fit, ..] = &fits[..] {
        file.remarks.extend(file.left_over(fit)?);
    }
    let not_finite = file.not_finite()?.into_iter().map(str::to_owned).collect();
    let row = |(name, tensor): (&String, &candle_core::Tensor)| Row {
        name: name.clone(),
        kind: tensor.dtype().as_str(),
        shape: tensor.dims().to_vec(),
    };
    Ok(Report {
        format: file.format,
        classes: fits.first().map(|fit| fit.config.classes),
        fits: fits.iter().map(|fit: &Fit| fit.architecture.name).collect(),
        values: file.tensors.values().map(|tensor| tensor.elem_count()).sum(),
        tensors: file.tensors.iter().map(row).collect(),
        problem: file.problem(),
        remarks: file.remarks,
        not_finite,
        file: file.path,
        metadata: file.metadata,
        notes: file.notes,
    })
}

fn text(report: &Report) -> String {
    let row = |row: &Row| vec![row.name.clone(), row.kind.to_owned(), format!("{:?}", row.shape)];
    let rows: Vec<_> = report.tensors.iter().map(row).collect();
    let mut lines = vec![table(&["tensor", "type", "shape"], &rows), String::new()];
    let (tensors, values) = (report.tensors.len(), thousands(report.values as u64));
    let format = match report.format {
        Format::Safetensors => "safetensors",
        Format::PytorchZip => "PyTorch",
        Format::PytorchLegacy => "PyTorch, its old format",
    };
    lines.push(format!("{format}: {tensors} tensors, {values} values"));
    if let Some(metadata) = &report.metadata {
        let Metadata { architecture, classes, dataset, data_kind, val_top1, .. } = metadata;
        let top1 = val_top1.map_or(String::new(), |top1| format!(", top-1 {:.2} %", 100.0 * top1));
        let classes = classes.len();
        lines.push(format!(
            "says: {architecture} with {classes} classes, trained on {dataset} ({data_kind}){top1}"
        ));
    }
    lines.extend(report.notes.iter().map(|(key, value)| format!("says: {key} {value}")));
    lines.extend(report.remarks.iter().map(|remark| format!("note: {remark}")));
    lines.push(match report.classes {
        Some(classes) => format!("fits: {} with {classes} classes", report.fits.join(", ")),
        None => "fits: no network here".to_owned(),
    });
    if !report.not_finite.is_empty() {
        let names = report.not_finite.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ");
        let (count, more) = (report.not_finite.len(), report.not_finite.len() > SHOWN);
        let more = if more { ", ..." } else { "" };
        lines.push(format!(
            "PROBLEM: {count} tensors are not finite (NaN or infinite): {names}{more}"
        ));
    }
    lines.extend(report.problem.iter().map(|problem| format!("PROBLEM: {problem}")));
    lines.join("\n")
}

fn convert(args: &ConvertArgs) -> anyhow::Result<()> {
    let file = weights::load(&args.input, &Device::Cpu)?;
    say_remarks(&file);
    let tensors = file.write_as(&args.output, args.dtype.map(DType::from))?;
    print_line(&format!("{}: {tensors} tensors", args.output.display()))
}

fn check(folder: &Path) -> anyhow::Result<()> {
    let manifest = Manifest::open(folder)?;
    manifest.check(folder)?;
    for entry in &manifest.files {
        let ManifestEntry { file, architecture, dataset, data_kind, val, .. } = entry;
        let (top1, images) = (100.0 * val.top1, thousands(val.images));
        print_line(&format!(
            "{file}: {architecture}, {top1:.2} % of {images} {data_kind} of {dataset}; as listed"
        ))?;
    }
    print_line(&format!("{}: {} files", folder.display(), manifest.files.len()))
}
