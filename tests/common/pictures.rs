//! Picture files made in code.

use std::fs::File;
use std::io::{Cursor, Read};

use image::{DynamicImage, ImageFormat, Rgb, RgbImage};

/// Red, green, blue and white quarters, 24x16.
pub fn quarters() -> RgbImage {
    RgbImage::from_fn(24, 16, |x, y| match (x < 12, y < 8) {
        (true, true) => Rgb([250, 10, 10]),
        (false, true) => Rgb([10, 250, 10]),
        (true, false) => Rgb([10, 10, 250]),
        (false, false) => Rgb([240, 240, 240]),
    })
}

/// A picture as a file of this format.
pub fn encoded(image: impl Into<DynamicImage>, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Vec::new();
    image.into().write_to(&mut Cursor::new(&mut bytes), format).expect("an encoder that works");
    bytes
}

/// A JPEG with an EXIF segment that states this orientation.
pub fn rotated_jpeg(orientation: u8) -> Vec<u8> {
    let jpeg = encoded(quarters(), ImageFormat::Jpeg);
    let tiff = [
        b"MM\0*\0\0\0\x08".as_slice(), // big endian, the first directory at 8
        &[0, 1],                       // one entry
        &[0x01, 0x12, 0, 3, 0, 0, 0, 1, 0, orientation, 0, 0],
        &[0; 4],
    ]
    .concat();
    let length = (2 + 6 + tiff.len()) as u16;
    [&jpeg[..2], &[0xff, 0xe1], &length.to_be_bytes(), b"Exif\0\0", &tiff, &jpeg[2..]].concat()
}

/// An 8x8 JPEG of four components, each of one value, as Adobe writes CMYK: inverted.
pub fn cmyk_jpeg(inks: [u8; 4]) -> Vec<u8> {
    let segment = |marker: u8, body: &[u8]| {
        let length = (body.len() + 2) as u16;
        [&[0xff, marker], length.to_be_bytes().as_slice(), body].concat()
    };
    let adobe = segment(0xee, b"Adobe\0\x64\0\0\0\0\0");
    // Every divisor is 8, so that a flat block's one coefficient is its value - 128.
    let divisors = segment(0xdb, &[&[0], [8; 64].as_slice()].concat());
    let components: Vec<u8> = (1..=4).flat_map(|id| [id, 0x11, 0]).collect();
    let frame = segment(0xc0, &[&[8, 0, 8, 0, 8, 4], components.as_slice()].concat());
    // Sizes 0 to 8 have the codes 0000 to 1000; "end of block" has the code 0.
    let mut lengths = [0; 16];
    lengths[3] = 9;
    let dc = segment(0xc4, &[&[0x00], lengths.as_slice(), &[0, 1, 2, 3, 4, 5, 6, 7, 8]].concat());
    let mut lengths = [0; 16];
    lengths[0] = 1;
    let ac = segment(0xc4, &[&[0x10], lengths.as_slice(), &[0]].concat());
    let scan = segment(0xda, &[4, 1, 0, 2, 0, 3, 0, 4, 0, 0, 63, 0]);
    let mut bits = String::new();
    for ink in inks {
        let value = i32::from(ink) - 128;
        let size = 32 - value.unsigned_abs().leading_zeros() as usize;
        bits += &format!("{size:04b}");
        let coded = if value < 0 { value + (1 << size) - 1 } else { value };
        if size > 0 {
            bits += &format!("{coded:0size$b}");
        }
        bits.push('0');
    }
    while !bits.len().is_multiple_of(8) {
        bits.push('1');
    }
    let mut data = Vec::new();
    for byte in bits.as_bytes().chunks(8) {
        let byte = byte.iter().fold(0, |byte, &bit| byte << 1 | (bit - b'0'));
        data.push(byte);
        if byte == 0xff {
            data.push(0);
        }
    }
    [&[0xff, 0xd8], &*adobe, &*divisors, &*frame, &*dc, &*ac, &*scan, &*data, &[0xff, 0xd9]]
        .concat()
}

/// The checksum of PNG's chunks.
pub fn crc32(bytes: &[u8]) -> u32 {
    let mut sum = flate2::Crc::new();
    sum.update(bytes);
    sum.sum()
}

/// Pictures whose headers promise this side in pixels, by their formats' names.
pub fn giants(side: u16) -> Vec<(&'static str, Vec<u8>)> {
    let side4 = i32::from(side);
    let mut bmp = encoded(quarters(), ImageFormat::Bmp);
    bmp[18..22].copy_from_slice(&side4.to_le_bytes());
    bmp[22..26].copy_from_slice(&side4.to_le_bytes());

    let mut gif = encoded(quarters(), ImageFormat::Gif);
    gif[6..8].copy_from_slice(&side.to_le_bytes());
    gif[8..10].copy_from_slice(&side.to_le_bytes());

    let mut jpeg = encoded(quarters(), ImageFormat::Jpeg);
    let frame = jpeg.windows(2).position(|pair| pair == [0xff, 0xc0]).expect("a frame header");
    jpeg[frame + 5..frame + 7].copy_from_slice(&side.to_be_bytes());
    jpeg[frame + 7..frame + 9].copy_from_slice(&side.to_be_bytes());

    let mut png = encoded(quarters(), ImageFormat::Png);
    png[16..20].copy_from_slice(&side4.to_be_bytes());
    png[20..24].copy_from_slice(&side4.to_be_bytes());
    let check = crc32(&png[12..29]);
    png[29..33].copy_from_slice(&check.to_be_bytes());
    vec![("bmp", bmp), ("gif", gif), ("jpeg", jpeg), ("png", png)]
}

/// A file of the recorded set, and what PIL makes of it.
#[derive(serde::Deserialize)]
pub struct Odd {
    pub name: String,
    /// Where the file is in the bundle: its beginning and its length.
    pub file: [usize; 2],
    /// Words of the error that it is refused with.
    pub refused: Option<String>,
    #[serde(default)]
    pub width: usize,
    #[serde(default)]
    pub height: usize,
    /// Where PIL's RGB pixels are.
    #[serde(default)]
    pub pixels: [usize; 2],
    /// How much a sample may differ at most.
    #[serde(default)]
    pub most: u8,
    /// How much samples may differ on average.
    #[serde(default)]
    pub mean: f64,
}

/// The recorded files, or those of the bundle that `CONVZOO_ODD_IMAGES` names; made by
/// `tests/with_pil.py`, which says what is in it.
pub struct Bundle {
    pub images: Vec<Odd>,
    pub blob: Vec<u8>,
}

impl Bundle {
    pub fn open() -> Self {
        let recorded = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/images/odd.json.gz");
        let path = std::env::var("CONVZOO_ODD_IMAGES").unwrap_or(recorded.to_owned());
        let mut bytes = Vec::new();
        let file = File::open(path).expect("a bundle");
        flate2::read::GzDecoder::new(file).read_to_end(&mut bytes).expect("gzip");
        let line = bytes.iter().position(|&byte| byte == b'\n').expect("two parts");
        let images = serde_json::from_slice(&bytes[..line]).expect("JSON");
        Bundle { images, blob: bytes.split_off(line + 1) }
    }

    pub fn part(&self, [from, length]: [usize; 2]) -> &[u8] {
        &self.blob[from..from + length]
    }

    /// The bytes of the file of this name.
    pub fn file(&self, name: &str) -> &[u8] {
        let odd = self.images.iter().find(|odd| odd.name == name).expect(name);
        self.part(odd.file)
    }
}
