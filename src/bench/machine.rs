//! The limits of the machine: products of matrices and memory bandwidth.

use rayon::prelude::*;

use super::{Case, Plan, Rate, Row, Settings, Timing, measure};
use crate::ops::{Mat, MatMut, gemm};
use crate::{Error, Result};

/// Rows and columns of the matrices.
const SIDE: usize = 2048;
/// Values of an array: 256 MiB, far beyond the caches.
const LENGTH: usize = 1 << 26;

/// The product, a copy, and `a = b + 3c`; each on one thread and on all.
pub(super) fn cases() -> Vec<Case> {
    vec![
        Case { section: "machine", name: "gemm_f32_2048", run: products },
        Case { section: "machine", name: "copy_256MiB", run: copies },
        Case { section: "machine", name: "triad_256MiB", run: triads },
    ]
}

fn products(name: &'static str, settings: &Settings) -> Result<Vec<Row>> {
    let (a, b) = (vec![0.5f32; SIDE * SIDE], vec![0.25f32; SIDE * SIDE]);
    let mut c = vec![0f32; SIDE * SIDE];
    let plan = Plan { target: 2.0 * settings.target, warmup: 2, min_reps: 5 };
    let gflop = 2.0 * (SIDE as f64).powi(3) / 1e9;
    on_one_and_all(name, settings, Rate::Gflop(gflop), |threads| {
        measure(plan, || {
            product(&a, &b, &mut c, threads);
            Ok(())
        })
    })
}

/// `c = a·b`, each thread a band of rows.
fn product(a: &[f32], b: &[f32], c: &mut [f32], threads: usize) {
    let rows = SIDE.div_ceil(threads);
    c.par_chunks_mut(rows * SIDE).enumerate().for_each(|(band, c)| {
        let first = band * rows;
        let band = first..first + c.len() / SIDE;
        let c_rows = band.len();
        let a = Mat::new(a, SIDE, SIDE).block(band, 0..SIDE);
        gemm(a, Mat::new(b, SIDE, SIDE), MatMut::new(c, c_rows, SIDE), false);
    });
}

fn copies(name: &'static str, settings: &Settings) -> Result<Vec<Row>> {
    let (mut a, b) = (vec![0f32; LENGTH], vec![1f32; LENGTH]);
    on_one_and_all(name, settings, Rate::Gbytes(8.0 * LENGTH as f64 / 1e9), |threads| {
        let piece = LENGTH.div_ceil(threads);
        measure(bandwidth(settings), || {
            a.par_chunks_mut(piece)
                .zip(b.par_chunks(piece))
                .for_each(|(a, b)| a.copy_from_slice(b));
            Ok(())
        })
    })
}

fn triads(name: &'static str, settings: &Settings) -> Result<Vec<Row>> {
    let (mut a, b, c) = (vec![0f32; LENGTH], vec![1f32; LENGTH], vec![1f32; LENGTH]);
    on_one_and_all(name, settings, Rate::Gbytes(12.0 * LENGTH as f64 / 1e9), |threads| {
        let piece = LENGTH.div_ceil(threads);
        measure(bandwidth(settings), || {
            let inputs = b.par_chunks(piece).zip(c.par_chunks(piece));
            a.par_chunks_mut(piece).zip(inputs).for_each(|(a, (b, c))| triad(a, b, c));
            Ok(())
        })
    })
}

fn triad(a: &mut [f32], b: &[f32], c: &[f32]) {
    for ((a, b), c) in a.iter_mut().zip(b).zip(c) {
        *a = b + 3.0 * c;
    }
}

fn bandwidth(settings: &Settings) -> Plan {
    Plan { target: settings.target, warmup: 1, min_reps: 3 }
}

/// Times in a pool of one thread, and in one of all.
fn on_one_and_all(
    name: &'static str,
    settings: &Settings,
    rate: Rate,
    mut time: impl FnMut(usize) -> Result<Timing> + Send,
) -> Result<Vec<Row>> {
    let mut counts = vec![1, settings.threads];
    counts.dedup();
    let mut rows = Vec::new();
    for threads in counts {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
        let pool = pool.map_err(|error| Error::Setting(format!("{threads} threads: {error}")))?;
        let timing = pool.install(|| time(threads))?;
        rows.push(Row::new("machine", name, threads).timed(timing, rate));
    }
    Ok(rows)
}
