//! The machine that computes, and the memory that this process takes on it.

use std::path::Path;

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

/// Bytes of memory that this process may still take: what the machine has free, and what is left of the
/// limits of its control groups (as a container has them) and of its address space. `None` where that
/// cannot be known.
pub fn available_memory() -> Option<u64> {
    available_below(Path::new("/"))
}

/// [`available_memory`] by the files below `root`.
fn available_below(root: &Path) -> Option<u64> {
    let machine = kilobytes(&text(root, "proc/meminfo")?, "MemAvailable:")?;
    let limits = group_rests(root).into_iter().chain(address_space(root));
    Some(limits.fold(machine, u64::min))
}

fn text(root: &Path, file: &str) -> Option<String> {
    std::fs::read_to_string(root.join(file)).ok()
}

/// A line of `/proc/meminfo` or `/proc/self/status` in bytes.
fn kilobytes(text: &str, key: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    line.trim().trim_end_matches(" kB").parse::<u64>().ok()?.checked_mul(1024)
}

/// What is left of the limits of the control groups that this process is in, of either version of them.
/// A limit of a group holds for all groups below it, so the way up to the root is gone.
fn group_rests(root: &Path) -> Vec<u64> {
    let mut rests = Vec::new();
    for line in text(root, "proc/self/cgroup").unwrap_or_default().lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else { continue };
        let (mount, names) = match controllers {
            "" => ("sys/fs/cgroup", UNIFIED),
            some if some.split(',').any(|name| name == "memory") => ("sys/fs/cgroup/memory", FIRST),
            _ => continue,
        };
        let top = root.join(mount);
        let own = top.join(path.trim_start_matches('/'));
        // In a container the own path may be one that is not to be seen there; its root is.
        let groups = own.ancestors().take_while(|group| group.starts_with(&top));
        rests.extend(groups.filter_map(|group| rest_of(group, names)));
    }
    rests
}

/// The files of a group, and the line that says what it uses: not what the system keeps of files, which
/// it gives up first.
type GroupFiles = (&'static str, &'static str);
const UNIFIED: GroupFiles = ("memory.max", "anon ");
const FIRST: GroupFiles = ("memory.limit_in_bytes", "total_rss ");

/// Of one group, where it has a limit.
fn rest_of(group: &Path, (limit, used): GroupFiles) -> Option<u64> {
    let limit: u64 = text(group, limit)?.trim().parse().ok()?;
    let stat = text(group, "memory.stat").unwrap_or_default();
    let used = stat.lines().find_map(|line| line.strip_prefix(used)?.trim().parse().ok());
    Some(limit.saturating_sub(used.unwrap_or(0)))
}

/// What is left of the limit of the address space (`ulimit -v`), where there is one.
fn address_space(root: &Path) -> Option<u64> {
    let limits = text(root, "proc/self/limits")?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max address space"))?;
    let limit: u64 = line.split_whitespace().next()?.parse().ok()?;
    let used = kilobytes(&text(root, "proc/self/status")?, "VmSize:")?;
    Some(limit.saturating_sub(used))
}

/// Refuses to take so many bytes of memory, where it can be known that they are not there: an
/// allocation that fails ends the program without a word. Small amounts are not asked for.
///
/// # Errors
/// Names what they are for, how many they are, and how many are free.
pub(crate) fn check_memory(what: &str, bytes: u64) -> Result<()> {
    const SMALL: u64 = 64 << 20;
    if bytes < SMALL {
        return Ok(());
    }
    match available_memory() {
        Some(free) if bytes > free => {
            let gigabytes = |bytes: u64| format!("{:.1} GB", bytes as f64 / 1e9);
            let (needed, free) = (gigabytes(bytes), gigabytes(free));
            Err(Error::Setting(format!(
                "{what} would take {needed} of memory, and {free} are free"
            )))
        }
        _ => Ok(()),
    }
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

    /// A machine made of files, with 8 GiB free.
    fn machine(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        let usual = [("proc/meminfo", "MemFree: 1 kB\nMemAvailable:  8388608 kB\n")];
        for (path, text) in usual.iter().chain(files) {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        root
    }

    #[test]
    fn the_narrowest_limit_counts() {
        const GIB: u64 = 1 << 30;
        let gib = |count: u64| format!("{}\n", count * GIB);
        let free = |files: &[(&str, &str)]| available_below(machine(files).path());
        assert_eq!(free(&[]), Some(8 * GIB));
        assert_eq!(available_below(Path::new("/nowhere")), None);

        let (four, two, nine) = (gib(4), gib(2), gib(9));
        let used = format!("anon {GIB}\nfile {}\n", 5 * GIB);
        let own = ("proc/self/cgroup", "0::/a/b\n");
        let [max, stat] = ["sys/fs/cgroup/a/b/memory.max", "sys/fs/cgroup/a/b/memory.stat"];
        assert_eq!(free(&[own, (max, "max\n"), (stat, &used)]), Some(8 * GIB));
        assert_eq!(free(&[own, (max, &four), (stat, &used)]), Some(3 * GIB));
        assert_eq!(free(&[own, (max, &nine), (stat, "anon 0\n")]), Some(8 * GIB));
        // A limit of the group above holds too, and one at the container's root.
        let above = ("sys/fs/cgroup/a/memory.max", &*two);
        assert_eq!(free(&[own, (max, &four), (stat, &used), above]), Some(2 * GIB));
        let hidden = ("proc/self/cgroup", "0::/of/the/host\n");
        assert_eq!(free(&[hidden, ("sys/fs/cgroup/memory.max", &two)]), Some(2 * GIB));

        // The first version, whose paths are of the host.
        let first =
            ("proc/self/cgroup", "11:cpu,cpuacct:/x\n5:memory:/docker/1\n1:name=systemd:/\n");
        let limit = "sys/fs/cgroup/memory/docker/1/memory.limit_in_bytes";
        let stat = ("sys/fs/cgroup/memory/docker/1/memory.stat", "rss 1\ntotal_rss 1073741824\n");
        assert_eq!(free(&[first, (limit, &four), stat]), Some(3 * GIB));
        assert_eq!(free(&[first, (limit, "9223372036854771712\n"), stat]), Some(8 * GIB));
        let top = ("sys/fs/cgroup/memory/memory.limit_in_bytes", &*two);
        assert_eq!(free(&[first, top]), Some(2 * GIB));

        let limits = |limit: u64| {
            format!(
                "Limit  Soft Limit  Hard Limit  Units\nMax address space  {limit}  unlimited  bytes\n"
            )
        };
        let status = ("proc/self/status", "Name: x\nVmSize:\t1048576 kB\n");
        assert_eq!(free(&[("proc/self/limits", &limits(3 * GIB)), status]), Some(2 * GIB));
        let none = "Max address space         unlimited            unlimited            bytes\n";
        assert_eq!(free(&[("proc/self/limits", none), status]), Some(8 * GIB));
    }

    #[test]
    fn this_machine_has_memory_and_not_without_end() {
        let Some(free) = available_memory() else { return };
        assert!(free > 1 << 20);
        check_memory("a little", 1 << 20).unwrap();
        let error = check_memory("a network", u64::MAX).unwrap_err().to_string();
        assert!(error.starts_with("a network would take 18446744073.7 GB"), "{error}");
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
