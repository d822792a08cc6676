//! More rows of an element: equal vectors are one element, and its second and later rows lie in a
//! chain of overflow tuples, each with place for twice as many rows as the one before it.
//!
//! A tuple names its element: its place may have become another element's between the moment a scan
//! read the pointer and the moment it follows it, and rows of another element would come out with a
//! distance that is not theirs. One that names none is closed: it is empty, takes no row any more and
//! is on its way out of the chain.

use crate::error::Corrupt;
use crate::format::id::{ID_BYTES, Id, Tid};
use crate::format::layout::{FORMAT_VERSION, Layout, OVERFLOW_HEADER};
use crate::format::record::{Kind, Values, get_u16, put, touch};

const CAPACITY: usize = 2;
const NEXT: usize = 8;
const COUNT: usize = 14;
const OWNER: usize = 16;
const _: () = assert!(NEXT + ID_BYTES == COUNT && COUNT + 2 == OWNER);
const _: () = assert!(OWNER + ID_BYTES <= OVERFLOW_HEADER);

/// Rows in the first tuple of a chain.
const FIRST: usize = 4;

/// An overflow tuple.
#[derive(Debug, Clone, Copy)]
pub struct Overflow<'a> {
    layout: &'a Layout,
    bytes: &'a [u8],
}

impl<'a> Overflow<'a> {
    /// Checks a record and makes a view of it.
    pub fn new(layout: &'a Layout, bytes: &'a [u8]) -> Result<Self, Corrupt> {
        Kind::Overflow.check(bytes, "not a tuple of more rows")?;
        let short = bytes.len() < OVERFLOW_HEADER;
        if short || bytes.len() != layout.overflow_bytes(usize::from(get_u16(bytes, CAPACITY))) {
            return Err(Corrupt("a tuple of more rows of another length"));
        }
        if get_u16(bytes, COUNT) > get_u16(bytes, CAPACITY) {
            return Err(Corrupt("more rows than the tuple has places for"));
        }
        Ok(Self { layout, bytes })
    }

    /// The next (older) tuple of the chain.
    pub fn next(&self) -> Option<Id> {
        Id::decode(&self.bytes[NEXT..NEXT + ID_BYTES])
    }

    /// The element whose rows these are.
    pub fn owner(&self) -> Option<Id> {
        Id::decode(&self.bytes[OWNER..OWNER + ID_BYTES])
    }

    /// The number of rows.
    pub fn count(&self) -> usize {
        usize::from(get_u16(self.bytes, COUNT))
    }

    /// The number of places for rows.
    pub fn capacity(&self) -> usize {
        usize::from(get_u16(self.bytes, CAPACITY))
    }

    /// The rows.
    pub fn rows(&self) -> impl Iterator<Item = (Tid, Values<'a>)> + use<'a> {
        let bytes = self.layout.overflow_row();
        let rows = &self.bytes[OVERFLOW_HEADER..OVERFLOW_HEADER + self.count() * bytes];
        rows.chunks_exact(bytes).filter_map(|row| {
            let tid = Tid::decode(&row[..ID_BYTES])?;
            Some((tid, Values::new(row[ID_BYTES], &row[8..])))
        })
    }
}

/// How many places the tuple before one of this capacity gets; of the first where there is none.
pub fn next_capacity(layout: &Layout, capacity: Option<usize>) -> usize {
    capacity.map_or(FIRST, |capacity| capacity * 2).min(layout.max_overflow())
}

/// A tuple of an element, without rows.
pub fn new_overflow(layout: &Layout, capacity: usize, next: Option<Id>, owner: Id) -> Vec<u8> {
    let mut bytes = vec![0; layout.overflow_bytes(capacity)];
    put(&mut bytes, 0, &[Kind::Overflow as u8, FORMAT_VERSION]);
    put(&mut bytes, CAPACITY, &(capacity as u16).to_le_bytes());
    put(&mut bytes, NEXT, &Id::encode(next));
    put(&mut bytes, OWNER, &Id::encode(Some(owner)));
    bytes
}

/// Adds a row of an element; false where the tuple is full, or not (any more) that element's. Counts
/// the change.
pub fn push_row(
    layout: &Layout,
    bytes: &mut [u8],
    owner: Id,
    tid: Tid,
    values: Values<'_>,
) -> Result<bool, Corrupt> {
    let tuple = Overflow::new(layout, bytes)?;
    let (count, capacity) = (tuple.count(), tuple.capacity());
    if count == capacity || tuple.owner() != Some(owner) {
        return Ok(false);
    }
    let at = OVERFLOW_HEADER + count * layout.overflow_row();
    put(bytes, at, &Tid::encode(Some(tid)));
    put(bytes, at + ID_BYTES, &[values.nulls(), 0]);
    put(bytes, at + 8, values.bytes());
    put(bytes, COUNT, &(count as u16 + 1).to_le_bytes());
    touch(bytes);
    Ok(true)
}

/// Takes out the rows that `is_dead` names, and says how many are left. Counts the change where
/// there was one.
pub fn retain_rows(
    layout: &Layout,
    bytes: &mut [u8],
    mut is_dead: impl FnMut(Tid) -> bool,
) -> Result<usize, Corrupt> {
    let before = Overflow::new(layout, bytes)?.count();
    let row = layout.overflow_row();
    let mut kept = 0;
    for slot in 0..before {
        let at = OVERFLOW_HEADER + slot * row;
        let tid = Tid::decode(&bytes[at..at + ID_BYTES]);
        if tid.is_some_and(|tid| !is_dead(tid)) {
            bytes.copy_within(at..at + row, OVERFLOW_HEADER + kept * row);
            kept += 1;
        }
    }
    if kept < before {
        bytes[OVERFLOW_HEADER + kept * row..OVERFLOW_HEADER + before * row].fill(0);
        put(bytes, COUNT, &(kept as u16).to_le_bytes());
        touch(bytes);
    }
    Ok(kept)
}

/// Closes a tuple of an element where it has no rows; says whether it did, or it was closed. Counts the
/// change.
pub fn close(layout: &Layout, bytes: &mut [u8], owner: Id) -> Result<bool, Corrupt> {
    let tuple = Overflow::new(layout, bytes)?;
    let own = tuple.owner().is_none_or(|other| other == owner);
    let closed = own && tuple.count() == 0;
    if closed {
        put(bytes, OWNER, &Id::encode(None));
        touch(bytes);
    }
    Ok(closed)
}

/// Sets the next tuple of the chain. Counts the change.
pub fn set_next(layout: &Layout, bytes: &mut [u8], next: Option<Id>) -> Result<(), Corrupt> {
    Overflow::new(layout, bytes)?;
    put(bytes, NEXT, &Id::encode(next));
    touch(bytes);
    Ok(())
}
