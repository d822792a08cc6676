//! `CALL clip_backfill(table)`: encodes what an attached table still lacks, a batch a transaction.
//!
//! It walks the table by ranges of blocks, since ctids are cheap, bounded and need no index. What it
//! read may change before it is written; [`fill`](super::fill) finds that out. A pass that skipped
//! rows because they were locked is followed by another, which waits for them; the walk ends with a
//! pass that found nothing to do. So it can be cancelled at any moment and called again.

use std::rc::Rc;

use pgrx::datum::DatumWithOid;
use pgrx::pg_sys::errcodes::PgSqlErrorCode as Code;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::{PgRelation, Spi, pg_extern, pg_sys};

use super::errors::Errors;
use super::fill::{self, Outcome, Snapshot};
use super::key::Key;
use super::rights::{check_attributes, check_rights};
use super::write::Target;
use crate::catalog::extension::{Extension, quoted};
use crate::catalog::identity::Identity;
use crate::catalog::read;
use crate::error::Failure;
use crate::limits;
use crate::models::binding::Binding;

/// Blocks that one query looks for rows in.
const STEP: u32 = 256;
/// The fourth field of the advisory lock that a backfill holds; PostgreSQL's own functions use 1, 2.
const LOCK_FIELD: u16 = 3;

#[pg_extern(sql = false)]
fn clip_backfill(
    table: Option<pg_sys::Oid>,
    batch: Option<i32>,
    embedding: Option<&str>,
    retry: Option<bool>,
    fcinfo: pg_sys::FunctionCallInfo,
) -> Result<(), ErrorReport> {
    let (Some(table), Some(batch), Some(embedding), Some(retry)) = (table, batch, embedding, retry)
    else {
        return Err(Failure::new(
            Code::ERRCODE_NULL_VALUE_NOT_ALLOWED,
            "the arguments of clip_backfill must not be NULL",
        )
        .hint("Leave out what has a default: CALL clip_backfill('photos').")
        .into());
    };
    let batch = rows_of_batch(batch)?;
    limits::option("embedding", Some(embedding))?;
    // SAFETY: a call's context is NULL or a node, and the tag says which.
    unsafe { expect_commits(fcinfo, "clip_backfill")? };
    let extension = Extension::of_call(fcinfo);
    run(&extension, table, embedding, batch, retry)?;
    Ok(())
}

/// Checks the argument `batch`.
pub fn rows_of_batch(batch: i32) -> Result<usize, Failure> {
    match batch {
        1..=10_000 => Ok(batch as usize),
        _ => Err(Failure::new(
            Code::ERRCODE_INVALID_PARAMETER_VALUE,
            format!("invalid value for batch: {batch}"),
        )
        .hint("A batch has 1 to 10000 rows.")),
    }
}

/// The whole of a backfill; commits the transaction that it is called in.
pub fn run(
    extension: &Extension,
    table: pg_sys::Oid,
    embedding: &str,
    batch: usize,
    retry: bool,
) -> Result<(), Failure> {
    let column = check_rights(table, embedding)?;
    let _lock = ColumnLock::take(table, column)?;
    let leaves = leaves(table)?;
    let mut total = 0;
    for leaf in &leaves {
        let Some(part) = Part::open(extension, *leaf, embedding)? else { continue };
        check_attributes(table, part.target.attribute_columns())?;
        total += part.count()?;
    }
    let progress = Progress { extension, table, embedding };
    progress.begin(column, total)?;
    commit();
    for leaf in leaves {
        let mut walk = Walk { extension, leaf, embedding, batch, retry, progress: &progress };
        walk.run()?;
    }
    progress.finish()?;
    Ok(())
}

/// One relation with rows, locked against changes of its columns until the transaction ends.
struct Part {
    relation: PgRelation,
    target: Rc<Target>,
}

impl Part {
    /// `None`: the relation is gone, or has no rows of its own.
    fn open(
        extension: &Extension,
        oid: pg_sys::Oid,
        embedding: &str,
    ) -> Result<Option<Self>, Failure> {
        // SAFETY: a lock on any OID; NULL where there is no such relation. The relation is put into
        // a guard that closes it.
        let relation = unsafe {
            let open = pg_sys::try_relation_open(oid, pg_sys::RowExclusiveLock as i32);
            if open.is_null() {
                return Ok(None);
            }
            PgRelation::from_pg_owned(open)
        };
        let number = (relation.tuple_desc().iter())
            .find(|column| !column.attisdropped && column.name() == embedding)
            .map(|column| column.attnum);
        let binding = (Binding::all(extension, &relation)?.into_iter())
            .find(|binding| Some(binding.embedding) == number)
            .ok_or_else(|| {
                Failure::new(
                    Code::ERRCODE_UNDEFINED_OBJECT,
                    format!(
                        "column {} of table {} is not attached",
                        quoted(embedding),
                        relation.name()
                    ),
                )
                .hint("Attach it with clip_attach first.")
            })?;
        let target = fill::target(extension, &relation, binding)?;
        Ok(Some(Self { relation, target }))
    }

