//! As much of the zip format as PyTorch uses: members that are stored, not compressed.
//!
//! Nothing is trusted: every offset is checked against the file, every member against its CRC-32.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::bytes::{Bytes, Outcome};

const LOCAL: u32 = 0x0403_4b50;
const CENTRAL: u32 = 0x0201_4b50;
const END: u32 = 0x0605_4b50;
const END64: u32 = 0x0606_4b50;
const LOCATOR64: u32 = 0x0706_4b50;
/// Marks a 32-bit field whose value is in the zip64 part.
const ELSEWHERE: u64 = 0xffff_ffff;
/// Largest central directory that is read, and largest member that is read whole, in bytes.
const MOST: u64 = 64 << 20;
/// The end record, a comment of up to 65535 bytes behind it, and what zip64 puts before it.
const TAIL: u64 = 22 + 65535 + 20;

/// The members of an archive, by name.
pub(super) struct Archive<'a> {
    bytes: &'a Bytes<'a>,
    members: BTreeMap<String, Member>,
}

#[derive(Clone, Copy)]
struct Member {
    crc: u32,
    size: u64,
    header: u64,
    /// Whether its bytes are there as they are.
    plain: bool,
}

impl<'a> Archive<'a> {
    /// Reads the central directory.
    pub(super) fn open(bytes: &'a Bytes) -> Outcome<Self> {
        let (start, size) = directory(bytes)?;
        if size > MOST {
            return Err(format!("its central directory of {size} bytes is too large"));
        }
        let directory = span(bytes, start, size, "its central directory")?;
        let mut rest = &directory[..];
        let mut members = BTreeMap::new();
        while !rest.is_empty() {
            let (name, member, length) = central(rest)?;
            if members.insert(name.clone(), member).is_some() {
                return Err(format!("it has two members called {name}"));
            }
            rest = &rest[length..];
        }
        Ok(Archive { bytes, members })
    }

    /// The names of all members, in order.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.members.keys().map(String::as_str)
    }

    /// A small member's content, if there is such a member.
    pub(super) fn find(&self, name: &str) -> Outcome<Option<Vec<u8>>> {
        let Some((start, size)) = self.place(name)? else { return Ok(None) };
        if size > MOST {
            return Err(format!("member {name} of {size} bytes is too large"));
        }
        Ok(Some(span(self.bytes, start, size, name)?.into_owned()))
    }

    /// Where a member's content begins, and its size, if there is such a member and it is whole.
    pub(super) fn place(&self, name: &str) -> Outcome<Option<(u64, u64)>> {
        self.members.get(name).map(|member| self.checked(name, *member)).transpose()
    }

    fn checked(&self, name: &str, member: Member) -> Outcome<(u64, u64)> {
        if !member.plain {
            return Err(format!("member {name} is compressed or encrypted; PyTorch's are neither"));
        }
        let header = span(self.bytes, member.header, 30, name)?;
        if u32_at(&header, 0)? != LOCAL {
            return Err(format!("member {name} is not where the directory says"));
        }
        let skipped = 30 + u64::from(u16_at(&header, 26)?) + u64::from(u16_at(&header, 28)?);
        let start = member.header.checked_add(skipped).ok_or("an offset is too large")?;
        let mut crc = flate2::Crc::new();
        let walked = self.bytes.walk(start, member.size, |piece| crc.update(piece));
        walked.map_err(|cause| format!("member {name}: {cause}"))?;
        if crc.sum() != member.crc {
            let (found, wanted) = (crc.sum(), member.crc);
            return Err(format!("member {name} is damaged: CRC-32 {found:08x}, not {wanted:08x}"));
        }
        Ok((start, member.size))
    }
}

