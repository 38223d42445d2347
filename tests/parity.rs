//! Architectures against what PyTorch and torchvision recorded: names, shapes, counts, multiply-adds,
//! logits, and one training step.

mod common;

use std::collections::BTreeMap;

use candle_core::{DType, Device, Tensor};
use common::fill;
use convzoo::models::googlenet::{self, Style};
use convzoo::models::{self, ARCHITECTURES, Config, Model, Stem};
use convzoo::nn::{Init, Layer, Mode, Network, Role, Shape};
use convzoo::ops::{self, CrossEntropyParams};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// The registry's name for a recorded architecture, where it is here.
fn registered(recorded: &str) -> Option<&'static str> {
    let name = match recorded {
        "lenet5" => "lenet5-relu",
        other => other,
    };
    ARCHITECTURES.iter().map(|a| a.name).find(|&n| n == name)
}

/// The recorded names in a folder of fixtures that have a model here, with their JSON.
fn recorded(folder: &str) -> Vec<(String, &'static str, serde_json::Value)> {
    let Some(shared) = common::shared() else { return Vec::new() };
    let mut found = Vec::new();
    for entry in std::fs::read_dir(shared.join("fixtures").join(folder)).expect("a folder") {
        let path = entry.expect("an entry").path();
        let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        if path.extension().is_some_and(|e| e == "json")
            && let Some(name) = registered(&stem)
        {
            found.push((stem, name, common::json(&path)));
        }
    }
    found.sort_by(|a, b| a.0.cmp(&b.0));
    assert!(found.len() >= 6, "{folder} has only {} of our models", found.len());
    found
}

/// A model with the recorded fill of `arch` as its weights.
fn filled(arch: &str, name: &str, config: Config, dtype: DType) -> Result<Model> {
    let model = Model::with_type(name, config, 0, dtype, &Device::Cpu)?;
    let entries = model.network.params().entries();
    let specs: Vec<_> =
        entries.iter().map(|e| (e.spec.name.clone(), e.spec.shape.clone())).collect();
    let state = fill::state_dict(arch, &specs);
    model.network.params().set(state.iter().map(|(name, tensor)| (name.as_str(), tensor)))?;
    Ok(model)
}

#[test]
fn parameters_are_those_of_the_papers() -> Result<()> {
    for architecture in ARCHITECTURES {
        let layers = architecture.layers(&architecture.config())?;
        assert_eq!(
            models::inference_parameters(&layers),
            architecture.params,
            "{}",
            architecture.name
        );
    }
    let with_heads = |name: &str| -> Result<usize> {
        let architecture = models::find(name)?;
        Ok(architecture.layers(&architecture.config())?.parameter_count())
    };
    assert_eq!(with_heads("googlenet")?, 13_004_888);
    assert_eq!(with_heads("googlenet-paper")?, 13_378_280);
    Ok(())
}

/// The costs that the inception paper is about: what a 1x1 convolution before a large one saves.
#[test]
fn bottlenecks_make_an_inception_module_cheap() -> Result<()> {
    let input = Shape::Map(256, 28, 28);
    let naive = googlenet::naive_inception(Style::Paper, [256, 128, 192, 96]);
    let reduced = googlenet::inception(Style::Paper, [256, 128, 64, 192, 64, 96, 64]);
    let (naive, reduced) = (naive.trace(input)?, reduced.trace(input)?);
    // The pooling of the naive one hands all 256 channels on.
    assert_eq!(naive.output, Shape::Map(672, 28, 28));
    assert_eq!(reduced.output, Shape::Map(480, 28, 28));
    assert_eq!(naive.macs(), 28 * 28 * 256 * (128 + 9 * 192 + 25 * 96));
    assert_eq!(naive.macs(), 854_196_224);
    let narrow = 256 * (128 + 64 + 64 + 64) + 64 * (9 * 192 + 25 * 96);
    assert_eq!(reduced.macs(), 28 * 28 * narrow);
    assert_eq!(reduced.macs(), 271_351_808);
    Ok(())
}

