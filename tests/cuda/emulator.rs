//! A [`Launcher`] that is no GPU: the same `.cu` files, compiled as C++ for the CPU.

use std::cell::RefCell;
use std::fmt::Write as _;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::OnceLock;

use candle_core::{DType, Error, Result};
use convzoo::ops::cuda::{Arg, Kernel, Launcher, Product, SOURCES};

const PACKAGE: &str = env!("CARGO_MANIFEST_DIR");

/// How the kernels are compiled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Build {
    /// Optimised.
    Plain,
    /// So that an index out of bounds, and whatever C++ leaves undefined, ends the process.
    Sanitized,
}

impl Build {
    fn flags(self) -> &'static [&'static str] {
        match self {
            Build::Plain => &["-O2"],
            Build::Sanitized => {
                &["-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
            }
        }
    }

    /// The executable, compiled once a process; or why there is none.
    fn executable(self) -> std::result::Result<PathBuf, String> {
        static BUILDS: [OnceLock<std::result::Result<PathBuf, String>>; 2] =
            [const { OnceLock::new() }; 2];
        BUILDS[self as usize].get_or_init(|| self.compile()).clone()
    }

    fn compile(self) -> std::result::Result<PathBuf, String> {
        let compiler = std::env::var("CXX").unwrap_or_else(|_| "c++".to_owned());
        if let Err(error) = Command::new(&compiler).arg("--version").output() {
            return Err(format!("no C++ compiler here ({compiler}: {error}); set CXX to one"));
        }
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("emulator-{self:?}"));
        std::fs::create_dir_all(&folder).expect("a folder for the emulator");
        let (main, executable) = (folder.join("main.cpp"), folder.join("emulator"));
        std::fs::write(&main, program()).expect("the emulator's source written");
        let flags = ["-std=c++20", "-Wall", "-Wextra", "-Werror", "-o"];
        let mut command = Command::new(&compiler);
        let out = command.args(self.flags()).args(flags).arg(&executable).arg(&main).output();
        let out = out.expect("the C++ compiler runs");
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        Ok(executable)
    }
}

/// C++ that has every kernel in a namespace for its file and type, and a table of them.
fn program() -> String {
    let (mut files, mut table) = (String::new(), String::new());
    for source in SOURCES {
        for (name, real) in [("f32", "float"), ("f64", "double")] {
            let space = format!("{}_{name}", source.name);
            let path = format!("{PACKAGE}/src/ops/{}", source.path);
            writeln!(files, "namespace {space} {{\n#define REAL {real}\n#include \"{path}\"")
                .unwrap();
            writeln!(files, "#undef REAL\n#undef CONVZOO_COMMON_CUH\n}}").unwrap();
            for kernel in source.kernels() {
                let entry = format!("{{\"{space}/{kernel}\", Launch<{space}::{kernel}>::run}},");
                writeln!(table, "    {entry}").unwrap();
            }
        }
    }
    let header = format!("#include \"{PACKAGE}/tests/cuda/emulator.h\"");
    format!("{header}\n{files}int main() {{\n    return serve({{\n{table}    }});\n}}\n")
}

/// Values of one type.
#[derive(Clone, Debug, PartialEq)]
pub struct Buffer {
    pub dtype: DType,
    pub bytes: Vec<u8>,
}

impl Buffer {
    /// Numbers as f32 or f64.
    pub fn new(dtype: DType, values: &[f64]) -> Self {
        let bytes = values.iter().flat_map(|&value| match dtype {
            DType::F32 => (value as f32).to_le_bytes().to_vec(),
            _ => value.to_le_bytes().to_vec(),
        });
        Buffer { dtype, bytes: bytes.collect() }
    }

    /// All values.
    pub fn values(&self) -> Vec<f64> {
        let size = self.dtype.size_in_bytes();
        let value = |bytes: &[u8]| match self.dtype {
            DType::F32 => f64::from(f32::from_le_bytes(bytes.try_into().unwrap())),
            DType::U32 => f64::from(u32::from_le_bytes(bytes.try_into().unwrap())),
            _ => f64::from_le_bytes(bytes.try_into().unwrap()),
        };
        self.bytes.chunks_exact(size).map(value).collect()
    }
}

/// A process that runs launches.
pub struct Emulator {
    process: RefCell<(Child, ChildStdin, ChildStdout)>,
}

