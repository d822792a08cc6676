//! One-bit codes of residuals, and the sums that distances are estimated from.
//!
//! A code is the sign of each component of a rotated residual `R(u - v)`, one bit a component,
//! lowest bit first, set where the component is not negative. Read as ±½, its inner product with
//! a rotated vector `x` is `Σ x[set] - ½ Σ x`: one masked sum over `x`. RaBitQ (arXiv 2405.12497)
//! turns that into an unbiased estimate of `⟨u - v, x⟩`. Its own file because the index alone
//! needs it; the `embedding` type does not.
//!
//! All variants add fp32 numbers under a mask, exactly as the scalar loop does but for the order
//! of the additions; no variant quantises the query.

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
    /// See [`masked_sums`].
    fn masked_sums(self, values: &[f32], codes: &[u8], sums: &mut [f32]);
    /// See [`encode_residual`].
    fn encode_residual(self, to: &[f32], from: &[f32], code: &mut [u8]) -> ResidualSums;
}

/// For each of the codes, which lie end to end, the sum of those `values` whose bit is set.
/// Panics when the lengths do not fit each other.
#[inline]
pub fn masked_sums(values: &[f32], codes: &[u8], sums: &mut [f32]) {
    check_masked(values, codes, sums);
    code_level().masked_sums(values, codes, sums);
}

/// Writes the code of `to - from`, both rotated. Panics when the lengths do not fit each other.
#[inline]
pub fn encode_residual(to: &[f32], from: &[f32], code: &mut [u8]) -> ResidualSums {
    check_residual(to, from, code);
    code_level().encode_residual(to, from, code)
}

/// What [`CodeKernels::masked_sums`] relies on.
#[inline]
pub(crate) fn check_masked(values: &[f32], codes: &[u8], sums: &[f32]) {
    assert_eq!(values.len() % CODE_BLOCK, 0, "not whole blocks of components");
    assert_eq!(codes.len(), values.len() / 8 * sums.len(), "codes of another length");
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
