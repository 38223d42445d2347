//! Sizes at the edges: nothing that safe code can ask for touches memory that is not its own, ends the
//! program or loops without an end. It is an answer or an error, and where a slice is handed to a
//! kernel directly, a panic that names it.

mod common;

use std::panic::{AssertUnwindSafe, catch_unwind};

use candle_core::op::BackpropOp;
use candle_core::{CpuStorage, DType, Device, Result, Storage, Tensor, Var};
use common::cases;
use convzoo::nn::{
    self, Engine, Init, Layer, Mode, Network, Shape, adaptive_avg_pool, conv, linear, numbered,
};
use convzoo::ops::conv2d::{self, Conv2dShape};
use convzoo::ops::{
    self, AvgPool2dParams, BatchNorm2dParams, Conv2dParams, CrossEntropyParams, Form, Im2col,
    LrnParams, Mat, MatMut, MaxPool2dParams, ReceptiveField, Wants, gemm,
};
use convzoo::rng::Rng;

const FORMS: [Form; 3] = [Form::Definition, Form::Kernel, Form::Portable];

fn refused<T>(make: impl FnOnce() -> T) -> bool {
    catch_unwind(AssertUnwindSafe(make)).is_err()
}

fn zeros(dims: &[usize]) -> Tensor {
    Tensor::zeros(dims, DType::F32, &Device::Cpu).unwrap()
}

/// A size that somebody may come to ask for: mostly a small one.
fn odd_size(rng: &mut Rng) -> usize {
    const ODD: [usize; 7] =
        [0, 1 << 31, 1 << 32, 1 << 56, usize::MAX / 2, usize::MAX / 2 + 1, usize::MAX];
    if rng.chance(0.7) { 1 + rng.below(3) } else { ODD[rng.below(ODD.len())] }
}

fn odd_pair(rng: &mut Rng) -> (usize, usize) {
    (odd_size(rng), odd_size(rng))
}

/// 256 times 2^56 is 0 in 64 bits.
#[test]
fn strides_whose_product_overflows_are_refused() {
    let four = [1.0f32; 4];
    assert!(refused(|| Mat::strided(&four, 257, 1, 1 << 56)));
    assert!(refused(|| _ = MatMut::strided(&mut [1.0f32; 4], 257, 1, 1 << 56)));
    assert!(refused(|| Mat::new(&four, 1 << 32, 1 << 32)));
    let mut one = [0.0f32];
    gemm(Mat::new(&four, 1, 4), Mat::new(&four, 4, 1), MatMut::new(&mut one, 1, 1), false);
    assert_eq!(one, [4.0]);
}

/// Ops with settings of all sizes, in every form: an answer of the right size, or an error.
#[test]
fn settings_of_every_size_are_answered_or_refused() {
    let mut answers = 0;
    for case in 0..20 * cases() {
        let mut rng = Rng::stream(case, "odd sizes", &[]);
        let (stride, padding, dilation) =
            (odd_pair(&mut rng), odd_pair(&mut rng), odd_pair(&mut rng));
        let (kernel, x) = (odd_pair(&mut rng), zeros(&[2, 4, 5, 6]));
        let form = FORMS[rng.below(3)];
        let describe =
            format!("{form:?} {kernel:?} {stride:?} {padding:?} {dilation:?}, case {case}");
        let mut ask = |found: convzoo::Result<Tensor>| {
            if let Ok(y) = found {
                answers += 1;
                assert_eq!(y.flatten_all().unwrap().dims1().unwrap(), y.elem_count(), "{describe}");
            }
        };
        let groups = odd_size(&mut rng);
        let small = (kernel.0.min(4), kernel.1.min(4));
        let w = zeros(&[4, 4 / groups.clamp(1, 4), small.0, small.1]);
        let params = Conv2dParams { stride, padding, dilation, groups };
        // What is large but can be had is left out: it would take its time.
        let soon = |shape: Conv2dShape| shape.output().iter().product::<usize>() < 1 << 20;
        let shape = Conv2dShape::new(x.dims(), w.dims(), &params);
        if shape.map_or(true, soon) {
            ask(ops::conv2d_as(form, &x, &w, None, &params));
        }
        let ceil_mode = rng.chance(0.5);
        // A kernel and a padding of millions are answered, but not soon by the definition.
        if kernel.0.min(kernel.1) < 4 || form == Form::Kernel {
            let params = MaxPool2dParams { kernel: small, stride, padding, dilation, ceil_mode };
            ask(ops::max_pool2d_as(form, &x, &params));
        }
        let params = AvgPool2dParams {
            kernel: if form == Form::Kernel { kernel } else { small },
            stride,
            padding,
            ceil_mode,
            count_include_pad: rng.chance(0.5),
            divisor_override: rng.chance(0.3).then(|| odd_size(&mut rng)),
        };
        ask(ops::avg_pool2d_as(form, &x, &params));
        let output = odd_pair(&mut rng);
        if output.0.saturating_mul(output.1) < 1 << 14 || output.0.max(output.1) > 1 << 32 {
            ask(ops::adaptive_avg_pool2d_as(form, &x, output));
        }
        let size = odd_size(&mut rng);
        ask(ops::local_response_norm_as(form, &x, &LrnParams { size, ..Default::default() }));
    }
    assert!(answers > 100, "{answers} answers");
}

