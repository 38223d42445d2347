//! `convzoo predict IMAGE...`

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;

use anyhow::{Context, bail};
use candle_core::{D, Device, Tensor};
use clap::Args;
use rayon::prelude::*;
use serde::Serialize;

use super::learn::{self, Tta};
use super::weights::say_remarks;
use super::{print_json, print_line};
use crate::data::{Limits, Pipeline, decode_file};
use crate::models::Model;
use crate::nn::Engine;
use crate::rng::Rng;
use crate::train::Views;
use crate::weights::{self, WeightSource};
use crate::{Error, Result};

#[derive(Args)]
pub struct PredictArgs {
    /// Pictures, or folders of pictures
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<PathBuf>,
    /// A weight file (RUN/best.safetensors, or any that fits), `pretrained`, or hf:ORG/REPO[/FILE]
    #[arg(long, value_name = "WEIGHTS")]
    weights: String,
    /// The network [default: what the weight file says, or the one it fits]
    #[arg(long, value_name = "NAME")]
    model: Option<String>,
    /// Where torchvision's published files are to be had instead [default: $CONVZOO_MIRROR]
    #[arg(long, value_name = "URL")]
    mirror: Option<String>,
    /// How many classes to show for each picture
    #[arg(long, value_name = "K", default_value_t = 5)]
    top: usize,
    /// Pictures that go through the network at once
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..))]
    batch_size: u16,
    /// Look at each picture mirrored too, and take the mean of both
    #[arg(long, value_enum)]
    tta: Option<Tta>,
    /// Print CSV, a line a class
    #[arg(long, conflicts_with = "json")]
    csv: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Prediction {
    image: PathBuf,
    top: Vec<Guess>,
}

#[derive(Serialize)]
struct Guess {
    class: String,
    probability: f32,
}

/// A picture's place, and what the network is to see of it.
type Input = (PathBuf, Result<Vec<f32>>);

/// A model and all it needs to look at a file.
struct Predictor {
    model: Model,
    /// Runs the model, where it can.
    engine: Option<RefCell<Engine>>,
    classes: Vec<String>,
    pipeline: Pipeline,
    views: Views,
}

pub fn predict(args: PredictArgs) -> anyhow::Result<()> {
    let predictor = Predictor::load(&args)?;
    let files = all_files(&args.images)?;
    let mut predictions = Vec::new();
    let mut failed = 0;
    if args.csv {
        print_line("image,rank,class,probability")?;
    }
    thread::scope(|scope| {
        // While the network looks at one batch, the next is decoded.
        let (send, batches) = sync_channel(1);
        let (files, pipeline) = (&files, &predictor.pipeline);
        scope.spawn(move || {
            for chunk in files.chunks(args.batch_size.into()) {
                let inputs = chunk.par_iter().map(|path| (path.clone(), input(pipeline, path)));
                if send.send(inputs.collect()).is_err() {
                    return; // nobody listens any more
                }
            }
        });
        let done = |prediction| show(prediction, &args, &mut predictions);
        failed = predictor.run(&batches, args.top, done)?;
        anyhow::Ok(())
    })?;
    if args.json {
        print_json(&predictions)?;
    }
    match failed {
        0 => Ok(()),
        1 => bail!("1 picture could not be read"),
        n => bail!("{n} pictures could not be read"),
    }
}

fn show(
    prediction: Prediction,
    args: &PredictArgs,
    kept: &mut Vec<Prediction>,
) -> anyhow::Result<()> {
    if args.json {
        kept.push(prediction);
        return Ok(());
    }
    print_line(&if args.csv { csv(&prediction) } else { line(&prediction) })
}

/// What the network is to see of the picture in a file.
fn input(pipeline: &Pipeline, path: &Path) -> Result<Vec<f32>> {
    let picture = decode_file(path, Limits::default())?;
    let mut input = vec![0f32; pipeline.output().iter().product()];
    // An evaluation pipeline draws nothing; the generator is never asked.
    pipeline.apply(&picture, &mut Rng::new(0), &mut input)?;
    Ok(input)
}

