//! AArch64: NEON is part of the architecture, but is asked for all the same.

mod codes;
mod neon;

pub use neon::Neon;
