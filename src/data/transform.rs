//! What is done to a picture before a network sees it: a [`Pipeline`] of [`Step`]s.
//!
//! Steps mean what they mean in torchvision on PIL pictures, to the rounding: 8 bits between
//! steps, antialiased resampling, the same rules for odd sizes.

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::DataKind;
use super::augment::{self, tones};
use super::picture::Picture;
use super::resize::{Filter, MOST_PIXELS};
use crate::error::{Error, Result};
use crate::rng::Rng;

/// One step of a [`Pipeline`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Step {
    /// To 1 channel (PIL's grey) or 3 (the grey channel repeated).
    Channels {
        /// 1 or 3.
        channels: usize,
    },
    /// The shorter side becomes `size`, the longer `int(size * longer / shorter)`.
    Resize {
        /// The shorter side, in pixels.
        size: usize,
        /// How pixels are resampled.
        #[serde(default)]
        filter: Filter,
    },
    /// To exactly `size` x `size`, whatever the proportions were.
    ResizeExact {
        /// Both sides, in pixels.
        size: usize,
        /// How pixels are resampled.
        #[serde(default)]
        filter: Filter,
    },
    /// The middle `size` x `size`; a picture that is smaller gets black borders.
    CentreCrop {
        /// Both sides, in pixels.
        size: usize,
    },
    /// Each sample becomes 255 minus it: dark on light becomes light on dark.
    Invert,
    /// Black borders on all four sides.
    Pad {
        /// Their width, in pixels.
        border: usize,
    },
    /// A random part of the area and proportions, resized to `size` x `size` (Szegedy et al., 2014).
    RandomResizedCrop {
        /// Both sides of the result, in pixels.
        size: usize,
        /// Smallest and largest share of the area.
        scale: [f64; 2],
        /// Smallest and largest width / height.
        ratio: [f64; 2],
        /// How pixels are resampled.
        #[serde(default)]
        filter: Filter,
    },
    /// A random `size` x `size` part of the picture after `padding` black pixels on each side.
    RandomCrop {
        /// Both sides, in pixels.
        size: usize,
        /// Width of the black border, in pixels.
        padding: usize,
    },
    /// Mirrored left to right with this probability.
    Flip {
        /// The probability.
        chance: f64,
    },
    /// Brightness, contrast and saturation times random factors of `1 - x` to `1 + x`, in random
    /// order.
    ColourJitter {
        /// Most change of brightness.
        brightness: f64,
        /// Most change of contrast.
        contrast: f64,
        /// Most change of saturation.
        saturation: f64,
    },
    /// One change, of any kind and strength: torchvision's `TrivialAugmentWide` (Müller and Hutter,
    /// 2021).
    TrivialAugment,
    /// Several changes of one strength, one after the other (Cubuk et al., 2020).
    RandAugment {
        /// How many.
        changes: usize,
        /// Their strength, 0 to 30.
        magnitude: usize,
    },
    /// A random rectangle filled with one colour, with a probability (Zhong et al., 2020).
    Erase {
        /// The probability.
        chance: f64,
        /// Smallest and largest share of the area.
        area: [f64; 2],
        /// Smallest and largest height / width.
        ratio: [f64; 2],
        /// The colour, a sample for each channel.
        fill: Vec<u8>,
    },
    /// To f32: `(sample / 255 - mean) / std` for each channel. Always the last step.
    Normalise {
        /// Mean of each channel, of samples from 0 to 1.
        mean: Vec<f32>,
        /// Standard deviation of each channel.
        std: Vec<f32>,
    },
}

impl Step {
    /// Whether the step does the same whatever the random numbers are.
    fn is_fixed(&self) -> bool {
        !matches!(
            self,
            Step::RandomResizedCrop { .. }
                | Step::RandomCrop { .. }
                | Step::Flip { .. }
                | Step::ColourJitter { .. }
                | Step::TrivialAugment
                | Step::RandAugment { .. }
                | Step::Erase { .. }
        )
    }