/// Multiply-adds of the nets that have no recorded file, by hand and from their papers.
#[test]
fn costs_are_those_of_the_papers() -> Result<()> {
    let macs = |name: &str| -> Result<u64> {
        let architecture = models::find(name)?;
        let (c, h, w) = architecture.input;
        Ok(architecture.layers(&architecture.config())?.trace(Shape::Map(c, h, w))?.macs())
    };
    let (stem, fc) = (27 * 16 * 32 * 32, 640);
    let wide = 9 * 16 * 16 * 32 * 32; // a 3x3 convolution of any stage, but for the halving ones
    assert_eq!(macs("resnet20")?, stem + fc + 6 * wide + 2 * (5 * wide + wide / 2));
    assert_eq!(macs("plain56")?, macs("resnet56")?);
    assert_eq!(macs("resnet56-b")?, macs("resnet56")? + 2 * (wide / 9 / 2));
    assert_eq!(macs("inception_v4")?, 12_253_974_624);
    Ok(())
}

/// A zero-padding shortcut gives every second pixel, with zeros around the channels.
#[test]
fn shortcuts_without_parameters_are_option_a() -> Result<()> {
    let layer = Layer::PaddedIdentity { inputs: 2, outputs: 5, stride: 2 };
    let network = Network::new(layer, &Init::PYTORCH, 0, DType::F32, &Device::Cpu)?;
    let x = Tensor::arange(0f32, 18.0, &Device::Cpu)?.reshape((1, 2, 3, 3))?;
    let y = network.logits(&x)?;
    assert_eq!(y.dims(), [1, 5, 2, 2]);
    let zeros = [0f32; 4];
    let kept = [[0f32, 2.0, 6.0, 8.0], [9.0, 11.0, 15.0, 17.0]];
    let expected = [zeros, kept[0], kept[1], zeros, zeros].concat();
    assert_eq!(y.flatten_all()?.to_vec1::<f32>()?, expected);
    Ok(())
}

/// Logits that timm's model, and for CIFAR a PyTorch model of the paper, gave for the fill rule's
/// weights and one picture of `noise`: in f64, their first three and their Euclidean norm.
#[test]
fn nets_without_a_recorded_file_agree_with_pytorch_too() -> Result<()> {
    let recorded = [
        (
            "resnet20",
            [0.23096923804990116, -0.5936831565507761, 0.18255766172971077],
            1.7902029959087726,
        ),
        (
            "resnet20-b",
            [-0.34494726898348294, -1.032414682239986, 0.6307772133955022],
            1.9158825600346983,
        ),
        (
            "plain20",
            [0.3814540176617102, -0.2923916943179936, -0.1792239251248529],
            0.8631395995879524,
        ),
        (
            "inception_v4",
            [0.17298767605063803, 0.42728558816647605, 0.003672267348361513],
            16.99685579251379,
        ),
    ];
    for (name, first, norm) in recorded {
        let architecture = models::find(name)?;
        let (c, h, w) = architecture.input;
        let config = Config { aux: false, ..architecture.config() };
        let model = filled(name, name, config, DType::F64)?;
        let x = fill::noise(&[1, c, h, w]).to_dtype(DType::F64)?;
        let logits = common::values(&model.network.logits(&x)?);
        let size = logits.iter().map(|v| v * v).sum::<f64>().sqrt();
        assert!((size / norm - 1.0).abs() < 1e-10, "{name}: norm {size}, recorded {norm}");
        for (ours, theirs) in logits.iter().zip(first) {
            assert!((ours - theirs).abs() < 1e-10 * norm, "{name}: {ours}, recorded {theirs}");
        }
    }
    Ok(())
}

/// `--stem cifar`: no pixel of a 32x32 picture is lost before the first stage.
#[test]
fn a_cifar_stem_keeps_small_pictures() -> Result<()> {
    let resnet = models::find("resnet18")?;
    let input = (3, 32, 32);
    let config = Config { classes: 10, input, stem: Stem::Cifar, ..resnet.config() };
    let layers = resnet.layers(&config)?;
    assert_eq!(layers.parameter_count(), 11_173_962);
    let trace = layers.trace(Shape::Map(3, 32, 32))?;
    let first = trace.steps.iter().find(|step| step.path == "layer1.0.conv1").expect("a layer");
    assert_eq!(first.input, Shape::Map(64, 32, 32));
    assert_eq!(trace.macs(), 555_422_720);
    let vgg = models::find("vgg11")?;
    let error = vgg.layers(&Config { stem: Stem::Cifar, ..vgg.config() }).unwrap_err();
    assert!(error.to_string().contains("vgg11"), "{error}");
    Ok(())
}

