//! From weights to a model directory: the steps in order, and the directory put in place whole.

use std::fs;
use std::path::{Path, PathBuf};

use pgclip_clip::model::{
    CONFIG_FILE, ClipConfig, FORMAT, FileDigest, IMAGE_FILE, ImageConfig, Interpolation,
    ResizeMode, TEXT_FILE, TextConfig, TokenizerKind,
};

use crate::checkpoint::Checkpoint;
use crate::config::{Architecture, Preprocessing};
use crate::error::ExportError;
use crate::graph::Precision;
use crate::onnx::{self, MOST_INLINE_BYTES};
use crate::weights::Weights;
use crate::{text, vision};

/// What is free to choose in an export.
#[derive(Clone, Debug)]
pub struct Options {
    /// Name of the model; that of the directory if `None`.
    pub name: Option<String>,
    pub precision: Precision,
    /// How images are prepared, where the description does not tell it.
    pub preprocessing: Option<Preprocessing>,
    /// How images become square, if not as the description says.
    pub resize: Option<ResizeMode>,
    /// Mean of the model's embeddings of texts, where it is known; that of a model directory is kept.
    pub mean_text_embedding: Option<Vec<f32>>,
    /// Replaces a model directory that is there already; any other directory is left alone.
    pub overwrite: bool,
    /// Bytes of weights from which on a graph keeps them in a second file.
    pub most_inline_bytes: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            name: None,
            precision: Precision::Fp32,
            preprocessing: None,
            resize: None,
            mean_text_embedding: None,
            overwrite: false,
            most_inline_bytes: MOST_INLINE_BYTES,
        }
    }
}

/// What was written.
#[derive(Clone, Debug)]
pub struct Summary {
    pub config: ClipConfig,
    pub architecture: Architecture,
    /// SHA-256 of `clip.json`: the model's identity.
    pub digest: FileDigest,
    /// Number of learnt values in the graphs.
    pub parameters: u64,
    /// Each file but `clip.json` and its length in bytes.
    pub files: Vec<(String, u64)>,
}

/// Converts the `weights` (a safetensors file, an index of several, or a folder with either) to
/// the model directory `dir`. The architecture is what `config` says, or the description beside
/// the weights. `dir` appears complete or not at all.
pub fn export(
    weights: &Path,
    config: Option<&Path>,
    options: &Options,
    dir: &Path,
) -> Result<Summary, ExportError> {
    if fs::symlink_metadata(dir).is_ok() {
        if !options.overwrite {
            return Err(ExportError::Exists(dir.into()));
        }
        if !dir.join(CONFIG_FILE).is_file() {
            return Err(ExportError::NotAModel(dir.into()));
        }
    }
    let checkpoint = Checkpoint::open(weights)?;
    let architecture = Architecture::find_for(config, &checkpoint, options.preprocessing.as_ref())?;
    let weights = Weights::load(&checkpoint, &architecture)?;

    let parent = match dir.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    fs::create_dir_all(parent).map_err(ExportError::write(parent))?;
    let building = tempfile::Builder::new()
        .prefix(".pgclip-export-")
        .tempdir_in(parent)
        .map_err(ExportError::write(parent))?;
    let image = vision::graph(&weights.vision, &architecture, options.precision);
    let text = text::graph(&weights.text, &architecture, options.precision);
    let mut files = onnx::write(&image, building.path(), IMAGE_FILE, options.most_inline_bytes)?;
    files.extend(onnx::write(&text, building.path(), TEXT_FILE, options.most_inline_bytes)?);

    let mut config = describe(&architecture, weights.logit_scale, options, dir)?;
    if config.mean_text_embedding.is_none() {
        config.mean_text_embedding = checkpoint.mean_text_embedding.clone();
    }
    let names: Vec<&str> = files.iter().map(String::as_str).collect();
    let digest = config.write(building.path(), &names)?;
    let files = lengths(building.path(), files)?;
    put_in_place(building, dir, options.overwrite)?;
    let parameters = image.parameters() + text.parameters();
    Ok(Summary { config, architecture, digest, parameters, files })
}

fn describe(
    architecture: &Architecture,
    logit_scale: f32,
    options: &Options,
    dir: &Path,
) -> Result<ClipConfig, ExportError> {
    let name = match &options.name {
        Some(name) => name.clone(),
        None => dir.file_name().unwrap_or_default().to_string_lossy().into_owned(),
    };
    let preprocessing = &architecture.preprocessing;
    Ok(ClipConfig {
        format: FORMAT,
        name,
        architecture: architecture.describe(),
        dimensions: architecture.dimensions as u32,
        image: ImageConfig {
            size: architecture.image_size as u32,
            mean: preprocessing.mean,
            std: preprocessing.std,
            resize: options.resize.unwrap_or(preprocessing.resize),
            interpolation: Interpolation::Bicubic,
            exif_orientation: false,
        },
        text: TextConfig {
            context_length: architecture.context_length as u32,
            vocab_size: architecture.vocab_size as u32,
            tokenizer: TokenizerKind::Clip,
        },
        logit_scale,
        mean_text_embedding: options.mean_text_embedding.clone(),
        precision: options.precision.arithmetic(),
        files: Default::default(),
    })
}

fn lengths(dir: &Path, files: Vec<String>) -> Result<Vec<(String, u64)>, ExportError> {
    let length = |name: String| {
        let path = dir.join(&name);
        let metadata = fs::metadata(&path).map_err(ExportError::read(&path))?;
        Ok((name, metadata.len()))
    };
    files.into_iter().map(length).collect()
}

/// Renames the finished directory. One to be replaced is moved aside first, and removed after.
fn put_in_place(building: tempfile::TempDir, dir: &Path, replace: bool) -> Result<(), ExportError> {
    let old = building.path().with_extension("old");
    let had_old = replace && fs::symlink_metadata(dir).is_ok();
    if had_old {
        fs::rename(dir, &old).map_err(ExportError::write(dir))?;
    }
    let path: PathBuf = building.keep();
    if let Err(e) = open_to_readers(&path).and_then(|()| fs::rename(&path, dir)) {
        let _ = fs::remove_dir_all(&path);
        if had_old {
            let _ = fs::rename(&old, dir);
        }
        return Err(ExportError::write(dir)(e));
    }
    if had_old {
        fs::remove_dir_all(&old).map_err(ExportError::write(&old))?;
    }
    Ok(())
}

/// Temporary directories are closed to everyone else; a model directory is read by the server.
fn open_to_readers(dir: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(dir, fs::Permissions::from_mode(0o755))
}
