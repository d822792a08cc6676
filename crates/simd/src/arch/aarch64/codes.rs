//! Masked lanes of NEON, and the kernels on codes over them. Beside the variant's own file because
//! only the index needs them.

use std::arch::aarch64::*;

use super::Neon;
use crate::generic_bytes::{ByteDot, CODES, Loop, byte_kernels};
use crate::generic_codes::code_kernels;
use crate::lanes::MaskedLanes;

code_kernels!(Neon, float32x4_t, "neon");
byte_kernels!(Neon, () => "neon", Bytes);

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

/// Products by the plain loop, of which the compiler makes what one would write by hand.
#[derive(Debug)]
pub(crate) struct Bytes;

// SAFETY of every block: as above; `length` is whole blocks of 64.
#[allow(clippy::undocumented_unsafe_blocks, reason = "one reason for all, above")]
impl ByteDot for Bytes {
    #[inline(always)]
    unsafe fn dot(a: *const i8, b: *const i8, length: usize) -> i32 {
        unsafe { Loop::dot(a, b, length) }
    }

    #[inline(always)]
    unsafe fn masked(values: *const i8, length: usize, codes: [*const u8; CODES]) -> [i32; CODES] {
        unsafe {
            let each = vreinterpretq_u8_u64(vdupq_n_u64(0x8040_2010_0804_0201));
            let mut sums = [vdupq_n_s32(0); CODES];
            for at in (0..length).step_by(16) {
                let values = vld1q_s8(values.add(at));
                for (code, sum) in codes.iter().zip(&mut sums) {
                    let bits = code.add(at / 8);
                    let bits = vcombine_u8(vdup_n_u8(*bits), vdup_n_u8(*bits.add(1)));
                    let named = vandq_s8(values, vreinterpretq_s8_u8(vtstq_u8(bits, each)));
                    *sum = vpadalq_s16(*sum, vpaddlq_s8(named));
                }
            }
            let mut totals = [0; CODES];
            for (total, sum) in totals.iter_mut().zip(sums) {
                *total = vaddvq_s32(sum);
            }
            totals
        }
    }
}
