//! Runs side by side: one row for each network and recipe, over all its seeds.

use super::record::Record;
use super::views::Views;
use crate::data::DataKind;
use crate::digits::counted;
use crate::train::{DataInfo, RunConfig};
use crate::weights::{PUBLISHED, Published};

/// The mean of some values, and how far they are apart.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub struct Spread {
    /// Their mean.
    pub mean: f64,
    /// Standard deviation of the sample; none for a single value.
    pub deviation: Option<f64>,
    /// How many they are.
    pub count: usize,
}

impl Spread {
    /// None where there is no value.
    pub fn of(values: &[f64]) -> Option<Self> {
        let count = values.len();
        let mean = values.iter().sum::<f64>() / count as f64;
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        let deviation = (count > 1).then(|| (squares / (count - 1) as f64).sqrt());
        (count > 0).then_some(Spread { mean, deviation, count })
    }
}

/// A network trained by one recipe, with one seed or several.
#[derive(Clone, Debug)]
pub struct Row {
    /// What it is called here: the network's name, with more where that is not enough.
    pub label: String,
    /// Its place among the rows, by which it gets its colour.
    pub place: usize,
    /// Its runs, by seed.
    pub runs: Vec<Record>,
}

impl Row {
    /// The first of its runs: all have the same settings but for the seed.
    pub fn first(&self) -> &Record {
        &self.runs[0]
    }

    /// The settings they share.
    pub fn config(&self) -> &RunConfig {
        &self.first().config
    }

    /// Over its runs; none where a run has no such value.
    pub fn spread(&self, value: impl Fn(&Record) -> Option<f64>) -> Option<Spread> {
        let values: Option<Vec<f64>> = self.runs.iter().map(value).collect();
        values.and_then(|values| Spread::of(&values))
    }

    /// What its publisher says of the network's weights for ImageNet.
    pub fn published(&self) -> Option<&'static Published> {
        PUBLISHED.iter().find(|published| published.model == self.config().model.name)
    }

    /// Whether all its runs are finished.
    pub fn is_finished(&self) -> bool {
        self.runs.iter().all(Record::is_finished)
    }
}

/// Runs on one data set, which may be compared.
#[derive(Clone, Debug)]
pub struct Group {
    /// The data set's name.
    pub dataset: String,
    /// What kind of pictures.
    pub kind: DataKind,
    /// Its rows, in the order in which their first runs were given.
    pub rows: Vec<Row>,
    /// Pictures as the networks saw them, where that was asked for.
    pub views: Option<Views>,
}

impl Group {
    /// Puts runs together: by data set, then by settings.
    pub fn all(records: Vec<Record>) -> Vec<Group> {
        let mut groups: Vec<Group> = Vec::new();
        for record in records {
            let data = &record.config.data;
            let known = groups.iter().position(|group| {
                group.runs().next().is_some_and(|run| same_data(&run.config.data, data))
            });
            let at = known.unwrap_or_else(|| {
                let (dataset, kind) = (data.name.clone(), data.kind);
                groups.push(Group { dataset, kind, rows: Vec::new(), views: None });
                groups.len() - 1
            });
            groups[at].add(record);
        }
        groups.iter_mut().for_each(Group::label);
        number(&mut groups);
        groups
    }

    /// All runs, row by row.
    pub fn runs(&self) -> impl Iterator<Item = &Record> {
        self.rows.iter().flat_map(|row| &row.runs)
    }

    fn add(&mut self, record: Record) {
        let same = |row: &&mut Row| same_recipe(row.config(), &record.config);
        if let Some(row) = self.rows.iter_mut().find(same) {
            row.runs.push(record);
            row.runs.sort_by_key(|run| run.config.train.seed);
        } else {
            let label = record.config.model.name.clone();
            self.rows.push(Row { label, place: self.rows.len(), runs: vec![record] });
        }
    }

    /// Where two rows are of one network, their folders' names tell them apart too.
    fn label(&mut self) {
        let names: Vec<String> = self.rows.iter().map(|row| row.label.clone()).collect();
        for row in &mut self.rows {
            if names.iter().filter(|name| **name == row.label).count() > 1 {
                row.label = format!("{} ({})", row.label, row.first().name());
            }
        }
    }

    /// Whether every row has a test accuracy: then that is what is compared, since no choice was made
    /// by it.
    pub fn is_tested(&self) -> bool {
        self.rows.iter().all(|row| row.spread(Record::test_top1).is_some())
    }

