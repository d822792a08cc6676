//! `pgclip-train export`: a checkpoint, or published weights, as a model directory, through
//! `pgclip-export`.
//!
//! What the weights alone cannot tell is computed here: the mean of the model's text embeddings
//! over training captions, and whether ONNX Runtime and the trainer agree on what was written.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use pgclip_clip::model::ResizeMode;
use pgclip_export::Options;
use tch::{Device, Kind};

use crate::args::{ExportArgs, ExportPrecision};
use crate::config::{CONFIG_FILE, Config};
use crate::data::Labels;
use crate::model::{Clip, Precision};
use crate::params::Params;
use crate::weights::Weights;
use crate::{encode, tokens, verify};

/// Captions that make the mean; more change it by less than the embeddings' own rounding.
const MEAN_CAPTIONS: usize = 10_000;

/// Runs `pgclip-train export`.
pub fn run(args: &ExportArgs) -> Result<()> {
    let Weights { path: weights, config, params } = args.weights.read(Device::Cpu)?;
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
    // Described anew, so that a name or another description than the one beside will do.
    let described = tempfile::tempdir()?;
    let description = described.path().join(CONFIG_FILE);
    std::fs::write(&description, serde_json::to_string(&config)?)?;
    let summary = pgclip_export::export(&weights, Some(&description), &options, &args.out)
        .with_context(|| format!("cannot export {}", weights.display()))?;
    println!("{}: {} from {}", args.out.display(), summary.config.name, weights.display());
    let parameters = summary.parameters.unwrap_or_default();
    println!("{}, {parameters} parameters", summary.config.architecture);
    for (name, bytes) in &summary.files {
        println!("{name}: {bytes} bytes");
    }
    println!("digest {}", summary.digest);
    let Some(library) = verify::library() else {
        println!("not checked in ONNX Runtime: PGCLIP_ONNXRUNTIME names none");
        return Ok(());
    };
    let (image, text) = verify::cosines(&library, &args.out, &config, &params)?;
    println!("ONNX Runtime against the trainer: cosine of pictures {image:.6}, of texts {text:.6}");
    let least = if args.precision == ExportPrecision::Fp32 { 0.9999 } else { 0.999 };
    ensure!(
        image >= least && text >= least,
        "{}: what ONNX Runtime computes is not what the trainer computes",
        args.out.display()
    );
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
