//! The two towers of a SigLIP as graphs.

use crate::block::{Attention, activate, attend, block, linear, norm, unit};
use crate::graph::{Axis, Graph, Precision, Value, int, ints};
use crate::siglip::config::Siglip;
use crate::siglip::weights::{Text, Vision};
use crate::tensor::{Element, Recipe};

/// `pixels f32 [N, 3, S, S]`, normalised, to `embedding f32 [N, W]`.
pub fn image<'a>(weights: &Vision<'a>, siglip: &Siglip, precision: Precision) -> Graph<'a> {
    let tower = &siglip.vision;
    let size = Axis::Fixed(siglip.image_size);
    let mut graph = Graph::new(precision);
    let pixels =
        graph.input("pixels", Element::F32, &[Axis::Free("N"), Axis::Fixed(3), size, size]);

    graph.scope("patches");
    let mut x = pixels;
    if graph.element() != Element::F32 {
        x = graph.cast(&x, graph.element());
    }
    let patch = siglip.patch_size as i64;
    let kernel = Recipe::of(weights.patch.weight.clone());
    let kernel = graph.matrix(&weights.patch.weight.name, kernel);
    let bias = graph.small(&weights.patch.bias.name, Recipe::of(weights.patch.bias.clone()));
    let attributes = [ints("kernel_shape", &[patch, patch]), ints("strides", &[patch, patch])];
    let x = graph.op("Conv", &[&x, &kernel, &bias], &attributes); // [N, W, rows, columns]
    let flat = graph.integers(&[0, tower.width as i64, -1]);
    let x = graph.op("Reshape", &[&x, &flat], &[]);
    let x = graph.op("Transpose", &[&x], &[ints("perm", &[0, 2, 1])]); // [N, patches, W]
    let positions = Recipe::floats(&[siglip.patches(), tower.width], weights.positions.floats());
    let positions = graph.small(&weights.positions.name, positions);
    let mut x = graph.op("Add", &[&x, &positions], &[]);
    for (layer, weights_of_block) in weights.blocks.iter().enumerate() {
        graph.scope(format!("block_{layer}"));
        let attention = Attention { mask: None, only: None };
        x = block(&mut graph, &x, weights_of_block, tower, &attention);
    }
    let x = norm(&mut graph, &x, &weights.norm, tower.epsilon);

    graph.scope("pool");
    let probe = graph.small(&weights.probe.name, Recipe::of(weights.probe.clone())); // [1, 1, W]
    let pooled = attend(&mut graph, &probe, &x, &weights.pool, tower, None); // [N, 1, W]
    let h = norm(&mut graph, &pooled, &weights.pool.ln_2, tower.epsilon);
    let h = linear(&mut graph, &h, &weights.pool.widen, 1.0);
    let h = activate(&mut graph, &h, tower.activation);
    let h = linear(&mut graph, &h, &weights.pool.narrow, 1.0);
    let x = graph.op("Add", &[&pooled, &h], &[]);
    graph.scope("embedding");
    unit(&mut graph, &x, siglip.dimensions);
    graph
}

/// `tokens i64 [N, L]`, L the context length, to `embedding f32 [N, D]`.
pub fn text<'a>(weights: &Text<'a>, siglip: &Siglip, precision: Precision) -> Graph<'a> {
    let tower = &siglip.text;
    let length = Axis::Fixed(siglip.context_length);
    let mut graph = Graph::new(precision);
    let tokens = graph.input("tokens", Element::I64, &[Axis::Free("N"), length]);

    graph.scope("tokens");
    let table = graph.stored(&weights.tokens.name, Recipe::of(weights.tokens.clone()));
    let mut x = graph.op("Gather", &[&table, &tokens], &[int("axis", 0)]); // [N, L, W]
    if precision == Precision::Fp16Storage {
        x = graph.cast(&x, Element::F32);
    }
    let positions = graph.small(&weights.positions.name, Recipe::of(weights.positions.clone()));
    let mut x = graph.op("Add", &[&x, &positions], &[]);

    let last = graph.integers(&[siglip.context_length as i64 - 1]);
    let at_last =
        |graph: &mut Graph<'_>, x: &Value| graph.op("Gather", &[x, &last], &[int("axis", 1)]);
    for (layer, weights_of_block) in weights.blocks.iter().enumerate() {
        graph.scope(format!("block_{layer}"));
        let ends = layer + 1 == weights.blocks.len();
        let attention = Attention { mask: None, only: ends.then_some(&at_last) };
        x = block(&mut graph, &x, weights_of_block, tower, &attention);
    }
    graph.scope("embedding");
    let x = norm(&mut graph, &x, &weights.norm, tower.epsilon);
    let x = linear(&mut graph, &x, &weights.head, 1.0);
    unit(&mut graph, &x, siglip.dimensions);
    graph
}
