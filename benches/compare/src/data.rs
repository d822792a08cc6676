//! The vectors of a comparison: what goes into the tables, what is asked, what is inserted later,
//! and the two columns that filters read.

pub mod builtin;
pub mod generate;
pub mod model;
pub mod npy;

use half::f16;
use pgclip_testkit::dice::Dice;
use sha2::{Digest, Sha256};

use crate::side::Metric;
use model::Model;

/// Vectors of one width, one after the other.
#[derive(Clone, Debug, PartialEq)]
pub struct Vectors {
    pub dims: usize,
    values: Vec<f16>,
}

impl Vectors {
    /// `values` holds whole vectors of `dims`.
    pub fn new(dims: usize, values: Vec<f16>) -> Self {
        assert!(dims > 0 && values.len().is_multiple_of(dims), "whole vectors");
        Self { dims, values }
    }

    pub fn len(&self) -> usize {
        self.values.len() / self.dims
    }

    pub fn get(&self, row: usize) -> &[f16] {
        &self.values[row * self.dims..][..self.dims]
    }

    pub fn iter(&self) -> impl Iterator<Item = &[f16]> {
        self.values.chunks_exact(self.dims)
    }

    pub fn values(&self) -> &[f16] {
        &self.values
    }

    /// Cuts off all from `row` on, and gives it.
    pub fn split_off(&mut self, row: usize) -> Self {
        Self { dims: self.dims, values: self.values.split_off(row * self.dims) }
    }

    pub fn truncate(&mut self, rows: usize) {
        self.values.truncate(rows * self.dims);
    }

    /// A digest of width and numbers.
    pub fn digest(&self) -> Sha256 {
        let mut hash = Sha256::new();
        hash.update((self.dims as u64).to_le_bytes());
        let mut bytes = Vec::with_capacity(1 << 16);
        for part in self.values.chunks(1 << 15) {
            bytes.clear();
            bytes.extend(part.iter().flat_map(|x| x.to_bits().to_le_bytes()));
            hash.update(&bytes);
        }
        hash
    }
}

/// One set of rows with its queries.
#[derive(Clone, Debug)]
pub struct Data {
    /// For people: what it is.
    pub title: String,
    pub metric: Metric,
    /// Row `i` has id `i`.
    pub base: Vectors,
    /// Inserted after the build; row `i` has id `base.len() + i`.
    pub later: Vectors,
    /// Of the data's own kind.
    pub own: Vectors,
    /// Text-like, where there are any.
    pub text: Option<Vectors>,
    /// Bursts of near-duplicate frames?
    pub frames: bool,
    /// The model of the column, of which the index learns the texts' mean direction.
    pub model: Option<Model>,
}

/// The values of a filter column lie in `0..FILTER_VALUES`, equally often.
pub const FILTER_VALUES: usize = 1000;

impl Data {
    pub fn dims(&self) -> usize {
        self.base.dims
    }

    pub fn rows(&self) -> usize {
        self.base.len()
    }

    /// The vector of a row, one that comes later included.
    pub fn vector(&self, id: usize) -> &[f16] {
        match id.checked_sub(self.base.len()) {
            Some(late) => self.later.get(late),
            None => self.base.get(id),
        }
    }

    /// A filter column that has nothing to do with the vectors: for each row `0..FILTER_VALUES`.
    pub fn independent(&self) -> Vec<i32> {
        (0..self.rows() as u64)
            .map(|id| (Dice::of_stream(id, 99).bits() % FILTER_VALUES as u64) as i32)
            .collect()
    }

    /// A filter column that goes with the vectors: the rows' rank along the direction from one row
    /// to another, so that a range of it is a slice of space.
    pub fn correlated(&self) -> Vec<i32> {
        let rows = self.rows();
        let mut dice = Dice::of_stream(1, 98);
        let (from, to) = (dice.below(rows), dice.below(rows));
        let along = |x: &[f16]| {
            pgclip_simd::dot(x, self.base.get(to)) - pgclip_simd::dot(x, self.base.get(from))
        };
        let mut order: Vec<(f32, usize)> = self.base.iter().map(along).zip(0..).collect();
        order.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        let mut ranks = vec![0; rows];
        for (rank, (_, row)) in order.into_iter().enumerate() {
            ranks[row] = (rank * FILTER_VALUES / rows) as i32;
        }
        ranks
    }
}