/// Tensors without values may have sides of any length.
#[test]
fn sides_whose_product_overflows_are_refused_even_without_values() {
    let long = 1 << 40;
    let x = zeros(&[0, 4, long, long]);
    let w = zeros(&[4, 4, 3, 3]);
    let same = Conv2dParams { padding: (1, 1), ..Default::default() };
    let channels = zeros(&[4]);
    let norm = BatchNorm2dParams::default();
    for form in FORMS {
        assert!(ops::conv2d_as(form, &x, &w, None, &same).is_err());
        assert!(ops::max_pool2d_as(form, &x, &MaxPool2dParams::new(2, 2)).is_err());
        assert!(ops::avg_pool2d_as(form, &x, &AvgPool2dParams::new(2, 2)).is_err());
        assert!(ops::adaptive_avg_pool2d_as(form, &x, (1, 1)).is_err());
        assert!(ops::local_response_norm_as(form, &x, &LrnParams::default()).is_err());
        let (affine, running) = ((Some(&channels), Some(&channels)), (&channels, &channels));
        let y = ops::batch_norm2d_eval_as(form, &x, affine, running, &norm, None, true);
        assert!(y.is_err());
        let (none, wide) = (zeros(&[0, long]), zeros(&[0, long]));
        assert!(ops::linear_as(form, &none, &wide, None).is_ok());
        let (none, wide) = (zeros(&[0, usize::MAX]), zeros(&[0, usize::MAX]));
        assert!(ops::linear_as(form, &none, &wide, None).is_err());
    }
    assert!(Im2col::new(1 << 40, (1 << 20, 1 << 20), (1, 1), (1, 1), (0, 0), (1, 1)).is_err());
    assert!(Im2col::new(1, (1, 1), (1, 1), (1, 1), (1 << 40, 1 << 40), (1, 1)).is_err());
}

/// Results for which there is no memory: an allocation that fails would end the program.
#[test]
fn results_that_no_memory_holds_are_refused() {
    let (x, w) = (zeros(&[1, 4, 2, 2]), zeros(&[4, 4, 1, 1]));
    for form in FORMS {
        let params = Conv2dParams { padding: (1 << 19, 1 << 19), ..Default::default() };
        let error = ops::conv2d_as(form, &x, &w, None, &params).unwrap_err().to_string();
        assert!(error.contains("memory") || error.contains("2^32"), "{error}");
    }
}

/// No channels and no pixels are refused; no pictures are an answer without values, or an error.
#[test]
fn sizes_of_nothing() -> Result<()> {
    let params = Conv2dParams { padding: (1, 1), ..Default::default() };
    for form in FORMS {
        for (x, w) in [
            ([1, 0, 4, 4], [2, 0, 3, 3]),
            ([1, 3, 4, 4], [0, 3, 3, 3]),
            ([1, 3, 0, 4], [2, 3, 2, 2]),
            ([1, 3, 4, 0], [2, 3, 2, 2]),
            ([1, 3, 4, 4], [2, 3, 0, 3]),
        ] {
            assert!(ops::conv2d_as(form, &zeros(&x), &zeros(&w), None, &params).is_err());
        }
        for outputs in [2, 40] {
            for inputs in [3, 40] {
                let x = Var::from_tensor(&zeros(&[0, inputs, 4, 4]))?;
                let w = Var::from_tensor(&zeros(&[outputs, inputs, 3, 3]))?;
                let b = Var::from_tensor(&zeros(&[outputs]))?;
                let y = ops::conv2d_as(form, &x, &w, Some(&b), &params)?;
                assert_eq!(y.dims(), [0, outputs, 4, 4]);
                let grads = y.sum_all()?.backward()?;
                assert!(grads.get(&w).is_none_or(|grad| grad.dims() == w.dims()));
                assert!(grads.get(&b).is_none_or(|grad| grad.dims() == [outputs]));
            }
        }
        let (x, w) = (Var::from_tensor(&zeros(&[3, 0]))?, Var::from_tensor(&zeros(&[2, 0]))?);
        let y = ops::linear_as(form, &x, &w, None)?;
        assert_eq!(y.to_vec2::<f32>()?, [[0.0; 2]; 3]);
        let none = zeros(&[0, 4, 5, 5]);
        let pooled = ops::max_pool2d_as(form, &none, &MaxPool2dParams::new(2, 2));
        // candle finds no largest of nothing, and says so.
        assert!(pooled.map_or(form == Form::Portable, |y| y.elem_count() == 0));
        assert_eq!(ops::avg_pool2d_as(form, &none, &AvgPool2dParams::new(2, 2))?.elem_count(), 0);
        assert_eq!(ops::relu_as(form, &none)?.elem_count(), 0);
        assert!(ops::cross_entropy_as(form, &zeros(&[0, 3]), &[], &Default::default()).is_err());
        let no_classes = CrossEntropyParams::default();
        assert!(ops::cross_entropy_as(form, &zeros(&[1, 0]), &[0], &no_classes).is_err());
    }
    Ok(())
}

