//! Rows on their way to the encoder and back. A batch is sent as soon as it is full and answered
//! while the next rows are collected, so memory stays bounded for a COPY of any size, and encoder
//! and backend work at once.
//!
//! Rows belong to a [`Level`]: a statement whose AFTER triggers are firing. The first row of a
//! level queues one more event behind all others of that statement, by an UPDATE of no row of
//! `clip_ingest_end` that leaves its statement trigger to the statement that is ending (as the
//! queries of foreign keys do). That trigger encodes what is left. It needs no trigger on every
//! partition, and works for COPY, direct inserts into partitions, and nested statements alike.
//!
//! A level dies with the subtransaction that it belongs to; dropping it cancels its requests. Rows
//! left over at commit would be a bug: then the transaction fails rather than keep a NULL silently.
//!
//! No borrow of the levels is held while SQL runs, since that may fire the trigger again, nor while
//! the encoder is waited for, since a session that is terminated there ends without unwinding.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::ffi::c_void;
use std::mem;
use std::rc::Rc;

use pgclip_wire::protocol::Image;
use pgrx::pg_sys::errcodes::PgSqlErrorCode as Code;
use pgrx::{Spi, pg_guard, pg_sys};

use super::queue;
use super::row::Row;
use super::write::Target;
use crate::catalog::extension::Extension;
use crate::catalog::identity::Identity;
use crate::encoder::requests::{Batch, IN_FLIGHT, Sent};
use crate::error::Failure;
use crate::models::Model;
use crate::models::binding::Binding;

/// Rows for the worker that are queued by one statement.
const MAX_LATER: usize = 1000;

thread_local! {
    static LEVELS: RefCell<Vec<Level>> = const { RefCell::new(Vec::new()) };
    static WATCHING: Cell<bool> = const { Cell::new(false) };
}

/// The rows of one statement.
struct Level {
    /// Address of the trigger data: the same for all rows of a statement, and another one for a
    /// statement that runs inside of one of its triggers.
    address: usize,
    subtransaction: pg_sys::SubTransactionId,
    /// Whose statement it is: from PostgreSQL 18 on the event at its end runs as who queued it.
    user: pg_sys::Oid,
    /// Whether the event at the statement's end is queued.
    announced: bool,
    targets: Vec<Rc<Target>>,
    lanes: Vec<Lane>,
    /// Rows that the worker is to encode.
    later: Vec<Row>,
}

impl Level {
    /// The rows for a model.
    fn lane(&mut self, model: &Model) -> &mut Lane {
        let known = self.lanes.iter().position(|lane| lane.model.reference == model.reference);
        let at = known.unwrap_or_else(|| {
            self.lanes.push(Lane {
                model: model.clone(),
                batch: Batch::default(),
                rows: Vec::new(),
                under_way: VecDeque::new(),
            });
            self.lanes.len() - 1
        });
        &mut self.lanes[at]
    }
}

/// The rows for one model.
struct Lane {
    model: Model,
    batch: Batch,
    rows: Vec<Row>,
    under_way: VecDeque<(Sent, Vec<Row>)>,
}

impl Lane {
    /// Sends what was collected.
    fn send(&mut self) -> Result<(), Failure> {
        if !self.batch.is_empty() {
            let sent = self.batch.send(&self.model)?;
            self.under_way.push_back((sent, mem::take(&mut self.rows)));
        }
        Ok(())
    }
}

fn current_subtransaction() -> pg_sys::SubTransactionId {
    // SAFETY: reads the transaction state of this backend.
    unsafe { pg_sys::GetCurrentSubTransactionId() }
}

/// The level of this statement, made at its first row.
fn with_level<R>(address: usize, work: impl FnOnce(&mut Level) -> R) -> R {
    let subtransaction = current_subtransaction();
    LEVELS.with_borrow_mut(|levels| {
        let known =
            levels.iter().rposition(|l| l.address == address && l.subtransaction == subtransaction);
        let at = known.unwrap_or_else(|| {
            levels.push(Level {
                address,
                subtransaction,
                // SAFETY: reads the backend's identity.
                user: unsafe { pg_sys::GetUserId() },
                announced: false,
                targets: Vec::new(),
                lanes: Vec::new(),
                later: Vec::new(),
            });
            levels.len() - 1
        });
        work(&mut levels[at])
    })
}

