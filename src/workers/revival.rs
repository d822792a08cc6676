//! Workers that are wanted and not there, brought back by the supervisor: it has one of these and steps
//! it once a second.
//!
//! First come queues that were there before this server took writes: it died over them, or they came
//! by replication or with a copy of the data directory. A database that has had a queue has a file
//! that says so, but files of ours are not replicated. So where the server has begun a timeline since
//! the last revival (a standby was promoted, a backup restored), every database is looked at: a worker
//! that finds no queue ends at once.
//!
//! Then come workers that died, or for which there was no slot: their file says that one is wanted,
//! and its lock is free.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use pgrx::pg_sys;

use crate::ingest::launch::{self, DIRECTORY, PREFIX, State};

/// The timeline on which every database was looked at last.
const TIMELINE: &str = "pgclip/timeline";
/// How often it is looked for workers that are wanted.
const LOOK: Duration = Duration::from_secs(1);
/// Pauses between two starts for one database, doubled while each worker dies before long.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(16);
/// A worker that lived for so long beyond the pause makes the next start one after the first pause.
const SETTLED: Duration = Duration::from_secs(10);

#[derive(Debug, Default)]
pub struct Revival {
    stage: Stage,
    looked: Option<Instant>,
    /// Databases in which a worker was found to be wanted and not there, by their numbers.
    missing: HashMap<u32, Missing>,
}

#[derive(Debug, Default)]
enum Stage {
    /// The server may be a standby, which writes nothing.
    #[default]
    Waiting,
    /// Databases that want a worker, as slots get free.
    Starting {
        databases: Vec<pg_sys::Oid>,
        timeline: u32,
    },
    Watching,
}

#[derive(Debug)]
struct Missing {
    since: Instant,
    pause: Duration,
    /// The last start, if there was one.
    started: Option<Instant>,
}

impl Revival {
    /// Does what can be done now.
    pub fn step(&mut self) {
        if self.looked.is_some_and(|at| at.elapsed() < LOOK) {
            return;
        }
        self.looked = Some(Instant::now());
        // SAFETY: reads shared memory, in a process that is attached to it.
        if matches!(self.stage, Stage::Waiting) && !unsafe { pg_sys::RecoveryInProgress() } {
            self.stage = Stage::begin();
        }
        match &mut self.stage {
            Stage::Waiting => {}
            Stage::Starting { databases, timeline } => {
                databases.retain(|database| !launch::start(*database));
                if databases.is_empty() {
                    if let Err(error) = note(*timeline) {
                        pgrx::warning!("pgclip cannot write \"{TIMELINE}\": {error}");
                    }
                    self.stage = Stage::Watching;
                }
            }
            Stage::Watching => self.watch(),
        }
    }

    /// Starts workers that are wanted and have not been there for a whole look: one may be about to
    /// take its lock, or to end.
    fn watch(&mut self) {
        let wanted: Vec<u32> = marked().iter().copied().map(pg_sys::Oid::to_u32).collect();
        self.missing.retain(|database, _| wanted.contains(database));
        for database in wanted {
            let oid = pg_sys::Oid::from_u32(database);
            let known = self.missing.get_mut(&database);
            if !is_missing(oid) {
                // Kept, for the pauses of one that dies again.
                if let Some(missing) = known {
                    missing.since = Instant::now();
                }
                continue;
            }
            let Some(missing) = known else {
                let (since, pause) = (Instant::now(), FIRST_PAUSE);
                self.missing.insert(database, Missing { since, pause, started: None });
                continue;
            };
            let settled = missing.started.is_none_or(|at| at.elapsed() > missing.pause + SETTLED);
            let due = match missing.started {
                Some(at) if !settled => at.elapsed() >= missing.pause,
                _ => missing.since.elapsed() >= LOOK / 2,
            };
            if due && launch::start(oid) {
                missing.pause =
                    if settled { FIRST_PAUSE } else { (missing.pause * 2).min(LONGEST_PAUSE) };
                missing.started = Some(Instant::now());
            }
        }
    }
}

/// Whether a worker is wanted in a database, and none is there.
fn is_missing(database: pg_sys::Oid) -> bool {
    let wanted = launch::open(&launch::path(database), false).is_ok_and(|file| {
        launch::says(&file, State::Wanted) || launch::says(&file, State::Refused)
    });
    wanted && launch::lock(database).is_some()
}

impl Stage {
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
