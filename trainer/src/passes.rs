//! One piece of a batch through its tower, and back.
//!
//! Apart from `parallel`, which cuts batches into pieces, because what is kept between the two
//! passes is decided here: the whole graph, or each block's input alone (activation
//! checkpointing: the block is computed again on the way back), or nothing (cached features).

use tch::{Kind, Tensor, no_grad};

use crate::config::ModelConfig;
use crate::layers::place;
use crate::model::{Clip, Input};
use crate::params::Params;

/// What the forward pass keeps for the backward pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    Graph,
    /// The input of each block and of the head.
    Inputs,
    Nothing,
}

/// A piece after its forward pass.
#[derive(Debug)]
pub struct Encoded {
    /// [n, D], unit length.
    pub embedding: Tensor,
    inputs: Vec<Tensor>,
}

/// The trained parameters of one tower.
#[derive(Debug)]
pub struct Trained {
    /// In the order of `params.trained()`.
    all: Vec<Tensor>,
    /// Indices in `all` for each depth ([`crate::layers::Place`]).
    depths: Vec<Vec<usize>>,
}

impl Trained {
    /// Those of one tower.
    pub fn new(params: &Params, config: &ModelConfig, visual: bool) -> Self {
        let layers = if visual { config.vision_cfg.layers } else { config.text_cfg.layers };
        let mut this = Trained { all: Vec::new(), depths: vec![Vec::new(); layers as usize + 2] };
        for (name, tensor) in params.trained() {
            if let Some(place) = place(name, config)
                && place.visual == visual
            {
                this.depths[place.depth].push(this.all.len());
                this.all.push(tensor.shallow_clone());
            }
        }
        this
    }

    /// Whether the tower is locked as a whole.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }
}

/// The forward pass.
pub fn forward(model: &Clip, input: &Input, keep: Keep) -> Encoded {
    match keep {
        Keep::Graph => Encoded { embedding: model.encode(input), inputs: Vec::new() },
        Keep::Nothing => Encoded { embedding: no_grad(|| model.encode(input)), inputs: Vec::new() },
        Keep::Inputs => no_grad(|| {
            let mut inputs = vec![model.stem(input)];
            for block in model.blocks(input) {
                let next = block.forward(&inputs[inputs.len() - 1]);
                inputs.push(next);
            }
            let embedding = model.head(input, &inputs[inputs.len() - 1]);
            Encoded { embedding, inputs }
        }),
    }
}

/// The backward pass: gradients of the tower's trained parameters, in their order, from the
/// loss's gradient with respect to the embedding. `encoded` comes from a pass that kept something.
pub fn backward(
    model: &Clip,
    trained: &Trained,
    input: &Input,
    encoded: Encoded,
    upstream: &Tensor,
) -> Vec<Tensor> {
    let Encoded { embedding, mut inputs } = encoded;
    if inputs.is_empty() {
        return differentiate(&embedding, upstream, &trained.all);
    }
    drop(embedding);
    let blocks = model.blocks(input);
    let lowest = trained.depths.iter().position(|slots| !slots.is_empty()).unwrap_or(0);
    let mut gradients: Vec<Option<Tensor>> = trained.all.iter().map(|_| None).collect();
    let mut upstream = upstream.shallow_clone();
    for depth in (lowest..=blocks.len() + 1).rev() {
        let slots = &trained.depths[depth];
        let mut wanted: Vec<Tensor> =
            slots.iter().map(|&slot| trained.all[slot].shallow_clone()).collect();
        let from = inputs.pop().map(|x| x.set_requires_grad(depth > lowest));
        let output = match &from {
            None => model.stem(input),
            Some(x) if depth > blocks.len() => model.head(input, x),
            Some(x) => blocks[depth - 1].forward(x),
        };
        wanted.extend(from.filter(|_| depth > lowest));
        let mut found = differentiate(&output, &upstream, &wanted);
        if depth > lowest
            && let Some(below) = found.pop()
        {
            upstream = below;
        }
        for (&slot, gradient) in slots.iter().zip(found) {
            gradients[slot] = Some(gradient);
        }
    }
    gradients.into_iter().flatten().collect()
}

/// The gradients of ⟨output, upstream⟩, which are those of the loss.
fn differentiate(output: &Tensor, upstream: &Tensor, wanted: &[Tensor]) -> Vec<Tensor> {
    let inner = (output * upstream).sum(Kind::Float);
    Tensor::run_backward(&[inner], wanted, false, false)
}
