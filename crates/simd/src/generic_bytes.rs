//! The kernels on bytes, once, over any way to sum up two vectors, or those bytes that a code names.

use crate::byte_rows::check_dots;
use crate::bytes::prefetch_run;
use crate::codes::check_masked;

/// How many rows are asked for before they are needed.
const AHEAD: usize = 4;

/// A way to sum up the products of bytes.
///
/// # Safety
/// To be called from a function compiled with the target features that the implementing module
/// names; it is inlined into it. `a` and `b` are valid for `length` bytes.
pub(crate) trait ByteDot {
    /// `Σ a·b`
    unsafe fn dot(a: *const i8, b: *const i8, length: usize) -> i32;

    /// For each of [`CODES`] codes the sum of those `values` whose bit is set; `length` is whole blocks
    /// of 64.
    ///
    /// # Safety
    /// `values` is valid for `length` bytes, `codes` for an eighth of that for each code.
    unsafe fn masked(values: *const i8, length: usize, codes: [*const u8; CODES]) -> [i32; CODES];
}

/// How many codes are summed side by side.
pub(crate) const CODES: usize = 4;

/// The plain loop.
#[derive(Debug)]
pub(crate) struct Loop;

impl ByteDot for Loop {
    #[inline(always)]
    unsafe fn dot(a: *const i8, b: *const i8, length: usize) -> i32 {
        // SAFETY: the caller's promise.
        let (a, b) = unsafe {
            (std::slice::from_raw_parts(a, length), std::slice::from_raw_parts(b, length))
        };
        a.iter().zip(b).map(|(a, b)| i32::from(*a) * i32::from(*b)).sum()
    }

    #[inline(always)]
    unsafe fn masked(values: *const i8, length: usize, codes: [*const u8; CODES]) -> [i32; CODES] {
        // SAFETY: the caller's promise.
        let values = unsafe { std::slice::from_raw_parts(values, length) };
        codes.map(|code| {
            // SAFETY: as above.
            let code = unsafe { std::slice::from_raw_parts(code, length / 8) };
            let set = |at: usize| code[at / 8] >> (at % 8) & 1 == 1;
            let named = values.iter().enumerate().filter(|(at, _)| set(*at));
            named.map(|(_, value)| i32::from(*value)).sum()
        })
    }
}

/// See [`ByteKernels::dots_i8`](crate::ByteKernels::dots_i8).
///
/// # Safety
/// That of [`ByteDot`].
#[inline(always)]
pub(crate) unsafe fn dots<D: ByteDot>(
    query: &[i8],
    rows: &[i8],
    stride: usize,
    ids: &[u32],
    dots: &mut [i32],
) {
    check_dots(query, rows, stride, ids, dots);
    let row = |id: u32| rows.as_ptr().wrapping_add(id as usize * stride);
    ids.iter().take(AHEAD).for_each(|id| prefetch_run(row(*id), stride));
    for (at, (id, dot)) in ids.iter().zip(dots).enumerate() {
        if let Some(next) = ids.get(at + AHEAD) {
            prefetch_run(row(*next), stride);
        }
        // SAFETY: the row is there, and at least as long as the query: checked above.
        *dot = unsafe { D::dot(query.as_ptr(), row(*id), query.len()) };
    }
}

/// See [`masked_sums`](crate::codes::masked_sums).
///
/// # Safety
/// That of [`ByteDot`].
#[inline(always)]
pub(crate) unsafe fn masked_sums<D: ByteDot>(
    values: &[i8],
    codes: &[u8],
    slots: &[u8],
    sums: &mut [i32],
) {
    check_masked(values, codes, slots, sums);
    let bytes = values.len() / 8;
    let code = |slot: u8| codes.as_ptr().wrapping_add(usize::from(slot) * bytes);
    for (slots, sums) in slots.chunks(CODES).zip(sums.chunks_mut(CODES)) {
        // The last group is filled up with its first code.
        let group = std::array::from_fn(|at| code(*slots.get(at).unwrap_or(&slots[0])));
        // SAFETY: the codes of these slots are there: checked above.
        let group = unsafe { D::masked(values.as_ptr(), values.len(), group) };
        sums.copy_from_slice(&group[..sums.len()]);
    }
}

/// The methods of [`ByteKernels`](crate::ByteKernels) for a variant; `$way` picks one of several
/// (features, way to sum up) by the variant's value.
macro_rules! byte_kernels {
    ($variant:ty, $($way:pat => $features:literal, $dot:ty);+) => {
        impl $crate::ByteKernels for $variant {
            fn dot_i8(self, a: &[i8], b: &[i8]) -> i32 {
                assert_eq!(a.len(), b.len(), "vectors of different length");
                match self.bytes() {
                    $($way => {
                        #[target_feature(enable = $features)]
                        fn entry(a: &[i8], b: &[i8]) -> i32 {
                            use $crate::generic_bytes::ByteDot;
                            // SAFETY: this function has the target features; lengths are equal.
                            unsafe { <$dot>::dot(a.as_ptr(), b.as_ptr(), a.len()) }
                        }
                        // SAFETY: `self` can only say so where the CPU has the features.
                        unsafe { entry(a, b) }
                    })+
                }
            }

            fn dots_i8(
                self,
                query: &[i8],
                rows: &[i8],
                stride: usize,
                ids: &[u32],
                dots: &mut [i32],
            ) {
                match self.bytes() {
                    $($way => {
                        #[target_feature(enable = $features)]
                        fn entry(
                            query: &[i8],
                            rows: &[i8],
                            stride: usize,
                            ids: &[u32],
                            dots: &mut [i32],
                        ) {
                            // SAFETY: this function has the target features.
                            unsafe {
                                $crate::generic_bytes::dots::<$dot>(query, rows, stride, ids, dots)
                            }
                        }
                        // SAFETY: `self` can only say so where the CPU has the features.
                        unsafe { entry(query, rows, stride, ids, dots) }
                    })+
                }
            }

            fn masked_sums(self, values: &[i8], codes: &[u8], slots: &[u8], sums: &mut [i32]) {
                match self.bytes() {
                    $($way => {
                        #[target_feature(enable = $features)]
                        fn entry(values: &[i8], codes: &[u8], slots: &[u8], sums: &mut [i32]) {
                            // SAFETY: this function has the target features.
                            unsafe {
                                $crate::generic_bytes::masked_sums::<$dot>(values, codes, slots, sums)
                            }
                        }
                        // SAFETY: `self` can only say so where the CPU has the features.
                        unsafe { entry(values, codes, slots, sums) }
                    })+
                }
            }
        }
    };
}

pub(crate) use byte_kernels;
