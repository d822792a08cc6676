//! The plain loops over codes and bytes: the truth that every other variant is tested against.

use super::scalar::Scalar;
use crate::ByteKernels;
use crate::codes::{CodeKernels, ResidualSums, check_butterflies, check_residual};
use crate::generic_bytes::{self, ByteDot, Loop};

impl CodeKernels for Scalar {
    fn butterflies(self, data: &mut [f32], stride: usize) {
        check_butterflies(data, stride);
        for run in data.chunks_exact_mut(2 * stride) {
            let (low, high) = run.split_at_mut(stride);
            for (x, y) in low.iter_mut().zip(high) {
                (*x, *y) = (*x + *y, *x - *y);
            }
        }
    }

    fn encode_residual(self, to: &[f32], from: &[f32], code: &mut [u8]) -> ResidualSums {
        check_residual(to, from, code);
        code.fill(0);
        let mut sums = ResidualSums { l1: 0.0, square: 0.0, origin: 0.0 };
        for (at, (to, from)) in to.iter().zip(from).enumerate() {
            let r = to - from;
            let positive = r >= 0.0;
            code[at / 8] |= u8::from(positive) << (at % 8);
            sums.l1 += r.abs();
            sums.square += r * r;
            sums.origin += if positive { 0.5 * from } else { -0.5 * from };
        }
        sums
    }
}

impl ByteKernels for Scalar {
    fn dot_i8(self, a: &[i8], b: &[i8]) -> i32 {
        assert_eq!(a.len(), b.len(), "vectors of different length");
        // SAFETY: the plain loop needs no features, and the lengths are equal.
        unsafe { Loop::dot(a.as_ptr(), b.as_ptr(), a.len()) }
    }

    fn dots_i8(self, query: &[i8], rows: &[i8], stride: usize, ids: &[u32], dots: &mut [i32]) {
        // SAFETY: the plain loop needs no features.
        unsafe { generic_bytes::dots::<Loop>(query, rows, stride, ids, dots) }
    }

    fn masked_sums(self, values: &[i8], codes: &[u8], slots: &[u8], sums: &mut [i32]) {
        // SAFETY: the plain loop needs no features.
        unsafe { generic_bytes::masked_sums::<Loop>(values, codes, slots, sums) }
    }
}
