//! Forward and backward passes of one batch in pieces, on all threads.
//!
//! A small model's products are too small to share one among cores, and cores that wait for
//! each other at every product lose much on a busy machine. So the batch is cut into pieces of
//! a fixed size, each encoded by one thread; the loss is computed on all embeddings at once;
//! then each piece goes backward alone (its embeddings' gradients are known by then). Sums run
//! in the order of the pieces: the result does not depend on the number of threads.
//!
//! The same cut gives gradient accumulation with cached features: the first passes then keep
//! nothing, and each piece is encoded again before it goes backward.

use rand::seq::index;
use rayon::prelude::*;
use tch::{Device, Tensor};

use crate::batch::{Batch, generator};
use crate::config::Config;
use crate::encode::{ReadOnly, picture_tensor, rectangle};
use crate::loss;
use crate::model::{Clip, Input};
use crate::params::Params;
use crate::passes::{self, Encoded, Keep, Trained};

/// Pictures or captions in a piece on the CPU.
const PIECE: usize = 64;

/// How a batch is gone through.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Parts of a batch of which one at a time has its activations in memory.
    pub accum_freq: usize,
    /// Keep blocks' inputs only, and compute blocks again on the way back.
    pub checkpointing: bool,
    /// Share of patches thrown away.
    pub patch_dropout: f64,
    pub seed: u64,
}

/// The loss of a batch with its gradients, in the order of `params.trained()`.
#[derive(Debug)]
pub struct Gradients {
    /// A scalar on the model's device.
    pub loss: Tensor,
    pub tensors: Vec<Tensor>,
}

/// What one thread does at a time.
enum Piece<'a> {
    /// [n, S, S, 3], and the patches that are kept, [n, K].
    Pictures(&'a [u8], Option<Vec<i64>>),
    Captions(&'a [Vec<i64>]),
}

impl Piece<'_> {
    fn is_visual(&self) -> bool {
        matches!(self, Piece::Pictures(..))
    }

    fn input(&self, size: usize, device: Device) -> Input {
        match self {
            Piece::Pictures(bytes, kept) => {
                let bytes = picture_tensor(bytes, size, device);
                let kept = kept.as_ref().map(|kept| {
                    Tensor::from_slice(kept).view([bytes.size()[0], -1]).to_device(device)
                });
                Input::Pictures { bytes, kept }
            }
            Piece::Captions(texts) => {
                let (rows, ends) = rectangle(texts, device);
                Input::Texts { rows, ends }
            }
        }
    }
}

