//! Filter columns of an index: from PostgreSQL's values and scan keys to the codes and ranges of
//! [`pgclip_hnsw::filter`]. Apart from the rest of the access method, since nothing here knows a
//! page: [`kind`] says what a column can hold and encodes it, [`constant`] places a constant of any
//! type of the family among a column's values, [`keys`] puts a scan's conditions together.

mod constant;
mod keys;
mod kind;
mod zone;

use pgclip_hnsw::Values;
use pgclip_hnsw::filter::Filter;
use pgrx::pg_sys;

pub use kind::Kind;

/// A filter column of an index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column {
    pub kind: Kind,
    /// The operator class's input type.
    pub type_oid: pg_sys::Oid,
    /// Of the index column; matters for text.
    pub collation: pg_sys::Oid,
}

/// What a scan's rows must hold, worked out once a rescan.
#[derive(Clone, Debug, Default)]
pub struct Conditions {
    filter: Filter,
    lossy: bool,
}

impl Conditions {
    /// Does a record's row pass? Called inside a page lock: no call of PostgreSQL, no allocation.
    #[inline]
    pub fn pass(&self, values: Values<'_>) -> bool {
        self.filter.pass(values)
    }

    /// Can no row pass?
    pub fn never(&self) -> bool {
        self.filter.never()
    }

    /// Must the executor check again what passes?
    pub fn lossy(&self) -> bool {
        self.lossy
    }
}
