//! `kill -9` at any moment: a run that is killed again and again, then gone on with, comes to the
//! bits of one that was not.
//!
//! Most kills come at a random moment, the others at a random point within the saving of a file, where
//! the program waits to be killed (`src/files/fault.rs`). A few here; for 200 of the first and 50 of the
//! second kind, at least:
//!
//! ```text
//! CONVZOO_KILLS=200 cargo test --test kill -- --nocapture
//! ```
//!
//! What measures time is left out of the comparison: the columns images_per_s and seconds of
//! metrics.csv, and such keys in JSON. So is how the program was called.

mod common;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::folder::{end_state, parts};
use common::program::{Bench, FAULT, succeed};
use convzoo::rng::Rng;

/// Saving after every step makes saves as frequent as they can be.
const EVERY_STEP: [&str; 2] = ["--save-every", "0.000001"];

/// Kinds of runs: optimisers remember different things, and so do averages, schedules and generators.
const KINDS: [&str; 5] = [
    "--optimizer sgd --nesterov",
    "--optimizer adamw --schedule cosine --warmup 1",
    "--optimizer sgd --momentum 0 --label-smoothing 0.1",
    "--optimizer adamw --ema 0.9 --accumulate 2 --clip-norm 1 --class-weights balanced \
     --augment trivial --erase 0.5 --mixup 0.4 --cutmix 1 --schedule plateau --plateau-patience 1",
    "--optimizer rmsprop --lr 1e-3 --ema 0.9 --augment rand --mixup 0.4 --save-dtype bf16 \
     --schedule cosine-restarts --restart-every 1 --on-nan skip --tensorboard",
];

fn flags(kind: usize) -> Vec<&'static str> {
    KINDS[kind].split_whitespace().chain(EVERY_STEP).collect()
}

/// What the kills met.
#[derive(Debug, Default)]
struct Tally {
    at_random: usize,
    in_saves: usize,
    too_late: usize,
    by_point: BTreeMap<String, usize>,
    finished: usize,
    before_the_run: usize,
    without_newest: usize,
    damaged: usize,
}

fn kills() -> usize {
    std::env::var("CONVZOO_KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(8)
}

fn spawn(mut command: Command) -> Child {
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program runs")
}

/// Kills the program where it waits in the middle of saving; the point's name, or `None` where it
/// finished before.
fn kill_in_save(mut command: Command, point: usize) -> Option<String> {
    let mut child = spawn({
        command.env(FAULT, format!("pause:{point}"));
        command
    });
    // Its standard output is short enough for the pipe.
    let lines = BufReader::new(child.stderr.take().expect("a pipe")).lines();
    let paused = lines.map_while(Result::ok).find(|line| line.contains(": paused at"));
    if let Some(line) = paused {
        child.kill().expect("a kill");
        child.wait().expect("an end");
        return line.split(": ").nth(2).map(point_name);
    }
    let output = child.wait_with_output().expect("an end");
    assert!(output.status.success(), "it failed by itself at {point}");
    None
}

/// `rename last` of `rename run/last.safetensors`.
fn point_name(place: &str) -> String {
    let (what, path) = place.rsplit_once(' ').unwrap_or((place, ""));
    let name = Path::new(path).file_name().unwrap_or_default().to_string_lossy();
    let name = name.split(".safetensors").next().unwrap_or_default();
    let name = name.split(".json").next().unwrap_or_default();
    let name = name.split(".csv").next().unwrap_or_default();
    let folder = if what == "flush folder" { "" } else { name };
    format!("{what} {folder}").trim_end().to_owned()
}

/// Kills the program after this time; false where it finished before.
fn kill_after(command: Command, time: Duration) -> bool {
    let mut child = spawn(command);
    std::thread::sleep(time);
    let done = child.try_wait().expect("a status");
    if done.is_none() {
        child.kill().expect("a kill");
    }
    let output = child.wait_with_output().expect("an end");
    if let Some(status) = done {
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(status.success(), "it failed by itself: {text}");
    }
    done.is_none()
}

/// What the newest state is after a kill.
fn look(run: &Path, tally: &mut Tally) {
    if !run.join("config.json").exists() {
        tally.before_the_run += 1;
        return;
    }
    let whole = |name: &str| {
        let bytes = std::fs::read(run.join(name)).ok()?;
        Some(safetensors::SafeTensors::deserialize(&bytes).is_ok())
    };
    match (whole("resume.safetensors"), whole("resume.previous.safetensors")) {
        (Some(true), None | Some(true)) => {}
        (None, Some(true)) => tally.without_newest += 1,
        _ => tally.damaged += 1,
    }
    for name in ["best.safetensors", "last.safetensors", "ema.safetensors"] {
        assert_ne!(whole(name), Some(false), "{name} is damaged");
    }
}

#[test]
fn a_run_killed_at_any_moment_comes_to_the_same_bits() {
    let (bench, wanted) = (Bench::new(), kills());
    let seed = std::env::var("CONVZOO_SEED").ok().and_then(|n| n.parse().ok());
    let seed = seed.unwrap_or(u64::from(std::process::id()));
    println!("kills: CONVZOO_SEED={seed}");
    let mut rng = Rng::stream(seed, "kills", &[]);
    let mut tally = Tally::default();
    let mut expected = Vec::new();
    let mut whole = Duration::ZERO;
    for kind in 0..KINDS.len() {
        let run = bench.run(&format!("whole{kind}"));
        let start = Instant::now();
        succeed(bench.train(&run, &[&flags(kind)[..], &["--threads", "1"]].concat()));
        whole = whole.max(start.elapsed());
        expected.push(end_state(&run));
    }
    let mut round = 0;
    while tally.at_random < wanted || tally.in_saves < wanted.div_ceil(4) {
        let kind = round % KINDS.len();
        let run = bench.run(&format!("killed{round}"));
        round += 1;
        loop {
            let mut command = bench.train(&run, &flags(kind));
            command.args(["--threads", if rng.chance(0.5) { "1" } else { "2" }]);
            if rng.chance(0.3) {
                match kill_in_save(command, 1 + rng.below(120)) {
                    Some(point) => {
                        tally.in_saves += 1;
                        *tally.by_point.entry(point).or_default() += 1;
                    }
                    None => break,
                }
            } else if kill_after(command, whole.mul_f64(rng.range(0.0, 0.8))) {
                tally.at_random += 1;
            } else {
                tally.too_late += 1;
                break;
            }
            look(&run, &mut tally);
        }
        tally.finished += 1;
        assert_eq!(end_state(&run), expected[kind], "{} {tally:?}", run.display());
        assert_eq!(parts(&run), 0, "files left half written");
        std::fs::remove_dir_all(&run).expect("a folder");
    }
    println!("{tally:#?}");
    assert_eq!(tally.damaged, 0, "states that cannot be read");
}
