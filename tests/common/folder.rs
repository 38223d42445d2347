//! What a run's folder comes to, without what measures time or says how the run was called.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::Value;
use sha2::{Digest, Sha256};

/// The columns of metrics.csv that measure time.
const TIMES: [&str; 2] = ["images_per_s", "seconds"];
/// Keys in JSON that measure time, or say how the program was called.
const OWN: [&str; 14] = [
    "seconds",
    "train_seconds",
    "wait_seconds",
    "train_images_per_s",
    "data_wait",
    "threads",
    "workers",
    "command",
    "save_minutes",
    "started",
    "finished",
    "machine",
    "resumed_by",
    "peak_memory_mib",
];

/// One text for each file of a finished run; two runs are the same where these are.
pub fn end_state(run: &Path) -> BTreeMap<&'static str, String> {
    let json = |name| without_times(serde_json::from_slice(&read(run, name)).expect("JSON"));
    let averaged = run.join("ema.safetensors").exists();
    let averaged = averaged.then(|| ("ema.safetensors", hash(&read(run, "ema.safetensors"))));
    let mut state = BTreeMap::from([
        ("best.safetensors", hash(&read(run, "best.safetensors"))),
        ("last.safetensors", hash(&read(run, "last.safetensors"))),
        ("resume.safetensors", resume_state(&read(run, "resume.safetensors"))),
        ("metrics.csv", metrics(&String::from_utf8(read(run, "metrics.csv")).expect("UTF-8"))),
        ("summary.json", json("summary.json").to_string()),
        ("config.json", json("config.json").to_string()),
        ("evaluation.json", json("evaluation.json").to_string()),
    ]);
    state.extend(averaged);
    state
}

/// Files that writers left behind.
pub fn parts(run: &Path) -> usize {
    let names = fs::read_dir(run).expect("a folder").map(|entry| entry.expect("an entry").path());
    names.filter(|path| path.extension().is_some_and(|ending| ending == "part")).count()
}

fn read(run: &Path, name: &str) -> Vec<u8> {
    fs::read(run.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn hash(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The hash of every tensor's bytes, and the progress without its times.
fn resume_state(bytes: &[u8]) -> String {
    let (_, header) = safetensors::SafeTensors::read_metadata(bytes).expect("a header");
    let progress = &header.metadata().as_ref().expect("metadata")["convzoo.progress"];
    let progress: Value = serde_json::from_str(&progress[8..]).expect("progress behind a sum");
    let parsed = safetensors::SafeTensors::deserialize(bytes).expect("tensors");
    let mut tensors: Vec<_> = parsed.iter().map(|(n, view)| (n, hash(view.data()))).collect();
    tensors.sort();
    format!("{} {tensors:?}", without_times(progress))
}

fn metrics(text: &str) -> String {
    let header: Vec<&str> = text.lines().next().expect("a header").split(',').collect();
    let kept = |line: &str| {
        let cells = line.split(',').zip(&header).filter(|(_, name)| !TIMES.contains(name));
        cells.map(|(cell, _)| cell).collect::<Vec<_>>().join(",")
    };
    text.lines().map(kept).collect::<Vec<_>>().join("\n")
}

fn without_times(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            let kept = map.into_iter().filter(|(key, _)| !OWN.contains(&key.as_str()));
            Value::Object(kept.map(|(key, value)| (key, without_times(value))).collect())
        }
        Value::Array(list) => Value::Array(list.into_iter().map(without_times).collect()),
        other => other,
    }
}
