use convzoo::ops::Conv2dParams;
use convzoo::ops::conv2d::*;
use std::time::Instant;
fn main() {
    let cases = [
        (32, 3, 64, 96, 7, 2, 3),
        (32, 64, 64, 24, 3, 1, 1),
        (32, 64, 128, 24, 3, 2, 1),
        (32, 128, 128, 12, 3, 1, 1),
        (32, 256, 256, 6, 3, 1, 1),
        (32, 512, 512, 3, 3, 1, 1),
        (32, 256, 64, 24, 1, 1, 0),
        (16, 64, 64, 96, 3, 1, 1),
    ];
    for (n, c, o, s, k, st, p) in cases {
        let params = Conv2dParams { stride: (st, st), padding: (p, p), ..Default::default() };
        let shape = Conv2dShape::new(&[n, c, s, s], &[o, c, k, k], &params).unwrap();
        let x = vec![0.5f32; n * c * s * s];
        let w = vec![0.1f32; o * c * k * k];
        let y = kernel::forward(&shape, &x, &w, None);
        let fl = 2.0 * (y.len() * c * k * k) as f64;
        let t = Instant::now();
        let r = 5;
        for _ in 0..r {
            std::hint::black_box(kernel::forward(&shape, &x, &w, None));
        }
        let f = t.elapsed().as_secs_f64() / r as f64;
        let wants = Conv2dWants { input: c > 3, weight: true, bias: false };
        let t = Instant::now();
        for _ in 0..r {
            std::hint::black_box(kernel::backward(&shape, &x, &w, &y, wants));
        }
        let b = t.elapsed().as_secs_f64() / r as f64;
        let bf = if c > 3 { 2.0 } else { 1.0 };
        println!(
            "{n}x{c}x{s} -> {o} k{k} s{st}: fwd {:.1} ms {:.0} GF  bwd {:.1} ms {:.0} GF",
            f * 1e3,
            fl / f / 1e9,
            b * 1e3,
            bf * fl / b / 1e9
        );
    }
}
