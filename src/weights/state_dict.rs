//! Where a checkpoint keeps its weights: under which key, beside what.

use std::collections::HashSet;

use super::bytes::Outcome;
use super::foreign::SAVE_PLAIN;
use super::pickle::{Id, Value, Values, View};

/// Keys under which checkpoints keep the weights as they are trained, the most telling first.
const PLAIN: [&str; 18] = [
    "state_dict",
    "model_state_dict",
    "model_state",
    "model",
    "net_state_dict",
    "net",
    "network_state_dict",
    "network",
    "params",
    "weights",
    "module",
    "student",
    "classifier",
    "backbone",
    "encoder",
    "state",
    "net_dict",
    "model_dict",
];

/// Keys of averages of weights.
const AVERAGED: [&str; 14] = [
    "state_dict_ema",
    "model_state_dict_ema",
    "model_ema_state_dict",
    "ema_state_dict",
    "model_ema",
    "ema_model",
    "ema",
    "params_ema",
    "averaged_model",
    "swa_state_dict",
    "swa_model",
    "teacher",
    "shadow_params",
    "shadow",
];

/// What a key of something else begins with: an optimiser keeps tensors too.
const OTHERS: [&str; 8] = ["optim", "sched", "lr_", "scaler", "amp", "rng", "callbacks", "loops"];

/// Modules of Python whose functions do something to the machine when they are called.
const HARMFUL: [&str; 14] = [
    "os",
    "posix",
    "nt",
    "subprocess",
    "sys",
    "socket",
    "shutil",
    "runpy",
    "pty",
    "ctypes",
    "importlib",
    "webbrowser",
    "builtins",
    "__builtin__",
];
/// What is harmless of the last two of these.
const HARMLESS: [&str; 14] = [
    "set",
    "frozenset",
    "complex",
    "slice",
    "range",
    "bytearray",
    "bytes",
    "object",
    "int",
    "float",
    "str",
    "list",
    "tuple",
    "getattr",
];

/// How deep checkpoints lie in each other.
const DEPTH: usize = 4;
/// How many names are listed.
const SHOWN: usize = 8;

/// The tensors that are taken, and what is to be said about the choice.
pub(super) struct Chosen<'a> {
    pub(super) tensors: Vec<(&'a str, &'a View)>,
    pub(super) remarks: Vec<String>,
}

/// The state dict in `root`: under the key that is asked for (`ema` is any average), or else under a
/// known one, or else `root` itself.
pub(super) fn choose<'a>(values: &'a Values, root: Id, asked: Option<&str>) -> Outcome<Chosen<'a>> {
    let mut search = Search { values, seen: HashSet::new() };
    let found = match asked {
        Some(key) => search.asked_for(root, key)?,
        None => search.any(root)?,
    };
    let mut remarks = Vec::new();
    let Place { path, dict } = found;
    let tensors = tensors_in(values, dict);
    if !path.is_empty() {
        remarks.push(format!("the {} tensors under {} are taken", tensors.len(), quoted(&path)));
        remarks.extend(averages(values, root, &path));
        remarks.extend(stray(values, root));
    }
    remarks.extend(objects_in(values, dict)?);
    remarks.extend(harmful(values));
    Ok(Chosen { tensors, remarks })
}

/// A dict of tensors, and the keys that lead there.
struct Place<'a> {
    path: Vec<&'a str>,
    dict: Id,
}

struct Search<'a> {
    values: &'a Values,
    /// Dicts looked into: none is twice, so that one within itself costs nothing.
    seen: HashSet<Id>,
}

