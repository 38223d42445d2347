//! From a data set's name to its pictures: where each one is looked for, and in what order.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::folder::Files;
use super::in_memory::InMemory;
use super::layout::{self, Parts, Rule, survey};
use super::source::{Source, identity, limited, split};
use super::{DataKind, Dataset, cats_dogs, cifar, drawn, hub, imagenet, mnist};
use crate::error::{Error, Result};

/// The names that [`open`] knows.
pub const DATASETS: [&str; 5] = ["cats-dogs", "cats-dogs-drawn", "mnist", "cifar-10", "folder"];

/// The share of the training images that is held out where there is no validation part.
pub const DEFAULT_VAL_SPLIT: f64 = 0.1;

/// Which pictures are wanted, and where to look.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DataRequest {
    /// One of [`DATASETS`].
    pub dataset: String,
    /// The folder to look in, and the only one.
    pub data_dir: Option<PathBuf>,
    /// The share of the training images to validate on, between 0 and 1; [`DEFAULT_VAL_SPLIT`] where
    /// the data set has no validation part. One that a folder brings with it becomes the test part
    /// then.
    pub val_split: Option<f64>,
    /// The seed of splits, limits and drawings.
    pub seed: u64,
    /// Whether drawn pictures may stand in for photographs that cannot be had.
    pub fallback: bool,
    /// At most this many pictures for training, and as many for validation.
    pub limit: Option<usize>,
    /// The folder of data sets; `CONVZOO_DATA`, or else `data` in the working directory, if `None`.
    pub data_root: Option<PathBuf>,
    /// Where downloads are kept; the user's cache folder if `None`.
    pub cache: Option<PathBuf>,
}

impl DataRequest {
    /// A request for a data set with everything else as usual: seed 0, fallback allowed.
    pub fn new(dataset: impl Into<String>) -> Self {
        DataRequest {
            dataset: dataset.into(),
            data_dir: None,
            val_split: None,
            seed: 0,
            fallback: true,
            limit: None,
            data_root: None,
            cache: None,
        }
    }

    /// The folder of data sets.
    pub(crate) fn root(&self) -> PathBuf {
        let from_env = || std::env::var_os("CONVZOO_DATA").filter(|value| !value.is_empty());
        let root = self.data_root.clone().or_else(|| from_env().map(PathBuf::from));
        root.unwrap_or_else(|| PathBuf::from("data"))
    }

    /// The folder of the data set called `name` among the user's data sets.
    fn folder_of(&self, name: &str) -> PathBuf {
        self.root().join(name)
    }

    fn cache(&self) -> Result<PathBuf> {
        self.cache.clone().map_or_else(hub::cache_dir, Ok)
    }
}

/// Finds the pictures of a data set.
///
/// * `cats-dogs`: photographs in `data_dir`; or else in `cats-dogs` within the data folder; or else
///   in the cache, downloaded if need be; or else, if `fallback` allows, the drawn sample, with
///   the reason in [`Dataset::notes`].
/// * `cats-dogs-drawn`: the drawn sample.
/// * `mnist`: the four IDX files in `data_dir`, or `mnist` within the data folder, or the cache.
/// * `cifar-10`: its batches or tables in `data_dir`, or `cifar-10` within the data folder, or the
///   cache.
/// * `folder`: `data_dir` with `train/CLASS/*` and `val/CLASS/*`, or with `CLASS/*`.
///
/// The test parts of MNIST and CIFAR-10 are [`Dataset::test`]; the images to choose by are held out
/// from the training part. [`open_eval`](super::open_eval) opens a data set only to measure on it.
///
/// # Errors
/// The name is unknown, a given `data_dir` cannot be used, or the pictures cannot be had.
pub fn open(request: &DataRequest) -> Result<Dataset> {
    open_with(request, hub::cats_vs_dogs, hub::mnist)
}

/// [`open`] with its two downloads.
fn open_with(
    request: &DataRequest,
    cats_vs_dogs: impl FnOnce(&Path) -> Result<PathBuf>,
    digits: impl FnOnce(&Path) -> Result<PathBuf>,
) -> Result<Dataset> {
    if request.val_split.is_some_and(|share| !(share > 0.0 && share < 1.0)) {
        return Err(Error::Setting("the validation split must lie between 0 and 1".into()));
    }
    check_limit(request)?;
    match request.dataset.as_str() {
        "cats-dogs" => open_cats_dogs(request, cats_vs_dogs),
        "cats-dogs-drawn" => Ok(drawn_sample(request, Vec::new())),
        "mnist" => open_mnist(request, digits),
        "cifar-10" => open_cifar_10(request),
        "folder" => open_folder(request),
        other => Err(unknown(other)),
    }
}

