//! The first steps of a net with few channels, with the pictures in the lanes instead of the channels:
//! LeNet's convolutions fill a vector by a third otherwise. See [`crate::ops::nhwc::narrow`].

use super::plan::{Conv, EntryId, Kind, Node, Plan, Value};
use super::{Engine, Gradients, Kept, backward, forward};
use crate::Result;
use crate::nn::Params;
use crate::ops::access;
use crate::ops::nhwc::conv::Maps;
use crate::ops::nhwc::narrow::{BLOCK, Narrow, channel_sums, from_blocks, to_blocks};
use crate::ops::nhwc::pixels::{self, MapsMut};
use crate::ops::nhwc::{grown, lanes::Isa};

/// The steps from the picture to the flattening, all of which know this layout.
#[derive(Clone, Debug)]
pub(super) struct Prefix {
    /// One a step; `None` where it is no convolution.
    convs: Vec<Option<Narrow>>,
}

/// What the passes keep.
#[derive(Debug, Default)]
pub(super) struct Blocks {
    /// The pictures, then what each step makes of them.
    maps: Vec<Vec<f32>>,
    /// The gradient on its way, and the next.
    gradients: [Vec<f32>; 2],
}

impl Prefix {
    /// Of a plan whose convolutions are as their layers describe them.
    pub(super) fn of(plan: &Plan) -> Option<Self> {
        let mut convs = Vec::new();
        let mut x = plan.image;
        for node in &plan.nodes {
            if node.x != x || plan.readers(x) != 1 {
                return None;
            }
            convs.push(match &node.kind {
                Kind::Conv(conv) => Some(narrow(conv)?),
                Kind::MaxPool(_) | Kind::Means(_) | Kind::Relu | Kind::Sigmoid | Kind::Tanh => None,
                Kind::Flatten if convs.iter().any(Option::is_some) => {
                    convs.push(None);
                    return Some(Prefix { convs });
                }
                _ => return None,
            });
            x = node.y;
        }
        None
    }

    /// How many steps it has, the flattening too.
    pub(super) fn steps(&self) -> usize {
        self.convs.len()
    }
}

fn narrow(conv: &Conv) -> Option<Narrow> {
    let plain = conv.norm.is_none() && conv.residual.is_none();
    plain.then(|| Narrow::new(conv.shape, &conv.window)).flatten()
}

impl Engine {
    /// The prefix, where there are enough pictures to fill the lanes.
    pub(super) fn prefix(&self) -> Option<&Prefix> {
        self.plan.prefix.as_ref().filter(|_| self.pictures >= BLOCK)
    }

    /// Lays a batch out for the prefix.
    pub(super) fn load_blocks(&mut self, images: &[f32]) {
        let len = images.len() / self.pictures;
        self.blocks.maps.resize_with(self.plan.nodes.len(), Vec::new);
        let blocks = self.pictures.div_ceil(BLOCK);
        let to = grown(&mut self.blocks.maps[0], blocks * len * BLOCK);
        to_blocks(images, self.pictures, len, len, to);
    }

    /// The steps of the prefix; `y` takes the flattened rows.
    pub(super) fn forward_blocks(
        &mut self,
        prefix: &Prefix,
        params: &Params,
        y: MapsMut<'_>,
    ) -> Result<()> {
        let (pictures, count) = (self.pictures, self.pictures.div_ceil(BLOCK));
        for (at, conv) in prefix.convs.iter().enumerate() {
            let Engine { plan, blocks, kept, isa, .. } = self;
            let node = &plan.nodes[at];
            let (x_value, y_value) = (&plan.values[node.x], &plan.values[node.y]);
            let (before, after) = blocks.maps.split_at_mut(at + 1);
            let x = &before[at][..len(count, x_value)];
            if matches!(node.kind, Kind::Flatten) {
                from_blocks(x, pictures, y_value.channels, y.step, y.data);
                return Ok(());
            }
            let to = grown(&mut after[0], len(count, y_value));
            match (conv, &node.kind) {
                (Some(narrow), Kind::Conv(conv)) => {
                    convolve(*isa, narrow, conv, params, x, to)?;
                }
                (_, kind) => {
                    let planes = count * y_value.channels;
                    let pixels = planes * y_value.pixels();
                    let (x, to) = (maps(x), MapsMut { data: to, step: BLOCK });
                    forward::unary(kind, planes, pixels, x, BLOCK, &mut kept[at], to);
                }
            }
        }
        Ok(())
    }