    /// The accuracy that the figures show.
    pub fn top1(&self, row: &Row) -> Option<Spread> {
        if self.is_tested() { row.spread(Record::test_top1) } else { row.spread(Record::val_top1) }
    }

    /// Its name.
    pub fn top1_name(&self) -> &'static str {
        if self.is_tested() { "Test top-1" } else { "Validation top-1, best epoch" }
    }

    /// Runs that saw other pictures than the first: their numbers are not quite comparable.
    pub fn other_pictures(&self) -> Vec<&Record> {
        let first = self.runs().next().map(|run| &run.config.data.identity);
        self.runs().filter(|run| Some(&run.config.data.identity) != first).collect()
    }

    /// Runs whose speed, time and memory do not compare with those of the first. Earlier versions did not
    /// record their machine.
    fn other_machines(&self) -> Vec<&Record> {
        let Some(first) = self.runs().next().map(|run| &run.config) else { return Vec::new() };
        let differs = |run: &&Record| {
            let config = &run.config;
            let machines = config.machine.as_ref().zip(first.machine.as_ref());
            let place = (config.threads, &config.device) != (first.threads, &first.device);
            place || machines.is_some_and(|(a, b)| a != b)
        };
        self.runs().filter(differs).collect()
    }

    /// What to know before numbers are compared: a title and a sentence each.
    pub fn cautions(&self) -> Vec<(&'static str, String)> {
        let mut found = Vec::new();
        let names =
            |runs: &[&Record]| runs.iter().map(|run| run.name()).collect::<Vec<_>>().join(", ");
        let others = self.other_pictures();
        if !others.is_empty() {
            found.push((
                "Not the same pictures everywhere.",
                format!(
                    "{} saw another selection or split than the first run; compare with care.",
                    names(&others)
                ),
            ));
        }
        let elsewhere = self.other_machines();
        if !elsewhere.is_empty() {
            found.push((
                "Not one machine.",
                format!(
                    "{} ran on another machine, device or number of threads than the first run: rates, \
                     times and memory do not compare.",
                    names(&elsewhere)
                ),
            ));
        }
        for run in self.runs() {
            let skipped = run.summary.as_ref().map_or(0, |summary| summary.skipped_images);
            if skipped > 0 {
                found.push((
                    "Images are missing.",
                    format!(
                        "{} left out {} that could not be read; its scores count the others.",
                        run.name(),
                        counted(skipped, "image")
                    ),
                ));
            }
        }
        found
    }

    /// All cautions in one text, where there are any.
    pub fn caution(&self) -> Option<String> {
        let cautions: Vec<String> = self.cautions().into_iter().map(|(_, text)| text).collect();
        (!cautions.is_empty()).then(|| cautions.join("\n"))
    }
}

/// Whether runs on both may stand in one table: the same classes in the same order, and of folders,
/// which all have one name, the same folder or the same pictures.
fn same_data(a: &DataInfo, b: &DataInfo) -> bool {
    let same_place = a.name != "folder" || a.origin == b.origin || a.identity == b.identity;
    a.name == b.name && a.kind == b.kind && a.classes == b.classes && same_place
}

/// Data sets of one name are numbered.
fn number(groups: &mut [Group]) {
    let names: Vec<String> = groups.iter().map(|group| group.dataset.clone()).collect();
    for (i, group) in groups.iter_mut().enumerate() {
        if names.iter().filter(|name| **name == names[i]).count() > 1 {
            let nth = names[..=i].iter().filter(|name| **name == names[i]).count();
            group.dataset = format!("{}-{nth}", names[i]);
        }
    }
}

/// Whether two runs differ in their seed alone, and in what a resumed run may change.
fn same_recipe(a: &RunConfig, b: &RunConfig) -> bool {
    let mut seeded = a.clone();
    seeded.train.seed = b.train.seed;
    if a.data.origin == b.data.origin {
        seeded.data.identity.clone_from(&b.data.identity); // a split may follow the seed
    }
    a.train.seed != b.train.seed
        && a.train.epochs == b.train.epochs
        && seeded.differences(b).is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_spread_is_that_of_a_sample() {
        assert_eq!(Spread::of(&[]), None);
        assert_eq!(Spread::of(&[0.5]).unwrap().deviation, None);
        let three = Spread::of(&[0.8, 0.9, 1.0]).unwrap();
        assert!((three.mean - 0.9).abs() < 1e-12 && (three.deviation.unwrap() - 0.1).abs() < 1e-12);
    }
}
