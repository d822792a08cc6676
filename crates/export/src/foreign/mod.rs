//! Ready ONNX graphs to a model directory: what a published folder holds is recognised (`layout`), its
//! graphs are described and written tower by tower (`graph`, `batch`), its tokeniser is taken along
//! (`text`), and what their inputs and outputs are for is told by `towers`. Whether the graphs do what
//! is said of them only a run can tell: whoever has ONNX Runtime writes a tower, probes it, and writes
//! it otherwise if need be.

mod batch;
mod graph;
mod layout;
mod text;
mod towers;
mod wire;

pub use layout::{Graphs, Which, holds_graphs};
pub use text::check_describes_graphs;
pub(crate) use text::{Published, cleaning, read as read_tokenizer, transformers_cleaning};
