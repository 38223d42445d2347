//! Curves by epoch: a line for each row, a band where it has several runs, names at their ends.

use super::axes::{Axis, Sheet, Size, TEXT, bounds, width_of};
use super::labels;
use crate::Result;

/// A line of a figure.
#[derive(Clone, Debug)]
pub struct Curve {
    /// At its end.
    pub name: String,
    /// Its class, for the colour; with `dashed` for training.
    pub class: String,
    /// Epoch, and for each run its value then.
    pub points: Vec<(f64, Vec<f64>)>,
}

impl Curve {
    fn means(&self) -> impl Iterator<Item = (f64, f64)> + '_ {
        let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
        self.points.iter().map(move |(epoch, values)| (*epoch, mean(values)))
    }

    /// All its values.
    pub fn values(&self) -> impl Iterator<Item = f64> + '_ {
        self.points.iter().flat_map(|(_, values)| values.iter().copied())
    }
}

/// Points of a line that can be pointed at.
const MOST_HITS: usize = 60;

/// Draws `curves` over epochs.
///
/// # Errors
/// Where plotters cannot draw the axes.
pub fn curves(y: Axis, lines: &[Curve], mut size: Size) -> Result<Sheet> {
    let last = lines.iter().filter_map(|line| line.points.last()).map(|(epoch, _)| *epoch);
    let last = last.fold(1.0, f64::max);
    let widest = lines.iter().map(|line| width_of(&line.name, TEXT)).fold(0.0, f64::max);
    size.right = widest + 14.0;
    let first = if last > 1.0 { 1.0 } else { 0.5 };
    let x = Axis::linear("epoch", first..last.max(1.5), |epoch| format!("{epoch:.0}"));
    let format = y.format;
    let mut sheet = Sheet::new(size, x, y)?;
    for line in lines {
        band(&mut sheet, line);
    }
    for line in lines {
        let points: Vec<_> = line.means().map(|(epoch, y)| sheet.at(epoch, y)).collect();
        sheet.line(&points, &format!("line {}", line.class));
        if let [(x, y)] = points[..] {
            sheet.circle((x, y), 2.5, &format!("mark {}", line.class), "");
        }
    }
    names(&mut sheet, lines);
    for line in lines {
        hits(&mut sheet, line, format);
    }
    Ok(sheet)
}

/// From the lowest run to the highest.
fn band(sheet: &mut Sheet, line: &Curve) {
    if line.points.iter().all(|(_, values)| values.len() < 2) {
        return;
    }
    let edges =
        line.points.iter().filter_map(|(x, values)| Some((*x, bounds(values.iter().copied())?)));
    let edges: Vec<_> = edges.collect();
    let low = edges.iter().map(|(x, (low, _))| sheet.at(*x, *low));
    let high = edges.iter().rev().map(|(x, (_, high))| sheet.at(*x, *high));
    let around: Vec<_> = low.chain(high).collect();
    sheet.area(&around, &format!("band {}", line.class));
}

/// Names in the margin, at the height where their lines end.
fn names(sheet: &mut Sheet, lines: &[Curve]) {
    let ends: Vec<_> = lines.iter().filter_map(|l| Some((l, l.means().last()?))).collect();
    let places: Vec<_> = ends.iter().map(|(_, (x, y))| sheet.at(*x, *y)).collect();
    let wanted: Vec<f64> = places.iter().map(|(_, y)| *y).collect();
    let [_, top, right, bottom] = sheet.plane;
    let heights = labels::in_a_column(&wanted, TEXT + 2.0, top + 4.0, bottom);
    for (((line, _), (x, y)), height) in ends.iter().zip(places).zip(heights) {
        let early = right - x > 3.0;
        if early || (height - y).abs() > 3.0 {
            let kind = if early { "leader dotted" } else { "leader" };
            sheet.line(&[(x, y), (right + 8.0, height)], &format!("{kind} {}", line.class));
        }
        sheet.text((right + 10.0, height + 4.0), &line.name, &format!("name ink {}", line.class));
    }
}

/// Discs that nobody sees and a pointer finds.
fn hits(sheet: &mut Sheet, line: &Curve, format: fn(f64) -> String) {
    let every = line.points.len().div_ceil(MOST_HITS).max(1);
    let count = line.points.len();
    for (i, ((epoch, mean), (_, values))) in line.means().zip(&line.points).enumerate() {
        if i % every != 0 && i + 1 != count {
            continue;
        }
        let mut tip = format!("{}, epoch {epoch:.0}: {}", line.name, format(mean));
        if let (true, Some((low, high))) = (values.len() > 1, bounds(values.iter().copied())) {
            let (low, high) = (format(low), format(high));
            tip += &format!(" (mean of {}; {low} to {high})", values.len());
        }
        let at = sheet.at(epoch, mean);
        sheet.circle(at, 7.0, &format!("hit {}", line.class), &tip);
    }
}
