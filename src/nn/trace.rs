//! Output shapes, multiply-adds and receptive fields, by walking the tree with a shape in hand.

use super::layer::join;
use super::{Field, Layer};
use crate::ops::adaptive_avg_pool2d::AdaptiveAvgPool2dShape;
use crate::ops::conv2d::Conv2dShape;
use crate::ops::size::checked_len;
use crate::ops::{AvgPool2dShape, MaxPool2dShape};
use crate::{Error, Result};

/// The shape of one picture's activations, without the batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Channels, height, width.
    Map(usize, usize, usize),
    /// Features after a flatten.
    Flat(usize),
}

impl Shape {
    /// How many values it has.
    pub fn len(self) -> usize {
        match self {
            Shape::Map(c, h, w) => c * h * w,
            Shape::Flat(n) => n,
        }
    }

    /// Whether it has no values.
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    fn dims4(self) -> [usize; 4] {
        match self {
            Shape::Map(c, h, w) => [1, c, h, w],
            Shape::Flat(n) => [1, n, 1, 1],
        }
    }
}

impl std::fmt::Display for Shape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Shape::Map(c, h, w) => write!(f, "{c}x{h}x{w}"),
            Shape::Flat(n) => write!(f, "{n}"),
        }
    }
}

/// One layer met on the way through the tree.
#[derive(Clone, Debug)]
pub struct Step<'a> {
    /// The full name.
    pub path: String,
    /// The layer.
    pub layer: &'a Layer,
    /// What reaches it.
    pub input: Shape,
    /// What leaves it.
    pub output: Shape,
    /// What one of its units sees of the network's input; `None` where all see all of it, or parts
    /// that differ in size.
    pub field: Option<Field>,
    /// Whether it belongs to an auxiliary head, which evaluation does not run.
    pub auxiliary: bool,
    /// How many layers it lies below the root.
    pub depth: usize,
}

impl Step<'_> {
    /// Multiply-adds for one picture, of convolutions and linear layers, biases not counted.
    pub fn macs(&self) -> u64 {
        match self.layer {
            Layer::Conv2d(conv) => {
                let per_output = conv.inputs / conv.params.groups * conv.kernel.0 * conv.kernel.1;
                (self.output.len() as u64).saturating_mul(per_output as u64)
            }
            Layer::Linear { inputs, outputs } => (*inputs as u64).saturating_mul(*outputs as u64),
            _ => 0,
        }
    }

    /// Trainable values of this very layer.
    pub fn params(&self) -> usize {
        let specs = self.layer.own_specs("");
        specs.iter().filter(|s| !s.role.is_buffer()).map(super::ParamSpec::len).sum()
    }
}

/// A walk through the whole tree for one input shape.
#[derive(Clone, Debug)]
pub struct Trace<'a> {
    /// Every layer in the order of the forward pass, a join after what it joins.
    pub steps: Vec<Step<'a>>,
    /// The shape at the end.
    pub output: Shape,
}

impl Trace<'_> {
    /// Multiply-adds of one picture in evaluation.
    pub fn macs(&self) -> u64 {
        let counted = self.steps.iter().filter(|step| !step.auxiliary);
        counted.map(Step::macs).fold(0, u64::saturating_add)
    }
}

