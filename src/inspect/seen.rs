//! What one unit sees: by arithmetic, and by gradient (Luo, Li, Urtasun and Zemel, "Understanding the
//! Effective Receptive Field in Deep Convolutional Neural Networks", 2016).

use candle_core::{Tensor, Var};

use super::{Heat, last_maps, one_picture, values};
use crate::nn::{Field, Mode, Network, Shape};
use crate::ops::Pair;
use crate::{Error, Result};

/// The receptive field of a unit on one picture.
#[derive(Clone, Debug)]
pub struct Seen {
    /// The layer.
    pub layer: String,
    /// Row and column of the unit in the layer's maps.
    pub unit: Pair,
    /// Height and width of the maps.
    pub map: Pair,
    /// The layer's field; `None` where all units see everything, or parts that differ in size.
    pub field: Option<Field>,
    /// First and last row, then first and last column, that can have an influence; beyond the picture
    /// where padding is seen.
    pub area: [(isize, isize); 2],
    /// How much each pixel has: `Σ_c |∂(Σ_k y_k)/∂x_c|` with y_k the unit's values in all maps.
    pub effective: Heat,
}

/// The receptive field of the unit at `(row, column)` of a layer, on one picture [1, C, H, W]. Without
/// a layer, [`last_maps`]; without a unit, the middle one.
///
/// # Errors
/// No such layer or unit; a layer without maps; a picture that does not fit.
pub fn receptive_field(
    network: &Network,
    input: &Tensor,
    layer: Option<&str>,
    unit: Option<Pair>,
) -> Result<Seen> {
    let (input, [c, h, w]) = one_picture(network, input)?;
    let shape = Shape::Map(c, h, w);
    let layer = match layer {
        Some(layer) => layer.to_owned(),
        None => last_maps(network.layers(), shape)?,
    };
    let trace = network.layers().trace(shape)?;
    // A container comes after what is in it, and some share a name.
    let step = trace.steps.iter().rfind(|step| step.path == layer && !step.auxiliary);
    let step = step.ok_or_else(|| network.no_layer(&layer))?;
    let Shape::Map(_, rows, cols) = step.output else {
        return Err(Error::Setting(format!("layer {layer} has no maps: its units see everything")));
    };
    let unit = unit.unwrap_or((rows / 2, cols / 2));
    if unit.0 >= rows || unit.1 >= cols {
        let (y, x) = unit;
        let message = format!("unit {y},{x}: the maps of {layer} have {rows} rows, {cols} columns");
        return Err(Error::Setting(message));
    }
    let everything = [(0, h as isize - 1), (0, w as isize - 1)];
    let area = step.field.map_or(everything, |field| field.of_unit(unit));
    let effective = influence(network, &input, &layer, unit)?;
    Ok(Seen { layer, unit, map: (rows, cols), field: step.field, area, effective })
}

/// The gradient of a unit's sum over all maps, summed up over the picture's channels.
fn influence(network: &Network, input: &Tensor, layer: &str, unit: Pair) -> Result<Heat> {
    let (_, _, h, w) = input.dims4()?;
    let input = Var::from_tensor(input)?;
    let mut output = None;
    network.forward_watched(&input, Mode::Eval, &mut |path, y| {
        if path == layer {
            output = Some(y.clone());
        }
    })?;
    let output = output.ok_or_else(|| network.no_layer(layer))?;
    let one = output.narrow(2, unit.0, 1)?.narrow(3, unit.1, 1)?;
    let grads = one.sum_all()?.backward()?;
    let influence = match grads.get(&input) {
        Some(grad) => grad.abs()?.sum(1)?,
        None => return Err(Error::Setting(format!("no gradient leaves layer {layer}"))),
    };
    Heat::new(h, w, values(&influence)?)
}
