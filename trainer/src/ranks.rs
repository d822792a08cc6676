//! Where each query's positives come, and what follows from it: the measures of retrieval.
//!
//! Apart from [`crate::eval`], which knows about labels, so that it serves both directions
//! and is tested on embeddings written by hand. Every similarity is computed, piece by piece:
//! ranks of all queries need them all.

use anyhow::{Result, ensure};
use rayon::prelude::*;
use serde::Serialize;
use tch::Tensor;

use crate::metrics::mean;
use crate::search::{pieces, rows_f32};

/// How many of the first items are looked at, for mAP and the report.
pub const FIRST: usize = 10;

/// What one query finds.
#[derive(Clone, Debug, PartialEq)]
pub struct Ranked {
    /// Place of the first positive, from 1.
    pub rank: usize,
    /// Average precision at 10, divided by min(10, positives).
    pub precision: f64,
    /// The first [`FIRST`] items: index, similarity, whether positive.
    pub first: Vec<(usize, f32, bool)>,
    /// The positive that comes first.
    pub best: usize,
}

/// The measures of one set of queries.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Measures {
    /// Number of queries.
    pub queries: usize,
    /// Share of queries whose first item is a positive.
    pub recall_at_1: f64,
    /// Share with a positive among the first five.
    pub recall_at_5: f64,
    /// Share with a positive among the first ten.
    pub recall_at_10: f64,
    /// Mean of the average precision at 10, divided by min(10, positives).
    pub map_at_10: f64,
    /// Mean place of the first positive, from 1.
    pub mean_rank: f64,
    /// Median place of the first positive, the lower one of two.
    pub median_rank: usize,
}

impl Measures {
    pub fn of(ranked: &[Ranked]) -> Self {
        if ranked.is_empty() {
            return Measures::default();
        }
        let mut ranks: Vec<usize> = ranked.iter().map(|query| query.rank).collect();
        ranks.sort_unstable();
        let count = ranks.len() as f64;
        Measures {
            queries: ranks.len(),
            recall_at_1: recall(&ranks, 1),
            recall_at_5: recall(&ranks, 5),
            recall_at_10: recall(&ranks, 10),
            map_at_10: mean(&ranked.iter().map(|query| query.precision).collect::<Vec<_>>()),
            mean_rank: ranks.iter().map(|&rank| rank as f64).sum::<f64>() / count,
            median_rank: ranks[(ranks.len() - 1) / 2],
        }
    }
}

/// Share of the ranks that are at most `k`.
pub fn recall(ranks: &[usize], k: usize) -> f64 {
    ranks.iter().filter(|&&rank| rank <= k).count() as f64 / ranks.len() as f64
}

/// Ranks the items [N, D] for each query [Q, D], both of unit length on the CPU; `fits` tells
/// whether an item is a positive. Equal similarities come in the order of the items. Each
/// query must have a positive.
pub fn rank(
    queries: &Tensor,
    items: &Tensor,
    fits: impl Fn(usize, usize) -> bool + Sync,
) -> Result<Vec<Ranked>> {
    let ranked: Result<Vec<Vec<Ranked>>> = pieces(queries, items)
        .into_par_iter()
        .map(|piece| {
            let scores = rows_f32(&piece.scores());
            let lines = scores.iter().enumerate();
            lines
                .map(|(line, scores)| {
                    ensure!(scores.iter().all(|score| score.is_finite()), "an embedding is NaN");
                    rank_one(scores, |item| fits(piece.start + line, item))
                })
                .collect()
        })
        .collect();
    Ok(ranked?.into_iter().flatten().collect())
}

fn rank_one(scores: &[f32], fits: impl Fn(usize) -> bool) -> Result<Ranked> {
    let positive: Vec<bool> = (0..scores.len()).map(fits).collect();
    let before = |a: usize, b: usize| scores[b].total_cmp(&scores[a]).then(a.cmp(&b));
    let best = (0..scores.len()).filter(|&item| positive[item]).min_by(|&a, &b| before(a, b));
    let Some(best) = best else { anyhow::bail!("this is a bug: a query without a positive") };
    let ahead = (0..scores.len()).filter(|&item| before(item, best).is_lt()).count();

    let mut order: Vec<usize> = (0..scores.len()).collect();
    let first = FIRST.min(order.len());
    if first < order.len() {
        order.select_nth_unstable_by(first, |&a, &b| before(a, b));
        order.truncate(first);
    }
    order.sort_unstable_by(|&a, &b| before(a, b));
    let precision = crate::metrics::average_precision(&order, &positive, FIRST);
    let first = order.into_iter().map(|item| (item, scores[item], positive[item])).collect();
    Ok(Ranked { rank: ahead + 1, precision, first, best })
}
