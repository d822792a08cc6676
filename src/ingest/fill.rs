//! Encoding rows apart from the statement that wrote them, for the backfill and the worker: rows are
//! read under one snapshot, encoded, and written only where they still have the image that was
//! encoded and no embedding.
//!
//! No row is locked while the encoder works. At the end each is locked by the table's access method,
//! which leads to its latest version, and compared by the stored bytes of its image: a value that is
//! out of line is the same as long as its pointer is. The snapshot is held until then, so that no
//! row pointer is used again for another row meanwhile.

use std::collections::VecDeque;
use std::rc::Rc;

use pgclip_wire::protocol::Image;
use pgrx::pg_sys::errcodes::PgSqlErrorCode as Code;
use pgrx::{PgRelation, Spi, pg_sys};

use super::image::Raw;
use super::row::Row;
use super::write::Target;
use crate::catalog::extension::Extension;
use crate::catalog::identity::Identity;
use crate::encoder::requests::{Batch, IN_FLIGHT, Item, Sent};
use crate::error::Failure;
use crate::models::binding::Binding;

/// What became of a row.
#[derive(Debug)]
pub enum Outcome {
    Done,
    /// Its image cannot be encoded; the failure is noted.
    Failed,
    /// Somebody else holds the row's lock.
    Busy,
    /// There is nothing to do: the row is gone, has an embedding, or another image by now.
    Settled,
}

/// The snapshot that a batch reads with; dropped when the batch is written.
pub struct Snapshot(());

impl Snapshot {
    pub fn take() -> Self {
        // SAFETY: inside of a transaction.
        unsafe { pg_sys::PushActiveSnapshot(pg_sys::GetTransactionSnapshot()) };
        Self(())
    }

    pub fn release(self) {
        // SAFETY: `take` pushed it, and what was pushed since is popped.
        unsafe { pg_sys::PopActiveSnapshot() };
    }
}

/// Deferred constraints cannot wait for the commit: they would run with the rights of whoever
/// commits.
pub fn begin() -> Result<(), Failure> {
    Spi::run("SET CONSTRAINTS ALL IMMEDIATE")
        .map_err(|error| Failure::new(Code::ERRCODE_INTERNAL_ERROR, error.to_string()))
}

/// Encodes the rows at `tids` and writes their embeddings, as the table's owner. A snapshot must be
/// active. With `wait` a row that is locked is waited for.
pub fn rows(
    relation: &PgRelation,
    target: &Rc<Target>,
    tids: &[pg_sys::ItemPointerData],
    wait: bool,
) -> Result<Vec<Outcome>, Failure> {
    encode(relation, target, tids)?.write(relation, target, wait)
}

/// Rows and what the encoder made of them: one item for each row that has an image and no embedding.
pub struct Encoded {
    rows: Vec<Option<Row>>,
    items: Vec<Option<Item>>,
}

/// The first half of [`rows`]: the rows are read and encoded.
pub fn encode(
    relation: &PgRelation,
    target: &Rc<Target>,
    tids: &[pg_sys::ItemPointerData],
) -> Result<Encoded, Failure> {
    let mut rows: Vec<Option<Row>> = Vec::with_capacity(tids.len());
    let mut items: Vec<Option<Item>> = Vec::with_capacity(tids.len());
    let mut under_way: VecDeque<(Sent, Vec<usize>)> = VecDeque::new();
    let (mut batch, mut places) = (Batch::default(), Vec::new());
    let receive = |under_way: &mut VecDeque<(Sent, Vec<usize>)>, items: &mut Vec<Option<Item>>| {
        if let Some((sent, places)) = under_way.pop_front() {
            for (place, item) in places.into_iter().zip(sent.wait()?) {
                items[place] = Some(item);
            }
        }
        Ok::<_, Failure>(())
    };
    for tid in tids {
        pgrx::check_for_interrupts!();
        items.push(None);
        // SAFETY: the relation is open, a snapshot active.
        let Some((row, image)) = (unsafe { read(relation, target, *tid)? }) else {
            rows.push(None);
            continue;
        };
        rows.push(Some(row));
        match image.and_then(|image| Batch::check(&image).map(|()| image)) {
            Ok(image) => batch.push(image),
            Err(failure) => {
                items[rows.len() - 1] = Some(Err(failure));
                continue;
            }
        }
        places.push(rows.len() - 1);
        if batch.is_full() {
            if under_way.len() == IN_FLIGHT {
                receive(&mut under_way, &mut items)?;
            }
            under_way.push_back((batch.send(target.model())?, std::mem::take(&mut places)));
        }
    }
    if !batch.is_empty() {
        under_way.push_back((batch.send(target.model())?, places));
    }
    while !under_way.is_empty() {
        receive(&mut under_way, &mut items)?;
    }
    if items.iter().flatten().any(Result::is_ok) {
        target.prepare()?;
    }
    Ok(Encoded { rows, items })
}

impl Encoded {
    /// The second half: each row is locked, looked at again and written, under the snapshot with
    /// which it was read.
    pub fn write(
        self,
        relation: &PgRelation,
        target: &Target,
        wait: bool,
    ) -> Result<Vec<Outcome>, Failure> {
        // Keys of rows whose earlier failure is mended.
        let mut done = Vec::new();
        let outcomes = (self.rows.into_iter().zip(self.items))
            .map(|(row, item)| match (row, item) {
                (Some(row), Some(item)) => write(relation, &row, item, wait, &mut done),
                _ => Ok(Outcome::Settled),
            })
            .collect::<Result<Vec<_>, _>>()?;
        if target.has_errors && !done.is_empty() {
            target.errors().clear(&done)?;
        }
        Ok(outcomes)
    }
}

