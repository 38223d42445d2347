//! From a data set's name to its pictures: where each one is looked for, and in what order.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::folder::{self, Files, Parts};
use super::source::{Source, identity, limited, split};
use super::{DataKind, Dataset, cats_dogs, cifar, drawn, hub, mnist};
use crate::error::{Error, Result};

/// The names that [`open`] knows.
pub const DATASETS: [&str; 5] = ["cats-dogs", "cats-dogs-drawn", "mnist", "cifar-10", "folder"];

/// The share of a folder without a validation part that is held out from training.
pub const DEFAULT_VAL_SPLIT: f64 = 0.1;

/// Colour statistics of ImageNet, for pictures of which nothing is known.
const IMAGENET: [[f32; 3]; 2] = [[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]];

/// Which pictures are wanted, and where to look.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DataRequest {
    /// One of [`DATASETS`].
    pub dataset: String,
    /// The folder to look in, and the only one.
    pub data_dir: Option<PathBuf>,
    /// The share of the training pictures to validate on, between 0 and 1. A validation part that
    /// the data set brings with it becomes the test part then.
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

    /// The folder of the data set called `name` among the user's data sets.
    fn folder_of(&self, name: &str) -> PathBuf {
        let from_env = || std::env::var_os("CONVZOO_DATA").filter(|value| !value.is_empty());
        let root = self.data_root.clone().or_else(|| from_env().map(PathBuf::from));
        root.unwrap_or_else(|| PathBuf::from("data")).join(name)
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
    if request.limit == Some(0) {
        return Err(Error::Setting("a limit of 0 pictures leaves nothing to train on".into()));
    }
    match request.dataset.as_str() {
        "cats-dogs" => open_cats_dogs(request, cats_vs_dogs),
        "cats-dogs-drawn" => Ok(drawn_sample(request, Vec::new())),
        "mnist" => open_mnist(request, digits),
        "cifar-10" => open_cifar_10(request),
        "folder" => open_folder(request),
        other => Err(Error::dataset(other, format!("unknown; there are {}", DATASETS.join(", ")))),
    }
}

/// What a data set is before it is split, limited and identified.
struct Found {
    name: &'static str,
    kind: DataKind,
    classes: Vec<String>,
    mean: Vec<f32>,
    std: Vec<f32>,
    origin: String,
    train: Arc<dyn Source>,
    val: Option<Arc<dyn Source>>,
    test: Option<Arc<dyn Source>>,
}

/// Splits and limits as requested.
fn finish(request: &DataRequest, found: Found, mut notes: Vec<String>) -> Result<Dataset> {
    let Found { name, kind, classes, mean, std, origin, train, val, mut test } = found;
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
        return Err(Error::dataset(name, "too few pictures to hold some out for validation"));
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

/// The data set that the files of some folders make.
fn of_files(name: &'static str, kind: DataKind, [mean, std]: [[f32; 3]; 2], parts: Parts) -> Found {
    let files = |files| -> Arc<dyn Source> { Arc::new(Files::new(&parts.root, files)) };
    Found {
        name,
        kind,
        classes: parts.classes,
        mean: mean.to_vec(),
        std: std.to_vec(),
        origin: parts.root.display().to_string(),
        train: files(parts.train),
        val: parts.val.map(files),
        test: parts.test.map(files),
    }
}

fn open_folder(request: &DataRequest) -> Result<Dataset> {
    let Some(dir) = &request.data_dir else {
        return Err(Error::dataset(
            "folder",
            format!("no folder given; add --data-dir DIR with {}", folder::LAYOUTS),
        ));
    };
    let found = of_files("folder", DataKind::Pictures, IMAGENET, folder::find(dir)?);
    finish(request, found, Vec::new())
}

fn open_cats_dogs(
    request: &DataRequest,
    download: impl FnOnce(&Path) -> Result<PathBuf>,
) -> Result<Dataset> {
    let mut notes = Vec::new();
    match photographs(request, download, &mut notes) {
        Ok(parts) => {
            let statistics = [cats_dogs::MEAN, cats_dogs::STD];
            let found = of_files("cats-dogs", DataKind::Photographs, statistics, parts);
            finish(request, found, notes)
        }
        Err(error) if request.data_dir.is_some() => Err(error),
        Err(error) if !request.fallback => {
            let ways = ways_to_photographs(&request.folder_of("cats-dogs"));
            Err(Error::dataset("cats-dogs", format!("{error}; {}", ways.join("; "))))
        }
        Err(error) => {
            notes.push(fallback_note(&error, &request.folder_of("cats-dogs")));
            Ok(drawn_sample(request, notes))
        }
    }
}

/// Looks for photographs in the order that [`open`] promises.
fn photographs(
    request: &DataRequest,
    download: impl FnOnce(&Path) -> Result<PathBuf>,
    notes: &mut Vec<String>,
) -> Result<Parts> {
    if let Some(dir) = &request.data_dir {
        return cats_dogs::find(dir);
    }
    let dir = request.folder_of("cats-dogs");
    if dir.is_dir() {
        match cats_dogs::find(&dir) {
            Ok(parts) => return Ok(parts),
            Err(error) => notes.push(format!("not used: {error}")),
        }
    }
    cats_dogs::find(&download(&request.cache()?)?)
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

fn drawn_sample(request: &DataRequest, notes: Vec<String>) -> Dataset {
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

fn open_mnist(
    request: &DataRequest,
    download: impl FnOnce(&Path) -> Result<PathBuf>,
) -> Result<Dataset> {
    let dir = match &request.data_dir {
        Some(dir) => mnist::folder_of(dir).unwrap_or_else(|| dir.clone()),
        None => match mnist::folder_of(&request.folder_of("mnist")) {
            Some(dir) => dir,
            None => download(&request.cache()?).map_err(|error| {
                let dir = request.folder_of("mnist");
                let ways = format!(
                    "{error}; give --data-dir DIR with the files {}, or put them at {}",
                    mnist::FILES,
                    dir.display()
                );
                Error::dataset("mnist", ways)
            })?,
        },
    };
    let (train, test) = mnist::read(&dir)?;
    let found = Found {
        name: "mnist",
        kind: DataKind::Digits,
        classes: (0..10).map(|digit| digit.to_string()).collect(),
        mean: vec![mnist::MEAN],
        std: vec![mnist::STD],
        origin: dir.display().to_string(),
        train: Arc::new(train),
        val: Some(Arc::new(test)),
        test: None,
    };
    finish(request, found, Vec::new())
}

fn open_cifar_10(request: &DataRequest) -> Result<Dataset> {
    let own = request.folder_of("cifar-10");
    let dir = match &request.data_dir {
        Some(dir) => cifar::folder_of(dir).unwrap_or_else(|| dir.clone()),
        None => match cifar::folder_of(&own) {
            Some(dir) => dir,
            None => hub::cifar_10(&request.cache()?).map_err(|error| {
                let (files, own) = (cifar::FILES, own.display());
                let ways = format!(
                    "{error}; give --data-dir DIR with the files {files}, or put them at {own}"
                );
                Error::dataset("cifar-10", ways)
            })?,
        },
    };
    let (train, test) = cifar::read(&dir)?;
    let found = Found {
        name: "cifar-10",
        kind: DataKind::TinyPhotographs,
        classes: cifar::CLASSES.map(String::from).to_vec(),
        mean: cifar::MEAN.to_vec(),
        std: cifar::STD.to_vec(),
        origin: dir.display().to_string(),
        train: Arc::new(train),
        val: Some(Arc::new(test)),
        test: None,
    };
    finish(request, found, Vec::new())
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
