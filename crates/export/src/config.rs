//! The architecture of a CLIP, and where its description is found.
//!
//! Heads, activation and preprocessing cannot be told from weights, so a description is needed
//! unless they come in a model directory: open_clip's `open_clip_config.json` (or one of its bare
//! model configurations), or Hugging Face's `config.json` with `processor_config.json` or
//! `preprocessor_config.json` beside it. All become the one [`Architecture`] here; what weights can
//! tell is checked against it as they are read. What nothing tells is not assumed: what open_clip knows
//! of its own weights (`tags`) is taken, or it is asked for.

use std::path::{Path, PathBuf};

use pgclip_clip::model::{Interpolation, ResizeMode};
use serde_json::Value;

use crate::checkpoint::Checkpoint;
use crate::error::ExportError;
use crate::naming::Naming;
use crate::siglip;

pub(crate) mod hugging_face;
pub(crate) mod image_processor;
pub(crate) mod known;
pub(crate) mod open_clip;
pub(crate) mod section;
pub(crate) mod tags;

use known::Known;
use section::Section;

/// Names of a description beside the weights.
const OPEN_CLIP_CONFIG: &str = "open_clip_config.json";
const HUGGING_FACE_CONFIG: &str = "config.json";
const PROCESSOR_CONFIG: &str = "processor_config.json";
const PREPROCESSOR_CONFIG: &str = "preprocessor_config.json";

/// Mean and standard deviation of each channel in OpenAI's training set, which is what a
/// description of preprocessing that names none means.
const OPENAI_MEAN: [f32; 3] = [0.481_454_66, 0.457_827_5, 0.408_210_73];
const OPENAI_STD: [f32; 3] = [0.268_629_54, 0.261_302_6, 0.275_777_1];
/// The same of ImageNet.
const IMAGENET_MEAN: [f32; 3] = [0.485, 0.456, 0.406];
const IMAGENET_STD: [f32; 3] = [0.229, 0.224, 0.225];

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
    /// The same approximated by tanh, SigLIP's.
    GeluTanh,
    /// `x · sigmoid(1.702 x)`, OpenAI's.
    QuickGelu,
}

/// What becomes of an image before the tower sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct Preprocessing {
    pub mean: [f32; 3],
    pub std: [f32; 3],
    pub resize: ResizeMode,
    pub interpolation: Interpolation,
}

impl Preprocessing {
    /// Shortest side to size, bicubic, centre crop.
    fn cropped(mean: [f32; 3], std: [f32; 3]) -> Self {
        Self { mean, std, resize: ResizeMode::Crop, interpolation: Interpolation::Bicubic }
    }

    /// Shortest side to size, centre crop, OpenAI's mean and deviation.
    pub fn openai() -> Self {
        Self::cropped(OPENAI_MEAN, OPENAI_STD)
    }

    /// The same with ImageNet's.
    pub fn imagenet() -> Self {
        Self::cropped(IMAGENET_MEAN, IMAGENET_STD)
    }

    /// The same to values from -1 to 1.
    pub fn inception() -> Self {
        Self::cropped([0.5; 3], [0.5; 3])
    }
}

/// An architecture without its preprocessing.
#[derive(Debug)]
struct Shape {
    dimensions: usize,
    image_size: usize,
    patch_size: usize,
    ln_pre: bool,
    vision: Tower,
    text: Tower,
    context_length: usize,
    vocab_size: usize,
}

impl Shape {
    fn with(self, preprocessing: Preprocessing) -> Architecture {
        let Self { dimensions, image_size, patch_size, ln_pre, vision, text, .. } = self;
        let Self { context_length, vocab_size, .. } = self;
        Architecture {
            dimensions,
            image_size,
            patch_size,
            ln_pre,
            vision,
            text,
            context_length,
            vocab_size,
            preprocessing,
        }
    }
}

/// What is said of weights beside their description, which need not tell it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Stated {
    pub preprocessing: Option<Preprocessing>,
    pub activation: Option<Activation>,
    /// open_clip's tag of the weights, such as `laion2b_s34b_b79k`.
    pub tag: Option<String>,
}

