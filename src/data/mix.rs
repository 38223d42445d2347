//! Pictures of a batch mixed with one another: mixup and CutMix.

use crate::error::{Error, Result};
use crate::rng::Rng;

/// How the pictures of a batch are mixed; 0 is not at all. Where both are asked for, each batch takes
/// one of them, with equal chances.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Mixing {
    /// α of mixup (Zhang et al., 2018, section 2): pictures are averaged, with shares drawn from
    /// Beta(α, α). 0.1 to 0.4 there.
    pub mixup: f64,
    /// α of CutMix (Yun et al., 2019, section 3): a rectangle comes from another picture, its area
    /// drawn from Beta(α, α). 1 there.
    pub cutmix: f64,
}

/// What has been mixed into the pictures of a batch. The loss of a picture is `share` times that for
/// its own label and `1 - share` times that for the other one.
#[derive(Clone, Debug, PartialEq)]
pub struct Mixed {
    /// The class of what has been mixed in, for each picture.
    pub labels: Vec<u32>,
    /// The share of a picture that is its own, from 0 to 1.
    pub share: f64,
}

impl Mixed {
    /// The class that has the larger part in each picture: what counts as right.
    pub fn dominant<'a>(&'a self, own: &'a [u32]) -> &'a [u32] {
        if self.share >= 0.5 { own } else { &self.labels }
    }
}

impl Mixing {
    /// Whether anything is mixed.
    pub fn is_none(&self) -> bool {
        self.mixup == 0.0 && self.cutmix == 0.0
    }

    /// Refuses numbers that make no sense.
    ///
    /// # Errors
    /// Names the setting.
    pub fn check(&self) -> Result<()> {
        for (name, alpha) in [("mixup", self.mixup), ("cutmix", self.cutmix)] {
            if !(0.0..=100.0).contains(&alpha) {
                let message = format!("{name} is {alpha}; it must be from 0 (not at all) to 100");
                return Err(Error::Setting(message));
            }
        }
        Ok(())
    }

    /// Mixes each picture of a batch [N, C, H, W] with the one behind it. A single picture stays as it
    /// is.
    pub(super) fn apply(
        &self,
        values: &mut [f32],
        [channels, height, width]: [usize; 3],
        labels: &[u32],
        rng: &mut Rng,
    ) -> Option<Mixed> {
        if self.is_none() || labels.len() < 2 {
            return None;
        }
        let each = channels * height * width;
        let cut = self.mixup == 0.0 || (self.cutmix > 0.0 && rng.chance(0.5));
        let share = match cut {
            true => {
                let part = rectangle(height, width, rng.beta(self.cutmix), rng);
                each_with_next(values, each, |own, next| paste(own, next, [height, width], part));
                let area = (part[2] * part[3]) as f64;
                1.0 - area / (height * width) as f64
            }
            false => {
                let share = rng.beta(self.mixup);
                let (own_share, rest) = (share as f32, (1.0 - share) as f32);
                each_with_next(values, each, |own, next| {
                    own.iter_mut().zip(next).for_each(|(x, y)| *x = own_share * *x + rest * y);
                });
                share
            }
        };
        let mut labels = labels.to_vec();
        labels.rotate_left(1);
        Some(Mixed { labels, share })
    }
}

/// Calls `mix` with each picture and the one behind it as it was; the first is behind the last.
fn each_with_next(values: &mut [f32], each: usize, mix: impl Fn(&mut [f32], &[f32])) {
    let first = values[..each].to_vec();
    let mut rest = values;
    while rest.len() > each {
        let (own, behind) = rest.split_at_mut(each);
        mix(own, &behind[..each]);
        rest = behind;
    }
    mix(rest, &first);
}

/// Top, left, height and width of a rectangle of `1 - share` of the area about a random centre, cut at
/// the picture's edges.
fn rectangle(height: usize, width: usize, share: f64, rng: &mut Rng) -> [usize; 4] {
    let side = (1.0 - share).sqrt();
    let mut range = |length: usize| {
        let (centre, half) = (rng.below(length), (length as f64 * side) as usize / 2);
        let (from, to) = (centre.saturating_sub(half), length.min(centre + half));
        (from, to - from)
    };
    let ((top, height), (left, width)) = (range(height), range(width));
    [top, left, height, width]
}

fn paste(own: &mut [f32], next: &[f32], [height, width]: [usize; 2], part: [usize; 4]) {
    let [top, left, rows, cols] = part;
    let planes = own.chunks_exact_mut(height * width).zip(next.chunks_exact(height * width));
    for (own, next) in planes {
        for y in top..top + rows {
            let row = y * width + left..y * width + left + cols;
            own[row.clone()].copy_from_slice(&next[row]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZES: [usize; 3] = [2, 8, 6];

    /// Three flat pictures of 0, 1 and 10.
    fn batch() -> Vec<f32> {
        [0.0, 1.0, 10.0].iter().flat_map(|&value| [value; 96]).collect()
    }

    fn mixed(mixing: Mixing, seed: u64) -> (Vec<f32>, Mixed) {
        let mut values = batch();
        let mixed = mixing.apply(&mut values, SIZES, &[5, 6, 7], &mut Rng::new(seed)).unwrap();
        (values, mixed)
    }

    #[test]
    fn mixup_averages_neighbours() {
        let (values, mixed) = mixed(Mixing { mixup: 0.4, cutmix: 0.0 }, 1);
        assert_eq!(mixed.labels, [6, 7, 5]);
        let share = mixed.share as f32;
        for (picture, expected) in
            [1.0 - share, share + 10.0 * (1.0 - share), 10.0 * share].into_iter().enumerate()
        {
            let values = &values[picture * 96..][..96];
            assert!(values.iter().all(|x| (x - expected).abs() < 1e-5), "{values:?} {expected}");
        }
    }

    #[test]
    fn cutmix_takes_the_share_it_says() {
        let mut shares = Vec::new();
        for seed in 0..200 {
            let (values, mixed) = mixed(Mixing { mixup: 0.0, cutmix: 1.0 }, seed);
            let foreign = |picture: usize, own: f32| {
                values[picture * 96..][..96].iter().filter(|x| **x != own).count() as f64 / 96.0
            };
            for (picture, own) in [0.0, 1.0, 10.0].into_iter().enumerate() {
                assert!((foreign(picture, own) - (1.0 - mixed.share)).abs() < 1e-9);
            }
            let dominant = if mixed.share >= 0.5 { [5, 6, 7] } else { [6, 7, 5] };
            assert_eq!(mixed.dominant(&[5, 6, 7]), dominant);
            shares.push(mixed.share);
        }
        assert!(shares.iter().any(|s| *s < 0.6) && shares.iter().any(|s| *s > 0.9));
    }

    #[test]
    fn one_picture_has_nothing_to_be_mixed_with() {
        let mixing = Mixing { mixup: 1.0, cutmix: 1.0 };
        assert_eq!(mixing.apply(&mut [1.0; 96], SIZES, &[1], &mut Rng::new(1)), None);
        assert_eq!(
            Mixing::default().apply(&mut batch(), SIZES, &[1, 2, 3], &mut Rng::new(1)),
            None
        );
        assert!(Mixing { mixup: -1.0, cutmix: 0.0 }.check().is_err());
        assert!(Mixing { mixup: 0.0, cutmix: f64::NAN }.check().is_err());
    }
}
