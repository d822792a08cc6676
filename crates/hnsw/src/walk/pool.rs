//! The elements that a walk has not expanded yet, by their estimated distance. Its own file because
//! search, insertion and repair all walk with it.
//!
//! How far a scan will go is not known when it starts, so nothing can be left out of the pool. A
//! small heap holds the near entries and an unsorted pile the far ones; when the heap runs empty
//! the pile is divided anew. That costs what a bounded heap does.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use crate::format::id::Id;

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

    /// Is there no entry left?
    pub fn is_empty(&self) -> bool {
        self.near.is_empty() && self.far.is_empty()
    }

    /// Entries above `bound` are not wanted soon: they go to the pile.
    pub fn lower(&mut self, bound: f32) {
        self.threshold = self.threshold.min(bound);
    }

    /// Adds an entry.
    #[inline]
    pub fn push(&mut self, estimate: f32, id: Id) {
        let estimate = if estimate.is_nan() { f32::MAX } else { estimate };
        let candidate = Candidate { estimate, id };
        if estimate <= self.threshold {
            self.push_near(candidate);
        } else {
            self.far.push(candidate);
        }
        if self.near.len() + self.far.len() > self.limit {
            self.give_up();
        }
    }

    /// Apart, so that the rest is small enough to be inlined.
    #[inline(never)]
    fn push_near(&mut self, candidate: Candidate) {
        self.near.push(candidate);
        if self.near.len() > LARGE && self.threshold == f32::INFINITY {
            self.divide(f32::INFINITY);
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
