//! `convzoo inspect ...`

mod look;
mod out;

use std::path::{Path, PathBuf};

use anyhow::bail;
use candle_core::Device;
use clap::{Args, Subcommand};

use super::weights::say_remarks;
use crate::data::{DataRequest, Limits, Loader, LoaderOptions, decode_file};
use crate::inspect::{self, Section, Sheet, Subject, Viewer, Window};
use crate::ops::Pair;
use crate::weights::{self, WeightFile, WeightSource};
use out::Out;
pub(super) use out::writable;

/// Look into a network: filters, feature maps, Grad-CAM, occlusion, receptive fields, mistakes.
#[derive(Args)]
pub struct InspectArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// The filters of the first layer
    Filters(Filters),
    /// What layers make of pictures
    Maps(Maps),
    /// Where a network finds a class in pictures (Grad-CAM)
    Gradcam(GradCam),
    /// What covering parts of pictures does to a class
    Occlusion(Occlusion),
    /// What a unit sees of pictures: by arithmetic, and by gradient
    ReceptiveField(Fields),
    /// Hand-made filters over pictures, through the same convolution
    Kernels(Kernels),
    /// The pictures of a data set that a network is most wrong about
    Mistakes(Mistakes),
    /// All of it on one page
    All(All),
}

#[derive(Args)]
struct Weights {
    /// A weight file (RUN/best.safetensors, or any that fits), `pretrained`, or hf:ORG/REPO[/FILE]
    #[arg(long, value_name = "WEIGHTS")]
    weights: String,
    /// The network [default: what the weight file says, or the one it fits]
    #[arg(long, value_name = "NAME")]
    model: Option<String>,
    /// Where torchvision's published files are to be had instead [default: $CONVZOO_MIRROR]
    #[arg(long, value_name = "URL")]
    mirror: Option<String>,
}

#[derive(Args)]
struct Images {
    /// Pictures
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<PathBuf>,
}

#[derive(Args)]
struct Filters {
    #[command(flatten)]
    weights: Weights,
    #[command(flatten)]
    out: Out,
}

#[derive(Args)]
struct Maps {
    #[command(flatten)]
    images: Images,
    #[command(flatten)]
    weights: Weights,
    /// Layers, as in conv1,layer2.0 [default: the outermost]
    #[arg(long, value_delimiter = ',', value_name = "LAYERS", value_parser = listed)]
    layers: Vec<String>,
    /// Maps to show of a layer: those that vary most
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..))]
    most: u16,
    #[command(flatten)]
    out: Out,
}

#[derive(Args)]
struct GradCam {
    #[command(flatten)]
    images: Images,
    #[command(flatten)]
    weights: Weights,
    /// The layer whose maps are weighed [default: the last convolution, or the block it is in]
    #[arg(long, value_name = "LAYER")]
    layer: Option<String>,
    /// Classes, by name or number [default: the likeliest]
    #[arg(long, value_delimiter = ',', value_name = "CLASSES", value_parser = listed)]
    class: Vec<String>,
    /// How many of the likeliest classes
    #[arg(long, value_name = "K", default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..))]
    top: u16,
    #[command(flatten)]
    out: Out,
}

#[derive(Args)]
struct Occlusion {
    #[command(flatten)]
    images: Images,
    #[command(flatten)]
    weights: Weights,
    /// The class, by name or number [default: the likeliest]
    #[arg(long, value_name = "CLASS")]
    class: Option<String>,
    /// Side of the patch, in pixels [default: a sixth of the input's]
    #[arg(long, value_name = "PIXELS")]
    patch: Option<usize>,
    /// Pixels from one place to the next [default: a third of the patch]
    #[arg(long, value_name = "PIXELS")]
    stride: Option<usize>,
    #[command(flatten)]
    out: Out,
}

#[derive(Args)]
struct Fields {
    #[command(flatten)]
    images: Images,
    #[command(flatten)]
    weights: Weights,
    /// Layers, as in conv1,layer2.0 [default: the outermost]
    #[arg(long, value_delimiter = ',', value_name = "LAYERS", value_parser = listed)]
    layers: Vec<String>,
    /// Row and column of the unit, as in 3,4 [default: the middle]
    #[arg(long, value_name = "ROW,COLUMN", value_parser = unit)]
    unit: Option<Pair>,
    #[command(flatten)]
    out: Out,
}

#[derive(Args)]
struct Kernels {
    #[command(flatten)]
    images: Images,
    #[command(flatten)]
    out: Out,
}

#[derive(Args)]
struct Mistakes {
    #[command(flatten)]
    weights: Weights,
    /// Pictures: cats-dogs, cats-dogs-drawn, mnist, cifar-10, or folder
    #[arg(long, value_name = "NAME")]
    dataset: String,
    /// Where the pictures are
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Look at this many validation pictures at most
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// How many mistakes to show
    #[arg(long, value_name = "N", default_value_t = 24, value_parser = clap::value_parser!(u16).range(1..))]
    most: u16,
    #[command(flatten)]
    out: Out,
}

#[derive(Args)]
struct All {
    #[command(flatten)]
    images: Images,
    #[command(flatten)]
    weights: Weights,
    #[command(flatten)]
    out: Out,
}

pub fn inspect(args: InspectArgs) -> anyhow::Result<()> {
    match args.what {
        What::Filters(args) => args.run(),
        What::Maps(args) => args.run(),
        What::Gradcam(args) => args.run(),
        What::Occlusion(args) => args.run(),
        What::ReceptiveField(args) => args.run(),
        What::Kernels(args) => args.run(),
        What::Mistakes(args) => args.run(),
        What::All(args) => args.run(),
    }
}

/// From 0.1 to 10.
pub(super) fn scale(text: &str) -> anyhow::Result<f64> {
    match text.parse() {
        Ok(scale) if (0.1..=10.0).contains(&scale) => Ok(scale),
        _ => bail!("a scale is a number from 0.1 to 10"),
    }
}

/// A name of a list, without the blanks around it.
fn listed(text: &str) -> anyhow::Result<String> {
    match text.trim() {
        "" => bail!("a name is missing; names stand apart by commas, as in conv1,layer2.0"),
        name => Ok(name.to_owned()),
    }
}

/// `3,4`
fn unit(text: &str) -> anyhow::Result<Pair> {
    let numbers: Option<(usize, usize)> =
        text.split_once(',').and_then(|(row, col)| Some((row.parse().ok()?, col.parse().ok()?)));
    match numbers {
        Some(unit) => Ok(unit),
        None => bail!("a unit is ROW,COLUMN, as in 3,4"),
    }
}

impl Weights {
    fn open(&self) -> anyhow::Result<Viewer> {
        Ok(Viewer::new(&self.file()?)?)
    }

    fn file(&self) -> anyhow::Result<WeightFile> {
        let source = WeightSource::parse(&self.weights)?;
        let path = source.fetch(self.model.as_deref(), self.mirror.as_deref())?;
        let file = weights::load(&path, &Device::Cpu)?.described(self.model.as_deref())?;
        say_remarks(&file);
        Ok(file)
    }
}
