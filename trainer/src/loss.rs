//! The contrastive loss, with more than one right answer where captions allow it.
//!
//! CLIP's loss takes picture i and caption i as the only match in a batch. Among a few
//! hundred traffic scenes many captions are equal or fit several pictures ("a red sedan");
//! as in UniCL (Yang et al., CVPR 2022) all of them count as matches here, with equal shares.

use tch::{Kind, Tensor};

/// Cross entropy of pictures [N, D] against captions [M, D], both ways, averaged.
///
/// `matches` [N, M] holds 1 where a caption fits a picture and 0 elsewhere, at least one 1
/// in each row and column. `scale` multiplies the cosines. With the identity as `matches`
/// this is CLIP's loss.
pub fn contrastive(
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
