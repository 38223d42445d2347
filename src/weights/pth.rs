//! PyTorch's own weight files, `.pth` or `.pt`: a zip archive since version 1.6, before that pickles
//! and raw storages one after the other. Tensors only; no code in them is ever run.

use std::collections::{BTreeMap, HashMap};

use candle_core::{DType, Device, Tensor};

use super::pickle::{self, Element, Id, Outcome, Storage, Value, Values, View};
use super::zip::Archive;

/// The number that a file of the old format begins with.
const MAGIC: i128 = 0x1950_a86a_20f9_469c_fc6c;
/// Names under which a checkpoint keeps its weights beside other things.
const KEYS: [&str; 6] =
    ["state_dict", "model_state_dict", "model", "state_dict_ema", "net", "weights"];

/// Whether `bytes` begin like a zip archive.
pub(super) fn is_zip(bytes: &[u8]) -> bool {
    bytes.starts_with(b"PK")
}

/// Whether `bytes` begin like a pickle, as the old format does.
pub(super) fn is_pickle(bytes: &[u8]) -> bool {
    bytes.first() == Some(&0x80)
}

/// The tensors of an archive, by name, on the CPU.
pub(super) fn read_zip(bytes: &[u8]) -> Outcome<BTreeMap<String, Tensor>> {
    let archive = Archive::open(bytes)?;
    let program = archive.names().find(|name| *name == "data.pkl" || name.ends_with("/data.pkl"));
    let program = program.ok_or("it is a zip archive, but not one that torch.save wrote")?;
    let folder = program.trim_end_matches("data.pkl");
    if archive.names().any(|name| name == format!("{folder}constants.pkl")) {
        return Err("it is a TorchScript program; save its state_dict() with torch.save".to_owned());
    }
    if archive.find(&format!("{folder}byteorder"))?.is_some_and(|order| order != b"little") {
        return Err("its numbers are big-endian".to_owned());
    }
    let mut values = Values::default();
    let program = archive.find(program)?.unwrap_or_default();
    let (root, _) = pickle::run(program, &mut values)?;
    let mut checked = HashMap::new();
    build(&values, root, bytes.len(), |key| {
        // A storage that several tensors share is checked once.
        if let Some(&found) = checked.get(key) {
            return Ok(found);
        }
        let found = archive.find(&format!("{folder}data/{key}"))?;
        let found = found.ok_or_else(|| format!("it lacks the storage {key}"))?;
        checked.insert(key.to_owned(), found);
        Ok(found)
    })
}

/// The tensors of a file of the old format, by name, on the CPU.
pub(super) fn read_legacy(bytes: &[u8]) -> Outcome<BTreeMap<String, Tensor>> {
    let mut values = Values::default();
    let mut at = 0;
    let mut next = || -> Outcome<(Id, usize)> {
        let (id, length) = pickle::run(&bytes[at..], &mut values)?;
        at += length;
        Ok((id, at))
    };
    let (magic, _) = next()?;
    let (_version, _) = next()?;
    let (system, _) = next()?;
    let (root, _) = next()?;
    let (keys, at) = next()?;
    if *values.get(magic) != Value::Int(MAGIC) {
        return Err("it is a pickle, but not one that torch.save wrote".to_owned());
    }
    if entry(&values, system, "little_endian").map(|id| values.get(id)) == Some(&Value::Bool(false))
    {
        return Err("its numbers are big-endian".to_owned());
    }
    let storages = storages(&values, keys, &bytes[at..])?;
    build(&values, root, bytes.len(), |key| {
        storages.get(key).copied().ok_or_else(|| format!("it lacks the storage {key}"))
    })
}

