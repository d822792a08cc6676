//! The kernels, once, over any register type. Each entry function of a variant is compiled with
//! its target features and has these inlined into it.
//!
//! Four accumulators hide the latency of the fused multiply-add; what is left after the blocks of
//! four goes one register at a time, and the odd tail through a buffer of zeros, which add nothing.

use half::f16;

use crate::CosineParts;
use crate::lanes::{Lanes, MAX_WIDTH};

/// How many registers are in flight.
const UNROLL: usize = 4;

/// Calls `step(accumulator, a, b)` over both slices, register by register.
///
/// # Safety
/// That of [`Lanes`]; `a` and `b` have the same length.
#[inline(always)]
unsafe fn fold_pairs<V: Lanes, A: Copy>(
    a: &[f16],
    b: &[f16],
    zero: A,
    step: impl Fn(A, V, V) -> A,
    merge: impl Fn(A, A) -> A,
) -> A {
    debug_assert_eq!(a.len(), b.len());
    let (pa, pb) = (a.as_ptr().cast::<u16>(), b.as_ptr().cast::<u16>());
    let mut accumulators = [zero; UNROLL];
    let mut at = 0;
    // SAFETY: every load ends at or before `len`, the tail is read from buffers of MAX_WIDTH.
    unsafe {
        while at + UNROLL * V::WIDTH <= a.len() {
            for (i, accumulator) in accumulators.iter_mut().enumerate() {
                let here = at + i * V::WIDTH;
                *accumulator =
                    step(*accumulator, V::load_f16(pa.add(here)), V::load_f16(pb.add(here)));
            }
            at += UNROLL * V::WIDTH;
        }
        while at + V::WIDTH <= a.len() {
            accumulators[0] =
                step(accumulators[0], V::load_f16(pa.add(at)), V::load_f16(pb.add(at)));
            at += V::WIDTH;
        }
        if at < a.len() {
            let (ta, tb) = (padded(&a[at..]), padded(&b[at..]));
            accumulators[1] =
                step(accumulators[1], V::load_f16(ta.as_ptr()), V::load_f16(tb.as_ptr()));
        }
    }
    merge(merge(accumulators[0], accumulators[1]), merge(accumulators[2], accumulators[3]))
}

/// The odd tail of a vector, with zeros up to a full register.
#[inline(always)]
fn padded(tail: &[f16]) -> [u16; MAX_WIDTH] {
    let mut buffer = [0; MAX_WIDTH];
    for (to, from) in buffer.iter_mut().zip(tail) {
        *to = from.to_bits();
    }
    buffer
}

/// `Σ a·b`
///
/// # Safety
/// That of [`Lanes`]; `a` and `b` have the same length.
#[inline(always)]
pub(crate) unsafe fn dot<V: Lanes>(a: &[f16], b: &[f16]) -> f32 {
    // SAFETY: the caller's promise.
    unsafe {
        fold_pairs::<V, V>(a, b, V::zero(), |sum, a, b| a.mul_add(b, sum), |x, y| x.add(y)).sum()
    }
}

/// `Σ (a - b)²`
///
/// # Safety
/// That of [`Lanes`]; `a` and `b` have the same length.
#[inline(always)]
pub(crate) unsafe fn squared_l2<V: Lanes>(a: &[f16], b: &[f16]) -> f32 {
    // SAFETY: the caller's promise.
    unsafe {
        let step = |sum, a: V, b: V| {
            let difference = a.sub(b);
            difference.mul_add(difference, sum)
        };
        fold_pairs::<V, V>(a, b, V::zero(), step, |x, y| x.add(y)).sum()
    }
}

/// `Σ a·b`, `Σ a²`, `Σ b²`
///
/// # Safety
/// That of [`Lanes`]; `a` and `b` have the same length.
#[inline(always)]
pub(crate) unsafe fn cosine_parts<V: Lanes>(a: &[f16], b: &[f16]) -> CosineParts {
    // SAFETY: the caller's promise.
    unsafe {
        let zero = [V::zero(); 3];
        let step = |[dot, a2, b2]: [V; 3], a: V, b: V| {
            [a.mul_add(b, dot), a.mul_add(a, a2), b.mul_add(b, b2)]
        };
        let merge = |x: [V; 3], y: [V; 3]| [x[0].add(y[0]), x[1].add(y[1]), x[2].add(y[2])];
        let [dot, a2, b2] = fold_pairs::<V, [V; 3]>(a, b, zero, step, merge);
        CosineParts { dot: dot.sum(), a2: a2.sum(), b2: b2.sum() }
    }
}

