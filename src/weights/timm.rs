//! What timm says about its weights, in `config.json` beside them.

use std::path::Path;

use serde::Deserialize;

use crate::Result;
use crate::data::{Filter, Pipeline, Step};

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
    pub(super) fn beside(weights: &Path) -> Option<Self> {
        let text = std::fs::read_to_string(weights.with_file_name("config.json")).ok()?;
        serde_json::from_str(&text).ok()
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
