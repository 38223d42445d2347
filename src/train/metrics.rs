//! What is counted over a pass: loss, top-1, top-5.

use candle_core::{DType, Device, Tensor};
use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// Sums over the pictures of a pass so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Sums {
    /// Sum of the pictures' losses.
    pub loss: f64,
    /// Pictures whose class came first.
    pub top1: u64,
    /// Pictures whose class was among the first five.
    pub top5: u64,
    /// Pictures.
    pub images: u64,
}

impl Sums {
    /// Adds a batch: its logits [N, classes], its labels, and the sum of its pictures' losses.
    ///
    /// A row with a NaN counts as wrong; among equal logits the lower class comes first.
    ///
    /// # Errors
    /// Where there are not as many labels as rows.
    pub fn add(&mut self, logits: &Tensor, labels: &[u32], loss: f64) -> Result<()> {
        let logits = logits.detach().to_device(&Device::Cpu)?.to_dtype(DType::F64)?;
        let rows = logits.to_vec2::<f64>()?;
        if rows.len() != labels.len() {
            let found = format!("{} labels for {} rows", labels.len(), rows.len());
            return Err(Error::op("metrics", found, "it needs one label a row"));
        }
        for (row, &label) in rows.iter().zip(labels) {
            let place = place(row, label as usize);
            self.top1 += u64::from(place.is_some_and(|place| place < 1));
            self.top5 += u64::from(place.is_some_and(|place| place < 5));
        }
        self.loss += loss;
        self.images += labels.len() as u64;
        Ok(())
    }

    /// Adds those of other pictures.
    pub(super) fn join(&mut self, other: &Sums) {
        self.loss += other.loss;
        self.top1 += other.top1;
        self.top5 += other.top5;
        self.images += other.images;
    }

    /// Mean loss of a picture; NaN before the first.
    pub fn mean_loss(&self) -> f64 {
        self.loss / self.images as f64
    }

    /// Share of pictures whose class came first; NaN before the first.
    pub fn top1_share(&self) -> f64 {
        self.top1 as f64 / self.images as f64
    }

    /// Share of pictures whose class was among the first five; NaN before the first.
    pub fn top5_share(&self) -> f64 {
        self.top5 as f64 / self.images as f64
    }
}

/// How many classes come before `label`; none where a logit is NaN or there is no such class.
pub(super) fn place(row: &[f64], label: usize) -> Option<usize> {
    let own = *row.get(label)?;
    if row.iter().any(|x| x.is_nan()) {
        return None;
    }
    let before = |&(class, &x): &(usize, &f64)| x > own || (x == own && class < label);
    Some(row.iter().enumerate().filter(before).count())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sums(rows: &[&[f64]], labels: &[u32]) -> Sums {
        let (n, classes) = (rows.len(), rows[0].len());
        let logits = Tensor::from_vec(rows.concat(), (n, classes), &Device::Cpu).unwrap();
        let mut sums = Sums::default();
        sums.add(&logits, labels, 1.0).unwrap();
        sums
    }

    #[test]
    fn the_first_five_count() {
        let row: &[f64] = &[0.1, 0.6, 0.5, 0.4, 0.3, 0.2];
        let counts = |label| {
            let sums = sums(&[row], &[label]);
            (sums.top1, sums.top5)
        };
        assert_eq!(counts(1), (1, 1));
        assert_eq!(counts(5), (0, 1));
        assert_eq!(counts(0), (0, 0));
    }

    #[test]
    fn few_classes_ties_and_nans() {
        assert_eq!(sums(&[&[0.0, 0.0]], &[0]).top1, 1);
        assert_eq!(sums(&[&[0.0, 0.0]], &[1]).top1, 0);
        assert_eq!(sums(&[&[0.0, 0.0]], &[1]).top5, 1);
        let spoiled = sums(&[&[f64::NAN, 5.0], &[f64::NAN, f64::NAN]], &[1, 0]);
        assert_eq!((spoiled.top1, spoiled.top5, spoiled.images), (0, 0, 2));
        assert_eq!(sums(&[&[1.0]], &[3]).top5, 0);
    }

    #[test]
    fn sums_go_on() {
        let logits = Tensor::new(&[[2f32, 1.0], [2.0, 1.0]], &Device::Cpu).unwrap();
        let mut sums = Sums::default();
        sums.add(&logits, &[0, 1], 3.0).unwrap();
        sums.add(&logits, &[0, 0], 1.0).unwrap();
        assert_eq!((sums.mean_loss(), sums.top1_share(), sums.top5_share()), (1.0, 0.75, 1.0));
        assert!(sums.add(&logits, &[0], 1.0).is_err());
    }
}
