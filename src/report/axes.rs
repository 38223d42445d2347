//! The frame of a figure: axes, ticks and grid, drawn by plotters; marks come on top.
//!
//! plotters' SVG has no classes, no titles and no dashes, and the crates whose figures answer to a
//! pointer bring a megabyte or more of JavaScript. So plotters places and labels the axes, and marks
//! are written by [`Sheet`] with what a page needs of them: a class for the colour scheme, a title to
//! show on hover.

use std::fmt::Write as _;
use std::ops::Range;

use plotters::coord::Shift;
use plotters::coord::ranged1d::{DefaultFormatting, KeyPointHint};
use plotters::prelude::*;

use super::escape;
use crate::{Error, Result};

/// plotters counts in whole pixels: so many of them to a unit of the figure.
const FINE: f64 = 8.0;

/// Height of ordinary text, in units.
pub const TEXT: f64 = 12.0;

/// How values are spread along an axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    /// By their differences.
    Linear,
    /// By their ratios.
    Log,
}

/// One axis.
#[derive(Clone, Debug)]
pub struct Axis {
    /// What it shows, with the unit.
    pub label: String,
    /// From where to where, in values.
    pub range: Range<f64>,
    /// How values are spread.
    pub scale: Scale,
    /// How a tick is written.
    pub format: fn(f64) -> String,
}

impl Axis {
    /// A logarithmic axis that holds `values`, with room beside them.
    pub fn log(label: &str, values: &[f64], format: fn(f64) -> String) -> Self {
        let (low, high) =
            bounds(values.iter().copied().filter(|v| *v > 0.0)).unwrap_or((1.0, 10.0));
        let room = (high / low).powf(0.12).max(1.5);
        Axis { label: label.to_owned(), range: low / room..high * room, scale: Scale::Log, format }
    }

    /// A linear axis over `range`.
    pub fn linear(label: &str, range: Range<f64>, format: fn(f64) -> String) -> Self {
        Axis { label: label.to_owned(), range, scale: Scale::Linear, format }
    }

    /// A value's place on the axis: itself, or its logarithm.
    fn place(&self, value: f64) -> f64 {
        match self.scale {
            Scale::Linear => value,
            Scale::Log => value.max(f64::MIN_POSITIVE).log10(),
        }
    }

    fn places(&self) -> Range<f64> {
        self.place(self.range.start)..self.place(self.range.end)
    }

    /// Round values within the range, about `count` of them.
    fn ticks(&self, count: usize) -> Vec<f64> {
        match self.scale {
            Scale::Linear => linear_ticks(&self.range, count),
            Scale::Log => log_ticks(&self.range, count),
        }
    }
}

/// The smallest and the largest.
pub fn bounds(values: impl IntoIterator<Item = f64>) -> Option<(f64, f64)> {
    let finite = values.into_iter().filter(|value| value.is_finite());
    finite.fold(None, |found, value| {
        let (low, high) = found.unwrap_or((value, value));
        Some((value.min(low), value.max(high)))
    })
}

/// Multiples of 1, 2 or 5 times a power of ten, the smallest that are not too many.
fn linear_ticks(range: &Range<f64>, count: usize) -> Vec<f64> {
    let power = 10f64.powf(((range.end - range.start) / count as f64).log10().floor());
    let steps = [1.0, 2.0, 5.0, 10.0].map(|step| step * power);
    let ticks = |step: f64| -> Vec<f64> {
        let first = (range.start / step - 1e-9).ceil() as i64;
        let last = (range.end / step + 1e-9).floor() as i64;
        (first..=last).map(|i| i as f64 * step).collect()
    };
    let few = steps.into_iter().map(ticks).find(|ticks| ticks.len() <= count + 1);
    few.unwrap_or_else(|| ticks(10.0 * power))
}

/// Powers of ten, with 2 and 5, or 3, between where there is room.
fn log_ticks(range: &Range<f64>, count: usize) -> Vec<f64> {
    let powers = range.start.log10().floor() as i32..=range.end.log10().ceil() as i32;
    let with = |digits: &[f64]| -> Vec<f64> {
        let all =
            powers.clone().flat_map(|power| digits.iter().map(move |d| d * 10f64.powi(power)));
        all.filter(|tick| range.contains(tick)).collect()
    };
    let choices: [&[f64]; 3] = [&[1.0, 2.0, 5.0], &[1.0, 3.0], &[1.0]];
    let few = choices.into_iter().map(with).find(|ticks| ticks.len() <= count + 1);
    few.unwrap_or_else(|| with(&[1.0]))
}

