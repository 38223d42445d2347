//! The colours of drawings, light and dark.

/// What a layer does, as far as its colour tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hue {
    /// Convolution.
    Conv,
    /// Pooling.
    Pool,
    /// Fully connected.
    Dense,
    /// Normalisation on its own.
    Norm,
    /// A residual block.
    Residual,
    /// Branches, as an inception module.
    Branches,
    /// The input, and whatever is left.
    Plain,
}

/// A side of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Towards the reader.
    Front,
    /// The upper one.
    Top,
    /// The one that shows the map.
    Right,
}

/// What is drawn with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ink {
    /// The background.
    Paper,
    /// Text.
    Text,
    /// Text of less weight.
    Faint,
    /// Lines, arrows, borders.
    Line,
    /// What is to be seen first.
    Mark,
    /// A side of a block.
    Block(Hue, Side),
}

type Rgb = [u8; 3];

impl Hue {
    /// All of them.
    pub(super) const ALL: [Hue; 7] =
        [Hue::Conv, Hue::Pool, Hue::Dense, Hue::Norm, Hue::Residual, Hue::Branches, Hue::Plain];

    fn rgb(self) -> Rgb {
        match self {
            Hue::Conv => [242, 193, 92],
            Hue::Pool => [214, 98, 90],
            Hue::Dense => [120, 160, 218],
            Hue::Norm => [150, 196, 120],
            Hue::Residual => [233, 151, 84],
            Hue::Branches => [171, 143, 209],
            Hue::Plain => [190, 194, 200],
        }
    }

    fn name(self) -> &'static str {
        match self {
            Hue::Conv => "conv",
            Hue::Pool => "pool",
            Hue::Dense => "dense",
            Hue::Norm => "norm",
            Hue::Residual => "residual",
            Hue::Branches => "branches",
            Hue::Plain => "plain",
        }
    }
}

impl Side {
    pub(super) const ALL: [Side; 3] = [Side::Front, Side::Top, Side::Right];

    /// Lighter above, darker at the right.
    fn shade(self) -> f64 {
        match self {
            Side::Front => 1.0,
            Side::Top => 1.12,
            Side::Right => 0.84,
        }
    }
}

impl Ink {
    /// All inks.
    pub(super) fn all() -> impl Iterator<Item = Ink> {
        let blocks = Hue::ALL.into_iter().flat_map(|hue| Side::ALL.map(|s| Ink::Block(hue, s)));
        [Ink::Paper, Ink::Text, Ink::Faint, Ink::Line, Ink::Mark].into_iter().chain(blocks)
    }

    /// Its name in a style sheet.
    pub(super) fn class(self) -> String {
        match self {
            Ink::Paper => "paper".to_owned(),
            Ink::Text => "text".to_owned(),
            Ink::Faint => "faint".to_owned(),
            Ink::Line => "line".to_owned(),
            Ink::Mark => "mark".to_owned(),
            Ink::Block(hue, side) => {
                let side = match side {
                    Side::Front => "front",
                    Side::Top => "top",
                    Side::Right => "right",
                };
                format!("{}-{side}", hue.name())
            }
        }
    }

    /// Its colour on white paper.
    pub(super) fn light(self) -> Rgb {
        match self {
            Ink::Paper => [255, 255, 255],
            Ink::Text => [28, 30, 34],
            Ink::Faint => [96, 100, 108],
            Ink::Line => [74, 78, 86],
            Ink::Mark => [196, 30, 58],
            Ink::Block(hue, side) => {
                hue.rgb().map(|c| (f64::from(c) * side.shade()).min(255.0).round() as u8)
            }
        }
    }

    /// Its colour in the dark.
    pub(super) fn dark(self) -> Rgb {
        match self {
            Ink::Paper => [22, 24, 29],
            Ink::Text => [232, 234, 238],
            Ink::Faint => [164, 169, 178],
            Ink::Line => [158, 164, 174],
            Ink::Mark => [255, 110, 130],
            Ink::Block(..) => self.light().map(|c| (f64::from(c) * 0.78).round() as u8),
        }
    }
}

/// `#rrggbb`
pub(super) fn hex([r, g, b]: Rgb) -> String {
    format!("#{r:02x}{g:02x}{b:02x}")
}
