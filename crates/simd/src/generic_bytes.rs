//! The kernels on bytes, once, over any way to sum up two vectors.

use crate::byte_rows::check_dots;
use crate::bytes::prefetch_run;

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
}

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
        }
    };
}

pub(crate) use byte_kernels;