    /// What makes the step's numbers senseless, if anything does.
    fn flaw(&self) -> Option<&'static str> {
        let share = |x: f64| (0.0..=1.0).contains(&x);
        let ordered = |[low, high]: [f64; 2]| 0.0 < low && low <= high && high.is_finite();
        match *self {
            Step::Channels { channels } if !matches!(channels, 1 | 3) => {
                Some("channels must be 1 or 3")
            }
            Step::Resize { size, .. }
            | Step::ResizeExact { size, .. }
            | Step::CentreCrop { size }
            | Step::RandomResizedCrop { size, .. }
            | Step::RandomCrop { size, .. }
                if !(1..=LARGEST).contains(&size) =>
            {
                Some("a size must be from 1 to 8192 pixels")
            }
            Step::Pad { border: width } | Step::RandomCrop { padding: width, .. }
                if width > LARGEST =>
            {
                Some("a border must be at most 8192 pixels")
            }
            Step::RandomResizedCrop { scale, ratio, .. } if !ordered(scale) || !ordered(ratio) => {
                Some("scale and ratio must be two positive numbers, the smaller first")
            }
            Step::Flip { chance } if !share(chance) => Some("the chance must be from 0 to 1"),
            Step::ColourJitter { brightness, contrast, saturation }
                if ![brightness, contrast, saturation].iter().all(|&x| share(x)) =>
            {
                Some("colour jitter must be from 0 to 1")
            }
            Step::RandAugment { changes, magnitude }
                if !(1..=14).contains(&changes) || magnitude > 30 =>
            {
                Some("rand-augment takes 1 to 14 changes of a magnitude from 0 to 30")
            }
            Step::Erase { chance, area, ratio, ref fill }
                if !share(chance)
                    || !ordered(area)
                    || area[1] > 1.0
                    || !ordered(ratio)
                    || !matches!(fill.len(), 1 | 3) =>
            {
                Some(
                    "erasing needs a chance and shares from 0 to 1, the smaller first, and a colour",
                )
            }
            Step::Normalise { ref mean, ref std }
                if !matches!(mean.len(), 1 | 3) || mean.len() != std.len() =>
            {
                Some("normalise needs 1 or 3 means and as many deviations")
            }
            Step::Normalise { ref mean, ref std }
                if !mean.iter().all(|x| x.is_finite())
                    || !std.iter().all(|&x| x.is_finite() && x > 0.0) =>
            {
                Some("means must be finite, deviations finite and above 0")
            }
            _ => None,
        }
    }

    /// The picture after this step; `Normalise` leaves it as it is.
    fn apply<'a>(&self, picture: Cow<'a, Picture>, rng: &mut Rng) -> Result<Cow<'a, Picture>> {
        Ok(match *self {
            Step::Channels { channels } if channels != picture.channels => {
                Cow::Owned(picture.with_channels(channels))
            }
            Step::Resize { size, filter } => {
                let (width, height) = shorter_side(picture.width, picture.height, size);
                resized(picture, width, height, filter)?
            }
            Step::ResizeExact { size, filter } => resized(picture, size, size, filter)?,
            Step::CentreCrop { size } => centre_crop(picture, size),
            Step::Invert => {
                let mut picture = picture.into_owned();
                picture.invert();
                Cow::Owned(picture)
            }
            Step::Pad { border } => Cow::Owned(padded(&picture, border)?),
            Step::RandomResizedCrop { size, scale, ratio, filter } => {
                let [left, top, width, height] = random_part(&picture, scale, ratio, rng);
                let part = picture.crop(left, top, width, height);
                resized(Cow::Owned(part), size, size, filter)?
            }
            Step::RandomCrop { size, padding } => random_crop(picture, size, padding, rng)?,
            Step::Flip { chance } => {
                if !rng.chance(chance) {
                    return Ok(picture);
                }
                let mut picture = picture.into_owned();
                picture.flip();
                Cow::Owned(picture)
            }
            Step::ColourJitter { brightness, contrast, saturation } => {
                let mut picture = picture.into_owned();
                jitter(&mut picture, [brightness, contrast, saturation], rng);
                Cow::Owned(picture)
            }
            Step::TrivialAugment => {
                let mut picture = picture.into_owned();
                augment::trivial(rng).apply(&mut picture);
                Cow::Owned(picture)
            }
            Step::RandAugment { changes, magnitude } => {
                let mut picture = picture.into_owned();
                let sides = [picture.width, picture.height];
                for _ in 0..changes {
                    augment::of_magnitude(magnitude, sides, rng).apply(&mut picture);
                }
                Cow::Owned(picture)
            }
            Step::Erase { chance, area, ratio, ref fill } => {
                if !rng.chance(chance) || fill.len() != picture.channels {
                    return Ok(picture);
                }
                let mut picture = picture.into_owned();
                augment::erase(&mut picture, area, ratio, fill, rng);
                Cow::Owned(picture)
            }
            Step::Channels { .. } | Step::Normalise { .. } => picture,
        })
    }
}

/// No side or border may be larger; far above what networks take.
const LARGEST: usize = 8192;
/// Far more than any recipe has.
const MOST_STEPS: usize = 64;

/// Without a copy where there is nothing to do.
fn resized<'a>(
    picture: Cow<'a, Picture>,
    width: usize,
    height: usize,
    filter: Filter,
) -> Result<Cow<'a, Picture>> {
    if (picture.width, picture.height) == (width, height) {
        return Ok(picture);
    }
    Ok(Cow::Owned(picture.resized(width, height, filter)?))
}

