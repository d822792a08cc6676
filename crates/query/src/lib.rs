//! What a search does with a query beyond the nearest neighbours, free of PostgreSQL, ONNX Runtime
//! and libtorch, so that the extension and the trainer do the same: adaption re-ranking of the
//! candidates ([`rerank`]).

mod matrix;
pub mod rerank;
