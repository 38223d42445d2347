//! Flags that say what weights are measured on: of `eval`, and of `inspect mistakes`.

use std::path::{Path, PathBuf};

use candle_core::Device;
use clap::{Args, ValueEnum};

use super::args::BadFiles;
use super::recipe;
use crate::Error;
use crate::data::{
    DATASETS, DataRequest, Loader, LoaderOptions, Normalise, OnBad, Part, dataset_in,
};
use crate::files::regular;
use crate::train::{MeasureRequest, MeasuredPart, Measuring, RunConfig, RunFolder};
use crate::weights::{Metadata, Sketch, WeightFile};

/// Which images, and how they are prepared.
#[derive(Args, Clone, Debug, Default)]
pub struct MeasuredArgs {
    /// The images: cats-dogs, cats-dogs-drawn, mnist, cifar-10, or folder (DIR/CLASS/* or
    /// DIR/PART/CLASS/*) [default: those that the weights' run held out, or what --data-dir holds]
    #[arg(long, value_name = "NAME", help_heading = "Images")]
    pub dataset: Option<String>,

    /// Where the images are [default: NAME in $CONVZOO_DATA or data/, then a download]
    #[arg(long, value_name = "DIR", help_heading = "Images")]
    pub data_dir: Option<PathBuf>,

    /// Which part: train, val, test or all [default: what the weights were not trained on, where that is
    /// known; else test where there is one, else val; all of DIR/CLASS/*]
    #[arg(long, value_enum, value_name = "PART", hide_possible_values = true)]
    #[arg(help_heading = "Images")]
    pub split: Option<Split>,

    /// Measure at most this many images of a part
    #[arg(long, value_name = "N", help_heading = "Images")]
    pub limit: Option<usize>,

    /// Fail where photographs cannot be had, instead of measuring on drawn images
    #[arg(long, help_heading = "Images")]
    pub no_fallback: bool,

    /// What to do about an image that cannot be read: skip (name it, count it nowhere) or fail [default:
    /// skip]
    #[arg(long, value_enum, value_name = "WHAT", hide_possible_values = true)]
    #[arg(help_heading = "Images")]
    pub on_bad: Option<BadFiles>,

    /// Names of the network's classes in its order, for weights that do not know them: a name a line,
    /// or a JSON list
    #[arg(long, value_name = "FILE", help_heading = "Weights of other programs")]
    pub classes: Option<PathBuf>,

    /// What such weights were trained with: imagenet, dataset, half, none, or MEAN/STD as in
    /// 0.5,0.5,0.5/0.25,0.25,0.25 [default: dataset for mnist and cifar-10, else imagenet]
    #[arg(long, value_name = "WHOSE", help_heading = "Weights of other programs")]
    pub normalise: Option<Normalise>,

    /// Side of the input in pixels [default: what the weights say, or what suits the images]
    #[arg(long, value_name = "PIXELS", help_heading = "Images")]
    pub image_size: Option<usize>,

    /// Invert the images first: digits drawn black on white, for a network that knows white on black
    #[arg(long, help_heading = "Images")]
    pub invert: bool,
}

/// `--split`
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Split {
    /// The images to train on
    Train,
    /// Those to choose by
    Val,
    /// Those to test on in the end
    Test,
    /// All images there are
    All,
}

impl From<Split> for Part {
    fn from(split: Split) -> Part {
        match split {
            Split::Train => Part::Train,
            Split::Val => Part::Val,
            Split::Test => Part::Test,
            Split::All => Part::All,
        }
    }
}

