//! Pictures of one size that are kept in memory as they came, as MNIST's and CIFAR's are.

use super::picture::Picture;
use super::source::Source;
use crate::error::Result;

/// One part of a data set, in memory.
pub struct InMemory {
    part: &'static str,
    /// Rows, and columns, of a picture.
    side: usize,
    channels: usize,
    /// The samples of a pixel side by side, picture after picture.
    pixels: Vec<u8>,
    labels: Vec<u8>,
}

impl InMemory {
    /// `pixels` of `labels.len()` pictures, each side × side × channels.
    pub(super) fn new(
        part: &'static str,
        (side, channels): (usize, usize),
        pixels: Vec<u8>,
        labels: Vec<u8>,
    ) -> Self {
        debug_assert_eq!(pixels.len(), labels.len() * side * side * channels);
        InMemory { part, side, channels, pixels, labels }
    }

    fn samples(&self, index: usize) -> &[u8] {
        let count = self.side * self.side * self.channels;
        &self.pixels[index * count..][..count]
    }
}

impl Source for InMemory {
    fn len(&self) -> usize {
        self.labels.len()
    }

    fn label(&self, index: usize) -> u32 {
        u32::from(self.labels[index])
    }

    fn name(&self, index: usize) -> String {
        format!("{}/{index}", self.part)
    }

    fn picture(&self, index: usize) -> Result<Picture> {
        Picture::new(self.side, self.side, self.channels, self.samples(index).to_vec())
    }

    fn stamp(&self, index: usize) -> u64 {
        let mix = |hash, eight: &[u8; 8]| crate::rng::splitmix64(hash ^ u64::from_le_bytes(*eight));
        self.samples(index).as_chunks::<8>().0.iter().fold(0, mix)
    }
}
