//! Data sets from the Hugging Face hub.
//!
//! Three requests are all it takes: the list of a repository's files with their sizes and SHA-256
//! hashes, a file, and the rest of a file that was broken off. So this is written on `ureq`
//! directly: the hub's own crate would more than double the number of crates to build, some in C.
//!
//! What comes from there is not trusted: files have a largest size, transfers a least speed, nothing
//! leads from https to http, and a finished file has the hash that it should have. Neither is the
//! cache: a folder that others may write to is refused, and weights in it are compared with the hash
//! that they had when they came.
//!
//! The environment is that of the hub's other clients: `HF_ENDPOINT` names another server,
//! `HF_TOKEN` gives access, `HF_HUB_OFFLINE=1` forbids any request.
//!
//! ```no_run
//! use convzoo::data::hub;
//! # fn main() -> convzoo::Result<()> {
//! let folder = hub::mnist(&hub::cache_dir()?)?; // the four IDX files
//! println!("{}", folder.display());
//! # Ok(())
//! # }
//! ```

use std::env;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::error::Result;

mod body;
mod cache;
mod fetch;
mod list;
pub(crate) mod lock;
mod progress;
mod request;
mod room;
mod sets;
pub(crate) mod sums;
mod table;

pub use cache::{cache_dir, trusted};
pub use list::RemoteFile;
pub(super) use table::{Rows, read as read_table};

/// Photographs of cats and dogs: about 23,400 of them, 0.7 GB.
const CATS_VS_DOGS: &str = "microsoft/cats_vs_dogs";

/// Handwritten digits: 60,000 to train on and 10,000 to test on, 18 MB.
const MNIST: &str = "ylecun/mnist";

/// Tiny photographs of ten classes: 50,000 to train on and 10,000 to test on, 144 MB.
const CIFAR_10: &str = "uoft-cs/cifar10";

/// Most bytes that a file may have: a server that sends more must not fill the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// A page of a repository's list of files.
    pub listing: u64,
    /// A `.json` file beside weights.
    pub settings: u64,
    /// A table of a data set.
    pub table: u64,
    /// A file of weights.
    pub weights: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { listing: 16 << 20, settings: 1 << 20, table: 4 << 30, weights: 4 << 30 }
    }
}

/// How the hub is reached.
#[derive(Clone, Debug)]
pub struct Hub {
    /// The server's address, without a slash at its end.
    pub endpoint: String,
    /// An access token, sent to the endpoint alone and to nobody it redirects to.
    pub token: Option<String>,
    /// Make no request at all.
    pub offline: bool,
    /// How long to wait for a name to resolve, and again for a connection.
    pub connect_timeout: Duration,
    /// How long to wait for an answer to begin, or for more of it.
    pub stall_timeout: Duration,
    /// Bytes a second, below which a transfer counts as stalled.
    pub least_rate: u64,
    /// Over how long that is measured.
    pub rate_window: Duration,
    /// Most bytes that files may have.
    pub limits: Limits,
    /// How often in a row a request may fail without bringing a single byte.
    pub attempts: u32,
    /// The first pause between attempts; each further one is twice as long.
    pub pause: Duration,
    /// Print no progress.
    pub quiet: bool,
}

impl Default for Hub {
    fn default() -> Self {
        Hub {
            endpoint: "https://huggingface.co".to_string(),
            token: None,
            offline: false,
            connect_timeout: Duration::from_secs(10),
            stall_timeout: Duration::from_secs(30),
            least_rate: 1024,
            rate_window: Duration::from_secs(60),
            limits: Limits::default(),
            attempts: 5,
            pause: Duration::from_secs(1),
            quiet: false,
        }
    }
}

impl Hub {
    /// As the environment has it: `HF_ENDPOINT`, `HF_TOKEN`, `HF_HUB_OFFLINE`.
    pub fn from_env() -> Self {
        let text = |name| env::var(name).ok().filter(|value: &String| !value.trim().is_empty());
        let default = Hub::default();
        let endpoint = text("HF_ENDPOINT").unwrap_or(default.endpoint);
        Hub {
            endpoint: endpoint.trim().trim_end_matches('/').to_string(),
            token: text("HF_TOKEN").map(|token| token.trim().to_string()),
            offline: text("HF_HUB_OFFLINE").is_some_and(|value| is_true(&value)),
            ..default
        }
    }
}

/// Downloads the photographs of cats and dogs, once, and returns their folder with one folder a
/// class: `cache/cats-dogs/{cat,dog}/NNNNN.jpg`. Uses [`Hub::from_env`].
///
/// # Errors
/// See [`Hub::cats_vs_dogs`].
pub fn cats_vs_dogs(cache: &Path) -> Result<PathBuf> {
    Hub::from_env().cats_vs_dogs(cache)
}

/// Downloads MNIST, once, and returns the folder of its four IDX files, `cache/mnist`. Uses
/// [`Hub::from_env`].
///
/// # Errors
/// See [`Hub::mnist`].
pub fn mnist(cache: &Path) -> Result<PathBuf> {
    Hub::from_env().mnist(cache)
}

/// Downloads CIFAR-10, once, and returns the folder of its tables, `cache/cifar-10`. Uses
/// [`Hub::from_env`].
///
/// # Errors
/// See [`Hub::cifar_10`].
pub fn cifar_10(cache: &Path) -> Result<PathBuf> {
    Hub::from_env().cifar_10(cache)
}

fn is_true(value: &str) -> bool {
    ["1", "true", "yes", "on"].contains(&value.trim().to_lowercase().as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn truth_is_read_as_the_hub_reads_it() {
        assert!(["1", "true", "YES", " on "].into_iter().all(is_true));
        assert!(!["", "0", "false", "no", "off", "2"].into_iter().any(is_true));
    }
}
