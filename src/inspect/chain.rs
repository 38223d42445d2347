//! Receptive fields of layers of one's own, written as `conv3 conv3/2 pool2`.

use serde::Serialize;

use crate::ops::{ReceptiveField, conv_output_size};
use crate::{Error, Result};

/// A window layer: convolution or pooling, the same in both directions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct WindowLayer {
    /// As it was written.
    pub name: String,
    /// Side of the window.
    pub kernel: usize,
    /// Places from one window to the next.
    pub stride: usize,
    /// Places added at each end.
    pub padding: usize,
    /// Distance between the taps of the window.
    pub dilation: usize,
}

/// Layers one after the other, and what a unit of each sees.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Chain {
    /// The layers with their fields.
    pub layers: Vec<Link>,
}

/// A layer of a chain.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Link {
    /// The layer.
    #[serde(flatten)]
    pub layer: WindowLayer,
    /// Input places that one unit sees.
    pub receptive_field: usize,
    /// Input places from one unit to the next: the product of the strides.
    pub jump: usize,
    /// The centre of the first unit's field; the first place has its centre at 0.
    pub offset: f64,
    /// Units along a side, for an input of known size.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<usize>,
}

impl WindowLayer {
    /// Reads `KINDk`, with options behind it in any order: `/s` stride, `pn` padding, `dn` dilation.
    /// KIND is `conv`, whose stride is 1 unless it is said, or `pool` (`maxpool`, `avgpool`), whose
    /// stride is its kernel: `conv3`, `conv7/2p3`, `conv3d2`, `pool2`, `pool3/2`.
    ///
    /// # Errors
    /// Says what cannot be read, and how a layer is written.
    pub fn parse(text: &str) -> Result<Self> {
        let wrong = |why: &str| {
            let how = "a layer is conv or pool with its kernel, then /STRIDE, pPADDING, dDILATION \
                       where needed, as in conv7/2p3, conv3d2, pool3/2";
            Error::Setting(format!("layer {text:?}: {why}; {how}"))
        };
        let is_pool = text.contains("pool");
        let rest = ["maxpool", "avgpool", "pool", "conv"]
            .iter()
            .find_map(|kind| text.strip_prefix(kind))
            .ok_or_else(|| wrong("unknown kind"))?;
        let (kernel, mut rest) = number(rest).ok_or_else(|| wrong("no kernel size"))?;
        let stride = if is_pool { kernel } else { 1 };
        let name = text.to_owned();
        let mut layer = WindowLayer { name, kernel, stride, padding: 0, dilation: 1 };
        let mut said = Vec::new();
        while let Some(mark) = rest.chars().next() {
            let (value, behind) =
                number(&rest[mark.len_utf8()..]).ok_or_else(|| wrong("a number is missing"))?;
            if said.contains(&mark) {
                return Err(wrong(&format!("{mark:?} is there twice")));
            }
            said.push(mark);
            match mark {
                '/' => layer.stride = value,
                'p' => layer.padding = value,
                'd' => layer.dilation = value,
                _ => return Err(wrong(&format!("{mark:?} is no option"))),
            }
            rest = behind;
        }
        let sizes = [layer.kernel, layer.stride, layer.padding, layer.dilation];
        if layer.kernel == 0 || layer.stride == 0 || layer.dilation == 0 {
            return Err(wrong("kernel, stride and dilation must be at least 1"));
        }
        if sizes.iter().any(|&n| n > 10_000) {
            return Err(wrong("at most 10000 is taken"));
        }
        Ok(layer)
    }
}

/// The digits that a text begins with, and what is behind them.
fn number(text: &str) -> Option<(usize, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    Some((text[..end].parse().ok()?, &text[end..]))
}

/// Fields and jumps beyond this are refused: numbers of 64 bits would not hold what follows from them.
const MOST: usize = 1 << 50;

