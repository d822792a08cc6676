//! The model that a command is told to use: a checkpoint of ours or a run's last one, published
//! weights, or a model directory as the database has it.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use clap::Args;
use pgclip_export::{Architecture, Checkpoint};
use tch::Device;

use crate::checkpoint;
use crate::config::Config;
use crate::params::Params;

#[derive(Clone, Debug, Args)]
pub struct WeightsArgs {
    /// A checkpoint, a run (its last one), weights of open_clip's or Hugging Face's, or a model
    /// directory
    #[arg(value_name = "CHECKPOINT")]
    pub path: PathBuf,
    /// open_clip's name of the weights' architecture, or a file that describes it [default: what
    /// they came with]
    #[arg(long)]
    pub model: Option<String>,
    /// How pictures become square, if not as the model says: shortest crops, longest pads
    #[arg(long, value_name = "MODE", value_parser = ["shortest", "longest"])]
    pub image_resize_mode: Option<String>,
}

/// A model that was read.
#[derive(Debug)]
pub struct Weights {
    /// The file or folder that its weights are in.
    pub path: PathBuf,
    pub config: Config,
    pub params: Params,
}

impl WeightsArgs {
    /// Reads the model.
    pub fn read(&self, device: Device) -> Result<Weights> {
        let mut weights = match checkpoint::locate(&self.path) {
            Ok(folder) => {
                let own = self.model.is_none();
                ensure!(own, "a checkpoint has its own description: no --model");
                let (config, params) = checkpoint::load_model(&folder, device)?;
                Weights { path: folder.join(checkpoint::MODEL_FILE), config, params }
            }
            Err(_) => {
                let config = match &self.model {
                    Some(model) => Config::named_or_file(model)?,
                    None => described(&self.path)?,
                };
                let params = Params::load(&self.path, &config.model_cfg, device)?;
                Weights { path: self.path.clone(), config, params }
            }
        };
        if let Some(mode) = &self.image_resize_mode {
            weights.config.preprocess_cfg.resize_mode.clone_from(mode);
        }
        Ok(weights)
    }
}

/// The architecture that weights come with.
fn described(path: &Path) -> Result<Config> {
    let weights = Checkpoint::open(path)
        .with_context(|| format!("{} holds no checkpoint of ours either", path.display()))?;
    let architecture = Architecture::find(None, &weights)
        .context("--model names the architecture of weights that do not tell it")?;
    Config::try_from(&architecture)
}
