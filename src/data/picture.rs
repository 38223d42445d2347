//! A decoded picture, 8 bits a sample, and the exact operations on it.

use crate::error::{Error, Result};

/// A picture in memory: rows of pixels, the channels of a pixel side by side (HWC), 8 bits each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture {
    /// Pixels in a row.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// 1 (grey) or 3 (red, green, blue).
    pub channels: usize,
    /// `height * width * channels` samples.
    pub pixels: Vec<u8>,
}

impl Picture {
    /// A picture of `pixels`; an error where their number does not fit the sizes, or a size is 0.
    pub fn new(width: usize, height: usize, channels: usize, pixels: Vec<u8>) -> Result<Self> {
        let samples = width.checked_mul(height).and_then(|n| n.checked_mul(channels));
        if !matches!(channels, 1 | 3) || samples != Some(pixels.len()) || pixels.is_empty() {
            return Err(Error::Setting(format!(
                "a picture of {width}x{height} pixels with {channels} channels cannot be made of \
                 {} samples; it needs width x height x channels of them, with 1 or 3 channels",
                pixels.len()
            )));
        }
        Ok(Picture { width, height, channels, pixels })
    }

    /// A black picture.
    pub(crate) fn black(width: usize, height: usize, channels: usize) -> Self {
        Picture { width, height, channels, pixels: vec![0; width * height * channels] }
    }

    /// Bytes it takes in memory.
    pub fn bytes(&self) -> usize {
        self.pixels.len()
    }

    /// One row's samples.
    fn row(&self, y: usize) -> &[u8] {
        let stride = self.width * self.channels;
        &self.pixels[y * stride..][..stride]
    }

    /// One row's samples, to change.
    pub(crate) fn row_mut(&mut self, y: usize) -> &mut [u8] {
        let stride = self.width * self.channels;
        &mut self.pixels[y * stride..][..stride]
    }

    /// The part that begins at column `left`, row `top`; it must lie inside the picture.
    pub(crate) fn crop(&self, left: usize, top: usize, width: usize, height: usize) -> Self {
        let mut pixels = Vec::with_capacity(width * height * self.channels);
        for y in top..top + height {
            pixels.extend_from_slice(
                &self.row(y)[left * self.channels..(left + width) * self.channels],
            );
        }
        Picture { width, height, channels: self.channels, pixels }
    }

    /// The picture with black borders of these widths.
    pub(crate) fn padded(&self, left: usize, top: usize, right: usize, bottom: usize) -> Self {
        let (width, height) = (left + self.width + right, top + self.height + bottom);
        let mut out = Picture::black(width, height, self.channels);
        let (stride, offset) = (width * self.channels, left * self.channels);
        for y in 0..self.height {
            let row = self.row(y);
            out.pixels[(top + y) * stride + offset..][..row.len()].copy_from_slice(row);
        }
        out
    }

    /// Mirrors the picture, left to right.
    pub(crate) fn flip(&mut self) {
        for row in self.pixels.chunks_exact_mut(self.width * self.channels) {
            match self.channels {
                1 => row.reverse(),
                _ => row.as_chunks_mut::<3>().0.reverse(),
            }
        }
    }

    /// Each sample becomes 255 minus it.
    pub(crate) fn invert(&mut self) {
        self.pixels.iter_mut().for_each(|sample| *sample = 255 - *sample);
    }

    /// The picture with 1 or 3 channels: grey by PIL's integer luma (ITU-R 601), colour by
    /// repeating the grey channel.
    pub(crate) fn with_channels(&self, channels: usize) -> Self {
        let pixels = match (self.channels, channels) {
            (3, 1) => self.pixels.as_chunks::<3>().0.iter().map(luma).collect(),
            (1, 3) => self.pixels.iter().flat_map(|&grey| [grey; 3]).collect(),
            _ => self.pixels.clone(),
        };
        Picture { channels, pixels, ..*self }
    }
}

/// PIL's grey of an RGB pixel: (19595 R + 38470 G + 7471 B) / 65536, rounded.
pub(crate) fn luma(rgb: &[u8; 3]) -> u8 {
    let [r, g, b] = rgb.map(u32::from);
    ((r * 19595 + g * 38470 + b * 7471 + 0x8000) >> 16) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbered(width: usize, height: usize, channels: usize) -> Picture {
        let pixels = (0..width * height * channels).map(|i| i as u8).collect();
        Picture::new(width, height, channels, pixels).unwrap()
    }

    #[test]
    fn sizes_must_fit() {
        assert!(Picture::new(2, 2, 3, vec![0; 12]).is_ok());
        assert!(Picture::new(2, 2, 3, vec![0; 11]).is_err());
        assert!(Picture::new(2, 2, 2, vec![0; 8]).is_err());
        assert!(Picture::new(0, 2, 3, vec![]).is_err());
        assert!(Picture::new(usize::MAX, 2, 3, vec![0; 8]).is_err());
    }

    #[test]
    fn crop_undoes_padding() {
        let picture = numbered(5, 4, 3);
        let padded = picture.padded(1, 2, 3, 4);
        assert_eq!((padded.width, padded.height), (9, 10));
        assert_eq!(padded.crop(1, 2, 5, 4), picture);
        assert_eq!(padded.pixels.iter().map(|&p| u64::from(p)).sum::<u64>(), 59 * 60 / 2);
    }

    #[test]
    fn flip_mirrors_pixels_not_samples() {
        let mut picture = numbered(2, 1, 3);
        picture.flip();
        assert_eq!(picture.pixels, [3, 4, 5, 0, 1, 2]);
        let mut grey = numbered(3, 2, 1);
        grey.flip();
        assert_eq!(grey.pixels, [2, 1, 0, 5, 4, 3]);
    }

    #[test]
    fn grey_repeated_and_weighed() {
        let grey = numbered(2, 2, 1);
        assert_eq!(grey.with_channels(3).with_channels(1), grey);
        assert_eq!(luma(&[255, 0, 0]), 76);
        assert_eq!(luma(&[0, 255, 0]), 150);
        assert_eq!(luma(&[0, 0, 255]), 29);
    }
}
