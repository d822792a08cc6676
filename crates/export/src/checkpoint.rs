//! Checkpoints on disk: safetensors files or torch's archives, mapped, in open_clip's or Hugging
//! Face's naming; or the weights of a model directory.
//!
//! The one place where file names and tensor names are interpreted; from here on a tensor is
//! known by open_clip's name for it.

use std::collections::BTreeMap;
use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};

use memmap2::Mmap;
use safetensors::{Dtype, SafeTensors};

use pgclip_clip::model::CONFIG_FILE;

use crate::config::Architecture;
use crate::error::ExportError;
use crate::import::Made;
use crate::naming::Naming;
use crate::tensor::Tensor;
use crate::{archive, import};

/// Names under which a folder's weights are looked for, in this order.
const WEIGHT_FILES: [&str; 7] = [
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.safetensors",
    "model.safetensors",
    "model.safetensors.index.json",
    "open_clip_model.safetensors.index.json",
    "open_clip_pytorch_model.bin",
    "pytorch_model.bin",
];

/// Whether weights may be at `path`: a file, or a folder that holds some.
pub fn holds_weights(path: &Path) -> bool {
    let names = WEIGHT_FILES.iter().chain([&CONFIG_FILE]);
    path.is_file() || names.into_iter().any(|name| path.join(name).is_file())
}

/// The tensors of one model.
pub struct Checkpoint {
    /// What was named, or found in the folder that was named.
    pub path: PathBuf,
    pub naming: Naming,
    /// The architecture, where the weights came with it in a model directory.
    pub architecture: Option<Architecture>,
    /// Mean of the model's embeddings of texts, where the model directory tells it.
    pub mean_text_embedding: Option<Vec<f32>>,
    files: Vec<Bytes>,
    tensors: BTreeMap<String, Entry>,
}

/// The bytes of a file, or of one tensor.
enum Bytes {
    Mapped(Mmap),
    Made(Vec<u8>),
}

impl std::ops::Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Mapped(map) => map,
            Self::Made(bytes) => bytes,
        }
    }
}

struct Entry {
    file: usize,
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Range<usize>,
}

impl Checkpoint {
    /// Maps the weights at `path`: a safetensors file, an archive of `torch.save` (`.pt`, `.bin`),
    /// the index of a model in several of them, or a folder with any of these. Of a model directory
    /// the weights are taken out of its graphs.
    pub fn open(path: &Path) -> Result<Self, ExportError> {
        if path.join(CONFIG_FILE).is_file() {
            return Self::of_model(path);
        }
        let path = if path.is_dir() {
            WEIGHT_FILES
                .iter()
                .map(|name| path.join(name))
                .find(|file| file.is_file())
                .ok_or_else(|| ExportError::NoWeights { path: path.into() })?
        } else {
            path.to_path_buf()
        };
        let (mut files, mut tensors) = (Vec::new(), BTreeMap::new());
        for part in parts(&path)? {
            let file = map(&part)?;
            for (name, entry) in entries(&part, &file, files.len())? {
                if tensors.insert(name.clone(), entry).is_some() {
                    let message = format!("tensor \"{name}\" is in another part as well");
                    return Err(ExportError::Safetensors { path: part, message });
                }
            }
            files.push(Bytes::Mapped(file));
        }
        let naming = Naming::of(tensors.keys().map(String::as_str)).ok_or_else(|| {
            let first = tensors.keys().next().cloned().unwrap_or_default();
            ExportError::NotClip { path: path.clone(), count: tensors.len(), first }
        })?;
        Ok(Self { path, naming, architecture: None, mean_text_embedding: None, files, tensors })
    }

    fn of_model(dir: &Path) -> Result<Self, ExportError> {
        let (made, architecture, config) = import::read(dir)?;
        let (mut files, mut tensors) = (Vec::new(), BTreeMap::new());
        for (name, Made { shape, dtype, bytes }) in made {
            let entry = Entry { file: files.len(), dtype, shape, bytes: 0..bytes.len() };
            tensors.insert(name, entry);
            files.push(Bytes::Made(bytes));
        }
        Ok(Self {
            path: dir.into(),
            naming: Naming::OpenClip,
            architecture: Some(architecture),
            mean_text_embedding: config.mean_text_embedding,
            files,
            tensors,
        })
    }

    /// The folder in which the description of the architecture is looked for.
    pub fn folder(&self) -> &Path {
        match self.path.parent() {
            Some(parent) if parent != Path::new("") => parent,
            _ => Path::new("."),
        }
    }

    /// All names, as the files have them.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// The tensor of that name in the files.
    pub fn tensor(&self, name: &str) -> Option<Tensor<'_>> {
        self.tensors.get(name).map(|entry| Tensor {
            name: name.to_owned(),
            shape: entry.shape.clone(),
            dtype: entry.dtype,
            data: &self.files[entry.file][entry.bytes.clone()],
        })
    }
}

/// The files that make up the checkpoint at `path`.
fn parts(path: &Path) -> Result<Vec<PathBuf>, ExportError> {
    if path.extension().is_none_or(|extension| extension != "json") {
        return Ok(vec![path.into()]);
    }
    #[derive(serde::Deserialize)]
    struct Index {
        weight_map: BTreeMap<String, String>,
    }
    let json = std::fs::read(path).map_err(ExportError::read(path))?;
    let index: Index = serde_json::from_slice(&json)
        .map_err(|e| ExportError::config(path, format!("is no index of weights: {e}")))?;
    let names: std::collections::BTreeSet<_> = index.weight_map.into_values().collect();
    let folder = path.parent().unwrap_or(Path::new(""));
    names
        .into_iter()
        .map(|name| match Path::new(&name).file_name() {
            Some(plain) if plain == name.as_str() => Ok(folder.join(name)),
            _ => Err(ExportError::config(path, format!("names \"{name}\", no plain file name"))),
        })
        .collect()
}

fn map(path: &Path) -> Result<Mmap, ExportError> {
    let file = File::open(path).map_err(ExportError::read(path))?;
    if !file.metadata().map_err(ExportError::read(path))?.is_file() {
        return Err(ExportError::NoWeights { path: path.into() });
    }
    // SAFETY: the mapping is private and read only. Whoever cuts the file short meanwhile ends
    // this process with SIGBUS, which is a command or a training run of their own; the database
    // server never maps weights.
    unsafe { Mmap::map(&file) }.map_err(ExportError::read(path))
}

/// What the mapped file holds, checked against its length.
fn entries(path: &Path, file: &Mmap, number: usize) -> Result<Vec<(String, Entry)>, ExportError> {
    let torch = |message: String| ExportError::Archive { path: path.into(), message };
    if archive::is_archive(file) {
        let entry = |(name, archive::Stored { dtype, shape, bytes })| {
            (name, Entry { file: number, dtype, shape, bytes })
        };
        return Ok(archive::tensors(file).map_err(torch)?.into_iter().map(entry).collect());
    }
    if archive::is_bare(file) {
        return Err(torch("it was saved before torch 1.6: load and save it again".into()));
    }
    let bad = |message: String| ExportError::Safetensors { path: path.into(), message };
    let (header, metadata) = SafeTensors::read_metadata(file).map_err(|e| bad(e.to_string()))?;
    let start = header + size_of::<u64>();
    Ok(metadata
        .tensors()
        .into_iter()
        .map(|(name, info)| {
            let bytes = start + info.data_offsets.0..start + info.data_offsets.1;
            (name, Entry { file: number, dtype: info.dtype, shape: info.shape.clone(), bytes })
        })
        .collect())
}
