//! Half precision: the portable ops against their definitions, and whole runs against those in f32.

mod common;

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use candle_core::{DType, Device, Tensor};
use common::run::{Small, bits, dataset};
use common::{output_and_grads, random, rel_l2};
use convzoo::models;
use convzoo::nn::{self, Layer, Mode, Network, Output, Params, Precision};
use convzoo::ops::{
    self, AvgPool2dParams, BatchNorm2dParams, Conv2dParams, CrossEntropyParams, Form, LrnParams,
    MaxPool2dParams,
};
use convzoo::rng::Rng;
use convzoo::train::{
    BatchDone, EpochRow, Job, LossScale, Observer, Outcome, Rule, RunFolder, TrainConfig,
    Trainable, Trainer,
};
use convzoo::{Error, Result};

/// An op, the shapes of its inputs, and how many of these, from the end, may stay f32.
type Case =
    (&'static str, &'static [&'static [usize]], usize, fn(Form, &[Tensor]) -> Result<Tensor>);

/// Sums of thousands, which would stand still in bf16, are among them.
const CASES: &[Case] = &[
    ("conv2d", &[&[16, 8, 15, 14], &[6, 8, 3, 3], &[6]], 0, |form, t| {
        let params = Conv2dParams { stride: (2, 1), padding: (1, 1), ..Default::default() };
        ops::conv2d_as(form, &t[0], &t[1], Some(&t[2]), &params)
    }),
    ("grouped conv2d", &[&[3, 4, 14, 11], &[6, 2, 5, 3], &[6]], 0, |form, t| {
        let params =
            Conv2dParams { padding: (4, 1), dilation: (2, 1), groups: 2, ..Default::default() };
        ops::conv2d_as(form, &t[0], &t[1], Some(&t[2]), &params)
    }),
    ("linear", &[&[900, 70], &[30, 70], &[30]], 0, |form, t| {
        ops::linear_as(form, &t[0], &t[1], Some(&t[2]))
    }),
    ("max_pool2d", &[&[2, 3, 21, 18]], 0, |form, t| {
        let params =
            MaxPool2dParams { padding: (1, 1), ceil_mode: true, ..MaxPool2dParams::new(3, 2) };
        ops::max_pool2d_as(form, &t[0], &params)
    }),
    ("avg_pool2d", &[&[2, 3, 21, 18]], 0, |form, t| {
        let params =
            AvgPool2dParams { padding: (1, 1), ceil_mode: true, ..AvgPool2dParams::new(3, 2) };
        ops::avg_pool2d_as(form, &t[0], &params)
    }),
    ("global average", &[&[2, 3, 28, 28]], 0, |form, t| {
        // Far from 0, as behind a ReLU.
        ops::adaptive_avg_pool2d_as(form, &(&t[0] + 2.0)?, (1, 1))
    }),
    ("batch_norm2d", &[&[9, 5, 17, 16], &[5], &[5], &[9, 5, 17, 16]], 0, norm),
    ("batch_norm2d by f32", &[&[9, 5, 17, 16], &[5], &[5]], 2, norm),
    ("batch_norm2d_eval", &[&[4, 5, 7, 6], &[5], &[5]], 2, |form, t| {
        let params = BatchNorm2dParams::default();
        let mean = Tensor::full(0.25f32, 5, &Device::Cpu)?.to_dtype(t[1].dtype())?;
        let var = Tensor::full(0.5f32, 5, &Device::Cpu)?.to_dtype(t[1].dtype())?;
        let affine = (Some(&t[1]), Some(&t[2]));
        ops::batch_norm2d_eval_as(form, &t[0], affine, (&mean, &var), &params, None, true)
    }),
    ("local_response_norm", &[&[2, 9, 14, 5]], 0, |form, t| {
        let params = LrnParams { alpha: 0.5, k: 2.0, ..LrnParams::default() };
        ops::local_response_norm_as(form, &t[0], &params)
    }),
    ("relu", &[&[3, 4, 5, 6]], 0, |form, t| ops::relu_as(form, &t[0])),
    ("add_relu", &[&[3, 4, 5, 6], &[3, 4, 5, 6]], 0, |form, t| {
        ops::add_relu_as(form, &t[0], &t[1])
    }),
    ("dropout", &[&[3, 400]], 0, |form, t| ops::dropout_as(form, &t[0], 0.4, &mut Rng::new(3))),
    ("cross_entropy", &[&[4, 10]], 0, |form, t| {
        let params = CrossEntropyParams { label_smoothing: 0.1, ..Default::default() };
        ops::cross_entropy_as(form, &t[0], &[3, 0, 9, 3], &params)
    }),
];

fn norm(form: Form, t: &[Tensor]) -> Result<Tensor> {
    let (weight, bias) = (Some(&t[1]), Some(&t[2]));
    let params = BatchNorm2dParams::default();
    Ok(ops::batch_norm2d_as(form, &t[0], weight, bias, &params, t.get(3), true)?.y)
}

/// Half the distance of neighbouring numbers, relative to them: what one rounding may cost.
fn unit(dtype: DType) -> f64 {
    if dtype == DType::BF16 { 2f64.powi(-9) } else { 2f64.powi(-12) }
}

/// Outputs are rounded once or twice, and gradients not much more often.
#[test]
fn ops_are_within_some_roundings_of_their_definition() -> Result<()> {
    for dtype in [DType::BF16, DType::F16] {
        for (name, shapes, whole, apply) in CASES {
            let mut rng = Rng::stream(1, name, &[]);
            let halves = shapes.len() - whole;
            let rounded = |(at, shape): (usize, &&[usize])| {
                let dtype = if at < halves { dtype } else { DType::F32 };
                random(&mut rng, shape).to_dtype(dtype)
            };
            let inputs: Vec<_> =
                shapes.iter().enumerate().map(rounded).collect::<candle_core::Result<_>>()?;
            let exact: Vec<_> = inputs
                .iter()
                .map(|t| t.to_dtype(DType::F64))
                .collect::<candle_core::Result<_>>()?;
            let dims = apply(Form::Definition, &exact)?.dims().to_vec();
            let dy = random(&mut Rng::new(2), &dims).to_dtype(dtype)?;
            let wide = dy.to_dtype(DType::F64)?;
            let (wanted, wanted_grads) =
                output_and_grads(&exact, Some(&wide), |t| Ok(apply(Form::Definition, t)?))?;
            let (y, grads) =
                output_and_grads(&inputs, Some(&dy), |t| Ok(apply(Form::of(&t[0]), t)?))?;
            assert_eq!(y.dtype(), dtype, "{name}");
            let error = rel_l2(&y, &wanted) / unit(dtype);
            let of_grads = grads.iter().zip(&wanted_grads).map(|(a, b)| rel_l2(a, b) / unit(dtype));
            let errors: Vec<f64> = of_grads.collect();
            println!("{name:<20} {dtype:?}: {error:.2}, gradients {errors:.2?} roundings");
            assert!(error < 1.5, "{name} {dtype:?}: {error} roundings");
            assert!(errors.iter().all(|error| *error < 2.0), "{name} {dtype:?}: {errors:?}");
            assert!(grads.iter().zip(&inputs).all(|(grad, x)| grad.dtype() == x.dtype()), "{name}");
        }
    }
    Ok(())
}

/// Two residual blocks, the second with a projection.
fn residual_net() -> Layer {
    let conv = |a, b, stride| nn::conv(a, b, 3).stride(stride).padding(1).no_bias().into();
    let block = |a, b, stride, shortcut| {
        let body = [
            ("conv1", conv(a, b, stride)),
            ("bn1", nn::batch_norm(b)),
            ("relu", Layer::Relu),
            ("conv2", conv(b, b, 1)),
            ("bn2", nn::batch_norm(b)),
        ];
        nn::residual(body, shortcut)
    };
    let down = nn::numbered([nn::conv(8, 16, 1).stride(2).no_bias().into(), nn::batch_norm(16)]);
    nn::sequential([
        ("conv1", conv(1, 8, 1)),
        ("bn1", nn::batch_norm(8)),
        ("relu", Layer::Relu),
        ("layer1", block(8, 8, 1, None)),
        ("layer2", block(8, 16, 2, Some(("downsample", down)))),
        ("avgpool", nn::adaptive_avg_pool(1)),
        ("flatten", Layer::Flatten),
        ("fc", nn::linear(16, 3)),
    ])
}

fn lenet(name: &str) -> Result<Layer> {
    let architecture = models::find(name)?;
    architecture.layers(&models::Config { classes: 3, ..architecture.config() })
}

/// The training losses of each epoch, and the accuracy on the validation pictures in the end.
#[derive(Default)]
struct Losses {
    loss: Vec<f64>,
    top1: f64,
}

impl Observer for Losses {
    fn epoch_done(&mut self, row: &EpochRow, _: bool) {
        self.loss.push(row.train_loss);
        self.top1 = row.val_top1.unwrap_or(f64::NAN);
    }
}

fn losses(layers: &Layer, side: usize, config: &TrainConfig) -> Result<Losses> {
    let (folder, mut found) = (tempfile::tempdir().expect("a folder"), Losses::default());
    let small = Small::of(layers.clone(), side, config.clone(), dataset(96, 30))?;
    small.start(folder.path(), &mut found)?;
    Ok(found)
}

#[test]
fn half_precision_learns_as_f32_does() -> Result<()> {
    let base = TrainConfig { epochs: 5, batch_size: 8, seed: 43, ..Default::default() };
    let residual = TrainConfig { lr: 0.02, ..base.clone() };
    let sigmoid = TrainConfig { lr: 3e-3, optimizer: Rule::ADAM, ..base };
    let relu = TrainConfig { epochs: 4, ..residual.clone() };
    for (name, layers, side, config, share) in [
        ("residual", residual_net(), 12, residual, 0.5),
        ("lenet5-relu", lenet("lenet5-relu")?, 28, relu, 0.8),
        ("lenet5", lenet("lenet5")?, 28, sigmoid, 0.98), // sigmoids begin slowly
    ] {
        let whole = losses(&layers, side, &config)?;
        for precision in [Precision::Bf16, Precision::F16] {
            let half = losses(&layers, side, &TrainConfig { precision, ..config.clone() })?;
            println!("{name} f32 {:.4?} {}", whole.loss, whole.top1);
            println!("{name} {precision} {:.4?} {}", half.loss, half.top1);
            let (first, last) = (half.loss[0], half.loss[half.loss.len() - 1]);
            assert!(last < share * first, "{name} {precision}: {:?}", half.loss);
            for (half, whole) in half.loss.iter().zip(&whole.loss) {
                assert!((half - whole).abs() < 0.05, "{name} {precision}: {half} for {whole}");
            }
        }
    }
    Ok(())
}

fn small(precision: Precision) -> Result<Small> {
    let config = TrainConfig { epochs: 2, batch_size: 8, lr: 0.02, seed: 43, ..Default::default() };
    Small::new(TrainConfig { precision, ..config })
}

/// Weights are rounded on their way into the forward pass alone.
#[test]
fn files_hold_f32_weights() -> Result<()> {
    let folder = tempfile::tempdir().expect("a folder");
    let small = small(Precision::Bf16)?;
    small.start(folder.path(), &mut ())?;
    for file in ["last.safetensors", "best.safetensors", "resume.safetensors"] {
        let tensors = common::tensors(&folder.path().join(file));
        let weights = tensors.iter().filter(|(name, _)| name.ends_with("fc.weight"));
        let mut seen = 0;
        for (name, weight) in weights {
            assert_eq!(weight.dtype(), DType::F32, "{file} {name}");
            let rounded = weight.to_dtype(DType::BF16)?.to_dtype(DType::F32)?;
            assert!(rel_l2(&rounded, weight) > 1e-4, "{file} {name} has 8 bits");
            seen += 1;
        }
        assert!(seen >= 2, "{file}");
    }
    let config = std::fs::read_to_string(folder.path().join("config.json")).expect("a config");
    assert!(config.contains("\"precision\": \"bf16\""), "{config}");
    Ok(())
}

/// Losses of some of its training passes are right, but have gradients that f16 cannot hold.
struct Steep<'a> {
    network: &'a Network,
    passes: AtomicUsize,
    steep: &'a [usize],
}

impl Trainable for Steep<'_> {
    fn forward(&self, x: &Tensor, mode: Mode) -> Result<Output> {
        self.network.forward(x, mode)
    }

    fn forward_in(&self, x: &Tensor, mode: Mode, precision: Precision) -> Result<Output> {
        let output = self.network.forward_in(x, mode, precision)?;
        let pass = self.passes.fetch_add(1, Ordering::Relaxed);
        if !self.steep.contains(&pass) {
            return Ok(output);
        }
        let large = (&output.logits * 1e10)?;
        let nothing = (&large - large.detach())?;
        Ok(Output { logits: (output.logits + nothing)?, ..output })
    }

    fn params(&self) -> &Params {
        self.network.params()
    }
}

