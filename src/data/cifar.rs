//! CIFAR-10, tiny photographs of ten classes (Krizhevsky, "Learning Multiple Layers of Features from
//! Tiny Images", 2009), from its binary batches or from the hub's tables.

use std::io::Read;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::hub::{self, Rows};
use super::in_memory::InMemory;
use super::names::text;
use super::published::not_data;
use crate::error::{Error, Result};
use crate::files::regular;

/// The classes, by label.
pub(crate) const CLASSES: [&str; 10] =
    ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"];

/// Mean of each colour over the training pictures, of samples from 0 to 1.
pub(crate) const MEAN: [f32; 3] = [0.4914, 0.4822, 0.4465];

/// Standard deviation of each colour.
pub(crate) const STD: [f32; 3] = [0.2470, 0.2435, 0.2616];

/// Rows, and columns, of a picture.
const SIDE: usize = 32;

/// Samples of one colour of a picture.
const PLANE: usize = SIDE * SIDE;

/// What is needed, in either of two forms.
pub(crate) const FILES: &str = "data_batch_1.bin to data_batch_5.bin and test_batch.bin, or train-*.parquet and test-*.parquet";

/// Training images, and test images, of the whole of CIFAR-10.
const IMAGES: [usize; 2] = [50_000, 10_000];

/// Images of a class in both parts of the whole.
const OF_EACH: [usize; 2] = [5_000, 1_000];

/// Bytes of an image in a batch: its label, and the planes of red, green and blue.
const RECORD: usize = 1 + 3 * PLANE;

/// Bytes that a batch may have: all training images.
const MOST: u64 = (50_000 * RECORD) as u64;

/// The names of the training batches.
const BATCHES: [&str; 5] = [
    "data_batch_1.bin",
    "data_batch_2.bin",
    "data_batch_3.bin",
    "data_batch_4.bin",
    "data_batch_5.bin",
];

/// The folder, `dir` or one that is usual within it, that has images of CIFAR's.
pub(crate) fn folder_of(dir: &Path) -> Option<PathBuf> {
    let usual = ["", "cifar-10", "cifar10", "cifar-10-batches-bin", "plain_text"];
    usual.iter().map(|inner| dir.join(inner)).find(|dir| {
        [0, 1].iter().any(|&part| {
            let any = |found: Result<Vec<PathBuf>>| found.is_ok_and(|found| !found.is_empty());
            any(batches(dir, part)) || any(tables(dir, part))
        })
    })
}

/// Reads the training images, and says in a note where they are not the whole of CIFAR-10's.
///
/// # Errors
/// A file is missing, twice there, not one of CIFAR-10's, cannot be read, is cut off, or has a label
/// above 9 or an image of another size.
pub(crate) fn read_train(dir: &Path) -> Result<(InMemory, Vec<String>)> {
    read(dir, 0)
}

/// Reads the test images.
///
/// # Errors
/// Those of [`read_train`].
pub(crate) fn read_test(dir: &Path) -> Result<(InMemory, Vec<String>)> {
    read(dir, 1)
}

/// The training part is 0, the test part 1.
fn read(dir: &Path, part: usize) -> Result<(InMemory, Vec<String>)> {
    let name = ["train", "test"][part];
    let (batches, tables) = (batches(dir, part)?, tables(dir, part)?);
    let mut notes = Vec::new();
    let (pixels, labels) = match (batches.is_empty(), tables.is_empty()) {
        (true, true) => return Err(nothing(dir, name)),
        (true, false) => {
            check_tables(dir, &tables)?;
            read_tables(dir, name, &tables)?
        }
        (false, no_tables) => {
            if !no_tables {
                notes.push(format!(
                    "the {name} part is in {} twice: its .bin files are read, its .parquet files are not",
                    dir.display()
                ));
            }
            check_batches(dir, part, &batches)?;
            read_batches(&batches)?
        }
    };
    notes.extend(compare(dir, part, &labels));
    Ok((InMemory::new(name, (SIDE, 3), pixels, labels), notes))
}

/// What is said of a folder without images of a part.
fn nothing(dir: &Path, part: &str) -> Error {
    let is_there = |name: &str| dir.join(name).exists();
    let found = if is_there("train.bin") || is_there("test.bin") {
        "; train.bin and test.bin are CIFAR-100's, which has other classes"
    } else if is_there("data_batch_1") || is_there("test_batch") {
        "; the files without .bin are the version for Python: take the binary version"
    } else {
        ""
    };
    Error::file(dir, format!("has no {part} images of CIFAR-10{found}; it needs {FILES}"))
}

