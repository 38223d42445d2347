//! `convzoo predict IMAGE...`

mod inputs;
mod rows;

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use anyhow::{Context, anyhow, bail};
use candle_core::{D, Device, Tensor};
use clap::{Args, ValueEnum};
use rayon::prelude::*;

use super::learn::{self, Tta};
use super::session::{device, use_threads};
use super::terminal::aside;
use super::weights::say_remarks;
use crate::data::{Limits, Pipeline, decode_file, looks_inverted};
use crate::digits::thousands;
use crate::models::Model;
use crate::nn::Engine;
use crate::rng::Rng;
use crate::train::Views;
use crate::weights::{self, WeightSource};
use crate::{Error, Result};
use inputs::{Found, Inputs, LeftOut};
use rows::{Format, Printer, Row};

/// Say what is on images.
///
/// Each file has its row, in the order they are given, as soon as it is known. Folders are walked to
/// the bottom, sorted by name; hidden files and those that by their names cannot be images (.txt,
/// .json, Thumbs.db ...) are left out and counted. An image that cannot be read has a row with an error
/// in CSV and JSON, and a line on standard error otherwise.
///
/// Exits with 1 if no image could be read, or if one could not and --on-bad fail is given.
#[derive(Args)]
pub struct PredictArgs {
    /// Images, or folders of images; - reads a list of them from standard input
    #[arg(required_unless_present = "files_from", value_name = "IMAGE")]
    images: Vec<PathBuf>,
    /// Images and folders named in this file too, one a line; - is standard input
    #[arg(long, value_name = "LIST")]
    files_from: Option<PathBuf>,
    /// Names in lists end with a zero byte, as `find -print0` writes them
    #[arg(short = '0', long)]
    null: bool,
    /// A weight file (RUN/best.safetensors, or any that fits), `pretrained`, or hf:ORG/REPO[/FILE]
    #[arg(long, value_name = "WEIGHTS")]
    weights: String,
    /// The network [default: what the weight file says, or the one it fits]
    #[arg(long, value_name = "NAME")]
    model: Option<String>,
    /// Where torchvision's published files are to be had instead [default: $CONVZOO_MIRROR]
    #[arg(long, value_name = "URL")]
    mirror: Option<String>,
    /// How many classes to show for each image [default: all of up to ten, else 5]
    #[arg(long, value_name = "K", value_parser = clap::value_parser!(u32).range(1..))]
    top: Option<u32>,
    /// Images that go through the network at once
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=1024))]
    batch_size: u16,
    /// Look at each image mirrored too, and take the mean of both
    #[arg(long, value_enum)]
    tta: Option<Tta>,
    /// Look at the negative of each image: for digits drawn black on white and a network that was
    /// trained on white on black
    #[arg(long)]
    invert: bool,
    /// What to do about an image that cannot be read
    #[arg(long, value_enum, default_value_t = OnBadImage::Skip)]
    on_bad: OnBadImage,
    /// Print CSV, a line a class. A name that begins like a formula (=, +, -, @) gets an apostrophe in
    /// front; control characters are written out, as in \x1b; JSON has names as they are
    #[arg(long, conflicts_with_all = ["json", "jsonl"])]
    csv: bool,
    /// Print CSV, a line an image, with one column for each class
    #[arg(long, conflicts_with_all = ["json", "jsonl", "top"])]
    wide: bool,
    /// Print a JSON array, an image a line; a name that is not UTF-8 is in `image_bytes` too, as base64
    #[arg(long, conflicts_with = "jsonl")]
    json: bool,
    /// Print JSON lines: an object for each image, as the elements of --json
    #[arg(long)]
    jsonl: bool,
    /// Where to compute: auto, cpu, cuda, cuda:N or metal
    #[arg(long, default_value = "auto")]
    device: String,
    /// Threads that compute [default: one a core]
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
}

/// `--on-bad`
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum OnBadImage {
    /// Say so in its row
    Skip,
    /// The same, and exit with 1 in the end
    Fail,
}

