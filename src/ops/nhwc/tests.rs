//! Every kernel, at every instruction set, against its definition on random shapes.

use super::conv::{Finish, Gather, Maps, Runs, convolve, weight_gradient};
use super::lanes::{Isa, padded};
use super::narrow::{self, Narrow};
use super::pack::{Panels, WeightShape, unpack_gradient};
use super::pixels::MapsMut;
use super::winograd::{Filters, Scratch, Winograd};
use crate::ops::conv2d::{Conv2dParams, Conv2dShape, definition};
use crate::ops::weighted::Wants;
use crate::rng::Rng;

fn values(rng: &mut Rng, len: usize) -> Vec<f32> {
    (0..len).map(|_| rng.range(-1.0, 1.0) as f32).collect()
}

/// [N, C, pixels] to [N, pixels, padded(C)].
fn channels_last(values: &[f32], n: usize, c: usize) -> Vec<f32> {
    let (pixels, wide) = (values.len() / n / c, padded(c));
    let mut out = vec![0.0; n * pixels * wide];
    for (i, &v) in values.iter().enumerate() {
        let (n, c, p) = (i / pixels / c, i / pixels % c, i % pixels);
        out[(n * pixels + p) * wide + c] = v;
    }
    out
}

/// The other way round.
fn channels_first(values: &[f32], n: usize, c: usize) -> Vec<f32> {
    let wide = padded(c);
    let pixels = values.len() / n / wide;
    let at = |i: usize| (i / c / pixels * pixels + i % pixels) * wide + i / pixels % c;
    (0..n * c * pixels).map(|i| values[at(i)]).collect()
}

fn close(found: &[f32], wanted: &[f64], what: &str) {
    within(1e-5, found, wanted, what);
}

fn nearly(found: &[f32], wanted: &[f64], what: &str) {
    within(1e-4, found, wanted, what);
}

fn within(share: f64, found: &[f32], wanted: &[f64], what: &str) {
    assert_eq!(found.len(), wanted.len(), "{what}");
    let scale = wanted.iter().fold(1.0f64, |m, v| m.max(v.abs()));
    for (i, (&found, &wanted)) in found.iter().zip(wanted).enumerate() {
        let difference = (f64::from(found) - wanted).abs();
        assert!(difference < share * scale, "{what}: {found} for {wanted} at {i}");
    }
}

#[test]
fn convolution_agrees_with_its_definition() {
    let mut rng = Rng::new(5);
    let mut done = 0;
    while done < 120 {
        let mut below = |n: usize| rng.below(n);
        let large = if done % 8 == 0 { 4 } else { 1 };
        let (n, c, o) = (1 + below(5), large * (1 + below(40)), large * (1 + below(70)));
        let pair = |rng: &mut dyn FnMut(usize) -> usize, from, n| (from + rng(n), from + rng(n));
        let (input, kernel) = (pair(&mut below, 1, 14), pair(&mut below, 1, 4));
        let params = Conv2dParams {
            stride: pair(&mut below, 1, 3),
            padding: pair(&mut below, 0, 3),
            dilation: pair(&mut below, 1, 2),
            groups: 1,
        };
        let (x_dims, w_dims) = ([n, c, input.0, input.1], [o, c, kernel.0, kernel.1]);
        let Ok(shape) = Conv2dShape::new(&x_dims, &w_dims, &params) else { continue };
        done += 1;
        let [_, _, rows, cols] = shape.output();
        let x = values(&mut rng, x_dims.iter().product());
        let w = values(&mut rng, w_dims.iter().product());
        let b = values(&mut rng, o);
        let dy = values(&mut rng, n * o * rows * cols);
        let wide = |v: &[f32]| v.iter().map(|&v| f64::from(v)).collect::<Vec<f64>>();
        let y = definition::forward(&shape, &wide(&x), &wide(&w), Some(&wide(&b)));
        let wants = Wants { input: true, weight: true, bias: false };
        let grads = definition::backward(&shape, &wide(&x), &wide(&w), &wide(&dy), wants);
        for isa in Isa::available() {
            let what = format!("{isa:?} {x_dims:?} {w_dims:?} {params:?}");
            let ws = WeightShape { outputs: o, inputs: c, kernel };
            let (xs, dys) = (channels_last(&x, n, c), channels_last(&dy, n, o));
            let (x_maps, dy_maps) =
                (Maps { data: &xs, step: padded(c) }, Maps { data: &dys, step: padded(o) });
            let mut panels = Panels::default();
            panels.pack_forward(isa, &w, ws);
            let mut bias = b.clone();
            bias.resize(padded(o), 0.0);
            let mut out = vec![0.0; n * rows * cols * padded(o)];
            let finish = Finish { bias: Some(&bias), ..Finish::default() };
            let g = Gather::forward(&shape.window);
            convolve(isa, &g, n, x_maps, &panels, &mut out, padded(o), finish);
            close(&channels_first(&out, n, o), &y, &format!("y {what}"));
            panels.pack_backward(isa, &w, ws);
            let g = Gather::backward(&shape.window);
            let mut dx = vec![0.0; xs.len()];
            convolve(isa, &g, n, dy_maps, &panels, &mut dx, padded(c), Finish::default());
            close(&channels_first(&dx, n, c), grads.input.as_ref().unwrap(), &format!("dx {what}"));
            let taps = kernel.0 * kernel.1;
            let mut dw = vec![0.0; taps * c * padded(o)];
            let runs = Runs::new(&shape.window);
            weight_gradient(isa, &runs, n, x_maps, c, dy_maps, o, &mut dw);
            let mut grad = vec![0.0; w.len()];
            unpack_gradient(&dw, ws, &mut grad);
            close(&grad, grads.weight.as_ref().unwrap(), &format!("dw {what}"));
        }
    }
}

