//! A network layer by layer: shapes, parameters, multiply-adds, memory, receptive fields.

use serde::Serialize;

use super::check_depth;
use crate::nn::{Field, Layer, Shape, Step};
use crate::ops::ReceptiveField;
use crate::{Result, models};

/// Bytes of a value: f32.
pub const BYTES: u64 = 4;

/// What the tree says about a network, for one input shape.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// The input, as in `3x224x224`.
    pub input: String,
    /// Trainable values, without auxiliary heads.
    pub params: usize,
    /// Trainable values, with them.
    pub params_with_auxiliary_heads: usize,
    /// Multiply-adds of one picture in evaluation: convolutions and linear layers, biases not counted.
    pub macs: u64,
    /// Memory in f32.
    pub memory: Memory,
    /// Layers in the order of the forward pass.
    pub layers: Vec<Row>,
}

/// A layer, or a container with all that lies in it.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// The full name.
    pub name: String,
    /// As in `Conv2d`.
    pub kind: &'static str,
    /// Its output, as in `64x112x112`.
    pub output: String,
    /// Its trainable values.
    pub params: usize,
    /// Its multiply-adds.
    pub macs: u64,
    /// Bytes of the maps it makes for one picture: its output's, of a container those of its layers.
    /// Activations, dropout, flattening, sums and joins work in place and make none.
    pub activation_bytes: u64,
    /// What one of its units sees of the input; `None` where all see all of it, or parts that differ.
    pub receptive_field: Option<FieldSize>,
    /// Whether it belongs to an auxiliary head, which only training runs.
    pub auxiliary: bool,
}

/// A receptive field, rows first.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct FieldSize {
    /// Input pixels seen.
    pub size: (usize, usize),
    /// Input pixels from one unit to the next.
    pub stride: (usize, usize),
    /// The centre of the first unit's field, in pixels; the first pixel has its centre at 0.
    pub offset: (f64, f64),
}

/// Memory in bytes, at f32. What is there besides (im2col, the program itself) is not counted.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Memory {
    /// Trainable values, without auxiliary heads.
    pub weights: u64,
    /// One picture's input and every map made of it, all kept.
    pub activations: u64,
    /// The most that one picture's maps take at once, where each is freed as soon as it was used.
    pub largest_at_once: u64,
    /// Evaluation of a batch: weights, and [`Memory::largest_at_once`] for each picture.
    pub forward: u64,
    /// A step of SGD with momentum: weights, gradients and momentum, auxiliary heads included; for each
    /// picture its input, every map and every map's gradient.
    pub training: u64,
    /// Pictures in the batch.
    pub batch: usize,
}

impl From<Field> for FieldSize {
    fn from(field: Field) -> Self {
        let of = |field: ReceptiveField| (field.size, field.stride, field.start);
        let ((rows, down, top), (cols, across, left)) = (of(field.rows), of(field.cols));
        FieldSize { size: (rows, cols), stride: (down, across), offset: (top, left) }
    }
}

impl Summary {
    /// A network's summary: layers down to `depth`, 1 being the outermost; memory for batches of
    /// `batch` pictures.
    ///
    /// # Errors
    /// A depth of 0; an input that does not fit.
    pub fn new(layers: &Layer, input: Shape, depth: usize, batch: usize) -> Result<Self> {
        let depth = check_depth(depth)?;
        let trace = layers.trace(input)?;
        Ok(Summary {
            input: input.to_string(),
            params: models::inference_parameters(layers),
            params_with_auxiliary_heads: layers.parameter_count(),
            macs: trace.macs(),
            memory: Memory::new(layers, input, batch)?,
            layers: shown(&trace.steps, depth).map(|step| Row::of(step, &trace.steps)).collect(),
        })
    }
}

/// The steps of this depth, and of those above it the ones with nothing in them.
fn shown<'a>(steps: &'a [Step<'a>], depth: usize) -> impl Iterator<Item = &'a Step<'a>> {
    let shown = move |step: &Step| {
        let container = !step.layer.children().is_empty();
        step.depth > 0 && step.depth <= depth && (!container || step.depth == depth)
    };
    // A residual block's body, or a group without a name, has its parent's path and comes before it.
    let last = move |i: usize| {
        let path = &steps[i].path;
        !steps[i + 1..].iter().any(|later| shown(later) && later.path == *path)
    };
    steps.iter().enumerate().filter(move |&(i, step)| shown(step) && last(i)).map(|(_, step)| step)
}

