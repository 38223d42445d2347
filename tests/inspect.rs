//! What reads a network: Grad-CAM, occlusion, receptive fields and mistakes against what is known.

mod common;

use candle_core::{DType, Device, Tensor};
use common::{random, rel_l2, values};
use convzoo::Result;
use convzoo::data::{Loader, LoaderOptions, Picture, Pipeline, Source, Step};
use convzoo::inspect::{self, HAND_MADE, Mistake, Mistakes, Viewer, Window};
use convzoo::models::{self, Model};
use convzoo::nn::{
    Init, Layer, Mode, Network, Shape, adaptive_avg_pool, avg_pool, batch_norm, branches, conv,
    linear, max_pool, residual, sequential,
};
use convzoo::rng::Rng;

fn network(layers: Layer, dtype: DType) -> Result<Network> {
    Network::new(layers, &Init::PYTORCH, 3, dtype, &Device::Cpu)
}

/// Convolution, norm, a residual block and an inception module, then a head.
fn body() -> Vec<(&'static str, Layer)> {
    let block = residual(
        [("conv1", conv(4, 4, 3).padding(1).into()), ("act", Layer::Tanh), ("bn", batch_norm(4))],
        Some(("side", conv(4, 4, 1).into())),
    );
    let module = branches([
        ("one", conv(4, 2, 1).into()),
        ("three", sequential([("0", conv(4, 3, 3).padding(1).into()), ("1", Layer::Sigmoid)])),
    ]);
    vec![
        ("stem", conv(2, 4, 3).stride(2).padding(1).into()),
        ("relu", Layer::Relu),
        ("block", block),
        ("mixed", module),
    ]
}

fn whole() -> Layer {
    let head = [
        ("squash", Layer::Tanh),
        ("pool", adaptive_avg_pool(2)),
        ("flatten", Layer::Flatten),
        ("fc", linear(5 * 4, 3)),
    ];
    sequential(body().into_iter().chain(head))
}

/// The map by its definition, with every derivative taken by finite differences.
fn cam_by_differences(network: &Network, x: &Tensor, class: usize) -> Result<Vec<f64>> {
    let tail = network.layers().split_at("squash").expect("it is in the sequence").1;
    let mut maps = None;
    network.forward_watched(x, Mode::Eval, &mut |path, y| {
        if path == "mixed" {
            maps = Some(y.clone());
        }
    })?;
    let maps = maps.expect("the layer was run");
    let (_, k, h, w) = maps.dims4()?;
    let a = values(&maps);
    let logit = |a: &[f64]| -> Result<f64> {
        let maps = Tensor::from_slice(a, (1, k, h, w), &Device::Cpu)?;
        Ok(values(&network.forward_part(&tail, &maps, Mode::Eval, Default::default())?.logits)
            [class])
    };
    let mut sum = vec![0.0; h * w];
    for channel in 0..k {
        let mut alpha = 0.0;
        for place in 0..h * w {
            let mut moved = a.clone();
            moved[channel * h * w + place] += 1e-5;
            let up = logit(&moved)?;
            moved[channel * h * w + place] -= 2e-5;
            alpha += (up - logit(&moved)?) / 2e-5 / (h * w) as f64;
        }
        for place in 0..h * w {
            sum[place] += alpha * a[channel * h * w + place];
        }
    }
    Ok(sum.into_iter().map(|v| v.max(0.0)).collect())
}

#[test]
fn gradcam_is_its_definition() -> Result<()> {
    let network = network(whole(), DType::F64)?;
    let x = random(&mut Rng::new(5), &[1, 2, 9, 7]);
    let mut lit = 0;
    for class in 0..3 {
        let cam = inspect::gradcam(&network, &x, None, Some(class))?;
        assert_eq!((cam.layer.as_str(), cam.class), ("mixed", class));
        assert_eq!((cam.heat.height, cam.heat.width), (5, 4));
        let expected = cam_by_differences(&network, &x, class)?;
        for (found, expected) in cam.heat.values.iter().zip(&expected) {
            assert!((f64::from(*found) - expected).abs() < 1e-6, "{found} is not {expected}");
        }
        lit += expected.iter().filter(|&&v| v > 1e-4).count();
    }
    assert!(lit > 5, "the test would pass with nothing but zeros");
    Ok(())
}

