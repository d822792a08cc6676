//! Pictures as 8-bit pixels: all of a set in memory, or one by one from where they lie.
//!
//! Decoding costs more than a training step of a small model, so where a set fits into memory
//! it is decoded once, before the first step; 100,000 pictures of 64×64 take 1.2 GB. Larger
//! sets are decoded batch by batch ([`crate::loader`]), or piece by piece where they are only
//! encoded ([`crate::encode::places`]).

use std::borrow::Borrow;
use std::fmt;

use anyhow::{Context, Result, bail, ensure};
use pgclip_clip::decode::{Limits, decode};
use pgclip_clip::model::{ImageConfig, Interpolation, ResizeMode};
use pgclip_clip::preprocess::Preprocessor;
use rayon::prelude::*;
use sysinfo::System;

use crate::config::Config;
use crate::data::Labels;
use crate::place::Place;
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
    pub place: Place,
    pub why: String,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.why)
    }
}

impl std::error::Error for Broken {}

/// The pictures that could be read.
#[derive(Debug)]
pub struct Loaded {
    pub pictures: Pictures,
    /// For each picture, which of the places it is.
    pub kept: Vec<usize>,
    pub broken: Vec<Broken>,
}

/// Reads pictures one by one, as a model wants them.
#[derive(Debug)]
pub struct Reader {
    pub size: usize,
    preprocessor: Preprocessor,
}

impl Reader {
    pub fn new(config: &Config) -> Self {
        let image = image_config(config);
        Reader { size: image.size as usize, preprocessor: Preprocessor::new(&image) }
    }

    /// The pixels of one picture, [S, S, 3].
    pub fn read(&self, place: &Place) -> Result<Vec<u8>, Broken> {
        let pixels = || {
            let bytes = place.read()?;
            ensure!(!bytes.is_empty(), "the file is empty");
            Ok(self.preprocessor.run(&decode(&bytes, &Limits::default())?))
        };
        pixels().map_err(|error| Broken { place: place.clone(), why: format!("{error:#}") })
    }
}

/// Bytes of so many decoded pictures.
pub fn decoded_bytes(count: usize, config: &Config) -> u64 {
    let side = config.model_cfg.vision_cfg.image_size as u64;
    count as u64 * side * side * 3
}

/// Bytes of decoded pictures that are held in memory at most: as asked for (MiB), or half of what
/// is free, in the container where there is one.
pub fn most_in_memory(mebibytes: Option<u64>) -> Result<u64> {
    if let Some(mebibytes) = mebibytes {
        return Ok(mebibytes.saturating_mul(1 << 20));
    }
    let mut system = System::new().context("cannot tell how much memory is free (--in-memory)")?;
    system.refresh_memory();
    let limit = system.cgroup_limits().map_or(u64::MAX, |limits| limits.free_memory);
    Ok(system.available_memory().min(limit) / 2)
}

/// Reads all pictures of a label file into memory. Missing files are an error; those that
/// cannot be decoded are named and leave the labels.
pub fn load(labels: &mut Labels, config: &Config) -> Result<Pictures> {
    missing(labels)?;
    let places: Vec<&Place> = labels.samples.iter().map(|sample| &sample.place).collect();
    let loaded = load_readable(&places, config);
    some_readable(places.len(), &loaded.broken)?;
    report(&loaded.broken);
    if !loaded.broken.is_empty() {
        labels.keep(&loaded.kept);
    }
    Ok(loaded.pictures)
}

/// An error if any picture of a label file is missing.
pub fn missing(labels: &Labels) -> Result<()> {
    let places = labels.samples.iter().map(|sample| &sample.place);
    let missing: Vec<&Place> = places.filter(|place| !place.exists()).collect();
    ensure!(
        missing.is_empty(),
        "{} of {} pictures are missing, the first is {} (--images names their folder)",
        missing.len(),
        labels.samples.len(),
        missing[0]
    );
    Ok(())
}

/// Reads, decodes and preprocesses the pictures that can be read, on all cores.
pub fn load_readable<P: Borrow<Place> + Sync>(places: &[P], config: &Config) -> Loaded {
    let reader = Reader::new(config);
    let stride = reader.size * reader.size * 3;
    let bar = progress_bar(places.len() as u64, "decode");
    let mut bytes = vec![0u8; places.len() * stride];
    let results: Vec<Result<(), Broken>> = bytes
        .par_chunks_mut(stride)
        .zip(places)
        .map(|(target, place)| {
            bar.inc(1);
            reader.read(place.borrow()).map(|pixels| target.copy_from_slice(&pixels))
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
            Err(found) => broken.push(found),
        }
    }
    bytes.truncate(kept.len() * stride);
    Loaded { pictures: Pictures { size: reader.size, bytes }, kept, broken }
}

/// Broken pictures that are named.
pub const MOST_NAMED: usize = 10;

/// Names the pictures that could not be read, the first ten of them.
pub fn report(broken: &[Broken]) {
    if broken.is_empty() {
        return;
    }
    eprintln!("{} pictures cannot be read and are left out:", broken.len());
    for broken in broken.iter().take(MOST_NAMED) {
        eprintln!("  {broken}");
    }
    if broken.len() > MOST_NAMED {
        eprintln!("  … and {} more", broken.len() - MOST_NAMED);
    }
}

/// An error where none of `count` pictures could be read: the folder is likely another.
pub fn some_readable(count: usize, broken: &[Broken]) -> Result<()> {
    match broken.first() {
        Some(first) if broken.len() >= count => bail!(
            "none of {count} pictures could be read, the first: {first} (--images names their folder)"
        ),
        _ => Ok(()),
    }
}
