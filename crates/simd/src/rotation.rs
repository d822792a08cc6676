//! A fixed random rotation, fast: what makes one-bit codes work on data of any shape.
//!
//! Four rounds of random signs, a Hadamard transform and a Haar-like step. The transform wants a
//! power of two: where the length is none it is applied to the first and the last such run in
//! turn, which overlap, and the step mixes the two halves of the whole. Each part is orthogonal,
//! so lengths and inner products are kept. Only additions, subtractions and one multiplication by
//! a constant are used, in the same order on every CPU: the rotation of a vector has the same bits
//! everywhere, and an index built on one machine is right on another.

use half::f16;

use crate::codes::{CodeKernels, rotated_dims};
use crate::level::code_level;

const ROUNDS: usize = 4;

/// From this length on the transform's short strides are done on transposed data, in full lanes.
const TRANSPOSED: usize = 256;

/// A rotation of vectors of `dims` components into [`rotated_dims`] components.
#[derive(Debug, Clone)]
pub struct Rotation {
    dims: usize,
    padded: usize,
    /// The power of two that the Hadamard transform works on, at most `padded`.
    power: usize,
    /// ±1 times the scale that keeps lengths, for each round.
    signs: Vec<f32>,
}

impl Rotation {
    /// The rotation of this seed. The same arguments give the same rotation everywhere.
    pub fn new(dims: usize, seed: u64) -> Self {
        let padded = rotated_dims(dims.max(1));
        let power = 1 << padded.ilog2();
        let mut state = seed;
        let mut signs = Vec::with_capacity(ROUNDS * padded);
        for round in 0..ROUNDS {
            let run = Self::run(round, padded, power);
            for at in 0..padded {
                let scale = if run.contains(&at) { (power as f32).sqrt().recip() } else { 1.0 };
                let step = if padded == power { 1.0 } else { std::f32::consts::FRAC_1_SQRT_2 };
                let sign = if next(&mut state) >> 63 == 0 { 1.0 } else { -1.0 };
                signs.push(sign * scale * step);
            }
        }
        Self { dims, padded, power, signs }
    }

    /// The length of vectors before.
    pub fn dims(&self) -> usize {
        self.dims
    }

    /// The length of vectors after: [`rotated_dims`] of the length before.
    pub fn rotated(&self) -> usize {
        self.padded
    }

    /// Which run a round transforms: the first one, the last one, in turn.
    fn run(round: usize, padded: usize, power: usize) -> std::ops::Range<usize> {
        if round.is_multiple_of(2) { 0..power } else { padded - power..padded }
    }

    /// Rotates `scale · vector` into `to`. Panics when the lengths are not the rotation's.
    pub fn rotate(&self, vector: &[f16], scale: f32, to: &mut [f32]) {
        assert_eq!(vector.len(), self.dims, "a vector of another length");
        assert_eq!(to.len(), self.padded, "a buffer of another length");
        crate::widen(vector, &mut to[..self.dims]);
        to[..self.dims].iter_mut().for_each(|x| *x *= scale);
        to[self.dims..].fill(0.0);
        self.rotate_in_place(to);
    }

    /// Rotates a vector that is already widened and padded with zeros.
    pub fn rotate_in_place(&self, vector: &mut [f32]) {
        assert_eq!(vector.len(), self.padded, "a buffer of another length");
        let mut scratch = vec![0.0; if self.power >= TRANSPOSED { self.power } else { 0 }];
        for (round, signs) in self.signs.chunks_exact(self.padded).enumerate() {
            vector.iter_mut().zip(signs).for_each(|(x, sign)| *x *= sign);
            let run = Self::run(round, self.padded, self.power);
            hadamard(&mut vector[run], &mut scratch);
            if self.power != self.padded {
                code_level().butterflies(vector, self.padded / 2);
            }
        }
    }
}

/// The Hadamard transform, unscaled; from [`TRANSPOSED`] on its result is in another, fixed, order.
fn hadamard(data: &mut [f32], scratch: &mut [f32]) {
    const LANES: usize = 16;
    let level = code_level();
    if data.len() < TRANSPOSED {
        let strides = (0..data.len().ilog2()).map(|i| 1 << i);
        return strides.for_each(|stride| level.butterflies(data, stride));
    }
    let rows = data.len() / LANES;
    let mut stride = LANES;
    while stride < data.len() {
        level.butterflies(data, stride);
        stride *= 2;
    }
    for (row, from) in data.chunks_exact(LANES).enumerate() {
        for (lane, x) in from.iter().enumerate() {
            scratch[lane * rows + row] = *x;
        }
    }
    data.copy_from_slice(scratch);
    let mut stride = rows;
    while stride < data.len() {
        level.butterflies(data, stride);
        stride *= 2;
    }
}

/// SplitMix64.
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
