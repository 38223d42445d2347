//! Files as `torch.save` writes them, made without Python.

use candle_core::Tensor;

/// A Python value.
#[derive(Clone)]
pub enum Py {
    None,
    Int(i64),
    Text(String),
    List(Vec<Py>),
    Tuple(Vec<Py>),
    Dict(Vec<(Py, Py)>),
    /// The name of a class or a function: its module, and its own.
    Name(&'static str, &'static str),
    /// What a call of a name with these arguments gives.
    Call(&'static str, &'static str, Vec<Py>),
    /// The same by way of the class's `__new__`.
    New(&'static str, &'static str, Vec<Py>),
    /// An object, and what its attributes are set to.
    With(Box<Py>, Box<Py>),
    /// An object that is a kind of dict, and what it holds.
    Holding(Box<Py>, Vec<(Py, Py)>),
    /// Of f32 numbers.
    Tensor(Tensor),
    /// Instructions as they are.
    Raw(Vec<u8>),
}

pub fn text(text: &str) -> Py {
    Py::Text(text.to_owned())
}

/// A dict with text for keys.
pub fn dict<'a>(entries: impl IntoIterator<Item = (&'a str, Py)>) -> Py {
    Py::Dict(entries.into_iter().map(|(key, value)| (text(key), value)).collect())
}

/// A state dict, as modules give theirs.
pub fn state<'a>(tensors: impl IntoIterator<Item = (&'a String, &'a Tensor)>) -> Py {
    let entry = |(name, tensor): (&String, &Tensor)| (text(name), Py::Tensor(tensor.clone()));
    let entries = tensors.into_iter().map(entry).collect();
    Py::Holding(Box::new(Py::Call("collections", "OrderedDict", Vec::new())), entries)
}

/// The file that `torch.save` writes of a value: a zip archive.
pub fn saved(root: &Py) -> Vec<u8> {
    let mut writer = Writer::default();
    let program = writer.program(root);
    let mut members = vec![("a/data.pkl".to_owned(), program)];
    members.push(("a/byteorder".to_owned(), b"little".to_vec()));
    let storages = writer.storages.into_iter().enumerate();
    members.extend(storages.map(|(key, bytes)| (format!("a/data/{key}"), bytes)));
    members.push(("a/version".to_owned(), b"3\n".to_vec()));
    let members: Vec<_> = members.iter().map(|(n, bytes)| (n.as_str(), bytes.as_slice())).collect();
    zip(&members)
}

/// The file that `torch.save` wrote before version 1.6.
pub fn saved_the_old_way(root: &Py) -> Vec<u8> {
    let mut writer = Writer::default();
    let mut file = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.".to_vec();
    file.extend(b"\x80\x02M\xe9\x03.\x80\x02}.");
    file.extend(writer.program(root));
    let keys = (0..writer.storages.len()).map(|key| text(&key.to_string())).collect();
    file.extend(Writer::default().program(&Py::List(keys)));
    for bytes in writer.storages {
        file.extend((bytes.len() as u64 / 4).to_le_bytes());
        file.extend(bytes);
    }
    file
}

#[derive(Default)]
struct Writer {
    out: Vec<u8>,
    storages: Vec<Vec<u8>>,
}

impl Writer {
    fn program(&mut self, root: &Py) -> Vec<u8> {
        self.out = b"\x80\x02".to_vec();
        self.value(root);
        self.out.push(b'.');
        std::mem::take(&mut self.out)
    }

