//! The exact nearest rows, in fp32 over the fp16 values, and recall against them. Kept on disk by a
//! digest of the data, since they cost more than many of the measurements.

use std::fs;
use std::path::PathBuf;

use anyhow::Result;
use half::f16;
use pgclip_cluster::workspace;
use rayon::prelude::*;
use sha2::Digest;

use crate::data::{Data, Vectors};
use crate::side::Metric;

/// Distances that differ by less, beside one, are equal.
const TIE: f32 = 1e-6;
/// Queries that share one pass over the rows.
const TOGETHER: usize = 8;

/// A folder for what is kept between runs.
pub fn cache() -> Result<PathBuf> {
    let folder = workspace().join("target/compare");
    fs::create_dir_all(&folder)?;
    Ok(folder)
}

/// The distance that `metric` orders by (Euclidean: squared).
pub fn distance(metric: Metric, a: &[f16], b: &[f16]) -> f32 {
    match metric {
        Metric::Cosine => {
            let norms = pgclip_simd::squared_norm(a) * pgclip_simd::squared_norm(b);
            1.0 - pgclip_simd::dot(a, b) / norms.sqrt()
        }
        Metric::L2 => pgclip_simd::squared_l2(a, b),
        Metric::Ip => -pgclip_simd::dot(a, b),
    }
}

/// The nearest rows of each query of a set.
#[derive(Clone, Debug, PartialEq)]
pub struct Truth {
    /// Sorted distances of a query's nearest rows; fewer than asked for where fewer rows pass.
    nearest: Vec<Vec<f32>>,
}

impl Truth {
    /// The `k` nearest among the rows `0..rows` that `passes`.
    pub fn find(
        data: &Data,
        queries: &Vectors,
        rows: usize,
        k: usize,
        passes: impl Fn(usize) -> bool + Sync,
    ) -> Self {
        let ids: Vec<usize> = (0..rows).filter(|&id| passes(id)).collect();
        let numbers: Vec<usize> = (0..queries.len()).collect();
        let nearest: Vec<Vec<Vec<f32>>> = numbers
            .par_chunks(TOGETHER)
            .map(|numbers| {
                let mut found: Vec<Nearest> = numbers.iter().map(|_| Nearest::new(k)).collect();
                for &id in &ids {
                    let row = data.vector(id);
                    for (&number, found) in numbers.iter().zip(&mut found) {
                        found.push(distance(data.metric, queries.get(number), row));
                    }
                }
                found.into_iter().map(Nearest::finish).collect()
            })
            .collect();
        Self { nearest: nearest.concat() }
    }

    /// The `k` nearest among the base rows, from disk if an earlier run found them.
    pub fn cached(data: &Data, queries: &Vectors, k: usize) -> Result<Self> {
        let mut hash = data.base.digest();
        hash.update(queries.digest().finalize());
        hash.update(format!("{} {k}", data.metric.name()));
        let digest: String = hash.finalize()[..12].iter().map(|b| format!("{b:02x}")).collect();
        let file = cache()?.join(format!("exact-{digest}.bin"));
        let width = k.min(data.rows());
        if let Ok(bytes) = fs::read(&file)
            && bytes.len() == queries.len() * width * 4
        {
            let (values, _) = bytes.as_chunks::<4>();
            let values: Vec<f32> = values.iter().map(|&b| f32::from_le_bytes(b)).collect();
            return Ok(Self { nearest: values.chunks(width).map(<[f32]>::to_vec).collect() });
        }
        let truth = Self::find(data, queries, data.rows(), k, |_| true);
        let bytes: Vec<u8> = truth.nearest.iter().flatten().flat_map(|x| x.to_le_bytes()).collect();
        let part = file.with_extension("part");
        fs::write(&part, bytes)?;
        fs::rename(part, file)?;
        Ok(truth)
    }

