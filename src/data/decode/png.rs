//! The chunks of a PNG: its end, and its EXIF data wherever they stand.

use std::borrow::Cow;

const SIGNATURE: usize = 8;
/// Length and kind before a chunk's data, and the check sum behind it.
const AROUND: usize = 12;
const END: [u8; AROUND] = *b"\0\0\0\0IEND\xae\x42\x60\x82";

/// A chunk's kind, its place in the file, and its data as far as they are there.
struct Chunk<'a> {
    kind: &'a [u8],
    at: usize,
    data: &'a [u8],
    whole: bool,
}

fn chunk(bytes: &[u8], at: usize) -> Option<Chunk<'_>> {
    let (length, rest) = bytes.get(at..)?.split_first_chunk::<4>()?;
    let (kind, rest) = rest.split_at_checked(4)?;
    let length = u32::from_be_bytes(*length) as usize;
    let data = &rest[..length.min(rest.len())];
    Some(Chunk { kind, at, data, whole: rest.len() >= length.saturating_add(4) })
}

fn chunks(bytes: &[u8]) -> impl Iterator<Item = Chunk<'_>> {
    std::iter::successors(chunk(bytes, SIGNATURE), |last| {
        let next = last.at + AROUND + last.data.len();
        if last.whole { chunk(bytes, next) } else { None }
    })
}

/// The EXIF data of a PNG, which may stand before or behind its pixels.
pub(super) fn exif(bytes: &[u8]) -> Option<&[u8]> {
    chunks(bytes).find(|chunk| chunk.whole && chunk.kind == b"eXIf").map(|chunk| chunk.data)
}

/// The file with an end. Where it stops before its last chunk, that is added; whether the pixels are
/// complete is the decoder's to say.
pub(super) fn with_end(bytes: &[u8]) -> Cow<'_, [u8]> {
    let Some(last) = chunks(bytes).last() else { return Cow::Borrowed(bytes) };
    if last.whole && last.kind == b"IEND" || !chunks(bytes).any(|chunk| chunk.kind == b"IDAT") {
        return Cow::Borrowed(bytes);
    }
    let mut whole = bytes[..last.at].to_vec();
    if last.whole {
        whole.extend_from_slice(&bytes[last.at..][..AROUND + last.data.len()]);
    } else if last.kind == b"IDAT" {
        // Its check sum, or the end of its data, is missing.
        let mut sum = flate2::Crc::new();
        sum.update(last.kind);
        sum.update(last.data);
        whole.extend_from_slice(&(last.data.len() as u32).to_be_bytes());
        whole.extend_from_slice(last.kind);
        whole.extend_from_slice(last.data);
        whole.extend_from_slice(&sum.sum().to_be_bytes());
    }
    whole.extend_from_slice(&END);
    Cow::Owned(whole)
}
