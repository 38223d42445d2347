//! A machine for pickles that builds plain data and descriptions of tensors, and nothing else.
//!
//! A pickle is a program: it may name any Python function and have it called. This machine knows the
//! few names that tensors need and calls nothing: what every other name would make becomes an
//! [`Value::Object`], which only says by what. All it builds lies in one arena, so that no nesting is
//! too deep, and every instruction adds at most one value, whose size is limited: memory is bounded by
//! the length of the program.

use std::collections::HashMap;

pub(super) use super::bytes::Outcome;

/// A value's place in [`Values`].
pub(super) type Id = usize;

/// Longest program that is run, in bytes; a state dict of a thousand layers has a fifth of a million.
pub(super) const LONGEST: usize = 16 << 20;

/// Most dimensions of a tensor, and arguments of a call: what is copied must be short.
const MOST: usize = 16;
/// Longest Python name, and key of a storage, in bytes.
const LONGEST_NAME: usize = 256;
/// Most values that a program may build; a state dict of seven thousand tensors has 200,000.
const MOST_VALUES: usize = 1 << 20;

/// What a program has built.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    None,
    Bool(bool),
    Int(i128),
    Float,
    Text(String),
    /// Bytes, text that is not Unicode, or a number of more than 128 bits: no state dict needs them.
    Bytes,
    Tuple(Vec<Id>),
    /// Also a set.
    List(Vec<Id>),
    /// Also an OrderedDict, and what else Python has of the kind.
    Dict(Vec<(Id, Id)>),
    Name(Name),
    /// Any other Python name, as in `argparse.Namespace`.
    Foreign(String),
    /// What a call of a [`Value::Foreign`] would make. It was not made.
    Object {
        class: Id,
        /// What was put into it, where it is a kind of dict.
        entries: Vec<(Id, Id)>,
    },
    Storage(Storage),
    Tensor(View),
}

/// The Python names that are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Name {
    Dict,
    Size,
    RebuildTensor,
    RebuildParameter,
    RebuildFromType,
    Storage(Element),
}

/// Type of a storage's elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Element {
    F64,
    F32,
    F16,
    BF16,
    I64,
    I32,
    I16,
    I8,
    U8,
    Bool,
}

impl Element {
    /// Bytes of one element.
    pub(super) fn size(self) -> usize {
        match self {
            Element::F64 | Element::I64 => 8,
            Element::F32 | Element::I32 => 4,
            Element::F16 | Element::BF16 | Element::I16 => 2,
            Element::I8 | Element::U8 | Element::Bool => 1,
        }
    }
}

/// Elements that lie outside the program, under a key.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Storage {
    pub(super) element: Element,
    pub(super) key: String,
    /// How many elements.
    pub(super) count: usize,
    /// Where it begins in the storage of this key, in elements.
    pub(super) offset: usize,
}

/// A tensor: a way to walk through a storage.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct View {
    /// Its [`Value::Storage`].
    pub(super) storage: Id,
    pub(super) offset: usize,
    pub(super) shape: Vec<usize>,
    pub(super) stride: Vec<usize>,
}

/// Everything a program has built.
#[derive(Default)]
pub(super) struct Values(Vec<Value>);

