//! The table's columns: the same for terminals, CSV and the page.

use super::record::Record;
use super::rows::{Group, Row, Spread};
use crate::csv::cell;

/// A cell: as people read it, and as it sorts.
#[derive(Clone, Debug, PartialEq)]
pub struct Cell {
    /// With units and separators.
    pub text: String,
    /// None for words, and where nothing is known.
    pub value: Option<f64>,
    /// How far the runs are apart, in the value's unit.
    pub deviation: Option<f64>,
}

/// A column of the table.
pub struct Column {
    /// In CSV and JSON.
    pub key: &'static str,
    /// Above the column.
    pub title: &'static str,
    /// What it is, for whoever asks.
    pub help: &'static str,
    cell: fn(&Row) -> Cell,
}

impl Column {
    /// A row's cell.
    pub fn cell(&self, row: &Row) -> Cell {
        (self.cell)(row)
    }
}

/// The columns that this group has something to say in.
pub fn columns(group: &Group) -> Vec<&'static Column> {
    columns_of(std::slice::from_ref(group))
}

/// The columns that one of these groups has something to say in.
fn columns_of(groups: &[Group]) -> Vec<&'static Column> {
    let rows = || groups.iter().flat_map(|group| &group.rows);
    let has = |column: &&Column| {
        column.key == "model" || rows().any(|row| column.cell(row).value.is_some())
    };
    let several = rows().any(|row| row.runs.len() > 1);
    COLUMNS.iter().filter(has).filter(|column| several || column.key != "runs").collect()
}

/// All of them.
const COLUMNS: &[Column] = &[
    Column {
        key: "model",
        title: "Network",
        help: "As convzoo list names it",
        cell: |row| {
            let text = match row.is_finished() {
                true => row.label.clone(),
                false => format!("{} (unfinished)", row.label),
            };
            Cell { text, value: None, deviation: None }
        },
    },
    Column {
        key: "val_top1",
        title: "Val top-1",
        help: "Share of validation pictures that are right, best epoch",
        cell: |row| percent(row.spread(Record::val_top1)),
    },
    Column {
        key: "test_top1",
        title: "Test top-1",
        help: "Share of test pictures that the best epoch's weights get right",
        cell: |row| percent(row.spread(Record::test_top1)),
    },
    Column {
        key: "params",
        title: "Parameters",
        help: "Trainable values, auxiliary heads not counted",
        cell: |row| of(Some(row.config().model.params as f64), thousands),
    },
    Column {
        key: "macs",
        title: "Multiply-adds",
        help: "For one picture, forward",
        cell: |row| of(Some(row.config().model.macs as f64), thousands),
    },
    Column {
        key: "file_mb",
        title: "File MB",
        help: "Size of best.safetensors in millions of bytes",
        cell: |row| of(row.first().file_bytes.map(|b| b as f64 / 1e6), |mb| format!("{mb:.1}")),
    },
    Column {
        key: "image_size",
        title: "Input",
        help: "Side of the pictures in pixels",
        cell: |row| of(Some(row.config().train.image_size as f64), |side| format!("{side:.0}")),
    },
    Column {
        key: "images_per_s",
        title: "Images/s",
        help: "Training pictures a second, evaluation not counted",
        cell: |row| spread(row.spread(Record::images_per_s), |rate| significant(rate, 3)),
    },
    Column {
        key: "epochs",
        title: "Epochs",
        help: "Passes over the training pictures",
        cell: |row| {
            let done = row.spread(|run| Some(run.epochs.len() as f64));
            of(done.map(|done| done.mean), |epochs| format!("{epochs:.0}"))
        },
    },
    Column {
        key: "seconds",
        title: "Time",
        help: "Of training and evaluation on the machine named below",
        cell: |row| {
            let seconds = |run: &Record| (!run.epochs.is_empty()).then(|| run.seconds());
            of(row.spread(seconds).map(|s| s.mean), duration)
        },
    },
    Column {
        key: "peak_memory_mib",
        title: "Memory MiB",
        help: "The process's highest resident memory while it trained",
        cell: |row| spread(row.spread(Record::peak_memory_mib), thousands),
    },
    Column {
        key: "runs",
        title: "Runs",
        help: "Seeds that the means and standard deviations are over",
        cell: |row| of(Some(row.runs.len() as f64), |runs| format!("{runs:.0}")),
    },
];

fn of(value: Option<f64>, text: impl Fn(f64) -> String) -> Cell {
    let text = value.map_or_else(|| "-".to_owned(), text);
    Cell { text, value, deviation: None }
}

fn spread(spread: Option<Spread>, text: impl Fn(f64) -> String) -> Cell {
    let value = spread.map(|spread| spread.mean);
    let deviation = spread.and_then(|spread| spread.deviation);
    Cell { deviation, ..of(value, text) }
}

