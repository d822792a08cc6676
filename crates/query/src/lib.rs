//! What a search does with a query beyond the nearest neighbours, free of PostgreSQL, ONNX Runtime
//! and libtorch, so that the extension and the trainer do the same: what a sentence is about and its
//! prompts ([`enhance`]), the attributes that it names ([`attributes`]), which labels fit a picture
//! ([`zero_shot`]), [`feedback`] about earlier hits, adaption re-ranking of the candidates
//! ([`rerank`]), and how well an order answers ([`measures`]).

pub mod attributes;
pub mod enhance;
pub mod feedback;
mod head;
mod matrix;
pub mod measures;
mod phrase;
pub mod rerank;
mod vocabulary;
mod words;
pub mod zero_shot;

pub use matrix::dot;
