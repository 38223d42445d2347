//! Where every block goes. A part is laid out around an axis, y = 0, that data flows along from the
//! left to the right; parts then stand side by side or one above the other.

use super::super::drawing::{Hue, Ink, Item, Side, text_width};
use super::block::{Mark, Node, Op, Row};
use super::cuboid::{Cuboid, Scale};

/// Font size of what stands under blocks.
const SMALL: f64 = 10.5;
/// Height of a line of it.
const LINE: f64 = 12.5;
/// Between two parts of a row, where the arrow is.
const GAP: f64 = 14.0;
/// Between lanes.
const APART: f64 = 12.0;
/// From a fork to what follows, and back to where lines meet.
const FORK: f64 = 12.0;
/// Radius of the circle where a sum is made.
const PLUS: f64 = 7.0;

/// A part in its place: x from 0 to `width`, y from `-up` to `down`.
#[derive(Clone, Debug)]
pub(super) struct Laid {
    pub(super) width: f64,
    pub(super) up: f64,
    pub(super) down: f64,
    /// Where on the axis a line comes in, and where one goes out.
    pub(super) enter: f64,
    pub(super) leave: f64,
    pub(super) items: Vec<Item>,
}

/// How parts are laid out: how large maps are, and whether blocks lead somewhere.
#[derive(Clone, Copy)]
pub(super) struct Style {
    pub(super) scale: Scale,
    /// Whether blocks that are not looked into lead to their inside.
    pub(super) links: bool,
    /// Whether blocks have their names under them.
    pub(super) names: bool,
}

impl Style {
    pub(super) fn node(&self, node: &Node) -> Laid {
        match node {
            Node::Op(op) => self.op(op, 0.0),
            Node::Row(row) => self.row(row),
            Node::Lanes { rows, .. } => self.lanes(rows),
            Node::Sum(body, side) => self.sum(body, side.as_ref()),
            Node::Exit(op) => self.exit(op),
        }
    }

    /// A block with its lines under it, not above `floor`.
    pub(super) fn op(&self, op: &Op, floor: f64) -> Laid {
        let cuboid = self.scale.cuboid(op.output);
        let lines = if self.names { &op.lines[..] } else { &op.lines[op.lines.len() - 2..] };
        let text = lines.iter().map(|line| text_width(line, SMALL)).fold(0.0, f64::max);
        let width = cuboid.width().max(text);
        let left = (width - cuboid.width()) / 2.0;
        let half = cuboid.half_height();
        let mut items: Vec<_> = cuboid.faces(op.hue).into_iter().collect();
        items.extend(cuboid.marks(op.mark));
        items = items.into_iter().map(|item| item.moved(left, 0.0)).collect();
        let under = half.max(floor);
        items.extend(lines.iter().enumerate().map(|(i, line)| {
            let ink = if i == 0 { Ink::Text } else { Ink::Faint };
            Item::label([width / 2.0, under + LINE * (i + 1) as f64], line, SMALL, ink)
        }));
        let shortcuts = matches!(op.mark, Mark::Shortcuts(_));
        let arc = if shortcuts { cuboid.arc_height() } else { 0.0 };
        let target = (self.links && op.closed).then(|| anchor(&op.path));
        Laid {
            width,
            up: half + arc,
            down: under + LINE * lines.len() as f64 + 3.0,
            enter: left,
            leave: left + cuboid.leave(),
            items: vec![Item::Group { title: op.title.clone(), target, items }],
        }
    }

    /// Parts in turn, arrows between them; the lines under blocks begin at one height.
    pub(super) fn row(&self, row: &Row) -> Laid {
        let laid = self.parts(row);
        in_turn(laid)
    }

    /// The parts of a row, not yet side by side.
    pub(super) fn parts(&self, row: &Row) -> Vec<Laid> {
        let half = |node: &Node| match node {
            Node::Op(op) => self.scale.cuboid(op.output).half_height(),
            _ => 0.0,
        };
        let floor = row.items.iter().map(half).fold(0.0, f64::max);
        let part = |node: &Node| match node {
            Node::Op(op) => self.op(op, floor),
            other => self.node(other),
        };
        row.items.iter().map(part).collect()
    }

    /// Rows one above the other between a fork and a join.
    fn lanes(&self, rows: &[Row]) -> Laid {
        let lanes: Vec<_> = rows.iter().map(|row| self.row(row)).collect();
        let height: f64 = lanes.iter().map(|lane| lane.up + lane.down + APART).sum();
        let inner = lanes.iter().map(|lane| lane.width).fold(0.0, f64::max);
        let meet = 2.0 * FORK + inner + FORK;
        let mut top = -height / 2.0;
        let mut items = Vec::new();
        for lane in lanes {
            let y = top + APART / 2.0 + lane.up;
            top += lane.up + lane.down + APART;
            let start = 2.0 * FORK;
            items.push(Item::arrow([[FORK, 0.0], [FORK, y], [start + lane.enter, y]]));
            items.push(Item::line([[start + lane.leave, y], [meet, y], [meet, 0.0]]));
            items.extend(lane.items.into_iter().map(|item| item.moved(start, y)));
        }
        items.push(Item::line([[0.0, 0.0], [FORK, 0.0]]));
        items.push(Item::Circle { at: [meet, 0.0], radius: 3.0, fill: Ink::Line, edge: Ink::Line });
        items.push(Item::text([meet + 6.0, -6.0], "concat", SMALL, Ink::Faint));
        let width = meet + 6.0 + text_width("concat", SMALL);
        let half = height / 2.0;
        Laid { width, up: half, down: half, enter: 0.0, leave: meet + 3.0, items }
    }

