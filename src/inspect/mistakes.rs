//! The pictures that a network is most wrong about.

use candle_core::{D, DType};

use super::Runner;
use crate::data::Loader;
use crate::nn::Network;
use crate::{Error, Result};

/// A picture that was taken for another class.
#[derive(Clone, Debug, PartialEq)]
pub struct Mistake {
    /// The picture's place in the loader's source.
    pub index: usize,
    /// Its class.
    pub truth: usize,
    /// What it was taken for.
    pub guess: usize,
    /// The probability of the guess, 0 to 1.
    pub confidence: f32,
    /// The probability of the truth.
    pub truth_probability: f32,
}

/// What a pass over labelled pictures found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Mistakes {
    /// Pictures looked at.
    pub images: usize,
    /// How many were taken for another class.
    pub wrong: usize,
    /// The worst of them, those first whose own class got least.
    pub worst: Vec<Mistake>,
}

impl Mistakes {
    /// Takes the mistakes of one batch in, and keeps the `most` worst.
    fn add(&mut self, rows: &[Vec<f32>], labels: &[u32], indices: &[usize], most: usize) {
        self.images += rows.len();
        for ((row, &label), &index) in rows.iter().zip(labels).zip(indices) {
            let order = |&a: &usize, &b: &usize| row[a].total_cmp(&row[b]).then(b.cmp(&a));
            let guess = (0..row.len()).max_by(order).unwrap_or(0);
            let truth = label as usize;
            if guess != truth {
                let truth_probability = row.get(truth).copied().unwrap_or(0.0);
                let confidence = row[guess];
                self.worst.push(Mistake { index, truth, guess, confidence, truth_probability });
                self.wrong += 1;
            }
        }
        let worse = |a: &Mistake, b: &Mistake| {
            a.truth_probability.total_cmp(&b.truth_probability).then(a.index.cmp(&b.index))
        };
        self.worst.sort_by(worse);
        self.worst.truncate(most);
    }
}

/// The `most` pictures of a loader whose own class gets least, among those that are taken for another.
///
/// # Errors
/// Where pictures cannot be read or do not fit the network, or what it makes of them is not finite.
pub fn most_wrong(network: &Network, loader: &Loader, most: usize) -> Result<Mistakes> {
    let mut found = Mistakes::default();
    let mut runner = None;
    for batch in loader.epoch(0, 0) {
        let batch = batch?;
        let (_, c, h, w) = batch.images.dims4()?;
        let runner = match &mut runner {
            Some(runner) => runner,
            none => none.insert(Runner::new(network, (c, h, w))?),
        };
        let rows = candle_nn::ops::softmax(&runner.logits(&batch.images)?, D::Minus1)?;
        let rows: Vec<Vec<f32>> = rows.to_dtype(DType::F32)?.to_vec2()?;
        if rows.iter().flatten().any(|probability| !probability.is_finite()) {
            let found = "a network whose outputs are not finite";
            return Err(Error::op("most_wrong", found, "nothing can be measured with it"));
        }
        found.add(&rows, &batch.labels, &batch.indices, most);
    }
    Ok(found)
}
