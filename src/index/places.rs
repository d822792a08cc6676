//! Where the pages of indexes were last found in the buffer pool. Its own file because it is no more
//! than a hint: the server checks whether a buffer still holds the page (`ReadRecentBuffer`), and a
//! hint that is out of date costs nothing but that.
//!
//! A walk reads a hundred pages and more, and looking each up in the server's table of buffers took a
//! quarter of its time (docs/decisions/0039).

use std::cell::{Cell, RefCell};

use pgrx::pg_sys;

/// Pages remembered: 512 kB a process that scans, shared by all its indexes.
const SLOTS: usize = 1 << 16;

/// The rest of a page's mark, and its buffer.
#[derive(Debug, Clone, Copy, Default)]
struct Slot {
    rest: u16,
    buffer: pg_sys::Buffer,
}

thread_local! {
    static PLACES: RefCell<Vec<Slot>> = const { RefCell::new(Vec::new()) };
    /// How often a hint was asked for.
    static ASKED: Cell<u32> = const { Cell::new(0) };
}

/// The slot of a page, and the rest of its mark. Pages that share both are told apart by the server.
fn slot(index: pg_sys::Oid, block: u32) -> (usize, u16) {
    let mark = block.wrapping_add(index.to_u32().wrapping_mul(0x9e37_79b1));
    (mark as usize % SLOTS, (mark >> 16) as u16)
}

/// Where a page probably is, for who only has its bytes fetched.
#[inline]
pub fn peek(index: pg_sys::Oid, block: u32) -> Option<pg_sys::Buffer> {
    let (at, rest) = slot(index, block);
    let slot = PLACES.with_borrow(|places| places.get(at).copied())?;
    (slot.rest == rest && slot.buffer != 0).then_some(slot.buffer)
}

/// Where a page probably is; none where it is to be looked up. A page that is found by a hint is not
/// counted as used, and the server gives up those first that are used least: so one in so many is looked
/// up all the same, and the pages that are read most are counted most.
#[inline]
pub fn recent(index: pg_sys::Oid, block: u32) -> Option<pg_sys::Buffer> {
    const EVERY: u32 = 16;
    let asked = ASKED.get().wrapping_add(1);
    ASKED.set(asked);
    if asked.is_multiple_of(EVERY) { None } else { peek(index, block) }
}

/// Notes where a page was found.
#[inline]
pub fn note(index: pg_sys::Oid, block: u32, buffer: pg_sys::Buffer) {
    let (at, rest) = slot(index, block);
    PLACES.with_borrow_mut(|places| {
        if places.is_empty() {
            places.resize(SLOTS, Slot::default());
        }
        places[at] = Slot { rest, buffer };
    });
}
