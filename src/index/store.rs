//! Records on pages, through the buffer manager: what the graph's algorithms are run on.
//!
//! Locks: a page's content lock is held while one closure looks at or changes one record, and never
//! two at once; no server function that could raise an error is called under it. What an insert
//! and a vacuum agree on beside is the interlock ([`Interlock`]). A change is one generic WAL
//! record, or, while an index is built and nobody else sees it, a dirty buffer.

use std::cell::Cell;
use std::convert::Infallible;
use std::ops::Range;

use pgclip_hnsw::{Entry, Id, Layout, Store, StoreMut};
use pgrx::pg_sys;

use super::error::corrupt;
use super::locked::{self, Lock, Locked};
use super::meta::{BYTES, FIRST_BLOCK, META_BLOCK, Meta, MetaError};
use super::page::{self, HEADER, Kind, PAGE, SPECIAL};
use super::places;

/// Pages being changed in one step: committed, or as they were.
struct Change {
    state: *mut pg_sys::GenericXLogState,
}

impl Change {
    /// Begins, with nothing locked: it takes memory. Unlogged changes are for pages that nobody
    /// else sees yet.
    fn begin(index: pg_sys::Relation, logged: bool) -> Self {
        // SAFETY: the relation is open.
        let start = || unsafe { pg_sys::GenericXLogStart(index) };
        let state = if logged { start() } else { std::ptr::null_mut() };
        Self { state }
    }

    /// The page to change: a copy, or the buffer's own.
    fn page(&self, locked: &Locked, whole: bool) -> pg_sys::Page {
        if self.state.is_null() {
            return locked.raw();
        }
        let flags = if whole { pg_sys::GENERIC_XLOG_FULL_IMAGE as i32 } else { 0 };
        // SAFETY: the state is open and the buffer locked exclusively.
        unsafe { pg_sys::GenericXLogRegisterBuffer(self.state, locked.buffer(), flags) }
    }

    fn commit(self, locked: &Locked) {
        // SAFETY: the state is open, or the buffer is locked exclusively.
        unsafe {
            if self.state.is_null() {
                pg_sys::MarkBufferDirty(locked.buffer());
            } else {
                pg_sys::GenericXLogFinish(self.state);
            }
        }
    }

    /// Nothing was changed.
    fn abort(self) {
        if !self.state.is_null() {
            // SAFETY: the state is open.
            unsafe { pg_sys::GenericXLogAbort(self.state) }
        }
    }
}

/// The bytes of a page that may be changed.
///
/// # Safety
/// The page must be a copy of the caller's, or locked exclusively, and in use by nobody else.
unsafe fn bytes_mut<'a>(page: pg_sys::Page) -> &'a mut [u8; PAGE] {
    // SAFETY: the caller's promise.
    unsafe { &mut *page.cast() }
}

/// How changes are made durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Writing {
    /// Each by a generic WAL record.
    Logged,
    /// Not at all: whoever builds the index logs all pages at the end.
    Building,
}

/// An index as the graph's algorithms see it.
#[derive(Debug)]
pub struct IndexStore {
    index: pg_sys::Relation,
    writing: Writing,
    strategy: pg_sys::BufferAccessStrategy,
    /// The number of blocks when last asked for; an index never shrinks.
    blocks: Cell<u32>,
}

/// What was found where a record should be.
enum Found<R> {
    Record(R),
    Nothing,
    Damage(&'static str),
}

impl IndexStore {
    /// Of an open index.
    pub fn new(index: pg_sys::Relation, writing: Writing) -> Self {
        let strategy = std::ptr::null_mut();
        Self { index, writing, strategy, blocks: Cell::new(0) }
    }

    /// The same with a ring of buffers, for those that read every page.
    pub fn with_strategy(self, strategy: pg_sys::BufferAccessStrategy) -> Self {
        Self { strategy, ..self }
    }

    /// The index.
    pub fn index(&self) -> pg_sys::Relation {
        self.index
    }