/// What is known about the attached column of a relation, found out once a statement.
pub fn target(
    address: usize,
    extension: &Extension,
    relation: pg_sys::Relation,
    binding: Binding,
) -> Result<Rc<Target>, Failure> {
    // SAFETY: the trigger's relation is open.
    let oid = unsafe { (*relation).rd_id };
    // SAFETY: reads the backend's identity.
    let user = unsafe { pg_sys::GetUserId() };
    let is_it = |target: &&Rc<Target>| target.is_of(oid, &binding, user);
    watch();
    let known = with_level(address, |level| level.targets.iter().find(is_it).cloned());
    if let Some(target) = known {
        return Ok(target);
    }
    if with_level(address, |level| !mem::replace(&mut level.announced, true)) {
        announce_end(extension)?;
    }
    // SAFETY: as above.
    let target = Rc::new(unsafe { Target::new(extension, relation, binding, false)? });
    with_level(address, |level| level.targets.push(Rc::clone(&target)));
    Ok(target)
}

/// Takes in a row that the worker is to encode.
pub fn push_later(address: usize, row: Row) -> Result<(), Failure> {
    let full = with_level(address, |level| {
        level.later.push(row);
        (level.later.len() >= MAX_LATER).then(|| mem::take(&mut level.later))
    });
    full.map_or(Ok(()), |rows| queue::push(&rows))
}

/// Takes in a row with its image; may wait for an earlier batch and write it.
pub fn push(address: usize, row: Row, image: Image) -> Result<(), Failure> {
    if let Err(failure) = Batch::check(&image) {
        return row.fail(failure);
    }
    let full = with_level(address, |level| {
        let lane = level.lane(row.target.model());
        lane.batch.push(image);
        lane.rows.push(row);
        if !lane.batch.is_full() {
            return None;
        }
        Some((lane.model.clone(), mem::take(&mut lane.batch), mem::take(&mut lane.rows)))
    });
    let Some((model, mut batch, rows)) = full else { return Ok(()) };
    let sent = batch.send(&model)?;
    let done = with_level(address, |level| {
        let under_way = &mut level.lane(&model).under_way;
        under_way.push_back((sent, rows));
        if under_way.len() > IN_FLIGHT { under_way.pop_front() } else { None }
    });
    match done {
        Some((sent, rows)) => write(sent, &rows),
        None => Ok(()),
    }
}

/// Encodes and writes all rows of the statements that end here.
pub fn flush() -> Result<(), Failure> {
    let subtransaction = current_subtransaction();
    let ending: Vec<Level> = LEVELS.with_borrow_mut(|levels| {
        let (ending, rest) =
            mem::take(levels).into_iter().partition(|level| level.subtransaction == subtransaction);
        *levels = rest;
        ending
    });
    for level in ending {
        let _user = Identity::of_statement(level.user);
        queue::push(&level.later)?;
        for mut lane in level.lanes {
            lane.send()?;
            while let Some((sent, rows)) = lane.under_way.pop_front() {
                write(sent, &rows)?;
            }
        }
    }
    Ok(())
}

/// Waits for a batch and writes its embeddings.
fn write(sent: Sent, rows: &[Row]) -> Result<(), Failure> {
    super::write::rows(rows, sent.wait()?)
}

