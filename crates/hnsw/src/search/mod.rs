//! A scan: rows in the order of their distance to a query, as many as are asked for.
//!
//! How many that will be is not known, and must not matter: the first rows are the same whether ten or
//! a thousand are asked for. So the walk goes by a schedule of its own ([`stop`]): it expands the
//! nearest candidate until none is left below the bound of the stop rule for the schedule's k, then the
//! rows of the k nearest elements come out in order, and for more it goes on where it stands. A row
//! that is found late may be nearer than one that is out already: in [`Order::Strict`] it is left out
//! and counted, in [`Order::Relaxed`] returned all the same. Rows that a filter refuses are walked
//! through, but count for nothing; where nearly all are refused, the walk looks for those that are not
//! on a second way.
//!
//! The rule counts elements: ten rows of one vector say no more about where the neighbours lie than one.

mod rows;
mod second_way;
mod stop;
mod ways;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashSet};

use crate::error::Error;
use crate::format::id::{Id, Tid};
use crate::format::record::Values;
use crate::search::second_way::Track;
use crate::space::{Distance, Query, Space};
use crate::store::Store;
use crate::tuning;
use crate::walk::Walk;
use crate::walk::descent::{Descent, enter};
pub use stop::stop_bound;
use stop::{Nearest, most_found, next_step};

/// What happens to rows that are found late, and after the first rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Rows come in order; late ones are left out, and counted.
    Strict,
    /// Late rows come late.
    Relaxed,
    /// As strict, and the scan ends after `ef` rows.
    Off,
}

/// How a scan goes about it.
#[derive(Debug, Clone, Copy)]
pub struct ScanOptions {
    /// `s` of the stop rule: how much farther than the k-th best row the walk looks.
    pub slack: f32,
    /// The most rows with [`Order::Off`].
    pub ef: usize,
    /// See [`Order`].
    pub order: Order,
    /// The most records a scan looks at on the base layer, and on layer 1 to look around.
    pub max_records: u64,
    /// The most bytes that candidates and rows held back may take.
    pub max_memory: usize,
}

impl Default for ScanOptions {
    fn default() -> Self {
        Self {
            slack: tuning::slack(),
            ef: 1000,
            order: Order::Strict,
            max_records: 20_000,
            max_memory: 64 << 20,
        }
    }
}

/// A row of the answer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Row {
    /// The row in the table.
    pub tid: Tid,
    /// The operator's result for it.
    pub distance: f64,
}

impl Eq for Row {}

impl Ord for Row {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.distance.total_cmp(&other.distance).then_with(|| self.tid.cmp(&other.tid))
    }
}

impl PartialOrd for Row {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

/// Why a scan ended before it had seen everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// [`ScanOptions::max_records`] were looked at.
    Records,
    /// Candidates were given up, or rows not taken, for want of memory.
    Memory,
    /// Rows found late were left out.
    Late,
    /// Elements that the way led over were freed while the scan was paused.
    Changed,
    /// [`Order::Off`], and `ef` rows were returned.
    Off,
}

/// What a scan has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ScanStats {
    /// Records looked at, as [`ScanOptions::max_records`] counts them.
    pub records: u64,
    /// Of those, the ones looked at for a sample of the index, many on a page.
    pub sampled: u64,
    /// Neighbours seen.
    pub seen: u64,
    /// Rows returned.
    pub rows: u64,
    /// Rows left out because they were found late.
    pub late: u64,
}

/// Where a scan stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Fresh,
    Walking,
    /// All that there is was found, or all that may be looked for.
    Finished,
}

