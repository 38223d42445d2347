//! A baseline JPEG whose components come in scans of their own, rewritten with one scan for all.
//!
//! The coefficients stay the same, and so the pixels are those of a file that had one scan from the
//! beginning, to the bit. Section and annex numbers are those of ITU-T T.81.

use super::jpeg::{Frame, Scan, segments};

/// A block's coefficients, in zigzag order.
type Block = [i16; 64];

/// A code: how many words there are of each length, and the symbols in the order of their words.
#[derive(Clone)]
struct Code {
    counts: [u8; 16],
    symbols: Vec<u8>,
}

/// Reads coded data up to a marker; `None` where it ends.
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    byte: u8,
    left: u8,
}

impl Reader<'_> {
    fn bit(&mut self) -> Option<u32> {
        if self.left == 0 {
            self.byte = *self.bytes.get(self.at)?;
            self.at += 1;
            if self.byte == 0xff {
                // A zero is stuffed behind such a byte; anything else is a marker.
                self.at += usize::from(*self.bytes.get(self.at)? == 0);
                if self.bytes[self.at - 1] != 0 {
                    return None;
                }
            }
            self.left = 8;
        }
        self.left -= 1;
        Some(u32::from(self.byte >> self.left & 1))
    }

    /// Annex F.2.2.3: words of one length are consecutive numbers.
    fn symbol(&mut self, code: &Code) -> Option<u8> {
        let (mut word, mut first, mut index) = (0, 0, 0);
        for count in code.counts.map(u32::from) {
            word = word << 1 | self.bit()?;
            if word < first + count {
                return code.symbols.get((index + word.checked_sub(first)?) as usize).copied();
            }
            index += count;
            first = (first + count) << 1;
        }
        None
    }

    /// A number of `size` bits; those below half of the range are negative (table F.1).
    fn number(&mut self, size: u8) -> Option<i32> {
        let value = (0..size).try_fold(0, |value, _| Some(value << 1 | self.bit()? as i32))?;
        let negative = size > 0 && value < 1 << (size - 1);
        Some(if negative { value + 1 - (1 << size) } else { value })
    }

    fn block(&mut self, [dc, ac]: [&Code; 2], before: &mut i32) -> Option<Block> {
        let mut block = [0; 64];
        let size = self.symbol(dc).filter(|&size| size <= 11)?;
        *before += self.number(size)?;
        // Eight bits a sample give no more than this.
        block[0] = i16::try_from(*before).ok().filter(|dc| (-1024..1024).contains(dc))?;
        let mut k = 1;
        while k < 64 {
            match self.symbol(ac)? {
                0x00 => break,
                0xf0 => k += 16,
                symbol => {
                    k += usize::from(symbol >> 4);
                    *block.get_mut(k)? = i16::try_from(self.number(symbol & 15)?).ok()?;
                    k += 1;
                }
            }
        }
        Some(block)
    }

    /// Steps over a restart marker.
    fn restart(&mut self) -> Option<()> {
        let [0xff, 0xd0..=0xd7] = self.bytes.get(self.at..self.at + 2)? else { return None };
        (self.at, self.left) = (self.at + 2, 0);
        Some(())
    }
}

/// The other way round. Every symbol has a word, of 4 bits (DC) or of 8 and 9 (AC); none consists of
/// ones alone.
#[derive(Default)]
struct Writer {
    out: Vec<u8>,
    bits: u32,
    count: u32,
}

impl Writer {
    fn put(&mut self, value: u32, length: u32) {
        self.bits = self.bits << length | value;
        self.count += length;
        while self.count >= 8 {
            self.count -= 8;
            let byte = (self.bits >> self.count) as u8;
            self.out.push(byte);
            if byte == 0xff {
                self.out.push(0);
            }
        }
        self.bits &= (1 << self.count) - 1;
    }

    fn number(&mut self, value: i32, size: u32) {
        let coded = if value < 0 { value - 1 + (1 << size) } else { value };
        self.put(coded as u32, size);
    }

    fn ac_symbol(&mut self, symbol: u32) {
        match symbol {
            0..254 => self.put(symbol, 8),
            _ => self.put(symbol + 254, 9),
        }
    }

    fn block(&mut self, block: &Block, before: &mut i32) {
        let step = i32::from(block[0]) - *before;
        *before = block[0].into();
        let size = bits_of(step);
        self.put(size, 4);
        self.number(step, size);
        let last = block.iter().rposition(|&value| value != 0).unwrap_or(0);
        let mut run = 0;
        for value in block[1..=last].iter().map(|&value| i32::from(value)) {
            if value == 0 {
                run += 1;
                continue;
            }
            (0..run / 16).for_each(|_| self.ac_symbol(0xf0));
            let size = bits_of(value);
            self.ac_symbol((run % 16) << 4 | size);
            self.number(value, size);
            run = 0;
        }
        if last < 63 {
            self.ac_symbol(0);
        }
    }

    fn finish(mut self) -> Vec<u8> {
        let missing = (8 - self.count % 8) % 8;
        self.put((1 << missing) - 1, missing);
        self.out
    }
}

fn bits_of(value: i32) -> u32 {
    32 - value.unsigned_abs().leading_zeros()
}

/// The segment with the writer's two codes.
fn codes() -> Vec<u8> {
    let dc: Vec<u8> = (0..12).collect();
    let ac: Vec<u8> = (0..=255).collect();
    let (mut of_dc, mut of_ac) = ([0; 17], [0x10; 17]);
    of_dc[4] = 12;
    of_ac[1..].fill(0);
    (of_ac[8], of_ac[9]) = (254, 2);
    segment(0xc4, &[&of_dc, &dc[..], &of_ac, &ac].concat())
}

