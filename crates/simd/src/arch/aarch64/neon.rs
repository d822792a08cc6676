//! NEON, four lanes. The conversions are in the base instruction set but their intrinsics need
//! Rust's unstable `f16` type, so two instructions are written out.

use std::arch::aarch64::*;
use std::arch::asm;

use half::f16;

use crate::generic::kernels;
use crate::lanes::Lanes;

/// Proof that this CPU has NEON.
#[derive(Debug, Clone, Copy)]
pub struct Neon(());

impl Neon {
    /// The variant, where the CPU has it.
    pub fn new() -> Option<Self> {
        std::arch::is_aarch64_feature_detected!("neon").then_some(Self(()))
    }
}

kernels!(Neon, float32x4_t, "neon");

// SAFETY of every block: the trait's contract (the caller has the target feature, pointers are
// valid for WIDTH elements); the assembly reads and writes registers only.
#[allow(clippy::undocumented_unsafe_blocks, reason = "one reason for all, above")]
impl Lanes for float32x4_t {
    const WIDTH: usize = 4;

    #[inline(always)]
    unsafe fn zero() -> Self {
        unsafe { vdupq_n_f32(0.0) }
    }

    #[inline(always)]
    unsafe fn load_f16(from: *const u16) -> Self {
        unsafe {
            let halves = vld1_u16(from);
            let widened: float32x4_t;
            asm!(
                "fcvtl {to:v}.4s, {from:v}.4h",
                to = lateout(vreg) widened,
                from = in(vreg) halves,
                options(pure, nomem, nostack, preserves_flags),
            );
            widened
        }
    }

    #[inline(always)]
    unsafe fn store_f16(self, to: *mut u16) {
        unsafe {
            let rounded: uint16x4_t;
            asm!(
                "fcvtn {to:v}.4h, {from:v}.4s",
                to = lateout(vreg) rounded,
                from = in(vreg) self,
                options(pure, nomem, nostack, preserves_flags),
            );
            vst1_u16(to, rounded);
        }
    }

    #[inline(always)]
    unsafe fn load_f32(from: *const f32) -> Self {
        unsafe { vld1q_f32(from) }
    }

    #[inline(always)]
    unsafe fn store_f32(self, to: *mut f32) {
        unsafe { vst1q_f32(to, self) }
    }

    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        unsafe { vaddq_f32(self, other) }
    }

    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        unsafe { vsubq_f32(self, other) }
    }

    #[inline(always)]
    unsafe fn mul_add(self, other: Self, sum: Self) -> Self {
        unsafe { vfmaq_f32(sum, self, other) }
    }

    #[inline(always)]
    unsafe fn sum(self) -> f32 {
        unsafe { vaddvq_f32(self) }
    }
}
