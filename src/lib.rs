//! Text-to-image retrieval inside PostgreSQL.
//!
//! This package is the only code that sees pgrx. Its modules, in the order data flows through
//! them: the [`embedding`] type, [`encode`] with the encoder process, [`ingest`] by triggers, the
//! [`index`], [`search`]. [`settings`] and [`extension`] are what they all need.

#![allow(clippy::result_large_err, reason = "pgrx raises its ErrorReport by value")]

mod embedding;
mod encode;
mod extension;
mod index;
mod ingest;
mod read;
mod search;
mod settings;

pgrx::pg_module_magic!();

/// Called once when a server process loads the library.
#[pgrx::pg_guard]
extern "C-unwind" fn _PG_init() {
    embedding::init();
    settings::init();
    encode::init();
    index::init();
}
