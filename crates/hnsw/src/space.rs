//! The vector space of an index: its metric, the rotation, and the texts' common direction; and in
//! it vectors made ready, as queries or for storing. Its own file because everything else measures
//! with it.
//!
//! All estimates are made in *scaled* vectors (divided by their norm under cosine, as they are
//! else) and in an inner distance that grows with the operator's: the squared Euclidean distance,
//! which under cosine is twice the cosine distance, or -2 times the inner product.

use half::f16;
use pgclip_simd::codes::{rotated_dims, round_to_bytes};
use pgclip_simd::{CosineParts, Rotation};

use crate::format::layout::{Layout, Metric};

/// A distance, both as this crate compares it and as the operator returns it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Distance {
    /// The inner distance.
    pub inner: f32,
    /// The operator's own result, bit for bit.
    pub operator: f64,
}

/// What an index needs to know of its vectors.
#[derive(Debug)]
pub struct Space {
    layout: Layout,
    rotation: Option<Rotation>,
    /// The texts' direction, of unit length but for rounding to fp16, and rotated.
    text: Option<(Vec<f16>, Vec<f32>)>,
}

impl Space {
    /// The space of an index. `seed` is the rotation's, kept in the index; `text` is the mean of
    /// the texts' embeddings, where the model says it, in any length.
    pub fn new(layout: Layout, seed: u64, text: Option<&[f32]>) -> Self {
        let rotation = layout.has_codes().then(|| Rotation::new(layout.dims, seed));
        let norm = text.map_or(0.0, |t| t.iter().map(|x| x * x).sum::<f32>().sqrt());
        let text = match (text, &rotation) {
            (Some(text), Some(rotation))
                if norm > 0.0 && norm.is_finite() && text.len() == layout.dims =>
            {
                let unit: Vec<f16> = text.iter().map(|x| f16::from_f32(x / norm)).collect();
                let mut rotated = vec![0.0; rotation.rotated()];
                rotation.rotate(&unit, 1.0, &mut rotated);
                Some((unit, rotated))
            }
            _ => None,
        };
        Self { layout, rotation, text }
    }

    /// The byte map.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The metric.
    pub fn metric(&self) -> Metric {
        self.layout.metric
    }

    /// The length of rotated vectors; 0 where there are no codes.
    pub fn rotated(&self) -> usize {
        if self.layout.has_codes() { rotated_dims(self.layout.dims) } else { 0 }
    }

    /// What a vector is multiplied by before anything is estimated: 0 for the zero vector under
    /// cosine, which has no direction.
    pub fn scale(&self, norm2: f32) -> f32 {
        match self.metric() {
            Metric::Cosine if norm2 > 0.0 => (1.0 / f64::from(norm2).sqrt()) as f32,
            Metric::Cosine => 0.0,
            Metric::L2 | Metric::InnerProduct => 1.0,
        }
    }

    /// Can this vector be stored? Under cosine the zero vector can't.
    pub fn is_indexable(&self, vector: &[f16]) -> bool {
        self.metric() != Metric::Cosine || pgclip_simd::squared_norm(vector) > 0.0
    }

    /// The squared norm of the scaled vector.
    pub(crate) fn scaled_norm2(&self, norm2: f32) -> f32 {
        match self.metric() {
            Metric::Cosine => 1.0,
            Metric::L2 | Metric::InnerProduct => norm2,
        }
    }

    /// Rotates the scaled vector into `to`.
    pub(crate) fn rotate(&self, vector: &[f16], scale: f32, to: &mut [f32]) {
        if let Some(rotation) = &self.rotation {
            rotation.rotate(vector, scale, to);
        }
    }

    /// The inner product of the scaled vector with the texts' direction.
    pub(crate) fn along_text(&self, vector: &[f16], scale: f32) -> f32 {
        self.text.as_ref().map_or(0.0, |(unit, _)| scale * pgclip_simd::dot(unit, vector))
    }

    /// The distance of two vectors of which the squared norms are known.
    #[inline]
    pub fn distance(&self, a: &[f16], a2: f32, b: &[f16], b2: f32) -> Distance {
        match self.metric() {
            Metric::L2 => {
                let square = pgclip_simd::squared_l2(a, b);
                Distance { inner: square, operator: f64::from(square).sqrt() }
            }
            Metric::InnerProduct => {
                let dot = pgclip_simd::dot(a, b);
                Distance { inner: -2.0 * dot, operator: -f64::from(dot) }
            }
            Metric::Cosine => {
                let dot = pgclip_simd::dot(a, b);
                let operator = 1.0 - CosineParts { dot, a2, b2 }.similarity();
                let inner = if operator.is_nan() { 1.0 } else { 2.0 * operator };
                Distance { inner: inner as f32, operator }
            }
        }
    }

    /// Makes a query ready: the texts' direction is taken out of what the codes have to estimate.
    pub fn query(&self, vector: &[f16]) -> Query {
        self.prepare(vector, true)
    }

    /// Makes a vector ready as it is: as a query whose estimate of its own distance to each of its
    /// neighbours is exact but for rounding.
    pub fn plain_query(&self, vector: &[f16]) -> Query {
        self.prepare(vector, false)
    }

