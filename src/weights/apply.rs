//! Tensors of a file into a network: all of them or, where that is asked for, those that fit.

use std::collections::BTreeSet;

use candle_core::Tensor;

use super::WeightFile;
use super::names::Renamed;
use crate::nn::{Layer, Network, ParamSpec, Role};
use crate::{Error, Result};

/// What [`WeightFile::apply`] did, for people.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// Tensors taken over.
    pub loaded: usize,
    /// Last layers that have another size in the file and so begin anew: in training alone.
    pub replaced: Vec<String>,
    /// Auxiliary heads that one side has and the other has not.
    pub auxiliary: Vec<String>,
    /// What was left over, in words: tensors beside the network's own and, with
    /// [`WeightFile::apply_partial`], what did not fit.
    pub left_out: Vec<String>,
}

impl WeightFile {
    /// Takes the file's values over into a network of the same architecture; its names may be
    /// torchvision's, timm's, or either's with a wrapper's prefix.
    ///
    /// Every tensor of the network gets its value: auxiliary heads may be missing on either side, which
    /// is reported, as are tensors beside the network's own (a loss's, a counter). Anything else that
    /// does not fit is an error, and then nothing has changed.
    ///
    /// # Errors
    /// One message that lists missing, unexpected and wrongly shaped tensors; numbers that are not
    /// finite; metadata that does not fit the tensors.
    pub fn apply(&self, network: &Network) -> Result<Applied> {
        self.take_over(network, |mut comparison| {
            comparison.wrong.append(&mut comparison.heads);
            comparison.applied.replaced.clear();
            comparison
        })
    }

    /// [`WeightFile::apply`] for a network that is to be trained: a last layer of another size keeps its
    /// fresh weights, which is reported.
    ///
    /// # Errors
    /// As [`WeightFile::apply`].
    pub fn apply_for_training(&self, network: &Network) -> Result<Applied> {
        self.take_over(network, |comparison| comparison)
    }

    /// [`WeightFile::apply_for_training`] for what fits; the rest keeps its fresh weights and is
    /// reported.
    ///
    /// # Errors
    /// Where nothing fits, or a number is not finite.
    pub fn apply_partial(&self, network: &Network) -> Result<Applied> {
        let renamed = self.renamed_for(network.layers())?;
        let comparison = Comparison::of(&renamed, network.layers());
        if comparison.fitting.is_empty() {
            let cause = "not one of its tensors fits this architecture";
            return Err(Error::file(&self.path, cause));
        }
        self.check_finite(&comparison.fitting)?;
        let mut left_out: Vec<_> = comparison.misfit().into_iter().collect();
        left_out.extend(comparison.applied.left_out.iter().cloned());
        Ok(Applied { left_out, ..comparison.take_over(network)? })
    }

    fn take_over(
        &self,
        network: &Network,
        judge: impl for<'a> FnOnce(Comparison<'a>) -> Comparison<'a>,
    ) -> Result<Applied> {
        self.check_metadata_for(network.layers())?;
        let renamed = self.renamed_for(network.layers())?;
        let comparison = judge(Comparison::of(&renamed, network.layers()));
        if let Some(misfit) = comparison.misfit() {
            return Err(Error::file(&self.path, misfit));
        }
        self.check_finite(&comparison.fitting)?;
        comparison.take_over(network)
    }

    /// Whether the tensors fit a network of these layers, before it is built.
    ///
    /// # Errors
    /// As [`WeightFile::apply`].
    pub(super) fn check_fit(&self, layers: &Layer) -> Result<()> {
        self.check_metadata_for(layers)?;
        let renamed = self.renamed_for(layers)?;
        let mut comparison = Comparison::of(&renamed, layers);
        comparison.wrong.append(&mut comparison.heads);
        comparison.misfit().map_or(Ok(()), |misfit| Err(Error::file(&self.path, misfit)))
    }

    /// The tensors under the names that the layers have.
    pub(super) fn renamed_for(&self, layers: &Layer) -> Result<Renamed> {
        let specs = layers.state_specs();
        let needed = |spec: &&ParamSpec| spec.role != Role::BatchesTracked;
        let all = specs.iter().filter(needed).all(|spec| self.tensors.contains_key(&spec.name));
        let renamed = match all || self.metadata.is_some() {
            true => Renamed::as_they_are(&self.tensors),
            false => self.renamed()?,
        };
        match specs.first() {
            Some(first) => renamed.with(&first.name),
            None => Ok(renamed),
        }
    }
}

/// A file's tensors beside a network's.
#[derive(Default)]
pub(super) struct Comparison<'a> {
    pub(super) fitting: Vec<(String, &'a Tensor)>,
    missing: Vec<String>,
    unexpected: Vec<String>,
    wrong: Vec<String>,
    /// Whole numbers where there should be weights.
    whole: Vec<String>,
    /// Last layers of another size, as `wrong` has it.
    heads: Vec<String>,
    pub(super) applied: Applied,
}

