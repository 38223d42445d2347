//! What is looked at in a JPEG before it is decoded: whether all of it is there, which decoder is right
//! for it, and what none of them reads.
//!
//! zune-jpeg (behind the `image` crate) decodes nearly every JPEG, and fast. Of baseline files with
//! several scans, or of unusual sampling factors, it makes stripes and says nothing. The first are
//! rewritten with one scan, the others go to jpeg-decoder, which is right about them.

use std::borrow::Cow;

use image::metadata::Orientation;
use image::{DynamicImage, GrayImage, RgbImage};
use jpeg_decoder::{Decoder, PixelFormat};

use super::{Limits, interleave};

const START_OF_SCAN: u8 = 0xda;
const END: [u8; 2] = [0xff, 0xd9];

/// A segment: its marker, and what follows the two bytes of its length.
type Segment<'a> = (u8, &'a [u8]);

/// The segments of a JPEG, each with the position behind it; coded data is stepped over.
struct Segments<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Iterator for Segments<'a> {
    type Item = (Segment<'a>, usize);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let from = self.bytes.get(self.at..)?;
            // Coded data, and what stands between segments, is passed over.
            self.at += from.iter().position(|&byte| byte == 0xff)?;
            let (marker, rest) = match self.bytes.get(self.at + 1..)? {
                [0xff, ..] => {
                    self.at += 1;
                    continue;
                }
                [0x00 | 0x01 | 0xd0..=0xd9, ..] => {
                    self.at += 2;
                    continue;
                }
                [marker, rest @ ..] => (*marker, rest),
                [] => return None,
            };
            let length = usize::from(u16::from_be_bytes([*rest.first()?, *rest.get(1)?]));
            let body = rest.get(2..length)?;
            self.at += 2 + length;
            return Some(((marker, body), self.at));
        }
    }
}

pub(super) fn segments(bytes: &[u8]) -> impl Iterator<Item = (Segment<'_>, usize)> {
    Segments { bytes, at: 2 }
}

/// A component: its identifier, and how many samples it has across and down for each of the smallest.
#[derive(Clone, Copy)]
pub(super) struct Component {
    pub(super) id: u8,
    sampling: (u8, u8),
}

/// What the header of a frame says.
pub(super) struct Frame {
    marker: u8,
    precision: u8,
    width: usize,
    height: usize,
    pub(super) components: Vec<Component>,
}

impl Frame {
    fn parse((marker, body): Segment) -> Option<Self> {
        let is_frame = matches!(marker, 0xc0..=0xcf) && !matches!(marker, 0xc4 | 0xc8 | 0xcc);
        if !is_frame || body.len() < 6 {
            return None;
        }
        let component = |c: &[u8; 3]| Component { id: c[0], sampling: (c[1] >> 4, c[1] & 15) };
        let components = body[6..].as_chunks::<3>().0.iter().map(component).collect();
        let side = |at: usize| usize::from(u16::from_be_bytes([body[at], body[at + 1]]));
        Some(Frame { marker, precision: body[0], height: side(1), width: side(3), components })
    }

    /// The place of the component with this identifier.
    pub(super) fn position(&self, id: u8) -> Option<usize> {
        self.components.iter().position(|component| component.id == id)
    }

    /// Blocks of a component, across and down, in a unit of all components.
    pub(super) fn factors(&self, component: usize) -> (usize, usize) {
        let (across, down) = self.components[component].sampling;
        (across.into(), down.into())
    }

    /// The largest factors, across and down.
    fn finest(&self) -> (usize, usize) {
        let factors = || (0..self.components.len()).map(|component| self.factors(component));
        let across = factors().map(|(across, _)| across).max();
        (across.unwrap_or(1), factors().map(|(_, down)| down).max().unwrap_or(1))
    }

    /// Units of all components, across and down.
    pub(super) fn units(&self) -> (usize, usize) {
        let (across, down) = self.finest();
        (self.width.div_ceil(8 * across), self.height.div_ceil(8 * down))
    }

    /// Blocks of a component, across and down, in a scan of its own.
    pub(super) fn blocks(&self, component: usize) -> (usize, usize) {
        let ((across, down), (most_across, most_down)) = (self.factors(component), self.finest());
        let blocks = |side: usize, part: usize, most: usize| (side * part).div_ceil(most * 8);
        (blocks(self.width, across, most_across), blocks(self.height, down, most_down))
    }

    fn is_progressive(&self) -> bool {
        self.marker == 0xc2
    }

