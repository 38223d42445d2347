//! A small anti-aliased rasteriser: polygons are filled with their exact area coverage.

/// A point; x to the right, y down.
pub(super) type Point = [f64; 2];

/// A colour, each channel in 0..=1.
pub(super) type Rgb = [f32; 3];

/// How much of each pixel a shape covers, inside the shape's bounding box.
pub(super) struct Mask {
    left: usize,
    top: usize,
    width: usize,
    height: usize,
    cover: Vec<f32>,
}

impl Mask {
    /// The coverage of a closed polygon, given in pixels, on a square canvas.
    ///
    /// Every edge adds its signed area to the right of itself; the running sum along a row is then
    /// the coverage.
    pub(super) fn polygon(points: &[Point], side: usize) -> Mask {
        let bound = |axis: usize| {
            let low = points.iter().map(|p| p[axis]).fold(f64::INFINITY, f64::min);
            let high = points.iter().map(|p| p[axis]).fold(f64::NEG_INFINITY, f64::max);
            let low = low.floor().clamp(0.0, side as f64) as usize;
            (low, (high.ceil().clamp(0.0, side as f64) as usize).max(low))
        };
        let ((left, right), (top, bottom)) = (bound(0), bound(1));
        let (width, height) = (right - left, bottom - top);
        let mut mask = Mask { left, top, width, height, cover: vec![0.0; width * height] };
        if !mask.cover.is_empty() {
            for (i, &from) in points.iter().enumerate() {
                mask.edge(from, points[(i + 1) % points.len()]);
            }
            mask.integrate();
        }
        mask
    }

    /// Adds one edge, row by row and in each row column by column.
    fn edge(&mut self, from: Point, to: Point) {
        let shift = |p: Point| [p[0] - self.left as f64, p[1] - self.top as f64];
        let (from, to) = (shift(from), shift(to));
        let (sign, upper, lower) = if from[1] < to[1] { (1.0, from, to) } else { (-1.0, to, from) };
        if upper[1] == lower[1] {
            return;
        }
        let slope = (lower[0] - upper[0]) / (lower[1] - upper[1]);
        let x_at = |y: f64| (upper[0] + (y - upper[1]) * slope).clamp(0.0, self.width as f64);
        let first = upper[1].max(0.0) as usize;
        let end = (lower[1].ceil().max(0.0) as usize).min(self.height);
        for row in first..end {
            let y0 = upper[1].max(row as f64);
            let y1 = lower[1].min((row + 1) as f64);
            let (x0, x1) = (x_at(y0), x_at(y1));
            let cells = &mut self.cover[row * self.width..(row + 1) * self.width];
            span(cells, x0.min(x1), x0.max(x1), sign * (y1 - y0));
        }
    }

    fn integrate(&mut self) {
        for row in self.cover.chunks_exact_mut(self.width) {
            let mut sum = 0.0;
            for cell in row {
                sum += *cell;
                *cell = sum.abs().min(1.0);
            }
        }
    }

    /// This shape, as far as it lies inside `other`.
    pub(super) fn within(mut self, other: &Mask) -> Mask {
        for row in 0..self.height {
            for column in 0..self.width {
                let inside = other.at(self.left + column, self.top + row);
                self.cover[row * self.width + column] *= inside;
            }
        }
        self
    }

    fn at(&self, x: usize, y: usize) -> f32 {
        let (x, y) = (x.wrapping_sub(self.left), y.wrapping_sub(self.top));
        if x < self.width && y < self.height { self.cover[y * self.width + x] } else { 0.0 }
    }
}

/// Spreads an edge of height `dy` from `x0` to `x1` over one row of cells.
fn span(cells: &mut [f32], x0: f64, x1: f64, dy: f64) {
    let mut x = x0;
    loop {
        let cell = x as usize;
        let stop = x1.min((cell + 1) as f64);
        let part = if x1 > x0 { dy * (stop - x) / (x1 - x0) } else { dy };
        let right_of = (x + stop) * 0.5 - cell as f64;
        if let Some(value) = cells.get_mut(cell) {
            *value += (part * (1.0 - right_of)) as f32;
        }
        if let Some(value) = cells.get_mut(cell + 1) {
            *value += (part * right_of) as f32;
        }
        if stop >= x1 {
            return;
        }
        x = stop;
    }
}

/// A square picture being painted.
pub(super) struct Canvas {
    /// Pixels a side.
    pub(super) side: usize,
    /// Rows from the top.
    pub(super) pixels: Vec<Rgb>,
}

impl Canvas {
    pub(super) fn new(side: usize, colour: Rgb) -> Canvas {
        Canvas { side, pixels: vec![colour; side * side] }
    }

