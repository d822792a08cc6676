//! What the tests of several crates share. [`imports`] reads from the source which module uses which;
//! `tests/direction.rs` holds the order of the rooms by it.

pub mod imports;
