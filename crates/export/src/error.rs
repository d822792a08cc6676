//! What can be wrong with weights, their description or the place they go to: a file of its own,
//! since every step of the export reports through it.

use std::io;
use std::path::{Path, PathBuf};

use pgclip_clip::model::ModelError;

/// Why an export failed. Nothing is left behind in the destination.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    #[error("cannot read \"{}\": {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("cannot write \"{}\": {source}", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("\"{}\" is not a complete safetensors file: {message}", path.display())]
    Safetensors { path: PathBuf, message: String },
    #[error("\"{}\" is no archive of a state dict that can be read: {message}", path.display())]
    Archive { path: PathBuf, message: String },
    #[error(
        "\"{}\" holds no CLIP that can be converted: neither open_clip's nor Hugging Face's tensor \
         names are in it (first of {count}: {first})",
        path.display()
    )]
    NotClip { path: PathBuf, count: usize, first: String },
    #[error(
        "there are no weights (safetensors, .pt or .bin) in \"{}\", nor graphs (visual/model.onnx and \
         textual/model.onnx; onnx/vision_model.onnx and onnx/text_model.onnx; onnx/model.onnx)",
        path.display()
    )]
    NoWeights { path: PathBuf },
    #[error(
        "no open_clip_config.json or config.json beside \"{}\": name the description of the \
         architecture (heads and activation cannot be told from weights)",
        path.display()
    )]
    NoConfig { path: PathBuf },
    #[error(
        "\"{}\" says nothing of how images are prepared, nor does a file beside it: give \
         open_clip's preprocess_cfg, or Hugging Face's processor_config.json or \
         preprocessor_config.json, or name the preprocessing (pgclip-encoder convert --preprocess \
         openai, imagenet or inception, or open_clip's tag of the weights with --pretrained)",
        path.display()
    )]
    NoPreprocessing { path: PathBuf },
    #[error(
        "\"{}\" has no quick_gelu, and there are weights of both kinds for it (OpenAI's, MetaCLIP's \
         and DFN's want QuickGELU, most others GELU): name open_clip's tag of the weights (convert \
         --pretrained openai, laion2b_s34b_b79k, …) or the activation (--activation quick-gelu or gelu)",
        path.display()
    )]
    NoActivation { path: PathBuf },
    #[error("\"{}\": {message}", path.display())]
    Config { path: PathBuf, message: String },
    #[error("weights and architecture do not fit:{}", listed(.0))]
    Tensors(Vec<String>),
    #[error("tensor \"{tensor}\" {message}")]
    Value { tensor: String, message: String },
    #[error("\"{}\" exists already", .0.display())]
    Exists(PathBuf),
    #[error("\"{}\" is no model directory (it has no clip.json), and is not replaced", .0.display())]
    NotAModel(PathBuf),
    #[error(transparent)]
    Model(#[from] ModelError),
}

impl ExportError {
    pub(crate) fn read(path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Read { path: path.into(), source }
    }

    pub(crate) fn write(path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Write { path: path.into(), source }
    }

    pub(crate) fn config(path: &Path, message: impl Into<String>) -> Self {
        Self::Config { path: path.into(), message: message.into() }
    }
}

/// Most problems that one message lists.
const MOST_LISTED: usize = 40;

fn listed(problems: &[String]) -> String {
    let mut text: String =
        problems.iter().take(MOST_LISTED).map(|line| format!("\n  {line}")).collect();
    if let Some(more @ 1..) = problems.len().checked_sub(MOST_LISTED) {
        text += &format!("\n  … and {more} more");
    }
    text
}
