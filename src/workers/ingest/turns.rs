//! Whose turn it is. Owners get equal shares of the worker's time, whatever they queue and however
//! many tables they spread it over; the relations of an owner take turns.
//!
//! Plain data, apart from the server's object numbers.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use pgrx::pg_sys;

use super::tuning::{FIRST_ROWS, LONG_STEP, MOST_ROWS};

/// A relation that has entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lane {
    pub relation: pg_sys::Oid,
    /// Invalid: the relation is gone.
    pub owner: pg_sys::Oid,
}

/// What is known of a relation from earlier steps.
#[derive(Clone, Copy, Debug)]
struct Past {
    /// Rows of its next step.
    rows: usize,
    /// The number of its last step.
    served: u64,
    /// Whether that was about an entry that may be at fault.
    alone: bool,
}

impl Default for Past {
    fn default() -> Self {
        Self { rows: FIRST_ROWS, served: 0, alone: false }
    }
}

#[derive(Debug, Default)]
pub struct Turns {
    ready: Vec<Lane>,
    /// Until when that is good enough: looking is not to take longer than working.
    good_until: Option<Instant>,
    /// Time that owners had, counted from a common start.
    had: HashMap<u32, Duration>,
    /// What the owner that came last had before: who comes anew starts there, and has neither a
    /// claim to the time before nor to wait for others to catch up.
    now: Duration,
    past: HashMap<u32, Past>,
    steps: u64,
}

impl Turns {
    /// Whether the relations that are ready must be looked up.
    pub fn must_look(&self) -> bool {
        self.ready.is_empty() || self.good_until.is_none_or(|until| Instant::now() >= until)
    }

    /// Takes in the relations that are ready, found in `took`.
    pub fn set(&mut self, ready: Vec<Lane>, took: Duration) {
        let owners: HashSet<u32> = ready.iter().map(|lane| lane.owner.to_u32()).collect();
        self.had.retain(|owner, _| owners.contains(owner));
        for owner in owners {
            self.had.entry(owner).or_insert(self.now);
        }
        self.ready = ready;
        self.good_until = Some(Instant::now() + (took * 4).max(Duration::from_millis(50)));
    }

    /// Whose turn it is.
    pub fn next(&mut self) -> Option<Lane> {
        let had = |lane: &Lane| self.had.get(&lane.owner.to_u32()).copied().unwrap_or_default();
        let next = self.ready.iter().copied().min_by_key(|lane| (had(lane), self.served(*lane)))?;
        self.now = had(&next);
        Some(next)
    }

    /// A relation has nothing that is due, or was put off.
    pub fn drop(&mut self, lane: Lane) {
        self.ready.retain(|other| *other != lane);
    }

    /// Rows of a relation's next step, and whether one that may be at fault comes first.
    pub fn manner(&self, lane: Lane) -> (usize, bool) {
        let past = self.past.get(&lane.relation.to_u32()).copied().unwrap_or_default();
        (past.rows, !past.alone)
    }

    /// A step of a relation ended after `took`, of which it was let in for `alone` entries.
    pub fn charge(&mut self, lane: Lane, took: Duration, alone: bool) {
        self.steps += 1;
        *self.had.entry(lane.owner.to_u32()).or_insert(self.now) += took;
        let past = self.past.entry(lane.relation.to_u32()).or_default();
        (past.served, past.alone) = (self.steps, alone);
    }

    /// Fits the number of rows to what a step of many took.
    pub fn adapt(&mut self, lane: Lane, took: Duration) {
        let past = self.past.entry(lane.relation.to_u32()).or_default();
        past.rows = match took {
            took if took > LONG_STEP => (past.rows / 2).max(1),
            took if took < LONG_STEP / 4 => (past.rows * 2).min(MOST_ROWS),
            _ => past.rows,
        };
    }

    /// One row at a time: a step of many failed.
    pub fn one_by_one(&mut self, lane: Lane) {
        self.past.entry(lane.relation.to_u32()).or_default().rows = 1;
    }

    /// Nothing is queued.
    pub fn forget(&mut self) {
        *self = Self::default();
    }

    fn served(&self, lane: Lane) -> u64 {
        self.past.get(&lane.relation.to_u32()).map_or(0, |past| past.served)
    }
}
