//! Which elements a walk has seen: a bit for each, as they lie on their pages, as far as an index of
//! two million elements needs; past that, and for other places, a hash table. Its own file because
//! every neighbour of every record is looked up here, and a walk of a thousand records sees so many
//! that a table of them falls out of the processor's caches, which the bits do not.

use crate::format::id::Id;
use crate::format::layout::Layout;

/// Words of bits: 256 kB.
const WORDS: usize = 1 << 15;

/// The elements that a walk over the base layer has seen.
#[derive(Debug)]
pub(crate) struct Visited {
    bits: Vec<u64>,
    /// Elements a page, as a power of two.
    shift: u32,
    others: Table,
    count: usize,
}

impl Visited {
    pub fn new() -> Self {
        Self { bits: Vec::new(), shift: 0, others: Table::new(), count: 0 }
    }

    /// Forgets all; from now on for elements that lie as `layout` says.
    pub fn start(&mut self, layout: &Layout) {
        self.shift = layout.elements_a_page().next_power_of_two().ilog2();
        if self.count > 0 {
            self.bits.fill(0);
            self.others.clear();
        }
        self.count = 0;
    }

    /// The number of elements seen.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Marks an element as seen; false where it was.
    #[inline(always)]
    pub fn insert(&mut self, id: Id) -> bool {
        let item = usize::from(id.item).wrapping_sub(1);
        let bit = (id.block as usize) << self.shift | item;
        let fresh = match self.bits.get_mut(bit / 64) {
            Some(word) if item >> self.shift == 0 => {
                let mask = 1 << (bit % 64);
                let fresh = *word & mask == 0;
                *word |= mask;
                fresh
            }
            _ => self.insert_beyond(id),
        };
        self.count += usize::from(fresh);
        fresh
    }

    /// Marks an element that there is no bit for, or none yet.
    #[cold]
    fn insert_beyond(&mut self, id: Id) -> bool {
        let item = usize::from(id.item).wrapping_sub(1);
        let bit = (id.block as usize) << self.shift | item;
        let word = bit / 64;
        if item >> self.shift != 0 || word >= WORDS {
            return self.others.insert(id);
        }
        self.bits.resize((word + 1).next_power_of_two(), 0);
        self.bits[word] |= 1 << (bit % 64);
        true
    }
}

/// Elements in an open-addressing table, for those who see few. Forgetting is counting up a
/// generation.
#[derive(Debug)]
pub(crate) struct Table {
    /// Generation (16 bits), block (32), item (16); generation 0 is never in use.
    slots: Vec<u64>,
    generation: u16,
    used: usize,
}

impl Table {
    const FIRST: usize = 1 << 12;

    pub fn new() -> Self {
        Self { slots: Vec::new(), generation: 1, used: 0 }
    }

    /// Forgets all, and gives memory of very long walks back.
    pub fn clear(&mut self) {
        const LONG: usize = 1 << 20;
        self.used = 0;
        if self.generation == u16::MAX || self.slots.len() > LONG {
            *self = Self::new();
        } else {
            self.generation += 1;
        }
    }

    /// The number of elements.
    pub fn len(&self) -> usize {
        self.used
    }

    /// Marks an element as seen; false where it was.
    #[inline]
    pub fn insert(&mut self, id: Id) -> bool {
        if self.used * 2 >= self.slots.len() {
            self.grow();
        }
        let fresh = self.put(self.key(id));
        self.used += usize::from(fresh);
        fresh
    }

    /// Was an element seen?
    #[inline]
    pub fn contains(&self, id: Id) -> bool {
        let Some(mask) = self.slots.len().checked_sub(1) else { return false };
        let key = self.key(id);
        let mut at = Self::hash(key) & mask;
        while self.slots[at] >> 48 == u64::from(self.generation) {
            if self.slots[at] == key {
                return true;
            }
            at = (at + 1) & mask;
        }
        false
    }

    #[inline]
    fn key(&self, id: Id) -> u64 {
        let place = u64::from(id.block) << 16 | u64::from(id.item);
        u64::from(self.generation) << 48 | place
    }

    #[inline]
    fn hash(key: u64) -> usize {
        (key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as usize
    }

    #[inline]
    fn put(&mut self, key: u64) -> bool {
        let mask = self.slots.len() - 1;
        let mut at = Self::hash(key) & mask;
        loop {
            let slot = self.slots[at];
            if slot == key {
                return false;
            }
            if slot >> 48 != u64::from(self.generation) {
                self.slots[at] = key;
                return true;
            }
            at = (at + 1) & mask;
        }
    }

    fn grow(&mut self) {
        let old = std::mem::take(&mut self.slots);
        self.slots = vec![0; (old.len() * 2).max(Self::FIRST)];
        for key in old {
            if key >> 48 == u64::from(self.generation) {
                self.put(key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::format::layout::Metric;

    /// Places on few pages, past the bits, and of items that no element has.
    #[test]
    fn remembers_what_it_saw_and_nothing_else() {
        let layout = Layout::new(Metric::Cosine, 384, 16, 0).unwrap();
        let mut visited = Visited::new();
        for round in 0..3_u32 {
            visited.start(&layout);
            let mut known = HashSet::new();
            let mut state = 7 + round;
            for _ in 0..20_000 {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let spread = [300, 3_000_000, u32::MAX][(state >> 20) as usize % 3];
                let id = Id { block: (state >> 3) % spread, item: (state >> 11) as u16 % 9 };
                assert_eq!(visited.insert(id), known.insert(id), "{id:?}");
            }
            assert_eq!(visited.len(), known.len());
            assert!(known.len() < 20_000, "no place came twice");
        }
    }
}
