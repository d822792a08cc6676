//! The architecture of a model in open_clip's JSON form (`open_clip_config.json`).
//!
//! A file of its own because three things share it: the model's shapes, the
//! checkpoint that must say what it is, and the exporter.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};

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
                },
                text_cfg: TextConfig {
                    context_length: 77,
                    vocab_size: 49408,
                    width: 128,
                    heads: 4,
                    layers: 3,
                },
            },
            preprocess_cfg: PreprocessConfig {
                mean: [0.481_454_66, 0.457_827_5, 0.408_210_73],
                std: [0.268_629_54, 0.261_302_6, 0.275_777_1],
                interpolation: "bicubic".into(),
                resize_mode: "longest".into(),
            },
        }
    }

    /// Reads and checks a JSON file, or takes a built-in name.
    pub fn named_or_file(name: &str) -> Result<Self> {
        match name {
            "pgclip-traffic-tiny" => Ok(Self::traffic_tiny()),
            path => Self::read(Path::new(path)),
        }
    }

    /// Reads and checks `open_clip_config.json`.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read the model configuration {}", path.display()))?;
        let config: Config = serde_json::from_str(&text)
            .with_context(|| format!("{} is no open_clip configuration", path.display()))?;
        config.check().with_context(|| format!("in {}", path.display()))?;
        Ok(config)
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
