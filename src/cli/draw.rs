//! `convzoo draw -o DIR`

use std::path::PathBuf;

use anyhow::Context;
use clap::Args;

use super::print_line;
use crate::data::drawn;
use crate::{files, inspect};

/// Write drawn cats and dogs as files, to try things with.
///
/// The files are PNG, DIR/train/CLASS/* and DIR/val/CLASS/*.
/// They are the pictures of --dataset cats-dogs-drawn with the same seed: to look at, to give to
/// predict and inspect, or to train on with --dataset folder.
#[derive(Args)]
pub struct DrawArgs {
    /// The folder
    #[arg(short, long, value_name = "DIR")]
    out: PathBuf,
    /// Pictures to train on
    #[arg(long, value_name = "N", default_value_t = 0)]
    train: u32,
    /// Pictures to validate on
    #[arg(long, value_name = "N", default_value_t = 8)]
    val: u32,
    /// Which pictures
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

pub fn draw(args: DrawArgs) -> anyhow::Result<()> {
    let dataset = drawn::cats_dogs(args.seed, args.train as usize, args.val as usize);
    for (part, source) in [("train", &dataset.train), ("val", &dataset.val)] {
        for index in 0..source.len() {
            let class = &dataset.classes[source.label(index) as usize];
            let folder = args.out.join(part).join(class);
            std::fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
            let bytes = inspect::png(&source.picture(index)?)?;
            files::write_bytes(&folder.join(format!("{class}-{index:04}.png")), &bytes)?;
        }
    }
    let count = u64::from(args.train) + u64::from(args.val);
    print_line(&format!("wrote {count} pictures to {}", args.out.display()))
}
