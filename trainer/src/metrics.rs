//! Retrieval measures, on plain slices.
//!
//! Apart from the evaluation so that they can be tested on rankings written by hand.

use pgclip_query::measures;

/// Indices of `scores` from best to worst; equal scores in the order of their indices.
pub fn ranking(scores: &[f32]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]).then(a.cmp(&b)));
    order
}

/// Average precision at `k`: the sum of the precisions at each hit among the first `k`,
/// divided by the smaller of `k` and the number of positives. 0 without positives.
pub fn average_precision(ranking: &[usize], positive: &[bool], k: usize) -> f64 {
    let positives = positive.iter().filter(|&&hit| hit).count();
    let right: Vec<bool> = ranking.iter().take(k).map(|&index| positive[index]).collect();
    measures::average_precision(&right, positives, k)
}

/// The mean, 0 for none.
pub fn mean(values: &[f64]) -> f64 {
    if values.is_empty() { 0.0 } else { values.iter().sum::<f64>() / values.len() as f64 }
}
