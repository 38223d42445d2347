//! Other projects' names for the same tensors, turned into torchvision's.

use std::collections::BTreeMap;

use candle_core::Tensor;

use crate::Result;

/// What wrappers put before every name: DataParallel, `torch.compile`, training scripts.
const PREFIXES: [&str; 4] = ["module.", "_orig_mod.", "model.", "net."];

/// timm's names in VGG: its fully connected layers are convolutions there.
const TIMM_VGG: [(&str, &str); 3] = [
    ("pre_logits.fc1.", "classifier.0."),
    ("pre_logits.fc2.", "classifier.3."),
    ("head.fc.", "classifier.6."),
];

/// Names in the best known CIFAR ResNets, as their authors write them.
const CIFAR: [(&str, &str); 2] = [("linear.", "fc."), (".shortcut.", ".downsample.")];

/// The same tensors under torchvision's names, and in its shapes. timm's ResNets and Inception have
/// these already.
///
/// # Errors
/// Where two tensors would have one name.
pub fn torchvision(tensors: &BTreeMap<String, Tensor>) -> Result<BTreeMap<String, Tensor>> {
    let prefix = prefix(tensors);
    let bare = |name: &str| name[prefix..].to_owned();
    let has = |name: &str| tensors.keys().any(|key| &key[prefix..] == name);
    let vgg = has("pre_logits.fc1.weight");
    let cifar = has("linear.weight") && has("layer3.0.conv1.weight");
    let mut renamed = BTreeMap::new();
    for (name, tensor) in tensors {
        let name = bare(name);
        let (name, tensor) = match () {
            () if vgg => timm_vgg(name, tensor)?,
            () if cifar => (cifar_name(&name), tensor.clone()),
            () => (name, tensor.clone()),
        };
        if renamed.insert(name.clone(), tensor).is_some() {
            let message = format!("two tensors would be called {name}");
            return Err(crate::Error::Setting(message));
        }
    }
    Ok(renamed)
}

/// Bytes of what all names begin with and no architecture has.
fn prefix(tensors: &BTreeMap<String, Tensor>) -> usize {
    let mut length = 0;
    while let Some(prefix) = PREFIXES.iter().find(|prefix| {
        !tensors.is_empty() && tensors.keys().all(|name| name[length..].starts_with(**prefix))
    }) {
        length += prefix.len();
    }
    length
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
