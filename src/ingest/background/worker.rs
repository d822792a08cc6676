//! The worker's life: transactions of a few rows each, patience where the encoder is away, and the
//! end when nothing is left or the database is wanted by somebody else.
//!
//! DROP DATABASE waits five seconds for others to leave. Each transaction here holds the lock that
//! every session takes on its database when it begins; where it cannot have it, the database is
//! about to be dropped, renamed or copied, and the worker leaves. Its successor waits for that lock
//! before it is connected, so it is in nobody's way.

use std::panic::AssertUnwindSafe;
use std::time::{Duration, Instant};

use pgrx::bgworkers::{BackgroundWorker, SignalWakeFlags};
use pgrx::pg_sys::panic::CaughtError;
use pgrx::{FromDatum, PgTryBuilder, pg_guard, pg_sys};

use super::step::{self, Entry, Step};
use crate::encode::failure::Failure;
use crate::encode::requests;
use crate::ingest::fill::Snapshot;

/// How long it stays when there is nothing to do.
const LINGER: Duration = Duration::from_secs(2);
/// How often it looks at an empty queue.
const LOOK: Duration = Duration::from_millis(50);
/// How often it looks when a prepared transaction has queued rows, which may last.
const PREPARED: Duration = Duration::from_millis(500);
/// The longest pause while the encoder is away.
const LONGEST_PAUSE: Duration = Duration::from_secs(15);
/// Rows in one transaction.
const MOST_ROWS: usize = 256;
/// Transactions are kept below this, so that nobody waits for the database.
const LONGEST_STEP: Duration = Duration::from_secs(1);

/// The worker's entry point.
#[pg_guard]
#[unsafe(no_mangle)]
pub extern "C-unwind" fn pgclip_ingest_main(argument: pg_sys::Datum) {
    handle_terminate();
    BackgroundWorker::attach_signal_handlers(SignalWakeFlags::SIGHUP);
    // SAFETY: the argument is the OID that `start` gave.
    let database = unsafe { pg_sys::Oid::from_datum(argument, false) };
    let Some(database) = database else { return };
    let mut lock = super::lock(database);
    if lock.is_none() && super::is_marked(database) {
        return;
    }
    // SAFETY: a worker's own connection, before anything else. Databases that take none may be
    // among those of which nothing is known.
    unsafe {
        let flags = pg_sys::BGWORKER_BYPASS_ALLOWCONN;
        pg_sys::BackgroundWorkerInitializeConnectionByOid(database, pg_sys::InvalidOid, flags);
        // Each transaction sees what was committed before it.
        pg_sys::DefaultXactIsoLevel = pg_sys::XACT_READ_COMMITTED as i32;
    }
    if lock.is_none() {
        lock = discover(database);
    }
    if lock.is_some() {
        Worker { database, rows: MOST_ROWS, pause: LOOK, lock }.run();
    }
}

/// The lock of a database of which it was not known that it has a queue, if it has one.
fn discover(database: pg_sys::Oid) -> Option<std::fs::File> {
    let found = transaction(|| match step::run(0, &mut Vec::new())? {
        Step::Empty if step::is_prepared()? => Ok(Step::Waiting),
        step => Ok(step),
    });
    match found {
        Ok(Step::Worked | Step::Waiting) => {}
        Ok(Step::Empty | Step::Gone) => return None,
        Ok(Step::Leave) => {
            super::start(database);
            return None;
        }
        Err(failure) => {
            pgrx::warning!("pgclip cannot see whether images are queued: {}", failure.message);
            return None;
        }
    }
    if let Err(error) = super::mark() {
        pgrx::warning!("pgclip cannot note that images are queued: {error}");
    }
    super::lock(database)
}

struct Worker {
    database: pg_sys::Oid,
    /// Rows of the next transaction.
    rows: usize,
    /// The next pause while the encoder is away.
    pause: Duration,
    lock: Option<std::fs::File>,
}

impl Worker {
    fn run(mut self) {
        let mut busy = Instant::now();
        loop {
            if BackgroundWorker::sighup_received() {
                // SAFETY: between transactions, where no setting is in use.
                unsafe { pg_sys::ProcessConfigFile(pg_sys::GucContext::PGC_SIGHUP) };
            }
            match self.attempt() {
                Step::Worked => busy = Instant::now(),
                Step::Waiting => {
                    busy = Instant::now();
                    wait(LOOK);
                }
                Step::Empty if self.lock.is_none() => return,
                Step::Empty if busy.elapsed() < LINGER => wait(LOOK),
                Step::Empty if self.expects() => wait(PREPARED),
                // Whoever queued rows and saw the lock committed before the next look.
                Step::Empty => {
                    self.lock = None;
                    continue;
                }
                Step::Leave => {
                    self.lock = None;
                    super::start(self.database);
                    return;
                }
                Step::Gone => return,
            }
            if self.lock.is_none() {
                self.lock = super::lock(self.database);
                if self.lock.is_none() {
                    return;
                }
            }
        }
    }

