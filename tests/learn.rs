//! What a run learns by: gradients held, averaged weights, mixed pictures, schedules that look at the
//! loss, early stopping; and that each goes on to the same bits.

mod common;

use std::sync::atomic::Ordering;

use candle_core::{DType, Device, Tensor};
use candle_nn::{Module, VarBuilder, VarMap};
use common::run::{Small, bits, dataset};
use convzoo::data::{Loader, LoaderOptions, Mixing, Pipeline, Step};
use convzoo::nn::{self, Init, Layer, Mode, Network};
use convzoo::train::{
    BatchDone, CandleModel, ClassWeights, EpochRow, GradientRule, HeldGradients, Job, Observer,
    Optimizer, Outcome, RangeTest, Rule, RunFolder, Schedule, TrainConfig, Trainable, Trainer,
    Views, assess, evaluate,
};
use convzoo::weights::{self, SaveType};
use convzoo::{Result, ops};

fn config() -> TrainConfig {
    TrainConfig { epochs: 2, batch_size: 8, lr: 0.02, ..Default::default() }
}

/// Everything at once.
fn all() -> TrainConfig {
    TrainConfig {
        epochs: 3,
        gradients: GradientRule { clip_norm: Some(0.5), clip_value: Some(0.1), accumulate: 2 },
        class_weights: ClassWeights::Balanced,
        schedule: Schedule::Plateau { factor: 0.5, patience: 0, min_lr: 1e-4 },
        mixup: 0.4,
        cutmix: 1.0,
        ema: Some(0.9),
        label_smoothing: 0.1,
        decay_norms_and_biases: false,
        ..config()
    }
}

fn trained(config: TrainConfig) -> Result<(Small, tempfile::TempDir)> {
    let folder = tempfile::tempdir().expect("a folder");
    let small = Small::new(config)?;
    let outcome = small.start(folder.path(), &mut ())?;
    assert!(matches!(outcome, Outcome::Finished(_)), "{outcome:?}");
    Ok((small, folder))
}

/// Asks for a stop after some batches of the second epoch; takes the learning rates down.
struct Watch<'a> {
    small: &'a Small,
    at: usize,
    seen: Vec<(usize, usize, f64)>,
    said: Vec<String>,
}

impl<'a> Watch<'a> {
    fn new(small: &'a Small, at: usize) -> Self {
        Watch { small, at, seen: Vec::new(), said: Vec::new() }
    }
}

impl Observer for Watch<'_> {
    fn batch_done(&mut self, batch: &BatchDone) {
        self.seen.push((batch.epoch, batch.batch, batch.lr));
        if (batch.epoch, batch.batch) == (2, self.at) {
            self.small.stop.store(true, Ordering::Relaxed);
        }
    }
    fn message(&mut self, text: &str) {
        self.said.push(text.to_owned());
    }
}

#[test]
fn everything_goes_on_to_the_same_bits() -> Result<()> {
    let (expected, whole) = trained(all())?;
    for stop_at in [1, 2, 3] {
        let folder = tempfile::tempdir().expect("a folder");
        let small = Small::new(all())?;
        let outcome = small.start(folder.path(), &mut Watch::new(&small, stop_at))?;
        // Gradients of a batch that is waited with are not thrown away: it stops after the next.
        let batches = stop_at + stop_at % 2;
        assert_eq!(outcome, Outcome::Stopped { epochs: 1, batches });
        let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("a pool");
        pool.install(|| -> Result<()> {
            let mut small = Small::new(all())?;
            small.network = Small::new(TrainConfig { seed: 9, ..all() })?.network;
            assert!(matches!(small.resume(folder.path(), &mut ())?, Outcome::Finished(_)));
            assert!(bits(small.network.params()) == bits(expected.network.params()), "{stop_at}");
            Ok(())
        })?;
        for file in ["ema.safetensors", "best.safetensors", "last.safetensors"] {
            let read = |path: &std::path::Path| std::fs::read(path.join(file)).expect(file);
            assert!(read(folder.path()) == read(whole.path()), "{file} after a stop at {stop_at}");
        }
    }
    Ok(())
}

