//! Which variant this process uses: found once, by asking the CPU, and then a load and a branch
//! that is always predicted. Its own file because it is the one place that knows all variants.

use std::sync::OnceLock;

use half::f16;

#[cfg(target_arch = "aarch64")]
use crate::arch::aarch64::Neon;
use crate::arch::scalar::Scalar;
#[cfg(target_arch = "x86_64")]
use crate::arch::x86_64::{Avx2, Avx512};
use crate::byte_rows::ByteKernels;
use crate::codes::{CodeKernels, ResidualSums};
use crate::{CosineParts, Kernels};

/// A variant, with the proof that this CPU can run it.
#[derive(Debug, Clone, Copy)]
pub enum Level {
    /// Plain Rust.
    Scalar(Scalar),
    /// AVX2, FMA and F16C: 8 lanes.
    #[cfg(target_arch = "x86_64")]
    Avx2(Avx2),
    /// AVX-512F: 16 lanes.
    #[cfg(target_arch = "x86_64")]
    Avx512(Avx512),
    /// NEON: 4 lanes.
    #[cfg(target_arch = "aarch64")]
    Neon(Neon),
}

/// The best variant of this CPU.
#[inline]
pub fn level() -> Level {
    static BEST: OnceLock<Level> = OnceLock::new();
    *BEST.get_or_init(|| *Level::all().last().expect("scalar code runs everywhere"))
}

/// The best variant of this CPU for the kernels on [`codes`](crate::codes): AVX-512 wherever it is,
/// even where the CPU splits it, since its mask registers take a code as it lies in memory.
#[inline]
pub fn code_level() -> Level {
    static BEST: OnceLock<Level> = OnceLock::new();
    *BEST.get_or_init(|| {
        #[cfg(target_arch = "x86_64")]
        if let Some(avx512) = Avx512::new() {
            return Level::Avx512(avx512);
        }
        level()
    })
}

impl Level {
    /// Every variant that this CPU can run, the best last.
    pub fn all() -> Vec<Level> {
        #[allow(unused_mut, reason = "an architecture without variants adds none")]
        let mut all = vec![Level::Scalar(Scalar)];
        #[cfg(target_arch = "x86_64")]
        {
            let mut wide = [Avx2::new().map(Level::Avx2), Avx512::new().map(Level::Avx512)];
            if !Avx512::is_full_width() {
                wide.reverse();
            }
            all.extend(wide.into_iter().flatten());
        }
        #[cfg(target_arch = "aarch64")]
        all.extend(Neon::new().map(Level::Neon));
        all
    }

    /// The variant's name, for reports.
    pub fn name(self) -> &'static str {
        match self {
            Level::Scalar(_) => "scalar",
            #[cfg(target_arch = "x86_64")]
            Level::Avx2(_) => "avx2",
            #[cfg(target_arch = "x86_64")]
            Level::Avx512(_) => "avx512",
            #[cfg(target_arch = "aarch64")]
            Level::Neon(_) => "neon",
        }
    }
}

/// Calls `$body` with `$kernels` bound to the variant itself.
macro_rules! dispatch {
    ($level:expr, $kernels:ident => $body:expr) => {
        match $level {
            Level::Scalar($kernels) => $body,
            #[cfg(target_arch = "x86_64")]
            Level::Avx2($kernels) => $body,
            #[cfg(target_arch = "x86_64")]
            Level::Avx512($kernels) => $body,
            #[cfg(target_arch = "aarch64")]
            Level::Neon($kernels) => $body,
        }
    };
}

impl Kernels for Level {
    #[inline]
    fn dot(self, a: &[f16], b: &[f16]) -> f32 {
        dispatch!(self, kernels => kernels.dot(a, b))
    }

    #[inline]
    fn squared_l2(self, a: &[f16], b: &[f16]) -> f32 {
        dispatch!(self, kernels => kernels.squared_l2(a, b))
    }

    #[inline]
    fn cosine_parts(self, a: &[f16], b: &[f16]) -> CosineParts {
        dispatch!(self, kernels => kernels.cosine_parts(a, b))
    }

    #[inline]
    fn squared_norm(self, a: &[f16]) -> f32 {
        dispatch!(self, kernels => kernels.squared_norm(a))
    }

    #[inline]
    fn widen(self, from: &[f16], to: &mut [f32]) {
        dispatch!(self, kernels => kernels.widen(from, to));
    }

    #[inline]
    fn narrow(self, from: &[f32], to: &mut [f16]) {
        dispatch!(self, kernels => kernels.narrow(from, to));
    }
}

impl CodeKernels for Level {
    #[inline]
    fn butterflies(self, data: &mut [f32], stride: usize) {
        dispatch!(self, kernels => kernels.butterflies(data, stride));
    }

    #[inline]
    fn encode_residual(self, to: &[f32], from: &[f32], code: &mut [u8]) -> ResidualSums {
        dispatch!(self, kernels => kernels.encode_residual(to, from, code))
    }
}

impl ByteKernels for Level {
    #[inline]
    fn dot_i8(self, a: &[i8], b: &[i8]) -> i32 {
        dispatch!(self, kernels => kernels.dot_i8(a, b))
    }

    #[inline]
    fn dots_i8(self, query: &[i8], rows: &[i8], stride: usize, ids: &[u32], dots: &mut [i32]) {
        dispatch!(self, kernels => kernels.dots_i8(query, rows, stride, ids, dots));
    }

    #[inline]
    fn masked_sums(self, values: &[i8], codes: &[u8], slots: &[u8], sums: &mut [i32]) {
        dispatch!(self, kernels => kernels.masked_sums(values, codes, slots, sums));
    }
}