/// A description as it was read.
struct Parsed {
    shape: Shape,
    preprocessing: Option<Preprocessing>,
    /// One of open_clip's model configurations, of an architecture and not of certain weights.
    bare: bool,
    /// Whether it tells the activation.
    activation_told: bool,
}

impl Architecture {
    /// Reads the description at `path`, or else the one that the weights came with or that lies
    /// beside them.
    pub fn find(path: Option<&Path>, weights: &Checkpoint) -> Result<Self, ExportError> {
        Self::find_for(path, weights, &Stated::default())
    }

    /// The same for weights whose description leaves open what `stated` says. A description that
    /// does tell it may not say otherwise.
    pub fn find_for(
        path: Option<&Path>,
        weights: &Checkpoint,
        stated: &Stated,
    ) -> Result<Self, ExportError> {
        let path = match (path, &weights.architecture) {
            (Some(path), _) => path.to_owned(),
            (None, Some(architecture)) => {
                let told = &architecture.preprocessing;
                not_otherwise(told, stated.preprocessing.as_ref(), &weights.path)?;
                return Ok(architecture.clone());
            }
            (None, None) => beside(weights)?,
        };
        let Parsed { mut shape, preprocessing, bare, activation_told } = Self::read_partly(&path)?;
        let known = Known::of(&path, bare, stated)?;
        let said = activation_told.then_some(shape.vision.activation);
        let activation = known.activation(&path, said, weights, stated.activation)?;
        if !activation_told {
            (shape.vision.activation, shape.text.activation) = (activation, activation);
        }
        let told = known.preprocessing(&path, preprocessing, stated.preprocessing.as_ref())?;
        Ok(shape.with(told))
    }

    /// Whether the description at `path`, or else one in `folder`, is of an architecture that is
    /// known, whatever it says of preprocessing.
    pub fn is_known(folder: &Path, path: Option<&Path>) -> bool {
        let beside = [OPEN_CLIP_CONFIG, HUGGING_FACE_CONFIG].map(|name| folder.join(name));
        let path = path.map(Path::to_owned).or_else(|| beside.into_iter().find(|p| p.is_file()));
        path.is_some_and(|path| Self::check_known(&path).is_ok())
    }

    /// Why weights of the architecture that is described at `path` cannot be converted, if they
    /// cannot.
    pub fn check_known(path: &Path) -> Result<(), ExportError> {
        match siglip::describes(path) {
            true => siglip::check_known(path),
            false => Self::read_partly(path).map(|_| ()),
        }
    }

    /// Reads a description of either kind; which one it is shows in its keys. For a bare model
    /// configuration of open_clip's the preprocessing is the one that open_clip trains such with.
    pub fn read(path: &Path) -> Result<Self, ExportError> {
        let Parsed { shape, preprocessing, bare, .. } = Self::read_partly(path)?;
        match preprocessing {
            Some(told) => Ok(shape.with(told)),
            None if bare => Ok(shape.with(Preprocessing::openai())),
            None => Err(ExportError::NoPreprocessing { path: path.into() }),
        }
    }

    fn read_partly(path: &Path) -> Result<Parsed, ExportError> {
        let config = read_json(path)?;
        let bad = |message| ExportError::config(path, message);
        let is = |key: &str| config.get(key).is_some();
        let parsed = if is("vision_config") || is("text_config") {
            let shape = hugging_face::parse(config).map_err(bad)?;
            let preprocessing = beside_config(path, shape.image_size)?;
            // What it leaves out is transformers' default, the activation as well.
            Parsed { shape, preprocessing, bare: false, activation_told: true }
        } else {
            open_clip::parse(config).map_err(bad)?
        };
        parsed.shape.check().map_err(bad)?;
        Ok(parsed)
    }