#[test]
fn workers_do_not_change_what_is_mixed() -> Result<()> {
    /// Labels of what is mixed in, its share, and the pictures.
    type Mixture = (Vec<u32>, f64, Vec<f64>);
    let labels = |workers| -> Result<Vec<Mixture>> {
        let small = Small::new(config())?;
        let steps = small.train.pipeline().steps().to_vec();
        let trivial =
            Pipeline::new(steps)?.with_changes(Step::TrivialAugment)?.with_erasing(0.5)?;
        let mix = Mixing { mixup: 0.4, cutmix: 1.0 };
        let options = LoaderOptions {
            batch_size: 8,
            shuffle: true,
            seed: 3,
            workers,
            mix,
            ..Default::default()
        };
        let loader = Loader::new(small.train.source().clone(), trivial, options)?;
        let batch = |batch: Result<convzoo::data::Batch>| {
            let batch = batch?;
            let mixed = batch.mixed.expect("mixed");
            Ok((mixed.labels, mixed.share, common::values(&batch.images)))
        };
        loader.epoch(0, 0).map(batch).collect()
    };
    let (one, three) = (labels(1)?, labels(3)?);
    assert!(one == three);
    assert!(one.iter().any(|(_, share, _)| *share > 0.0 && *share < 1.0));
    Ok(())
}

/// A net without batch norm, whose large batch is the mean of small ones.
fn plain_net(dtype: DType) -> Result<Network> {
    let layers = nn::sequential([
        ("conv", nn::conv(1, 4, 3).into()),
        ("relu", Layer::Relu),
        ("flat", Layer::Flatten),
        ("fc", nn::linear(4 * 36, 3)),
    ]);
    Network::new(layers, &Init::PYTORCH, 1, dtype, &Device::Cpu)
}

#[test]
fn accumulated_batches_are_one_large_batch() -> Result<()> {
    for dtype in [DType::F32, DType::F64] {
        let x = common::random(&mut convzoo::rng::Rng::new(1), &[7, 1, 8, 8]).to_dtype(dtype)?;
        let labels = [0u32, 1, 2, 0, 1, 2, 1];
        let grads = |network: &Network, from: usize, count: usize| {
            let logits =
                network.forward(&x.narrow(0, from, count)?, Mode::Train { seed: 0 })?.logits;
            let labels = &labels[from..from + count];
            Ok::<_, convzoo::Error>(
                ops::cross_entropy(&logits, labels, &Default::default())?.backward()?,
            )
        };
        let (large, small) = (plain_net(dtype)?, plain_net(dtype)?);
        let mut optimizer = Optimizer::new(large.params(), Rule::SGD, 0.0, true)?;
        optimizer.step(&grads(&large, 0, 7)?, 0.5)?;

        let mut optimizer = Optimizer::new(small.params(), Rule::SGD, 0.0, true)?;
        let mut held = HeldGradients::new(GradientRule { accumulate: 2, ..Default::default() });
        for (from, count) in [(0, 4), (4, 3)] {
            assert!(!held.is_full());
            held.add(small.params(), &grads(&small, from, count)?, count)?;
        }
        assert!(held.is_full());
        held.step(&mut optimizer, 0.5)?;
        assert!(held.is_empty());
        for (a, b) in large.params().entries().iter().zip(small.params().entries()) {
            let error = common::rel_l2(&a.var, &b.var);
            assert!(error < if dtype == DType::F64 { 1e-12 } else { 1e-6 }, "{error}");
        }
    }
    Ok(())
}

