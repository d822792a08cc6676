//! The inverse cosine transform of libjpeg-turbo's vector code, which its C code differs from where
//! damaged data overflow: Pillow has the vectors, and so has this. Plugged into libjpeg's decoder.
//!
//! The algorithm is Loeffler, Ligtenberg and Moschytz's (ICASSP 1989) in fixed point, as in libjpeg's
//! "islow". What matters beyond that is which steps are of 16 bits and wrap, and which saturate.

#[cfg(target_arch = "x86_64")]
mod sse2;

use libc::c_int;
use mozjpeg_sys as sys;

/// Fraction bits of the constants, and those kept between the passes.
const CONST_BITS: u32 = 13;
const PASS1_BITS: u32 = 2;

const F_0_298: i32 = 2446;
const F_0_390: i32 = 3196;
const F_0_541: i32 = 4433;
const F_0_765: i32 = 6270;
const F_0_899: i32 = 7373;
const F_1_175: i32 = 9633;
const F_1_501: i32 = 12299;
const F_1_847: i32 = 15137;
const F_1_961: i32 = 16069;
const F_2_053: i32 = 16819;
const F_2_562: i32 = 20995;
const F_3_072: i32 = 25172;

type Block = [[i16; 8]; 8];

/// A function of libjpeg's that transforms a block and writes its samples.
pub(super) type Method = unsafe extern "C-unwind" fn(
    *mut sys::jpeg_decompress_struct,
    *mut sys::jpeg_component_info,
    *const i16,
    *const *mut u8,
    u32,
);

unsafe extern "C-unwind" {
    fn jpeg_idct_islow(
        info: *mut sys::jpeg_decompress_struct,
        component: *mut sys::jpeg_component_info,
        coefficients: *const i16,
        rows: *const *mut u8,
        column: u32,
    );
}

/// Called once a component: puts the transform of this file in the place of libjpeg's own of 8 × 8.
pub(super) unsafe extern "C-unwind" fn select(
    _: *mut sys::jpeg_decompress_struct,
    _: *mut sys::jpeg_component_info,
    method: *mut Method,
    _: *mut c_int,
) {
    // SAFETY: the library passes a place that holds its own choice.
    unsafe {
        if *method as usize == jpeg_idct_islow as *const () as usize {
            *method = transform_to;
        }
    }
}

/// # Safety
/// `component` is the library's, `coefficients` are 64, and each of eight `rows` has eight samples from
/// `column` on.
unsafe extern "C-unwind" fn transform_to(
    _: *mut sys::jpeg_decompress_struct,
    component: *mut sys::jpeg_component_info,
    coefficients: *const i16,
    rows: *const *mut u8,
    column: u32,
) {
    // SAFETY: the caller's promise.
    let (table, coefficients) =
        unsafe { ((*component).quant_table.as_ref(), &*coefficients.cast::<Block>()) };
    let samples = match table {
        #[cfg(target_arch = "x86_64")]
        Some(table) => sse2::transform(coefficients, &table.quantval),
        #[cfg(not(target_arch = "x86_64"))]
        Some(table) => transform(coefficients, &table.quantval),
        // No scan has brought this component.
        None => [[128; 8]; 8],
    };
    for (row, samples) in samples.iter().enumerate() {
        // SAFETY: the caller's promise.
        unsafe {
            let out = (*rows.add(row)).add(column as usize);
            out.cast::<[u8; 8]>().write_unaligned(*samples);
        }
    }
}

/// Whether all coefficients but those of the first row are zero.
fn is_flat(coefficients: &Block) -> bool {
    coefficients[1..].iter().flatten().fold(0, |bits, value| bits | value) == 0
}

/// A block's coefficients, times the quantisation steps, to samples of 0 to 255: the oracle of `sse2`.
#[cfg(any(test, not(target_arch = "x86_64")))]
fn transform(coefficients: &Block, steps: &[u16; 64]) -> [[u8; 8]; 8] {
    let mut block = [[0; 8]; 8];
    for row in 0..8 {
        for lane in 0..8 {
            let step = steps[8 * row + lane] as i16;
            block[row][lane] = coefficients[row][lane].wrapping_mul(step);
        }
    }
    let block = if is_flat(coefficients) {
        // Where there is nothing but the first row, the shift wraps and does not saturate.
        [block[0].map(|value| value << PASS1_BITS); 8]
    } else {
        pass::<{ CONST_BITS - PASS1_BITS }>(&block)
    };
    let block = pass::<{ CONST_BITS + PASS1_BITS + 3 }>(&transposed(&block));
    transposed(&block).map(|row| row.map(|value| (value.clamp(-128, 127) + 128) as u8))
}

