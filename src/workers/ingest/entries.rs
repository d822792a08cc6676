//! The worker's side of the tables `clip_queue` and `clip_queue_lane`: which relations have entries
//! that are due, taking some, and what is noted of those that came to nothing. All SQL about them but
//! the work itself stands here.
//!
//! Nobody else writes the rows that are written here, but for `clip_reencode` under the relation's
//! strongest lock, so none of this waits for a user's lock.

use std::collections::HashSet;

use pgrx::pg_sys::errcodes::PgSqlErrorCode as Code;
use pgrx::{Spi, Uuid, pg_sys};

use super::tuning::{ATTEMPTS, FIRST_PAUSE, LONGEST_PAUSE};
use super::turns::Lane;
use crate::catalog::extension::Extension;
use crate::error::Failure;
use crate::ingest::errors::sqlstate;

/// An entry of the queue.
#[derive(Clone, Debug)]
pub struct Entry {
    pub id: Uuid,
    pub embedding: String,
    pub key: String,
    pub attempts: i32,
    /// Whether it is tried alone.
    pub suspect: bool,
    /// Why it was put off last, and the SQLSTATE.
    pub reason: String,
    pub sqlstate: String,
}

impl Entry {
    /// Whether it was tried often enough.
    pub fn is_spent(&self) -> bool {
        self.attempts >= ATTEMPTS
    }

    /// What `clip_errors` is to say of it.
    pub fn last_failure(&self) -> Failure {
        Failure::new(code_of(&self.sqlstate), self.reason.clone())
    }
}

/// The queue's tables, worked on with the rights of the extension's owner.
#[derive(Clone, Copy, Debug)]
pub struct Queue<'a> {
    pub extension: &'a Extension,
}

/// What there is to do.
#[derive(Debug)]
pub struct Look {
    /// Relations with an entry that is due, of owners that are not put off.
    pub ready: Vec<Lane>,
    /// Whether there is any entry.
    pub any: bool,
}

