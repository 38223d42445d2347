//! `convzoo compare`: several networks, one data set, one budget, one table.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use serde::Serialize;

use super::args::RunArgs;
use super::progress::Voice;
use super::run::train_session;
use super::session::Session;
use super::{print_json, table, thousands};
use crate::train::{RunFolder, Summary};

/// Train several networks under one budget and print one table.
///
/// A network whose run is already in the folder and finished is taken as it is; a run that was
/// broken off goes on.
#[derive(Parser)]
#[command(version, max_term_width = 100)]
pub struct CompareArgs {
    /// The networks, as `convzoo list` names them
    #[arg(
        long,
        value_delimiter = ',',
        value_name = "A,B,C",
        default_value = "lenet5-relu,alexnet,vgg16_bn,googlenet,resnet18,resnet50"
    )]
    models: Vec<String>,
    /// The folder of the runs, one a network
    #[arg(long, value_name = "DIR", default_value = "runs/compare")]
    runs: PathBuf,
    #[command(flatten)]
    run: RunArgs,
}

#[derive(Serialize)]
struct Row {
    #[serde(flatten)]
    summary: Summary,
    file_bytes: u64,
}

pub fn compare(args: CompareArgs) -> anyhow::Result<ExitCode> {
    let voice = Voice::new(args.run.json);
    if args.run.resume.is_some() || args.run.out.is_some() || args.run.eval {
        anyhow::bail!(
            "compare has its runs in --runs DIR: --out, --resume and --eval do not go with it"
        );
    }
    // One threshold for all: a data set that one of them would not choose by itself.
    let dataset = args.run.dataset.clone().unwrap_or_else(|| "cats-dogs".to_owned());
    let mut rows = Vec::new();
    for model in &args.models {
        let folder = args.runs.join(format!("{model}-{dataset}"));
        let run = RunArgs { dataset: Some(dataset.clone()), ..args.run.clone() };
        let Some(summary) = trained(model, run, &folder, voice)? else {
            return Ok(ExitCode::from(130));
        };
        let weights = folder.join("best.safetensors");
        let file_bytes =
            std::fs::metadata(&weights).map_err(|error| crate::Error::file(&weights, error))?.len();
        rows.push(Row { summary, file_bytes });
    }
    if args.run.json {
        print_json(&rows)?;
    } else {
        voice.say(&text(&rows));
    }
    Ok(ExitCode::SUCCESS)
}

/// The summary of a finished run, after training what is missing of it; `None` where it was stopped.
fn trained(
    model: &str,
    mut run: RunArgs,
    folder: &Path,
    voice: Voice,
) -> anyhow::Result<Option<Summary>> {
    if let Ok(open) = RunFolder::open(folder) {
        if let Ok(summary) = open.summary()
            && run.epochs.is_none_or(|epochs| epochs <= summary.epochs)
        {
            voice.say(&format!("{model}: finished before, in {}", folder.display()));
            return Ok(Some(summary));
        }
        run.resume = Some(folder.to_owned());
    } else {
        run.out = Some(folder.to_owned());
    }
    voice.say(&format!("\n== {model}"));
    let session = Session::new(model, &run, voice)?;
    train_session(&session, &run, voice)
}

fn text(rows: &[Row]) -> String {
    let header = [
        "model",
        "size",
        "parameters",
        "multiply-adds",
        "file MB",
        "val top-1",
        "images/s",
        "epochs",
        "seconds",
    ];
    let cells = |row: &Row| {
        let s = &row.summary;
        vec![
            s.model.clone(),
            s.image_size.to_string(),
            thousands(s.params as u64),
            thousands(s.macs),
            format!("{:.1}", row.file_bytes as f64 / 1e6),
            s.best_val_top1.map_or("-".to_owned(), |top1| format!("{:.2} %", 100.0 * top1)),
            format!("{:.1}", s.train_images_per_s),
            s.epochs.to_string(),
            s.seconds.round().to_string(),
        ]
    };
    let about = rows.first().map_or(String::new(), |row| {
        let s = &row.summary;
        format!(
            "{} ({}): {} validation pictures, {} threads",
            s.dataset, s.data_kind, s.val_images, s.threads
        )
    });
    format!("\n{about}\n\n{}", table(&header, &rows.iter().map(cells).collect::<Vec<_>>()))
}
