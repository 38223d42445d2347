//! What there is: the build, the machine, the folders.

use std::path::{Path, PathBuf};

use candle_core::Device;
use serde::Serialize;

use super::Named;
use crate::data::hub::{cache_dir, trusted};
use crate::ops::nhwc::lanes::Isa;

/// GPUs that are looked for.
#[cfg(any(feature = "cuda", feature = "metal"))]
const MOST: usize = 16;

/// The build and the machine.
#[derive(Clone, Debug, Serialize)]
pub struct Facts {
    /// convzoo's version.
    pub version: &'static str,
    /// Of cuda, cudnn and metal, those that this build has.
    pub features: Vec<&'static str>,
    /// Architecture and operating system.
    pub platform: String,
    /// What the CPU calls itself, where that can be read.
    pub cpu: Option<String>,
    /// Instruction sets that the kernels have and the CPU too, the best first.
    pub instruction_sets: Vec<&'static str>,
    /// The one that is used.
    pub instruction_set: &'static str,
    /// Whether 3x3 convolutions go Winograd's way where that is faster.
    pub winograd: bool,
    /// Threads that compute.
    pub threads: usize,
    /// Memory of the machine, and what of it is free, in MiB, where that can be read.
    pub memory_mib: Option<(u64, u64)>,
    /// What networks can run on.
    pub devices: Vec<DeviceFacts>,
    /// Settings from the environment.
    pub environment: Vec<(String, String)>,
    /// Where data sets are looked for.
    pub data: Folder,
    /// Where downloads are kept, if there is a place.
    pub cache: Option<Folder>,
    /// What is wrong with all that, a line each.
    pub problems: Vec<String>,
}

/// Something to compute on.
#[derive(Clone, Debug, Serialize)]
pub struct DeviceFacts {
    /// As `--device` takes it.
    pub name: String,
    /// What it is.
    pub what: String,
}

/// A folder that may be there or not.
#[derive(Clone, Debug, Serialize)]
pub struct Folder {
    /// Where.
    pub path: PathBuf,
    /// Whether it is there.
    pub exists: bool,
}

impl Folder {
    fn at(path: PathBuf) -> Self {
        Folder { exists: path.is_dir(), path }
    }
}

/// The devices, and what is known.
pub(super) fn gather() -> (Vec<Named>, Facts) {
    let environment = environment();
    let wrong = crate::ops::check_environment().err();
    let mut problems: Vec<_> = wrong.map(|error| error.to_string()).into_iter().collect();
    let mut devices = vec![("cpu".to_owned(), Device::Cpu)];
    gpus(&mut devices, &mut problems);
    let data = std::env::var_os("CONVZOO_DATA").filter(|path| !path.is_empty());
    let facts = Facts {
        version: env!("CARGO_PKG_VERSION"),
        features: features(),
        platform: format!("{} {}", std::env::consts::ARCH, std::env::consts::OS),
        cpu: line_of("/proc/cpuinfo", "model name"),
        instruction_sets: Isa::available().iter().map(|isa| isa.name()).collect(),
        instruction_set: Isa::best().name(),
        winograd: crate::ops::settings().winograd,
        threads: rayon::current_num_threads(),
        memory_mib: mib("MemTotal").zip(mib("MemAvailable")),
        devices: devices.iter().map(|(name, device)| describe(name, device)).collect(),
        environment,
        data: Folder::at(data.map_or_else(|| Path::new("data").to_owned(), PathBuf::from)),
        cache: cache_folder(&mut problems),
        problems,
    };
    (devices, facts)
}

/// Where downloads are kept, and what is wrong with that place.
fn cache_folder(problems: &mut Vec<String>) -> Option<Folder> {
    match cache_dir() {
        Ok(path) => {
            problems.extend(trusted(&path).err().map(|error| error.to_string()));
            Some(Folder::at(path))
        }
        Err(error) => {
            problems.push(error.to_string());
            None
        }
    }
}

fn features() -> Vec<&'static str> {
    let all = [
        ("cuda", cfg!(feature = "cuda")),
        ("cudnn", cfg!(feature = "cudnn")),
        ("metal", cfg!(feature = "metal")),
    ];
    all.into_iter().filter(|(_, built)| *built).map(|(name, _)| name).collect()
}

/// convzoo's settings among the environment's, by name.
fn environment() -> Vec<(String, String)> {
    let ours = |name: &str| name.starts_with("CONVZOO_") || name == "CUDA_VISIBLE_DEVICES";
    let mut set: Vec<_> = std::env::vars_os()
        .map(|(name, value)| (name.to_string_lossy().into(), value.to_string_lossy().into()))
        .filter(|(name, _): &(String, String)| ours(name))
        .collect();
    set.sort();
    set
}

/// Adds the GPUs that this build can use; that there is none, though it was built for one, is a
/// problem.
#[cfg_attr(
    not(any(feature = "cuda", feature = "metal")),
    allow(unused_variables, clippy::ptr_arg) // without a GPU nothing is added
)]
fn gpus(devices: &mut Vec<Named>, problems: &mut Vec<String>) {
    #[cfg(feature = "cuda")]
    for number in 0..MOST {
        match Device::new_cuda(number) {
            Ok(device) => devices.push((format!("cuda:{number}"), device)),
            Err(error) if number == 0 => problems.push(format!("no CUDA device: {error}")),
            Err(_) => break,
        }
    }
    #[cfg(feature = "metal")]
    match Device::new_metal(0) {
        Ok(device) => devices.push(("metal".to_owned(), device)),
        Err(error) => problems.push(format!("no Metal device: {error}")),
    }
}

fn describe(name: &str, device: &Device) -> DeviceFacts {
    let what = match device {
        Device::Cpu => "this machine's CPU".to_owned(),
        Device::Cuda(_) => cuda(device).unwrap_or_else(|| "a CUDA device".to_owned()),
        Device::Metal(_) => "the Metal device".to_owned(),
    };
    DeviceFacts { name: name.to_owned(), what }
}

/// Name, compute capability and memory.
#[cfg(feature = "cuda")]
fn cuda(device: &Device) -> Option<String> {
    let stream = device.as_cuda_device().ok()?.cuda_stream();
    let context = stream.context();
    let (name, (major, minor)) = (context.name().ok()?, context.compute_capability().ok()?);
    let (free, total) = context.mem_get_info().ok()?;
    let (free, total) = (free >> 20, total >> 20);
    Some(format!("{name}, compute capability {major}.{minor}, {free} of {total} MiB free"))
}

#[cfg(not(feature = "cuda"))]
fn cuda(_: &Device) -> Option<String> {
    None
}

/// What stands behind the first `key` in a file of `key : value` lines.
fn line_of(file: &str, key: &str) -> Option<String> {
    let text = std::fs::read_to_string(file).ok()?;
    let line = text.lines().find(|line| line.starts_with(key))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

/// A number of kB in /proc/meminfo.
fn mib(key: &str) -> Option<u64> {
    let kilobytes: u64 = line_of("/proc/meminfo", key)?.split(' ').next()?.parse().ok()?;
    Some(kilobytes / 1024)
}