/// A tensor that claims more than its storage has.
fn short(dims: &[usize]) -> Tensor {
    let storage = Storage::Cpu(CpuStorage::F32(vec![1.0; 8]));
    Tensor::from_storage(storage, dims, BackpropOp::none(), false)
}

/// candle takes a storage that is shorter than its shape without a word; the ops do not.
#[test]
fn storage_that_is_shorter_than_its_shape_is_refused() {
    let (x, w) = (zeros(&[1, 4, 6, 6]), zeros(&[8, 4, 3, 3]));
    let (short_x, params) = (short(&[1, 4, 6, 6]), Conv2dParams::default());
    for form in [Form::Definition, Form::Kernel] {
        assert!(ops::conv2d_as(form, &short_x, &w, None, &params).is_err());
        assert!(ops::conv2d_as(form, &x, &short(&[8, 4, 3, 3]), None, &params).is_err());
        assert!(ops::conv2d_as(form, &x, &w, Some(&short(&[9])), &params).is_err());
        assert!(ops::max_pool2d_as(form, &short_x, &MaxPool2dParams::new(2, 2)).is_err());
        assert!(ops::avg_pool2d_as(form, &short_x, &AvgPool2dParams::new(2, 2)).is_err());
        assert!(ops::adaptive_avg_pool2d_as(form, &short_x, (1, 1)).is_err());
        assert!(ops::local_response_norm_as(form, &short_x, &LrnParams::default()).is_err());
        assert!(ops::relu_as(form, &short_x).is_err());
        assert!(ops::add_relu_as(form, &x, &short_x).is_err());
        assert!(ops::dropout_as(form, &short_x, 0.5, &mut Rng::new(1)).is_err());
        assert!(ops::linear_as(form, &short(&[4, 9]), &zeros(&[3, 9]), None).is_err());
        assert!(
            ops::cross_entropy_as(form, &short(&[9, 9]), &[0; 9], &Default::default()).is_err()
        );
        let norm = BatchNorm2dParams::default();
        assert!(ops::batch_norm2d_as(form, &short_x, None, None, &norm, None, true).is_err());
        let residual = Some(&short_x);
        assert!(ops::batch_norm2d_as(form, &x, None, None, &norm, residual, true).is_err());
    }
    let network = small();
    let mut engine = Engine::evaluation(&network, (3, 8, 8)).unwrap().unwrap();
    assert!(engine.logits(network.params(), &short(&[2, 3, 8, 8])).is_err());
}

