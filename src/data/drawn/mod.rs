//! Cats and dogs drawn by the program itself, for machines without network or photographs.
//!
//! Each picture is 128x128 RGB and comes from its own random stream, so any picture can be drawn
//! at any time by any thread and is always the same. Cats have pointed upright ears, slit pupils, a
//! small nose and whiskers; dogs have hanging, folded or rounded ears, round pupils and a long
//! muzzle with a big nose. Pose, coat, background, things in the way, light, noise and blur are
//! drawn alike for both, so that only shape tells them apart.
//!
//! What a network scores here says that the program works; it says nothing about photographs.

use std::sync::Arc;

use rayon::prelude::*;

use super::{DataKind, Dataset, Picture, Source, identity};
use crate::error::{Error, Result};
use crate::rng::{Rng, fnv1a, splitmix64};

mod artist;
mod cat;
mod dog;
mod face;
mod palette;
mod raster;
mod scene;
mod shapes;

/// The data set's name, as in `--dataset`.
pub const NAME: &str = "cats-dogs-drawn";

/// Pictures to train on, where nothing else is asked for.
pub const TRAIN: usize = 2000;

/// Pictures to evaluate on, where nothing else is asked for.
pub const VAL: usize = 400;

/// Pixels a side.
const SIDE: usize = 128;

/// Raised whenever the same seed draws other pictures than before.
const VERSION: u64 = 1;

/// Training pictures the channel means are measured on.
const SAMPLE: usize = 256;

const CLASSES: [&str; 2] = ["cat", "dog"];

/// The data set of `train` + `val` pictures that `seed` draws; even ones are cats, odd ones dogs.
///
/// Mean and deviation are measured on the first 256 training pictures.
pub fn cats_dogs(seed: u64, train: usize, val: usize) -> Dataset {
    let split = |name, len| Arc::new(Drawings { seed, split: name, len });
    let (train_split, val_split) = (split("train", train), split("val", val));
    let (mean, std) = statistics(&train_split);
    Dataset {
        name: NAME.to_string(),
        kind: DataKind::Drawn,
        classes: CLASSES.map(String::from).to_vec(),
        channels: 3,
        mean,
        std,
        origin: format!("drawn by the program, seed {seed}"),
        identity: identity(&[("train", train_split.as_ref()), ("val", val_split.as_ref())]),
        train: train_split,
        val: val_split,
        test: None,
        notes: vec![
            "The pictures are drawn by the program, not photographs: results say nothing about \
             real cats and dogs."
                .to_string(),
        ],
    }
}

/// The first `columns * rows` pictures of `source` side by side in one, to look at.
///
/// # Errors
/// A picture that cannot be had, or pictures that differ in size.
pub fn sheet(source: &dyn Source, columns: usize, rows: usize) -> Result<Picture> {
    let count = (columns * rows).min(source.len());
    let pictures = (0..count).map(|i| source.picture(i)).collect::<Result<Vec<_>>>()?;
    let Some(first) = pictures.first() else {
        return Err(Error::Setting("a contact sheet needs at least one picture".to_string()));
    };
    let shape = (first.width, first.height, first.channels);
    let line = first.width * first.channels;
    let wide = columns * line;
    let mut pixels = vec![255; wide * rows * first.height];
    for (i, picture) in pictures.iter().enumerate() {
        let found = (picture.width, picture.height, picture.channels);
        if found != shape || picture.pixels.len() != line * first.height {
            return Err(Error::Setting(format!(
                "a contact sheet needs pictures of one size: {} is {found:?}, the first {shape:?}",
                source.name(i)
            )));
        }
        let corner = i / columns * first.height * wide + i % columns * line;
        for (row, bytes) in picture.pixels.chunks_exact(line).enumerate() {
            let at = corner + row * wide;
            pixels[at..at + line].copy_from_slice(bytes);
        }
    }
    let (width, height) = (columns * first.width, rows * first.height);
    Ok(Picture { width, height, channels: first.channels, pixels })
}

/// One split of the drawn pictures.
struct Drawings {
    seed: u64,
    split: &'static str,
    len: usize,
}

impl Drawings {
    fn draw(&self, index: usize) -> Picture {
        let mut rng = Rng::stream(self.seed, "drawn", &[fnv1a(self.split), index as u64]);
        let mut canvas = scene::background(&mut rng, SIDE);
        let mut artist = artist::Artist::random(&mut canvas, &mut rng);
        match self.label(index) {
            0 => cat::draw(&mut artist),
            _ => dog::draw(&mut artist),
        }
        scene::foreground(&mut canvas, &mut rng);
        scene::photograph(&mut canvas, &mut rng);
        Picture { width: SIDE, height: SIDE, channels: 3, pixels: canvas.bytes() }
    }
}

impl Source for Drawings {
    fn len(&self) -> usize {
        self.len
    }

    fn label(&self, index: usize) -> u32 {
        (index % 2) as u32
    }

    fn name(&self, index: usize) -> String {
        format!("drawn {} {} of {}", CLASSES[index % 2], index, self.split)
    }

    fn picture(&self, index: usize) -> Result<Picture> {
        if index >= self.len {
            let cause = format!("no picture {index} in {}, which has {}", self.split, self.len);
            return Err(Error::dataset(NAME, cause));
        }
        Ok(self.draw(index))
    }

    fn stamp(&self, _index: usize) -> u64 {
        splitmix64(splitmix64(self.seed) ^ VERSION)
    }
}

/// Mean and standard deviation of each channel, of values in 0..=1.
fn statistics(drawings: &Drawings) -> (Vec<f32>, Vec<f32>) {
    // Sums of whole numbers: the same in whatever order the threads add them.
    let count = drawings.len.clamp(1, SAMPLE);
    let sums = (0..count).into_par_iter().map(|index| channel_sums(&drawings.draw(index)));
    let sums = sums.reduce(|| [0; 6], |a, b| std::array::from_fn(|i| a[i] + b[i]));
    let n = (count * SIDE * SIDE) as f64;
    let moments = |channel: usize| {
        let mean = sums[channel] as f64 / n;
        let variance = sums[channel + 3] as f64 / n - mean * mean;
        ((mean / 255.0) as f32, (variance.sqrt() / 255.0) as f32)
    };
    (0..3).map(moments).unzip()
}

/// Of each channel the sum, then of each the sum of squares.
fn channel_sums(picture: &Picture) -> [u64; 6] {
    let mut sums = [0; 6];
    for pixel in picture.pixels.chunks_exact(3) {
        for (channel, &value) in pixel.iter().enumerate() {
            let value = u64::from(value);
            sums[channel] += value;
            sums[channel + 3] += value * value;
        }
    }
    sums
}

#[cfg(test)]
mod tests;
