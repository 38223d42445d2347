//! Event files that TensorBoard reads.
//!
//! A file is a list of records: length, a check sum of it, bytes, a check sum of them. The bytes are an
//! `Event` of TensorFlow's `event.proto`, of which a few fields are written here by hand.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use super::observer::{BatchDone, Observer, Started};
use super::run::EpochRow;
use crate::{Error, Result};

/// What has been written is flushed at least so often.
const FLUSH: Duration = Duration::from_secs(10);

/// Writes what a run tells its observers: the loss and the learning rate of every step; loss, top-1
/// and images/s of every epoch.
///
/// A run that goes on writes another file beside the first, and TensorBoard leaves out what the first
/// one has of the steps that come again.
#[derive(Debug)]
pub struct TensorBoard {
    path: PathBuf,
    file: BufWriter<File>,
    flushed: Instant,
    /// Batches in an epoch.
    batches: usize,
    failed: Option<io::Error>,
}

impl TensorBoard {
    /// A new event file in a folder, which is made if need be.
    ///
    /// # Errors
    /// Names the file that cannot be made.
    pub fn new(folder: &Path) -> Result<Self> {
        fs::create_dir_all(folder).map_err(|error| Error::file(folder, error))?;
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let (seconds, nanos) = (since.as_secs(), since.subsec_nanos());
        let id = std::process::id();
        let path = folder.join(format!("events.out.tfevents.{seconds:010}.convzoo.{id}.{nanos}"));
        let file = File::create_new(&path).map_err(|error| Error::file(&path, error))?;
        let file = BufWriter::new(file);
        let mut board =
            TensorBoard { path, file, flushed: Instant::now(), batches: 0, failed: None };
        board.write(&event(0, &text(3, "brain.Event:2")));
        Ok(board)
    }

    /// Adds values at a step.
    pub fn add(&mut self, step: u64, values: &[(&str, f64)]) {
        let of = |(tag, value): &(&str, f64)| {
            let mut bytes = text(1, tag);
            bytes.push(2 << 3 | FIXED_32);
            bytes.extend((*value as f32).to_le_bytes());
            message(1, &bytes)
        };
        let values: Vec<u8> = values.iter().flat_map(of).collect();
        self.write(&event(step, &message(5, &values)));
        if self.flushed.elapsed() > FLUSH {
            self.flush();
        }
    }

    /// Writes what is still in memory.
    pub fn flush(&mut self) {
        let done = self.file.flush();
        self.keep(done);
        self.flushed = Instant::now();
    }

    /// What kept it from writing, if anything did; it writes no more then, and the run goes on.
    pub fn failure(&self) -> Option<Error> {
        self.failed.as_ref().map(|error| Error::file(&self.path, error))
    }

    fn write(&mut self, event: &[u8]) {
        if self.failed.is_none() {
            let done = self.file.write_all(&record(event));
            self.keep(done);
        }
    }

    fn keep(&mut self, done: io::Result<()>) {
        if let Err(error) = done {
            self.failed.get_or_insert(error);
        }
    }
}

impl Observer for TensorBoard {
    fn started(&mut self, start: &Started<'_>) {
        self.batches = start.batches;
        let step = start.done_epochs * start.batches + start.done_batches;
        // A session begins here: what an earlier one has from this step on is left out.
        self.write(&event(step as u64, &message(7, &[1 << 3, 1])));
    }

    fn batch_done(&mut self, batch: &BatchDone) {
        self.add(batch.step, &[("train/batch_loss", batch.loss), ("train/lr", batch.lr)]);
    }

