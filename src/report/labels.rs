//! Names beside marks, where they cover neither marks nor each other.

use super::axes::width_of;

/// A rectangle: left, top, right, bottom.
pub type Box4 = [f64; 4];

/// A name's place.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Placed {
    /// Where its text begins, on its base line; where it ends, if it stands left of its mark.
    pub at: (f64, f64),
    /// Whether it is placed by its end: fonts differ in how wide they are.
    pub by_end: bool,
    /// Whether it is so far from its mark that a line must lead there.
    pub far: bool,
}

/// The area that two rectangles share.
fn shared(a: &Box4, b: &Box4) -> f64 {
    let across = a[2].min(b[2]) - a[0].max(b[0]);
    let up = a[3].min(b[3]) - a[1].max(b[1]);
    across.max(0.0) * up.max(0.0)
}

/// Places the names of circles `(x, y, radius)` within `plane`, each where it covers least; the
/// nearest such place.
pub fn around(circles: &[(f64, f64, f64)], names: &[&str], size: f64, plane: Box4) -> Vec<Placed> {
    let disc = |&(x, y, r): &(f64, f64, f64)| [x - r, y - r, x + r, y + r];
    let mut taken: Vec<Box4> = circles.iter().map(disc).collect();
    let mut placed = Vec::new();
    for (circle, name) in circles.iter().zip(names) {
        let width = width_of(name, size);
        let choices = candidates(*circle, width, size);
        let cost = |(distance, area, _): &(f64, Box4, bool)| {
            let outside = width * size - shared(area, &plane);
            let covered: f64 = taken.iter().map(|other| shared(area, other)).sum();
            4.0 * outside + 2.0 * covered + distance
        };
        let best = choices.into_iter().min_by(|a, b| cost(a).total_cmp(&cost(b)));
        let none = [circle.0, circle.1, circle.0, circle.1];
        let (distance, area, by_end) = best.unwrap_or((0.0, none, false));
        let at = (if by_end { area[2] } else { area[0] }, area[3] - 0.22 * size);
        placed.push(Placed { at, by_end, far: distance > 14.0 });
        taken.push(area);
    }
    placed
}

/// Places around a circle, with how far off they are, and whether they end at the circle: right, left,
/// above, below, then rings.
fn candidates((x, y, r): (f64, f64, f64), width: f64, height: f64) -> Vec<(f64, Box4, bool)> {
    let area = |left: f64, top: f64| [left, top, left + width, top + height];
    let mut found = Vec::new();
    for gap in [3.0, 12.0, 22.0, 34.0] {
        let (middle, centre) = (y - height / 2.0, x - width / 2.0);
        let near = [
            (0.0, area(x + r + gap, middle)),
            (1.0, area(x - r - gap - width, middle)),
            (2.0, area(centre, y - r - gap - height)),
            (3.0, area(centre, y + r + gap)),
            (4.0, area(x + 0.7 * r + gap, y - 0.7 * r - gap - 0.6 * height)),
            (4.0, area(x + 0.7 * r + gap, y + 0.7 * r + gap - 0.4 * height)),
            (5.0, area(x - 0.7 * r - gap - width, y - 0.7 * r - gap - 0.6 * height)),
            (5.0, area(x - 0.7 * r - gap - width, y + 0.7 * r + gap - 0.4 * height)),
        ];
        found.extend(near.map(|(rank, area)| (rank + gap, area, area[2] < x)));
    }
    found
}

/// Heights for names that want to be at `wanted`, at least `apart` from each other, within
/// `top..bottom`; as near as a pass down and a pass up bring them.
pub fn in_a_column(wanted: &[f64], apart: f64, top: f64, bottom: f64) -> Vec<f64> {
    let mut order: Vec<usize> = (0..wanted.len()).collect();
    order.sort_by(|&a, &b| wanted[a].total_cmp(&wanted[b]));
    let mut heights: Vec<f64> = order.iter().map(|&i| wanted[i].clamp(top, bottom)).collect();
    // Neighbours that are too close become a block around the mean of what they want.
    let mut blocks: Vec<(f64, usize)> = Vec::new(); // sum of (wanted - offset), members
    for &height in &heights {
        blocks.push((height, 1));
        while let [.., (a, n), (b, m)] = blocks[..] {
            let end = a / n as f64 + n as f64 * apart;
            if b / m as f64 >= end {
                break;
            }
            blocks.truncate(blocks.len() - 2);
            blocks.push((a + b - (n * m) as f64 * apart, n + m));
        }
    }
    let mut at = 0;
    for (sum, members) in blocks {
        for i in 0..members {
            heights[at] = sum / members as f64 + i as f64 * apart;
            at += 1;
        }
    }
    let low = heights.first().map_or(0.0, |first| (top - first).max(0.0));
    heights.iter_mut().for_each(|height| *height += low);
    let mut floor = bottom;
    for height in heights.iter_mut().rev() {
        *height = height.min(floor);
        floor = *height - apart;
    }
    let mut out = vec![0.0; wanted.len()];
    order.iter().zip(heights).for_each(|(&i, height)| out[i] = height);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_neighbours_do_not_cover_each_other() {
        let circles = [(100.0, 100.0, 5.0), (104.0, 103.0, 5.0), (98.0, 108.0, 8.0)];
        let names = ["resnet18", "resnet34", "googlenet"];
        let plane = [0.0, 0.0, 300.0, 200.0];
        let placed = around(&circles, &names, 12.0, plane);
        let area = |i: usize| {
            let (x, y) = placed[i].at;
            let x = if placed[i].by_end { x - width_of(names[i], 12.0) } else { x };
            [x, y + 2.64 - 12.0, x + width_of(names[i], 12.0), y + 2.64]
        };
        for (a, b) in [(0, 1), (0, 2), (1, 2)] {
            assert!(shared(&area(a), &area(b)) < 1.0, "{a} and {b}: {placed:?}");
        }
    }

    #[test]
    fn names_in_a_column_keep_their_order_and_distance() {
        let heights = in_a_column(&[50.0, 52.0, 10.0, 51.0], 14.0, 0.0, 100.0);
        assert!((heights[2] - 10.0).abs() < 1e-9);
        let mut sorted = [heights[0], heights[3], heights[1]];
        assert!(sorted.windows(2).all(|pair| pair[1] - pair[0] > 13.99), "{heights:?}");
        sorted.sort_by(f64::total_cmp);
        assert!((sorted[1] - 51.0).abs() < 1e-9);
        let crowded = in_a_column(&[99.0, 98.0, 97.0], 14.0, 0.0, 100.0);
        assert!(crowded.iter().all(|height| *height <= 100.0));
    }
}
