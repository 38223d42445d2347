//! The data sets, turned into files that anything can read.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::list::RemoteFile;
use super::lock::{Lock, beside, create_parent};
use super::table::{self, Rows};
use super::{CATS_VS_DOGS, CIFAR_10, Hub, MNIST, trusted};
use crate::error::{Error, Result};
use crate::files::plain::is_plain;
use crate::files::sync_folder;
use crate::visible::{tell, visible_line};

const CLASSES: [&str; 2] = ["cat", "dog"];

/// Side of an MNIST picture in pixels.
const DIGIT: u32 = 28;

impl Hub {
    /// Downloads the photographs of cats and dogs, once, and returns `cache/cats-dogs`, with the
    /// encoded pictures unchanged in `cat/NNNNN.jpg` and `dog/NNNNN.jpg`.
    ///
    /// Rows that cannot be read are counted and reported, on the standard error output and in
    /// `cache/cats-dogs/source.txt`. Once the pictures are safe, the downloaded tables are deleted.
    ///
    /// # Errors
    /// The download fails (see [`Hub::fetch`]), files cannot be written, or a class stays empty.
    pub fn cats_vs_dogs(&self, cache: &Path) -> Result<PathBuf> {
        trusted(cache)?;
        let target = cache.join("cats-dogs");
        let is_done = || CLASSES.iter().all(|class| target.join(class).is_dir());
        if is_done() {
            return Ok(target);
        }
        let _lock = Lock::take(cache.join("cats-dogs.lock"), CATS_VS_DOGS, self.quiet)?;
        if is_done() {
            return Ok(target);
        }
        let aside = fresh_folder(&target)?;
        let tables = self.tables(CATS_VS_DOGS, "", cache)?;
        let rows = write_photographs(&tables, &aside)?;
        let account = account(&rows);
        if rows.unreadable > 0 {
            tell(&account);
        }
        let path = aside.join("source.txt");
        fs::write(&path, account + "\n").map_err(|error| Error::file(path, error))?;
        finish(&aside, &target, &tables)?;
        Ok(target)
    }

    /// Downloads MNIST, once, and returns `cache/mnist` with the four IDX files, uncompressed.
    ///
    /// # Errors
    /// The download fails (see [`Hub::fetch`]), a row cannot be read, or files cannot be written.
    pub fn mnist(&self, cache: &Path) -> Result<PathBuf> {
        trusted(cache)?;
        let target = cache.join("mnist");
        let is_done = || {
            let names = ["train", "t10k"].map(idx_names);
            names.as_flattened().iter().all(|name| target.join(name).is_file())
        };
        if is_done() {
            return Ok(target);
        }
        let _lock = Lock::take(cache.join("mnist.lock"), MNIST, self.quiet)?;
        if is_done() {
            return Ok(target);
        }
        let aside = fresh_folder(&target)?;
        let tables = self.tables(MNIST, "mnist/", cache)?;
        for (part, prefix) in [("train", "train"), ("test", "t10k")] {
            let start = format!("{part}-");
            let has_part = |path: &&PathBuf| {
                path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&start))
            };
            write_digits(part, tables.iter().filter(has_part), &aside, prefix)?;
        }
        finish(&aside, &target, &tables)?;
        Ok(target)
    }

    /// Downloads CIFAR-10, once, and returns `cache/cifar-10` with its tables as they are: their
    /// pictures are PNG files, which take no less room elsewhere.
    ///
    /// # Errors
    /// The download fails (see [`Hub::fetch`]), or files cannot be moved to their place.
    pub fn cifar_10(&self, cache: &Path) -> Result<PathBuf> {
        trusted(cache)?;
        let target = cache.join("cifar-10");
        if target.is_dir() {
            return Ok(target);
        }
        let _lock = Lock::take(cache.join("cifar-10.lock"), CIFAR_10, self.quiet)?;
        if target.is_dir() {
            return Ok(target);
        }
        let aside = fresh_folder(&target)?;
        let tables = self.tables(CIFAR_10, "plain_text/", cache)?;
        for table in &tables {
            let place = aside.join(table.file_name().unwrap_or_default());
            fs::rename(table, place).map_err(|error| Error::file(table, error))?;
        }
        finish(&aside, &target, &tables)?;
        Ok(target)
    }

    /// Downloads the parquet files of `repo` whose paths begin with `prefix`; returns where they
    /// are, in order.
    fn tables(&self, repo: &str, prefix: &str, cache: &Path) -> Result<Vec<PathBuf>> {
        let wanted =
            |file: &RemoteFile| file.path.starts_with(prefix) && file.path.ends_with(".parquet");
        let files: Vec<_> = self.files(repo)?.into_iter().filter(wanted).collect();
        if files.is_empty() {
            let cause = format!("{} lists no parquet file {prefix}* in it", self.endpoint);
            return Err(self.failed(repo, cause));
        }
        let folder = cache.join("hub").join(repo.replace('/', "--"));
        let names = plain_names(&files).map_err(|cause| self.failed(repo, cause))?;
        let fetched = files.iter().zip(names).map(|(file, name)| {
            let target = folder.join(name);
            self.fetch(repo, file, &target)?;
            Ok(target)
        });
        fetched.collect()
    }
}

