//! The header of a safetensors file: what tensors there are, and where. Nothing in it is trusted.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use candle_core::DType;
use serde::Deserialize;
use serde::de::{Deserializer, Error as _, MapAccess, Visitor};

use super::bytes::{Bytes, Outcome};

/// Longest header that is read; one of a thousand tensors and a thousand classes has 200,000 bytes.
const MOST: u64 = 32 << 20;
/// Most dimensions of a tensor.
const MOST_DIMENSIONS: usize = 16;
/// The header's entry that is no tensor.
const NOTES: &str = "__metadata__";

/// A header that fits its file.
#[derive(Debug, Default)]
pub(super) struct Header {
    /// What is said besides the tensors.
    pub(super) notes: BTreeMap<String, String>,
    /// The tensors, in the order of their numbers.
    pub(super) tensors: Vec<Place>,
}

/// A tensor, and where its numbers are.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) name: String,
    pub(super) dtype: DType,
    pub(super) shape: Vec<usize>,
    /// The first byte in the file.
    pub(super) start: u64,
}

/// Whether the file begins with the length of a JSON object, and that object.
pub(super) fn is_safetensors(head: &[u8], length: u64) -> bool {
    let said = said_length(head);
    // Letters instead of a length make a large number: no header is that long, nor the file.
    head.get(8) == Some(&b'{') && said.is_some_and(|said| said <= MOST || said < length)
}

fn said_length(head: &[u8]) -> Option<u64> {
    head.first_chunk().map(|chunk| u64::from_le_bytes(*chunk))
}

impl Header {
    /// Reads the header, and holds it against the file's size.
    pub(super) fn read(bytes: &Bytes) -> Outcome<Self> {
        let length = said_length(&bytes.head(8)?).ok_or("it is cut off")?;
        if length > MOST {
            return Err(format!("its header of {length} bytes is too long; {MOST} are allowed"));
        }
        let json = bytes.read(8, length).map_err(|_| "it is cut off within its header")?;
        let entries: Entries = serde_json::from_slice(&json)
            .map_err(|error| format!("its header cannot be understood: {error}"))?;
        let data = 8 + length;
        let tensors = entries.tensors.into_iter().map(|(name, info)| info.checked(name));
        let mut tensors = tensors.collect::<Outcome<Vec<_>>>()?;
        tensors.sort_by_key(|(_, from, to)| (*from, *to));
        whole(&tensors, bytes.len() - data)?;
        let place = |(place, from, _): (Place, u64, u64)| Place { start: data + from, ..place };
        Ok(Header { notes: entries.notes, tensors: tensors.into_iter().map(place).collect() })
    }
}

/// Whether tensors, sorted, lie side by side and fill the `room` behind the header.
fn whole(tensors: &[(Place, u64, u64)], room: u64) -> Outcome<()> {
    let (mut end, mut before) = (0, "its header");
    for (place, from, to) in tensors {
        let name = &place.name;
        match from.cmp(&end) {
            std::cmp::Ordering::Less => return Err(format!("tensors {before} and {name} overlap")),
            std::cmp::Ordering::Greater => {
                return Err(format!(
                    "{} bytes between {before} and {name} are no tensor's",
                    from - end
                ));
            }
            std::cmp::Ordering::Equal => (end, before) = (*to, name),
        }
    }
    match room {
        _ if end > room => {
            Err(format!("it is cut off: its tensors take {end} bytes, and {room} are there"))
        }
        _ if end < room => {
            Err(format!("{} bytes behind its last tensor are no tensor's", room - end))
        }
        _ => Ok(()),
    }
}

/// An entry of the header, as it is written.
#[derive(Deserialize)]
struct Info {
    dtype: String,
    shape: Vec<usize>,
    data_offsets: (u64, u64),
}

impl Info {
    /// The tensor, with its first byte and the one behind its last, both behind the header.
    fn checked(self, name: String) -> Outcome<(Place, u64, u64)> {
        let Info { dtype, shape, data_offsets: (from, to) } = self;
        let in_tensor = |cause: String| format!("tensor {name}: {cause}");
        let known = known(&dtype).ok_or_else(|| {
            in_tensor(format!(
                "its type {dtype} is not read here; save the weights as F32, F16 or BF16"
            ))
        })?;
        if shape.len() > MOST_DIMENSIONS {
            return Err(in_tensor(format!("{} dimensions are too many", shape.len())));
        }
        let size = known.size_in_bytes();
        let wanted = shape.iter().try_fold(size, |product, &dim| product.checked_mul(dim));
        let found = to.checked_sub(from);
        if wanted.is_none() || found != wanted.map(|wanted| wanted as u64) {
            let cause = format!("bytes {from} to {to} cannot hold {shape:?} of {dtype}");
            return Err(in_tensor(cause));
        }
        Ok((Place { name, dtype: known, shape, start: 0 }, from, to))
    }
}

