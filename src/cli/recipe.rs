//! Settings that give a good result for a network on a kind of pictures; flags change them.

use super::args::{OptimizerName, RunArgs};
use super::learn;
use crate::Result;
use crate::data::DataKind;
use crate::models::{self, Architecture, Config};
use crate::train::{FineTune, Rule, Schedule, TrainConfig, Warmup};

/// What a network is trained on when nothing is said.
pub fn default_dataset(model: &str) -> &'static str {
    match model {
        _ if is_small(model) => "mnist",
        _ if is_for_cifar(model) => "cifar-10",
        _ => "cats-dogs",
    }
}

/// The networks made for digits.
fn is_small(model: &str) -> bool {
    model.starts_with("lenet") || model == "simpleconvnet"
}

/// The networks made for CIFAR's pictures of 32 pixels.
fn is_for_cifar(model: &str) -> bool {
    models::find(model).is_ok_and(|architecture| architecture.input == (3, 32, 32))
}

/// Whether digits are shifted by up to two pixels in training: not in the classic recipe.
pub fn shifts_digits(model: &str) -> bool {
    model != "lenet5"
}

/// The settings of a run: the recipe for this network and these pictures, changed by flags.
pub fn settings(
    architecture: &Architecture,
    kind: DataKind,
    channels: usize,
    args: &RunArgs,
) -> Result<TrainConfig> {
    let mut config = TrainConfig {
        channels,
        image_size: match args.image_size {
            Some(size) => size,
            None => image_size(architecture, kind, channels),
        },
        ..recipe(architecture.name, kind, args.epochs)
    };
    // The recipe's rate of the last layer goes with its other rate, and with weights that are new.
    if args.weights.is_some() || args.lr.is_some() || args.optimizer.is_some() {
        config.finetune.head_lr = None;
    }
    apply(args, &mut config)?;
    config.check()?;
    Ok(config)
}

/// 96 for photographs, 64 for drawings, 32 for digits, or the next size the network takes; the nets
/// made for pictures of 32 pixels or fewer keep their own.
fn image_size(architecture: &Architecture, kind: DataKind, channels: usize) -> usize {
    let own = architecture.input.1;
    if own <= 32 {
        return own;
    }
    let wanted: usize = match kind {
        DataKind::Photographs | DataKind::Pictures => 96,
        DataKind::Drawn => 64,
        DataKind::Digits | DataKind::TinyPhotographs => 32,
    };
    let fits = |size: usize| {
        let config = Config { input: (channels, size, size), ..architecture.config() };
        architecture.layers(&config).is_ok()
    };
    [wanted, 64, 96, 128].into_iter().find(|&size| size >= wanted && fits(size)).unwrap_or(own)
}

/// What has been tried and works; its steps are spread over `epochs` where that is given.
fn recipe(model: &str, kind: DataKind, epochs: Option<usize>) -> TrainConfig {
    let momentum = |nesterov| Rule::Sgd { momentum: 0.9, dampening: 0.0, nesterov };
    let base = TrainConfig {
        batch_size: 32,
        optimizer: momentum(true),
        weight_decay: 5e-4,
        schedule: Schedule::ONE_CYCLE,
        seed: 0,
        workers: 2,
        ..TrainConfig::default()
    };
    // Plain SGD at 0.9 is the recipe that goes with the sigmoid net; tanh cannot bear it.
    if model == "lenet5" {
        let schedule = Schedule::Constant;
        let optimizer = Rule::SGD;
        return TrainConfig { epochs: 5, lr: 0.9, weight_decay: 0.0, optimizer, schedule, ..base };
    }
    if is_small(model) {
        return TrainConfig { epochs: 8, batch_size: 64, lr: 0.05, ..base };
    }
    if kind == DataKind::Drawn {
        // Few pictures and a few minutes: small batches and Adam make the most of them.
        let (optimizer, weight_decay) = (Rule::ADAMW, 1e-2);
        let lr = if normalised(model) { 1e-3 } else { 2e-4 };
        return TrainConfig { epochs: 4, batch_size: 16, lr, optimizer, weight_decay, ..base };
    }
    if kind == DataKind::TinyPhotographs && is_for_cifar(model) {
        // Decay and momentum of He et al. (2016), section 4.2; but their rate of 0.1 from the first step
        // on sends a net of 56 layers off, as they saw with 110, and 128 pictures to a batch make few
        // steps of a few epochs.
        let (epochs, batch_size, weight_decay) = (epochs.unwrap_or(40), 64, 1e-4);
        let optimizer = momentum(false);
        return TrainConfig { epochs, batch_size, lr: 0.05, optimizer, weight_decay, ..base };
    }
    let epochs = if kind == DataKind::Digits { 5 } else { 24 };
    let label_smoothing = 0.1;
    // The paper's recipe (section 3.1); Adam leaves so deep a net without batch norm at chance.
    if model.starts_with("vgg") && !normalised(model) {
        let (optimizer, schedule) = (momentum(false), Schedule::Cosine { min_lr: 0.0 });
        return TrainConfig { epochs, lr: 0.01, optimizer, schedule, label_smoothing, ..base };
    }
    // Without batch norm SGD stays long where it begins, or diverges; Adam does neither. VGG's linear
    // layers make it diverge with batch norm too: the first sums 25,088 values that are near 1.
    if !normalised(model) || model.starts_with("vgg") {
        let (optimizer, weight_decay) = (Rule::ADAMW, 1e-2);
        let lr = if normalised(model) { 5e-5 } else { 2e-4 };
        return TrainConfig { epochs, lr, optimizer, weight_decay, label_smoothing, ..base };
    }
    let lr = if matches!(model, "resnet18" | "resnet34") { 0.05 } else { 0.03 };
    // What the last layer bears falls with the features that it sums, which are 2048 here and 512 in
    // ResNet-18: at a common rate of 0.03 the loss rises from the first step on.
    let wide = matches!(model, "resnet50" | "resnet101" | "resnet152");
    let finetune = FineTune { head_lr: wide.then_some(1e-3), ..FineTune::default() };
    TrainConfig { epochs, lr, label_smoothing, finetune, ..base }
}