/// Behind global pooling and one linear layer, Grad-CAM is the class activation map of Zhou et al.
/// (2016), over the number of places.
#[test]
fn gradcam_is_cam_where_that_is_defined() -> Result<()> {
    let layers = sequential([
        ("conv", conv(1, 3, 3).padding(1).into()),
        ("relu", Layer::Relu),
        ("pool", adaptive_avg_pool(1)),
        ("flatten", Layer::Flatten),
        ("fc", linear(3, 2)),
    ]);
    let network = network(layers, DType::F64)?;
    let x = random(&mut Rng::new(1), &[1, 1, 4, 6]);
    let cam = inspect::gradcam(&network, &x, None, Some(1))?;
    assert_eq!(cam.layer, "relu"); // the convolution, with the activation behind it
    let maps = inspect::feature_maps(&network, &x, &["relu".to_owned()])?;
    let weights = values(network.params().get("fc.weight")?.var.as_tensor());
    for place in 0..24 {
        let by_channel = (0..3).map(|k| weights[3 + k] * f64::from(maps[0].values[k * 24 + place]));
        let expected = (by_channel.sum::<f64>() / 24.0).max(0.0);
        assert!((f64::from(cam.heat.values[place]) - expected).abs() < 1e-6);
    }
    let likeliest = inspect::gradcam(&network, &x, None, None)?;
    let logits = values(&network.logits(&x)?);
    assert_eq!(likeliest.class, usize::from(logits[1] > logits[0]));
    assert!(likeliest.probability >= 0.5);
    Ok(())
}

#[test]
fn gradcam_looks_where_people_look() -> Result<()> {
    for (model, layer) in [
        ("resnet18", "layer4.1"),
        ("resnet20", "layer3.2"),
        ("googlenet", "inception5b"),
        ("vgg16_bn", "features.42"),
        ("alexnet", "features.11"),
        ("lenet5", "act2"),
    ] {
        let architecture = models::find(model)?;
        let layers = architecture.layers(&architecture.config())?;
        let (c, h, w) = architecture.input;
        assert_eq!(inspect::last_maps(&layers, Shape::Map(c, h, w))?, layer, "{model}");
    }
    Ok(())
}

#[test]
fn what_cannot_be_shown_is_said() -> Result<()> {
    let network = network(whole(), DType::F32)?;
    let x = Tensor::zeros((1, 2, 8, 8), DType::F32, &Device::Cpu)?;
    let said = |result: Result<inspect::GradCam>| result.unwrap_err().to_string();
    assert!(said(inspect::gradcam(&network, &x, Some("nose"), None)).contains("no layer nose"));
    assert!(
        said(inspect::gradcam(&network, &x, Some("fc"), None)).contains("layer fc has no maps")
    );
    assert!(said(inspect::gradcam(&network, &x, None, Some(3))).contains("classes 0 to 2"));
    let two = Tensor::zeros((2, 2, 8, 8), DType::F32, &Device::Cpu)?;
    assert!(said(inspect::gradcam(&network, &two, None, None)).contains("one picture"));
    for window in [(9, 1), (0, 1), (2, 0)] {
        let (size, stride) = window;
        let window = Window { size, stride };
        assert!(inspect::occlusion(&network, &x, None, window).is_err());
    }
    let unit = inspect::receptive_field(&network, &x, Some("mixed"), Some((4, 0)));
    assert!(unit.unwrap_err().to_string().contains("4 rows"));
    let maps = inspect::feature_maps(&network, &x, &["fc".to_owned()]);
    assert!(maps.unwrap_err().to_string().contains("fc has no maps"));
    Ok(())
}

/// A network that looks at one pixel loses its certainty where that pixel is covered, nowhere else.
#[test]
fn occlusion_finds_the_pixel_that_counts() -> Result<()> {
    let layers = sequential([("flatten", Layer::Flatten), ("fc", linear(36, 2))]);
    let network = network(layers, DType::F32)?;
    let mut weight = vec![0f32; 72];
    weight[3 * 6 + 4] = 2.0; // class 0: row 3, column 4
    let weight = Tensor::from_vec(weight, (2, 36), &Device::Cpu)?;
    let bias = Tensor::zeros(2, DType::F32, &Device::Cpu)?;
    network.params().set([("fc.weight", &weight), ("fc.bias", &bias)])?;
    let x = Tensor::ones((1, 1, 6, 6), DType::F32, &Device::Cpu)?;
    let found = inspect::occlusion(&network, &x, None, Window { size: 3, stride: 2 })?;
    let sure = 1.0 / (1.0 + (-2f32).exp());
    assert_eq!((found.class, found.places.height, found.places.width), (0, 3, 3)); // at 0, 2, 3
    assert!((found.probability - sure).abs() < 1e-6);
    for (i, lost) in found.places.values.iter().enumerate() {
        let (top, left) = ([0, 2, 3][i / 3], [0, 2, 3][i % 3]);
        let covers = (top..top + 3).contains(&3) && (left..left + 3).contains(&4);
        let expected = if covers { sure - 0.5 } else { 0.0 };
        assert!((lost - expected).abs() < 1e-6, "at {top},{left}: {lost}");
    }
    let most = found.heat.range().1;
    assert_eq!(found.heat.values[3 * 6 + 4], most); // all patches over it lose
    assert_eq!(found.heat.values[0], 0.0);
    Ok(())
}