fn known(dtype: &str) -> Option<DType> {
    Some(match dtype {
        "BOOL" | "U8" => DType::U8,
        "U32" => DType::U32,
        "I16" => DType::I16,
        "I32" => DType::I32,
        "I64" => DType::I64,
        "BF16" => DType::BF16,
        "F16" => DType::F16,
        "F32" => DType::F32,
        "F64" => DType::F64,
        _ => return None,
    })
}

/// The header's object: no name may be there twice, as one of the two would be lost.
#[derive(Default)]
struct Entries {
    notes: BTreeMap<String, String>,
    tensors: Vec<(String, Info)>,
}

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Entries;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("an object of tensors")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Entries, M::Error> {
                let (mut found, mut names) = (Entries::default(), BTreeSet::new());
                while let Some(name) = map.next_key::<String>()? {
                    if !names.insert(name.clone()) {
                        return Err(M::Error::custom(format!("{name} is there twice")));
                    }
                    let in_entry = |error| M::Error::custom(format!("{name}: {error}"));
                    if name == NOTES {
                        found.notes =
                            map.next_value::<Option<_>>().map_err(in_entry)?.unwrap_or_default();
                    } else {
                        let info = map.next_value().map_err(in_entry)?;
                        found.tensors.push((name, info));
                    }
                }
                Ok(found)
            }
        }
        from.deserialize_map(Reader)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str, data: usize) -> Outcome<Header> {
        let mut file = (json.len() as u64).to_le_bytes().to_vec();
        file.extend(json.bytes());
        file.extend(vec![0; data]);
        assert!(is_safetensors(&file, file.len() as u64));
        Header::read(&Bytes::Memory(&file))
    }

    fn tensor(name: &str, dtype: &str, shape: &str, from: u64, to: u64) -> String {
        format!(r#""{name}":{{"dtype":"{dtype}","shape":{shape},"data_offsets":[{from},{to}]}}"#)
    }

    #[test]
    fn tensors_in_any_order_are_found() {
        let [a, b] = [tensor("a", "F32", "[2]", 4, 12), tensor("b", "F16", "[1,2]", 0, 4)];
        let found = read(&format!(r#"{{{a},"__metadata__":{{"k":"v"}},{b}}}"#), 12).unwrap();
        let names: Vec<_> = found.tensors.iter().map(|place| place.name.as_str()).collect();
        assert_eq!((names, &found.notes["k"]), (vec!["b", "a"], &"v".to_owned()));
        assert_eq!(found.tensors[1].start - found.tensors[0].start, 4);
        assert!(read(r#"{"__metadata__":null}"#, 0).unwrap().tensors.is_empty());
    }

    #[test]
    fn headers_that_do_not_fit_their_file_are_named() {
        let one = |dtype: &str, shape: &str, from, to| {
            format!("{{{}}}", tensor("a", dtype, shape, from, to))
        };
        let two = |from, to| {
            format!(
                "{{{},{}}}",
                tensor("a", "F32", "[2]", 0, 8),
                tensor("b", "F32", "[2]", from, to)
            )
        };
        for (json, data, expected) in [
            (two(4, 12), 12, "tensors a and b overlap"),
            (two(12, 20), 20, "4 bytes between a and b"),
            (two(8, 16), 15, "it is cut off: its tensors take 16 bytes, and 15 are there"),
            (two(8, 16), 17, "1 bytes behind its last tensor"),
            (one("F32", "[3]", 0, 8), 8, "tensor a: bytes 0 to 8 cannot hold [3] of F32"),
            (one("F32", "[2]", 8, 0), 8, "tensor a: bytes 8 to 0"),
            (one("F32", "[4611686018427387904,4]", 0, 0), 0, "tensor a: bytes 0 to 0"),
            (one("F8_E4M3", "[2]", 0, 2), 2, "tensor a: its type F8_E4M3 is not read here"),
            (one("C64", "[1]", 0, 8), 8, "tensor a: its type C64"),
            (one("U64", "[1]", 0, 8), 8, "tensor a: its type U64"),
            (one("F32", "[-1]", 0, 4), 4, "a: invalid value"),
            (one("F32", &format!("{:?}", [1; 17]), 0, 4), 4, "17 dimensions"),
            (format!("{{{0},{0}}}", tensor("a", "F32", "[2]", 0, 8)), 8, "a is there twice"),
            (r#"{"__metadata__":{"k":1}}"#.to_owned(), 0, "__metadata__: invalid type"),
            (r#"{"__metadata__":[]}"#.to_owned(), 0, "__metadata__: invalid type"),
            (r#"{"a":5}"#.to_owned(), 0, "a: invalid type"),
            ("{".to_owned(), 0, "cannot be understood"),
        ] {
            let error = read(&json, data).unwrap_err();
            assert!(error.contains(expected), "{error}; expected {expected}");
        }
        let huge = [&u64::to_le_bytes(MOST + 1)[..], b"{}"].concat();
        assert!(Header::read(&Bytes::Memory(&huge)).unwrap_err().contains("too long"));
        let cut = [&u64::to_le_bytes(100)[..], b"{}"].concat();
        assert!(Header::read(&Bytes::Memory(&cut)).unwrap_err().contains("cut off"));
    }
}