pub(super) fn check_limit(request: &DataRequest) -> Result<()> {
    match request.limit {
        Some(0) => Err(Error::Setting("a limit of 0 images leaves nothing".into())),
        _ => Ok(()),
    }
}

pub(super) fn unknown(dataset: &str) -> Error {
    Error::dataset(dataset, format!("unknown; there are {}", DATASETS.join(", ")))
}

/// The name among [`DATASETS`] of what lies in `dir`: MNIST or CIFAR-10 by their files, `cats-dogs`
/// where cats and dogs are all there is, and otherwise `folder`, a folder of classes.
///
/// `usual` is what is expected there: where there is nothing at all, it is the answer for MNIST and
/// CIFAR-10, so that an error says which files they need.
pub fn dataset_in(dir: &Path, usual: &str) -> &'static str {
    if mnist::folder_of(dir).is_some() {
        return "mnist";
    }
    if cifar::folder_of(dir).is_some() {
        return "cifar-10";
    }
    if cats_dogs::is_all_there_is(dir) {
        return "cats-dogs";
    }
    let nothing = || survey(dir, Rule::Folders).is_ok_and(|found| found.is_empty());
    match usual {
        "mnist" if nothing() => "mnist",
        "cifar-10" if nothing() => "cifar-10",
        _ => "folder",
    }
}

/// What there is to know about a data set besides its images.
pub(super) struct About {
    pub(super) name: &'static str,
    pub(super) kind: DataKind,
    pub(super) classes: Vec<String>,
    pub(super) mean: Vec<f32>,
    pub(super) std: Vec<f32>,
    pub(super) origin: String,
}

/// The parts that a data set brings with it.
struct Brought {
    train: Arc<dyn Source>,
    val: Option<Arc<dyn Source>>,
    test: Option<Arc<dyn Source>>,
}

/// Splits and limits as requested.
fn finish(
    request: &DataRequest,
    about: About,
    brought: Brought,
    mut notes: Vec<String>,
) -> Result<Dataset> {
    let About { name, kind, classes, mean, std, origin } = about;
    let Brought { train, val, mut test } = brought;
    let count = classes.len();
    let (mut train, mut val) = match (val, request.val_split) {
        (Some(val), None) => (train, val),
        (brought, share) => {
            let share = share.unwrap_or(DEFAULT_VAL_SPLIT);
            if brought.is_some() && test.is_some() {
                notes.push("the folder's own validation part is left aside (--val-split)".into());
            }
            test = test.or(brought);
            split(&train, count, share, request.seed)
        }
    };
    if val.is_empty() {
        return Err(Error::dataset(name, "too few images to hold some out for validation"));
    }
    if let Some(limit) = request.limit {
        train = limited(train, count, limit, request.seed, "train");
        val = limited(val, count, limit, request.seed, "val");
    }
    let mut parts = vec![("train", train.as_ref()), ("val", val.as_ref())];
    parts.extend(test.as_ref().map(|test| ("test", test.as_ref())));
    let identity = identity(&parts);
    let channels = mean.len();
    let name = name.to_string();
    Ok(Dataset {
        name,
        kind,
        classes,
        channels,
        mean,
        std,
        origin,
        identity,
        train,
        val,
        test,
        notes,
    })
}

/// A folder of classes, of whose images nothing is known: ImageNet's statistics stand in.
pub(super) fn folder_of_classes(root: &Path, classes: Vec<String>) -> About {
    let (mean, std) = (imagenet::MEAN.to_vec(), imagenet::STD.to_vec());
    let origin = root.display().to_string();
    About { name: "folder", kind: DataKind::Pictures, classes, mean, std, origin }
}

/// Photographs of cats and dogs in a folder.
pub(super) fn cats_and_dogs(root: &Path, classes: Vec<String>) -> About {
    let (mean, std) = (cats_dogs::MEAN.to_vec(), cats_dogs::STD.to_vec());
    let origin = root.display().to_string();
    About { name: "cats-dogs", kind: DataKind::Photographs, classes, mean, std, origin }
}

/// The data set that the files of some folders make.
fn of_files(
    request: &DataRequest,
    about: fn(&Path, Vec<String>) -> About,
    parts: Parts,
    mut notes: Vec<String>,
) -> Result<Dataset> {
    let files = |files| -> Arc<dyn Source> { Arc::new(Files::new(&parts.root, files)) };
    let brought = Brought {
        train: files(parts.train),
        val: parts.val.map(files),
        test: parts.test.map(files),
    };
    notes.extend(parts.notes);
    finish(request, about(&parts.root, parts.classes), brought, notes)
}

/// The folder of a folder of classes.
pub(super) fn given_folder(request: &DataRequest) -> Result<&Path> {
    request.data_dir.as_deref().ok_or_else(|| {
        let layouts = layout::LAYOUTS;
        Error::dataset("folder", format!("no folder given; add --data-dir DIR with {layouts}"))
    })
}

