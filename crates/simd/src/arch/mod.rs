//! One folder an architecture, one file a variant.

#[cfg(target_arch = "aarch64")]
pub mod aarch64;
pub mod scalar;
mod scalar_codes;
#[cfg(target_arch = "x86_64")]
pub mod x86_64;
