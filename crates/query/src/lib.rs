//! What a search does with a query beyond the nearest neighbours, free of PostgreSQL, ONNX Runtime
//! and libtorch, so that the extension and the trainer do the same: [`feedback`] about earlier hits,
//! adaption re-ranking of the candidates ([`rerank`]), and how well an order answers ([`measures`]).

pub mod feedback;
mod matrix;
pub mod measures;
pub mod rerank;
