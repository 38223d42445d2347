//! As much of the zip format as PyTorch uses: members that are stored, not compressed.
//!
//! Nothing is trusted: every offset is checked against the file, every member against its CRC-32.

use std::collections::BTreeMap;

/// What is wrong with the file, in words.
type Outcome<T> = Result<T, String>;

const LOCAL: u32 = 0x0403_4b50;
const CENTRAL: u32 = 0x0201_4b50;
const END: u32 = 0x0605_4b50;
const END64: u32 = 0x0606_4b50;
const LOCATOR64: u32 = 0x0706_4b50;
/// Marks a 32-bit field whose value is in the zip64 part.
const ELSEWHERE: u64 = 0xffff_ffff;

/// The members of an archive, by name.
pub(super) struct Archive<'a> {
    bytes: &'a [u8],
    members: BTreeMap<String, Member>,
}

#[derive(Clone, Copy)]
struct Member {
    crc: u32,
    size: u64,
    header: u64,
}

impl<'a> Archive<'a> {
    /// Reads the central directory.
    pub(super) fn open(bytes: &'a [u8]) -> Outcome<Self> {
        let (start, size) = directory(bytes)?;
        let mut rest = span(bytes, start, size, "its central directory")?;
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

    /// A member's content, if there is such a member.
    pub(super) fn find(&self, name: &str) -> Outcome<Option<&'a [u8]>> {
        self.members.get(name).map(|member| self.content(name, *member)).transpose()
    }

    fn content(&self, name: &str, member: Member) -> Outcome<&'a [u8]> {
        let header = span(self.bytes, member.header, 30, name)?;
        if u32_at(header, 0)? != LOCAL {
            return Err(format!("member {name} is not where the directory says"));
        }
        let skipped = 30 + u64::from(u16_at(header, 26)?) + u64::from(u16_at(header, 28)?);
        let start = member.header.checked_add(skipped).ok_or("an offset is too large")?;
        let content = span(self.bytes, start, member.size, name)?;
        let mut crc = flate2::Crc::new();
        content.chunks(1 << 20).for_each(|chunk| crc.update(chunk));
        if crc.sum() != member.crc {
            let (found, wanted) = (crc.sum(), member.crc);
            return Err(format!("member {name} is damaged: CRC-32 {found:08x}, not {wanted:08x}"));
        }
        Ok(content)
    }
}

/// Where the central directory begins, and its size.
fn directory(bytes: &[u8]) -> Outcome<(u64, u64)> {
    // The end record has 22 bytes, and a comment of up to 65535 behind it.
    let last = bytes.len().checked_sub(22).ok_or("it is cut off: too short for a zip file")?;
    let first = last.saturating_sub(usize::from(u16::MAX));
    let found = (first..=last).rev().find(|&at| u32_at(bytes, at) == Ok(END));
    let end = found.ok_or("it is cut off: a zip file without its central directory")?;
    let (size, start) = (u32_at(bytes, end + 12)?, u32_at(bytes, end + 16)?);
    let locator = end.checked_sub(20).filter(|&at| u32_at(bytes, at) == Ok(LOCATOR64));
    let Some(locator) = locator else { return Ok((start.into(), size.into())) };
    let record = span(bytes, u64_at(bytes, locator + 8)?, 56, "its zip64 record")?;
    match u32_at(record, 0)? {
        END64 => Ok((u64_at(record, 48)?, u64_at(record, 40)?)),
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
    let name = span(bytes, 46, name_length as u64, "its central directory")?;
    let name = String::from_utf8(name.to_vec()).map_err(|_| "a member's name is no text")?;
    if flags & 1 != 0 || method != 0 {
        return Err(format!("member {name} is compressed or encrypted; PyTorch's are neither"));
    }
    let extra = span(bytes, (46 + name_length) as u64, extra_length as u64, &name)?;
    let (packed, size) = (u32_at(bytes, 20)?.into(), u32_at(bytes, 24)?.into());
    let [size, packed, header] = wide([size, packed, u32_at(bytes, 42)?.into()], extra)?;
    if size != packed {
        return Err(format!("member {name} has two sizes, {size} and {packed}"));
    }
    let length = 46 + name_length + extra_length + comment_length;
    if length > bytes.len() {
        return Err("its central directory is cut off".to_owned());
    }
    Ok((name, Member { crc: u32_at(bytes, 16)?, size, header }, length))
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
fn span<'a>(bytes: &'a [u8], start: u64, size: u64, what: &str) -> Outcome<&'a [u8]> {
    let end = start.checked_add(size).and_then(|end| usize::try_from(end).ok());
    let start = usize::try_from(start).ok();
    let found = start.zip(end).and_then(|(start, end)| bytes.get(start..end));
    found.ok_or_else(|| format!("it is cut off: {what} reaches beyond its end"))
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
