//! Whether what `clip_error` says of a row still holds. Nobody tells it of rows that are deleted, truncated,
//! moved to another partition or given an embedding by hand, since that would cost each such statement; so
//! the view looks when it is read, and the backfill takes out what is gone.

use std::panic::AssertUnwindSafe;

use pgrx::pg_sys::errcodes::PgSqlErrorCode as Code;
use pgrx::pg_sys::panic::{CaughtError, ErrorReport};
use pgrx::{PgRelation, PgTryBuilder, pg_extern, pg_sys};

use super::binding::Binding;
use super::key::Key;
use crate::encode::failure::Failure;
use crate::extension::{Extension, Identity, namespace_name, quoted};
use crate::{read, rights};

/// What the view `clip_errors` asks of each entry of a table that the caller may read all of.
#[pg_extern(sql = false)]
fn clip_error_stands(
    table: pg_sys::Oid,
    embedding: &str,
    key: &str,
    fcinfo: pg_sys::FunctionCallInfo,
) -> Result<bool, ErrorReport> {
    // For others the answer would say which keys there are.
    if !rights::sees_all_of(table) {
        return Ok(true);
    }
    let keys = [key.to_owned()];
    Ok(among(&Extension::of_call(fcinfo), table, embedding, &keys)?.is_none_or(|of| !of.is_empty()))
}

/// Those of `keys` whose rows have an image and no embedding; `None` where that cannot be told, since the
/// table is locked, say, or the keys are of columns that it had once.
pub fn among(
    extension: &Extension,
    table: pg_sys::Oid,
    embedding: &str,
    keys: &[String],
) -> Result<Option<Vec<String>>, Failure> {
    let lock = pg_sys::AccessShareLock as pg_sys::LOCKMODE;
    // SAFETY: a lock on any OID, kept until the transaction ends; NULL where there is no such relation. The
    // guard closes it.
    let relation = unsafe {
        if !pg_sys::ConditionalLockRelationOid(table, lock) {
            return Ok(None);
        }
        let open = pg_sys::try_relation_open(table, pg_sys::NoLock as pg_sys::LOCKMODE);
        if open.is_null() {
            return Ok(Some(Vec::new()));
        }
        PgRelation::from_pg_owned(open)
    };
    let columns = relation.tuple_desc();
    let name = |number: i16| {
        columns.get(number as usize - 1).map_or("", |column| column.name()).to_owned()
    };
    let bindings = Binding::all(extension, &relation)?;
    let Some(binding) = bindings.iter().find(|b| name(b.embedding) == embedding) else {
        return Ok(Some(Vec::new()));
    };
    let Some(key) = Key::of(table)? else { return Ok(None) };
    if keys.iter().any(|json| !key.fits(json)) {
        return Ok(None);
    }
    let query = format!(
        "SELECT k.key FROM pg_catalog.unnest($1) AS k (key) WHERE EXISTS ( \
         SELECT FROM ONLY {}.{} AS t WHERE t.{} IS NOT NULL AND t.{} IS NULL AND {})",
        quoted(namespace_name(relation.namespace_oid())),
        quoted(relation.name()),
        quoted(name(binding.image)),
        quoted(embedding),
        key.matches("k.key::pg_catalog.jsonb")
    );
    // SAFETY: the relation is open.
    let owner = unsafe { (*(*relation.as_ptr()).rd_rel).relowner };
    Ok(apart(|| {
        let _identity = Identity::assume(owner).see_all_rows().write_alike();
        read::all(&query, &[keys.to_vec().into()], |row| {
            Ok(row.get::<String>(1)?.unwrap_or_default())
        })
    }))
}

/// Runs `work` in a subtransaction; none where it fails, but for a cancelled statement.
fn apart<T>(work: impl FnOnce() -> Result<T, Failure>) -> Option<T> {
    // SAFETY: inside of a transaction; the context and the owner of resources are the caller's again
    // however the subtransaction ends.
    unsafe {
        let (context, owner) = (pg_sys::CurrentMemoryContext, pg_sys::CurrentResourceOwner);
        pg_sys::BeginInternalSubTransaction(std::ptr::null());
        pg_sys::MemoryContextSwitchTo(context);
        let done = PgTryBuilder::new(AssertUnwindSafe(|| work().map_err(|_| None)))
            .catch_others(|error| Err(Some(error)))
            .execute();
        match done {
            Ok(_) => pg_sys::ReleaseCurrentSubTransaction(),
            Err(_) => pg_sys::RollbackAndReleaseCurrentSubTransaction(),
        }
        pg_sys::MemoryContextSwitchTo(context);
        pg_sys::CurrentResourceOwner = owner;
        match done {
            Ok(found) => Some(found),
            Err(Some(error)) if is_cancelled(&error) => error.rethrow(),
            Err(_) => None,
        }
    }
}

fn is_cancelled(error: &CaughtError) -> bool {
    let (CaughtError::PostgresError(report)
    | CaughtError::ErrorReport(report)
    | CaughtError::RustPanic { ereport: report, .. }) = error;
    report.sql_error_code() == Code::ERRCODE_QUERY_CANCELED
}