    fn epoch_done(&mut self, row: &EpochRow, _best: bool) {
        let mut values = vec![
            ("train/loss", row.train_loss),
            ("train/top1", row.train_top1),
            ("train/images_per_s", row.images_per_s()),
        ];
        let measured = [
            ("val/loss", row.val_loss),
            ("val/top1", row.val_top1),
            ("val/top5", row.val_top5),
            ("ema/val_loss", row.ema_val_loss),
            ("ema/val_top1", row.ema_val_top1),
        ];
        values.extend(measured.iter().filter_map(|&(tag, value)| Some((tag, value?))));
        let last = (row.epoch * self.batches).saturating_sub(1);
        self.add(last as u64, &values);
        self.flush();
    }
}

/// How a field of a message is written.
const VARINT: u8 = 0;
const FIXED_64: u8 = 1;
const BYTES: u8 = 2;
const FIXED_32: u8 = 5;

/// An event of this moment.
fn event(step: u64, what: &[u8]) -> Vec<u8> {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let mut bytes = vec![1 << 3 | FIXED_64];
    bytes.extend(since.as_secs_f64().to_le_bytes());
    bytes.push(2 << 3 | VARINT);
    varint(step, &mut bytes);
    bytes.extend(what);
    bytes
}

/// A text as field `number`.
fn text(number: u8, text: &str) -> Vec<u8> {
    message(number, text.as_bytes())
}

/// Bytes as field `number`.
fn message(number: u8, bytes: &[u8]) -> Vec<u8> {
    let mut all = vec![number << 3 | BYTES];
    varint(bytes.len() as u64, &mut all);
    all.extend(bytes);
    all
}

/// Seven bits a byte, the lowest first.
fn varint(mut value: u64, bytes: &mut Vec<u8>) {
    while value > 0x7f {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

/// A record of a file.
fn record(bytes: &[u8]) -> Vec<u8> {
    let length = (bytes.len() as u64).to_le_bytes();
    let mut all = length.to_vec();
    all.extend(masked(crc32c(&length)).to_le_bytes());
    all.extend(bytes);
    all.extend(masked(crc32c(bytes)).to_le_bytes());
    all
}

/// A check sum as records have it, which stays good where a record holds check sums itself.
fn masked(sum: u32) -> u32 {
    sum.rotate_right(15).wrapping_add(0xa282_ead8)
}

/// Castagnoli's cyclic redundancy check.
fn crc32c(bytes: &[u8]) -> u32 {
    let step = |sum: u32, byte: &u8| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| {
            if sum & 1 == 1 { (sum >> 1) ^ 0x82f6_3b78 } else { sum >> 1 }
        })
    };
    !bytes.iter().fold(u32::MAX, step)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn check_sums_are_castagnolis() {
        // RFC 3720, section B.4
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(&[0xff; 32]), 0x62a8_ab43);
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }

    #[test]
    fn numbers_of_any_size() {
        let of = |value| {
            let mut bytes = Vec::new();
            varint(value, &mut bytes);
            bytes
        };
        assert_eq!(of(1), [1]);
        assert_eq!(of(300), [0xac, 2]);
        assert_eq!(of(u64::MAX).len(), 10);
    }

    #[test]
    fn a_file_is_a_list_of_whole_records() {
        let folder = tempfile::tempdir().unwrap();
        let mut board = TensorBoard::new(folder.path()).unwrap();
        board.add(300, &[("loss", 0.5)]);
        board.flush();
        assert!(board.failure().is_none());
        let file = fs::read_dir(folder.path()).unwrap().next().unwrap().unwrap().path();
        let mut bytes = &fs::read(file).unwrap()[..];
        let mut records = Vec::new();
        while !bytes.is_empty() {
            let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
            let (whole, rest) = bytes.split_at(length + 16);
            assert_eq!(record(&whole[12..12 + length]), whole);
            records.push(whole[12..12 + length].to_vec());
            bytes = rest;
        }
        assert_eq!(records.len(), 2);
        assert!(records[0].ends_with(b"brain.Event:2"));
        assert_eq!(
            records[1][9..],
            *b"\x10\xac\x02\x2a\x0d\x0a\x0b\x0a\x04loss\x15\x00\x00\x00\x3f"
        );
    }
}