/// torchvision's rule: the longer side is cut, not rounded.
fn shorter_side(width: usize, height: usize, size: usize) -> (usize, usize) {
    let (short, long) = (width.min(height), width.max(height));
    let longer = (size as f64 * long as f64 / short as f64) as usize;
    if width <= height { (size, longer) } else { (longer, size) }
}

fn centre_crop(picture: Cow<Picture>, size: usize) -> Cow<Picture> {
    let (width, height) = (picture.width, picture.height);
    if (width, height) == (size, size) {
        return picture;
    }
    // Python's round: halves go to the even number.
    let middle = |side: usize| (side.saturating_sub(size) as f64 / 2.0).round_ties_even() as usize;
    let part = picture.crop(middle(width), middle(height), width.min(size), height.min(size));
    // Borders come last: those of a long thin image would be larger than what is made.
    let (across, down) = (size - part.width, size - part.height);
    Cow::Owned(match across + down {
        0 => part,
        _ => part.padded(across / 2, down / 2, across.div_ceil(2), down.div_ceil(2)),
    })
}

/// The image with black borders of this width.
fn padded(picture: &Picture, border: usize) -> Result<Picture> {
    let (width, height) = (picture.width + 2 * border, picture.height + 2 * border);
    if width.checked_mul(height).is_none_or(|pixels| pixels > MOST_PIXELS) {
        return Err(Error::Setting(format!(
            "an image of {}x{} with borders of {border}: more than {MOST_PIXELS} pixels",
            picture.width, picture.height
        )));
    }
    Ok(picture.padded(border, border, border, border))
}

/// Why the steps would take memory or time without end whatever the image, if they would.
fn excess(steps: &[Step]) -> Option<String> {
    if steps.len() > MOST_STEPS {
        return Some(format!("{} steps; at most {MOST_STEPS} are taken", steps.len()));
    }
    // The shorter side is at least so long.
    let mut side = 1;
    for step in steps {
        let (within, after) = match *step {
            Step::Resize { size, .. }
            | Step::ResizeExact { size, .. }
            | Step::CentreCrop { size }
            | Step::RandomResizedCrop { size, .. } => (size, size),
            Step::Pad { border } => (side + 2 * border, side + 2 * border),
            Step::RandomCrop { size, padding } => (side + 2 * padding, size),
            _ => (side, side),
        };
        if within * within > MOST_PIXELS {
            return Some(format!(
                "{step} makes images of {within}x{within} and more; at most {MOST_PIXELS} pixels \
                 are made"
            ));
        }
        side = after;
    }
    None
}

/// Left, top, width and height of torchvision's random resized crop: ten tries, then the middle.
fn random_part(picture: &Picture, scale: [f64; 2], ratio: [f64; 2], rng: &mut Rng) -> [usize; 4] {
    let (width, height) = (picture.width, picture.height);
    let area = (width * height) as f64;
    for _ in 0..10 {
        let target = area * rng.range(scale[0], scale[1]);
        let aspect = rng.range(ratio[0].ln(), ratio[1].ln()).exp();
        let w = (target * aspect).sqrt().round_ties_even() as usize;
        let h = (target / aspect).sqrt().round_ties_even() as usize;
        if (1..=width).contains(&w) && (1..=height).contains(&h) {
            let top = rng.below(height - h + 1);
            let left = rng.below(width - w + 1);
            return [left, top, w, h];
        }
    }
    let proportion = width as f64 / height as f64;
    let near = |value: f64, most: usize| (value.round_ties_even() as usize).clamp(1, most);
    let (w, h) = if proportion < ratio[0] {
        (width, near(width as f64 / ratio[0], height))
    } else if proportion > ratio[1] {
        (near(height as f64 * ratio[1], width), height)
    } else {
        (width, height)
    };
    [(width - w) / 2, (height - h) / 2, w, h]
}

fn random_crop<'a>(
    picture: Cow<'a, Picture>,
    size: usize,
    padding: usize,
    rng: &mut Rng,
) -> Result<Cow<'a, Picture>> {
    let picture = match padding {
        0 => picture,
        _ => Cow::Owned(padded(&picture, padding)?),
    };
    if picture.width < size || picture.height < size {
        return Err(Error::Setting(format!(
            "random-crop {size}: the picture is {}x{} with its padding; resize it first",
            picture.width, picture.height
        )));
    }
    let top = rng.below(picture.height - size + 1);
    let left = rng.below(picture.width - size + 1);
    Ok(Cow::Owned(picture.crop(left, top, size, size)))
}

