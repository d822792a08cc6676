//! Where the pages of indexes were last found in the buffer pool. Its own file because it is no more
//! than a hint: the server checks whether a buffer still holds the page (`ReadRecentBuffer`), and a
//! hint that is out of date costs nothing but that.
//!
//! A walk reads a hundred pages and more, and looking each up in the server's table of buffers took a
//! quarter of its time (ARCHITECTURE.md, "Decisions").

use std::cell::{Cell, RefCell};

use pgrx::pg_sys;

/// Pages remembered: 512 kB a process that scans, shared by all its indexes.
const SLOTS: usize = 1 << 16;

/// The rest of a page's mark, the sweep in which it was looked up, and its buffer.
#[derive(Debug, Clone, Copy, Default)]
struct Slot {
    rest: u16,
    sweep: u16,
    buffer: pg_sys::Buffer,
}

impl Slot {
    /// The buffer, if this is the page's slot.
    fn of(self, rest: u16) -> Option<pg_sys::Buffer> {
        (self.rest == rest && self.buffer != 0).then_some(self.buffer)
    }
}

thread_local! {
    static PLACES: RefCell<Vec<Slot>> = const { RefCell::new(Vec::new()) };
    /// The sweep that goes on, and the calls that notice it.
    static NOW: Cell<u16> = const { Cell::new(0) };
    static CALLS: Cell<u8> = const { Cell::new(0) };
}

mod raw {
    unsafe extern "C-unwind" {
        /// The server's function without a guard: it raises no error.
        pub fn StrategySyncStart(passes: *mut u32, allocations: *mut u32) -> std::ffi::c_int;
    }
}

/// Notices how far the server has come in its search for buffers to give up, the clock sweep. A buffer
/// that is found by a hint is not counted as used, so each page is looked up again once a sweep: else
/// the pages that are read most would be given up for those read least. Where nothing is given up,
/// nothing is looked up again. To be called every few records; a sweep takes much longer, and all
/// processes ask under one lock, so only some calls do.
pub fn notice_sweep() {
    const EVERY: u8 = 16;
    let calls = CALLS.get();
    CALLS.set((calls + 1) % EVERY);
    if calls > 0 {
        return;
    }
    let mut passes = 0;
    // SAFETY: a place for the number of passes; that of allocations is not asked for.
    unsafe { raw::StrategySyncStart(&raw mut passes, std::ptr::null_mut()) };
    NOW.set(passes as u16);
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
    PLACES.with_borrow(|places| places.get(at).copied())?.of(rest)
}

/// Where a page probably is; none where it is to be looked up.
#[inline]
pub fn recent(index: pg_sys::Oid, block: u32) -> Option<pg_sys::Buffer> {
    let (at, rest) = slot(index, block);
    let slot = PLACES.with_borrow(|places| places.get(at).copied())?;
    slot.of(rest).filter(|_| slot.sweep == NOW.get())
}

/// Notes where a page was found.
#[inline]
pub fn note(index: pg_sys::Oid, block: u32, buffer: pg_sys::Buffer) {
    let (at, rest) = slot(index, block);
    PLACES.with_borrow_mut(|places| {
        if places.is_empty() {
            places.resize(SLOTS, Slot::default());
        }
        places[at] = Slot { rest, sweep: NOW.get(), buffer };
    });
}
