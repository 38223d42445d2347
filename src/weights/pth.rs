//! PyTorch's own weight files, `.pth` or `.pt`: a zip archive since version 1.6, before that pickles
//! and raw storages one after the other. Tensors only; no code in them is ever run.

use std::collections::{BTreeMap, HashMap};

use candle_core::{DType, Device, Tensor};

use super::bytes::Bytes;
use super::pickle::{self, Element, Id, LONGEST, Outcome, Storage, Value, Values, View};
use super::state_dict::{self, Chosen, entry};
use super::zip::Archive;

/// The number that a file of the old format begins with.
const MAGIC: i128 = 0x1950_a86a_20f9_469c_fc6c;
/// The newest protocol of pickles.
const NEWEST_PROTOCOL: u8 = 5;

/// Tensors by name, on the CPU, and what is to be said about them.
pub(super) struct Found {
    pub(super) tensors: BTreeMap<String, Tensor>,
    pub(super) remarks: Vec<String>,
}

/// Where a storage's bytes are in the file: the first, and how many.
type Place = (u64, u64);

/// Whether the file begins like a zip archive.
pub(super) fn is_zip(head: &[u8]) -> bool {
    head.starts_with(b"PK")
}

/// Whether the file begins like a pickle, as the old format does.
pub(super) fn is_pickle(head: &[u8]) -> bool {
    matches!(head, [0x80, protocol, ..] if (1..=NEWEST_PROTOCOL).contains(protocol))
}

/// The pickle of an archive that torch.save wrote.
pub(super) fn program<'a>(archive: &'a Archive) -> Option<&'a str> {
    let program =
        archive.names().find(|name| *name == "data.pkl" || name.ends_with("/data.pkl"))?;
    let folder = program.trim_end_matches("data.pkl");
    // TorchScript has that too.
    (!archive.names().any(|name| name == format!("{folder}constants.pkl"))).then_some(program)
}

/// The tensors of an archive whose pickle is `program`: those under `key`, or where they usually are.
pub(super) fn read_zip(archive: &Archive, bytes: &Bytes, key: Option<&str>) -> Outcome<Found> {
    let program = program(archive).ok_or("it has no data.pkl")?;
    let folder = program.trim_end_matches("data.pkl");
    if archive.find(&format!("{folder}byteorder"))?.is_some_and(|order| order != b"little") {
        return Err("its numbers are big-endian".to_owned());
    }
    let mut values = Values::default();
    let program = archive.find(program)?.unwrap_or_default();
    let (root, _) = pickle::run(&program, &mut values)?;
    let chosen = state_dict::choose(&values, root, key)?;
    let mut checked = HashMap::new();
    build(&values, chosen, bytes, |key| {
        // A storage that several tensors share is checked once.
        if let Some(&found) = checked.get(key) {
            return Ok(found);
        }
        let found = archive.place(&format!("{folder}data/{key}"))?;
        let found = found.ok_or_else(|| format!("it lacks the storage {key}"))?;
        checked.insert(key.to_owned(), found);
        Ok(found)
    })
}

/// The tensors of a file of the old format: those under `key`, or where they usually are.
pub(super) fn read_legacy(bytes: &Bytes, key: Option<&str>) -> Outcome<Found> {
    let mut values = Values::default();
    let mut at = 0;
    let mut next = || -> Outcome<Id> {
        let program = bytes.read(at, (LONGEST as u64).min(bytes.len() - at))?;
        let (id, length) = pickle::run(&program, &mut values)?;
        at += length as u64;
        Ok(id)
    };
    let magic = next()?;
    // What follows in a pickle of another program's is not looked at.
    let mut rest = || Ok([next()?, next()?, next()?, next()?]);
    let rest: Outcome<[Id; 4]> = rest();
    if *values.get(magic) != Value::Int(MAGIC) {
        let what = what(&values, magic);
        return Err(format!("it is a pickle, but not one that torch.save wrote: {what}"));
    }
    let [_version, system, root, keys] = rest?;
    if entry(&values, system, "little_endian").map(|id| values.get(id)) == Some(&Value::Bool(false))
    {
        return Err("its numbers are big-endian".to_owned());
    }
    let chosen = state_dict::choose(&values, root, key)?;
    let storages = storages(&values, keys, bytes, at)?;
    build(&values, chosen, bytes, |key| {
        storages.get(key).copied().ok_or_else(|| format!("it lacks the storage {key}"))
    })
}

