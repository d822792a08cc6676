//! The worker that encodes queued rows: one a database that has some, started by the commit that
//! queued them, ended when nothing is left.
//!
//! A file in the data directory says that a database has had a queue; the worker locks it, so that
//! backends see whether one runs, with no shared memory. What was queued before this server took
//! writes is the supervisor's to bring back to life ([`Revival`]).

mod revival;
mod step;
mod worker;

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

pub use revival::Revival;

use pgrx::bgworkers::{BackgroundWorkerBuilder, BgWorkerStartTime};
use pgrx::{IntoDatum, pg_sys};

const DIRECTORY: &str = "pgclip";
const PREFIX: &str = "queue-";

fn path(database: pg_sys::Oid) -> String {
    format!("{DIRECTORY}/{PREFIX}{}", database.to_u32())
}

fn this_database() -> pg_sys::Oid {
    // SAFETY: set when the session began.
    unsafe { pg_sys::MyDatabaseId }
}

/// Notes that this database has a queue. Written through, since the queue will be durable.
pub fn mark() -> io::Result<()> {
    if is_marked(this_database()) {
        return Ok(());
    }
    match DirBuilder::new().mode(0o700).create(DIRECTORY) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    open(&path(this_database()), true)?.sync_all()?;
    File::open(DIRECTORY)?.sync_all()
}

/// Starts a worker for this database, unless one runs. A worker that is about to end looks at the
/// queue once more after it gave its lock back.
pub fn wake() {
    let database = this_database();
    if lock(database).is_some() && !start(database) {
        pgrx::warning!(
            "images are queued, but there is no free slot for the background worker that encodes them"
        );
    }
}

/// False: there is no free slot.
fn start(database: pg_sys::Oid) -> bool {
    BackgroundWorkerBuilder::new("pgclip ingest worker")
        .set_type("pgclip ingest worker")
        .set_library("pgclip")
        .set_function("pgclip_ingest_main")
        .set_argument(database.into_datum())
        .enable_spi_access()
        .set_start_time(BgWorkerStartTime::RecoveryFinished)
        .load_dynamic()
        .is_ok()
}

fn open(path: &str, create: bool) -> io::Result<File> {
    OpenOptions::new().write(true).create(create).truncate(false).mode(0o600).open(path)
}

/// Whether it is known that a database has had a queue.
fn is_marked(database: pg_sys::Oid) -> bool {
    Path::new(&path(database)).exists()
}

/// The lock of the database's one worker, kept as long as the file is open; `None`: somebody has it.
fn lock(database: pg_sys::Oid) -> Option<File> {
    let file = open(&path(database), false).ok()?;
    // SAFETY: the descriptor is open for the length of the call.
    let taken = unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) } == 0;
    taken.then_some(file)
}
