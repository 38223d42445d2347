//! Accuracy against what it costs: circles, with areas in proportion to parameters where asked.

use super::axes::{Axis, Scale, Sheet, Size, TEXT, bounds, width_of};
use super::labels;
use crate::Result;

/// A circle of a figure.
#[derive(Clone, Debug)]
pub struct Mark {
    /// Beside it.
    pub name: String,
    /// Its class, for the colour.
    pub class: String,
    /// What is shown when it is pointed at.
    pub tip: String,
    /// Along the axis across.
    pub x: f64,
    /// Along the axis upward.
    pub y: f64,
    /// Half the length of the bar that shows how far runs are apart.
    pub deviation: Option<f64>,
    /// Parameters, where its area shows them.
    pub params: Option<f64>,
}

/// The largest circle's radius, and the smallest's.
const RADII: [f64; 2] = [26.0, 3.5];

/// The radius of a plain mark.
const PLAIN: f64 = 6.0;

/// Circles for `marks`; `y` may be widened so that they are within.
///
/// # Errors
/// Where plotters cannot draw the axes.
pub fn scatter(x: Axis, y: Axis, marks: &[Mark], size: Size) -> Result<Sheet> {
    let mut sheet = Sheet::new(size, x, y)?;
    let most = marks.iter().filter_map(|mark| mark.params).fold(0.0, f64::max);
    let radius = |mark: &Mark| mark.params.map_or(PLAIN, |params| radius(params, most));
    let place = |mark: &Mark| {
        let (x, y) = sheet.at(mark.x, mark.y);
        (x, y, radius(mark))
    };
    let circles: Vec<_> = marks.iter().map(place).collect();
    let names: Vec<&str> = marks.iter().map(|mark| mark.name.as_str()).collect();
    let names = labels::around(&circles, &names, TEXT, sheet.plane);
    bars(&mut sheet, marks, &circles);
    // Large circles first: small ones must not vanish under them.
    let mut order: Vec<usize> = (0..marks.len()).collect();
    order.sort_by(|&a, &b| circles[b].2.total_cmp(&circles[a].2));
    for i in order {
        let (x, y, r) = circles[i];
        sheet.circle((x, y), r, &format!("mark {}", marks[i].class), &marks[i].tip);
    }
    for ((mark, placed), (x, y, _)) in marks.iter().zip(names).zip(circles) {
        if placed.far {
            let half = width_of(&mark.name, TEXT) / if placed.by_end { -2.0 } else { 2.0 };
            let middle = (placed.at.0 + half, placed.at.1 - TEXT / 3.0);
            sheet.line(&[(x, y), middle], &format!("leader {}", mark.class));
        }
        sheet.text(placed.at, &mark.name, if placed.by_end { "end name" } else { "name" });
    }
    if most > 0.0 {
        legend(&mut sheet, most);
    }
    Ok(sheet)
}

/// Areas in proportion to parameters, but that nothing is too small to see.
fn radius(params: f64, most: f64) -> f64 {
    (RADII[0] * (params / most).sqrt()).max(RADII[1])
}

/// How far the runs of a mark are apart.
fn bars(sheet: &mut Sheet, marks: &[Mark], circles: &[(f64, f64, f64)]) {
    for (mark, (x, _, _)) in marks.iter().zip(circles) {
        if let Some(deviation) = mark.deviation {
            let [low, high] = [-deviation, deviation].map(|by| sheet.at(mark.x, mark.y + by).1);
            sheet.line(&[(*x, low), (*x, high)], &format!("bar {}", mark.class));
        }
    }
}

/// What the circles' areas mean, beside the vertical axis' name.
fn legend(sheet: &mut Sheet, most: f64) {
    let steps = (2..12).flat_map(|power| [1.0, 3.0].map(|digit| digit * 10f64.powi(power)));
    // Neither so small that they are drawn larger than they are, nor too large for a line of text.
    let fits = |step: &f64| radius(*step, most) > RADII[1] && radius(*step, most) < 13.0;
    let steps: Vec<f64> = steps.filter(fits).collect();
    let mut x = sheet.plane[2];
    for (i, step) in steps.iter().rev().take(3).enumerate() {
        let r = radius(*step, most);
        let unit = if i == 0 { " parameters" } else { "" };
        let text = format!("{}{unit}", super::columns::round(*step));
        x -= 0.85 * width_of(&text, TEXT - 1.0);
        sheet.text((x, 12.0), &text, "axis");
        x -= r + 4.0;
        sheet.circle((x, 8.0_f64.max(r + 1.0)), r, "mark legend", "");
        x -= r + 12.0;
    }
}

/// An axis for shares of right pictures, as close around `values` as is honest: at least ten points.
pub fn share_axis(label: &str, values: &[f64]) -> Axis {
    let (low, high) = bounds(values.iter().copied()).unwrap_or((0.0, 1.0));
    let room = 0.12 * (high - low).max(0.1);
    let middle = (low + high) / 2.0;
    let half = ((high - low) / 2.0 + room).max(0.05);
    // Whole steps of five points, so that the axis does not begin anywhere.
    let step = if half < 0.1 { 0.02 } else { 0.05 };
    let low = (((middle - half) / step).floor() * step).max(0.0);
    let high = (((middle + half) / step).ceil() * step).min(1.0 + 0.4 * step);
    let format = |share: f64| format!("{} %", super::columns::plain(100.0 * share));
    Axis { label: label.to_owned(), range: low..high, scale: Scale::Linear, format }
}
