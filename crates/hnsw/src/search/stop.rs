//! When a walk has seen enough. Its own file because the rule and the schedule decide what a scan finds
//! and what it costs, and know nothing of how it walks.

use std::collections::BinaryHeap;

use crate::format::layout::Metric;
use crate::space::Distance;
use crate::tuning;

/// How many elements the next step of the schedule is about, after so many in the steps before. The
/// first rows must not depend on how many are asked for, so no LIMIT decides it; the limits that
/// people write are among the sums. Each step may leave rows behind that are found late, so there are
/// few. From fewer than ten elements the rule knows too little.
pub(super) fn next_step(done: usize) -> usize {
    const SUMS: [usize; 5] = [10, 30, 100, 300, 1000];
    const THEN: usize = 1000;
    SUMS.into_iter().find(|sum| *sum > done).map_or(THEN, |sum| sum - done)
}

/// The distance of an element, in order: by the inner one, since estimates are of that.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Far(Distance);

impl Eq for Far {}

impl Ord for Far {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        let (a, b) = (self.0, other.0);
        a.inner.total_cmp(&b.inner).then_with(|| a.operator.total_cmp(&b.operator))
    }
}

impl PartialOrd for Far {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

/// The distances of the elements that a scan has found beyond the rows that it has released, and which
/// of them are the k nearest of this step. What is found late, among the released, helps nobody to a
/// row more, so it does not count.
#[derive(Debug)]
pub(super) struct Nearest {
    beyond: Vec<Far>,
    /// At most k, the farthest on top.
    heap: BinaryHeap<Far>,
    target: usize,
    released: f64,
    /// Elements found since the beginning.
    found: usize,
}

impl Nearest {
    pub fn new() -> Self {
        let (beyond, heap) = (Vec::new(), BinaryHeap::new());
        Self { beyond, heap, target: 0, released: f64::NEG_INFINITY, found: 0 }
    }

    pub fn clear(&mut self) {
        self.beyond.clear();
        self.heap.clear();
        self.target = 0;
        self.released = f64::NEG_INFINITY;
        self.found = 0;
    }

    /// How many elements were found since the beginning.
    pub fn found(&self) -> usize {
        self.found
    }

    /// How many elements' distances are held.
    pub fn held(&self) -> usize {
        self.beyond.len()
    }

    /// Begins a step: the k nearest beyond this distance of the operator.
    pub fn step(&mut self, target: usize, released: f64) {
        self.target = target;
        self.released = released;
        self.beyond.retain(|far| far.0.operator > released);
        let mut all = self.beyond.clone();
        if all.len() > target {
            all.select_nth_unstable(target - 1);
            all.truncate(target);
        }
        self.heap = all.into();
    }

    /// Takes an element in. Is it among the k nearest?
    pub fn take(&mut self, distance: Distance) -> bool {
        self.found += 1;
        if distance.operator <= self.released {
            return false;
        }
        let far = Far(distance);
        self.beyond.push(far);
        if !self.is_full() {
            self.heap.push(far);
            return true;
        }
        let nearer = self.heap.peek().is_some_and(|farthest| far < *farthest);
        if nearer {
            self.heap.pop();
            self.heap.push(far);
        }
        nearer
    }

    /// Were k found?
    pub fn is_full(&self) -> bool {
        self.heap.len() >= self.target
    }

    /// The farthest of the k nearest.
    pub fn farthest(&self) -> Option<Distance> {
        self.heap.peek().map(|far| far.0)
    }
}

/// The most elements found for the first k of a scan. Where a query is about equally far from many, the
/// rule alone has thousands looked at for what hundreds give: of 100,000 × 384 text-like queries took
/// 2,500 buffers at slack 0.15, for recall 0.995. It grows with the slack, so that more of it always
/// finds more.
pub(super) fn most_found(slack: f32, k: usize) -> usize {
    (slack * (tuning::most_first() + tuning::most_each() * k as f32)) as usize + k
}

/// The stop rule: the estimate past which no candidate is expanded, for the k-th best inner distance
/// `kth` and the query's mean distance to everything, where that is known.
///
/// The first term is relative to the distance and serves queries like the data; the second is
/// relative to how much nearer than the average the k-th is and serves text among images, where all
/// distances are much alike. A floor of a hundredth serves where the k-th is as far as the average
/// itself. Inner products have no zero to be relative to, so the second term serves alone. `noise` is how
/// far estimates of such a distance are off: among vectors that are all but equal, more than the slack.
pub fn stop_bound(metric: Metric, slack: f32, mean: Option<f32>, noise: f32, kth: f32) -> f32 {
    let relative = slack * kth.abs();
    let far = mean.map(|mean| tuning::slack_far() * slack * (mean - kth));
    let reach = match (metric, far) {
        (Metric::InnerProduct, Some(far)) => far,
        (_, Some(far)) => relative.min(far),
        (_, None) => relative,
    };
    kth + reach.max(tuning::slack_floor() * kth.abs()).max(noise)
}
