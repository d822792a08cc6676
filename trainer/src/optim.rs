//! AdamW with open_clip's split of parameters, and clipping by the gradient's norm.
//!
//! tch has `Optimizer`, but not its state, which a run that is to be resumed bit for bit must
//! save, and not PyTorch's fused kernel, which is called here through `shim`.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use rayon::prelude::*;
use tch::{Device, Kind, Tensor, no_grad};

use crate::config::ModelConfig;
use crate::encode::ReadOnly;
use crate::layers::rate_factor;
use crate::params::Params;
use crate::shim::{self, Lists, Update};

/// Parameters that a thread updates at a time on the CPU.
const CHUNK: usize = 8;

/// Settings that stay the same from step to step.
#[derive(Clone, Copy, Debug)]
pub struct Hyper {
    pub beta1: f64,
    pub beta2: f64,
    pub eps: f64,
    pub weight_decay: f64,
    /// Factor on the learning rate for each layer towards the input; 1: the same for all.
    pub layer_decay: f64,
}

/// The optimiser's state: both moments of each trained parameter.
#[derive(Debug)]
pub struct AdamW {
    hyper: Hyper,
    /// Steps done so far.
    steps: u64,
    moments: BTreeMap<String, Moments>,
}

#[derive(Debug)]
struct Moments {
    mean: Tensor,
    square: Tensor,
    decays: bool,
    /// Factor on the learning rate.
    factor: f64,
}

/// Whether weight decay applies: open_clip spares gains, biases and the logit scale.
pub fn decays(name: &str, tensor: &Tensor) -> bool {
    let spared = ["bn", "ln", "bias", "logit_scale"];
    tensor.dim() >= 2 && !spared.iter().any(|word| name.contains(word))
}

impl AdamW {
    /// Zero moments for every trained parameter.
    pub fn new(params: &Params, config: &ModelConfig, hyper: Hyper) -> Self {
        let moments = params
            .trained()
            .map(|(name, tensor)| {
                let moments = Moments {
                    mean: no_grad(|| tensor.zeros_like()),
                    square: no_grad(|| tensor.zeros_like()),
                    decays: decays(name, tensor),
                    factor: rate_factor(name, config, hyper.layer_decay),
                };
                (name.to_owned(), moments)
            })
            .collect();
        AdamW { hyper, steps: 0, moments }
    }

    /// One update; `gradients` in the order of `params.trained()`, at the learning rate `rate`.
    pub fn step(&mut self, params: &mut Params, gradients: &[Tensor], rate: f64) -> Result<()> {
        self.steps += 1;
        let gradients: Vec<Tensor> = gradients.iter().map(Tensor::contiguous).collect();
        // Parameters of the same decay and rate are updated together.
        let mut groups: BTreeMap<(bool, u64), Lists<'_>> = BTreeMap::new();
        for ((name, parameter), gradient) in params.trained().zip(&gradients) {
            let Some(moments) = self.moments.get(name) else {
                bail!("this is a bug: the optimiser does not know {name}");
            };
            let lists = groups.entry((moments.decays, moments.factor.to_bits())).or_default();
            lists.parameters.push(parameter);
            lists.gradients.push(gradient);
            lists.means.push(&moments.mean);
            lists.squares.push(&moments.square);
        }
        let device = params.get("logit_scale").device();
        let step = Tensor::full([], self.steps as f64, (Kind::Float, device));
        let Hyper { beta1, beta2, eps, weight_decay, .. } = self.hyper;
        for ((decays, factor), lists) in groups {
            let weight_decay = if decays { weight_decay } else { 0.0 };
            let rate = rate * f64::from_bits(factor);
            let update = Update { rate, beta1, beta2, weight_decay, eps };
            if device != Device::Cpu {
                shim::fused_adamw(&lists, &step, update)?;
                continue;
            }
            let shared = ReadOnly((lists, &step));
            let count = shared.get().0.parameters.len();
            (0..count.div_ceil(CHUNK)).into_par_iter().try_for_each(|chunk| {
                let (lists, step) = shared.get();
                let range = chunk * CHUNK..((chunk + 1) * CHUNK).min(count);
                let part = Lists {
                    parameters: lists.parameters[range.clone()].to_vec(),
                    gradients: lists.gradients[range.clone()].to_vec(),
                    means: lists.means[range.clone()].to_vec(),
                    squares: lists.squares[range].to_vec(),
                };
                shim::fused_adamw(&part, step, update)
            })?;
        }
        Ok(())
    }

    /// Writes both moments as `exp_avg.NAME` and `exp_avg_sq.NAME`.
    pub fn save(&self, path: &Path) -> Result<()> {
        let mut named = Vec::new();
        for (name, moments) in &self.moments {
            named.push((format!("exp_avg.{name}"), moments.mean.to_device(Device::Cpu)));
            named.push((format!("exp_avg_sq.{name}"), moments.square.to_device(Device::Cpu)));
        }
        Tensor::write_safetensors(&named, path)
            .with_context(|| format!("cannot write {}", path.display()))
    }

    /// Reads what [`AdamW::save`] wrote after `steps` steps.
    pub fn load(
        path: &Path,
        params: &Params,
        config: &ModelConfig,
        hyper: Hyper,
        steps: u64,
    ) -> Result<Self> {
        let mut read: BTreeMap<String, Tensor> = Tensor::read_safetensors(path)
            .with_context(|| format!("cannot read the optimiser's state {}", path.display()))?
            .into_iter()
            .collect();
        let mut this = AdamW::new(params, config, hyper);
        this.steps = steps;
        for (name, moments) in &mut this.moments {
            for (prefix, target) in
                [("exp_avg", &mut moments.mean), ("exp_avg_sq", &mut moments.square)]
            {
                let Some(tensor) = read.remove(&format!("{prefix}.{name}")) else {
                    bail!("{} lacks the tensor {prefix}.{name}", path.display());
                };
                ensure!(
                    tensor.size() == target.size(),
                    "{}: {prefix}.{name} has the shape {:?}, not {:?}",
                    path.display(),
                    tensor.size(),
                    target.size()
                );
                target.copy_(&tensor);
            }
        }
        Ok(this)
    }
}

/// Scales the gradients down to the norm `limit` if theirs is larger, as torch's
/// `clip_grad_norm_`; 0: no limit. Returns their norm, a scalar on their device: nothing waits.
pub fn clip_gradients(gradients: &mut [Tensor], limit: f64) -> Tensor {
    no_grad(|| {
        let norms: Vec<Tensor> = gradients.iter().map(Tensor::norm).collect();
        let norm = Tensor::stack(&norms, 0).norm();
        if limit > 0.0 {
            let factor = ((&norm + 1e-6).reciprocal() * limit).clamp_max(1.0);
            for gradient in gradients.iter_mut() {
                let _ = gradient.g_mul_(&factor);
            }
        }
        norm
    })
}