impl<'a> Comparison<'a> {
    pub(super) fn of(file: &'a Renamed, layers: &Layer) -> Self {
        let heads = Heads::of(layers);
        let specs = layers.state_specs();
        let mut found = Comparison::default();
        for spec in &specs {
            found.place(spec, file.tensors.get(&spec.name), &heads);
        }
        let known: BTreeSet<&str> = specs.iter().map(|spec| spec.name.as_str()).collect();
        let mut beside = Vec::new();
        for (name, tensor) in &file.tensors {
            match name.split('.').next() {
                _ if known.contains(name.as_str()) => {}
                Some(head) if is_auxiliary(head) => note(&mut found.applied.auxiliary, head),
                _ if is_beside(name, tensor, file) => beside.push((name.as_str(), tensor)),
                _ => found.unexpected.push(format!("{name} {:?}", tensor.dims())),
            }
        }
        found.applied.left_out.extend(left_over(&beside));
        found
    }

    fn place(&mut self, spec: &ParamSpec, tensor: Option<&'a Tensor>, heads: &Heads) {
        let ParamSpec { name, shape, role } = spec;
        match tensor {
            Some(tensor) if tensor.dims() == shape => {
                match *role == Role::BatchesTracked || tensor.dtype().is_float() {
                    true => self.fitting.push((name.clone(), tensor)),
                    false => self.whole.push(format!("{name} of {}", tensor.dtype().as_str())),
                }
            }
            Some(tensor) => {
                let message = format!("{name} is {:?}, needed {shape:?}", tensor.dims());
                match heads.last.iter().any(|layer| inside(layer, name)) {
                    true => {
                        note(&mut self.applied.replaced, parent(name));
                        self.heads.push(message);
                    }
                    false => self.wrong.push(message),
                }
            }
            None => match heads.auxiliary.iter().find(|head| inside(head, name)) {
                Some(head) => note(&mut self.applied.auxiliary, head),
                None if *role == Role::BatchesTracked => {} // not in old files
                None => self.missing.push(format!("{name} {shape:?}")),
            },
        }
    }

    /// All that does not fit, in one message.
    fn misfit(&self) -> Option<String> {
        let parts = [
            ("missing", &self.missing),
            ("unexpected", &self.unexpected),
            ("wrongly shaped", &self.wrong),
            ("of whole numbers, as quantised weights are", &self.whole),
        ];
        let parts = parts.iter().filter(|(_, names)| !names.is_empty());
        let parts: Vec<_> = parts.map(|(what, names)| listed(what, names)).collect();
        let cause = || format!("does not fit this architecture: {}", parts.join("; "));
        (!parts.is_empty()).then(cause)
    }

    fn take_over(self, network: &Network) -> Result<Applied> {
        let loaded = self.fitting.len();
        network.params().set(self.fitting.iter().map(|(name, tensor)| (name.as_str(), *tensor)))?;
        Ok(Applied { loaded, ..self.applied })
    }
}

/// First parts of names that stand beside a network: a loss's weights, a metric's counts.
const BESIDE: [&str; 12] = [
    "criterion",
    "criteria",
    "loss",
    "loss_fn",
    "loss_func",
    "loss_function",
    "metric",
    "metrics",
    "train_metrics",
    "val_metrics",
    "n_averaged",
    "queue",
];
/// Last parts of names of counters that profilers leave in every layer.
const COUNTERS: [&str; 2] = ["total_ops", "total_params"];

/// Whether a tensor that the network has no place for may be left over. One that lies within the
/// network may not: then it is another network, and without the tensor its outputs are others.
pub(super) fn is_beside(name: &str, tensor: &Tensor, file: &Renamed) -> bool {
    let (first, last) = (name.split('.').next(), name.rsplit('.').next());
    let counter = tensor.elem_count() == 1 && last.is_some_and(|last| COUNTERS.contains(&last));
    file.outside.contains(name) || counter || first.is_some_and(|first| BESIDE.contains(&first))
}

/// What is said about tensors beside a network's: those under one name together.
pub(super) fn left_over(beside: &[(&str, &Tensor)]) -> Option<String> {
    const SHOWN: usize = 4;
    let mut said: Vec<String> = Vec::new();
    let mut seen = BTreeSet::new();
    for (name, tensor) in beside {
        let group = name.split('.').next().unwrap_or(name);
        let members = beside.iter().filter(|(other, _)| inside(group, other)).count();
        if members <= SHOWN {
            said.push(format!("{name} {:?}", tensor.dims()));
        } else if seen.insert(group) {
            said.push(format!("{group}.* ({members} tensors)"));
        }
    }
    (!beside.is_empty()).then(|| listed("left over", &said))
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
