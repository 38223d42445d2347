//! Timing a call: how often, and what the rest of the machine did meanwhile.

use std::hint::black_box;
use std::time::Instant;

use serde::Serialize;

use super::row::five_digits;
use crate::Result;

/// How often a call is made.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Plan {
    /// Seconds of timed calls.
    pub target: f64,
    /// Calls before the timed ones.
    pub warmup: usize,
    /// Timed calls that are made however long they take.
    pub min_reps: usize,
}

/// Timed calls that are made however little they take.
const MAX_REPS: usize = 200;
/// Seconds after which the warm-up is over.
const WARM: f64 = 2.0;

/// How long a call takes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Timing {
    /// Median of the timed calls, in seconds.
    #[serde(serialize_with = "five_digits")]
    pub median_s: f64,
    /// The fastest.
    #[serde(serialize_with = "five_digits")]
    pub min_s: f64,
    /// The slowest.
    #[serde(serialize_with = "five_digits")]
    pub max_s: f64,
    /// How many there were.
    pub reps: usize,
    /// What all other processes took of the CPUs meanwhile, and what the hypervisor did.
    #[serde(flatten)]
    pub others: Option<Others>,
}

/// Use of the CPUs by others, in cores; a measurement is trustworthy where both are near 0.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Others {
    /// By other processes.
    #[serde(serialize_with = "five_digits")]
    pub other_cores: f64,
    /// By other machines on the same host.
    #[serde(serialize_with = "five_digits")]
    pub steal_cores: f64,
}

/// Times `call`, the dropping of what it returns included.
///
/// # Errors
/// The first error of a call.
pub fn measure<T>(plan: Plan, mut call: impl FnMut() -> Result<T>) -> Result<Timing> {
    let warm = Instant::now();
    for _ in 0..plan.warmup {
        drop(black_box(call()?));
        if warm.elapsed().as_secs_f64() > WARM {
            break;
        }
    }
    let (before, start, mut times) = (CpuTimes::now(), Instant::now(), Vec::new());
    let more = |done: usize, seconds: f64| seconds < plan.target && done < MAX_REPS;
    while times.len() < plan.min_reps.max(1) || more(times.len(), start.elapsed().as_secs_f64()) {
        let begun = Instant::now();
        drop(black_box(call()?));
        times.push(begun.elapsed().as_secs_f64());
    }
    let wall = start.elapsed().as_secs_f64();
    let others = before.zip(CpuTimes::now()).map(|(before, after)| after.since(before, wall));
    Ok(summary(times, others))
}

fn summary(mut times: Vec<f64>, others: Option<Others>) -> Timing {
    times.sort_by(f64::total_cmp);
    let reps = times.len();
    let median_s = (times[(reps - 1) / 2] + times[reps / 2]) / 2.0;
    Timing { median_s, min_s: times[0], max_s: times[reps - 1], reps, others }
}

/// Seconds of CPU time.
#[derive(Clone, Copy)]
struct CpuTimes {
    /// Of all processes, since boot.
    busy: f64,
    /// Stolen by the hypervisor, since boot.
    stolen: f64,
    /// Of this process.
    own: f64,
}

impl CpuTimes {
    /// From Linux's `/proc`; elsewhere there are none.
    fn now() -> Option<Self> {
        let all = ticks(std::fs::read_to_string("/proc/stat").ok()?.lines().next()?, 1);
        // The name, in brackets, may hold spaces; user and system time are 12 and 13 fields on.
        let own = std::fs::read_to_string("/proc/self/stat").ok()?;
        let own = ticks(own.rsplit_once(')')?.1, 11);
        let &[user, nice, system, _idle, _wait, irq, softirq, stolen] = all.get(..8)? else {
            return None;
        };
        let busy = user + nice + system + irq + softirq;
        Some(CpuTimes { busy, stolen, own: own.first()? + own.get(1)? })
    }

    fn since(self, before: Self, wall: f64) -> Others {
        let own = self.own - before.own;
        Others {
            other_cores: ((self.busy - before.busy - own) / wall).max(0.0),
            steal_cores: (self.stolen - before.stolen) / wall,
        }
    }
}

/// The numbers of a line after its first `skip` words, in hundredths of a second, as seconds.
fn ticks(line: &str, skip: usize) -> Vec<f64> {
    let words = line.split_whitespace().skip(skip);
    words.map_while(|word| word.parse::<f64>().ok()).map(|ticks| ticks / 100.0).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_as_often_as_planned() {
        let mut calls = 0;
        let plan = Plan { target: 0.0, warmup: 2, min_reps: 5 };
        let timing = measure(plan, || {
            calls += 1;
            Ok(())
        })
        .unwrap();
        assert_eq!((calls, timing.reps), (7, 5));
        assert!(timing.min_s <= timing.median_s && timing.median_s <= timing.max_s);
        let timing = measure(Plan { target: 60.0, ..plan }, || Ok(())).unwrap();
        assert_eq!(timing.reps, MAX_REPS);
    }

    #[test]
    fn the_median_lies_in_the_middle() {
        assert_eq!(summary(vec![3.0, 1.0, 2.0], None).median_s, 2.0);
        assert_eq!(summary(vec![4.0, 1.0, 2.0, 3.0], None).median_s, 2.5);
    }
}