#[test]
fn clipping_limits_the_step() -> Result<()> {
    let moved = |rule: GradientRule| -> Result<(Vec<f64>, Option<f64>)> {
        let network = plain_net(DType::F32)?;
        let before: Vec<Vec<f64>> =
            network.params().entries().iter().map(|e| common::values(&e.var)).collect();
        let mut optimizer = Optimizer::new(network.params(), Rule::SGD, 0.0, true)?;
        let x = Tensor::ones((4, 1, 8, 8), DType::F32, &Device::Cpu)?;
        let loss = network.forward(&x, Mode::Train { seed: 0 })?.logits.sqr()?.sum_all()?;
        let mut held = HeldGradients::new(rule);
        held.add(network.params(), &(loss * 50.0)?.backward()?, 4)?;
        let norm = held.step(&mut optimizer, 1.0)?;
        let after = network.params().entries().iter().map(|e| common::values(&e.var));
        let moves = before.into_iter().zip(after).flat_map(|(before, after)| {
            before.into_iter().zip(after).map(|(b, a)| b - a).collect::<Vec<_>>()
        });
        Ok((moves.collect(), norm))
    };
    let norm = |moves: &[f64]| moves.iter().map(|m| m * m).sum::<f64>().sqrt();
    let (free, none) = moved(GradientRule::default())?;
    assert_eq!(none, None);
    let (clipped, found) = moved(GradientRule { clip_norm: Some(2.0), ..Default::default() })?;
    assert!((found.expect("a norm") / norm(&free) - 1.0).abs() < 1e-4);
    assert!(norm(&free) > 10.0 && (norm(&clipped) - 2.0).abs() < 1e-3, "{}", norm(&clipped));
    let scale = 2.0 / norm(&free);
    assert!(free.iter().zip(&clipped).all(|(f, c)| (f * scale - c).abs() < 1e-4));
    // A norm that is not reached changes no bit.
    assert!(moved(GradientRule { clip_norm: Some(1e9), ..Default::default() })?.0 == free);
    let (cut, _) = moved(GradientRule { clip_value: Some(0.25), ..Default::default() })?;
    assert!(cut.iter().all(|m| m.abs() < 0.25 + 1e-4) && cut.iter().any(|m| m.abs() > 0.24));
    Ok(())
}

#[test]
fn the_engine_and_the_graph_hold_the_same_gradients() -> Result<()> {
    /// The network without what an engine could run.
    struct Graph<'a>(&'a Network);
    impl Trainable for Graph<'_> {
        fn forward(&self, x: &Tensor, mode: Mode) -> Result<nn::Output> {
            self.0.forward(x, mode)
        }
        fn params(&self) -> &nn::Params {
            self.0.params()
        }
    }
    let gradients = GradientRule { clip_norm: Some(0.5), clip_value: None, accumulate: 3 };
    let config = TrainConfig { gradients, epochs: 1, ..config() };
    let (engine, _) = trained(config.clone())?;
    let small = Small::new(config)?;
    let folder = tempfile::tempdir().expect("a folder");
    let network = &Graph(&small.network);
    let Job { train, val, device, config, stop, .. } = small.job();
    let job = Job { network, train, val, device, config, stop };
    Trainer::start(job, folder.path())?.run(&mut ())?;
    for (a, b) in engine.network.params().entries().iter().zip(small.network.params().entries()) {
        let error = common::rel_l2(&a.var, &b.var);
        assert!(error < 1e-4, "{}: {error}", a.spec.name);
    }
    Ok(())
}

#[test]
fn averaged_weights_are_evaluated_and_kept() -> Result<()> {
    let (small, folder) = trained(TrainConfig { ema: Some(0.95), epochs: 4, ..config() })?;
    let run = RunFolder::open(folder.path())?;
    let summary = run.summary()?;
    let (top1, epoch) = (summary.best_ema_top1.expect("a top-1"), summary.best_ema_epoch);
    let metrics = std::fs::read_to_string(run.file("metrics.csv")).expect("metrics");
    let header = metrics.lines().next().expect("a header");
    assert!(header.ends_with(",ema_val_loss,ema_val_top1"), "{header}");
    assert!(metrics.lines().all(|line| line.split(',').count() == 10), "{metrics}");
    let row = metrics.lines().nth(epoch.expect("an epoch")).expect("its line");
    assert!(row.ends_with(&format!(",{top1:.6}")), "{row}");

    let before = bits(small.network.params());
    let file = weights::load(&run.file("ema.safetensors"), &Device::Cpu)?;
    file.apply(&small.network)?;
    assert!(before != bits(small.network.params()));
    assert_eq!(evaluate(&small.network, &small.val, &Device::Cpu)?.top1, top1);
    Ok(())
}

#[test]
fn a_run_ends_when_nothing_gets_better() -> Result<()> {
    // A rate that moves nothing: the first epoch stays the best.
    let config = TrainConfig { lr: 1e-12, weight_decay: 0.0, optimizer: Rule::SGD, ..config() };
    let config = TrainConfig { epochs: 80, patience: Some(2), seed: 4, ..config };
    let small = Small::new(config)?;
    let folder = tempfile::tempdir().expect("a folder");
    let mut watch = Watch::new(&small, usize::MAX);
    let outcome = small.start(folder.path(), &mut watch)?;
    let Outcome::Finished(summary) = outcome else { panic!("{outcome:?}") };
    // Running statistics still move at first; the best epoch is followed by exactly two.
    assert!(summary.stopped_early && summary.epochs < 80, "{summary:?}");
    assert_eq!(Some(summary.epochs - 2), summary.best_epoch);
    assert!(watch.said.iter().any(|text| text.contains("2 evaluations")), "{:?}", watch.said);
    Ok(())
}

