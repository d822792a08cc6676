//! Sums of bytes, and of products of bytes: AVX2 by widening, and AVX-512's VNNI. Beside the variants'
//! own files because only the index needs them.

use std::arch::x86_64::*;

use super::{Avx2, Avx512};
use crate::generic_bytes::{ByteDot, CODES, byte_kernels};

byte_kernels!(Avx2, () => "avx2,fma,f16c", Widened);
byte_kernels!(
    Avx512,
    false => "avx2", Widened;
    true => "avx2,avx512f,avx512bw,avx512vnni", Vnni
);

impl Avx2 {
    fn bytes(self) {}
}

/// 16 bytes at a time, as 16-bit numbers whose products are added in pairs.
#[derive(Debug)]
pub(crate) struct Widened;

// SAFETY of every block: the trait's contract; loads end at or before `length`.
#[allow(clippy::undocumented_unsafe_blocks, reason = "one reason for all, above")]
impl ByteDot for Widened {
    #[inline(always)]
    unsafe fn dot(a: *const i8, b: *const i8, length: usize) -> i32 {
        unsafe {
            let load = |from: *const i8| _mm256_cvtepi8_epi16(_mm_loadu_si128(from.cast()));
            let mut sums = [_mm256_setzero_si256(); 2];
            let mut at = 0;
            while at + 32 <= length {
                for (half, sum) in sums.iter_mut().enumerate() {
                    let at = at + 16 * half;
                    let products = _mm256_madd_epi16(load(a.add(at)), load(b.add(at)));
                    *sum = _mm256_add_epi32(*sum, products);
                }
                at += 32;
            }
            let sum = _mm256_add_epi32(sums[0], sums[1]);
            let sum =
                _mm_add_epi32(_mm256_castsi256_si128(sum), _mm256_extracti128_si256::<1>(sum));
            let sum = _mm_add_epi32(sum, _mm_shuffle_epi32::<0b01_00_11_10>(sum));
            let sum = _mm_add_epi32(sum, _mm_shuffle_epi32::<0b10_11_00_01>(sum));
            let mut total = _mm_cvtsi128_si32(sum);
            for at in at..length {
                total += i32::from(*a.add(at)) * i32::from(*b.add(at));
            }
            total
        }
    }

    #[inline(always)]
    unsafe fn masked(values: *const i8, length: usize, codes: [*const u8; CODES]) -> [i32; CODES] {
        /// So many blocks of 32 bytes add up in 16 bits: at most 256 each.
        const FLUSH: usize = 127;
        const BLOCK: usize = 32;
        unsafe {
            let spread = _mm256_set_epi64x(
                0x0303_0303_0303_0303,
                0x0202_0202_0202_0202,
                0x0101_0101_0101_0101,
                0,
            );
            let each = _mm256_set1_epi64x(0x8040_2010_0804_0201_u64 as i64);
            let (ones, ones16) = (_mm256_set1_epi8(1), _mm256_set1_epi16(1));
            let mut sums = [_mm256_setzero_si256(); CODES];
            let mut at = 0;
            while at < length {
                let end = length.min(at + FLUSH * BLOCK);
                let mut few = [_mm256_setzero_si256(); CODES];
                while at < end {
                    let values = _mm256_loadu_si256(values.add(at).cast());
                    for (code, few) in codes.iter().zip(&mut few) {
                        let bits = code.add(at / 8).cast::<i32>();
                        let bits = _mm256_set1_epi32(bits.read_unaligned());
                        let bits = _mm256_and_si256(_mm256_shuffle_epi8(bits, spread), each);
                        let named = _mm256_and_si256(values, _mm256_cmpeq_epi8(bits, each));
                        *few = _mm256_add_epi16(*few, _mm256_maddubs_epi16(ones, named));
                    }
                    at += BLOCK;
                }
                for (sum, few) in sums.iter_mut().zip(few) {
                    *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(few, ones16));
                }
            }
            totals(sums)
        }
    }
}

/// The sums of the lanes of each.
///
/// # Safety
/// To be called from a function compiled with AVX2.
#[inline(always)]
unsafe fn totals([a, b, c, d]: [__m256i; CODES]) -> [i32; CODES] {
    // SAFETY: the caller's promise; a register of four numbers is an array of four.
    unsafe {
        let pairs = _mm256_hadd_epi32(_mm256_hadd_epi32(a, b), _mm256_hadd_epi32(c, d));
        let high = _mm256_extracti128_si256::<1>(pairs);
        std::mem::transmute(_mm_add_epi32(_mm256_castsi256_si128(pairs), high))
    }
}

/// 64 bytes at a time. The instruction multiplies unsigned bytes by signed ones: `a + 128` by `b`,
/// and 128 times the sum of `b` is taken away again.
#[derive(Debug)]
pub(crate) struct Vnni;

// SAFETY of every block: the trait's contract; loads end at or before `length`, or are masked there.
#[allow(clippy::undocumented_unsafe_blocks, reason = "one reason for all, above")]
impl ByteDot for Vnni {
    #[inline(always)]
    unsafe fn dot(a: *const i8, b: *const i8, length: usize) -> i32 {
        unsafe {
            let offset = _mm512_set1_epi8(-128);
            let (mut sums, mut offsets) = (_mm512_setzero_si512(), _mm512_setzero_si512());
            let mut at = 0;
            while at + 64 <= length {
                let x = _mm512_loadu_si512(a.add(at).cast());
                let y = _mm512_loadu_si512(b.add(at).cast());
                sums = _mm512_dpbusd_epi32(sums, _mm512_xor_si512(x, offset), y);
                offsets = _mm512_dpbusd_epi32(offsets, offset, y);
                at += 64;
            }
            if at < length {
                let mask = (1u64 << (length - at)) - 1;
                let x = _mm512_maskz_loadu_epi8(mask, a.add(at));
                let y = _mm512_maskz_loadu_epi8(mask, b.add(at));
                sums = _mm512_dpbusd_epi32(sums, _mm512_xor_si512(x, offset), y);
                offsets = _mm512_dpbusd_epi32(offsets, offset, y);
            }
            _mm512_reduce_add_epi32(_mm512_sub_epi32(sums, offsets))
        }
    }

    #[inline(always)]
    unsafe fn masked(values: *const i8, length: usize, codes: [*const u8; CODES]) -> [i32; CODES] {
        unsafe {
            let ones = _mm512_set1_epi8(1);
            let mut sums = [_mm512_setzero_si512(); CODES];
            for at in (0..length).step_by(64) {
                let values = _mm512_loadu_si512(values.add(at).cast());
                for (code, sum) in codes.iter().zip(&mut sums) {
                    let mask = code.add(at / 8).cast::<u64>();
                    let named = _mm512_maskz_mov_epi8(mask.read_unaligned(), values);
                    *sum = _mm512_dpbusd_epi32(*sum, ones, named);
                }
            }
            let mut halves = [_mm256_setzero_si256(); CODES];
            for (half, sum) in halves.iter_mut().zip(sums) {
                let high = _mm512_extracti64x4_epi64::<1>(sum);
                *half = _mm256_add_epi32(_mm512_castsi512_si256(sum), high);
            }
            totals(halves)
        }
    }
}