#[cfg(any(test, not(target_arch = "x86_64")))]
fn transposed(block: &Block) -> Block {
    let mut out = [[0; 8]; 8];
    for row in 0..8 {
        for lane in 0..8 {
            out[row][lane] = block[lane][row];
        }
    }
    out
}

/// The transform of each column, divided by 2^`SHIFT`, rounded and saturated.
#[cfg(any(test, not(target_arch = "x86_64")))]
fn pass<const SHIFT: u32>(block: &Block) -> Block {
    let mut out = [[0; 8]; 8];
    for lane in 0..8 {
        let [in0, in1, in2, in3, in4, in5, in6, in7] =
            [0, 1, 2, 3, 4, 5, 6, 7].map(|row| block[row][lane]);
        let wide = i32::from;
        let even0 = wide(in0.wrapping_add(in4)) << CONST_BITS;
        let even1 = wide(in0.wrapping_sub(in4)) << CONST_BITS;
        let even2 = wide(in2) * F_0_541 + wide(in6) * (F_0_541 - F_1_847);
        let even3 = wide(in2) * (F_0_541 + F_0_765) + wide(in6) * F_0_541;
        let (sum0, sum3) = (even0.wrapping_add(even3), even0.wrapping_sub(even3));
        let (sum1, sum2) = (even1.wrapping_add(even2), even1.wrapping_sub(even2));

        let (z3, z4) = (wide(in7.wrapping_add(in3)), wide(in5.wrapping_add(in1)));
        let turned3 = z3 * (F_1_175 - F_1_961) + z4 * F_1_175;
        let turned4 = z3 * F_1_175 + z4 * (F_1_175 - F_0_390);
        let odd0 = (wide(in7) * (F_0_298 - F_0_899) - wide(in1) * F_0_899).wrapping_add(turned3);
        let odd1 = (wide(in5) * (F_2_053 - F_2_562) - wide(in3) * F_2_562).wrapping_add(turned4);
        let odd2 = (wide(in3) * (F_3_072 - F_2_562) - wide(in5) * F_2_562).wrapping_add(turned3);
        let odd3 = (wide(in1) * (F_1_501 - F_0_899) - wide(in7) * F_0_899).wrapping_add(turned4);

        let half = 1 << (SHIFT - 1);
        let most = (wide(i16::MIN), wide(i16::MAX));
        let scaled = |sum: i32| (sum.wrapping_add(half) >> SHIFT).clamp(most.0, most.1) as i16;
        let pairs = [(sum0, odd3), (sum1, odd2), (sum2, odd1), (sum3, odd0)];
        for (row, (even, odd)) in pairs.into_iter().enumerate() {
            out[row][lane] = scaled(even.wrapping_add(odd));
            out[7 - row][lane] = scaled(even.wrapping_sub(odd));
        }
    }
    out
}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use super::{sse2, transform};

    /// Damaged JPEG files once differed from Pillow's: what overflows has to overflow in the same way.
    #[test]
    fn vectors_are_the_oracles() {
        let mut state = 1u32;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 16) as u16
        };
        for round in 0..20_000 {
            // From blocks as they are in pictures to all bits set anyhow.
            let (kept, most) = (1 + round % 64, [1 << 3, 1 << 7, 1 << 11, 1 << 16][round / 64 % 4]);
            let mut block = [[0i16; 8]; 8];
            for at in 0..kept {
                block[at / 8][at % 8] =
                    ((u32::from(next()) % most) as i32 - (most / 2) as i32) as i16;
            }
            let steps: [u16; 64] =
                std::array::from_fn(|_| 1 + next() % [16, 255, 65_535][round % 3]);
            assert_eq!(sse2::transform(&block, &steps), transform(&block, &steps), "{block:?}");
        }
    }
}
