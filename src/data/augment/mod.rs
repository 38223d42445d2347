//! Policies that choose an operation at random: TrivialAugment and RandAugment.
//!
//! Operations and their ranges are torchvision's (`TrivialAugmentWide`, `RandAugment`) on PIL pictures,
//! to the bit; a test holds them to what PIL gives.

mod geometry;
pub(super) mod tones;

use serde::{Deserialize, Serialize};

use super::picture::Picture;
use crate::rng::Rng;

/// A change of a picture.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Change {
    /// Nothing.
    Identity,
    /// Columns of a row move by this many pixels a row.
    ShearX(f64),
    /// Rows of a column move by this many pixels a column.
    ShearY(f64),
    /// To the right by so many pixels.
    TranslateX(i32),
    /// Down by so many pixels.
    TranslateY(i32),
    /// Against the clock, in degrees.
    Rotate(f64),
    /// Blended with black; 1 leaves it as it is.
    Brightness(f64),
    /// Blended with its grey; 1 leaves it as it is.
    Colour(f64),
    /// Blended with the mean of its grey; 1 leaves it as it is.
    Contrast(f64),
    /// Blended with itself made smooth; 1 leaves it as it is.
    Sharpness(f64),
    /// Keeps this many bits of each sample.
    Posterize(u8),
    /// Inverts samples from this value on.
    Solarize(f64),
    /// Stretches each channel to the whole range.
    AutoContrast,
    /// Makes the values of each channel equally frequent.
    Equalize,
}

/// How many operations there are to choose from.
const KINDS: usize = 14;

/// Steps of a magnitude, from none to the most.
const BINS: usize = 31;

impl Change {
    /// Makes the change.
    pub fn apply(self, picture: &mut Picture) {
        match self {
            Change::Identity => {}
            Change::ShearX(m) => geometry::warp(picture, [1.0, m, 0.0, 0.0, 1.0, 0.0]),
            Change::ShearY(m) => geometry::warp(picture, [1.0, 0.0, 0.0, m, 1.0, 0.0]),
            Change::TranslateX(pixels) => {
                geometry::warp(picture, [1.0, 0.0, -f64::from(pixels), 0.0, 1.0, 0.0]);
            }
            Change::TranslateY(pixels) => {
                geometry::warp(picture, [1.0, 0.0, 0.0, 0.0, 1.0, -f64::from(pixels)]);
            }
            Change::Rotate(degrees) => geometry::rotate(picture, degrees),
            Change::Brightness(factor) => tones::brightness(picture, factor as f32),
            Change::Colour(factor) => tones::saturate(picture, factor as f32),
            Change::Contrast(factor) => tones::contrast(picture, factor as f32),
            Change::Sharpness(factor) => tones::sharpness(picture, factor as f32),
            Change::Posterize(bits) => tones::posterize(picture, bits),
            Change::Solarize(threshold) => tones::solarize(picture, threshold),
            Change::AutoContrast => tones::auto_contrast(picture),
            Change::Equalize => tones::equalize(picture),
        }
    }
}

/// The largest magnitudes of a policy.
struct Most {
    shear: f64,
    /// Right, and down, in pixels.
    shift: [f64; 2],
    degrees: f64,
    /// How far a blend goes from 1.
    blend: f64,
    /// Bits that posterizing takes away.
    bits: f64,
}

impl Most {
    /// Operation `kind`, of the [`KINDS`], at `bin` of the [`BINS`]; `sign` is 1 or -1.
    fn change(&self, kind: usize, bin: usize, sign: f64) -> Change {
        let share = bin as f64 / (BINS - 1) as f64;
        let blend = 1.0 + sign * self.blend * share;
        match kind {
            0 => Change::Identity,
            1 => Change::ShearX(sign * self.shear * share),
            2 => Change::ShearY(sign * self.shear * share),
            3 => Change::TranslateX((sign * self.shift[0] * share) as i32),
            4 => Change::TranslateY((sign * self.shift[1] * share) as i32),
            5 => Change::Rotate(sign * self.degrees * share),
            6 => Change::Brightness(blend),
            7 => Change::Colour(blend),
            8 => Change::Contrast(blend),
            9 => Change::Sharpness(blend),
            10 => Change::Posterize(8 - (self.bits * share).round_ties_even() as u8),
            11 => Change::Solarize(255.0 * (1.0 - share)),
            12 => Change::AutoContrast,
            _ => Change::Equalize,
        }
    }
}

/// The one change of TrivialAugment, in its wide form (Müller and Hutter, 2021, section 3 and table 1):
/// any operation, at any strength, all alike.
pub(super) fn trivial(rng: &mut Rng) -> Change {
    let most = Most { shear: 0.99, shift: [32.0; 2], degrees: 135.0, blend: 0.99, bits: 6.0 };
    let kind = rng.below(KINDS);
    let bin = rng.below(BINS);
    most.change(kind, bin, sign(rng))
}

