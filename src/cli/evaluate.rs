//! `convzoo eval --weights FILE`

use std::path::PathBuf;
use std::process::ExitCode;

use candle_core::Device;
use clap::Args;

use super::args::RunArgs;
use super::run;
use crate::weights;

#[derive(Args)]
pub struct EvalArgs {
    /// The network [default: what the weight file says]
    #[arg(long)]
    model: Option<String>,
    #[command(flatten)]
    run: RunArgs,
}

pub fn eval(args: EvalArgs) -> anyhow::Result<ExitCode> {
    let Some(path) = args.run.weights.clone() else {
        anyhow::bail!("say which weights to measure with --weights FILE");
    };
    let model = match args.model {
        Some(model) => model,
        None => architecture(path)?,
    };
    run::run(&model, RunArgs { eval: true, ..args.run })
}

fn architecture(path: PathBuf) -> crate::Result<String> {
    Ok(weights::load(&path, &Device::Cpu)?.metadata()?.architecture.clone())
}