impl PredictArgs {
    fn format(&self) -> Format {
        match self {
            PredictArgs { wide: true, .. } => Format::Wide,
            PredictArgs { csv: true, .. } => Format::Csv,
            PredictArgs { json: true, .. } => Format::Json,
            PredictArgs { jsonl: true, .. } => Format::JsonLines,
            _ => Format::Text,
        }
    }

    /// How many classes are shown of those there are.
    fn top(&self, classes: usize) -> usize {
        const FEW: usize = 10;
        self.top.map_or(if classes <= FEW { classes } else { 5 }, |top| top as usize)
    }
}

/// What the network is to see of a file.
struct Input {
    path: PathBuf,
    pixels: Result<Vec<f32>, String>,
    looks_inverted: bool,
}

/// What came of all files.
#[derive(Default)]
struct Tally {
    read: usize,
    failed: usize,
    look_inverted: usize,
}

/// A model and all it needs to look at a file.
struct Predictor {
    model: Model,
    /// Runs the model, where it can.
    engine: Option<RefCell<Engine>>,
    device: Device,
    classes: Vec<String>,
    pipeline: Pipeline,
    views: Views,
}

pub fn predict(args: PredictArgs) -> anyhow::Result<()> {
    use_threads(args.threads)?;
    let predictor = Predictor::load(&args)?;
    let end = if args.null { 0 } else { b'\n' };
    let inputs = Inputs::new(args.images.clone(), args.files_from.as_deref(), end)?;
    let classes = predictor.classes.clone();
    let top = args.top(classes.len());
    let mut printer = Printer::new(args.format(), classes, top);
    // While the network looks at one batch, the next is decoded. Nobody waits for a list that is never
    // ended when the reader of the rows has gone.
    let (send, batches) = sync_channel(1);
    let (pipeline, batch) = (predictor.pipeline.clone(), args.batch_size.into());
    let decoder = thread::spawn(move || decode(inputs, &pipeline, batch, &send));
    printer.begin()?;
    let tally = predictor.run(&batches, &mut printer)?;
    let left_out = decoder.join().map_err(|_| anyhow!("decoding ended early"))?;
    printer.end()?;
    conclude(&args, &tally, left_out?)
}

/// Decodes files in batches, until all are done or nobody listens any more.
fn decode(
    mut inputs: Inputs,
    pipeline: &Pipeline,
    batch: usize,
    send: &SyncSender<Vec<Input>>,
) -> Result<LeftOut> {
    loop {
        let found: Result<Vec<Found>> = inputs.by_ref().take(batch).collect();
        let found = found?;
        if found.is_empty() {
            return Ok(inputs.left_out);
        }
        let decoded = found.into_par_iter().map(|found| input(pipeline, found)).collect();
        if send.send(decoded).is_err() {
            return Ok(inputs.left_out);
        }
    }
}

/// What the network is to see of the image in a file.
fn input(pipeline: &Pipeline, found: Found) -> Input {
    let Found { path, problem } = found;
    let seen = match problem {
        Some(problem) => Err(Error::file(&path, problem)),
        None => seen(pipeline, &path),
    };
    let (pixels, looks_inverted) = match seen {
        Ok((pixels, looks_inverted)) => (Ok(pixels), looks_inverted),
        Err(error) => (Err(error.to_string()), false),
    };
    Input { path, pixels, looks_inverted }
}

fn seen(pipeline: &Pipeline, path: &Path) -> Result<(Vec<f32>, bool)> {
    let picture = decode_file(path, Limits::default())?;
    let mut pixels = vec![0f32; pipeline.output().iter().product()];
    // An evaluation pipeline draws nothing; the generator is never asked.
    let done = pipeline.apply(&picture, &mut Rng::new(0), &mut pixels);
    done.map_err(|error| Error::file(path, error))?;
    Ok((pixels, looks_inverted(&picture, pipeline)))
}

