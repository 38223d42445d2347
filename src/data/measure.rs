//! Opening a data set only to measure on it: all images that are asked for, and no split.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::folder::Files;
use super::layout::{Measured, Rule, survey};
use super::open::{
    About, ReadPart, cats_and_dogs, check_limit, cifar_folder, digits, drawn_sample,
    folder_of_classes, given_folder, mnist_folder, photographs, tiny_photographs, unknown,
    without_photographs,
};
use super::part::Part;
use super::source::{Joined, Source, limited};
use super::{DataKind, DataRequest, Dataset, cats_dogs, cifar, hub, mnist};
use crate::error::{Error, Result};

/// Labelled images to measure a network on: all that were asked for.
#[derive(Clone)]
pub struct EvalSet {
    /// Its name, one of [`DATASETS`](super::DATASETS).
    pub name: String,
    /// What kind of images it has.
    pub kind: DataKind,
    /// The classes' names, by label: of a folder those that have images in what is measured, which may
    /// be fewer than the network's.
    pub classes: Vec<String>,
    /// Channels its images have by nature: 1 or 3.
    pub channels: usize,
    /// Mean of each channel, of samples from 0 to 1.
    pub mean: Vec<f32>,
    /// Standard deviation of each channel.
    pub std: Vec<f32>,
    /// Where it came from, for people.
    pub origin: String,
    /// Which part was taken.
    pub which: Part,
    /// The same for people: "all images of DIR", "part test of DIR".
    pub part: String,
    /// The images.
    pub source: Arc<dyn Source>,
    /// What the user should be told.
    pub notes: Vec<String>,
}

/// Opens a data set only to measure on it.
///
/// * `folder`: `DIR/CLASS/*` is measured whole. Of `DIR/{train,val,test}/CLASS/*` a part is: where
///   none is named the test part, or else the validation part, or else the training part, which is
///   said. One class is enough.
/// * `mnist`, `cifar-10`: the official test part where none is named; they have no validation part.
/// * `cats-dogs`: as `folder`. `cats-dogs-drawn`: the validation part where none is named.
///
/// [`DataRequest::val_split`] does not count here; [`DataRequest::limit`] does, and is said in
/// [`EvalSet::part`].
///
/// # Errors
/// Those of [`open`](super::open), but for classes that are missing or differ between parts; and a
/// part that the data set does not have.
pub fn open_eval(request: &DataRequest, part: Option<Part>) -> Result<EvalSet> {
    open_eval_with(request, part, hub::cats_vs_dogs, hub::mnist)
}

/// [`open_eval`] with its two downloads.
fn open_eval_with(
    request: &DataRequest,
    part: Option<Part>,
    cats_vs_dogs: impl FnOnce(&Path) -> Result<PathBuf>,
    mnist_digits: impl FnOnce(&Path) -> Result<PathBuf>,
) -> Result<EvalSet> {
    check_limit(request)?;
    match request.dataset.as_str() {
        "cats-dogs" => open_cats_dogs(request, part, cats_vs_dogs),
        "cats-dogs-drawn" => open_drawn(request, part, Vec::new()),
        "mnist" => {
            let dir = mnist_folder(request, mnist_digits)?;
            official(request, &dir, digits(&dir), part, [mnist::read_train, mnist::read_test])
        }
        "cifar-10" => {
            let dir = cifar_folder(request)?;
            let read: [ReadPart; 2] = [cifar::read_train, cifar::read_test];
            official(request, &dir, tiny_photographs(&dir), part, read)
        }
        "folder" => {
            let found = survey(given_folder(request)?, Rule::Folders)?.to_measure(part)?;
            Ok(of_files(request, folder_of_classes, found))
        }
        other => Err(unknown(other)),
    }
}

/// What is measured.
struct Taken {
    source: Arc<dyn Source>,
    part: Part,
    /// The part in words.
    what: String,
    notes: Vec<String>,
}

