//! What several tests need: where the recorded values are, how far two tensors are apart, and
//! gradient checks by finite differences.
#![allow(dead_code)] // each test program uses some of it

pub mod fill;
pub mod folder;
pub mod pickled;
pub mod pictures;
pub mod program;
pub mod run;
pub mod server;

use std::collections::HashMap;
use std::path::PathBuf;

use candle_core::{DType, Device, Result, Tensor, Var};
use convzoo::rng::Rng;

/// The folder of recorded values and pictures, where there is one: `CONVZOO_SHARED`, or `shared`
/// beside the checkout. Says so where there is none.
pub fn shared() -> Option<PathBuf> {
    let beside = concat!(env!("CARGO_MANIFEST_DIR"), "/../shared");
    let folder = std::env::var_os("CONVZOO_SHARED").map_or_else(|| beside.into(), PathBuf::from);
    let found = folder.is_dir();
    if !found {
        println!("skipped: no recorded values here (set CONVZOO_SHARED to their folder)");
    }
    found.then_some(folder)
}

/// How many random cases to try: 300, or what `CONVZOO_CASES` says.
pub fn cases() -> u64 {
    std::env::var("CONVZOO_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(300)
}

/// A tensor of uniform values in [-1, 1), f64, on the CPU.
pub fn random(rng: &mut Rng, shape: &[usize]) -> Tensor {
    let values: Vec<f64> = (0..shape.iter().product()).map(|_| rng.range(-1.0, 1.0)).collect();
    Tensor::from_vec(values, shape, &Device::Cpu).expect("as many values as the shape has")
}

/// A whole number in low..=high.
pub fn pick(rng: &mut Rng, low: usize, high: usize) -> usize {
    low + rng.below(high - low + 1)
}

/// All values as f64, row-major.
pub fn values(tensor: &Tensor) -> Vec<f64> {
    let flat = tensor.flatten_all().and_then(|t| t.to_dtype(DType::F64));
    flat.and_then(|t| t.to_vec1()).expect("a CPU tensor")
}

/// `|a - b| / |b|` with Euclidean norms over the whole tensor; infinite where shapes differ.
pub fn rel_l2(a: &Tensor, b: &Tensor) -> f64 {
    if a.dims() != b.dims() {
        return f64::INFINITY;
    }
    let (a, b) = (values(a), values(b));
    let norm = b.iter().map(|b| b * b).sum::<f64>().sqrt();
    let difference = a.iter().zip(&b).map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt();
    if difference == 0.0 { 0.0 } else { difference / norm.max(1e-300) }
}

/// The output of `f` and the gradients of `Σ gy·f(inputs)` with respect to every input.
pub fn output_and_grads(
    inputs: &[Tensor],
    gy: Option<&Tensor>,
    f: impl Fn(&[Tensor]) -> Result<Tensor>,
) -> Result<(Tensor, Vec<Tensor>)> {
    let vars = inputs.iter().map(Var::from_tensor).collect::<Result<Vec<_>>>()?;
    let tensors: Vec<Tensor> = vars.iter().map(|v| v.as_tensor().clone()).collect();
    let y = f(&tensors)?;
    let loss = match gy {
        Some(gy) => y.mul(gy)?.sum_all()?,
        None => y.sum_all()?,
    };
    let grads = loss.backward()?;
    let of = |var: &Var| grads.get(var).cloned().map_or_else(|| var.zeros_like(), Ok);
    Ok((y.detach(), vars.iter().map(of).collect::<Result<_>>()?))
}

/// The largest relative error between the gradients of `f` and central differences in f64, along a
/// random direction for each input.
pub fn gradient_error(
    rng: &mut Rng,
    inputs: &[Tensor],
    f: impl Fn(&[Tensor]) -> Result<Tensor>,
) -> Result<f64> {
    const STEP: f64 = 1e-6;
    let y = f(inputs)?;
    let gy = random(rng, y.dims());
    // What the sum's own rounding, divided by the step, may look like.
    let terms: f64 = y.mul(&gy)?.abs()?.sum_all()?.to_scalar()?;
    let (_, grads) = output_and_grads(inputs, Some(&gy), &f)?;
    let loss = |inputs: &[Tensor]| -> Result<f64> { f(inputs)?.mul(&gy)?.sum_all()?.to_scalar() };
    let mut worst: f64 = 0.0;
    for (i, grad) in grads.iter().enumerate() {
        let direction = random(rng, inputs[i].dims());
        let moved = |step: f64| -> Result<f64> {
            let mut inputs = inputs.to_vec();
            inputs[i] = (&inputs[i] + (&direction * step)?)?;
            loss(&inputs)
        };
        let numeric = (moved(STEP)? - moved(-STEP)?) / (2.0 * STEP);
        let analytic: f64 = grad.mul(&direction)?.sum_all()?.to_scalar()?;
        let size: f64 = grad.abs()?.mul(&direction.abs()?)?.sum_all()?.to_scalar()?;
        worst = worst.max((numeric - analytic).abs() / size.max(1e-3).max(1e-2 * terms));
    }
    Ok(worst)
}

/// The tensors of a safetensors file.
pub fn tensors(path: &std::path::Path) -> HashMap<String, Tensor> {
    candle_core::safetensors::load(path, &Device::Cpu).expect("a readable safetensors file")
}

/// A JSON file.
pub fn json(path: &std::path::Path) -> serde_json::Value {
    let text = std::fs::read_to_string(path).expect("a readable file");
    serde_json::from_str(&text).expect("valid JSON")
}

/// A number or a pair of numbers, as PyTorch takes both.
pub fn pair(value: &serde_json::Value) -> (usize, usize) {
    let one = |v: &serde_json::Value| v.as_u64().expect("a whole number") as usize;
    match value {
        serde_json::Value::Array(both) => (one(&both[0]), one(&both[1])),
        single => (one(single), one(single)),
    }
}

/// A recorded operation: its name, its parameters, its tensors by their short names.
pub type Recorded = (String, serde_json::Value, HashMap<String, Tensor>);

/// The recorded operations of one kind.
pub fn recorded_ops(op: &str) -> Option<Vec<Recorded>> {
    let folder = shared()?.join("fixtures/ops");
    let all = tensors(&folder.join("ops.safetensors"));
    let index = json(&folder.join("ops.json"));
    let cases = index["cases"].as_array().expect("a list of cases");
    let of = |case: &serde_json::Value| {
        let name = case["name"].as_str().expect("a name").to_owned();
        let prefix = format!("{name}/");
        let own = |(key, t): (&String, &Tensor)| {
            key.strip_prefix(&prefix).map(|short| (short.to_owned(), t.clone()))
        };
        (name.clone(), case["params"].clone(), all.iter().filter_map(own).collect())
    };
    Some(cases.iter().filter(|case| case["op"] == op).map(of).collect())
}
