//! The resume state of a run: two files, the newest and the one before.
//!
//! A state holds [`Progress`] and groups of tensors, each under a prefix of its own: `param.` for
//! parameters, `optim.` for what the optimiser remembers. It is a safetensors file with a check sum,
//! so that one that was damaged later is known, and the one before is gone on from. It holds the run's
//! settings too: should `config.json` be edited, the run that goes on would be another one.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use candle_core::{Device, Tensor};
use safetensors::SafeTensors;
use serde::Deserialize;
use serde_json::Value;

use super::config::RunConfig;
use super::finite::is_finite;
use super::run::{Progress, RunFolder};
use crate::{Error, Result, files};

/// The newest state.
pub(super) const NEWEST: &str = "resume.safetensors";
/// The one before.
pub(super) const BEFORE: &str = "resume.previous.safetensors";

/// The key in the header that holds a check sum, and [`Progress`] and the settings as JSON.
const PROGRESS: &str = "convzoo.progress";
/// Where in that JSON the settings are.
const SETTINGS: &str = "settings";
/// Most bytes of a state: more than any optimiser keeps of the largest networks.
const MOST_BYTES: u64 = 64 << 30;
/// Stands in the header while the check sum is computed.
const NO_SUM: &str = "00000000";

/// Tensors by name.
pub(super) type Group = HashMap<String, Tensor>;
/// Prefixes, and the tensors to be written under them.
pub(super) type Groups = Vec<(&'static str, Vec<(String, Tensor)>)>;

/// A state as read.
#[derive(Debug)]
pub(super) struct State {
    pub(super) progress: Progress,
    /// The settings that it was saved with; earlier versions kept none.
    pub(super) settings: Option<RunConfig>,
    groups: BTreeMap<String, Group>,
    /// What is to be said about it: that it is not the newest.
    pub(super) note: Option<String>,
}

impl State {
    /// The tensors under this prefix.
    pub(super) fn group(&mut self, prefix: &str) -> Group {
        self.groups.remove(prefix).unwrap_or_default()
    }
}

/// Writes the newest state of a run; the one that was it becomes the one before.
///
/// # Errors
/// Names the file that could not be written; what was saved before can still be read.
pub(super) fn write(
    folder: &RunFolder,
    progress: &Progress,
    settings: &RunConfig,
    groups: Groups,
) -> Result<()> {
    let path = folder.file(NEWEST);
    let mut tensors = Vec::new();
    for (prefix, group) in groups {
        for (name, tensor) in group {
            tensors.push((format!("{prefix}.{name}"), tensor.to_device(&Device::Cpu)?));
        }
    }
    let bytes =
        to_bytes(&tensors, progress, Some(settings)).map_err(|error| Error::file(&path, error))?;
    files::write_keeping(&path, &folder.file(BEFORE), &bytes)
}

/// Reads the newest state of a run, or the one before where that is damaged or missing.
///
/// # Errors
/// Says what is wrong with both.
pub(super) fn read(folder: &RunFolder) -> Result<State> {
    let (newest, before) = (folder.file(NEWEST), folder.file(BEFORE));
    let error = match read_file(&newest) {
        Ok(state) => return Ok(state),
        Err(error) => error,
    };
    match read_file(&before) {
        Ok(state) => {
            set_aside(&newest)?;
            let done = format!("epoch {}, step {}", state.progress.epoch, state.progress.batch);
            let note = format!("{error}; goes on from the one before it, after {done}");
            Ok(State { note: Some(note), ..state })
        }
        Err(_) if !before.exists() => Err(error),
        Err(other) => Err(Error::file(folder.path(), format!("cannot go on: {error}; {other}"))),
    }
}

/// Moves a damaged file out of the way, so that it does not become the one before.
fn set_aside(path: &Path) -> Result<()> {
    if !path.exists() {
        return Ok(());
    }
    let damaged = path.with_extension("damaged");
    files::rename(path, &damaged).map_err(|error| Error::file(path, error))
}

fn read_file(path: &Path) -> Result<State> {
    let bytes = files::regular::read(path, MOST_BYTES)?;
    parse(&bytes)
        .map_err(|why| Error::file(path, format!("is not a resume state that can be read: {why}")))
}

fn to_bytes(
    tensors: &[(String, Tensor)],
    progress: &Progress,
    settings: Option<&RunConfig>,
) -> Result<Vec<u8>, String> {
    let mut json = serde_json::to_value(progress).map_err(|error| error.to_string())?;
    if let Some(settings) = settings {
        json[SETTINGS] = serde_json::to_value(settings).map_err(|error| error.to_string())?;
    }
    let header = HashMap::from([(PROGRESS.to_owned(), format!("{NO_SUM}{json}"))]);
    let views = tensors.iter().map(|(name, tensor)| (name.as_str(), tensor));
    let bytes = safetensors::serialize(views, Some(header));
    let mut bytes = bytes.map_err(|error| error.to_string())?;
    let at = sum_position(&bytes).ok_or("its header has no room for a check sum")?;
    let sum = check_sum(&bytes, at);
    bytes[at..at + NO_SUM.len()].copy_from_slice(sum.as_bytes());
    Ok(bytes)
}

/// A state from the bytes of its file.
fn parse(bytes: &[u8]) -> Result<State, String> {
    let (_, header) = SafeTensors::read_metadata(bytes).map_err(|error| error.to_string())?;
    let text = header.metadata().as_ref().and_then(|map| map.get(PROGRESS));
    let text = text.ok_or("its header says nothing of a run")?;
    let json = checked(bytes, text)?;
    let json: Value = serde_json::from_str(json).map_err(|error| error.to_string())?;
    let settings = json.get(SETTINGS).map(RunConfig::deserialize).transpose();
    let settings = settings.map_err(|error| format!("its settings: {error}"))?;
    let progress = Progress::deserialize(&json).map_err(|error| error.to_string())?;
    progress.check()?;
    let tensors = candle_core::safetensors::load_buffer(bytes, &Device::Cpu);
    let mut groups: BTreeMap<String, Group> = BTreeMap::new();
    for (name, tensor) in tensors.map_err(|error| error.to_string())? {
        if !is_finite(&tensor).map_err(|error| error.to_string())? {
            return Err(format!("{name} is not finite"));
        }
        let (prefix, name) = name.split_once('.').ok_or(format!("{name} is in no group"))?;
        groups.entry(prefix.to_owned()).or_default().insert(name.to_owned(), tensor);
    }
    Ok(State { progress, settings, groups, note: None })
}

/// What follows the check sum, where that is right.
fn checked<'a>(bytes: &[u8], text: &'a str) -> Result<&'a str, String> {
    if text.starts_with('{') {
        return Err("it has no check sum, so nobody can say whether it is whole".to_owned());
    }
    let (sum, json) = text.split_at_checked(NO_SUM.len()).ok_or("its check sum is cut off")?;
    let at = sum_position(bytes).ok_or("its check sum cannot be found")?;
    match check_sum(bytes, at) == sum {
        true => Ok(json),
        false => Err("it is damaged, its check sum is wrong".to_owned()),
    }
}