/// What a pickle of another program's holds, and what to do.
fn what(values: &Values, root: Id) -> String {
    let todo = "in PyTorch, save the tensors by their names with torch.save";
    match values.class(root) {
        class if class.is_empty() => format!("plain data; {todo}"),
        class => format!("an object of {class}; {todo}"),
    }
}

/// Where the storages are that follow the pickles: for each key the number of elements, then these.
fn storages(
    values: &Values,
    keys: Id,
    bytes: &Bytes,
    mut at: u64,
) -> Outcome<HashMap<String, Place>> {
    let Value::List(keys) = values.get(keys) else {
        return Err("its list of storages is not a list".to_owned());
    };
    let sizes = element_sizes(values);
    let mut found = HashMap::new();
    for &key in keys {
        let Value::Text(key) = values.get(key) else {
            return Err("a storage's key is not text".to_owned());
        };
        let size = *sizes.get(key).ok_or_else(|| {
            format!("no tensor uses its storage {key}, or its type is not read here")
        })?;
        let cut_off = || format!("it is cut off, or damaged, in storage {key}");
        let count = bytes.read(at, 8).map_err(|_| cut_off())?;
        let count = count.first_chunk().map(|count| u64::from_le_bytes(*count));
        let length = count.and_then(|count| count.checked_mul(size as u64));
        let end = length.and_then(|length| (at + 8).checked_add(length));
        let (Some(length), Some(end)) = (length, end.filter(|end| *end <= bytes.len())) else {
            return Err(cut_off());
        };
        found.insert(key.clone(), (at + 8, length));
        at = end;
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

/// Reads the tensors of a state dict out of their storages.
fn build(
    values: &Values,
    chosen: Chosen,
    bytes: &Bytes,
    mut storage: impl FnMut(&str) -> Outcome<Place>,
) -> Outcome<Found> {
    // Tensors may share storages and repeat elements, but not to fill the memory from a small file, nor
    // to have it read for ever.
    let mut room = bytes.len().saturating_mul(8).saturating_add(16 << 20);
    let mut tensors = BTreeMap::new();
    for (name, view) in chosen.tensors {
        let in_tensor = |cause: String| format!("tensor {name}: {cause}");
        let Value::Storage(part) = values.get(view.storage) else {
            return Err(in_tensor("it has no storage".to_owned()));
        };
        let place = storage(&part.key).and_then(|place| portion(part, place)).map_err(in_tensor)?;
        let size = part.element.size();
        let walk = Walk::new(view, place, size).map_err(in_tensor)?;
        let cost = walk.length.max(walk.span);
        room = room
            .checked_sub(cost)
            .ok_or_else(|| in_tensor(format!("{:?} is too large", view.shape)))?;
        let tensor = tensor(part.element, &walk, bytes).map_err(in_tensor)?;
        tensors.insert(name.to_owned(), tensor);
    }
    Ok(Found { tensors, remarks: chosen.remarks })
}

/// The elements of a storage that is a part of another's bytes.
fn portion(part: &Storage, (start, length): Place) -> Outcome<Place> {
    let size = part.element.size() as u64;
    let from = (part.offset as u64).checked_mul(size);
    let taken = (part.count as u64).checked_mul(size);
    let fits = from
        .zip(taken)
        .filter(|(from, taken)| from.checked_add(*taken).is_some_and(|end| end <= length));
    let found = fits.map(|(from, taken)| (start + from, taken));
    found.ok_or_else(|| {
        let (count, key) = (part.count, &part.key);
        format!("storage {key} has {length} bytes, too few for {count} elements of {size}")
    })
}

/// The way of a view through its storage.
struct Walk<'a> {
    view: &'a View,
    /// Bytes of an element.
    size: usize,
    /// Bytes of all elements of the tensor.
    length: u64,
    /// The first byte in the file that is needed, and how many are from there to the last.
    start: u64,
    span: u64,
}

impl<'a> Walk<'a> {
    fn new(view: &'a View, (start, room): Place, size: usize) -> Outcome<Self> {
        let View { offset, shape, stride, .. } = view;
        if shape.len() != stride.len() {
            return Err(format!("its shape {shape:?} and stride {stride:?} do not match"));
        }
        let length = shape.iter().try_fold(size, |product, &dim| product.checked_mul(dim));
        let length = length.ok_or_else(|| format!("{shape:?} is too large"))? as u64;
        if length == 0 {
            return Ok(Walk { view, size, length, start, span: 0 });
        }
        let steps = shape.iter().zip(stride).map(|(dim, stride)| (dim - 1).checked_mul(*stride));
        let span = steps.into_iter().try_fold(1usize, |sum, step| sum.checked_add(step?));
        let bytes = |elements: usize| (elements as u64).checked_mul(size as u64);
        let found = bytes(*offset)
            .zip(span.and_then(bytes))
            .filter(|(from, span)| from.checked_add(*span).is_some_and(|end| end <= room));
        let (from, span) = found.ok_or("it reaches beyond its storage")?;
        Ok(Walk { view, size, length, start: start + from, span })
    }

    /// The elements, row by row.
    fn gather(&self, bytes: &Bytes) -> Outcome<Vec<u8>> {
        let (View { shape, stride, .. }, size) = (self.view, self.size);
        let span = bytes.read(self.start, self.span)?;
        let mut content = Vec::with_capacity(self.length as usize);
        let mut index = vec![0; shape.len()];
        let mut at = 0;
        while (content.len() as u64) < self.length {
            content.extend_from_slice(&span[at * size..][..size]);
            advance(&mut index, &mut at, shape, stride);
        }
        Ok(content)
    }
}

fn is_contiguous(shape: &[usize], stride: &[usize]) -> bool {
    let mut expected = 1;
    shape.iter().zip(stride).rev().all(|(&dim, &stride)| {
        let fits = dim == 1 || stride == expected;
        expected = expected.wrapping_mul(dim);
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

fn tensor(element: Element, walk: &Walk, bytes: &Bytes) -> Outcome<Tensor> {
    let shape = &walk.view.shape;
    let in_words = |error: candle_core::Error| error.to_string();
    // candle has no 8-bit integers with a sign.
    let Some(dtype) = element.dtype() else {
        let narrow = walk.gather(bytes)?;
        let wide: Vec<i16> = narrow.iter().map(|&byte| i16::from(byte as i8)).collect();
        return Tensor::from_vec(wide, shape.as_slice(), &Device::Cpu).map_err(in_words);
    };
    if is_contiguous(shape, &walk.view.stride) {
        return bytes.tensor(walk.start, dtype, shape);
    }
    let content = walk.gather(bytes)?;
    Tensor::from_raw_buffer(&content, dtype, shape, &Device::Cpu).map_err(in_words)
}

impl Element {
    /// candle's type with the same bytes.
    fn dtype(self) -> Option<DType> {
        Some(match self {
            Element::F64 => DType::F64,
            Element::F32 => DType::F32,
            Element::F16 => DType::F16,
            Element::BF16 => DType::BF16,
            Element::I64 => DType::I64,
            Element::I32 => DType::I32,
            Element::I16 => DType::I16,
            Element::U8 | Element::Bool => DType::U8,
            Element::I8 => return None,
        })
    }
}
