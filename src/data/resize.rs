//! Resampling with PIL's antialiased filters, in 8 bits.

use std::cell::RefCell;

use fast_image_resize::images::{Image, ImageRef};
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};
use serde::{Deserialize, Serialize};

use super::picture::Picture;
use crate::error::{Error, Result};

/// The filter of a resize; both widen when shrinking, so that nothing aliases.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Filter {
    /// Triangle, two source pixels wide when enlarging.
    #[default]
    Bilinear,
    /// Cubic with a = -0.5, four source pixels wide when enlarging.
    Bicubic,
}

/// A line of pixels whose short side is enlarged would otherwise fill the memory: 8192 x 8192.
pub(super) const MOST_PIXELS: usize = 1 << 26;

thread_local! {
    /// Each thread's resampler keeps its buffers between pictures.
    static RESIZER: RefCell<Resizer> = RefCell::new(Resizer::new());
}

impl Picture {
    /// The picture resampled to `width` x `height`.
    ///
    /// # Errors
    /// A size of 0, or more than 67,108,864 pixels (8192 x 8192), on the way too: rows are resampled
    /// first, all of them.
    pub fn resized(&self, width: usize, height: usize, filter: Filter) -> Result<Picture> {
        if (self.width, self.height) == (width, height) {
            return Ok(self.clone());
        }
        let complain = |cause: &dyn std::fmt::Display| {
            Error::Setting(format!(
                "resize of a {}x{} picture to {width}x{height}: {cause}",
                self.width, self.height
            ))
        };
        if width.checked_mul(height).is_none_or(|pixels| pixels > MOST_PIXELS) {
            return Err(complain(&format!("more than {MOST_PIXELS} pixels")));
        }
        if width.checked_mul(self.height).is_none_or(|pixels| pixels > MOST_PIXELS) {
            let height = self.height;
            return Err(complain(&format!(
                "{width}x{height} pixels on the way; at most {MOST_PIXELS} are made"
            )));
        }
        let mut pixels = vec![0; width * height * self.channels];
        resample(self, width, height, filter, &mut pixels).map_err(|cause| complain(&cause))?;
        Ok(Picture { width, height, channels: self.channels, pixels })
    }
}

fn resample(
    from: &Picture,
    width: usize,
    height: usize,
    filter: Filter,
    to: &mut [u8],
) -> std::result::Result<(), Box<dyn std::error::Error>> {
    if width == 0 || height == 0 {
        return Err("both sides must be at least 1".into());
    }
    let kind = if from.channels == 1 { PixelType::U8 } else { PixelType::U8x3 };
    let source =
        ImageRef::new(from.width.try_into()?, from.height.try_into()?, &from.pixels, kind)?;
    let mut target = Image::from_slice_u8(width.try_into()?, height.try_into()?, to, kind)?;
    let filter = match filter {
        Filter::Bilinear => FilterType::Bilinear,
        Filter::Bicubic => FilterType::CatmullRom,
    };
    let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(filter));
    RESIZER.with_borrow_mut(|resizer| resizer.resize(&source, &mut target, &options))?;
    Ok(())
}