/// What is to be said in the end, on standard error; an error where scripts must notice.
fn conclude(args: &PredictArgs, tally: &Tally, left_out: LeftOut) -> anyhow::Result<()> {
    let all = tally.read + tally.failed;
    let of_all = |count: usize| {
        let (count, total) = (thousands(count as u64), thousands(all as u64));
        format!("{count} of {total} image{}", if all == 1 { "" } else { "s" })
    };
    if let Some(text) = left_out.in_words() {
        aside(&text);
    }
    if tally.look_inverted > 0 {
        let what = match args.invert {
            true => "after --invert the negative of what the network was trained on",
            false => {
                "the negative of what the network was trained on: dark on light, not light on dark \
                 (--invert turns them round)"
            }
        };
        aside(&format!("note: {} may be {what}", of_all(tally.look_inverted)));
    }
    match tally.failed {
        _ if all == 0 => bail!("no images were named, or found in the folders"),
        0 => {}
        failed if tally.read == 0 || args.on_bad == OnBadImage::Fail => {
            bail!("{} could not be read", of_all(failed))
        }
        failed => aside(&format!("{} could not be read", of_all(failed))),
    }
    Ok(())
}

impl Predictor {
    fn load(args: &PredictArgs) -> anyhow::Result<Self> {
        let device = device(&args.device)?;
        let source = WeightSource::parse(&args.weights)?;
        let path = source.fetch(args.model.as_deref(), args.mirror.as_deref())?;
        let file = weights::load(&path, &device)?.described(args.model.as_deref())?;
        say_remarks(&file);
        let metadata = file.metadata()?.clone();
        let mut pipeline: Pipeline = serde_json::from_value(metadata.preprocessing)
            .with_context(|| format!("{}: its preprocessing is unknown here", path.display()))?;
        if args.invert {
            pipeline = pipeline.inverted()?;
        }
        let (model, classes) = (file.model(&device)?, metadata.classes);
        let engine = Engine::evaluation(&model.network, metadata.input)?.map(RefCell::new);
        let views = learn::views(args.tta);
        Ok(Predictor { model, engine, device, classes, pipeline, views })
    }

    /// Looks at batches as they come, and prints a row for each file.
    fn run(&self, batches: &Receiver<Vec<Input>>, printer: &mut Printer) -> anyhow::Result<Tally> {
        let mut tally = Tally::default();
        for batch in batches {
            for row in self.rows(batch)? {
                match &row.probabilities {
                    Ok(_) => tally.read += 1,
                    Err(_) => tally.failed += 1,
                }
                tally.look_inverted += usize::from(row.looks_inverted);
                printer.row(&row)?;
            }
        }
        Ok(tally)
    }

    /// A row for each file of a batch, in order.
    fn rows(&self, batch: Vec<Input>) -> Result<Vec<Row>> {
        let pixels = batch.iter().filter_map(|input| input.pixels.as_deref().ok());
        let mut shares = self.probabilities(&pixels.collect::<Vec<_>>())?.into_iter();
        let row = |Input { path, pixels, looks_inverted }| {
            let shares = pixels.map(|_| shares.next().unwrap_or_default());
            let probabilities =
                shares.and_then(|shares| match shares.iter().all(|p| p.is_finite()) {
                    true => Ok(shares),
                    false => {
                        let cause =
                            "what the network makes of it is not finite; take other weights";
                        Err(Error::file(&path, cause).to_string())
                    }
                });
            Row { image: path, probabilities, looks_inverted }
        };
        Ok(batch.into_iter().map(row).collect())
    }

    /// A probability for each class of each image.
    fn probabilities(&self, images: &[&[f32]]) -> Result<Vec<Vec<f32>>> {
        if images.is_empty() {
            return Ok(Vec::new());
        }
        let [c, h, w] = self.pipeline.output();
        let x = Tensor::from_vec(images.concat(), (images.len(), c, h, w), &Device::Cpu)?;
        let logits =
            self.views.logits(&x.to_device(&self.device)?, &mut |x| match &self.engine {
                Some(engine) => engine.borrow_mut().logits(self.model.network.params(), x),
                None => self.model.network.logits(x),
            })?;
        Ok(candle_nn::ops::softmax(&logits, D::Minus1)?.to_vec2()?)
    }
}
