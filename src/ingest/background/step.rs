//! One transaction of the worker: takes entries from the queue in their order, has their rows encoded
//! and written as the table's owner, and deletes the entries, all or nothing.

use std::collections::BTreeMap;

use pgrx::pg_sys::errcodes::PgSqlErrorCode as Code;
use pgrx::{PgRelation, Spi, pg_sys};

use crate::encode::failure::Failure;
use crate::extension::{Extension, Identity, quoted};
use crate::ingest::binding::Binding;
use crate::ingest::errors::Errors;
use crate::ingest::fill::{self, Outcome, Snapshot};
use crate::ingest::key::Key;
use crate::ingest::write::Target;

/// Attempts after which a row is given up.
const ATTEMPTS: i32 = 3;

/// What a transaction came to.
pub enum Step {
    Worked,
    /// Entries are there, none is due.
    Waiting,
    Empty,
    /// Somebody wants the database for himself.
    Leave,
    /// The extension is not in the database any more.
    Gone,
}

/// An entry of the queue.
#[derive(Clone, Debug)]
pub struct Entry {
    id: i64,
    relation: pg_sys::Oid,
    embedding: String,
    key: String,
    attempts: i32,
}

/// Works on at most `limit` entries, which `taken` says when an error passes by.
pub fn run(limit: usize, taken: &mut Vec<Entry>) -> Result<Step, Failure> {
    if let Step::Leave = may_stay()? {
        return Ok(Step::Leave);
    }
    let Some(extension) = extension()? else { return Ok(Step::Gone) };
    let queue = extension.relation("clip_queue");
    *taken = due(&extension, &queue, limit)?;
    if taken.is_empty() {
        let any = format!("SELECT EXISTS (SELECT FROM {queue})");
        let _owner = extension.as_owner();
        return Ok(match Spi::get_one::<bool>(&any).map_err(broken)? {
            Some(true) => Step::Waiting,
            _ => Step::Empty,
        });
    }
    let mut columns: BTreeMap<(u32, &str), Vec<&Entry>> = BTreeMap::new();
    for entry in taken.iter() {
        columns.entry((entry.relation.to_u32(), &entry.embedding)).or_default().push(entry);
    }
    fill::begin()?;
    let mut busy = Vec::new();
    for ((relation, embedding), entries) in columns {
        busy.extend(column(&extension, pg_sys::Oid::from_u32(relation), embedding, &entries)?);
    }
    let done: Vec<i64> = (taken.iter().map(|e| e.id)).filter(|id| !busy.contains(id)).collect();
    let _owner = extension.as_owner();
    let id = "id OPERATOR(pg_catalog.=) ANY ($1)";
    Spi::run_with_args(&format!("DELETE FROM {queue} WHERE {id}"), &[done.into()])
        .map_err(broken)?;
    if !busy.is_empty() {
        let later = format!(
            "UPDATE {queue} SET due = pg_catalog.clock_timestamp() \
             OPERATOR(pg_catalog.+) '1 second'::pg_catalog.interval WHERE {id}"
        );
        Spi::run_with_args(&later, &[busy.into()]).map_err(broken)?;
    }
    Ok(Step::Worked)
}

/// Takes the lock of a session on its database until the transaction ends, if it is to be had.
pub fn may_stay() -> Result<Step, Failure> {
    let tag = pg_sys::LOCKTAG {
        locktag_field1: 0,
        locktag_field2: pg_sys::DatabaseRelationId.to_u32(),
        // SAFETY: set when the worker was connected.
        locktag_field3: unsafe { pg_sys::MyDatabaseId }.to_u32(),
        locktag_field4: 0,
        locktag_type: pg_sys::LockTagType::LOCKTAG_OBJECT as u8,
        locktag_lockmethodid: pg_sys::DEFAULT_LOCKMETHOD as u8,
    };
    // SAFETY: a complete tag, inside of a transaction.
    let taken = unsafe { pg_sys::LockAcquire(&tag, pg_sys::RowExclusiveLock as i32, false, true) };
    Ok(match taken {
        pg_sys::LockAcquireResult::LOCKACQUIRE_NOT_AVAIL => Step::Leave,
        _ => Step::Worked,
    })
}

/// Whether a prepared transaction has written to the queue: such locks have no process.
pub fn is_prepared() -> Result<bool, Failure> {
    let Some(extension) = extension()? else { return Ok(false) };
    let query = "SELECT EXISTS (SELECT FROM pg_catalog.pg_locks AS l WHERE l.pid IS NULL \
         AND l.relation OPERATOR(pg_catalog.=) pg_catalog.to_regclass($1)::pg_catalog.oid \
         AND l.database OPERATOR(pg_catalog.=) (SELECT oid FROM pg_catalog.pg_database \
         WHERE datname OPERATOR(pg_catalog.=) pg_catalog.current_database()))";
    let queue = extension.relation("clip_queue");
    Spi::get_one_with_args::<bool>(query, &[queue.into()])
        .map(Option::unwrap_or_default)
        .map_err(broken)
}

