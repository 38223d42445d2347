//! Grad-CAM (Selvaraju et al., "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based
//! Localization", 2017): where in a picture a network finds a class.

use candle_core::{D, Tensor};

use super::{Heat, one_picture, probabilities, values};
use crate::nn::{Layer, Network, Shape, Step};
use crate::weights::inside;
use crate::{Error, Result};

/// A class's map over the places of a layer.
#[derive(Clone, Debug)]
pub struct GradCam {
    /// The layer whose maps were weighed.
    pub layer: String,
    /// The class.
    pub class: usize,
    /// What the network gives it, 0 to 1.
    pub probability: f32,
    /// `relu(Σ_k α_k A_k)`, of the layer's height and width; lay it over the picture by
    /// [`Heat::over`].
    pub heat: Heat,
}

/// Grad-CAM of one picture [1, C, H, W]: with A the maps [1, K, h, w] of `layer` and y the class's
/// logit, `relu(Σ_k α_k A_k)` where `α_k` is the mean of `∂y/∂A_k` over all places (the paper's
/// equations 1 and 2). Without a layer, [`last_maps`]; without a class, the likeliest.
///
/// # Errors
/// Where there is no such layer or class, the layer has no maps, or the picture does not fit.
pub fn gradcam(
    network: &Network,
    input: &Tensor,
    layer: Option<&str>,
    class: Option<usize>,
) -> Result<GradCam> {
    let (input, [c, h, w]) = one_picture(network, input)?;
    let layer = match layer {
        Some(layer) => layer.to_owned(),
        None => last_maps(network.layers(), Shape::Map(c, h, w))?,
    };
    let (maps, logits) = network.forward_from(&layer, &input)?;
    let &[_, channels, height, width] = maps.dims() else {
        let message = format!("layer {layer} has no maps: it is behind the flatten");
        return Err(Error::Setting(message));
    };
    let (probabilities, class) = probabilities(&logits, class)?;
    let grads = logits.narrow(D::Minus1, class, 1)?.sum_all()?.backward()?;
    let Some(grad) = grads.get(&maps) else {
        return Err(Error::Setting(format!("no gradient reaches layer {layer}")));
    };
    let alpha = grad.reshape((channels, height * width))?.mean_keepdim(1)?;
    let weighed = maps.as_detached_tensor().reshape((channels, height * width))?;
    let sum = weighed.broadcast_mul(&alpha)?.sum(0)?.relu()?;
    let heat = Heat::new(height, width, values(&sum)?)?;
    Ok(GradCam { layer, class, probability: probabilities[class], heat })
}

/// The layer that Grad-CAM looks at unless told otherwise: the last convolution, with the norm and the
/// activation behind it; or the outermost residual block or inception module around it.
///
/// # Errors
/// Where the input does not fit, or the network has no convolution.
pub fn last_maps(layers: &Layer, input: Shape) -> Result<String> {
    let trace = layers.trace(input)?;
    let steps: Vec<_> = trace.steps.iter().filter(|step| !step.auxiliary).collect();
    let is_conv = |step: &&Step| matches!(step.layer, Layer::Conv2d(_));
    let last = steps.iter().rposition(is_conv);
    let last = last.ok_or_else(|| Error::Setting("the network has no convolution".to_owned()))?;
    let joins = |step: &&&Step| {
        matches!(step.layer, Layer::Residual { .. } | Layer::Branches(_))
            && inside(&step.path, &steps[last].path)
    };
    // Parents come after what lies in them, the outermost last.
    if let Some(block) = steps[last..].iter().rfind(joins) {
        return Ok(block.path.clone());
    }
    let follows = |step: &&&Step| {
        step.layer.is_activation() || matches!(step.layer, Layer::BatchNorm2d { .. })
    };
    let behind = steps[last + 1..].iter().take_while(follows).last();
    Ok(behind.unwrap_or(&steps[last]).path.clone())
}
