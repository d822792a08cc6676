//! A store in memory with the manners of a buffer manager, for tests, benches and trying things
//! out. It panics where an algorithm breaks the contract of [`store`](crate::store): a record
//! looked at while another is held, or an update that does not count itself by exactly one, as one
//! made from an old copy would not.

use std::cell::Cell;
use std::collections::HashMap;
use std::convert::Infallible;
use std::ops::Range;
use std::sync::RwLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::build::Pages;
use crate::build::threads::{Control, Quiet};
use crate::format::id::Id;
use crate::format::layout::{ITEM_POINTER, Layout, PAGE_ROOM};
use crate::format::record::change;
use crate::store::{Entry, Store, StoreMut};

thread_local! {
    /// Is a record held by this thread?
    static HELD: Cell<bool> = const { Cell::new(false) };
}

/// Says that a record is held, and checks that no other is.
struct Hold;

impl Hold {
    fn new() -> Self {
        assert!(!HELD.replace(true), "a second record is asked for while one is held");
        Self
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        HELD.set(false);
    }
}

#[derive(Debug, Default)]
struct Inner {
    /// Blocks, and their items.
    blocks: Vec<Vec<Option<Vec<u8>>>>,
    /// Free items by length.
    free: HashMap<usize, Vec<Id>>,
    entry: Option<Entry>,
    /// Room left on the last block.
    room: usize,
}

impl Inner {
    fn item(&self, id: Id) -> Option<&Vec<u8>> {
        let item = usize::from(id.item).checked_sub(1)?;
        self.blocks.get(id.block as usize)?.get(item)?.as_ref()
    }

    fn item_mut(&mut self, id: Id) -> Option<&mut Option<Vec<u8>>> {
        let item = usize::from(id.item).checked_sub(1)?;
        self.blocks.get_mut(id.block as usize)?.get_mut(item)
    }
}

/// The store.
#[derive(Debug, Default)]
pub struct MemoryStore {
    inner: RwLock<Inner>,
    reads: AtomicU64,
}

impl MemoryStore {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// All of a built graph, whose first block is 0.
    pub fn of(pages: &Pages<'_>) -> Self {
        let store = Self::new();
        let records = pages.encode(0..pages.len(), 2, &Control::default(), &mut Quiet);
        let mut inner = store.inner.write().expect("not poisoned");
        for page in records.expect("nobody stops it") {
            let used: usize = page.iter().map(|r| r.len().next_multiple_of(8) + ITEM_POINTER).sum();
            inner.room = PAGE_ROOM.checked_sub(used).expect("records fit their page");
            inner.blocks.push(page.into_iter().map(Some).collect());
        }
        inner.entry = pages.entry();
        drop(inner);
        store
    }

    /// The places of all records.
    pub fn ids(&self) -> Vec<Id> {
        let inner = self.inner.read().expect("not poisoned");
        let blocks = inner.blocks.iter().enumerate();
        let ids = blocks.flat_map(|(block, items)| {
            let here = (1..).zip(items).filter(|(_, item)| item.is_some());
            here.map(move |(item, _)| Id { block: block as u32, item })
        });
        ids.collect()
    }

    /// The number of blocks.
    pub fn blocks(&self) -> usize {
        self.inner.read().expect("not poisoned").blocks.len()
    }

    /// How many records were read.
    pub fn reads(&self) -> u64 {
        self.reads.load(Relaxed)
    }

    /// Overwrites bytes of a record, as a failing disk would.
    pub fn damage(&self, id: Id, damage: impl FnOnce(&mut Vec<u8>)) {
        let mut inner = self.inner.write().expect("not poisoned");
        if let Some(record) = inner.item_mut(id).and_then(|item| item.as_mut()) {
            damage(record);
        }
    }
}

impl Store for MemoryStore {
    type Error = Infallible;

    fn read<R>(&self, id: Id, look: impl FnOnce(&[u8]) -> R) -> Result<Option<R>, Infallible> {
        let _hold = Hold::new();
        self.reads.fetch_add(1, Relaxed);
        Ok(self.inner.read().expect("not poisoned").item(id).map(|record| look(record)))
    }

    fn entry(&self) -> Result<Option<Entry>, Infallible> {
        Ok(self.inner.read().expect("not poisoned").entry)
    }

    fn extent(&self) -> Result<Range<u32>, Infallible> {
        Ok(0..self.blocks() as u32)
    }

    fn prefetch(&self, id: Id, _layout: &Layout) {
        if let Some(record) = self.inner.read().expect("not poisoned").item(id) {
            pgclip_simd::prefetch(record);
        }
    }

    fn interrupt(&self) -> Result<(), Infallible> {
        assert!(!HELD.get(), "asked for interrupts while a record is held");
        Ok(())
    }
}

impl StoreMut for MemoryStore {
    fn update<R>(
        &self,
        id: Id,
        edit: impl FnOnce(&mut [u8]) -> Option<R>,
    ) -> Result<Option<R>, Infallible> {
        let _hold = Hold::new();
        let mut inner = self.inner.write().expect("not poisoned");
        let Some(Some(record)) = inner.item_mut(id) else { return Ok(None) };
        let mut copy = record.clone();
        let edited = edit(&mut copy);
        if edited.is_some() {
            let next = change(record).wrapping_add(1);
            assert_eq!(change(&copy), next, "the record at {id:?} was changed meanwhile");
            *record = copy;
        }
        Ok(edited)
    }

    fn append(&self, record: &[u8], _near: Option<Id>) -> Result<Id, Infallible> {
        let mut inner = self.inner.write().expect("not poisoned");
        if let Some(id) = inner.free.get_mut(&record.len()).and_then(Vec::pop) {
            *inner.item_mut(id).expect("it was there") = Some(record.to_vec());
            return Ok(id);
        }
        let bytes = record.len().next_multiple_of(8) + ITEM_POINTER;
        assert!(bytes <= PAGE_ROOM, "a record larger than a page");
        if inner.blocks.is_empty() || bytes > inner.room {
            inner.blocks.push(Vec::new());
            inner.room = PAGE_ROOM;
        }
        inner.room -= bytes;
        let block = inner.blocks.len() - 1;
        inner.blocks[block].push(Some(record.to_vec()));
        Ok(Id { block: block as u32, item: inner.blocks[block].len() as u16 })
    }

    fn free(&self, id: Id) -> Result<(), Infallible> {
        let mut inner = self.inner.write().expect("not poisoned");
        if let Some(record) = inner.item_mut(id).and_then(Option::take) {
            inner.free.entry(record.len()).or_default().push(id);
        }
        Ok(())
    }

    fn set_entry(&self, expected: Option<Entry>, new: Option<Entry>) -> Result<bool, Infallible> {
        let mut inner = self.inner.write().expect("not poisoned");
        let same = inner.entry == expected;
        if same {
            inner.entry = new;
        }
        Ok(same)
    }
}