/// Brightness, contrast and saturation, each by at most its entry of `most`, in random order.
fn jitter(picture: &mut Picture, most: [f64; 3], rng: &mut Rng) {
    let mut order = [0, 1, 2];
    rng.shuffle(&mut order);
    let factors = most.map(|x| rng.range(1.0 - x, 1.0 + x) as f32);
    for kind in order {
        let factor = factors[kind];
        match kind {
            _ if most[kind] == 0.0 => {}
            0 => tones::brightness(picture, factor),
            1 => tones::contrast(picture, factor),
            _ => tones::saturate(picture, factor),
        }
    }
}

/// HWC samples to normalised CHW floats.
fn normalise(picture: &Picture, mean: &[f32], std: &[f32], out: &mut [f32]) {
    let plane = picture.width * picture.height;
    for (channel, plane) in out.chunks_exact_mut(plane).enumerate() {
        let (mean, std) = (mean[channel], std[channel]);
        let table: [f32; 256] = std::array::from_fn(|sample| (sample as f32 / 255.0 - mean) / std);
        let samples = picture.pixels.iter().skip(channel).step_by(picture.channels);
        plane.iter_mut().zip(samples).for_each(|(to, &from)| *to = table[usize::from(from)]);
    }
}

/// The steps from a decoded picture to a network's input.
///
/// Every pipeline fixes the size of what comes out: it has a crop or an exact resize, and its last
/// step normalises.
///
/// ```
/// use convzoo::data::{DataKind, Picture, Pipeline};
/// use convzoo::rng::Rng;
/// # fn main() -> convzoo::Result<()> {
/// let pipeline = Pipeline::eval(DataKind::Photographs, 96, 3, &[0.485, 0.456, 0.406], &[0.229, 0.224, 0.225])?;
/// assert_eq!(pipeline.to_string(), "resize 110 > centre-crop 96 > rgb > normalise");
/// let picture = Picture::new(200, 150, 3, vec![128; 200 * 150 * 3])?;
/// let mut input = vec![0.0; 3 * 96 * 96];
/// pipeline.apply(&picture, &mut Rng::new(1), &mut input)?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Vec<Step>", into = "Vec<Step>")]
pub struct Pipeline {
    steps: Vec<Step>,
    /// Channels and side of what comes out.
    channels: usize,
    size: usize,
}

impl TryFrom<Vec<Step>> for Pipeline {
    type Error = Error;

    fn try_from(steps: Vec<Step>) -> Result<Self> {
        Pipeline::new(steps)
    }
}

impl From<Pipeline> for Vec<Step> {
    fn from(pipeline: Pipeline) -> Self {
        pipeline.steps
    }
}

impl Pipeline {
    /// A pipeline of these steps.
    ///
    /// # Errors
    /// A step's numbers make no sense, the size that comes out is not fixed, or `Normalise` is not
    /// the last step and the only one of its kind; more than 64 steps, or a step that makes more than
    /// 67,108,864 pixels (8192 x 8192).
    pub fn new(steps: Vec<Step>) -> Result<Self> {
        let complain =
            |why: &str| Error::Setting(format!("pipeline \"{}\": {why}", line_of(&steps)));
        if let Some(flaw) = steps.iter().find_map(Step::flaw) {
            return Err(complain(flaw));
        }
        if let Some(excess) = excess(&steps) {
            return Err(Error::Setting(format!("pipeline of {} steps: {excess}", steps.len())));
        }
        let Some((Step::Normalise { mean, .. }, before)) = steps.split_last() else {
            return Err(complain("its last step must be normalise"));
        };
        if before.iter().any(|step| matches!(step, Step::Normalise { .. })) {
            return Err(complain("only its last step may be normalise"));
        }
        let channels = before.iter().rev().find_map(|step| match step {
            Step::Channels { channels } => Some(*channels),
            _ => None,
        });
        if channels != Some(mean.len()) {
            return Err(complain("it needs a channels step that agrees with normalise"));
        }
        let size = before.iter().fold(None, |size, step| match step {
            Step::Resize { .. } => None,
            Step::ResizeExact { size, .. }
            | Step::CentreCrop { size }
            | Step::RandomResizedCrop { size, .. }
            | Step::RandomCrop { size, .. } => Some(*size),
            Step::Pad { border } => size.map(|size| size + 2 * border),
            _ => size,
        });
        let Some(size) = size else {
            return Err(complain("it needs a crop or an exact resize, to fix the size"));
        };
        let channels = mean.len();
        let fits =
            |step: &Step| !matches!(step, Step::Erase { fill, .. } if fill.len() != channels);
        if !steps.iter().all(fits) {
            return Err(complain("the colour to erase with has another number of channels"));
        }
        Ok(Pipeline { steps, channels, size })
    }