    /// A name for people, open_clip's where it has one for these sizes.
    pub fn describe(&self) -> String {
        let mut name = format!("ViT-{}-{}", self.vision.size(), self.patch_size);
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
}

impl Shape {
    fn check(&self) -> Result<(), String> {
        let Self { dimensions, image_size, patch_size, context_length, vocab_size, .. } = *self;
        let sizes = Sizes { dimensions, image_size, patch_size, context_length, vocab_size };
        sizes.check(&self.vision, &self.text)
    }
}

impl Tower {
    /// open_clip's letter for an image tower of this size, where it has one.
    pub(crate) fn size(&self) -> String {
        let Self { width, layers, .. } = self;
        match (width, layers) {
            (768, 12) => "B".to_owned(),
            (1024, 24) => "L".to_owned(),
            (1152, 27) => "SO400M".to_owned(),
            (1280, 32) => "H".to_owned(),
            (1408, 40) => "g".to_owned(),
            (1536, 40) => "gopt".to_owned(),
            (1664, 48) => "bigG".to_owned(),
            _ => format!("{width}x{layers}"),
        }
    }
}

/// The sizes that every description has.
pub(crate) struct Sizes {
    pub dimensions: usize,
    pub image_size: usize,
    pub patch_size: usize,
    pub context_length: usize,
    pub vocab_size: usize,
}

impl Sizes {
    /// Refuses what no model has, before memory is sized by it.
    pub(crate) fn check(&self, vision: &Tower, text: &Tower) -> Result<(), String> {
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
        for (name, tower) in [("vision", vision), ("text", text)] {
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
pub(crate) fn beside(weights: &Checkpoint) -> Result<PathBuf, ExportError> {
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

/// The preprocessing that Hugging Face's files beside `config.json` tell: they may both be there, and
/// have to agree.
pub(crate) fn beside_config(
    config: &Path,
    image_size: usize,
) -> Result<Option<Preprocessing>, ExportError> {
    let read = |name: &str, section: fn(Value) -> Result<Option<Section>, String>| {
        let path = config.with_file_name(name);
        if !path.is_file() {
            return Ok(None);
        }
        let found = section(read_json(&path)?).and_then(|section| {
            section.map(|section| image_processor::parse(section, image_size)).transpose()
        });
        found.map_err(|message| ExportError::config(&path, message))
    };
    let new = read(PROCESSOR_CONFIG, image_processor::section)?;
    let old = read(PREPROCESSOR_CONFIG, |config| Section::new("", config).map(Some))?;
    if let (Some(new), Some(old)) = (&new, &old)
        && let Some(what) = image_processor::difference(new, old)
    {
        let path = config.with_file_name(PROCESSOR_CONFIG);
        let message = format!("does not agree with {PREPROCESSOR_CONFIG} beside it: {what}");
        return Err(ExportError::config(&path, message));
    }
    Ok(new.or(old))
}

/// Refuses a stated preprocessing that is not the one that was told.
fn not_otherwise(
    told: &Preprocessing,
    stated: Option<&Preprocessing>,
    path: &Path,
) -> Result<(), ExportError> {
    match stated {
        Some(stated) if (stated.mean, stated.std) != (told.mean, told.std) => {
            let message = format!(
                "tells another preprocessing than the one that was named: mean {:?} and deviation \
                 {:?}",
                told.mean, told.std
            );
            Err(ExportError::config(path, message))
        }
        _ => Ok(()),
    }
}

/// A side, of a square also where both are given.
pub(crate) fn square(section: &mut Section, key: &str) -> Result<Option<usize>, String> {
    match section.take(key) {
        None => Ok(None),
        Some(value) => {
            let side = match &value {
                Value::Array(sides) if sides.len() == 2 && sides[0] == sides[1] => {
                    sides[0].as_u64()
                }
                side => side.as_u64(),
            };
            let side = side.and_then(|side| usize::try_from(side).ok());
            side.map(Some)
                .ok_or_else(|| section.refusal(key, &value, "only one whole number, for a square"))
        }
    }
}

pub(crate) fn read_json(path: &Path) -> Result<Value, ExportError> {
    let json = std::fs::read(path).map_err(ExportError::read(path))?;
    serde_json::from_slice(&json)
        .map_err(|e| ExportError::config(path, format!("is not JSON: {e}")))
}
