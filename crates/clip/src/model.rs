//! The model directory: `clip.json`, the ONNX files it lists, and the digests that pin them.
//!
//! A model directory is read by the encoder, written by the exporter and named by its digest in
//! the database, so its rules live here, apart from all three. Nothing is trusted: each field has
//! bounds, each file is a plain name in the directory itself (no link, no path), and the bytes
//! that [`ModelDir::read`] returns are the bytes whose digest was checked.
//!
//! ```text
//! DIR/clip.json     ClipConfig as JSON; the model's digest is the SHA-256 of these bytes
//! DIR/image.onnx    pixels  f32 [N, 3, S, S] -> embedding f32 [N, D]
//! DIR/text.onnx     tokens  i64 [N, L]       -> embedding f32 [N, D]
//! DIR/…             external data of either
//! ```
//!
//! Format 2 describes graphs that were made elsewhere: [`towers`](crate::towers) says what each takes
//! and gives, [`TokensConfig`] how its texts become token ids by a `tokenizer.json` in the directory.
//! What format 1 could not say is refused in it, so that a reader of format 1 never overlooks it.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256};

use crate::model_check::{check_config, is_plain_file_name};
use crate::towers::{TowerConfig, Towers};

/// Name of the description inside a model directory.
pub const CONFIG_FILE: &str = "clip.json";
/// Name of the image tower inside a model directory.
pub const IMAGE_FILE: &str = "image.onnx";
/// Name of the text tower inside a model directory.
pub const TEXT_FILE: &str = "text.onnx";
/// The version of `clip.json` that describes graphs of our own with CLIP's tokeniser.
pub const FORMAT: u32 = 1;
/// The version that describes any graphs and tokenisers.
pub const FORMAT_ANY: u32 = 2;
/// Size of the vocabulary of CLIP's own tokeniser.
pub const CLIP_VOCABULARY: u32 = 49_408;

/// Longest `clip.json` that is read, in bytes.
const MAX_CONFIG_BYTES: u64 = 4 << 20;

/// What `clip.json` says about a model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClipConfig {
    /// Version of this file, [`FORMAT`] or [`FORMAT_ANY`].
    pub format: u32,
    /// Name of the model, as [`is_model_name`] wants it.
    pub name: String,
    /// Free text for people, such as `ViT-B-32`.
    pub architecture: String,
    /// Length of an embedding, 1 to 16,000.
    pub dimensions: u32,
    pub image: ImageConfig,
    pub text: TextConfig,
    /// What a cosine similarity is multiplied with before a softmax: the exponential of
    /// open_clip's parameter of that name.
    pub logit_scale: f32,
    /// What is added to a scaled similarity before a sigmoid, in models that were trained with one
    /// (SigLIP); their probabilities are of each label by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logit_bias: Option<f32>,
    /// The graphs, where they are not [`IMAGE_FILE`] and [`TEXT_FILE`] as the exporter makes them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub towers: Option<Towers>,
    /// Mean of the model's text embeddings, `dimensions` long, where it is known.
    #[serde(default)]
    pub mean_text_embedding: Option<Vec<f32>>,
    pub precision: Precision,
    /// Every file of the model but `clip.json`, with its digest.
    pub files: BTreeMap<String, FileDigest>,
}

/// How an image becomes the input of the image tower.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageConfig {
    /// Width and height of the tower's input in pixels, 1 to 4,096.
    pub size: u32,
    /// Mean of each channel (red, green, blue) on a scale of 0 to 1.
    pub mean: [f32; 3],
    /// Standard deviation of each channel on the same scale.
    pub std: [f32; 3],
    pub resize: ResizeMode,
    pub interpolation: Interpolation,
    /// Whether an image is turned as its EXIF orientation says. open_clip ignores it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub exif_orientation: bool,
}

/// How an image that is no square becomes one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ResizeMode {
    /// Shortest side to `size`, then the centre is cut out (open_clip's evaluation transform).
    Crop,
    /// Zero padding to a square first, then the same (A3R).
    Pad,
    /// Both sides to `size`, whatever the image's shape (SigLIP).
    Squash,
}

/// The filter of the resize: Pillow's, with antialiasing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Interpolation {
    Bicubic,
    Bilinear,
}

/// How a text becomes the input of the text tower.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TextConfig {
    /// Number of tokens, 2 to 4,096; 77 in nearly all models.
    pub context_length: u32,
    /// Number of token ids that the tower knows, at least the tokeniser's.
    pub vocab_size: u32,
    pub tokenizer: TokenizerKind,
    /// How the tokeniser's file is used, if it is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens: Option<TokensConfig>,
}

/// How a text becomes token ids by a `tokenizer.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokensConfig {
    /// Name of the file, in the directory itself.
    pub file: String,
    /// What is done to a text first, in this order.
    #[serde(default)]
    pub clean: Vec<Clean>,
    /// What stands before each text, once it is clean.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub prefix: String,
    /// The id that a text is filled up with.
    pub pad: u32,
    pub padding: Padding,
    /// An id that is replaced by 0 in the end, open_clip's `strip_sep_token`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zeroed: Option<u32>,
    /// The token of the language that texts are taken to be in, in models that have languages (nllb);
    /// it takes the place of the one in the tokeniser's template.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub language: Option<String>,
}