/// `87.02 %`, or `87.02 ± 0.31 %`.
fn percent(spread: Option<Spread>) -> Cell {
    let deviation = spread.and_then(|spread| spread.deviation);
    let text = |mean: f64| match deviation {
        Some(deviation) => format!("{:.2} ± {:.2} %", in_percent(mean), 100.0 * deviation),
        None => format!("{:.2} %", in_percent(mean)),
    };
    Cell { deviation, ..of(spread.map(|spread| spread.mean), text) }
}

/// A share in percent, to two decimals; only all is 100 and only none is 0.
pub(super) fn in_percent(share: f64) -> f64 {
    let hundredths = (1e4 * share).round();
    let inside =
        if share > 0.0 && share < 1.0 { hundredths.clamp(1.0, 9999.0) } else { hundredths };
    inside / 100.0
}

/// 11689512 as 11,689,512; to the nearest whole number.
pub(super) fn thousands(value: f64) -> String {
    crate::digits::thousands(value.round_ties_even() as u64)
}

/// So many digits that count: 1,234 or 12.3 for 3.
pub(super) fn significant(value: f64, digits: i32) -> String {
    let decimals = (digits - 1 - value.abs().max(1e-9).log10().floor() as i32).max(0) as usize;
    if decimals == 0 { thousands(value) } else { format!("{value:.decimals$}") }
}

/// Without needless zeros: 2.5, 85.
pub(super) fn plain(value: f64) -> String {
    let text = format!("{value:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// `3.5 M`, `560 k`.
pub(super) fn short(value: f64) -> String {
    for (size, unit) in [(1e12, " T"), (1e9, " G"), (1e6, " M"), (1e3, " k")] {
        if value >= 0.9995 * size {
            return significant(value / size, 3) + unit;
        }
    }
    significant(value, 3)
}

/// As [`short`], for round values: `10 M`, `500 k`.
pub(super) fn round(value: f64) -> String {
    for (size, unit) in [(1e12, " T"), (1e9, " G"), (1e6, " M"), (1e3, " k")] {
        if value >= 0.9995 * size {
            return plain(value / size) + unit;
        }
    }
    plain(value)
}

/// `2 h 05 min`, `40 min`, `7 min 30 s`, `12.5 s`.
pub(super) fn duration(seconds: f64) -> String {
    let whole = seconds.round() as u64;
    match whole {
        0..=59 => format!("{seconds:.1} s"),
        60..=599 => format!("{} min {:02} s", whole / 60, whole % 60),
        600..=3599 => format!("{:.0} min", seconds / 60.0),
        _ => format!("{} h {:02} min", whole / 3600, whole % 3600 / 60),
    }
}

/// The tables as CSV under one header: values in plain units, an empty cell where nothing is known.
pub fn csv(groups: &[Group]) -> String {
    let columns = columns_of(groups);
    let keys = columns.iter().map(|column| column.key);
    let header = ["dataset", "data_kind"].into_iter().chain(keys);
    let header: Vec<&str> = header.chain(["val_top1_sd", "seeds", "folders"]).collect();
    let rows = groups.iter().flat_map(|group| group.rows.iter().map(move |row| (group, row)));
    let lines = rows.map(|(group, row)| line(group, row, &columns));
    std::iter::once(header.join(",")).chain(lines).map(|line| line + "\n").collect()
}

/// A row as a line of CSV.
fn line(group: &Group, row: &Row, columns: &[&Column]) -> String {
    let mut cells = vec![group.dataset.clone(), group.kind.to_string()];
    cells.extend(columns.iter().map(|column| match (column.key, column.cell(row)) {
        ("model", _) => row.label.clone(),
        (_, cell) => cell.value.map_or(String::new(), |value| value.to_string()),
    }));
    let deviation = row.spread(Record::val_top1).and_then(|spread| spread.deviation);
    cells.push(deviation.map_or(String::new(), |deviation| deviation.to_string()));
    let seeds = row.runs.iter().map(|run| run.config.train.seed.to_string());
    cells.push(seeds.collect::<Vec<_>>().join(" "));
    cells.push(row.runs.iter().map(Record::name).collect::<Vec<_>>().join(" "));
    cells.iter().map(|text| cell(text)).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_all_is_a_hundred_percent() {
        let text = |share: f64| percent(Spread::of(&[share])).text;
        assert_eq!((text(1.0), text(0.0)), ("100.00 %".into(), "0.00 %".into()));
        assert_eq!((text(0.99999), text(0.00001)), ("99.99 %".into(), "0.01 %".into()));
        assert_eq!(text(0.87025), "87.03 %");
    }

    #[test]
    fn numbers_are_short_and_say_enough() {
        assert_eq!(thousands(11_689_512.0), "11,689,512");
        assert_eq!(short(11_689_512.0), "11.7 M");
        assert_eq!(short(1_000_000.0), "1.00 M");
        assert_eq!((short(61_706.0), round(1e7)), ("61.7 k".into(), "10 M".into()));
        assert_eq!(significant(1234.5, 3), "1,234");
        assert_eq!((duration(12.51), duration(450.0)), ("12.5 s".into(), "7 min 30 s".into()));
        assert_eq!(duration(2410.0), "40 min");
        assert_eq!(duration(7512.0), "2 h 05 min");
    }
}
