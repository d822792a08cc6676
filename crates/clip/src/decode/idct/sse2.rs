//! The transform with SSE2, which every x86-64 has: eight columns at a time in 16 bits, products summed in
//! pairs to 32. Held to the plain code of `idct.rs` by its test.

use std::arch::x86_64::*;

use super::*;

type Rows = [__m128i; 8];

/// As the oracle's.
pub(super) fn transform(coefficients: &Block, steps: &[u16; 64]) -> [[u8; 8]; 8] {
    let rows: Rows = std::array::from_fn(|row| {
        // SAFETY: eight values of 16 bits are read of each.
        unsafe {
            let coefficients = _mm_loadu_si128(coefficients[row].as_ptr().cast());
            let steps = _mm_loadu_si128(steps[8 * row..8 * row + 8].as_ptr().cast());
            _mm_mullo_epi16(coefficients, steps)
        }
    });
    // SAFETY: SSE2 is part of x86-64.
    unsafe {
        let rows = if is_flat(coefficients) {
            [_mm_slli_epi16::<{ PASS1_BITS as i32 }>(rows[0]); 8]
        } else {
            pass::<{ (CONST_BITS - PASS1_BITS) as i32 }>(rows)
        };
        let rows = pass::<{ (CONST_BITS + PASS1_BITS + 3) as i32 }>(transposed(rows));
        let rows = transposed(rows);
        let mut out = [[0; 8]; 8];
        for pair in 0..4 {
            let bytes = _mm_packs_epi16(rows[2 * pair], rows[2 * pair + 1]);
            let bytes = _mm_xor_si128(bytes, _mm_set1_epi8(-128));
            _mm_storeu_si128(out[2 * pair..2 * pair + 2].as_mut_ptr().cast(), bytes);
        }
        out
    }
}

/// Two constants for each pair of values.
#[inline(always)]
unsafe fn pair(first: i32, second: i32) -> __m128i {
    // SAFETY: SSE2 is part of x86-64.
    unsafe { _mm_set1_epi32(second << 16 | first & 0xffff) }
}

/// # Safety
/// None but that of the instructions, which every x86-64 has.
#[inline(always)]
unsafe fn pass<const SHIFT: i32>(rows: Rows) -> Rows {
    let [in0, in1, in2, in3, in4, in5, in6, in7] = rows;
    // SAFETY: SSE2 is part of x86-64.
    unsafe {
        let (sum04, difference04) = (_mm_add_epi16(in0, in4), _mm_sub_epi16(in0, in4));
        let (z3, z4) = (_mm_add_epi16(in3, in7), _mm_add_epi16(in1, in5));
        let half = |interleaved: fn(__m128i, __m128i) -> __m128i| -> [__m128i; 8] {
            let shifted = |values| {
                let wide = interleaved(_mm_setzero_si128(), values);
                _mm_srai_epi32::<{ 16 - CONST_BITS as i32 }>(wide)
            };
            let madd = |pairs, first, second| _mm_madd_epi16(pairs, pair(first, second));
            let (even0, even1) = (shifted(sum04), shifted(difference04));
            let pairs = interleaved(in2, in6);
            let even2 = madd(pairs, F_0_541, F_0_541 - F_1_847);
            let even3 = madd(pairs, F_0_541 + F_0_765, F_0_541);
            let (sum0, sum3) = (_mm_add_epi32(even0, even3), _mm_sub_epi32(even0, even3));
            let (sum1, sum2) = (_mm_add_epi32(even1, even2), _mm_sub_epi32(even1, even2));

            let pairs = interleaved(z3, z4);
            let turned3 = madd(pairs, F_1_175 - F_1_961, F_1_175);
            let turned4 = madd(pairs, F_1_175, F_1_175 - F_0_390);
            let pairs = interleaved(in7, in1);
            let odd0 = _mm_add_epi32(madd(pairs, F_0_298 - F_0_899, -F_0_899), turned3);
            let odd3 = _mm_add_epi32(madd(pairs, -F_0_899, F_1_501 - F_0_899), turned4);
            let pairs = interleaved(in5, in3);
            let odd1 = _mm_add_epi32(madd(pairs, F_2_053 - F_2_562, -F_2_562), turned4);
            let odd2 = _mm_add_epi32(madd(pairs, -F_2_562, F_3_072 - F_2_562), turned3);

            let rounding = _mm_set1_epi32(1 << (SHIFT - 1));
            let scaled = |sum| _mm_srai_epi32::<SHIFT>(_mm_add_epi32(sum, rounding));
            let up = |even, odd| scaled(_mm_add_epi32(even, odd));
            let down = |even, odd| scaled(_mm_sub_epi32(even, odd));
            [
                up(sum0, odd3),
                up(sum1, odd2),
                up(sum2, odd1),
                up(sum3, odd0),
                down(sum3, odd0),
                down(sum2, odd1),
                down(sum1, odd2),
                down(sum0, odd3),
            ]
        };
        let low = half(|a, b| _mm_unpacklo_epi16(a, b));
        let high = half(|a, b| _mm_unpackhi_epi16(a, b));
        std::array::from_fn(|row| _mm_packs_epi32(low[row], high[row]))
    }
}

/// # Safety
/// None but that of the instructions, which every x86-64 has.
#[inline(always)]
unsafe fn transposed(r: Rows) -> Rows {
    // SAFETY: SSE2 is part of x86-64.
    unsafe {
        let (a0, a1) = (_mm_unpacklo_epi16(r[0], r[1]), _mm_unpackhi_epi16(r[0], r[1]));
        let (a2, a3) = (_mm_unpacklo_epi16(r[2], r[3]), _mm_unpackhi_epi16(r[2], r[3]));
        let (a4, a5) = (_mm_unpacklo_epi16(r[4], r[5]), _mm_unpackhi_epi16(r[4], r[5]));
        let (a6, a7) = (_mm_unpacklo_epi16(r[6], r[7]), _mm_unpackhi_epi16(r[6], r[7]));
        let (b0, b1) = (_mm_unpacklo_epi32(a0, a2), _mm_unpackhi_epi32(a0, a2));
        let (b2, b3) = (_mm_unpacklo_epi32(a1, a3), _mm_unpackhi_epi32(a1, a3));
        let (b4, b5) = (_mm_unpacklo_epi32(a4, a6), _mm_unpackhi_epi32(a4, a6));
        let (b6, b7) = (_mm_unpacklo_epi32(a5, a7), _mm_unpackhi_epi32(a5, a7));
        [
            _mm_unpacklo_epi64(b0, b4),
            _mm_unpackhi_epi64(b0, b4),
            _mm_unpacklo_epi64(b1, b5),
            _mm_unpackhi_epi64(b1, b5),
            _mm_unpacklo_epi64(b2, b6),
            _mm_unpackhi_epi64(b2, b6),
            _mm_unpacklo_epi64(b3, b7),
            _mm_unpackhi_epi64(b3, b7),
        ]
    }
}
