//! The second way of a filtered walk. Its own file because a walk that is not filtered, or whose
//! filter has nothing to do with the vectors, hardly takes it.
//!
//! A walk goes where the query's neighbours are. Where the rows that pass a filter lie somewhere else
//! as a whole (the pictures of one camera look alike), it would look at everything between before it
//! finds one. So a walk that rarely finds a row that passes takes a sample of the index, and from then
//! on follows, beside the nearest candidates, those within two edges of a row that passes, as long as
//! its neighbours pass more often than other elements do. (ACORN, arXiv 2403.04871, also goes over two
//! edges, at every element.)

use crate::format::id::Id;
use crate::tuning;
use crate::walk::pool::Pool;
use crate::walk::visited::Table;

/// How much better the neighbours of rows that pass have to be than others.
const BETTER: u64 = 2;
/// Of these, how many have to pass themselves before that is more than luck.
const PROOF: u64 = 3;
/// One record in so many is expanded on the first way while the second goes on.
const TURNS: u64 = 4;

/// The ways to take a candidate from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    First,
    Second,
}

/// What was expanded, and how much of it passed.
#[derive(Debug, Clone, Copy, Default)]
struct Yield {
    expanded: u64,
    passed: u64,
}

impl Yield {
    fn count(&mut self, passed: bool) {
        self.expanded += 1;
        self.passed += u64::from(passed);
    }
}

/// Where a walk stands with its second way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Nothing asks for it so far.
    Idle,
    Taken,
    /// It was no better than the first.
    Left,
}

/// The elements near rows that pass, and what is known of both ways.
#[derive(Debug)]
pub(crate) struct Track {
    state: State,
    pool: Pool,
    limit: usize,
    /// What was expanded on either way.
    expanded: Table,
    /// What is, or was, in the pool, and which of it are neighbours of a row that passes.
    seen: Table,
    close: Table,
    first: Yield,
    /// Of the first way, since it was last asked.
    window: Yield,
    /// Of the neighbours of rows that pass, on the second way.
    second: Yield,
    /// Records on the first way since a row came among the nearest.
    vain: u64,
    turn: u64,
}

impl Track {
    pub fn new() -> Self {
        Self {
            state: State::Idle,
            pool: Pool::new(),
            limit: 0,
            expanded: Table::new(),
            seen: Table::new(),
            close: Table::new(),
            first: Yield::default(),
            window: Yield::default(),
            second: Yield::default(),
            vain: 0,
            turn: 0,
        }
    }

    /// Forgets everything; from now on follows at most `limit` candidates.
    pub fn reset(&mut self, limit: usize) {
        if self.state != State::Idle {
            self.pool.reset(limit);
            self.seen.clear();
            self.close.clear();
        }
        self.state = State::Idle;
        self.limit = limit;
        self.expanded.clear();
        self.first = Yield::default();
        self.window = Yield::default();
        self.second = Yield::default();
        self.vain = 0;
        self.turn = 0;
    }

    /// Marks an element as expanded; false where it was.
    pub fn expand(&mut self, id: Id) -> bool {
        self.expanded.insert(id)
    }

    /// Says what came of an element that was expanded: whether one of its rows passed, and whether one
    /// came among the nearest.
    pub fn count(&mut self, way: Way, id: Id, passed: bool, nearer: bool) {
        self.vain = if nearer { 0 } else { self.vain + u64::from(way == Way::First) };
        match way {
            Way::First => {
                self.first.count(passed);
                self.window.count(passed);
            }
            Way::Second if self.close.contains(id) => self.second.count(passed),
            Way::Second => {}
        }
        if self.is_taken() && self.second.expanded >= tuning::filter_trial() && !self.is_better() {
            self.state = State::Left;
        }
    }

    /// Do neighbours of rows that pass do so more often than other elements?
    fn is_better(&self) -> bool {
        let (first, second) = (self.first, self.second);
        // Both rates, each times both counts; the first way's with one row more than it found.
        second.passed * first.expanded >= BETTER * (first.passed + 1) * second.expanded
    }

    /// Is it time to begin the second way?
    pub fn is_due(&mut self) -> bool {
        if self.state != State::Idle || self.window.expanded < tuning::filter_window() {
            return false;
        }
        let window = std::mem::take(&mut self.window);
        window.passed * tuning::filter_rare() < window.expanded
    }

