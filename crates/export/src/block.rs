//! What both towers consist of: open_clip's residual attention blocks and the way out of a tower.
//!
//! Plain operators throughout, in the order in which ONNX Runtime's optimisers look for them:
//! product, bias, sum, layer norm become one kernel, and so do bias and GELU. Shapes in the
//! comments: N batch, L tokens, W width, H heads, D length of an embedding.

use crate::config::{Activation, Tower};
use crate::graph::{Axis, Graph, Value, float, int, ints, text};
use crate::tensor::{Element, Recipe};
use crate::weights::{Block, Linear, Norm};

/// What a block attends to, and what is wanted of it.
pub struct Attention<'v> {
    /// Added to the scores, `[L, L]` or what broadcasts to `[N, H, queries, L]`.
    pub mask: Option<&'v Value>,
    /// Takes the one token that the tower ends with: `[N, L, W]` to `[N, 1, W]`. Set in the last
    /// block, where no other token is of use, so that only its row is computed.
    pub only: Option<&'v Pick<'v>>,
}

/// Adds what takes some tokens of a value, and returns the result.
pub type Pick<'v> = dyn Fn(&mut Graph<'_>, &Value) -> Value + 'v;

/// One block: `x [N, L, W]` to `[N, L, W]`, or to `[N, 1, W]` with [`Attention::only`].
pub fn block<'a>(
    graph: &mut Graph<'a>,
    x: &Value,
    weights: &Block<'a>,
    tower: &Tower,
    attention: &Attention<'_>,
) -> Value {
    let h = norm(graph, x, &weights.ln_1, tower.epsilon);
    let (x, queries) = match attention.only {
        Some(only) => (only(graph, x), only(graph, &h)),
        None => (x.clone(), h.clone()),
    };
    let attended = attend(graph, &queries, &h, weights, tower, attention.mask);
    let x = graph.op("Add", &[&x, &attended], &[]);
    let h = norm(graph, &x, &weights.ln_2, tower.epsilon);
    let h = linear(graph, &h, &weights.widen, 1.0);
    let h = activate(graph, &h, tower.activation);
    let h = linear(graph, &h, &weights.narrow, 1.0);
    graph.op("Add", &[&x, &h], &[])
}

/// Multi-head attention of `queries` to `x [N, L, W]`. The scale, one over the root of a head's
/// width, is part of the queries' weights.
pub fn attend<'a>(
    graph: &mut Graph<'a>,
    queries: &Value,
    x: &Value,
    weights: &Block<'a>,
    tower: &Tower,
    mask: Option<&Value>,
) -> Value {
    let head_width = tower.width / tower.heads;
    let scale = 1.0 / (head_width as f32).sqrt();
    let apart = graph.integers(&[0, 0, tower.heads as i64, head_width as i64]);
    let together = graph.integers(&[0, 0, tower.width as i64]);
    let heads = |graph: &mut Graph<'a>, x, part: &Linear<'a>, scale, order: &[i64]| {
        let x = linear(graph, x, part, scale);
        let x = graph.op("Reshape", &[&x, &apart], &[]);
        graph.op("Transpose", &[&x], &[ints("perm", order)])
    };
    let q = heads(graph, queries, &weights.query, scale, &[0, 2, 1, 3]); // [N, H, queries, W/H]
    let k = heads(graph, x, &weights.key, 1.0, &[0, 2, 3, 1]); // [N, H, W/H, L]
    let v = heads(graph, x, &weights.value, 1.0, &[0, 2, 1, 3]); // [N, H, L, W/H]
    let mut scores = graph.op("MatMul", &[&q, &k], &[]);
    if let Some(mask) = mask {
        scores = graph.op("Add", &[&scores, mask], &[]);
    }
    let shares = graph.op("Softmax", &[&scores], &[int("axis", -1)]);
    let mixed = graph.op("MatMul", &[&shares, &v], &[]);
    let mixed = graph.op("Transpose", &[&mixed], &[ints("perm", &[0, 2, 1, 3])]);
    let mixed = graph.op("Reshape", &[&mixed, &together], &[]);
    linear(graph, &mixed, &weights.out, 1.0)
}

/// `(x · weightᵀ + bias) · scale`
pub fn linear<'a>(graph: &mut Graph<'a>, x: &Value, linear: &Linear<'a>, scale: f32) -> Value {
    let Linear { weight, bias } = linear;
    let w = Recipe::of(weight.clone()).transpose().scale(scale);
    let w = graph.matrix(&weight.name, w);
    let product = graph.op("MatMul", &[x, &w], &[]);
    let b = graph.small(&bias.name, Recipe::of(bias.clone()).scale(scale));
    graph.op("Add", &[&product, &b], &[])
}

/// Layer norm over the last axis.
pub fn norm<'a>(graph: &mut Graph<'a>, x: &Value, norm: &Norm<'a>, epsilon: f32) -> Value {
    let weight = graph.small(&norm.weight.name, Recipe::of(norm.weight.clone()));
    let bias = graph.small(&norm.bias.name, Recipe::of(norm.bias.clone()));
    let attributes = [int("axis", -1), float("epsilon", epsilon)];
    graph.op("LayerNormalization", &[x, &weight, &bias], &attributes)
}

pub fn activate(graph: &mut Graph<'_>, x: &Value, activation: Activation) -> Value {
    match activation {
        Activation::Gelu => graph.op("Gelu", &[x], &[]),
        Activation::GeluTanh => graph.op("Gelu", &[x], &[text("approximate", "tanh")]),
        Activation::QuickGelu => {
            let steepness = graph.number(1.702);
            let steeper = graph.op("Mul", &[x, &steepness], &[]);
            let gate = graph.op("Sigmoid", &[&steeper], &[]);
            graph.op("Mul", &[x, &gate], &[])
        }
    }
}

/// Where a tower ends: `x [N, 1, W]` through a layer norm and the projection to the output
/// `embedding f32 [N, D]` of unit length. The length is computed in fp32.
pub fn finish<'a>(
    graph: &mut Graph<'a>,
    x: &Value,
    last: &Norm<'a>,
    epsilon: f32,
    projection: Recipe<'a>,
) {
    graph.scope("embedding");
    let dimensions = projection.dims[1];
    let x = norm(graph, x, last, epsilon);
    let projection = graph.matrix("projection", projection);
    let x = graph.op("MatMul", &[&x, &projection], &[]);
    unit(graph, &x, dimensions);
}

/// Makes `x [N, 1, D]` the output `embedding f32 [N, D]` of unit length, computed in fp32.
pub fn unit(graph: &mut Graph<'_>, x: &Value, dimensions: usize) {
    let flat = graph.integers(&[-1, dimensions as i64]);
    let mut x = graph.op("Reshape", &[x, &flat], &[]);
    if graph.element() != Element::F32 {
        x = graph.cast(&x, Element::F32);
    }
    let last_axis = graph.integers(&[-1]);
    let length = graph.op("ReduceL2", &[&x, &last_axis], &[int("keepdims", 1)]);
    let least = graph.initializer("least_length", Element::F32, Recipe::floats(&[], vec![1e-12]));
    let length = graph.op("Max", &[&length, &least], &[]);
    let unit = graph.op("Div", &[&x, &length], &[]);
    let shape = [Axis::Free("N"), Axis::Fixed(dimensions)];
    graph.output(&unit, "embedding", Element::F32, &shape);
}
