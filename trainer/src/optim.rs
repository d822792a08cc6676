//! AdamW with open_clip's split of parameters, and clipping by the gradient's norm.
//!
//! tch has `Optimizer`, but not its state, which a run that is to be resumed bit for bit
//! must save: so the few lines of AdamW (Loshchilov and Hutter, 2019, algorithm 2) are here.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use tch::{Device, Tensor, no_grad};

use crate::params::Params;

/// Settings that stay the same from step to step.
#[derive(Clone, Copy, Debug)]
pub struct Hyper {
    pub beta1: f64,
    pub beta2: f64,
    pub eps: f64,
    pub weight_decay: f64,
}

/// The optimiser's state: both moments of each parameter.
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
}

/// Whether weight decay applies: open_clip spares gains, biases and the logit scale.
pub fn decays(name: &str, tensor: &Tensor) -> bool {
    let spared = ["bn", "ln", "bias", "logit_scale"];
    tensor.dim() >= 2 && !spared.iter().any(|word| name.contains(word))
}

impl AdamW {
    /// Zero moments for every parameter.
    pub fn new(params: &Params, hyper: Hyper) -> Self {
        let moments = params
            .tensors
            .iter()
            .map(|(name, tensor)| {
                let moments = Moments {
                    mean: no_grad(|| tensor.zeros_like()),
                    square: no_grad(|| tensor.zeros_like()),
                    decays: decays(name, tensor),
                };
                (name.clone(), moments)
            })
            .collect();
        AdamW { hyper, steps: 0, moments }
    }

    /// One update; `gradients` in the order of `params.tensors`.
    pub fn step(&mut self, params: &mut Params, gradients: &[Tensor], rate: f64) {
        self.steps += 1;
        let Hyper { beta1, beta2, eps, weight_decay } = self.hyper;
        let power = self.steps.min(i32::MAX as u64) as i32;
        let correct1 = 1.0 - beta1.powi(power);
        let correct2 = (1.0 - beta2.powi(power)).sqrt();
        no_grad(|| {
            for ((name, tensor), gradient) in params.tensors.iter_mut().zip(gradients) {
                let Some(moments) = self.moments.get_mut(name) else { continue };
                if moments.decays {
                    let _ = tensor.g_mul_scalar_(1.0 - rate * weight_decay);
                }
                let _ = moments.mean.lerp_(gradient, 1.0 - beta1);
                let _ = moments.square.g_mul_scalar_(beta2);
                let _ = moments.square.g_add_(&(gradient * gradient * (1.0 - beta2)));
                let below = moments.square.sqrt() / correct2 + eps;
                let _ = tensor.g_sub_(&(&moments.mean / below * (rate / correct1)));
            }
        });
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
    pub fn load(path: &Path, params: &Params, hyper: Hyper, steps: u64) -> Result<Self> {
        let mut read: BTreeMap<String, Tensor> = Tensor::read_safetensors(path)
            .with_context(|| format!("cannot read the optimiser's state {}", path.display()))?
            .into_iter()
            .collect();
        let mut this = AdamW::new(params, hyper);
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

/// Scales the gradients down to the norm `limit` if theirs is larger; returns their norm.
pub fn clip_gradients(gradients: &mut [Tensor], limit: f64) -> f64 {
    no_grad(|| {
        let norms: Vec<Tensor> = gradients.iter().map(Tensor::norm).collect();
        let norm = Tensor::stack(&norms, 0).norm().double_value(&[]);
        if limit > 0.0 && norm > limit {
            for gradient in gradients.iter_mut() {
                let _ = gradient.g_mul_scalar_(limit / (norm + 1e-6));
            }
        }
        norm
    })
}
