//! The machine that computes, and the memory that this process takes on it.

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// What a measured time or rate was measured on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// The processor, as the system calls it.
    pub cpu: String,
    /// Threads that it runs at once, as far as this process may use them.
    pub cores: usize,
    /// The operating system and the processor's family: `linux x86_64`.
    pub system: String,
}

impl Machine {
    /// The one that this program runs on.
    pub fn here() -> Self {
        let system = format!("{} {}", std::env::consts::OS, std::env::consts::ARCH);
        let cpu = processor().unwrap_or_else(|| "an unknown processor".to_owned());
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Machine { cpu, cores, system }
    }
}

impl std::fmt::Display for Machine {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        let cores = if self.cores == 1 { "core" } else { "cores" };
        write!(f, "{}, {} {cores}, {}", self.cpu, self.cores, self.system)
    }
}

/// The processor's name, where the system tells it.
fn processor() -> Option<String> {
    let name = if cfg!(target_os = "linux") {
        let text = std::fs::read_to_string("/proc/cpuinfo").ok()?;
        let line = text.lines().find(|line| line.starts_with("model name"))?;
        line.split_once(':')?.1.to_owned()
    } else if cfg!(target_os = "macos") {
        let mut sysctl = std::process::Command::new("sysctl");
        let output = sysctl.args(["-n", "machdep.cpu.brand_string"]).output().ok()?;
        String::from_utf8(output.stdout).ok()?
    } else {
        std::env::var("PROCESSOR_IDENTIFIER").ok()?
    };
    let name = name.split_whitespace().collect::<Vec<_>>().join(" ");
    (!name.is_empty()).then_some(name)
}

/// A line of `/proc/self/status` in MiB: `VmRSS`, what is resident now, or `VmHWM`, the highest it
/// was.
///
/// # Errors
/// Where the system is not Linux.
pub fn resident_mib(field: &str) -> Result<f64> {
    let missing = || Error::Setting(format!("{field} is not in /proc/self/status: is this Linux?"));
    let status = std::fs::read_to_string("/proc/self/status").map_err(|_| missing())?;
    let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    let kib = line.and_then(|rest| rest.split_whitespace().next()?.parse::<f64>().ok());
    kib.map(|kib| kib / 1024.0).ok_or_else(missing)
}

/// The highest resident memory of this process from here on.
#[derive(Debug)]
pub struct PeakMemory(());

impl PeakMemory {
    /// Begins to watch; none where the system cannot tell a part of a process's life from the rest.
    pub fn watch() -> Option<Self> {
        // Linux: sets VmHWM back to what is resident now.
        std::fs::write("/proc/self/clear_refs", "5").ok().map(|()| PeakMemory(()))
    }

    /// In MiB.
    pub fn mib(&self) -> Option<f64> {
        resident_mib("VmHWM").ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_has_a_name_and_cores() {
        let machine = Machine::here();
        assert!(!machine.cpu.is_empty() && machine.cores > 0);
        assert!(machine.to_string().contains(&machine.cpu));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_peak_counts_what_is_taken_after_the_start() {
        let mib = |count: usize| vec![1u8; count << 20];
        drop(std::hint::black_box(mib(256)));
        let Some(peak) = PeakMemory::watch() else {
            println!("skipped: this system does not let VmHWM be set back");
            return;
        };
        let before = peak.mib().unwrap();
        drop(std::hint::black_box(mib(64)));
        let grown = peak.mib().unwrap() - before;
        assert!((40.0..200.0).contains(&grown), "{grown} MiB more than {before}");
    }
}