/// One step of a text's cleaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Clean {
    /// ftfy's `fix_text`, HTML's references resolved twice, white space off the ends.
    Repair,
    /// `_` becomes a space.
    Underscores,
    /// ASCII punctuation is left out.
    Punctuation,
    Lower,
    /// White space becomes single spaces, none at the ends.
    Whitespace,
}

/// How far a text is filled up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Padding {
    /// To the context length.
    Context,
    /// To the longest text of its batch.
    Longest,
}

/// Which tokeniser a model was trained with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TokenizerKind {
    /// CLIP's byte-pair encoding of 49,408 tokens.
    Clip,
    /// A `tokenizer.json`, which [`TextConfig::tokens`] names.
    File,
}

/// Precision of the weights; inputs and outputs are f32 either way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    Fp32,
    Fp16,
    /// Eight bits or fewer, as published graphs have them.
    Quantized,
}

/// SHA-256 of a file, `sha256:<64 hex digits>` as text.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileDigest(pub [u8; 32]);

impl FileDigest {
    /// The digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// The digest of a file, read in pieces: for whoever writes a model directory.
    pub fn of_file(path: &Path) -> Result<Self, ModelError> {
        hash_file(path, |_| ()).map_err(|source| ModelError::Io { path: path.into(), source })
    }
}

impl fmt::Display for FileDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("sha256:")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for FileDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::str::FromStr for FileDigest {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || format!("\"{}\" is not sha256: and 64 hexadecimal digits", shorten(text));
        let hex = text.strip_prefix("sha256:").ok_or_else(bad)?.as_bytes();
        let mut digest = [0; 32];
        if hex.len() != 64 {
            return Err(bad());
        }
        for (byte, pair) in digest.iter_mut().zip(hex.chunks_exact(2)) {
            let digit = |c: u8| char::from(c).to_digit(16).ok_or_else(bad);
            *byte = (digit(pair[0])? << 4 | digit(pair[1])?) as u8;
        }
        Ok(Self(digest))
    }
}

impl Serialize for FileDigest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for FileDigest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Why a model directory is not accepted. Each message names the file.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    #[error("cannot read \"{}\": {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("cannot write \"{}\": {source}", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("\"{}\" is not a plain file in the model directory (links are refused)", path.display())]
    NotAFile { path: PathBuf },
    #[error("\"{}\" holds {bytes} bytes; a description has at most {MAX_CONFIG_BYTES}", path.display())]
    TooLong { path: PathBuf, bytes: u64 },
    #[error("\"{}\" is not a model description: {message}", path.display())]
    Syntax { path: PathBuf, message: String },
    #[error("\"{}\": {field} {message}", path.display())]
    Field { path: PathBuf, field: String, message: String },
    #[error("\"{file}\" is not one of the files that \"{}\" lists", path.display())]
    NotListed { path: PathBuf, file: String },
    #[error("\"{}\" has digest {found}, but {CONFIG_FILE} says {expected}", path.display())]
    Digest { path: PathBuf, expected: FileDigest, found: FileDigest },
}

impl ClipConfig {
    /// Reads and checks a description; `path` is only for messages.
    pub fn parse(json: &[u8], path: &Path) -> Result<Self, ModelError> {
        let config: Self = serde_json::from_slice(json)
            .map_err(|e| ModelError::Syntax { path: path.into(), message: e.to_string() })?;
        config.check(path)?;
        Ok(config)
    }

    /// Checks every field against its bounds; `path` is only for messages.
    pub fn check(&self, path: &Path) -> Result<(), ModelError> {
        check_config(self).map_err(|(field, message)| ModelError::Field {
            path: path.into(),
            field,
            message,
        })
    }

    /// The image tower as the exporter makes it, or as the description says.
    pub fn image_tower(&self) -> TowerConfig {
        match &self.towers {
            Some(towers) => towers.image.clone(),
            None => TowerConfig::own_image(self.dimensions),
        }
    }

    /// The same of the text tower.
    pub fn text_tower(&self) -> TowerConfig {
        match &self.towers {
            Some(towers) => towers.text.clone(),
            None => TowerConfig::own_text(self.dimensions),
        }
    }

    /// Takes the digests of `files`, which lie in `dir`, and writes `clip.json` beside them.
    /// Returns the model's digest.
    pub fn write(&mut self, dir: &Path, files: &[&str]) -> Result<FileDigest, ModelError> {
        self.files.clear();
        for &file in files {
            let digest = FileDigest::of_file(&dir.join(file))?;
            self.files.insert(file.to_owned(), digest);
        }
        let path = dir.join(CONFIG_FILE);
        self.check(&path)?;
        let mut json = serde_json::to_vec_pretty(self)
            .map_err(|e| ModelError::Syntax { path: path.clone(), message: e.to_string() })?;
        json.push(b'\n');
        std::fs::write(&path, &json).map_err(|source| ModelError::Write { path, source })?;
        Ok(FileDigest::of(&json))
    }
}