    /// Whether a prepared transaction has queued rows: nobody tells when it is committed.
    fn expects(&self) -> bool {
        transaction(step::is_prepared).unwrap_or_default()
    }

    /// A transaction of at most `rows` rows; what fails is found by trying rows one by one.
    fn attempt(&mut self) -> Step {
        let mut taken = Vec::new();
        let (rows, begun) = (self.rows, Instant::now());
        match transaction(|| step::run(rows, &mut taken)) {
            Ok(step) => {
                self.pause = LOOK;
                if matches!(step, Step::Worked) {
                    self.adapt(begun.elapsed());
                }
                step
            }
            Err(failure) => self.failed(failure, taken),
        }
    }

    fn failed(&mut self, failure: Failure, taken: Vec<Entry>) -> Step {
        // An encoder that answers leaves the row to blame, or what its table does.
        let answered = transaction(|| match step::may_stay()? {
            Step::Leave => Ok(Step::Leave),
            _ => requests::status().map(|_| Step::Worked),
        });
        match answered {
            Ok(Step::Leave) => return Step::Leave,
            Ok(_) => {}
            Err(away) => {
                pgrx::log!("pgclip: queued images wait: {}", away.message);
                self.pause = (self.pause * 2).min(LONGEST_PAUSE);
                return self.leave_or(self.pause);
            }
        }
        if self.rows == 1 || taken.is_empty() {
            pgrx::log!("pgclip: a queued image cannot be encoded: {}", failure.message);
        }
        if taken.is_empty() {
            return self.leave_or(LONGEST_PAUSE);
        }
        self.rows = 1;
        if let [entry] = &taken[..]
            && let Err(worse) = transaction(|| step::postpone(entry, &failure))
        {
            pgrx::warning!("pgclip cannot put off a queued image: {}", worse.message);
            return self.leave_or(LONGEST_PAUSE);
        }
        Step::Worked
    }

    /// Waits, but not longer than the database may be had.
    fn leave_or(&self, pause: Duration) -> Step {
        let until = Instant::now() + pause;
        while Instant::now() < until {
            wait(LOOK * 4);
            if let Ok(Step::Leave) = transaction(step::may_stay) {
                return Step::Leave;
            }
        }
        Step::Waiting
    }

    fn adapt(&mut self, took: Duration) {
        self.rows = match took {
            took if took > LONGEST_STEP => (self.rows / 2).max(1),
            took if took < LONGEST_STEP / 4 => (self.rows * 2).min(MOST_ROWS),
            _ => self.rows,
        };
    }
}

/// Runs `work` in a transaction of its own; an error aborts it and is returned.
fn transaction<T>(work: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
    let work = AssertUnwindSafe(|| {
        // SAFETY: no transaction is open.
        unsafe {
            pg_sys::SetCurrentStatementStartTimestamp();
            pg_sys::StartTransactionCommand();
        }
        // Queries that only read use the snapshot that is there.
        let snapshot = Snapshot::take();
        let done = work()?;
        snapshot.release();
        // SAFETY: the transaction that was begun above.
        unsafe { pg_sys::CommitTransactionCommand() };
        Ok(done)
    });
    let result = PgTryBuilder::new(work)
        .catch_others(|error| {
            Err(match error {
                CaughtError::PostgresError(report)
                | CaughtError::ErrorReport(report)
                | CaughtError::RustPanic { ereport: report, .. } => {
                    Failure::new(report.sql_error_code(), report.message())
                }
            })
        })
        .execute();
    if result.is_err() {
        // SAFETY: whatever state the transaction is in.
        unsafe { pg_sys::AbortCurrentTransaction() };
    }
    result
}

fn wait(time: Duration) {
    requests::pause(time);
}

/// SIGTERM ends the worker at the next check for interrupts, as it ends a backend.
fn handle_terminate() {
    unsafe extern "C-unwind" fn terminate(_signal: i32) {
        // SAFETY: what a backend's own handler does: two flags and the latch.
        unsafe {
            (&raw mut pg_sys::InterruptPending).write_volatile(1);
            (&raw mut pg_sys::ProcDiePending).write_volatile(1);
            pg_sys::SetLatch(pg_sys::MyLatch);
        }
    }
    // SAFETY: installs a handler while signals are still blocked.
    unsafe {
        #[cfg(not(feature = "pg18"))]
        pg_sys::pqsignal(libc::SIGTERM, Some(terminate));
        #[cfg(feature = "pg18")]
        pg_sys::pqsignal_be(libc::SIGTERM, Some(terminate));
    }
}
