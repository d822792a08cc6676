//! The `embedding` type: a vector of fp16 numbers, stored in the bytes of pgvector's `halfvec`.
//!
//! [`value`] holds the in-memory form and its way through a `Datum`, [`error`] everything that
//! can be wrong with one; the other files are the SQL functions by what they do. Their SQL
//! declarations are in `sql/10_embedding.sql` and the files of that ten.

mod aggregates;
mod casts;
mod compare;
mod cost;
mod distance;
mod error;
mod io;
mod list;
mod ops;
mod soft;
mod text;
mod value;
mod vector;

pub use list::Embeddings;
pub use value::{Dims, Embedding};

/// Chooses the distance kernels for this CPU, so that no statement has to.
pub fn init() {
    pgclip_simd::level();
}
