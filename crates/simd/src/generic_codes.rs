//! The kernels on codes, once, over any register type: see [`codes`](crate::codes).

use crate::codes::ResidualSums;
use crate::lanes::{Lanes, MaskedLanes};

/// See [`CodeKernels::butterflies`](crate::codes::CodeKernels::butterflies).
///
/// # Safety
/// That of [`Lanes`]; `data` is whole runs of `2 · stride`.
#[inline(always)]
pub(crate) unsafe fn butterflies<V: Lanes>(data: &mut [f32], stride: usize) {
    for run in data.chunks_exact_mut(2 * stride) {
        let (low, high) = run.split_at_mut(stride);
        if stride.is_multiple_of(V::WIDTH) {
            let (low, high) = (low.as_mut_ptr(), high.as_mut_ptr());
            for at in (0..stride).step_by(V::WIDTH) {
                // SAFETY: `at + WIDTH` is at most `stride`, the length of both halves.
                unsafe {
                    let (x, y) = (V::load_f32(low.add(at)), V::load_f32(high.add(at)));
                    x.add(y).store_f32(low.add(at));
                    x.sub(y).store_f32(high.add(at));
                }
            }
        } else {
            for (x, y) in low.iter_mut().zip(high) {
                (*x, *y) = (*x + *y, *x - *y);
            }
        }
    }
}

/// See [`encode_residual`](crate::codes::encode_residual).
///
/// # Safety
/// That of [`Lanes`]; the lengths passed [`check_residual`](crate::codes::check_residual).
#[inline(always)]
pub(crate) unsafe fn encode_residual<V: MaskedLanes>(
    to: &[f32],
    from: &[f32],
    code: &mut [u8],
) -> ResidualSums {
    // SAFETY: registers end at or before the common length, a multiple of 64.
    unsafe {
        let (mut positive, mut square) = (V::zero(), V::zero());
        let (mut total, mut masked, mut origin) = (V::zero(), V::zero(), V::zero());
        for word in 0..to.len() / 64 {
            let mut bits = 0u64;
            for lane in (0..64).step_by(V::WIDTH) {
                let at = word * 64 + lane;
                let from = V::load_f32(from.as_ptr().add(at));
                let r = V::load_f32(to.as_ptr().add(at)).sub(from);
                let mask = r.not_negative();
                bits |= V::bits(mask) << lane;
                positive = positive.add_where(r, mask);
                total = total.add(r);
                square = r.mul_add(r, square);
                masked = masked.add_where(from, mask);
                origin = origin.add(from);
            }
            code[word * 8..word * 8 + 8].copy_from_slice(&bits.to_le_bytes());
        }
        ResidualSums {
            l1: 2.0 * positive.sum() - total.sum(),
            square: square.sum(),
            origin: masked.sum() - 0.5 * origin.sum(),
        }
    }
}

/// The methods of [`CodeKernels`](crate::codes::CodeKernels) for a variant, as
/// [`kernels!`](crate::generic::kernels) writes those of `Kernels`.
macro_rules! code_kernels {
    ($variant:ty, $lanes:ty, $features:literal) => {
        impl $crate::codes::CodeKernels for $variant {
            fn butterflies(self, data: &mut [f32], stride: usize) {
                #[target_feature(enable = $features)]
                fn entry(data: &mut [f32], stride: usize) {
                    // SAFETY: this function has the target features; checked below.
                    unsafe { $crate::generic_codes::butterflies::<$lanes>(data, stride) }
                }
                $crate::codes::check_butterflies(data, stride);
                // SAFETY: `self` can only be made where the CPU has the features.
                unsafe { entry(data, stride) }
            }

            fn encode_residual(
                self,
                to: &[f32],
                from: &[f32],
                code: &mut [u8],
            ) -> $crate::codes::ResidualSums {
                #[target_feature(enable = $features)]
                fn entry(to: &[f32], from: &[f32], code: &mut [u8]) -> $crate::codes::ResidualSums {
                    // SAFETY: this function has the target features; checked below.
                    unsafe { $crate::generic_codes::encode_residual::<$lanes>(to, from, code) }
                }
                $crate::codes::check_residual(to, from, code);
                // SAFETY: `self` can only be made where the CPU has the features.
                unsafe { entry(to, from, code) }
            }
        }
    };
}

pub(crate) use code_kernels;
