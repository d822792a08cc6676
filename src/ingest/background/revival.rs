//! Queues that were there before this server took writes: it died over them, or they came by
//! replication or with a copy of the data directory. The supervisor has one, and steps it until it
//! is done.
//!
//! A database that has had a queue has a file that says so, but files of ours are not replicated.
//! So where the server has begun a timeline since the last revival (a standby was promoted, a backup
//! restored), every database is looked at: a worker that finds no queue ends at once.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use pgrx::pg_sys;

use super::{DIRECTORY, PREFIX};

/// The timeline on which every database was looked at last.
const TIMELINE: &str = "pgclip/timeline";

#[derive(Debug, Default)]
pub enum Revival {
    /// The server may be a standby, which writes nothing.
    #[default]
    Waiting,
    /// Databases that want a worker, as slots get free.
    Starting {
        databases: Vec<pg_sys::Oid>,
        timeline: u32,
    },
    Done,
}

impl Revival {
    pub fn is_done(&self) -> bool {
        matches!(self, Self::Done)
    }

    /// Does what can be done now.
    pub fn step(&mut self) {
        // SAFETY: reads shared memory, in a process that is attached to it.
        if matches!(self, Self::Waiting) && !unsafe { pg_sys::RecoveryInProgress() } {
            *self = Self::begin();
        }
        let Self::Starting { databases, timeline } = self else { return };
        databases.retain(|database| !super::start(*database));
        if databases.is_empty() {
            if let Err(error) = note(*timeline) {
                pgrx::warning!("pgclip cannot write \"{TIMELINE}\": {error}");
            }
            *self = Self::Done;
        }
    }

    fn begin() -> Self {
        let timeline = timeline();
        let known = fs::read_to_string(TIMELINE).ok();
        let known: Option<u32> = known.and_then(|text| text.trim().parse().ok());
        let marked = marked();
        let databases = match known {
            // Never noted: a new server, or one that was never anything but a primary.
            None if timeline == 1 => marked,
            Some(known) if known == timeline => marked,
            _ => databases(),
        };
        Self::Starting { databases, timeline }
    }
}

/// The timeline that this server writes.
fn timeline() -> u32 {
    // SAFETY: recovery has ended, as this process has seen.
    #[cfg(not(feature = "pg14"))]
    unsafe {
        pg_sys::GetWALInsertionTimeLine()
    }
    // SAFETY: as above; set when this process saw it.
    #[cfg(feature = "pg14")]
    unsafe {
        pg_sys::ThisTimeLineID
    }
}

/// Replaced whole: half of a number would be another timeline.
fn note(timeline: u32) -> io::Result<()> {
    let new = format!("{TIMELINE}.new");
    fs::write(&new, timeline.to_string())?;
    fs::rename(new, TIMELINE)
}

/// Databases that have had a queue; files of those that are gone are removed.
fn marked() -> Vec<pg_sys::Oid> {
    let mut marked = Vec::new();
    for file in below(Path::new(DIRECTORY)) {
        let name = file.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let Some(number) = name.strip_prefix(PREFIX).and_then(|n| n.parse::<u32>().ok()) else {
            continue;
        };
        match homes().any(|home| home.join(number.to_string()).exists()) {
            true => marked.push(pg_sys::Oid::from_u32(number)),
            false => _ = fs::remove_file(file),
        }
    }
    marked
}

/// Every database.
fn databases() -> Vec<pg_sys::Oid> {
    let names = homes().flat_map(|home| below(&home).collect::<Vec<_>>());
    let numbers = names.filter_map(|path| path.file_name()?.to_str()?.parse().ok());
    let mut databases: Vec<pg_sys::Oid> = numbers.map(pg_sys::Oid::from_u32).collect();
    databases.sort_unstable_by_key(|oid| oid.to_u32());
    databases.dedup();
    databases
}

/// Folders that have one for each of their databases: the default tablespace and the others.
fn homes() -> impl Iterator<Item = PathBuf> {
    let others = below(Path::new("pg_tblspc")).flat_map(|space| below(&space).collect::<Vec<_>>());
    std::iter::once(PathBuf::from("base")).chain(others)
}

fn below(folder: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path())
}