/// Where the central directory begins, and its size.
fn directory(bytes: &Bytes) -> Outcome<(u64, u64)> {
    let before = bytes.len().saturating_sub(TAIL);
    let tail = bytes.read(before, bytes.len() - before)?;
    let last = tail.len().checked_sub(22).ok_or("it is cut off: too short for a zip file")?;
    let found = (0..=last).rev().find(|&at| u32_at(&tail, at) == Ok(END));
    let end = found.ok_or("it is cut off: a zip file without its central directory")?;
    let (size, start) = (u32_at(&tail, end + 12)?, u32_at(&tail, end + 16)?);
    let locator = end.checked_sub(20).filter(|&at| u32_at(&tail, at) == Ok(LOCATOR64));
    let Some(locator) = locator else { return Ok((start.into(), size.into())) };
    let record = span(bytes, u64_at(&tail, locator + 8)?, 56, "its zip64 record")?;
    match u32_at(&record, 0)? {
        END64 => Ok((u64_at(&record, 48)?, u64_at(&record, 40)?)),
        _ => Err("its zip64 record is not where it should be".to_owned()),
    }
}

/// An entry at the beginning of `bytes`: the member's name, what is known of it, its length.
fn central(bytes: &[u8]) -> Outcome<(String, Member, usize)> {
    if u32_at(bytes, 0)? != CENTRAL {
        return Err("its central directory is damaged".to_owned());
    }
    let [flags, method] = [u16_at(bytes, 8)?, u16_at(bytes, 10)?];
    let lengths = [u16_at(bytes, 28)?, u16_at(bytes, 30)?, u16_at(bytes, 32)?].map(usize::from);
    let [name_length, extra_length, comment_length] = lengths;
    let cut_off = "its central directory is cut off";
    let name = bytes.get(46..46 + name_length).ok_or(cut_off)?;
    let name = String::from_utf8(name.to_vec()).map_err(|_| "a member's name is not UTF-8")?;
    let extra = bytes.get(46 + name_length..).and_then(|rest| rest.get(..extra_length));
    let extra = extra.ok_or(cut_off)?;
    let (packed, size) = (u32_at(bytes, 20)?.into(), u32_at(bytes, 24)?.into());
    let [size, packed, header] = wide([size, packed, u32_at(bytes, 42)?.into()], extra)?;
    let plain = flags & 1 == 0 && method == 0;
    if plain && size != packed {
        return Err(format!("member {name} has two sizes, {size} and {packed}"));
    }
    let length = 46 + name_length + extra_length + comment_length;
    if length > bytes.len() {
        return Err(cut_off.to_owned());
    }
    Ok((name, Member { crc: u32_at(bytes, 16)?, size, header, plain }, length))
}

/// The fields that are too large for 32 bits, out of the zip64 part of `extra`.
fn wide(mut fields: [u64; 3], mut extra: &[u8]) -> Outcome<[u64; 3]> {
    while fields.contains(&ELSEWHERE) && extra.len() >= 4 {
        let (kind, size) = (u16_at(extra, 0)?, usize::from(u16_at(extra, 2)?));
        let content = extra.get(4..4 + size).ok_or("a zip64 part is cut off")?;
        if kind == 1 {
            let wide = fields.iter_mut().filter(|field| **field == ELSEWHERE);
            for (i, field) in wide.enumerate() {
                *field = u64_at(content, 8 * i)?;
            }
            return Ok(fields);
        }
        extra = &extra[4 + size..];
    }
    Ok(fields)
}

/// `size` bytes from `start` on.
fn span<'a>(bytes: &'a Bytes, start: u64, size: u64, what: &str) -> Outcome<Cow<'a, [u8]>> {
    bytes.read(start, size).map_err(|cause| format!("{what}: {cause}"))
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Outcome<[u8; N]> {
    let found =
        at.checked_add(N).and_then(|end| bytes.get(at..end)).and_then(|b| b.try_into().ok());
    found.ok_or_else(|| "it is cut off".to_owned())
}

fn u16_at(bytes: &[u8], at: usize) -> Outcome<u16> {
    array(bytes, at).map(u16::from_le_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> Outcome<u32> {
    array(bytes, at).map(u32::from_le_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> Outcome<u64> {
    array(bytes, at).map(u64::from_le_bytes)
}