/// A scan. Made once and started again for each query, so that its memory is taken once.
#[derive(Debug)]
pub struct Scan {
    options: ScanOptions,
    walk: Walk,
    track: Track,
    descent: Descent,
    phase: Phase,
    mean: Option<f32>,
    /// How many elements the steps so far were about, and the distances of those found.
    done: usize,
    nearest: Nearest,
    held: BinaryHeap<Reverse<Row>>,
    /// Rows held back come out as far as this; all, once the scan is finished.
    released: f64,
    last: f64,
    rows_full: bool,
    /// Did the walk end because of [`ScanOptions::max_records`]?
    exhausted: bool,
    /// Was layer 1 looked around on?
    wide: bool,
    /// Records looked at beside those that the walk expanded.
    looked: u64,
    /// What the store said of freed elements when the walk began, and how often it was begun again.
    freed: u64,
    restarts: usize,
    /// Did elements go while the scan looked, too often to look again?
    lost: bool,
    /// Rows handed out, and, after a walk was begun again, all that were taken before it.
    returned: Vec<Tid>,
    known: HashSet<Tid>,
    /// An element that is to be passed over.
    left_out: Option<Id>,
    /// The rows of the element at hand.
    tids: Vec<Tid>,
    stats: ScanStats,
}

/// Bytes a candidate takes: in the pool and among the seen.
const CANDIDATE_BYTES: usize = 12 + 16;
/// Bytes a row takes while it is held back.
const ROW_BYTES: usize = 16 + 16;

impl Scan {
    /// A scan that has yet to be started.
    pub fn new() -> Self {
        Self {
            options: ScanOptions::default(),
            walk: Walk::new(),
            track: Track::new(),
            descent: Descent::new(),
            phase: Phase::Finished,
            mean: None,
            done: 0,
            nearest: Nearest::new(),
            held: BinaryHeap::new(),
            released: f64::NEG_INFINITY,
            last: f64::NEG_INFINITY,
            rows_full: false,
            exhausted: false,
            wide: false,
            looked: 0,
            freed: 0,
            restarts: 0,
            lost: false,
            returned: Vec::new(),
            known: HashSet::new(),
            left_out: None,
            tids: Vec::new(),
            stats: ScanStats::default(),
        }
    }

    /// Begins anew. `mean` is [`Moments::mean_distance`](crate::Moments::mean_distance) of the query that [`Scan::next`] will get.
    pub fn start(&mut self, options: ScanOptions, mean: Option<f32>) {
        self.options = options;
        self.mean = mean;
        self.phase = Phase::Fresh;
        self.done = 0;
        self.nearest.clear();
        self.held.clear();
        self.released = f64::NEG_INFINITY;
        self.last = f64::NEG_INFINITY;
        self.rows_full = false;
        self.exhausted = false;
        self.wide = false;
        self.looked = 0;
        self.restarts = 0;
        self.lost = false;
        self.returned.clear();
        self.known.clear();
        self.left_out = None;
        self.stats = ScanStats::default();
    }

    /// Passes over an element of the base layer, as if it were not there.
    pub(crate) fn leave_out(&mut self, id: Id) {
        self.left_out = Some(id);
    }

    /// What was done since the start.
    pub fn stats(&self) -> ScanStats {
        let seen = if self.phase == Phase::Fresh { 0 } else { self.walk.visited.len() as u64 };
        ScanStats { records: self.records(), seen, ..self.stats }
    }

    fn records(&self) -> u64 {
        if self.phase == Phase::Fresh { 0 } else { self.walk.expanded + self.looked }
    }

    /// How many more records may be looked at.
    fn left(&self) -> u64 {
        self.options.max_records.saturating_sub(self.records())
    }

    /// After [`Scan::next`] returned none: why there may be more rows than it returned.
    pub fn cut_short(&self) -> Option<Cut> {
        if self.off() {
            Some(Cut::Off)
        } else if self.exhausted {
            Some(Cut::Records)
        } else if self.walk.pool.dropped() || self.rows_full {
            Some(Cut::Memory)
        } else if self.lost {
            Some(Cut::Changed)
        } else if self.stats.late > 0 {
            Some(Cut::Late)
        } else {
            None
        }
    }

    fn off(&self) -> bool {
        self.options.order == Order::Off && self.stats.rows >= self.options.ef as u64
    }