    /// Lays `colour(x, y)` over what is there, where `mask` covers it, `alpha` opaque.
    pub(super) fn blend(&mut self, mask: &Mask, alpha: f32, colour: impl Fn(f64, f64) -> Rgb) {
        for row in 0..mask.height {
            let y = mask.top + row;
            for column in 0..mask.width {
                let weight = alpha * mask.cover[row * mask.width + column];
                if weight > 0.0 {
                    let x = mask.left + column;
                    let over = colour(x as f64 + 0.5, y as f64 + 0.5);
                    let pixel = &mut self.pixels[y * self.side + x];
                    *pixel = mix(*pixel, over, weight);
                }
            }
        }
    }

    /// Replaces every pixel by `change(x, y, pixel)`, with x and y in 0..1.
    pub(super) fn each(&mut self, mut change: impl FnMut(f32, f32, Rgb) -> Rgb) {
        let scale = 1.0 / self.side as f32;
        for (row, pixels) in self.pixels.chunks_exact_mut(self.side).enumerate() {
            for (column, pixel) in pixels.iter_mut().enumerate() {
                *pixel = change(column as f32 * scale, row as f32 * scale, *pixel);
            }
        }
    }

    /// A blur of the kernel [w, 1, w] / (1 + 2w) along both axes, `times` over.
    pub(super) fn blur(&mut self, weight: f32, times: usize) {
        for _ in 0..times {
            self.blur_along(1, self.side, weight);
            self.blur_along(self.side, 1, weight);
        }
    }

    fn blur_along(&mut self, step: usize, across: usize, weight: f32) {
        let norm = 1.0 / (1.0 + 2.0 * weight);
        for line in 0..self.side {
            let mut before = self.pixels[line * across];
            for i in 0..self.side {
                let at = line * across + i * step;
                let here = self.pixels[at];
                let after = if i + 1 < self.side { self.pixels[at + step] } else { here };
                self.pixels[at] =
                    std::array::from_fn(|c| (here[c] + weight * (before[c] + after[c])) * norm);
                before = here;
            }
        }
    }

    /// The pixels as bytes, row by row, RGB.
    pub(super) fn bytes(&self) -> Vec<u8> {
        let byte = |value: f32| (value * 255.0 + 0.5).clamp(0.0, 255.0) as u8;
        self.pixels.iter().flat_map(|pixel| pixel.map(byte)).collect()
    }
}

/// `a` with a share `t` of `b`.
pub(super) fn mix(a: Rgb, b: Rgb, t: f32) -> Rgb {
    std::array::from_fn(|c| a[c] + (b[c] - a[c]) * t)
}

/// `colour`, lighter (factor above 1) or darker.
pub(super) fn shade(colour: Rgb, factor: f32) -> Rgb {
    colour.map(|value| (value * factor).clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn area(points: &[Point]) -> f64 {
        Mask::polygon(points, 32).cover.iter().map(|&c| f64::from(c)).sum()
    }

    #[test]
    fn coverage_sums_to_the_area() {
        let square = [[2.25, 3.5], [7.75, 3.5], [7.75, 9.25], [2.25, 9.25]];
        assert!((area(&square) - 5.5 * 5.75).abs() < 1e-4);
        let triangle = [[1.0, 1.0], [30.0, 4.5], [9.3, 28.1]];
        let exact = 0.5 * (29.0f64 * 27.1 - 8.3 * 3.5);
        assert!((area(&triangle) - exact).abs() < 1e-3, "{} {exact}", area(&triangle));
    }

    #[test]
    fn orientation_does_not_matter() {
        let points = [[1.0, 1.0], [30.0, 4.5], [9.3, 28.1]];
        let backwards: Vec<Point> = points.iter().rev().copied().collect();
        assert!((area(&points) - area(&backwards)).abs() < 1e-4);
    }

    #[test]
    fn what_leaves_the_canvas_is_cut() {
        let big = [[-50.0, -50.0], [90.0, -50.0], [90.0, 90.0], [-50.0, 90.0]];
        assert!((area(&big) - 32.0 * 32.0).abs() < 1e-2);
        assert_eq!(area(&[[40.0, 40.0], [50.0, 40.0], [50.0, 60.0]]), 0.0);
        assert_eq!(area(&[]), 0.0);
    }

    #[test]
    fn one_shape_inside_another_is_their_overlap() {
        let square = |x: f64, y: f64| [[x, y], [x + 8.0, y], [x + 8.0, y + 8.0], [x, y + 8.0]];
        let outer = Mask::polygon(&square(4.0, 4.0), 32);
        let both = Mask::polygon(&square(8.0, 10.0), 32).within(&outer);
        assert!((both.cover.iter().sum::<f32>() - 8.0).abs() < 1e-4);
    }
}
