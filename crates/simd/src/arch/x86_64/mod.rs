//! x86-64: the baseline has no fp16 conversion, so both variants are found at run time.

mod avx2;
mod avx512;
mod bytes;
mod codes;

pub use avx2::Avx2;
pub use avx512::Avx512;