/// Loss and gradients of the batch of step `step`.
pub fn gradients(
    model: &Clip,
    params: &Params,
    config: &Config,
    plan: &Plan,
    batch: &Batch,
    step: u64,
) -> Gradients {
    let size = config.model_cfg.vision_cfg.image_size as usize;
    let device = model.logit_scale.device();
    let pieces = cut(batch, config, plan, step, device);
    let towers = ReadOnly([
        Trained::new(params, &config.model_cfg, false),
        Trained::new(params, &config.model_cfg, true),
    ]);
    let kept = if plan.checkpointing { Keep::Inputs } else { Keep::Graph };
    let shared = ReadOnly(model);
    let trained = |piece: &Piece<'_>| &towers.get()[usize::from(piece.is_visual())];
    let encoded: Vec<(Input, Encoded)> = pieces
        .par_iter()
        .with_max_len(1)
        .map(|piece| {
            let keep =
                if plan.accum_freq > 1 || trained(piece).is_empty() { Keep::Nothing } else { kept };
            let input = piece.input(size, device);
            let encoded = passes::forward(shared.get(), &input, keep);
            (input, encoded)
        })
        .collect();

    let gather = |visual: bool| {
        let of_kind: Vec<Tensor> = pieces
            .iter()
            .zip(&encoded)
            .filter(|(piece, _)| piece.is_visual() == visual)
            .map(|(_, (_, encoded))| encoded.embedding.detach())
            .collect();
        Tensor::cat(&of_kind, 0).set_requires_grad(true)
    };
    let (pictures, captions) = (gather(true), gather(false)); // [N, D], [M, D]
    let scale = model.logit_scale.exp();
    let loss = match &batch.matches {
        None => {
            let own = Tensor::from_slice(&batch.own).to_device(device);
            loss::clip(&pictures, &captions, &own, &scale)
        }
        Some(matches) => {
            let shape = [pictures.size()[0], captions.size()[0]];
            let matches = Tensor::from_slice(matches).view(shape).to_device(device);
            loss::multi_positive(&pictures, &captions, &matches, &scale)
        }
    };
    let inputs = [&pictures, &captions, &model.logit_scale];
    let [of_pictures, of_captions, of_scale] =
        <[Tensor; 3]>::try_from(Tensor::run_backward(&[&loss], &inputs, false, false))
            .expect("this is a bug: one gradient per input");
    // open_clip goes through the whole loss once for each part of the batch, and the scale takes
    // part in each: its gradient is that many times the loss's own.
    let of_scale = of_scale * plan.accum_freq as f64;

    let (mut at_picture, mut at_caption) = (0, 0);
    let upstream: Vec<Tensor> = pieces
        .iter()
        .zip(&encoded)
        .map(|(piece, (_, encoded))| {
            let n = encoded.embedding.size()[0];
            let (all, at) = if piece.is_visual() {
                (&of_pictures, &mut at_picture)
            } else {
                (&of_captions, &mut at_caption)
            };
            *at += n;
            all.narrow(0, *at - n, n)
        })
        .collect();
    let parts: Vec<Vec<Tensor>> = pieces
        .par_iter()
        .with_max_len(1)
        .zip(encoded)
        .zip(upstream)
        .map(|((piece, (input, encoded)), upstream)| {
            let (model, trained) = (shared.get(), trained(piece));
            if trained.is_empty() {
                return Vec::new();
            }
            let encoded = match plan.accum_freq {
                0 | 1 => encoded,
                _ => passes::forward(model, &input, kept),
            };
            passes::backward(model, trained, &input, encoded, &upstream)
        })
        .collect();

    let mut sums: [Option<Vec<Tensor>>; 2] = [None, None];
    for (piece, part) in pieces.iter().zip(parts) {
        let slot = &mut sums[usize::from(piece.is_visual())];
        match slot {
            None => *slot = Some(part),
            Some(sum) => {
                for (sum, part) in sum.iter_mut().zip(part) {
                    let _ = sum.g_add_(&part);
                }
            }
        }
    }
    let [textual, visual] = sums.map(|sum| sum.unwrap_or_default().into_iter());
    Gradients { loss: loss.detach(), tensors: merge(params, visual, textual, of_scale) }
}

/// Both towers' gradients and the scale's, in the order of `params.trained()`.
fn merge(
    params: &Params,
    mut visual: impl Iterator<Item = Tensor>,
    mut textual: impl Iterator<Item = Tensor>,
    scale: Tensor,
) -> Vec<Tensor> {
    let mut scale = Some(scale);
    params
        .trained()
        .filter_map(|(name, _)| match name {
            "logit_scale" => scale.take(),
            name if name.starts_with("visual.") => visual.next(),
            _ => textual.next(),
        })
        .collect()
}

fn cut<'a>(
    batch: &'a Batch,
    config: &Config,
    plan: &Plan,
    step: u64,
    device: Device,
) -> Vec<Piece<'a>> {
    let vision = &config.model_cfg.vision_cfg;
    let stride = (vision.image_size * vision.image_size * 3) as usize;
    let part = batch.own.len().div_ceil(plan.accum_freq).max(1);
    let piece = if device == Device::Cpu { part.min(PIECE) } else { part };
    let patches = (vision.image_size / vision.patch_size).pow(2) as usize;
    let kept = ((patches as f64 * (1.0 - plan.patch_dropout)) as usize).max(1);
    let mut rng = generator(plan.seed, 3, step);
    let mut draw = |pictures: usize| {
        (kept < patches).then(|| {
            let one = |_| index::sample(&mut rng, patches, kept).into_iter().map(|at| at as i64);
            (0..pictures).flat_map(one).collect()
        })
    };
    let pictures = batch.pictures.chunks(piece * stride);
    let pictures = pictures.map(|bytes| Piece::Pictures(bytes, draw(bytes.len() / stride)));
    pictures.chain(batch.captions.chunks(piece).map(Piece::Captions)).collect()
}
