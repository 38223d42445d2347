//! The rule that computes weights and inputs from names, against its worked values.

mod common;

use candle_core::Tensor;
use common::fill;
use convzoo::rng::fnv1a;
use serde_json::Value;

fn hex(value: &Value) -> u64 {
    let text = value.as_str().expect("a hexadecimal number");
    u64::from_str_radix(text.trim_start_matches("0x"), 16).expect("a hexadecimal number")
}

fn dims(value: &Value) -> Vec<usize> {
    value.as_array().into_iter().flatten().map(|d| d.as_u64().expect("a size") as usize).collect()
}

fn sample(sample: &Value) -> Tensor {
    let shape = dims(&sample["shape"]);
    match (sample["input"].as_str(), shape.as_slice()) {
        (Some("noise"), shape) => return fill::noise(shape),
        (Some("blocks"), &[n, c, h, w]) => return fill::blocks(n, c, h, w),
        _ => {}
    }
    let text = |key: &str| sample[key].as_str().expect("a text").to_owned();
    let (arch, name) = (text("arch"), text("name"));
    assert_eq!(fnv1a(&name), hex(&sample["fnv1a64"]), "{name}");
    for (i, u) in sample["u"].as_array().into_iter().flatten().enumerate() {
        assert_eq!(Some(fill::unit(&name, i)), u.as_f64(), "u {i} of {name}");
    }
    let module = name.rsplit_once('.').expect("a module and a tensor").0;
    let norm = module.contains("bn") || module.ends_with("downsample.1");
    let mut specs = vec![(name.clone(), shape)];
    specs.extend(norm.then(|| (format!("{module}.running_mean"), vec![1])));
    fill::state_dict(&arch, &specs).swap_remove(0).1
}

#[test]
fn the_fill_rule_gives_the_worked_values() {
    let Some(shared) = common::shared() else { return };
    let worked = common::json(&shared.join("fixtures/fill.json"));
    for (text, hash) in worked["hash_checks"].as_object().expect("an object") {
        assert_eq!(fnv1a(text), hex(hash), "hash of {text:?}");
    }
    let samples = worked["samples"].as_array().expect("a list");
    assert!(samples.len() >= 20);
    for expected in samples {
        let values = common::values(&sample(expected));
        for (i, bits) in expected["first_bits"].as_array().into_iter().flatten().enumerate() {
            assert_eq!(u64::from((values[i] as f32).to_bits()), hex(bits), "{i} of {expected}");
        }
        assert_eq!(values.last().copied(), expected["last"].as_f64(), "{expected}");
        let sum: f64 = values.iter().sum();
        let recorded = expected["sum_f64"].as_f64().expect("a sum");
        assert!((sum - recorded).abs() < 1e-6, "sum {sum} of {expected}");
    }
}
