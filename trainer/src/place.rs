//! Where the bytes of a picture lie: a file, or a member of a tar shard.
//!
//! webdataset's shards are plain tars, so one pass over their headers tells where each member
//! begins; after that every sample can be read by itself, in any order, and an epoch is as
//! well shuffled as with files. Nothing is unpacked.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};

/// A picture's place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    File(PathBuf),
    /// `length` bytes of a tar, from `offset`.
    Member {
        shard: Arc<Path>,
        name: String,
        offset: u64,
        length: u64,
    },
}

impl Place {
    /// The bytes.
    pub fn read(&self) -> io::Result<Vec<u8>> {
        match self {
            Place::File(path) => fs::read(path),
            Place::Member { shard, offset, length, .. } => {
                let mut bytes = vec![0; *length as usize];
                File::open(shard)?.read_exact_at(&mut bytes, *offset)?;
                Ok(bytes)
            }
        }
    }

    /// Whether there is such a file.
    pub fn exists(&self) -> bool {
        match self {
            Place::File(path) => path.is_file(),
            Place::Member { .. } => true, // its header was read
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::File(path) => write!(f, "{}", path.display()),
            Place::Member { shard, name, .. } => write!(f, "{}:{name}", shard.display()),
        }
    }
}

/// Whether training data are webdataset shards, by their name.
pub fn is_shards(path: &Path) -> bool {
    path.extension().is_some_and(|end| end == "tar")
}

/// The samples of webdataset shards: each picture with the caption in the `.txt` of its key.
/// `{000..012}` and `{a,b}` in the path stand for several shards, as in open_clip.
pub fn read_shards(pattern: &Path) -> Result<Vec<(Place, String)>> {
    let pattern = pattern.to_str().context("the path of the shards is not UTF-8")?;
    let mut samples = Vec::new();
    for path in expand(pattern)? {
        let path = Path::new(&path);
        read_shard(path, &mut samples).with_context(|| format!("in {}", path.display()))?;
    }
    ensure!(!samples.is_empty(), "{pattern} holds no picture with a caption");
    Ok(samples)
}

/// Adds the samples of one shard, in the order of their pictures.
fn read_shard(path: &Path, samples: &mut Vec<(Place, String)>) -> Result<()> {
    let mut archive = tar::Archive::new(File::open(path)?);
    let shard: Arc<Path> = path.into();
    let mut pictures = Vec::new();
    let mut captions = BTreeMap::new();
    for member in archive.entries_with_seek()? {
        let mut member = member?;
        if !member.header().entry_type().is_file() {
            continue;
        }
        let name = member.path()?.to_str().context("a member's name is not UTF-8")?.to_owned();
        let Some((key, ending)) = key_and_ending(&name) else { continue };
        match ending.to_ascii_lowercase().as_str() {
            "txt" => {
                let mut text = String::new();
                member.read_to_string(&mut text).with_context(|| format!("the caption {name}"))?;
                captions.insert(key.to_owned(), text.trim().to_owned());
            }
            "jpg" | "jpeg" | "png" | "webp" => {
                let (offset, length) = (member.raw_file_position(), member.size());
                let shard = Arc::clone(&shard);
                let key = key.to_owned();
                pictures.push((key, Place::Member { shard, name, offset, length }));
            }
            _ => {}
        }
    }
    let whole = fs::metadata(path)?.len();
    for (key, place) in pictures {
        if let Place::Member { name, offset, length, .. } = &place {
            ensure!(offset + length <= whole, "the tar ends within {name}");
        }
        if let Some(caption) = captions.get(&key).filter(|caption| !caption.is_empty()) {
            samples.push((place, caption.clone()));
        }
    }
    Ok(())
}

/// webdataset's key of a member: all up to the first dot of its last part.
fn key_and_ending(name: &str) -> Option<(&str, &str)> {
    let start = name.rfind('/').map_or(0, |at| at + 1);
    let dot = start + name[start..].find('.')?;
    Some((&name[..dot], &name[dot + 1..]))
}

/// All paths that a pattern with braces stands for.
fn expand(pattern: &str) -> Result<Vec<String>> {
    let Some(open) = pattern.find('{') else { return Ok(vec![pattern.to_owned()]) };
    let close =
        open + pattern[open..].find('}').with_context(|| format!("{pattern} lacks a }}"))?;
    let inside = &pattern[open + 1..close];
    let choices: Vec<String> = match inside.split_once("..") {
        Some((first, last)) => {
            let number = |text: &str| text.parse::<u64>();
            let (Ok(from), Ok(to)) = (number(first), number(last)) else {
                bail!("{{{inside}}} in {pattern}: expected numbers, as {{000..012}}");
            };
            let width = if first.starts_with('0') { first.len() } else { 0 };
            (from..=to).map(|number| format!("{number:0width$}")).collect()
        }
        None => inside.split(',').map(str::to_owned).collect(),
    };
    let mut paths = Vec::new();
    for choice in choices {
        paths.extend(expand(&format!("{}{choice}{}", &pattern[..open], &pattern[close + 1..]))?);
    }
    Ok(paths)
}
