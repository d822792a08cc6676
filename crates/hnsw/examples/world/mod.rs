//! What the examples share: exact answers, and clocks.
#![allow(dead_code, reason = "no example uses all of it")]

use std::time::Instant;

use half::f16;
use pgclip_hnsw::Space;

/// How many rows a query asks for.
pub const K: usize = 10;

/// Seconds that this thread has run: on a busy machine the clock says more about the others. Where
/// the system does not tell, the clock.
pub fn seconds(since: Instant) -> f64 {
    let spent = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    let spent = spent.and_then(|text| text.split(' ').next()?.parse::<f64>().ok());
    spent.map_or_else(|| since.elapsed().as_secs_f64(), |nanoseconds| nanoseconds * 1e-9)
}

/// Seconds that all threads of this process have run, to a hundredth; 0 where the system does not
/// tell.
pub fn all_threads() -> f64 {
    let spent = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = spent.rsplit(')').next().unwrap_or_default().split_whitespace().skip(11).take(2);
    fields.filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / 100.0
}

/// The exact answers in order, by number.
pub fn truth(space: &Space, vectors: &[Vec<f16>], query: &[f16], k: usize) -> Vec<u32> {
    let q2 = pgclip_simd::squared_norm(query);
    let mut all: Vec<(f64, u32)> = (0..)
        .zip(vectors)
        .map(|(i, v)| (space.distance(query, q2, v, pgclip_simd::squared_norm(v)).operator, i))
        .collect();
    all.select_nth_unstable_by(k, |a, b| a.0.total_cmp(&b.0));
    all[..k].sort_by(|a, b| a.0.total_cmp(&b.0));
    all[..k].iter().map(|(_, i)| *i).collect()
}