    /// What training does to pictures of this kind, for a network that takes `channels` x `size` x
    /// `size`.
    ///
    /// Photographs and drawings: the shorter side to 4/3 of `size`, a random resized crop of 35 to
    /// 100 % of the area, a flip in half of the cases, colour jitter of 0.2. Digits: resized to
    /// `size` (but to 28 with black borders for even sizes of 28 to 36), no randomness. Tiny
    /// photographs: shifted by up to an eighth, 4 pixels of 32, and a flip in half of the cases (He et
    /// al., 2016, section 4.2).
    ///
    /// `mean` and `std` are the data set's, and are converted where its channels are not the
    /// network's.
    ///
    /// # Errors
    /// A size or number of channels out of range.
    pub fn train(
        kind: DataKind,
        size: usize,
        channels: usize,
        mean: &[f32],
        std: &[f32],
    ) -> Result<Self> {
        if kind == DataKind::Digits {
            return Pipeline::eval(kind, size, channels, mean, std);
        }
        let filter = Filter::Bilinear;
        if kind == DataKind::TinyPhotographs {
            let mut steps = vec![
                Step::ResizeExact { size, filter },
                Step::RandomCrop { size, padding: size / 8 },
                Step::Flip { chance: 0.5 },
            ];
            steps.extend(finish(channels, mean, std)?);
            return Pipeline::new(steps);
        }
        let mut steps = vec![
            Step::Resize { size: scaled(size, 4.0 / 3.0), filter },
            Step::RandomResizedCrop { size, scale: [0.35, 1.0], ratio: [0.75, 4.0 / 3.0], filter },
            Step::Flip { chance: 0.5 },
            Step::ColourJitter { brightness: 0.2, contrast: 0.2, saturation: 0.2 },
        ];
        steps.extend(finish(channels, mean, std)?);
        Pipeline::new(steps)
    }

    /// What evaluation and prediction do: for photographs and drawings the shorter side to 8/7 of
    /// `size` (256 for 224) and the middle, for digits the same as [`Pipeline::train`], for tiny
    /// photographs the whole.
    ///
    /// # Errors
    /// A size or number of channels out of range.
    pub fn eval(
        kind: DataKind,
        size: usize,
        channels: usize,
        mean: &[f32],
        std: &[f32],
    ) -> Result<Self> {
        let filter = Filter::Bilinear;
        let mut steps = match kind {
            DataKind::Digits if (28..=36).contains(&size) && size.is_multiple_of(2) => {
                vec![Step::ResizeExact { size: 28, filter }, Step::Pad { border: (size - 28) / 2 }]
            }
            DataKind::Digits | DataKind::TinyPhotographs => {
                vec![Step::ResizeExact { size, filter }]
            }
            _ => vec![
                Step::Resize { size: scaled(size, 8.0 / 7.0), filter },
                Step::CentreCrop { size },
            ],
        };
        steps.retain(|step| *step != Step::Pad { border: 0 });
        steps.extend(finish(channels, mean, std)?);
        Pipeline::new(steps)
    }

    /// The same pipeline with pictures shifted at random, by up to `most` pixels in each direction,
    /// before they are normalised; black moves in. It suits digits.
    ///
    /// # Errors
    /// A shift beyond 8192 pixels.
    pub fn with_shift(self, most: usize) -> Result<Self> {
        let size = self.size;
        let mut steps = self.steps;
        steps.insert(steps.len() - 1, Step::RandomCrop { size, padding: most });
        Pipeline::new(steps)
    }

    /// The same pipeline with stronger changes of the pictures: those of `changes`, in the place of
    /// colour jitter, or before the channels are made.
    ///
    /// # Errors
    /// A step that makes no sense there.
    pub fn with_changes(self, changes: Step) -> Result<Self> {
        let mut steps = self.steps;
        steps.retain(|step| !matches!(step, Step::ColourJitter { .. }));
        let at = steps.iter().rposition(|step| matches!(step, Step::Channels { .. }));
        steps.insert(at.unwrap_or(0), changes);
        Pipeline::new(steps)
    }

    /// The same pipeline with a random rectangle erased, with this probability, before pictures are
    /// normalised: torchvision's `RandomErasing`, filled with the mean.
    ///
    /// # Errors
    /// A probability that is none.
    pub fn with_erasing(self, chance: f64) -> Result<Self> {
        let mut steps = self.steps;
        let Some(Step::Normalise { mean, .. }) = steps.last() else { return Pipeline::new(steps) };
        let fill = mean.iter().map(|mean| (255.0 * mean).round() as u8).collect();
        let erase = Step::Erase { chance, area: [0.02, 0.33], ratio: [0.3, 3.3], fill };
        steps.insert(steps.len() - 1, erase);
        Pipeline::new(steps)
    }