#[test]
fn narrow_convolution_agrees_with_its_definition() {
    let mut rng = Rng::new(7);
    let mut done = 0;
    while done < 60 {
        let mut below = |n: usize| rng.below(n);
        let (n, c, o) = (1 + below(70), 1 + below(15), 1 + below(34));
        let pair = |rng: &mut dyn FnMut(usize) -> usize, from, n| (from + rng(n), from + rng(n));
        let (input, kernel) = (pair(&mut below, 1, 12), pair(&mut below, 1, 6));
        let (stride, dilation) = (pair(&mut below, 1, 3), pair(&mut below, 1, 2));
        let params = Conv2dParams { stride, dilation, ..Default::default() };
        let (x_dims, w_dims) = ([n, c, input.0, input.1], [o, c, kernel.0, kernel.1]);
        let Ok(shape) = Conv2dShape::new(&x_dims, &w_dims, &params) else { continue };
        done += 1;
        let [_, _, rows, cols] = shape.output();
        let x = values(&mut rng, x_dims.iter().product());
        let w = values(&mut rng, w_dims.iter().product());
        let b = values(&mut rng, o);
        let dy = values(&mut rng, n * o * rows * cols);
        let wide = |v: &[f32]| v.iter().map(|&v| f64::from(v)).collect::<Vec<f64>>();
        let y = definition::forward(&shape, &wide(&x), &wide(&w), Some(&wide(&b)));
        let wants = Wants { input: true, weight: true, bias: true };
        let grads = definition::backward(&shape, &wide(&x), &wide(&w), &wide(&dy), wants);
        let narrow =
            Narrow::new(WeightShape { outputs: o, inputs: c, kernel }, &shape.window).unwrap();
        let (x_len, y_len) = (x.len() / n, dy.len() / n);
        let blocks = n.div_ceil(narrow::BLOCK);
        let mut xs = vec![f32::NAN; blocks * narrow.x_len()];
        let mut dys = vec![f32::NAN; blocks * narrow.y_len()];
        narrow::to_blocks(&x, n, x_len, x_len, &mut xs);
        narrow::to_blocks(&dy, n, y_len, y_len, &mut dys);
        for isa in Isa::available() {
            let what = format!("{isa:?} {x_dims:?} {w_dims:?} {params:?}");
            let mut out = vec![0.0; dys.len()];
            narrow.forward(isa, &xs, &w, Some(&b), false, &mut out);
            let mut found = vec![0.0; dy.len()];
            narrow::from_blocks(&out, n, y_len, y_len, &mut found);
            close(&found, &y, &format!("y {what}"));
            narrow.forward(isa, &xs, &w, Some(&b), true, &mut out);
            narrow::from_blocks(&out, n, y_len, y_len, &mut found);
            let positive: Vec<f64> = y.iter().map(|y| y.max(0.0)).collect();
            close(&found, &positive, &format!("relu {what}"));
            let mut out = vec![0.0; xs.len()];
            narrow.input_gradient(isa, &dys, &w, &mut out);
            let mut found = vec![0.0; x.len()];
            narrow::from_blocks(&out, n, x_len, x_len, &mut found);
            close(&found, grads.input.as_ref().unwrap(), &format!("dx {what}"));
            let mut found = vec![0.0; w.len()];
            narrow.weight_gradient(isa, &xs, &dys, &mut found);
            close(&found, grads.weight.as_ref().unwrap(), &format!("dw {what}"));
            let mut found = vec![0.0; o];
            narrow::channel_sums(&dys, rows * cols * narrow::BLOCK, &mut found);
            close(&found, grads.bias.as_ref().unwrap(), &format!("db {what}"));
        }
    }
}