    /// The number of blocks now.
    pub fn blocks(&self) -> u32 {
        let main = pg_sys::ForkNumber::MAIN_FORKNUM;
        // SAFETY: the relation is open.
        let blocks = unsafe { pg_sys::RelationGetNumberOfBlocksInFork(self.index, main) };
        self.blocks.set(blocks);
        blocks
    }

    fn exists(&self, block: u32) -> bool {
        block >= FIRST_BLOCK && (block < self.blocks.get() || block < self.blocks())
    }

    /// Locks a page of records; none where it is past the end or still of zeros.
    pub fn records(&self, block: u32, lock: Lock) -> Option<Locked> {
        if !self.exists(block) {
            return None;
        }
        let locked = Locked::read(self.index, block, lock, self.strategy);
        match page::check(locked.page(), Kind::Records) {
            Ok(()) => Some(locked),
            Err(_) if page::is_new(locked.page()) => None,
            Err(what) => {
                drop(locked);
                corrupt(self.index, block, what)
            }
        }
    }

    /// Reads the meta page.
    pub fn meta(&self) -> Meta {
        let locked = Locked::read(self.index, META_BLOCK, Lock::Share, self.strategy);
        let meta = decode_meta(locked.page());
        drop(locked);
        meta.unwrap_or_else(|what| corrupt(self.index, META_BLOCK, &what))
    }

    /// Changes the meta data where `edit` returns something.
    pub fn change_meta<R>(&self, edit: impl FnOnce(&mut Meta) -> Option<R>) -> Option<R> {
        let change = Change::begin(self.index, self.writing == Writing::Logged);
        let locked = Locked::read(self.index, META_BLOCK, Lock::Exclusive, self.strategy);
        let mut meta = match decode_meta(locked.page()) {
            Ok(meta) => meta,
            Err(what) => {
                drop(locked);
                corrupt(self.index, META_BLOCK, &what)
            }
        };
        let edited = edit(&mut meta);
        if edited.is_some() {
            let page = change.page(&locked, false);
            // SAFETY: the page is the change's copy, or locked exclusively while building.
            let bytes = unsafe { bytes_mut(page) };
            bytes[HEADER..HEADER + BYTES].copy_from_slice(&meta.encode());
            change.commit(&locked);
        } else {
            change.abort();
        }
        edited
    }

    /// Reads one of the vectors beside the meta page: `bytes` bytes.
    pub fn vector(&self, block: u32, bytes: usize) -> Vec<u8> {
        let locked = Locked::read(self.index, block, Lock::Share, self.strategy);
        let found = page::check(locked.page(), Kind::Vector)
            .map(|()| locked.page()[HEADER..PAGE - SPECIAL].get(..bytes).map(<[u8]>::to_vec));
        drop(locked);
        match found {
            Ok(Some(bytes)) => bytes,
            Ok(None) => corrupt(self.index, block, "a vector longer than a page"),
            Err(what) => corrupt(self.index, block, what),
        }
    }

    /// Writes one of the vectors beside the meta page.
    pub fn set_vector(&self, block: u32, edit: impl FnOnce(&mut [u8])) {
        let change = Change::begin(self.index, self.writing == Writing::Logged);
        let locked = Locked::read(self.index, block, Lock::Exclusive, self.strategy);
        if let Err(what) = page::check(locked.page(), Kind::Vector) {
            drop(locked);
            corrupt(self.index, block, what);
        }
        let page = change.page(&locked, false);
        // SAFETY: the page is the change's copy, or locked exclusively while building.
        edit(&mut unsafe { bytes_mut(page) }[HEADER..PAGE - SPECIAL]);
        change.commit(&locked);
    }

