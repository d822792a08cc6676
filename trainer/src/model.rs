//! CLIP's forward pass: open_clip's order of operations on tch tensors.
//!
//! A file of its own so that it can be read beside open_clip's `transformer.py`. Shapes
//! stand beside the tensors: N pictures or texts, L tokens, W width, H heads, D dimensions
//! of the shared space, G = (image size / patch size)² patches.
//!
//! A tower is a stem, blocks and a head, each of which can be run by itself: so `passes` can throw
//! away what lies between blocks, and compute it again.

use tch::{Kind, Tensor};

use crate::config::{Config, NormConfig};
use crate::params::Params;

/// Number format of the matrix products.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Precision {
    /// 32-bit throughout.
    Fp32,
    /// bfloat16 products over 32-bit weights, norms and residuals; open_clip's `amp_bf16`.
    #[value(name = "amp_bf16", aliases = ["amp", "amp_bfloat16", "bf16"])]
    Bf16,
}

/// A model over shared parameters: updating [`Params`] in place updates it.
#[derive(Debug)]
pub struct Clip {
    visual: Visual,
    text: Text,
    /// Scalar, the logarithm of the multiplier of cosine similarities.
    pub logit_scale: Tensor,
}

#[derive(Debug)]
struct Visual {
    conv1: Tensor,                // [W, 3, P, P]
    class_embedding: Tensor,      // [W]
    positional_embedding: Tensor, // [G + 1, W]
    ln_pre: Option<Norm>,
    blocks: Vec<Block>,
    ln_post: Norm,
    proj: Tensor, // [W, D]
    patch_size: i64,
    mean: Tensor, // [1, 3, 1, 1], in 0..255
    std: Tensor,  // [1, 3, 1, 1], in 0..255
    precision: Precision,
}

#[derive(Debug)]
struct Text {
    token_embedding: Tensor,      // [rows, W]
    positional_embedding: Tensor, // [context length, W]
    blocks: Vec<Block>,
    ln_final: Norm,
    text_projection: Tensor, // [W, D]
}

#[derive(Debug)]
struct Norm {
    weight: Tensor,
    bias: Tensor,
    eps: f64,
}

#[derive(Debug)]
struct Linear {
    weight: Tensor, // [out, in]
    bias: Tensor,   // [out]
    precision: Precision,
}

/// What a tower takes.
#[derive(Debug)]
pub enum Input {
    /// 8-bit RGB [N, S, S, 3], and the patches [N, K] that patch dropout keeps.
    Pictures { bytes: Tensor, kept: Option<Tensor> },
    /// Rows of the token table [N, L] and the position of each end-of-text token [N].
    Texts { rows: Tensor, ends: Tensor },
}

/// A transformer block of either tower.
#[derive(Debug)]
pub struct Block {
    ln_1: Norm,
    in_proj: Linear, // W → 3W
    out_proj: Linear,
    ln_2: Norm,
    c_fc: Linear,
    c_proj: Linear,
    heads: i64,
    causal: bool,
    quick_gelu: bool,
}

impl Norm {
    fn new(params: &Params, name: &str, eps: f64) -> Self {
        Norm {
            weight: params.get(&format!("{name}.weight")),
            bias: params.get(&format!("{name}.bias")),
            eps,
        }
    }

    fn forward(&self, x: &Tensor) -> Tensor {
        x.layer_norm(self.weight.size(), Some(&self.weight), Some(&self.bias), self.eps, false)
    }
}

impl Linear {
    fn forward(&self, x: &Tensor) -> Tensor {
        match self.precision {
            Precision::Fp32 => x.linear(&self.weight, Some(&self.bias)),
            Precision::Bf16 => x.to_kind(Kind::BFloat16).linear(
                &self.weight.to_kind(Kind::BFloat16),
                Some(&self.bias.to_kind(Kind::BFloat16)),
            ),
        }
    }
}

impl Block {
    fn new(params: &Params, prefix: &str, heads: i64, causal: bool, how: How) -> Self {
        let linear = |name: &str, separator: &str| Linear {
            weight: params.get(&format!("{prefix}.{name}{separator}weight")),
            bias: params.get(&format!("{prefix}.{name}{separator}bias")),
            precision: how.precision,
        };
        Block {
            ln_1: Norm::new(params, &format!("{prefix}.ln_1"), how.eps),
            in_proj: linear("attn.in_proj", "_"),
            out_proj: linear("attn.out_proj", "."),
            ln_2: Norm::new(params, &format!("{prefix}.ln_2"), how.eps),
            c_fc: linear("mlp.c_fc", "."),
            c_proj: linear("mlp.c_proj", "."),
            heads,
            causal,
            quick_gelu: how.quick_gelu,
        }
    }