/// The networks with batch norm, which bear large rates.
fn normalised(model: &str) -> bool {
    let prefixes = ["resnet", "plain", "inception"];
    model.ends_with("_bn") || model == "googlenet" || prefixes.iter().any(|p| model.starts_with(p))
}

/// Changes what flags are given for.
pub fn apply(args: &RunArgs, config: &mut TrainConfig) -> Result<()> {
    let set = |to: &mut f64, from: Option<f64>| *to = from.unwrap_or(*to);
    config.epochs = args.epochs.unwrap_or(config.epochs);
    config.batch_size = args.batch_size.unwrap_or(config.batch_size);
    config.image_size = args.image_size.unwrap_or(config.image_size);
    set(&mut config.lr, args.lr);
    set(&mut config.weight_decay, args.weight_decay);
    set(&mut config.label_smoothing, args.label_smoothing);
    if let Some(name) = args.optimizer {
        let momentum = Rule::Sgd { momentum: 0.9, dampening: 0.0, nesterov: false };
        config.optimizer = match name {
            OptimizerName::Sgd if config.optimizer.name() == "sgd" => config.optimizer,
            OptimizerName::Sgd => momentum,
            OptimizerName::Adam => Rule::ADAM,
            OptimizerName::Adamw => Rule::ADAMW,
            OptimizerName::Rmsprop => Rule::RMSPROP,
        };
        if name != OptimizerName::Sgd && args.lr.is_none() {
            config.lr = 1e-3; // a rate for SGD is far too large for them
        }
    }
    match &mut config.optimizer {
        Rule::Sgd { momentum, nesterov, .. } => {
            set(momentum, args.momentum);
            *nesterov = args.nesterov || (*nesterov && *momentum > 0.0);
        }
        _ if args.momentum.is_some() || args.nesterov => {
            let message = "--momentum and --nesterov go with --optimizer sgd";
            return Err(crate::Error::Setting(message.to_owned()));
        }
        _ => {}
    }
    if let Some(name) = args.schedule {
        config.schedule = learn::schedule(name, config.epochs);
    }
    if let Some(epochs) = args.warmup {
        config.warmup = Warmup::epochs(epochs);
    }
    let finetune = &mut config.finetune;
    if !args.freeze.is_empty() {
        finetune.freeze = args.freeze.iter().filter(|name| *name != "none").cloned().collect();
    }
    finetune.head_lr = args.head_lr.or(finetune.head_lr);
    finetune.cache_features |= args.cache_features;
    finetune.unfreeze_every = args.unfreeze_every.or(finetune.unfreeze_every);
    set(&mut finetune.lr_decay, args.lr_decay);
    set(&mut config.save_minutes, args.save_every);
    config.on_nan = args.on_nan.map_or(config.on_nan, Into::into);
    config.seed = args.seed.unwrap_or(config.seed);
    config.workers = args.workers.unwrap_or(config.workers);
    args.learn.apply(config)
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, FromArgMatches};

    use super::*;

    #[test]
    fn the_recipe_s_rate_of_the_last_layer_goes_with_its_other_rate() {
        let head = |model, flags: &str| {
            let args = RunArgs::command().get_matches_from(format!("x {flags}").split_whitespace());
            let args = RunArgs::from_arg_matches(&args).unwrap();
            let architecture = models::find(model).unwrap();
            let config = settings(architecture, DataKind::Photographs, 3, &args).unwrap();
            config.finetune.head_lr
        };
        assert_eq!(head("resnet50", "--epochs 3"), Some(1e-3));
        assert_eq!(head("resnet18", ""), None);
        assert_eq!(head("resnet50", "--lr 0.01"), None);
        assert_eq!(head("resnet50", "--weights pretrained"), None);
        assert_eq!(head("resnet50", "--optimizer adamw --head-lr 0.5"), Some(0.5));
    }
}
