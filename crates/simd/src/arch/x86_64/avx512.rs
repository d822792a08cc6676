//! AVX-512F, sixteen lanes. The foundation set alone is asked for: it has the fp16 conversions. Bytes
//! want VNNI, and go by AVX2 without it.

use std::arch::x86_64::*;

use half::f16;

use crate::generic::kernels;
use crate::lanes::Lanes;

/// Proof that this CPU, and the operating system, have AVX-512F, and AVX2.
#[derive(Debug, Clone, Copy)]
pub struct Avx512 {
    /// Are BW and VNNI there, too?
    bytes: bool,
}

impl Avx512 {
    /// The variant, where the CPU has it.
    pub fn new() -> Option<Self> {
        let here = is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx2");
        let bytes = is_x86_feature_detected!("avx512bw") && is_x86_feature_detected!("avx512vnni");
        here.then_some(Self { bytes })
    }

    /// Proof of BW and VNNI, where it is true.
    pub(super) fn bytes(self) -> bool {
        self.bytes
    }

    /// Whether this CPU is of a make whose AVX-512 is worth preferring to AVX2. AMD's Zen 4 splits
    /// each 512-bit operation in two: there the dot product of 768 elements took 43 ns, with AVX2
    /// 29 ns. Intel's cores do them whole, and so do AMD's from Zen 5 on: 22 ns, with AVX2 28 ns.
    pub fn is_full_width() -> bool {
        const ZEN_5: u32 = 0x1a;
        let id = __cpuid(0);
        let vendor = [id.ebx, id.edx, id.ecx].map(u32::to_le_bytes);
        let signature = __cpuid(1).eax;
        // A family past the four bits that there were first is their greatest and an extension.
        let family = (signature >> 8 & 0xf) + (signature >> 20 & 0xff);
        match vendor.as_flattened() {
            b"GenuineIntel" => true,
            b"AuthenticAMD" => family >= ZEN_5,
            _ => false,
        }
    }
}

kernels!(Avx512, __m512, "avx512f");

// SAFETY of every block: the trait's contract (the caller has the target features, pointers are
// valid for WIDTH elements).
#[allow(clippy::undocumented_unsafe_blocks, reason = "one reason for all, above")]
impl Lanes for __m512 {
    const WIDTH: usize = 16;

    #[inline(always)]
    unsafe fn zero() -> Self {
        unsafe { _mm512_setzero_ps() }
    }

    #[inline(always)]
    unsafe fn load_f16(from: *const u16) -> Self {
        unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(from.cast())) }
    }

    #[inline(always)]
    unsafe fn store_f16(self, to: *mut u16) {
        unsafe {
            let rounded = _mm512_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(self);
            _mm256_storeu_si256(to.cast(), rounded);
        }
    }

    #[inline(always)]
    unsafe fn load_f32(from: *const f32) -> Self {
        unsafe { _mm512_loadu_ps(from) }
    }

    #[inline(always)]
    unsafe fn store_f32(self, to: *mut f32) {
        unsafe { _mm512_storeu_ps(to, self) }
    }

    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        unsafe { _mm512_add_ps(self, other) }
    }

    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        unsafe { _mm512_sub_ps(self, other) }
    }

    #[inline(always)]
    unsafe fn mul_add(self, other: Self, sum: Self) -> Self {
        unsafe { _mm512_fmadd_ps(self, other, sum) }
    }

    #[inline(always)]
    unsafe fn sum(self) -> f32 {
        unsafe { _mm512_reduce_add_ps(self) }
    }
}
