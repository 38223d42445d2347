//! What reads a network without training it.
//!
//! From the tree alone: [`Summary`] (shapes, parameters, memory, receptive fields), [`Chain`] (receptive
//! fields of layers of one's own), [`diagram()`] (the figure of a textbook). With weights and a picture:
//! [`filters`], [`feature_maps`], [`gradcam`], [`occlusion`], [`receptive_field`], [`most_wrong`]; and
//! [`HAND_MADE`] filters through the same convolution.
//!
//! All of them give numbers. [`Heat::over`] makes a picture of a map; the `show_` functions make
//! [`Section`]s of what was found, a [`Sheet`] or a [`Page`] holds them, and a [`Drawing`] is written as
//! SVG, PNG or JPEG.
//!
//! ```
//! use candle_core::{DType, Device, Tensor};
//! use convzoo::inspect;
//! use convzoo::models::{self, Model};
//!
//! # fn main() -> convzoo::Result<()> {
//! let model = Model::new("lenet5", models::find("lenet5")?.config(), 1, &Device::Cpu)?;
//! let digit = Tensor::ones((1, 1, 28, 28), DType::F32, &Device::Cpu)?;
//! let cam = inspect::gradcam(&model.network, &digit, None, None)?;
//! assert_eq!((cam.layer.as_str(), cam.heat.height, cam.heat.width), ("act2", 8, 8));
//! # Ok(())
//! # }
//! ```

mod chain;
pub mod diagram;
mod drawing;
mod gradcam;
mod heat;
mod kernels;
mod maps;
mod mistakes;
mod occlusion;
mod page;
mod seen;
mod sheet;
mod show;
mod show_fields;
mod summary;
mod viewer;

pub use chain::{Chain, Link, WindowLayer};
pub use diagram::diagram;
pub use drawing::{Anchor, Drawing, Hue, Ink, Item, Point, Side, png, rectangle, text_width};
pub(crate) use drawing::{data_url, ending};
pub use gradcam::{GradCam, gradcam, last_maps};
pub use heat::{Colours, Heat};
pub use kernels::{HAND_MADE, Kernel};
pub use maps::{Maps, feature_maps, filters};
pub use mistakes::{Mistake, Mistakes, most_wrong};
pub use occlusion::{Occlusion, Window, occlusion};
pub use page::Page;
pub use seen::{Seen, receptive_field};
pub use sheet::{Panel, Section, Sheet};
pub use show::{
    main_layers, show_filters, show_gradcam, show_kernels, show_maps, show_mistakes, show_occlusion,
};
pub use show_fields::show_receptive_fields;
pub use summary::{BYTES, FieldSize, Memory, Row, Summary};
pub use viewer::{Subject, Viewer};

use candle_core::{D, DType, Tensor};

use crate::nn::{Engine, Network};
use crate::{Error, Result};

/// A depth in layers, of which 1 is the outermost.
fn check_depth(depth: usize) -> Result<usize> {
    match depth {
        0 => Err(Error::Setting("a depth is at least 1".to_owned())),
        depth => Ok(depth),
    }
}

/// The probabilities that logits [1, classes] mean, and the class that is asked for, or the likeliest.
fn probabilities(logits: &Tensor, class: Option<usize>) -> Result<(Vec<f32>, usize)> {
    let row = candle_nn::ops::softmax(&logits.detach(), D::Minus1)?.to_dtype(DType::F32)?;
    let row: Vec<f32> = row.get(0)?.to_vec1()?;
    let likeliest = || (0..row.len()).max_by(|&a, &b| row[a].total_cmp(&row[b]).then(b.cmp(&a)));
    match class.or_else(likeliest) {
        Some(class) if class < row.len() => Ok((row, class)),
        found => {
            let (found, classes) = (found.unwrap_or(0), row.len());
            let message = format!("class {found}: the network has classes 0 to {}", classes - 1);
            Err(Error::Setting(message))
        }
    }
}

/// Runs a network as fast as it can be run.
struct Runner<'a> {
    network: &'a Network,
    engine: Option<Engine>,
}

impl<'a> Runner<'a> {
    fn new(network: &'a Network, input: (usize, usize, usize)) -> Result<Self> {
        Ok(Runner { network, engine: Engine::evaluation(network, input)? })
    }

    /// Logits [N, classes] of pictures [N, C, H, W].
    fn logits(&mut self, x: &Tensor) -> Result<Tensor> {
        match &mut self.engine {
            Some(engine) => engine.logits(self.network.params(), x),
            None => self.network.logits(x),
        }
    }
}

/// One picture [1, C, H, W] and its sizes, in the type of the network's weights.
fn one_picture(network: &Network, input: &Tensor) -> Result<(Tensor, [usize; 3])> {
    let (n, c, h, w) = input.dims4()?;
    if n != 1 {
        let found = format!("{:?}", input.dims());
        return Err(Error::op("inspect", found, "it needs one picture, [1, C, H, W]"));
    }
    let first = network.params().entries().first();
    let dtype = first.map_or(DType::F32, |entry| entry.var.dtype());
    Ok((input.to_dtype(dtype)?, [c, h, w]))
}

/// All values, in f32.
fn values(tensor: &Tensor) -> Result<Vec<f32>> {
    Ok(tensor.detach().to_dtype(DType::F32)?.flatten_all()?.to_vec1()?)
}