fn job<'a>(small: &'a Small, network: &'a Steep<'a>) -> Job<'a, Steep<'a>> {
    let Small { train, val, config, stop, .. } = small;
    Job { network, train, val, device: &Device::Cpu, config, stop }
}

/// Whether steps changed the trained weights.
struct Moves<'a> {
    small: &'a Small,
    before: Vec<Vec<f32>>,
    moved: Vec<bool>,
}

fn trained(small: &Small) -> Vec<Vec<f32>> {
    let values = |entry: &nn::Entry| entry.var.flatten_all()?.to_vec1();
    small.network.params().trainable().map(values).collect::<Result<_, _>>().expect("values")
}

impl Observer for Moves<'_> {
    fn batch_done(&mut self, batch: &BatchDone) {
        assert!(batch.loss.is_finite(), "step {}", batch.step);
        let now = trained(self.small);
        self.moved.push(now != self.before);
        self.before = now;
    }
}

#[test]
fn steps_that_overflow_are_left_out_and_halve_the_scale() -> Result<()> {
    let folder = tempfile::tempdir().expect("a folder");
    let small = small(Precision::F16)?;
    let steep = [0, 1, 2, 6]; // at 65536 the first one would overflow by itself
    let network = Steep { network: &small.network, passes: AtomicUsize::new(0), steep: &steep };
    let mut moves = Moves { small: &small, before: trained(&small), moved: Vec::new() };
    let outcome = Trainer::start(job(&small, &network), folder.path())?.run(&mut moves)?;
    let Outcome::Finished(summary) = outcome else { panic!("{outcome:?}") };
    let wanted: Vec<bool> = (0..10).map(|step| !steep.contains(&step)).collect();
    assert_eq!(moves.moved, wanted);
    let scale = summary.loss_scale.expect("a scale");
    assert_eq!((scale.factor(), scale.left_out()), (4096.0, 4));
    assert_eq!(summary.skipped_steps, 0);
    assert_eq!(RunFolder::open(folder.path())?.summary()?.loss_scale, Some(scale));
    Ok(())
}

