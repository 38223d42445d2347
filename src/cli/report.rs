//! `convzoo report RUN...`

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use anyhow::bail;
use clap::Args;
use serde_json::{Value, json};

use super::matching::run_folders;
use super::progress::Voice;
use super::{print_json, table};
use crate::digits::counted;
use crate::files;
use crate::report::{Group, Record, Report, Row, Sample, columns};
use crate::train::RunFolder;

#[derive(Args)]
pub struct ReportArgs {
    /// Run folders, or folders of runs
    #[arg(required = true, value_name = "RUN")]
    runs: Vec<PathBuf>,
    /// The page [default: report.html, in RUN if there is only one]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Write the table as CSV and every figure as SVG into this folder too
    #[arg(long, value_name = "DIR")]
    figures: Option<PathBuf>,
    #[command(flatten)]
    explained: Explained,
    /// Print the table as JSON
    #[arg(long)]
    json: bool,
}

/// Pictures to explain the networks by.
#[derive(Args, Clone, Debug)]
pub struct Explained {
    /// Pictures that every network is shown, with Grad-CAM over them [default for compare: four of
    /// the validation pictures]
    #[arg(long, value_name = "A,B", value_delimiter = ',')]
    pictures: Vec<PathBuf>,
}

impl Explained {
    /// A report of these runs; without pictures of its own, `others` are shown.
    pub fn report(&self, folders: &[PathBuf], others: &[Sample]) -> anyhow::Result<Report> {
        let mut report = Report::read(folders)?;
        let own = self.pictures.iter().map(|path| Sample::read(path));
        let own = own.collect::<crate::Result<Vec<_>>>()?;
        report.explain(if own.is_empty() { others } else { &own })?;
        Ok(report)
    }
}

/// Reads runs, and puts them side by side. Where some cannot be read, it fails once all others are shown.
pub fn report(args: ReportArgs) -> anyhow::Result<()> {
    let voice = Voice::new(args.json);
    let mut folders = Vec::new();
    for run in &args.runs {
        if RunFolder::open(run).is_ok() {
            folders.push(run.clone());
            continue;
        }
        if run.is_file() {
            bail!(
                "{}: a file; a run is a folder (and pictures go as --pictures A,B)",
                run.display()
            );
        }
        let inside = run_folders(run)?;
        if inside.is_empty() {
            bail!("{}: holds no run, and no folders of runs", run.display());
        }
        folders.extend(inside);
    }
    drop_doubles(&mut folders);
    let report = args.explained.report(&folders, &[])?;
    let page = args.output.unwrap_or_else(|| match &args.runs[..] {
        [run] => run.join("report.html"),
        _ => PathBuf::from("report.html"),
    });
    files::write_bytes(&page, report.html()?.as_bytes())?;
    if let Some(folder) = &args.figures {
        std::fs::create_dir_all(folder).map_err(|error| crate::Error::file(folder, error))?;
        report.write(folder)?;
    }
    show(&report, &page, args.json, voice)?;
    complete(&report)
}

/// Fails where runs were left out.
pub fn complete(report: &Report) -> anyhow::Result<()> {
    match report.lacks() {
        Some(lacks) => bail!("{lacks}"),
        None => Ok(()),
    }
}

/// A folder that is given twice, by itself and by the one that holds it, is one run.
fn drop_doubles(folders: &mut Vec<PathBuf>) {
    let mut seen = HashSet::new();
    folders.retain(|folder| seen.insert(folder.canonicalize().unwrap_or_else(|_| folder.clone())));
}

/// The tables, and where the page is.
pub fn show(report: &Report, page: &Path, json: bool, voice: Voice) -> anyhow::Result<()> {
    if json {
        let groups: Vec<Value> = report.groups.iter().map(data).collect();
        let left_out = report.left_out.iter();
        let left_out = left_out.map(|run| json!({ "folder": run.folder, "cause": run.cause }));
        let left_out: Vec<Value> = left_out.collect();
        return print_json(&json!({ "groups": groups, "left_out": left_out, "report": page }));
    }
    for group in &report.groups {
        voice.say(&text(group));
        if let Some(caution) = group.caution() {
            voice.say(&format!("\n{caution}"));
        }
    }
    if let Some(lacks) = report.lacks() {
        voice.say(&format!("\n{lacks}"));
    }
    voice.say(&format!("\nreport    {}", page.display()));
    Ok(())
}

/// The table of a group, aligned.
fn text(group: &Group) -> String {
    let columns = columns(group);
    let header: Vec<&str> = columns.iter().map(|column| column.title).collect();
    let row = |row: &Row| columns.iter().map(|column| column.cell(row).text).collect();
    let rows: Vec<Vec<String>> = group.rows.iter().map(row).collect();
    let config = group.rows[0].config();
    let machine = config.machine.as_ref().map_or(String::new(), |machine| format!("; {machine}"));
    format!(
        "\n{} ({}): {} pictures to train on, {} to validate; {}{machine}\n\n{}",
        group.dataset,
        group.kind,
        config.data.train_images,
        config.data.val_images,
        counted(config.threads, "thread"),
        table(&header, &rows)
    )
}

/// A group as data: means in plain units, and every run.
fn data(group: &Group) -> Value {
    let row = |row: &Row| {
        let config = row.config();
        json!({
            "name": row.label,
            "model": config.model.name,
            "image_size": config.train.image_size,
            "params": config.model.params,
            "macs": config.model.macs,
            "file_bytes": row.first().file_bytes,
            "val_top1": row.spread(Record::val_top1),
            "test_top1": row.spread(Record::test_top1),
            "train_images_per_s": row.spread(Record::images_per_s),
            "seconds": row.spread(|run| Some(run.seconds())),
            "peak_memory_mib": row.spread(Record::peak_memory_mib),
            "runs": row.runs.iter().map(run_data).collect::<Vec<_>>(),
        })
    };
    json!({
        "dataset": group.dataset,
        "data_kind": group.kind.to_string(),
        "caution": group.caution(),
        "rows": group.rows.iter().map(row).collect::<Vec<_>>(),
    })
}

fn run_data(run: &Record) -> Value {
    json!({
        "folder": run.folder,
        "seed": run.config.train.seed,
        "finished": run.is_finished(),
        "epochs": run.epochs.len(),
        "best_epoch": run.best_epoch(),
        "val_top1": run.val_top1(),
        "test_top1": run.test_top1(),
        "machine": run.config.machine,
        "threads": run.config.threads,
        "started": run.config.started,
    })
}