impl Row {
    fn of(step: &Step, all: &[Step]) -> Self {
        let below = |other: &&Step| {
            let rest = other.path.strip_prefix(&step.path);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        let inside = || all.iter().filter(below);
        Row {
            name: step.path.clone(),
            kind: step.layer.kind(),
            output: step.output.to_string(),
            params: inside().map(Step::params).sum(),
            macs: inside().map(Step::macs).sum(),
            activation_bytes: inside().map(|step| BYTES * new_values(step) as u64).sum(),
            receptive_field: step.field.map(FieldSize::from),
            auxiliary: step.auxiliary || matches!(step.layer, Layer::AuxHead { .. }),
        }
    }
}

/// Values of the map that a layer makes; 0 where it can work in place.
fn new_values(step: &Step) -> usize {
    if makes_a_map(step.layer) { step.output.len() } else { 0 }
}

fn makes_a_map(layer: &Layer) -> bool {
    let in_place = layer.is_activation() || matches!(layer, Layer::Dropout(_) | Layer::Flatten);
    !in_place && layer.children().is_empty()
}

impl Memory {
    fn new(layers: &Layer, input: Shape, batch: usize) -> Result<Self> {
        let trace = layers.trace(input)?;
        let of = |auxiliary: bool| {
            let steps = trace.steps.iter().filter(|step| auxiliary || !step.auxiliary);
            BYTES * steps.map(new_values).sum::<usize>() as u64
        };
        let bytes = |values: usize| BYTES * values as u64;
        let (input_bytes, pictures) = (bytes(input.len()), batch as u64);
        let weights = bytes(models::inference_parameters(layers));
        let largest_at_once = bytes(live(layers, input)?.most);
        Ok(Memory {
            weights,
            activations: input_bytes + of(false),
            largest_at_once,
            forward: weights + pictures * largest_at_once,
            training: 3 * bytes(layers.parameter_count()) + pictures * (input_bytes + 2 * of(true)),
            batch,
        })
    }
}

/// Values alive while a layer runs, its input and output included.
struct Live {
    most: usize,
    output: Shape,
}

fn live(layer: &Layer, input: Shape) -> Result<Live> {
    match layer {
        Layer::Sequential(layers) => in_turn(layers.iter().map(|(_, l)| l), input, 0),
        Layer::Branches(layers) => {
            let (mut most, mut done) = (0, 0);
            for (_, branch) in layers {
                let branch = live(branch, input)?;
                most = most.max(done + branch.most);
                done += branch.output.len(); // written where the join has its place
            }
            let output = layer.trace(input)?.output;
            Ok(Live { most: most.max(input.len() + output.len()), output })
        }
        Layer::Residual { body, shortcut } => {
            let body = body.children().into_iter().map(|(_, layer)| layer);
            match shortcut.as_deref() {
                // The block's input stays until the sum.
                None => in_turn(body, input, input.len()),
                Some((_, projection)) => {
                    let side = live(projection, input)?;
                    let kept = side.output.len();
                    let main = in_turn(body, input, 0)?;
                    Ok(Live { most: side.most.max(kept + main.most), output: main.output })
                }
            }
        }
        Layer::AuxHead { .. } => Ok(Live { most: input.len(), output: input }),
        leaf => {
            let output = leaf.trace(input)?.output;
            let new = if makes_a_map(leaf) { output.len() } else { 0 };
            Ok(Live { most: input.len() + new, output })
        }
    }
}

/// Layers in turn, with `kept` values alive behind the first of them.
fn in_turn<'a>(layers: impl Iterator<Item = &'a Layer>, input: Shape, kept: usize) -> Result<Live> {
    let (mut most, mut shape) = (input.len(), input);
    for (i, layer) in layers.enumerate() {
        let inside = live(layer, shape)?;
        most = most.max(inside.most + if i == 0 { 0 } else { kept });
        shape = inside.output;
    }
    Ok(Live { most, output: shape })
}
