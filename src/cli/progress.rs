//! How a run looks: a bar on a terminal, plain lines elsewhere, and a table with a line an epoch on
//! both.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use super::terminal::{aside, is_watched, say};
use crate::train::{BatchDone, EpochRow, Observer, Started};

/// Where there is no bar, a line is printed at most so often.
const QUIET: Duration = Duration::from_secs(20);

/// Where text for people goes: standard output, but standard error where that is for JSON.
#[derive(Clone, Copy, Debug)]
pub struct Voice {
    json: bool,
    silent: bool,
}

impl Voice {
    pub fn new(json: bool) -> Self {
        Voice { json, silent: false }
    }

    /// For what has been said already.
    pub fn silent() -> Self {
        Voice { json: false, silent: true }
    }

    /// Prints a line. A closed pipe is not worth ending a training run for.
    pub fn say(self, text: &str) {
        if self.silent {
            return;
        }
        if self.json { aside(text) } else { say(text) }
    }
}

/// A bar of `len` steps, where somebody is looking.
pub fn bar(len: usize, unit: &str) -> Option<ProgressBar> {
    if !is_watched() {
        return None;
    }
    let template = format!("{{prefix}} {{bar:20.cyan/238}} {{pos}}/{{len}} {unit}  {{msg}}");
    let style = ProgressStyle::with_template(&template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("━╸─");
    Some(ProgressBar::new(len as u64).with_style(style))
}

/// Draws a run as it goes.
pub struct View {
    voice: Voice,
    /// Whether there are averaged weights to be shown beside the others.
    ema: bool,
    bar: Option<ProgressBar>,
    epochs: usize,
    /// Of complete epochs, together.
    seconds: f64,
    counted: usize,
    /// When the steps of the epoch under way began, and how many were done then.
    began: Option<(Instant, usize)>,
    best: Option<(f64, usize)>,
    spoke: Instant,
}

impl View {
    pub fn new(voice: Voice, ema: bool) -> Self {
        View {
            voice,
            ema,
            bar: None,
            epochs: 0,
            seconds: 0.0,
            counted: 0,
            began: None,
            best: None,
            spoke: Instant::now(),
        }
    }

    fn end(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }

    /// Prints a line above the bar.
    fn line(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| self.voice.say(text)),
            None => self.voice.say(text),
        }
    }

    /// How the epoch under way goes, and how long it and the run will take.
    fn state(&mut self, batch: &BatchDone) -> String {
        let (began, first) = *self.began.get_or_insert((Instant::now(), batch.batch));
        let mut text = format!("{:.1} images/s", batch.images_per_s);
        let done = batch.batch - first;
        if done > 0 {
            let a_step = began.elapsed().as_secs_f64() / done as f64;
            let epoch = a_step * (batch.batches - batch.batch) as f64;
            // Evaluations are counted from the first complete epoch on.
            let whole = match self.counted {
                0 => a_step * batch.batches as f64,
                n => self.seconds / n as f64,
            };
            let all = epoch + whole * (self.epochs - batch.epoch) as f64;
            text += &format!("  {} left", clock(epoch));
            if self.epochs > batch.epoch {
                text += &format!(", {} in all", clock(all));
            }
        }
        let sums = &batch.sums;
        text += &format!("  loss {:.4}  top-1 {:.4}", sums.mean_loss(), sums.top1_share());
        if let Some((top1, epoch)) = self.best {
            text += &format!("  best {top1:.4} ({epoch})");
        }
        text
    }
}

/// Four digits behind the point; a loss that is out of hand must not fill its neighbour's column.
fn loss(value: f64) -> String {
    if value < 1000.0 { format!("{value:.4}") } else { format!("{value:.1e}") }
}

/// Three digits, or two where the exponent needs the place: a one-cycle run of Adam ends at 2.0e-10.
fn rate(value: f64) -> String {
    let text = format!("{value:.2e}");
    if text.len() < 8 { text } else { format!("{value:.1e}") }
}

/// 75 as 1:15, 4000 as 1:06:40.
fn clock(seconds: f64) -> String {
    let s = seconds.round() as u64;
    match s / 3600 {
        0 => format!("{}:{:02}", s / 60, s % 60),
        hours => format!("{hours}:{:02}:{:02}", s / 60 % 60, s % 60),
    }
}

