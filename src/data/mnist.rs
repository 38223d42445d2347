//! MNIST's handwritten digits (LeCun, Bottou, Bengio and Haffner, 1998) from its four IDX files.

use std::fs::File;
use std::io::{BufReader, Read, Seek};
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;
use sha2::{Digest, Sha256};

use super::in_memory::InMemory;
use super::published::{hex, not_data, other_set};
use crate::error::{Error, Result};
use crate::files::regular;

/// Mean of the training digits, of samples from 0 to 1.
pub(crate) const MEAN: f32 = 0.1307;

/// Standard deviation of the training digits.
pub(crate) const STD: f32 = 0.3081;

/// Rows, and columns, of a digit.
const SIDE: usize = 28;

/// Digits that a file may have: four times MNIST's.
const MOST: usize = 240_000;

/// Bytes that gzip can make of one byte.
const GZIP_RATIO: u64 = 1040;

/// A part of MNIST as it was published.
struct Published {
    /// As its files' names begin.
    file: &'static str,
    part: &'static str,
    digits: usize,
    /// SHA-256 of the pixels of all digits, without the header.
    pixels: &'static str,
    /// SHA-256 of all labels, without the header.
    labels: &'static str,
}

const TRAIN: Published = Published {
    file: "train",
    part: "train",
    digits: 60_000,
    pixels: "741c988805d008ac6e4c904b69001ba184c24b2c540a4ef403f4c71b676cf757",
    labels: "1feba77c54802fa5339a11837ea4b2866434b83314ec45192930f1df69120c13",
};

const TEST: Published = Published {
    file: "t10k",
    part: "test",
    digits: 10_000,
    pixels: "6d87418db22cc8025d05968bec9bd5c3932904b23485740db143a061a2c9d161",
    labels: "ddeff807876a9661a1110d45c266c86239a3a1b7d37da0c3716a7a683c852ff5",
};

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

/// Reads the training digits, and says in a note where they are not the published ones.
///
/// # Errors
/// A file is missing, is not an IDX file, is cut off or too long, has a label above 9, or belongs to
/// another data set.
pub(crate) fn read_train(dir: &Path) -> Result<(InMemory, Vec<String>)> {
    read_part(dir, &TRAIN, &TEST)
}

/// Reads the test digits.
///
/// # Errors
/// Those of [`read_train`].
pub(crate) fn read_test(dir: &Path) -> Result<(InMemory, Vec<String>)> {
    read_part(dir, &TEST, &TRAIN)
}

fn read_part(dir: &Path, wanted: &Published, other: &Published) -> Result<(InMemory, Vec<String>)> {
    let images = idx_file(dir, &format!("{}-images", wanted.file), 3)?;
    let path = idx_file(dir, &format!("{}-labels", wanted.file), 1)?;
    let (sizes, pixels) = read_idx(&images, check_images)?;
    let ([found], labels) = read_idx(&path, check_labels)?;
    if found != sizes[0] {
        let cause = format!("{found} labels for {} images", sizes[0]);
        return Err(Error::file(path, cause));
    }
    if let Some(at) = labels.iter().position(|&label| label > 9) {
        let cause =
            format!("label {at} is {}; digits are 0 to 9 (EMNIST's letters go beyond)", labels[at]);
        return Err(Error::file(path, cause));
    }
    let note = compare(&images, &pixels, &labels, wanted, other)?;
    if note.is_some() {
        refuse_other_sets([&images, &path])?;
    }
    Ok((InMemory::new(wanted.part, (SIDE, 1), pixels, labels), note.into_iter().collect()))
}

/// An error where one of the files is known to be another data set's.
fn refuse_other_sets(files: [&Path; 2]) -> Result<()> {
    for file in files {
        if let Some(set) = other_set(file)? {
            let cause = format!(
                "this is {set}'s file, not MNIST's: its classes are not the digits; as images in class \
                 folders it can be used with --dataset folder"
            );
            return Err(Error::file(file, cause));
        }
    }
    Ok(())
}

/// What is to be said of digits that are not the published ones.
fn compare(
    images: &Path,
    pixels: &[u8],
    labels: &[u8],
    wanted: &Published,
    other: &Published,
) -> Result<Option<String>> {
    let hash = hex(&Sha256::digest(pixels));
    if hash == other.pixels {
        let cause = format!(
            "these are MNIST's images of the part {}; those of the part {} are needed here",
            other.part, wanted.part
        );
        return Err(Error::file(images, cause));
    }
    let same_labels = hex(&Sha256::digest(labels)) == wanted.labels;
    let what = match hash == wanted.pixels {
        true if same_labels => return Ok(None),
        true => "the labels are not the published ones".to_owned(),
        false if same_labels => "the images are not the published ones".to_owned(),
        false if labels.len() != wanted.digits => {
            format!("{} digits, and MNIST has {}", labels.len(), wanted.digits)
        }
        false if is_balanced(labels) => {
            "as many of each class, as Fashion-MNIST, KMNIST and EMNIST have and MNIST does not"
                .to_owned()
        }
        false => "other images".to_owned(),
    };
    Ok(Some(format!(
        "the {} part in {} is not the published MNIST: {what}",
        wanted.part,
        images.parent().unwrap_or(images).display()
    )))
}