    fn prepare(&self, vector: &[f16], without_text: bool) -> Query {
        assert_eq!(vector.len(), self.layout.dims, "a vector of another length");
        let norm2 = pgclip_simd::squared_norm(vector);
        let scale = self.scale(norm2);
        let mut rotated = vec![0.0; self.rotated()];
        self.rotate(vector, scale, &mut rotated);
        let along_text = self.along_text(vector, scale);
        let mut beta = 0.0;
        if let (true, Some((_, direction))) = (without_text, &self.text) {
            beta = along_text;
            rotated.iter_mut().zip(direction).for_each(|(x, g)| *x -= beta * g);
        }
        let bits = rotated.len().min(self.layout.bits());
        let mut bytes = vec![0; bits];
        let step = round_to_bytes(&rotated[..bits], &mut bytes);
        let sum: i32 = bytes.iter().map(|x| i32::from(*x)).sum();
        let (vector, half_sum) = (vector.to_vec(), 0.5 * sum as f32);
        // Without codes nothing is estimated, and inner products have no small distances.
        let exact = !self.layout.has_codes() || self.metric() == Metric::InnerProduct;
        Query { vector, norm2, scale, along_text, beta, rotated, bytes, step, half_sum, exact }
    }
}

/// A vector made ready for distances and estimates.
#[derive(Debug, Clone)]
pub struct Query {
    pub(crate) vector: Vec<f16>,
    pub(crate) norm2: f32,
    pub(crate) scale: f32,
    /// The inner product of the scaled vector with the texts' direction.
    pub(crate) along_text: f32,
    /// How much of the texts' direction was taken out.
    pub(crate) beta: f32,
    /// What is left, rotated.
    pub(crate) rotated: Vec<f32>,
    /// What codes are about of it, rounded to bytes.
    pub(crate) bytes: Vec<i8>,
    /// What one of these is worth.
    pub(crate) step: f32,
    /// Half the sum of the bytes.
    pub(crate) half_sum: f32,
    /// Are no distances estimated of which it matters how small they are?
    exact: bool,
}

impl Query {
    /// The vector as given.
    pub fn vector(&self) -> &[f16] {
        &self.vector
    }

    /// What the vector is multiplied by: see [`Space::scale`].
    pub fn scale(&self) -> f32 {
        self.scale
    }

    /// How far estimates of an inner distance of this size are off because numbers are rounded: the
    /// query's to bytes, which counts in proportion to an edge's length, and vectors to fp16.
    /// Where distances themselves are of this size it is more than any slack relative to them.
    pub(crate) fn noise(&self, inner: f32) -> f32 {
        const BYTES: f32 = 2.0;
        const HALVES: f32 = 2e-7;
        let square = self.scale * self.scale * self.norm2;
        if self.exact { 0.0 } else { BYTES * self.step * inner.max(0.0).sqrt() + HALVES * square }
    }

    /// `λ` of the estimate at an element: how many times the element's scaled vector is taken out
    /// of the query, so that the least is left to estimate.
    #[inline]
    pub(crate) fn lambda(&self, metric: Metric, inner: f32, norm2: f32, text: f32) -> f32 {
        let dot = match metric {
            Metric::Cosine => return 1.0 - 0.5 * inner - self.beta * text,
            Metric::L2 => 0.5 * (self.norm2 + norm2 - inner),
            Metric::InnerProduct => -0.5 * inner,
        };
        if norm2 > 0.0 { (dot - self.beta * text) / norm2 } else { 0.0 }
    }
}

/// The mean of an index's scaled vectors and of their squared norms, for the stop rule.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Moments {
    /// How many vectors were counted.
    pub count: u64,
    /// The mean squared norm.
    pub norm2: f32,
    /// The mean vector; empty while nothing was counted.
    pub centroid: Vec<f32>,
}

impl Moments {
    /// Of one vector.
    pub fn of(space: &Space, vector: &[f16]) -> Self {
        let mut one = Self::default();
        one.add(space, vector);
        one
    }

    /// Counts one more vector.
    pub fn add(&mut self, space: &Space, vector: &[f16]) {
        let norm2 = pgclip_simd::squared_norm(vector);
        let scale = space.scale(norm2);
        self.count += 1;
        let share = 1.0 / self.count as f32;
        self.norm2 += (space.scaled_norm2(norm2) - self.norm2) * share;
        self.centroid.resize(vector.len(), 0.0);
        for (mean, x) in self.centroid.iter_mut().zip(vector) {
            *mean += (scale * x.to_f32() - *mean) * share;
        }
    }

    /// The mean inner distance of a query to everything; none below a hundred vectors, where it
    /// does not mean much.
    pub fn mean_distance(&self, space: &Space, query: &Query) -> Option<f32> {
        const ENOUGH: u64 = 100;
        if self.count < ENOUGH || self.centroid.len() != query.vector.len() {
            return None;
        }
        let mut centroid = vec![f16::ZERO; self.centroid.len()];
        pgclip_simd::narrow(&self.centroid, &mut centroid);
        let dot = query.scale * pgclip_simd::dot(&centroid, &query.vector);
        Some(match space.metric() {
            Metric::InnerProduct => -2.0 * dot,
            metric => {
                let own = if metric == Metric::Cosine { 1.0 } else { query.norm2 };
                own + self.norm2 - 2.0 * dot
            }
        })
    }
}