/// Queues the event at the end of the statement whose triggers are firing.
fn announce_end(extension: &Extension) -> Result<(), Failure> {
    let query =
        format!("UPDATE {} SET ended = true WHERE false\0", extension.relation("clip_ingest_end"));
    let _owner = extension.as_owner();
    // SAFETY: the query is a C string; the plan lives until SPI is left. Without firing triggers,
    // the UPDATE leaves its statement trigger to the statement around it.
    let code = Spi::connect(|_| unsafe {
        let plan = pg_sys::SPI_prepare(query.as_ptr().cast(), 0, std::ptr::null_mut());
        if plan.is_null() {
            return pg_sys::SPI_result;
        }
        pg_sys::SPI_execute_snapshot(
            plan,
            std::ptr::null_mut(),
            std::ptr::null(),
            std::ptr::null_mut(),
            std::ptr::null_mut(),
            false,
            false,
            0,
        )
    });
    match code {
        code if code == pg_sys::SPI_OK_UPDATE as i32 => Ok(()),
        code => Err(Failure::new(
            Code::ERRCODE_INTERNAL_ERROR,
            format!("cannot mark the end of the statement (SPI code {code})"),
        )),
    }
}

/// Registers with the transaction system, once a backend.
fn watch() {
    if WATCHING.replace(true) {
        return;
    }
    // SAFETY: both callbacks live as long as the library, which is never unloaded.
    unsafe {
        pg_sys::RegisterXactCallback(Some(at_transaction_end), std::ptr::null_mut());
        pg_sys::RegisterSubXactCallback(Some(at_subtransaction_end), std::ptr::null_mut());
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn at_transaction_end(
    event: pg_sys::XactEvent::Type,
    _argument: *mut c_void,
) {
    use pg_sys::XactEvent::{
        XACT_EVENT_ABORT, XACT_EVENT_COMMIT, XACT_EVENT_PRE_COMMIT, XACT_EVENT_PRE_PREPARE,
        XACT_EVENT_PREPARE,
    };
    match event {
        // The last moments at which an error is in order.
        XACT_EVENT_PRE_COMMIT | XACT_EVENT_PRE_PREPARE => {
            let left_over = LEVELS.with_borrow(|levels| {
                levels.iter().any(|level| !level.lanes.is_empty() || !level.later.is_empty())
            });
            if left_over {
                Failure::new(
                    Code::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
                    "images of this transaction have not been encoded",
                )
                .hint("The trigger of the table clip_ingest_end must be enabled.")
                .raise();
            }
            queue::before_commit();
            forget(|_| true);
        }
        // Whoever commits what was prepared tells nobody: the worker waits for it.
        XACT_EVENT_COMMIT | XACT_EVENT_PREPARE | XACT_EVENT_ABORT => {
            queue::ended();
            forget(|_| true);
        }
        _ => {}
    }
}

/// Drops levels, which cancels their requests. Nothing in it can raise an error, which after a commit
/// would end the server, and in the midst of an abort be one too many: requests are taken back from
/// memory, or by a write that does not wait and may fail; a plan is freed without a look at anything
/// else; and what is borrowed is left alone.
fn forget(is_dead: impl Fn(&Level) -> bool) {
    // Out of the borrow first.
    let dead = LEVELS.try_with(|levels| {
        let mut levels = levels.try_borrow_mut().ok()?;
        let (dead, rest) = mem::take(&mut *levels).into_iter().partition(|level| is_dead(level));
        *levels = rest;
        Some::<Vec<Level>>(dead)
    });
    drop(dead);
}

#[pg_guard]
unsafe extern "C-unwind" fn at_subtransaction_end(
    event: pg_sys::SubXactEvent::Type,
    subtransaction: pg_sys::SubTransactionId,
    parent: pg_sys::SubTransactionId,
    _argument: *mut c_void,
) {
    match event {
        pg_sys::SubXactEvent::SUBXACT_EVENT_ABORT_SUB => {
            forget(|level| level.subtransaction >= subtransaction);
        }
        pg_sys::SubXactEvent::SUBXACT_EVENT_COMMIT_SUB => LEVELS.with_borrow_mut(|levels| {
            for level in levels.iter_mut().filter(|l| l.subtransaction == subtransaction) {
                level.subtransaction = parent;
            }
        }),
        _ => {}
    }
}