/// Sums in another order and with larger intermediates: within 1e-4 of the largest value, where the
/// direct way is within 1e-5.
#[test]
fn winograd_agrees_with_the_definition() {
    let mut rng = Rng::new(6);
    let mut scratch = Scratch::default();
    let mut done = 0;
    while done < 60 {
        let mut below = |n: usize| rng.below(n);
        let (n, c, o) = (1 + below(4), 1 + below(70), 1 + below(70));
        let (input, padding) = ((1 + below(15), 1 + below(15)), (below(3), below(3)));
        let params = Conv2dParams { padding, ..Default::default() };
        let (x_dims, w_dims) = ([n, c, input.0, input.1], [o, c, 3, 3]);
        let Ok(shape) = Conv2dShape::new(&x_dims, &w_dims, &params) else { continue };
        done += 1;
        let [_, _, rows, cols] = shape.output();
        let x = values(&mut rng, x_dims.iter().product());
        let w = values(&mut rng, w_dims.iter().product());
        let dy = values(&mut rng, n * o * rows * cols);
        let wide = |v: &[f32]| v.iter().map(|&v| f64::from(v)).collect::<Vec<f64>>();
        let y = definition::forward(&shape, &wide(&x), &wide(&w), None);
        let wants = Wants { input: true, weight: true, bias: false };
        let grads = definition::backward(&shape, &wide(&x), &wide(&w), &wide(&dy), wants);
        for isa in Isa::available() {
            let what = format!("{isa:?} {x_dims:?} {w_dims:?} {params:?}");
            let ws = WeightShape { outputs: o, inputs: c, kernel: (3, 3) };
            let (xs, dys) = (channels_last(&x, n, c), channels_last(&dy, n, o));
            let (x_maps, dy_maps) =
                (Maps { data: &xs, step: padded(c) }, Maps { data: &dys, step: padded(o) });
            let tiles = Winograd::new(&shape.window).unwrap();
            let mut filters = Filters::default();
            filters.forward(isa, &w, ws);
            let mut out = vec![0.0; n * rows * cols * padded(o)];
            let to = MapsMut { data: &mut out, step: padded(o) };
            tiles.forward(isa, n, x_maps, &filters, to, Finish::default());
            nearly(&channels_first(&out, n, o), &y, &format!("y {what}"));
            filters.backward(isa, &w, ws);
            let (mut dw, mut dx) = (vec![0.0; 9 * c * padded(o)], vec![1.0; xs.len()]);
            let to = MapsMut { data: &mut dx, step: padded(c) };
            let results = (Some(&mut dw[..]), Some((&filters, to)));
            tiles.backward(isa, &mut scratch, n, x_maps, dy_maps, ws, results.0, results.1, false);
            nearly(
                &channels_first(&dx, n, c),
                grads.input.as_ref().unwrap(),
                &format!("dx {what}"),
            );
            let mut grad = vec![0.0; w.len()];
            unpack_gradient(&dw, ws, &mut grad);
            nearly(&grad, grads.weight.as_ref().unwrap(), &format!("dw {what}"));
        }
    }
}

