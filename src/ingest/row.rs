//! A row between its image and its embedding: where it is by now, what is written into it, and how it
//! is told of when its image cannot be encoded.

use std::rc::Rc;

use half::f16;
use pgrx::pg_sys::errcodes::PgSqlErrorCode as Code;
use pgrx::{Spi, pg_sys};

use super::image::Raw;
use super::write::Target;
use crate::catalog::extension::quoted;
use crate::catalog::identity::Identity;
use crate::catalog::read;
use crate::error::Failure;
use crate::models::binding::OnError;

/// A row whose image is on its way.
#[derive(Debug)]
pub struct Row {
    pub target: Rc<Target>,
    pub tid: pg_sys::ItemPointerData,
    /// The image's bytes in the row itself, by which a later version of the row is known to have
    /// the same image.
    pub raw: Box<[u8]>,
    /// Whether the row still has the attributes of an earlier image.
    pub outdated: bool,
}

impl Row {
    /// Notes that the image cannot be encoded; an error where that stops the statement.
    pub fn fail(&self, failure: Failure) -> Result<(), Failure> {
        let target = &self.target;
        if target.binding.on_error == OnError::Stop {
            return Err(self.explain(failure));
        }
        // A row that is gone, or has another image by now, is none of this failure's business.
        let Some(tid) = self.latest() else { return Ok(()) };
        match target.key_at(tid, false)? {
            Some(key) => target.errors().record(&key, &failure, &target.model().name),
            None => Ok(()),
        }
    }

    /// Writes the embedding, inside of SPI and as the table's owner.
    pub fn write(&self, elements: &[f16]) -> Result<(), Failure> {
        if self.target.update(self.tid, Some(elements), self.outdated)? {
            return Ok(());
        }
        // Another trigger was there first: the row has a later version, or is gone.
        let Some(latest) = self.latest() else { return Ok(()) };
        if self.target.update(latest, Some(elements), self.outdated)? {
            return Ok(());
        }
        Err(self.refused())
    }

    /// An update that found the row and did not change it.
    pub fn refused(&self) -> Failure {
        Failure::new(
            Code::ERRCODE_TRIGGERED_DATA_CHANGE_VIOLATION,
            format!("cannot write the embedding of a row of table {}", self.target.table),
        )
        .detail("A trigger or a row-level security policy kept the owner's update from the row.")
        .hint("Let the owner of the table update the attached column.")
    }

    /// The latest version of the row, if it still has the image that was encoded.
    pub fn latest(&self) -> Option<pg_sys::ItemPointerData> {
        let binding = &self.target.binding;
        // SAFETY: the relation is locked by the statement; the slot is its own, and dropped before
        // the relation is closed. Rows of this transaction cannot be pruned away.
        unsafe {
            let relation = pg_sys::table_open(self.target.relation, pg_sys::NoLock as i32);
            let slot = pg_sys::table_slot_create(relation, std::ptr::null_mut());
            let mut tid = self.tid;
            let mut found = None;
            let any = &raw mut pg_sys::SnapshotAnyData;
            while pg_sys::table_tuple_fetch_row_version(relation, &mut tid, any, slot) {
                let mut copied = false;
                let tuple = pg_sys::ExecFetchSlotHeapTuple(slot, false, &mut copied);
                let next = (*(*tuple).t_data).t_ctid;
                if same_place(next, tid) {
                    let image = Raw::of(tuple, binding.image, (*relation).rd_att);
                    let same = image.is_ok_and(|image| image.bytes() == Some(&*self.raw));
                    let own = &raw mut pg_sys::SnapshotSelfData;
                    if same && pg_sys::table_tuple_fetch_row_version(relation, &mut tid, own, slot)
                    {
                        found = Some(tid);
                    }
                    break;
                }
                // Gone to another partition, whose trigger has seen it as a new row.
                if pgrx::itemptr::item_pointer_get_block_number_no_check(next)
                    == pg_sys::InvalidBlockNumber
                {
                    break;
                }
                tid = next;
            }
            pg_sys::ExecDropSingleTupleTableSlot(slot);
            pg_sys::table_close(relation, pg_sys::NoLock as i32);
            found
        }
    }

    /// Adds the place of the image to what is wrong with it.
    pub fn explain(&self, failure: Failure) -> Failure {
        let target = &self.target;
        let message = format!(
            "cannot encode column {} of table {}: {}",
            quoted(target.image_name()),
            target.table,
            failure.message
        );
        let key = self.key().unwrap_or_else(|| {
            let (block, offset) = pgrx::itemptr::item_pointer_get_both(self.tid);
            format!("(ctid)=({block},{offset})")
        });
        Failure { message, ..failure }.detail(format!("Failing row has {key}."))
    }

    /// The row's primary key, as constraint errors write it, if the current user may read it.
    fn key(&self) -> Option<String> {
        let columns = read::one::<Vec<String>>(
            "SELECT pg_catalog.array_agg(a.attname::pg_catalog.text ORDER BY k.position) \
             FROM pg_catalog.pg_index AS i, \
             pg_catalog.unnest(i.indkey::pg_catalog.int2[]) WITH ORDINALITY AS k (number, position), \
             pg_catalog.pg_attribute AS a \
             WHERE i.indrelid OPERATOR(pg_catalog.=) $1 AND i.indisprimary \
             AND a.attrelid OPERATOR(pg_catalog.=) $1 \
             AND a.attnum OPERATOR(pg_catalog.=) k.number \
             HAVING pg_catalog.bool_and(pg_catalog.has_column_privilege($1, a.attnum, 'SELECT')) \
             AND NOT pg_catalog.row_security_active($1)",
            &[self.target.relation.into()],
        )
        .ok()
        .flatten()?;
        let values: Vec<String> =
            columns.iter().map(|column| format!("{}::pg_catalog.text", quoted(column))).collect();
        let _identity = Identity::assume_for_code(self.target.writer);
        let row = Spi::get_one_with_args::<String>(
            &format!(
                "SELECT pg_catalog.concat_ws(', ', {}) FROM ONLY {} \
                 WHERE ctid OPERATOR(pg_catalog.=) $1::pg_catalog.tid",
                values.join(", "),
                self.target.table
            ),
            &[self.tid.into()],
        )
        .ok()
        .flatten()?;
        Some(format!("({})=({row})", columns.join(", ")))
    }
}

fn same_place(a: pg_sys::ItemPointerData, b: pg_sys::ItemPointerData) -> bool {
    pgrx::itemptr::item_pointer_get_both(a) == pgrx::itemptr::item_pointer_get_both(b)
}