    fn image(&self) -> String {
        let at = self.target.binding.image as usize - 1;
        quoted(self.relation.tuple_desc().get(at).map_or("", |column| column.name()))
    }

    fn condition(&self) -> String {
        format!(
            "t.{} IS NOT NULL AND t.{} IS NULL",
            self.image(),
            quoted(&self.target.embedding_name)
        )
    }

    /// Rows that have an image and no embedding.
    fn count(&self) -> Result<i64, Failure> {
        let query = format!(
            "SELECT pg_catalog.count(*) FROM ONLY {} AS t WHERE {}",
            self.target.table,
            self.condition()
        );
        let _identity = Identity::assume(self.target.owner).see_all_rows();
        Spi::get_one::<i64>(&query).map(Option::unwrap_or_default).map_err(broken)
    }

    /// The same rows in blocks `from..from + STEP`, with their keys.
    fn find(&self, from: u32) -> Result<Vec<(pg_sys::ItemPointerData, String)>, Failure> {
        let until = match from.checked_add(STEP) {
            Some(until) => {
                format!("AND t.ctid OPERATOR(pg_catalog.<) '({until},0)'::pg_catalog.tid")
            }
            None => String::new(),
        };
        let query = format!(
            "SELECT t.ctid, {} FROM ONLY {} AS t WHERE t.ctid OPERATOR(pg_catalog.>=) \
             '({from},0)'::pg_catalog.tid \
             {until} AND {}",
            self.target.key.as_ref().map(Key::of_row).unwrap_or_default(),
            self.target.table,
            self.condition()
        );
        let _identity = Identity::assume(self.target.owner).see_all_rows().write_alike();
        Spi::connect(|client| {
            client
                .select(&query, None, &[])?
                .map(|row| {
                    let tid = row.get::<pg_sys::ItemPointerData>(1)?.unwrap_or_default();
                    Ok((tid, row.get::<String>(2)?.unwrap_or_default()))
                })
                .collect::<Result<_, pgrx::spi::Error>>()
        })
        .map_err(broken)
    }

    fn blocks(&self) -> u32 {
        let fork = pg_sys::ForkNumber::MAIN_FORKNUM;
        // SAFETY: the relation is open.
        unsafe { pg_sys::RelationGetNumberOfBlocksInFork(self.relation.as_ptr(), fork) }
    }
}

/// The passes over one relation.
struct Walk<'a> {
    extension: &'a Extension,
    leaf: pg_sys::Oid,
    embedding: &'a str,
    batch: usize,
    retry: bool,
    progress: &'a Progress<'a>,
}

/// What a pass came to.
#[derive(Default)]
struct Pass {
    tried: usize,
    busy: usize,
}

impl Walk<'_> {
    fn run(&mut self) -> Result<(), Failure> {
        let snapshot = Snapshot::take();
        self.errors().prune()?;
        snapshot.release();
        commit();
        let mut wait = false;
        loop {
            let pass = self.pass(wait)?;
            if pass.tried == 0 {
                return Ok(());
            }
            // Rows that failed are tried once.
            self.retry = false;
            wait = pass.busy == pass.tried;
        }
    }

    fn pass(&self, wait: bool) -> Result<Pass, Failure> {
        let mut pass = Pass::default();
        let mut from = 0;
        loop {
            let Some(part) = Part::open(self.extension, self.leaf, self.embedding)? else {
                return Ok(pass);
            };
            if from >= part.blocks() {
                return Ok(pass);
            }
            let snapshot = Snapshot::take();
            let found = self.wanted(&part, part.find(from)?)?;
            snapshot.release();
            drop(part);
            commit();
            for tids in found.chunks(self.batch) {
                let Some(part) = Part::open(self.extension, self.leaf, self.embedding)? else {
                    return Ok(pass);
                };
                fill::begin()?;
                let snapshot = Snapshot::take();
                let outcomes = fill::rows(&part.relation, &part.target, tids, wait)?;
                snapshot.release();
                let count =
                    |wanted: fn(&Outcome) -> bool| outcomes.iter().filter(|o| wanted(o)).count();
                let done = count(|outcome| matches!(outcome, Outcome::Done));
                let failed = count(|outcome| matches!(outcome, Outcome::Failed));
                let busy = count(|outcome| matches!(outcome, Outcome::Busy));
                pass.tried += done + failed + busy;
                pass.busy += busy;
                self.progress.add(done, failed)?;
                drop(part);
                commit();
            }
            let Some(next) = from.checked_add(STEP) else { return Ok(pass) };
            from = next;
        }
    }

    fn errors(&self) -> Errors<'_> {
        Errors { extension: self.extension, relation: self.leaf, embedding: self.embedding }
    }

    /// Leaves out rows that failed before.
    fn wanted(
        &self,
        part: &Part,
        found: Vec<(pg_sys::ItemPointerData, String)>,
    ) -> Result<Vec<pg_sys::ItemPointerData>, Failure> {
        let (tids, keys): (Vec<_>, Vec<_>) = found.into_iter().unzip();
        if self.retry || tids.is_empty() || !part.target.has_errors {
            return Ok(tids);
        }
        let failed = self.errors().among(&keys)?;
        let failed: std::collections::HashSet<String> = failed.into_iter().collect();
        let kept = tids.into_iter().zip(keys).filter(|(_, key)| !failed.contains(key));
        Ok(kept.map(|(tid, _)| tid).collect())
    }
}

