//! A drawing as SVG. Colours stand at each element, for programs that know no style sheets; a style
//! sheet replaces them where the reader's system is dark.

use std::fmt::Write;

use base64::Engine;

use super::ink::{Ink, hex};
use super::{Anchor, Drawing, Item, Point};

/// Radius of a line's rounded corners.
const ROUND: f64 = 6.0;

const FONT: &str = "Helvetica, Arial, 'Liberation Sans', 'DejaVu Sans', sans-serif";

/// The file.
pub(super) fn file(drawing: &Drawing) -> String {
    let style = format!("<style>\n{}</style>\n", dark_style());
    let paper =
        format!("<rect width=\"100%\" height=\"100%\" {}/>\n", paint(Some(Ink::Paper), None, 0.0));
    with_inside(drawing, &format!("{style}{paper}"))
}

/// The element, for a page that has [`dark_style`] itself.
pub(super) fn element(drawing: &Drawing) -> String {
    with_inside(drawing, "")
}

/// What changes in the dark.
pub(crate) fn dark_style() -> String {
    let mut css = "@media (prefers-color-scheme: dark) {\n".to_owned();
    for ink in Ink::all() {
        let (class, colour) = (ink.class(), hex(ink.dark()));
        let _ = writeln!(css, ".f-{class} {{ fill: {colour} }} .s-{class} {{ stroke: {colour} }}");
    }
    css.push_str("}\n");
    css
}

fn with_inside(drawing: &Drawing, first: &str) -> String {
    let (w, h) = (drawing.width.ceil(), drawing.height.ceil());
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{w}\" height=\"{h}\" \
         viewBox=\"0 0 {w} {h}\" font-family=\"{FONT}\" role=\"img\">\n\
         <title>{}</title>\n{first}",
        escaped(&drawing.title)
    );
    drawing.items.iter().for_each(|item| write_item(&mut out, item));
    out.push_str("</svg>\n");
    out
}

fn write_item(out: &mut String, item: &Item) {
    // Writing to a String cannot fail.
    let _ = match item {
        Item::Polygon { points, fill: area, edge } => writeln!(
            out,
            "<path d=\"{}Z\" {} stroke-linejoin=\"round\"/>",
            path(points),
            paint(*area, *edge, 0.8)
        ),
        Item::Line { points, ink, width, dashed, arrow } => {
            let dash = if *dashed { " stroke-dasharray=\"4 3\"" } else { "" };
            if *arrow {
                let head = arrow_head(points);
                let _ = writeln!(
                    out,
                    "<path d=\"{}Z\" {}/>",
                    path(&head),
                    paint(Some(*ink), None, 0.0)
                );
            }
            let paint = paint(None, Some(*ink), *width);
            writeln!(out, "<path d=\"{}\" {paint}{dash}/>", rounded(points))
        }
        Item::Circle { at, radius, fill: area, edge } => writeln!(
            out,
            "<circle cx=\"{}\" cy=\"{}\" r=\"{}\" {}/>",
            short(at[0]),
            short(at[1]),
            short(*radius),
            paint(Some(*area), Some(*edge), 1.0)
        ),
        Item::Text { at, text, size, anchor, ink, bold } => {
            let anchor = match anchor {
                Anchor::Start => "",
                Anchor::Middle => " text-anchor=\"middle\"",
                Anchor::End => " text-anchor=\"end\"",
            };
            let weight = if *bold { " font-weight=\"bold\"" } else { "" };
            writeln!(
                out,
                "<text x=\"{}\" y=\"{}\" font-size=\"{size}\"{anchor}{weight} {}>{}</text>",
                short(at[0]),
                short(at[1]),
                paint(Some(*ink), None, 0.0),
                escaped(text)
            )
        }
        Item::Image { at, size, picture } => writeln!(
            out,
            "<image x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" \
             preserveAspectRatio=\"none\" style=\"image-rendering: pixelated\" href=\"{}\"/>",
            short(at[0]),
            short(at[1]),
            short(size[0]),
            short(size[1]),
            data_url(picture)
        ),
        Item::Group { title, target, items } => {
            let target = target.as_ref().map(|id| format!(" data-target=\"{}\"", escaped(id)));
            let class = if target.is_some() { " class=\"link\"" } else { "" };
            let _ = writeln!(out, "<g{class}{}>", target.unwrap_or_default());
            if !title.is_empty() {
                let _ = writeln!(out, "<title>{}</title>", escaped(title));
            }
            items.iter().for_each(|item| write_item(out, item));
            writeln!(out, "</g>")
        }
    };
}

/// A picture as a URL that holds it.
pub(crate) fn data_url(picture: &crate::data::Picture) -> String {
    // A picture of no size has no PNG; an empty URL shows nothing either.
    let png = super::png(picture).unwrap_or_default();
    format!("data:image/png;base64,{}", base64::engine::general_purpose::STANDARD.encode(png))
}

/// The attributes of what is filled and has a border.
fn paint(fill: Option<Ink>, stroke: Option<Ink>, width: f64) -> String {
    let (mut classes, mut colours) = (Vec::new(), String::new());
    match fill {
        Some(ink) => {
            classes.push(format!("f-{}", ink.class()));
            let _ = write!(colours, " fill=\"{}\"", hex(ink.light()));
        }
        None => colours.push_str(" fill=\"none\""),
    }
    if let Some(ink) = stroke {
        classes.push(format!("s-{}", ink.class()));
        let _ = write!(colours, " stroke=\"{}\" stroke-width=\"{width}\"", hex(ink.light()));
    }
    match classes.is_empty() {
        true => colours.trim_start().to_owned(),
        false => format!("class=\"{}\"{colours}", classes.join(" ")),
    }
}

fn path(points: &[Point]) -> String {
    let mut out = String::new();
    for (i, [x, y]) in points.iter().enumerate() {
        let _ = write!(out, "{}{} {}", if i == 0 { "M" } else { "L" }, short(*x), short(*y));
    }
    out
}

/// A line whose corners are round.
fn rounded(points: &[Point]) -> String {
    let mut out = String::new();
    for (kind, list) in super::raster::segments(points, ROUND) {
        let _ = write!(out, "{kind}");
        for (i, [x, y]) in list.iter().enumerate() {
            let _ = write!(out, "{}{} {}", if i == 0 { "" } else { " " }, short(*x), short(*y));
        }
    }
    out
}

pub(super) fn arrow_head(points: &[Point]) -> Vec<Point> {
    let &[.., from, to] = points else { return Vec::new() };
    let (dx, dy) = (to[0] - from[0], to[1] - from[1]);
    let length = dx.hypot(dy).max(1e-9);
    let (ux, uy) = (dx / length, dy / length);
    let back = |along: f64, across: f64| {
        [to[0] - ux * along - uy * across, to[1] - uy * along + ux * across]
    };
    vec![to, back(6.0, 3.0), back(6.0, -3.0)]
}

/// A number without needless digits.
fn short(number: f64) -> String {
    let text = format!("{number:.1}");
    text.strip_suffix(".0").map(str::to_owned).unwrap_or(text)
}

/// Text as XML has it.
pub(crate) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            // XML has no place for these.
            '\t' | '\n' | '\r' => out.push(' '),
            c if c < ' ' => {}
            c => out.push(c),
        }
    }
    out
}