fn segment(marker: u8, body: &[u8]) -> Vec<u8> {
    let length = (body.len() + 2) as u16;
    [&[0xff, marker], &length.to_be_bytes()[..], body].concat()
}

/// All blocks of a component: as many as whole units need.
struct Plane {
    width: usize,
    blocks: Vec<Block>,
    read: bool,
}

/// The blocks of each unit of a scan, as component, row and column (section A.2).
fn units<'a>(
    frame: &'a Frame,
    chosen: &'a [usize],
) -> Box<dyn Iterator<Item = Vec<(usize, usize, usize)>> + 'a> {
    let grid = |width: usize, height: usize| {
        (0..height).flat_map(move |y| (0..width).map(move |x| (y, x)))
    };
    if let &[one] = chosen {
        let (width, height) = frame.blocks(one);
        return Box::new(grid(width, height).map(move |(y, x)| vec![(one, y, x)]));
    }
    let (width, height) = frame.units();
    let of_unit = move |(row, column): (usize, usize)| {
        let of_component = move |&c: &usize| {
            let (across, down) = frame.factors(c);
            grid(across, down).map(move |(y, x)| (c, row * down + y, column * across + x))
        };
        chosen.iter().flat_map(of_component).collect()
    };
    Box::new(grid(width, height).map(of_unit))
}

/// The tables and settings that scans are read with.
#[derive(Default)]
struct State {
    dc: [Option<Code>; 4],
    ac: [Option<Code>; 4],
    restart: usize,
}

impl State {
    fn define_codes(&mut self, mut body: &[u8]) -> Option<()> {
        while let [class_and_id, rest @ ..] = body {
            let (counts, rest) = rest.split_first_chunk::<16>()?;
            let total = counts.iter().map(|&count| usize::from(count)).sum();
            let (symbols, rest) = rest.split_at_checked(total)?;
            let tables = if class_and_id >> 4 == 0 { &mut self.dc } else { &mut self.ac };
            let code = Code { counts: *counts, symbols: symbols.to_vec() };
            *tables.get_mut(usize::from(class_and_id & 15))? = Some(code);
            body = rest;
        }
        Some(())
    }

    fn read(&self, data: &[u8], frame: &Frame, scan: &Scan, planes: &mut [Plane]) -> Option<()> {
        let place = |id: &u8| frame.position(*id);
        let chosen: Vec<usize> = scan.ids.iter().map(place).collect::<Option<_>>()?;
        if chosen.iter().any(|&c| planes[c].read) {
            return None;
        }
        let mut codes = Vec::with_capacity(planes.len());
        for tables in &scan.tables {
            let dc = self.dc.get(usize::from(tables >> 4))?.as_ref()?;
            codes.push([dc, self.ac.get(usize::from(tables & 15))?.as_ref()?]);
        }
        let mut reader = Reader { bytes: data, at: 0, byte: 0, left: 0 };
        let mut before = [0; 4];
        for (number, unit) in units(frame, &chosen).enumerate() {
            if self.restart > 0 && number > 0 && number.is_multiple_of(self.restart) {
                reader.restart()?;
                before = [0; 4];
            }
            for (c, y, x) in unit {
                let nth = chosen.iter().position(|&other| other == c)?;
                let block = reader.block(codes[nth], &mut before[nth])?;
                let plane = &mut planes[c];
                *plane.blocks.get_mut(y * plane.width + x)? = block;
            }
        }
        chosen.iter().for_each(|&c| planes[c].read = true);
        Some(())
    }
}

/// The same JPEG with one scan; `None` where it is of another kind than this, or damaged.
pub(super) fn in_one_scan(bytes: &[u8], frame: &Frame) -> Option<Vec<u8>> {
    let (across, down) = frame.units();
    let plane = |c| {
        let (h, v) = frame.factors(c);
        let blocks = vec![[0; 64]; across * h * down * v];
        Plane { width: across * h, blocks, read: false }
    };
    let mut planes: Vec<Plane> = (0..frame.components.len()).map(plane).collect();
    let (mut state, mut scans) = (State::default(), 0);
    let mut out = vec![0xff, 0xd8];
    for ((marker, body), data) in segments(bytes) {
        match marker {
            0xc4 => state.define_codes(body)?,
            0xdd => state.restart = u16::from_be_bytes(*body.first_chunk()?).into(),
            0xda => {
                state.read(&bytes[data..], frame, &Scan::parse(body)?, &mut planes)?;
                scans += 1;
            }
            // Other divisors for later scans would be needed here at once.
            0xdb if scans > 0 => return None,
            _ if scans > 0 => {}
            _ => out.extend(segment(marker, body)),
        }
        if planes.iter().all(|plane| plane.read) {
            break;
        }
    }
    if !planes.iter().all(|plane| plane.read) {
        return None;
    }
    out.extend(codes());
    let ids = frame.components.iter().flat_map(|component| [component.id, 0]);
    let head: Vec<u8> = [planes.len() as u8].into_iter().chain(ids).chain([0, 63, 0]).collect();
    out.extend(segment(0xda, &head));
    let (mut writer, mut before) = (Writer::default(), [0; 4]);
    let all: Vec<usize> = (0..planes.len()).collect();
    for (c, y, x) in units(frame, &all).flatten() {
        let plane = &planes[c];
        writer.block(&plane.blocks[y * plane.width + x], &mut before[c]);
    }
    out.extend(writer.finish());
    out.extend([0xff, 0xd9]);
    Some(out)
}