impl Layer {
    /// Walks the tree with an input of this shape.
    ///
    /// # Errors
    /// Names the first layer that what reaches it does not fit.
    pub fn trace(&self, input: Shape) -> Result<Trace<'_>> {
        checked_len("layer", &input.dims4())?;
        let mut steps = Vec::new();
        let start = Reached { shape: input, field: Some(Field::INPUT) };
        let output = self.trace_into(start, Position::default(), &mut steps)?.shape;
        Ok(Trace { steps, output })
    }

    fn trace_into<'a>(
        &'a self,
        input: Reached,
        at: Position,
        steps: &mut Vec<Step<'a>>,
    ) -> Result<Reached> {
        let output = match self {
            Layer::Sequential(layers) => {
                let mut reached = input;
                for (name, layer) in layers {
                    reached = layer.trace_into(reached, at.below(name), steps)?;
                }
                reached
            }
            Layer::Branches(layers) => {
                let mut outputs = Vec::new();
                for (name, layer) in layers {
                    outputs.push(layer.trace_into(input, at.below(name), steps)?);
                }
                let shapes: Vec<_> = outputs.iter().map(|output| output.shape).collect();
                let shape =
                    joined(&shapes).ok_or_else(|| at.refuse("branches of different sizes"))?;
                checked_len("join", &shape.dims4()).map_err(|error| at.in_layer(error))?;
                let fields = outputs.iter().map(|output| output.field);
                Reached { shape, field: fields.reduce(both).flatten() }
            }
            Layer::Residual { body, shortcut } => {
                let main = body.trace_into(input, at.clone(), steps)?;
                let side = match shortcut.as_deref() {
                    Some((name, layer)) => layer.trace_into(input, at.below(name), steps)?,
                    None => input,
                };
                if main.shape != side.shape {
                    return Err(at.refuse(&format!("a sum of {} and {}", main.shape, side.shape)));
                }
                Reached { field: both(main.field, side.field), ..main }
            }
            Layer::AuxHead { head, .. } => {
                head.trace_into(input, Position { auxiliary: true, ..at.clone() }, steps)?;
                input
            }
            leaf => leaf.reached(input).map_err(|error| at.in_layer(error))?,
        };
        let Position { path, auxiliary, depth } = at;
        let (input, Reached { shape, field }) = (input.shape, output);
        steps.push(Step { path, layer: self, input, output: shape, field, auxiliary, depth });
        Ok(output)
    }

    /// What is behind a layer that is no container. Neither that nor a tensor of the layer's own may
    /// be larger than memory can be, or the sizes made of it would be wrong.
    fn reached(&self, input: Reached) -> Result<Reached> {
        let shape = self.output_shape(input.shape)?;
        checked_len("layer", &shape.dims4())?;
        for spec in self.own_specs("") {
            checked_len("layer", &spec.shape)?;
        }
        let field = match (input.field, input.shape) {
            (Some(field), Shape::Map(_, h, w)) => field.through(self, (h, w)),
            _ => None,
        };
        Ok(Reached { shape, field })
    }

    /// The output shape of a layer that is no container.
    fn output_shape(&self, input: Shape) -> Result<Shape> {
        let map = |[_, c, h, w]: [usize; 4]| Shape::Map(c, h, w);
        let is_map = matches!(input, Shape::Map(..));
        let misfit =
            |needed: String| Err(Error::op("layer", format!("an input of {input}"), needed));
        match self {
            Layer::Conv2d(conv) if is_map => {
                let weight = &self.own_specs("")[0].shape;
                Ok(map(Conv2dShape::new(&input.dims4(), weight, &conv.params)?.output()))
            }
            Layer::MaxPool2d(p) if is_map => {
                Ok(map(MaxPool2dShape::new(&input.dims4(), p)?.output()))
            }
            Layer::AvgPool2d(p) if is_map => {
                Ok(map(AvgPool2dShape::new(&input.dims4(), p)?.output()))
            }
            Layer::AdaptiveAvgPool2d(size) if is_map => {
                Ok(map(AdaptiveAvgPool2dShape::new(&input.dims4(), *size)?.output()))
            }
            Layer::BatchNorm2d { channels, .. } => match input {
                Shape::Map(c, ..) if c == *channels => Ok(input),
                _ => misfit(format!("it needs {channels} channels")),
            },
            Layer::Linear { inputs, outputs } => match input {
                _ if *outputs == 0 => misfit("it needs at least one output".to_owned()),
                Shape::Flat(n) if n == *inputs => Ok(Shape::Flat(*outputs)),
                _ => misfit(format!("it needs {inputs} features")),
            },
            Layer::PaddedIdentity { inputs, outputs, stride } => match input {
                Shape::Map(c, h, w) if c == *inputs && outputs >= inputs && *stride > 0 => {
                    Ok(Shape::Map(*outputs, h.div_ceil(*stride), w.div_ceil(*stride)))
                }
                _ => misfit(format!("it needs {inputs} channels, and no more than {outputs}")),
            },
            Layer::Flatten => Ok(Shape::Flat(input.len())),
            Layer::Conv2d(_)
            | Layer::MaxPool2d(_)
            | Layer::AvgPool2d(_)
            | Layer::AdaptiveAvgPool2d(_) => misfit("it needs a map [C, H, W]".to_owned()),
            _ => Ok(input),
        }
    }
}

/// What a walk has in hand.
#[derive(Clone, Copy)]
struct Reached {
    shape: Shape,
    field: Option<Field>,
}

/// The field of units that see what both see.
fn both(a: Option<Field>, b: Option<Field>) -> Option<Field> {
    Some(a?.union(b?))
}

/// Where in the tree a walk stands.
#[derive(Clone, Default)]
struct Position {
    path: String,
    auxiliary: bool,
    depth: usize,
}

impl Position {
    fn below(&self, name: &str) -> Self {
        let depth = self.depth + usize::from(!name.is_empty());
        Position { path: join(&self.path, name), depth, ..self.clone() }
    }

    fn in_layer(&self, error: Error) -> Error {
        Error::Layer { layer: self.path.clone(), cause: Box::new(error) }
    }

    fn refuse(&self, found: &str) -> Error {
        self.in_layer(Error::op("join", found, "its parts must have the same size"))
    }
}

/// Maps of one height and width side by side.
fn joined(outputs: &[Shape]) -> Option<Shape> {
    let mut channels = 0;
    let mut size = None;
    for output in outputs {
        let Shape::Map(c, h, w) = *output else { return None };
        if *size.get_or_insert((h, w)) != (h, w) {
            return None;
        }
        channels = usize::checked_add(channels, c)?;
    }
    size.map(|(h, w)| Shape::Map(channels, h, w))
}
