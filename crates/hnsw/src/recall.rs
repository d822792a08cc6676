//! How much of what is nearest a search finds: asked by elements of the graph itself, each as if it were
//! not in it, against the truth that a look at every element gives. And, from that for some slacks, the
//! slack that a recall takes. Its own file because it is the one place that measures the index instead
//! of using it.
//!
//! Rows of equal distance are one: which of them come first says nothing of a search.

use crate::error::Error;
use crate::format::id::Id;
use crate::format::record::Element;
use crate::search::{Scan, ScanOptions};
use crate::space::{Moments, Query, Space};
use crate::store::Store;

/// An element that asks, and the least distances from it to others, in order.
#[derive(Debug)]
struct Asking {
    id: Id,
    query: Query,
    nearest: Vec<f64>,
}

/// Elements that ask, and the truth, as far as elements were seen.
#[derive(Debug)]
pub struct Truth {
    k: usize,
    asking: Vec<Asking>,
    seen: usize,
}

impl Truth {
    /// Of nobody yet, about the k nearest.
    pub fn new(k: usize) -> Self {
        Self { k, asking: Vec::new(), seen: 0 }
    }

    /// Has an element ask. Only those of the base layer do: the way to it leads over the others, so
    /// without them it would be another graph. Says whether it does.
    pub fn ask(&mut self, space: &Space, id: Id, element: &Element<'_>) -> bool {
        let asks = element.level() == 0 && !element.is_dead() && !element.is_free();
        if asks {
            let mut aside = Vec::new();
            let query = space.query(pgclip_simd::halves(element.vector(), &mut aside));
            self.asking.push(Asking { id, query, nearest: Vec::new() });
        }
        asks
    }

    /// How many ask.
    pub fn len(&self) -> usize {
        self.asking.len()
    }

    /// How many elements were seen.
    pub fn seen(&self) -> usize {
        self.seen
    }

    /// Does nobody ask?
    pub fn is_empty(&self) -> bool {
        self.asking.is_empty()
    }

    /// Takes an element into the truth. Each is to be seen, once all that ask do so.
    pub fn see(&mut self, space: &Space, id: Id, element: &Element<'_>) {
        if element.is_dead() || element.is_free() {
            return;
        }
        self.seen += 1;
        let mut aside = Vec::new();
        let vector = pgclip_simd::halves(element.vector(), &mut aside);
        let norm2 = element.norm2();
        for asking in &mut self.asking {
            let query = &asking.query;
            let distance = space.distance(query.vector(), query.norm2, vector, norm2).operator;
            let full = asking.nearest.len() == self.k;
            if full && asking.nearest.last().is_some_and(|last| distance >= *last)
                || asking.id == id
            {
                continue;
            }
            if let Err(at) = asking.nearest.binary_search_by(|other| other.total_cmp(&distance)) {
                asking.nearest.truncate(self.k - 1);
                asking.nearest.insert(at, distance);
            }
        }
    }

    /// The share of what is nearest that scans with these options find; none where there is nothing to
    /// find.
    pub fn recall<S: Store>(
        &self,
        store: &S,
        space: &Space,
        moments: &Moments,
        options: ScanOptions,
    ) -> Result<Option<f64>, Error<S::Error>> {
        let mut scan = Scan::new();
        let (mut found, mut all) = (0, 0);
        for Asking { id, query, nearest } in &self.asking {
            scan.start(options, moments.mean_distance(space, query));
            scan.leave_out(*id);
            let (mut distances, mut last) = (0, f64::NEG_INFINITY);
            while distances < nearest.len() {
                let Some(row) = scan.next(store, space, query, |_| true)? else { break };
                if row.distance != last {
                    last = row.distance;
                    distances += 1;
                    found += u64::from(nearest.binary_search_by(|x| x.total_cmp(&last)).is_ok());
                }
            }
            all += nearest.len();
        }
        Ok((all > 0).then(|| found as f64 / all as f64))
    }
}

