//! Distances between fp16 vectors, as fast as the CPU at hand allows.
//!
//! An embedding is stored as half-precision numbers; every distance here reads them as they are,
//! widens them to single precision, and adds up in single precision. [`dot`], [`squared_l2`],
//! [`cosine_parts`] and [`squared_norm`] are the kernels, [`widen`] and [`narrow`] the bulk
//! conversions, and [`first_non_finite`] is the check at the border.
//!
//! Each is one call into the best variant that this CPU has, which [`level`] finds out once per
//! process. The tree of modules is the table of variants: [`arch::scalar`] is the plain loop that
//! all others are tested against, `arch::x86_64::avx2`, `arch::x86_64::avx512` and
//! `arch::aarch64::neon` instantiate one algorithm (`generic`) over their registers (`lanes`).
//! A variant is a value that can only be made where the CPU has its instructions, so holding one
//! is the proof that calling it is sound; nothing depends on the flags the crate was compiled
//! with, and a binary built on one machine runs on any other of its architecture.
//!
//! For the index, [`codes`] has the one-bit codes of residuals and the sums behind an estimated
//! distance, over the same variants, and [`Rotation`] the random rotation that they need.
//! [`ByteRows`] holds vectors rounded to bytes, for building.
//!
//! # How exact
//!
//! The product of two fp16 numbers is exact in fp32, so only additions round. With `u = 2^-24` and
//! `k` the longest chain of additions, the result differs from the exact sum `S` of the terms `t`
//! by at most `γ(k + 3) · Σ|t|`, where `γ(n) = n·u / (1 - n·u)`. For the dot product `t = a·b`; for
//! the others `t` is a square, so that the bound is relative (the 3 is for `a - b` and its square,
//! which round in [`squared_l2`]). For vectors of `n` elements the scalar code has `k = n`, a
//! variant of `w` lanes `k = n / 4w + 10`. Sixteen thousand elements of magnitude 65504 stay far
//! below fp32's largest number: nothing overflows.
//!
//! NaN and infinity are carried through as IEEE arithmetic does.

pub mod arch;
mod byte_rows;
mod bytes;
pub mod codes;
mod generic;
mod generic_bytes;
mod generic_codes;
mod lanes;
mod level;
mod rotation;

use half::f16;

pub use byte_rows::{ByteKernels, ByteRows, ByteRowsMut, dot_i8};
pub use bytes::{halves, prefetch, prefetch_run};
pub use level::{Level, code_level, level};
pub use rotation::Rotation;

/// What cosine similarity is made of, from one pass over both vectors.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CosineParts {
    /// `Σ a·b`
    pub dot: f32,
    /// `Σ a²`
    pub a2: f32,
    /// `Σ b²`
    pub b2: f32,
}

impl CosineParts {
    /// The cosine of the angle, clamped to -1 to 1; NaN where either vector is zero.
    pub fn similarity(self) -> f64 {
        let norms = (f64::from(self.a2) * f64::from(self.b2)).sqrt();
        (f64::from(self.dot) / norms).clamp(-1.0, 1.0)
    }
}

/// The operations that every variant has. Both slices of a pair have the same length; the
/// functions of this crate check that, and then call the variant.
pub trait Kernels: Copy {
    /// See [`dot`].
    fn dot(self, a: &[f16], b: &[f16]) -> f32;
    /// See [`squared_l2`].
    fn squared_l2(self, a: &[f16], b: &[f16]) -> f32;
    /// See [`cosine_parts`].
    fn cosine_parts(self, a: &[f16], b: &[f16]) -> CosineParts;
    /// See [`squared_norm`].
    fn squared_norm(self, a: &[f16]) -> f32;
    /// See [`widen`].
    fn widen(self, from: &[f16], to: &mut [f32]);
    /// See [`narrow`].
    fn narrow(self, from: &[f32], to: &mut [f16]);
}

/// The inner product `Σ a·b`. Panics when the lengths differ.
#[inline]
pub fn dot(a: &[f16], b: &[f16]) -> f32 {
    assert_eq!(a.len(), b.len(), "vectors of different length");
    level().dot(a, b)
}

/// The squared Euclidean distance `Σ (a - b)²`. Panics when the lengths differ.
#[inline]
pub fn squared_l2(a: &[f16], b: &[f16]) -> f32 {
    assert_eq!(a.len(), b.len(), "vectors of different length");
    level().squared_l2(a, b)
}

/// `Σ a·b`, `Σ a²` and `Σ b²` in one pass. Panics when the lengths differ.
#[inline]
pub fn cosine_parts(a: &[f16], b: &[f16]) -> CosineParts {
    assert_eq!(a.len(), b.len(), "vectors of different length");
    level().cosine_parts(a, b)
}

/// `Σ a²`, the square of the Euclidean norm.
#[inline]
pub fn squared_norm(a: &[f16]) -> f32 {
    level().squared_norm(a)
}

/// Widens to single precision, exactly. Panics when the lengths differ.
#[inline]
pub fn widen(from: &[f16], to: &mut [f32]) {
    assert_eq!(from.len(), to.len(), "slices of different length");
    level().widen(from, to);
}

/// Rounds to half precision, ties to even; past ±65519 to infinity. Panics when the lengths
/// differ.
#[inline]
pub fn narrow(from: &[f32], to: &mut [f16]) {
    assert_eq!(from.len(), to.len(), "slices of different length");
    level().narrow(from, to);
}

/// The index of the first NaN or infinity. A plain loop over the exponent bits, which the compiler
/// vectorises on every architecture.
pub fn first_non_finite(values: &[f16]) -> Option<usize> {
    const EXPONENT: u16 = 0x7c00;
    let special = |x: &f16| x.to_bits() & EXPONENT == EXPONENT;
    const BLOCK: usize = 64;
    for (index, block) in values.chunks(BLOCK).enumerate() {
        if block.iter().fold(false, |any, x| any | special(x)) {
            return block.iter().position(special).map(|at| index * BLOCK + at);
        }
    }
    None
}
