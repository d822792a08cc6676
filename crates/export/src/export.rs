//! From weights to a model directory: the steps in order, and the directory put in place whole.

use std::fs;
use std::path::{Path, PathBuf};

use pgclip_clip::model::{
    CONFIG_FILE, ClipConfig, FORMAT, FORMAT_ANY, FileDigest, IMAGE_FILE, ImageConfig,
    Interpolation, ResizeMode, TEXT_FILE, TextConfig, TokenizerKind,
};

use crate::checkpoint::Checkpoint;
use crate::config::{self, Architecture, Stated};
use crate::error::ExportError;
use crate::graph::Precision;
use crate::onnx::{self, MOST_INLINE_BYTES};
use crate::weights::Weights;
use crate::{siglip, text, vision};

/// What is free to choose in an export.
#[derive(Clone, Debug)]
pub struct Options {
    /// Name of the model; that of the directory if `None`.
    pub name: Option<String>,
    pub precision: Precision,
    /// What is known of the weights, where their description does not tell it.
    pub stated: Stated,
    /// How images become square, if not as the description says.
    pub resize: Option<ResizeMode>,
    /// Whether images are turned as their EXIF orientation says.
    pub exif_orientation: bool,
    /// Of graphs: which of several variants, such as `fp16`; `fp32` is the one without a suffix.
    pub variant: Option<String>,
    /// Of graphs: how many numbers of an embedding are taken (Matryoshka embeddings).
    pub dimensions: Option<u32>,
    /// Of graphs that take texts of any length: most tokens of a text.
    pub context_length: Option<u32>,
    /// Of models that have languages: the token of the one that texts are in.
    pub language: Option<String>,
    /// What graphs do not tell: multiplier and bias of similarities.
    pub logit_scale: Option<f32>,
    pub logit_bias: Option<f32>,
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
            stated: Stated::default(),
            resize: None,
            exif_orientation: false,
            variant: None,
            dimensions: None,
            context_length: None,
            language: None,
            logit_scale: None,
            logit_bias: None,
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
    /// The architecture of weights; graphs are as they are.
    pub architecture: Option<Architecture>,
    /// Both towers for people, where the architecture is no [`Architecture`].
    pub towers: Option<[String; 2]>,
    /// SHA-256 of `clip.json`: the model's identity.
    pub digest: FileDigest,
    /// Number of learnt values in graphs that were made of weights.
    pub parameters: Option<u64>,
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
    draft(weights, config, options, dir)?.finish()
}

/// The same up to the point where the directory would appear.
pub fn draft(
    weights: &Path,
    config: Option<&Path>,
    options: &Options,
    dir: &Path,
) -> Result<Draft, ExportError> {
    may_write(dir, options.overwrite)?;
    let checkpoint = Checkpoint::open(weights)?;
    if checkpoint.architecture.is_none() {
        let described = match config {
            Some(config) => config.to_owned(),
            None => config::beside(&checkpoint)?,
        };
        if siglip::describes(&described) {
            return siglip::draft(&checkpoint, &described, options, dir);
        }
    }
    let architecture = Architecture::find_for(config, &checkpoint, &options.stated)?;
    let weights = Weights::load(&checkpoint, &architecture)?;
    let mut config = describe(&architecture, weights.logit_scale, options);
    if config.mean_text_embedding.is_none() {
        config.mean_text_embedding = checkpoint.mean_text_embedding.clone();
    }
    let mut draft = Draft::begin(config, options, dir)?;
    let image = vision::graph(&weights.vision, &architecture, options.precision);
    let text = text::graph(&weights.text, &architecture, options.precision);
    for (graph, file) in [(&image, IMAGE_FILE), (&text, TEXT_FILE)] {
        let files = onnx::write(graph, draft.path(), file, options.most_inline_bytes)?;
        draft.set_files(file, files);
    }
    draft.parameters = Some(image.parameters() + text.parameters());
    draft.architecture = Some(architecture);
    Ok(draft)
}

/// A model directory in the making, beside the place where it will appear.
pub struct Draft {
    pub config: ClipConfig,
    building: tempfile::TempDir,
    dir: PathBuf,
    overwrite: bool,
    /// Files, by the part of the model that they belong to.
    files: Vec<(String, Vec<String>)>,
    parameters: Option<u64>,
    architecture: Option<Architecture>,
    towers: Option<[String; 2]>,
}

