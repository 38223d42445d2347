//! Photographs of cats and dogs, in the layouts they are passed around in.

use std::path::Path;

use super::folder::{LabelledFile, Listing, Parts, class_files, list, part_folder};
use crate::error::{Error, Result};

/// The classes, by label.
pub(crate) const CLASSES: [&str; 2] = ["cat", "dog"];

/// Mean of each colour over the training photographs, of samples from 0 to 1.
pub(crate) const MEAN: [f32; 3] = [0.489, 0.457, 0.419];

/// Standard deviation of each colour.
pub(crate) const STD: [f32; 3] = [0.261, 0.255, 0.257];

/// The layouts that are understood.
pub(crate) const LAYOUTS: &str = "train/{cat,dog} with val/{cat,dog}, \
     training_set/{cats,dogs} with test_set/{cats,dogs}, PetImages/{Cat,Dog}, {cat,dog}, \
     or files cat.N.jpg and dog.N.jpg in one folder or in train";

/// Finds the photographs of `dir`, in whatever case the names are written.
///
/// # Errors
/// The folder has none of [`LAYOUTS`], or a class is empty.
pub(crate) fn find(dir: &Path) -> Result<Parts> {
    let listing = list(dir)?;
    let part = |names: &[&str]| part_folder(&listing, names);
    let found = |train, val| Parts {
        root: dir.into(),
        classes: CLASSES.map(String::from).to_vec(),
        train,
        val,
        test: None,
    };
    if let Some(train) = part(&["train", "training_set", "training"]) {
        let train = needed(dir, train)?;
        let val = match part(&["val", "valid", "validation", "test_set"]) {
            Some(val) => Some(needed(dir, val)?),
            // Kaggle's test pictures have no labels, and then there is no such part.
            None => part(&["test"]).map(|test| both_classes(dir, test)).transpose()?.flatten(),
        };
        return Ok(found(train, val));
    }
    if let Some(both) = part(&["PetImages"]) {
        return Ok(found(needed(dir, both)?, None));
    }
    if let Some(both) = both_classes(dir, dir)? {
        return Ok(found(both, None));
    }
    match part(&["cats-dogs"]) {
        Some(inner) => find(inner),
        None => Err(no_photographs(dir, &listing)),
    }
}

/// The photographs of a folder that must have some.
fn needed(root: &Path, folder: &Path) -> Result<Vec<LabelledFile>> {
    match both_classes(root, folder)? {
        Some(files) => Ok(files),
        None => Err(no_photographs(folder, &list(folder)?)),
    }
}

fn no_photographs(folder: &Path, listing: &Listing) -> Error {
    let names = listing.folders.iter().map(|(name, _)| name.as_str());
    let mut seen: Vec<&str> = names.take(5).collect();
    if seen.is_empty() {
        seen.push("none");
    }
    Error::file(
        folder,
        format!(
            "no photographs of cats and dogs here (folders: {}; files: {}); accepted: {LAYOUTS}",
            seen.join(", "),
            listing.files.len()
        ),
    )
}

/// Cats and dogs in a folder each, or told apart by their files' names; `None` if there are
/// neither.
fn both_classes(root: &Path, folder: &Path) -> Result<Option<Vec<LabelledFile>>> {
    let listing = list(folder)?;
    let cats = part_folder(&listing, &["cat", "cats"]);
    let dogs = part_folder(&listing, &["dog", "dogs"]);
    match (cats, dogs) {
        (Some(cats), Some(dogs)) => {
            let mut files = class_files(root, cats, 0)?;
            files.extend(class_files(root, dogs, 1)?);
            Ok(Some(files))
        }
        (None, None) => by_file_name(root, folder, &listing),
        (Some(_), None) => Err(Error::file(folder, "has a folder of cats but none of dogs")),
        (None, Some(_)) => Err(Error::file(folder, "has a folder of dogs but none of cats")),
    }
}

/// Files `cat.N.jpg` and `dog.N.jpg`, as Kaggle's competition has them.
fn by_file_name(
    root: &Path,
    folder: &Path,
    listing: &Listing,
) -> Result<Option<Vec<LabelledFile>>> {
    let of_class = |label: usize| -> Vec<LabelledFile> {
        let start = format!("{}.", CLASSES[label]);
        let named =
            listing.files.iter().filter(|(name, ..)| name.to_lowercase().starts_with(&start));
        named
            .map(|(_, path, bytes)| LabelledFile {
                path: path.strip_prefix(root).unwrap_or(path).to_path_buf(),
                label: label as u32,
                bytes: *bytes,
            })
            .collect()
    };
    let [mut cats, dogs] = [0, 1].map(of_class);
    match (cats.is_empty(), dogs.is_empty()) {
        (false, false) => {
            cats.extend(dogs);
            Ok(Some(cats))
        }
        (true, true) => Ok(None),
        (false, true) => Err(Error::file(folder, "has files cat.* but none dog.*")),
        (true, false) => Err(Error::file(folder, "has files dog.* but none cat.*")),
    }
}
