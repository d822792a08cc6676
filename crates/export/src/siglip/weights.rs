//! The weights of a SigLIP in transformers' or in open_clip's (for the image tower: timm's) naming.
//! All that is wrong is reported at once.

use crate::checkpoint::Checkpoint;
use crate::config::Tower;
use crate::error::ExportError;
use crate::naming::Naming;
use crate::siglip::config::Siglip;
use crate::tensor::Tensor;
use crate::weights::{Block, Linear, Loader, Norm};

/// Shapes in the comments: W a tower's width, D the embedding's.
pub struct Weights<'a> {
    pub vision: Vision<'a>,
    pub text: Text<'a>,
    /// What similarities are multiplied with, i.e. the exponential of the parameter.
    pub logit_scale: f32,
    /// What is added to that.
    pub logit_bias: f32,
}

pub struct Vision<'a> {
    /// `[W, 3, patch, patch]`, and `[W]`
    pub patch: Linear<'a>,
    /// `[patches, W]`, or that with an axis of 1 before
    pub positions: Tensor<'a>,
    pub blocks: Vec<Block<'a>>,
    pub norm: Norm<'a>,
    /// `[1, 1, W]`
    pub probe: Tensor<'a>,
    /// The attention to the probe, and the perceptron after it; its first norm is not used.
    pub pool: Block<'a>,
}

pub struct Text<'a> {
    /// `[vocabulary, W]`
    pub tokens: Tensor<'a>,
    /// `[context length, W]`
    pub positions: Tensor<'a>,
    pub blocks: Vec<Block<'a>>,
    pub norm: Norm<'a>,
    /// `[D, W]`, and `[D]`
    pub head: Linear<'a>,
}

impl<'a> Weights<'a> {
    pub fn load(checkpoint: &'a Checkpoint, siglip: &Siglip) -> Result<Self, ExportError> {
        let mut loader = Loader::new(checkpoint);
        let vision = match checkpoint.naming {
            Naming::HuggingFace => loader.hugging_face_vision(siglip),
            _ => loader.timm_vision(siglip),
        };
        let text = loader.siglip_text(siglip);
        let logit_scale = loader.scalar("logit_scale").exp();
        let logit_bias = loader.scalar("logit_bias");
        loader.finish()?;
        Ok(Self { vision, text, logit_scale, logit_bias })
    }
}

