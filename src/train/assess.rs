//! What a network gets right and what it takes for what: confusion matrix, accuracy of each class, top-k,
//! calibration.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::time::Instant;

use candle_core::{DType, Device, Tensor};
use serde::{Deserialize, Serialize};

use super::evaluate::{Evaluation, Trainable, Views, check_finite, evaluation, pass};
use super::metrics::{Sums, place};
use crate::data::Loader;
use crate::{Error, Result};

/// Bins of the calibration error.
const BINS: usize = 15;

/// The results on one part of a data set.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Assessment {
    /// Mean cross-entropy.
    pub loss: f64,
    /// Share of pictures whose class came first.
    pub top1: f64,
    /// Share of pictures whose class was among the first five.
    pub top5: f64,
    /// Pictures seen.
    pub images: u64,
    /// Images that could not be read: no other number counts them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<LeftOut>,
    /// How far confidence is from accuracy, as a mean over the pictures (Guo et al., 2017, equation 3;
    /// 15 bins).
    pub calibration_error: f64,
    /// A row for each true class, a column for each class that came first.
    pub confusion: Vec<Vec<u64>>,
    /// By label.
    pub per_class: Vec<ClassScore>,
    /// Pictures by the place of their class, the first place first; see [`Assessment::top_k`].
    pub places: Vec<u64>,
    /// Pictures by the probability of the class that came first, from 0 to 1 in equal steps.
    pub calibration: Vec<Bin>,
}

/// An image that could not be read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftOut {
    /// Its name in the data set.
    pub name: String,
    /// Why it could not be read.
    pub error: String,
}

impl LeftOut {
    /// The images that a loader could not read so far.
    pub fn of(loader: &Loader) -> Vec<Self> {
        loader.bad_files().into_iter().map(|(name, error)| LeftOut { name, error }).collect()
    }
}

/// The results on the pictures of one class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ClassScore {
    /// Pictures of the class.
    pub images: u64,
    /// How many of them were right.
    pub right: u64,
    /// Their share; none where there are no pictures.
    pub accuracy: Option<f64>,
}

/// Pictures of similar confidence.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Bin {
    /// How many there are.
    pub images: u64,
    /// Mean probability of the class that came first; 0 where there are none.
    pub confidence: f64,
    /// Share of them that were right; 0 where there are none.
    pub accuracy: f64,
}

/// The results of a run's weights, as `evaluation.json` has them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Assessments {
    /// The weight file in the run's folder.
    pub weights: String,
    /// The epoch it is of, from 1.
    pub epoch: Option<usize>,
    /// Names of the classes, by label.
    pub classes: Vec<String>,
    /// Where the images were, as an absolute path for a folder. Earlier versions did not say.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub data: String,
    /// By part: `val`, `test` where there is one, `ema_val` for the averaged weights.
    pub parts: BTreeMap<String, Assessment>,
}

impl Assessment {
    /// Share of pictures whose class was among the first `k`.
    pub fn top_k(&self, k: usize) -> f64 {
        let found: u64 = self.places.iter().take(k).sum();
        found as f64 / self.images as f64
    }
}

/// Evaluates a network on all pictures of a loader, in detail.
///
/// # Errors
/// Where pictures cannot be read or do not fit the network, or what it makes of them is not finite.
pub fn assess(
    network: &impl Trainable,
    loader: &Loader,
    device: &Device,
    views: Views,
) -> Result<(Evaluation, Assessment)> {
    let start = Instant::now();
    let mut tally = Tally::default();
    let mut each = |logits: &Tensor, labels: &[u32]| {
        check_finite(network, logits)?;
        tally.add(logits, labels)
    };
    let watch = &mut |_| ControlFlow::Continue(());
    let sums = pass(network, loader, device, views, watch, &mut each)?.unwrap_or_default();
    let found = Assessment { left_out: LeftOut::of(loader), ..tally.finish(&sums) };
    Ok((evaluation(&sums, loader, start), found))
}

/// What is counted over a pass.
#[derive(Debug, Default)]
struct Tally {
    confusion: Vec<Vec<u64>>,
    places: Vec<u64>,
    /// Pictures, sum of probabilities, pictures that were right.
    bins: [(u64, f64, u64); BINS],
}

