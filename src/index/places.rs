//! Where the pages of indexes were last found in the buffer pool. Its own file because it is no more
//! than a hint: the server checks whether a buffer still holds the page (`ReadRecentBuffer`), and a
//! hint that is out of date costs nothing but that.
//!
//! A walk reads a hundred pages and more, and looking each up in the server's table of buffers took a
//! quarter of its time (ARCHITECTURE.md, "Decisions").

use std::cell::RefCell;

use pgrx::pg_sys;

/// Pages remembered: 512 kB a process that scans, shared by all its indexes.
const SLOTS: usize = 1 << 16;

/// A buffer that is found by a hint is not counted as used, so each page is looked up again after so
/// many hints: else the clock sweep would take the pages that are read most for those read least.
const USES: u8 = 3;

/// The rest of a page's mark, hints left, and its buffer.
#[derive(Debug, Clone, Copy, Default)]
struct Slot {
    rest: u16,
    uses: u8,
    buffer: pg_sys::Buffer,
}

thread_local! {
    static PLACES: RefCell<Vec<Slot>> = const { RefCell::new(Vec::new()) };
}

/// The slot of a page, and the rest of its mark. Pages that share both are told apart by the server.
fn slot(index: pg_sys::Oid, block: u32) -> (usize, u16) {
    let mark = block.wrapping_add(index.to_u32().wrapping_mul(0x9e37_79b1));
    (mark as usize % SLOTS, (mark >> 16) as u16)
}

/// Where a page probably is.
#[inline]
pub fn recent(index: pg_sys::Oid, block: u32) -> Option<pg_sys::Buffer> {
    let (at, rest) = slot(index, block);
    PLACES.with_borrow_mut(|places| {
        let slot = places.get_mut(at).filter(|slot| slot.rest == rest && slot.uses > 0)?;
        slot.uses -= 1;
        Some(slot.buffer)
    })
}

/// Notes where a page was found.
#[inline]
pub fn note(index: pg_sys::Oid, block: u32, buffer: pg_sys::Buffer) {
    let (at, rest) = slot(index, block);
    PLACES.with_borrow_mut(|places| {
        if places.is_empty() {
            places.resize(SLOTS, Slot::default());
        }
        places[at] = Slot { rest, uses: USES, buffer };
    });
}