/// Limits as requested.
fn finish(request: &DataRequest, about: About, taken: Taken) -> EvalSet {
    let About { name, kind, classes, mean, std, origin } = about;
    let Taken { mut source, part, mut what, notes } = taken;
    let all = source.len();
    if let Some(limit) = request.limit.filter(|&limit| limit < all) {
        source = limited(source, classes.len(), limit, request.seed, part.as_str());
        what.push_str(&format!(": {limit} of {all} images (--limit)"));
    }
    let (name, channels) = (name.to_owned(), mean.len());
    EvalSet {
        name,
        kind,
        classes,
        channels,
        mean,
        std,
        origin,
        which: part,
        part: what,
        source,
        notes,
    }
}

fn of_files(
    request: &DataRequest,
    about: fn(&Path, Vec<String>) -> About,
    found: Measured,
) -> EvalSet {
    let Measured { root, classes, files, part, what, notes } = found;
    let source = Arc::new(Files::new(&root, files));
    finish(request, about(&root, classes), Taken { source, part, what, notes })
}

fn open_cats_dogs(
    request: &DataRequest,
    part: Option<Part>,
    download: impl FnOnce(&Path) -> Result<PathBuf>,
) -> Result<EvalSet> {
    let mut notes = Vec::new();
    // A part that is missing is an error, and no reason to look elsewhere.
    let any = |dir: &Path| {
        let found = cats_dogs::look(dir)?;
        found.to_measure(None).map(|_| found)
    };
    match photographs(request, download, &mut notes, any) {
        Ok(found) => {
            let mut set = of_files(request, cats_and_dogs, found.to_measure(part)?);
            set.notes.splice(0..0, notes);
            Ok(set)
        }
        Err(error) => {
            notes.push(without_photographs(request, error)?);
            open_drawn(request, part, notes)
        }
    }
}

/// The drawn sample: its validation part is the one to measure on.
fn open_drawn(request: &DataRequest, part: Option<Part>, before: Vec<String>) -> Result<EvalSet> {
    let whole = DataRequest { limit: None, val_split: None, ..request.clone() };
    let Dataset { kind, classes, mean, std, origin, train, val, notes, .. } =
        drawn_sample(&whole, before);
    let part = part.unwrap_or(Part::Val);
    let source: Arc<dyn Source> = match part {
        Part::Train => train,
        Part::Val => val,
        Part::All => Arc::new(Joined::new(vec![train, val])),
        Part::Test => {
            let cause = "has no test part: --split takes train, val or all";
            return Err(Error::dataset("cats-dogs-drawn", cause));
        }
    };
    let what = match part {
        Part::All => "all drawn images".to_owned(),
        part => format!("part {part} of the drawn images"),
    };
    let about = About { name: "cats-dogs-drawn", kind, classes, mean, std, origin };
    Ok(finish(request, about, Taken { source, part, what, notes }))
}

/// The official parts of a data set.
fn official(
    request: &DataRequest,
    dir: &Path,
    about: About,
    part: Option<Part>,
    [train, test]: [ReadPart; 2],
) -> Result<EvalSet> {
    let part = part.unwrap_or(Part::Test);
    let wanted = match part {
        Part::Train => vec![train],
        Part::Test => vec![test],
        Part::All => vec![train, test],
        Part::Val => {
            let cause = "has no validation part of its own: --split takes train, test or all";
            return Err(Error::dataset(about.name, cause));
        }
    };
    let (mut sources, mut notes): (Vec<Arc<dyn Source>>, _) = (Vec::new(), Vec::new());
    for read in wanted {
        let (source, said) = read(dir)?;
        sources.push(Arc::new(source));
        notes.extend(said);
    }
    let what = match part {
        Part::All => format!("all images of {}", about.name),
        part => format!("the official {part} part of {}", about.name),
    };
    let source = Arc::new(Joined::new(sources));
    Ok(finish(request, about, Taken { source, part, what, notes }))
}
