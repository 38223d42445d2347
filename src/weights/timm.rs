//! What timm says about its weights, in `config.json` beside them.

use std::io::ErrorKind;
use std::path::Path;

use serde::Deserialize;

use crate::data::{Filter, Pipeline, Step};
use crate::files::regular;
use crate::{Error, Result};

/// Most bytes of such a file; they have a thousand.
const MOST: u64 = 1 << 20;

/// As much of the file as is needed here.
#[derive(Deserialize)]
pub(super) struct TimmConfig {
    /// timm's name of the network, mostly torchvision's too.
    pub(super) architecture: String,
    pretrained_cfg: Transform,
}

#[derive(Deserialize)]
struct Transform {
    input_size: [usize; 3],
    mean: Vec<f32>,
    std: Vec<f32>,
    crop_pct: f64,
    interpolation: String,
}

impl TimmConfig {
    /// The `config.json` in the folder of `weights`, if it is one of timm's.
    ///
    /// # Errors
    /// Names the file if it is one of timm's, and what of it cannot be used; or cannot be read.
    pub(super) fn beside(weights: &Path) -> Result<Option<Self>> {
        let path = weights.with_file_name("config.json");
        let bytes = match regular::read_up_to(&path, MOST) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::file(path, error)),
        };
        // A run's folder has one too, of other settings.
        let Ok(json) = serde_json::from_slice::<serde_json::Value>(&bytes) else { return Ok(None) };
        if json.get("pretrained_cfg").is_none() {
            return Ok(None);
        }
        let config: Self = serde_json::from_value(json).map_err(|error| {
            Error::file(&path, format!("timm's settings cannot be understood: {error}"))
        })?;
        let share = config.pretrained_cfg.crop_pct;
        match share > 0.0 && share <= 1.0 {
            true => Ok(Some(config)),
            false => Err(Error::file(
                path,
                format!("crop_pct is {share}; a share of an image is needed"),
            )),
        }
    }

    /// Channels, height and width of the input.
    pub(super) fn input(&self) -> (usize, usize, usize) {
        self.pretrained_cfg.input_size.into()
    }

    /// What a picture goes through before the network sees it.
    ///
    /// # Errors
    /// Numbers that make no sense.
    pub(super) fn preprocessing(&self) -> Result<Pipeline> {
        let Transform { input_size, mean, std, crop_pct, interpolation } = &self.pretrained_cfg;
        let [channels, size, _] = *input_size;
        let filter = match interpolation.as_str() {
            "bicubic" => Filter::Bicubic,
            _ => Filter::Bilinear,
        };
        Pipeline::new(vec![
            Step::Resize { size: (size as f64 / crop_pct).floor() as usize, filter },
            Step::CentreCrop { size },
            Step::Channels { channels },
            Step::Normalise { mean: mean.clone(), std: std.clone() },
        ])
    }
}