    /// What is said of a file that neither decoder reads.
    fn refusal(&self) -> Option<String> {
        let kind = match self.marker {
            0xc3 => "lossless coding",
            0xc5..=0xc7 | 0xcd..=0xcf => "hierarchical coding",
            0xc9..=0xcb => "arithmetic coding",
            _ if self.precision != 8 => {
                return Some(format!("JPEG: samples of {} bits; save it with 8", self.precision));
            }
            _ => return None,
        };
        Some(format!("JPEG: {kind} is not read; save it as a baseline or progressive JPEG"))
    }

    /// Whether zune-jpeg is right about such sampling: all components alike, or all but the first of
    /// a half or a quarter.
    fn has_usual_sampling(&self) -> bool {
        let [first, others @ ..] = &self.components[..] else { return true };
        let reduced = matches!(first.sampling, (1 | 2, 1 | 2) | (4, 1));
        others.is_empty() || reduced && others.iter().all(|other| other.sampling == (1, 1))
    }

    /// Whether a component has more samples than the coarsest kind and fewer than the finest.
    fn has_middle_sampling(&self) -> bool {
        let (most_across, most_down) = self.finest();
        let middle =
            |(across, down)| 1 < across && across < most_across || 1 < down && down < most_down;
        (0..self.components.len()).any(|component| middle(self.factors(component)))
    }

    /// The sampling factors, as in "2x2, 1x1, 1x1".
    fn sampling(&self) -> String {
        let factors = self.components.iter().map(|component| component.sampling);
        factors.map(|(across, down)| format!("{across}x{down}")).collect::<Vec<_>>().join(", ")
    }
}

/// A scan: the identifiers of its components and their tables, the first and last coefficient, and how
/// many low bits are still to come.
pub(super) struct Scan {
    pub(super) ids: Vec<u8>,
    /// The code of DC in the upper four bits, that of AC in the lower.
    pub(super) tables: Vec<u8>,
    coefficients: (u8, u8),
    low: u8,
}

impl Scan {
    pub(super) fn parse(body: &[u8]) -> Option<Self> {
        let count = usize::from(*body.first()?);
        let components = body.get(1..1 + 2 * count)?.as_chunks::<2>().0;
        let (ids, tables) = components.iter().map(|&[id, tables]| (id, tables)).unzip();
        let &[first, last, bits] = body.get(1 + 2 * count..)?.first_chunk()?;
        Some(Scan { ids, tables, coefficients: (first, last), low: bits & 15 })
    }
}

/// The headers of a JPEG, to the beginning of its coded data.
pub(super) struct Headers {
    frame: Frame,
    first: Scan,
    /// Where coded data begins.
    data: usize,
}

impl Headers {
    /// `None` where they are damaged: the decoder shall say how.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let mut frame = None;
        for (segment, data) in segments(bytes) {
            if segment.0 == START_OF_SCAN {
                return Some(Headers { frame: frame?, first: Scan::parse(segment.1)?, data });
            }
            frame = frame.or_else(|| Frame::parse(segment));
        }
        None
    }

    /// Why no decoder reads it, if none does.
    pub(super) fn refusal(&self) -> Option<String> {
        let separate = self.is_split() || self.frame.is_progressive();
        self.frame.refusal().or_else(|| {
            // jpeg-decoder expects too many blocks of such a component in a scan of its own.
            (separate && self.frame.has_middle_sampling()).then(|| {
                format!(
                    "JPEG: sampling factors {} in separate scans are not read; save it with others",
                    self.frame.sampling()
                )
            })
        })
    }

    /// Whether the first scan lacks components.
    fn is_split(&self) -> bool {
        self.first.ids.len() < self.frame.components.len()
    }

    /// Whether zune-jpeg is right about its sampling.
    pub(super) fn has_usual_sampling(&self) -> bool {
        self.frame.has_usual_sampling()
    }

    /// Whether it is a baseline JPEG whose first scan lacks components: zune-jpeg makes something else
    /// of it than its pixels.
    pub(super) fn is_split_baseline(&self) -> bool {
        self.is_split() && !self.frame.is_progressive()
    }

    /// The same JPEG with one scan for all components; `None` where that cannot be had.
    ///
    /// # Errors
    /// Too large.
    pub(super) fn in_one_scan(
        &self,
        bytes: &[u8],
        limits: Limits,
    ) -> Result<Option<Vec<u8>>, String> {
        self.check_size(limits)?;
        Ok(interleave::in_one_scan(bytes, &self.frame))
    }

    /// Holds what decoding takes (coefficients, planes and the image itself) against the limits.
    fn check_size(&self, limits: Limits) -> Result<(), String> {
        let (width, height) = (self.frame.width as u64, self.frame.height as u64);
        let bytes = 4 * self.frame.components.len() as u64 * width * height;
        super::check_size("JPEG", (width as u32, height as u32), bytes, limits)
    }

    /// Whether an end marker follows the coded data. Within such data the two bytes do not occur;
    /// before it they do: a thumbnail has an end marker of its own.
    fn has_end(&self, bytes: &[u8]) -> bool {
        bytes[self.data..].windows(2).rev().any(|pair| pair == END)
    }

    /// Whether every coefficient of every component has been sent to its last bit.
    fn all_is_sent(&self, bytes: &[u8]) -> bool {
        let mut missing: Vec<(u8, u64)> =
            self.frame.components.iter().map(|component| (component.id, u64::MAX)).collect();
        let scans = segments(bytes).filter(|((marker, _), _)| *marker == START_OF_SCAN);
        for scan in scans.filter_map(|((_, body), _)| Scan::parse(body)).filter(|s| s.low == 0) {
            let (first, last) = scan.coefficients;
            let sent = (first.min(63)..=last.min(63)).fold(0, |sent, k| sent | 1u64 << k);
            let of_scan = missing.iter_mut().filter(|(id, _)| scan.ids.contains(id));
            of_scan.for_each(|(_, left)| *left &= !sent);
        }
        missing.iter().all(|&(_, left)| left == 0)
    }
}

