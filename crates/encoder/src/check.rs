//! `check`: loads a model directory as the server would, encodes a probe with both towers,
//! and says what is there. Its own file because it is a command of its own.

use crate::confine::Confinement;
use crate::encode;
use crate::models::Models;
use crate::settings::EngineOptions;
use clap::Args;
use std::path::PathBuf;
use std::time::Instant;

#[derive(Args, Debug)]
pub struct CheckOptions {
    /// The model directory
    directory: PathBuf,

    #[command(flatten)]
    engine: EngineOptions,
}

pub fn run(options: &CheckOptions) -> anyhow::Result<()> {
    let models = Models::new(&options.engine, Confinement::none());
    let runtime = models.runtime.version()?;
    let start = Instant::now();
    let model = models.open(&options.directory.display().to_string())?;
    model.image()?;
    model.text()?;
    let loaded = start.elapsed();
    let start = Instant::now();
    encode::probe(&model)?;
    let probed = start.elapsed();

    let info = model.info();
    let digest: String = info.digest.iter().map(|byte| format!("{byte:02x}")).collect();
    println!("model           {} ({}, {})", info.name, info.architecture, info.precision);
    println!("digest          sha256:{digest}");
    println!("dimensions      {}", info.dimensions);
    println!("image           {0} x {0} pixels", info.image_size);
    println!("text            {} tokens", info.context_length);
    println!("logit scale     {}", info.logit_scale);
    println!("ONNX Runtime    {runtime}");
    println!("device          {}", info.device);
    println!("loaded in       {:.0} ms", loaded.as_secs_f64() * 1e3);
    println!("probe           {:.1} ms for one image and one text", probed.as_secs_f64() * 1e3);
    Ok(())
}