/// Where the gradient of a unit is not 0 is what the arithmetic says the unit sees.
#[test]
fn the_gradient_covers_the_receptive_field() -> Result<()> {
    let dilated = {
        let mut layer = conv(1, 2, 3);
        layer.params.dilation = (2, 1);
        layer
    };
    let chains: [Vec<(&str, Layer)>; 4] = [
        vec![("a", conv(1, 2, 3).into()), ("last", conv(2, 2, 3).stride(2).padding(1).into())],
        vec![("a", dilated.into()), ("b", avg_pool(2, 2)), ("last", conv(2, 1, 2).into())],
        vec![("a", conv(1, 2, 1).rectangular(1, 7).same().into()), ("last", conv(2, 2, 3).into())],
        vec![
            ("a", conv(1, 4, 3).stride(2).into()),
            (
                "last",
                branches([
                    ("one", conv(4, 1, 1).into()),
                    ("five", conv(4, 1, 5).padding(2).into()),
                    ("pool", avg_pool(1, 1)),
                ]),
            ),
        ],
    ];
    for layers in chains {
        let network = network(sequential(layers), DType::F64)?;
        let x = random(&mut Rng::new(8), &[1, 1, 19, 23]);
        for unit in [None, Some((0, 0))] {
            let seen = inspect::receptive_field(&network, &x, Some("last"), unit)?;
            let [(top, bottom), (left, right)] = seen.area;
            for y in 0..19isize {
                for x in 0..23isize {
                    let moved = seen.effective.values[(y * 23 + x) as usize] != 0.0;
                    let inside = (top..=bottom).contains(&y) && (left..=right).contains(&x);
                    // A dilated window has holes, but none at its borders.
                    let border = y == top || y == bottom || x == left || x == right;
                    assert!(!moved || inside, "{:?} sees {y},{x}: {:?}", seen.unit, seen.area);
                    let solid = !network.layers().children().iter().any(|(_, l)| dilates(l));
                    assert!(moved || !inside || !(solid || border && y == top), "{y},{x}");
                }
            }
        }
    }
    Ok(())
}

fn dilates(layer: &Layer) -> bool {
    matches!(layer, Layer::Conv2d(conv) if conv.params.dilation != (1, 1))
}

#[test]
fn receptive_fields_are_the_known_ones() -> Result<()> {
    // Araujo, Norris and Sim, "Computing Receptive Fields of Convolutional Neural Networks" (2019).
    for (model, layer, size, stride) in [
        ("alexnet", "features.12", 195, 32),
        ("vgg16", "features.30", 212, 32),
        ("resnet18", "layer4", 435, 32),
        ("resnet50", "layer4", 427, 32), // 483 with the stride in the first convolution of a block
        ("resnet101", "layer4", 971, 32),
        ("inception_v3", "Mixed_7c", 1311, 32),
    ] {
        let architecture = models::find(model)?;
        let layers = architecture.layers(&architecture.config())?;
        let (c, h, w) = architecture.input;
        let trace = layers.trace(Shape::Map(c, h, w))?;
        let step = trace.steps.iter().rfind(|step| step.path == layer).expect("it has the layer");
        let field = step.field.expect("it is a map");
        println!("{model} {field:?}");
        assert_eq!((field.rows.size, field.rows.stride), (size, stride), "{model}");
        assert_eq!(field.rows.size, field.cols.size, "{model}");
    }
    Ok(())
}

#[test]
fn hand_made_filters_find_what_they_are_named_for() -> Result<()> {
    // Dark at the left, bright at the right.
    let pixels = (0..36).map(|i| if i % 6 < 3 { 0 } else { 100 }).collect();
    let picture = Picture::new(6, 6, 1, pixels)?;
    let of = |name: &str| {
        let kernel = HAND_MADE.iter().find(|kernel| kernel.name == name).expect("it is there");
        kernel.apply(&picture).map(|heat| heat.values[..4].to_vec())
    };
    assert_eq!(of("vertical edge")?, [0.0, 400.0, 400.0, 0.0]);
    assert_eq!(of("horizontal edge")?, [0.0; 4]);
    assert_eq!(of("blur")?, [0.0, 25.0, 75.0, 100.0]);
    assert_eq!(of("sharpen")?, [0.0, -100.0, 200.0, 100.0]);
    assert_eq!(of("identity")?, [0.0, 0.0, 100.0, 100.0]);
    let thin = HAND_MADE[0].apply(&Picture::new(9, 2, 1, vec![0; 18])?);
    assert_eq!(thin.unwrap_err().to_string(), "9x2 pixels; at least 3x3 are needed");
    Ok(())
}

/// Grey pictures whose label says dark or bright, but for two.
struct Shades;

