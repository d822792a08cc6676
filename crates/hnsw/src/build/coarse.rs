//! Distances while the graph is made: of vectors rounded to bytes, each in a scale of its own. A
//! quarter of the bytes of single precision and half of fp16's, with an error far below what
//! matters for choosing neighbours; prototypes found graphs of equal recall in two thirds
//! of the time.

use std::sync::Mutex;

use half::f16;
use pgclip_simd::codes::round_to_bytes;
use pgclip_simd::{ByteRows, dot_i8};

use super::room::{BuildError, NoMemory};
use crate::build::threads::{Control, Host, share};
use crate::format::layout::Metric;
use crate::space::Space;

/// All vectors, rounded. A row's factors are what a byte is worth in the scaled vector, and the
/// squared norm of the scaled vector as rounded.
#[derive(Debug)]
pub(super) struct Coarse {
    metric: Metric,
    rows: ByteRows,
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
        let bytes = ByteRows::row_bytes(dims).saturating_mul(norms.len());
        let mut rows = ByteRows::new(dims, norms.len()).map_err(|_| NoMemory { bytes })?;
        let pieces: Vec<_> = rows.chunks_mut(GRAIN).map(Mutex::new).collect();
        share(
            control,
            host,
            threads,
            0..pieces.len(),
            1,
            || vec![0.0; dims],
            |wide, piece| {
                for at in piece {
                    let mut rows = pieces[at].lock().expect("no other thread has it");
                    for row in 0..rows.count() {
                        let element = at * GRAIN + row;
                        pgclip_simd::widen(&vectors[element * dims..(element + 1) * dims], wide);
                        rows.write(row, |to| {
                            let step = round_to_bytes(wide, to) * space.scale(norms[element]);
                            [step, step * step * dot_i8(to, to) as f32]
                        });
                    }
                }
            },
        )?;
        drop(pieces);
        Ok(Self { metric: space.metric(), rows })
    }

    pub fn metric(&self) -> Metric {
        self.metric
    }

    /// The bytes that an element takes.
    pub const fn bytes(dims: usize) -> usize {
        ByteRows::row_bytes(dims)
    }

    /// The inner distance of two elements.
    #[inline]
    pub fn distance(&self, a: u32, b: u32) -> f32 {
        self.of_dot(self.rows.factors(a), b, self.rows.dot(a, b))
    }

    /// The inner distances of an element to others; `dots` is lent for its memory.
    #[inline]
    pub fn distances(&self, a: u32, others: &[u32], dots: &mut Vec<i32>, out: &mut Vec<f32>) {
        dots.resize(others.len(), 0);
        self.rows.dots(a, others, dots);
        let own = self.rows.factors(a);
        out.clear();
        out.extend(others.iter().zip(dots).map(|(other, dot)| self.of_dot(own, *other, *dot)));
    }

    #[inline]
    fn of_dot(&self, [step, norm]: [f32; 2], other: u32, dot: i32) -> f32 {
        let [step2, norm2] = self.rows.factors(other);
        let dot = dot as f32 * step * step2;
        match self.metric {
            Metric::InnerProduct => -2.0 * dot,
            _ => norm + norm2 - 2.0 * dot,
        }
    }
}