/// The column's row in `clip_backfill_run`.
struct Progress<'a> {
    extension: &'a Extension,
    table: pg_sys::Oid,
    embedding: &'a str,
}

impl Progress<'_> {
    fn begin(&self, column: i16, total: i64) -> Result<(), Failure> {
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

    fn add(&self, done: usize, failed: usize) -> Result<(), Failure> {
        let (done, failed) = (done as i64, failed as i64);
        self.update(
            "done = done OPERATOR(pg_catalog.+) $3, failed = failed OPERATOR(pg_catalog.+) $4",
            vec![done.into(), failed.into()],
        )
    }

    fn finish(&self) -> Result<(), Failure> {
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
struct ColumnLock(pg_sys::LOCKTAG);

impl ColumnLock {
    fn take(table: pg_sys::Oid, column: i16) -> Result<Self, Failure> {
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

/// The relations with rows of a table, which may be partitioned.
fn leaves(table: pg_sys::Oid) -> Result<Vec<pg_sys::Oid>, Failure> {
    let found = read::one::<Vec<pg_sys::Oid>>(
        "SELECT pg_catalog.array_agg(c.oid ORDER BY c.oid) FROM pg_catalog.pg_class AS c \
         WHERE c.relkind OPERATOR(pg_catalog.=) 'r'::pg_catalog.\"char\" \
         AND (c.oid OPERATOR(pg_catalog.=) $1 OR c.oid OPERATOR(pg_catalog.=) ANY (ARRAY( \
         SELECT relid::pg_catalog.oid FROM pg_catalog.pg_partition_tree($1::pg_catalog.regclass))))",
        &[table.into()],
    );
    found.map(Option::unwrap_or_default)
}

/// Whether the procedure may commit.
///
/// # Safety
/// `fcinfo` must be a live call.
pub unsafe fn expect_commits(fcinfo: pg_sys::FunctionCallInfo, name: &str) -> Result<(), Failure> {
    // SAFETY: the caller's promise; the tag says what the context is.
    let atomic = unsafe {
        let context = (*fcinfo).context;
        context.is_null()
            || (*context).type_ != pg_sys::NodeTag::T_CallContext
            || (*context.cast::<pg_sys::CallContext>()).atomic
    };
    match atomic {
        false => Ok(()),
        true => Err(Failure::new(
            Code::ERRCODE_ACTIVE_SQL_TRANSACTION,
            format!("{name} cannot run inside a transaction block or a function"),
        )
        .detail("It commits after each batch of rows.")
        .hint(format!("Call it on its own: CALL {name}(...)."))),
    }
}

/// Commits, and begins the next transaction.
pub fn commit() {
    // SAFETY: the procedure was called where it may commit; no SPI connection, snapshot or relation
    // of ours is open.
    unsafe {
        pg_sys::SPI_connect_ext(pg_sys::SPI_OPT_NONATOMIC as i32);
        pg_sys::SPI_commit();
        pg_sys::SPI_start_transaction();
        pg_sys::SPI_finish();
    }
}

fn broken(error: pgrx::spi::Error) -> Failure {
    Failure::new(Code::ERRCODE_INTERNAL_ERROR, "cannot fill a table").detail(error.to_string())
}