impl Source for Shades {
    fn len(&self) -> usize {
        20
    }
    fn label(&self, index: usize) -> u32 {
        u32::from(index >= 10) ^ u32::from(index == 3 || index == 19)
    }
    fn name(&self, index: usize) -> String {
        format!("shade {index}")
    }
    fn picture(&self, index: usize) -> Result<Picture> {
        Picture::new(4, 4, 1, vec![12 * index as u8 + 10; 16])
    }
}

#[test]
fn mistakes_are_found_and_the_worst_comes_first() -> Result<()> {
    let network = network(
        sequential([
            ("pool", Layer::from(max_pool(4, 4))),
            ("flatten", Layer::Flatten),
            ("fc", linear(1, 2)),
        ]),
        DType::F32,
    )?;
    let weight = Tensor::from_vec(vec![-3f32, 3.0], (2, 1), &Device::Cpu)?;
    let bias = Tensor::zeros(2, DType::F32, &Device::Cpu)?;
    network.params().set([("fc.weight", &weight), ("fc.bias", &bias)])?;
    let pipeline = Pipeline::new(vec![
        Step::CentreCrop { size: 4 },
        Step::Channels { channels: 1 },
        Step::Normalise { mean: vec![124.0 / 255.0], std: vec![0.5] },
    ])?;
    let options = LoaderOptions { batch_size: 7, ..Default::default() };
    let loader = Loader::new(std::sync::Arc::new(Shades), pipeline, options)?;
    let found = inspect::most_wrong(&network, &loader, 10)?;
    assert_eq!((found.images, found.wrong), (20, 2));
    let order: Vec<_> = found.worst.iter().map(|m| (m.index, m.truth, m.guess)).collect();
    assert_eq!(order, [(19, 0, 1), (3, 1, 0)]);
    assert!(found.worst[0].confidence > 0.9 && found.worst[0].truth_probability < 0.1);
    assert_eq!(inspect::most_wrong(&network, &loader, 1)?.worst.len(), 1);
    Ok(())
}

#[test]
fn a_mistake_has_the_data_sets_name() -> Result<()> {
    let lenet = models::find("lenet5")?;
    let viewer = Viewer {
        model: Model::new(lenet.name, lenet.config(), 1, &Device::Cpu)?,
        pipeline: Pipeline::new(vec![
            Step::CentreCrop { size: 4 },
            Step::Channels { channels: 1 },
            Step::Normalise { mean: vec![0.5], std: vec![0.5] },
        ])?,
        classes: ["dark", "bright"].map(str::to_owned).to_vec(),
    };
    let (confidence, truth_probability) = (0.75, 0.25);
    let worst = vec![Mistake { index: 3, truth: 0, guess: 1, confidence, truth_probability }];
    let names = ["Dark", "Bright"].map(str::to_owned);
    let show = |found: Mistakes| inspect::show_mistakes(&viewer, &found, &Shades, &names);
    let shown = show(Mistakes { images: 20, wrong: 1, worst })?;
    assert_eq!(shown.panels[0].lines, ["is Dark", "taken for bright, 75.0 %", "shade 3"]);
    assert!(shown.note.starts_with("Those first"));
    let none = show(Mistakes { images: 20, ..Default::default() })?;
    assert_eq!((none.heading.as_str(), none.note.as_str()), ("20 of 20 right, 0 wrong", ""));
    Ok(())
}

#[test]
fn filters_and_maps_are_those_of_the_network() -> Result<()> {
    let network = network(whole(), DType::F32)?;
    let found = inspect::filters(&network)?;
    assert_eq!((found.layer.as_str(), found.count, found.channels), ("stem", 4, 2));
    let weight = network.params().get("stem.weight")?.var.as_tensor().clone();
    let rebuilt = Tensor::from_vec(found.values, (4, 2, 3, 3), &Device::Cpu)?;
    assert_eq!(rel_l2(&rebuilt, &weight), 0.0);
    let x = random(&mut Rng::new(2), &[1, 2, 8, 8]).to_dtype(DType::F32)?;
    let maps = inspect::feature_maps(&network, &x, &[])?;
    let names: Vec<_> = maps.iter().map(|m| m.layer.as_str()).collect();
    let first = ["stem", "relu", "block.side", "block.conv1", "block.act", "block.bn", "block"];
    assert_eq!(names[..7], first);
    assert_eq!(
        names[7..],
        ["mixed.one", "mixed.three.0", "mixed.three.1", "mixed.three", "mixed", "squash", "pool"]
    );
    let all = maps.iter().find(|m| m.layer == "mixed").expect("it is there");
    assert_eq!((all.count, all.height, all.width), (5, 4, 4));
    assert_eq!(all.liveliest(2).len(), 2);
    assert_eq!(all.picture(0).channels, 3);
    Ok(())
}
