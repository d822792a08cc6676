//! One-bit codes of residuals, and the sums that distances are estimated from.
//!
//! A code is the sign of each component of a rotated residual `R(u - v)`, one bit a component,
//! lowest bit first, set where the component is not negative. Read as ±½, its inner product with
//! a rotated vector `x` is `Σ x[set] - ½ Σ x`: one masked sum over `x`. RaBitQ (arXiv 2405.12497)
//! turns that into an unbiased estimate of `⟨u - v, x⟩`. Its own file because the index alone
//! needs it; the `embedding` type does not.
//!
//! The vector that a code meets is rounded to bytes ([`round_to_bytes`]): its error is a hundredth of
//! what one bit a component costs, and sums of bytes are exact, so that all variants agree to the bit.

use crate::ByteKernels;
use crate::level::code_level;

/// Components of a rotated vector come in whole blocks of so many: a code is whole 8-byte words.
pub const CODE_BLOCK: usize = 64;

/// The length of a rotated vector of `dims` components: `dims` rounded up to [`CODE_BLOCK`].
pub const fn rotated_dims(dims: usize) -> usize {
    dims.div_ceil(CODE_BLOCK) * CODE_BLOCK
}

/// The bytes of a code of a vector of `dims` components.
pub const fn code_bytes(dims: usize) -> usize {
    rotated_dims(dims) / 8
}

/// What one pass over a residual yields beside its code.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ResidualSums {
    /// `Σ |r|`, twice the inner product of the residual with its own code.
    pub l1: f32,
    /// `Σ r²`
    pub square: f32,
    /// `⟨c, v⟩`: the code (as ±½) with the vector that the residual starts from.
    pub origin: f32,
}

/// The operations on codes that every variant has. Rotated vectors are whole numbers of
/// [`CODE_BLOCK`] components long; the functions of this crate check lengths and then call these.
pub trait CodeKernels: Copy {
    /// One stage of a Hadamard transform: `(x, y) → (x + y, x - y)` for each pair of elements
    /// `stride` apart in each run of `2 · stride`.
    fn butterflies(self, data: &mut [f32], stride: usize);
    /// See [`encode_residual`].
    fn encode_residual(self, to: &[f32], from: &[f32], code: &mut [u8]) -> ResidualSums;
}

/// For each of `slots`, places among the codes that lie end to end, the sum of those `values` whose bit
/// is set there, exact below ten million components. Panics when the lengths do not fit each other, and
/// where a code is not there.
#[inline]
pub fn masked_sums(values: &[i8], codes: &[u8], slots: &[u8], sums: &mut [i32]) {
    code_level().masked_sums(values, codes, slots, sums);
}

/// Rounds to bytes between -127 and 127, the largest to one of these, and returns what one is worth.
/// Panics when the lengths differ.
pub fn round_to_bytes(from: &[f32], to: &mut [i8]) -> f32 {
    /// Added to a number of few bits it leaves that, rounded, in the lowest bits.
    const ROUNDING: f32 = 1.5 * (1 << 23) as f32;
    assert_eq!(from.len(), to.len(), "slices of different length");
    let largest = from.iter().fold(0f32, |largest, x| largest.max(x.abs()));
    let by = 127.0 / largest;
    if !by.is_finite() {
        to.fill(0);
        return 0.0;
    }
    for (to, x) in to.iter_mut().zip(from) {
        *to = (x * by + ROUNDING).to_bits() as i8;
    }
    largest / 127.0
}

/// Writes the code of `to - from`, both rotated. Panics when the lengths do not fit each other.
#[inline]
pub fn encode_residual(to: &[f32], from: &[f32], code: &mut [u8]) -> ResidualSums {
    check_residual(to, from, code);
    code_level().encode_residual(to, from, code)
}

/// What [`ByteKernels::masked_sums`](crate::ByteKernels::masked_sums) relies on.
#[inline]
pub(crate) fn check_masked(values: &[i8], codes: &[u8], slots: &[u8], sums: &[i32]) {
    assert_eq!(values.len() % CODE_BLOCK, 0, "not whole blocks of components");
    assert_eq!(slots.len(), sums.len(), "as many results as slots");
    let last = slots.iter().max().map_or(0, |slot| usize::from(*slot) + 1);
    assert!(last * (values.len() / 8) <= codes.len(), "a code that is not there");
}

/// What [`CodeKernels::encode_residual`] relies on.
#[inline]
pub(crate) fn check_residual(to: &[f32], from: &[f32], code: &[u8]) {
    assert_eq!(to.len(), from.len(), "vectors of different length");
    assert_eq!(to.len() % CODE_BLOCK, 0, "not whole blocks of components");
    assert_eq!(code.len(), to.len() / 8, "a code of another length");
}

/// What [`CodeKernels::butterflies`] relies on.
#[inline]
pub(crate) fn check_butterflies(data: &[f32], stride: usize) {
    assert!(stride > 0 && data.len().is_multiple_of(2 * stride), "not whole runs of pairs");
}