/// Where the scale cannot be to blame any more, the run ends as any other does.
#[test]
fn gradients_that_always_overflow_end_the_run() -> Result<()> {
    let folder = tempfile::tempdir().expect("a folder");
    let small = small(Precision::F16)?;
    let steep: Vec<usize> = (0..100).collect();
    let network = Steep { network: &small.network, passes: AtomicUsize::new(0), steep: &steep };
    let mut config = small.config.clone();
    config.train.epochs = 4;
    let job = Job { config: &config, ..job(&small, &network) };
    let error = Trainer::start(job, folder.path())?.run(&mut ()).expect_err("no scale helps");
    let text = error.to_string();
    assert!(text.contains("gradient") && text.contains("not finite at step 16"), "{text}");
    Ok(())
}

/// Stops after so many steps in all.
struct StopAfter<'a>(usize, &'a Small);

impl Observer for StopAfter<'_> {
    fn batch_done(&mut self, _: &BatchDone) {
        self.0 -= 1;
        self.1.stop.store(self.0 == 0, Ordering::Relaxed);
    }
}

#[test]
fn a_resumed_f16_run_gives_the_same_bits_and_scale() -> Result<()> {
    let [whole, parts] = [(); 2].map(|()| tempfile::tempdir().expect("a folder"));
    let run = |small: &Small, steep: &[usize], folder: &Path, stop: usize, resume: bool| {
        let network = Steep { network: &small.network, passes: AtomicUsize::new(0), steep };
        let job = job(small, &network);
        let trainer = match resume {
            true => Trainer::resume(job, folder)?,
            false => Trainer::start(job, folder)?,
        };
        trainer.run(&mut StopAfter(stop, small))
    };
    let at_once = small(Precision::F16)?;
    let outcome = run(&at_once, &[0, 1, 5, 7], whole.path(), 100, false)?;
    let Outcome::Finished(wanted) = outcome else { panic!("{outcome:?}") };
    let first = small(Precision::F16)?;
    let stopped = run(&first, &[0, 1, 5], parts.path(), 6, false)?;
    assert_eq!(stopped, Outcome::Stopped { epochs: 1, batches: 1 });
    let second = small(Precision::F16)?;
    let outcome = run(&second, &[1], parts.path(), 100, true)?; // its seventh step is the second here
    let Outcome::Finished(found) = outcome else { panic!("{outcome:?}") };
    assert!(bits(at_once.network.params()) == bits(second.network.params()));
    assert_eq!(found.loss_scale, wanted.loss_scale);
    assert_eq!(found.loss_scale.map(|scale: LossScale| scale.left_out()), Some(4));
    Ok(())
}

