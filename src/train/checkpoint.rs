//! The resume state of a run: two files, the newest and the one before.
//!
//! A state holds [`Progress`] and groups of tensors, each under a prefix of its own: `param.` for
//! parameters, `optim.` for what the optimiser remembers. It is a safetensors file with a check sum,
//! so that one that was damaged later is known, and the one before is gone on from.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use candle_core::{Device, Tensor};
use safetensors::SafeTensors;

use super::run::{Progress, RunFolder};
use crate::{Error, Result, files};

/// The newest state.
pub(super) const NEWEST: &str = "resume.safetensors";
/// The one before.
pub(super) const BEFORE: &str = "resume.previous.safetensors";

/// The key in the header that holds a check sum and [`Progress`] as JSON.
const PROGRESS: &str = "convzoo.progress";
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
pub(super) fn write(folder: &RunFolder, progress: &Progress, groups: Groups) -> Result<()> {
    let path = folder.file(NEWEST);
    let mut tensors = Vec::new();
    for (prefix, group) in groups {
        for (name, tensor) in group {
            tensors.push((format!("{prefix}.{name}"), tensor.to_device(&Device::Cpu)?));
        }
    }
    let bytes = to_bytes(&tensors, progress).map_err(|error| Error::file(&path, error))?;
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
    let bytes = std::fs::read(path).map_err(|error| Error::file(path, error))?;
    parse(&bytes)
        .map_err(|why| Error::file(path, format!("is no resume state that can be read: {why}")))
}

fn to_bytes(tensors: &[(String, Tensor)], progress: &Progress) -> Result<Vec<u8>, String> {
    let json = serde_json::to_string(progress).map_err(|error| error.to_string())?;
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
    // The first versions wrote no check sum.
    let json = match text.starts_with('{') {
        true => text,
        false => checked(bytes, text)?,
    };
    let progress = serde_json::from_str(json).map_err(|error| error.to_string())?;
    let tensors = candle_core::safetensors::load_buffer(bytes, &Device::Cpu);
    let mut groups: BTreeMap<String, Group> = BTreeMap::new();
    for (name, tensor) in tensors.map_err(|error| error.to_string())? {
        let (prefix, name) = name.split_once('.').ok_or(format!("{name} is in no group"))?;
        groups.entry(prefix.to_owned()).or_default().insert(name.to_owned(), tensor);
    }
    Ok(State { progress, groups, note: None })
}

/// What follows the check sum, where that is right.
fn checked<'a>(bytes: &[u8], text: &'a str) -> Result<&'a str, String> {
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

    fn state() -> Vec<u8> {
        let tensor = |values: &[f32]| Tensor::new(values, &Device::Cpu).unwrap();
        let tensors = [("param.a", &[1.0, 2.0][..]), ("optim.a.step", &[3.0])]
            .map(|(name, values)| (name.to_owned(), tensor(values)));
        to_bytes(&tensors, &Progress { epoch: 3, batch: 7, ..Default::default() }).unwrap()
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
    fn states_without_a_sum_can_be_read() {
        let text = String::from_utf8_lossy(&state()).into_owned();
        assert!(text.contains(PROGRESS) && !text.contains(&format!("{NO_SUM}{{")));
        let json = serde_json::to_string(&Progress { epoch: 2, ..Default::default() }).unwrap();
        let header = HashMap::from([(PROGRESS.to_owned(), json)]);
        let tensor = Tensor::new(&[1f32], &Device::Cpu).unwrap();
        let bytes = safetensors::serialize([("param.a", &tensor)], Some(header)).unwrap();
        assert_eq!(parse(&bytes).unwrap().progress.epoch, 2);
    }
}