/// Whether each class has as many digits as any other.
fn is_balanced(labels: &[u8]) -> bool {
    let mut counts = [0usize; 10];
    labels.iter().for_each(|&label| counts[usize::from(label % 10)] += 1);
    counts.iter().all(|&count| count == counts[0])
}

/// Sizes of images, before any are read.
fn check_images([count, rows, columns]: [usize; 3]) -> Result<(), String> {
    if [rows, columns] != [SIDE, SIDE] {
        return Err(format!("images of {columns}x{rows} pixels; MNIST's have {SIDE}x{SIDE}"));
    }
    check_labels([count])
}

fn check_labels([count]: [usize; 1]) -> Result<(), String> {
    match count {
        0 => Err("no digits in it".to_owned()),
        1..=MOST => Ok(()),
        _ => Err(format!("its header promises {count} digits; at most {MOST} are read")),
    }
}

/// The file `NAME-idxN-ubyte`, or `NAME.idxN-ubyte`, or one of them with `.gz`.
fn idx_file(dir: &Path, name: &str, dimensions: usize) -> Result<PathBuf> {
    let names = ["-", "."].map(|dash| format!("{name}{dash}idx{dimensions}-ubyte"));
    let paths = names.iter().flat_map(|name| ["", ".gz"].map(|gz| dir.join(format!("{name}{gz}"))));
    paths
        .into_iter()
        .find(|path| path.exists())
        .ok_or_else(|| Error::file(dir, format!("has no file {} (nor that with .gz)", names[0])))
}

/// The sizes and bytes of an IDX file of unsigned bytes with `N` dimensions, compressed or not, once
/// `check` has looked at the sizes.
///
/// No more is read than the header promises, and no more memory is taken than the file can fill.
fn read_idx<const N: usize>(
    path: &Path,
    check: fn([usize; N]) -> Result<(), String>,
) -> Result<([usize; N], Vec<u8>)> {
    let complain = |cause: String| Error::file(path, cause);
    let failed = |cause: std::io::Error| complain(format!("cannot be read: {cause}"));
    let mut file = regular::open(path).map_err(|cause| Error::file(path, cause))?;
    let length = file.metadata().map_err(failed)?.len();
    let (mut input, most) = unpacked(&mut file, length).map_err(failed)?;

    let mut header = vec![0; 4 + 4 * N];
    let got = fill(&mut input, &mut header).map_err(failed)?;
    if let Some(what) = not_data(&header[..got]) {
        return Err(complain(format!("is {what}, not an IDX file; download it anew")));
    }
    if got < header.len() {
        return Err(complain(format!("ends after {got} bytes, within its header")));
    }
    let (words, _) = header.as_chunks::<4>();
    let (magic, wanted) = (u32::from_be_bytes(words[0]), 0x800 + N as u32);
    if magic != wanted {
        return Err(complain(format!(
            "not an IDX file of bytes with {N} dimensions: it begins with {magic}, not {wanted}"
        )));
    }
    let sizes: [usize; N] = std::array::from_fn(|i| u32::from_be_bytes(words[i + 1]) as usize);
    check(sizes).map_err(complain)?;
    let promised: u64 = sizes.iter().map(|&size| size as u64).product();
    if promised > most {
        return Err(complain(format!(
            "cut off: its header promises {promised} bytes, and {length} bytes cannot hold them"
        )));
    }
    let mut bytes = Vec::with_capacity(promised as usize);
    input.by_ref().take(promised).read_to_end(&mut bytes).map_err(failed)?;
    let more = fill(&mut input, &mut [0]).map_err(failed)?;
    match bytes.len() as u64 {
        found if found < promised => Err(complain(format!(
            "cut off: {found} of the {promised} bytes that its header promises"
        ))),
        _ if more > 0 => {
            Err(complain(format!("longer than the {promised} bytes that its header promises")))
        }
        _ => Ok((sizes, bytes)),
    }
}

/// The file's bytes, unpacked if they begin as gzip does, and the most that they can come to.
fn unpacked(file: &mut File, length: u64) -> std::io::Result<(Box<dyn Read + '_>, u64)> {
    let mut start = [0; 2];
    let found = fill(file, &mut start)?;
    file.rewind()?;
    let file = BufReader::new(file);
    Ok(match (found, start) {
        (2, [0x1f, 0x8b]) => {
            (Box::new(MultiGzDecoder::new(file)), length.saturating_mul(GZIP_RATIO))
        }
        _ => (Box::new(file), length),
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
