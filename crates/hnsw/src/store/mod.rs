//! Where records are kept: pages of an index, or memory in tests. The algorithms of this crate see
//! storage through these two traits alone.
//!
//! The contract is that of pages behind a buffer manager. A record is looked at or changed inside a
//! closure, while its page is locked; no closure calls the store again, so no two pages are ever
//! held. Between two calls anything may have happened to a record: a reader takes it as it finds
//! it, a writer compares the change counter with what it saw.

pub mod memory;

use std::ops::Range;

use crate::format::id::Id;
use crate::format::layout::Layout;

/// Where every walk begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// The entry point.
    pub id: Id,
    /// Its highest layer, which is the highest of all.
    pub level: u8,
}

/// Records that can be read.
pub trait Store {
    /// What can go wrong, being interrupted included.
    type Error;

    /// Calls `look` with a record's bytes, under a share lock; none where there is no such record
    /// any more, which is no error: an id may be older than a vacuum.
    fn read<R>(&self, id: Id, look: impl FnOnce(&[u8]) -> R) -> Result<Option<R>, Self::Error>;

    /// The entry point; none while the graph is empty.
    fn entry(&self) -> Result<Option<Entry>, Self::Error>;

    /// A number that is another one each time before elements are freed. A scan that runs out of
    /// candidates and finds it changed has lost its way, and looks again.
    fn freed(&self) -> Result<u64, Self::Error> {
        Ok(0)
    }

    /// The blocks that hold records: where a scan takes a sample.
    fn extent(&self) -> Result<Range<u32>, Self::Error> {
        Ok(0..0)
    }

    /// Says that an element will probably be read soon.
    fn prefetch(&self, _id: Id, _layout: &Layout) {}

    /// Called every few records, with nothing held: the place to notice that the caller is to stop.
    fn interrupt(&self) -> Result<(), Self::Error> {
        Ok(())
    }
}

/// Records that can be changed. Each call is one atomic, durable step.
pub trait StoreMut: Store {
    /// Calls `edit` with a record's bytes, under an exclusive lock, and keeps what it did where it
    /// returns something; where it returns none, or there is no such record, nothing is written.
    fn update<R>(
        &self,
        id: Id,
        edit: impl FnOnce(&mut [u8]) -> Option<R>,
    ) -> Result<Option<R>, Self::Error>;

    /// Writes a new record, near another where that can be, into a free slot or new space.
    fn append(&self, record: &[u8], near: Option<Id>) -> Result<Id, Self::Error>;

    /// Gives a record's slot back. Nothing in the graph points to it, but a scan that began before
    /// may still come by: the store answers none, or the slot's next record.
    fn free(&self, id: Id) -> Result<(), Self::Error>;

    /// Sets the entry point where it still is `expected`; says whether it did.
    fn set_entry(&self, expected: Option<Entry>, new: Option<Entry>) -> Result<bool, Self::Error>;
}
