//! Which file is meant: a run's folder stands for its best weights, `FILE#KEY` for a part of a file.

use std::path::{Path, PathBuf};

use crate::{Error, Result};

/// The best weights of a run.
const BEST: &str = "best.safetensors";
/// Those after its last epoch.
const LAST: &str = "last.safetensors";
/// What a model's folder of another program has, the best first.
const OTHERS: [&str; 4] = [
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
];

/// The file, and the key behind the last `#` of a path that does not exist as it is.
pub(super) fn with_key(path: &Path) -> (PathBuf, Option<String>) {
    let found = path.to_str().filter(|_| !path.exists()).and_then(|text| text.rsplit_once('#'));
    match found {
        Some((file, key)) if !key.is_empty() => (file.into(), Some(key.to_owned())),
        _ => (path.to_owned(), None),
    }
}

/// The weight file that `path` means, and what is to be said about the choice.
///
/// # Errors
/// A folder without weights.
pub(super) fn weights_in(path: &Path) -> Result<(PathBuf, Option<String>)> {
    if !path.is_dir() {
        return Ok((path.to_owned(), None));
    }
    let there = |name: &&str| path.join(name).is_file();
    if there(&BEST) {
        return Ok((path.join(BEST), None));
    }
    if there(&LAST) {
        let remark = format!("the run has no {BEST}; {LAST} is taken");
        return Ok((path.join(LAST), Some(remark)));
    }
    if let Some(name) = OTHERS.iter().find(|name| there(name)) {
        return Ok((path.join(name), None));
    }
    let cause = if there(&"saved_model.pb") {
        "is a SavedModel of TensorFlow's; convzoo reads PyTorch's weights and safetensors"
            .to_owned()
    } else if there(&"config.json") {
        format!(
            "is a run's folder without {BEST}; give a weight file, or let the run finish an epoch"
        )
    } else {
        format!("is a folder without {BEST}; give a run's folder or a weight file")
    };
    Err(Error::file(path, cause))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_stand_for_their_best_weights() {
        let folder = tempfile::tempdir().unwrap();
        let here = folder.path();
        let write = |name: &str| std::fs::write(here.join(name), "x").unwrap();
        let error = weights_in(here).unwrap_err().to_string();
        assert!(error.contains("is a folder without best.safetensors"), "{error}");
        write("config.json");
        assert!(weights_in(here).unwrap_err().to_string().contains("finish an epoch"));
        write("pytorch_model.bin");
        assert_eq!(weights_in(here).unwrap(), (here.join("pytorch_model.bin"), None));
        write(LAST);
        let (path, remark) = weights_in(here).unwrap();
        assert_eq!(path, here.join(LAST));
        assert!(remark.unwrap().contains("last.safetensors is taken"));
        write(BEST);
        assert_eq!(weights_in(here).unwrap(), (here.join(BEST), None));
        assert_eq!(weights_in(&here.join(BEST)).unwrap(), (here.join(BEST), None));
    }

    #[test]
    fn a_key_stands_behind_a_hash() {
        let folder = tempfile::tempdir().unwrap();
        let odd = folder.path().join("a#b.pth");
        std::fs::write(&odd, "x").unwrap();
        assert_eq!(with_key(&odd), (odd.clone(), None));
        let asked = folder.path().join("a#b.pth#ema");
        assert_eq!(with_key(&asked), (odd, Some("ema".to_owned())));
    }
}
