//! `convzoo data check`: every picture of a folder, read as training would.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};

use super::terminal::is_watched;
use super::{print_json, print_line, table, thousands};
use crate::data::{Duplicates, FolderReport, check_folder, dataset_in};

/// Lines that a list has at most; --json has all.
const SHOWN: usize = 50;

#[derive(Args)]
pub struct DataArgs {
    #[command(subcommand)]
    command: DataCommand,
}

#[derive(Subcommand)]
enum DataCommand {
    /// Read every picture of a folder as training would: counts, sizes, bad files, duplicates
    ///
    /// Exits with 1 where there is something to mend: a file that cannot be read, or the same picture in
    /// two parts or in two classes. The same picture twice within a class is listed, and is no fault.
    Check(CheckArgs),
}

#[derive(Args)]
struct CheckArgs {
    /// The folder, as train takes it with --data-dir
    dir: PathBuf,
    /// How it is laid out: folder or cats-dogs [default: what is there]
    #[arg(long, value_name = "NAME")]
    dataset: Option<String>,
    /// Threads that read [default: one a core]
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

pub fn data(args: DataArgs) -> anyhow::Result<ExitCode> {
    let DataCommand::Check(args) = args.command;
    super::session::use_threads(args.threads)?;
    let bar = bar();
    let found = || dataset_in(&args.dir, "folder").to_owned();
    let dataset = args.dataset.clone().unwrap_or_else(found);
    let report = check_folder(&args.dir, &dataset, &|done, files| {
        bar.set_length(files as u64);
        bar.set_position(done as u64);
    });
    bar.finish_and_clear();
    let report = report?;
    match args.json {
        true => print_json(&report)?,
        false => print_line(&text(&report))?,
    }
    Ok(if report.is_clean() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A bar where somebody is looking.
fn bar() -> ProgressBar {
    if !is_watched() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("[{bar:30}] {pos}/{len} pictures, {eta} left");
    let style = style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> ");
    ProgressBar::new(0).with_style(style)
}

fn text(report: &FolderReport) -> String {
    let header = ["part", "class", "files", "bad", "MB", "smallest", "median", "largest"];
    let size = |size: Option<(usize, usize)>| {
        size.map_or("-".to_owned(), |(width, height)| format!("{width}x{height}"))
    };
    let row = |class: &crate::data::ClassReport| {
        vec![
            class.part.to_owned(),
            class.class.clone(),
            thousands(class.files as u64),
            thousands(class.bad as u64),
            format!("{:.1}", class.bytes as f64 / 1e6),
            size(class.smallest),
            size(class.median),
            size(class.largest),
        ]
    };
    let mut text = table(&header, &report.classes.iter().map(row).collect::<Vec<_>>());
    report.notes.iter().for_each(|note| text.push_str(&format!("\n\n{note}")));
    let bad = report.bad_files.iter().map(|bad| format!("{}: {}", bad.file.display(), bad.reason));
    let bad = bad.collect();
    section(&mut text, "files that cannot be read", bad);
    let (wrong, same): (Vec<_>, Vec<_>) =
        report.duplicates.iter().partition(|same| same.across_parts || same.across_classes);
    section(&mut text, "same picture in two parts or classes", wrong.iter().map(group).collect());
    section(&mut text, "same picture twice in a class", same.iter().map(group).collect());
    let verdict = match report.is_clean() {
        true => format!("{} pictures, all can be read", thousands(report.files as u64)),
        false => format!(
            "{} files, {} cannot be read, {} pictures in two parts or classes",
            thousands(report.files as u64),
            thousands(report.bad_files.len() as u64),
            thousands(wrong.len() as u64)
        ),
    };
    text + "\n\n" + &verdict
}

fn group(same: &&Duplicates) -> String {
    let why = match (same.across_parts, same.across_classes) {
        (true, true) => " (parts and classes)",
        (true, false) => " (parts)",
        (false, true) => " (classes)",
        (false, false) => "",
    };
    let names: Vec<_> = same.files.iter().map(|path: &PathBuf| name(path)).collect();
    format!("{}{why}", names.join(" = "))
}

fn name(path: &Path) -> String {
    path.display().to_string()
}

/// A list under its title, where there is anything to list.
fn section(text: &mut String, title: &str, lines: Vec<String>) {
    if lines.is_empty() {
        return;
    }
    text.push_str(&format!("\n\n{title}: {}", lines.len()));
    for line in lines.iter().take(SHOWN) {
        text.push_str(&format!("\n  {line}"));
    }
    if lines.len() > SHOWN {
        text.push_str(&format!("\n  and {} more (--json lists all)", lines.len() - SHOWN));
    }
}
