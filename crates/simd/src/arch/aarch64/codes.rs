//! Masked lanes of NEON, and the kernels on codes over them. Beside the variant's own file because
//! only the index needs them.

use std::arch::aarch64::*;

use super::Neon;
use crate::generic_bytes::{Loop, byte_kernels};
use crate::generic_codes::code_kernels;
use crate::lanes::MaskedLanes;

code_kernels!(Neon, float32x4_t, "neon");
byte_kernels!(Neon, () => "neon", Loop);

impl Neon {
    fn bytes(self) {}
}

/// The bit of each lane.
const EACH: [u32; 4] = [1, 2, 4, 8];

// SAFETY of every block: the trait's contract (the caller has the target feature, `code` is valid
// for the bits asked for).
#[allow(clippy::undocumented_unsafe_blocks, reason = "one reason for all, above")]
impl MaskedLanes for float32x4_t {
    type Mask = uint32x4_t;

    #[inline(always)]
    unsafe fn mask(code: *const u8, at: usize) -> uint32x4_t {
        unsafe {
            let nibble = u32::from(*code.add(at / 8) >> (at % 8));
            vtstq_u32(vdupq_n_u32(nibble), vld1q_u32(EACH.as_ptr()))
        }
    }

    #[inline(always)]
    unsafe fn not_negative(self) -> uint32x4_t {
        unsafe { vcgezq_f32(self) }
    }

    #[inline(always)]
    unsafe fn bits(mask: uint32x4_t) -> u64 {
        unsafe { u64::from(vaddvq_u32(vandq_u32(mask, vld1q_u32(EACH.as_ptr())))) }
    }

    #[inline(always)]
    unsafe fn add_where(self, other: Self, mask: uint32x4_t) -> Self {
        unsafe {
            let kept = vandq_u32(vreinterpretq_u32_f32(other), mask);
            vaddq_f32(self, vreinterpretq_f32_u32(kept))
        }
    }
}
