//! The server's programs: a tree that `make stage` put together, PostgreSQL with pgclip in it.
//!
//! Apart from the cluster, because a tree that the server's account cannot reach (a checkout
//! below /root) is first copied to where it can.

use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::account::Account;

/// Names another staged tree than `target/stage/pg18` of this workspace.
pub const STAGE_VARIABLE: &str = "PGCLIP_STAGE";

/// A relocatable PostgreSQL with pgclip installed; `bin`, `lib` and `share` below `root`.
#[derive(Clone, Debug)]
pub struct Server {
    root: PathBuf,
    version: String,
}

impl Server {
    /// The tree that `PGCLIP_STAGE` names, else the workspace's `target/stage/pg18`.
    pub fn find() -> Result<Self> {
        let root = match std::env::var_os(STAGE_VARIABLE) {
            Some(root) => PathBuf::from(root),
            None => workspace().join("target/stage/pg18"),
        };
        Self::at(&root)
    }

    /// The tree at `root`.
    pub fn at(root: &Path) -> Result<Self> {
        let config = root.join("bin/pg_config");
        let output = Command::new(&config).arg("--version").output().with_context(|| {
            format!("no PostgreSQL staged in {}: run `make stage` first", root.display())
        })?;
        let text = String::from_utf8_lossy(&output.stdout);
        let version = text.split_whitespace().nth(1).unwrap_or_default().to_owned();
        ensure!(!version.is_empty(), "{} told no version", config.display());
        Ok(Self { root: root.canonicalize()?, version })
    }

    /// For example `18.6`.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// For example `18`.
    pub fn major(&self) -> u32 {
        let digits = self.version.split(|c: char| !c.is_ascii_digit()).next();
        digits.and_then(|digits| digits.parse().ok()).unwrap_or(0)
    }

    /// The folder of the tree.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// A program of the server, `psql` for example.
    pub fn program(&self, name: &str) -> PathBuf {
        self.root.join("bin").join(name)
    }

    /// Has the server an extension of this name, `vector` for example?
    pub fn has_extension(&self, name: &str) -> bool {
        self.root.join("share/extension").join(format!("{name}.control")).exists()
    }

    /// This tree if `account` can reach it, else a copy where it can.
    pub fn reachable_by(self, account: &Account) -> Result<Self> {
        if account.reaches(&self.root.join("bin")) {
            return Ok(self);
        }
        let name = self.root.file_name().context("the staged tree has no name")?;
        let copy = open_place()?.join("stage").join(name);
        fs::create_dir_all(copy.parent().unwrap_or(&copy))?;
        // Several tests may come here at once.
        let lock = File::create(copy.with_extension("lock"))?;
        lock.lock()?;
        mirror(&self.root, &copy).with_context(|| {
            format!("cannot copy {} to {}", self.root.display(), copy.display())
        })?;
        if !account.reaches(&copy.join("bin")) {
            bail!("the account {} cannot reach {}", account.name(), copy.display());
        }
        Self::at(&copy)
    }
}

/// `wanted` if `account` can enter it, else a folder of the same name where it can.
/// The folder exists afterwards.
pub(crate) fn reachable_folder(account: &Account, wanted: &Path) -> Result<PathBuf> {
    fs::create_dir_all(wanted).with_context(|| format!("cannot make {}", wanted.display()))?;
    if account.reaches(wanted) {
        return Ok(wanted.canonicalize()?);
    }
    let inside = wanted.strip_prefix(workspace()).unwrap_or(Path::new("outside"));
    let folder = open_place()?.join(inside);
    fs::create_dir_all(&folder)?;
    Ok(folder)
}

/// The root of this checkout.
pub fn workspace() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    root.canonicalize().unwrap_or(root)
}

/// A folder of ours that every account can reach, one for each checkout.
fn open_place() -> Result<PathBuf> {
    let mut hasher = DefaultHasher::new();
    workspace().hash(&mut hasher);
    let place = Path::new("/var/tmp").join(format!("pgclip-{:016x}", hasher.finish()));
    match fs::create_dir(&place) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            return Err(error).with_context(|| format!("cannot make {}", place.display()));
        }
        _ => {}
    }
    let found = fs::symlink_metadata(&place)?;
    // SAFETY: geteuid has no preconditions and cannot fail.
    let ours = found.is_dir() && found.uid() == unsafe { libc::geteuid() };
    ensure!(ours, "{} is not a folder of ours", place.display());
    Ok(place)
}

/// Makes `to` like `from`. A file that differs is replaced, never written over: a server that
/// still runs keeps the old one.
fn mirror(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        let kind = entry.file_type()?;
        if kind.is_dir() {
            mirror(&source, &target)?;
        } else if kind.is_symlink() {
            let link = fs::read_link(&source)?;
            if fs::read_link(&target).ok().as_ref() != Some(&link) {
                remove(&target)?;
                std::os::unix::fs::symlink(link, &target)?;
            }
        } else {
            let new = entry.metadata()?;
            let same = fs::symlink_metadata(&target).is_ok_and(|old| {
                old.len() == new.len() && old.modified().ok() == new.modified().ok()
            });
            if !same {
                remove(&target)?;
                fs::copy(&source, &target)?;
                File::options().append(true).open(&target)?.set_modified(new.modified()?)?;
            }
        }
    }
    Ok(())
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