    /// A row with a shortcut above it, and the sum of both.
    fn sum(&self, body: &Row, side: Option<&Row>) -> Laid {
        let body = self.row(body);
        let side = side.map(|side| self.row(side));
        let start = 2.0 * FORK;
        let (side_up, side_down) = side.as_ref().map_or((4.0, 4.0), |side| (side.up, side.down));
        let y = -(body.up + APART + side_down);
        let inner = side.as_ref().map_or(body.width, |side| side.width.max(body.width));
        let meet = start + inner + FORK + PLUS;
        let mut items = vec![Item::line([[0.0, 0.0], [start + body.enter, 0.0]])];
        match side {
            None => {
                items.push(Item::arrow([[FORK, 0.0], [FORK, y], [meet, y], [meet, -PLUS]]));
                items.push(Item::label(
                    [(FORK + meet) / 2.0, y - 4.0],
                    "identity",
                    SMALL,
                    Ink::Faint,
                ));
            }
            Some(side) => {
                let left = start + (inner - side.width) / 2.0;
                items.push(Item::arrow([[FORK, 0.0], [FORK, y], [left + side.enter, y]]));
                items.push(Item::arrow([[left + side.leave, y], [meet, y], [meet, -PLUS]]));
                items.extend(side.items.into_iter().map(|item| item.moved(left, y)));
            }
        }
        items.push(Item::arrow([[start + body.leave, 0.0], [meet - PLUS, 0.0]]));
        items.extend(body.items.into_iter().map(|item| item.moved(start, 0.0)));
        items.extend(plus([meet, 0.0]));
        let up = -y + side_up + if side_up == 4.0 { SMALL } else { 0.0 };
        let (width, leave) = (meet + PLUS, meet + PLUS);
        Laid { width, up, down: body.down, enter: 0.0, leave, items }
    }

    /// The axis goes on; below it hangs a small block.
    fn exit(&self, op: &Op) -> Laid {
        let text = op.lines.iter().map(|line| text_width(line, SMALL)).fold(0.0, f64::max);
        let width = text.max(24.0);
        let middle = width / 2.0;
        let (top, height) = (58.0, 16.0);
        let small = Cuboid { thickness: 6.0, height, depth: 10.0 };
        let left = middle - small.width() / 2.0;
        let mut items = vec![Item::line([[0.0, 0.0], [width, 0.0]])];
        items.push(Item::arrow([[middle, 0.0], [middle, top]]));
        let y = top + small.half_height() + 2.0;
        let mut block = small.faces(op.hue).to_vec();
        block = block.into_iter().map(|item| item.moved(left, y)).collect();
        let under = y + small.half_height();
        block.extend(op.lines.iter().enumerate().map(|(i, line)| {
            let ink = if i == 0 { Ink::Text } else { Ink::Faint };
            Item::label([middle, under + LINE * (i + 1) as f64], line, SMALL, ink)
        }));
        let target = self.links.then(|| anchor(&op.path));
        items.push(Item::Group { title: op.title.clone(), target, items: block });
        let down = under + LINE * op.lines.len() as f64;
        Laid { width, up: 2.0, down, enter: 0.0, leave: width, items }
    }
}

/// Parts side by side on one axis.
pub(super) fn in_turn(parts: Vec<Laid>) -> Laid {
    let mut all =
        Laid { width: 0.0, up: 2.0, down: 2.0, enter: 0.0, leave: 0.0, items: Vec::new() };
    for (i, part) in parts.into_iter().enumerate() {
        let left = if i == 0 { 0.0 } else { all.width + GAP };
        if i == 0 {
            all.enter = part.enter;
        } else {
            // Under the blocks, so that a line may begin behind a block's side.
            all.items.push(Item::arrow([[all.leave, 0.0], [left + part.enter, 0.0]]));
        }
        all.items.extend(part.items.into_iter().map(|item| item.moved(left, 0.0)));
        all.width = left + part.width;
        all.leave = left + part.leave;
        all.up = all.up.max(part.up);
        all.down = all.down.max(part.down);
    }
    all
}

/// The circle where a sum is made.
fn plus([x, y]: [f64; 2]) -> [Item; 3] {
    let arm = PLUS - 3.0;
    [
        Item::Circle { at: [x, y], radius: PLUS, fill: Ink::Paper, edge: Ink::Line },
        Item::line([[x - arm, y], [x + arm, y]]),
        Item::line([[x, y - arm], [x, y + arm]]),
    ]
}

/// A layer's id in a page.
pub(super) fn anchor(path: &str) -> String {
    format!("layer-{path}")
}

fn name(hue: Hue) -> &'static str {
    match hue {
        Hue::Conv => "convolution",
        Hue::Pool => "pooling",
        Hue::Dense => "fully connected",
        Hue::Norm => "normalisation",
        Hue::Residual => "residual block",
        Hue::Branches => "branches, joined",
        Hue::Plain => "input, other",
    }
}

/// How wide [`legend`] is.
pub(super) fn legend_width(hues: &[Hue]) -> f64 {
    hues.iter().map(|&hue| 33.0 + text_width(name(hue), SMALL)).sum()
}

/// The coloured squares that say what is what.
pub(super) fn legend(hues: &[Hue], y: f64) -> Vec<Item> {
    let mut x = 0.0;
    let mut items = Vec::new();
    for &hue in hues {
        let points = super::super::drawing::rectangle(x, y - 9.0, 10.0, 10.0);
        let (fill, edge) = (Some(Ink::Block(hue, Side::Front)), Some(Ink::Line));
        items.push(Item::Polygon { points, fill, edge });
        items.push(Item::text([x + 15.0, y], name(hue), SMALL, Ink::Faint));
        x += 33.0 + text_width(name(hue), SMALL);
    }
    items
}