impl<'a> Search<'a> {
    /// The tensors under a key that somebody has asked for.
    fn asked_for(&mut self, root: Id, key: &str) -> Outcome<Place<'a>> {
        let named = |name: &&str| entry(self.values, root, name).is_some();
        let key = match key {
            "ema" => AVERAGED.into_iter().find(named).unwrap_or(key),
            _ => key,
        };
        let found = named_entry(self.values, root, key);
        let place = found.and_then(|(name, id)| {
            let inner = self.find(id, 1)?;
            Some(Place { path: [vec![name], inner.path].concat(), dict: inner.dict })
        });
        let there = || described(self.values, root);
        place.ok_or_else(|| format!("it has no tensors under {key:?}: {}", there()))
    }

    fn any(&mut self, root: Id) -> Outcome<Place<'a>> {
        if let Some(found) = self.find(root, 0) {
            return Ok(found);
        }
        if let Some(found) = AVERAGED.iter().find_map(|key| self.under(root, key, 0)) {
            return Ok(found);
        }
        let mut others = self.others(root);
        match others.len() {
            1 => Ok(others.remove(0)),
            0 => Err(format!("it holds no state dict: {}", described(self.values, root))),
            _ => {
                let names: Vec<_> = others.iter().map(|place| quoted(&place.path)).collect();
                Err(format!(
                    "it holds several sets of tensors, {}; say which with FILE#KEY",
                    names.join(", ")
                ))
            }
        }
    }

    /// The tensors of a dict, or those under one of the known keys where there are no fewer.
    fn find(&mut self, dict: Id, depth: usize) -> Option<Place<'a>> {
        if depth > DEPTH || !self.seen.insert(dict) {
            return None;
        }
        let own = tensors_in(self.values, dict).len();
        let more = |place: &Place| tensors_in(self.values, place.dict).len() >= own;
        let inner = PLAIN.iter().find_map(|key| self.under(dict, key, depth)).filter(more);
        inner.or_else(|| (own > 0).then_some(Place { path: Vec::new(), dict }))
    }

    fn under(&mut self, dict: Id, key: &str, depth: usize) -> Option<Place<'a>> {
        let (name, id) = named_entry(self.values, dict, key)?;
        let inner = self.find(id, depth + 1)?;
        Some(Place { path: [vec![name], inner.path].concat(), dict: inner.dict })
    }

    /// Tensors under keys that nobody knows.
    fn others(&mut self, root: Id) -> Vec<Place<'a>> {
        let mut found = Vec::new();
        for (key, _) in entries(self.values, root) {
            if let Value::Text(key) = self.values.get(*key)
                && !OTHERS.iter().any(|other| key.starts_with(other))
            {
                found.extend(self.under(root, key, 0));
            }
        }
        found
    }
}

/// The entries of a dict, or of an object that is a kind of dict.
fn entries(values: &Values, dict: Id) -> &[(Id, Id)] {
    match values.get(dict) {
        Value::Dict(entries) | Value::Object { entries, .. } => entries,
        _ => &[],
    }
}

/// The tensors that are entries of a dict.
fn tensors_in(values: &Values, dict: Id) -> Vec<(&str, &View)> {
    let tensor = |(key, value): &(Id, Id)| match (values.get(*key), values.get(*value)) {
        (Value::Text(key), Value::Tensor(view)) => Some((key.as_str(), view)),
        _ => None,
    };
    entries(values, dict).iter().filter_map(tensor).collect()
}

/// The entry of a dict under `key`, the last one set.
pub(super) fn entry(values: &Values, dict: Id, key: &str) -> Option<Id> {
    named_entry(values, dict, key).map(|(_, id)| id)
}

fn named_entry<'a>(values: &'a Values, dict: Id, key: &str) -> Option<(&'a str, Id)> {
    entries(values, dict).iter().rev().find_map(|(name, value)| match values.get(*name) {
        Value::Text(name) if name == key => Some((name.as_str(), *value)),
        _ => None,
    })
}

/// Averages that are there and were not taken.
fn averages(values: &Values, root: Id, path: &[&str]) -> Option<String> {
    let there =
        |key: &&&str| entry(values, root, key).is_some_and(|id| !entries(values, id).is_empty());
    let key = AVERAGED.iter().filter(|key| path.first() != Some(key)).find(there)?;
    Some(match AVERAGED.contains(path.first()?) {
        true => format!("there are other averages too: FILE#{key}"),
        false => format!("averaged weights (EMA) are in the file too: FILE#{key} takes them"),
    })
}