    /// Begins the second way, with what is [added](Self::add) from now on.
    pub fn begin(&mut self) {
        self.state = State::Taken;
        self.pool.reset(self.limit);
    }

    /// Are candidates of the second way looked for?
    pub fn is_taken(&self) -> bool {
        self.state == State::Taken
    }

    /// Adds the neighbours of an element that was expanded, with their estimates, where it passed or is
    /// a neighbour of one that did.
    pub fn add(&mut self, from: Id, passed: bool, neighbours: &[(Id, f32)]) {
        if !passed && !self.close.contains(from) {
            return;
        }
        for &(id, estimate) in neighbours {
            if self.seen.len() >= self.limit {
                return;
            }
            if self.seen.insert(id) {
                self.pool.push(estimate, id);
            }
            if passed {
                self.close.insert(id);
            }
        }
    }

    /// The way whose turn it is.
    pub fn turn(&mut self) -> Way {
        self.turn += 1;
        match self.is_taken() && !self.turn.is_multiple_of(TURNS) {
            true => Way::Second,
            false => Way::First,
        }
    }

    /// The nearest candidate of the second way that was not expanded, unless it lies beyond `bound`.
    pub fn pop(&mut self, bound: f32) -> Option<Id> {
        self.pool.lower(bound);
        while let Some(candidate) = self.pool.pop(bound) {
            if self.expanded.insert(candidate.id) {
                return Some(candidate.id);
            }
        }
        None
    }

    /// With the second way at its end: has the first gone on in vain for long enough? Only a second way
    /// that was seen to be better says that: where rows that pass are rare everywhere, going on in vain
    /// is what it takes to find them.
    pub fn is_vain(&self) -> bool {
        self.vain >= tuning::filter_patience() && self.second.passed >= PROOF && self.is_better()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u64) -> Id {
        Id { block: number as u32, item: 1 }
    }

    /// A walk of which one in `first` passes, and one in `second` of the neighbours of those.
    fn walk(first: u64, second: u64) -> Track {
        let mut track = Track::new();
        track.reset(10_000);
        for number in 0..tuning::filter_window() {
            assert!(!track.is_due() && track.expand(id(number)));
            track.count(Way::First, id(number), number % first == 0, false);
        }
        if track.is_due() {
            track.begin();
            let near: Vec<(Id, f32)> =
                (0..tuning::filter_trial()).map(|n| (id(1000 + n), n as f32)).collect();
            track.add(id(999), true, &near);
            for number in 0..tuning::filter_trial() {
                let next = track.pop(f32::INFINITY);
                assert_eq!(next, Some(id(1000 + number)));
                track.count(Way::Second, id(1000 + number), number % second == 0, false);
            }
        }
        track
    }

    #[test]
    fn the_second_way_is_for_filters_that_go_with_the_vectors() {
        assert_eq!(walk(10, 10).state, State::Idle);
        assert_eq!(walk(100, 1).state, State::Taken);
        assert_eq!(walk(100, 10).state, State::Taken);
        assert_eq!(walk(100, 64).state, State::Left);
    }

    #[test]
    fn two_edges_lead_on_and_three_do_not() {
        let mut track = Track::new();
        track.reset(100);
        track.begin();
        track.add(id(1), true, &[(id(2), 0.5)]);
        assert_eq!(track.pop(1.0), Some(id(2)));
        track.add(id(2), false, &[(id(3), 0.7)]);
        assert_eq!(track.pop(0.6), None);
        assert_eq!(track.pop(1.0), Some(id(3)));
        track.add(id(3), false, &[(id(4), 0.8)]);
        assert_eq!(track.pop(1.0), None);
        assert!(!track.expand(id(3)));
    }

    #[test]
    fn no_more_candidates_than_memory_allows() {
        let mut track = Track::new();
        track.reset(10);
        track.begin();
        let near: Vec<(Id, f32)> = (0..100).map(|n| (id(n), n as f32)).collect();
        track.add(id(1000), true, &near);
        let popped: Vec<Id> = std::iter::from_fn(|| track.pop(f32::INFINITY)).collect();
        assert_eq!(popped, (0..10).map(id).collect::<Vec<_>>());
    }
}
