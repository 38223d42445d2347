//! Diagrams: every network has one, it is well-formed, nothing is left out or beyond the paper.

use std::collections::HashSet;

use convzoo::Result;
use convzoo::data::{Limits, decode};
use convzoo::inspect::{Drawing, Item, Page, diagram};
use convzoo::models::{self, ARCHITECTURES};
use convzoo::nn::{Layer, Shape};

fn tree(model: &str) -> Result<(Layer, Shape)> {
    let architecture = models::find(model)?;
    let (c, h, w) = architecture.input;
    Ok((architecture.layers(&architecture.config())?, Shape::Map(c, h, w)))
}

fn drawn(model: &str, depth: Option<usize>) -> Result<Drawing> {
    let (layers, input) = tree(model)?;
    diagram::diagram(model, &layers, input, depth)
}

/// Names of the elements of an XML text, whose tags must match, attributes be quoted, and text be
/// escaped.
fn elements(text: &str) -> Vec<String> {
    let (mut open, mut found, mut rest) = (Vec::new(), Vec::new(), text);
    while let Some(start) = rest.find('<') {
        assert!(!rest[..start].contains('>'), "a bare > in {:?}", &rest[..start]);
        check_entities(&rest[..start]);
        let end = start + rest[start..].find('>').expect("every tag ends");
        let tag = &rest[start + 1..end];
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop(), Some(name.to_owned()));
        } else {
            check_entities(tag);
            let name = tag.split([' ', '/']).next().unwrap_or_default().to_owned();
            assert_eq!(tag.matches('"').count() % 2, 0, "{tag}");
            assert_eq!(tag.matches("=\"").count() * 2, tag.matches('"').count(), "{tag}");
            if !tag.ends_with('/') {
                open.push(name.clone());
            }
            found.push(name);
        }
        rest = &rest[end + 1..];
    }
    assert!(open.is_empty(), "{open:?} do not end");
    found
}

fn check_entities(text: &str) {
    for (at, _) in text.match_indices('&') {
        let known = ["&amp;", "&lt;", "&gt;", "&quot;"];
        assert!(known.iter().any(|entity| text[at..].starts_with(entity)), "{text}");
    }
}

/// All points of a drawing.
fn points(items: &[Item], found: &mut Vec<[f64; 2]>) {
    for item in items {
        match item {
            Item::Polygon { points, .. } | Item::Line { points, .. } => found.extend(points),
            Item::Circle { at, .. } | Item::Text { at, .. } => found.push(*at),
            Item::Image { at, size, .. } => {
                found.extend([*at, [at[0] + size[0], at[1] + size[1]]]);
            }
            Item::Group { items, .. } => points(items, found),
        }
    }
}

#[test]
fn every_network_has_a_diagram() -> Result<()> {
    for architecture in ARCHITECTURES {
        let name = architecture.name;
        for depth in [None, Some(1), Some(99)] {
            let drawing = drawn(name, depth)?;
            let mut all = Vec::new();
            points(&drawing.items, &mut all);
            for [x, y] in all {
                assert!(
                    (0.0..=drawing.width).contains(&x) && (0.0..=drawing.height).contains(&y),
                    "{name} at {depth:?}: {x},{y} of {}x{}",
                    drawing.width,
                    drawing.height
                );
            }
            let svg = drawing.svg();
            assert!(svg.starts_with("<svg xmlns="));
            let names = elements(&svg.replace(style_of(&svg), ""));
            assert!(names.iter().filter(|name| *name == "path").count() > 9, "{name}");
        }
        let overview = drawn(name, None)?;
        assert!(overview.width < 1100.0, "{name} is {} wide", overview.width);
    }
    Ok(())
}

fn style_of(svg: &str) -> &str {
    let start = svg.find("<style>").expect("a style sheet");
    let end = svg.find("</style>").expect("its end") + "</style>".len();
    &svg[start..end]
}

#[test]
fn nothing_is_left_out() -> Result<()> {
    for model in ["lenet5", "resnet18", "googlenet", "inception_v3", "squeezenet1_0"] {
        let (layers, input) = tree(model)?;
        let svg = diagram::diagram(model, &layers, input, Some(99))?.svg();
        let trace = layers.trace(input)?;
        for step in trace.steps.iter().filter(|step| !step.auxiliary) {
            let shown = matches!(
                step.layer,
                Layer::Conv2d(_)
                    | Layer::Linear { .. }
                    | Layer::MaxPool2d(_)
                    | Layer::AvgPool2d(_)
                    | Layer::AdaptiveAvgPool2d(_)
            );
            // A convolution with its norm is one block, under the name of both.
            let group = step.path.rsplit_once('.').map_or("", |(group, _)| group);
            let found = |path: &str| svg.contains(&format!("<title>{path}: "));
            assert!(!shown || found(&step.path) || found(group), "{model}: {}", step.path);
        }
    }
    let resnet = drawn("resnet18", Some(99))?.svg();
    assert_eq!(resnet.matches(">identity<").count(), 5);
    assert_eq!(resnet.matches(">downsample<").count(), 3);
    assert_eq!(resnet.matches("<circle").count(), 8); // a sum for each block
    let googlenet = drawn("googlenet", None)?.svg();
    assert!(googlenet.contains("inside inception3a, and 8 more of its kind"));
    assert_eq!(googlenet.matches(">side exit<").count(), 2);
    let resnet50 = drawn("resnet50", None)?.svg();
    assert!(resnet50.contains("inside layer1.1, and 11 more of its kind"));
    Ok(())
}

