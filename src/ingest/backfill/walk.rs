//! The walk over a table by ranges of blocks, since ctids are cheap, bounded and need no index. What
//! it read may change before it is written; [`fill`] finds that out. A pass that skipped rows because
//! they were locked is followed by another, which waits for them; the walk ends with a pass that found
//! nothing to do.

use std::collections::HashSet;
use std::rc::Rc;

use pgrx::pg_sys::errcodes::PgSqlErrorCode as Code;
use pgrx::{PgRelation, Spi, pg_sys};

use super::broken;
use super::progress::Progress;
use crate::catalog::extension::{Extension, quoted};
use crate::catalog::identity::Identity;
use crate::error::Failure;
use crate::ingest::commits::commit;
use crate::ingest::errors::Errors;
use crate::ingest::fill::{self, Outcome, Snapshot};
use crate::ingest::key::Key;
use crate::ingest::write::Target;
use crate::models::binding::Binding;

/// Blocks that one query looks for rows in.
const STEP: u32 = 256;

/// One relation with rows, locked against changes of its columns until the transaction ends.
pub struct Part {
    relation: PgRelation,
    pub target: Rc<Target>,
}

impl Part {
    /// `None`: the relation is gone, or has no rows of its own.
    pub fn open(
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
    pub fn count(&self) -> Result<i64, Failure> {
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
pub struct Walk<'a> {
    pub extension: &'a Extension,
    pub leaf: pg_sys::Oid,
    pub embedding: &'a str,
    pub batch: usize,
    pub retry: bool,
    pub progress: &'a Progress<'a>,
}

/// What a pass came to.
#[derive(Default)]
struct Pass {
    tried: usize,
    busy: usize,
}

impl Walk<'_> {
    pub fn run(&mut self) -> Result<(), Failure> {
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
        let failed: HashSet<String> = failed.into_iter().collect();
        let kept = tids.into_iter().zip(keys).filter(|(_, key)| !failed.contains(key));
        Ok(kept.map(|(tid, _)| tid).collect())
    }
}
