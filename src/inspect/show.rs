//! What the analyses found, as sections of a [`Sheet`](super::Sheet).

use super::{
    Colours, HAND_MADE, Maps, Mistakes, Panel, Section, Subject, Viewer, Window, feature_maps,
    filters, gradcam, occlusion,
};
use crate::Result;
use crate::data::{Picture, Source};
use crate::nn::{Layer, Shape};

/// Side that photographs are drawn at.
pub(super) const LARGE: f64 = 220.0;
/// How much of a map is seen over the picture.
const STRENGTH: f32 = 0.65;

/// `98.2 %`
fn percent(share: f32) -> String {
    format!("{:.1} %", 100.0 * share)
}

/// `1 map`, `6 maps`
fn counted(n: usize, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

/// The filters of a network's first convolution.
///
/// # Errors
/// Where it has none.
pub fn show_filters(viewer: &Viewer) -> Result<Section> {
    let found = filters(&viewer.model.network)?;
    let Maps { count, channels, height, width, ref layer, .. } = found;
    // Of more channels than colours, the first.
    let picture = |i: usize| Panel::new(found.picture(i), 54.0, Vec::new());
    let colours = match channels {
        3 => "grey is 0, brighter adds, darker takes away",
        1 => "black is the smallest weight, white the largest",
        _ => "the first channel alone; black is the smallest weight, white the largest",
    };
    Ok(Section {
        heading: format!("{layer}: {} of {channels}×{height}×{width}", counted(count, "filter")),
        note: format!("Each filter scaled on its own: {colours}."),
        panels: (0..count).map(picture).collect(),
    })
}

/// The layers whose maps are shown unless others are named: the outermost ones that are not norms or
/// activations, down to a depth that has four of them.
///
/// # Errors
/// Where the input does not fit.
pub fn main_layers(layers: &Layer, input: Shape) -> Result<Vec<String>> {
    let trace = layers.trace(input)?;
    let mut found = Vec::new();
    for depth in 1..=8 {
        let wanted = trace.steps.iter().filter(|step| {
            let plain = step.layer.is_activation()
                || matches!(
                    step.layer,
                    Layer::BatchNorm2d { .. } | Layer::Dropout(_) | Layer::AuxHead { .. }
                );
            let leaf = step.layer.children().is_empty();
            let level = step.depth == depth || (leaf && step.depth < depth && step.depth > 0);
            let map = matches!(step.output, Shape::Map(_, h, w) if h * w > 1);
            map && level && !plain && !step.auxiliary
        });
        found = wanted.map(|step| step.path.clone()).collect::<Vec<_>>();
        found.dedup();
        if found.len() >= 4 {
            break;
        }
    }
    Ok(found)
}

/// What layers make of a picture, a section a layer, with at most `most` maps of each: those that vary
/// most.
///
/// # Errors
/// A name that no layer with maps has.
pub fn show_maps(
    viewer: &Viewer,
    subject: &Subject,
    layers: &[String],
    most: usize,
) -> Result<Vec<Section>> {
    let network = &viewer.model.network;
    let (c, h, w) = viewer.model.config.input;
    let layers = match layers {
        [] => main_layers(network.layers(), Shape::Map(c, h, w))?,
        named => named.to_vec(),
    };
    let section = |maps: &Maps| {
        let chosen = maps.liveliest(most);
        let panel = |&i: &usize| {
            Panel::new(maps.plane(i, 0).picture(Colours::Grey), 86.0, vec![i.to_string()])
        };
        Section {
            heading: format!(
                "{}: {} of {}×{}",
                maps.layer,
                counted(maps.count, "map"),
                maps.height,
                maps.width
            ),
            note: which_maps(chosen.len(), maps.count),
            panels: chosen.iter().map(panel).collect(),
        }
    };
    Ok(feature_maps(network, &subject.input, &layers)?.iter().map(section).collect())
}

/// Says which maps are shown, of how many.
fn which_maps(shown: usize, all: usize) -> String {
    match shown {
        1 if all > 1 => "The map that varies most; its number below.".to_owned(),
        n if n == all => "All maps, each scaled on its own.".to_owned(),
        n => format!("The {n} maps that vary most, each scaled on its own; its number below."),
    }
}

/// Grad-CAM of a picture for some classes; without any, for the `top` likeliest.
///
/// # Errors
/// No such layer or class.
pub fn show_gradcam(
    viewer: &Viewer,
    subject: &Subject,
    layer: Option<&str>,
    classes: &[usize],
    top: usize,
) -> Result<Section> {
    let network = &viewer.model.network;
    let classes = match classes {
        [] => likeliest(viewer, subject, top)?,
        named => named.to_vec(),
    };
    let seen = "as the network sees it".to_owned();
    let mut panels = vec![Panel::new(subject.picture.clone(), LARGE, vec![seen])];
    let mut shown = String::new();
    for class in classes {
        let cam = gradcam(network, &subject.input, layer, Some(class))?;
        let picture = cam.heat.over(&subject.picture, Colours::Rainbow, STRENGTH)?;
        let line = format!("{}: {}", viewer.class(class), percent(cam.probability));
        panels.push(Panel::new(picture, LARGE, vec![line]));
        shown = format!("{} ({}×{} places)", cam.layer, cam.heat.height, cam.heat.width);
    }
    let note = format!("Red: where the maps of {shown} speak most for the class.");
    Ok(Section { heading: String::new(), note, panels })
}

/// The `top` classes of a picture, the likeliest first.
fn likeliest(viewer: &Viewer, subject: &Subject, top: usize) -> Result<Vec<usize>> {
    let logits = viewer.model.network.logits(&subject.input)?;
    let row = super::values(&logits)?;
    let mut order: Vec<usize> = (0..row.len()).collect();
    order.sort_by(|&a, &b| row[b].total_cmp(&row[a]).then(a.cmp(&b)));
    order.truncate(top.max(1));
    Ok(order)
}

/// What covering parts of a picture does to a class.
///
/// # Errors
/// No such class; a patch that does not fit.
pub fn show_occlusion(
    viewer: &Viewer,
    subject: &Subject,
    class: Option<usize>,
    window: Window,
) -> Result<Section> {
    let found = occlusion(&viewer.model.network, &subject.input, class, window)?;
    let name = viewer.class(found.class);
    let picture = found.heat.over(&subject.picture, Colours::Signed, 0.8)?;
    let (least, most) = found.places.range();
    let line = format!("{name}: {}", percent(found.probability));
    let after = format!(
        "loses up to {:.1} points, gains up to {:.1}",
        100.0 * most.max(0.0),
        100.0 * (-least).max(0.0)
    );
    let Window { size, stride } = window;
    let note = format!(
        "A patch of {size}×{size} pixels, moved by {stride}. Red: covering this takes probability \
         from {name}; blue: gives it some."
    );
    let panels = vec![
        Panel::new(subject.picture.clone(), LARGE, vec![line]),
        Panel::new(picture, LARGE, vec![after]),
        Panel::new(found.places.picture(Colours::Signed), LARGE, vec!["place by place".to_owned()]),
    ];
    Ok(Section { heading: String::new(), note, panels })
}

/// Hand-made filters over a picture.
///
/// # Errors
/// A picture of less than 3x3 pixels.
pub fn show_kernels(picture: &Picture) -> Result<Section> {
    let mut panels =
        vec![Panel::new(picture.with_channels(3), 210.0, vec!["the picture".to_owned()])];
    for kernel in &HAND_MADE {
        let whole = kernel.weights.iter().all(|weight| weight.fract() == 0.0);
        let (over, factor) = if whole { ("", 1.0) } else { (", over 16", 16.0) };
        let mut lines = vec![format!("{}{over}", kernel.name)];
        lines.extend(kernel.weights.chunks(3).map(|row| {
            let weights: Vec<_> = row.iter().map(|weight| (weight * factor).to_string()).collect();
            weights.join("   ")
        }));
        panels.push(Panel::new(kernel.picture(picture)?, 210.0, lines));
    }
    let note = "Blue: below 0; red: above. The same convolution as in the networks, on grey values; \
                nothing here is learned.";
    Ok(Section { heading: String::new(), note: note.to_owned(), panels })
}

/// The pictures of `source` that a network is most wrong about; `classes` are what the source calls its
/// classes.
///
/// # Errors
/// A picture that cannot be read.
pub fn show_mistakes(
    viewer: &Viewer,
    found: &Mistakes,
    source: &dyn Source,
    classes: &[String],
) -> Result<Section> {
    let mut panels = Vec::new();
    for mistake in &found.worst {
        let picture = viewer.see(&source.picture(mistake.index)?)?.picture;
        let truth = match classes.get(mistake.truth) {
            Some(name) => format!("is {name}"),
            None => format!("is {}", mistake.truth),
        };
        let guess =
            format!("taken for {}, {}", viewer.class(mistake.guess), percent(mistake.confidence));
        let name = source.name(mistake.index);
        let name = name.rsplit(['/', '\\']).next().unwrap_or_default().to_owned();
        panels.push(Panel::new(picture, 110.0, vec![truth, guess, name]));
    }
    let right = found.images - found.wrong;
    let heading = format!("{right} of {} right, {} wrong", found.images, found.wrong);
    let note = if panels.is_empty() { "" } else { "Those first whose own class got least." };
    Ok(Section { heading, note: note.to_owned(), panels })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_said_as_one() {
        assert_eq!((counted(1, "map"), counted(6, "map")), ("1 map".into(), "6 maps".into()));
        assert_eq!(which_maps(1, 6), "The map that varies most; its number below.");
        assert!(which_maps(2, 6).starts_with("The 2 maps that vary most"));
        assert!(which_maps(6, 6).starts_with("All maps"));
    }
}