    /// Adds a page and returns it locked: empty, of zeros.
    fn extend(&self, fork: pg_sys::ForkNumber::Type) -> (Locked, u32) {
        let exclusive = pg_sys::ExclusiveLock as i32;
        // Locked before anybody can see it: to others it is the last page, which they fill up.
        let zero = pg_sys::ReadBufferMode::RBM_ZERO_AND_LOCK;
        let strategy = self.strategy;
        // SAFETY: the relation is open; the lock is released at the transaction's end where an
        // error passes by.
        let (buffer, block) = unsafe {
            pg_sys::LockRelationForExtension(self.index, exclusive);
            let new = pg_sys::InvalidBlockNumber;
            let buffer = pg_sys::ReadBufferExtended(self.index, fork, new, zero, strategy);
            pg_sys::UnlockRelationForExtension(self.index, exclusive);
            (buffer, pg_sys::BufferGetBlockNumber(buffer))
        };
        // SAFETY: the buffer was read pinned and locked, and this is its first owner.
        (unsafe { Locked::of(buffer) }, block)
    }

    /// Adds a page with these records, in the order of its items. Says which block it became.
    pub fn add_page(&self, records: &[Vec<u8>]) -> u32 {
        let change = Change::begin(self.index, self.writing == Writing::Logged);
        let (locked, block) = self.extend(pg_sys::ForkNumber::MAIN_FORKNUM);
        let page = change.page(&locked, true);
        init(page, Kind::Records);
        let fits = records.iter().all(|record| add_item(page, record).is_some());
        change.commit(&locked);
        drop(locked);
        if !fits {
            corrupt(self.index, block, "its records do not fit");
        }
        block
    }

    /// Adds a page for meta data or a vector: `content` and zeros.
    pub fn add_plain(&self, fork: pg_sys::ForkNumber::Type, kind: Kind, content: &[u8]) {
        let change = Change::begin(self.index, self.writing == Writing::Logged);
        let (locked, _) = self.extend(fork);
        fill_plain(change.page(&locked, true), kind, content);
        change.commit(&locked);
    }

    /// Writes a record to a page, if there is room for it.
    fn add_to(&self, block: u32, record: &[u8]) -> Result<Id, usize> {
        if !self.exists(block) {
            return Err(0);
        }
        let change = Change::begin(self.index, self.writing == Writing::Logged);
        let locked = Locked::read(self.index, block, Lock::Exclusive, self.strategy);
        let new = page::is_new(locked.page());
        let room = match page::check(locked.page(), Kind::Records) {
            _ if new => PAGE,
            Ok(()) => page::room_for_record(locked.page()),
            Err(_) => 0,
        };
        if room < record.len().next_multiple_of(8) {
            change.abort();
            return Err(room);
        }
        let page = change.page(&locked, new);
        if new {
            init(page, Kind::Records);
        }
        match add_item(page, record) {
            Some(item) => {
                change.commit(&locked);
                Ok(Id { block, item })
            }
            None => {
                change.abort();
                Err(0)
            }
        }
    }

