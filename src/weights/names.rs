//! Other projects' names for the same tensors, turned into torchvision's.

use std::collections::{BTreeMap, BTreeSet};

use candle_core::Tensor;

use crate::Result;

/// What wrappers put before every name: DataParallel, `torch.compile`, training scripts. Of two that as
/// many names have, the first is taken.
const PREFIXES: [&str; 18] = [
    "module.",
    "_orig_mod.",
    "model.",
    "student.",
    "net.",
    "network.",
    "backbone.",
    "encoder.",
    "encoder_q.",
    "base_encoder.",
    "online_encoder.",
    "base_model.",
    "trunk.",
    "_model.",
    "_module.",
    "wrapped.",
    "teacher.",
    "ema.",
];

/// timm's names in VGG: its fully connected layers are convolutions there.
const TIMM_VGG: [(&str, &str); 3] = [
    ("pre_logits.fc1.", "classifier.0."),
    ("pre_logits.fc2.", "classifier.3."),
    ("head.fc.", "classifier.6."),
];

/// Names in the best known CIFAR ResNets, as their authors write them.
const CIFAR: [(&str, &str); 2] = [("linear.", "fc."), (".shortcut.", ".downsample.")];

/// The same tensors under torchvision's names, and in its shapes. timm's ResNets and Inception have
/// these already. Names that stand outside the wrapper of the others keep theirs.
///
/// # Errors
/// Where two tensors would have one name.
pub fn torchvision(tensors: &BTreeMap<String, Tensor>) -> Result<BTreeMap<String, Tensor>> {
    Ok(Renamed::of(tensors)?.tensors)
}

/// Tensors under torchvision's names.
#[derive(Clone, Debug, Default)]
pub(super) struct Renamed {
    pub(super) tensors: BTreeMap<String, Tensor>,
    /// Names of those that stood outside the wrapper of the others.
    pub(super) outside: BTreeSet<String>,
}

impl Renamed {
    /// Tensors that have torchvision's names already.
    pub(super) fn as_they_are(tensors: &BTreeMap<String, Tensor>) -> Self {
        Renamed { tensors: tensors.clone(), outside: BTreeSet::new() }
    }

    /// See [`torchvision`].
    pub(super) fn of(tensors: &BTreeMap<String, Tensor>) -> Result<Self> {
        Self::without(tensors, &prefix(tensors))
    }

    /// [`Renamed::of`] with a wrapper that nobody knows: where the tensor `first` is only to be found
    /// behind a prefix that at least half of the names have.
    pub(super) fn with(self, first: &str) -> Result<Self> {
        let prefixes = self.tensors.keys().filter_map(|name| name.strip_suffix(first));
        let Some(prefix) = prefixes.min_by_key(|prefix| prefix.len()) else { return Ok(self) };
        let having = self.tensors.keys().filter(|name| name.starts_with(prefix)).count();
        if !prefix.ends_with('.') || 2 * having < self.tensors.len() {
            return Ok(self); // the name as it is, or the same name in another layer
        }
        let inner = Self::without(&self.tensors, prefix)?;
        Ok(Renamed { outside: &inner.outside | &self.outside, ..inner })
    }

    fn without(tensors: &BTreeMap<String, Tensor>, prefix: &str) -> Result<Self> {
        let bare = |name: &str| name.strip_prefix(prefix).map(str::to_owned);
        let has = |name: &str| tensors.contains_key(&format!("{prefix}{name}"));
        let vgg = has("pre_logits.fc1.weight");
        let cifar = has("linear.weight") && has("layer3.0.conv1.weight");
        let mut found = Renamed::default();
        let inside = tensors.iter().filter_map(|(name, tensor)| Some((bare(name)?, tensor)));
        for (name, tensor) in inside {
            let (name, tensor) = match () {
                () if vgg => timm_vgg(name, tensor)?,
                () if cifar => (cifar_name(&name), tensor.clone()),
                () => (name, tensor.clone()),
            };
            if found.tensors.insert(name.clone(), tensor).is_some() {
                let message = format!("two tensors would be called {name}");
                return Err(crate::Error::Setting(message));
            }
        }
        for (name, tensor) in tensors.iter().filter(|(name, _)| bare(name).is_none()) {
            // Those of the wrapped network come first.
            if !found.tensors.contains_key(name) {
                found.tensors.insert(name.clone(), tensor.clone());
            }
            found.outside.insert(name.clone());
        }
        Ok(found)
    }
}

/// What at least half of the names begin with, and no architecture has.
fn prefix(tensors: &BTreeMap<String, Tensor>) -> String {
    let mut prefix = String::new();
    let mut names: Vec<&str> = tensors.keys().map(String::as_str).collect();
    loop {
        let having = |next: &&str| names.iter().filter(|name| name.starts_with(*next)).count();
        // Of equals, the last one is the maximum.
        let next = PREFIXES.iter().rev().max_by_key(|next| having(next)).filter(|next| {
            let count = having(next);
            count > 0 && 2 * count >= names.len()
        });
        let Some(next) = next else { return prefix };
        names = names.iter().filter_map(|name| name.strip_prefix(next)).collect();
        prefix.push_str(next);
    }
}

fn timm_vgg(name: String, tensor: &Tensor) -> Result<(String, Tensor)> {
    let found = TIMM_VGG
        .iter()
        .find_map(|(theirs, ours)| name.strip_prefix(theirs).map(|rest| format!("{ours}{rest}")));
    Ok(match found {
        // [4096, 512, 7, 7] holds the same numbers in the same order as [4096, 25088].
        Some(name) if tensor.rank() == 4 => (name, tensor.flatten_from(1)?),
        Some(name) => (name, tensor.clone()),
        None => (name, tensor.clone()),
    })
}

fn cifar_name(name: &str) -> String {
    let [head, shortcut] = CIFAR;
    match name.strip_prefix(head.0) {
        Some(rest) => format!("{}{rest}", head.1),
        None => name.replace(shortcut.0, shortcut.1),
    }
}
