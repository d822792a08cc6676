//! The plain loops: the truth that every other variant is tested against, and the fallback.

use half::f16;

use crate::{CosineParts, Kernels};

/// The variant that runs everywhere.
#[derive(Debug, Clone, Copy)]
pub struct Scalar;

impl Kernels for Scalar {
    fn dot(self, a: &[f16], b: &[f16]) -> f32 {
        a.iter().zip(b).map(|(a, b)| a.to_f32() * b.to_f32()).sum()
    }

    fn squared_l2(self, a: &[f16], b: &[f16]) -> f32 {
        a.iter()
            .zip(b)
            .map(|(a, b)| {
                let difference = a.to_f32() - b.to_f32();
                difference * difference
            })
            .sum()
    }

    fn cosine_parts(self, a: &[f16], b: &[f16]) -> CosineParts {
        CosineParts { dot: self.dot(a, b), a2: self.squared_norm(a), b2: self.squared_norm(b) }
    }

    fn squared_norm(self, a: &[f16]) -> f32 {
        self.dot(a, a)
    }

    fn widen(self, from: &[f16], to: &mut [f32]) {
        for (to, from) in to.iter_mut().zip(from) {
            *to = from.to_f32();
        }
    }

    fn narrow(self, from: &[f32], to: &mut [f16]) {
        for (to, from) in to.iter_mut().zip(from) {
            *to = f16::from_f32(*from);
        }
    }
}
