use candle_core::{Device, Tensor, Var};

use super::device::OnDevice;
use super::fused::Fused;
use super::{Rule, Step, Update};
use crate::Result;
use crate::rng::Rng;

const RULES: [(Rule, f64); 8] = [
    (Rule::SGD, 0.01),
    (Rule::MOMENTUM, 0.0),
    (Rule::Sgd { momentum: 0.9, dampening: 0.0, nesterov: true }, 0.01),
    (Rule::Sgd { momentum: 0.9, dampening: 0.5, nesterov: false }, 0.01),
    (Rule::ADAM, 0.01),
    (Rule::ADAMW, 0.01),
    (Rule::RMSPROP, 0.01),
    (Rule::RmsProp { alpha: 0.9, eps: 1e-3, momentum: 0.9 }, 0.01),
];

fn random(rng: &mut Rng, len: usize) -> Result<Tensor> {
    let values: Vec<f64> = (0..len).map(|_| rng.normal()).collect();
    Ok(Tensor::from_vec(values, len, &Device::Cpu)?)
}

/// A parameter after a few steps, and its state.
fn steps(rule: &Rule, decay: f64, update: &mut dyn Update, len: usize) -> Result<Vec<Vec<f64>>> {
    let rng = &mut Rng::stream(5, "optimizer test", &[]);
    let var = Var::from_tensor(&random(rng, len)?)?;
    for count in 1..=4 {
        let step = Step { lr: 0.1 / count as f64, decay, count };
        update.step(rule, step, &var, &random(rng, len)?)?;
    }
    let mut all = vec![var.as_detached_tensor()];
    all.extend(update.state(&var)?);
    all.iter().map(|t| Ok(t.to_vec1()?)).collect()
}

#[test]
fn both_forms_agree() -> Result<()> {
    for (rule, decay) in RULES {
        let (states, len) = (rule.state_names().len(), 70_000);
        let fused = steps(&rule, decay, &mut Fused::<f64>::new(states, len), len)?;
        let zeros = Var::from_tensor(&Tensor::zeros(len, candle_core::DType::F64, &Device::Cpu)?)?;
        let plain = steps(&rule, decay, &mut OnDevice::new(states, &zeros)?, len)?;
        assert_eq!(fused.len(), 1 + states);
        for (a, b) in fused.iter().flatten().zip(plain.iter().flatten()) {
            assert!((a - b).abs() <= 1e-12 * (1.0 + b.abs()), "{rule}: {a} and {b}");
        }
    }
    Ok(())
}

#[test]
fn threads_do_not_change_the_bits() -> Result<()> {
    let on = |threads: usize, rule: &Rule| -> Result<Vec<Vec<f64>>> {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
        let mut update = Fused::<f64>::new(rule.state_names().len(), 70_000);
        pool.expect("a thread pool").install(|| steps(rule, 0.01, &mut update, 70_000))
    };
    for (rule, _) in RULES {
        assert_eq!(on(1, &rule)?, on(3, &rule)?, "{rule}");
    }
    Ok(())
}

#[test]
fn a_misshapen_gradient_is_refused() -> Result<()> {
    let rng = &mut Rng::new(1);
    let var = Var::from_tensor(&random(rng, 6)?)?;
    let before = var.as_detached_tensor().to_vec1::<f64>()?;
    let step = Step { lr: 0.1, decay: 0.0, count: 1 };
    let mut fused = Fused::<f64>::new(1, 6);
    let error = fused.step(&Rule::MOMENTUM, step, &var, &random(rng, 5)?).err();
    assert!(error.is_some_and(|e| e.to_string().contains("5 values for 6")));
    assert_eq!(before, var.as_detached_tensor().to_vec1::<f64>()?);
    Ok(())
}

#[test]
fn senseless_settings_are_refused() {
    let refused = |rule: Rule| rule.check().unwrap_err().to_string();
    let sgd = |momentum, nesterov| Rule::Sgd { momentum, dampening: 0.0, nesterov };
    assert!(refused(sgd(1.5, false)).contains("momentum is 1.5"));
    assert!(refused(sgd(f64::NAN, false)).contains("momentum"));
    assert!(refused(sgd(0.0, true)).contains("nesterov"));
    assert!(refused(Rule::AdamW { beta1: 0.9, beta2: 1.0, eps: 1e-8 }).contains("beta2"));
    assert!("lion".parse::<Rule>().unwrap_err().to_string().contains("adamw"));
}
