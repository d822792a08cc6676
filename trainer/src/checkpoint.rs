//! Checkpoints: folders that are either complete or not there.
//!
//! ```text
//! RUN/checkpoints/step_00001200/model.safetensors      weights in open_clip's naming
//!                               optimizer.safetensors  AdamW's moments
//!                               open_clip_config.json  the architecture
//!                               state.json             step, run settings, digests of the three
//! ```
//!
//! A checkpoint is written under a temporary name, synced, and renamed. A full disk or a
//! crash leaves the one before untouched.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tch::Device;

use crate::config::{CONFIG_FILE, Config};
use crate::layers::Locks;
use crate::optim::{AdamW, Hyper};
use crate::params::Params;

/// Name of the weights in a checkpoint.
pub const MODEL_FILE: &str = "model.safetensors";
const OPTIMIZER_FILE: &str = "optimizer.safetensors";
const STATE_FILE: &str = "state.json";

/// What must be known to go on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// Steps done.
    pub step: u64,
    /// Settings that the rest of the run depends on; a resumed run must have the same.
    pub settings: BTreeMap<String, String>,
    /// SHA-256 of each file beside this one, in hexadecimal.
    pub files: BTreeMap<String, String>,
}

/// A run at one step, as it is saved.
#[derive(Clone, Copy, Debug)]
pub struct Snapshot<'a> {
    pub config: &'a Config,
    pub params: &'a Params,
    pub optimizer: &'a AdamW,
    pub step: u64,
    pub settings: &'a BTreeMap<String, String>,
}

/// Which checkpoints stay when a newer one is written.
#[derive(Clone, Copy, Debug)]
pub struct Retention {
    /// The last so many.
    pub last: usize,
    /// And those of every so many steps; 0: none.
    pub every: u64,
}

/// Writes `RUN/checkpoints/step_N`, then removes the older ones that need not stay.
pub fn save(run: &Path, snapshot: Snapshot<'_>, retention: Retention) -> Result<PathBuf> {
    let folder = run.join("checkpoints");
    let step = snapshot.step;
    let name = format!("step_{step:08}");
    let (target, temporary) = (folder.join(&name), folder.join(format!(".{name}.part")));
    if let Err(error) = write(&temporary, snapshot) {
        // Frees what was taken; the older checkpoints stay.
        fs::remove_dir_all(&temporary).ok();
        return Err(error.context(format!("the checkpoint of step {step} could not be written")));
    }
    if target.exists() {
        fs::remove_dir_all(&target)?;
    }
    fs::rename(&temporary, &target)
        .with_context(|| format!("cannot rename to {}", target.display()))?;
    File::open(&folder)?.sync_all()?;
    let all = list(run)?;
    for old in &all[..all.len().saturating_sub(retention.last.max(1))] {
        let step = step_of(old).unwrap_or(0);
        if retention.every == 0 || !step.is_multiple_of(retention.every) {
            fs::remove_dir_all(old)?;
        }
    }
    Ok(target)
}

fn write(folder: &Path, snapshot: Snapshot<'_>) -> Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder)?;
    }
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    snapshot.params.save(&folder.join(MODEL_FILE))?;
    snapshot.optimizer.save(&folder.join(OPTIMIZER_FILE))?;
    let config = serde_json::to_string_pretty(snapshot.config)? + "\n";
    fs::write(folder.join(CONFIG_FILE), config)?;
    let mut files = BTreeMap::new();
    for name in [MODEL_FILE, OPTIMIZER_FILE, CONFIG_FILE] {
        files.insert(name.to_owned(), digest(&folder.join(name))?);
    }
    let state = State { step: snapshot.step, settings: snapshot.settings.clone(), files };
    fs::write(folder.join(STATE_FILE), serde_json::to_string_pretty(&state)? + "\n")?;
    for name in [MODEL_FILE, OPTIMIZER_FILE, CONFIG_FILE, STATE_FILE] {
        File::open(folder.join(name))?.sync_all()?;
    }
    Ok(File::open(folder)?.sync_all()?)
}