/// The columns of the table of epochs, and their widths: with "best" behind it a line has 80 letters.
const COLUMNS: [(&str, usize); 9] = [
    ("epoch", 5),
    ("rate", 8),
    ("train loss", 11),
    ("top-1", 7),
    ("val loss", 9),
    ("top-1", 7),
    ("ema top-1", 10),
    ("images/s", 9),
    ("time", 8),
];

/// The column that is there with averaged weights only.
const EMA: usize = 6;

impl View {
    fn row(&self, cells: [String; 9]) -> String {
        let columns = COLUMNS.iter().zip(cells).enumerate().filter(|(i, _)| self.ema || *i != EMA);
        columns.map(|(_, ((_, width), cell))| format!("{cell:>width$}")).collect()
    }
}

impl Observer for View {
    fn started(&mut self, start: &Started<'_>) {
        self.epochs = start.epochs;
        if start.done_epochs > 0 || start.done_batches > 0 {
            let (epochs, batches) = (start.done_epochs, start.done_batches);
            self.line(&format!("goes on after epoch {epochs}, step {batches} of the next"));
        }
        self.line(&self.row(COLUMNS.map(|(name, _)| name.to_owned())));
        self.line(&self.row(COLUMNS.map(|(name, _)| "-".repeat(name.len()))));
    }

    fn batch_done(&mut self, batch: &BatchDone) {
        let state = self.state(batch);
        if self.bar.is_none() {
            self.bar = bar(batch.batches, "steps");
        }
        if let Some(bar) = &self.bar {
            bar.set_prefix(format!("epoch {}/{}", batch.epoch, self.epochs));
            bar.set_position(batch.batch as u64);
            bar.set_message(state);
        } else if self.spoke.elapsed() > QUIET {
            self.spoke = Instant::now();
            let at = format!("epoch {}/{}", batch.epoch, self.epochs);
            self.line(&format!("  {at}, step {}/{}: {state}", batch.batch, batch.batches));
        }
        if batch.batch == batch.batches {
            self.end();
        }
    }

    fn evaluated(&mut self, done: usize, batches: usize) {
        if self.bar.is_none() {
            self.bar = bar(batches, "batches");
        }
        if let Some(bar) = &self.bar {
            bar.set_prefix("validation");
            bar.set_position(done as u64);
        }
        if done == batches {
            self.end();
        }
    }

    fn epoch_done(&mut self, row: &EpochRow, best: bool) {
        self.end();
        self.began = None;
        self.counted += 1;
        self.seconds += row.seconds;
        if let (true, Some(top1)) = (best, row.val_top1) {
            self.best = Some((top1, row.epoch));
        }
        let none = || "-".to_owned();
        let share = |share: f64| format!("{share:.4}");
        let line = self.row([
            row.epoch.to_string(),
            rate(row.lr),
            loss(row.train_loss),
            share(row.train_top1),
            row.val_loss.map_or(none(), loss),
            row.val_top1.map_or(none(), share),
            row.ema_val_top1.map_or(none(), share),
            format!("{:.1}", row.images_per_s()),
            clock(row.seconds),
        ]);
        self.line(&format!("{line}{}", if best { "  best" } else { "" }));
        self.spoke = Instant::now();
    }

    fn message(&mut self, text: &str) {
        self.line(text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_never_touch() {
        assert_eq!(
            [0.61, 999.9, 118_247.7, f64::NAN].map(loss),
            ["0.6100", "999.9000", "1.2e5", "NaN"]
        );
        assert_eq!([0.05, 1.2e-7, 2e-10].map(rate), ["5.00e-2", "1.20e-7", "2.0e-10"]);
        assert_eq!(COLUMNS.iter().map(|(_, width)| width).sum::<usize>() + "  best".len(), 80);
        assert!(COLUMNS[1..].iter().all(|(name, width)| name.len() < *width));
    }

    #[test]
    fn times_are_short() {
        assert_eq!([0.4, 75.0, 4000.0].map(clock), ["0:00", "1:15", "1:06:40"]);
    }
}