/// A model directory whose description has been read and checked.
#[derive(Clone, Debug)]
pub struct ModelDir {
    pub path: PathBuf,
    pub config: ClipConfig,
    /// The model's identity: SHA-256 of the bytes of `clip.json`, which pins every other file.
    pub digest: [u8; 32],
}

impl ModelDir {
    /// Reads and checks `clip.json`, and sees that each listed file is there. The other files'
    /// contents are checked as they are read: by [`read`](Self::read), or by
    /// [`verify`](Self::verify) for all of them.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, ModelError> {
        let dir = path.as_ref();
        let path = dir.join(CONFIG_FILE);
        let mut json = Vec::new();
        open_plain(&path)?
            .take(MAX_CONFIG_BYTES + 1)
            .read_to_end(&mut json)
            .map_err(|source| ModelError::Io { path: path.clone(), source })?;
        if json.len() as u64 > MAX_CONFIG_BYTES {
            return Err(ModelError::TooLong { path, bytes: json.len() as u64 });
        }
        let config = ClipConfig::parse(&json, &path)?;
        let model = Self { path: dir.into(), config, digest: FileDigest::of(&json).0 };
        for file in model.config.files.keys() {
            open_plain(&model.path.join(file))?;
        }
        Ok(model)
    }

    /// The contents of a listed file. The digest that is checked is that of the bytes returned,
    /// so a file that changes on disk meanwhile is either refused or not seen.
    pub fn read(&self, file: &str) -> Result<Vec<u8>, ModelError> {
        let (path, expected) = self.listed(file)?;
        let io = |source| ModelError::Io { path: path.clone(), source };
        let mut opened = open_plain(&path)?;
        let length = opened.metadata().map_err(io)?.len();
        let mut bytes = Vec::new();
        bytes
            .try_reserve_exact(usize::try_from(length).unwrap_or(usize::MAX))
            .map_err(|_| io(io::ErrorKind::OutOfMemory.into()))?;
        opened.read_to_end(&mut bytes).map_err(io)?;
        same_digest(path, expected, FileDigest::of(&bytes))?;
        Ok(bytes)
    }

    /// Checks the digests of all files, `progress` being told the number of bytes of each step.
    pub fn verify(&self, mut progress: impl FnMut(usize)) -> Result<(), ModelError> {
        for file in self.config.files.keys() {
            let (path, expected) = self.listed(file)?;
            let found = hash_file(&path, &mut progress)
                .map_err(|source| ModelError::Io { path: path.clone(), source })?;
            same_digest(path, expected, found)?;
        }
        Ok(())
    }

    fn listed(&self, file: &str) -> Result<(PathBuf, FileDigest), ModelError> {
        match self.config.files.get(file) {
            Some(&digest) if is_plain_file_name(file) => Ok((self.path.join(file), digest)),
            _ => Err(ModelError::NotListed {
                path: self.path.join(CONFIG_FILE),
                file: shorten(file).into_owned(),
            }),
        }
    }
}

/// Whether `name` can name a model: 1 to 63 of ASCII letters, digits, `_`, `.` and `-`, the first
/// one a letter or digit.
pub fn is_model_name(name: &str) -> bool {
    let allowed = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'_' | b'.' | b'-');
    (1..=63).contains(&name.len())
        && name.bytes().all(allowed)
        && name.as_bytes()[0].is_ascii_alphanumeric()
}

/// Opens a regular file that is no link. A pipe or device is not waited for.
fn open_plain(path: &Path) -> Result<File, ModelError> {
    let refused = || ModelError::NotAFile { path: path.into() };
    let io = |source| ModelError::Io { path: path.into(), source };
    let file = File::options()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(path)
        .map_err(|e| if e.raw_os_error() == Some(libc::ELOOP) { refused() } else { io(e) })?;
    if file.metadata().map_err(io)?.is_file() { Ok(file) } else { Err(refused()) }
}

fn hash_file(path: &Path, mut progress: impl FnMut(usize)) -> io::Result<FileDigest> {
    let mut file = File::options().read(true).custom_flags(libc::O_NOFOLLOW).open(path)?;
    let (mut hash, mut piece) = (Sha256::new(), vec![0; 1 << 20]);
    loop {
        match file.read(&mut piece)? {
            0 => return Ok(FileDigest(hash.finalize().into())),
            n => {
                hash.update(&piece[..n]);
                progress(n);
            }
        }
    }
}

fn same_digest(path: PathBuf, expected: FileDigest, found: FileDigest) -> Result<(), ModelError> {
    if expected == found { Ok(()) } else { Err(ModelError::Digest { path, expected, found }) }
}

/// At most the first 80 characters of something that goes into a message.
pub(crate) fn shorten(text: &str) -> std::borrow::Cow<'_, str> {
    match text.char_indices().nth(80) {
        Some((end, _)) => format!("{}…", &text[..end]).into(),
        None => text.into(),
    }
}
