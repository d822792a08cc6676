//! The ingest worker as a backend sees it: that its database has a queue, whether a worker runs, and
//! how one is started. One runs in each database that has queued rows, from the commit of a transaction
//! that queued them until nothing is left; the worker itself stands in `workers`, which the server
//! enters by the name of its function.
//!
//! A file in the data directory says that a database has had a queue; the worker locks it, so that
//! backends see whether one runs, with no shared memory. Its one byte says whether a worker is wanted:
//! where it is and the lock is free, one has died, or there was no slot for it, and the supervisor
//! starts another, as it does for what was queued before this server took writes.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::Path;
use std::time::Duration;

use pgrx::bgworkers::{BackgroundWorkerBuilder, BgWorkerStartTime};
use pgrx::{IntoDatum, pg_sys};

pub const DIRECTORY: &str = "pgclip";
pub const PREFIX: &str = "queue-";
/// For how long a worker that was started need not have taken its lock.
const STARTING: Duration = Duration::from_secs(1);

pub fn path(database: pg_sys::Oid) -> String {
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
    let path = path(this_database());
    let named = |error: io::Error| io::Error::new(error.kind(), format!("\"{path}\": {error}"));
    open(&path, true).and_then(|file| file.sync_all()).map_err(named)?;
    File::open(DIRECTORY)?.sync_all()
}

/// Starts a worker for this database, unless one runs or is being started. Called before the commit
/// of a transaction that has queued rows: an error here would roll it back, and one after it would
/// end the server. A worker that finds nothing sees that the transaction goes on, and stays.
pub fn wake() {
    let database = this_database();
    match lock(database) {
        Some(file) if is_starting(&file) => {}
        Some(file) => {
            note(&file, State::Wanted);
            // The lock is let go before the worker may want it.
            drop(file);
            if !start(database) {
                if let Ok(file) = open(&path(database), false) {
                    note(&file, State::Refused);
                }
                pgrx::warning!(
                    "images are queued, but there is no free slot for the background worker that encodes them"
                );
            }
        }
        None => {
            if let Ok(file) = open(&path(database), false) {
                note(&file, State::Wanted);
            }
        }
    }
}

/// What a database's file says in its one byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// A worker found nothing and ended.
    Done = b'0' as isize,
    /// A worker runs, is on its way, or has died.
    Wanted = b'1' as isize,
    /// There was no slot for a worker.
    Refused = b'2' as isize,
}

/// Notes whether a worker is wanted. What cannot be written is not worth an error: a commit starts a
/// worker whatever stands there.
pub fn note(file: &File, state: State) {
    let _ = file.write_all_at(&[state as u8], 0);
}

pub fn says(file: &File, state: State) -> bool {
    let mut byte = [0];
    file.read_exact_at(&mut byte, 0).is_ok() && byte == [state as u8]
}

/// Whether a worker was wanted so lately that one may be on its way.
fn is_starting(file: &File) -> bool {
    let age = file.metadata().and_then(|data| data.modified()).map(|at| at.elapsed());
    says(file, State::Wanted) && matches!(age, Ok(Ok(age)) if age < STARTING)
}

/// False: there is no free slot.
pub fn start(database: pg_sys::Oid) -> bool {
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

pub fn open(path: &str, create: bool) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(create).truncate(false).mode(0o600).open(path)
}

/// Whether it is known that a database has had a queue.
pub fn is_marked(database: pg_sys::Oid) -> bool {
    Path::new(&path(database)).exists()
}

/// The lock of the database's one worker, kept as long as the file is open; `None`: somebody has it.
pub fn lock(database: pg_sys::Oid) -> Option<File> {
    let file = open(&path(database), false).ok()?;
    // SAFETY: the descriptor is open for the length of the call.
    let taken = unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) } == 0;
    taken.then_some(file)
}
