//! Text-to-image retrieval inside PostgreSQL.
//!
//! This package is the only code that sees pgrx. Its modules, in the order data flows through
//! them: the [`embedding`] type, the [`models`] that make one, the way to the [`encoder`] process,
//! [`attributes`] that tell what a picture shows, [`ingest`] by triggers, the [`index`], [`search`], and
//! the [`workers`] beside all statements. None imports what stands behind it, which a test of
//! `crates/testkit` holds. [`error`], [`limits`], [`context`], [`settings`], [`place`] and the [`catalog`]
//! are what they all need.

#![allow(clippy::result_large_err, reason = "pgrx raises its ErrorReport by value")]

mod attributes;
mod catalog;
mod context;
mod embedding;
mod encoder;
mod error;
mod index;
mod ingest;
mod limits;
mod models;
mod place;
mod search;
mod settings;
mod workers;

pgrx::pg_module_magic!();

/// Called once when a server process loads the library.
#[pgrx::pg_guard]
extern "C-unwind" fn _PG_init() {
    keep_backtraces_to_ourselves();
    embedding::init();
    settings::init();
    encoder::launch::init();
    index::init();
}

/// pgrx puts the backtrace of an error into its DETAIL where `RUST_BACKTRACE` is set: paths of the
/// machine that built the library, for every user to read. Whether to capture any is decided once, by
/// the first capture in a process, and for the processes that it forks.
fn keep_backtraces_to_ourselves() {
    const VARIABLE: &str = "RUST_LIB_BACKTRACE";
    let before = std::env::var_os(VARIABLE);
    // SAFETY: a server process has one thread when it loads a library.
    unsafe { std::env::set_var(VARIABLE, "0") };
    let _ = std::backtrace::Backtrace::capture();
    // SAFETY: as above.
    unsafe {
        match before {
            Some(value) => std::env::set_var(VARIABLE, value),
            None => std::env::remove_var(VARIABLE),
        }
    }
}