#[test]
fn a_state_dict_has_torchvisions_names_and_shapes() -> Result<()> {
    let recorded = recorded("arch");
    assert!(recorded.is_empty() || recorded.len() == 19, "{} architectures", recorded.len());
    for (arch, name, json) in recorded {
        let architecture = models::find(name)?;
        let layers = architecture.layers(&architecture.config())?;
        let ours: BTreeMap<String, Vec<usize>> =
            layers.state_specs().into_iter().map(|s| (s.name, s.shape)).collect();
        let theirs: BTreeMap<String, Vec<usize>> = json["state_dict"]
            .as_array()
            .expect("a list")
            .iter()
            .map(|row| {
                let shape = row[1].as_array().expect("a shape").iter();
                let shape = shape.map(|d| d.as_u64().expect("a size") as usize).collect();
                (row[0].as_str().expect("a name").to_owned(), shape)
            })
            .collect();
        assert_eq!(ours, theirs, "{arch}");
        let counted = json["num_params"].as_u64().expect("a count") as usize;
        assert_eq!(layers.parameter_count(), counted, "{arch}");
        let (c, h, w) = architecture.input;
        let macs = json["macs"][0]["conv_and_linear_macs"].as_u64().expect("a count");
        assert_eq!(layers.trace(Shape::Map(c, h, w))?.macs(), macs, "{arch}");
    }
    Ok(())
}

/// Names the first recorded stage that is off, to say where an architecture is wrong.
fn first_wrong_stage(model: &Model, x: &Tensor, stages: &serde_json::Value) -> Result<String> {
    let mut outputs = Vec::new();
    let mut watch = |path: &str, y: &Tensor| outputs.push((path.to_owned(), y.clone()));
    model.network.forward_watched(x, Mode::Eval, &mut watch)?;
    for (path, y) in &outputs {
        let recorded = &stages[path];
        if recorded.is_object() && fill::summary_error(path, y, recorded) > 1e-4 {
            return Ok(path.clone());
        }
    }
    Ok("none of the stages".to_owned())
}

/// The architectures of fewer than 30 million parameters; all of them, which takes minutes, with
/// `CONVZOO_ALL=1 cargo test --test parity`.
#[test]
fn logits_are_pytorchs() -> Result<()> {
    let all = std::env::var_os("CONVZOO_ALL").is_some();
    for (arch, name, json) in recorded("eval") {
        let architecture = models::find(name)?;
        if !all && architecture.params >= 30_000_000 {
            continue;
        }
        let dims: Vec<usize> = json["input_shape"]
            .as_array()
            .expect("a shape")
            .iter()
            .map(|d| d.as_u64().expect("a size") as usize)
            .collect();
        let [n, c, h, w] = dims[..] else { panic!("four dimensions") };
        let config = Config { input: (c, h, w), aux: false, ..architecture.config() };
        let file = common::shared()
            .expect("found above")
            .join(format!("fixtures/eval/{arch}.safetensors"));
        let expected = common::tensors(&file);
        for (dtype, tolerance) in [(DType::F32, 1e-5), (DType::F64, 1e-10)] {
            let model = filled(&arch, name, config.clone(), dtype)?;
            let inputs = [("noise", fill::noise(&dims)), ("blocks", fill::blocks(n, c, h, w))];
            for (input, x) in inputs {
                let x = x.to_dtype(dtype)?;
                let logits = model.network.logits(&x)?;
                let error = common::rel_l2(&logits, &expected[&format!("{input}.f64")]);
                if error > tolerance && input == "noise" {
                    let stage = first_wrong_stage(&model, &x, &json["stages"])?;
                    panic!("{arch} {dtype:?}: logits are {error} off; first wrong: {stage}");
                }
                assert!(error <= tolerance, "{arch} {input} {dtype:?}: logits are {error} off");
            }
        }
    }
    Ok(())
}