/// Cuts what follows the pickles into storages: for each key the number of elements, then these.
fn storages<'a>(
    values: &Values,
    keys: Id,
    mut rest: &'a [u8],
) -> Outcome<HashMap<String, &'a [u8]>> {
    let Value::List(keys) = values.get(keys) else {
        return Err("its list of storages is no list".to_owned());
    };
    let sizes = element_sizes(values);
    let mut found = HashMap::new();
    for &key in keys {
        let Value::Text(key) = values.get(key) else {
            return Err("a storage's key is no text".to_owned());
        };
        let size = *sizes.get(key).ok_or_else(|| format!("no tensor uses its storage {key}"))?;
        let cut_off = || format!("it is cut off, or damaged, in storage {key}");
        let count = u64::from_le_bytes(*rest.first_chunk().ok_or_else(cut_off)?);
        let length = usize::try_from(count).ok().and_then(|count| count.checked_mul(size));
        let content = length.and_then(|length| rest[8..].get(..length)).ok_or_else(cut_off)?;
        rest = &rest[8 + content.len()..];
        found.insert(key.clone(), content);
    }
    Ok(found)
}

/// Bytes of an element of each storage that the program names.
fn element_sizes(values: &Values) -> HashMap<String, usize> {
    let storages = values.iter().filter_map(|value| match value {
        Value::Storage(storage) => Some((storage.key.clone(), storage.element.size())),
        _ => None,
    });
    storages.collect()
}

/// Copies the tensors of the state dict in `root` out of their storages.
fn build<'a>(
    values: &Values,
    root: Id,
    file_size: usize,
    mut storage: impl FnMut(&str) -> Outcome<&'a [u8]>,
) -> Outcome<BTreeMap<String, Tensor>> {
    // Tensors may share storages and repeat elements, but not to fill the memory from a small file.
    let mut room = file_size.saturating_mul(8).saturating_add(16 << 20);
    let mut tensors = BTreeMap::new();
    for (name, view) in state_dict(values, root)? {
        let in_tensor = |cause: String| format!("tensor {name}: {cause}");
        let Value::Storage(part) = values.get(view.storage) else {
            return Err(in_tensor("it has no storage".to_owned()));
        };
        let bytes = storage(&part.key).and_then(|bytes| portion(part, bytes)).map_err(in_tensor)?;
        let size = part.element.size();
        let length = length(&view.shape, size).filter(|length| *length <= room);
        let length = length.ok_or_else(|| in_tensor(format!("{:?} is too large", view.shape)))?;
        room -= length;
        let content = gather(view, bytes, size, length).map_err(in_tensor)?;
        let tensor = tensor(part.element, content, &view.shape);
        tensors.insert(name.to_owned(), tensor.map_err(|error| in_tensor(error.to_string()))?);
    }
    Ok(tensors)
}

/// The elements of a storage that is a part of another's bytes.
fn portion<'a>(part: &Storage, bytes: &'a [u8]) -> Outcome<&'a [u8]> {
    let size = part.element.size();
    let start = part.offset.checked_mul(size);
    let end = part.offset.checked_add(part.count).and_then(|end| end.checked_mul(size));
    let found = start.zip(end).and_then(|(start, end)| bytes.get(start..end));
    found.ok_or_else(|| {
        let (count, key, length) = (part.count, &part.key, bytes.len());
        format!("storage {key} has {length} bytes, too few for {count} elements of {size}")
    })
}

/// Bytes of a tensor of this shape, if a machine can address them.
fn length(shape: &[usize], size: usize) -> Option<usize> {
    shape.iter().try_fold(size, |product, &dim| product.checked_mul(dim))
}

/// The elements that a view walks over, row by row.
fn gather(view: &View, bytes: &[u8], size: usize, length: usize) -> Outcome<Vec<u8>> {
    let View { offset, shape, stride, .. } = view;
    if shape.len() != stride.len() {
        return Err(format!("its shape {shape:?} and stride {stride:?} do not match"));
    }
    if length == 0 {
        return Ok(Vec::new());
    }
    let steps = shape.iter().zip(stride).map(|(dim, stride)| (dim - 1).checked_mul(*stride));
    let last = steps.into_iter().try_fold(*offset, |sum, step| sum.checked_add(step?));
    let end = last.and_then(|last| last.checked_add(1)?.checked_mul(size));
    if end.is_none_or(|end| end > bytes.len()) {
        return Err("it reaches beyond its storage".to_owned());
    }
    if is_contiguous(shape, stride) {
        return Ok(bytes[offset * size..][..length].to_vec());
    }
    let mut content = Vec::with_capacity(length);
    let mut index = vec![0; shape.len()];
    let mut at = *offset;
    while content.len() < length {
        content.extend_from_slice(&bytes[at * size..][..size]);
        advance(&mut index, &mut at, shape, stride);
    }
    Ok(content)
}