/// The kernels take sizes and slices as they are given: whatever does not go together is refused before
/// memory is addressed by it.
#[test]
fn kernels_hold_slices_to_their_sizes() {
    let same = Conv2dParams { padding: (1, 1), ..Default::default() };
    let everything = Wants { input: true, weight: true, bias: true };
    for (channels, kernel) in [(40, 3), (4, 3), (4, 1), (2, 3)] {
        let good = Conv2dShape::new(
            &[2, channels, 6, 6],
            &[40, channels, kernel, kernel],
            &Conv2dParams { padding: (kernel / 2, kernel / 2), ..same },
        )
        .unwrap();
        let x = vec![1.0f32; 2 * channels * 36];
        let (w, b) = (vec![1.0f32; 40 * channels * kernel * kernel], vec![1.0f32; 40]);
        let dy = vec![1.0f32; 2 * 40 * 36];
        let forward = |shape: Conv2dShape, x: &[f32], w: &[f32], b: &[f32]| {
            refused(|| conv2d::kernel::forward(&shape, x, w, Some(b)))
        };
        let backward = |shape: Conv2dShape, x: &[f32], w: &[f32], dy: &[f32]| {
            refused(|| conv2d::kernel::backward(&shape, x, w, dy, everything))
        };
        assert!(!forward(good, &x, &w, &b) && !backward(good, &x, &w, &dy));
        let cut = |values: &[f32]| values[1..].to_vec();
        assert!(forward(good, &cut(&x), &w, &b) && forward(good, &x, &cut(&w), &b));
        assert!(forward(good, &x, &w, &cut(&b)) && forward(good, &x, &w, &[1.0; 99]));
        assert!(backward(good, &cut(&x), &w, &dy) && backward(good, &x, &cut(&w), &dy));
        assert!(backward(good, &x, &w, &cut(&dy)));
        let lies: [&dyn Fn(&mut Conv2dShape); 11] = [
            &|s| s.batch = usize::MAX,
            &|s| s.batch = 1 << 62,
            &|s| s.groups = 0,
            &|s| s.groups = 1 << 61,
            &|s| s.group_out = 1 << 62,
            &|s| s.window.channels = 1 << 60,
            &|s| s.window.output = (7, 6),
            &|s| s.window.output = (1 << 32, 1 << 32),
            &|s| s.window.input = (1 << 33, 1 << 31),
            &|s| s.window.kernel = (usize::MAX, 1),
            &|s| s.window.stride = (0, 0),
        ];
        for (number, lie) in lies.iter().enumerate() {
            let mut shape = good;
            lie(&mut shape);
            assert!(forward(shape, &x, &w, &b), "lie {number}");
            assert!(backward(shape, &x, &w, &dy), "lie {number}");
        }
    }
}

/// Trees with sizes that nothing can have are refused with the layer's name, before anything is made.
#[test]
fn trees_with_impossible_sizes_are_refused() {
    let most = usize::MAX;
    let map = Shape::Map(3, 8, 8);
    let wide = nn::branches([("a", conv(3, 1 << 53, 1).into()), ("b", conv(3, 1 << 53, 1).into())]);
    let trees: Vec<(Layer, Shape)> = vec![
        (conv(3, most, 3).into(), map),
        (conv(3, 1 << 61, 3).into(), map),
        (conv(most, 4, 3).into(), Shape::Map(most, 8, 8)),
        (conv(3, 4, most).into(), map),
        (conv(3, 4, 3).padding(most).into(), map),
        (conv(3, 4, 3).groups(most).into(), map),
        (conv(3, 4, 3).groups(0).into(), map),
        (adaptive_avg_pool(most), map),
        (adaptive_avg_pool(0), map),
        (Layer::PaddedIdentity { inputs: 3, outputs: most, stride: 1 }, map),
        (numbered([Layer::Flatten, linear(192, most)]), map),
        (numbered([Layer::Flatten, linear(192, 0)]), map),
        (nn::max_pool(most, 1).into(), map),
        (wide, map),
        (Layer::Flatten, Shape::Map(1 << 32, 1 << 32, 1 << 32)),
    ];
    for (tree, input) in trees {
        assert!(tree.trace(input).is_err(), "{tree:?}");
    }
    // A stride over everything is no harm.
    let tree: Layer = conv(3, 4, 3).stride(most).into();
    let twice = numbered([tree, conv(4, 4, 1).stride(most).into()]);
    assert_eq!(twice.trace(map).unwrap().output, Shape::Map(4, 1, 1));
    let far = ReceptiveField::INPUT.after(most, most, 0, most).after(most, most, most, most);
    assert_eq!(far.size, most);
    far.union(far).of_unit(most);
}

fn network(layers: Layer) -> Network {
    Network::new(layers, &Init::PYTORCH, 1, DType::F32, &Device::Cpu).unwrap()
}

fn small() -> Network {
    of_width(32)
}

/// Convolutions by every kernel, a norm, a linear layer.
fn of_width(channels: usize) -> Network {
    network(numbered([
        conv(3, channels, 3).padding(1).into(),
        nn::batch_norm(channels),
        Layer::Relu,
        conv(channels, channels, 3).padding(1).into(),
        nn::max_pool(2, 2).into(),
        adaptive_avg_pool(2),
        Layer::Flatten,
        linear(4 * channels, 4),
    ]))
}