#[test]
fn a_block_says_how_much_is_in_it() -> Result<()> {
    let plain = drawn("plain56", None)?.svg();
    assert_eq!(plain.matches(">18 conv<").count(), 3);
    assert!(!plain.contains(" layers<"));
    let grey = plain.matches("class=\"f-plain-front").count();
    assert_eq!(grey, 1); // the input
    assert!(plain.contains("inside layer1.0, and 24 more of its kind"));
    assert!(plain.contains("inside layer2.0, and one more of its kind"));
    let inception = drawn("inception_v4", Some(1))?.svg();
    assert!(inception.contains(">149 conv<") && !inception.contains(">2 branches<"));
    let squeezenet = drawn("squeezenet1_0", Some(1))?.svg();
    assert!(squeezenet.contains("inside features.3, and 7 more of its kind"));
    assert!(squeezenet.contains("<title>features.3.squeeze: "));
    let vgg = drawn("vgg16", Some(1))?.svg();
    assert!(vgg.contains(">13 conv<") && vgg.contains(">7 layers<") && !vgg.contains("inside"));
    Ok(())
}

#[test]
fn branches_that_are_looked_into_keep_their_names() -> Result<()> {
    let svg = drawn("googlenet", Some(9))?.svg();
    for name in ["inception3a", "inception4e", "inception5b"] {
        assert_eq!(svg.matches(&format!(">{name}<")).count(), 1, "{name}");
    }
    Ok(())
}

#[test]
fn depth_decides_what_is_one_block() -> Result<()> {
    let blocks = |depth| -> Result<usize> {
        Ok(drawn("resnet18", Some(depth))?.svg().matches("<title>layer").count())
    };
    // Four stages; eight blocks; sixteen convolutions and three projections. Below the first two, the
    // insides of a block of two convolutions and of one with a projection.
    assert_eq!((blocks(1)?, blocks(2)?, blocks(3)?), (4 + 5, 8 + 5, 19));
    assert!(drawn("resnet18", Some(0)).unwrap_err().to_string().contains("at least 1"));
    let (layers, input) = tree("resnet18")?;
    let page = diagram::page("resnet18", &layers, input, Some(0));
    assert!(page.unwrap_err().to_string().contains("at least 1"));
    Ok(())
}

#[test]
fn a_png_shows_what_the_svg_does() -> Result<()> {
    let drawing = drawn("lenet5", None)?;
    let picture = decode(&drawing.png(2.0)?, Limits::default())?;
    assert_eq!(picture.width, (2.0 * drawing.width).ceil() as usize);
    let pixel = |x: f64, y: f64| {
        let (x, y) = ((2.0 * x) as usize, (2.0 * y) as usize);
        let at = 3 * (y * picture.width + x);
        [picture.pixels[at], picture.pixels[at + 1], picture.pixels[at + 2]]
    };
    assert_eq!(pixel(1.0, 1.0), [255, 255, 255]);
    // The heading: some of it is as dark as text is.
    let dark = (16..80).flat_map(|x| (14..32).map(move |y| (f64::from(x), f64::from(y))));
    let dark = dark.filter(|&(x, y)| pixel(x, y).iter().all(|&c| c < 90)).count();
    assert!((40..600).contains(&dark), "{dark} dark pixels in the heading");
    assert!(Drawing::default().png(1.0).is_err());
    Ok(())
}

#[test]
fn in_a_page_every_block_leads_to_its_inside() -> Result<()> {
    for model in ["resnet18", "googlenet", "inception_v3", "vgg16", "lenet5"] {
        let (layers, input) = tree(model)?;
        let html = diagram::page(model, &layers, input, None)?.html();
        let values = |key: &str| -> HashSet<String> {
            let key = format!("{key}=\"");
            let parts = html.split(&key).skip(1);
            parts.map(|part| part[..part.find('"').expect("quoted")].to_owned()).collect()
        };
        let (targets, ids) = (values("data-target"), values("<details id"));
        assert_eq!(targets, ids, "{model}");
        assert_eq!(targets.is_empty(), model == "lenet5");
        assert!(
            !html.contains("http://")
                || html.matches("http://").count() == html.matches("<svg").count()
        );
        assert!(!html.contains("src=\"http") && !html.contains("https://"), "it needs no network");
        let body =
            &html[html.find("<body>").expect("a body")..html.find("<script>").expect("a script")];
        elements(&format!("{body}</body>"));
    }
    Ok(())
}

#[test]
fn a_page_says_what_its_colours_and_side_exits_are() -> Result<()> {
    let (layers, input) = tree("googlenet")?;
    let html = diagram::page("googlenet", &layers, input, None)?.html();
    for name in ["convolution", "pooling", "fully connected", "branches, joined"] {
        assert_eq!(html.matches(&format!(">{name}<")).count(), 1, "{name}");
    }
    assert!(!html.contains("<title></title>") && html.contains("<title>inception3a</title>"));
    assert!(html.contains("<summary>aux1: 512×14×14 to 1000</summary>"));
    let exit = html.split("<title>aux1: ").nth(1).expect("a side exit has a title");
    let exit = exit[..exit.find('<').expect("its end")].replace(',', "");
    assert_eq!(exit, "AuxHead 512×14×14 to 1000 3188968 parameters 4169728 multiply-adds");
    Ok(())
}

#[test]
fn text_of_a_page_is_escaped() {
    let mut page = Page::new("a < b & c");
    page.text("<script>\"x\"</script>");
    let html = page.html();
    assert!(html.contains("<h1>a &lt; b &amp; c</h1>"));
    assert!(html.contains("&lt;script&gt;&quot;x&quot;&lt;/script&gt;"));
}
