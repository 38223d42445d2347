//! Which figures a comparison has.

use super::axes::{Axis, Sheet, Size, bounds};
use super::columns::{columns, plain, round, short};
use super::curves::{Curve, curves};
use super::record::{Epoch, Record};
use super::rows::{Group, Row, Spread};
use super::scatter::{Mark, scatter, share_axis};
use super::style;
use crate::Result;
use crate::models;
use crate::weights::{PUBLISHED, Published};

/// A figure with its name.
pub struct Figure {
    /// As a file's name, without its extension.
    pub id: String,
    /// Above it.
    pub title: String,
    /// Axes and marks.
    sheet: Sheet,
}

impl Figure {
    fn new(id: impl Into<String>, title: impl Into<String>, sheet: Sheet) -> Self {
        let plain = |c: char| if c.is_ascii_alphanumeric() || "-_".contains(c) { c } else { '-' };
        Figure { id: id.into().chars().map(plain).collect(), title: title.into(), sheet }
    }

    /// For a page that has the style already.
    pub fn element(&self) -> String {
        self.sheet.svg(&self.title, None)
    }

    /// A file of its own.
    pub fn file(&self) -> String {
        self.sheet.svg(&self.title, Some(style::FIGURE))
    }
}

const CARD: Size = Size { width: 440.0, height: 310.0, right: 14.0 };
const SMALL: Size = Size { width: 262.0, height: 190.0, right: 14.0 };

/// The class that gives a row its colour: eight of them, then again with hollow marks.
pub fn class(row: &Row) -> String {
    let again = if row.place < 8 { "" } else { " again" };
    format!("c{}{again}", row.place % 8)
}