/// Writes a checkpoint of weights alone, which no run can be resumed from, to a new folder.
pub fn save_weights(folder: &Path, config: &Config, params: &Params) -> Result<()> {
    ensure!(!folder.exists(), "{} exists", folder.display());
    let mut name = folder.file_name().context("the folder has no name")?.to_owned();
    name.push(".part");
    let part = folder.with_file_name(name);
    let write = || {
        fs::create_dir_all(&part)?;
        params.save(&part.join(MODEL_FILE))?;
        fs::write(part.join(CONFIG_FILE), serde_json::to_string_pretty(config)? + "\n")?;
        let mut files = BTreeMap::new();
        for name in [MODEL_FILE, CONFIG_FILE] {
            files.insert(name.to_owned(), digest(&part.join(name))?);
        }
        let state = State { step: 0, settings: BTreeMap::new(), files };
        fs::write(part.join(STATE_FILE), serde_json::to_string_pretty(&state)? + "\n")?;
        anyhow::Ok(fs::rename(&part, folder)?)
    };
    write().map_err(|error| {
        fs::remove_dir_all(&part).ok(); // frees what a full disk was given
        error.context(format!("cannot write {}", folder.display()))
    })
}

/// SHA-256 of a file, in hexadecimal.
pub fn digest(path: &Path) -> Result<String> {
    let mut file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    let (mut hash, mut buffer) = (Sha256::new(), vec![0; 1 << 20]);
    loop {
        match file.read(&mut buffer)? {
            0 => break,
            n => hash.update(&buffer[..n]),
        }
    }
    Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

/// All complete checkpoints of a run, oldest first.
pub fn list(run: &Path) -> Result<Vec<PathBuf>> {
    let folder = run.join("checkpoints");
    let mut found = Vec::new();
    if folder.is_dir() {
        for entry in fs::read_dir(&folder)? {
            let path = entry?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or("");
            if name.starts_with("step_") && path.join(STATE_FILE).is_file() {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

/// The step that a checkpoint's name tells.
fn step_of(checkpoint: &Path) -> Option<u64> {
    checkpoint.file_name()?.to_str()?.strip_prefix("step_")?.parse().ok()
}

/// The checkpoint that `path` means: itself, or the last one of a run.
pub fn locate(path: &Path) -> Result<PathBuf> {
    if path.join(STATE_FILE).is_file() {
        return Ok(path.to_path_buf());
    }
    let last = list(path)?.pop();
    last.with_context(|| format!("{} is no checkpoint and holds none", path.display()))
}

/// Reads the state and checks that every file is as it was written.
pub fn read_state(checkpoint: &Path) -> Result<State> {
    let path = checkpoint.join(STATE_FILE);
    let text =
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let state: State =
        serde_json::from_str(&text).with_context(|| format!("{} is corrupted", path.display()))?;
    for name in [MODEL_FILE, OPTIMIZER_FILE, CONFIG_FILE] {
        if name == OPTIMIZER_FILE && !state.files.contains_key(name) {
            continue; // weights alone, see `save_weights`
        }
        let path = checkpoint.join(name);
        let found = digest(&path)?;
        ensure!(
            state.files.get(name) == Some(&found),
            "{} is corrupted: its digest is not the one in {STATE_FILE}; \
             resume from an older checkpoint",
            path.display()
        );
    }
    Ok(state)
}

/// Reads the weights of a checkpoint with their configuration.
pub fn load_model(checkpoint: &Path, device: Device) -> Result<(Config, Params)> {
    read_state(checkpoint)?;
    let config = Config::read(&checkpoint.join(CONFIG_FILE))?;
    let params = Params::load(&checkpoint.join(MODEL_FILE), &config.model_cfg, device)?;
    Ok((config, params))
}

/// Reads everything that training needs to go on after `steps` steps.
pub fn load_all(
    checkpoint: &Path,
    locks: Locks,
    hyper: Hyper,
    steps: u64,
    device: Device,
) -> Result<(Config, Params, AdamW)> {
    let (config, mut params) = load_model(checkpoint, device)?;
    locks.apply(&mut params, &config.model_cfg);
    let path = checkpoint.join(OPTIMIZER_FILE);
    let optimizer = AdamW::load(&path, &params, &config.model_cfg, hyper, steps)?;
    Ok((config, params, optimizer))
}
