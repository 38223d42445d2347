//! Whether a run that goes on is the one that was begun: its settings, and its pictures.

use super::config::RunConfig;
use super::run::RunFolder;
use crate::{Error, Result};

/// Refuses to go on with another run; gives what is to be said about pictures that have changed, and
/// about another way to compute.
///
/// # Errors
/// Names what differs, and the flag to go on with changed pictures.
pub(super) fn check(
    folder: &RunFolder,
    now: &RunConfig,
    changed_data: bool,
) -> Result<Vec<String>> {
    let saved = folder.config()?;
    let mut same_data = saved.clone();
    same_data.data.identity = now.data.identity.clone();
    same_data.data.train_images = now.data.train_images;
    same_data.data.val_images = now.data.val_images;
    let differences = now.differences(&same_data);
    if !differences.is_empty() {
        let cause = format!("is another run: {}", differences.join("; "));
        return Err(Error::file(folder.path(), cause));
    }
    let mut notes: Vec<String> = now.computes_otherwise(&saved).into_iter().collect();
    if saved.data.identity == now.data.identity {
        notes.extend(rewritten(&saved, now));
        return Ok(notes);
    }
    let what = format!("{} from {}", changes(&saved, now), now.data.origin);
    if changed_data {
        let note = "the run goes on, to other bits than it would have come to";
        notes.push(format!("{what}; {note}"));
        return Ok(notes);
    }
    let cause = format!(
        "cannot go on: {what}; put them back as they were, or go on with --allow-changed-data, \
         which comes to other bits"
    );
    Err(Error::file(folder.path(), cause))
}

/// Refuses to go on from a resume state that was saved with other settings: `config.json`, which brings
/// them, may have been edited since. Gives what is to be said of a state that does not tell its own.
///
/// # Errors
/// Names what differs.
pub(super) fn check_state(
    folder: &RunFolder,
    settings: Option<&RunConfig>,
    now: &RunConfig,
    changed_data: bool,
) -> Result<Option<String>> {
    let Some(settings) = settings else {
        let note = "its resume state is of an earlier version, which did not keep the settings: whether \
                    config.json was edited since cannot be said";
        return Ok(Some(note.to_owned()));
    };
    let mut saved = settings.clone();
    if changed_data {
        saved.data.identity = now.data.identity.clone();
        saved.data.train_images = now.data.train_images;
        saved.data.val_images = now.data.val_images;
    }
    let differences = now.differences(&saved);
    if differences.is_empty() {
        return Ok(None);
    }
    let cause = format!(
        "its config.json is not that of its resume state: {}; put it back as it was",
        differences.join("; ")
    );
    Err(Error::file(folder.path(), cause))
}

/// What has become of the pictures.
fn changes(saved: &RunConfig, now: &RunConfig) -> String {
    let (saved, now) = (&saved.data, &now.data);
    let counts = [saved.train_images, saved.val_images] == [now.train_images, now.val_images];
    let detail = match counts {
        true => "as many as before, with other names or sizes".to_owned(),
        false => format!(
            "{} for training and {} for validation, before {} and {}",
            now.train_images, now.val_images, saved.train_images, saved.val_images
        ),
    };
    format!("its pictures have changed since it was begun ({detail}),")
}

/// Files with the names and sizes they had may have been written anew: that is said, since it may
/// be a copy of the same.
fn rewritten(saved: &RunConfig, now: &RunConfig) -> Option<String> {
    let changed = saved.data.times.is_some() && saved.data.times != now.data.times;
    let note = "picture files were written anew since the run was begun, with the same names and \
                sizes; if they hold other pictures, the run comes to other bits";
    changed.then(|| note.to_owned())
}
