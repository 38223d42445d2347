//! A loss made larger, so that f16 does not round its gradients to 0.

use serde::{Deserialize, Serialize};

use crate::nn::Precision;

/// The factor of the loss in an f16 run (Micikevicius et al., 2018, section 3.2), moved as
/// `torch.amp.GradScaler` does: it begins at 65536, is halved by a step whose gradients are not finite,
/// which is left out, and doubled after 2000 others. Gradients are divided by it before they are used.
///
/// Unlike there, it does not fall below 1: gradients that are not finite then are no matter of scale. And
/// where several batches make a step, each is looked at, counted and left out by itself.
/// bf16 has the range of f32 and needs none.
///
/// ```
/// use convzoo::train::LossScale;
///
/// let mut scale = LossScale::default();
/// assert!(scale.overflowed());
/// assert_eq!((scale.factor(), scale.left_out()), (32768.0, 1));
/// (0..LossScale::GROWTH_STEPS).for_each(|_| scale.fitted());
/// assert_eq!(scale.factor(), 65536.0);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LossScale {
    factor: f64,
    /// Steps with finite gradients since it last changed.
    good_steps: u32,
    left_out: u64,
}

impl Default for LossScale {
    /// As a run begins.
    fn default() -> Self {
        LossScale { factor: 65536.0, good_steps: 0, left_out: 0 }
    }
}

impl LossScale {
    /// Steps with finite gradients after which it is doubled.
    pub const GROWTH_STEPS: u32 = 2000;

    /// That of a new run, where its precision needs one.
    pub(super) fn of(precision: Precision) -> Option<Self> {
        (precision == Precision::F16).then(LossScale::default)
    }

    /// What the loss is multiplied by; a power of two, so that dividing by it changes no digit.
    pub fn factor(&self) -> f64 {
        self.factor
    }

    /// Steps that were left out in all.
    pub fn left_out(&self) -> u64 {
        self.left_out
    }

    /// After a step whose gradients were finite.
    pub fn fitted(&mut self) {
        self.good_steps += 1;
        if self.good_steps >= Self::GROWTH_STEPS {
            (self.factor, self.good_steps) = (self.factor * 2.0, 0);
        }
    }

    /// After a step whose gradients were not, which is to be left out; false where the scale is as low
    /// as it gets, and not to blame.
    pub fn overflowed(&mut self) -> bool {
        if self.factor <= 1.0 {
            return false;
        }
        (self.factor, self.good_steps) = (self.factor / 2.0, 0);
        self.left_out += 1;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_halves_at_once_and_doubles_after_many_good_steps() {
        let mut scale = LossScale::default();
        (0..1999).for_each(|_| scale.fitted());
        assert_eq!(scale.factor(), 65536.0);
        // A bad step begins the count anew.
        assert!(scale.overflowed() && scale.overflowed());
        assert_eq!(scale.factor(), 16384.0);
        (0..1999).for_each(|_| scale.fitted());
        assert_eq!(scale.factor(), 16384.0);
        scale.fitted();
        assert_eq!((scale.factor(), scale.left_out()), (32768.0, 2));
    }

    #[test]
    fn it_ends_at_one() {
        let mut scale = LossScale::default();
        let halved = (0..100).take_while(|_| scale.overflowed()).count();
        assert_eq!((halved, scale.factor(), scale.left_out()), (16, 1.0, 16));
    }

    #[test]
    fn its_state_survives_json() {
        let mut scale = LossScale::default();
        scale.overflowed();
        scale.fitted();
        let text = serde_json::to_string(&scale).unwrap();
        assert_eq!(serde_json::from_str::<LossScale>(&text).unwrap(), scale);
    }
}
