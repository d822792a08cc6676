//! The kernels on codes, once, over any register type: see [`codes`](crate::codes).

use crate::codes::ResidualSums;
use crate::lanes::{Lanes, MaskedLanes};

/// How many codes are summed side by side: each has a chain of additions of its own.
const CODES: usize = 4;

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

/// See [`masked_sums`](crate::codes::masked_sums).
///
/// # Safety
/// That of [`Lanes`]; the lengths passed [`check_masked`](crate::codes::check_masked).
#[inline(always)]
pub(crate) unsafe fn masked_sums<V: MaskedLanes>(values: &[f32], codes: &[u8], sums: &mut [f32]) {
    let bytes = values.len() / 8;
    if bytes == 0 {
        return sums.fill(0.0);
    }
    let mut groups = sums.chunks_exact_mut(CODES);
    let mut codes = codes.as_ptr();
    // SAFETY: `codes` moves on by the codes of one group, of which there are as many as sums;
    // within a code, lanes end at or before `values.len()`, a multiple of every width.
    unsafe {
        for group in &mut groups {
            group.copy_from_slice(&masked_group::<V, CODES>(values, codes));
            codes = codes.add(CODES * bytes);
        }
        for sum in groups.into_remainder() {
            [*sum] = masked_group::<V, 1>(values, codes);
            codes = codes.add(bytes);
        }
    }
}

/// The masked sums of `N` codes that lie end to end.
///
/// # Safety
/// That of [`Lanes`]; `codes` points to `N` codes of `values.len() / 8` bytes.
#[inline(always)]
unsafe fn masked_group<V: MaskedLanes, const N: usize>(
    values: &[f32],
    codes: *const u8,
) -> [f32; N] {
    let bytes = values.len() / 8;
    // SAFETY: the caller's promise; the length is a multiple of 64 and so of two registers.
    unsafe {
        let mut sums = [[V::zero(); 2]; N];
        for at in (0..values.len()).step_by(2 * V::WIDTH) {
            for half in 0..2 {
                let at = at + half * V::WIDTH;
                let register = V::load_f32(values.as_ptr().add(at));
                for (code, sum) in sums.iter_mut().enumerate() {
                    let mask = V::mask(codes.add(code * bytes), at);
                    sum[half] = sum[half].add_where(register, mask);
                }
            }
        }
        // A loop, not `map`: a closure is a function of its own, without the target features.
        let mut totals = [0.0; N];
        for (total, [even, odd]) in totals.iter_mut().zip(sums) {
            *total = even.add(odd).sum();
        }
        totals
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

            fn masked_sums(self, values: &[f32], codes: &[u8], sums: &mut [f32]) {
                #[target_feature(enable = $features)]
                fn entry(values: &[f32], codes: &[u8], sums: &mut [f32]) {
                    // SAFETY: this function has the target features; checked below.
                    unsafe { $crate::generic_codes::masked_sums::<$lanes>(values, codes, sums) }
                }
                $crate::codes::check_masked(values, codes, sums);
                // SAFETY: `self` can only be made where the CPU has the features.
                unsafe { entry(values, codes, sums) }
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
