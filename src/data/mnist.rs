//! MNIST's handwritten digits (LeCun, Bottou, Bengio and Haffner, 1998) from its four IDX files.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;

use super::in_memory::InMemory;
use crate::error::{Error, Result};

/// Mean of the training digits, of samples from 0 to 1.
pub(crate) const MEAN: f32 = 0.1307;

/// Standard deviation of the training digits.
pub(crate) const STD: f32 = 0.3081;

/// Rows, and columns, of a digit.
const SIDE: usize = 28;

/// What the images of an IDX file may come to, in bytes: 20 times MNIST.
const MOST_BYTES: u64 = 1 << 30;

/// The files that are needed, each also as `.gz`.
pub(crate) const FILES: &str = "train-images-idx3-ubyte, train-labels-idx1-ubyte, \
     t10k-images-idx3-ubyte and t10k-labels-idx1-ubyte, each plain or as .gz";

/// The folder, `dir` or one that is usual within it, that has images of MNIST's.
pub(crate) fn folder_of(dir: &Path) -> Option<PathBuf> {
    let usual = ["", "mnist", "raw", "MNIST/raw"];
    let has = |dir: &PathBuf| {
        ["train", "t10k"].iter().any(|part| idx_file(dir, &format!("{part}-images"), 3).is_ok())
    };
    usual.iter().map(|inner| dir.join(inner)).find(has)
}

/// Reads the training digits.
///
/// # Errors
/// A file is missing, is no IDX file, is cut off or too long, or has a label above 9.
pub(crate) fn read_train(dir: &Path) -> Result<InMemory> {
    read_part(dir, "train", "train")
}

/// Reads the test digits.
///
/// # Errors
/// Those of [`read_train`].
pub(crate) fn read_test(dir: &Path) -> Result<InMemory> {
    read_part(dir, "t10k", "test")
}

fn read_part(dir: &Path, file: &str, part: &'static str) -> Result<InMemory> {
    let images = idx_file(dir, &format!("{file}-images"), 3)?;
    let (sizes, pixels) = read_idx::<3>(&images)?;
    let [count, rows, columns] = sizes;
    if [rows, columns] != [SIDE, SIDE] {
        return Err(Error::file(
            images,
            format!("pictures of {columns}x{rows} pixels; MNIST's have {SIDE}x{SIDE}"),
        ));
    }
    let path = idx_file(dir, &format!("{file}-labels"), 1)?;
    let ([found], labels) = read_idx::<1>(&path)?;
    if found != count {
        return Err(Error::file(path, format!("{found} labels for {count} pictures")));
    }
    if count == 0 {
        return Err(Error::file(images, "no pictures in it"));
    }
    if let Some(at) = labels.iter().position(|&label| label > 9) {
        let label = labels[at];
        return Err(Error::file(path, format!("label {at} is {label}; digits are 0 to 9")));
    }
    Ok(InMemory::new(part, (SIDE, 1), pixels, labels))
}

/// The file `NAME-idxN-ubyte`, or `NAME.idxN-ubyte`, or one of them with `.gz`.
fn idx_file(dir: &Path, name: &str, dimensions: usize) -> Result<PathBuf> {
    let names = ["-", "."].map(|dash| format!("{name}{dash}idx{dimensions}-ubyte"));
    let paths = names.iter().flat_map(|name| ["", ".gz"].map(|gz| dir.join(format!("{name}{gz}"))));
    paths
        .into_iter()
        .find(|path| path.is_file())
        .ok_or_else(|| Error::file(dir, format!("has no file {} (nor that with .gz)", names[0])))
}

/// The sizes and bytes of an IDX file of unsigned bytes with `N` dimensions, compressed or not.
///
/// No more is read than the header promises, and no more is allocated than the file has.
fn read_idx<const N: usize>(path: &Path) -> Result<([usize; N], Vec<u8>)> {
    let complain = |cause: String| Error::file(path, cause);
    let failed = |cause: std::io::Error| complain(format!("cannot be read: {cause}"));
    let mut input = open(path).map_err(failed)?;

    let mut header = vec![0; 4 + 4 * N];
    let got = fill(&mut input, &mut header).map_err(failed)?;
    if got < header.len() {
        return Err(complain(format!("ends after {got} bytes, within its header")));
    }
    let (words, _) = header.as_chunks::<4>();
    let (magic, wanted) = (u32::from_be_bytes(words[0]), 0x800 + N as u32);
    if magic != wanted {
        return Err(complain(format!(
            "no IDX file of bytes with {N} dimensions: it begins with {magic}, not {wanted}"
        )));
    }
    let sizes: [usize; N] = std::array::from_fn(|i| u32::from_be_bytes(words[i + 1]) as usize);
    let promised = sizes.iter().try_fold(1u64, |all, &size| all.checked_mul(size as u64));
    let Some(promised) = promised.filter(|&bytes| bytes <= MOST_BYTES) else {
        return Err(complain(format!(
            "its header promises sizes of {sizes:?}; at most {MOST_BYTES} bytes are read"
        )));
    };
    let mut bytes = Vec::new();
    input.take(promised + 1).read_to_end(&mut bytes).map_err(failed)?;
    match bytes.len() as u64 {
        found if found < promised => Err(complain(format!(
            "cut off: {found} of the {promised} bytes that its header promises"
        ))),
        found if found > promised => {
            Err(complain(format!("longer than the {promised} bytes that its header promises")))
        }
        _ => Ok((sizes, bytes)),
    }
}

/// The file's bytes, unpacked if they begin as gzip does.
fn open(path: &Path) -> std::io::Result<Box<dyn Read>> {
    let mut start = [0; 2];
    let found = fill(&mut File::open(path)?, &mut start)?;
    let file = BufReader::new(File::open(path)?);
    Ok(match (found, start) {
        (2, [0x1f, 0x8b]) => Box::new(MultiGzDecoder::new(file)),
        _ => Box::new(file),
    })
}

/// Reads until `buffer` is full or the input ends; how much it was.
fn fill(input: &mut impl Read, buffer: &mut [u8]) -> std::io::Result<usize> {
    let mut got = 0;
    while got < buffer.len() {
        match input.read(&mut buffer[got..]) {
            Ok(0) => break,
            Ok(more) => got += more,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(got)
}
