//! The weights that torchvision publishes for the networks here: a table of facts.

use super::Metadata;
use crate::data::{Filter, Pipeline, Step, imagenet};
use crate::models::{self, Stem};
use crate::{Error, Result};

/// Where torchvision's files are.
pub const TORCHVISION: &str = "https://download.pytorch.org/models";

/// A published weight file.
#[derive(Clone, Debug, PartialEq)]
pub struct Published {
    /// The architecture's name in the registry.
    pub model: &'static str,
    /// Its publisher's name for these weights.
    pub tag: &'static str,
    /// The file's name.
    pub file: &'static str,
    /// Its SHA-256 in hexadecimal: all 64 digits where they are known, else the first eight, which its
    /// publisher has in the file's name.
    pub sha256: &'static str,
    /// Trainable values, as its publisher counts them.
    pub params: usize,
    /// Top-1 on ImageNet's validation pictures as published, in percent.
    pub top1: f64,
    /// Top-5 on ImageNet's validation pictures as published, in percent.
    pub top5: f64,
    /// Shorter side that a picture is resized to, in pixels.
    pub resize: usize,
    /// Side of the middle that is cut out then, in pixels.
    pub crop: usize,
    /// Mean of each channel.
    pub mean: [f32; 3],
    /// Standard deviation of each channel.
    pub std: [f32; 3],
    /// The licence they come under.
    pub licence: &'static str,
}

/// Every file, in the registry's order; a network's first one is its default. Accuracies, transforms
/// and the first eight digits of hashes are torchvision's own (0.29); the other digits are those that
/// people who have the files agree on.
pub const PUBLISHED: &[Published] = &[
    row(
        "alexnet",
        "IMAGENET1K_V1",
        "alexnet-owt-7be5be79.pth",
        "7be5be791159472b1fbf3c69796f7cb30dca7ad8466c2df70058c37116cdee02",
        61_100_840,
        [56.522, 79.066],
        [256, 224],
    ),
    row(
        "vgg11",
        "IMAGENET1K_V1",
        "vgg11-8a719046.pth",
        "8a719046",
        132_863_336,
        [69.02, 88.628],
        [256, 224],
    ),
    row(
        "vgg11_bn",
        "IMAGENET1K_V1",
        "vgg11_bn-6002323d.pth",
        "6002323d",
        132_868_840,
        [70.37, 89.81],
        [256, 224],
    ),
    row(
        "vgg13",
        "IMAGENET1K_V1",
        "vgg13-19584684.pth",
        "19584684",
        133_047_848,
        [69.928, 89.246],
        [256, 224],
    ),
    row(
        "vgg13_bn",
        "IMAGENET1K_V1",
        "vgg13_bn-abd245e5.pth",
        "abd245e5",
        133_053_736,
        [71.586, 90.374],
        [256, 224],
    ),
    row(
        "vgg16",
        "IMAGENET1K_V1",
        "vgg16-397923af.pth",
        "397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0",
        138_357_544,
        [71.592, 90.382],
        [256, 224],
    ),
    row(
        "vgg16_bn",
        "IMAGENET1K_V1",
        "vgg16_bn-6c64b313.pth",
        "6c64b3138f2f4fcb3bcc4cafde11619c4f440eb1631787e93a682fd88305888a",
        138_365_992,
        [73.36, 91.516],
        [256, 224],
    ),
    row(
        "vgg19",
        "IMAGENET1K_V1",
        "vgg19-dcbb9e9d.pth",
        "dcbb9e9dad569fff7a846263a77324fc34978fea2bfb039c012d710e1776ae44",
        143_667_240,
        [72.376, 90.876],
        [256, 224],
    ),
    row(
        "vgg19_bn",
        "IMAGENET1K_V1",
        "vgg19_bn-c79401a0.pth",
        "c79401a0cf3cb42714e4182f5868c7a6f4f4534f5df9e956e2bb2098de41cbb6",
        143_678_248,
        [74.218, 91.842],
        [256, 224],
    ),
    row(
        "googlenet",
        "IMAGENET1K_V1",
        "googlenet-1378be20.pth",
        "1378be20a8e875cf1568b8a71654e704449655e34711a959a38b04fb34905cef",
        6_624_904,
        [69.778, 89.53],
        [256, 224],
    )
    .tensorflow(),
    row(
        "inception_v3",
        "IMAGENET1K_V1",
        "inception_v3_google-0cc3c7bd.pth",
        "0cc3c7bd75056d25e46cba549dc184522069b81e9787eff6df84f397bd52a5ef",
        27_161_264,
        [77.294, 93.45],
        [342, 299],
    )
    .tensorflow()
    .licence("Apache-2.0"),
    row(
        "resnet18",
        "IMAGENET1K_V1",
        "resnet18-f37072fd.pth",
        "f37072fd47e89c5e827621c5baffa7500819f7896bbacec160b1a16c560e07ec",
        11_689_512,
        [69.758, 89.078],
        [256, 224],
    ),
    row(
        "resnet34",
        "IMAGENET1K_V1",
        "resnet34-b627a593.pth",
        "b627a593bcbe140c234610266fe4f8ae95ea42fc881d091c9b6052e6b1d0590f",
        21_797_672,
        [73.314, 91.42],
        [256, 224],
    ),
    row(
        "resnet50",
        "IMAGENET1K_V2",
        "resnet50-11ad3fa6.pth",
        "11ad3fa62ca79e40addfd354a8ec4b7c75143b3038b8d2a807fbc68deab379ca",
        25_557_032,
        [80.858, 95.434],
        [232, 224],
    ),
    row(
        "resnet50",
        "IMAGENET1K_V1",
        "resnet50-0676ba61.pth",
        "0676ba61b6795bbe1773cffd859882e5e297624d384b6993f7c9e683e722fb8a",
        25_557_032,
        [76.13, 92.862],
        [256, 224],
    ),
    row(
        "resnet101",
        "IMAGENET1K_V2",
        "resnet101-cd907fc2.pth",
        "cd907fc2a0de2292b2ba2b27d2216bc672d84632d1cf20058d01c0c03b5e020e",
        44_549_160,
        [81.886, 95.78],
        [232, 224],
    ),
    row(
        "resnet101",
        "IMAGENET1K_V1",
        "resnet101-63fe2227.pth",
        "63fe2227b86e8f1f2063f43a75c84d195911b6a0eace650907dd3dc62dd49a0a",
        44_549_160,
        [77.374, 93.546],
        [256, 224],
    ),
    row(
        "resnet152",
        "IMAGENET1K_V2",
        "resnet152-f82ba261.pth",
        "f82ba261",
        60_192_808,
        [82.284, 96.002],
        [232, 224],
    ),
    row(
        "resnet152",
        "IMAGENET1K_V1",
        "resnet152-394f9c45.pth",
        "394f9c45966e3651a89bbb78a48410a6755854ce4a5ab64927cf1c7247f85e58",
        60_192_808,
        [78.312, 94.046],
        [256, 224],
    ),
    row(
        "squeezenet1_0",
        "IMAGENET1K_V1",
        "squeezenet1_0-b66bff10.pth",
        "b66bff10",
        1_248_424,
        [58.092, 80.42],
        [256, 224],
    ),
    row(
        "squeezenet1_1",
        "IMAGENET1K_V1",
        "squeezenet1_1-b8a52dc0.pth",
        "b8a52dc049b60e4b6ab68ad0df457362afab8b6304b2febdc1650a5dab4d7e7b",
        1_235_496,
        [58.178, 80.624],
        [256, 224],
    ),
];

