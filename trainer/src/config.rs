//! The architecture of a model in open_clip's JSON form (`open_clip_config.json`).
//!
//! A file of its own because three things share it: the model's shapes, the checkpoint that must
//! say what it is, and the exporter, whose reader of descriptions (open_clip's and Hugging
//! Face's) is the only one: what it does not know it refuses.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use pgclip_clip::model::{Interpolation, ResizeMode};
use pgclip_export::{Activation, Architecture, Preprocessing, Tower};
use serde::{Deserialize, Serialize};

use crate::architectures;

/// Name of the file beside a checkpoint's weights.
pub const CONFIG_FILE: &str = "open_clip_config.json";

/// What open_clip writes as `open_clip_config.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Config {
    pub model_cfg: ModelConfig,
    pub preprocess_cfg: PreprocessConfig,
}

/// Shapes of both towers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelConfig {
    /// Dimensions of the shared embedding space.
    pub embed_dim: i64,
    /// The first CLIP models' approximation of GELU, `x·sigmoid(1.702x)`.
    #[serde(default)]
    pub quick_gelu: bool,
    pub vision_cfg: VisionConfig,
    pub text_cfg: TextConfig,
}

/// The image tower: a vision transformer with a class token.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VisionConfig {
    /// Side of the square input, pixels.
    pub image_size: i64,
    pub layers: i64,
    pub width: i64,
    #[serde(default = "default_head_width")]
    pub head_width: i64,
    #[serde(default = "default_mlp_ratio")]
    pub mlp_ratio: f64,
    /// Side of a patch, pixels.
    pub patch_size: i64,
    /// No layer norm before the first block.
    #[serde(default, skip_serializing_if = "is_false")]
    pub no_ln_pre: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub norm_kwargs: Option<NormConfig>,
}

/// What differs from torch's layer norm.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct NormConfig {
    /// What is added to the variance.
    pub eps: f64,
}

/// The text tower: a causal transformer, pooled at the end-of-text token.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TextConfig {
    #[serde(default = "default_context_length")]
    pub context_length: i64,
    #[serde(default = "default_vocab_size")]
    pub vocab_size: i64,
    pub width: i64,
    pub heads: i64,
    pub layers: i64,
    #[serde(default = "default_mlp_ratio", skip_serializing_if = "is_default_mlp_ratio")]
    pub mlp_ratio: f64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub norm_kwargs: Option<NormConfig>,
}

impl VisionConfig {
    /// Width between the two layers of a block's perceptron.
    pub fn mlp_width(&self) -> i64 {
        (self.width as f64 * self.mlp_ratio) as i64
    }
}

impl TextConfig {
    /// Width between the two layers of a block's perceptron.
    pub fn mlp_width(&self) -> i64 {
        (self.width as f64 * self.mlp_ratio) as i64
    }
}

/// How pictures become pixels.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PreprocessConfig {
    pub mean: [f32; 3],
    pub std: [f32; 3],
    pub interpolation: String,
    /// open_clip's words: `shortest` resizes and crops, `longest` pads to a square.
    pub resize_mode: String,
}

impl PreprocessConfig {
    /// The channels' mean and deviation in OpenAI's training set.
    pub fn clip(resize_mode: &str) -> Self {
        PreprocessConfig {
            mean: [0.481_454_66, 0.457_827_5, 0.408_210_73],
            std: [0.268_629_54, 0.261_302_6, 0.275_777_1],
            interpolation: "bicubic".into(),
            resize_mode: resize_mode.into(),
        }
    }
}

fn is_false(value: &bool) -> bool {
    !value
}

fn is_default_mlp_ratio(value: &f64) -> bool {
    *value == default_mlp_ratio()
}

fn default_head_width() -> i64 {
    64
}

fn default_context_length() -> i64 {
    77
}

fn default_vocab_size() -> i64 {
    49_408
}

fn default_mlp_ratio() -> f64 {
    4.0
}

impl Config {
    /// The shapes of the built-in model `pgclip-traffic-tiny`.
    pub fn traffic_tiny() -> Self {
        Config {
            model_cfg: ModelConfig {
                embed_dim: 128,
                quick_gelu: false,
                vision_cfg: VisionConfig {
                    image_size: 64,
                    layers: 4,
                    width: 128,
                    head_width: 32,
                    mlp_ratio: 4.0,
                    patch_size: 8,
                    no_ln_pre: false,
                    norm_kwargs: None,
                },
                text_cfg: TextConfig {
                    context_length: 77,
                    vocab_size: 49408,
                    width: 128,
                    heads: 4,
                    layers: 3,
                    mlp_ratio: 4.0,
                    norm_kwargs: None,
                },
            },
            preprocess_cfg: PreprocessConfig::clip("longest"),
        }
    }

    /// The architecture of that name, or what a file describes.
    pub fn named_or_file(name: &str) -> Result<Self> {
        match architectures::named(name) {
            Some(config) => Ok(config),
            None if Path::new(name).exists() => Self::read(Path::new(name)),
            None => bail!(
                "{name} is neither a file nor one of the architectures {}",
                architectures::names()
            ),
        }
    }

