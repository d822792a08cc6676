//! What an index reports when its pages or the statement are not as they should be. In one file, so
//! that the same fault gets the same code, and always the index's name and the block.

use std::convert::Infallible;

use pgclip_hnsw::Error;
use pgrx::pg_sys;
use pgrx::pg_sys::errcodes::PgSqlErrorCode as Code;

use crate::error::Failure;

/// The name of an open relation.
pub fn name(relation: pg_sys::Relation) -> String {
    // SAFETY: the relation is open, and its name ends within its field.
    unsafe {
        std::ffi::CStr::from_ptr((*(*relation).rd_rel).relname.data.as_ptr())
            .to_string_lossy()
            .into_owned()
    }
}

/// A block that does not hold what an index of ours has there.
pub fn corrupt(index: pg_sys::Relation, block: u32, what: &str) -> ! {
    Failure::new(
        Code::ERRCODE_INDEX_CORRUPTED,
        format!("index \"{}\" is damaged at block {block}: {what}", name(index)),
    )
    .hint("Build it again with REINDEX; the table is not affected.")
    .raise()
}

/// A row that no table has: its block would be past the end.
pub fn beyond_the_table(index: pg_sys::Relation, block: u32) -> ! {
    Failure::new(
        Code::ERRCODE_INDEX_CORRUPTED,
        format!(
            "index \"{}\" is damaged: it names a row in block {block}, past the end of the table",
            name(index)
        ),
    )
    .hint("Build it again with REINDEX; the table is not affected.")
    .raise()
}

/// Takes the result of an algorithm on the graph; damage is raised.
pub fn or_raise<T>(index: pg_sys::Relation, result: Result<T, Error<Infallible>>) -> T {
    match result {
        Ok(value) => value,
        Err(Error::Store(never)) => match never {},
        Err(Error::Corrupt { id, what }) => {
            corrupt(index, id.block, &format!("item {}: {what}", id.item))
        }
    }
}

/// A vector of other dimensions than the index's.
pub fn dimensions(index: pg_sys::Relation, expected: usize, found: usize) -> Failure {
    Failure::new(
        Code::ERRCODE_DATA_EXCEPTION,
        format!("expected {expected} dimensions, not {found}, in index \"{}\"", name(index)),
    )
    .hint("All embeddings of an index have the same dimensions. Where the column declares none, VACUUM forgets those of rows that are all gone.")
}
