//! The work of one step: entries of one relation are taken from the queue, their rows encoded and
//! written as the table's owner, and the entries deleted, all or nothing.
//!
//! A step waits for no lock on the relation, and for others not longer than [`limit::LOCK_WAIT`]. What
//! runs code of the owner has a limit of its own, and so has the encoder ([`Phase`]).

use std::collections::BTreeMap;
use std::time::Duration;

use pgrx::pg_sys::errcodes::PgSqlErrorCode as Code;
use pgrx::{PgRelation, Spi, Uuid, pg_sys};

use super::entries::{Entry, Queue, broken, ids};
use super::limit;
use super::tuning::{CODE_LIMIT, ENCODE_LIMIT};
use crate::catalog::extension::{Extension, quoted};
use crate::catalog::identity::Identity;
use crate::error::Failure;
use crate::ingest::errors::Errors;
use crate::ingest::fill::{self, Outcome, Snapshot};
use crate::ingest::key::Key;
use crate::ingest::write::Target;
use crate::models::binding::Binding;

/// What a step is about, for whom it fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Finding rows and writing them, which runs code of the table's owner.
    Code,
    Encode,
}

impl Phase {
    /// Begins a phase with its limit.
    fn enter(&mut self, phase: Self) {
        *self = phase;
        limit::set(phase.limit());
    }

    pub fn limit(self) -> Duration {
        match self {
            Self::Code => CODE_LIMIT,
            Self::Encode => ENCODE_LIMIT,
        }
    }
}

/// What a step came to, if it did not fail.
#[derive(Debug)]
pub enum Done {
    Worked,
    /// The relation is locked, or about to be, against all writers.
    Locked,
}

/// Works on entries of one relation.
pub fn work(
    extension: &Extension,
    relation: pg_sys::Oid,
    entries: &[Entry],
    phase: &mut Phase,
) -> Result<Done, Failure> {
    phase.enter(Phase::Code);
    let queue = Queue { extension };
    if let [entry] = entries
        && entry.is_spent()
    {
        let errors = Errors { extension, relation, embedding: &entry.embedding };
        errors.record(&entry.key, &entry.last_failure(), "")?;
        queue.end(relation)?;
        queue.delete(vec![entry.id])?;
        return Ok(Done::Worked);
    }
    // SAFETY: a lock on any OID, which the end of the transaction gives back.
    if !unsafe { pg_sys::ConditionalLockRelationOid(relation, pg_sys::RowExclusiveLock as i32) } {
        return Ok(Done::Locked);
    }
    let mut columns: BTreeMap<&str, Vec<&Entry>> = BTreeMap::new();
    for entry in entries {
        columns.entry(&entry.embedding).or_default().push(entry);
    }
    fill::begin()?;
    let mut busy = Vec::new();
    for (embedding, entries) in columns {
        busy.extend(column(extension, relation, embedding, &entries, phase)?);
    }
    let done = ids(entries).into_iter().filter(|id| !busy.contains(id)).collect();
    queue.delete(done)?;
    queue.put_off(busy, "row is locked")?;
    queue.forget_lane(relation)?;
    Ok(Done::Worked)
}

/// Encodes the rows of one column; returns the entries whose rows are locked by somebody.
fn column(
    extension: &Extension,
    oid: pg_sys::Oid,
    embedding: &str,
    entries: &[&Entry],
    phase: &mut Phase,
) -> Result<Vec<Uuid>, Failure> {
    // SAFETY: the lock is held; NULL where there is no such relation. The guard closes it, and gives
    // no lock back.
    let relation = unsafe {
        let open = pg_sys::try_relation_open(oid, pg_sys::NoLock as i32);
        if open.is_null() {
            return Ok(Vec::new());
        }
        PgRelation::from_pg_owned(open)
    };
    let errors = Errors { extension, relation: oid, embedding };
    let renamed = || {
        Failure::new(
            Code::ERRCODE_UNDEFINED_COLUMN,
            "a column was renamed or dropped while the row waited to be encoded",
        )
    };
    let number = (relation.tuple_desc().iter())
        .find(|column| !column.attisdropped && column.name() == embedding)
        .map(|column| column.attnum);
    // Not at once: clip_reencode may have renamed the entries too since they were read.
    let number = number.ok_or_else(renamed)?;
    let mut bindings = Binding::all(extension, &relation)?.into_iter();
    let Some(binding) = bindings.find(|binding| binding.embedding == number) else {
        return Ok(Vec::new());
    };
    let target = fill::target(extension, &relation, binding)?;
    let Some(key) = &target.key else { return Ok(Vec::new()) };
    let (known, lost): (Vec<&Entry>, Vec<&Entry>) =
        entries.iter().partition(|entry| key.fits(&entry.key));
    lost.iter().try_for_each(|entry| errors.record(&entry.key, &renamed(), ""))?;
    let snapshot = Snapshot::take();
    let found = find(&target, key, &known)?;
    let tids: Vec<_> = found.iter().map(|(_, tid)| *tid).collect();
    phase.enter(Phase::Encode);
    let encoded = fill::encode(&relation, &target, &tids)?;
    phase.enter(Phase::Code);
    let outcomes = encoded.write(&relation, &target, false)?;
    snapshot.release();
    let pairs = found.iter().zip(&outcomes);
    let busy = pairs.filter(|(_, outcome)| matches!(outcome, Outcome::Busy));
    Ok(busy.map(|((id, _), _)| *id).collect())
}

/// Where the rows of entries lie.
fn find(
    target: &Target,
    key: &Key,
    entries: &[&Entry],
) -> Result<Vec<(Uuid, pg_sys::ItemPointerData)>, Failure> {
    let query = format!(
        "SELECT k.number, t.ctid \
         FROM pg_catalog.unnest($1) WITH ORDINALITY AS k (key, number) \
         JOIN ONLY {} AS t ON {} AND t.{} IS NULL ORDER BY k.number",
        target.table,
        key.matches("k.key::pg_catalog.jsonb"),
        quoted(&target.embedding_name)
    );
    let keys: Vec<String> = entries.iter().map(|entry| entry.key.clone()).collect();
    let mut found = Vec::with_capacity(keys.len());
    let _identity = Identity::assume(target.owner).see_all_rows().write_alike();
    Spi::connect(|client| {
        for row in client.select(&query, None, &[keys.into()])? {
            let at = row.get::<i64>(1)?.unwrap_or_default() as usize;
            if let Some(entry) = entries.get(at.wrapping_sub(1)) {
                found.push((entry.id, row.get(2)?.unwrap_or_default()));
            }
        }
        Ok(())
    })
    .map_err(broken)?;
    Ok(found)
}