/// The slacks that are tried.
pub const SLACKS: [f32; 10] = [0.0, 0.02, 0.04, 0.07, 0.11, 0.16, 0.23, 0.34, 0.5, 0.8];

/// The recall at each of [`SLACKS`], of the ten or the hundred nearest, whichever is less, in steps of
/// 1/65535; all 0 where it is not known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Calibration(pub [u16; SLACKS.len()]);

impl Calibration {
    /// What is asked for, and by how many elements: about a thousand neighbours of either kind tell a
    /// recall of 0.95 to about a hundredth.
    pub const ASKED: [(usize, usize); 2] = [(10, 100), (100, 20)];

    /// Among so few elements nothing is measured. They find each other at once, which says nothing of
    /// other queries, and to look at more of them costs nothing.
    const FEW: usize = 1000;

    /// Measures it by a truth for each of [`Calibration::ASKED`].
    pub fn measure<S: Store>(
        truths: &[Truth],
        store: &S,
        space: &Space,
        moments: &Moments,
    ) -> Result<Self, Error<S::Error>> {
        if truths.iter().any(|truth| truth.seen() < Self::FEW) {
            let usual = [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.98, 0.99, 0.995, 0.999];
            return Ok(Self(usual.map(|recall: f64| (recall * f64::from(u16::MAX)) as u16)));
        }
        let mut recalls = [0; SLACKS.len()];
        let mut best = vec![0.0f64; truths.len()];
        for (recall, slack) in recalls.iter_mut().zip(SLACKS) {
            let options = ScanOptions { slack, ..ScanOptions::default() };
            for (best, truth) in best.iter_mut().zip(truths) {
                // More slack finds no less; a sample may say otherwise by a hair.
                let found = truth.recall(store, space, moments, options)?;
                *best = best.max(found.unwrap_or(1.0));
            }
            let least = best.iter().copied().fold(1.0, f64::min);
            *recall = (least * f64::from(u16::MAX)) as u16;
        }
        Ok(Self(recalls))
    }

    /// Was it measured?
    pub fn is_known(&self) -> bool {
        self.0 != Self::default().0
    }

    /// The slack for a recall: between two that were tried, by the logarithm of what is missed. The
    /// largest that was tried, where even that misses more.
    pub fn slack(&self, target: f64) -> f32 {
        // A sample that misses nothing may miss less than it can tell.
        const LEAST: f64 = 2e-4;
        let missed = |recall: f64| (1.0 - recall).max(LEAST).ln();
        let recalls = self.0.map(|recall| f64::from(recall) / f64::from(u16::MAX));
        let Some(at) = recalls.iter().position(|recall| *recall >= target) else {
            return SLACKS[SLACKS.len() - 1];
        };
        if at == 0 {
            return SLACKS[0];
        }
        let (from, to) = (missed(recalls[at - 1]), missed(recalls[at]));
        let share = ((missed(target) - from) / (to - from).min(-f64::EPSILON)).clamp(0.0, 1.0);
        SLACKS[at - 1] + (SLACKS[at] - SLACKS[at - 1]) * share as f32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slack_lies_between_those_tried() {
        let steps = [0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999, 0.999];
        let known = Calibration(steps.map(|recall| (recall * f64::from(u16::MAX)) as u16));
        assert!(known.is_known() && !Calibration::default().is_known());
        assert_eq!(known.slack(0.1), 0.0);
        assert_eq!(known.slack(1.0), 0.8);
        let mut last = 0.0;
        for target in 1..1000 {
            let slack = known.slack(f64::from(target) / 1000.0);
            assert!(slack >= last, "{target}: {slack} after {last}");
            last = slack;
        }
        for (recall, slack) in steps.into_iter().zip(SLACKS).skip(1).take(8) {
            assert!((known.slack(recall - 1e-4) - slack).abs() < 0.01, "{recall}");
        }
        // Half of what is missed between 0.9 and 0.95, in logarithms.
        let between = known.slack(1.0 - (0.1f64 * 0.05).sqrt());
        assert!((between - 0.09).abs() < 1e-3, "{between}");
    }
}