/// A row that has an image and no embedding, and its image or why it cannot be reached.
type Wanting = (Row, Result<Image, Failure>);

/// The row at `tid`, if it has an image and no embedding.
///
/// # Safety
/// The relation must be open and a snapshot active.
unsafe fn read(
    relation: &PgRelation,
    target: &Rc<Target>,
    tid: pg_sys::ItemPointerData,
) -> Result<Option<Wanting>, Failure> {
    // SAFETY: the caller's promise; the slot is its own and dropped before anything is returned.
    unsafe {
        let (open, mut at) = (relation.as_ptr(), tid);
        let slot = pg_sys::table_slot_create(open, std::ptr::null_mut());
        let snapshot = pg_sys::GetActiveSnapshot();
        let mut found = None;
        if pg_sys::table_tuple_fetch_row_version(open, &mut at, snapshot, slot) {
            let mut copied = false;
            let tuple = pg_sys::ExecFetchSlotHeapTuple(slot, false, &mut copied);
            let columns = (*open).rd_att;
            let image = Raw::of(tuple, target.binding.image, columns)?;
            let embedding = Raw::of(tuple, target.binding.embedding, columns)?;
            if let (Some(raw), true) = (image.bytes(), embedding.is_null()) {
                let (target, raw) = (Rc::clone(target), raw.into());
                let row = Row { target, tid, raw, outdated: false };
                let _identity = Identity::assume(row.target.owner);
                let image = row.target.image(image);
                found = Some((row, image));
            }
        }
        pg_sys::ExecDropSingleTupleTableSlot(slot);
        Ok(found)
    }
}

/// Writes what came of a row, if the row still wants it.
fn write(
    relation: &PgRelation,
    row: &Row,
    item: Item,
    wait: bool,
    done: &mut Vec<String>,
) -> Result<Outcome, Failure> {
    let target = &row.target;
    // SAFETY: the relation is open; the snapshot that the row was read with is active.
    let tid = match unsafe { lock(relation, row, wait) } {
        Lock::Held(tid) => tid,
        Lock::Busy => return Ok(Outcome::Busy),
        Lock::Settled => return Ok(Outcome::Settled),
    };
    match item {
        Ok(elements) => {
            if target.has_errors {
                done.extend(target.key_at(tid, false)?);
            }
            let _identity = Identity::assume(target.owner).see_all_rows();
            match Spi::connect(|_| target.update(tid, Some(&elements), row.outdated))? {
                true => Ok(Outcome::Done),
                false => Err(row.refused()),
            }
        }
        Err(failure) => match target.key_at(tid, false)? {
            Some(key) => {
                target.errors().record(&key, &failure, &target.model().name)?;
                Ok(Outcome::Failed)
            }
            None => Ok(Outcome::Settled),
        },
    }
}

enum Lock {
    /// On the row's latest version, which lies here.
    Held(pg_sys::ItemPointerData),
    Busy,
    Settled,
}

/// Locks the latest version of a row, if it still has the image that was encoded.
///
/// # Safety
/// The relation must be open, and the snapshot that the row was read with active.
unsafe fn lock(relation: &PgRelation, row: &Row, wait: bool) -> Lock {
    // SAFETY: the caller's promise; the slot is its own.
    unsafe {
        let open = relation.as_ptr();
        let slot = pg_sys::table_slot_create(open, std::ptr::null_mut());
        let policy = if wait {
            pg_sys::LockWaitPolicy::LockWaitBlock
        } else {
            pg_sys::LockWaitPolicy::LockWaitSkip
        };
        let mut tid = row.tid;
        let attempt = |tid: &mut pg_sys::ItemPointerData, flags: u32| {
            let mut failure = pg_sys::TM_FailureData::default();
            let result = pg_sys::table_tuple_lock(
                open,
                tid,
                pg_sys::GetActiveSnapshot(),
                slot,
                pg_sys::GetCurrentCommandId(false),
                pg_sys::LockTupleMode::LockTupleNoKeyExclusive,
                policy,
                flags as u8,
                &mut failure,
            );
            (result, failure.ctid)
        };
        let (mut result, next) = attempt(&mut tid, 0);
        // An invalid block: the row has gone to another partition, whose trigger has seen it.
        if result == pg_sys::TM_Result::TM_Updated
            && pgrx::itemptr::item_pointer_get_block_number_no_check(next)
                != pg_sys::InvalidBlockNumber
        {
            (result, _) = attempt(&mut tid, pg_sys::TUPLE_LOCK_FLAG_FIND_LAST_VERSION);
        }
        let found = match result {
            pg_sys::TM_Result::TM_Ok => {
                let mut copied = false;
                let tuple = pg_sys::ExecFetchSlotHeapTuple(slot, false, &mut copied);
                let columns = (*open).rd_att;
                let binding = &row.target.binding;
                let raw = |column| Raw::of(tuple, column, columns);
                let same = raw(binding.image).is_ok_and(|image| image.bytes() == Some(&*row.raw));
                match same && raw(binding.embedding).is_ok_and(Raw::is_null) {
                    true => Lock::Held((*slot).tts_tid),
                    false => Lock::Settled,
                }
            }
            pg_sys::TM_Result::TM_WouldBlock => Lock::Busy,
            _ => Lock::Settled,
        };
        pg_sys::ExecDropSingleTupleTableSlot(slot);
        found
    }
}

/// The attached column of an open relation, ready for writing.
pub fn target(
    extension: &Extension,
    relation: &PgRelation,
    binding: Binding,
) -> Result<Rc<Target>, Failure> {
    // SAFETY: the relation is open.
    Ok(Rc::new(unsafe { Target::new(extension, relation.as_ptr(), binding, true)? }))
}