fn is_contiguous(shape: &[usize], stride: &[usize]) -> bool {
    let mut expected = 1;
    shape.iter().zip(stride).rev().all(|(&dim, &stride)| {
        let fits = dim == 1 || stride == expected;
        expected *= dim;
        fits
    })
}

/// Moves `index` to the next element, and `at` to its place in the storage.
fn advance(index: &mut [usize], at: &mut usize, shape: &[usize], stride: &[usize]) {
    for axis in (0..index.len()).rev() {
        index[axis] += 1;
        // The stride of an axis of one element may be anything, and cancels out.
        *at = at.wrapping_add(stride[axis]);
        if index[axis] < shape[axis] {
            return;
        }
        *at = at.wrapping_sub(index[axis].wrapping_mul(stride[axis]));
        index[axis] = 0;
    }
}

fn tensor(element: Element, bytes: Vec<u8>, shape: &[usize]) -> candle_core::Result<Tensor> {
    let raw = |dtype| Tensor::from_raw_buffer(&bytes, dtype, shape, &Device::Cpu);
    match element {
        Element::F64 => raw(DType::F64),
        Element::F32 => raw(DType::F32),
        Element::F16 => raw(DType::F16),
        Element::BF16 => raw(DType::BF16),
        Element::I64 => raw(DType::I64),
        Element::I32 => raw(DType::I32),
        Element::I16 => raw(DType::I16),
        Element::U8 | Element::Bool => raw(DType::U8),
        // candle has no 8-bit integers with a sign.
        Element::I8 => {
            let wide: Vec<i16> = bytes.iter().map(|&byte| i16::from(byte as i8)).collect();
            Tensor::from_vec(wide, shape, &Device::Cpu)
        }
    }
}

/// The tensors of a state dict, which may lie within a checkpoint.
fn state_dict(values: &Values, root: Id) -> Outcome<Vec<(&str, &View)>> {
    let found = tensors_in(values, root);
    if !found.is_empty() {
        return Ok(found);
    }
    let inner = KEYS.iter().filter_map(|key| entry(values, root, key));
    let found = inner.map(|id| tensors_in(values, id)).find(|found| !found.is_empty());
    found.ok_or_else(|| format!("it holds no state dict: {}", described(values, root)))
}

/// The tensors that are entries of a dict.
fn tensors_in(values: &Values, dict: Id) -> Vec<(&str, &View)> {
    let Value::Dict(entries) = values.get(dict) else { return Vec::new() };
    let tensor = |(key, value): &(Id, Id)| match (values.get(*key), values.get(*value)) {
        (Value::Text(key), Value::Tensor(view)) => Some((key.as_str(), view)),
        _ => None,
    };
    entries.iter().filter_map(tensor).collect()
}

/// The entry of a dict under `key`, the last one set.
fn entry(values: &Values, dict: Id, key: &str) -> Option<Id> {
    let Value::Dict(entries) = values.get(dict) else { return None };
    let named = |id: Id| matches!(values.get(id), Value::Text(text) if text == key);
    entries.iter().rev().find(|(id, _)| named(*id)).map(|(_, value)| *value)
}

/// What is there instead of a state dict.
fn described(values: &Values, root: Id) -> String {
    let Value::Dict(entries) = values.get(root) else {
        return "it is no dict of tensors by name".to_owned();
    };
    let keys = entries.iter().filter_map(|(key, _)| match values.get(*key) {
        Value::Text(text) => Some(text.chars().take(40).collect::<String>()),
        _ => None,
    });
    let keys: Vec<_> = keys.take(8).collect();
    match keys.is_empty() {
        true => "its dict has no tensors".to_owned(),
        false => format!("its entries are {}", keys.join(", ")),
    }
}
