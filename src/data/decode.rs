//! From a file's bytes to a [`Picture`]: by content, with limits.

use std::io::Cursor;
use std::path::Path;

use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader};

use super::picture::Picture;
use crate::error::{Error, Result};

/// What one picture may take; checked against its header before anything is allocated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Most pixels (width times height).
    pub pixels: u64,
    /// Most bytes a decoder may allocate, and most bytes of a file.
    pub bytes: u64,
}

impl Default for Limits {
    /// 100 megapixels and 512 MiB.
    fn default() -> Self {
        Limits { pixels: 100_000_000, bytes: 512 << 20 }
    }
}

/// Decodes JPEG (baseline, progressive, grey, CMYK), PNG, WebP, BMP or GIF (the first frame).
///
/// The format is told from the bytes, never from a file's name. EXIF orientation is applied.
/// Transparency is dropped, as PIL's `convert("RGB")` does: the colour stored under it shows.
/// Samples of 16 bits are rounded to 8. Grey pictures come as one channel, all others as RGB.
///
/// # Errors
/// One line that says what is wrong with the bytes: empty, no picture, too large, damaged, cut off.
pub fn decode(bytes: &[u8], limits: Limits) -> Result<Picture> {
    decode_or_say(bytes, limits).map_err(|cause| Error::Setting(format!("picture: {cause}")))
}

/// Reads and decodes a file; an error names it.
pub fn decode_file(path: &Path, limits: Limits) -> Result<Picture> {
    decode_named(path, &read_file(path, limits)?, limits)
}

/// Decodes the bytes of a file; an error names it.
pub(super) fn decode_named(path: &Path, bytes: &[u8], limits: Limits) -> Result<Picture> {
    decode_or_say(bytes, limits).map_err(|cause| Error::file(path, cause))
}

/// The bytes of a file that may be a picture.
pub(super) fn read_file(path: &Path, limits: Limits) -> Result<Vec<u8>> {
    let complain = |cause: &dyn std::fmt::Display| Error::file(path, cause);
    let about = std::fs::metadata(path).map_err(|cause| complain(&cause))?;
    if !about.is_file() {
        return Err(complain(&"not a regular file"));
    }
    if about.len() > limits.bytes {
        return Err(complain(&format!(
            "a file of {} bytes; pictures may have {}",
            about.len(),
            limits.bytes
        )));
    }
    std::fs::read(path).map_err(|cause| complain(&cause))
}

fn decode_or_say(bytes: &[u8], limits: Limits) -> std::result::Result<Picture, String> {
    if bytes.is_empty() {
        return Err("an empty file".into());
    }
    let format = image::guess_format(bytes)
        .ok()
        .filter(|format| format.reading_enabled())
        .ok_or("not a picture; JPEG, PNG, WebP, BMP and GIF can be read")?;
    // Some decoders' complaints have several lines.
    let damaged = |error: image::ImageError| {
        let text = error.to_string();
        let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
        format!("{}: {line}", name_of(format))
    };
    if format == ImageFormat::Jpeg && !jpeg_is_whole(bytes) {
        return Err("JPEG: cut off, its end marker is missing".into());
    }

    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    let mut allowed = image::Limits::default();
    allowed.max_alloc = Some(limits.bytes);
    reader.limits(allowed);
    let mut decoder = reader.into_decoder().map_err(damaged)?;
    let (width, height) = decoder.dimensions();
    if u64::from(width) * u64::from(height) > limits.pixels || decoder.total_bytes() > limits.bytes
    {
        return Err(format!(
            "{}: {width}x{height} pixels; at most {} pixels and {} bytes are read",
            name_of(format),
            limits.pixels,
            limits.bytes
        ));
    }
    if width == 0 || height == 0 {
        return Err(format!("{}: {width}x{height} pixels", name_of(format)));
    }
    // Broken EXIF data is no reason to refuse a picture whose pixels are fine.
    let orientation = decoder.orientation().unwrap_or(image::metadata::Orientation::NoTransforms);
    let mut image = DynamicImage::from_decoder(decoder).map_err(damaged)?;
    image.apply_orientation(orientation);
    Ok(to_picture(image))
}

fn name_of(format: ImageFormat) -> &'static str {
    match format {
        ImageFormat::Jpeg => "JPEG",
        ImageFormat::Png => "PNG",
        ImageFormat::WebP => "WebP",
        ImageFormat::Bmp => "BMP",
        ImageFormat::Gif => "GIF",
        _ => "picture",
    }
}

fn to_picture(image: DynamicImage) -> Picture {
    let (width, height) = (image.width() as usize, image.height() as usize);
    if image.color().has_color() {
        Picture { width, height, channels: 3, pixels: image.into_rgb8().into_raw() }
    } else {
        Picture { width, height, channels: 1, pixels: image.into_luma8().into_raw() }
    }
}

/// Whether a JPEG's end marker follows its picture data.
///
/// The decoder fills the missing part of a file that was cut off with grey and says nothing, so
/// this is asked first. Segments before the data are stepped over: a thumbnail has an end marker
/// of its own. Within the data the two bytes occur nowhere else.
fn jpeg_is_whole(bytes: &[u8]) -> bool {
    let mut at = 2;
    while let Some(&[0xff, marker, ..]) = bytes.get(at..at + 4) {
        match marker {
            0xda => return bytes[at..].windows(2).rev().any(|pair| pair == [0xff, 0xd9]),
            0xff => at += 1,
            0x01 | 0xd0..=0xd8 => at += 2,
            _ => at += 2 + usize::from(u16::from_be_bytes([bytes[at + 2], bytes[at + 3]])),
        }
    }
    // No segment begins here: the decoder shall judge, unless the bytes have ended.
    at + 4 <= bytes.len()
}
