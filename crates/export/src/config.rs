//! The architecture of a CLIP, and where its description is found.
//!
//! Heads, activation and preprocessing cannot be told from weights, so a description is needed
//! unless they come in a model directory: open_clip's `open_clip_config.json` (or one of its bare model configurations), or
//! Hugging Face's `config.json` with `preprocessor_config.json` beside it. Both become the one
//! [`Architecture`] here; what weights can tell is checked against it as they are read.

use std::path::{Path, PathBuf};

use pgclip_clip::model::ResizeMode;
use serde_json::Value;

use crate::checkpoint::Checkpoint;
use crate::error::ExportError;
use crate::naming::Naming;

mod hugging_face;
mod open_clip;

/// Names of a description beside the weights.
const OPEN_CLIP_CONFIG: &str = "open_clip_config.json";
const HUGGING_FACE_CONFIG: &str = "config.json";
const PREPROCESSOR_CONFIG: &str = "preprocessor_config.json";

/// Mean and standard deviation of each channel in OpenAI's training set, which is what a
/// description that names none means.
const OPENAI_MEAN: [f32; 3] = [0.481_454_66, 0.457_827_5, 0.408_210_73];
const OPENAI_STD: [f32; 3] = [0.268_629_54, 0.261_302_6, 0.275_777_1];

/// A CLIP with a vision transformer: everything the graphs need but the weights.
#[derive(Clone, Debug, PartialEq)]
pub struct Architecture {
    /// Length of an embedding.
    pub dimensions: usize,
    /// Width and height of an image in pixels.
    pub image_size: usize,
    /// Width and height of a patch in pixels.
    pub patch_size: usize,
    /// Whether a layer norm stands before the first block of the image tower.
    pub ln_pre: bool,
    pub vision: Tower,
    pub text: Tower,
    /// Most tokens of a text.
    pub context_length: usize,
    /// Number of token ids.
    pub vocab_size: usize,
    pub preprocessing: Preprocessing,
}

/// The transformer of one tower.
#[derive(Clone, Debug, PartialEq)]
pub struct Tower {
    pub width: usize,
    pub layers: usize,
    pub heads: usize,
    /// Width between the two layers of a block's perceptron.
    pub mlp_width: usize,
    pub activation: Activation,
    /// What the layer norms add to the variance.
    pub epsilon: f32,
}

/// The function between the two layers of a block's perceptron.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// `x · Φ(x)`, with the error function.
    Gelu,
    /// `x · sigmoid(1.702 x)`, OpenAI's.
    QuickGelu,
}

/// What becomes of an image before the tower sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct Preprocessing {
    pub mean: [f32; 3],
    pub std: [f32; 3],
    pub resize: ResizeMode,
}

impl Default for Preprocessing {
    fn default() -> Self {
        Self { mean: OPENAI_MEAN, std: OPENAI_STD, resize: ResizeMode::Crop }
    }
}

impl Architecture {
    /// Reads the description at `path`, or else the one that the weights came with or that lies
    /// beside them.
    pub fn find(path: Option<&Path>, weights: &Checkpoint) -> Result<Self, ExportError> {
        match (path, &weights.architecture) {
            (Some(path), _) => Self::read(path),
            (None, Some(architecture)) => Ok(architecture.clone()),
            (None, None) => Self::read(&beside(weights)?),
        }
    }

    /// Reads a description of either kind; which one it is shows in its keys.
    pub fn read(path: &Path) -> Result<Self, ExportError> {
        let config = read_json(path)?;
        let found = if config.get("vision_config").is_some() || config.get("text_config").is_some()
        {
            let preprocessor = path.with_file_name(PREPROCESSOR_CONFIG);
            let preprocessor =
                if preprocessor.is_file() { Some(read_json(&preprocessor)?) } else { None };
            hugging_face::parse(config, preprocessor)
        } else {
            open_clip::parse(config)
        };
        let architecture = found.map_err(|message| ExportError::config(path, message))?;
        architecture.check().map_err(|message| ExportError::config(path, message))?;
        Ok(architecture)
    }

    /// A name for people, open_clip's where it has one for these sizes.
    pub fn describe(&self) -> String {
        let Tower { width, layers, .. } = self.vision;
        let size = match (width, layers) {
            (768, 12) => "B".to_owned(),
            (1024, 24) => "L".to_owned(),
            (1280, 32) => "H".to_owned(),
            (1408, 40) => "g".to_owned(),
            (1664, 48) => "bigG".to_owned(),
            _ => format!("{width}x{layers}"),
        };
        let mut name = format!("ViT-{size}-{}", self.patch_size);
        if self.image_size != 224 {
            name += &format!("-{}", self.image_size);
        }
        if self.vision.activation == Activation::QuickGelu {
            name += "-quickgelu";
        }
        format!("{name}, text {}x{}", self.text.width, self.text.layers)
    }

    /// Number of patches along one side of an image.
    pub fn grid(&self) -> usize {
        self.image_size / self.patch_size
    }

    fn check(&self) -> Result<(), String> {
        let within = |name: &str, value: usize, most: usize| match value {
            0 => Err(format!("{name} is 0")),
            v if v > most => Err(format!("{name} is {v}, more than {most}")),
            _ => Ok(()),
        };
        within("the length of an embedding", self.dimensions, 16_000)?;
        within("image_size", self.image_size, 4096)?;
        within("patch_size", self.patch_size, self.image_size)?;
        within("context_length", self.context_length, 4096)?;
        within("vocab_size", self.vocab_size, 1 << 24)?;
        for (name, tower) in [("vision", &self.vision), ("text", &self.text)] {
            within(&format!("{name} width"), tower.width, 1 << 16)?;
            within(&format!("number of {name} layers"), tower.layers, 1000)?;
            within(&format!("{name} perceptron's width"), tower.mlp_width, 1 << 18)?;
            within(&format!("number of {name} heads"), tower.heads, tower.width)?;
            if tower.width % tower.heads != 0 {
                let Tower { width, heads, .. } = tower;
                return Err(format!("{name} width {width} does not divide by {heads} heads"));
            }
            if !(tower.epsilon > 0.0 && tower.epsilon < 1.0) {
                return Err(format!("{name} layer norm's epsilon is {}", tower.epsilon));
            }
        }
        Ok(())
    }
}

/// The description that lies in the weights' folder, first the one of their own library.
fn beside(weights: &Checkpoint) -> Result<PathBuf, ExportError> {
    let names = match weights.naming {
        Naming::HuggingFace => [HUGGING_FACE_CONFIG, OPEN_CLIP_CONFIG],
        _ => [OPEN_CLIP_CONFIG, HUGGING_FACE_CONFIG],
    };
    names
        .iter()
        .map(|name| weights.folder().join(name))
        .find(|path| path.is_file())
        .ok_or_else(|| ExportError::NoConfig { path: weights.path.clone() })
}

fn read_json(path: &Path) -> Result<Value, ExportError> {
    let json = std::fs::read(path).map_err(ExportError::read(path))?;
    serde_json::from_slice(&json)
        .map_err(|e| ExportError::config(path, format!("is not JSON: {e}")))
}
