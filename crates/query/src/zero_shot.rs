//! Zero-shot classification: which of some labels fits an image best, by CLIP's own softmax over
//! cosine similarities (Radford et al., arXiv 2103.00020, sections 3.1.2 and 3.1.4). A label with
//! several prompts is the mean of their embeddings.

/// The mean direction of embeddings of equal length, of unit length. All zeros where there is none.
pub fn ensemble<'a>(embeddings: impl IntoIterator<Item = &'a [f32]>) -> Vec<f32> {
    let mut sum: Vec<f32> = Vec::new();
    for embedding in embeddings {
        sum.resize(embedding.len().max(sum.len()), 0.0);
        let norm = norm(embedding);
        if norm > 0.0 {
            sum.iter_mut().zip(embedding).for_each(|(sum, x)| *sum += x / norm);
        }
    }
    let norm = norm(&sum);
    if norm > 0.0 {
        sum.iter_mut().for_each(|x| *x /= norm);
    }
    sum
}

/// Probabilities of labels, which add up to 1; `labels` are of unit length. An image of zeros, which
/// has no direction, fits all labels equally.
pub fn probabilities(image: &[f32], labels: &[Vec<f32>], logit_scale: f32) -> Vec<f64> {
    let logits = logits(image, labels, logit_scale);
    let most = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let weights: Vec<f64> = logits.iter().map(|logit| (logit - most).exp()).collect();
    let sum: f64 = weights.iter().sum();
    weights.into_iter().map(|weight| weight / sum).collect()
}

/// Probability of each label by itself, by the sigmoid of SigLIP (Zhai et al., arXiv 2303.15343): they
/// need not add up to 1. An image of zeros is as far from all labels as a right angle.
pub fn each_by_itself(
    image: &[f32],
    labels: &[Vec<f32>],
    logit_scale: f32,
    logit_bias: f32,
) -> Vec<f64> {
    let sigmoid = |logit: f64| 1.0 / (1.0 + (-logit - f64::from(logit_bias)).exp());
    logits(image, labels, logit_scale).into_iter().map(sigmoid).collect()
}

/// Cosines times the scale; 0 for an image of zeros.
fn logits(image: &[f32], labels: &[Vec<f32>], logit_scale: f32) -> Vec<f64> {
    let norm = f64::from(norm(image));
    let logit = |label: &Vec<f32>| {
        let dot: f64 = image.iter().zip(label).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
        if norm > 0.0 { f64::from(logit_scale) * dot / norm } else { 0.0 }
    };
    labels.iter().map(logit).collect()
}

fn norm(vector: &[f32]) -> f32 {
    let squares: f64 = vector.iter().map(|x| f64::from(*x) * f64::from(*x)).sum();
    squares.sqrt() as f32
}

#[cfg(test)]
mod tests {
    use super::{each_by_itself, ensemble, probabilities};

    /// SigLIP's example: with its bias an image that no label fits gets no high probability.
    #[test]
    fn a_sigmoid_judges_each_label_by_itself() {
        let labels = [vec![1.0, 0.0], vec![0.0, 1.0], vec![-1.0, 0.0]];
        let got = each_by_itself(&[2.0, 0.0], &labels, 10.0, -4.0);
        let expected = [6.0f64, -4.0, -14.0].map(|logit| 1.0 / (1.0 + (-logit).exp()));
        for (got, expected) in got.iter().zip(expected) {
            assert!((got - expected).abs() < 1e-12, "{got} {expected}");
        }
        assert!(each_by_itself(&[0.0, 0.0], &labels, 10.0, -4.0).iter().all(|p| *p < 0.02));
        assert!(each_by_itself(&[1.0, 0.0], &labels, 1e38, -1e38).iter().all(|p| p.is_finite()));
    }

    #[test]
    fn an_ensemble_is_the_mean_of_directions() {
        let of = |vectors: &[&[f32]]| ensemble(vectors.iter().copied());
        let got = of(&[&[3.0, 0.0], &[0.0, 0.5]]);
        assert!((got[0] - 0.5_f32.sqrt()).abs() < 1e-6 && (got[1] - got[0]).abs() < 1e-6);
        assert_eq!(of(&[&[0.0, 0.0], &[0.0, 2.0]]), [0.0, 1.0]);
        assert_eq!(of(&[&[1.0, 0.0], &[-1.0, 0.0]]), [0.0, 0.0]);
        assert_eq!(of(&[]), []);
    }

    #[test]
    fn probabilities_are_a_softmax_of_scaled_cosines() {
        let labels = [vec![1.0, 0.0], vec![0.0, 1.0]];
        let got = probabilities(&[3.0, 4.0], &labels, 10.0);
        // Cosines 0.6 and 0.8: logits 6 and 8.
        let want = 1.0 / (1.0 + f64::exp(2.0));
        assert!((got[0] - want).abs() < 1e-6 && (got[0] + got[1] - 1.0).abs() < 1e-12);
        assert_eq!(probabilities(&[0.0, 0.0], &labels, 100.0), [0.5, 0.5]);
        assert_eq!(probabilities(&[1.0, 0.0], &labels[..1], 100.0), [1.0]);
        assert!(probabilities(&[1.0, 0.0], &[], 100.0).is_empty());
        // Logits far apart neither overflow nor vanish into NaN.
        let far = probabilities(&[1.0, 0.0], &[vec![1.0, 0.0], vec![-1.0, 0.0]], 1e30);
        assert_eq!(far, [1.0, 0.0]);
    }
}
