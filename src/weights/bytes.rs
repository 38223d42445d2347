//! A weight file's bytes, read where they are needed.
//!
//! The file is read, not mapped: one that is cut short by another program while it is mapped would end
//! the process with a signal, and here it is an error.

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, ErrorKind, Read, Seek, SeekFrom};
use std::path::Path;

use candle_core::{DType, Device, Tensor};

use crate::files::regular;
use crate::{Error, Result};

/// What is wrong with a file, in words.
pub(super) type Outcome<T> = std::result::Result<T, String>;

/// Bytes that are looked at in one go where a long part is walked over; whole numbers of any type.
const CHUNK: u64 = 1 << 20;

/// A file on disk, or one that is in memory.
pub(super) enum Bytes<'a> {
    Memory(&'a [u8]),
    Disk { file: File, length: u64 },
}

impl Bytes<'_> {
    /// Opens the regular file at `path`.
    ///
    /// # Errors
    /// Names what cannot be read, is not a regular file, or is empty.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let broken = |error: io::Error| Error::file(path, error);
        let file = regular::open(path).map_err(broken)?;
        let length = file.metadata().map_err(broken)?.len();
        Ok(Bytes::Disk { file, length })
    }

    pub(super) fn len(&self) -> u64 {
        match self {
            Bytes::Memory(bytes) => bytes.len() as u64,
            Bytes::Disk { length, .. } => *length,
        }
    }

    /// `length` bytes from `start` on; nothing is allocated for bytes that are not there.
    pub(super) fn read(&self, start: u64, length: u64) -> Outcome<Cow<'_, [u8]>> {
        let end = start.checked_add(length).filter(|end| *end <= self.len());
        let cut_off = || format!("it is cut off: {length} bytes are missing from byte {start} on");
        end.ok_or_else(cut_off)?;
        match self {
            // Both fit into an address: they lie within the slice.
            Bytes::Memory(bytes) => Ok(Cow::Borrowed(&bytes[start as usize..][..length as usize])),
            Bytes::Disk { file, .. } => {
                let mut content = vec![0; usize::try_from(length).map_err(|_| cut_off())?];
                read_at(file, start, &mut content).map(|()| Cow::Owned(content))
            }
        }
    }

    /// As much of the first `most` bytes as there is.
    pub(super) fn head(&self, most: u64) -> Outcome<Cow<'_, [u8]>> {
        self.read(0, most.min(self.len()))
    }

    /// Shows `length` bytes from `start` on to `see`, piece by piece.
    pub(super) fn walk(&self, start: u64, length: u64, mut see: impl FnMut(&[u8])) -> Outcome<()> {
        let mut done = 0;
        while done < length {
            let piece = CHUNK.min(length - done);
            let at = start.checked_add(done).ok_or("an offset is too large")?;
            see(&self.read(at, piece)?);
            done += piece;
        }
        Ok(())
    }

    /// The tensor of this type and shape whose numbers begin at `start`, little-endian.
    pub(super) fn tensor(&self, start: u64, dtype: DType, shape: &[usize]) -> Outcome<Tensor> {
        let size = dtype.size_in_bytes();
        let length = shape.iter().try_fold(size, |product, &dim| product.checked_mul(dim));
        let length = length.ok_or_else(|| format!("{shape:?} is too large"))? as u64;
        let in_words = |error: candle_core::Error| error.to_string();
        if dtype != DType::F32 {
            let content = self.read(start, length)?;
            return Tensor::from_raw_buffer(&content, dtype, shape, &Device::Cpu).map_err(in_words);
        }
        // The usual type, and large: without a second copy.
        let end = start.checked_add(length).filter(|end| *end <= self.len());
        end.ok_or_else(|| format!("it is cut off: {shape:?} reaches beyond its end"))?;
        let mut numbers = Vec::with_capacity((length / 4) as usize);
        self.walk(start, length, |piece| {
            let words = piece.as_chunks::<4>().0.iter();
            numbers.extend(words.map(|word| f32::from_le_bytes(*word)));
        })?;
        Tensor::from_vec(numbers, shape, &Device::Cpu).map_err(in_words)
    }
}

fn read_at(mut file: &File, start: u64, content: &mut [u8]) -> Outcome<()> {
    let read = file.seek(SeekFrom::Start(start)).and_then(|_| file.read_exact(content));
    read.map_err(|error| match error.kind() {
        ErrorKind::UnexpectedEof => "it has become shorter while it was read".to_owned(),
        _ => error.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_shrinks_while_it_is_read_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("w");
        std::fs::write(&path, [1; 4096]).unwrap();
        let bytes = Bytes::open(&path).unwrap();
        assert_eq!(bytes.read(4000, 96).unwrap().len(), 96);
        assert!(bytes.read(4000, 97).unwrap_err().contains("cut off"));
        File::options().write(true).open(&path).unwrap().set_len(1000).unwrap();
        assert!(bytes.read(4000, 96).unwrap_err().contains("shorter"));
        let tensor = bytes.tensor(0, DType::F32, &[1024]).unwrap_err();
        assert!(tensor.contains("shorter"), "{tensor}");
    }

    #[test]
    fn memory_and_disk_give_the_same_tensors() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("w");
        let content: Vec<u8> = (0..300_000u32).flat_map(|n| (n as f32).to_le_bytes()).collect();
        std::fs::write(&path, &content).unwrap();
        let read = |bytes: &Bytes| -> Vec<f32> {
            bytes
                .tensor(8, DType::F32, &[3, 99_999])
                .unwrap()
                .flatten_all()
                .unwrap()
                .to_vec1()
                .unwrap()
        };
        let [disk, memory] = [read(&Bytes::open(&path).unwrap()), read(&Bytes::Memory(&content))];
        assert_eq!(disk, memory);
        assert_eq!((disk[0], disk.len()), (2.0, 299_997));
        assert!(Bytes::Memory(&content).tensor(8, DType::F32, &[300_000]).is_err());
        assert!(Bytes::Memory(&content).tensor(0, DType::F32, &[usize::MAX, 2]).is_err());
        assert!(Bytes::Memory(&content).tensor(0, DType::F32, &[1 << 60]).is_err());
    }
}
