//! One step of training: passes, clipping, update, bounds.
//!
//! Apart from the loop around it (`train`), so that tests hold it to open_clip's numbers and the
//! bench times it with no data, log or checkpoint in the way.

use anyhow::{Result, ensure};
use clap::Args;
use tch::{Device, Tensor, no_grad};

use crate::batch::Batch;
use crate::config::Config;
use crate::layers::Locks;
use crate::model::{Clip, Precision};
use crate::optim::{AdamW, Hyper, clip_gradients};
use crate::parallel::{self, Gradients, Plan};
use crate::params::Params;
use crate::torch;

/// Upper bound of the logarithm of the logit scale, as in CLIP.
const MAX_LOGIT_SCALE: f64 = 4.605_170_185_988_092; // ln 100

/// Options of a step, with open_clip's names where it has them.
#[derive(Clone, Debug, Args)]
pub struct LearnArgs {
    #[arg(long, default_value_t = 0.9)]
    pub beta1: f64,
    #[arg(long, default_value_t = 0.98)]
    pub beta2: f64,
    #[arg(long, default_value_t = 1e-6)]
    pub eps: f64,
    /// Weight decay; gains, biases and the logit scale are spared
    #[arg(long, default_value_t = 0.01)]
    pub wd: f64,
    /// Largest norm of the gradients; 0: no limit
    #[arg(long, default_value_t = 0.0)]
    pub grad_clip_norm: f64,
    #[arg(long, value_enum, default_value_t = Precision::Bf16)]
    pub precision: Precision,
    /// Update once in so many batches, with the loss over all of them
    #[arg(long, default_value_t = 1)]
    pub accum_freq: usize,
    /// Compute blocks again on the way back instead of keeping their activations
    #[arg(long)]
    pub grad_checkpointing: bool,
    /// Share of a picture's patches to throw away while training
    #[arg(long, default_value_t = 0.0, value_name = "SHARE")]
    pub force_patch_dropout: f64,
    /// Keep the image tower as it is
    #[arg(long)]
    pub lock_image: bool,
    /// But for its last N groups of layers (1: the projection, 2: and the last block, …)
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub lock_image_unlocked_groups: usize,
    /// Keep the text tower as it is
    #[arg(long)]
    pub lock_text: bool,
    /// But for its last N groups of layers
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub lock_text_unlocked_layers: usize,
    /// Factor on the learning rate for each layer towards the input
    #[arg(long, default_value_t = 1.0, value_name = "FACTOR")]
    pub layer_decay: f64,
    /// Count every caption of a batch that fits a picture as a match, not its own alone
    #[arg(long)]
    pub multi_positive: bool,
    /// Keep pictures that share a caption out of one batch
    #[arg(long)]
    pub unique_captions: bool,
}

impl LearnArgs {
    /// Refuses settings that cannot work.
    pub fn check(&self) -> Result<()> {
        for (name, beta) in [("--beta1", self.beta1), ("--beta2", self.beta2)] {
            ensure!((0.0..1.0).contains(&beta), "{name} {beta} is not in [0, 1)");
        }
        for (name, value) in
            [("--eps", self.eps), ("--wd", self.wd), ("--grad-clip-norm", self.grad_clip_norm)]
        {
            ensure!(value.is_finite() && value >= 0.0, "{name} {value} is negative or no number");
        }
        ensure!((1..=1 << 20).contains(&self.accum_freq), "--accum-freq must be at least 1");
        ensure!(
            (0.0..1.0).contains(&self.force_patch_dropout),
            "--force-patch-dropout {} is not in [0, 1)",
            self.force_patch_dropout
        );
        ensure!(
            self.layer_decay > 0.0 && self.layer_decay <= 1.0,
            "--layer-decay {} is not in (0, 1]",
            self.layer_decay
        );
        Ok(())
    }

    pub fn hyper(&self) -> Hyper {
        Hyper {
            beta1: self.beta1,
            beta2: self.beta2,
            eps: self.eps,
            weight_decay: self.wd,
            layer_decay: self.layer_decay,
        }
    }

    pub fn locks(&self) -> Locks {
        Locks {
            image: self.lock_image.then_some(self.lock_image_unlocked_groups),
            text: self.lock_text.then_some(self.lock_text_unlocked_layers),
        }
    }

    /// What a run's later steps depend on, by name.
    pub fn settings(&self) -> Vec<(&'static str, String)> {
        vec![
            ("beta1", self.beta1.to_string()),
            ("beta2", self.beta2.to_string()),
            ("eps", self.eps.to_string()),
            ("wd", self.wd.to_string()),
            ("grad_clip_norm", self.grad_clip_norm.to_string()),
            ("precision", format!("{:?}", self.precision)),
            ("accum_freq", self.accum_freq.to_string()),
            ("force_patch_dropout", self.force_patch_dropout.to_string()),
            ("locks", format!("{:?}", self.locks())),
            ("layer_decay", self.layer_decay.to_string()),
            ("multi_positive", self.multi_positive.to_string()),
            ("unique_captions", self.unique_captions.to_string()),
        ]
    }
}

/// What a step tells: scalars on the model's device, so that reading them, which waits for the
/// device, can be left for later.
#[derive(Debug)]
pub struct Stats {
    pub loss: Tensor,
    /// Norm of the gradients before clipping.
    pub norm: Tensor,
}

/// A model with its optimiser.
#[derive(Debug)]
pub struct Learner {
    pub config: Config,
    pub params: Params,
    pub optimizer: AdamW,
    pub model: Clip,
    plan: Plan,
    grad_clip_norm: f64,
}

impl Learner {
    /// A learner at its first step; locks what is to be locked.
    pub fn new(config: Config, mut params: Params, args: &LearnArgs, seed: u64) -> Self {
        args.locks().apply(&mut params, &config.model_cfg);
        let optimizer = AdamW::new(&params, &config.model_cfg, args.hyper());
        Self::resume(config, params, optimizer, args, seed)
    }

    /// A learner that goes on with an optimiser's state.
    pub fn resume(
        config: Config,
        params: Params,
        optimizer: AdamW,
        args: &LearnArgs,
        seed: u64,
    ) -> Self {
        let model = Clip::new(&config, &params, args.precision);
        let plan = Plan {
            accum_freq: args.accum_freq,
            checkpointing: args.grad_checkpointing,
            patch_dropout: args.force_patch_dropout,
            seed,
        };
        Learner { config, params, optimizer, model, plan, grad_clip_norm: args.grad_clip_norm }
    }

    pub fn device(&self) -> Device {
        self.model.logit_scale.device()
    }

    /// Loss and gradients of a batch, with no update.
    pub fn gradients(&self, batch: &Batch, step: u64) -> Result<Gradients> {
        torch::catching(|| {
            parallel::gradients(&self.model, &self.params, &self.config, &self.plan, batch, step)
        })
    }

    /// One update, at the learning rate `rate`.
    pub fn step(&mut self, batch: &Batch, step: u64, rate: f64) -> Result<Stats> {
        let Gradients { loss, tensors: mut gradients } = self.gradients(batch, step)?;
        torch::catching(|| {
            let norm = clip_gradients(&mut gradients, self.grad_clip_norm);
            self.optimizer.step(&mut self.params, &gradients, rate)?;
            no_grad(|| {
                let mut scale = self.params.get("logit_scale");
                let _ = scale.clamp_(0.0, MAX_LOGIT_SCALE);
            });
            Ok(Stats { loss, norm })
        })?
    }
}
