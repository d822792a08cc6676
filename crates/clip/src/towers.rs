//! What a graph takes and gives: names, types and layout of its inputs, its output, and whether it
//! takes a batch. Apart from `model`, since the exporter, the probe and the encoder all speak of one
//! tower at a time.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::model::{IMAGE_FILE, TEXT_FILE};

/// The graphs of a model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Towers {
    pub image: TowerConfig,
    pub text: TowerConfig,
}

/// One graph.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TowerConfig {
    /// Name of the file, in the directory itself.
    pub file: String,
    /// Everything that the graph wants to be fed.
    pub inputs: Vec<Input>,
    pub output: Output,
    pub batch: BatchSize,
}

/// One input of a graph.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Input {
    /// Its name in the graph; empty: it is the only one, whatever its name.
    pub name: String,
    #[serde(rename = "type")]
    pub element: ElementType,
    #[serde(flatten)]
    pub holds: Holds,
}

/// What an input is fed with. N is the batch, S the image's side, L the number of tokens.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "holds", rename_all = "lowercase")]
pub enum Holds {
    /// The images: normalised, or bytes from 0 to 255 where the type is u8.
    Pixels { layout: Layout },
    /// The token ids, [N, L].
    Tokens,
    /// 1 for a token of the text, 0 for one that fills it up, [N, L].
    Mask,
    /// BERT's token types, all 0, [N, L].
    Segments,
    /// Something of no consequence that the graph wants all the same: the same number everywhere;
    /// -1 stands for N.
    Constant {
        shape: Vec<i64>,
        #[serde(default)]
        value: f32,
    },
}

impl fmt::Display for Holds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pixels { .. } => "pixels",
            Self::Tokens => "tokens",
            Self::Mask => "mask",
            Self::Segments => "segments",
            Self::Constant { .. } => "constant",
        })
    }
}

/// The order of an image's axes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Layout {
    /// [N, 3, S, S]
    Nchw,
    /// [N, S, S, 3]
    Nhwc,
}

/// The type of a tensor's elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ElementType {
    F32,
    F16,
    U8,
    I32,
    I64,
    Bool,
}

impl fmt::Display for ElementType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::U8 => "u8",
            Self::I32 => "i32",
            Self::I64 => "i64",
            Self::Bool => "bool",
        })
    }
}

/// The output that is taken, [N, width]: of any length, since embeddings are normalised anyway.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Output {
    /// Its name in the graph.
    pub name: String,
    #[serde(rename = "type")]
    pub element: ElementType,
    /// Numbers in a row; where they are more than the model's dimensions the first ones are taken
    /// (Matryoshka embeddings).
    pub width: u32,
}

/// How many items a graph takes at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BatchSize {
    /// As many as there are.
    Any,
    /// One after the other.
    One,
}

impl TowerConfig {
    /// The image tower that the exporter makes of weights.
    pub fn own_image(dimensions: u32) -> Self {
        let pixels = Holds::Pixels { layout: Layout::Nchw };
        Self::own(IMAGE_FILE, ElementType::F32, pixels, dimensions)
    }

    /// The text tower that the exporter makes of weights.
    pub fn own_text(dimensions: u32) -> Self {
        Self::own(TEXT_FILE, ElementType::I64, Holds::Tokens, dimensions)
    }

    fn own(file: &str, element: ElementType, holds: Holds, dimensions: u32) -> Self {
        Self {
            file: file.into(),
            inputs: vec![Input { name: String::new(), element, holds }],
            output: Output {
                name: "embedding".into(),
                element: ElementType::F32,
                width: dimensions,
            },
            batch: BatchSize::Any,
        }
    }

    /// The input that holds pixels or tokens.
    pub fn main(&self) -> &Input {
        let is_main = |input: &&Input| matches!(input.holds, Holds::Pixels { .. } | Holds::Tokens);
        self.inputs.iter().find(is_main).expect("a checked tower has one such input")
    }
}
