//! Tensors of a file into a network: all of them or, where that is asked for, those that fit.

use std::collections::BTreeMap;

use candle_core::Tensor;

use super::WeightFile;
use crate::nn::{Layer, Network};
use crate::{Error, Result};

/// What [`WeightFile::apply`] did, for people.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// Tensors taken over.
    pub loaded: usize,
    /// Layers whose last layer has another size and so begins anew.
    pub replaced: Vec<String>,
    /// Auxiliary heads that one side has and the other has not.
    pub auxiliary: Vec<String>,
    /// With [`WeightFile::apply_partial`]: what did not fit, in words.
    pub left_out: Vec<String>,
}

impl WeightFile {
    /// Takes the file's values over into a network of the same architecture; its names may be
    /// torchvision's, timm's, or either's with a wrapper's prefix.
    ///
    /// A last layer of another size keeps its fresh weights, and auxiliary heads may be missing on
    /// either side; both are reported. Anything else that does not fit is an error, and then nothing
    /// has changed.
    ///
    /// # Errors
    /// One message that lists missing, unexpected and wrongly shaped tensors.
    pub fn apply(&self, network: &Network) -> Result<Applied> {
        let tensors = self.torchvision()?;
        let comparison = Comparison::of(&tensors, network);
        if let Some(misfit) = comparison.misfit() {
            return Err(Error::file(&self.path, misfit));
        }
        comparison.take_over(network)
    }

    /// [`WeightFile::apply`] for what fits; the rest keeps its fresh weights and is reported.
    ///
    /// # Errors
    /// Where nothing fits.
    pub fn apply_partial(&self, network: &Network) -> Result<Applied> {
        let tensors = self.torchvision()?;
        let comparison = Comparison::of(&tensors, network);
        if comparison.fitting.is_empty() {
            let cause = "not one of its tensors fits this architecture";
            return Err(Error::file(&self.path, cause));
        }
        let left_out = comparison.misfit().into_iter().collect();
        Ok(Applied { left_out, ..comparison.take_over(network)? })
    }
}

/// A file's tensors beside a network's.
#[derive(Default)]
struct Comparison<'a> {
    fitting: Vec<(&'a str, &'a Tensor)>,
    missing: Vec<String>,
    unexpected: Vec<String>,
    wrong: Vec<String>,
    applied: Applied,
}

impl<'a> Comparison<'a> {
    fn of(tensors: &'a BTreeMap<String, Tensor>, network: &'a Network) -> Self {
        let heads = Heads::of(network.layers());
        let mut found = Comparison::default();
        for entry in network.params().entries() {
            let (name, shape) = (entry.spec.name.as_str(), &entry.spec.shape);
            match tensors.get(name) {
                Some(tensor) if tensor.dims() == shape => found.fitting.push((name, tensor)),
                Some(_) if heads.last.iter().any(|layer| inside(layer, name)) => {
                    note(&mut found.applied.replaced, parent(name));
                }
                Some(tensor) => {
                    let dims = tensor.dims();
                    found.wrong.push(format!("{name} is {dims:?}, needed {shape:?}"));
                }
                None => match heads.auxiliary.iter().find(|head| inside(head, name)) {
                    Some(head) => note(&mut found.applied.auxiliary, head),
                    None if name.ends_with("num_batches_tracked") => {} // not in old files
                    None => found.missing.push(format!("{name} {shape:?}")),
                },
            }
        }
        for (name, tensor) in tensors {
            if network.params().get(name).is_ok() {
                continue;
            }
            match name.split('.').next() {
                Some(head) if is_auxiliary(head) => note(&mut found.applied.auxiliary, head),
                _ => found.unexpected.push(format!("{name} {:?}", tensor.dims())),
            }
        }
        found
    }

    /// All that does not fit, in one message.
    fn misfit(&self) -> Option<String> {
        let parts = [
            ("missing", &self.missing),
            ("unexpected", &self.unexpected),
            ("wrongly shaped", &self.wrong),
        ];
        let parts = parts.iter().filter(|(_, names)| !names.is_empty());
        let parts: Vec<_> = parts.map(|(what, names)| listed(what, names)).collect();
        let cause = || format!("does not fit this architecture: {}", parts.join("; "));
        (!parts.is_empty()).then(cause)
    }

    fn take_over(self, network: &Network) -> Result<Applied> {
        let loaded = self.fitting.len();
        network.params().set(self.fitting)?;
        Ok(Applied { loaded, ..self.applied })
    }
}

/// The layers that depend on the number of classes.
pub(crate) struct Heads {
    /// Full names of the last layers, of the auxiliary heads and, at the end, of the net.
    pub(crate) last: Vec<String>,
    /// Full names of the auxiliary heads.
    pub(crate) auxiliary: Vec<String>,
}

impl Heads {
    pub(crate) fn of(layers: &Layer) -> Self {
        let mut auxiliary = Vec::new();
        let mut weighted = Vec::new();
        layers.walk("", &mut |path, layer| match layer {
            // SqueezeNet ends in a convolution.
            Layer::Linear { .. } | Layer::Conv2d(_) => weighted.push(path.to_owned()),
            Layer::AuxHead { .. } => auxiliary.push(path.to_owned()),
            _ => {}
        });
        let within = |head: &String| weighted.iter().rfind(|path| inside(head, path)).cloned();
        let mut last: Vec<_> = auxiliary.iter().filter_map(within).collect();
        let outside = |path: &&String| !auxiliary.iter().any(|head| inside(head, path));
        last.extend(weighted.iter().rfind(outside).cloned());
        Heads { last, auxiliary }
    }
}

/// Whether the first part of a name is an auxiliary head's in torchvision.
pub(super) fn is_auxiliary(head: &str) -> bool {
    head.starts_with("aux") || head == "AuxLogits"
}

/// Whether `name` lies below `layer` in the tree.
pub(crate) fn inside(layer: &str, name: &str) -> bool {
    name.strip_prefix(layer).is_some_and(|rest| rest.starts_with('.'))
}

/// `fc` of `fc.weight`.
fn parent(name: &str) -> &str {
    name.rsplit_once('.').map_or(name, |(parent, _)| parent)
}

fn note(names: &mut Vec<String>, name: &str) {
    if !names.iter().any(|known| known == name) {
        names.push(name.to_owned());
    }
}

/// `2 missing (a [3], b [4])`, with the first names and how many more there are.
fn listed(what: &str, names: &[String]) -> String {
    const SHOWN: usize = 12;
    let shown = names[..names.len().min(SHOWN)].join(", ");
    let more = names.len().saturating_sub(SHOWN);
    let more = if more > 0 { format!(", and {more} more") } else { String::new() };
    format!("{} {what} ({shown}{more})", names.len())
}