/// The size of a figure, in units; a unit is a pixel where the figure is shown as large as it is.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// From left to right.
    pub width: f64,
    /// From top to bottom.
    pub height: f64,
    /// Kept free at the right, for names of lines.
    pub right: f64,
}

/// A figure under way: its axes are drawn, marks may be added.
pub struct Sheet {
    svg: String,
    axes: [Axis; 2],
    /// Left, top, right and bottom of the plane, in units.
    pub plane: [f64; 4],
    /// Of the whole figure.
    pub size: Size,
}

/// Room above the plane, for the name of the vertical axis.
const TOP: f64 = 26.0;
const LEFT: f64 = 42.0;
const BOTTOM: f64 = 40.0;

impl Sheet {
    /// Draws the axes.
    ///
    /// # Errors
    /// Where plotters cannot.
    pub fn new(size: Size, x: Axis, y: Axis) -> Result<Self> {
        let mut svg = String::new();
        let plane =
            frame(&mut svg, size, &x, &y).map_err(|why| Error::Setting(format!("plot: {why}")))?;
        let mut sheet = Sheet { svg: marks_only(&svg), axes: [x, y], plane, size };
        let [left, _, right, _] = sheet.plane;
        let (across, up) = (sheet.axes[0].label.clone(), sheet.axes[1].label.clone());
        sheet.text((right, size.height - 4.0), &across, "end axis");
        sheet.text((left.min(4.0), 12.0), &up, "axis");
        Ok(sheet)
    }

    /// Where a point of the plane is, in units.
    pub fn at(&self, x: f64, y: f64) -> (f64, f64) {
        let [left, top, right, bottom] = self.plane;
        let share = |axis: &Axis, value: f64| {
            let places = axis.places();
            (axis.place(value) - places.start) / (places.end - places.start)
        };
        let across = left + (right - left) * share(&self.axes[0], x);
        (across, bottom - (bottom - top) * share(&self.axes[1], y))
    }

    /// Adds an element; `inside` is SVG too.
    fn element(&mut self, open: std::fmt::Arguments<'_>, inside: &str) {
        let name: String = open.to_string().split(' ').next().unwrap_or_default().to_owned();
        let _ = match inside {
            "" => writeln!(self.svg, "<{open}/>"),
            _ => writeln!(self.svg, "<{open}>{inside}</{name}>"),
        };
    }

    /// Text; `class` has its place (`end`, `middle`) and its kind.
    pub fn text(&mut self, (x, y): (f64, f64), text: &str, class: &str) {
        let text = escape(text);
        self.element(format_args!("text x=\"{x:.1}\" y=\"{y:.1}\" class=\"{class}\""), &text);
    }

    /// A circle that says `tip` when it is pointed at.
    pub fn circle(&mut self, (x, y): (f64, f64), r: f64, class: &str, tip: &str) {
        let title = match tip {
            "" => String::new(),
            tip => format!("<title>{}</title>", escape(tip)),
        };
        // What can be pointed at can be reached by the keyboard.
        let focus = if tip.is_empty() || class.contains("hit") { "" } else { " tabindex=\"0\"" };
        let open = format_args!(
            "circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{r:.1}\" class=\"{class}\"{focus}"
        );
        self.element(open, &title);
    }

    /// A line through points in units.
    pub fn line(&mut self, points: &[(f64, f64)], class: &str) {
        let path = path(points);
        self.element(format_args!("polyline points=\"{path}\" class=\"{class}\""), "");
    }

    /// An area around points in units.
    pub fn area(&mut self, points: &[(f64, f64)], class: &str) {
        let path = path(points);
        self.element(format_args!("polygon points=\"{path}\" class=\"{class}\""), "");
    }

    /// The figure as an element of a page, or with `style` as a file of its own.
    pub fn svg(&self, title: &str, style: Option<&str>) -> String {
        let Size { width, height, .. } = self.size;
        let style = style.map_or(String::new(), |style| format!("<style>{style}</style>\n"));
        let title = escape(title);
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" \
             class=\"plot\" role=\"img\" aria-label=\"{title}\">\n{style}{}</svg>\n",
            self.svg
        )
    }
}

fn path(points: &[(f64, f64)]) -> String {
    points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect::<Vec<_>>().join(" ")
}

/// About how wide a text is, in units.
pub fn width_of(text: &str, size: f64) -> f64 {
    0.63 * size * text.chars().count() as f64
}