/// The best of eight times, and the rate.
fn rate(name: &str, gflop: f64, f: &mut dyn FnMut()) -> String {
    let best = (0..8).map(|_| {
        let start = std::time::Instant::now();
        f();
        start.elapsed().as_secs_f64()
    });
    let best = best.fold(f64::MAX, f64::min);
    format!(" {name} {:.2} ms {:.0}", best * 1e3, gflop / best)
}

/// Not a test of correctness: prints the rate of a layer at each instruction set.
#[test]
#[ignore = "a measurement: cargo test --lib nhwc::tests::rates -- --ignored --nocapture"]
fn rates() {
    let mut rng = Rng::new(1);
    let mut scratch = Scratch::default();
    for (n, c, o, size, k, s) in [
        (128, 6, 16, 12, 5, 1),
        (128, 1, 6, 28, 5, 1),
        (32, 64, 64, 24, 3, 1),
        (32, 128, 128, 12, 3, 1),
        (32, 256, 256, 6, 3, 1),
        (32, 512, 512, 3, 3, 1),
        (32, 64, 128, 24, 3, 2),
        (32, 256, 64, 24, 1, 1),
        (32, 64, 256, 24, 1, 1),
        (32, 1024, 256, 6, 1, 1),
        (32, 2048, 512, 3, 1, 1),
        (32, 512, 512, 6, 3, 1),
        (16, 256, 384, 13, 3, 1),
        (32, 64, 64, 96, 3, 1),
        (1, 64, 64, 56, 3, 1),
        (1, 128, 128, 28, 3, 1),
        (1, 256, 256, 14, 3, 1),
        (32, 32, 32, 12, 3, 1),
        (32, 96, 128, 12, 3, 1),
        (16, 64, 64, 56, 3, 1),
        (16, 512, 512, 7, 3, 1),
    ] {
        let isa = Isa::best();
        let params = Conv2dParams {
            stride: (s, s),
            padding: if k == 5 { (0, 0) } else { (k / 2, k / 2) },
            ..Default::default()
        };
        let shape = Conv2dShape::new(&[n, c, size, size], &[o, c, k, k], &params).unwrap();
        let [_, _, rows, cols] = shape.output();
        let (cp, op) = (padded(c), padded(o));
        let x = values(&mut rng, n * size * size * cp);
        let w = values(&mut rng, o * c * k * k);
        let dy = values(&mut rng, n * rows * cols * op);
        let mut y = dy.clone();
        let mut dx = x.clone();
        let mut dw = vec![0.0; k * k * c * op];
        let mut grad = w.clone();
        let ws = WeightShape { outputs: o, inputs: c, kernel: (k, k) };
        let (mut forward, mut backward) = (Panels::default(), Panels::default());
        let (to, from) = (Gather::forward(&shape.window), Gather::backward(&shape.window));
        let runs = Runs::new(&shape.window);
        let gflop = 2e-9 * (n * o * c * k * k * rows * cols) as f64;
        let mut line = format!("{n}x{c}x{size} -> {o}, {k}x{k}/{s}, {gflop:.2} GFLOP:");
        let mut time = |name: &str, f: &mut dyn FnMut()| line += &rate(name, gflop, f);
        time("pack", &mut || forward.pack_forward(isa, &w, ws));
        time("packb", &mut || backward.pack_backward(isa, &w, ws));
        let xm = Maps { data: &x, step: cp };
        time("y", &mut || convolve(isa, &to, n, xm, &forward, &mut y, op, Finish::default()));
        let ym = Maps { data: &dy, step: op };
        time("dx", &mut || convolve(isa, &from, n, ym, &backward, &mut dx, cp, Finish::default()));
        time("dw", &mut || weight_gradient(isa, &runs, n, xm, c, ym, o, &mut dw));
        time("unpack", &mut || unpack_gradient(&dw, ws, &mut grad));
        if let Some(tiles) = Winograd::new(&shape.window) {
            line += &format!("\n    winograd, pays {}:", tiles.pays(n, c, o));
            let mut time = |name: &str, f: &mut dyn FnMut()| line += &rate(name, gflop, f);
            let (mut to, mut from) = (Filters::default(), Filters::default());
            let mut sums = vec![0.0; 9 * c * padded(o)];
            time("pack", &mut || to.forward(isa, &w, ws));
            time("packb", &mut || from.backward(isa, &w, ws));
            time("y", &mut || {
                let y = MapsMut { data: &mut y, step: op };
                tiles.forward(isa, n, xm, &to, y, Finish::default());
            });
            time("dx, dw", &mut || {
                let dx = MapsMut { data: &mut dx, step: cp };
                let results = (Some(&mut sums[..]), Some((&from, dx)));
                tiles.backward(isa, &mut scratch, n, xm, ym, ws, results.0, results.1, false);
            });
        }
        println!("{line}");
    }
}

