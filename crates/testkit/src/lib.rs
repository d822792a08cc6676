//! What the tests and benches of several crates share: seeded draws ([`dice`]), vectors that resemble
//! embeddings ([`vectors`]), an embedding on PostgreSQL's wire ([`wire`]), and the imports of a source
//! ([`imports`]), by which `tests/direction.rs` holds the order of modules and crates.

pub mod dice;
pub mod imports;
pub mod vectors;
#[cfg(feature = "postgres")]
pub mod wire;
