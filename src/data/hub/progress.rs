//! Progress of a download: a bar on a terminal, a line now and then anywhere else.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{HumanBytes, HumanDuration, ProgressBar, ProgressStyle};

use crate::visible::{tell, visible, visible_line};

/// Between two lines where there is no terminal.
const EVERY: Duration = Duration::from_secs(10);

const TEMPLATE: &str = "{msg} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta} left";

/// Shows how much of one file is there.
pub(super) enum Progress {
    /// Nothing is shown.
    Quiet,
    /// A bar that moves.
    Bar(ProgressBar),
    /// Lines.
    Lines { name: String, total: u64, start: Instant, started_at: u64, last: Instant },
}

impl Progress {
    /// Progress of `name`, of which `have` out of `total` bytes are there.
    pub(super) fn new(name: &str, have: u64, total: u64, quiet: bool) -> Progress {
        if quiet {
            return Progress::Quiet;
        }
        if std::io::stderr().is_terminal() {
            let style = ProgressStyle::with_template(TEMPLATE);
            let bar = ProgressBar::new(total)
                .with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar.set_message(visible_line(name).into_owned());
            bar.set_position(have);
            bar.reset_eta();
            return Progress::Bar(bar);
        }
        match total {
            0 => tell(&format!("downloading {name}")),
            total => tell(&format!("downloading {name}, {}", HumanBytes(total))),
        }
        let now = Instant::now();
        Progress::Lines { name: name.to_string(), total, start: now, started_at: have, last: now }
    }

    /// There will be `size` bytes.
    pub(super) fn of(&mut self, size: u64) {
        match self {
            Progress::Quiet => {}
            Progress::Bar(bar) => bar.set_length(size),
            Progress::Lines { total, .. } => *total = size,
        }
    }

    /// `have` bytes are there.
    pub(super) fn at(&mut self, have: u64) {
        match self {
            Progress::Quiet => {}
            Progress::Bar(bar) => bar.set_position(have),
            Progress::Lines { name, total, start, started_at, last } => {
                if last.elapsed() >= EVERY {
                    *last = Instant::now();
                    let seconds = start.elapsed().as_secs_f64();
                    let rate = have.saturating_sub(*started_at) as f64 / seconds;
                    tell(&line(name, have, *total, rate));
                }
            }
        }
    }

    /// Something to tell in the midst of it.
    pub(super) fn say(&self, text: &str) {
        match self {
            Progress::Quiet => {}
            Progress::Bar(bar) => bar.println(visible(text)),
            Progress::Lines { .. } => tell(text),
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Progress::Bar(bar) = self {
            bar.abandon();
        }
    }
}

fn line(name: &str, have: u64, total: u64, rate: f64) -> String {
    let percent = 100 * have / total.max(1);
    let left = if rate > 0.0 {
        let seconds = total.saturating_sub(have) as f64 / rate;
        HumanDuration(Duration::from_secs_f64(seconds.min(1e9))).to_string()
    } else {
        "unknown time".to_string()
    };
    let (have, total, rate) = (HumanBytes(have), HumanBytes(total), HumanBytes(rate as u64));
    format!("{name}: {have} of {total} ({percent} %), {rate}/s, {left} left")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_rate_and_time_left() {
        let text = line("a", 1 << 20, 3 << 20, 1024.0 * 1024.0);
        assert_eq!(text, "a: 1.00 MiB of 3.00 MiB (33 %), 1.00 MiB/s, 2 seconds left");
        assert!(line("a", 0, 0, 0.0).contains("unknown time"));
    }
}