#[test]
fn a_plateau_lowers_the_rate_of_the_next_epoch() -> Result<()> {
    let schedule = Schedule::Plateau { factor: 0.5, patience: 0, min_lr: 0.0 };
    // A rate at which the loss does not fall for long.
    let config = TrainConfig { epochs: 6, lr: 0.4, schedule, ..config() };
    let small = Small::new(config)?;
    let folder = tempfile::tempdir().expect("a folder");
    let mut watch = Watch::new(&small, usize::MAX);
    struct Rows<'a, 'b>(&'a mut Watch<'b>, Vec<EpochRow>);
    impl Observer for Rows<'_, '_> {
        fn batch_done(&mut self, batch: &BatchDone) {
            self.0.batch_done(batch);
        }
        fn epoch_done(&mut self, row: &EpochRow, _: bool) {
            self.1.push(row.clone());
        }
    }
    let mut rows = Rows(&mut watch, Vec::new());
    small.start(folder.path(), &mut rows)?;
    let losses: Vec<f64> = rows.1.iter().filter_map(|row| row.val_loss).collect();
    let (mut best, mut lr) = (f64::INFINITY, 0.4);
    let mut reductions = 0;
    for (epoch, loss) in losses.iter().enumerate() {
        let of_epoch = watch.seen.iter().filter(|(e, ..)| *e == epoch + 1).map(|(.., lr)| *lr);
        assert!(of_epoch.into_iter().all(|found| found == lr), "epoch {epoch}");
        match *loss < best * (1.0 - 1e-4) {
            true => best = *loss,
            false => (lr, reductions) = (lr * 0.5, reductions + 1),
        }
    }
    assert!(reductions > 0, "{losses:?}");
    Ok(())
}

#[test]
fn weights_in_sixteen_bits_are_read_everywhere() -> Result<()> {
    let (full, _) = trained(config())?;
    let top1 = evaluate(&full.network, &full.val, &Device::Cpu)?.top1;
    for (save_type, dtype) in [(SaveType::F16, DType::F16), (SaveType::Bf16, DType::BF16)] {
        let (small, folder) = trained(TrainConfig { save_type, ..config() })?;
        // What is trained does not change by how it is saved.
        assert!(bits(small.network.params()) == bits(full.network.params()));
        let file = weights::load(&folder.path().join("last.safetensors"), &Device::Cpu)?;
        assert_eq!(file.tensors["conv.weight"].dtype(), dtype);
        assert_eq!(file.tensors["bn.num_batches_tracked"].dtype(), DType::I64);
        file.apply(&small.network)?;
        let again = evaluate(&small.network, &small.val, &Device::Cpu)?.top1;
        assert!((again - top1).abs() <= 0.1, "{again} {top1}");
        for (a, b) in small.network.params().entries().iter().zip(full.network.params().entries()) {
            assert!(common::rel_l2(&a.var, &b.var) < 0.01, "{}", a.spec.name);
        }
    }
    Ok(())
}

#[test]
fn an_assessment_agrees_with_an_evaluation_and_two_views_with_their_mean() -> Result<()> {
    let (small, _) = trained(config())?;
    let plain = evaluate(&small.network, &small.val, &Device::Cpu)?;
    let (result, detail) = assess(&small.network, &small.val, &Device::Cpu, Views::One)?;
    assert_eq!((result.top1, result.loss), (plain.top1, plain.loss));
    let diagonal: u64 = (0..3).map(|class| detail.confusion[class][class]).sum();
    assert_eq!(diagonal as f64 / 20.0, plain.top1);
    assert_eq!(detail.confusion.iter().flatten().sum::<u64>(), 20);
    assert_eq!((detail.top_k(1), detail.top_k(3)), (plain.top1, 1.0));

    let x = common::random(&mut convzoo::rng::Rng::new(5), &[4, 1, 12, 12]).to_dtype(DType::F32)?;
    let mut one = |x: &Tensor| small.network.logits(x);
    let softmax = |logits: &Tensor| candle_nn::ops::softmax(logits, 1);
    let both = Views::Flip.logits(&x, &mut one)?;
    let mirrored = Tensor::new((0..12u32).rev().collect::<Vec<_>>(), &Device::Cpu)?;
    let mirrored = x.index_select(&mirrored, 3)?;
    let mean = ((softmax(&one(&x)?)? + softmax(&one(&mirrored)?)?)? / 2.0)?;
    assert!(common::rel_l2(&softmax(&both)?, &mean) < 1e-6);
    Ok(())
}