impl Tally {
    fn add(&mut self, logits: &Tensor, labels: &[u32]) -> Result<()> {
        let rows =
            logits.detach().to_device(&Device::Cpu)?.to_dtype(DType::F64)?.to_vec2::<f64>()?;
        for (row, &label) in rows.iter().zip(labels) {
            let (label, classes) = (label as usize, row.len());
            if self.places.len() < classes {
                self.confusion = vec![vec![0; classes]; classes];
                self.places = vec![0; classes];
            }
            if label >= classes {
                let found = format!("label {label} for {classes} classes");
                return Err(Error::op("assess", found, "labels must be classes"));
            }
            // A row with a NaN is in no column and in no place.
            let Some(place) = place(row, label) else { continue };
            let Some((first, probability)) = most_likely(row) else { continue };
            self.places[place] += 1;
            self.confusion[label][first] += 1;
            let bin = &mut self.bins[((probability * BINS as f64) as usize).min(BINS - 1)];
            bin.0 += 1;
            bin.1 += probability;
            bin.2 += u64::from(first == label);
        }
        Ok(())
    }

    fn finish(self, sums: &Sums) -> Assessment {
        let of_class = |(class, row): (usize, &Vec<u64>)| {
            let (images, right) = (row.iter().sum(), row[class]);
            let accuracy = (images > 0).then(|| right as f64 / images as f64);
            ClassScore { images, right, accuracy }
        };
        let mean = |sum: f64, count: u64| if count > 0 { sum / count as f64 } else { 0.0 };
        let bin = |&(images, probability, right): &(u64, f64, u64)| Bin {
            images,
            confidence: mean(probability, images),
            accuracy: mean(right as f64, images),
        };
        let calibration: Vec<Bin> = self.bins.iter().map(bin).collect();
        let gap = |bin: &Bin| bin.images as f64 * (bin.confidence - bin.accuracy).abs();
        Assessment {
            loss: sums.mean_loss(),
            top1: sums.top1_share(),
            top5: sums.top5_share(),
            images: sums.images,
            left_out: Vec::new(),
            calibration_error: mean(calibration.iter().map(gap).sum(), sums.images),
            per_class: self.confusion.iter().enumerate().map(of_class).collect(),
            confusion: self.confusion,
            places: self.places,
            calibration,
        }
    }
}

/// The class with the largest logit, the first among equals, and its probability.
fn most_likely(row: &[f64]) -> Option<(usize, f64)> {
    let better = |best: Option<(usize, f64)>, (class, &x): (usize, &f64)| match best {
        Some((_, most)) if most >= x => best,
        _ => Some((class, x)),
    };
    let (class, most) = row.iter().enumerate().fold(None, better)?;
    let sum: f64 = row.iter().map(|x| (x - most).exp()).sum();
    Some((class, 1.0 / sum))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assessed(rows: &[[f64; 3]], labels: &[u32]) -> Assessment {
        let logits = Tensor::from_vec(rows.concat(), (rows.len(), 3), &Device::Cpu).unwrap();
        let (mut tally, mut sums) = (Tally::default(), Sums::default());
        tally.add(&logits, labels).unwrap();
        sums.add(&logits, labels, 1.0).unwrap();
        tally.finish(&sums)
    }

    #[test]
    fn what_is_taken_for_what() {
        let rows = [[2.0, 0.0, 1.0], [2.0, 0.0, 1.0], [0.0, 3.0, 1.0], [0.0, 0.0, 9.0]];
        let found = assessed(&rows, &[0, 2, 1, 0]);
        assert_eq!(found.confusion, [[1, 0, 1], [0, 1, 0], [1, 0, 0]]);
        let score = |images, right| ClassScore {
            images,
            right,
            accuracy: Some(right as f64 / images as f64),
        };
        assert_eq!(found.per_class, [score(2, 1), score(1, 1), score(1, 0)]);
        assert_eq!(
            (found.top1, found.top_k(1), found.top_k(2), found.top_k(3)),
            (0.5, 0.5, 1.0, 1.0)
        );
        assert_eq!(found.places, [2, 2, 0]);
    }

    #[test]
    fn calibration_is_the_gap_between_confidence_and_accuracy() {
        // Probability 0.8 for the first class, right in three of four.
        let row = [(0.8f64).ln(), (0.1f64).ln(), (0.1f64).ln()];
        let found = assessed(&[row; 4], &[0, 0, 0, 1]);
        assert!((found.calibration_error - 0.05).abs() < 1e-12, "{}", found.calibration_error);
        let full: Vec<_> = found.calibration.iter().filter(|bin| bin.images > 0).collect();
        assert_eq!((full.len(), full[0].images, full[0].accuracy), (1, 4, 0.75));
        assert!((full[0].confidence - 0.8).abs() < 1e-12);
    }

    #[test]
    fn rows_with_a_nan_are_nowhere() {
        let found = assessed(&[[f64::NAN, 0.0, 1.0], [0.0, 1.0, 0.0]], &[0, 1]);
        assert_eq!((found.images, found.confusion[0].iter().sum::<u64>()), (2, 0));
        assert_eq!(found.per_class[0].accuracy, None);
    }
}
