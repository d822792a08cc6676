//! Distances while the graph is made: of vectors rounded to bytes, each in a scale of its own. A
//! quarter of the bytes of single precision and half of fp16's, with an error far below what
//! matters for choosing neighbours; INDEX's prototypes found graphs of equal recall in two thirds
//! of the time.

use std::sync::Mutex;

use half::f16;

use super::room::{BuildError, filled};
use crate::layout::Metric;
use crate::space::Space;
use crate::threads::{Control, Host, share};

/// All vectors, rounded.
#[derive(Debug)]
pub(super) struct Coarse {
    dims: usize,
    metric: Metric,
    bytes: Vec<i8>,
    /// What a byte is worth in the scaled vector.
    steps: Vec<f32>,
    /// Squared norms of the scaled vectors as rounded.
    norms: Vec<f32>,
}

impl Coarse {
    pub fn new(
        space: &Space,
        vectors: &[f16],
        norms: &[f32],
        threads: usize,
        control: &Control,
        host: &mut dyn Host,
    ) -> Result<Self, BuildError> {
        const GRAIN: usize = 1024;
        let dims = space.layout().dims;
        let count = norms.len();
        let mut coarse = Self {
            dims,
            metric: space.metric(),
            bytes: filled(dims * count, || 0)?,
            steps: filled(count, || 0.0)?,
            norms: filled(count, || 0.0)?,
        };
        let pieces: Vec<_> = coarse
            .bytes
            .chunks_mut(GRAIN * dims)
            .zip(coarse.steps.chunks_mut(GRAIN))
            .zip(coarse.norms.chunks_mut(GRAIN))
            .map(|((bytes, steps), norms)| Mutex::new((bytes, steps, norms)))
            .collect();
        share(
            control,
            host,
            threads,
            0..pieces.len(),
            1,
            || vec![0.0; dims],
            |wide, piece| {
                for at in piece {
                    let mut out = pieces[at].lock().expect("no other thread has it");
                    let (bytes, steps, squares) = &mut *out;
                    for (i, to) in bytes.chunks_exact_mut(dims).enumerate() {
                        let element = at * GRAIN + i;
                        pgclip_simd::widen(&vectors[element * dims..(element + 1) * dims], wide);
                        let scale = space.scale(norms[element]);
                        let step = round(wide, to) * scale;
                        steps[i] = step;
                        squares[i] = step * step * pgclip_simd::codes::dot_i8(to, to) as f32;
                    }
                }
            },
        )?;
        drop(pieces);
        Ok(coarse)
    }

    fn vector(&self, element: u32) -> &[i8] {
        let at = element as usize * self.dims;
        &self.bytes[at..at + self.dims]
    }

    /// The inner distance of two elements.
    #[inline]
    pub fn distance(&self, a: u32, b: u32) -> f32 {
        let dot = pgclip_simd::codes::dot_i8(self.vector(a), self.vector(b)) as f32;
        let dot = dot * self.steps[a as usize] * self.steps[b as usize];
        match self.metric {
            Metric::InnerProduct => -2.0 * dot,
            _ => self.norms[a as usize] + self.norms[b as usize] - 2.0 * dot,
        }
    }

    /// Says that an element's vector is needed soon.
    #[inline]
    pub fn prefetch(&self, element: u32) {
        pgclip_simd::prefetch(self.vector(element));
    }
}

/// Rounds to bytes and returns what one is worth.
fn round(from: &[f32], to: &mut [i8]) -> f32 {
    let largest = from.iter().fold(0f32, |largest, x| largest.max(x.abs()));
    if largest == 0.0 {
        to.fill(0);
        return 0.0;
    }
    let by = 127.0 / largest;
    for (to, x) in to.iter_mut().zip(from) {
        *to = (x * by).round_ties_even() as i8;
    }
    largest / 127.0
}