/// The last parts of a server's paths, which are plain names, none twice: they cannot lead out of the
/// folder that the files go to.
fn plain_names(files: &[RemoteFile]) -> Result<Vec<&str>, String> {
    let mut names = Vec::new();
    for file in files {
        let name = file.path.rsplit('/').next().unwrap_or_default();
        if !is_plain(name) {
            return Err(format!(
                "{} does not end with the name of a file",
                visible_line(&file.path)
            ));
        }
        if names.contains(&name) {
            return Err(format!("it lists two files called {name}"));
        }
        names.push(name);
    }
    Ok(names)
}

/// Writes the pictures of all `tables` under `folder`, numbered through.
fn write_photographs(tables: &[PathBuf], folder: &Path) -> Result<Rows> {
    for class in CLASSES {
        let folder = folder.join(class);
        fs::create_dir_all(&folder).map_err(|error| Error::file(folder, error))?;
    }
    let mut rows = Rows::default();
    let mut counts = [0; CLASSES.len()];
    let mut strange = 0;
    for path in tables {
        table::read(path, &mut rows, |row, label, picture| {
            match usize::try_from(label).ok().filter(|&label| label < CLASSES.len()) {
                Some(label) => {
                    counts[label] += 1;
                    let path = folder.join(CLASSES[label]).join(format!("{row:05}.jpg"));
                    fs::write(&path, picture).map_err(|error| Error::file(path, error))
                }
                None => {
                    strange += 1;
                    Ok(())
                }
            }
        })?;
    }
    if strange > 0 {
        rows.unreadable += strange;
        rows.first_cause.get_or_insert_with(|| format!("{strange} have labels beyond 0 and 1"));
    }
    match counts.iter().position(|&count| count == 0) {
        Some(empty) => {
            let class = CLASSES[empty];
            let cause = rows.first_cause.as_deref().unwrap_or("all rows are of the other class");
            let total = rows.total;
            let cause = format!("not one picture of a {class} in {total} rows ({cause})");
            Err(Error::dataset(CATS_VS_DOGS, cause))
        }
        None => Ok(rows),
    }
}