/// An engine computes with the sizes of the network it was made for: other parameters are refused.
#[test]
fn engines_refuse_parameters_of_another_network() {
    let own = small();
    let x = zeros(&[2, 3, 8, 8]);
    let same_names = of_width(8);
    let fewer = network(numbered([conv(3, 32, 3).into(), Layer::Flatten]));
    let wide = Network::new(own.layers().clone(), &Init::PYTORCH, 1, DType::F64, &Device::Cpu);
    let wide = wide.unwrap();
    for other in [&same_names, &fewer, &wide] {
        let mut engine = Engine::evaluation(&own, (3, 8, 8)).unwrap().unwrap();
        let error = engine.logits(other.params(), &x).unwrap_err().to_string();
        assert!(error.starts_with("engine: ") && error.contains("its network has"), "{error}");
        let mut engine = Engine::training(&own, (3, 8, 8)).unwrap().unwrap();
        assert!(engine.forward(other.params(), &x, 1).is_err());
        let output = engine.forward(own.params(), &x, 1).unwrap();
        let grads = output.logits.sum_all().unwrap().backward().unwrap();
        assert!(engine.backward(other.params(), &grads).is_err());
        engine.backward(own.params(), &grads).unwrap();
    }
    // A network whose parameters were exchanged.
    let mut mixed = small();
    *mixed.params_mut() = fewer.params().clone();
    assert!(Engine::evaluation(&mixed, (3, 8, 8)).is_err());
}

/// What is trained is laid out once; gradients of another shape, pictures of none.
#[test]
fn engines_refuse_what_they_were_not_laid_out_for() {
    let mut own = small();
    let x = zeros(&[2, 3, 8, 8]);
    let mut engine = Engine::training(&own, (3, 8, 8)).unwrap().unwrap();
    let output = engine.forward(own.params(), &x, 1).unwrap();
    let mut grads = output.logits.sum_all().unwrap().backward().unwrap();
    grads.insert(&output.logits, zeros(&[3, 5]));
    let error = engine.backward(own.params(), &grads).unwrap_err().to_string();
    assert!(error.contains("[3, 5]") && error.contains("[2, 4]"), "{error}");
    own.params_mut().freeze(|name| name.starts_with('0'));
    let error = engine.forward(own.params(), &x, 1).unwrap_err().to_string();
    assert!(error.contains("0.weight frozen"), "{error}");
    let mut engine = Engine::evaluation(&own, (3, 8, 8)).unwrap().unwrap();
    assert_eq!(engine.logits(own.params(), &zeros(&[0, 3, 8, 8])).unwrap().dims(), [0, 4]);
    assert!(engine.logits(own.params(), &zeros(&[2, 3, 8])).is_err());
    assert!(own.forward(&zeros(&[0, 3, 8, 8]), Mode::Eval).is_ok());
}

/// Millions of classes, pictures as large as fields: refused by the tree, before a value is drawn.
#[test]
fn networks_that_no_memory_holds_are_refused() {
    let Some(free) = convzoo::train::available_memory() else { return };
    let outputs = free as usize / 4096 + 1;
    let wide = numbered([Layer::Flatten, linear(1024, outputs)]);
    let made = Network::new(wide, &Init::PYTORCH, 1, DType::F32, &Device::Cpu);
    let error = made.unwrap_err().to_string();
    assert!(error.starts_with("the network's parameters would take"), "{error}");
    let (side, classes) = (1 << 20, 15_000_000);
    let config =
        convzoo::models::Config { classes, ..convzoo::models::find("vgg16").unwrap().config() };
    if free < 240 << 30 {
        assert!(convzoo::models::Model::new("vgg16", config, 1, &Device::Cpu).is_err());
    }
    // A picture of 2^40 pixels: the tables of its windows alone.
    let network = network(numbered([conv(3, 4, 3).into(), adaptive_avg_pool(1), Layer::Flatten]));
    let engine = Engine::evaluation(&network, (3, side, side));
    assert!(engine.is_err() || engine.unwrap().is_none());
    // More pictures at once than there is memory for.
    let mut engine = Engine::evaluation(&network, (3, 8, 8)).unwrap().unwrap();
    let one = zeros(&[1, 3, 8, 8]);
    engine.logits(network.params(), &one).unwrap();
    let many = one.broadcast_as((free as usize / 3000, 3, 8, 8)).unwrap();
    let error = engine.logits(network.params(), &many).unwrap_err().to_string();
    assert!(error.contains("images would take"), "{error}");
    engine.logits(network.params(), &one).unwrap();
}
