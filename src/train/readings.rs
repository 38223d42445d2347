//! What steps come to, left on the device and read many steps at once.
//!
//! A GPU works on what it was given while the next step is being prepared; asking it for a number
//! makes it, and the program, wait until everything before is done. So what steps measure stays where
//! it was computed, and is read together.

use candle_core::{DType, Device, Tensor};

use super::metrics::Sums;
use super::observer::BatchDone;
use crate::{Error, Result};

/// Steps between two readings from a GPU.
pub(super) const EVERY: usize = 50;

/// Steps whose values have not been read.
#[derive(Default)]
pub(super) struct Readings {
    waiting: Vec<Waiting>,
    /// How often values were read.
    #[cfg_attr(not(test), allow(dead_code))] // counted for the tests
    reads: usize,
}

/// A step, and its values as [`row`] has them.
struct Waiting {
    report: BatchDone,
    pictures: usize,
    row: Tensor,
}

/// A step as it was read: its report is complete but for the sums.
pub(super) struct Read {
    pub(super) report: BatchDone,
    pub(super) sums: Sums,
}

/// The values of a step as a tensor [4] on the device of its `logits` [N, C]: mean loss, the loss that
/// training goes down on, pictures whose class came first, and among the first five.
pub(super) fn row(
    main: &Tensor,
    total: &Tensor,
    logits: &Tensor,
    labels: &[u32],
) -> Result<Tensor> {
    let (logits, dtype) = (logits.detach(), logits.dtype());
    let place = places(&logits, labels)?;
    let within = |first: f64| place.lt(first)?.to_dtype(dtype)?.sum_all();
    let of_type = |t: &Tensor| t.detach().to_dtype(dtype);
    Ok(Tensor::stack(&[of_type(main)?, of_type(total)?, within(1.0)?, within(5.0)?], 0)?)
}

/// How many classes come before each row's own, [N, 1]; all of them where a logit is NaN. As in
/// [`Sums::add`], the lower class comes first among equal ones.
fn places(logits: &Tensor, labels: &[u32]) -> Result<Tensor> {
    let ((rows, classes), device) = (logits.dims2()?, logits.device());
    if rows != labels.len() || labels.iter().any(|&label| label as usize >= classes) {
        let found = format!("labels {labels:?} for logits {:?}", logits.dims());
        return Err(Error::op("metrics", found, "it needs one label a row, each a class"));
    }
    let labels = Tensor::from_slice(labels, (rows, 1), device)?;
    let own = logits.gather(&labels, 1)?;
    let classes_before = Tensor::arange(0, classes as u32, device)?.reshape((1, classes))?;
    let count = |mask: Tensor| mask.to_dtype(logits.dtype())?.sum_keepdim(1);
    let larger = count(logits.broadcast_gt(&own)?)?;
    let equal = logits.broadcast_eq(&own)?.mul(&classes_before.broadcast_lt(&labels)?)?;
    // One NaN puts the row's own class behind all others.
    let spoiled = (count(logits.ne(logits)?)? * classes.max(5) as f64)?;
    Ok(((larger + count(equal)?)? + spoiled)?)
}

impl Readings {
    /// A step more, with its values and its number of pictures.
    pub(super) fn push(&mut self, report: BatchDone, pictures: usize, row: Tensor) {
        self.waiting.push(Waiting { report, pictures, row });
    }

    /// How many steps wait.
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Reads the values of all steps that wait, in their order.
    pub(super) fn read(&mut self) -> Result<Vec<Read>> {
        if self.waiting.is_empty() {
            return Ok(Vec::new());
        }
        self.reads += 1;
        let rows: Vec<_> = self.waiting.iter().map(|waiting| &waiting.row).collect();
        let values = Tensor::stack(&rows, 0)?.to_device(&Device::Cpu)?.to_dtype(DType::F64)?;
        let values = values.to_vec2::<f64>()?;
        let steps = std::mem::take(&mut self.waiting).into_iter().zip(values);
        Ok(steps.map(|(waiting, values)| waiting.with(&values)).collect())
    }

    #[cfg(test)]
    pub(super) fn reads(&self) -> usize {
        self.reads
    }
}

impl Waiting {
    fn with(self, values: &[f64]) -> Read {
        let (images, count) = (self.pictures as u64, |value: f64| value as u64);
        let sums = Sums {
            loss: values[0] * images as f64,
            top1: count(values[2]),
            top5: count(values[3]),
            images,
        };
        Read { report: BatchDone { loss: values[1], ..self.report }, sums }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    /// Ties, NaNs, few classes and many: counted on the device as on the CPU.
    #[test]
    fn counts_are_those_of_the_immediate_sums() {
        let mut rng = Rng::new(1);
        for case in 0..200 {
            let (rows, classes) = (1 + rng.below(6), 1 + rng.below(8));
            let mut value = |_| match rng.below(12) {
                0 => f32::NAN,
                1 => f32::INFINITY,
                _ => rng.below(4) as f32,
            };
            let logits: Vec<f32> = (0..rows * classes).map(&mut value).collect();
            let logits = Tensor::from_vec(logits, (rows, classes), &Device::Cpu).unwrap();
            let labels: Vec<u32> = (0..rows).map(|_| rng.below(classes) as u32).collect();
            let loss = Tensor::new(0.1f32, &Device::Cpu).unwrap();
            let row = row(&loss, &loss, &logits, &labels).unwrap().to_vec1::<f32>().unwrap();
            let mut sums = Sums::default();
            sums.add(&logits, &labels, 0.0).unwrap();
            let found = (row[2] as u64, row[3] as u64);
            assert_eq!(found, (sums.top1, sums.top5), "case {case}: {logits} {labels:?}");
        }
    }
}
