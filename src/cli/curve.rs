//! One curve over a logarithmic axis, as a small SVG.

use std::fmt::Write as _;

/// A curve, and what is written beside it.
pub struct Curve {
    pub title: String,
    pub x_name: String,
    pub y_name: String,
    /// Points (x, y) of the curve.
    pub line: Vec<(f64, f64)>,
    /// Points behind it, drawn faintly.
    pub faint: Vec<(f64, f64)>,
    pub marks: Vec<Mark>,
}

/// A place on the x axis.
pub struct Mark {
    pub x: f64,
    pub name: String,
}

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 420.0;
/// Left, right, top and bottom edge of the plot.
const FRAME: [f64; 4] = [72.0, 696.0, 64.0, 360.0];

/// Values to pixels.
struct Scale {
    x: [f64; 2],
    y: [f64; 2],
}

impl Scale {
    /// Around the curve; the faint points may lie outside.
    fn of(curve: &Curve) -> Self {
        let range = |values: &mut dyn Iterator<Item = f64>| {
            values.fold([f64::INFINITY, f64::NEG_INFINITY], |[low, high], v| {
                [low.min(v), high.max(v)]
            })
        };
        let x = range(&mut curve.line.iter().map(|point| point.0.log10()));
        let [low, high] = range(&mut curve.line.iter().map(|point| point.1));
        let margin = (0.08 * (high - low)).max(1e-6);
        Scale { x: [x[0], x[1].max(x[0] + 1e-6)], y: [low - margin, high + margin] }
    }

    fn x(&self, x: f64) -> f64 {
        let share = (x.log10() - self.x[0]) / (self.x[1] - self.x[0]);
        FRAME[0] + share * (FRAME[1] - FRAME[0])
    }

    fn y(&self, y: f64) -> f64 {
        let share = (y - self.y[0]) / (self.y[1] - self.y[0]);
        FRAME[3] - share.clamp(-1.0, 2.0) * (FRAME[3] - FRAME[2])
    }
}