    /// The same pipeline with the mean and deviation of `other`, where that has as many channels.
    ///
    /// # Errors
    /// Never: both were checked.
    pub fn normalised_like(self, other: &Pipeline) -> Result<Self> {
        let mut steps = self.steps;
        if let (true, Some(last)) = (self.channels == other.channels, other.steps.last()) {
            steps.pop();
            steps.push(last.clone());
        }
        Pipeline::new(steps)
    }

    /// The same pipeline with images inverted, before anything else: a black border that a later step
    /// adds stays black. For digits drawn black on white and a network trained on white on black.
    ///
    /// # Errors
    /// Those of [`Pipeline::new`].
    pub fn inverted(&self) -> Result<Self> {
        Pipeline::new([&[Step::Invert], self.steps()].concat())
    }

    /// Its steps with the mean and standard deviation of the last, in a line.
    pub fn in_full(&self) -> String {
        let list = |values: &[f32]| {
            let values: Vec<String> = values.iter().map(|value| format!("{value:.4}")).collect();
            values.join(",")
        };
        match self.steps.last() {
            Some(Step::Normalise { mean, std }) => {
                format!("{self} (mean {}, deviation {})", list(mean), list(std))
            }
            _ => self.to_string(),
        }
    }

    /// Whether images are inverted on their way.
    pub(crate) fn inverts(&self) -> bool {
        self.steps.iter().filter(|step| **step == Step::Invert).count() % 2 == 1
    }

    /// The mean of each channel that is taken off at the end, of samples from 0 to 1.
    pub(crate) fn mean(&self) -> &[f32] {
        match self.steps.last() {
            Some(Step::Normalise { mean, .. }) => mean,
            _ => &[],
        }
    }

    /// The steps, in order.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// Channels, height and width of what comes out.
    pub fn output(&self) -> [usize; 3] {
        [self.channels, self.size, self.size]
    }

    /// Turns `picture` into a network's input: `out` has room for channels x height x width.
    ///
    /// # Errors
    /// `out` has another length, or the picture does not suit a step.
    pub fn apply(&self, picture: &Picture, rng: &mut Rng, out: &mut [f32]) -> Result<()> {
        self.apply_from(0, picture, rng, out)
    }

    /// How many leading steps do the same in every epoch; their result can be kept.
    pub(crate) fn fixed_steps(&self) -> usize {
        let last = self.steps.len() - 1;
        self.steps[..last].iter().take_while(|step| step.is_fixed()).count()
    }

    /// The picture after the steps before the first random one, in 8 bits. Of an evaluation pipeline
    /// that is what the network sees, before it is normalised.
    ///
    /// # Errors
    /// Where a picture cannot be resized.
    pub fn before_normalising(&self, picture: &Picture) -> Result<Picture> {
        self.apply_fixed(self.fixed_steps(), picture)
    }

    /// The picture after the first `count` steps, which must be fixed ones.
    pub(crate) fn apply_fixed(&self, count: usize, picture: &Picture) -> Result<Picture> {
        // Fixed steps draw no numbers.
        let mut unused = Rng::new(0);
        let done = self.steps[..count]
            .iter()
            .try_fold(Cow::Borrowed(picture), |picture, step| step.apply(picture, &mut unused))?;
        Ok(done.into_owned())
    }

    /// The rest of the work on a picture that has been through the first `done` steps.
    pub(crate) fn apply_from(
        &self,
        done: usize,
        picture: &Picture,
        rng: &mut Rng,
        out: &mut [f32],
    ) -> Result<()> {
        let picture = self.steps[done..]
            .iter()
            .try_fold(Cow::Borrowed(picture), |picture, step| step.apply(picture, rng))?;
        let Some(Step::Normalise { mean, std }) = self.steps.last() else {
            return Err(Error::Setting("a pipeline's last step must be normalise".into()));
        };
        if out.len() != picture.pixels.len() || picture.channels != mean.len() {
            return Err(Error::Setting(format!(
                "a pipeline that makes {}x{}x{} floats was given room for {}",
                picture.channels,
                picture.height,
                picture.width,
                out.len()
            )));
        }
        normalise(&picture, mean, std, out);
        Ok(())
    }
}

fn scaled(size: usize, factor: f64) -> usize {
    (size as f64 * factor).round() as usize
}