fn open_folder(request: &DataRequest) -> Result<Dataset> {
    let parts = survey(given_folder(request)?, Rule::Folders)?.to_train()?;
    of_files(request, folder_of_classes, parts, Vec::new())
}

fn open_cats_dogs(
    request: &DataRequest,
    download: impl FnOnce(&Path) -> Result<PathBuf>,
) -> Result<Dataset> {
    let mut notes = Vec::new();
    match photographs(request, download, &mut notes, cats_dogs::find) {
        Ok(parts) => of_files(request, cats_and_dogs, parts, notes),
        Err(error) => {
            notes.push(without_photographs(request, error)?);
            Ok(drawn_sample(request, notes))
        }
    }
}

/// Looks for photographs in the order that [`open`] promises; `find` judges a folder.
pub(super) fn photographs<T>(
    request: &DataRequest,
    download: impl FnOnce(&Path) -> Result<PathBuf>,
    notes: &mut Vec<String>,
    find: impl Fn(&Path) -> Result<T>,
) -> Result<T> {
    if let Some(dir) = &request.data_dir {
        return find(dir);
    }
    let dir = request.folder_of("cats-dogs");
    if dir.is_dir() {
        match find(&dir) {
            Ok(parts) => return Ok(parts),
            Err(error) => notes.push(format!("not used: {error}")),
        }
    }
    find(&download(&request.cache()?)?)
}

/// What is said where drawn images stand in for photographs.
///
/// # Errors
/// They may not: a folder was given, or the request forbids it.
pub(super) fn without_photographs(request: &DataRequest, error: Error) -> Result<String> {
    let dir = request.folder_of("cats-dogs");
    if request.data_dir.is_some() {
        return Err(error);
    }
    if !request.fallback {
        let ways = ways_to_photographs(&dir);
        return Err(Error::dataset("cats-dogs", format!("{error}; {}", ways.join("; "))));
    }
    Ok(fallback_note(&error, &dir))
}

fn ways_to_photographs(dir: &Path) -> [String; 3] {
    [
        format!("give --data-dir DIR with {}", cats_dogs::LAYOUTS),
        format!("put such a folder at {}, or set CONVZOO_DATA to the folder above", dir.display()),
        "download microsoft/cats_vs_dogs once with a network, or from a mirror that HF_ENDPOINT \
         names"
            .into(),
    ]
}

/// The block of text that says why there are no photographs, and how to give some.
fn fallback_note(error: &Error, dir: &Path) -> String {
    let ways = ways_to_photographs(dir).map(|way| format!("\n  - {way}")).concat();
    format!(
        "No photographs of cats and dogs: {error}\n\
         Going on with the DRAWN sample: faces of cats and dogs that the program draws itself.\n\
         Results of this run say nothing about photographs. To use photographs:{ways}"
    )
}

pub(super) fn drawn_sample(request: &DataRequest, notes: Vec<String>) -> Dataset {
    let at_most = |count: usize| request.limit.map_or(count, |limit| limit.min(count));
    let mut dataset = drawn::cats_dogs(request.seed, at_most(drawn::TRAIN), at_most(drawn::VAL));
    dataset.notes.splice(0..0, notes);
    if request.val_split.is_some() {
        dataset
            .notes
            .push("the drawn sample has a validation part; --val-split is not used".into());
    }
    dataset
}

/// Reads one part of a data set's files in a folder; notes say where it is not the published one.
pub(super) type ReadPart = fn(&Path) -> Result<(InMemory, Vec<String>)>;

/// The official parts: the test part is for the end, and the images to choose by are held out.
fn open_official(
    request: &DataRequest,
    dir: &Path,
    about: About,
    [train, test]: [ReadPart; 2],
) -> Result<Dataset> {
    let ((train, mut notes), (test, more)) = (train(dir)?, test(dir)?);
    notes.extend(more);
    let brought = Brought { train: Arc::new(train), val: None, test: Some(Arc::new(test)) };
    finish(request, about, brought, notes)
}

fn open_mnist(
    request: &DataRequest,
    download: impl FnOnce(&Path) -> Result<PathBuf>,
) -> Result<Dataset> {
    let dir = mnist_folder(request, download)?;
    open_official(request, &dir, digits(&dir), [mnist::read_train, mnist::read_test])
}

/// Handwritten digits in a folder.
pub(super) fn digits(dir: &Path) -> About {
    About {
        name: "mnist",
        kind: DataKind::Digits,
        classes: (0..10).map(|digit| digit.to_string()).collect(),
        mean: vec![mnist::MEAN],
        std: vec![mnist::STD],
        origin: dir.display().to_string(),
    }
}