impl Predictor {
    fn load(args: &PredictArgs) -> anyhow::Result<Self> {
        let source = WeightSource::parse(&args.weights)?;
        let path = source.fetch(args.model.as_deref(), args.mirror.as_deref())?;
        let file = weights::load(&path, &Device::Cpu)?.described(args.model.as_deref())?;
        say_remarks(&file);
        let metadata = file.metadata()?.clone();
        let pipeline = serde_json::from_value(metadata.preprocessing)
            .with_context(|| format!("{}: its preprocessing is unknown here", path.display()))?;
        let (model, classes) = (file.model(&Device::Cpu)?, metadata.classes);
        let engine = Engine::evaluation(&model.network, metadata.input)?.map(RefCell::new);
        Ok(Predictor { model, engine, classes, pipeline, views: learn::views(args.tta) })
    }

    /// Predicts batch by batch; gives the number of pictures that could not be read.
    fn run(
        &self,
        batches: &Receiver<Vec<Input>>,
        top: usize,
        mut done: impl FnMut(Prediction) -> anyhow::Result<()>,
    ) -> anyhow::Result<usize> {
        let mut failed = 0;
        for batch in batches {
            let (mut paths, mut pixels) = (Vec::new(), Vec::new());
            for (path, input) in batch {
                match input {
                    Ok(input) => {
                        paths.push(path);
                        pixels.extend(input);
                    }
                    Err(error) => {
                        failed += 1;
                        eprintln!("error: {error}");
                    }
                }
            }
            for prediction in self.predict(paths, pixels, top)? {
                done(prediction)?;
            }
        }
        Ok(failed)
    }

    fn predict(
        &self,
        paths: Vec<PathBuf>,
        pixels: Vec<f32>,
        top: usize,
    ) -> Result<Vec<Prediction>> {
        if paths.is_empty() {
            return Ok(Vec::new());
        }
        let [c, h, w] = self.pipeline.output();
        let x = Tensor::from_vec(pixels, (paths.len(), c, h, w), &Device::Cpu)?;
        let logits = self.views.logits(&x, &mut |x| match &self.engine {
            Some(engine) => engine.borrow_mut().logits(self.model.network.params(), x),
            None => self.model.network.logits(x),
        })?;
        let rows: Vec<Vec<f32>> = candle_nn::ops::softmax(&logits, D::Minus1)?.to_vec2()?;
        let predictions = paths.into_iter().zip(rows).map(|(image, row)| {
            let mut order: Vec<usize> = (0..row.len()).collect();
            order.sort_by(|&a, &b| row[b].total_cmp(&row[a]));
            let guess = |&i: &usize| Guess { class: self.classes[i].clone(), probability: row[i] };
            Prediction { image, top: order.iter().take(top).map(guess).collect() }
        });
        Ok(predictions.collect())
    }
}

/// `cat.jpg: cat 98.2 %, dog 1.8 %`
fn line(prediction: &Prediction) -> String {
    let guess = |guess: &Guess| format!("{} {:.1} %", guess.class, 100.0 * guess.probability);
    let guesses: Vec<String> = prediction.top.iter().map(guess).collect();
    format!("{}: {}", prediction.image.display(), guesses.join(", "))
}

/// `cat.jpg,1,cat,0.982` and so on.
fn csv(prediction: &Prediction) -> String {
    let image = quoted(&prediction.image.to_string_lossy());
    let row = |(i, guess): (usize, &Guess)| {
        format!("{image},{},{},{}", i + 1, quoted(&guess.class), guess.probability)
    };
    prediction.top.iter().enumerate().map(row).collect::<Vec<_>>().join("\n")
}

/// A cell of CSV.
fn quoted(cell: &str) -> String {
    match cell.contains([',', '"', '\n', '\r']) {
        true => format!("\"{}\"", cell.replace('"', "\"\"")),
        false => cell.to_owned(),
    }
}

/// The files named, and those in the folders named, sorted within each.
fn all_files(paths: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for path in paths {
        if !path.is_dir() {
            files.push(path.clone());
            continue;
        }
        let broken = |error| Error::file(path, error);
        let mut inside = Vec::new();
        for entry in std::fs::read_dir(path).map_err(broken)? {
            let entry = entry.map_err(broken)?.path();
            if entry.is_file() {
                inside.push(entry);
            }
        }
        if inside.is_empty() {
            return Err(Error::file(path, "holds no files"));
        }
        inside.sort();
        files.extend(inside);
    }
    Ok(files)
}