impl MeasuredArgs {
    /// The network of a weight file, and the images that are asked for. `run` made the weights, if
    /// that is known: where nothing is said, its images are meant.
    pub fn open(
        &self,
        file: WeightFile,
        model: Option<&str>,
        run: Option<&RunConfig>,
        device: &Device,
    ) -> anyhow::Result<Measuring> {
        let described = file.clone().described(model)?;
        let data = self.data(described.metadata()?, run);
        let request = MeasureRequest {
            part: self.split.map(Part::from),
            trained_on: run.map(|run| run.data.trained_on(Sketch::default())),
            classes: self.classes.as_deref().map(class_names).transpose()?,
            normalise: self.normalise.clone(),
            image_size: self.image_size,
            invert: self.invert,
            ..MeasureRequest::new(data)
        };
        Ok(request.open(file, model, device)?)
    }

    /// The images that flags say; or those of the run; or of the data set that the weights are for.
    fn data(&self, metadata: &Metadata, run: Option<&RunConfig>) -> DataRequest {
        let nothing_said = self.dataset.is_none() && self.data_dir.is_none();
        let of_run = run.filter(|_| nothing_said).and_then(|run| run.data.request.clone());
        let usual = || {
            let usual = match DATASETS.contains(&metadata.dataset.as_str()) {
                true => &metadata.dataset,
                false => recipe::default_dataset(&metadata.architecture),
            };
            let dataset = match (&self.dataset, &self.data_dir) {
                (Some(dataset), _) => dataset,
                (None, Some(dir)) => dataset_in(dir, usual),
                (None, None) => usual,
            };
            DataRequest { data_dir: self.data_dir.clone(), ..DataRequest::new(dataset) }
        };
        let request = of_run.unwrap_or_else(usual);
        let fallback = request.fallback && !self.no_fallback;
        DataRequest { fallback, limit: self.limit.or(request.limit), ..request }
    }

    /// A loader of a part's images.
    pub fn loader(
        &self,
        found: &Measuring,
        part: &MeasuredPart,
        options: LoaderOptions,
    ) -> crate::Result<Loader> {
        let on_bad = self.on_bad.map_or(OnBad::Skip, OnBad::from);
        let options = LoaderOptions { on_bad, ..options };
        Loader::new(part.source.clone(), found.pipeline.clone(), options)
    }
}

/// The settings of the run in whose folder a weight file is, if it is a run of the same network.
pub fn run_beside(weights: &Path, model: &str) -> Option<RunConfig> {
    let run = RunFolder::open(weights.parent()?).ok()?.config().ok()?;
    (run.model.name == model).then_some(run)
}

/// The names in a file: a JSON list, or a line each.
fn class_names(path: &Path) -> anyhow::Result<Vec<String>> {
    let text = regular::read_text(path)?;
    let text = text.trim_start_matches('\u{feff}').trim();
    let names: Vec<String> = match text.starts_with('[') {
        true => serde_json::from_str(text)
            .map_err(|error| Error::file(path, format!("is not a JSON list of names: {error}")))?,
        false => text.lines().map(|line| line.trim().to_owned()).collect(),
    };
    let mut sorted: Vec<&String> = names.iter().collect();
    sorted.sort();
    let twice = sorted.windows(2).find(|pair| pair[0] == pair[1]).map(|pair| pair[0]);
    let wrong = match twice {
        _ if text.is_empty() => "has no names of classes".to_owned(),
        _ if names.iter().any(String::is_empty) => "has a class without a name".to_owned(),
        Some(name) => format!("has class {name} twice"),
        None => return Ok(names),
    };
    Err(Error::file(path, wrong).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_lines_or_a_list() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("classes");
        let read = |text: &str| {
            std::fs::write(&path, text).unwrap();
            class_names(&path).map_err(|error| error.to_string())
        };
        assert_eq!(read("cat\r\nbig dog \n").unwrap(), ["cat", "big dog"]);
        assert_eq!(read("\u{feff}[\"cat\", \"dog\"]").unwrap(), ["cat", "dog"]);
        for (text, why) in [
            ("", "no names"),
            ("cat\n\ndog", "without a name"),
            ("cat\ndog\ncat", "cat twice"),
            ("[1]", "not a JSON list"),
        ] {
            assert!(read(text).unwrap_err().contains(why), "{text}");
        }
    }
}
