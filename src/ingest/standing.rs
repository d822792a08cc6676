//! Whether what `clip_error` says of a row still holds. Nobody tells it of rows that are deleted, truncated,
//! moved to another partition or given an embedding by hand, since that would cost each such statement; so
//! the view looks when it is read, and the backfill takes out what is gone.

use std::collections::{HashSet, VecDeque};
use std::panic::AssertUnwindSafe;

use pgrx::datum::TimestampWithTimeZone;
use pgrx::iter::TableIterator;
use pgrx::pg_sys::errcodes::PgSqlErrorCode as Code;
use pgrx::pg_sys::panic::CaughtError;
use pgrx::{PgRelation, PgTryBuilder, name, pg_extern, pg_sys};

use super::key::Key;
use crate::catalog::extension::{Extension, namespace_name, quoted};
use crate::catalog::identity::Identity;
use crate::catalog::{read, rights};
use crate::error::Failure;
use crate::models::binding::Binding;

/// Entries that are looked at at once.
const PAGE: i64 = 1000;

/// What `clip_error` says of a row: its key, the reason, SQLSTATE and model, and when.
type Entry = (String, String, String, String, TimestampWithTimeZone);

/// The entries of a column that hold, for the view `clip_errors`: to who may read all of the table.
#[pg_extern(sql = false)]
#[allow(clippy::type_complexity)]
fn clip_standing_errors(
    table: pg_sys::Oid,
    embedding: &str,
    fcinfo: pg_sys::FunctionCallInfo,
) -> TableIterator<
    'static,
    (
        name!(key, String),
        name!(reason, String),
        name!(sqlstate, String),
        name!(model, String),
        name!(failed_at, TimestampWithTimeZone),
    ),
> {
    let mut pages = Pages::of(&Extension::of_call(fcinfo), table, embedding);
    pages.done = !rights::sees_all_of(table);
    let mut entries = VecDeque::new();
    TableIterator::new(std::iter::from_fn(move || {
        while entries.is_empty()
            && let Some(page) = pages.next().unwrap_or_else(|failure| failure.raise())
        {
            let holds = |entry: &Entry| page.standing.as_ref().is_none_or(|s| s.contains(&entry.0));
            entries.extend(page.all.into_iter().filter(holds));
        }
        entries.pop_front()
    }))
}

/// The entries of a column, page by page: there may be many.
pub struct Pages {
    extension: Extension,
    table: pg_sys::Oid,
    embedding: String,
    /// By what the last entry of the page before is ordered.
    after: Option<String>,
    done: bool,
}

/// Some entries.
pub struct Page {
    all: Vec<Entry>,
    /// Keys of those that hold, where that can be told.
    standing: Option<HashSet<String>>,
}

impl Page {
    /// Keys of those that do not hold; none where that cannot be told.
    pub fn gone(self) -> Vec<String> {
        let Some(standing) = self.standing else { return Vec::new() };
        let keys = self.all.into_iter().map(|entry| entry.0);
        keys.filter(|key| !standing.contains(key)).collect()
    }
}

impl Pages {
    pub fn of(extension: &Extension, table: pg_sys::Oid, embedding: &str) -> Self {
        let (extension, embedding) = (*extension, embedding.to_owned());
        Self { extension, table, embedding, after: None, done: false }
    }

    pub fn next(&mut self) -> Result<Option<Page>, Failure> {
        if self.done {
            return Ok(None);
        }
        pgrx::check_for_interrupts!();
        let query = format!(
            "SELECT e.key::pg_catalog.text, e.reason, e.sqlstate, e.model, e.failed_at, \
             pg_catalog.md5(e.key::pg_catalog.text) FROM {} AS e \
             WHERE e.relation::pg_catalog.oid OPERATOR(pg_catalog.=) $1 \
             AND e.embedding OPERATOR(pg_catalog.=) $2::pg_catalog.name \
             AND ($3 IS NULL OR pg_catalog.md5(e.key::pg_catalog.text) OPERATOR(pg_catalog.>) $3) \
             ORDER BY 6 LIMIT {PAGE}",
            self.extension.relation("clip_error")
        );
        let arguments =
            [self.table.into(), self.embedding.as_str().into(), self.after.as_deref().into()];
        let owner = self.extension.as_owner();
        let found = read::all(&query, &arguments, |row| {
            let text = |at| row.get::<String>(at).map(Option::unwrap_or_default);
            let at = row.get(5)?.unwrap_or_else(TimestampWithTimeZone::negative_infinity);
            Ok(((text(1)?, text(2)?, text(3)?, text(4)?, at), text(6)?))
        })?;
        drop(owner);
        self.done = found.len() < PAGE as usize;
        self.after = found.last().map(|(_, order)| order.clone());
        let all: Vec<Entry> = found.into_iter().map(|(entry, _)| entry).collect();
        if all.is_empty() {
            return Ok(None);
        }
        let keys: Vec<String> = all.iter().map(|entry| entry.0.clone()).collect();
        let standing = among(&self.extension, self.table, &self.embedding, keys)?;
        Ok(Some(Page { all, standing: standing.map(HashSet::from_iter) }))
    }
}

/// Those of `keys` whose rows have an image and no embedding; `None` where that cannot be told, since the
/// table is locked, say, or the keys are of columns that it had once.
fn among(
    extension: &Extension,
    table: pg_sys::Oid,
    embedding: &str,
    keys: Vec<String>,
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
    let column = |number: i16| {
        columns.get(number as usize - 1).map_or("", |column| column.name()).to_owned()
    };
    let bindings = Binding::all(extension, &relation)?;
    let Some(binding) = bindings.iter().find(|b| column(b.embedding) == embedding) else {
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
        quoted(column(binding.image)),
        quoted(embedding),
        key.matches("k.key::pg_catalog.jsonb")
    );
    // SAFETY: the relation is open.
    let owner = unsafe { (*(*relation.as_ptr()).rd_rel).relowner };
    Ok(apart(|| {
        let _identity = Identity::assume(owner).see_all_rows().write_alike();
        read::all(&query, &[keys.into()], |row| Ok(row.get::<String>(1)?.unwrap_or_default()))
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
