//! The supervisor as a backend sees it: whether one lives, and how one is started. The worker itself
//! stands in `workers`, which the server enters by the name of its function.

use std::fs::{File, OpenOptions};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use pgrx::bgworkers::{BackgroundWorkerBuilder, BgWorkerStartTime};
use pgrx::pg_sys;

use crate::place;

/// Whether the server loaded the library at its start; backends inherit it.
static PRELOADED: AtomicBool = AtomicBool::new(false);

/// Registers the supervisor when the server is starting.
pub fn init() {
    // SAFETY: a flag of the server's only thread.
    if unsafe { pg_sys::process_shared_preload_libraries_in_progress } {
        PRELOADED.store(true, Ordering::Relaxed);
        register();
    }
}

pub fn is_preloaded() -> bool {
    PRELOADED.load(Ordering::Relaxed)
}

fn builder() -> BackgroundWorkerBuilder {
    BackgroundWorkerBuilder::new("pgclip supervisor")
        .set_type("pgclip supervisor")
        .set_library("pgclip")
        .set_function("pgclip_supervisor_main")
        .enable_spi_access()
        .set_start_time(BgWorkerStartTime::ConsistentState)
}

/// Registers the worker with the server's start. Called while libraries are preloaded.
fn register() {
    builder().set_restart_time(Some(Duration::from_secs(1))).load();
}

/// Starts the worker now. False: there is no free slot for it.
pub fn start() -> bool {
    builder().load_dynamic().is_ok()
}

/// Whether a supervisor lives.
pub fn is_running() -> bool {
    OpenOptions::new()
        .read(true)
        .open(place::LOCK)
        .is_ok_and(|file| !try_lock(&file, libc::LOCK_SH))
}

/// Takes the supervisor's lock, or looks whether it is free.
pub fn try_lock(file: &File, kind: libc::c_int) -> bool {
    // SAFETY: the descriptor is open for the length of the call.
    unsafe { libc::flock(file.as_raw_fd(), kind | libc::LOCK_NB) == 0 }
}
