//! From a file's bytes to a [`Picture`]: by content, with limits.

mod interleave;
mod jpeg;
mod png;

use std::io::Cursor;
use std::path::Path;

use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader};

use super::picture::Picture;
use crate::error::{Error, Result};
use crate::files::regular;

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

/// The bytes of a file that may be a picture. What is not a regular file is refused, never waited for.
pub(super) fn read_file(path: &Path, limits: Limits) -> Result<Vec<u8>> {
    regular::read(path, limits.bytes)
}

fn decode_or_say(bytes: &[u8], limits: Limits) -> Result<Picture, String> {
    if bytes.is_empty() {
        return Err("an empty file".into());
    }
    let format = image::guess_format(bytes)
        .ok()
        .filter(|format| format.reading_enabled())
        .ok_or("not a picture; JPEG, PNG, WebP, BMP and GIF can be read")?;
    let (mut image, orientation) = match format {
        ImageFormat::Jpeg => decode_jpeg(bytes, limits)?,
        ImageFormat::Png => decode_as(format, &png::with_end(bytes), limits)?,
        _ => decode_as(format, bytes, limits)?,
    };
    image.apply_orientation(orientation);
    Ok(to_picture(image))
}

fn decode_jpeg(bytes: &[u8], limits: Limits) -> Result<(DynamicImage, Orientation), String> {
    let Some(headers) = jpeg::Headers::read(bytes) else {
        return decode_as(ImageFormat::Jpeg, bytes, limits);
    };
    if let Some(refusal) = headers.refusal() {
        return Err(refusal);
    }
    let bytes = jpeg::whole(bytes, &headers, limits)?;
    if !headers.has_usual_sampling() {
        return jpeg::decode_odd(&bytes, &headers, limits);
    }
    if !headers.is_split_baseline() {
        return decode_as(ImageFormat::Jpeg, &bytes, limits);
    }
    match headers.in_one_scan(&bytes, limits)? {
        Some(bytes) => decode_as(ImageFormat::Jpeg, &bytes, limits),
        None => jpeg::decode_odd(&bytes, &headers, limits),
    }
}

/// The image in the bytes of a file, and how it is to be turned.
fn decode_as(
    format: ImageFormat,
    bytes: &[u8],
    limits: Limits,
) -> Result<(DynamicImage, Orientation), String> {
    // Some decoders' complaints have several lines.
    let damaged = |error: image::ImageError| {
        let text = error.to_string();
        let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
        format!("{}: {line}", name_of(format))
    };
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    let mut allowed = image::Limits::default();
    allowed.max_alloc = Some(limits.bytes);
    reader.limits(allowed);
    let mut decoder = reader.into_decoder().map_err(damaged)?;
    check_size(name_of(format), decoder.dimensions(), decoder.total_bytes(), limits)?;
    // Broken EXIF data does not make the pixels worse.
    let exif = match format {
        ImageFormat::Png => png::exif(bytes).map(<[u8]>::to_vec),
        _ => decoder.exif_metadata().unwrap_or(None),
    };
    let image = DynamicImage::from_decoder(decoder).map_err(damaged)?;
    Ok((image, exif.as_deref().map_or(Orientation::NoTransforms, orientation)))
}

/// What EXIF data say, with or without the prefix that JPEG has before them and some programs write
/// into WebP and PNG too.
fn orientation(exif: &[u8]) -> Orientation {
    let tiff = exif.strip_prefix(b"Exif\0\0").unwrap_or(exif);
    Orientation::from_exif_chunk(tiff).unwrap_or(Orientation::NoTransforms)
}

/// Holds the size that a header promises against the limits; `bytes` is what decoding takes.
fn check_size(
    format: &str,
    (width, height): (u32, u32),
    bytes: u64,
    limits: Limits,
) -> Result<(), String> {
    if width == 0 || height == 0 {
        return Err(format!("{format}: {width}x{height} pixels"));
    }
    if u64::from(width) * u64::from(height) > limits.pixels || bytes > limits.bytes {
        return Err(format!(
            "{format}: {width}x{height} pixels; at most {} pixels and {} bytes are read",
            limits.pixels, limits.bytes
        ));
    }
    Ok(())
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
