//! Architectures against what PyTorch and torchvision recorded: names, shapes, counts, multiply-adds,
//! logits, and one training step.

mod common;

use std::collections::BTreeMap;

use candle_core::{DType, Device, Tensor};
use common::fill;
use convzoo::models::{self, ARCHITECTURES, Config, Model};
use convzoo::nn::{Mode, Role, Shape};
use convzoo::ops::{self, CrossEntropyParams};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// The registry's name for a recorded architecture, where it is here.
fn registered(recorded: &str) -> Option<&'static str> {
    let name = if recorded == "lenet5" { "lenet5-relu" } else { recorded };
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

#[test]
fn a_state_dict_has_torchvisions_names_and_shapes() -> Result<()> {
    for (arch, name, json) in recorded("arch") {
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

#[test]
fn logits_are_pytorchs() -> Result<()> {
    for (arch, name, json) in recorded("eval") {
        let architecture = models::find(name)?;
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
        // f64 takes twice the time and memory; the small ones show what it can show.
        let small = architecture.params < 30_000_000;
        for (dtype, tolerance) in [(DType::F32, 1e-5), (DType::F64, 1e-10)] {
            if dtype == DType::F64 && !small {
                continue;
            }
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
        let config = Config { classes, input, aux: true, dropout: Some(0.0) };
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
