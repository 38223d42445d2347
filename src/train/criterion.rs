//! The loss that training goes down on.

use std::str::FromStr;

use candle_core::Tensor;
use serde::{Deserialize, Serialize};

use crate::data::{Mixed, Source};
use crate::nn::Output;
use crate::ops::{self, CrossEntropyParams};
use crate::{Error, Result};

/// How much the pictures of each class count in the loss.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ClassWeights {
    /// All alike.
    #[default]
    Equal,
    /// Every class as much as any other, however few pictures it has: pictures / (classes · pictures of
    /// the class).
    Balanced,
    /// As given, one number a class.
    Given(Vec<f64>),
}

impl ClassWeights {
    /// Whether all count alike.
    pub fn is_default(&self) -> bool {
        *self == ClassWeights::Equal
    }

    /// The number for each of `classes` classes; none where all count alike.
    ///
    /// # Errors
    /// Another number of weights than classes, weights that make no sense, or a class without a picture
    /// to balance it by.
    pub fn of(&self, source: &dyn Source, classes: usize) -> Result<Option<Vec<f64>>> {
        match self {
            ClassWeights::Equal => Ok(None),
            ClassWeights::Balanced => balanced(source, classes).map(Some),
            ClassWeights::Given(weights) => {
                let sound = weights.iter().all(|weight| weight.is_finite() && *weight > 0.0);
                if weights.len() != classes || !sound {
                    let message = format!(
                        "class weights are {weights:?}; there must be one a class, {classes} in all, \
                         above 0"
                    );
                    return Err(Error::Setting(message));
                }
                Ok(Some(weights.clone()))
            }
        }
    }
}

fn balanced(source: &dyn Source, classes: usize) -> Result<Vec<f64>> {
    let mut counts = vec![0u64; classes];
    for label in (0..source.len()).map(|index| source.label(index) as usize) {
        match counts.get_mut(label) {
            Some(count) => *count += 1,
            None => return Err(Error::Setting(format!("label {label} of {classes} classes"))),
        }
    }
    if let Some(empty) = counts.iter().position(|count| *count == 0) {
        let message = format!("class weights cannot be balanced: class {empty} has no picture");
        return Err(Error::Setting(message));
    }
    let all = source.len() as f64 / classes as f64;
    Ok(counts.into_iter().map(|count| all / count as f64).collect())
}

/// `equal`, `balanced`, or numbers as in `1,2.5,1`.
impl FromStr for ClassWeights {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "equal" => return Ok(ClassWeights::Equal),
            "balanced" => return Ok(ClassWeights::Balanced),
            _ => {}
        }
        let numbers: Result<Vec<f64>, _> = text.split(',').map(|one| one.trim().parse()).collect();
        numbers.map(ClassWeights::Given).map_err(|_| {
            let message = format!("class weights {text}: equal, balanced, or numbers as in 1,2.5");
            Error::Setting(message)
        })
    }
}

/// The loss of the main logits, and with the weighted losses of auxiliary heads. Where pictures are
/// mixed, it is that of both labels, each by its share.
pub(crate) fn losses(
    output: &Output,
    labels: &[u32],
    mixed: Option<&Mixed>,
    entropy: &CrossEntropyParams,
) -> Result<(Tensor, Tensor)> {
    let loss = |logits: &Tensor| -> Result<Tensor> {
        let own = ops::cross_entropy(logits, labels, entropy)?;
        let Some(Mixed { labels, share }) = mixed else { return Ok(own) };
        let other = ops::cross_entropy(logits, labels, entropy)?;
        Ok(((own * *share)? + (other * (1.0 - share))?)?)
    };
    let main = loss(&output.logits)?;
    let mut total = main.clone();
    for aux in &output.aux {
        total = (total + (loss(&aux.logits)? * aux.weight)?)?;
    }
    Ok((main, total))
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Tensor};

    use super::*;
    use crate::data::Picture;

    struct Labels(&'static [u32]);

    impl Source for Labels {
        fn len(&self) -> usize {
            self.0.len()
        }
        fn label(&self, index: usize) -> u32 {
            self.0[index]
        }
        fn name(&self, index: usize) -> String {
            index.to_string()
        }
        fn picture(&self, _: usize) -> Result<Picture> {
            Picture::new(1, 1, 1, vec![0])
        }
    }

    #[test]
    fn balanced_classes_weigh_the_same() {
        let source = Labels(&[0, 0, 0, 1]);
        let of = |text: &str, classes| text.parse::<ClassWeights>()?.of(&source, classes);
        assert_eq!(of("balanced", 2).unwrap(), Some(vec![4.0 / 2.0 / 3.0, 2.0]));
        assert_eq!(of("equal", 2).unwrap(), None);
        assert_eq!(of("1,2.5", 2).unwrap(), Some(vec![1.0, 2.5]));
        for (text, classes, told) in
            [("balanced", 3, "class 2"), ("1,2", 3, "3 in all"), ("1,-2", 2, "above 0")]
        {
            let error = of(text, classes).unwrap_err().to_string();
            assert!(error.contains(told), "{error}");
        }
        assert!("heavy".parse::<ClassWeights>().is_err());
    }

    #[test]
    fn mixed_pictures_have_two_labels() {
        let logits = Tensor::new(&[[2f64, 1.0, -1.0], [0.5, 0.0, 0.1]], &Device::Cpu).unwrap();
        let output = Output { logits: logits.clone(), aux: Vec::new() };
        let mixed = Mixed { labels: vec![1, 2], share: 0.3 };
        let entropy = CrossEntropyParams { label_smoothing: 0.1, ..Default::default() };
        let value = |tensor: Tensor| tensor.to_scalar::<f64>().unwrap();
        let (_, loss) = losses(&output, &[0, 1], Some(&mixed), &entropy).unwrap();
        let plain = |labels: &[u32]| value(ops::cross_entropy(&logits, labels, &entropy).unwrap());
        let expected = 0.3 * plain(&[0, 1]) + 0.7 * plain(&[1, 2]);
        assert!((value(loss) - expected).abs() < 1e-12);
    }
}