    /// x: [N, L, W] → [N, L, W]
    pub fn forward(&self, x: &Tensor) -> Tensor {
        let x = x + self.attention(&self.ln_1.forward(x)).to_kind(Kind::Float);
        let hidden = self.c_fc.forward(&self.ln_2.forward(&x)); // [N, L, 4W]
        let hidden = if self.quick_gelu {
            &hidden * (&hidden * 1.702).sigmoid()
        } else {
            hidden.gelu("none")
        };
        &x + self.c_proj.forward(&hidden).to_kind(Kind::Float)
    }

    /// Multi-head self-attention, x: [N, L, W] → [N, L, W]
    fn attention(&self, x: &Tensor) -> Tensor {
        let (n, l, w) = x.size3().expect("this is a bug: attention takes [N, L, W]");
        let qkv = self
            .in_proj
            .forward(x) // [N, L, 3W]
            .view([n, l, 3, self.heads, w / self.heads])
            .permute([2, 0, 3, 1, 4]); // [3, N, H, L, W/H]
        let (q, k, v) = (qkv.get(0), qkv.get(1), qkv.get(2));
        let none = None::<&Tensor>;
        let mixed =
            Tensor::scaled_dot_product_attention(&q, &k, &v, none, 0.0, self.causal, None, false);
        self.out_proj.forward(&mixed.transpose(1, 2).reshape([n, l, w]))
    }
}

#[derive(Clone, Copy)]
struct How {
    precision: Precision,
    quick_gelu: bool,
    eps: f64,
}

impl Clip {
    /// A model of `config`'s shape over `params`, whose tensors must fit it.
    pub fn new(config: &Config, params: &Params, precision: Precision) -> Self {
        let (v, t) = (&config.model_cfg.vision_cfg, &config.model_cfg.text_cfg);
        let quick_gelu = config.model_cfg.quick_gelu;
        let eps = |norm: Option<NormConfig>| norm.map_or(1e-5, |norm| norm.eps);
        let (of_pictures, of_texts) = (eps(v.norm_kwargs), eps(t.norm_kwargs));
        let device = params.get("logit_scale").device();
        let colour = |values: [f32; 3]| {
            (Tensor::from_slice(&values) * 255.0).view([1, 3, 1, 1]).to_device(device)
        };
        let block = |layer: i64, prefix: &str, heads: i64, causal: bool, eps: f64| {
            let how = How { precision, quick_gelu, eps };
            Block::new(params, &format!("{prefix}.resblocks.{layer}"), heads, causal, how)
        };
        Clip {
            visual: Visual {
                conv1: params.get("visual.conv1.weight"),
                class_embedding: params.get("visual.class_embedding"),
                positional_embedding: params.get("visual.positional_embedding"),
                ln_pre: (!v.no_ln_pre).then(|| Norm::new(params, "visual.ln_pre", of_pictures)),
                blocks: (0..v.layers)
                    .map(|i| {
                        block(i, "visual.transformer", v.width / v.head_width, false, of_pictures)
                    })
                    .collect(),
                ln_post: Norm::new(params, "visual.ln_post", of_pictures),
                proj: params.get("visual.proj"),
                patch_size: v.patch_size,
                mean: colour(config.preprocess_cfg.mean),
                std: colour(config.preprocess_cfg.std),
                precision,
            },
            text: Text {
                token_embedding: params.get("token_embedding.weight"),
                positional_embedding: params.get("positional_embedding"),
                blocks: (0..t.layers)
                    .map(|i| block(i, "transformer", t.heads, true, of_texts))
                    .collect(),
                ln_final: Norm::new(params, "ln_final", of_texts),
                text_projection: params.get("text_projection"),
            },
            logit_scale: params.get("logit_scale"),
        }
    }

    /// 8-bit RGB pictures [N, S, S, 3] → unit-length embeddings [N, D]
    pub fn encode_bytes(&self, pictures: &Tensor) -> Tensor {
        self.encode(&Input::Pictures { bytes: pictures.shallow_clone(), kept: None })
    }

