//! A model in several files, with an index in JSON that says which tensor is in which.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::Deserialize;

use super::{WeightFile, open};
use crate::files::plain::is_plain;
use crate::files::regular;
use crate::{Error, Result};

/// Most files of a model.
const MOST: usize = 1000;

#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

/// Whether a file that begins so is an index.
pub(super) fn is_index(head: &[u8]) -> bool {
    let text = String::from_utf8_lossy(head);
    text.trim_start().starts_with('{') && text.contains("\"weight_map\"")
}

/// The tensors that the index at `path` lists, out of the files beside it.
///
/// # Errors
/// Names the index or one of its files, and what is wrong with it.
pub(super) fn read(path: &Path) -> Result<WeightFile> {
    let broken = |cause: String| Error::file(path, cause);
    let text = regular::read_text(path)?;
    let index: Index = serde_json::from_str(&text).map_err(|error| {
        broken(format!("is an index of weight files that cannot be read: {error}"))
    })?;
    let names: BTreeSet<&str> = index.weight_map.values().map(String::as_str).collect();
    if names.is_empty() || names.len() > MOST {
        return Err(broken(format!(
            "is an index of {} weight files; 1 to {MOST} are read",
            names.len()
        )));
    }
    let mut whole: Option<WeightFile> = None;
    for name in &names {
        if !is_plain(name) {
            return Err(broken(format!(
                "names {name:?} as one of its files, which is not beside it"
            )));
        }
        let mut part = open(&path.with_file_name(name), None)?;
        part.tensors.retain(|tensor, _| index.weight_map.get(tensor).is_some_and(|of| of == name));
        match &mut whole {
            None => whole = Some(part),
            Some(whole) => whole.tensors.append(&mut part.tensors),
        }
    }
    let mut whole = whole.ok_or_else(|| broken("is an index of no files".to_owned()))?;
    if let Some(missing) = index.weight_map.keys().find(|name| !whole.tensors.contains_key(*name)) {
        let file = &index.weight_map[missing];
        return Err(broken(format!("says that {missing} is in {file}, and it is not")));
    }
    whole.path = path.to_owned();
    whole.remarks.push(format!("read out of {} files", names.len()));
    Ok(whole)
}
