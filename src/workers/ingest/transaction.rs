//! The worker's transactions, each with its settings and limits. In a file of its own, since nothing
//! of the worker runs outside of them, and none may leave anything behind for the next.

use std::ffi::CStr;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use pgrx::pg_sys::errcodes::PgSqlErrorCode as Code;
use pgrx::pg_sys::panic::CaughtError;
use pgrx::{PgTryBuilder, Spi, pg_sys};

use super::entries::broken;
use super::limit;
use crate::catalog::extension::Extension;
use crate::encoder::requests;
use crate::error::Failure;
use crate::ingest::fill::Snapshot;

/// Why a transaction was not committed.
#[derive(Debug)]
pub enum Stop {
    /// Somebody wants the database for himself.
    Leave,
    /// The extension is not in the database any more.
    Gone,
    Failed {
        failure: Failure,
        /// Whether it took longer than it might.
        over: bool,
    },
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        Self::Failed { failure, over: false }
    }
}

/// What the server's, the database's or the role's configuration might have otherwise: who may do
/// that would stop the worker, or choose what its SQL means. A commit waits for no standby: the queue
/// is replicated as well, so what a standby lacks it does again.
const SETTINGS: [(&CStr, &CStr); 8] = [
    (c"search_path", c"pg_catalog, pg_temp"),
    (c"default_transaction_isolation", c"read committed"),
    (c"default_transaction_read_only", c"off"),
    (c"default_transaction_deferrable", c"off"),
    (c"statement_timeout", c"0"),
    (c"idle_in_transaction_session_timeout", c"0"),
    (c"lock_timeout", limit::LOCK_WAIT),
    (c"synchronous_commit", c"local"),
];

/// Settles what all transactions have in common, once the worker is connected.
pub fn prepare() {
    let set = |name: &CStr, value: &CStr| {
        // SAFETY: two strings, outside of any use of the settings; the names are known.
        unsafe {
            pg_sys::SetConfigOption(
                name.as_ptr(),
                value.as_ptr(),
                pg_sys::GucContext::PGC_SUSET,
                pg_sys::GucSource::PGC_S_OVERRIDE,
            );
        }
    };
    for (name, value) in SETTINGS {
        set(name, value);
    }
    #[cfg(any(feature = "pg17", feature = "pg18"))]
    set(c"transaction_timeout", c"0");
}

/// Runs `work` in a transaction that holds the session's lock on its database, with a limit of time
/// which `work` may set anew; an error aborts it and is returned.
pub fn run<T>(
    limit: Duration,
    work: impl FnOnce(&Extension) -> Result<T, Failure>,
) -> Result<T, Stop> {
    plain(limit, || match may_stay() {
        false => Err(Stop::Leave),
        true => work(&extension()?.ok_or(Stop::Gone)?).map_err(Stop::from),
    })
}

/// The same while the database is wanted: for what must be noted before the worker leaves.
pub fn last<T>(
    limit: Duration,
    work: impl FnOnce(&Extension) -> Result<T, Failure>,
) -> Result<T, Stop> {
    plain(limit, || work(&extension()?.ok_or(Stop::Gone)?).map_err(Stop::from))
}

/// Whether nobody wants the database for himself.
pub fn look_up() -> Result<(), Stop> {
    plain(super::tuning::QUEUE_LIMIT, || if may_stay() { Ok(()) } else { Err(Stop::Leave) })
}

fn plain<T>(limit: Duration, work: impl FnOnce() -> Result<T, Stop>) -> Result<T, Stop> {
    let work = AssertUnwindSafe(|| {
        // SAFETY: no transaction is open.
        unsafe {
            pg_sys::SetCurrentStatementStartTimestamp();
            pg_sys::StartTransactionCommand();
        }
        limit::set(limit);
        // Queries that only read use the snapshot that is there.
        let snapshot = Snapshot::take();
        let done = work()?;
        snapshot.release();
        // What comes now is the server's own, and not to be cut short.
        limit::lift();
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
                    Failure::new(report.sql_error_code(), report.message()).into()
                }
            })
        })
        .execute()
        .map_err(|stop| match stop {
            Stop::Failed { failure, .. } => Stop::Failed { failure, over: limit::is_over() },
            other => other,
        });
    limit::lift();
    // SAFETY: whatever state the transaction is in. Advisory locks that a table's code took for the
    // session are given back; the worker has none of its own.
    unsafe {
        if result.is_err() {
            pg_sys::AbortCurrentTransaction();
        }
        pg_sys::LockReleaseAll(pg_sys::USER_LOCKMETHOD as pg_sys::LOCKMETHODID, true);
    }
    result
}

/// Waits outside of any transaction; a cancel request is none of its business.
pub fn rest(time: Duration) {
    PgTryBuilder::new(|| requests::pause(time)).catch_others(|_| ()).execute();
}

/// Takes the lock of a session on its database until the transaction ends, if it is to be had.
fn may_stay() -> bool {
    let tag = pg_sys::LOCKTAG {
        locktag_field1: 0,
        locktag_field2: pg_sys::DatabaseRelationId.to_u32(),
        // SAFETY: set when the worker was connected.
        locktag_field3: unsafe { pg_sys::MyDatabaseId }.to_u32(),
        locktag_field4: 0,
        locktag_type: pg_sys::LockTagType::LOCKTAG_OBJECT as u8,
        locktag_lockmethodid: pg_sys::DEFAULT_LOCKMETHOD as u8,
    };
    // SAFETY: a complete tag, inside of a transaction.
    let taken = unsafe { pg_sys::LockAcquire(&tag, pg_sys::RowExclusiveLock as i32, false, true) };
    taken != pg_sys::LockAcquireResult::LOCKACQUIRE_NOT_AVAIL
}

/// The extension, found by its name, since no function of it is being called.
fn extension() -> Result<Option<Extension>, Failure> {
    let query = "SELECT extnamespace, extowner FROM pg_catalog.pg_extension \
         WHERE extname OPERATOR(pg_catalog.=) 'pgclip'";
    match Spi::get_two::<pg_sys::Oid, pg_sys::Oid>(query) {
        Ok((Some(schema), Some(owner))) => Ok(Some(Extension { schema, owner })),
        Ok(_) | Err(pgrx::spi::Error::InvalidPosition) => Ok(None),
        Err(error) => Err(broken(error)),
    }
}

/// Whose fault it is that a step failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Somebody holds a lock that it wants, or cancelled it.
    Others,
    /// The server lacks something.
    Server,
    /// It took too long.
    Time,
    /// The row, or what its table does.
    Row,
}

impl Fault {
    pub fn of(failure: &Failure, over: bool) -> Self {
        match failure.code {
            Code::ERRCODE_QUERY_CANCELED if over => Self::Time,
            Code::ERRCODE_QUERY_CANCELED
            | Code::ERRCODE_LOCK_NOT_AVAILABLE
            | Code::ERRCODE_T_R_DEADLOCK_DETECTED
            | Code::ERRCODE_T_R_SERIALIZATION_FAILURE => Self::Others,
            Code::ERRCODE_INSUFFICIENT_RESOURCES
            | Code::ERRCODE_DISK_FULL
            | Code::ERRCODE_OUT_OF_MEMORY
            | Code::ERRCODE_TOO_MANY_CONNECTIONS
            | Code::ERRCODE_CONFIGURATION_LIMIT_EXCEEDED => Self::Server,
            _ => Self::Row,
        }
    }
}