/// Where the check sum stands in a file.
fn sum_position(bytes: &[u8]) -> Option<usize> {
    let length = usize::try_from(u64::from_le_bytes(*bytes.first_chunk()?)).ok()?;
    let header = bytes.get(8..8usize.checked_add(length)?)?;
    let key = format!("\"{PROGRESS}\":\"");
    let at = 8 + header.windows(key.len()).position(|w| w == key.as_bytes())? + key.len();
    (at + NO_SUM.len() <= bytes.len()).then_some(at)
}

/// The CRC-32 of a file with [`NO_SUM`] in the place of the sum itself.
fn check_sum(bytes: &[u8], at: usize) -> String {
    let mut crc = flate2::Crc::new();
    crc.update(&bytes[..at]);
    crc.update(NO_SUM.as_bytes());
    crc.update(&bytes[at + NO_SUM.len()..]);
    format!("{:08x}", crc.sum())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::{Best, EpochRow};

    fn state() -> Vec<u8> {
        let tensor = |values: &[f32]| Tensor::new(values, &Device::Cpu).unwrap();
        let tensors = [("param.a", &[1.0, 2.0][..]), ("optim.a.step", &[3.0])]
            .map(|(name, values)| (name.to_owned(), tensor(values)));
        let rows = (1..=3).map(|epoch| EpochRow { epoch, ..row() }).collect();
        let progress = Progress { epoch: 3, batch: 7, rows, ..Default::default() };
        to_bytes(&tensors, &progress, None).unwrap()
    }

    fn row() -> EpochRow {
        let numbers = serde_json::json!({
            "epoch": 1, "lr": 0.1, "train_loss": 0.5, "train_top1": 0.5, "images": 8,
            "train_seconds": 1.0, "seconds": 1.5
        });
        serde_json::from_value(numbers).unwrap()
    }

    #[test]
    fn a_state_comes_back() {
        let mut state = parse(&state()).unwrap();
        assert_eq!((state.progress.epoch, state.progress.batch), (3, 7));
        assert_eq!(state.group("param")["a"].to_vec1::<f32>().unwrap(), [1.0, 2.0]);
        assert!(state.group("optim").contains_key("a.step") && state.group("ema").is_empty());
    }

    #[test]
    fn every_damaged_byte_is_seen() {
        let good = state();
        for at in 0..good.len() {
            for bit in [0, 5] {
                let mut bytes = good.clone();
                bytes[at] ^= 1 << bit;
                assert!(parse(&bytes).is_err(), "byte {at}, bit {bit}");
            }
            assert!(parse(&good[..at]).is_err());
        }
    }

    #[test]
    fn states_without_a_sum_are_refused() {
        let text = String::from_utf8_lossy(&state()).into_owned();
        assert!(text.contains(PROGRESS) && !text.contains(&format!("{NO_SUM}{{")));
        let json = serde_json::to_string(&Progress::default()).unwrap();
        for text in [json.clone(), format!("{NO_SUM}{json}"), "0".to_owned()] {
            let header = HashMap::from([(PROGRESS.to_owned(), text)]);
            let tensor = Tensor::new(&[1f32], &Device::Cpu).unwrap();
            let bytes = safetensors::serialize([("param.a", &tensor)], Some(header)).unwrap();
            assert!(parse(&bytes).unwrap_err().contains("check sum"));
        }
    }

    /// What a state says must go together, with a check sum that is right too.
    #[test]
    fn states_that_contradict_themselves_are_refused() {
        let two: Vec<_> = (1..=2).map(|epoch| EpochRow { epoch, ..row() }).collect();
        let good = Progress { epoch: 2, rows: two.clone(), ..Default::default() };
        let told = |progress: Progress, values: &[f32]| {
            let tensor = Tensor::new(values, &Device::Cpu).unwrap();
            let bytes = to_bytes(&[("optim.a.velocity".to_owned(), tensor)], &progress, None);
            parse(&bytes.unwrap()).map(|_| ()).unwrap_err()
        };
        let best = |epoch| Some(Best { epoch, top1: 0.5, loss: 1.0 });
        let cases = [
            (Progress { epoch: 3, ..good.clone() }, "3 epochs are done, and it has the rows of 2"),
            (Progress { rows: vec![two[1].clone(), two[0].clone()], ..good.clone() }, "row 1"),
            (Progress { best: best(3), ..good.clone() }, "best epoch is 3"),
            (Progress { best: best(0), ..good.clone() }, "best epoch is 0"),
            (Progress { best_ema: best(9), ..good.clone() }, "best epoch is 9"),
            (Progress { train_seconds: -1.0, ..good.clone() }, "seconds"),
        ];
        for (progress, wanted) in cases {
            let why = told(progress, &[1.0]);
            assert!(why.contains(wanted), "{why}");
        }
        let sums = crate::train::Sums { top1: 9, images: 8, ..Default::default() };
        assert!(told(Progress { sums, ..good.clone() }, &[1.0]).contains("9 of 8"));
        for broken in [f32::NAN, f32::INFINITY] {
            let why = told(good.clone(), &[1.0, broken]);
            assert_eq!(why, "optim.a.velocity is not finite");
        }
    }
}
