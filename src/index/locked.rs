//! A page of the index, pinned and locked. Its own file because everything that reads or changes pages
//! holds one, however it came by it.

use std::ops::Range;

use pgrx::pg_sys;

use super::page::PAGE;
use super::places;

/// The server's functions without a guard of their own: two of them go under one.
mod raw {
    use pgrx::pg_sys;

    unsafe extern "C-unwind" {
        pub fn ReadBufferExtended(
            relation: pg_sys::Relation,
            fork: pg_sys::ForkNumber::Type,
            block: pg_sys::BlockNumber,
            mode: pg_sys::ReadBufferMode::Type,
            strategy: pg_sys::BufferAccessStrategy,
        ) -> pg_sys::Buffer;
        pub fn ReadRecentBuffer(
            file: super::File,
            fork: pg_sys::ForkNumber::Type,
            block: pg_sys::BlockNumber,
            recent: pg_sys::Buffer,
        ) -> bool;
        pub fn LockBuffer(buffer: pg_sys::Buffer, mode: i32);
        pub fn UnlockReleaseBuffer(buffer: pg_sys::Buffer);
    }
}

/// What names a relation's file.
#[cfg(any(feature = "pg14", feature = "pg15"))]
type File = pg_sys::RelFileNode;
#[cfg(not(any(feature = "pg14", feature = "pg15")))]
type File = pg_sys::RelFileLocator;

/// The file of an open relation.
///
/// # Safety
/// The relation must be open.
unsafe fn file(relation: pg_sys::Relation) -> File {
    // SAFETY: the caller's promise.
    unsafe {
        #[cfg(any(feature = "pg14", feature = "pg15"))]
        return (*relation).rd_node;
        #[cfg(not(any(feature = "pg14", feature = "pg15")))]
        return (*relation).rd_locator;
    }
}

/// Asks for a page that is probably in this buffer, and for these of its bytes.
#[inline]
pub fn prefetch(buffer: pg_sys::Buffer, bytes: Range<usize>) {
    let Some(number) = buffer.checked_sub(1).and_then(|number| usize::try_from(number).ok()) else {
        // A temporary index's, which lies in this process's own memory.
        return;
    };
    // SAFETY: both are set when the server starts; addresses are asked for, not read.
    let (descriptors, blocks) = unsafe { (pg_sys::BufferDescriptors, pg_sys::BufferBlocks) };
    pgclip_simd::prefetch_run(descriptors.wrapping_add(number), 1);
    let page = blocks.wrapping_add(number.wrapping_mul(PAGE));
    pgclip_simd::prefetch_run(page, 1);
    pgclip_simd::prefetch_run(page.wrapping_add(bytes.start), bytes.len());
    pgclip_simd::prefetch_run(page.wrapping_add(PAGE - 1), 1);
}

/// How a page is locked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lock {
    Share,
    Exclusive,
}

/// A page, pinned and locked until it is dropped. Where the stack unwinds, the transaction's end
/// lets it go: an error of the server's has already counted its locks as gone.
#[derive(Debug)]
pub struct Locked {
    buffer: pg_sys::Buffer,
}

impl Locked {
    /// Reads a block that is there.
    pub fn read(
        index: pg_sys::Relation,
        block: u32,
        lock: Lock,
        strategy: pg_sys::BufferAccessStrategy,
    ) -> Self {
        let mode = match lock {
            Lock::Share => pg_sys::BUFFER_LOCK_SHARE,
            Lock::Exclusive => pg_sys::BUFFER_LOCK_EXCLUSIVE,
        };
        // SAFETY: the relation is open.
        let (oid, file) = unsafe { ((*index).rd_id, file(index)) };
        // Who reads every page goes through a ring of buffers, and leaves no hints.
        let recent = strategy.is_null().then(|| places::recent(oid, block)).flatten();
        let fork = pg_sys::ForkNumber::MAIN_FORKNUM;
        // SAFETY: the relation is open; nothing in the closure has a destructor.
        let buffer = unsafe {
            pg_sys::ffi::pg_guard_ffi_boundary(|| {
                let buffer = match recent {
                    Some(recent) if raw::ReadRecentBuffer(file, fork, block, recent) => recent,
                    _ => {
                        let normal = pg_sys::ReadBufferMode::RBM_NORMAL;
                        raw::ReadBufferExtended(index, fork, block, normal, strategy)
                    }
                };
                raw::LockBuffer(buffer, mode as i32);
                buffer
            })
        };
        if strategy.is_null() && recent != Some(buffer) {
            places::note(oid, block, buffer);
        }
        Self { buffer }
    }

    /// Of a buffer that is pinned and locked already.
    ///
    /// # Safety
    /// It must be, and nobody else let it go.
    pub unsafe fn of(buffer: pg_sys::Buffer) -> Self {
        Self { buffer }
    }

    /// The buffer.
    pub fn buffer(&self) -> pg_sys::Buffer {
        self.buffer
    }

    /// The page's bytes.
    pub fn page(&self) -> &[u8; PAGE] {
        // SAFETY: a pinned buffer is a page of bytes, which nobody changes while it is locked.
        unsafe { &*pg_sys::BufferGetPage(self.buffer).cast() }
    }

    /// The page for the server's functions.
    pub fn raw(&self) -> pg_sys::Page {
        // SAFETY: the buffer is pinned.
        unsafe { pg_sys::BufferGetPage(self.buffer) }
    }
}

impl Drop for Locked {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            // SAFETY: the buffer is pinned and locked by this value; releasing raises no error.
            unsafe { raw::UnlockReleaseBuffer(self.buffer) }
        }
    }
}