#[test]
fn half_precision_on_a_cpu_is_said_to_be_slow() -> Result<()> {
    struct Told(Vec<String>);
    impl Observer for Told {
        fn message(&mut self, text: &str) {
            self.0.push(text.to_owned());
        }
    }
    for (precision, wanted) in [(Precision::F32, 0), (Precision::Bf16, 1)] {
        let folder = tempfile::tempdir().expect("a folder");
        let mut told = Told(Vec::new());
        small(precision)?.start(folder.path(), &mut told)?;
        let said = told.0.iter().filter(|text| text.contains("bf16 on a CPU is for checking"));
        assert_eq!(said.count(), wanted);
    }
    Ok(())
}

/// Logits are f32, whatever the activations are; what cannot be done is said.
#[test]
fn logits_are_f32() -> Result<()> {
    let small = small(Precision::F32)?;
    let x = Tensor::ones((2, 1, 12, 12), DType::F32, &Device::Cpu)?;
    let whole = small.network.forward(&x, Mode::Train { seed: 1 })?;
    let half = small.network.forward_in(&x, Mode::Train { seed: 1 }, Precision::Bf16)?;
    for (half, whole) in
        [(&half.logits, &whole.logits), (&half.aux[0].logits, &whole.aux[0].logits)]
    {
        assert_eq!(half.dtype(), DType::F32);
        let error = rel_l2(half, whole);
        assert!(error > 0.0 && error < 0.03, "{error}");
    }
    struct Foreign(Network);
    impl Trainable for Foreign {
        fn forward(&self, x: &Tensor, mode: Mode) -> Result<Output> {
            self.0.forward(x, mode)
        }
        fn params(&self) -> &Params {
            self.0.params()
        }
    }
    let foreign = Foreign(small.network.clone());
    let error = foreign.forward_in(&x, Mode::Eval, Precision::F16);
    assert!(matches!(error, Err(Error::Setting(text)) if text.contains("precision f16")));
    Ok(())
}
