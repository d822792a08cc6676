//! Vectors where they lie in a page: fp16 numbers, little-endian, in a run of bytes. Its own file
//! because it is the one place that looks at bytes as numbers.

use half::f16;

/// The fp16 numbers in these bytes: the bytes themselves where alignment and byte order allow,
/// else a copy in `scratch`. An odd byte at the end is left out.
#[inline]
pub fn halves<'a>(bytes: &'a [u8], scratch: &'a mut Vec<f16>) -> &'a [f16] {
    if cfg!(target_endian = "little") && bytes.len().is_multiple_of(2) {
        // SAFETY: every pattern of two bytes is an fp16 number.
        let (before, numbers, after) = unsafe { bytes.align_to::<f16>() };
        if before.is_empty() && after.is_empty() {
            return numbers;
        }
    }
    scratch.clear();
    scratch.extend(bytes.as_chunks::<2>().0.iter().map(|pair| f16::from_le_bytes(*pair)));
    scratch
}

/// Asks the CPU to bring the start of these values into its caches. Only a hint.
#[inline]
pub fn prefetch<T>(values: &[T]) {
    prefetch_run(values.as_ptr(), size_of_val(values));
}

/// Asks for so many bytes from here on, or the first of them. Only a hint, of any address.
#[inline(always)]
pub fn prefetch_run<T>(from: *const T, bytes: usize) {
    /// More than so many are left to the CPU, which sees a run by then.
    const LINES: usize = 48;
    const LINE: usize = 64;
    #[cfg(target_arch = "x86_64")]
    for line in 0..bytes.div_ceil(LINE).min(LINES) {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        let address = from.cast::<i8>().wrapping_add(line * LINE);
        // SAFETY: SSE is part of x86-64, and a prefetch of any address is allowed.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(address) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (from, bytes, LINES, LINE);
}
