//! What is inside: the first layer's filters, and what every layer makes of a picture.

use candle_core::Tensor;

use super::{Colours, Heat, one_picture, values};
use crate::data::Picture;
use crate::nn::{Layer, Mode, Network};
use crate::{Error, Result};

/// The maps of one layer, or the filters of one.
#[derive(Clone, Debug, PartialEq)]
pub struct Maps {
    /// The layer's full name.
    pub layer: String,
    /// Maps, or filters.
    pub count: usize,
    /// Values side by side at one place: 1 for maps, the input's channels for filters.
    pub channels: usize,
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
    /// [count, channels, height, width]
    pub values: Vec<f32>,
}

impl Maps {
    /// One channel of a map or filter.
    pub fn plane(&self, index: usize, channel: usize) -> Heat {
        let size = self.height * self.width;
        let start = (index * self.channels + channel) * size;
        let values = self.values[start..start + size].to_vec();
        Heat { height: self.height, width: self.width, values }
    }

    /// A map as a picture, its smallest value black and its largest white; a filter of three channels
    /// in colour, with 0 in the middle.
    pub fn picture(&self, index: usize) -> Picture {
        if self.channels != 3 {
            return self.plane(index, 0).picture(Colours::Grey);
        }
        let size = self.height * self.width;
        let values = &self.values[index * 3 * size..(index + 1) * 3 * size];
        let most = values.iter().fold(0f32, |most, v| most.max(v.abs())).max(f32::MIN_POSITIVE);
        let sample = |i: usize| {
            let v = values[i % 3 * size + i / 3];
            ((v / most + 1.0) * 127.5).round() as u8
        };
        let pixels = (0..3 * size).map(sample).collect();
        Picture { width: self.width, height: self.height, channels: 3, pixels }
    }

    /// The `most` maps that vary most, by number; flat ones tell nothing.
    pub fn liveliest(&self, most: usize) -> Vec<usize> {
        let spread = |i: usize| {
            let plane = self.plane(i, 0).values;
            let mean = plane.iter().sum::<f32>() / plane.len() as f32;
            plane.iter().map(|v| (v - mean) * (v - mean)).sum::<f32>()
        };
        let spreads: Vec<f32> = (0..self.count).map(spread).collect();
        let mut order: Vec<usize> = (0..self.count).collect();
        order.sort_by(|&a, &b| spreads[b].total_cmp(&spreads[a]).then(a.cmp(&b)));
        order.truncate(most);
        order.sort_unstable();
        order
    }
}

/// The filters of the first convolution: with one input channel or three they can be looked at.
///
/// # Errors
/// Where the network has no convolution.
pub fn filters(network: &Network) -> Result<Maps> {
    let mut first = None;
    network.layers().walk("", &mut |path, layer| {
        if first.is_none() && matches!(layer, Layer::Conv2d(_)) {
            first = Some(path.to_owned());
        }
    });
    let layer = first.ok_or_else(|| Error::Setting("the network has no convolution".to_owned()))?;
    let weight = network.params().get(&format!("{layer}.weight"))?.var.as_detached_tensor();
    let (count, channels, height, width) = weight.dims4()?;
    Ok(Maps { layer, count, channels, height, width, values: values(&weight)? })
}

/// What the layers named make of one picture [1, C, H, W], in the order of the forward pass; without
/// names, all layers that have maps.
///
/// # Errors
/// A name that no layer has, or one of a layer without maps; a picture that does not fit.
pub fn feature_maps(network: &Network, input: &Tensor, layers: &[String]) -> Result<Vec<Maps>> {
    let (input, _) = one_picture(network, input)?;
    let (mut found, mut seen) = (Vec::new(), Vec::new());
    let mut failed = None;
    network.forward_watched(&input, Mode::Eval, &mut |path, output| {
        let wanted = match layers.is_empty() {
            true => !path.is_empty(),
            false => layers.iter().any(|layer| layer == path),
        };
        seen.push((path.to_owned(), output.rank()));
        if wanted && output.rank() == 4 {
            match of_layer(path, output) {
                Ok(maps) => found.push(maps),
                Err(error) => failed = Some(error),
            }
        }
    })?;
    if let Some(error) = failed {
        return Err(error);
    }
    for layer in layers {
        match seen.iter().find(|(path, _)| path == layer) {
            None => return Err(network.no_layer(layer)),
            Some((_, 4)) => {}
            Some(_) => {
                let message = format!("layer {layer} has no maps: it is behind the flatten");
                return Err(Error::Setting(message));
            }
        }
    }
    Ok(found)
}

fn of_layer(path: &str, output: &Tensor) -> Result<Maps> {
    let (_, count, height, width) = output.dims4()?;
    let layer = path.to_owned();
    Ok(Maps { layer, count, channels: 1, height, width, values: values(output)? })
}
