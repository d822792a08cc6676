//! A scan: rows in the order of their distance to a query, as many as are asked for.
//!
//! The walk expands the nearest candidate until none is left below the bound of the stop rule for
//! the k-th best row; then the batch is sorted and handed out, and the next one, twice as large,
//! goes on where it ended. A row that is found late may be nearer than one that is out already: in
//! [`Order::Strict`] it is left out and counted, in [`Order::Relaxed`] returned all the same. Rows
//! that a filter refuses are walked through, but count for nothing; where nearly all are refused, the
//! walk looks for those that are not on a second way.

mod ways;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashSet};

use crate::descent::{Descent, enter};
use crate::error::Error;
use crate::id::{Id, Tid};
use crate::layout::Metric;
use crate::overflow::Overflow;
use crate::record::{Kind, Values};
use crate::space::{Distance, Query, Space};
use crate::store::Store;
use crate::track::Track;
use crate::walk::Walk;

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
    /// The most rows found for one batch before it is handed out, beside three times the batch.
    pub ef: usize,
    /// Rows of the first batch: the LIMIT, where it is known.
    pub batch: usize,
    /// See [`Order`].
    pub order: Order,
    /// The most records a scan expands.
    pub max_records: u64,
    /// The most bytes that candidates and rows held back may take.
    pub max_memory: usize,
}

