//! Photographs of cats and dogs, in the layouts they are passed around in.

use std::path::Path;

use super::folder::list;
use super::layout::{Parts, Rule, Survey, survey};
use crate::error::Result;

/// Mean of each colour over the training photographs, of samples from 0 to 1.
pub(crate) const MEAN: [f32; 3] = [0.489, 0.457, 0.419];

/// Standard deviation of each colour.
pub(crate) const STD: [f32; 3] = [0.261, 0.255, 0.257];

/// The layouts that are understood.
pub(crate) const LAYOUTS: &str = "train/{cat,dog} with val/{cat,dog}, \
     training_set/{cats,dogs} with test_set/{cats,dogs}, PetImages/{Cat,Dog}, {cat,dog}, \
     or files cat.N.jpg and dog.N.jpg in one folder or in train";

/// How the photographs of `dir` are laid out, in whatever case the names are written.
///
/// # Errors
/// Those of [`survey`].
pub(crate) fn look(dir: &Path) -> Result<Survey> {
    let found = survey(dir, Rule::CatsDogs)?;
    if !found.is_empty() {
        return Ok(found);
    }
    let named = |(name, _): &(String, _)| name.eq_ignore_ascii_case("cats-dogs");
    match list(dir)?.folders.into_iter().find(named) {
        Some((_, inner)) => look(&inner),
        None => Ok(found),
    }
}

/// The photographs of `dir` to train with. Where there is no validation part, a test part is used instead.
///
/// # Errors
/// The folder has none of [`LAYOUTS`], or a class is empty.
pub(crate) fn find(dir: &Path) -> Result<Parts> {
    let mut parts = look(dir)?.to_train()?;
    if parts.val.is_none() && parts.test.is_some() {
        parts.val = parts.test.take();
        parts.notes.push("there is no validation part: the test part is used instead".to_owned());
    }
    Ok(parts)
}

/// Whether `dir` holds photographs of cats and of dogs, and no other class.
pub(crate) fn is_all_there_is(dir: &Path) -> bool {
    look(dir).is_ok_and(|found| found.is_cats_and_dogs_alone())
}
