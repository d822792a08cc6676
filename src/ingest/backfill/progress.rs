//! What others see of a backfill: its row in `clip_backfill_run`, and the lock that says that it runs.

use pgrx::datum::DatumWithOid;
use pgrx::pg_sys::errcodes::PgSqlErrorCode as Code;
use pgrx::{Spi, pg_sys};

use super::broken;
use crate::catalog::extension::Extension;
use crate::error::Failure;

/// The fourth field of the advisory lock that a backfill holds; PostgreSQL's own functions use 1, 2.
const LOCK_FIELD: u16 = 3;

/// The column's row in `clip_backfill_run`.
pub struct Progress<'a> {
    pub extension: &'a Extension,
    pub table: pg_sys::Oid,
    pub embedding: &'a str,
}

impl Progress<'_> {
    pub fn begin(&self, column: i16, total: i64) -> Result<(), Failure> {
        let query = format!(
            "INSERT INTO {} (relation, embedding, embedding_number, total) \
             VALUES ($1::pg_catalog.regclass, $2::pg_catalog.name, $3, $4) \
             ON CONFLICT (relation, embedding) DO UPDATE SET total = excluded.total, done = 0, \
             failed = 0, embedding_number = excluded.embedding_number, started = excluded.started, \
             updated = excluded.updated, finished = false",
            self.extension.relation("clip_backfill_run")
        );
        self.run(&query, vec![column.into(), total.into()])
    }

    pub fn add(&self, done: usize, failed: usize) -> Result<(), Failure> {
        let (done, failed) = (done as i64, failed as i64);
        self.update(
            "done = done OPERATOR(pg_catalog.+) $3, failed = failed OPERATOR(pg_catalog.+) $4",
            vec![done.into(), failed.into()],
        )
    }

    pub fn finish(&self) -> Result<(), Failure> {
        self.update("finished = true", Vec::new())
    }

    fn update(&self, change: &str, more: Vec<DatumWithOid>) -> Result<(), Failure> {
        let query = format!(
            "UPDATE {} SET updated = pg_catalog.clock_timestamp(), {change} \
             WHERE relation OPERATOR(pg_catalog.=) $1 AND embedding OPERATOR(pg_catalog.=) $2",
            self.extension.relation("clip_backfill_run")
        );
        self.run(&query, more)
    }

    fn run(&self, query: &str, more: Vec<DatumWithOid>) -> Result<(), Failure> {
        let mut arguments: Vec<DatumWithOid> = vec![self.table.into(), self.embedding.into()];
        arguments.extend(more);
        let _owner = self.extension.as_owner();
        Spi::run_with_args(query, &arguments).map_err(broken)
    }
}

/// Held over commits: one backfill a column, and the sign that it runs.
pub struct ColumnLock(pg_sys::LOCKTAG);

impl ColumnLock {
    pub fn take(table: pg_sys::Oid, column: i16) -> Result<Self, Failure> {
        let tag = pg_sys::LOCKTAG {
            // SAFETY: set when the session began.
            locktag_field1: unsafe { pg_sys::MyDatabaseId }.to_u32(),
            locktag_field2: table.to_u32(),
            locktag_field3: column as u32,
            locktag_field4: LOCK_FIELD,
            locktag_type: pg_sys::LockTagType::LOCKTAG_ADVISORY as u8,
            locktag_lockmethodid: pg_sys::USER_LOCKMETHOD as u8,
        };
        // SAFETY: a complete tag; the lock belongs to the session until `drop`, or its end.
        let taken = unsafe { pg_sys::LockAcquire(&tag, pg_sys::ExclusiveLock as i32, true, true) };
        if taken == pg_sys::LockAcquireResult::LOCKACQUIRE_NOT_AVAIL {
            return Err(Failure::new(
                Code::ERRCODE_LOCK_NOT_AVAILABLE,
                "a backfill of this column is running already",
            )
            .hint("The view clip_progress shows how far it is."));
        }
        Ok(Self(tag))
    }
}

impl Drop for ColumnLock {
    fn drop(&mut self) {
        // SAFETY: the session holds it.
        unsafe { pg_sys::LockRelease(&self.0, pg_sys::ExclusiveLock as i32, true) };
    }
}