    /// The backward pass of the prefix; `dy` are the gradients of the flattened rows.
    pub(super) fn backward_blocks(
        &mut self,
        prefix: &Prefix,
        params: &Params,
        dy: Maps<'_>,
        to: &mut Gradients<'_>,
    ) -> Result<()> {
        let count = self.pictures.div_ceil(BLOCK);
        let plan = std::sync::Arc::clone(&self.plan);
        let last = &plan.values[plan.nodes[prefix.steps() - 1].x];
        let rows = to_rows(dy, self.pictures);
        let dy_blocks = grown(&mut self.blocks.gradients[0], len(count, last));
        to_blocks(rows, self.pictures, last.channels * last.pixels(), dy.step, dy_blocks);
        for (at, conv) in prefix.convs.iter().enumerate().rev().skip(1) {
            let node = &plan.nodes[at];
            match (conv, &node.kind) {
                (Some(narrow), Kind::Conv(conv)) => {
                    self.conv_blocks(&plan, at, narrow, conv, params)?;
                }
                _ => self.unary_blocks(&plan, at),
            }
            self.hand_over(node, to)?;
            self.blocks.gradients.swap(0, 1);
            if !plan.values[node.x].needs_gradient {
                break;
            }
        }
        Ok(())
    }

    fn unary_blocks(&mut self, plan: &Plan, at: usize) {
        let count = self.pictures.div_ceil(BLOCK);
        let Node { kind, x, y } = &plan.nodes[at];
        let (x, y) = (&plan.values[*x], &plan.values[*y]);
        let Blocks { maps: kept_maps, gradients: [dy, dx] } = &mut self.blocks;
        let dy = &mut dy[..len(count, y)];
        let y_maps = maps(&kept_maps[at + 1]);
        let (planes, pixels) = (count * y.channels, count * y.channels * y.pixels());
        if matches!(kind, Kind::Relu) {
            pixels::relu_gradient(y_maps, BLOCK, pixels, MapsMut { data: dy, step: BLOCK });
        }
        let dx = MapsMut { data: grown(dx, len(count, x)), step: BLOCK };
        let kept: &Kept = &self.kept[at];
        backward::unary(kind, planes, pixels, (y_maps, maps(dy)), BLOCK, kept, dx, false);
    }

    fn conv_blocks(
        &mut self,
        plan: &Plan,
        at: usize,
        narrow: &Narrow,
        conv: &Conv,
        params: &Params,
    ) -> Result<()> {
        let count = self.pictures.div_ceil(BLOCK);
        let node = &plan.nodes[at];
        let (x, y) = (&plan.values[node.x], &plan.values[node.y]);
        let entry = |entry: EntryId| &params.entries()[entry];
        let Blocks { maps: kept_maps, gradients: [dy, dx] } = &mut self.blocks;
        let dy = &mut dy[..len(count, y)];
        if conv.relu {
            let pixels = count * y.channels * y.pixels();
            let dy = MapsMut { data: dy, step: BLOCK };
            pixels::relu_gradient(maps(&kept_maps[at + 1]), BLOCK, pixels, dy);
        }
        if let Some(bias) = conv.bias.filter(|&bias| entry(bias).trainable) {
            let mut sums = vec![0.0; y.channels];
            channel_sums(dy, y.pixels() * BLOCK, &mut sums);
            self.parameters[bias] = Some(sums);
        }
        if entry(conv.weight).trainable {
            let mut dw = vec![0.0; entry(conv.weight).spec.len()];
            narrow.weight_gradient(self.isa, &kept_maps[at][..len(count, x)], dy, &mut dw);
            self.parameters[conv.weight] = Some(dw);
        }
        if x.needs_gradient {
            let weight = access::values::<f32>("engine", entry(conv.weight).var.as_tensor())?;
            narrow.input_gradient(self.isa, dy, &weight, grown(dx, len(count, x)));
        }
        Ok(())
    }
}

fn convolve(
    isa: Isa,
    narrow: &Narrow,
    conv: &Conv,
    params: &Params,
    x: &[f32],
    y: &mut [f32],
) -> Result<()> {
    let values =
        |entry: EntryId| access::values::<f32>("engine", params.entries()[entry].var.as_tensor());
    let weight = values(conv.weight)?;
    let bias = conv.bias.map(values).transpose()?;
    narrow.forward(isa, x, &weight, bias.as_deref(), conv.relu, y);
    Ok(())
}

/// Values of so many blocks of a map.
fn len(blocks: usize, value: &Value) -> usize {
    blocks * value.channels * value.pixels() * BLOCK
}

/// A channel of a block as the map of a picture.
fn maps(data: &[f32]) -> Maps<'_> {
    Maps { data, step: BLOCK }
}

/// The rows of some pictures.
fn to_rows(rows: Maps<'_>, pictures: usize) -> &[f32] {
    &rows.data[..pictures * rows.step]
}
