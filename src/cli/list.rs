//! `convzoo list`

use clap::Args;
use serde::Serialize;

use super::{print_json, print_line, table, thousands};
use crate::models::{ARCHITECTURES, Architecture};
use crate::nn::Shape;
use crate::weights::{PUBLISHED, Published};

#[derive(Args)]
pub struct ListArgs {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Row {
    name: &'static str,
    year: u16,
    params: usize,
    macs: u64,
    input: (usize, usize, usize),
    classes: usize,
    /// Published for the default weights, in percent.
    top1: Option<f64>,
    weights: Vec<Weights>,
    paper: &'static str,
}

/// Weights that `--weights pretrained` can have.
#[derive(Serialize)]
struct Weights {
    tag: &'static str,
    top1: f64,
    top5: f64,
    file: &'static str,
    licence: &'static str,
}

impl Row {
    fn of(architecture: &Architecture) -> crate::Result<Self> {
        let &Architecture { name, year, params, input, classes, paper, .. } = architecture;
        let (c, h, w) = input;
        let layers = architecture.layers(&architecture.config())?;
        let macs = layers.trace(Shape::Map(c, h, w))?.macs();
        let of_model = PUBLISHED.iter().filter(|row| row.model == name);
        let weights: Vec<_> = of_model
            .map(|row| {
                let &Published { tag, top1, top5, file, licence, .. } = row;
                Weights { tag, top1, top5, file, licence }
            })
            .collect();
        let top1 = weights.first().map(|weights| weights.top1);
        Ok(Row { name, year, params, macs, input, classes, top1, weights, paper })
    }

    fn cells(&self) -> Vec<String> {
        let (c, h, w) = self.input;
        vec![
            self.name.to_owned(),
            self.year.to_string(),
            thousands(self.params as u64),
            thousands(self.macs),
            format!("{c}x{h}x{w}"),
            self.top1.map_or("-".to_owned(), |top1| format!("{top1:.2} %")),
            self.weights.iter().map(|weights| weights.tag).collect::<Vec<_>>().join(", "),
            self.paper.to_owned(),
        ]
    }
}

pub fn list(args: ListArgs) -> anyhow::Result<()> {
    let rows = ARCHITECTURES.iter().map(Row::of).collect::<crate::Result<Vec<_>>>()?;
    if args.json {
        return print_json(&rows);
    }
    let cells: Vec<_> = rows.iter().map(Row::cells).collect();
    let header = [
        "model",
        "year",
        "parameters",
        "multiply-adds",
        "input",
        "top-1",
        "published weights",
        "paper",
    ];
    print_line(&table(&header, &cells))
}
