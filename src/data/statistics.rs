//! The mean and standard deviation that images are normalised with.

use std::fmt;
use std::str::FromStr;

use super::imagenet;
use crate::error::{Error, Result};

/// Whose mean and standard deviation images are normalised with.
///
/// ```
/// use convzoo::data::Normalise;
/// # fn main() -> convzoo::Result<()> {
/// let given: Normalise = "0.5,0.4,0.3/0.2,0.2,0.2".parse()?;
/// assert_eq!(given.of(&[0.1], &[0.3]).0, [0.5, 0.4, 0.3]);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq)]
pub enum Normalise {
    /// ImageNet's.
    ImageNet,
    /// Those of the data set.
    Dataset,
    /// 0.5 and 0.5: samples from -1 to 1.
    Half,
    /// None: samples from 0 to 1.
    None,
    /// These, of samples from 0 to 1: one for all channels, or one each.
    Given {
        /// Means.
        mean: Vec<f32>,
        /// Standard deviations, as many.
        std: Vec<f32>,
    },
}

impl Normalise {
    /// Mean and standard deviation, where these are the data set's.
    pub fn of(&self, mean: &[f32], std: &[f32]) -> (Vec<f32>, Vec<f32>) {
        match self {
            Normalise::ImageNet => (imagenet::MEAN.to_vec(), imagenet::STD.to_vec()),
            Normalise::Dataset => (mean.to_vec(), std.to_vec()),
            Normalise::Half => (vec![0.5], vec![0.5]),
            Normalise::None => (vec![0.0], vec![1.0]),
            Normalise::Given { mean, std } => (mean.clone(), std.clone()),
        }
    }
}

impl FromStr for Normalise {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = || {
            Error::Setting(format!(
                "{text} is not imagenet, dataset, half, none, or MEAN/STD with 1 or 3 numbers each, as \
                 in 0.5,0.5,0.5/0.25,0.25,0.25"
            ))
        };
        Ok(match text {
            "imagenet" => Normalise::ImageNet,
            "dataset" => Normalise::Dataset,
            "half" => Normalise::Half,
            "none" => Normalise::None,
            given => {
                let (mean, std) = given.split_once('/').ok_or_else(wrong)?;
                let (mean, std) = numbers(mean).zip(numbers(std)).ok_or_else(wrong)?;
                let usable = matches!(mean.len(), 1 | 3)
                    && mean.len() == std.len()
                    && mean.iter().all(|mean| mean.is_finite())
                    && std.iter().all(|std| std.is_finite() && *std > 0.0);
                if !usable {
                    return Err(wrong());
                }
                Normalise::Given { mean, std }
            }
        })
    }
}

fn numbers(text: &str) -> Option<Vec<f32>> {
    text.split(',').map(|number| number.trim().parse().ok()).collect()
}

impl fmt::Display for Normalise {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let list = |values: &[f32]| {
            values.iter().map(f32::to_string).collect::<Vec<_>>().join(",")
        };
        match self {
            Normalise::ImageNet => f.write_str("imagenet"),
            Normalise::Dataset => f.write_str("dataset"),
            Normalise::Half => f.write_str("half"),
            Normalise::None => f.write_str("none"),
            Normalise::Given { mean, std } => write!(f, "{}/{}", list(mean), list(std)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_is_read_and_written() {
        for text in ["imagenet", "dataset", "half", "none", "0.5/0.25", "0.1,0.2,0.3/1,2,3"] {
            assert_eq!(text.parse::<Normalise>().unwrap().to_string(), text);
        }
        for bad in ["", "ImageNet", "0.5", "0.5/0", "0.5/-1", "0.5,0.5/0.5,0.5", "nan/1", "1/2/3"] {
            let error = bad.parse::<Normalise>().unwrap_err().to_string();
            assert!(error.contains("MEAN/STD"), "{bad}: {error}");
        }
    }
}