/// Tensors that stand beside the state dict.
fn stray(values: &Values, root: Id) -> Option<String> {
    let beside = tensors_in(values, root);
    let names = beside.iter().map(|(name, view)| format!("{} {:?}", short(name), view.shape));
    (!beside.is_empty()).then(|| format!("left out beside them: {}", listed(names)))
}

/// What stands among the tensors and is none: said, or refused where it would be one if it were run.
fn objects_in(values: &Values, dict: Id) -> Outcome<Option<String>> {
    let mut found = Vec::new();
    for (key, value) in entries(values, dict) {
        let (Value::Text(key), Value::Object { .. }) = (values.get(*key), values.get(*value))
        else {
            continue;
        };
        let class = values.class(*value);
        if makes_tensors(&class) {
            return Err(format!(
                "tensor {} would have to be made by {class}, and nothing is run here; {SAVE_PLAIN}",
                short(key)
            ));
        }
        found.push(format!("{} ({class})", short(key)));
    }
    let some = !found.is_empty();
    Ok(some.then(|| format!("left out, as they are not tensors: {}", listed(found.into_iter()))))
}

fn makes_tensors(class: &str) -> bool {
    let begins = ["torch._utils.", "torch._tensor.", "torch.storage.", "numpy."];
    begins.iter().any(|begin| class.starts_with(begin))
        || (class.starts_with("torch.")
            && (class.ends_with("Tensor") || class.ends_with("Storage")))
        || class.starts_with("torch.nn.parameter.")
}

/// Whether the file asks for something that no checkpoint needs.
fn harmful(values: &Values) -> Option<String> {
    let bad = values.iter().find_map(|value| match value {
        Value::Foreign(name) => {
            let (module, function) = name.rsplit_once('.')?;
            let top = module.split('.').next()?;
            (HARMFUL.contains(&top) && !HARMLESS.contains(&function)).then_some(name)
        }
        _ => None,
    })?;
    Some(format!(
        "the file asks Python for {bad}; nothing was run, but do not trust where it is from"
    ))
}

/// What is there instead of a state dict.
fn described(values: &Values, root: Id) -> String {
    match values.get(root) {
        Value::Dict(_) => {}
        Value::Object { .. } => return whole(values, root),
        Value::Foreign(name) => return format!("it asks Python for {name}; {SAVE_PLAIN}"),
        _ => return "it is not a dict of tensors by name".to_owned(),
    }
    let object = PLAIN.iter().chain(&AVERAGED).find_map(|key| {
        let id = entry(values, root, key)?;
        matches!(values.get(id), Value::Object { .. }).then(|| (key, whole(values, id)))
    });
    if let Some((key, whole)) = object {
        return format!("under {key:?}, {whole}");
    }
    let keys = entries(values, root).iter().filter_map(|(key, _)| match values.get(*key) {
        Value::Text(text) => Some(short(text)),
        _ => None,
    });
    let keys = match listed(keys) {
        keys if keys.is_empty() => "its dict has no tensors".to_owned(),
        keys => format!("its entries are {keys}"),
    };
    let asked = values.iter().find_map(|value| match value {
        Value::Foreign(name) => Some(name),
        _ => None,
    });
    match asked {
        Some(name) => {
            format!("{keys}; it asks Python for {name}, and nothing is run here; {SAVE_PLAIN}")
        }
        None => keys,
    }
}

fn whole(values: &Values, id: Id) -> String {
    let class = values.class(id);
    format!("it is a Python object of {class}, whose code would have to run; {SAVE_PLAIN}")
}

fn quoted(path: &[&str]) -> String {
    format!("{:?}", path.join("."))
}

fn short(name: &str) -> String {
    name.chars().take(60).collect()
}

/// The first names, and how many more there are.
fn listed(names: impl Iterator<Item = String>) -> String {
    let mut names: Vec<_> = names.collect();
    let more = names.len().saturating_sub(SHOWN);
    names.truncate(SHOWN);
    if more > 0 {
        names.push(format!("and {more} more"));
    }
    names.join(", ")
}
