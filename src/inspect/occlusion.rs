//! Occlusion maps (Zeiler and Fergus, "Visualizing and Understanding Convolutional Networks", 2014,
//! section 4.2): a patch moves over the picture, and the class's probability is watched.

use candle_core::{D, DType, Tensor};

use super::{Heat, Runner, one_picture, probabilities};
use crate::nn::Network;
use crate::{Error, Result};

/// Pictures that go through the network at once.
const BATCH: usize = 16;

/// A patch, and how it moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Side of the patch, in pixels.
    pub size: usize,
    /// Pixels from one place to the next.
    pub stride: usize,
}

/// What covering parts of a picture does to a class.
#[derive(Clone, Debug)]
pub struct Occlusion {
    /// The class.
    pub class: usize,
    /// Its probability, nothing covered.
    pub probability: f32,
    /// For each place of the patch, how much of the probability is lost.
    pub places: Heat,
    /// For each pixel of the input, the mean of the places whose patch covers it.
    pub heat: Heat,
}

impl Window {
    /// Where the patch begins along a side: every `stride` pixels, and last at the very end.
    fn starts(self, side: usize) -> Vec<usize> {
        let last = side - self.size;
        let mut starts: Vec<_> = (0..=last).step_by(self.stride).collect();
        if starts.last() != Some(&last) {
            starts.push(last);
        }
        starts
    }
}

/// Covers one picture [1, C, H, W] place by place with zeros, which after normalising is the mean
/// colour of the data set. Without a class, the likeliest one.
///
/// # Errors
/// A patch that is larger than the picture, or does not move; no such class.
pub fn occlusion(
    network: &Network,
    input: &Tensor,
    class: Option<usize>,
    window: Window,
) -> Result<Occlusion> {
    let (input, [c, h, w]) = one_picture(network, input)?;
    let Window { size, stride } = window;
    if size == 0 || stride == 0 || size > h.min(w) {
        let found = format!("a patch of {size}x{size} pixels, moved by {stride}");
        let needed = format!("it must move, and fit into the picture of {h}x{w}");
        return Err(Error::op("occlusion", found, needed));
    }
    let mut runner = Runner::new(network, (c, h, w))?;
    let (before, class) = probabilities(&runner.logits(&input)?, class)?;
    let (rows, cols) = (window.starts(h), window.starts(w));
    let corners: Vec<_> = rows.iter().flat_map(|&y| cols.iter().map(move |&x| (y, x))).collect();
    let mut lost = Vec::with_capacity(corners.len());
    for corners in corners.chunks(BATCH) {
        let covered = corners.iter().map(|&corner| Ok(input.mul(&hole(&input, corner, size)?)?));
        let batch = Tensor::cat(&covered.collect::<Result<Vec<_>>>()?, 0)?;
        let logits = runner.logits(&batch)?;
        let after = candle_nn::ops::softmax(&logits, D::Minus1)?.to_dtype(DType::F32)?;
        let after: Vec<Vec<f32>> = after.to_vec2()?;
        lost.extend(after.iter().map(|row| before[class] - row[class]));
    }
    let heat = spread(&corners, &lost, size, (h, w));
    let places = Heat::new(rows.len(), cols.len(), lost)?;
    Ok(Occlusion { class, probability: before[class], places, heat: Heat::new(h, w, heat)? })
}

/// Ones like `input`, but for a square of zeros.
fn hole(input: &Tensor, (top, left): (usize, usize), size: usize) -> Result<Tensor> {
    let (_, c, h, w) = input.dims4()?;
    let inside = |at: usize, from: usize| (from..from + size).contains(&at);
    let mask = (0..c * h * w).map(|i| {
        let (y, x) = (i / w % h, i % w);
        f32::from(!(inside(y, top) && inside(x, left)))
    });
    let mask = Tensor::from_vec(mask.collect::<Vec<_>>(), (1, c, h, w), input.device())?;
    Ok(mask.to_dtype(input.dtype())?)
}

/// For each pixel, the mean of the places that cover it.
fn spread(
    corners: &[(usize, usize)],
    lost: &[f32],
    size: usize,
    (h, w): (usize, usize),
) -> Vec<f32> {
    let (mut sums, mut counts) = (vec![0f32; h * w], vec![0f32; h * w]);
    for (&(top, left), lost) in corners.iter().zip(lost) {
        for y in top..top + size {
            for x in left..left + size {
                sums[y * w + x] += lost;
                counts[y * w + x] += 1.0;
            }
        }
    }
    // A stride larger than the patch leaves pixels that nothing covered.
    sums.iter().zip(&counts).map(|(sum, count)| sum / count.max(1.0)).collect()
}
