//! Changes of brightness and colour, as PIL makes them.

use crate::data::picture::{Picture, luma};

/// Blended with black.
pub(crate) fn brightness(picture: &mut Picture, factor: f32) {
    blend_with(picture, 0, factor);
}

/// Blended with the mean of its grey.
pub(crate) fn contrast(picture: &mut Picture, factor: f32) {
    let mean = mean_grey(picture);
    blend_with(picture, mean, factor);
}

/// Every pixel blended with its grey; a grey picture stays as it is.
pub(crate) fn saturate(picture: &mut Picture, factor: f32) {
    if picture.channels == 3 {
        for rgb in picture.pixels.as_chunks_mut::<3>().0 {
            let grey = luma(rgb);
            *rgb = rgb.map(|sample| blend(grey, sample, factor));
        }
    }
}

/// PIL's blend: `other + factor * (sample - other)`, cut to 8 bits.
fn blend(other: u8, sample: u8, factor: f32) -> u8 {
    // `as` cuts the fraction and saturates at both ends.
    (f32::from(other) + factor * (f32::from(sample) - f32::from(other))) as u8
}

/// Every sample blended with one value.
fn blend_with(picture: &mut Picture, other: u8, factor: f32) {
    map(picture, |sample| blend(other, sample, factor));
}

/// Every sample through a table.
fn map(picture: &mut Picture, of: impl Fn(u8) -> u8) {
    let table: [u8; 256] = std::array::from_fn(|sample| of(sample as u8));
    picture.pixels.iter_mut().for_each(|sample| *sample = table[usize::from(*sample)]);
}

/// The rounded mean of the grey picture.
fn mean_grey(picture: &Picture) -> u8 {
    let sum: u64 = match picture.channels {
        3 => picture.pixels.as_chunks::<3>().0.iter().map(|rgb| u64::from(luma(rgb))).sum(),
        _ => picture.pixels.iter().map(|&grey| u64::from(grey)).sum(),
    };
    (sum as f64 / (picture.width * picture.height) as f64 + 0.5) as u8
}

/// Blended with itself made smooth: every sample but those at the edges becomes (5·own + the eight
/// around it) / 13.
pub(super) fn sharpness(picture: &mut Picture, factor: f32) {
    let (channels, stride) = (picture.channels, picture.width * picture.channels);
    if picture.width < 3 || picture.height < 3 {
        return; // no smooth sample in it
    }
    let old = picture.pixels.clone();
    for y in 1..picture.height - 1 {
        let [above, own, below] = [y - 1, y, y + 1].map(|y| &old[y * stride..][..stride]);
        let to = picture.row_mut(y);
        for i in channels..stride - channels {
            let three = |row: &[u8]| {
                u32::from(row[i - channels]) + u32::from(row[i]) + u32::from(row[i + channels])
            };
            let sum = three(above) + three(own) + three(below) + 4 * u32::from(own[i]);
            to[i] = blend(((2 * sum + 13) / 26) as u8, own[i], factor);
        }
    }
}

/// Keeps the upper `bits` bits.
pub(super) fn posterize(picture: &mut Picture, bits: u8) {
    let mask = (0xff00u16 >> bits.min(8)) as u8;
    map(picture, |sample| sample & mask);
}

/// Inverts samples that are not below `threshold`.
pub(super) fn solarize(picture: &mut Picture, threshold: f64) {
    map(picture, |sample| if f64::from(sample) < threshold { sample } else { 255 - sample });
}

/// How often each value is there in a channel.
fn histogram(picture: &Picture, channel: usize) -> [usize; 256] {
    let mut counts = [0; 256];
    for sample in picture.pixels.iter().skip(channel).step_by(picture.channels) {
        counts[usize::from(*sample)] += 1;
    }
    counts
}

/// Each channel through the table that `table` makes of its histogram.
fn map_channels(picture: &mut Picture, table: impl Fn(&[usize; 256]) -> Option<[u8; 256]>) {
    let channels = picture.channels;
    for channel in 0..channels {
        let Some(table) = table(&histogram(picture, channel)) else { continue };
        for sample in picture.pixels.iter_mut().skip(channel).step_by(channels) {
            *sample = table[usize::from(*sample)];
        }
    }
}

/// The darkest value of each channel becomes 0, the brightest 255.
pub(super) fn auto_contrast(picture: &mut Picture) {
    map_channels(picture, |counts| {
        let low = counts.iter().position(|&count| count > 0)? as f64;
        let high = counts.iter().rposition(|&count| count > 0)? as f64;
        if high <= low {
            return None;
        }
        let scale = 255.0 / (high - low);
        let offset = -low * scale;
        Some(std::array::from_fn(|value| (value as f64 * scale + offset) as u8))
    });
}

/// Spreads the values of each channel so that all are equally frequent, as far as that goes.
pub(super) fn equalize(picture: &mut Picture) {
    map_channels(picture, |counts| {
        let last = counts.iter().rfind(|&&count| count > 0)?;
        let step = (counts.iter().sum::<usize>() - last) / 255;
        if step == 0 {
            return None;
        }
        let mut below = step / 2;
        Some(std::array::from_fn(|value| {
            let new = (below / step).min(255) as u8;
            below += counts[value];
            new
        }))
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_change_as_pil_changes_them() {
        let start = Picture::new(2, 1, 3, vec![200, 100, 50, 10, 20, 30]).unwrap();
        let changed = |change: &dyn Fn(&mut Picture)| {
            let mut picture = start.clone();
            change(&mut picture);
            picture.pixels
        };
        assert_eq!(changed(&|p| brightness(p, 1.5)), [255, 150, 75, 15, 30, 45]);
        assert_eq!(changed(&|p| brightness(p, 0.99)), [198, 99, 49, 9, 19, 29]);
        // Greys 124 and 18: their mean is 71.
        assert_eq!(mean_grey(&start), 71);
        assert_eq!(changed(&|p| contrast(p, 0.0)), [71; 6]);
        assert_eq!(changed(&|p| saturate(p, 0.0)), [124, 124, 124, 18, 18, 18]);
        assert_eq!(changed(&|p| saturate(p, 1.0)), start.pixels);
    }

    #[test]
    fn tables_of_values() {
        let start = Picture::new(4, 1, 1, vec![10, 60, 110, 210]).unwrap();
        let changed = |change: &dyn Fn(&mut Picture)| {
            let mut picture = start.clone();
            change(&mut picture);
            picture.pixels
        };
        assert_eq!(changed(&|p| posterize(p, 2)), [0, 0, 64, 192]);
        assert_eq!(changed(&|p| posterize(p, 8)), start.pixels);
        assert_eq!(changed(&|p| solarize(p, 100.0)), [10, 60, 145, 45]);
        assert_eq!(changed(&auto_contrast), [0, 63, 127, 255]);
        assert_eq!(changed(&equalize), start.pixels); // too few pixels for a step
    }
}
