//! The contrastive loss: CLIP's, and one with more than one right answer.
//!
//! CLIP's takes picture i and its caption as the only match in a batch. Among a few hundred
//! traffic scenes many captions are equal or fit several pictures ("a red sedan"); as in UniCL
//! (Yang et al., CVPR 2022) all of them can count as matches, with equal shares.

use tch::{Kind, Tensor};

/// Cross entropy of pictures [N, D] against captions [N, D], both ways, averaged; the caption
/// `own[i]` [N] is picture i's, and every other is not. `scale` multiplies the cosines.
pub fn clip(pictures: &Tensor, captions: &Tensor, own: &Tensor, scale: &Tensor) -> Tensor {
    let logits = (pictures * scale).matmul(&captions.transpose(0, 1)); // [N, N]
    let at = own.unsqueeze(1); // [N, 1]
    let by_picture = logits.log_softmax(1, Kind::Float).gather(1, &at, false).mean(Kind::Float);
    let by_caption = logits.log_softmax(0, Kind::Float).gather(1, &at, false).mean(Kind::Float);
    (by_picture + by_caption) * -0.5
}

/// Cross entropy of pictures [N, D] against captions [M, D], both ways, averaged.
///
/// `matches` [N, M] holds 1 where a caption fits a picture and 0 elsewhere, at least one 1
/// in each row and column. `scale` multiplies the cosines. With the identity as `matches`
/// this is [`clip`].
pub fn multi_positive(
    pictures: &Tensor,
    captions: &Tensor,
    matches: &Tensor,
    scale: &Tensor,
) -> Tensor {
    let logits = pictures.matmul(&captions.transpose(0, 1)) * scale; // [N, M]
    let rows = share(matches, 1);
    let columns = share(matches, 0);
    let by_picture = (rows * logits.log_softmax(1, Kind::Float)).sum(Kind::Float);
    let by_caption = (columns * logits.log_softmax(0, Kind::Float)).sum(Kind::Float);
    let (n, m) = (matches.size()[0] as f64, matches.size()[1] as f64);
    (by_picture / n + by_caption / m) * -0.5
}

/// `matches` scaled so that it sums to 1 along `dim`.
fn share(matches: &Tensor, dim: i64) -> Tensor {
    matches / matches.sum_dim_intlist(&[dim][..], true, Kind::Float).clamp_min(1.0)
}
