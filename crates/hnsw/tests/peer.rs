//! hnsw_rs, an implementation by others, as peer: on the same vectors, with the same parameters, ours
//! finds as much for no more work.

mod common;

use common::*;
use half::f16;
use hnsw_rs::prelude::{Distance, Hnsw};
use pgclip_hnsw::{Metric, ScanOptions};

/// The Euclidean distance, by our kernel.
#[derive(Default, Clone)]
struct Euclidean;

impl Distance<f16> for Euclidean {
    fn eval(&self, a: &[f16], b: &[f16]) -> f32 {
        pgclip_simd::squared_l2(a, b).sqrt()
    }
}

#[test]
fn recall_is_that_of_hnsw_rs() {
    const ROWS: usize = 2000;
    const DIMS: usize = 32;
    let mut vectors = Dice(21).clusters(DIMS, ROWS + 100);
    let queries = vectors.split_off(ROWS);
    let among: Vec<usize> = (0..ROWS).collect();
    let peer = Hnsw::<f16, Euclidean>::new(M, ROWS, 16, EF, Euclidean);
    for (number, vector) in vectors.iter().enumerate() {
        peer.insert((vector, number));
    }
    let space = space(Metric::L2, DIMS, 0);
    let store = build(&space, &vectors, 1);
    let options = ScanOptions { slack: 0.3, ..ScanOptions::default() };
    let ours = recall(&store, &space, &queries, &vectors, &among, options);
    let mut hits = 0;
    for query in &queries {
        let worst = exact(&space, query, &vectors, among.iter().copied())[K - 1].0;
        let found = peer.search(query, K, EF);
        hits += found.iter().filter(|row| f64::from(row.distance) <= worst + 1e-4).count();
    }
    let theirs = hits as f64 / (K * queries.len()) as f64;
    assert!(ours >= theirs - 0.01, "{ours} where hnsw_rs finds {theirs}");
}