/// What is to be said of images that are not the whole set.
fn compare(dir: &Path, part: usize, labels: &[u8]) -> Option<String> {
    let (name, all, dir) = (["train", "test"][part], IMAGES[part], dir.display());
    if labels.len() != all {
        let count = labels.len();
        return Some(format!(
            "the {name} part in {dir} has {count} images, and CIFAR-10's has {all}: results do not \
             compare with published ones"
        ));
    }
    let mut counts = [0; CLASSES.len()];
    labels.iter().for_each(|&label| counts[usize::from(label)] += 1);
    let odd = counts.iter().position(|&count| count != OF_EACH[part])?;
    let (class, count, each) = (CLASSES[odd], counts[odd], OF_EACH[part]);
    Some(format!(
        "the {name} part in {dir} is not the published CIFAR-10: {count} images of the class {class}, \
         not {each}"
    ))
}

/// The binary batches of a part.
fn batches(dir: &Path, part: usize) -> Result<Vec<PathBuf>> {
    files(dir, ["data_batch_", "test_batch"][part], ".bin")
}

/// The tables of a part.
fn tables(dir: &Path, part: usize) -> Result<Vec<PathBuf>> {
    files(dir, ["train-", "test-"][part], ".parquet")
}

/// The files of a folder whose names begin and end like this, by name.
fn files(dir: &Path, start: &str, end: &str) -> Result<Vec<PathBuf>> {
    let failed = |error| Error::file(dir, error);
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let name = file_name(&path);
        if name.starts_with(start) && name.ends_with(end) {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

fn file_name(path: &Path) -> String {
    path.file_name().map(text).unwrap_or_default()
}

/// All batches of a part, and each of them once.
fn check_batches(dir: &Path, part: usize, found: &[PathBuf]) -> Result<()> {
    let wanted: &[&str] = [&BATCHES[..], &["test_batch.bin"]][part];
    let names: Vec<String> = found.iter().map(|path| file_name(path)).collect();
    if let Some(missing) = wanted.iter().find(|name| !names.iter().any(|found| found == *name)) {
        let cause = format!(
            "{missing} is missing; the part has {} batches, of which {} are here",
            wanted.len(),
            names.iter().filter(|name| wanted.contains(&name.as_str())).count()
        );
        return Err(Error::file(dir, cause));
    }
    if let Some(strange) = names.iter().find(|name| !wanted.contains(&name.as_str())) {
        let cause =
            format!("is not one of CIFAR-10's batches ({}): take it away", wanted.join(", "));
        return Err(Error::file(dir.join(strange), cause));
    }
    Ok(())
}

/// All tables that their names, as `train-00000-of-00004.parquet`, speak of.
fn check_tables(dir: &Path, found: &[PathBuf]) -> Result<()> {
    let place = |path: &PathBuf| -> Option<(usize, usize)> {
        let name = file_name(path);
        let (at, of) = name.strip_suffix(".parquet")?.split_once('-')?.1.split_once("-of-")?;
        // A hash may follow, as in `00000-of-00004-abcdef`.
        let of = of.split('-').next()?;
        Some((at.parse().ok()?, of.parse().ok()?))
    };
    let places: Vec<(usize, usize)> = found.iter().filter_map(place).collect();
    let Some(&(_, of)) = places.first() else { return Ok(()) };
    if let Some(path) = found.iter().find(|path| place(path).is_none_or(|(_, n)| n != of)) {
        let cause =
            format!("does not belong to the {of} tables beside it; take away what is not wanted");
        return Err(Error::file(path, cause));
    }
    for at in 0..of {
        match places.iter().filter(|place| place.0 == at).count() {
            1 => {}
            0 => {
                let cause = format!(
                    "table {at:05} of {of:05} is missing: {} of {of} tables are here",
                    places.len()
                );
                return Err(Error::file(dir, cause));
            }
            _ => return Err(Error::file(dir, format!("table {at:05} of {of:05} is there twice"))),
        }
    }
    Ok(())
}

/// Records of a label byte and the planes of red, green and blue.
fn read_batches(paths: &[PathBuf]) -> Result<(Vec<u8>, Vec<u8>)> {
    let (mut pixels, mut labels) = (Vec::new(), Vec::new());
    let mut seen = Vec::new();
    for path in paths {
        let bytes = regular::read(path, MOST)?;
        check_records(&bytes).map_err(|cause| Error::file(path, cause))?;
        refuse_twin(path, Sha256::digest(&bytes).into(), &mut seen)?;
        for record in bytes.chunks_exact(RECORD) {
            labels.push(label(i64::from(record[0])).map_err(|cause| Error::file(path, cause))?);
            let planes = &record[1..];
            pixels.extend((0..PLANE).flat_map(|at| [0, 1, 2].map(|c| planes[c * PLANE + at])));
        }
    }
    Ok((pixels, labels))
}

/// Whether bytes can be CIFAR-10's records.
fn check_records(bytes: &[u8]) -> Result<(), String> {
    if let Some(what) = not_data(&bytes[..bytes.len().min(64)]) {
        return Err(format!("is {what}, not a batch of CIFAR-10; download it anew"));
    }
    let (length, left) = (bytes.len(), bytes.len() % RECORD);
    match length {
        0 => Err("is empty".to_owned()),
        _ if left == 0 => Ok(()),
        _ if length % (RECORD + 1) == 0 => Err(format!(
            "has records of {} bytes, as CIFAR-100 has; CIFAR-10's have {RECORD}",
            RECORD + 1
        )),
        _ => Err(format!(
            "{length} bytes are not a whole number of records of {RECORD}; it may be cut off"
        )),
    }
}

/// An error where a file has the content of one before it.
fn refuse_twin(path: &Path, hash: [u8; 32], seen: &mut Vec<([u8; 32], PathBuf)>) -> Result<()> {
    if let Some((_, twin)) = seen.iter().find(|(known, _)| *known == hash) {
        let cause = format!(
            "has the same images as {}: one of them is not what it is called",
            file_name(twin)
        );
        return Err(Error::file(path, cause));
    }
    seen.push((hash, path.to_owned()));
    Ok(())
}

/// The beginning of a file, which must be a table.
fn check_table(path: &Path) -> Result<()> {
    let mut start = Vec::new();
    let file = regular::open(path).map_err(|cause| Error::file(path, cause))?;
    file.take(64).read_to_end(&mut start).map_err(|cause| Error::file(path, cause))?;
    match not_data(&start) {
        Some(what) => Err(Error::file(path, format!("is {what}, not a table; download it anew"))),
        None => Ok(()),
    }
}

/// Tables with an encoded picture and a label in every row.
fn read_tables(dir: &Path, part: &str, paths: &[PathBuf]) -> Result<(Vec<u8>, Vec<u8>)> {
    let mut rows = Rows::default();
    let (mut pixels, mut labels) = (Vec::new(), Vec::new());
    let mut seen = Vec::new();
    for path in paths {
        check_table(path)?;
        let before = pixels.len();
        hub::read_table(path, &mut rows, |row, class, encoded| {
            let bad = |cause: String| Error::file(path, format!("row {row}: {cause}"));
            labels.push(label(class).map_err(bad)?);
            let picture =
                image::load_from_memory(encoded).map_err(|error| bad(error.to_string()))?;
            let (width, height) = (picture.width() as usize, picture.height() as usize);
            if (width, height) != (SIDE, SIDE) {
                return Err(bad(format!(
                    "a picture of {width}x{height} pixels, not {SIDE}x{SIDE}"
                )));
            }
            pixels.extend(picture.into_rgb8().into_raw());
            Ok(())
        })?;
        refuse_twin(path, Sha256::digest(&pixels[before..]).into(), &mut seen)?;
    }
    if let Some(cause) = rows.first_cause {
        return Err(Error::file(
            dir,
            format!("{part}: {} rows unreadable ({cause})", rows.unreadable),
        ));
    }
    if labels.is_empty() {
        return Err(nothing(dir, part));
    }
    Ok((pixels, labels))
}

fn label(class: i64) -> Result<u8, String> {
    let label = u8::try_from(class).ok().filter(|label| usize::from(*label) < CLASSES.len());
    label.ok_or_else(|| format!("a label of {class}; CIFAR-10's are 0 to 9"))
}