impl Curve {
    /// The picture.
    pub fn svg(&self) -> String {
        let scale = Scale::of(self);
        let [left, right, top, bottom] = FRAME;
        let (width, height) = (right - left, bottom - top);
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
             font-family=\"sans-serif\" font-size=\"13\" fill=\"#333\">\n\
             <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"#fff\"/>\n\
             <text x=\"{left}\" y=\"28\" font-size=\"16\">{}</text>\n\
             <clipPath id=\"plot\"><rect x=\"{left}\" y=\"{top}\" width=\"{width}\" \
             height=\"{height}\"/></clipPath>\n",
            escaped(&self.title)
        );
        self.axes(&scale, &mut svg);
        let paths = [(&self.faint, "#b8c4d4", 1.0), (&self.line, "#2458a6", 2.5)];
        for (points, colour, width) in paths {
            let points: Vec<String> = points
                .iter()
                .map(|&(x, y)| format!("{:.1},{:.1}", scale.x(x), scale.y(y)))
                .collect();
            put(
                &mut svg,
                format_args!(
                    "<polyline clip-path=\"url(#plot)\" fill=\"none\" stroke=\"{colour}\" \
                 stroke-width=\"{width}\" stroke-linejoin=\"round\" points=\"{}\"/>",
                    points.join(" ")
                ),
            );
        }
        for (row, mark) in self.marks.iter().enumerate() {
            self.mark(mark, row, &scale, &mut svg);
        }
        svg + "</svg>\n"
    }

    fn axes(&self, scale: &Scale, svg: &mut String) {
        let [left, right, top, bottom] = FRAME;
        for power in scale.x[0].ceil() as i32..=scale.x[1].floor() as i32 {
            let x = scale.x(10f64.powi(power));
            put(
                svg,
                format_args!(
                    "<path d=\"M{x:.1} {top}V{bottom}\" stroke=\"#e4e4e4\"/><text x=\"{x:.1}\" \
                 y=\"{}\" text-anchor=\"middle\">1e{power}</text>",
                    bottom + 18.0
                ),
            );
        }
        let step = tick((scale.y[1] - scale.y[0]) / 5.0);
        let first = (scale.y[0] / step).ceil() as i64;
        let last = (scale.y[1] / step).floor() as i64;
        let digits = (-step.log10().floor()).max(0.0) as usize;
        for tick in first..=last {
            let value = tick as f64 * step;
            let y = scale.y(value);
            put(
                svg,
                format_args!(
                    "<path d=\"M{left} {y:.1}H{right}\" stroke=\"#e4e4e4\"/><text x=\"{}\" y=\"{:.1}\" \
                 text-anchor=\"end\">{value:.digits$}</text>",
                    left - 8.0,
                    y + 4.5
                ),
            );
        }
        let (middle_x, middle_y) = ((left + right) / 2.0, (top + bottom) / 2.0);
        put(
            svg,
            format_args!(
                "<path d=\"M{left} {top}V{bottom}H{right}\" fill=\"none\" stroke=\"#777\"/>\n\
             <text x=\"{middle_x}\" y=\"{}\" text-anchor=\"middle\">{}</text>\n\
             <text transform=\"translate(20 {middle_y}) rotate(-90)\" \
             text-anchor=\"middle\">{}</text>",
                bottom + 44.0,
                escaped(&self.x_name),
                escaped(&self.y_name)
            ),
        );
    }

    /// A line from top to bottom, its name above the plot; names of two rows do not touch.
    fn mark(&self, mark: &Mark, row: usize, scale: &Scale, svg: &mut String) {
        if mark.x.log10() < scale.x[0] || mark.x.log10() > scale.x[1] {
            return;
        }
        let ([left, right, top, bottom], x) = (FRAME, scale.x(mark.x));
        let anchor = if x > (left + right) / 2.0 { "end" } else { "start" };
        put(
            svg,
            format_args!(
                "<path d=\"M{x:.1} {}V{bottom}\" stroke=\"#c2571a\" stroke-dasharray=\"4 3\"/>\n\
             <text x=\"{x:.1}\" y=\"{}\" text-anchor=\"{anchor}\" fill=\"#c2571a\">{}</text>",
                top - 14.0 * (row % 2) as f64,
                top - 4.0 - 14.0 * (row % 2) as f64,
                escaped(&mark.name)
            ),
        );
    }
}

fn put(svg: &mut String, line: std::fmt::Arguments<'_>) {
    let _ = writeln!(svg, "{line}"); // a String takes everything
}

/// 1, 2 or 5 times a power of ten, not below `step`.
fn tick(step: f64) -> f64 {
    let power = 10f64.powf(step.log10().floor());
    let factors = [1.0, 2.0, 5.0, 10.0];
    power * factors.into_iter().find(|factor| power * factor >= step).unwrap_or(10.0)
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round() {
        assert_eq!([0.07, 0.13, 3.0, 1.0].map(tick), [0.1, 0.2, 5.0, 1.0]);
    }

    #[test]
    fn a_curve_is_whole_and_escaped() {
        let curve = Curve {
            title: "a < b & c".to_owned(),
            x_name: "x".to_owned(),
            y_name: "y".to_owned(),
            line: vec![(1e-3, 2.0), (1e-2, 1.0), (1e-1, 3.0)],
            faint: vec![(1e-3, 200.0)],
            marks: vec![
                Mark { x: 1e-2, name: "here".to_owned() },
                Mark { x: 1.0, name: "out".to_owned() },
            ],
        };
        let svg = curve.svg();
        assert!(svg.contains("a &lt; b &amp; c") && svg.ends_with("</svg>\n"));
        assert!(svg.contains("1e-2<") && svg.contains("here") && !svg.contains("out<"));
        assert_eq!(svg.matches("<polyline").count(), 2);
        assert!(!svg.contains("NaN") && !svg.contains("inf"));
    }
}