/// One of the changes of RandAugment (Cubuk et al., 2020, section 3), at strength `magnitude` of 0 to
/// 30, of a picture of this width and height.
pub(super) fn of_magnitude(magnitude: usize, [width, height]: [usize; 2], rng: &mut Rng) -> Change {
    let shift = [width, height].map(|side| 150.0 / 331.0 * side as f64);
    let most = Most { shear: 0.3, shift, degrees: 30.0, blend: 0.9, bits: 4.0 };
    let kind = rng.below(KINDS);
    most.change(kind, magnitude.min(BINS - 1), sign(rng))
}

fn sign(rng: &mut Rng) -> f64 {
    if rng.chance(0.5) { -1.0 } else { 1.0 }
}

/// Fills a random rectangle of the picture, of a share of the area and a proportion in these ranges,
/// with a colour (Zhong et al., 2020, algorithm 1).
pub(super) fn erase(
    picture: &mut Picture,
    area: [f64; 2],
    ratio: [f64; 2],
    fill: &[u8],
    rng: &mut Rng,
) {
    let (width, height) = (picture.width, picture.height);
    for _ in 0..10 {
        let target = (width * height) as f64 * rng.range(area[0], area[1]);
        let aspect = rng.range(ratio[0].ln(), ratio[1].ln()).exp();
        let h = (target * aspect).sqrt().round_ties_even() as usize;
        let w = (target / aspect).sqrt().round_ties_even() as usize;
        if (1..height).contains(&h) && (1..width).contains(&w) {
            let top = rng.below(height - h + 1);
            let left = rng.below(width - w + 1);
            for y in top..top + h {
                let row = &mut picture.row_mut(y)[left * fill.len()..(left + w) * fill.len()];
                row.chunks_exact_mut(fill.len()).for_each(|pixel| pixel.copy_from_slice(fill));
            }
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_operation_is_drawn_and_stays_in_range() {
        let mut seen = [0; KINDS];
        let mut rng = Rng::new(1);
        for _ in 0..5000 {
            let change = trivial(&mut rng);
            let (kind, holds) = match change {
                Change::Identity => (0, true),
                Change::ShearX(m) => (1, m.abs() <= 0.99),
                Change::ShearY(m) => (2, m.abs() <= 0.99),
                Change::TranslateX(m) => (3, m.abs() <= 32),
                Change::TranslateY(m) => (4, m.abs() <= 32),
                Change::Rotate(m) => (5, m.abs() <= 135.0),
                Change::Brightness(m) => (6, (0.0..2.0).contains(&m)),
                Change::Colour(m) => (7, (0.0..2.0).contains(&m)),
                Change::Contrast(m) => (8, (0.0..2.0).contains(&m)),
                Change::Sharpness(m) => (9, (0.0..2.0).contains(&m)),
                Change::Posterize(m) => (10, (2..=8).contains(&m)),
                Change::Solarize(m) => (11, (0.0..=255.0).contains(&m)),
                Change::AutoContrast => (12, true),
                Change::Equalize => (13, true),
            };
            assert!(holds, "{change:?}");
            seen[kind] += 1;
        }
        assert!(seen.iter().all(|&count| count > 250), "{seen:?}");
    }

    #[test]
    fn rand_augment_has_one_strength() {
        let mut rng = Rng::new(1);
        for _ in 0..500 {
            match of_magnitude(9, [100, 50], &mut rng) {
                Change::ShearX(m) => assert!((m.abs() - 0.09).abs() < 1e-12),
                Change::TranslateX(m) => assert_eq!(m.abs(), 13), // 150 / 331 * 100 * 0.3 = 13.6
                Change::TranslateY(m) => assert_eq!(m.abs(), 6),
                Change::Posterize(bits) => assert_eq!(bits, 7),
                _ => {}
            }
        }
    }

    #[test]
    fn erasing_fills_one_rectangle() {
        let mut shares = Vec::new();
        for seed in 0..300 {
            let mut picture = Picture::new(40, 30, 3, vec![9; 3600]).unwrap();
            erase(&mut picture, [0.02, 0.33], [0.3, 3.3], &[1, 2, 3], &mut Rng::new(seed));
            let pixels = picture.pixels.as_chunks::<3>().0;
            assert!(pixels.iter().all(|p| *p == [9; 3] || *p == [1, 2, 3]));
            shares.push(pixels.iter().filter(|p| **p != [9; 3]).count() as f64 / 1200.0);
        }
        let mean = shares.iter().sum::<f64>() / 300.0;
        assert!((0.12..0.2).contains(&mean), "{mean}");
        // Ten tries may all be too high or too wide.
        let none = shares.iter().filter(|share| **share == 0.0).count();
        assert!(none < 6, "{none}");
        assert!(shares.iter().all(|share| *share == 0.0 || (0.01..0.36).contains(share)));
    }
}