    /// Rows of the token table [N, L] and the position of each end-of-text token [N]
    /// → unit-length embeddings [N, D].
    ///
    /// Attention is causal, so whatever follows the longest end-of-text token may be cut
    /// off (L ≤ context length) without changing the result.
    pub fn encode_rows(&self, rows: &Tensor, ends: &Tensor) -> Tensor {
        self.encode(&Input::Texts { rows: rows.shallow_clone(), ends: ends.shallow_clone() })
    }

    /// Unit-length embeddings [N, D].
    pub fn encode(&self, input: &Input) -> Tensor {
        let mut x = self.stem(input);
        for block in self.blocks(input) {
            x = block.forward(&x);
        }
        self.head(input, &x)
    }

    /// What comes before the first block: [N, L, W].
    pub fn stem(&self, input: &Input) -> Tensor {
        match input {
            Input::Pictures { bytes, kept } => self.visual.stem(bytes, kept.as_ref()),
            Input::Texts { rows, .. } => self.text.stem(rows),
        }
    }

    /// The blocks of the tower that takes `input`.
    pub fn blocks(&self, input: &Input) -> &[Block] {
        match input {
            Input::Pictures { .. } => &self.visual.blocks,
            Input::Texts { .. } => &self.text.blocks,
        }
    }

    /// What comes after the last block: x [N, L, W] → unit-length embeddings [N, D]
    pub fn head(&self, input: &Input, x: &Tensor) -> Tensor {
        unit(&match input {
            Input::Pictures { .. } => self.visual.head(x),
            Input::Texts { ends, .. } => self.text.head(x, ends),
        })
    }
}

impl Visual {
    /// [N, S, S, 3] → [N, G + 1, W], or [N, K + 1, W] if only the patches `kept` [N, K] stay.
    fn stem(&self, bytes: &Tensor, kept: Option<&Tensor>) -> Tensor {
        let pixels = bytes.permute([0, 3, 1, 2]).to_kind(Kind::Float); // [N, 3, S, S]
        let pixels = (pixels - &self.mean) / &self.std;
        let n = pixels.size()[0];
        let (pixels, kernel) = match self.precision {
            Precision::Fp32 => (pixels, self.conv1.shallow_clone()),
            Precision::Bf16 => (pixels.to_kind(Kind::BFloat16), self.conv1.to_kind(Kind::BFloat16)),
        };
        let patch = [self.patch_size, self.patch_size];
        let x = pixels
            .conv2d(&kernel, None::<&Tensor>, patch, [0, 0], [1, 1], 1) // [N, W, √G, √G]
            .to_kind(Kind::Float)
            .flatten(2, 3)
            .transpose(1, 2); // [N, G, W]
        let class = self.class_embedding.view([1, 1, -1]).expand([n, 1, -1], false);
        let mut x = Tensor::cat(&[class, x], 1) + &self.positional_embedding; // [N, G + 1, W]
        if let Some(kept) = kept {
            // The class token stays, in front.
            let at = Tensor::cat(&[kept.zeros_like().narrow(1, 0, 1), kept + 1], 1); // [N, K + 1]
            let (k, w) = (at.size()[1], x.size()[2]);
            x = x.gather(1, &at.unsqueeze(2).expand([n, k, w], false), false);
        }
        match &self.ln_pre {
            Some(norm) => norm.forward(&x),
            None => x,
        }
    }

    /// [N, L, W] → [N, D]
    fn head(&self, x: &Tensor) -> Tensor {
        self.ln_post.forward(&x.select(1, 0)).matmul(&self.proj)
    }
}

impl Text {
    /// [N, L] → [N, L, W]
    fn stem(&self, rows: &Tensor) -> Tensor {
        let l = rows.size()[1];
        let x = Tensor::embedding(&self.token_embedding, rows, -1, false, false); // [N, L, W]
        x + self.positional_embedding.narrow(0, 0, l)
    }

    /// x: [N, L, W], ends: [N] → [N, D]
    fn head(&self, x: &Tensor, ends: &Tensor) -> Tensor {
        let (n, _, w) = x.size3().expect("this is a bug: a block gives [N, L, W]");
        let at = ends.view([n, 1, 1]).expand([n, 1, w], false);
        let pooled = x.gather(1, &at, false).squeeze_dim(1); // [N, W]
        self.ln_final.forward(&pooled).matmul(&self.text_projection)
    }
}

/// Rows scaled to length 1.
fn unit(x: &Tensor) -> Tensor {
    x / x.norm_scalaropt_dim(2, [-1i64], true).clamp_min(1e-12)
}
