//! Forward and backward passes of one batch in pieces, on all threads.
//!
//! A small model's products are too small to share one among cores, and cores that wait for
//! each other at every product lose much on a busy machine. So the batch is cut into pieces of
//! a fixed size, each encoded by one thread; the loss is computed on all embeddings at once;
//! then each piece goes backward alone (its embeddings' gradients are known by then). Sums run
//! in the order of the pieces: the result does not depend on the number of threads.

use anyhow::{Result, ensure};
use rayon::prelude::*;
use tch::{Device, Kind, Tensor};

use crate::batch::Batch;
use crate::encode::{ReadOnly, picture_tensor, rectangle};
use crate::loss::contrastive;
use crate::model::Clip;
use crate::params::Params;

/// Pictures or captions in a piece on the CPU.
const PIECE: usize = 64;

/// The loss of a batch with its gradients, in the order of `params.tensors`.
#[derive(Debug)]
pub struct Gradients {
    pub loss: f64,
    pub tensors: Vec<Tensor>,
}

/// What one thread does at a time.
enum Piece<'a> {
    /// [n, S, S, 3]
    Pictures(&'a [u8]),
    Captions(&'a [Vec<i64>]),
}

/// Loss and gradients of `batch`, whose pictures have the side `size`.
pub fn gradients(
    model: &Clip,
    params: &Params,
    batch: &Batch,
    size: usize,
    device: Device,
) -> Result<Gradients> {
    let piece = if device == Device::Cpu { PIECE } else { usize::MAX };
    let pieces = cut(batch, size, piece);
    let shared = ReadOnly(model);
    let encoded: Vec<Tensor> = pieces
        .par_iter()
        .with_max_len(1)
        .map(|piece| match piece {
            Piece::Pictures(bytes) => {
                shared.get().encode_bytes(&picture_tensor(bytes, size, device))
            }
            Piece::Captions(texts) => {
                let (rows, ends) = rectangle(texts, device);
                shared.get().encode_rows(&rows, &ends)
            }
        })
        .collect();

    let gather = |of_pictures: bool| {
        let of_kind: Vec<Tensor> = pieces
            .iter()
            .zip(&encoded)
            .filter(|(piece, _)| matches!(piece, Piece::Pictures(_)) == of_pictures)
            .map(|(_, tensor)| tensor.detach())
            .collect();
        Tensor::cat(&of_kind, 0).set_requires_grad(true)
    };
    let (pictures, captions) = (gather(true), gather(false)); // [N, D], [M, D]
    let matches = Tensor::from_slice(&batch.matches)
        .view([pictures.size()[0], captions.size()[0]])
        .to_device(device);
    let loss = contrastive(&pictures, &captions, &matches, &model.logit_scale.exp());
    let value = loss.double_value(&[]);
    ensure!(value.is_finite(), "the loss is {value}");
    let inputs = [&pictures, &captions, &model.logit_scale];
    let [of_pictures, of_captions, of_scale] =
        <[Tensor; 3]>::try_from(Tensor::run_backward(&[loss], &inputs, false, false))
            .expect("one gradient per input");

    let (mut at_picture, mut at_caption) = (0, 0);
    let upstream: Vec<Tensor> = pieces
        .iter()
        .zip(&encoded)
        .map(|(piece, tensor)| {
            let n = tensor.size()[0];
            let (all, at) = match piece {
                Piece::Pictures(_) => (&of_pictures, &mut at_picture),
                Piece::Captions(_) => (&of_captions, &mut at_caption),
            };
            *at += n;
            all.narrow(0, *at - n, n)
        })
        .collect();
    let towers = ReadOnly([named(params, false), named(params, true)]);
    let parts: Vec<Vec<Tensor>> = pieces
        .par_iter()
        .with_max_len(1)
        .zip(encoded)
        .zip(upstream)
        .map(|((piece, tensor), upstream)| {
            // The gradient of ⟨embedding, constant⟩ is that of the loss.
            let inner = (tensor * upstream).sum(Kind::Float);
            let tower = usize::from(matches!(piece, Piece::Pictures(_)));
            Tensor::run_backward(&[inner], &towers.get()[tower], false, false)
        })
        .collect();

    let mut sums: [Option<Vec<Tensor>>; 2] = [None, None];
    for (piece, part) in pieces.iter().zip(parts) {
        let slot = &mut sums[usize::from(matches!(piece, Piece::Pictures(_)))];
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
    Ok(Gradients { loss: value, tensors: merge(params, visual, textual, of_scale) })
}

/// Whether the image tower has the parameter of that name.
fn is_visual(name: &str) -> bool {
    name.starts_with("visual.")
}

/// The parameters of one tower, in order.
fn named(params: &Params, visual: bool) -> Vec<Tensor> {
    params
        .tensors
        .iter()
        .filter(|(name, _)| is_visual(name) == visual && *name != "logit_scale")
        .map(|(_, tensor)| tensor.shallow_clone())
        .collect()
}

/// Both towers' gradients and the scale's, in the order of `params.tensors`.
fn merge(
    params: &Params,
    mut visual: impl Iterator<Item = Tensor>,
    mut textual: impl Iterator<Item = Tensor>,
    scale: Tensor,
) -> Vec<Tensor> {
    let mut scale = Some(scale);
    params
        .tensors
        .keys()
        .filter_map(|name| match name.as_str() {
            "logit_scale" => scale.take(),
            name if is_visual(name) => visual.next(),
            _ => textual.next(),
        })
        .collect()
}

fn cut<'a>(batch: &'a Batch, size: usize, piece: usize) -> Vec<Piece<'a>> {
    let bytes = piece.saturating_mul(size * size * 3);
    let pictures = batch.pictures.chunks(bytes).map(Piece::Pictures);
    pictures.chain(batch.captions.chunks(piece).map(Piece::Captions)).collect()
}