/// Turns the tables of one part into its two IDX files.
fn write_digits<'a>(
    part: &str,
    tables: impl Iterator<Item = &'a PathBuf>,
    folder: &Path,
    prefix: &str,
) -> Result<()> {
    let mut rows = Rows::default();
    let (mut images, mut labels) = (Vec::new(), Vec::new());
    for path in tables {
        table::read(path, &mut rows, |row, label, picture| {
            let bad = |cause: String| Error::file(path, format!("row {row}: {cause}"));
            let label = u8::try_from(label).ok().filter(|&label| label < 10);
            labels.push(label.ok_or_else(|| bad("its label is not in 0..=9".to_string()))?);
            images.extend(digit(picture).map_err(bad)?);
            Ok(())
        })?;
    }
    if let Some(cause) = rows.first_cause {
        let count = rows.unreadable;
        return Err(Error::dataset(MNIST, format!("{part}: {count} rows unreadable ({cause})")));
    }
    if labels.is_empty() {
        return Err(Error::dataset(MNIST, format!("it has no rows in its {part} part")));
    }
    let count = labels.len() as u32;
    let [image_name, label_name] = idx_names(prefix);
    write_idx(&folder.join(image_name), &[count, DIGIT, DIGIT], &images)?;
    write_idx(&folder.join(label_name), &[count], &labels)
}

/// The pixels of one encoded digit.
fn digit(encoded: &[u8]) -> Result<Vec<u8>, String> {
    let picture = image::load_from_memory(encoded).map_err(|error| error.to_string())?.to_luma8();
    match picture.dimensions() {
        (DIGIT, DIGIT) => Ok(picture.into_raw()),
        (width, height) => {
            Err(format!("a picture of {width}x{height} pixels, expected {DIGIT}x{DIGIT}"))
        }
    }
}

/// The names of the image and the label file of a part.
fn idx_names(prefix: &str) -> [String; 2] {
    [format!("{prefix}-images-idx3-ubyte"), format!("{prefix}-labels-idx1-ubyte")]
}

/// Writes bytes in the IDX format: magic number, sizes (big-endian), content.
fn write_idx(path: &Path, sizes: &[u32], content: &[u8]) -> Result<()> {
    let mut header = vec![0, 0, 8, sizes.len() as u8];
    header.extend(sizes.iter().flat_map(|size| size.to_be_bytes()));
    let write = || {
        let mut file = File::create(path)?;
        file.write_all(&header)?;
        file.write_all(content)
    };
    write().map_err(|error| Error::file(path, error))
}

/// How many rows became pictures, in one line.
fn account(rows: &Rows) -> String {
    let Rows { total, unreadable, first_cause } = rows;
    let written = total - unreadable;
    let lost = match first_cause {
        Some(cause) => format!("{unreadable} could not be read ({cause})"),
        None => "none was lost".to_string(),
    };
    format!("{CATS_VS_DOGS}: {written} of {total} rows became pictures; {lost}")
}

/// An empty folder beside `target`; what a broken run left there is removed.
fn fresh_folder(target: &Path) -> Result<PathBuf> {
    // An empty folder is in nobody's way, and nothing else can be removed like this.
    let _ = fs::remove_dir(target);
    if target.exists() {
        return Err(Error::file(target, "is in the way and incomplete; move or delete it"));
    }
    let aside = beside(target, ".part");
    create_parent(&aside)?;
    let removed = if aside.exists() { fs::remove_dir_all(&aside) } else { Ok(()) };
    let made = removed.and_then(|()| fs::create_dir(&aside));
    made.map_err(|error| Error::file(&aside, error))?;
    Ok(aside)
}

/// Gives the finished folder its name and deletes the tables it was made of.
fn finish(aside: &Path, target: &Path, tables: &[PathBuf]) -> Result<()> {
    sync_files(aside).map_err(|error| Error::file(aside, error))?;
    fs::rename(aside, target).map_err(|error| Error::file(target, error))?;
    sync_folder(target).map_err(|error| Error::file(target, error))?;
    for table in tables {
        // The pictures are safe; a table that stays only takes room.
        let _ = fs::remove_file(table);
        let _ = fs::remove_file(beside(table, ".lock"));
    }
    Ok(())
}

/// Flushes every file under `folder` to disk; in one go, which is far quicker than one by one as
/// they are written.
fn sync_files(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            sync_files(&path)?;
        } else {
            OpenOptions::new().write(true).open(&path)?.sync_all()?;
        }
    }
    Ok(())
}
