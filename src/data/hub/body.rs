//! The body of an answer, read piece by piece, and not from a server that hardly sends anything.

use std::io::{ErrorKind, Read};
use std::time::{Duration, Instant};

use super::Hub;
use super::request::{Failure, cut_off};

/// Hands the pieces of `body` to `take` as they come.
pub(super) fn pour(
    hub: &Hub,
    host: &str,
    mut body: impl Read,
    mut take: impl FnMut(&[u8]) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut buffer = vec![0; 1 << 16];
    let mut pace = Pace { since: Instant::now(), bytes: 0 };
    loop {
        let count = match body.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(cut_off(host, error)),
        };
        take(&buffer[..count])?;
        if !pace.keeps_up(count, hub.least_rate, hub.rate_window) {
            let (rate, seconds) = (hub.least_rate, hub.rate_window.as_secs_f64());
            return Err(Failure::Slow(format!(
                "{host} sent less than {rate} bytes a second for {seconds} s"
            )));
        }
    }
}

/// What came since the window began.
struct Pace {
    since: Instant,
    bytes: u64,
}

impl Pace {
    /// Counts what came, and whether it was enough in every window that is over.
    fn keeps_up(&mut self, count: usize, rate: u64, window: Duration) -> bool {
        self.bytes += count as u64;
        let passed = self.since.elapsed();
        if passed < window {
            return true;
        }
        let enough = self.bytes as f64 >= rate as f64 * passed.as_secs_f64();
        *self = Pace { since: Instant::now(), bytes: 0 };
        enough
    }
}