impl Queue<'_> {
    fn table(&self) -> String {
        self.extension.relation("clip_queue")
    }

    fn lanes(&self) -> String {
        self.extension.relation("clip_queue_lane")
    }

    /// Looks at each relation that has entries, not at each entry. One that is gone counts as of an
    /// owner of its own, and is ready.
    pub fn look(&self) -> Result<Look, Failure> {
        let (queue, lanes) = (self.table(), self.lanes());
        let due = |suspect: &str| {
            format!(
                "EXISTS (SELECT FROM {queue} AS e WHERE e.relation OPERATOR(pg_catalog.=) n.relation \
                 AND e.suspect OPERATOR(pg_catalog.=) {suspect} AND e.due IS NULL) \
                 OR EXISTS (SELECT FROM {queue} AS e WHERE e.relation OPERATOR(pg_catalog.=) n.relation \
                 AND e.suspect OPERATOR(pg_catalog.=) {suspect} \
                 AND e.due OPERATOR(pg_catalog.<=) pg_catalog.now())"
            )
        };
        let query = format!(
            "WITH RECURSIVE n (relation) AS ( \
                 (SELECT q.relation::pg_catalog.oid FROM {queue} AS q ORDER BY q.relation LIMIT 1) \
                 UNION ALL \
                 SELECT (SELECT q.relation::pg_catalog.oid FROM {queue} AS q \
                     WHERE q.relation OPERATOR(pg_catalog.>) n.relation ORDER BY q.relation LIMIT 1) \
                 FROM n WHERE n.relation IS NOT NULL) \
             SELECT n.relation, c.relowner, (l.due IS NULL OR l.due OPERATOR(pg_catalog.<=) pg_catalog.now()) \
             AND ({} OR {}), l.deadly AND l.due OPERATOR(pg_catalog.>) pg_catalog.now() \
             FROM n LEFT JOIN pg_catalog.pg_class AS c ON c.oid OPERATOR(pg_catalog.=) n.relation \
             LEFT JOIN {lanes} AS l ON l.relation OPERATOR(pg_catalog.=) n.relation \
             WHERE n.relation IS NOT NULL",
            due("false"),
            due("true")
        );
        let mut found = Vec::new();
        let _owner = self.extension.as_owner();
        Spi::connect(|client| {
            for row in client.select(&query, None, &[])? {
                let relation = row.get(1)?.unwrap_or(pg_sys::InvalidOid);
                let owner = row.get(2)?.unwrap_or(pg_sys::InvalidOid);
                let ready = row.get::<bool>(3)?.unwrap_or_default();
                let deadly = row.get::<bool>(4)?.unwrap_or_default();
                found.push((Lane { relation, owner }, ready, deadly));
            }
            Ok(())
        })
        .map_err(broken)?;
        let any = !found.is_empty();
        let off: HashSet<u32> = (found.iter().filter(|(.., deadly)| *deadly))
            .map(|(lane, ..)| lane.owner.to_u32())
            .collect();
        let ready = (found.iter())
            .filter(|(lane, ready, _)| *ready && !off.contains(&lane.owner.to_u32()))
            .map(|(lane, ..)| *lane)
            .collect();
        Ok(Look { ready, any })
    }

    /// Takes at most `limit` entries of a relation that are due, or one that may be at fault where
    /// there is one and `alone` is asked for, or nothing else is there. They are noted as begun with:
    /// committed before the work, so that whoever dies over them has tried them.
    pub fn take(
        &self,
        relation: pg_sys::Oid,
        limit: usize,
        alone: bool,
    ) -> Result<Vec<Entry>, Failure> {
        let kinds = if alone { [true, false] } else { [false, true] };
        let mut taken = Vec::new();
        for suspect in kinds {
            taken = self.due(relation, suspect, if suspect { 1 } else { limit })?;
            if !taken.is_empty() {
                break;
            }
        }
        if taken.is_empty() {
            return Ok(taken);
        }
        let begin = format!(
            "INSERT INTO {} AS l (relation, begun) VALUES ($1, $2) \
             ON CONFLICT (relation) DO UPDATE SET begun = excluded.begun",
            self.lanes()
        );
        let _owner = self.extension.as_owner();
        Spi::run_with_args(&begin, &[relation.into(), ids(&taken).into()]).map_err(broken)?;
        Ok(taken)
    }

    fn due(
        &self,
        relation: pg_sys::Oid,
        suspect: bool,
        limit: usize,
    ) -> Result<Vec<Entry>, Failure> {
        let part = |due: &str| {
            format!(
                "(SELECT q.id, q.embedding::pg_catalog.text AS embedding, \
                 q.key::pg_catalog.text AS key, q.attempts, q.reason, q.sqlstate FROM {} AS q \
                 WHERE q.relation OPERATOR(pg_catalog.=) $1 AND q.suspect OPERATOR(pg_catalog.=) $2 \
                 AND {due} LIMIT $3)",
                self.table()
            )
        };
        let query = format!(
            "SELECT e.id, e.embedding, e.key, e.attempts, e.reason, e.sqlstate \
             FROM ({} UNION ALL {}) AS e LIMIT $3",
            part("q.due OPERATOR(pg_catalog.<=) pg_catalog.now() ORDER BY q.due"),
            part("q.due IS NULL")
        );
        let _owner = self.extension.as_owner();
        Spi::connect(|client| {
            client
                .select(&query, None, &[relation.into(), suspect.into(), (limit as i64).into()])?
                .map(|row| {
                    Ok(Entry {
                        id: row.get(1)?.unwrap_or_else(|| Uuid::from_bytes([0; 16])),
                        embedding: row.get(2)?.unwrap_or_default(),
                        key: row.get(3)?.unwrap_or_default(),
                        attempts: row.get(4)?.unwrap_or_default(),
                        suspect,
                        reason: row.get(5)?.unwrap_or_default(),
                        sqlstate: row.get(6)?.unwrap_or_default(),
                    })
                })
                .collect::<Result<_, pgrx::spi::Error>>()
        })
        .map_err(broken)
    }

    /// Takes entries out of the queue, in the transaction that did what they are about.
    pub fn delete(&self, done: Vec<Uuid>) -> Result<(), Failure> {
        self.change(format!("DELETE FROM {} AS q WHERE {OURS}", self.table()), done)
    }

    /// Puts off entries whose rows are locked.
    pub fn put_off(&self, busy: Vec<Uuid>, reason: &str) -> Result<(), Failure> {
        if busy.is_empty() {
            return Ok(());
        }
        let later = format!(
            "UPDATE {} AS q SET due = {}, pauses = {}, reason = $2, sqlstate = '55P03' WHERE {OURS}",
            self.table(),
            after("q.pauses"),
            one_more("q.pauses"),
        );
        let _owner = self.extension.as_owner();
        Spi::run_with_args(&later, &[busy.into(), reason.into()]).map_err(broken)
    }

    /// Forgets that a relation was put off: a step succeeded.
    pub fn forget_lane(&self, relation: pg_sys::Oid) -> Result<(), Failure> {
        let delete = format!(
            "DELETE FROM {} AS l WHERE l.relation OPERATOR(pg_catalog.=) $1::pg_catalog.oid",
            self.lanes()
        );
        let _owner = self.extension.as_owner();
        Spi::run_with_args(&delete, &[number(relation).into()]).map_err(broken)
    }

    /// Forgets all of them: there are no entries.
    pub fn forget_lanes(&self) -> Result<(), Failure> {
        let any = format!("SELECT EXISTS (SELECT FROM {})", self.lanes());
        let _owner = self.extension.as_owner();
        match Spi::get_one::<bool>(&any).map_err(broken)? {
            Some(true) => Spi::run(&format!("DELETE FROM {}", self.lanes())).map_err(broken),
            _ => Ok(()),
        }
    }

    /// Ends a step that came to nothing: its entries are not begun with any more.
    pub fn end(&self, relation: pg_sys::Oid) -> Result<(), Failure> {
        let end = format!(
            "UPDATE {} AS l SET begun = NULL WHERE l.relation OPERATOR(pg_catalog.=) $1",
            self.lanes()
        );
        let _owner = self.extension.as_owner();
        Spi::run_with_args(&end, &[relation.into()]).map_err(broken)
    }

    /// Puts off a relation, each time for longer; the whole queue where it is no relation.
    pub fn pause(&self, relation: pg_sys::Oid, reason: &str) -> Result<(), Failure> {
        let pause = format!(
            "INSERT INTO {} AS l (relation, due, pauses, reason) \
             VALUES ($1::pg_catalog.oid, {}, 1, $2) ON CONFLICT (relation) DO UPDATE SET begun = NULL, due = {}, pauses = {}, \
             reason = $2, deadly = false",
            self.lanes(),
            after("0"),
            after("l.pauses"),
            one_more("l.pauses"),
        );
        let _owner = self.extension.as_owner();
        Spi::run_with_args(&pause, &[number(relation).into(), reason.into()]).map_err(broken)
    }

    /// Notes of an entry that was tried alone that it came to nothing; with `counted` by its own
    /// fault.
    pub fn blame(&self, entry: &Entry, why: &Failure, counted: bool) -> Result<(), Failure> {
        let (attempts, pauses, due) = match counted {
            // Given up at once after the last.
            true => (
                one_more("q.attempts"),
                "0".to_owned(),
                format!(
                    "CASE WHEN q.attempts OPERATOR(pg_catalog.>=) {} THEN NULL ELSE {} END",
                    ATTEMPTS - 1,
                    after("(q.attempts OPERATOR(pg_catalog.*) 2)")
                ),
            ),
            false => ("q.attempts".to_owned(), one_more("q.pauses"), after("q.pauses")),
        };
        let blame = format!(
            "UPDATE {} AS q SET suspect = true, attempts = {attempts}, pauses = {pauses}, \
             due = {due}, reason = $2, sqlstate = $3 WHERE {OURS}",
            self.table()
        );
        let code = sqlstate(why.code);
        let _owner = self.extension.as_owner();
        Spi::run_with_args(
            &blame,
            &[vec![entry.id].into(), why.message.as_str().into(), code.as_str().into()],
        )
        .map_err(broken)
    }

    /// Notes what an earlier worker died over: entries that were begun with. One that was alone has
    /// had an attempt; of many, each is tried alone from now on. The relation is put off, for longer
    /// than any of its owner's was. Returns how many relations that concerns.
    pub fn recover(&self) -> Result<usize, Failure> {
        let (queue, lanes) = (self.table(), self.lanes());
        let blame = format!(
            "UPDATE {queue} AS q SET suspect = true, due = NULL, reason = {DIED}, sqlstate = '58000', \
             attempts = CASE WHEN pg_catalog.cardinality(l.begun) OPERATOR(pg_catalog.=) 1 \
             THEN {} ELSE q.attempts END \
             FROM {lanes} AS l WHERE l.begun IS NOT NULL AND q.id OPERATOR(pg_catalog.=) ANY (l.begun)",
            one_more("q.attempts")
        );
        let earlier = format!(
            "(SELECT pg_catalog.max(x.pauses) FROM {lanes} AS x \
             JOIN pg_catalog.pg_class AS c ON c.oid OPERATOR(pg_catalog.=) x.relation \
             JOIN pg_catalog.pg_class AS own ON own.oid OPERATOR(pg_catalog.=) l.relation \
             WHERE c.relowner OPERATOR(pg_catalog.=) own.relowner)"
        );
        let earlier = format!("COALESCE({earlier}, 0)");
        let pause = format!(
            "UPDATE {lanes} AS l SET begun = NULL, deadly = true, due = {}, pauses = {}, \
             reason = 'the worker died over it' WHERE l.begun IS NOT NULL",
            after(&earlier),
            one_more(&earlier)
        );
        let count =
            format!("SELECT pg_catalog.count(*) FROM {lanes} AS l WHERE l.begun IS NOT NULL");
        let _owner = self.extension.as_owner();
        let died = Spi::get_one::<i64>(&count).map_err(broken)?.unwrap_or_default();
        if died > 0 {
            Spi::run(&blame).map_err(broken)?;
            Spi::run(&pause).map_err(broken)?;
        }
        Ok(died as usize)
    }

    /// Whether another transaction that has not ended has written to the queue. A prepared one's
    /// locks have no process.
    pub fn is_being_filled(&self) -> Result<bool, Failure> {
        let query = "SELECT EXISTS (SELECT FROM pg_catalog.pg_locks AS l \
             WHERE l.relation OPERATOR(pg_catalog.=) pg_catalog.to_regclass($1)::pg_catalog.oid \
             AND l.granted AND l.mode OPERATOR(pg_catalog.=) 'RowExclusiveLock' \
             AND (l.pid IS NULL OR l.pid OPERATOR(pg_catalog.<>) pg_catalog.pg_backend_pid()) \
             AND l.database OPERATOR(pg_catalog.=) (SELECT d.oid FROM pg_catalog.pg_database AS d \
             WHERE d.datname OPERATOR(pg_catalog.=) pg_catalog.current_database()))";
        let queue = self.table();
        let _owner = self.extension.as_owner();
        Spi::get_one_with_args::<bool>(query, &[queue.into()])
            .map(Option::unwrap_or_default)
            .map_err(broken)
    }

    fn change(&self, query: String, ids: Vec<Uuid>) -> Result<(), Failure> {
        let _owner = self.extension.as_owner();
        Spi::run_with_args(&query, &[ids.into()]).map_err(broken)
    }
}

