//! Everything between SQL and the encoder process: the worker that keeps it running, the
//! connection to it, the models it may be asked for, and the functions that encode.
//!
//! [`supervisor`] runs the process and [`watch`]es it, [`client`] talks to it, [`requests`] turns images and texts
//! into requests and embeddings, [`labels`] turns the values of attributes ([`lexicon`]) into directions;
//! [`models`] knows the registered models, [`registry`] changes
//! them, [`roots`] knows the directories that files are read from. ONNX Runtime is in none of these: it lives in the encoder alone.

mod client;
pub mod failure;
mod functions;
pub mod labels;
pub mod lexicon;
pub mod models;
pub mod place;
mod process;
mod registry;
pub mod requests;
pub mod roots;
mod socket;
mod supervisor;
mod watch;

use std::sync::atomic::{AtomicBool, Ordering};

use pgrx::pg_sys;

/// Whether the server loaded the library at its start; backends inherit it.
static PRELOADED: AtomicBool = AtomicBool::new(false);

/// Registers the supervisor when the server is starting.
pub fn init() {
    // SAFETY: a flag of the server's only thread.
    if unsafe { pg_sys::process_shared_preload_libraries_in_progress } {
        PRELOADED.store(true, Ordering::Relaxed);
        supervisor::register();
    }
}

fn is_preloaded() -> bool {
    PRELOADED.load(Ordering::Relaxed)
}