/// Accuracy against parameters, multiply-adds, time and memory.
///
/// # Errors
/// Where plotters cannot draw the axes.
pub fn costs(group: &Group) -> Result<Vec<Figure>> {
    type Cost = fn(&Row) -> Option<f64>;
    /// Name of the file, title, axis, value, how a tick is written.
    type Choice = (&'static str, &'static str, &'static str, Cost, fn(f64) -> String);
    let all: [Choice; 4] = [
        (
            "accuracy-macs",
            "Accuracy against multiply-adds",
            "multiply-adds for one picture, log scale",
            |row| Some(row.config().model.macs as f64),
            round,
        ),
        (
            "accuracy-params",
            "Accuracy against parameters",
            "parameters, log scale",
            |row| Some(row.config().model.params as f64),
            round,
        ),
        (
            "accuracy-time",
            "Accuracy against training time",
            "minutes of training, measured, log scale",
            |row| row.spread(|run| Some(run.seconds() / 60.0)).map(|s| s.mean),
            plain,
        ),
        (
            "accuracy-memory",
            "Accuracy against memory",
            "MiB at most while training, measured, log scale",
            |row| row.spread(Record::peak_memory_mib).map(|s| s.mean),
            super::columns::thousands,
        ),
    ];
    let mut figures = Vec::new();
    for (id, title, label, cost, format) in all {
        let sized = id == "accuracy-macs";
        let marks = marks(group, cost, sized);
        if marks.is_empty() {
            continue;
        }
        let across: Vec<f64> = marks.iter().map(|mark| mark.x).collect();
        let up =
            marks.iter().flat_map(|m| [-1.0, 1.0].map(|s| m.y + s * m.deviation.unwrap_or(0.0)));
        let y = share_axis(group.top1_name(), &up.collect::<Vec<_>>());
        let sheet = scatter(Axis::log(label, &across, format), y, &marks, CARD)?;
        figures.push(Figure::new(id, title, sheet));
    }
    Ok(figures)
}

fn marks(group: &Group, cost: impl Fn(&Row) -> Option<f64>, sized: bool) -> Vec<Mark> {
    let mark = |row: &Row| {
        let Spread { mean, deviation, .. } = group.top1(row)?;
        let params = row.config().model.params as f64;
        Some(Mark {
            name: row.label.clone(),
            class: class(row),
            tip: tip(group, row),
            x: cost(row).filter(|x| *x > 0.0)?,
            y: mean,
            deviation,
            params: sized.then_some(params),
        })
    };
    group.rows.iter().filter_map(mark).collect()
}

/// All that the table says of a row.
fn tip(group: &Group, row: &Row) -> String {
    let cells = columns(group).into_iter().skip(1).map(|column| (column.title, column.cell(row)));
    let known = cells.filter(|(_, cell)| cell.value.is_some());
    let lines = known.map(|(title, cell)| format!("\n{title}: {}", cell.text));
    row.label.clone() + &lines.collect::<String>()
}

/// Beyond this, a loss has gone astray, and an axis to hold it would show nothing else.
const ASTRAY: f64 = 1e12;

/// Whether a value can be drawn.
fn is_drawable(value: f64) -> bool {
    value.is_finite() && value.abs() < ASTRAY
}

/// Runs with losses that are not drawn.
pub fn astray(group: &Group) -> Vec<String> {
    let goes_astray = |run: &&Record| {
        run.epochs.iter().any(|e| {
            !is_drawable(e.train_loss) || e.val_loss.is_some_and(|loss| !is_drawable(loss))
        })
    };
    group.runs().filter(goes_astray).map(Record::name).collect()
}

/// A row's values by epoch; epochs that some of its runs lack are left out, and values that cannot be
/// drawn.
fn points(row: &Row, value: impl Fn(&Epoch) -> Option<f64>) -> Vec<(f64, Vec<f64>)> {
    let value = |epoch: &Epoch| value(epoch).filter(|value| is_drawable(*value));
    let at = |run: &Record, epoch: usize| {
        let place = run.epochs.binary_search_by_key(&epoch, |e| e.epoch).ok()?;
        value(&run.epochs[place])
    };
    let epochs = row.first().epochs.iter().map(|epoch| epoch.epoch);
    let points = epochs.filter_map(|epoch| {
        let values: Option<Vec<f64>> = row.runs.iter().map(|run| at(run, epoch)).collect();
        Some((epoch as f64, values?))
    });
    points.collect()
}

fn curve(
    row: &Row,
    name: &str,
    more: &str,
    value: impl Fn(&Epoch) -> Option<f64>,
) -> Option<Curve> {
    let points = points(row, value);
    let class = format!("{}{more}", class(row));
    (!points.is_empty()).then(|| Curve { name: name.to_owned(), class, points })
}

fn percent(share: f64) -> String {
    format!("{} %", plain(100.0 * share))
}

/// Training error and validation error by epoch, all rows together, on one scale: the figure of He
/// et al. (2016) on which deeper plain networks do worse than shallower ones even in training.
///
/// # Errors
/// Where plotters cannot draw the axes.
pub fn errors(group: &Group) -> Result<Vec<Figure>> {
    type Value = fn(&Epoch) -> Option<f64>;
    let sides: [(&str, &str, Value); 2] = [
        ("error-train", "Training error", |epoch| Some(1.0 - epoch.train_top1)),
        ("error-val", "Validation error", |epoch| epoch.val_top1.map(|top1| 1.0 - top1)),
    ];
    let lines = sides.map(|(_, _, value)| -> Vec<Curve> {
        group.rows.iter().filter_map(|row| curve(row, &row.label, "", value)).collect()
    });
    let most = bounds(lines.iter().flatten().flat_map(Curve::values)).map_or(1.0, |(_, high)| high);
    let top = (most * 20.0).ceil() / 20.0;
    let mut figures = Vec::new();
    for ((id, title, _), lines) in sides.into_iter().zip(&lines) {
        if lines.is_empty() {
            continue;
        }
        let y = Axis::linear("top-1 error", 0.0..top.max(0.05), percent);
        figures.push(Figure::new(id, title, curves(y, lines, CARD)?));
    }
    Ok(figures)
}

/// For each row a small figure of its loss and one of its top-1, in training and in validation, all
/// on the same scales.
///
/// # Errors
/// Where plotters cannot draw the axes.
pub fn learning(group: &Group) -> Result<Vec<[Figure; 2]>> {
    let loss = |row: &Row| -> Vec<Curve> {
        let train = curve(row, "train", " dashed", |epoch| Some(epoch.train_loss));
        let val = curve(row, "val", "", |epoch| epoch.val_loss);
        train.into_iter().chain(val).collect()
    };
    let top1 = |row: &Row| -> Vec<Curve> {
        let train = curve(row, "train", " dashed", |epoch| Some(epoch.train_top1));
        let val = curve(row, "val", "", |epoch| epoch.val_top1);
        train.into_iter().chain(val).collect()
    };
    let most = losses_top(&group.rows.iter().flat_map(loss).collect::<Vec<_>>());
    let shares: Vec<f64> =
        group.rows.iter().flat_map(top1).flat_map(|c| c.values().collect::<Vec<_>>()).collect();
    let rows = group.rows.iter().filter(|row| !loss(row).is_empty());
    rows.map(|row| {
        let name = &row.label;
        let clipped = loss(row).into_iter().map(|line| Curve {
            points: line
                .points
                .into_iter()
                .map(|(x, v)| (x, v.iter().map(|v| v.min(most)).collect()))
                .collect(),
            ..line
        });
        let axis = Axis::linear("loss", 0.0..most, plain);
        let losses = curves(axis, &clipped.collect::<Vec<_>>(), SMALL)?;
        let top1s = curves(share_axis("top-1", &shares), &top1(row), SMALL)?;
        Ok([
            Figure::new(format!("loss-{name}"), format!("{name}: loss"), losses),
            Figure::new(format!("top1-{name}"), format!("{name}: top-1"), top1s),
        ])
    })
    .collect()
}

/// Where the axis of losses ends: a single epoch that went astray must not flatten all others.
fn losses_top(lines: &[Curve]) -> f64 {
    let mut values: Vec<f64> =
        lines.iter().flat_map(Curve::values).filter(|v| v.is_finite()).collect();
    values.sort_by(f64::total_cmp);
    let (Some(last), Some(usual)) = (values.last(), values.get(values.len() * 95 / 100)) else {
        return 1.0;
    };
    let top = if *last > 3.0 * usual { 1.5 * usual } else { *last };
    1.05 * top.max(0.1)
}

/// Published accuracies on ImageNet against multiply-adds, circles sized by parameters (the figure of
/// Canziani, Paszke and Culurciello, 2016); the networks compared here in their colours.
///
/// # Errors
/// Where plotters cannot draw the axes.
pub fn published(group: &Group) -> Result<Option<Figure>> {
    if group.rows.iter().all(|row| row.published().is_none()) {
        return Ok(None);
    }
    let mut marks = Vec::new();
    for published in defaults() {
        let row = group.rows.iter().find(|row| row.config().model.name == published.model);
        let macs = published_macs(published)?;
        marks.push(Mark {
            name: published.model.to_owned(),
            class: format!("hollow {}", row.map_or("other".to_owned(), class)),
            tip: format!(
                "{} on ImageNet, as published\nTop-1: {} %\nMultiply-adds: {}\nParameters: {}",
                published.model,
                plain(published.top1),
                short(macs as f64),
                short(published.params as f64)
            ),
            x: macs as f64,
            y: published.top1 / 100.0,
            deviation: None,
            params: Some(published.params as f64),
        });
    }
    let across: Vec<f64> = marks.iter().map(|mark| mark.x).collect();
    let up: Vec<f64> = marks.iter().map(|mark| mark.y).collect();
    let x = Axis::log("multiply-adds for one picture, log scale", &across, round);
    let y = share_axis("ImageNet top-1, as published", &up);
    let wide = Size { width: 880.0, height: 400.0, ..CARD };
    let title = "ImageNet accuracy as published, against multiply-adds";
    Ok(Some(Figure::new("published", title, scatter(x, y, &marks, wide)?)))
}

/// The default weights of every network that has any.
fn defaults() -> impl Iterator<Item = &'static Published> {
    let first = |published: &&Published| {
        PUBLISHED.iter().find(|other| other.model == published.model) == Some(*published)
    };
    PUBLISHED.iter().filter(first)
}

/// Multiply-adds of a published network on pictures of its publisher's size.
pub fn published_macs(published: &Published) -> Result<u64> {
    let architecture = models::find(published.model)?;
    let input = (3, published.crop, published.crop);
    let config = models::Config { input, ..architecture.config() };
    let shape = crate::nn::Shape::Map(input.0, input.1, input.2);
    Ok(architecture.layers(&config)?.trace(shape)?.macs())
}
