//! Filters made by hand: what a convolution can do before anything is learned.

use candle_core::{Device, Tensor};

use super::{Colours, Heat, values};
use crate::data::Picture;
use crate::ops::{Conv2dParams, conv2d};
use crate::{Error, Result};

/// A 3x3 filter with a name.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Kernel {
    /// What it finds or does.
    pub name: &'static str,
    /// Row by row.
    pub weights: [f32; 9],
    /// Whether what it finds may be below 0, as an edge may be from dark to light or from light to dark.
    pub signed: bool,
}

/// The filters that every course begins with.
pub const HAND_MADE: [Kernel; 6] = [
    Kernel { name: "identity", weights: [0., 0., 0., 0., 1., 0., 0., 0., 0.], signed: false },
    Kernel {
        name: "vertical edge",
        weights: [-1., 0., 1., -2., 0., 2., -1., 0., 1.],
        signed: true,
    },
    Kernel {
        name: "horizontal edge",
        weights: [-1., -2., -1., 0., 0., 0., 1., 2., 1.],
        signed: true,
    },
    Kernel { name: "any edge", weights: [0., 1., 0., 1., -4., 1., 0., 1., 0.], signed: true },
    Kernel { name: "blur", weights: BLUR, signed: false },
    Kernel { name: "sharpen", weights: [0., -1., 0., -1., 5., -1., 0., -1., 0.], signed: false },
];

/// A small Gaussian: 1 2 1 downwards times 1 2 1 to the right, over 16.
const BLUR: [f32; 9] = [0.0625, 0.125, 0.0625, 0.125, 0.25, 0.125, 0.0625, 0.125, 0.0625];

impl Kernel {
    /// The convolution of a picture's grey values, 0 to 255, without padding: two rows and two columns
    /// fewer. It is [`conv2d()`], the op that the networks are made of.
    ///
    /// # Errors
    /// A picture of less than 3x3 pixels.
    pub fn apply(&self, picture: &Picture) -> Result<Heat> {
        let (w, h) = (picture.width, picture.height);
        if w.min(h) < 3 {
            return Err(Error::Setting(format!("{w}x{h} pixels; at least 3x3 are needed")));
        }
        let grey = picture.with_channels(1);
        let pixels: Vec<f32> = grey.pixels.iter().map(|&p| f32::from(p)).collect();
        let x = Tensor::from_vec(pixels, (1, 1, grey.height, grey.width), &Device::Cpu)?;
        let weight = Tensor::from_slice(&self.weights, (1, 1, 3, 3), &Device::Cpu)?;
        let y = conv2d(&x, &weight, None, &Conv2dParams::default())?;
        let (_, _, h, w) = y.dims4()?;
        Heat::new(h, w, values(&y)?)
    }

    /// [`Kernel::apply`] as a picture: grey, or blue and red where values have a sign.
    ///
    /// # Errors
    /// A picture of less than 3x3 pixels.
    pub fn picture(&self, picture: &Picture) -> Result<Picture> {
        let heat = self.apply(picture)?;
        if self.signed {
            return Ok(heat.picture(Colours::Signed));
        }
        let pixels = heat.values.iter().map(|v| v.clamp(0.0, 255.0).round() as u8).collect();
        Picture::new(heat.width, heat.height, 1, pixels)
    }
}
