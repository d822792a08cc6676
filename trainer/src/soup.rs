//! `pgclip-train soup`: one model out of the weights of several.
//!
//! Uniform soups (Wortsman et al., arXiv 2203.05482) average fine-tuned checkpoints of one
//! start; WiSE-FT (arXiv 2109.01903) goes part of the way from the start to the fine-tuned
//! model. Both are weighted sums of tensors, so they are one command.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use clap::Args;
use tch::{Device, Kind, no_grad};

use crate::checkpoint;
use crate::config::Config;
use crate::params::Params;

#[derive(Debug, Args)]
pub struct SoupArgs {
    /// Checkpoints, or runs (their last ones), to average
    #[arg(required = true)]
    pub checkpoints: Vec<PathBuf>,
    /// Checkpoint to write: for eval, infer, augment and export, and to start training from
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// What the checkpoints were fine-tuned from: WiSE-FT between it and their mean
    #[arg(long, value_name = "CHECKPOINT", requires = "alpha")]
    pub base: Option<PathBuf>,
    /// Share of the fine-tuned mean, from 0 (the base alone) to 1
    #[arg(long, requires = "base")]
    pub alpha: Option<f64>,
}

/// Runs `pgclip-train soup`.
pub fn run(args: &SoupArgs) -> Result<()> {
    let alpha = args.alpha.unwrap_or(1.0);
    ensure!((0.0..=1.0).contains(&alpha), "--alpha must be in [0, 1], not {alpha}");
    ensure!(
        args.checkpoints.len() > 1 || args.base.is_some(),
        "a soup of one checkpoint is that checkpoint: name more, or --base and --alpha"
    );
    let each = alpha / args.checkpoints.len() as f64;
    let base = args.base.iter().map(|path| (path.as_path(), 1.0 - alpha));
    let parts: Vec<(&Path, f64)> =
        args.checkpoints.iter().map(|path| (path.as_path(), each)).chain(base).collect();
    let (config, params) = mix(&parts)?;
    checkpoint::save_weights(&args.out, &config, &params)?;
    for (path, weight) in parts {
        println!("{weight:.4} × {}", path.display());
    }
    println!("{}: {} parameters", args.out.display(), params.count());
    Ok(())
}

/// The weighted sum of checkpoints; two of them are in memory at a time.
pub fn mix(parts: &[(&Path, f64)]) -> Result<(Config, Params)> {
    let mut sum: Option<(Config, Params, &Path)> = None;
    for &(path, weight) in parts {
        let (config, mut params) = checkpoint::load_model(&checkpoint::locate(path)?, Device::Cpu)?;
        let Some((first_config, first, first_path)) = &mut sum else {
            no_grad(|| {
                for tensor in params.tensors.values_mut() {
                    *tensor = tensor.to_kind(Kind::Double) * weight;
                }
            });
            sum = Some((config, params, path));
            continue;
        };
        let other = || format!("{} and {} do not mix", first_path.display(), path.display());
        ensure!(config == *first_config, "{}: their configurations differ", other());
        ensure!(params.token_rows == first.token_rows, "{}: their token tables differ", other());
        no_grad(|| {
            for (name, tensor) in &mut first.tensors {
                *tensor += params.get(name).to_kind(Kind::Double) * weight;
            }
        });
    }
    let (config, mut params, _) = sum.context("nothing to mix")?;
    no_grad(|| {
        for tensor in params.tensors.values_mut() {
            *tensor = tensor.to_kind(Kind::Float);
        }
    });
    Ok((config, params))
}