impl Values {
    pub(super) fn get(&self, id: Id) -> &Value {
        &self.0[id] // ids are handed out by `add` alone
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Value> {
        self.0.iter()
    }

    fn add(&mut self, value: Value) -> Id {
        self.0.push(value);
        self.0.len() - 1
    }

    /// The items of a tuple that is not too long to be copied.
    fn tuple(&self, id: Id) -> Outcome<Vec<Id>> {
        match self.get(id) {
            Value::Tuple(items) if items.len() <= MOST => Ok(items.clone()),
            Value::Tuple(items) => Err(format!("a tuple of {} values is too long", items.len())),
            _ => Err("a value is not a tuple".to_owned()),
        }
    }

    /// The Python name that an object is made by; empty for other values.
    pub(super) fn class(&self, id: Id) -> String {
        match self.get(id) {
            Value::Foreign(name) => name.clone(),
            // An object's class is a name: see `Machine::object`.
            Value::Object { class, .. } => match self.get(*class) {
                Value::Foreign(name) => name.clone(),
                Value::Name(name) => format!("{name:?}"),
                _ => String::new(),
            },
            _ => String::new(),
        }
    }

    /// The whole numbers of a tuple, none of them negative.
    fn sizes(&self, id: Id) -> Outcome<Vec<usize>> {
        self.tuple(id)?.into_iter().map(|item| self.size(item)).collect()
    }

    pub(super) fn size(&self, id: Id) -> Outcome<usize> {
        match self.get(id) {
            Value::Int(n) => {
                usize::try_from(*n).map_err(|_| format!("a size or offset of {n} makes no sense"))
            }
            _ => Err("a size is not a whole number".to_owned()),
        }
    }

    fn text(&self, id: Id) -> Outcome<String> {
        match self.get(id) {
            Value::Text(text) if text.len() <= LONGEST_NAME => Ok(text.clone()),
            Value::Int(n) => Ok(n.to_string()),
            _ => Err("a key is not text, or too long".to_owned()),
        }
    }
}

/// Runs the program at the beginning of `bytes`; gives its result and its length.
pub(super) fn run(bytes: &[u8], values: &mut Values) -> Outcome<(Id, usize)> {
    let limit = bytes.len().min(LONGEST);
    let mut machine = Machine {
        bytes: &bytes[..limit],
        at: 0,
        values,
        stack: Vec::new(),
        marks: Vec::new(),
        memo: HashMap::new(),
        copied: 0,
    };
    loop {
        if let Some(result) = machine.step()? {
            return Ok((result, machine.at));
        }
        if machine.values.0.len() > MOST_VALUES {
            return Err(format!("it builds more than {MOST_VALUES} values"));
        }
    }
}

struct Machine<'a> {
    bytes: &'a [u8],
    at: usize,
    values: &'a mut Values,
    stack: Vec<Id>,
    /// Heights of the stack.
    marks: Vec<usize>,
    memo: HashMap<u64, Id>,
    /// Entries of dicts that were copied out of lists.
    copied: usize,
}

