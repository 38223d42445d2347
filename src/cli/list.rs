//! `convzoo list`

use clap::Args;
use serde::Serialize;

use super::{print_json, print_line, table, thousands};
use crate::models::{ARCHITECTURES, Architecture};
use crate::nn::Shape;

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
    paper: &'static str,
}

impl Row {
    fn of(architecture: &Architecture) -> crate::Result<Self> {
        let &Architecture { name, year, params, input, classes, paper, .. } = architecture;
        let (c, h, w) = input;
        let layers = architecture.layers(&architecture.config())?;
        let macs = layers.trace(Shape::Map(c, h, w))?.macs();
        Ok(Row { name, year, params, macs, input, classes, paper })
    }

    fn cells(&self) -> Vec<String> {
        let (c, h, w) = self.input;
        vec![
            self.name.to_owned(),
            self.year.to_string(),
            thousands(self.params as u64),
            thousands(self.macs),
            format!("{c}x{h}x{w}"),
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
    print_line(&table(&["model", "year", "parameters", "multiply-adds", "input", "paper"], &cells))
}
