//! Sets of scenes on disk: pictures, a label file in the challenge's form, the scenes' attributes
//! as JSON lines, and a manifest with digests by which two sets can be told to be the same.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::scene::{Scene, SceneOptions};

/// File names inside a set's directory.
pub const LABELS: &str = "labels.txt";
pub const SCENES: &str = "scenes.jsonl";
pub const MANIFEST: &str = "manifest.json";
pub const IMAGES: &str = "images";

#[derive(Debug, thiserror::Error)]
#[error("cannot write {path}: {source}", path = path.display())]
pub struct SetError {
    path: PathBuf,
    source: io::Error,
}

/// What a set holds; digests are SHA-256 in hexadecimal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    pub format: u32,
    pub seed: u64,
    pub count: u64,
    pub options: SceneOptions,
    /// Of the label file.
    pub labels_sha256: String,
    /// Of the file of scenes.
    pub scenes_sha256: String,
    /// Of the concatenated (binary) digests of the picture files, in order.
    pub images_sha256: String,
}

/// The seed of scene `index` of a set: neighbouring sets and indices share nothing (SplitMix64).
pub fn scene_seed(set_seed: u64, index: u64) -> u64 {
    let mix = |mut z: u64| {
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    };
    const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
    mix(mix(set_seed.wrapping_add(STEP)).wrapping_add(STEP.wrapping_mul(index.wrapping_add(1))))
}

/// The scene at `index` of the set with this seed.
pub fn scene_at(set_seed: u64, index: u64, options: &SceneOptions) -> Scene {
    Scene::sample(scene_seed(set_seed, index), options)
}

/// The file name of the picture at `index`.
pub fn image_name(index: u64) -> String {
    format!("{index:06}.jpg")
}

/// Writes `count` scenes into `dir`: `images/000000.jpg` …, `labels.txt`, `scenes.jsonl` and
/// `manifest.json`. Runs on all threads of the current rayon pool; the files don't depend on their
/// number.
///
/// # Errors
/// When a file or directory cannot be written.
pub fn write_set(
    dir: &Path,
    count: u64,
    seed: u64,
    options: &SceneOptions,
) -> Result<Manifest, SetError> {
    write_scenes(dir, count, seed, options, |index| scene_at(seed, index, options))
}

/// The same with scenes of any choice; `seed` is what the manifest tells.
///
/// # Errors
/// When a file or directory cannot be written.
pub fn write_scenes(
    dir: &Path,
    count: u64,
    seed: u64,
    options: &SceneOptions,
    scene_of: impl Fn(u64) -> Scene + Sync,
) -> Result<Manifest, SetError> {
    let images = dir.join(IMAGES);
    fs::create_dir_all(&images).map_err(|source| SetError { path: images.clone(), source })?;
    let entries: Vec<([u8; 32], String, String)> = (0..count)
        .into_par_iter()
        .map(|index| {
            let scene = scene_of(index);
            let name = image_name(index);
            let bytes = scene.file(options);
            write(&images.join(&name), &bytes)?;
            let json = serde_json::to_string(&scene).expect("plain data");
            Ok((Sha256::digest(&bytes).into(), scene.label_line(&name), json))
        })
        .collect::<Result<_, SetError>>()?;
    let mut all = Sha256::new();
    let (mut labels, mut scenes) = (String::new(), String::new());
    for (digest, label, json) in &entries {
        all.update(digest);
        labels.push_str(label);
        labels.push('\n');
        scenes.push_str(json);
        scenes.push('\n');
    }
    write(&dir.join(LABELS), labels.as_bytes())?;
    write(&dir.join(SCENES), scenes.as_bytes())?;
    let manifest = Manifest {
        format: 1,
        seed,
        count,
        options: *options,
        labels_sha256: hex(&Sha256::digest(labels.as_bytes())),
        scenes_sha256: hex(&Sha256::digest(scenes.as_bytes())),
        images_sha256: hex(&all.finalize()),
    };
    let text = serde_json::to_string_pretty(&manifest).expect("plain data");
    write(&dir.join(MANIFEST), text.as_bytes())?;
    Ok(manifest)
}

pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<(), SetError> {
    fs::write(path, bytes).map_err(|source| SetError { path: path.to_owned(), source })
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