/// Notes a failed attempt at an entry: later again, or given up.
pub fn postpone(entry: &Entry, failure: &Failure) -> Result<(), Failure> {
    let Some(extension) = extension()? else { return Ok(()) };
    let queue = extension.relation("clip_queue");
    let id = "id OPERATOR(pg_catalog.=) $1";
    if entry.attempts + 1 >= ATTEMPTS {
        let errors =
            Errors { extension: &extension, relation: entry.relation, embedding: &entry.embedding };
        errors.record(&entry.key, failure, "")?;
        let _owner = extension.as_owner();
        let delete = format!("DELETE FROM {queue} WHERE {id}");
        return Spi::run_with_args(&delete, &[entry.id.into()]).map_err(broken);
    }
    let later = format!(
        "UPDATE {queue} SET attempts = attempts OPERATOR(pg_catalog.+) 1, \
         due = pg_catalog.clock_timestamp() OPERATOR(pg_catalog.+) \
         pg_catalog.make_interval(secs => $2) WHERE {id}"
    );
    let seconds = 4_f64.powi(entry.attempts);
    let _owner = extension.as_owner();
    Spi::run_with_args(&later, &[entry.id.into(), seconds.into()]).map_err(broken)
}

/// The extension, found by its name, since no function of it is being called.
fn extension() -> Result<Option<Extension>, Failure> {
    let query = "SELECT extnamespace, extowner FROM pg_catalog.pg_extension \
         WHERE extname OPERATOR(pg_catalog.=) 'pgclip'";
    match Spi::get_two::<pg_sys::Oid, pg_sys::Oid>(query) {
        Ok((Some(schema), Some(owner))) => Ok(Some(Extension { schema, owner })),
        Ok(_) | Err(pgrx::spi::Error::InvalidPosition) => Ok(None),
        Err(error) => Err(broken(error)),
    }
}

fn due(extension: &Extension, queue: &str, limit: usize) -> Result<Vec<Entry>, Failure> {
    let query = format!(
        "SELECT id, relation::pg_catalog.oid, embedding::pg_catalog.text, key::pg_catalog.text, \
         attempts FROM {queue} \
         WHERE due IS NULL OR due OPERATOR(pg_catalog.<=) pg_catalog.clock_timestamp() \
         ORDER BY id LIMIT $1"
    );
    let _owner = extension.as_owner();
    Spi::connect(|client| {
        client
            .select(&query, None, &[(limit as i64).into()])?
            .map(|row| {
                Ok(Entry {
                    id: row.get(1)?.unwrap_or_default(),
                    relation: row.get(2)?.unwrap_or(pg_sys::InvalidOid),
                    embedding: row.get(3)?.unwrap_or_default(),
                    key: row.get(4)?.unwrap_or_default(),
                    attempts: row.get(5)?.unwrap_or_default(),
                })
            })
            .collect::<Result<_, pgrx::spi::Error>>()
    })
    .map_err(broken)
}

/// Encodes the rows of one column; returns the entries whose rows are locked by somebody.
fn column(
    extension: &Extension,
    oid: pg_sys::Oid,
    embedding: &str,
    entries: &[&Entry],
) -> Result<Vec<i64>, Failure> {
    // SAFETY: a lock on any OID; NULL where there is no such relation. The guard closes it.
    let relation = unsafe {
        let open = pg_sys::try_relation_open(oid, pg_sys::RowExclusiveLock as i32);
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
    let outcomes = fill::rows(&relation, &target, &tids, false)?;
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
) -> Result<Vec<(i64, pg_sys::ItemPointerData)>, Failure> {
    let query = format!(
        "SELECT k.number, t.ctid \
         FROM pg_catalog.unnest($1) WITH ORDINALITY AS k (key, number) \
         JOIN ONLY {} AS t ON {} AND t.{} IS NULL ORDER BY k.number",
        target.table,
        key.matches("k.key::pg_catalog.jsonb"),
        quoted(&target.embedding_name)
    );
    let keys: Vec<String> = entries.iter().map(|entry| entry.key.clone()).collect();
    let _identity = Identity::assume(target.owner).see_all_rows();
    Spi::connect(|client| {
        client
            .select(&query, None, &[keys.into()])?
            .map(|row| {
                let at = row.get::<i64>(1)?.unwrap_or_default() as usize;
                let id = entries.get(at.wrapping_sub(1)).map_or(0, |entry| entry.id);
                Ok((id, row.get(2)?.unwrap_or_default()))
            })
            .collect::<Result<_, pgrx::spi::Error>>()
    })
    .map_err(broken)
}

fn broken(error: pgrx::spi::Error) -> Failure {
    Failure::new(Code::ERRCODE_INTERNAL_ERROR, "cannot work on the queue").detail(error.to_string())
}