/// The folder that MNIST's files are in.
pub(super) fn mnist_folder(
    request: &DataRequest,
    download: impl FnOnce(&Path) -> Result<PathBuf>,
) -> Result<PathBuf> {
    if let Some(dir) = &request.data_dir {
        return Ok(mnist::folder_of(dir).unwrap_or_else(|| dir.clone()));
    }
    let own = request.folder_of("mnist");
    if let Some(dir) = mnist::folder_of(&own) {
        return Ok(dir);
    }
    download(&request.cache()?).map_err(|error| {
        let (files, own) = (mnist::FILES, own.display());
        let ways =
            format!("{error}; give --data-dir DIR with the files {files}, or put them at {own}");
        Error::dataset("mnist", ways)
    })
}

fn open_cifar_10(request: &DataRequest) -> Result<Dataset> {
    let dir = cifar_folder(request)?;
    open_official(request, &dir, tiny_photographs(&dir), [cifar::read_train, cifar::read_test])
}

/// CIFAR-10 in a folder.
pub(super) fn tiny_photographs(dir: &Path) -> About {
    About {
        name: "cifar-10",
        kind: DataKind::TinyPhotographs,
        classes: cifar::CLASSES.map(String::from).to_vec(),
        mean: cifar::MEAN.to_vec(),
        std: cifar::STD.to_vec(),
        origin: dir.display().to_string(),
    }
}

/// The folder that CIFAR-10's files are in.
pub(super) fn cifar_folder(request: &DataRequest) -> Result<PathBuf> {
    if let Some(dir) = &request.data_dir {
        return Ok(cifar::folder_of(dir).unwrap_or_else(|| dir.clone()));
    }
    let own = request.folder_of("cifar-10");
    if let Some(dir) = cifar::folder_of(&own) {
        return Ok(dir);
    }
    hub::cifar_10(&request.cache()?).map_err(|error| {
        let (files, own) = (cifar::FILES, own.display());
        let ways =
            format!("{error}; give --data-dir DIR with the files {files}, or put them at {own}");
        Error::dataset("cifar-10", ways)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A request that finds nothing on this machine.
    fn nowhere(dataset: &str) -> (tempfile::TempDir, DataRequest) {
        let empty = tempfile::tempdir().unwrap();
        let mut request = DataRequest::new(dataset);
        request.data_root = Some(empty.path().to_path_buf());
        request.cache = Some(empty.path().join("cache"));
        request.limit = Some(4);
        (empty, request)
    }

    fn no_network(_: &Path) -> Result<PathBuf> {
        Err(Error::dataset("microsoft/cats_vs_dogs", "connection refused"))
    }

    #[test]
    fn without_photographs_the_drawn_sample_says_why_and_what_to_do() {
        let (_empty, request) = nowhere("cats-dogs");
        let dataset = open_with(&request, no_network, no_network).unwrap();
        assert_eq!((dataset.kind, dataset.name.as_str()), (DataKind::Drawn, "cats-dogs-drawn"));
        let note = &dataset.notes[0];
        for text in ["connection refused", "DRAWN", "--data-dir", "CONVZOO_DATA", "HF_ENDPOINT"] {
            assert!(note.contains(text), "{text} is missing in: {note}");
        }
    }

    #[test]
    fn without_fallback_it_is_an_error_with_the_same_advice() {
        let (_empty, mut request) = nowhere("cats-dogs");
        request.fallback = false;
        let text = open_with(&request, no_network, no_network).unwrap_err().to_string();
        for part in ["connection refused", "--data-dir", "CONVZOO_DATA", "HF_ENDPOINT"] {
            assert!(text.contains(part), "{part} is missing in: {text}");
        }
        let (_empty, request) = nowhere("mnist");
        let text = open_with(&request, no_network, no_network).unwrap_err().to_string();
        assert!(text.contains("connection refused") && text.contains("t10k-labels"), "{text}");
    }

    #[test]
    fn a_data_folder_that_cannot_be_used_is_mentioned() {
        let (root, request) = nowhere("cats-dogs");
        std::fs::create_dir(root.path().join("cats-dogs")).unwrap();
        let dataset = open_with(&request, no_network, no_network).unwrap();
        assert!(dataset.notes[0].starts_with("not used: "), "{:?}", dataset.notes);
        assert!(dataset.notes[1].contains("DRAWN"));
    }

    #[test]
    fn a_download_is_used() {
        let (root, request) = nowhere("cats-dogs");
        for name in ["cat/1.jpg", "cat/2.jpg", "dog/1.jpg", "dog/2.jpg"] {
            let path = root.path().join("cache/photos").join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "unread").unwrap();
        }
        let download = |cache: &Path| Ok(cache.join("photos"));
        let dataset = open_with(&request, download, no_network).unwrap();
        assert_eq!((dataset.kind, dataset.train.len()), (DataKind::Photographs, 2));
        assert!(dataset.notes.is_empty());
    }
}