impl Chain {
    /// Reads layers apart by blanks or commas, and follows a unit's field through them; with the side
    /// of the input, also the sizes of the maps.
    ///
    /// # Errors
    /// A layer that cannot be read, or one that does not fit into what reaches it.
    pub fn parse(text: &str, input: Option<usize>) -> Result<Self> {
        let apart = |c: char| c.is_whitespace() || c == ',';
        let names = text.split(apart).filter(|name| !name.is_empty());
        let layers = names.map(WindowLayer::parse).collect::<Result<Vec<_>>>()?;
        Chain::new(layers, input)
    }

    /// [`Chain::parse`] for layers that are read already.
    ///
    /// # Errors
    /// No layer at all, or one that does not fit into what reaches it.
    pub fn new(layers: Vec<WindowLayer>, input: Option<usize>) -> Result<Self> {
        if layers.is_empty() {
            let message = "no layers; write them as in \"conv3 conv3 pool2\"";
            return Err(Error::Setting(message.to_owned()));
        }
        let (mut field, mut size) = (ReceptiveField::INPUT, input);
        let mut links = Vec::with_capacity(layers.len());
        for layer in layers {
            let WindowLayer { kernel, stride, padding, dilation, .. } = layer;
            if let Some(reached) = size {
                let output = conv_output_size(reached, kernel, stride, padding, dilation);
                size = Some(output.ok_or_else(|| {
                    let name = &layer.name;
                    let message = format!("layer {name} does not fit: {reached} units reach it");
                    Error::Setting(message)
                })?);
            }
            let grown = field.stride.checked_mul(stride.max(kernel * dilation));
            let grown = grown.and_then(|grown| grown.checked_add(field.size));
            if grown.is_none_or(|grown| grown > MOST) {
                let message = "the strides multiply to too large a number";
                return Err(Error::Setting(message.to_owned()));
            }
            field = field.after(kernel, stride, padding, dilation);
            let ReceptiveField { size: receptive_field, stride: jump, start: offset } = field;
            links.push(Link { layer, receptive_field, jump, offset, size });
        }
        Ok(Chain { layers: links })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(text: &str) -> Vec<usize> {
        let chain = Chain::parse(text, None).unwrap();
        chain.layers.iter().map(|link| link.receptive_field).collect()
    }

    #[test]
    fn fields_grow_by_kernel_and_jump() {
        assert_eq!(fields("conv3 conv3 conv3 conv3 pool2"), [3, 5, 7, 9, 10]);
        assert_eq!(fields("conv3/2 conv3/2,conv3"), [3, 7, 15]);
        assert_eq!(fields("\tconv3/2\tconv3/2,\r\n conv3"), [3, 7, 15]);
        assert_eq!(fields("conv3 conv3d2 conv3d4"), [3, 7, 15]); // Yu and Koltun, 2016
        let chain = Chain::parse("conv7/2p3 maxpool3/2p1 conv3p1", Some(224)).unwrap();
        let last = &chain.layers[2]; // ResNet's beginning
        assert_eq!((last.receptive_field, last.jump, last.size), (19, 4, Some(56)));
        assert_eq!(last.offset, 0.0);
        assert_eq!(Chain::parse("pool2", None).unwrap().layers[0].jump, 2);
    }

    #[test]
    fn what_cannot_be_read_is_said() {
        for (text, why) in [
            ("", "no layers"),
            ("dense10", "unknown kind"),
            ("conv", "no kernel size"),
            ("conv3s2", "'s' is no option"),
            ("conv3/", "a number is missing"),
            ("conv3/0", "at least 1"),
            ("conv3/2/3", "'/' is there twice"),
            ("conv3p1/2p0", "'p' is there twice"),
            ("conv99999", "at most 10000"),
            ("conv3é", "a number is missing"),
        ] {
            let error = Chain::parse(text, None).unwrap_err().to_string();
            assert!(error.contains(why), "{text}: {error}");
        }
        let error = Chain::parse("pool2 conv5", Some(8)).unwrap_err().to_string();
        assert!(error.contains("conv5 does not fit: 4 units"), "{error}");
        let steep = ["conv9999/9999"; 6].join(" ");
        assert!(Chain::parse(&steep, None).unwrap_err().to_string().contains("too large"));
    }
}