    /// The next row that `pass` lets through; none when there are no more, or no more may be looked
    /// for. The query is the same for all calls since the start.
    pub fn next<S: Store>(
        &mut self,
        store: &S,
        space: &Space,
        query: &Query,
        mut pass: impl FnMut(Values<'_>) -> bool,
    ) -> Result<Option<Row>, Error<S::Error>> {
        if self.phase == Phase::Fresh && !self.enter(store, space, query)? {
            return Ok(None);
        }
        loop {
            if self.off() {
                return Ok(None);
            }
            while let Some(Reverse(row)) = self.held.peek().copied()
                && (self.phase == Phase::Finished || row.distance.total_cmp(&self.released).is_le())
            {
                self.held.pop();
                self.returned.push(row.tid);
                if row.distance < self.last && self.options.order != Order::Relaxed {
                    self.stats.late += 1;
                    continue;
                }
                self.last = self.last.max(row.distance);
                self.stats.rows += 1;
                return Ok(Some(row));
            }
            if self.phase == Phase::Finished {
                return Ok(None);
            }
            self.go_on(store, space, query, &mut pass)?;
        }
    }

    /// Goes down to the base layer. False where the graph is empty.
    fn enter<S: Store>(
        &mut self,
        store: &S,
        space: &Space,
        query: &Query,
    ) -> Result<bool, Error<S::Error>> {
        // A quarter of the memory is the second way's, an eighth of the candidates.
        let limit = (self.options.max_memory / CANDIDATE_BYTES).max(1000);
        self.freed = store.freed().map_err(Error::Store)?;
        let Some(entry) = enter(store, space, query)? else {
            self.walk.pool.reset(limit);
            self.walk.visited.start(space.layout());
            self.walk.expanded = 0;
            self.phase = Phase::Finished;
            return Ok(false);
        };
        let here = self.descent.run(store, space, query, entry, 0)?;
        self.track.reset(limit / 8);
        self.walk.start(space.layout(), here.id, here.distance, limit - limit / 4);
        if let Some(id) = self.left_out {
            self.walk.visited.insert(id);
        }
        self.phase = Phase::Walking;
        Ok(true)
    }

    /// Walks until the next step of the schedule is done, and releases its rows.
    fn go_on<S: Store>(
        &mut self,
        store: &S,
        space: &Space,
        query: &Query,
        pass: &mut impl FnMut(Values<'_>) -> bool,
    ) -> Result<(), Error<S::Error>> {
        store.interrupt().map_err(Error::Store)?;
        let step = next_step(self.done);
        self.nearest.step(step, self.released);
        let most = most_found(self.options.slack, self.done + step);
        loop {
            if self.left() == 0 {
                self.exhausted = !self.walk.pool.is_empty();
                self.phase = Phase::Finished;
                break;
            }
            if self.nearest.found() >= most {
                break;
            }
            let bound = self.bound(space, query);
            self.walk.pool.lower(bound);
            let Some((way, id)) = self.pop(bound) else {
                if !self.nearest.is_full() {
                    // Nothing is left, or nothing of what is wanted.
                    if self.look_again(store, space, query)? {
                        continue;
                    }
                    self.phase = Phase::Finished;
                } else if !self.wide && self.walk.is_caught() {
                    self.look_around(store, space, query)?;
                    continue;
                }
                break;
            };
            if !self.wide && self.walk.expanded == tuning::caught_after() && self.walk.is_caught() {
                self.look_around(store, space, query)?;
            }
            let (passed, nearer) = self.expand(store, space, query, id, pass)?;
            self.track.count(way, id, passed, nearer);
            if self.track.is_due() {
                self.sample(store, space, query, pass)?;
            }
        }
        if let Some(farthest) = self.nearest.farthest() {
            self.released = farthest.operator;
        }
        self.done += step;
        Ok(())
    }

    /// How far the walk has to look.
    fn bound(&self, space: &Space, query: &Query) -> f32 {
        match self.nearest.farthest() {
            Some(Distance { inner, .. }) if self.nearest.is_full() => {
                let (slack, noise) = (self.options.slack, query.noise(inner));
                stop_bound(space.metric(), slack, self.mean, noise, inner)
            }
            _ => f32::INFINITY,
        }
    }
}

impl Default for Scan {
    fn default() -> Self {
        Self::new()
    }
}