    /// Which share of the `k` nearest rows of a query was found. A row as near as the k-th counts,
    /// whichever of the equally near ones it is; a row counts once. One, where no row passes.
    pub fn recall(&self, query: usize, k: usize, distances: &[(i64, f32)]) -> f64 {
        let nearest = &self.nearest[query];
        let possible = nearest.len().min(k);
        let Some(&last) = nearest[..possible].last() else { return 1.0 };
        let bound = last + TIE * (1.0 + last.abs());
        let mut seen = Vec::with_capacity(k);
        for &(id, distance) in distances.iter().take(k) {
            if distance <= bound && !seen.contains(&id) {
                seen.push(id);
            }
        }
        seen.len().min(possible) as f64 / possible as f64
    }
}

/// The smallest `k` of many numbers.
struct Nearest {
    k: usize,
    bound: f32,
    kept: Vec<f32>,
}

impl Nearest {
    fn new(k: usize) -> Self {
        Self { k, bound: f32::INFINITY, kept: Vec::with_capacity(2 * k + 1) }
    }

    fn push(&mut self, distance: f32) {
        // What is no number (the cosine of a zero vector) is no answer.
        if distance < self.bound {
            self.kept.push(distance);
            if self.kept.len() > 2 * self.k {
                self.shrink();
            }
        }
    }

    fn shrink(&mut self) {
        let (_, bound, _) = self.kept.select_nth_unstable_by(self.k - 1, f32::total_cmp);
        self.bound = *bound;
        self.kept.truncate(self.k);
    }

    fn finish(mut self) -> Vec<f32> {
        self.kept.sort_by(f32::total_cmp);
        self.kept.truncate(self.k);
        self.kept
    }
}

/// How good the answers to a set of queries are.
pub struct Judge<'a> {
    pub data: &'a Data,
    pub queries: &'a Vectors,
    pub truth: Truth,
    pub k: usize,
}

/// What an answer is worth.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Verdict {
    pub recall: f64,
    /// Did the rows come nearest first?
    pub sorted: bool,
}

impl Judge<'_> {
    /// Of the rows `ids`, in the order they came, for query number `query`.
    pub fn verdict(&self, query: usize, ids: &[i64]) -> Verdict {
        let asked = self.queries.get(query);
        let distances: Vec<(i64, f32)> = ids
            .iter()
            .map(|&id| (id, distance(self.data.metric, asked, self.data.vector(id as usize))))
            .collect();
        let bound = |x: f32| x + TIE * (1.0 + x.abs());
        Verdict {
            recall: self.truth.recall(query, self.k, &distances),
            sorted: distances.is_sorted_by(|a, b| a.1 <= bound(b.1)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::generate;

    fn truth(nearest: &[f32]) -> Truth {
        Truth { nearest: vec![nearest.to_vec()] }
    }

    #[test]
    fn ties_at_the_last_place_are_hits() {
        let truth = truth(&[0.1, 0.2, 0.2]);
        assert_eq!(truth.recall(0, 3, &[(1, 0.1), (7, 0.2), (8, 0.2)]), 1.0);
        assert_eq!(truth.recall(0, 2, &[(1, 0.1), (9, 0.2)]), 1.0);
        assert_eq!(truth.recall(0, 2, &[(1, 0.1), (9, 0.3)]), 0.5);
    }

    #[test]
    fn rows_count_once_and_missing_rows_count() {
        let truth = truth(&[0.1, 0.2]);
        assert_eq!(truth.recall(0, 2, &[(1, 0.1), (1, 0.1)]), 0.5);
        assert_eq!(truth.recall(0, 2, &[]), 0.0);
        // Fewer rows pass than were asked for.
        assert_eq!(truth.recall(0, 10, &[(1, 0.1), (2, 0.2)]), 1.0);
    }

    #[test]
    fn the_nearest_are_those_of_a_sort() {
        for metric in [Metric::Cosine, Metric::L2, Metric::Ip] {
            let data = generate::clustered(metric, 24, 700, 11);
            let found = Truth::find(&data, &data.own, data.rows(), 15, |id| id % 3 == 0);
            for (query, nearest) in data.own.iter().zip(&found.nearest) {
                let mut all: Vec<f32> = (0..700)
                    .step_by(3)
                    .map(|id| distance(metric, query, data.base.get(id)))
                    .collect();
                all.sort_by(f32::total_cmp);
                assert_eq!(&all[..15], nearest);
            }
        }
    }
}