/// An axis as plotters wants it: from left to right evenly, with ticks of our choice.
struct Places {
    range: Range<f64>,
    ticks: Vec<f64>,
}

impl Ranged for Places {
    type FormatOption = DefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, (start, end): (i32, i32)) -> i32 {
        let share = (value - self.range.start) / (self.range.end - self.range.start);
        (f64::from(start) + share * f64::from(end - start)).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, _: Hint) -> Vec<f64> {
        self.ticks.clone()
    }

    fn range(&self) -> Range<f64> {
        self.range.clone()
    }
}

type Drawn<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Grid and ticks by plotters; where the plane is, in units.
fn frame(svg: &mut String, size: Size, x: &Axis, y: &Axis) -> Drawn<[f64; 4]> {
    let fine = |units: f64| (FINE * units).round() as u32;
    let root = SVGBackend::with_string(svg, (fine(size.width), fine(size.height)));
    let root: DrawingArea<SVGBackend, Shift> = root.into_drawing_area();
    let ticks = [
        (x, ((size.width - LEFT - size.right) / 62.0) as usize),
        (y, ((size.height - TOP - BOTTOM) / 36.0) as usize),
    ];
    let [across, up] = ticks.map(|(axis, count)| {
        let ticks = axis.ticks(count.max(2)).iter().map(|tick| axis.place(*tick)).collect();
        Places { range: axis.places(), ticks }
    });
    let mut chart = ChartBuilder::on(&root)
        .margin_top(fine(TOP))
        .margin_right(fine(size.right))
        .x_label_area_size(fine(BOTTOM))
        .y_label_area_size(fine(LEFT))
        .build_cartesian_2d(across, up)?;
    let label = |axis: &Axis, place: f64| match axis.scale {
        Scale::Linear => (axis.format)(place),
        Scale::Log => (axis.format)(10f64.powf(place)),
    };
    chart
        .configure_mesh()
        .disable_x_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(BLACK.stroke_width(fine(1.0)))
        .axis_style(BLACK.stroke_width(fine(1.0)))
        .set_all_tick_mark_size(fine(4.0))
        .label_style(("sans-serif", FINE * (TEXT - 1.0) * 1.24))
        .x_label_formatter(&|place| label(x, *place))
        .y_label_formatter(&|place| label(y, *place))
        .draw()?;
    let (across, up) = chart.plotting_area().get_pixel_range();
    root.present()?;
    Ok([across.start, up.start, across.end, up.end].map(|place| f64::from(place) / FINE))
}

/// plotters' elements without its frame, put back to units.
fn marks_only(svg: &str) -> String {
    let inside = svg.split_once('>').map_or("", |(_, rest)| rest);
    let inside = inside.trim().trim_end_matches("</svg>").trim();
    format!("<g class=\"frame\" transform=\"scale({})\">\n{inside}\n</g>\n", 1.0 / FINE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_within() {
        assert_eq!(linear_ticks(&(0.0..1.0), 5), [0.0, 0.2, 0.4, 0.6000000000000001, 0.8, 1.0]);
        assert_eq!(linear_ticks(&(0.61..0.89), 4).len(), 5); // 0.65 to 0.85
        assert_eq!(linear_ticks(&(0.0..1.7), 3), [0.0, 0.5, 1.0, 1.5]);
        assert_eq!(log_ticks(&(8e5..2e8), 4), [1e6, 3e6, 1e7, 3e7, 1e8]);
        assert_eq!(log_ticks(&(1.5e6..6e6), 4), [2e6, 5e6]);
    }

    #[test]
    fn plotters_and_marks_agree_about_the_plane() {
        let size = Size { width: 400.0, height: 300.0, right: 10.0 };
        let x = Axis::log("x", &[1e3, 1e6], |v| format!("{v}"));
        let y = Axis::linear("y", 0.0..1.0, |v| format!("{v}"));
        let (low, high) = (x.range.start, x.range.end);
        let sheet = Sheet::new(size, x, y).unwrap();
        assert_eq!(sheet.at(low, 0.0), (sheet.plane[0], sheet.plane[3]));
        let (right, top) = sheet.at(high, 1.0);
        assert!((right - sheet.plane[2]).abs() < 1e-6 && (top - sheet.plane[1]).abs() < 1e-6);
        assert!(sheet.svg("a < b", None).contains("aria-label=\"a &lt; b\""));
    }
}