/// The largest error as a share of `scale`, and all of them in l2 as a share of `wanted`.
fn errors(found: &[f32], wanted: &[f64], scale: &[f64]) -> (f64, f64) {
    let error = |i: usize| (f64::from(found[i]) - wanted[i]).abs();
    let largest = (0..found.len()).map(|i| error(i) / scale[i]).fold(0.0, f64::max);
    let squares: f64 = (0..found.len()).map(|i| error(i).powi(2)).sum();
    (largest, (squares / wanted.iter().map(|v| v * v).sum::<f64>()).sqrt())
}

/// The bounds in the tables of the ops and of Winograd's way: pictures whose right part is darker by
/// some decades, the edge inside a tile.
#[test]
fn winograd_loses_no_more_digits_than_is_said() {
    const LARGEST: [f64; 5] = [1e-6, 4e-6, 4e-5, 4e-4, 4e-3];
    const LARGEST_DIRECT: f64 = 6e-7;
    const ALL: f64 = 1e-6;
    const ALL_DIRECT: f64 = 5e-7;
    let (n, c, o, side, edge) = (1, 64, 32, 16, 10);
    let params = Conv2dParams { padding: (1, 1), ..Default::default() };
    let shape = Conv2dShape::new(&[n, c, side, side], &[o, c, 3, 3], &params).unwrap();
    let mut rng = Rng::new(11);
    let (bright, w) = (values(&mut rng, n * c * side * side), values(&mut rng, o * c * 9));
    let wide = |values: &[f32]| values.iter().map(|&v| f64::from(v)).collect::<Vec<f64>>();
    let magnitudes = |values: &[f32]| values.iter().map(|&v| f64::from(v.abs())).collect();
    for (decades, largest) in LARGEST.into_iter().enumerate() {
        let darker = 0.1f32.powi(decades as i32);
        let of = |(i, &v): (usize, &f32)| if i % side < edge { v } else { v * darker };
        let x: Vec<f32> = bright.iter().enumerate().map(of).collect();
        let y = definition::forward(&shape, &wide(&x), &wide(&w), None);
        let (x_size, w_size): (Vec<f64>, Vec<f64>) = (magnitudes(&x), magnitudes(&w));
        let scale = definition::forward(&shape, &x_size, &w_size, None);
        for isa in Isa::available() {
            let ws = WeightShape { outputs: o, inputs: c, kernel: (3, 3) };
            let (xs, step) = (channels_last(&x, n, c), padded(o));
            let maps = Maps { data: &xs, step: padded(c) };
            let mut out = vec![0.0; n * side * side * step];
            let mut filters = Filters::default();
            filters.forward(isa, &w, ws);
            let tiles = Winograd::new(&shape.window).unwrap();
            let to = MapsMut { data: &mut out, step };
            tiles.forward(isa, n, maps, &filters, to, Finish::default());
            let found = errors(&channels_first(&out, n, o), &y, &scale);
            let mut panels = Panels::default();
            panels.pack_forward(isa, &w, ws);
            let g = Gather::forward(&shape.window);
            convolve(isa, &g, n, maps, &panels, &mut out, step, Finish::default());
            let direct = errors(&channels_first(&out, n, o), &y, &scale);
            let what = format!("{isa:?}, {decades} decades: {found:?}, directly {direct:?}");
            println!("{what}");
            assert!(found.0 <= largest && found.1 <= ALL, "{what}");
            assert!(direct.0 <= LARGEST_DIRECT && direct.1 <= ALL_DIRECT, "{what}");
        }
    }
}