/// Widens `from` into `to`.
///
/// # Safety
/// That of [`Lanes`]; the slices have the same length.
#[inline(always)]
pub(crate) unsafe fn widen<V: Lanes>(from: &[f16], to: &mut [f32]) {
    debug_assert_eq!(from.len(), to.len());
    let whole = from.len() / V::WIDTH * V::WIDTH;
    // SAFETY: loads and stores end at or before `whole`, the tail goes through full buffers.
    unsafe {
        for at in (0..whole).step_by(V::WIDTH) {
            V::load_f16(from.as_ptr().add(at).cast()).store_f32(to.as_mut_ptr().add(at));
        }
        let tail = padded(&from[whole..]);
        let mut widened = [0.0; MAX_WIDTH];
        V::load_f16(tail.as_ptr()).store_f32(widened.as_mut_ptr());
        to[whole..].copy_from_slice(&widened[..from.len() - whole]);
    }
}

/// Rounds `from` into `to`.
///
/// # Safety
/// That of [`Lanes`]; the slices have the same length.
#[inline(always)]
pub(crate) unsafe fn narrow<V: Lanes>(from: &[f32], to: &mut [f16]) {
    debug_assert_eq!(from.len(), to.len());
    let whole = from.len() / V::WIDTH * V::WIDTH;
    // SAFETY: loads and stores end at or before `whole`, the tail goes through full buffers.
    unsafe {
        for at in (0..whole).step_by(V::WIDTH) {
            V::load_f32(from.as_ptr().add(at)).store_f16(to.as_mut_ptr().add(at).cast());
        }
        let mut tail = [0.0; MAX_WIDTH];
        tail[..from.len() - whole].copy_from_slice(&from[whole..]);
        let mut rounded = [0; MAX_WIDTH];
        V::load_f32(tail.as_ptr()).store_f16(rounded.as_mut_ptr());
        for (to, bits) in to[whole..].iter_mut().zip(rounded) {
            *to = f16::from_bits(bits);
        }
    }
}

/// The methods of [`Kernels`](crate::Kernels) for a variant: each an entry function compiled with
/// the target features `$features`, over the registers `$lanes`.
macro_rules! kernels {
    ($variant:ty, $lanes:ty, $features:literal) => {
        impl $crate::Kernels for $variant {
            $crate::generic::entry!($lanes, $features, dot(a: &[f16], b: &[f16]) -> f32);
            $crate::generic::entry!($lanes, $features, squared_l2(a: &[f16], b: &[f16]) -> f32);
            $crate::generic::entry!(
                $lanes,
                $features,
                cosine_parts(a: &[f16], b: &[f16]) -> $crate::CosineParts
            );
            $crate::generic::entry!($lanes, $features, widen(from: &[f16], to: &mut [f32]) -> ());
            $crate::generic::entry!($lanes, $features, narrow(from: &[f32], to: &mut [f16]) -> ());

            fn squared_norm(self, a: &[f16]) -> f32 {
                self.dot(a, a)
            }
        }
    };
}

/// One method of [`kernels!`]: a safe wrapper over the entry function, sound because the variant's
/// value proves the features.
macro_rules! entry {
    ($lanes:ty, $features:literal, $name:ident($a:ident: $A:ty, $b:ident: $B:ty) -> $R:ty) => {
        fn $name(self, $a: $A, $b: $B) -> $R {
            #[target_feature(enable = $features)]
            fn entry($a: $A, $b: $B) -> $R {
                // SAFETY: this function has the target features; the lengths are checked below.
                unsafe { $crate::generic::$name::<$lanes>($a, $b) }
            }
            assert_eq!($a.len(), $b.len(), "slices of different length");
            // SAFETY: `self` can only be made where the CPU has the features.
            unsafe { entry($a, $b) }
        }
    };
}

pub(crate) use {entry, kernels};