    fn value(&mut self, value: &Py) {
        match value {
            Py::None => self.out.push(b'N'),
            Py::Int(n) => {
                self.out.extend(b"\x8a\x08");
                self.out.extend(n.to_le_bytes());
            }
            Py::Text(text) => {
                self.out.push(b'X');
                self.out.extend((text.len() as u32).to_le_bytes());
                self.out.extend(text.bytes());
            }
            Py::List(items) => {
                self.out.extend(b"](");
                items.iter().for_each(|item| self.value(item));
                self.out.push(b'e');
            }
            Py::Tuple(items) => {
                self.out.push(b'(');
                items.iter().for_each(|item| self.value(item));
                self.out.push(b't');
            }
            Py::Dict(entries) => {
                self.out.push(b'}');
                self.entries(entries);
            }
            Py::Name(module, name) => self.out.extend(format!("c{module}\n{name}\n").bytes()),
            Py::Call(module, name, arguments) => self.call(module, name, arguments, b'R'),
            Py::New(module, name, arguments) => self.call(module, name, arguments, 0x81),
            Py::With(object, attributes) => {
                self.value(object);
                self.value(attributes);
                self.out.push(b'b');
            }
            Py::Holding(object, entries) => {
                self.value(object);
                self.entries(entries);
            }
            Py::Tensor(tensor) => self.tensor(tensor),
            Py::Raw(instructions) => self.out.extend(instructions),
        }
    }

    fn entries(&mut self, entries: &[(Py, Py)]) {
        self.out.push(b'(');
        for (key, value) in entries {
            self.value(key);
            self.value(value);
        }
        self.out.push(b'u');
    }

    fn call(&mut self, module: &'static str, name: &'static str, arguments: &[Py], op: u8) {
        self.value(&Py::Name(module, name));
        self.value(&Py::Tuple(arguments.to_vec()));
        self.out.push(op);
    }

    fn tensor(&mut self, tensor: &Tensor) {
        let numbers: Vec<f32> = tensor.flatten_all().unwrap().to_vec1().expect("f32 on the CPU");
        let int = |n: &usize| Py::Int(*n as i64);
        let (count, key) = (numbers.len(), self.storages.len().to_string());
        self.storages.push(numbers.iter().flat_map(|number| number.to_le_bytes()).collect());
        let kind = Py::Name("torch", "FloatStorage");
        let storage = [text("storage"), kind, text(&key), text("cpu"), int(&count)];
        self.value(&Py::Name("torch._utils", "_rebuild_tensor_v2"));
        self.out.push(b'(');
        self.value(&Py::Tuple(storage.to_vec()));
        self.out.push(b'Q');
        self.value(&Py::Int(0));
        self.value(&Py::Tuple(tensor.dims().iter().map(int).collect()));
        self.value(&Py::Tuple(tensor.stride().iter().map(int).collect()));
        self.out.push(0x89);
        self.value(&Py::Call("collections", "OrderedDict", Vec::new()));
        self.out.extend(b"tR");
    }
}

/// A zip archive of stored members.
pub fn zip(members: &[(&str, &[u8])]) -> Vec<u8> {
    let (mut file, mut directory) = (Vec::new(), Vec::new());
    for (name, content) in members {
        let mut crc = flate2::Crc::new();
        crc.update(content);
        let sizes = [crc.sum(), content.len() as u32, content.len() as u32];
        let sizes: Vec<u8> = sizes.iter().flat_map(|n| n.to_le_bytes()).collect();
        let name_length = (name.len() as u16).to_le_bytes();
        let at = (file.len() as u32).to_le_bytes();
        file.extend(
            [b"PK\x03\x04\x14\0\0\0\0\0\0\0\0\0", &sizes[..], &name_length, b"\0\0"].concat(),
        );
        file.extend([name.as_bytes(), content].concat());
        let head = b"PK\x01\x02\x14\0\x14\0\0\0\0\0\0\0\0\0";
        directory
            .extend([&head[..], &sizes, &name_length, &[0; 12], &at, name.as_bytes()].concat());
    }
    let count = (members.len() as u16).to_le_bytes();
    let (size, start) = (directory.len() as u32, file.len() as u32);
    file.extend(&directory);
    file.extend([b"PK\x05\x06\0\0\0\0", &count[..], &count].concat());
    file.extend([size.to_le_bytes(), start.to_le_bytes()].concat());
    file.extend([0, 0]);
    file
}
