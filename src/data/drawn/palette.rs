//! Colours: of coats, eyes and backgrounds. Nothing here knows of cats or dogs, so that colour
//! carries no hint of the class.

use super::raster::{Rgb, mix};
use crate::rng::Rng;

/// Coats as cats and dogs alike wear them: cream, ginger, greys, black, browns, white.
const COATS: [Rgb; 10] = [
    [0.93, 0.86, 0.72],
    [0.88, 0.60, 0.30],
    [0.72, 0.44, 0.22],
    [0.48, 0.32, 0.22],
    [0.30, 0.22, 0.18],
    [0.20, 0.20, 0.22],
    [0.42, 0.42, 0.45],
    [0.62, 0.63, 0.66],
    [0.82, 0.78, 0.74],
    [0.96, 0.95, 0.93],
];

/// Irises: amber, yellow, green, blue, hazel, brown.
const IRISES: [Rgb; 6] = [
    [0.85, 0.55, 0.15],
    [0.88, 0.80, 0.25],
    [0.45, 0.70, 0.35],
    [0.40, 0.62, 0.85],
    [0.60, 0.45, 0.22],
    [0.38, 0.24, 0.14],
];

/// The colours of one animal.
pub(super) struct Palette {
    /// Most of the coat.
    pub(super) coat: Rgb,
    /// Stripes and patches.
    pub(super) marking: Rgb,
    /// Muzzle, chest, the blaze between the eyes.
    pub(super) pale: Rgb,
    /// The inside of the ears and the tongue.
    pub(super) flesh: Rgb,
    /// The iris.
    pub(super) iris: Rgb,
    /// The nose.
    pub(super) nose: Rgb,
    /// Outlines.
    pub(super) ink: Rgb,
}

impl Palette {
    /// Colours of a random animal.
    pub(super) fn random(rng: &mut Rng) -> Palette {
        let coat = coat(rng);
        let marking = if luma(coat) > 0.45 {
            mix(coat, [0.15, 0.11, 0.09], rng.range(0.3, 0.75) as f32)
        } else {
            mix(coat, [0.95, 0.90, 0.82], rng.range(0.25, 0.7) as f32)
        };
        let pale = mix(coat, [0.98, 0.95, 0.90], rng.range(0.15, 0.9) as f32);
        let pink = mix([0.93, 0.62, 0.62], [0.80, 0.42, 0.45], rng.uniform() as f32);
        let dark_nose = mix([0.10, 0.09, 0.09], [0.40, 0.25, 0.20], rng.uniform() as f32);
        let nose = if rng.chance(0.4) { mix(pink, dark_nose, 0.35) } else { dark_nose };
        let ink = mix([0.07, 0.06, 0.07], coat, rng.range(0.0, 0.25) as f32);
        let eye = IRISES[rng.below(IRISES.len())];
        let iris = jitter(rng, eye, 0.08);
        Palette { coat, marking, pale, flesh: pink, iris, nose, ink }
    }
}

/// A coat's colour; one in eight is a fancy one, as in children's drawings.
fn coat(rng: &mut Rng) -> Rgb {
    if rng.chance(0.125) {
        return mix(any(rng), [0.8, 0.8, 0.8], 0.35);
    }
    let (a, b) = (COATS[rng.below(COATS.len())], COATS[rng.below(COATS.len())]);
    let blend = mix(a, b, rng.range(0.0, 0.4) as f32);
    jitter(rng, blend, 0.05)
}

/// Any colour at all, muted ones more often than garish ones.
pub(super) fn any(rng: &mut Rng) -> Rgb {
    let colour: Rgb = std::array::from_fn(|_| rng.range(0.05, 1.0) as f32);
    mix(colour, [luma(colour); 3], rng.range(0.0, 0.8) as f32)
}

/// A colour near `colour`.
pub(super) fn jitter(rng: &mut Rng, colour: Rgb, amount: f64) -> Rgb {
    colour.map(|value| (value + rng.range(-amount, amount) as f32).clamp(0.0, 1.0))
}

/// How bright a colour looks.
pub(super) fn luma([r, g, b]: Rgb) -> f32 {
    0.299 * r + 0.587 * g + 0.114 * b
}
