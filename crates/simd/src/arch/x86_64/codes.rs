//! Masked lanes of AVX2 (a comparison a mask) and AVX-512F (mask registers), and the kernels on
//! codes over them. Beside the variants' own files because only the index needs them.

use std::arch::x86_64::*;

use super::{Avx2, Avx512};
use crate::generic_codes::code_kernels;
use crate::lanes::MaskedLanes;

code_kernels!(Avx2, __m256, "avx2,fma,f16c");
code_kernels!(Avx512, __m512, "avx512f");

// SAFETY of every block: the trait's contract (the caller has the target features, `code` is
// valid for the bits asked for).
#[allow(clippy::undocumented_unsafe_blocks, reason = "one reason for all, above")]
impl MaskedLanes for __m256 {
    type Mask = __m256;

    #[inline(always)]
    unsafe fn not_negative(self) -> __m256 {
        unsafe { _mm256_cmp_ps::<_CMP_GE_OQ>(self, _mm256_setzero_ps()) }
    }

    #[inline(always)]
    unsafe fn bits(mask: __m256) -> u64 {
        unsafe { _mm256_movemask_ps(mask) as u64 }
    }

    #[inline(always)]
    unsafe fn add_where(self, other: Self, mask: __m256) -> Self {
        unsafe { _mm256_add_ps(self, _mm256_and_ps(other, mask)) }
    }
}

// SAFETY of every block: as above.
#[allow(clippy::undocumented_unsafe_blocks, reason = "one reason for all, above")]
impl MaskedLanes for __m512 {
    type Mask = __mmask16;

    #[inline(always)]
    unsafe fn not_negative(self) -> __mmask16 {
        unsafe { _mm512_cmp_ps_mask::<_CMP_GE_OQ>(self, _mm512_setzero_ps()) }
    }

    #[inline(always)]
    unsafe fn bits(mask: __mmask16) -> u64 {
        u64::from(mask)
    }

    #[inline(always)]
    unsafe fn add_where(self, other: Self, mask: __mmask16) -> Self {
        unsafe { _mm512_mask_add_ps(self, mask, self, other) }
    }
}