    /// Reads and checks `open_clip_config.json`, a bare model configuration of open_clip's, or
    /// Hugging Face's `config.json` with what stands beside it.
    pub fn read(path: &Path) -> Result<Self> {
        let config = Self::try_from(&Architecture::read(path)?);
        config
            .and_then(|config| config.check().map(|()| config))
            .with_context(|| format!("in the description of the architecture {}", path.display()))
    }

    /// Whether pictures are padded to a square (else: resized and cropped).
    pub fn pads(&self) -> bool {
        self.preprocess_cfg.resize_mode == "longest"
    }

    /// Refuses shapes that no model can have.
    pub fn check(&self) -> Result<()> {
        let (v, t) = (&self.model_cfg.vision_cfg, &self.model_cfg.text_cfg);
        let sizes = [
            ("embed_dim", self.model_cfg.embed_dim),
            ("vision_cfg.image_size", v.image_size),
            ("vision_cfg.layers", v.layers),
            ("vision_cfg.width", v.width),
            ("vision_cfg.head_width", v.head_width),
            ("vision_cfg.patch_size", v.patch_size),
            ("text_cfg.context_length", t.context_length),
            ("text_cfg.vocab_size", t.vocab_size),
            ("text_cfg.width", t.width),
            ("text_cfg.heads", t.heads),
            ("text_cfg.layers", t.layers),
        ];
        for (name, size) in sizes {
            ensure!((1..=1 << 20).contains(&size), "{name} = {size} is out of range");
        }
        ensure!(
            v.mlp_ratio.is_finite() && v.mlp_ratio > 0.0 && v.mlp_ratio <= 64.0,
            "vision_cfg.mlp_ratio = {} is out of range",
            v.mlp_ratio
        );
        ensure!(v.width % v.head_width == 0, "vision_cfg.width is no multiple of head_width");
        ensure!(t.width % t.heads == 0, "text_cfg.width is no multiple of heads");
        ensure!(t.mlp_width() >= 1 && t.mlp_ratio <= 64.0, "text_cfg.mlp_ratio is out of range");
        ensure!(v.patch_size <= v.image_size, "patch_size is larger than image_size");
        match self.preprocess_cfg.resize_mode.as_str() {
            "shortest" | "longest" => {}
            other => bail!("resize_mode {other:?} is neither \"shortest\" nor \"longest\""),
        }
        ensure!(
            self.preprocess_cfg.interpolation == "bicubic",
            "interpolation {:?} is not supported, only \"bicubic\"",
            self.preprocess_cfg.interpolation
        );
        Ok(())
    }
}

impl TryFrom<&Architecture> for Config {
    type Error = anyhow::Error;

    /// The same architecture in the form that checkpoints have beside them.
    fn try_from(from: &Architecture) -> Result<Self> {
        let (v, t) = (&from.vision, &from.text);
        ensure!(v.activation == t.activation, "the towers have different activations");
        let Preprocessing { resize, interpolation, .. } = from.preprocessing;
        ensure!(
            interpolation == Interpolation::Bicubic,
            "images are resized by {interpolation:?} interpolation; training knows bicubic alone"
        );
        let norm = |tower: &Tower| {
            (tower.epsilon != 1e-5).then(|| NormConfig { eps: f64::from(tower.epsilon) })
        };
        Ok(Config {
            model_cfg: ModelConfig {
                embed_dim: from.dimensions as i64,
                quick_gelu: v.activation == Activation::QuickGelu,
                vision_cfg: VisionConfig {
                    image_size: from.image_size as i64,
                    layers: v.layers as i64,
                    width: v.width as i64,
                    head_width: (v.width / v.heads) as i64,
                    mlp_ratio: ratio(v),
                    patch_size: from.patch_size as i64,
                    no_ln_pre: !from.ln_pre,
                    norm_kwargs: norm(v),
                },
                text_cfg: TextConfig {
                    context_length: from.context_length as i64,
                    vocab_size: from.vocab_size as i64,
                    width: t.width as i64,
                    heads: t.heads as i64,
                    layers: t.layers as i64,
                    mlp_ratio: ratio(t),
                    norm_kwargs: norm(t),
                },
            },
            preprocess_cfg: PreprocessConfig {
                mean: from.preprocessing.mean,
                std: from.preprocessing.std,
                interpolation: "bicubic".into(),
                resize_mode: match resize {
                    ResizeMode::Crop => "shortest".into(),
                    ResizeMode::Pad => "longest".into(),
                    ResizeMode::Squash => bail!("images are squashed; training crops or pads them"),
                },
            },
        })
    }
}

/// A ratio that gives the perceptron's width back when open_clip multiplies and truncates.
fn ratio(tower: &Tower) -> f64 {
    let (width, mlp_width) = (tower.width as f64, tower.mlp_width as f64);
    if (width * (mlp_width / width)) as usize == tower.mlp_width {
        mlp_width / width
    } else {
        (mlp_width + 0.5) / width
    }
}