impl<'a> Loader<'a> {
    fn hugging_face_vision(&mut self, siglip: &Siglip) -> Vision<'a> {
        let Tower { width, mlp_width, .. } = siglip.vision;
        let at = "vision_model.";
        let patch = [width, 3, siglip.patch_size, siglip.patch_size];
        let attention = format!("{at}head.attention.");
        let weight = self.named(&format!("{attention}in_proj_weight"), &[3 * width, width]);
        let bias = self.named(&format!("{attention}in_proj_bias"), &[3 * width]);
        let [query, key, value] = parts(&weight, &bias, width);
        let positions = format!("{at}embeddings.position_embedding.weight");
        let embedding = format!("{at}embeddings.patch_embedding");
        let head = format!("{at}head.");
        Vision {
            patch: Linear {
                weight: self.named(&format!("{embedding}.weight"), &patch),
                bias: self.named(&format!("{embedding}.bias"), &[width]),
            },
            positions: self.named(&positions, &[siglip.patches(), width]),
            blocks: (0..siglip.vision.layers)
                .map(|layer| {
                    self.hugging_face_block(&format!("{at}encoder.layers.{layer}."), &siglip.vision)
                })
                .collect(),
            norm: self.named_norm(&format!("{at}post_layernorm"), width),
            probe: self.named(&format!("{head}probe"), &[1, 1, width]),
            pool: Block {
                ln_1: self.named_norm(&format!("{head}layernorm"), width),
                query,
                key,
                value,
                out: self.named_linear(&format!("{attention}out_proj"), width, width),
                ln_2: self.named_norm(&format!("{head}layernorm"), width),
                widen: self.named_linear(&format!("{head}mlp.fc1"), width, mlp_width),
                narrow: self.named_linear(&format!("{head}mlp.fc2"), mlp_width, width),
            },
        }
    }

    fn hugging_face_block(&mut self, at: &str, tower: &Tower) -> Block<'a> {
        let &Tower { width, mlp_width, .. } = tower;
        let [query, key, value, out] = ["q_proj", "k_proj", "v_proj", "out_proj"]
            .map(|part| self.named_linear(&format!("{at}self_attn.{part}"), width, width));
        Block {
            ln_1: self.named_norm(&format!("{at}layer_norm1"), width),
            query,
            key,
            value,
            out,
            ln_2: self.named_norm(&format!("{at}layer_norm2"), width),
            widen: self.named_linear(&format!("{at}mlp.fc1"), width, mlp_width),
            narrow: self.named_linear(&format!("{at}mlp.fc2"), mlp_width, width),
        }
    }

    fn timm_vision(&mut self, siglip: &Siglip) -> Vision<'a> {
        let Tower { width, mlp_width, .. } = siglip.vision;
        let at = "visual.trunk.";
        let patch = [width, 3, siglip.patch_size, siglip.patch_size];
        let pool = format!("{at}attn_pool.");
        let weight = self.named(&format!("{pool}kv.weight"), &[2 * width, width]);
        let bias = self.named(&format!("{pool}kv.bias"), &[2 * width]);
        let [key, value] = parts(&weight, &bias, width);
        Vision {
            patch: Linear {
                weight: self.named(&format!("{at}patch_embed.proj.weight"), &patch),
                bias: self.named(&format!("{at}patch_embed.proj.bias"), &[width]),
            },
            positions: self.named(&format!("{at}pos_embed"), &[1, siglip.patches(), width]),
            blocks: (0..siglip.vision.layers)
                .map(|layer| self.timm_block(&format!("{at}blocks.{layer}."), &siglip.vision))
                .collect(),
            norm: self.named_norm(&format!("{at}norm"), width),
            probe: self.named(&format!("{pool}latent"), &[1, 1, width]),
            pool: Block {
                ln_1: self.named_norm(&format!("{pool}norm"), width),
                query: self.named_linear(&format!("{pool}q"), width, width),
                key,
                value,
                out: self.named_linear(&format!("{pool}proj"), width, width),
                ln_2: self.named_norm(&format!("{pool}norm"), width),
                widen: self.named_linear(&format!("{pool}mlp.fc1"), width, mlp_width),
                narrow: self.named_linear(&format!("{pool}mlp.fc2"), mlp_width, width),
            },
        }
    }

    fn timm_block(&mut self, at: &str, tower: &Tower) -> Block<'a> {
        let &Tower { width, mlp_width, .. } = tower;
        let weight = self.named(&format!("{at}attn.qkv.weight"), &[3 * width, width]);
        let bias = self.named(&format!("{at}attn.qkv.bias"), &[3 * width]);
        let [query, key, value] = parts(&weight, &bias, width);
        Block {
            ln_1: self.named_norm(&format!("{at}norm1"), width),
            query,
            key,
            value,
            out: self.named_linear(&format!("{at}attn.proj"), width, width),
            ln_2: self.named_norm(&format!("{at}norm2"), width),
            widen: self.named_linear(&format!("{at}mlp.fc1"), width, mlp_width),
            narrow: self.named_linear(&format!("{at}mlp.fc2"), mlp_width, width),
        }
    }

    fn siglip_text(&mut self, siglip: &Siglip) -> Text<'a> {
        let width = siglip.text.width;
        let hugging_face = self.checkpoint.naming == Naming::HuggingFace;
        let head = if hugging_face { "text_model.head" } else { "text.text_projection" };
        Text {
            tokens: self.floats("token_embedding.weight", &[siglip.vocab_size, width]),
            positions: self.floats("positional_embedding", &[siglip.context_length, width]),
            blocks: self.blocks("", &siglip.text),
            norm: self.norm("ln_final", width),
            head: self.named_linear(head, width, siglip.dimensions),
        }
    }
}

/// What one matrix holds of several, each of `width` rows.
fn parts<'a, const N: usize>(
    weight: &Tensor<'a>,
    bias: &Tensor<'a>,
    width: usize,
) -> [Linear<'a>; N] {
    std::array::from_fn(|part| Linear {
        weight: weight.rows(part * width, width),
        bias: bias.rows(part * width, width),
    })
}