/// The file with its end marker. One that lacks it is taken where its pixels are complete.
///
/// # Errors
/// The file has been cut off.
pub(super) fn whole<'a>(
    bytes: &'a [u8],
    headers: &Headers,
    limits: Limits,
) -> Result<Cow<'a, [u8]>, String> {
    if headers.has_end(bytes) {
        return Ok(Cow::Borrowed(bytes));
    }
    let data = bytes.strip_suffix(&[0xff]).unwrap_or(bytes);
    let cut = || "JPEG: cut off, its end marker and a part of its pixels are missing".to_owned();
    if !headers.all_is_sent(data) || !is_complete(data, headers, limits) {
        return Err(cut());
    }
    Ok(Cow::Owned([data, &END].concat()))
}

/// Whether the pixels are the same whatever bits come after the data. No code word consists of ones.
fn is_complete(data: &[u8], headers: &Headers, limits: Limits) -> bool {
    let followed_by = |bits: [u8; 2]| {
        // More than a decoder reads ahead.
        let bytes = [data, &bits.repeat(16), &END].concat();
        decode_odd(&bytes, headers, limits).ok()
    };
    let ones = followed_by([0xff, 0]);
    ones.is_some() && ones == followed_by([0, 0])
}

/// Decodes what zune-jpeg gets wrong; gives the EXIF orientation too.
///
/// # Errors
/// Damaged, or too large.
pub(super) fn decode_odd(
    bytes: &[u8],
    headers: &Headers,
    limits: Limits,
) -> Result<(DynamicImage, Orientation), String> {
    let damaged = |error: jpeg_decoder::Error| format!("JPEG: {error}");
    headers.check_size(limits)?;
    let mut decoder = Decoder::new(bytes);
    decoder.read_info().map_err(damaged)?;
    let info = decoder.info().ok_or("JPEG: no header")?;
    let samples = decoder.decode().map_err(damaged)?;
    let orientation = decoder.exif_data().and_then(Orientation::from_exif_chunk);
    let (width, height) = (u32::from(info.width), u32::from(info.height));
    let image = match info.pixel_format {
        PixelFormat::L8 => GrayImage::from_raw(width, height, samples).map(DynamicImage::from),
        PixelFormat::RGB24 => RgbImage::from_raw(width, height, samples).map(DynamicImage::from),
        PixelFormat::CMYK32 => {
            let samples = samples.as_chunks().0.iter().flat_map(rgb_of_inks).collect();
            RgbImage::from_raw(width, height, samples).map(DynamicImage::from)
        }
        PixelFormat::L16 => None,
    };
    let image = image.ok_or("JPEG: samples of an unknown kind")?;
    Ok((image, orientation.unwrap_or(Orientation::NoTransforms)))
}

/// An RGB pixel of cyan, magenta, yellow and black, 0 meaning none of an ink, rounded as PIL does.
fn rgb_of_inks(&[c, m, y, k]: &[u8; 4]) -> [u8; 3] {
    [c, m, y].map(|ink| {
        let product = u32::from(255 - ink) * u32::from(255 - k) + 128;
        ((product + (product >> 8)) >> 8) as u8
    })
}
