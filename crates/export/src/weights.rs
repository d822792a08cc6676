//! The weights of both towers, each tensor found by name and held to the shape that the
//! architecture demands. All that is wrong is reported at once.

use std::collections::BTreeSet;

use safetensors::Dtype;

use crate::checkpoint::Checkpoint;
use crate::config::{Architecture, Tower};
use crate::error::ExportError;
use crate::naming::Naming;
use crate::tensor::{Recipe, Tensor};

/// A CLIP. Shapes in the comments below: W a tower's width, M its perceptron's, D the embedding's.
pub struct Weights<'a> {
    pub vision: Vision<'a>,
    pub text: Text<'a>,
    /// What similarities are multiplied with, i.e. the exponential of the parameter.
    pub logit_scale: f32,
}

pub struct Vision<'a> {
    /// `[W, 3, patch, patch]`
    pub patch: Tensor<'a>,
    /// `[W]`
    pub class: Tensor<'a>,
    /// `[1 + patches, W]`, the class token's first.
    pub positions: Tensor<'a>,
    pub ln_pre: Option<Norm<'a>>,
    pub blocks: Vec<Block<'a>>,
    pub ln_post: Norm<'a>,
    /// `[W, D]`
    pub projection: Recipe<'a>,
}

pub struct Text<'a> {
    /// `[rows, W]`, a row for each token id unless there are `token_rows`.
    pub tokens: Tensor<'a>,
    /// The row of each token id, where the vocabulary has been cut to what is in use.
    pub token_rows: Option<Vec<i64>>,
    /// `[context length, W]`
    pub positions: Tensor<'a>,
    pub blocks: Vec<Block<'a>>,
    pub ln_final: Norm<'a>,
    /// `[W, D]`
    pub projection: Recipe<'a>,
}

pub struct Block<'a> {
    pub ln_1: Norm<'a>,
    /// `[W, W]` each
    pub query: Linear<'a>,
    pub key: Linear<'a>,
    pub value: Linear<'a>,
    pub out: Linear<'a>,
    pub ln_2: Norm<'a>,
    /// `[M, W]`
    pub widen: Linear<'a>,
    /// `[W, M]`
    pub narrow: Linear<'a>,
}

/// A layer norm over W.
pub struct Norm<'a> {
    pub weight: Tensor<'a>,
    pub bias: Tensor<'a>,
}

/// torch's `Linear`: a weight `[out, in]` and a bias `[out]`.
pub struct Linear<'a> {
    pub weight: Tensor<'a>,
    pub bias: Tensor<'a>,
}

impl<'a> Weights<'a> {
    /// Collects the weights of `architecture` from the checkpoint.
    pub fn load(
        checkpoint: &'a Checkpoint,
        architecture: &Architecture,
    ) -> Result<Self, ExportError> {
        let mut loader = Loader::new(checkpoint);
        let vision = loader.vision(architecture);
        let text = loader.text(architecture);
        let logit_scale = loader.logit_scale();
        loader.finish()?;
        Ok(Self { vision, text, logit_scale })
    }
}

/// Collects tensors by name, and what is wrong with them.
pub struct Loader<'a> {
    pub checkpoint: &'a Checkpoint,
    /// Names, as the checkpoint has them, that were asked for.
    seen: BTreeSet<String>,
    problems: Vec<String>,
}

impl<'a> Loader<'a> {
    pub fn new(checkpoint: &'a Checkpoint) -> Self {
        Self { checkpoint, seen: BTreeSet::new(), problems: Vec::new() }
    }