impl<'a> Machine<'a> {
    /// One instruction; the result where it was the last.
    fn step(&mut self) -> Outcome<Option<Id>> {
        let [op] = self.take::<1>()?;
        match op {
            b'.' => return self.pop().map(Some),
            0x80 => drop(self.take::<1>()?), // protocol
            0x95 => drop(self.take::<8>()?), // frame
            b'(' => self.marks.push(self.stack.len()),
            b'0' => drop(self.pop()?),
            b'1' => drop(self.pop_mark()?),
            b'N' => self.push(Value::None),
            0x88 => self.push(Value::Bool(true)),
            0x89 => self.push(Value::Bool(false)),
            b'J' => {
                let n = i32::from_le_bytes(self.take()?);
                self.push(Value::Int(n.into()));
            }
            b'K' => {
                let [n] = self.take()?;
                self.push(Value::Int(n.into()));
            }
            b'M' => {
                let n = u16::from_le_bytes(self.take()?);
                self.push(Value::Int(n.into()));
            }
            0x8a => self.long(1)?,
            0x8b => self.long(4)?,
            b'I' => self.int_line()?,
            b'L' => self.int_line()?,
            b'G' => {
                let _ = self.take::<8>()?;
                self.push(Value::Float);
            }
            b'F' => {
                let _ = self.line()?;
                self.push(Value::Float);
            }
            b'X' => self.unicode(4)?,
            0x8c => self.unicode(1)?,
            0x8d => self.unicode(8)?,
            b'T' => self.unicode(4)?, // Python 2's strings
            b'U' => self.unicode(1)?,
            b'S' | b'V' => self.text_line()?,
            b'B' => self.skip_bytes(4)?,
            b'C' => self.skip_bytes(1)?,
            0x8e | 0x96 => self.skip_bytes(8)?,
            b'2' => {
                let top = self.top()?;
                self.stack.push(top);
            }
            0x8f => self.push(Value::List(Vec::new())),
            0x90 => {
                let items = self.pop_mark()?;
                self.append(items)?;
            }
            0x91 => {
                let items = self.pop_mark()?;
                self.push(Value::List(items));
            }
            b'}' => self.push(Value::Dict(Vec::new())),
            b']' => self.push(Value::List(Vec::new())),
            b')' => self.push(Value::Tuple(Vec::new())),
            0x85 => self.tuple(1)?,
            0x86 => self.tuple(2)?,
            0x87 => self.tuple(3)?,
            b't' => {
                let items = self.pop_mark()?;
                self.push(Value::Tuple(items));
            }
            b'l' => {
                let items = self.pop_mark()?;
                self.push(Value::List(items));
            }
            b'd' => {
                let items = self.pop_mark()?;
                self.push(Value::Dict(Vec::new()));
                self.set_items(items)?;
            }
            b'a' => {
                let item = self.pop()?;
                self.append(vec![item])?;
            }
            b'e' => {
                let items = self.pop_mark()?;
                self.append(items)?;
            }
            b's' => {
                let value = self.pop()?;
                let key = self.pop()?;
                self.set_items(vec![key, value])?;
            }
            b'u' => {
                let items = self.pop_mark()?;
                self.set_items(items)?;
            }
            b'p' => {
                let key = self.key()?;
                self.remember(key)?;
            }
            b'g' => {
                let key = self.key()?;
                self.recall(key)?;
            }
            b'q' => {
                let [key] = self.take()?;
                self.remember(key.into())?;
            }
            b'r' => {
                let key = u32::from_le_bytes(self.take()?);
                self.remember(key.into())?;
            }
            0x94 => self.remember(self.memo.len() as u64)?,
            b'h' => {
                let [key] = self.take()?;
                self.recall(key.into())?;
            }
            b'j' => {
                let key = u32::from_le_bytes(self.take()?);
                self.recall(key.into())?;
            }
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                self.name(&module, &name)?;
            }
            0x93 => {
                let (name, module) = (self.pop()?, self.pop()?);
                let (module, name) = (self.values.text(module)?, self.values.text(name)?);
                self.name(&module, &name)?;
            }
            b'Q' => self.persistent()?,
            b'R' | 0x81 => self.reduce()?,
            0x92 => {
                let _keywords = self.pop()?;
                self.reduce()?;
            }
            b'i' => {
                let (module, name) = (self.line()?, self.line()?);
                self.pop_mark()?;
                let class = self.values.add(named(&module, &name));
                self.object(class)?;
            }
            b'o' => {
                let items = self.pop_mark()?;
                self.object(*items.first().ok_or("it makes an object of nothing")?)?;
            }
            b'b' => self.build()?,
            other => return Err(unknown(other)),
        }
        Ok(None)
    }

    fn take<const N: usize>(&mut self) -> Outcome<[u8; N]> {
        let found = self.bytes.get(self.at..).and_then(|rest| rest.first_chunk::<N>());
        let found = *found.ok_or("its list of tensors is cut off, or too long")?;
        self.at += N;
        Ok(found)
    }

    fn slice(&mut self, length: u64) -> Outcome<&'a [u8]> {
        let end = usize::try_from(length).ok().and_then(|length| self.at.checked_add(length));
        let found = end.and_then(|end| self.bytes.get(self.at..end));
        let found = found.ok_or("its list of tensors is cut off, or too long")?;
        self.at += found.len();
        Ok(found)
    }

    /// Text up to the end of the line.
    fn line(&mut self) -> Outcome<String> {
        let line = self.line_up_to(LONGEST_NAME)?;
        String::from_utf8(line.to_vec()).map_err(|_| "a line is not UTF-8".to_owned())
    }

    fn line_up_to(&mut self, most: usize) -> Outcome<&'a [u8]> {
        let rest = &self.bytes[self.at..];
        let end = rest.iter().take(most).position(|&byte| byte == b'\n');
        let end = end.ok_or("a line in its list of tensors does not end")?;
        self.at += end + 1;
        Ok(&rest[..end])
    }

    /// A string of the oldest protocol: with escapes, which no name of a tensor needs.
    fn text_line(&mut self) -> Outcome<()> {
        let line = self.line_up_to(LONGEST)?;
        let quotes = |text: &str| text.trim_matches(['\'', '"']).to_owned();
        self.push(match std::str::from_utf8(line) {
            Ok(text) if !text.contains('\\') => Value::Text(quotes(text)),
            _ => Value::Bytes,
        });
        Ok(())
    }

    /// A place in the memo, written as text.
    fn key(&mut self) -> Outcome<u64> {
        let line = self.line()?;
        line.parse().map_err(|_| format!("{line:?} is not a place in its memo"))
    }

    /// A length of this many bytes.
    fn length(&mut self, bytes: usize) -> Outcome<u64> {
        let found = self.slice(bytes as u64)?;
        Ok(found.iter().rev().fold(0, |n, &byte| n << 8 | u64::from(byte)))
    }

    fn push(&mut self, value: Value) {
        let id = self.values.add(value);
        self.stack.push(id);
    }

    /// The topmost value, but none below the last mark.
    fn pop(&mut self) -> Outcome<Id> {
        let floor = self.marks.last().copied().unwrap_or(0);
        let found = if self.stack.len() > floor { self.stack.pop() } else { None };
        found.ok_or_else(|| "it takes more values than there are".to_owned())
    }

    fn pop_mark(&mut self) -> Outcome<Vec<Id>> {
        let mark = self.marks.pop().ok_or("it lacks a mark")?;
        Ok(self.stack.split_off(mark))
    }

    /// The topmost value, which stays.
    fn top(&self) -> Outcome<Id> {
        self.stack.last().copied().ok_or_else(|| "it takes more values than there are".to_owned())
    }

    fn tuple(&mut self, count: usize) -> Outcome<()> {
        let mut items = (0..count).map(|_| self.pop()).collect::<Outcome<Vec<_>>>()?;
        items.reverse();
        self.push(Value::Tuple(items));
        Ok(())
    }

    fn append(&mut self, items: Vec<Id>) -> Outcome<()> {
        let top = self.top()?;
        match &mut self.values.0[top] {
            Value::List(list) => list.extend(items),
            Value::Object { .. } => {} // a kind of list, a deque: of no use here
            _ => return Err("it appends to what is not a list".to_owned()),
        }
        Ok(())
    }

    fn set_items(&mut self, items: Vec<Id>) -> Outcome<()> {
        let top = self.top()?;
        match &mut self.values.0[top] {
            Value::Dict(dict) | Value::Object { entries: dict, .. } => {
                dict.extend(items.chunks_exact(2).map(|pair| (pair[0], pair[1])));
            }
            _ => return Err("it sets an entry of what is not a dict".to_owned()),
        }
        Ok(())
    }

    fn remember(&mut self, key: u64) -> Outcome<()> {
        let top = self.top()?;
        self.memo.insert(key, top);
        Ok(())
    }

    fn recall(&mut self, key: u64) -> Outcome<()> {
        let id = self.memo.get(&key).ok_or("it recalls what it has not remembered")?;
        self.stack.push(*id);
        Ok(())
    }

    /// A whole number of some bytes, little-endian, in two's complement.
    fn long(&mut self, bytes: usize) -> Outcome<()> {
        let length = self.length(bytes)?;
        let bytes = self.slice(length)?;
        if bytes.len() > 16 {
            self.push(Value::Bytes); // a generator's state, say
            return Ok(());
        }
        let fill = if bytes.last().is_some_and(|top| top & 0x80 != 0) { 0xff } else { 0 };
        let mut wide = [fill; 16];
        wide[..bytes.len()].copy_from_slice(bytes);
        self.push(Value::Int(i128::from_le_bytes(wide)));
        Ok(())
    }

    fn int_line(&mut self) -> Outcome<()> {
        let line = self.line()?;
        let value = match line.trim_end_matches('L') {
            "00" => Value::Bool(false),
            "01" => Value::Bool(true),
            digits => {
                Value::Int(digits.parse().map_err(|_| format!("{digits:?} is not a number"))?)
            }
        };
        self.push(value);
        Ok(())
    }

    fn unicode(&mut self, bytes: usize) -> Outcome<()> {
        let length = self.length(bytes)?;
        let text = String::from_utf8(self.slice(length)?.to_vec());
        self.push(text.map_or(Value::Bytes, Value::Text));
        Ok(())
    }

    fn skip_bytes(&mut self, bytes: usize) -> Outcome<()> {
        let length = self.length(bytes)?;
        self.slice(length)?;
        self.push(Value::Bytes);
        Ok(())
    }

    fn name(&mut self, module: &str, name: &str) -> Outcome<()> {
        self.push(named(module, name));
        Ok(())
    }

    /// `('storage', type, key, place, count)`, in old files with `(key, offset, count)` of a view.
    fn persistent(&mut self) -> Outcome<()> {
        let id = self.pop()?;
        let items = self.values.tuple(id)?;
        // A module of the old format is saved with its source text behind its class.
        if let [kind, class, _, _] = items[..]
            && matches!(self.values.get(kind), Value::Text(kind) if kind == "module")
        {
            self.stack.push(class);
            return Ok(());
        }
        let [_, kind, key, _, count, view @ ..] = &items[..] else {
            return Err("a storage is described by too few values".to_owned());
        };
        let element = match self.values.get(*kind) {
            Value::Name(Name::Storage(element)) => *element,
            Value::Foreign(_) => return self.object(*kind), // of complex numbers, say
            _ => return Err("a storage has an unknown type".to_owned()),
        };
        let (key, mut count, mut offset) = (self.values.text(*key)?, self.values.size(*count)?, 0);
        if let Some(Value::Tuple(view)) = view.first().map(|&view| self.values.get(view))
            && let &[_, start, length] = &view[..]
        {
            (offset, count) = (self.values.size(start)?, self.values.size(length)?);
        }
        self.push(Value::Storage(Storage { element, key, count, offset }));
        Ok(())
    }

    /// "Calls" one of the known names; of any other, an object comes of it.
    fn reduce(&mut self) -> Outcome<()> {
        let (arguments, name) = (self.pop()?, self.pop()?);
        match *self.values.get(name) {
            Value::Name(known) => self.call(known, arguments),
            Value::Foreign(_) | Value::Object { .. } => self.object(name),
            _ => Err("it calls what cannot be called".to_owned()),
        }
    }

    fn call(&mut self, name: Name, arguments: Id) -> Outcome<()> {
        if name == Name::Dict {
            let entries = self.pairs(arguments)?;
            self.push(Value::Dict(entries));
            return Ok(());
        }
        let arguments = self.values.tuple(arguments)?;
        let value = match (name, &arguments[..]) {
            (Name::Size, [sizes]) => {
                self.stack.push(*sizes);
                return Ok(());
            }
            (Name::RebuildTensor, [storage, offset, shape, stride, ..]) => {
                self.tensor(*storage, *offset, *shape, *stride)?
            }
            (Name::RebuildParameter, [tensor, ..]) => match self.values.get(*tensor) {
                Value::Tensor(view) => Value::Tensor(view.clone()),
                Value::Object { class, .. } => Value::Object { class: *class, entries: Vec::new() },
                _ => return Err("a parameter is not a tensor".to_owned()),
            },
            // A tensor with Python attributes: the function, the type, its arguments, the attributes.
            (Name::RebuildFromType, [function, _, inner, ..]) => {
                return match *self.values.get(*function) {
                    Value::Name(known @ (Name::RebuildTensor | Name::RebuildParameter)) => {
                        self.call(known, *inner)
                    }
                    _ => self.object(*function),
                };
            }
            _ => return Err(format!("it builds {name:?} of the wrong values")),
        };
        self.push(value);
        Ok(())
    }

    /// The entries of a dict that is made of a list of pairs, as Python 2 writes them.
    fn pairs(&mut self, arguments: Id) -> Outcome<Vec<(Id, Id)>> {
        let Value::Tuple(arguments) = self.values.get(arguments) else { return Ok(Vec::new()) };
        let Some(Value::List(items)) = arguments.first().map(|&id| self.values.get(id)) else {
            return Ok(Vec::new());
        };
        let pair = |id: &Id| match self.values.get(*id) {
            Value::Tuple(pair) | Value::List(pair) => Some((*pair.first()?, *pair.get(1)?)),
            _ => None,
        };
        let pairs: Vec<_> = items.iter().filter_map(pair).collect();
        self.copied += pairs.len();
        // A list may be named again and again.
        match self.copied > MOST_VALUES {
            true => Err(format!("it copies more than {MOST_VALUES} values")),
            false => Ok(pairs),
        }
    }

    /// What is not made, of a class that is a [`Value::Foreign`] or such an object's.
    fn object(&mut self, class: Id) -> Outcome<()> {
        let class = match self.values.get(class) {
            Value::Object { class, .. } => *class,
            Value::Foreign(_) | Value::Name(_) => class,
            _ => return Err("it makes an object of what is not a class".to_owned()),
        };
        self.push(Value::Object { class, entries: Vec::new() });
        Ok(())
    }

    fn tensor(&self, storage: Id, offset: Id, shape: Id, stride: Id) -> Outcome<Value> {
        match self.values.get(storage) {
            Value::Storage(_) => {}
            Value::Object { class, .. } => {
                return Ok(Value::Object { class: *class, entries: Vec::new() });
            }
            _ => return Err("a tensor has no storage".to_owned()),
        }
        let (offset, shape) = (self.values.size(offset)?, self.values.sizes(shape)?);
        let stride = self.values.sizes(stride)?;
        Ok(Value::Tensor(View { storage, offset, shape, stride }))
    }

    /// Attributes, as a state dict's `_metadata`: nothing here needs them.
    fn build(&mut self) -> Outcome<()> {
        self.pop()?;
        match self.values.get(self.top()?) {
            Value::Dict(_) | Value::List(_) | Value::Object { .. } => Ok(()),
            _ => Err("it sets attributes of what has none".to_owned()),
        }
    }
}

