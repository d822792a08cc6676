//! Adaption re-ranking of a search's candidates, after A3R (Yang et al., arXiv 2306.06691).
//!
//! A text's embedding lies apart from those of images, so it cannot be an image's neighbour. The
//! best candidates make an *adapted query* among the images; then candidates go by how near they
//! are to it, by how many *k-reciprocal neighbours* they share with it (Zhong et al., arXiv
//! 1701.08398), and by their own scores. Two are reciprocal when each is among the k nearest of the
//! other.
//!
//! The result is a permutation of the candidates for any input whatsoever, and the same one on any
//! machine. The cost grows with candidates² × dimensions; nothing else is looked at.

use std::cmp::Ordering;

use crate::matrix::{dot, first_component, normalise};

/// How the best candidates become the adapted query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Adaption {
    /// The first principal component of the candidates, weighted by their min-max-scaled scores.
    Component,
    /// Their mean, weighted likewise.
    WeightedMean,
    /// Their plain mean.
    Mean,
}

impl Adaption {
    /// The names that users give, each with what it means.
    pub const NAMES: [(&str, Self); 3] = [
        ("adaption", Self::Component),
        ("adaption_weighted_mean", Self::WeightedMean),
        ("adaption_mean", Self::Mean),
    ];

    /// By its name; none where there is no such adaption.
    pub fn named(name: &str) -> Option<Self> {
        Self::NAMES.iter().find(|(known, _)| *known == name).map(|&(_, adaption)| adaption)
    }
}

/// What re-ranking can be told.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Options {
    pub adaption: Adaption,
    /// How many of the best candidates make the adapted query, at least 1.
    pub best: usize,
    /// How many nearest neighbours count, beside oneself; at least 1.
    pub neighbours: usize,
    /// Weight of the shared neighbours, from 0 to 1; the rest is that of the similarity to the
    /// adapted query.
    pub shared: f32,
    /// Weight of the min-max-scaled score, from 0 to 1, beside both of these. 0 is A3R's way, and
    /// finds less where most of the best candidates are wrong.
    pub text: f32,
}

impl Default for Options {
    fn default() -> Self {
        Self { adaption: Adaption::Component, best: 10, neighbours: 5, shared: 0.5, text: 0.5 }
    }
}

/// The candidates' new order, as indices, the best first.
///
/// `embeddings` is [n, dims], row by row, of any lengths; `scores` [n] are the candidates'
/// similarities to the text, in any order. Where the new measure makes no difference, scores and
/// then indices decide. What is no finite number counts as 0 in an embedding, as the least score in
/// `scores`.
///
/// # Panics
/// If `embeddings` does not have `scores.len() * dims` elements.
pub fn rerank(embeddings: &[f32], dims: usize, scores: &[f32], options: &Options) -> Vec<usize> {
    rerank_polling(embeddings, dims, scores, options, || ())
}

/// The same, calling `poll` once a candidate, that is after at most candidates × dimensions steps: it
/// may end the work by unwinding.
///
/// # Panics
/// As [`rerank`].
pub fn rerank_polling(
    embeddings: &[f32],
    dims: usize,
    scores: &[f32],
    options: &Options,
    poll: impl FnMut(),
) -> Vec<usize> {
    let n = scores.len();
    assert_eq!(embeddings.len(), n * dims, "{n} candidates of {dims} dimensions");
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by(|&a, &b| descending(least(scores[a]), least(scores[b])).then(a.cmp(&b)));
    if n < 2 || dims == 0 {
        return order;
    }
    let mut rows = embeddings.to_vec();
    rows.chunks_exact_mut(dims).for_each(normalise);
    let best = &order[..options.best.clamp(1, n)];
    rows.extend(adapted(&rows, dims, scores, best, options.adaption));
    // The query is the last of n + 1 nodes.
    let nodes = n + 1;
    let similarity = similarities(&rows, dims, nodes, poll);
    let weights = reciprocal(&similarity, nodes, options.neighbours.max(1));
    let row = |node: usize| &weights[node * nodes..][..nodes];
    let scaled = min_max(scores.iter().copied());
    let between = |weight: f32, one: f32, other: f32| (1.0 - weight) * one + weight * other;
    let measure: Vec<f32> = (0..n)
        .map(|at| {
            let near = similarity[n * nodes + at];
            let image = between(options.shared.clamp(0.0, 1.0), near, overlap(row(n), row(at)));
            between(options.text.clamp(0.0, 1.0), image, scaled[at] as f32)
        })
        .collect();
    // Stable, so equals stay in the order of their scores.
    order.sort_by(|&a, &b| descending(measure[a], measure[b]));
    order
}

fn descending(a: f32, b: f32) -> Ordering {
    b.partial_cmp(&a).unwrap_or(Ordering::Equal)
}

/// A score to sort by: what is none comes last.
fn least(score: f32) -> f32 {
    if score.is_nan() { f32::NEG_INFINITY } else { score }
}