    /// Notes how much room a page has.
    fn note_room(&self, block: u32, room: usize) {
        // SAFETY: the relation is open.
        unsafe { pg_sys::RecordPageWithFreeSpace(self.index, block, room) }
    }
}

fn decode_meta(page: &[u8; PAGE]) -> Result<Meta, String> {
    page::check(page, Kind::Meta).map_err(str::to_owned)?;
    Meta::decode(&page[HEADER..HEADER + BYTES]).map_err(|error: MetaError| error.to_string())
}

/// Makes an empty page.
fn init(page: pg_sys::Page, kind: Kind) {
    // SAFETY: the page is a copy of ours or locked exclusively; the special bytes are within it.
    unsafe {
        pg_sys::PageInit(page, PAGE, SPECIAL);
        bytes_mut(page)[PAGE - SPECIAL..].copy_from_slice(&page::special(kind));
    }
}

/// Makes a page of bytes that are no items. The header says that they are in use, so that they are
/// logged and checksummed like any others.
fn fill_plain(page: pg_sys::Page, kind: Kind, content: &[u8]) {
    init(page, kind);
    // SAFETY: as above.
    let bytes = unsafe { bytes_mut(page) };
    bytes[HEADER..HEADER + content.len()].copy_from_slice(content);
    let end = match kind {
        Kind::Vector => PAGE - SPECIAL,
        _ => HEADER + content.len(),
    };
    bytes[12..14].copy_from_slice(&(end as u16).to_ne_bytes());
}

/// Adds a record to a page that is ours to change; none where there is no room. An item that is not in
/// use any more is used again: what is remembered of elements goes by small item numbers.
fn add_item(page: pg_sys::Page, record: &[u8]) -> Option<u16> {
    let bytes: *mut std::ffi::c_void = record.as_ptr().cast_mut().cast();
    // SAFETY: the page is in order, and the record is copied. The item is one that is not in use.
    let number = unsafe {
        // Deleting leaves the page without the hint by which the server would find it.
        let unused = page::unused(bytes_mut(page));
        let (item, flags) = match unused {
            Some(item) => (item, pg_sys::PAI_OVERWRITE as i32),
            None => (pg_sys::InvalidOffsetNumber, 0),
        };
        pg_sys::PageAddItemExtended(page, bytes.cast(), record.len(), item, flags)
    };
    (number != pg_sys::InvalidOffsetNumber).then_some(number)
}

impl Store for IndexStore {
    /// The server's errors unwind the stack.
    type Error = Infallible;

    #[inline]
    fn read<R>(&self, id: Id, look: impl FnOnce(&[u8]) -> R) -> Result<Option<R>, Infallible> {
        let Some(locked) = self.records(id.block, Lock::Share) else { return Ok(None) };
        let found = match page::item(locked.page(), id.item) {
            Ok(Some(range)) => Found::Record(look(&locked.page()[range])),
            Ok(None) => Found::Nothing,
            Err(what) => Found::Damage(what),
        };
        drop(locked);
        match found {
            Found::Record(result) => Ok(Some(result)),
            Found::Nothing => Ok(None),
            Found::Damage(what) => corrupt(self.index, id.block, what),
        }
    }

    fn entry(&self) -> Result<Option<Entry>, Infallible> {
        Ok(self.meta().entry)
    }

    fn freed(&self) -> Result<u64, Infallible> {
        Ok(self.meta().freed.into())
    }

    fn extent(&self) -> Result<Range<u32>, Infallible> {
        Ok(FIRST_BLOCK..self.blocks())
    }

    fn prefetch(&self, id: Id, layout: &Layout) {
        // SAFETY: the relation is open.
        let oid = unsafe { (*self.index).rd_id };
        if let Some(buffer) = places::peek(oid, id.block) {
            locked::prefetch(buffer, page::guess(id.item, layout.element_bytes()));
        }
    }

    fn interrupt(&self) -> Result<(), Infallible> {
        pgrx::check_for_interrupts!();
        Ok(())
    }
}

impl StoreMut for IndexStore {
    fn update<R>(
        &self,
        id: Id,
        edit: impl FnOnce(&mut [u8]) -> Option<R>,
    ) -> Result<Option<R>, Infallible> {
        if !self.exists(id.block) {
            return Ok(None);
        }
        let change = Change::begin(self.index, self.writing == Writing::Logged);
        let Some(locked) = self.records(id.block, Lock::Exclusive) else {
            change.abort();
            return Ok(None);
        };
        let range = match page::item(locked.page(), id.item) {
            Ok(Some(range)) => range,
            Ok(None) => {
                change.abort();
                return Ok(None);
            }
            Err(what) => {
                drop(locked);
                corrupt(self.index, id.block, what)
            }
        };
        let mut record = locked.page()[range.clone()].to_vec();
        let edited = edit(&mut record);
        if edited.is_some() {
            let page = change.page(&locked, false);
            // SAFETY: the page is the change's copy, or locked exclusively while building.
            let bytes = unsafe { bytes_mut(page) };
            bytes[range].copy_from_slice(&record);
            change.commit(&locked);
        } else {
            change.abort();
        }
        Ok(edited)
    }

