//! Text-to-image retrieval inside PostgreSQL.
//!
//! This package is the only code that sees pgrx. Its modules, in the order data flows through
//! them: the [`embedding`] type.

mod embedding;

pgrx::pg_module_magic!();

/// Called once when a server process loads the library.
#[pgrx::pg_guard]
extern "C-unwind" fn _PG_init() {
    embedding::init();
}