/// Scores scaled so that the least is 0 and the largest 1; ones where all are equal, 0 for NaN.
fn min_max(scores: impl Iterator<Item = f32>) -> Vec<f64> {
    let bound = |score: f32| least(score).clamp(f32::MIN, f32::MAX);
    let scores: Vec<f64> = scores.map(|score| bound(score).into()).collect();
    let min = scores.iter().copied().fold(f64::INFINITY, f64::min);
    let max = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    match max > min {
        true => scores.iter().map(|score| (score - min) / (max - min)).collect(),
        false => vec![1.0; scores.len()],
    }
}

/// The adapted query [dims], of length 1: made of the candidates `best`, unit rows of `rows`.
/// Zeros where they have no direction together.
fn adapted(
    rows: &[f32],
    dims: usize,
    scores: &[f32],
    best: &[usize],
    adaption: Adaption,
) -> Vec<f32> {
    let weights = match adaption {
        Adaption::Mean => vec![1.0; best.len()],
        Adaption::Component | Adaption::WeightedMean => min_max(best.iter().map(|&at| scores[at])),
    };
    let row = |at: usize| &rows[at * dims..][..dims];
    // In A3R the candidates are the variables and their elements the samples: each is centred about
    // its own mean.
    let means: Vec<f64> = best
        .iter()
        .map(|&at| match adaption {
            Adaption::Component => row(at).iter().map(|&x| f64::from(x)).sum::<f64>() / dims as f64,
            Adaption::WeightedMean | Adaption::Mean => 0.0,
        })
        .collect();
    let combine = |factors: &[f64]| {
        let mut sum = vec![0.0_f64; dims];
        for ((&at, mean), factor) in best.iter().zip(&means).zip(factors) {
            for (sum, &x) in sum.iter_mut().zip(row(at)) {
                *sum += factor * (f64::from(x) - mean);
            }
        }
        let mut sum: Vec<f32> = sum.into_iter().map(|x| x as f32).collect();
        normalise(&mut sum);
        sum
    };
    if adaption != Adaption::Component {
        return combine(&weights);
    }
    let m = best.len();
    let mut gram = vec![0.0; m * m];
    for i in 0..m {
        for j in 0..m {
            let product = f64::from(dot(row(best[i]), row(best[j])));
            // The means are known, so the centred product needs no centred rows.
            let centred = product - dims as f64 * means[i] * means[j];
            gram[i * m + j] = weights[i] * weights[j] * centred;
        }
    }
    let component = first_component(&gram, m);
    let factors: Vec<f64> = component.iter().zip(&weights).map(|(c, w)| c * w).collect();
    let mut query = combine(&factors);
    // A component has no sign of its own: it points to where the weighted candidates are.
    let mean = combine(&weights);
    if dot(&query, &mean) < 0.0 {
        query.iter_mut().for_each(|x| *x = -*x);
    }
    query
}

/// Cosines of all pairs of unit rows, [nodes, nodes].
fn similarities(rows: &[f32], dims: usize, nodes: usize, mut poll: impl FnMut()) -> Vec<f32> {
    let mut similarity = vec![0.0; nodes * nodes];
    for i in 0..nodes {
        poll();
        for j in 0..=i {
            let cosine = dot(&rows[i * dims..][..dims], &rows[j * dims..][..dims]);
            similarity[i * nodes + j] = cosine;
            similarity[j * nodes + i] = cosine;
        }
    }
    similarity
}

/// Which nodes are k-reciprocal neighbours, themselves among them, and how much they weigh,
/// [nodes, nodes]: 1 at the same place, less with the distance, 0 for all others.
fn reciprocal(similarity: &[f32], nodes: usize, k: usize) -> Vec<f32> {
    let mut near = vec![false; nodes * nodes];
    for node in 0..nodes {
        let row = &similarity[node * nodes..][..nodes];
        let mut others: Vec<usize> = (0..nodes).filter(|&other| other != node).collect();
        others.sort_by(|&a, &b| descending(row[a], row[b]).then(a.cmp(&b)));
        near[node * nodes + node] = true;
        others.iter().take(k).for_each(|other| near[node * nodes + other] = true);
    }
    let mut weights = vec![0.0; nodes * nodes];
    for i in 0..nodes {
        for j in 0..nodes {
            if near[i * nodes + j] && near[j * nodes + i] {
                weights[i * nodes + j] = (0.5 + 0.5 * similarity[i * nodes + j]).max(0.0);
            }
        }
    }
    weights
}

/// The weighted Jaccard index of two nodes' neighbours, from 0 to 1.
fn overlap(a: &[f32], b: &[f32]) -> f32 {
    let both: f32 = a.iter().zip(b).map(|(a, b)| a.min(*b)).sum();
    let either: f32 = a.iter().zip(b).map(|(a, b)| a.max(*b)).sum();
    if either > 0.0 { both / either } else { 0.0 }
}
