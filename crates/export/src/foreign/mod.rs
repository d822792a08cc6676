//! Ready ONNX graphs to a model directory: what a published folder holds is recognised (`layout`), its
//! graphs are described and written tower by tower (`graph`, `batch`), its tokeniser is taken along
//! (`text`). Whether the graphs do what is said of them only a run can tell: whoever has ONNX Runtime
//! writes a tower, probes it, and writes it otherwise if need be.

mod batch;
mod graph;
mod layout;
mod text;
mod wire;

pub use layout::{Graphs, Which, holds_graphs};
pub(crate) use layout::{cleaning, transformers_cleaning};
pub(crate) use text::{Published, read as read_tokenizer};
