//! `convzoo eval --weights FILE`

use std::process::ExitCode;

use candle_core::Device;
use clap::Args;

use super::args::RunArgs;
use super::run;
use crate::weights::{self, WeightSource};

#[derive(Args)]
pub struct EvalArgs {
    /// The network [default: what the weight file says]. Weights in a run's folder are measured on its
    /// pictures, unless --dataset says others
    #[arg(long)]
    model: Option<String>,
    #[command(flatten)]
    run: RunArgs,
}

pub fn eval(args: EvalArgs) -> anyhow::Result<ExitCode> {
    let Some(weights) = args.run.weights.clone() else {
        anyhow::bail!("say which weights to measure with --weights FILE");
    };
    let model = match args.model {
        Some(model) => model,
        None => architecture(&weights, args.run.mirror.as_deref())?,
    };
    run::run(&model, RunArgs { eval: true, ..args.run })
}

/// The network that weights are for.
fn architecture(weights: &str, mirror: Option<&str>) -> crate::Result<String> {
    let path = WeightSource::parse(weights)?.fetch(None, mirror)?;
    let file = weights::load(&path, &Device::Cpu)?.described(None)?;
    Ok(file.metadata()?.architecture.clone())
}
