//! Time limits of the worker's transactions. Its own file, since it is made of the server's timers,
//! which pgrx does not declare.
//!
//! Past its limit a transaction is cancelled, as `statement_timeout` would do it. Code of a table's
//! owner may catch that, so a while later the worker is terminated, which nobody can catch.

use std::cell::Cell;
use std::time::{Duration, Instant};

use pgrx::pg_sys;

/// Every wait for a lock ends after this: the server's own setting, shorter than its search for
/// deadlocks, so that nobody else is made the victim of one that the worker is part of.
pub const LOCK_WAIT: &std::ffi::CStr = c"500ms";
/// From the cancelling to the termination.
const GRACE: Duration = Duration::from_secs(3);

/// The server's number for `statement_timeout`, the same in all versions that pgclip knows.
const STATEMENT_TIMEOUT: i32 = 3;
/// Any number from `USER_TIMEOUT` on asks for a free one; that is 10 to 13 in these versions.
const NEW_TIMEOUT: i32 = 19;

thread_local! {
    /// The timer that terminates; registered once.
    static LAST: Cell<Option<i32>> = const { Cell::new(None) };
    static LIMIT: Cell<Option<(Instant, Duration)>> = const { Cell::new(None) };
}

// utils/timeout.h. None of these raises an error.
unsafe extern "C" {
    fn RegisterTimeout(id: i32, handler: extern "C" fn()) -> i32;
    fn enable_timeout_after(id: i32, milliseconds: i32);
    fn disable_timeout(id: i32, keep_indicator: bool);
}

/// Gives the work from here on so much time, whatever was left of an earlier limit.
pub fn set(limit: Duration) {
    lift();
    // SAFETY: the server's timers, in a process with a database connection, which has set them up.
    unsafe {
        let last = LAST.get().unwrap_or_else(|| RegisterTimeout(NEW_TIMEOUT, terminate));
        LAST.set(Some(last));
        enable_timeout_after(STATEMENT_TIMEOUT, limit.as_millis() as i32);
        enable_timeout_after(last, (limit + GRACE).as_millis() as i32);
    }
    LIMIT.set(Some((Instant::now(), limit)));
}

/// Takes the limit away, and a cancel request that came of it or of somebody else.
pub fn lift() {
    // SAFETY: as above; timers that are not set may be disabled. The flag is this process's own.
    unsafe {
        if let Some(last) = LAST.get() {
            disable_timeout(last, false);
        }
        disable_timeout(STATEMENT_TIMEOUT, false);
        (&raw mut pg_sys::QueryCancelPending).write_volatile(0);
    }
    LIMIT.set(None);
}

/// Whether the limit that is set is over.
pub fn is_over() -> bool {
    LIMIT.get().is_some_and(|(since, limit)| since.elapsed() >= limit)
}

/// Ends the process at its next check for interrupts. A signal handler calls it: it sets two flags
/// and the latch, as the server's own handlers do.
pub extern "C" fn terminate() {
    // SAFETY: flags and latch of this process.
    unsafe {
        (&raw mut pg_sys::InterruptPending).write_volatile(1);
        (&raw mut pg_sys::ProcDiePending).write_volatile(1);
        pg_sys::SetLatch(pg_sys::MyLatch);
    }
}