/// The last two steps, with the mean and deviation of a data set made to fit `channels`.
fn finish(channels: usize, mean: &[f32], std: &[f32]) -> Result<[Step; 2]> {
    let fit = |values: &[f32]| match (values, channels) {
        (&[one], 3) => vec![one; 3],
        (&[r, g, b], 1) => vec![0.299 * r + 0.587 * g + 0.114 * b],
        _ => values.to_vec(),
    };
    if !matches!(channels, 1 | 3) {
        return Err(Error::Setting(format!(
            "pictures with {channels} channels; networks take 1 (grey) or 3 (colour)"
        )));
    }
    Ok([Step::Channels { channels }, Step::Normalise { mean: fit(mean), std: fit(std) }])
}

fn line_of(steps: &[Step]) -> String {
    let parts: Vec<String> = steps.iter().map(Step::to_string).collect();
    parts.join(" > ")
}

impl fmt::Display for Pipeline {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(&line_of(&self.steps))
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let cubic = |filter: &Filter| if *filter == Filter::Bicubic { " bicubic" } else { "" };
        match self {
            Step::Channels { channels: 1 } => write!(f, "grey"),
            Step::Channels { .. } => write!(f, "rgb"),
            Step::Resize { size, filter } => write!(f, "resize {size}{}", cubic(filter)),
            Step::ResizeExact { size, filter } => {
                write!(f, "resize {size}x{size}{}", cubic(filter))
            }
            Step::CentreCrop { size } => write!(f, "centre-crop {size}"),
            Step::Invert => write!(f, "invert"),
            Step::Pad { border } => write!(f, "pad {border}"),
            Step::RandomResizedCrop { size, scale: [low, high], filter, .. } => {
                write!(f, "random-resized-crop {size} ({low}-{high}){}", cubic(filter))
            }
            Step::RandomCrop { size, padding } => {
                write!(f, "random-crop {size} (padding {padding})")
            }
            Step::Flip { chance } if *chance == 0.5 => write!(f, "flip"),
            Step::Flip { chance } => write!(f, "flip {chance}"),
            Step::ColourJitter { brightness, contrast, saturation }
                if brightness == contrast && contrast == saturation =>
            {
                write!(f, "colour-jitter {brightness}")
            }
            Step::ColourJitter { brightness, contrast, saturation } => {
                write!(f, "colour-jitter {brightness}/{contrast}/{saturation}")
            }
            Step::TrivialAugment => write!(f, "trivial-augment"),
            Step::RandAugment { changes, magnitude } => {
                write!(f, "rand-augment {changes} of {magnitude}")
            }
            Step::Erase { chance, .. } => write!(f, "erase {chance}"),
            Step::Normalise { .. } => write!(f, "normalise"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flat(width: usize, height: usize) -> Picture {
        Picture::new(width, height, 3, vec![100; width * height * 3]).unwrap()
    }

    #[test]
    fn the_longer_side_is_cut_not_rounded() {
        assert_eq!(shorter_side(113, 75, 64), (96, 64));
        assert_eq!(shorter_side(75, 113, 64), (64, 96));
        assert_eq!(shorter_side(200, 200, 96), (96, 96));
        assert_eq!(shorter_side(3, 5, 2), (2, 3));
    }

    #[test]
    fn the_centre_of_odd_sizes_follows_python_rounding() {
        let pixels = (0..7 * 4).collect();
        let picture = Picture::new(7, 4, 1, pixels).unwrap();
        // (7 - 4) / 2 = 1.5 goes to 2, (7 - 2) / 2 = 2.5 to 2.
        let crop = |size| centre_crop(Cow::Borrowed(&picture), size).into_owned();
        assert_eq!(crop(4).pixels[..4], [2, 3, 4, 5]);
        assert_eq!(crop(2).pixels, [9, 10, 16, 17]);
        // Smaller than the crop: two rows more, above and below.
        let larger = crop(6);
        assert_eq!(larger.pixels[..6], [0; 6]);
        assert_eq!(larger.pixels[6..12], [0, 1, 2, 3, 4, 5]);
    }

    #[test]
    fn a_pipeline_takes_no_more_memory_than_is_said() {
        let last = |steps: &[Step]| {
            let rgb = Step::Channels { channels: 3 };
            let normalise = Step::Normalise { mean: vec![0.0; 3], std: vec![1.0; 3] };
            let json = serde_json::to_string(&[steps, &[rgb, normalise]].concat()).unwrap();
            serde_json::from_str::<Pipeline>(&json)
        };
        let pad = |border| Step::Pad { border };
        let crop = Step::CentreCrop { size: 28 };
        let filter = Filter::Bilinear;
        let huge = Step::ResizeExact { size: 8192, filter };
        let shift = |padding| Step::RandomCrop { size: 28, padding };
        for (steps, why) in [
            (
                [&vec![pad(8192); 12][..], std::slice::from_ref(&crop)].concat(),
                "at most 67108864 pixels",
            ),
            (vec![crop.clone(), pad(4096), crop.clone()], "pad 4096 makes images of 8220x8220"),
            (vec![huge.clone(), shift(1), crop.clone()], "makes images of 8194x8194"),
            (vec![Step::Resize { size: 8192, filter }, pad(1), crop.clone()], "8194x8194"),
            (vec![Step::Flip { chance: 0.5 }; 1000], "1002 steps; at most 64 are taken"),
        ] {
            let error = last(&steps).unwrap_err().to_string();
            assert!(error.contains(why) && error.len() < 300, "{error}");
        }
        assert!(last(&[huge]).is_ok());

        // What depends on the image is held against the same limit when there is one.
        let long = Picture::new(1, 30_000, 1, vec![7; 30_000]).unwrap();
        let apply = |steps: &[Step], side: usize| {
            let mut out = vec![0.0; 3 * side * side];
            last(steps).unwrap().apply(&long, &mut Rng::new(1), &mut out).map(|()| out)
        };
        for steps in [[pad(3000), crop.clone()], [shift(3000), crop.clone()]] {
            let error = apply(&steps, 28).unwrap_err().to_string();
            assert!(error.contains("with borders of 3000: more than"), "{error}");
        }
        let error = apply(&[Step::Resize { size: 64, filter }, crop.clone()], 28).unwrap_err();
        assert!(error.to_string().contains("to 64x1920000: more than"), "{error}");
        let wide = Step::ResizeExact { size: 4096, filter };
        let error = apply(&[wide, crop], 28).unwrap_err().to_string();
        assert!(error.contains("4096x30000 pixels on the way"), "{error}");
        // Only the middle of it is given borders.
        let middle = apply(&[Step::CentreCrop { size: 2048 }], 2048).unwrap();
        assert_eq!(middle.iter().filter(|&&x| x > 0.0).count(), 3 * 2048);
    }

    #[test]
    fn random_parts_keep_to_area_and_proportions() {
        let (picture, mut rng) = (flat(170, 128), Rng::new(1));
        let mut share_seen = [f64::INFINITY, 0.0];
        for _ in 0..2000 {
            let [left, top, w, h] = random_part(&picture, [0.35, 1.0], [0.75, 4.0 / 3.0], &mut rng);
            assert!(left + w <= 170 && top + h <= 128);
            let (share, ratio) = ((w * h) as f64 / (170.0 * 128.0), w as f64 / h as f64);
            assert!(share > 0.34 && (0.73..1.36).contains(&ratio), "{share} {ratio}");
            share_seen = [share_seen[0].min(share), share_seen[1].max(share)];
        }
        assert!(share_seen[0] < 0.38 && share_seen[1] > 0.95, "{share_seen:?}");
    }

    #[test]
    fn pictures_without_such_a_part_give_their_middle() {
        let mut rng = Rng::new(1);
        let mut part = |w, h| random_part(&flat(w, h), [0.35, 1.0], [0.75, 4.0 / 3.0], &mut rng);
        assert_eq!(part(300, 10), [143, 0, 13, 10]);
        assert_eq!(part(10, 300), [0, 143, 10, 13]);
        assert_eq!(part(1, 1), [0, 0, 1, 1]);
    }

    #[test]
    fn jitter_of_nothing_changes_nothing() {
        let start = Picture::new(2, 1, 3, vec![200, 100, 50, 10, 20, 30]).unwrap();
        let mut picture = start.clone();
        jitter(&mut picture, [0.0; 3], &mut Rng::new(1));
        assert_eq!(picture, start);
    }

    #[test]
    fn leading_fixed_steps_are_those_before_the_first_random_one() {
        let kind = super::DataKind::Photographs;
        let train = Pipeline::train(kind, 96, 3, &[0.5; 3], &[0.5; 3]).unwrap();
        let eval = Pipeline::eval(kind, 96, 3, &[0.5; 3], &[0.5; 3]).unwrap();
        assert_eq!((train.fixed_steps(), eval.fixed_steps()), (1, 3));
    }

    #[test]
    fn statistics_follow_the_channels() {
        let [_, normalise] = finish(3, &[0.1307], &[0.3081]).unwrap();
        assert_eq!(normalise, Step::Normalise { mean: vec![0.1307; 3], std: vec![0.3081; 3] });
        let [_, normalise] = finish(1, &[0.5; 3], &[0.25; 3]).unwrap();
        let Step::Normalise { mean, std } = normalise else { panic!("{normalise}") };
        assert!((mean[0] - 0.5).abs() < 1e-6 && (std[0] - 0.25).abs() < 1e-6);
    }
}