impl Default for ScanOptions {
    fn default() -> Self {
        Self {
            slack: 0.15,
            ef: 1000,
            batch: 10,
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
    /// [`ScanOptions::max_records`] were expanded.
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
    /// Records expanded.
    pub records: u64,
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
    batch: usize,
    /// Rows that were handed over to `ready`, and the k-th best among all is asked for.
    wanted: usize,
    /// The inner distances of all rows found; and the `wanted` smallest of them.
    found: Vec<f32>,
    nearest: BinaryHeap<Total>,
    held: BinaryHeap<Reverse<Row>>,
    /// Rows of the present batch still to be handed out.
    ready: usize,
    last: f64,
    rows_full: bool,
    /// Was layer 1 looked around on?
    wide: bool,
    /// What the store said of freed elements when the walk began, and how often it was begun again.
    freed: u64,
    restarts: usize,
    /// Did elements go while the scan looked, too often to look again?
    lost: bool,
    /// Rows handed out, and, after a walk was begun again, all that were taken before it.
    returned: Vec<Tid>,
    known: HashSet<Tid>,
    stats: ScanStats,
}

/// fp32 in total order.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Total(f32);

impl Eq for Total {}

impl Ord for Total {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.total_cmp(&other.0)
    }
}

impl PartialOrd for Total {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

/// A walk of so many records asks itself whether it is caught before it has found all it wants.
const LONG: u64 = 64;

/// Rows that a batch may find beyond `ef`, in batches: of text-like queries' first 1,000 rows 0.80 were
/// found with one.
const BEYOND: usize = 3;

/// A batch never grows past this.
const LARGEST_BATCH: usize = 1000;

/// A chain of more rows than this is a circle.
const MOST_TUPLES: usize = 1 << 24;

/// Bytes a candidate takes: in the pool and among the seen.
const CANDIDATE_BYTES: usize = 12 + 16;
/// Bytes a row takes while it is held back.
const ROW_BYTES: usize = 16 + 8;

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
            batch: 0,
            wanted: 0,
            found: Vec::new(),
            nearest: BinaryHeap::new(),
            held: BinaryHeap::new(),
            ready: 0,
            last: f64::NEG_INFINITY,
            rows_full: false,
            wide: false,
            freed: 0,
            restarts: 0,
            lost: false,
            returned: Vec::new(),
            known: HashSet::new(),
            stats: ScanStats::default(),
        }
    }

    /// Begins anew. `mean` is [`Moments::mean_distance`](crate::Moments::mean_distance) of the query that [`Scan::next`] will get.
    pub fn start(&mut self, options: ScanOptions, mean: Option<f32>) {
        self.options = options;
        self.mean = mean;
        self.phase = Phase::Fresh;
        self.batch = options.batch.max(1);
        self.wanted = 0;
        self.found.clear();
        self.nearest.clear();
        self.held.clear();
        self.ready = 0;
        self.last = f64::NEG_INFINITY;
        self.rows_full = false;
        self.wide = false;
        self.restarts = 0;
        self.lost = false;
        self.returned.clear();
        self.known.clear();
        self.stats = ScanStats::default();
    }

    /// What was done since the start.
    pub fn stats(&self) -> ScanStats {
        let seen = if self.phase == Phase::Fresh { 0 } else { self.walk.visited.len() as u64 };
        ScanStats { records: self.records(), seen, ..self.stats }
    }

    fn records(&self) -> u64 {
        if self.phase == Phase::Fresh { 0 } else { self.walk.expanded }
    }

    /// After [`Scan::next`] returned none: why there may be more rows than it returned.
    pub fn cut_short(&self) -> Option<Cut> {
        if self.records() >= self.options.max_records {
            Some(Cut::Records)
        } else if self.walk.pool.dropped() || self.rows_full {
            Some(Cut::Memory)
        } else if self.off() {
            Some(Cut::Off)
        } else if self.stats.late > 0 {
            Some(Cut::Late)
        } else if self.lost {
            Some(Cut::Changed)
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
            while self.ready > 0 {
                self.ready -= 1;
                let Some(Reverse(row)) = self.held.pop() else { break };
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
                if self.held.is_empty() {
                    return Ok(None);
                }
                self.ready = self.held.len();
                continue;
            }
            self.next_batch(store, space, query, &mut pass)?;
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
        self.phase = Phase::Walking;
        Ok(true)
    }

    /// Walks until the next batch of rows is complete.
    fn next_batch<S: Store>(
        &mut self,
        store: &S,
        space: &Space,
        query: &Query,
        pass: &mut impl FnMut(Values<'_>) -> bool,
    ) -> Result<(), Error<S::Error>> {
        store.interrupt().map_err(Error::Store)?;
        self.widen();
        let before = self.found.len();
        loop {
            if self.walk.expanded >= self.options.max_records {
                self.phase = Phase::Finished;
                break;
            }
            if self.found.len() - before >= self.options.ef + BEYOND * self.batch {
                break;
            }
            let bound = self.bound(space.metric());
            self.walk.pool.lower(bound);
            let Some((way, id)) = self.pop(bound) else {
                if bound == f32::INFINITY {
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
            if !self.wide && self.walk.expanded == LONG && self.walk.is_caught() {
                self.look_around(store, space, query)?;
            }
            let (passed, nearer) = self.expand(store, space, query, id, pass)?;
            self.track.count(way, id, passed, nearer);
            if self.track.is_due() {
                self.sample(store, space, query, pass)?;
            }
        }
        self.ready = self.batch.min(self.held.len());
        self.batch = (self.batch * 2).min(LARGEST_BATCH.max(self.batch));
        Ok(())
    }

    /// Expands an element and takes its rows. Says whether one passed, and whether one came among the
    /// nearest.
    fn expand<S: Store>(
        &mut self,
        store: &S,
        space: &Space,
        query: &Query,
        id: Id,
        pass: &mut impl FnMut(Values<'_>) -> bool,
    ) -> Result<(bool, bool), Error<S::Error>> {
        let mut first = None;
        let mut exact = None;
        let here = self.walk.expand(store, space, query, id, |element, distance| {
            first = element.tid().filter(|_| pass(element.values()));
            exact = Some((distance, element.overflow()));
        })?;
        let (true, Some((distance, overflow))) = (here, exact) else { return Ok((false, false)) };
        let (mut passed, mut nearer) = (first.is_some(), false);
        if let Some(tid) = first {
            nearer |= self.take(distance, tid);
        }
        let (owner, mut overflow) = (id, overflow);
        let mut tuples = 0;
        while let Some(id) = overflow {
            tuples += 1;
            if tuples > MOST_TUPLES {
                return Err(crate::Corrupt("more rows follow it than there can be").at(id));
            }
            let mut tids = Vec::new();
            let read = store.read(id, |bytes| {
                if Kind::Overflow.is_replaced(bytes) {
                    return Ok(None);
                }
                let tuple = Overflow::new(space.layout(), bytes)?;
                if tuple.owner() != Some(owner) {
                    return Ok(None);
                }
                tids.extend(tuple.rows().filter(|(_, row)| pass(*row)).map(|(tid, _)| tid));
                Ok(tuple.next())
            });
            let next = read.map_err(Error::Store)?.unwrap_or(Ok(None));
            overflow = next.map_err(|corrupt: crate::Corrupt| corrupt.at(id))?;
            passed |= !tids.is_empty();
            for tid in tids {
                nearer |= self.take(distance, tid);
            }
            store.interrupt().map_err(Error::Store)?;
        }
        if self.track.is_taken() {
            self.track.add(owner, passed, &self.walk.last);
        }
        Ok((passed, nearer))
    }

    /// Takes a row that was found. Is it among the nearest?
    fn take(&mut self, distance: Distance, tid: Tid) -> bool {
        if self.known.contains(&tid) {
            return false;
        }
        if self.found.len() * ROW_BYTES >= self.options.max_memory {
            self.rows_full = true;
            return false;
        }
        self.found.push(distance.inner);
        self.held.push(Reverse(Row { tid, distance: distance.operator }));
        let distance = Total(distance.inner);
        let full = self.nearest.len() >= self.wanted;
        let nearer = !full || self.nearest.peek().is_some_and(|farthest| distance < *farthest);
        if nearer {
            if full {
                self.nearest.pop();
            }
            self.nearest.push(distance);
        }
        nearer
    }

    /// The k of "the k-th best" becomes larger by the next batch.
    fn widen(&mut self) {
        self.wanted = (self.stats.rows + self.stats.late) as usize + self.batch;
        let mut all = self.found.clone();
        if all.len() > self.wanted {
            all.select_nth_unstable_by(self.wanted - 1, f32::total_cmp);
            all.truncate(self.wanted);
        }
        self.nearest = all.into_iter().map(Total).collect();
    }

    /// How far the walk has to look.
    fn bound(&self, metric: Metric) -> f32 {
        match self.nearest.peek() {
            Some(kth) if self.nearest.len() >= self.wanted => {
                stop_bound(metric, self.options.slack, self.mean, kth.0)
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

/// The stop rule: the estimate past which no candidate is expanded, for the k-th best inner distance
/// `kth` and the query's mean distance to everything, where that is known.
///
/// The first term is relative to the distance and serves queries like the data; the second is
/// relative to how much nearer than the average the k-th is and serves text among images, where all
/// distances are much alike. A floor of a hundredth keeps the bound above the k-th itself. Inner
/// products have no zero to be relative to, so the second term serves alone.
pub fn stop_bound(metric: Metric, slack: f32, mean: Option<f32>, kth: f32) -> f32 {
    const FLOOR: f32 = 0.01;
    const FAR: f32 = 3.0;
    let relative = slack * kth.abs();
    let far = mean.map(|mean| FAR * slack * (mean - kth));
    let reach = match (metric, far) {
        (Metric::InnerProduct, Some(far)) => far,
        (_, Some(far)) => relative.min(far),
        (_, None) => relative,
    };
    kth + reach.max(FLOOR * kth.abs())
}
