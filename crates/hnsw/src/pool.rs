//! What a walk remembers: which elements it has seen, and those it has not expanded yet, by their
//! estimated distance. Its own file because search, insertion and repair all walk with it.
//!
//! How far a scan will go is not known when it starts, so nothing can be left out of the pool. A
//! small heap holds the near entries and an unsorted pile the far ones; when the heap runs empty
//! the pile is divided anew. That costs what a bounded heap does.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use crate::id::Id;

/// An element to expand.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Candidate {
    /// The estimate of its inner distance.
    pub estimate: f32,
    pub id: Id,
}

/// The nearest candidate is the greatest: `BinaryHeap` gives that first.
impl Ord for Candidate {
    fn cmp(&self, other: &Self) -> Ordering {
        other.estimate.total_cmp(&self.estimate).then_with(|| other.id.cmp(&self.id))
    }
}

impl PartialOrd for Candidate {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Candidate {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Candidate {}

/// How many entries the heap gets from the pile where no bound says better.
const PORTION: usize = 64;
/// The heap's size from which on it is divided, where no bound did it.
const LARGE: usize = 4096;

/// The candidates of a walk.
#[derive(Debug)]
pub(crate) struct Pool {
    near: BinaryHeap<Candidate>,
    far: Vec<Candidate>,
    /// No entry of `far` is at or below this.
    threshold: f32,
    limit: usize,
    dropped: bool,
}

impl Pool {
    pub fn new() -> Self {
        Self {
            near: BinaryHeap::new(),
            far: Vec::new(),
            threshold: f32::INFINITY,
            limit: usize::MAX,
            dropped: false,
        }
    }

    /// Forgets everything; from now on holds at most `limit` entries.
    pub fn reset(&mut self, limit: usize) {
        self.near.clear();
        self.far.clear();
        self.threshold = f32::INFINITY;
        self.limit = limit.max(2 * PORTION);
        self.dropped = false;
    }

    /// Were entries given up for want of room?
    pub fn dropped(&self) -> bool {
        self.dropped
    }

    /// Entries above `bound` are not wanted soon: they go to the pile.
    pub fn lower(&mut self, bound: f32) {
        self.threshold = self.threshold.min(bound);
    }

    pub fn push(&mut self, estimate: f32, id: Id) {
        let estimate = if estimate.is_nan() { f32::MAX } else { estimate };
        let candidate = Candidate { estimate, id };
        if estimate <= self.threshold {
            self.near.push(candidate);
            if self.near.len() > LARGE && self.threshold == f32::INFINITY {
                self.divide(f32::INFINITY);
            }
        } else {
            self.far.push(candidate);
        }
        if self.near.len() + self.far.len() > self.limit {
            self.give_up();
        }
    }

    /// The nearest entry, unless it lies beyond `bound`.
    pub fn pop(&mut self, bound: f32) -> Option<Candidate> {
        let in_order = self.near.peek().is_some_and(|top| top.estimate <= self.threshold);
        if !in_order {
            self.divide(bound);
        }
        match self.near.peek() {
            Some(top) if top.estimate <= bound => self.near.pop(),
            _ => None,
        }
    }

    /// The entry that comes next, if it is known.
    pub fn peek(&self) -> Option<Id> {
        self.near.peek().map(|top| top.id)
    }

    /// Puts heap and pile together and divides them anew: up to `bound`, or the nearest few.
    fn divide(&mut self, bound: f32) {
        self.far.extend(self.near.drain());
        self.threshold = bound;
        if bound == f32::INFINITY && self.far.len() > 2 * PORTION {
            let nearest = by_estimate(&mut self.far, PORTION);
            self.threshold = nearest;
        }
        let threshold = self.threshold;
        let near = &mut self.near;
        self.far.retain(|candidate| {
            let keep = candidate.estimate > threshold;
            if !keep {
                near.push(*candidate);
            }
            keep
        });
    }

    /// Keeps the nearer half.
    fn give_up(&mut self) {
        self.far.extend(self.near.drain());
        let half = self.far.len() / 2;
        by_estimate(&mut self.far, half);
        self.far.truncate(half);
        self.dropped = true;
        self.divide(f32::INFINITY);
    }
}

/// Moves the nearest `count` to the front, and returns the estimate of the one after them.
fn by_estimate(candidates: &mut [Candidate], count: usize) -> f32 {
    let order = |a: &Candidate, b: &Candidate| a.estimate.total_cmp(&b.estimate);
    candidates.select_nth_unstable_by(count, order).1.estimate
}

/// The elements that a walk has seen: an open-addressing table. Forgetting is counting up a
/// generation, so a scan that is run again pays nothing for the last one.
#[derive(Debug)]
pub(crate) struct Visited {
    /// Generation (16 bits), block (32), item (16); generation 0 is never in use.
    slots: Vec<u64>,
    generation: u16,
    used: usize,
}

impl Visited {
    const FIRST: usize = 1 << 12;

    pub fn new() -> Self {
        Self { slots: vec![0; Self::FIRST], generation: 1, used: 0 }
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

    /// The number of elements seen.
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
        let key = self.key(id);
        let mask = self.slots.len() - 1;
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
        self.slots = vec![0; old.len() * 2];
        for key in old {
            if key >> 48 == u64::from(self.generation) {
                self.put(key);
            }
        }
    }
}
