//! The queue of rows that the worker encodes after their transaction: the table `clip_queue`, written
//! by that transaction. So nothing is queued that was rolled back, and nothing lost that was
//! committed.

use std::cell::Cell;
use std::rc::Rc;

use pgrx::pg_sys::errcodes::PgSqlErrorCode as Code;
use pgrx::{Spi, pg_sys};

use super::key::Key;
use super::launch;
use super::row::Row;
use super::write::Target;
use crate::catalog::extension::quoted;
use crate::catalog::identity::Identity;
use crate::error::Failure;
use crate::place;

thread_local! {
    /// Whether this transaction queued rows.
    static QUEUED: Cell<bool> = const { Cell::new(false) };
}

/// Queues rows by their keys.
pub fn push(rows: &[Row]) -> Result<(), Failure> {
    for same in rows.chunk_by(|a, b| Rc::ptr_eq(&a.target, &b.target)) {
        let target = &same[0].target;
        let keys = keys(target, same)?;
        if keys.is_empty() {
            continue;
        }
        let query = format!(
            "INSERT INTO {} (relation, embedding, key) \
             SELECT $1, $2, k::pg_catalog.jsonb FROM pg_catalog.unnest($3) AS k",
            target.extension.relation("clip_queue")
        );
        let _owner = target.extension.as_owner();
        Spi::run_with_args(
            &query,
            &[target.relation.into(), target.embedding_name.as_str().into(), keys.into()],
        )
        .map_err(broken)?;
        QUEUED.set(true);
    }
    Ok(())
}

/// The keys of rows that still want an embedding.
fn keys(target: &Target, rows: &[Row]) -> Result<Vec<String>, Failure> {
    let tids: Vec<pg_sys::ItemPointerData> = rows.iter().filter_map(Row::latest).collect();
    let query = format!(
        "SELECT pg_catalog.array_agg({}) FROM ONLY {} AS t \
         WHERE t.ctid OPERATOR(pg_catalog.=) ANY ($1) AND t.{} IS NULL",
        target.key.as_ref().map(Key::of_row).unwrap_or_default(),
        target.table,
        quoted(&target.embedding_name)
    );
    let _identity = Identity::assume(target.owner).see_all_rows().write_alike();
    let found = Spi::get_one_with_args::<Vec<String>>(&query, &[tids.into()]);
    found.map(Option::unwrap_or_default).map_err(broken)
}

/// Leaves word that this database has a queue, and has a worker there, before the transaction that
/// filled it commits: an error after the commit would end the server.
pub fn before_commit() {
    if !QUEUED.get() {
        return;
    }
    if let Err(error) = launch::mark() {
        Failure::new(Code::ERRCODE_IO_ERROR, "cannot note that images wait to be encoded")
            .detail(format!("{error}."))
            .hint(place::REMEDY)
            .raise();
    }
    launch::wake();
}

/// The transaction has ended, one way or the other.
pub fn ended() {
    QUEUED.set(false);
}

fn broken(error: pgrx::spi::Error) -> Failure {
    Failure::new(Code::ERRCODE_INTERNAL_ERROR, "cannot queue rows").detail(error.to_string())
}
