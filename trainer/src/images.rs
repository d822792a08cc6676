//! Pictures in memory: every file decoded and preprocessed once, kept as 8-bit pixels.
//!
//! Decoding costs more than a training step of a small model, so it is done before the
//! first step; 100,000 pictures of 64×64 take 1.2 GB.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail, ensure};
use pgclip_clip::decode::{Limits, decode};
use pgclip_clip::model::{ImageConfig, Interpolation, ResizeMode};
use pgclip_clip::preprocess::Preprocessor;
use rayon::prelude::*;

use crate::config::Config;
use crate::progress::progress_bar;

/// N square RGB pictures of side S.
#[derive(Debug)]
pub struct Pictures {
    pub size: usize,
    /// [N, S, S, 3], row by row.
    pub bytes: Vec<u8>,
}

impl Pictures {
    /// Bytes of one picture.
    pub fn stride(&self) -> usize {
        self.size * self.size * 3
    }

    /// Number of pictures.
    pub fn len(&self) -> usize {
        self.bytes.len() / self.stride()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The pixels of one picture, [S, S, 3].
    pub fn get(&self, index: usize) -> &[u8] {
        &self.bytes[index * self.stride()..][..self.stride()]
    }
}

/// The model directory's description of `config`'s preprocessing.
pub fn image_config(config: &Config) -> ImageConfig {
    ImageConfig {
        size: config.model_cfg.vision_cfg.image_size as u32,
        mean: config.preprocess_cfg.mean,
        std: config.preprocess_cfg.std,
        resize: if config.pads() { ResizeMode::Pad } else { ResizeMode::Crop },
        interpolation: Interpolation::Bicubic,
        exif_orientation: false,
    }
}

/// A picture that could not be read, and why.
#[derive(Clone, Debug)]
pub struct Broken {
    pub path: PathBuf,
    pub why: String,
}

/// The pictures that could be read.
#[derive(Debug)]
pub struct Loaded {
    pub pictures: Pictures,
    /// For each picture, which of the paths it is.
    pub kept: Vec<usize>,
    pub broken: Vec<Broken>,
}

/// Reads, decodes and preprocesses all files, on all cores; any that cannot be read is an error.
pub fn load<P: AsRef<Path> + Sync>(paths: &[P], config: &Config) -> Result<Pictures> {
    let missing: Vec<&Path> =
        paths.iter().map(AsRef::as_ref).filter(|path| !path.is_file()).collect();
    ensure!(
        missing.is_empty(),
        "{} of {} pictures are missing, the first is {}",
        missing.len(),
        paths.len(),
        missing[0].display()
    );
    let loaded = load_readable(paths, config);
    if let Some(Broken { path, why }) = loaded.broken.first() {
        bail!("cannot decode {}: {why}", path.display());
    }
    Ok(loaded.pictures)
}

/// Reads, decodes and preprocesses the files that can be read, on all cores.
pub fn load_readable<P: AsRef<Path> + Sync>(paths: &[P], config: &Config) -> Loaded {
    let image = image_config(config);
    let size = image.size as usize;
    let preprocessor = Preprocessor::new(&image);
    let stride = size * size * 3;
    let bar = progress_bar(paths.len() as u64, "decode");
    let mut bytes = vec![0u8; paths.len() * stride];
    let results: Vec<Result<()>> = bytes
        .par_chunks_mut(stride)
        .zip(paths)
        .map(|(target, path)| {
            let file = std::fs::read(path.as_ref())?;
            ensure!(!file.is_empty(), "the file is empty");
            target.copy_from_slice(&preprocessor.run(&decode(&file, &Limits::default())?));
            bar.inc(1);
            Ok(())
        })
        .collect();
    bar.finish_and_clear();
    let (mut kept, mut broken) = (Vec::new(), Vec::new());
    for (index, result) in results.into_iter().enumerate() {
        match result {
            Ok(()) => {
                bytes.copy_within(index * stride..(index + 1) * stride, kept.len() * stride);
                kept.push(index);
            }
            Err(error) => broken
                .push(Broken { path: paths[index].as_ref().to_owned(), why: format!("{error:#}") }),
        }
    }
    bytes.truncate(kept.len() * stride);
    Loaded { pictures: Pictures { size, bytes }, kept, broken }
}

/// Names the pictures that could not be read, the first ten of them.
pub fn report(broken: &[Broken]) {
    const MOST: usize = 10;
    if broken.is_empty() {
        return;
    }
    eprintln!("{} pictures could not be read and were left out:", broken.len());
    for Broken { path, why } in broken.iter().take(MOST) {
        eprintln!("  {}: {why}", path.display());
    }
    if broken.len() > MOST {
        eprintln!("  … and {} more", broken.len() - MOST);
    }
}

/// An error where none of `count` pictures could be read: the folder is likely another.
pub fn some_readable(count: usize, broken: &[Broken]) -> Result<()> {
    match broken.first() {
        Some(Broken { path, why }) if broken.len() >= count => bail!(
            "none of {count} pictures could be read, the first: {}: {why} \
             (--images names their folder)",
            path.display()
        ),
        _ => Ok(()),
    }
}