/// A network of candle's own layers goes through the same loop, and learns.
#[test]
fn any_candle_model_is_trained() -> Result<()> {
    let vars = VarMap::new();
    let vb = VarBuilder::from_varmap(&vars, DType::F32, &Device::Cpu);
    let conv = candle_nn::conv2d(1, 6, 3, Default::default(), vb.pp("conv"))?;
    let fc = candle_nn::linear(6 * 100, 3, vb.pp("fc"))?;
    let net = candle_nn::func(move |x| fc.forward(&conv.forward(x)?.relu()?.flatten_from(1)?));
    let model = CandleModel::new(net, &vars)?;
    let names: Vec<_> = model.params().entries().iter().map(|e| e.spec.name.as_str()).collect();
    assert_eq!(names, ["conv.bias", "conv.weight", "fc.bias", "fc.weight"]);

    let small =
        Small::with(TrainConfig { epochs: 6, ema: Some(0.9), ..config() }, dataset(60, 30))?;
    let folder = tempfile::tempdir().expect("a folder");
    let Job { train, val, device, config, stop, .. } = small.job();
    let job = Job { network: &model, train, val, device, config, stop };
    let outcome = Trainer::start(job, folder.path())?.run(&mut ())?;
    let Outcome::Finished(summary) = outcome else { panic!("{outcome:?}") };
    assert!(summary.best_val_top1 > Some(0.8), "{summary:?}");
    let file = weights::load(&folder.path().join("best.safetensors"), &Device::Cpu)?;
    assert_eq!(file.tensors.len(), 4);
    Ok(())
}

#[test]
fn a_range_test_finds_a_rate_and_leaves_the_weights() -> Result<()> {
    let small = Small::with(config(), dataset(60, 30))?;
    let before = bits(small.network.params());
    let test = RangeTest { from: 1e-5, to: 100.0, steps: 60 };
    let mut seen = 0;
    let range =
        test.run(&small.network, &small.train, &Device::Cpu, &config(), &mut |_| seen += 1)?;
    assert_eq!(seen, range.points.len());
    assert!(bits(small.network.params()) == before);
    assert!(range.points.len() < 60, "no rate is too large?");
    assert!((1e-4..1.0).contains(&range.suggestion), "{}", range.suggestion);
    assert!(range.steepest <= range.highest);
    Ok(())
}

#[test]
fn senseless_settings_are_refused_by_name() {
    let refused = |config: TrainConfig| config.check().unwrap_err().to_string();
    let gradients = |rule| TrainConfig { gradients: rule, ..config() };
    let rule = GradientRule::default();
    assert!(refused(gradients(GradientRule { clip_norm: Some(0.0), ..rule })).contains("norm"));
    assert!(refused(gradients(GradientRule { clip_value: Some(-1.0), ..rule })).contains("value"));
    assert!(refused(gradients(GradientRule { accumulate: 0, ..rule })).contains("accumulate"));
    assert!(refused(TrainConfig { ema: Some(1.0), ..config() }).contains("averaged"));
    assert!(refused(TrainConfig { patience: Some(0), ..config() }).contains("patience"));
    assert!(refused(TrainConfig { mixup: -0.1, ..config() }).contains("mixup"));
    let given = ClassWeights::Given(vec![1.0, 2.0]);
    let folder = tempfile::tempdir().expect("a folder");
    let small = Small::new(TrainConfig { class_weights: given, ..config() }).expect("a run");
    let error = small.start(folder.path(), &mut ()).expect_err("two weights for three classes");
    assert!(error.to_string().contains("3 in all"), "{error}");
}
