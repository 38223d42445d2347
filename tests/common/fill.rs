//! Weights and inputs computed from names, as `fixtures/README.md` defines them: the same bits in
//! every language, so that recorded results need no weight files beside them.

use candle_core::{DType, Device, Tensor};
use convzoo::rng::{fnv1a, splitmix64};

/// `u` of the rule: element `index` of the generator called `name`, in [0, 1).
pub fn unit(name: &str, index: usize) -> f64 {
    unit_of(fnv1a(name), index)
}

fn unit_of(seed: u64, index: usize) -> f64 {
    (splitmix64(seed.wrapping_add(index as u64)) >> 40) as f64 / (1u64 << 24) as f64
}

/// The weights of architecture `arch` for a whole state dict of names and shapes, in its order:
/// f32, but i64 for counters.
pub fn state_dict(arch: &str, specs: &[(String, Vec<usize>)]) -> Vec<(String, Tensor)> {
    let is_norm = |module: &str| specs.iter().any(|(n, _)| *n == format!("{module}.running_mean"));
    let fill = |(name, shape): &(String, Vec<usize>)| {
        let module = name.rsplit_once('.').map_or("", |(module, _)| module);
        (name.clone(), weight(arch, name, shape, is_norm(module)))
    };
    specs.iter().map(fill).collect()
}

/// One tensor of a state dict; `norm` says whether it belongs to a batch norm.
pub fn weight(arch: &str, name: &str, shape: &[usize], norm: bool) -> Tensor {
    let gain = if arch.starts_with("resnet") { 0.625 } else { 1.0 };
    let fan_in: usize = shape.iter().skip(1).product();
    let bound = 0.9 * (6.0 / fan_in as f64).sqrt();
    let last = name.rsplit('.').next().unwrap_or(name);
    match last {
        "num_batches_tracked" => {
            Tensor::zeros(shape, DType::I64, &Device::Cpu).expect("a small tensor")
        }
        "running_mean" => generate(name, shape, |u| (2.0 * u - 1.0) * 0.1),
        "running_var" => generate(name, shape, |u| 0.5 + u),
        "weight" if norm => generate(name, shape, |u| gain * (0.5 + u)),
        "bias" if norm => generate(name, shape, |u| (2.0 * u - 1.0) * 0.1),
        _ if shape.len() >= 2 => generate(name, shape, |u| (2.0 * u - 1.0) * bound),
        _ => generate(name, shape, |u| (2.0 * u - 1.0) * 0.05),
    }
}

/// The input `noise`.
pub fn noise(shape: &[usize]) -> Tensor {
    generate("input", shape, |u| (2.0 * u - 1.0) * 1.5)
}

/// The input `blocks`: noise over a coarse pattern of 7 by 7.
pub fn blocks(n: usize, c: usize, h: usize, w: usize) -> Tensor {
    let mut values = Vec::with_capacity(n * c * h * w);
    for plane in 0..n * c {
        for y in 0..h {
            for x in 0..w {
                let block = unit("input.blocks", (plane * 7 + 7 * y / h) * 7 + 7 * x / w);
                let u = unit("input", values.len());
                values.push(((2.0 * block - 1.0) * 1.5 + (2.0 * u - 1.0) * 0.75) as f32);
            }
        }
    }
    Tensor::from_vec(values, (n, c, h, w), &Device::Cpu).expect("as many values as the shape has")
}

fn generate(name: &str, shape: &[usize], value: impl Fn(f64) -> f64) -> Tensor {
    let seed = fnv1a(name);
    let count: usize = shape.iter().product();
    let values: Vec<f32> = (0..count).map(|i| value(unit_of(seed, i)) as f32).collect();
    Tensor::from_vec(values, shape, &Device::Cpu).expect("as many values as the shape has")
}

/// How far a tensor is from its recorded summary (`sum`, `l2`, `first`, `probe`): the largest of the
/// four differences, each relative to what its size may be.
pub fn summary_error(name: &str, tensor: &Tensor, recorded: &serde_json::Value) -> f64 {
    let number = |key: &str| recorded[key].as_f64().unwrap_or(f64::NAN);
    let values = super::values(tensor);
    let probe_seed = fnv1a(&format!("probe:{name}"));
    let probe: f64 =
        values.iter().enumerate().map(|(i, v)| v * (2.0 * unit_of(probe_seed, i) - 1.0)).sum();
    let l2 = values.iter().map(|v| v * v).sum::<f64>().sqrt();
    let norm = number("l2").max(1e-300);
    let first = recorded["first"].as_array().expect("a summary has its first elements");
    let differences = first.iter().zip(&values).map(|(r, v)| (r.as_f64().unwrap_or(f64::NAN), *v));
    let sum_size = norm * (values.len() as f64).sqrt();
    let errors = [
        (values.iter().sum::<f64>() - number("sum")).abs() / sum_size,
        (l2 - number("l2")).abs() / norm,
        (probe - number("probe")).abs() / norm,
    ];
    let elements = differences.map(|(r, v)| (r - v).abs() / norm);
    // f64::max drops a NaN; here it must count as a failure.
    let worst = |a: f64, b: f64| if b.is_nan() || b > a { b } else { a };
    errors
        .into_iter()
        .chain(elements)
        .fold(0.0, |a: f64, b| if a.is_nan() { a } else { worst(a, b) })
}
