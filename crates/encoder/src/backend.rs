//! ONNX Runtime: its library and the device ([`runtime`]), one tower on it ([`tower`]), what a batch
//! feeds the tower ([`feed`]), and batches that there is no memory for ([`halves`]). Nothing else sees
//! ort.

mod bound;
mod feed;
mod halves;
mod runtime;
mod tower;

pub use feed::Feed;
pub use runtime::{ExternalData, Runtime};
pub use tower::Tower;
