//! `convzoo predict IMAGE...`

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use candle_core::{D, Device, Tensor};
use clap::Args;
use serde::Serialize;

use super::{print_json, print_line};
use crate::data::{Limits, Pipeline, decode_file};
use crate::models::Model;
use crate::rng::Rng;
use crate::{Error, weights};

#[derive(Args)]
pub struct PredictArgs {
    /// Pictures, or folders of pictures
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<PathBuf>,
    /// A safetensors file that convzoo has written, as in RUN/best.safetensors
    #[arg(long, value_name = "FILE")]
    weights: PathBuf,
    /// How many classes to show for each picture
    #[arg(long, value_name = "K", default_value_t = 5)]
    top: usize,
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

/// A model and all it needs to look at a file.
struct Predictor {
    model: Model,
    classes: Vec<String>,
    pipeline: Pipeline,
}

pub fn predict(args: PredictArgs) -> anyhow::Result<()> {
    let predictor = Predictor::load(&args.weights)?;
    let mut predictions = Vec::new();
    let mut failed = 0;
    for image in all_files(&args.images)? {
        match predictor.predict(&image, args.top) {
            Ok(prediction) if args.json => predictions.push(prediction),
            Ok(prediction) => print_line(&line(&prediction))?,
            Err(error) => {
                failed += 1;
                eprintln!("error: {error}");
            }
        }
    }
    if args.json {
        print_json(&predictions)?;
    }
    match failed {
        0 => Ok(()),
        1 => bail!("1 picture could not be read"),
        n => bail!("{n} pictures could not be read"),
    }
}

impl Predictor {
    fn load(path: &Path) -> anyhow::Result<Self> {
        let file = weights::load(path, &Device::Cpu)?;
        let metadata = file.metadata()?.clone();
        let pipeline = serde_json::from_value(metadata.preprocessing)
            .with_context(|| format!("{}: its preprocessing is unknown here", path.display()))?;
        Ok(Predictor { model: file.model(&Device::Cpu)?, classes: metadata.classes, pipeline })
    }

    fn predict(&self, image: &Path, top: usize) -> crate::Result<Prediction> {
        let picture = decode_file(image, Limits::default())?;
        let shape = self.pipeline.output();
        let mut input = vec![0f32; shape.iter().product()];
        // An evaluation pipeline draws nothing; the generator is never asked.
        self.pipeline.apply(&picture, &mut Rng::new(0), &mut input)?;
        let x = Tensor::from_vec(input, &shape[..], &Device::Cpu)?.unsqueeze(0)?;
        let logits = self.model.network.logits(&x)?;
        let probabilities: Vec<f32> =
            candle_nn::ops::softmax(&logits, D::Minus1)?.squeeze(0)?.to_vec1()?;
        let mut order: Vec<usize> = (0..probabilities.len()).collect();
        order.sort_by(|&a, &b| probabilities[b].total_cmp(&probabilities[a]));
        let guess =
            |&i: &usize| Guess { class: self.classes[i].clone(), probability: probabilities[i] };
        let top = order.iter().take(top).map(guess).collect();
        Ok(Prediction { image: image.to_owned(), top })
    }
}

/// `cat.jpg: cat 98.2 %, dog 1.8 %`
fn line(prediction: &Prediction) -> String {
    let guess = |guess: &Guess| format!("{} {:.1} %", guess.class, 100.0 * guess.probability);
    let guesses: Vec<String> = prediction.top.iter().map(guess).collect();
    format!("{}: {}", prediction.image.display(), guesses.join(", "))
}

/// The files named, and those in the folders named, sorted within each.
fn all_files(paths: &[PathBuf]) -> crate::Result<Vec<PathBuf>> {
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
