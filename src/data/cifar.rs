//! CIFAR-10, tiny photographs of ten classes (Krizhevsky, "Learning Multiple Layers of Features from
//! Tiny Images", 2009), from its binary batches or from the hub's tables.

use std::path::{Path, PathBuf};

use super::hub::{self, Rows};
use super::in_memory::InMemory;
use crate::error::{Error, Result};

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

/// The folder, `dir` or one that is usual within it, that has images of CIFAR's.
pub(crate) fn folder_of(dir: &Path) -> Option<PathBuf> {
    let usual = ["", "cifar-10", "cifar10", "cifar-10-batches-bin", "plain_text"];
    let has = |dir: &PathBuf| {
        let any = |start, end| files(dir, start, end).is_ok_and(|found| !found.is_empty());
        any("data_batch_", ".bin")
            || any("train-", ".parquet")
            || any("test_batch", ".bin")
            || any("test-", ".parquet")
    };
    usual.iter().map(|inner| dir.join(inner)).find(has)
}

/// Reads the training images.
///
/// # Errors
/// A file is missing, cannot be read, is cut off, or has a label above 9 or an image of another size.
pub(crate) fn read_train(dir: &Path) -> Result<InMemory> {
    let batches = files(dir, "data_batch_", ".bin")?;
    match batches.is_empty() {
        true => read_tables(dir, "train", &files(dir, "train-", ".parquet")?),
        false => read_batches("train", &batches),
    }
}

/// Reads the test images.
///
/// # Errors
/// Those of [`read_train`].
pub(crate) fn read_test(dir: &Path) -> Result<InMemory> {
    let tables = files(dir, "test-", ".parquet")?;
    let batches = files(dir, "data_batch_", ".bin")?;
    match tables.is_empty() || !batches.is_empty() {
        true => read_batches("test", &[dir.join("test_batch.bin")]),
        false => read_tables(dir, "test", &tables),
    }
}

/// The files of a folder whose names begin and end like this, by name.
fn files(dir: &Path, start: &str, end: &str) -> Result<Vec<PathBuf>> {
    let failed = |error| Error::file(dir, error);
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with(start) && name.ends_with(end) {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// Records of a label byte and the planes of red, green and blue.
fn read_batches(part: &'static str, paths: &[PathBuf]) -> Result<InMemory> {
    let (mut pixels, mut labels) = (Vec::new(), Vec::new());
    for path in paths {
        let bytes = std::fs::read(path).map_err(|error| Error::file(path, error))?;
        let records = bytes.chunks_exact(1 + 3 * PLANE);
        if bytes.is_empty() || !records.remainder().is_empty() {
            let cause = format!(
                "{} bytes are no whole number of records of {}; it may be cut off",
                bytes.len(),
                1 + 3 * PLANE
            );
            return Err(Error::file(path, cause));
        }
        for record in records {
            labels.push(label(i64::from(record[0])).map_err(|cause| Error::file(path, cause))?);
            let planes = &record[1..];
            pixels.extend((0..PLANE).flat_map(|at| [0, 1, 2].map(|c| planes[c * PLANE + at])));
        }
    }
    Ok(InMemory::new(part, (SIDE, 3), pixels, labels))
}

/// Tables with an encoded picture and a label in every row.
fn read_tables(dir: &Path, part: &'static str, paths: &[PathBuf]) -> Result<InMemory> {
    let mut rows = Rows::default();
    let (mut pixels, mut labels) = (Vec::new(), Vec::new());
    for path in paths {
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
    }
    if let Some(cause) = rows.first_cause {
        return Err(Error::file(
            dir,
            format!("{part}: {} rows unreadable ({cause})", rows.unreadable),
        ));
    }
    if labels.is_empty() {
        return Err(Error::file(dir, format!("has no {part} pictures; it needs {FILES}")));
    }
    Ok(InMemory::new(part, (SIDE, 3), pixels, labels))
}

fn label(class: i64) -> Result<u8, String> {
    let label = u8::try_from(class).ok().filter(|label| usize::from(*label) < CLASSES.len());
    label.ok_or_else(|| format!("a label of {class}; CIFAR-10's are 0 to 9"))
}
