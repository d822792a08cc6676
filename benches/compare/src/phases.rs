//! The phases of a comparison, one a file, in the order in which they run.

pub mod build;
pub mod clients;
pub mod cold;
pub mod filter;
pub mod growth;
pub mod insert;
pub mod lateral;
pub mod limit;
pub mod memory;
pub mod search;
pub mod vacuum;

/// Recalls at which queries a second are compared.
pub const TARGETS: [f64; 3] = [0.90, 0.95, 0.99];
/// A sweep ends with the first setting of this recall.
pub const ENOUGH: f64 = 0.994;
