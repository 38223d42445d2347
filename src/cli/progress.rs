//! How a run looks: a bar on a terminal, plain lines elsewhere, and a line an epoch on both.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::train::{BatchDone, EpochRow, Observer, Started};

/// Where there is no bar, a line is printed at most so often.
const QUIET: Duration = Duration::from_secs(20);

/// Where text for people goes: standard output, but standard error where that is for JSON.
#[derive(Clone, Copy, Debug)]
pub struct Voice {
    json: bool,
}

impl Voice {
    pub fn new(json: bool) -> Self {
        Voice { json }
    }

    /// Prints a line. A closed pipe is not worth ending a training run for.
    pub fn say(self, text: &str) {
        let _ = if self.json {
            writeln!(std::io::stderr(), "{text}")
        } else {
            writeln!(std::io::stdout(), "{text}")
        };
    }
}

/// Draws a run as it goes.
pub struct View {
    voice: Voice,
    bar: Option<ProgressBar>,
    epochs: usize,
    spoke: Instant,
}

impl View {
    pub fn new(voice: Voice) -> Self {
        View { voice, bar: None, epochs: 0, spoke: Instant::now() }
    }

    /// A bar of `len` steps, where somebody is looking.
    fn begin(&mut self, len: usize, unit: &str) {
        if !std::io::stderr().is_terminal() {
            return;
        }
        let template =
            format!("{{prefix}} [{{bar:30}}] {{pos}}/{{len}} {unit}, {{eta}} left  {{msg}}");
        let style = ProgressStyle::with_template(&template)
            .unwrap_or_else(|_| ProgressStyle::default_bar())
            .progress_chars("=> ");
        self.bar = Some(ProgressBar::new(len as u64).with_style(style));
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
}

impl Observer for View {
    fn started(&mut self, start: &Started<'_>) {
        self.epochs = start.epochs;
        if start.done_epochs > 0 || start.done_batches > 0 {
            let (epochs, batches) = (start.done_epochs, start.done_batches);
            self.line(&format!("goes on after epoch {epochs}, step {batches} of the next"));
        }
        self.line(
            "epoch   train loss  train top-1     val loss    val top-1     images/s      seconds",
        );
    }

    fn batch_done(&mut self, batch: &BatchDone) {
        let state = format!(
            "loss {:.4}  top-1 {:.4}  {:.1} images/s",
            batch.sums.mean_loss(),
            batch.sums.top1_share(),
            batch.images_per_s
        );
        if self.bar.is_none() {
            self.begin(batch.batches, "steps");
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
            self.begin(batches, "batches");
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
        let cell = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.4}"));
        self.line(&format!(
            "{:>5} {:>12.4} {:>12.4} {:>12} {:>12} {:>12.1} {:>12.1}{}",
            row.epoch,
            row.train_loss,
            row.train_top1,
            cell(row.val_loss),
            cell(row.val_top1),
            row.images_per_s(),
            row.seconds,
            if best { "  best" } else { "" }
        ));
        self.spoke = Instant::now();
    }

    fn message(&mut self, text: &str) {
        self.line(text);
    }
}