    fn vision(&mut self, architecture: &Architecture) -> Vision<'a> {
        let Architecture { vision: tower, patch_size: patch, .. } = architecture;
        let positions = 1 + architecture.grid().pow(2);
        Vision {
            patch: self.floats("visual.conv1.weight", &[tower.width, 3, *patch, *patch]),
            class: self.floats("visual.class_embedding", &[tower.width]),
            positions: self.floats("visual.positional_embedding", &[positions, tower.width]),
            ln_pre: architecture.ln_pre.then(|| self.norm("visual.ln_pre", tower.width)),
            blocks: self.blocks("visual.", tower),
            ln_post: self.norm("visual.ln_post", tower.width),
            projection: self.projection("visual.proj", tower.width, architecture.dimensions),
        }
    }

    fn text(&mut self, architecture: &Architecture) -> Text<'a> {
        let Architecture { text: tower, vocab_size, context_length, .. } = architecture;
        let token_rows = self.token_rows(*vocab_size);
        let rows = match &token_rows {
            Some(_) => self.rows_of("token_embedding.weight"),
            None => *vocab_size,
        };
        if let Some(row) = token_rows.iter().flatten().find(|&&row| row < 0 || row >= rows as i64) {
            self.problems.push(format!("token_rows names row {row} of {rows}"));
        }
        Text {
            tokens: self.floats("token_embedding.weight", &[rows, tower.width]),
            token_rows,
            positions: self.floats("positional_embedding", &[*context_length, tower.width]),
            blocks: self.blocks("", tower),
            ln_final: self.norm("ln_final", tower.width),
            projection: self.projection("text_projection", tower.width, architecture.dimensions),
        }
    }

    pub fn blocks(&mut self, prefix: &str, tower: &Tower) -> Vec<Block<'a>> {
        (0..tower.layers)
            .map(|layer| self.block(&format!("{prefix}transformer.resblocks.{layer}"), tower))
            .collect()
    }

    fn block(&mut self, at: &str, tower: &Tower) -> Block<'a> {
        let &Tower { width, mlp_width, .. } = tower;
        let [query, key, value] = if self.checkpoint.naming.attention_is_split() {
            ["q_proj", "k_proj", "v_proj"]
                .map(|part| self.linear(&format!("{at}.attn.{part}"), width, width))
        } else {
            let weight = self.floats(&format!("{at}.attn.in_proj_weight"), &[3 * width, width]);
            let bias = self.floats(&format!("{at}.attn.in_proj_bias"), &[3 * width]);
            [0, 1, 2].map(|part| Linear {
                weight: weight.rows(part * width, width),
                bias: bias.rows(part * width, width),
            })
        };
        Block {
            ln_1: self.norm(&format!("{at}.ln_1"), width),
            query,
            key,
            value,
            out: self.linear(&format!("{at}.attn.out_proj"), width, width),
            ln_2: self.norm(&format!("{at}.ln_2"), width),
            widen: self.linear(&format!("{at}.mlp.c_fc"), width, mlp_width),
            narrow: self.linear(&format!("{at}.mlp.c_proj"), mlp_width, width),
        }
    }

    pub fn norm(&mut self, at: &str, width: usize) -> Norm<'a> {
        Norm {
            weight: self.floats(&format!("{at}.weight"), &[width]),
            bias: self.floats(&format!("{at}.bias"), &[width]),
        }
    }

    fn linear(&mut self, at: &str, inputs: usize, outputs: usize) -> Linear<'a> {
        Linear {
            weight: self.floats(&format!("{at}.weight"), &[outputs, inputs]),
            bias: self.floats(&format!("{at}.bias"), &[outputs]),
        }
    }

    fn projection(&mut self, name: &str, width: usize, dimensions: usize) -> Recipe<'a> {
        if self.checkpoint.naming.projections_are_linear() {
            Recipe::of(self.floats(name, &[dimensions, width])).transpose()
        } else {
            Recipe::of(self.floats(name, &[width, dimensions]))
        }
    }

    fn token_rows(&mut self, vocab_size: usize) -> Option<Vec<i64>> {
        let name = self.checkpoint.naming.spell("token_rows");
        let tensor = self.checkpoint.tensor(&name)?;
        self.expect(&tensor, &[vocab_size], &[Dtype::I32, Dtype::I64]);
        self.seen.insert(name);
        Some(tensor.ints())
    }

    fn logit_scale(&mut self) -> f32 {
        let name = self.checkpoint.naming.spell("logit_scale");
        let scalar = self.checkpoint.tensor(&name).is_some_and(|tensor| tensor.shape.is_empty());
        let tensor = self.floats("logit_scale", if scalar { &[] } else { &[1] });
        tensor.floats().first().map_or(1.0, |scale| scale.exp())
    }

    /// Number of rows of a tensor whose shape says it best.
    fn rows_of(&self, name: &str) -> usize {
        let tensor = self.checkpoint.tensor(&self.checkpoint.naming.spell(name));
        tensor.and_then(|tensor| tensor.shape.first().copied()).unwrap_or(0)
    }

    /// The tensor known to open_clip as `name`; an empty one of that shape if it is missing or
    /// wrong, which is then among the problems.
    pub fn floats(&mut self, name: &str, shape: &[usize]) -> Tensor<'a> {
        self.named(&self.checkpoint.naming.spell(name), shape)
    }

    /// A layer norm, and a linear layer, by the checkpoint's own names.
    pub fn named_norm(&mut self, at: &str, width: usize) -> Norm<'a> {
        Norm {
            weight: self.named(&format!("{at}.weight"), &[width]),
            bias: self.named(&format!("{at}.bias"), &[width]),
        }
    }

    pub fn named_linear(&mut self, at: &str, inputs: usize, outputs: usize) -> Linear<'a> {
        Linear {
            weight: self.named(&format!("{at}.weight"), &[outputs, inputs]),
            bias: self.named(&format!("{at}.bias"), &[outputs]),
        }
    }

    /// A single number, also where it is the only one of a list.
    pub fn scalar(&mut self, name: &str) -> f32 {
        let scalar = self.checkpoint.tensor(name).is_some_and(|tensor| tensor.shape.is_empty());
        let tensor = self.named(name, if scalar { &[] } else { &[1] });
        tensor.floats().first().copied().unwrap_or(0.0)
    }

    /// The tensor that the checkpoint itself calls `name`, likewise.
    pub fn named(&mut self, name: &str, shape: &[usize]) -> Tensor<'a> {
        let name = name.to_owned();
        let found = self.checkpoint.tensor(&name);
        self.seen.insert(name.clone());
        const FLOATS: [Dtype; 4] = [Dtype::F32, Dtype::F16, Dtype::BF16, Dtype::F64];
        match found {
            Some(tensor) if self.expect(&tensor, shape, &FLOATS) => tensor,
            Some(_) => Tensor { name, shape: shape.to_vec(), dtype: Dtype::F32, data: &[] },
            None => {
                self.problems.push(format!("missing: {name} {shape:?}"));
                Tensor { name, shape: shape.to_vec(), dtype: Dtype::F32, data: &[] }
            }
        }
    }

    fn expect(&mut self, tensor: &Tensor<'_>, shape: &[usize], dtypes: &[Dtype]) -> bool {
        let Tensor { name, shape: found, dtype, .. } = tensor;
        if found != shape {
            self.problems.push(format!("wrong shape: {name} is {found:?}, expected {shape:?}"));
        } else if !dtypes.contains(dtype) {
            self.problems.push(format!("wrong type: {name} is {dtype}, expected {}", dtypes[0]));
        } else {
            return true;
        }
        false
    }

    pub fn finish(mut self) -> Result<(), ExportError> {
        for name in self.checkpoint.names() {
            if !self.seen.contains(name) && !Naming::is_buffer(name) {
                self.problems.push(format!("unknown: {name}"));
            }
        }
        if self.problems.is_empty() { Ok(()) } else { Err(ExportError::Tensors(self.problems)) }
    }
}