/// One training step in f64, where a wrong formula cannot hide behind rounding.
#[test]
fn a_training_step_is_pytorchs() -> Result<()> {
    for (arch, name, json) in recorded("train") {
        let number = |v: &serde_json::Value| v.as_u64().expect("a whole number") as usize;
        let list = |v: &serde_json::Value| -> Vec<usize> {
            v.as_array().expect("a list").iter().map(number).collect()
        };
        let dims = list(&json["input_shape"]);
        let input = (dims[1], dims[2], dims[3]);
        let classes = number(&json["num_classes"]);
        let dropout = Some(0.0);
        let config = Config { classes, input, dropout, ..models::find(name)?.config() };
        let model = filled(&arch, name, config, DType::F64)?;
        let x = candle_core::Var::from_tensor(&fill::noise(&dims).to_dtype(DType::F64)?)?;
        let labels: Vec<u32> = list(&json["labels"]).into_iter().map(|l| l as u32).collect();

        let out = model.network.forward(&x, Mode::Train { seed: 1 })?;
        let entropy = CrossEntropyParams::default();
        let mut loss = ops::cross_entropy(&out.logits, &labels, &entropy)?;
        let mut outputs = vec![("logits".to_owned(), out.logits.clone())];
        for aux in out.aux {
            let side = ops::cross_entropy(&aux.logits, &labels, &entropy)?;
            loss = (loss + (side * aux.weight)?)?;
            outputs.push((aux.name, aux.logits));
        }
        let recorded_loss = json["loss"]["f64"].as_f64().expect("a number");
        let error = (loss.to_scalar::<f64>()? / recorded_loss - 1.0).abs();
        assert!(error < 1e-10, "{arch}: the loss is {error} off");
        assert_eq!(outputs.len(), json["outputs"].as_object().expect("outputs").len(), "{arch}");
        for (key, tensor) in &outputs {
            let error = fill::summary_error(key, tensor, &json["outputs"][key]);
            assert!(error < 1e-10, "{arch} {key}: {error}");
        }

        let grads = loss.backward()?;
        let mut checked = 0;
        for entry in model.network.params().entries() {
            let key = &entry.spec.name;
            if entry.spec.role.is_buffer() {
                if entry.spec.role == Role::BatchesTracked {
                    assert_eq!(entry.var.to_scalar::<i64>()?, 1, "{arch} {key}");
                    continue;
                }
                let error = fill::summary_error(key, &entry.var, &json["buffers"][key]["f64"]);
                assert!(error < 1e-10, "{arch} {key}: {error}");
            } else if json["grads"][key].is_object() {
                let grad = grads.get(&entry.var).ok_or(format!("{arch} {key}: no gradient"))?;
                let error = fill::summary_error(key, grad, &json["grads"][key]["f64"]);
                assert!(error < 1e-9, "{arch} {key}: the gradient is {error} off");
                checked += 1;
            } else {
                assert!(grads.get(&entry.var).is_some(), "{arch} {key}: no gradient");
            }
        }
        if json["grads"].is_object() {
            let error = fill::summary_error(
                "input",
                grads.get(&x).ok_or("no gradient of the input")?,
                &json["grads"]["input"]["f64"],
            );
            assert!(error < 1e-9, "{arch} input: the gradient is {error} off");
            assert!(checked >= 10, "{arch}: only {checked} gradients were recorded");
        }
    }
    Ok(())
}

#[test]
fn inputs_that_are_too_small_are_refused_with_the_smallest_size() -> Result<()> {
    for architecture in ARCHITECTURES {
        let at = |side: usize| {
            let input = (architecture.input.0, side, side);
            architecture.layers(&Config { input, ..architecture.config() })
        };
        let error = at(1).map(|_| ()).err();
        let Some(convzoo::Error::InputTooSmall { smallest, .. }) = error else {
            // Nets without padding-free windows take a single pixel.
            assert!(error.is_none(), "{}: {error:?}", architecture.name);
            continue;
        };
        assert!(smallest > 1 && at(smallest).is_ok(), "{}", architecture.name);
        assert!(at(smallest - 1).is_err(), "{}", architecture.name);
    }
    let vgg = models::find("vgg16")?;
    let error = vgg.layers(&Config { input: (3, 16, 16), ..vgg.config() }).unwrap_err();
    assert!(error.to_string().contains("smallest it takes is 3x32x32"), "{error}");
    Ok(())
}

#[test]
fn classes_and_channels_are_arguments() -> Result<()> {
    for architecture in ARCHITECTURES.iter().filter(|a| a.params < 30_000_000) {
        let (_, h, w) = architecture.input;
        let config = Config { classes: 3, input: (2, h, w), ..architecture.config() };
        let output = architecture.layers(&config)?.trace(Shape::Map(2, h, w))?.output;
        assert_eq!(output, Shape::Flat(3), "{}", architecture.name);
    }
    Ok(())
}

#[test]
fn the_first_weights_depend_on_the_seed_alone() -> Result<()> {
    let weights = |seed, threads| -> Result<Vec<f64>> {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build()?;
        let config = models::find("lenet5")?.config();
        let model = pool.install(|| Model::new("lenet5", config, seed, &Device::Cpu))?;
        let entries = model.network.params().entries().iter();
        Ok(entries.flat_map(|e| common::values(&e.var)).collect())
    };
    assert_eq!(weights(1, 1)?, weights(1, 4)?);
    assert_ne!(weights(1, 1)?, weights(2, 1)?);
    Ok(())
}