    /// Where there is room: near the other, where vacuums left some, on the last page, on a new one.
    fn append(&self, record: &[u8], near: Option<Id>) -> Result<Id, Infallible> {
        /// Pages that the free space map offers in vain before a new one is taken.
        const TRIES: usize = 8;
        if let Some(Ok(id)) = near.map(|near| self.add_to(near.block, record)) {
            return Ok(id);
        }
        // The free space map counts in steps of 32 bytes, of which a page has 254 whole ones.
        const MOST: usize = 254 * 32;
        let wanted = record.len().next_multiple_of(8).min(MOST);
        for _ in 0..TRIES {
            // SAFETY: the relation is open.
            let block = unsafe { pg_sys::GetPageWithFreeSpace(self.index, wanted) };
            if block == pg_sys::InvalidBlockNumber {
                break;
            }
            match self.add_to(block, record) {
                Ok(id) => return Ok(id),
                Err(room) => self.note_room(block, room),
            }
        }
        if let Some(last) = self.blocks().checked_sub(1)
            && let Ok(id) = self.add_to(last, record)
        {
            return Ok(id);
        }
        let block = self.add_page(std::slice::from_ref(&record.to_vec()));
        Ok(Id { block, item: 1 })
    }

    fn free(&self, id: Id) -> Result<(), Infallible> {
        if !self.exists(id.block) {
            return Ok(());
        }
        let change = Change::begin(self.index, self.writing == Writing::Logged);
        let Some(locked) = self.records(id.block, Lock::Exclusive) else {
            change.abort();
            return Ok(());
        };
        match page::item(locked.page(), id.item) {
            Ok(Some(_)) => (),
            Ok(None) => {
                change.abort();
                return Ok(());
            }
            Err(what) => {
                drop(locked);
                corrupt(self.index, id.block, what)
            }
        }
        let page = change.page(&locked, false);
        // SAFETY: the item is there, in a page that is ours to change.
        let room = unsafe {
            pg_sys::PageIndexTupleDeleteNoCompact(page, id.item);
            page::room_for_record(bytes_mut(page))
        };
        change.commit(&locked);
        drop(locked);
        self.note_room(id.block, room);
        Ok(())
    }

    fn set_entry(&self, expected: Option<Entry>, new: Option<Entry>) -> Result<bool, Infallible> {
        let set = self.change_meta(|meta| (meta.entry == expected).then(|| meta.entry = new));
        Ok(set.is_some())
    }
}

/// What keeps a vacuum from freeing what a running insert has seen alive: inserts hold it together,
/// a vacuum that has marked elements dead takes it alone for a moment, and so waits for those that
/// began before. Scans take no part.
#[derive(Debug)]
pub struct Interlock;

impl Interlock {
    /// Runs an insert.
    pub fn shared<R>(index: pg_sys::Relation, work: impl FnOnce() -> R) -> R {
        let share = pg_sys::ShareLock as i32;
        // SAFETY: the relation is open; an error releases the lock at the transaction's end.
        unsafe { pg_sys::LockPage(index, META_BLOCK, share) };
        let result = work();
        // SAFETY: as above.
        unsafe { pg_sys::UnlockPage(index, META_BLOCK, share) };
        result
    }

    /// Waits for the inserts that run.
    pub fn wait(index: pg_sys::Relation) {
        Self::alone(index, || ());
    }

    /// Does something while no insert runs.
    pub fn alone<R>(index: pg_sys::Relation, work: impl FnOnce() -> R) -> R {
        let exclusive = pg_sys::ExclusiveLock as i32;
        // SAFETY: as above.
        unsafe { pg_sys::LockPage(index, META_BLOCK, exclusive) };
        let result = work();
        // SAFETY: as above.
        unsafe { pg_sys::UnlockPage(index, META_BLOCK, exclusive) };
        result
    }
}