const fn row(
    model: &'static str,
    tag: &'static str,
    file: &'static str,
    sha256: &'static str,
    params: usize,
    [top1, top5]: [f64; 2],
    [resize, crop]: [usize; 2],
) -> Published {
    let (mean, std, licence) = (imagenet::MEAN, imagenet::STD, "BSD-3-Clause");
    Published { model, tag, file, sha256, params, top1, top5, resize, crop, mean, std, licence }
}

/// The weights published for `model`: those of this tag, or the default ones.
///
/// # Errors
/// Lists what there is, where there is no such thing.
pub fn published(model: &str, tag: Option<&str>) -> Result<&'static Published> {
    let mut of_model = PUBLISHED.iter().filter(|row| row.model == model);
    of_model.clone().find(|row| tag.is_none_or(|tag| tag == row.tag)).ok_or_else(|| {
        let tags: Vec<_> = of_model.by_ref().map(|row| row.tag).collect();
        let mut models: Vec<_> = PUBLISHED.iter().map(|row| row.model).collect();
        models.dedup();
        Error::Setting(match tags.is_empty() {
            true => format!("no weights are published for {model}; for {}", models.join(", ")),
            false => format!(
                "{model} has no published weights called {}; there are {}",
                tag.unwrap_or_default(),
                tags.join(", ")
            ),
        })
    })
}

impl Published {
    /// Weights converted from TensorFlow's want samples from -1 to 1, which torchvision calls
    /// `transform_input`.
    const fn tensorflow(mut self) -> Self {
        (self.mean, self.std) = ([0.5; 3], [0.5; 3]);
        self
    }

    const fn licence(mut self, licence: &'static str) -> Self {
        self.licence = licence;
        self
    }

    /// What a picture goes through before the network sees it.
    ///
    /// # Errors
    /// Never, for the sizes of the table.
    pub fn preprocessing(&self) -> Result<Pipeline> {
        Pipeline::new(vec![
            Step::Resize { size: self.resize, filter: Filter::Bilinear },
            Step::CentreCrop { size: self.crop },
            Step::Channels { channels: 3 },
            Step::Normalise { mean: self.mean.to_vec(), std: self.std.to_vec() },
        ])
    }

    /// What the converted file says about itself.
    ///
    /// # Errors
    /// Never, for the models of the table.
    pub fn metadata(&self) -> Result<Metadata> {
        let pipeline = serde_json::to_value(self.preprocessing()?);
        Ok(Metadata {
            architecture: models::find(self.model)?.name.to_owned(),
            stem: Stem::Paper,
            classes: imagenet::classes(),
            input: (3, self.crop, self.crop),
            preprocessing: pipeline.map_err(|error| Error::weights(self.file, error))?,
            dataset: format!("ImageNet-1K, {} of torchvision, {}", self.tag, self.licence),
            data_kind: "photographs".to_owned(),
            val_top1: Some(self.top1 / 100.0),
            trained_on: None,
        })
    }
}