fn unknown(op: u8) -> String {
    format!("it has an instruction (0x{op:02x}) that no list of tensors needs")
}

/// A Python name.
fn named(module: &str, name: &str) -> Value {
    known(module, name).map_or_else(|| Value::Foreign(format!("{module}.{name}")), Value::Name)
}

/// The names that tensors need, and the kinds of dicts that they come in.
fn known(module: &str, name: &str) -> Option<Name> {
    let element = match (module, name) {
        ("collections", "OrderedDict" | "defaultdict" | "Counter") => return Some(Name::Dict),
        ("builtins" | "__builtin__", "dict") => return Some(Name::Dict),
        ("torch", "Size") => return Some(Name::Size),
        ("torch._utils", "_rebuild_tensor" | "_rebuild_tensor_v2") => {
            return Some(Name::RebuildTensor);
        }
        ("torch._utils", "_rebuild_parameter" | "_rebuild_parameter_with_state") => {
            return Some(Name::RebuildParameter);
        }
        ("torch._tensor", "_rebuild_from_type_v2") => return Some(Name::RebuildFromType),
        ("torch" | "torch.cuda", "DoubleStorage") => Element::F64,
        ("torch" | "torch.cuda", "FloatStorage") => Element::F32,
        ("torch" | "torch.cuda", "HalfStorage") => Element::F16,
        ("torch" | "torch.cuda", "BFloat16Storage") => Element::BF16,
        ("torch" | "torch.cuda", "LongStorage") => Element::I64,
        ("torch" | "torch.cuda", "IntStorage") => Element::I32,
        ("torch" | "torch.cuda", "ShortStorage") => Element::I16,
        ("torch" | "torch.cuda", "CharStorage") => Element::I8,
        ("torch" | "torch.cuda", "ByteStorage") => Element::U8,
        ("torch" | "torch.cuda", "BoolStorage") => Element::Bool,
        _ => return None,
    };
    Some(Name::Storage(element))
}
