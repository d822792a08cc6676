//! The image tower: open_clip's `VisionTransformer` with a class token.

use crate::block::{Attention, block, finish, norm};
use crate::config::Architecture;
use crate::graph::{Axis, Graph, Precision, Value, int, ints};
use crate::tensor::{Element, Recipe};
use crate::weights::Vision;

/// `pixels f32 [N, 3, S, S]`, normalised, to `embedding f32 [N, D]`.
pub fn graph<'a>(
    weights: &Vision<'a>,
    architecture: &Architecture,
    precision: Precision,
) -> Graph<'a> {
    let tower = &architecture.vision;
    let size = Axis::Fixed(architecture.image_size);
    let mut graph = Graph::new(precision);
    let pixels =
        graph.input("pixels", Element::F32, &[Axis::Free("N"), Axis::Fixed(3), size, size]);

    graph.scope("patches");
    let mut x = patches(&mut graph, &pixels, weights, architecture);
    if let Some(ln_pre) = &weights.ln_pre {
        x = norm(&mut graph, &x, ln_pre, tower.epsilon);
    }

    let first = graph.integers(&[0]);
    let class =
        |graph: &mut Graph<'_>, x: &Value| graph.op("Gather", &[x, &first], &[int("axis", 1)]);
    for (layer, weights_of_block) in weights.blocks.iter().enumerate() {
        graph.scope(format!("block_{layer}"));
        let last = layer + 1 == weights.blocks.len();
        let attention = Attention { mask: None, only: last.then_some(&class) };
        x = block(&mut graph, &x, weights_of_block, tower, &attention);
    }
    finish(&mut graph, &x, &weights.ln_post, tower.epsilon, weights.projection.clone());
    graph
}

/// The tower's input: class token and patches with their positions, `[N, 1 + patches, W]`. The
/// class token starts as zeros: what it learnt is in its position already.
fn patches<'a>(
    graph: &mut Graph<'a>,
    pixels: &Value,
    weights: &Vision<'a>,
    architecture: &Architecture,
) -> Value {
    let (patch, width) = (architecture.patch_size as i64, architecture.vision.width);
    let mut x = pixels.clone();
    if graph.element() != Element::F32 {
        x = graph.cast(&x, graph.element());
    }
    let kernel = graph.matrix(&weights.patch.name, Recipe::of(weights.patch.clone()));
    let attributes = [ints("kernel_shape", &[patch, patch]), ints("strides", &[patch, patch])];
    let x = graph.op("Conv", &[&x, &kernel], &attributes); // [N, W, rows, columns]
    let flat = graph.integers(&[0, width as i64, -1]);
    let x = graph.op("Reshape", &[&x, &flat], &[]);
    let x = graph.op("Transpose", &[&x], &[ints("perm", &[0, 2, 1])]);
    let one_before = graph.integers(&[0, 1, 0, 0, 0, 0]);
    let x = graph.op("Pad", &[&x, &one_before], &[]);

    let mut positions = weights.positions.floats();
    positions.iter_mut().zip(weights.class.floats()).for_each(|(sum, class)| *sum += class);
    let dims = &weights.positions.shape;
    let positions = graph.small(&weights.positions.name, Recipe::floats(dims, positions));
    graph.op("Add", &[&x, &positions], &[])
}