impl Emulator {
    /// `Err` says why there can be none here.
    pub fn new(build: Build) -> std::result::Result<Self, String> {
        let mut child = Command::new(build.executable()?)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the emulator starts");
        let (input, output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        Ok(Emulator { process: RefCell::new((child, input, output)) })
    }

    /// What a launch writes into each buffer that is there for it.
    fn written(
        &self,
        name: &str,
        threads: usize,
        backwards: bool,
        args: &[Arg<'_, Buffer>],
    ) -> Result<Vec<Vec<u8>>> {
        let (_, input, output) = &mut *self.process.borrow_mut();
        input.write_all(&message(name, threads, backwards, args))?;
        input.flush()?;
        let mut length = [0; 8];
        output.read_exact(&mut length)?;
        let mut error = vec![0; u64::from_le_bytes(length) as usize];
        output.read_exact(&mut error)?;
        if !error.is_empty() {
            return Err(Error::Msg(String::from_utf8_lossy(&error).into_owned()));
        }
        let mut written = Vec::new();
        for arg in args {
            if let Arg::Write(buffer) = arg {
                let mut bytes = vec![0; buffer.bytes.len()];
                output.read_exact(&mut bytes)?;
                written.push(bytes);
            }
        }
        Ok(written)
    }
}

/// A launch as the emulator reads it.
fn message(name: &str, threads: usize, backwards: bool, args: &[Arg<'_, Buffer>]) -> Vec<u8> {
    let length = |len: usize| (len as u64).to_le_bytes();
    let mut bytes = Vec::new();
    bytes.extend(length(name.len()));
    bytes.extend(name.as_bytes());
    bytes.extend(length(threads));
    bytes.push(u8::from(backwards));
    bytes.extend(length(args.len()));
    for arg in args {
        let (kind, words);
        let content: &[u8] = match arg {
            Arg::Words(values) => {
                words = values.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<_>>();
                kind = 0;
                &words
            }
            Arg::Read(buffer) => {
                kind = 1;
                &buffer.bytes
            }
            Arg::Write(buffer) => {
                kind = 2;
                &buffer.bytes
            }
        };
        bytes.push(kind);
        bytes.extend(length(content.len()));
        bytes.extend(content);
    }
    bytes
}

impl Drop for Emulator {
    fn drop(&mut self) {
        let child = &mut self.process.get_mut().0;
        let _ = child.kill(); // it may have ended already
        let _ = child.wait();
    }
}

impl Launcher for Emulator {
    type Buffer = Buffer;

    /// All bits are 1, which is NaN: what no thread writes, or reads too soon, shows.
    fn alloc(&self, dtype: DType, len: usize) -> Result<Buffer> {
        Ok(Buffer { dtype, bytes: vec![0xff; len * dtype.size_in_bytes()] })
    }

    /// Twice, the second time with the last thread first: no thread may depend on another.
    fn launch(&self, kernel: Kernel, threads: usize, args: &mut [Arg<'_, Buffer>]) -> Result<()> {
        let name = format!("{}_{}/{}", kernel.source.name, kernel.dtype.as_str(), kernel.name);
        let forwards = self.written(&name, threads, false, args)?;
        let backwards = self.written(&name, threads, true, args)?;
        assert!(forwards == backwards, "{name} depends on the order of its threads");
        let buffers = args.iter_mut().filter_map(|arg| match arg {
            Arg::Write(buffer) => Some(buffer),
            _ => None,
        });
        buffers.zip(forwards).for_each(|(buffer, bytes)| buffer.bytes = bytes);
        Ok(())
    }

    /// In f64, as three loops.
    fn matmul(&self, a: &Buffer, b: &Buffer, sizes: Product) -> Result<Buffer> {
        let Product { batch, m, n, k, a_transposed, b_transposed } = sizes;
        let (a_values, b_values) = (a.values(), b.values());
        assert_eq!((a_values.len(), b_values.len()), (batch * m * k, batch * k * n), "{sizes:?}");
        let mut c = Vec::with_capacity(batch * m * n);
        for i in 0..batch {
            let (a, b) = (&a_values[i * m * k..], &b_values[i * k * n..]);
            for (row, column) in (0..m).flat_map(|row| (0..n).map(move |column| (row, column))) {
                let a = |j: usize| if a_transposed { a[j * m + row] } else { a[row * k + j] };
                let b = |j: usize| if b_transposed { b[column * k + j] } else { b[j * n + column] };
                c.push((0..k).map(|j| a(j) * b(j)).sum());
            }
        }
        Ok(Buffer::new(a.dtype, &c))
    }
}