impl Draft {
    /// Begins a directory that will be `dir`.
    pub(crate) fn begin(
        mut config: ClipConfig,
        options: &Options,
        dir: &Path,
    ) -> Result<Self, ExportError> {
        may_write(dir, options.overwrite)?;
        config.name = match &options.name {
            Some(name) => name.clone(),
            None => dir.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        };
        let parent = match dir.parent() {
            Some(parent) if parent != Path::new("") => parent,
            _ => Path::new("."),
        };
        fs::create_dir_all(parent).map_err(ExportError::write(parent))?;
        let building = tempfile::Builder::new()
            .prefix(".pgclip-export-")
            .tempdir_in(parent)
            .map_err(ExportError::write(parent))?;
        Ok(Self {
            config,
            building,
            dir: dir.into(),
            overwrite: options.overwrite,
            files: Vec::new(),
            parameters: None,
            architecture: None,
            towers: None,
        })
    }

    /// The folder that it is made in.
    pub fn path(&self) -> &Path {
        self.building.path()
    }

    /// Says which files a part of the model has, in place of those it had.
    pub(crate) fn set_files(&mut self, part: &str, files: Vec<String>) {
        self.files.retain(|(of, _)| of != part);
        self.files.push((part.to_owned(), files));
    }

    pub(crate) fn set_parameters(&mut self, parameters: u64) {
        self.parameters = Some(parameters);
    }

    /// Says what towers are like whose architecture is no [`Architecture`].
    pub(crate) fn set_towers(&mut self, towers: [String; 2]) {
        self.towers = Some(towers);
    }

    /// Writes `clip.json` for what is there, so that the model can be loaded.
    pub fn describe(&mut self) -> Result<FileDigest, ExportError> {
        let names: Vec<&str> =
            self.files.iter().flat_map(|(_, files)| files).map(String::as_str).collect();
        Ok(self.config.write(self.building.path(), &names)?)
    }

    /// Puts the directory in its place.
    pub fn finish(mut self) -> Result<Summary, ExportError> {
        let digest = self.describe()?;
        let names = self.files.into_iter().flat_map(|(_, files)| files).collect();
        let files = lengths(self.building.path(), names)?;
        put_in_place(self.building, &self.dir, self.overwrite)?;
        let (config, architecture, parameters) = (self.config, self.architecture, self.parameters);
        Ok(Summary { config, architecture, towers: self.towers, digest, parameters, files })
    }
}

/// Whether something may be put there.
fn may_write(dir: &Path, overwrite: bool) -> Result<(), ExportError> {
    if fs::symlink_metadata(dir).is_ok() {
        if !overwrite {
            return Err(ExportError::Exists(dir.into()));
        }
        if !dir.join(CONFIG_FILE).is_file() {
            return Err(ExportError::NotAModel(dir.into()));
        }
    }
    Ok(())
}

fn describe(architecture: &Architecture, logit_scale: f32, options: &Options) -> ClipConfig {
    let preprocessing = &architecture.preprocessing;
    let resize = options.resize.unwrap_or(preprocessing.resize);
    let told_by_first =
        resize != ResizeMode::Squash && preprocessing.interpolation == Interpolation::Bicubic;
    ClipConfig {
        format: if told_by_first { FORMAT } else { FORMAT_ANY },
        name: String::new(),
        architecture: architecture.describe(),
        dimensions: architecture.dimensions as u32,
        image: ImageConfig {
            size: architecture.image_size as u32,
            mean: preprocessing.mean,
            std: preprocessing.std,
            resize,
            interpolation: preprocessing.interpolation,
            exif_orientation: options.exif_orientation,
        },
        text: TextConfig {
            context_length: architecture.context_length as u32,
            vocab_size: architecture.vocab_size as u32,
            tokenizer: TokenizerKind::Clip,
            tokens: None,
        },
        logit_scale,
        logit_bias: None,
        towers: None,
        mean_text_embedding: options.mean_text_embedding.clone(),
        precision: options.precision.arithmetic(),
        files: Default::default(),
    }
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
