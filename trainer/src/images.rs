//! Pictures in memory: every file decoded and preprocessed once, kept as 8-bit pixels.
//!
//! Decoding costs more than a training step of a small model, so it is done before the
//! first step; 100,000 pictures of 64×64 take 1.2 GB.

use std::path::Path;

use anyhow::{Context, Result, ensure};
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

/// Reads, decodes and preprocesses all files, on all cores.
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
    let image = image_config(config);
    let size = image.size as usize;
    let preprocessor = Preprocessor::new(&image);
    let limits = Limits::default();
    let bar = progress_bar(paths.len() as u64, "decode");
    let mut bytes = vec![0u8; paths.len() * size * size * 3];
    bytes.par_chunks_mut(size * size * 3).zip(paths).try_for_each(|(target, path)| {
        let path = path.as_ref();
        let file =
            std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        let decoded =
            decode(&file, &limits).with_context(|| format!("cannot decode {}", path.display()))?;
        target.copy_from_slice(&preprocessor.run(&decoded));
        bar.inc(1);
        anyhow::Ok(())
    })?;
    bar.finish_and_clear();
    Ok(Pictures { size, bytes })
}
