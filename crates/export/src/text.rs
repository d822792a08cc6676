//! The text tower: open_clip's `TextTransformer` with a causal mask, pooled at the end of text.
//!
//! The number of tokens is free up to the context length: what follows the end of a text has no
//! effect on it, so a batch may be cut to its longest text.

use crate::block::{Attention, block, finish};
use crate::config::Architecture;
use crate::graph::{Axis, Graph, Precision, Value, int};
use crate::tensor::{Element, Recipe};
use crate::weights::Text;

/// What the scores of later tokens are lowered by: enough for a share of zero, and finite, also
/// in fp16 with a score below it.
const MASKED: f32 = -30_000.0;

/// `tokens i64 [N, L]`, zero after the end of text, to `embedding f32 [N, D]`.
pub fn graph<'a>(
    weights: &Text<'a>,
    architecture: &Architecture,
    precision: Precision,
) -> Graph<'a> {
    let tower = &architecture.text;
    let context = architecture.context_length;
    let mut graph = Graph::new(precision);
    let tokens = graph.input("tokens", Element::I64, &[Axis::Free("N"), Axis::Free("L")]);

    graph.scope("tokens");
    let length = graph.op("Shape", &[&tokens], &[int("start", 1)]); // [1]: L
    let (zero, first_axis) = (graph.integers(&[0]), graph.integers(&[0]));
    let positions = graph.small(&weights.positions.name, Recipe::of(weights.positions.clone()));
    let positions = graph.op("Slice", &[&positions, &zero, &length, &first_axis], &[]);
    let x = embed(&mut graph, &tokens, weights);
    let mut x = graph.op("Add", &[&x, &positions], &[]); // [N, L, W]

    // The end of text has the highest id. As floats, since CUDA has no ArgMax of integers; ids up
    // to 2²⁴ are exact.
    let ids = graph.cast(&tokens, Element::F32);
    let end = graph.op("ArgMax", &[&ids], &[int("axis", 1), int("keepdims", 1)]); // [N, 1]
    let mask = graph.small("causal_mask", causal_mask(context));
    let every_axis = graph.integers(&[1]);
    let mask = graph.op("Slice", &[&mask, &zero, &length, &first_axis], &[]);
    let mask = graph.op("Slice", &[&mask, &zero, &length, &every_axis], &[]); // [L, L]
    let end_mask = graph.op("Gather", &[&mask, &end], &[int("axis", 0)]); // [N, 1, L]
    let end_mask = graph.op("Unsqueeze", &[&end_mask, &every_axis], &[]); // [N, 1, 1, L]
    let last_axis = graph.integers(&[-1]);
    let end = graph.op("Unsqueeze", &[&end, &last_axis], &[]); // [N, 1, 1]

    let at_end = |graph: &mut Graph<'_>, x: &Value| {
        graph.op("GatherND", &[x, &end], &[int("batch_dims", 1)])
    };
    for (layer, weights_of_block) in weights.blocks.iter().enumerate() {
        graph.scope(format!("block_{layer}"));
        let attention = if layer + 1 == weights.blocks.len() {
            Attention { mask: Some(&end_mask), only: Some(&at_end) }
        } else {
            Attention { mask: Some(&mask), only: None }
        };
        x = block(&mut graph, &x, weights_of_block, tower, &attention);
    }
    finish(&mut graph, &x, &weights.ln_final, tower.epsilon, weights.projection.clone());
    graph
}

/// Token ids to their embeddings, `[N, L, W]`, by way of their rows where the vocabulary is cut.
fn embed<'a>(graph: &mut Graph<'a>, tokens: &Value, weights: &Text<'a>) -> Value {
    let mut rows = tokens.clone();
    if let Some(token_rows) = &weights.token_rows {
        let recipe = Recipe::ints(&[token_rows.len()], token_rows.clone());
        let table = graph.initializer("token_rows", Element::I32, recipe);
        rows = graph.op("Gather", &[&table, tokens], &[int("axis", 0)]);
    }
    let table = graph.stored(&weights.tokens.name, Recipe::of(weights.tokens.clone()));
    let embedded = graph.op("Gather", &[&table, &rows], &[int("axis", 0)]);
    if graph.precision == Precision::Fp16Storage {
        graph.cast(&embedded, Element::F32)
    } else {
        embedded
    }
}

/// Zero where a token (row) may look at another (column), [`MASKED`] where that comes later.
fn causal_mask<'a>(context: usize) -> Recipe<'a> {
    let values = (0..context * context)
        .map(|at| if at % context > at / context { MASKED } else { 0.0 })
        .collect();
    Recipe::floats(&[context, context], values)
}
