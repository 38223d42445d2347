//! A number for every place of a map, and its picture.

use crate::data::{Filter, Picture};
use crate::{Error, Result};

/// A map of numbers.
#[derive(Clone, Debug, PartialEq)]
pub struct Heat {
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
    /// Row by row.
    pub values: Vec<f32>,
}

/// How numbers become colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Colours {
    /// Black to white.
    Grey,
    /// From 0 up: blue, green, yellow, red.
    Rainbow,
    /// Blue below 0, white, red above.
    Signed,
}

type Rgb = [f32; 3];

const RAINBOW: [Rgb; 6] = [
    [20.0, 30.0, 110.0],
    [20.0, 110.0, 210.0],
    [40.0, 190.0, 160.0],
    [190.0, 210.0, 60.0],
    [250.0, 160.0, 40.0],
    [200.0, 25.0, 30.0],
];
const SIGNED: [Rgb; 5] = [
    [30.0, 60.0, 160.0],
    [130.0, 170.0, 225.0],
    [247.0, 247.0, 247.0],
    [240.0, 150.0, 120.0],
    [170.0, 20.0, 40.0],
];
const GREY: [Rgb; 2] = [[0.0; 3], [255.0; 3]];

impl Heat {
    /// A map of `height` rows of `width` numbers.
    ///
    /// # Errors
    /// Where their number does not fit, or there is none.
    pub fn new(height: usize, width: usize, values: Vec<f32>) -> Result<Self> {
        if height.checked_mul(width) != Some(values.len()) || values.is_empty() {
            let found = format!("{} values for a map of {height}x{width}", values.len());
            return Err(Error::op("heat", found, "it needs height x width of them"));
        }
        Ok(Heat { height, width, values })
    }

    /// Smallest and largest number.
    pub fn range(&self) -> (f32, f32) {
        let least = self.values.iter().copied().fold(f32::INFINITY, f32::min);
        (least, self.values.iter().copied().fold(f32::NEG_INFINITY, f32::max))
    }

    /// From 0 to 1: for [`Colours::Grey`] from the smallest number to the largest, for
    /// [`Colours::Rainbow`] from 0 to the largest, for [`Colours::Signed`] with 0 in the middle. A map
    /// without differences is flat.
    pub fn scaled(&self, colours: Colours) -> Vec<f32> {
        let (low, high) = self.range();
        let (low, high) = match colours {
            Colours::Grey => (low, high),
            Colours::Rainbow => (0.0, high),
            Colours::Signed => (-low.abs().max(high.abs()), low.abs().max(high.abs())),
        };
        let flat = if colours == Colours::Rainbow { 0.0 } else { 0.5 };
        let place = |&v: &f32| {
            if high > low { ((v - low) / (high - low)).clamp(0.0, 1.0) } else { flat }
        };
        self.values.iter().map(place).collect()
    }

    /// A colour picture, a pixel a number.
    pub fn picture(&self, colours: Colours) -> Picture {
        let pixels = self.scaled(colours).iter().flat_map(|&t| mix(colours.stops(), t)).collect();
        Picture { width: self.width, height: self.height, channels: 3, pixels }
    }

    /// The map laid over a picture, enlarged to its size; `strength` from 0 (the picture alone) to 1
    /// (the strongest places cover it). Where there is little to show, more of the picture is seen.
    ///
    /// # Errors
    /// Where it cannot be enlarged to that size.
    pub fn over(&self, picture: &Picture, colours: Colours, strength: f32) -> Result<Picture> {
        let grey = self.scaled(colours).iter().map(|v| (v * 255.0).round() as u8).collect();
        let grey = Picture::new(self.width, self.height, 1, grey)?;
        let grey = grey.resized(picture.width, picture.height, Filter::Bicubic)?;
        let mut colour = picture.with_channels(3);
        for (pixel, &v) in colour.pixels.chunks_exact_mut(3).zip(&grey.pixels) {
            let t = f32::from(v) / 255.0;
            let heat = mix(colours.stops(), t);
            let part = strength * colours.weight(t);
            for (sample, heat) in pixel.iter_mut().zip(heat) {
                let mixed = f32::from(*sample) * (1.0 - part) + f32::from(heat) * part;
                *sample = mixed.round() as u8;
            }
        }
        Ok(colour)
    }
}

impl Colours {
    fn stops(self) -> &'static [Rgb] {
        match self {
            Colours::Grey => &GREY,
            Colours::Rainbow => &RAINBOW,
            Colours::Signed => &SIGNED,
        }
    }

    /// How much a number at `t`, 0 to 1, covers what is below it.
    fn weight(self, t: f32) -> f32 {
        match self {
            Colours::Grey => 1.0,
            Colours::Rainbow => 0.35 + 0.65 * t,
            Colours::Signed => 0.35 + 0.65 * (2.0 * t - 1.0).abs(),
        }
    }
}

/// The colour at `t`, 0 to 1, on a way through `stops`.
fn mix(stops: &[Rgb], t: f32) -> [u8; 3] {
    let at = t * (stops.len() - 1) as f32;
    let i = (at as usize).min(stops.len() - 2);
    let part = at - i as f32;
    std::array::from_fn(|c| (stops[i][c] + (stops[i + 1][c] - stops[i][c]) * part).round() as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_become_colours() {
        let heat = Heat::new(1, 3, vec![-1.0, 0.0, 2.0]).unwrap();
        assert_eq!(heat.scaled(Colours::Grey), [0.0, 1.0 / 3.0, 1.0]);
        assert_eq!(heat.scaled(Colours::Rainbow), [0.0, 0.0, 1.0]);
        assert_eq!(heat.scaled(Colours::Signed), [0.25, 0.5, 1.0]);
        assert_eq!(heat.picture(Colours::Signed).pixels[3..6], [247, 247, 247]);
        assert_eq!(heat.picture(Colours::Grey).pixels[..3], [0, 0, 0]);
        let flat = Heat::new(1, 2, vec![0.0, 0.0]).unwrap();
        assert_eq!(flat.scaled(Colours::Rainbow), [0.0, 0.0]);
        assert!(Heat::new(2, 2, vec![0.0; 3]).is_err());
    }

    #[test]
    fn no_strength_leaves_the_picture() {
        let picture = Picture::new(4, 2, 1, vec![9; 8]).unwrap();
        let heat = Heat::new(1, 2, vec![0.0, 1.0]).unwrap();
        assert_eq!(heat.over(&picture, Colours::Rainbow, 0.0).unwrap().pixels, [9; 24]);
        let alone = heat.over(&picture, Colours::Rainbow, 1.0).unwrap();
        assert_eq!(alone.pixels[9..12], [200, 25, 30]);
    }
}