const OURS: &str = "q.id OPERATOR(pg_catalog.=) ANY ($1)";
const DIED: &str = "'the worker died while it encoded the row'";

pub fn ids(entries: &[Entry]) -> Vec<Uuid> {
    entries.iter().map(|entry| entry.id).collect()
}

/// An object's number, for which 0 is one too: as an `Oid` it would be passed as NULL.
fn number(relation: pg_sys::Oid) -> i64 {
    relation.to_u32().into()
}

/// SQL for the moment at which something is tried again that was put off so many times before: after
/// the first pause, doubled each time up to the longest.
fn after(times: &str) -> String {
    format!(
        "(pg_catalog.clock_timestamp() OPERATOR(pg_catalog.+) pg_catalog.make_interval(secs => LEAST( \
         {LONGEST_PAUSE}::pg_catalog.float8, {FIRST_PAUSE}::pg_catalog.float8 OPERATOR(pg_catalog.*) \
         pg_catalog.power(2::pg_catalog.float8, LEAST(30, {times})::pg_catalog.float8))))"
    )
}

fn one_more(column: &str) -> String {
    format!("({column} OPERATOR(pg_catalog.+) 1)")
}

/// The code of an SQLSTATE's five characters.
fn code_of(sqlstate: &str) -> Code {
    let bits = sqlstate.bytes().take(5).enumerate();
    let code = bits.fold(0, |code, (at, c)| {
        code | (i32::from(c.wrapping_sub(b'0') & 0x3f) << (6 * at as i32))
    });
    Code::from(code)
}

pub fn broken(error: pgrx::spi::Error) -> Failure {
    Failure::new(Code::ERRCODE_INTERNAL_ERROR, "cannot work on the queue").detail(error.to_string())
}
