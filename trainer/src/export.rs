//! `pgclip-train export`: a checkpoint as a model directory, through `pgclip-export`.
//!
//! What the checkpoint alone cannot tell is computed here: the mean of the model's text
//! embeddings over training captions.

use std::path::Path;

use anyhow::{Context, Result};
use pgclip_clip::model::ResizeMode;
use pgclip_export::Options;
use tch::{Device, Kind};

use crate::args::ExportArgs;
use crate::checkpoint;
use crate::config::{CONFIG_FILE, Config};
use crate::data::Labels;
use crate::model::{Clip, Precision};
use crate::params::Params;
use crate::{encode, tokens};

/// Captions that make the mean; more change it by less than the embeddings' own rounding.
const MEAN_CAPTIONS: usize = 10_000;

/// Runs `pgclip-train export`.
pub fn run(args: &ExportArgs) -> Result<()> {
    let folder = checkpoint::locate(&args.checkpoint)?;
    let (config, params) = checkpoint::load_model(&folder, Device::Cpu)?;
    let mean = match &args.mean_text {
        Some(path) => Some(mean_text_embedding(&config, &params, path)?),
        None => None,
    };
    let options = Options {
        name: Some(args.name.clone()),
        precision: args.precision.into(),
        resize: Some(if config.pads() { ResizeMode::Pad } else { ResizeMode::Crop }),
        mean_text_embedding: mean,
        overwrite: args.overwrite,
        ..Options::default()
    };
    let weights = folder.join(checkpoint::MODEL_FILE);
    let summary =
        pgclip_export::export(&weights, Some(&folder.join(CONFIG_FILE)), &options, &args.out)
            .with_context(|| format!("cannot export {}", folder.display()))?;
    println!("{}: {} from {}", args.out.display(), summary.config.name, folder.display());
    println!("{}, {} parameters", summary.config.architecture, summary.parameters);
    for (name, bytes) in &summary.files {
        println!("{name}: {bytes} bytes");
    }
    println!("digest {}", summary.digest);
    Ok(())
}

/// Mean of the embeddings of distinct captions, evenly picked from a label file.
fn mean_text_embedding(config: &Config, params: &Params, path: &Path) -> Result<Vec<f32>> {
    let labels = Labels::read(path, None)?;
    let text = &config.model_cfg.text_cfg;
    let every = labels.captions.len().div_ceil(MEAN_CAPTIONS);
    let rows: Vec<Vec<i64>> = labels
        .captions
        .iter()
        .step_by(every)
        .map(|caption| {
            let ids = tokens::tokenize(&caption.text, text.context_length as usize);
            tokens::to_rows(&ids, params.token_rows.as_deref())
        })
        .collect();
    let model = Clip::new(config, params, Precision::Fp32);
    let mean = encode::texts(&model, &rows, Device::Cpu).mean_dim(0i64, false, Kind::Float);
    let mut values = vec![0f32; mean.numel()];
    mean.copy_data(&mut values, mean.numel());
    Ok(values)
}
