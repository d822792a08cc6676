//! CLIP weights to a model directory: safetensors or torch's archives in, ONNX out, with no torch.
//!
//! In the order data flows: a `checkpoint` maps the files and knows how they name things, a
//! `config` says what the architecture is, `weights` holds the one to the other. `vision` and
//! `text` build the two towers as graphs, of the blocks in `block`; `onnx` writes a graph with the
//! messages in `proto`, and [`export()`] puts the directory together. `import` goes the other way:
//! a model directory is a checkpoint too. Used by
//! `pgclip-encoder convert` and by the trainer, which reads weights through [`Checkpoint`] as well.
//! SigLIP's weights go by `siglip`. Graphs that others made become model directories through
//! `foreign`. [`RandomClip`] makes weights to measure with.

mod archive;
mod block;
mod checkpoint;
mod config;
mod error;
mod export;
mod foreign;
mod graph;
mod import;
mod naming;
mod onnx;
mod pickle;
mod proto;
mod random;
mod siglip;
mod tensor;
mod text;
mod vision;
mod weights;

pub use checkpoint::{Checkpoint, holds_weights};
pub use config::{Activation, Architecture, Preprocessing, Stated, Tower};
pub use error::ExportError;
pub use export::{Draft, Options, Summary, draft, export};
pub use foreign::{Graphs, Which, check_describes_graphs, holds_graphs};
pub use graph::Precision;
pub use naming::Naming;
pub use random::RandomClip;
pub use safetensors::Dtype;
pub use tensor::Tensor;
