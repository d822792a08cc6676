//! The edges: HNSW's insertion, many threads at once, on flat arrays.
//!
//! Lists of neighbours are arrays of atomics. A writer holds the element's lock; readers hold none,
//! and may see a list while it changes: each entry they see is an element, and that is all that a
//! search needs. Levels are drawn beforehand and an element of the highest one is inserted first,
//! so the entry point never moves. An element's own lists are complete before anything points to
//! it.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use super::BuildOptions;
use super::coarse::Coarse;
use super::room::{BuildError, NoMemory, filled, reserve};
use crate::layout::Layout;
use crate::select::{Full, replace, select};
use crate::threads::{Control, Host, share};

/// No element.
const NONE: u32 = u32::MAX;

/// So many elements are inserted by one thread before the others join in: among fewer, threads
/// would not find each other's.
const ALONE: usize = 256;

/// A graph.
#[derive(Debug)]
pub(super) struct Graph {
    m: usize,
    chosen: usize,
    pub levels: Vec<u8>,
    pub entry: Option<u32>,
    /// Base layer: `2m` neighbours an element, ended by [`NONE`], and their distances' bits.
    base: Vec<AtomicU32>,
    base_distances: Vec<AtomicU32>,
    /// Upper layers: `m` neighbours a layer, from layer 1 up; where an element's begin.
    upper: Vec<AtomicU32>,
    upper_distances: Vec<AtomicU32>,
    upper_at: Vec<u32>,
    locks: Vec<Mutex<()>>,
}

/// One neighbour: the nearest is the least.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Near(f32, u32);

impl Eq for Near {}

impl Ord for Near {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.total_cmp(&other.0).then(self.1.cmp(&other.1))
    }
}

impl PartialOrd for Near {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

/// A thread's memory.
struct Local {
    /// The insertion at which an element was last seen.
    seen: Vec<u32>,
    turn: u32,
    open: BinaryHeap<Reverse<Near>>,
    best: BinaryHeap<Near>,
    fresh: Vec<u32>,
    candidates: Vec<(u32, f32)>,
    chosen: Vec<(u32, f32)>,
    /// Of the neighbours of an element that a new one wants to join: to it, and to the new one.
    distances: [Vec<f32>; 2],
    /// What [`Graph::search`] starts from and ends with.
    found: Vec<Near>,
}

impl Local {
    fn new(elements: usize) -> Self {
        Self {
            seen: vec![0; elements],
            turn: 0,
            open: BinaryHeap::new(),
            best: BinaryHeap::new(),
            fresh: Vec::new(),
            candidates: Vec::new(),
            chosen: Vec::new(),
            distances: [Vec::new(), Vec::new()],
            found: Vec::new(),
        }
    }

    fn see(&mut self, element: u32) -> bool {
        let turn = std::mem::replace(&mut self.seen[element as usize], self.turn);
        turn != self.turn
    }
}

fn atomics(count: usize) -> Result<Vec<AtomicU32>, NoMemory> {
    filled(count, || AtomicU32::new(NONE))
}

impl Graph {
    pub fn build(
        layout: &Layout,
        levels: Vec<u8>,
        coarse: &Coarse,
        options: BuildOptions,
        control: &Control,
        host: &mut dyn Host,
    ) -> Result<Self, BuildError> {
        const LOCKS: usize = 1 << 16;
        const GRAIN: usize = 16;
        let count = levels.len();
        let mut upper_at = Vec::new();
        reserve(&mut upper_at, count)?;
        let mut layers = 0u32;
        for level in &levels {
            upper_at.push(layers);
            layers += u32::from(*level);
        }
        let highest = levels.iter().max().copied();
        let entry = levels.iter().position(|level| Some(*level) == highest).map(|at| at as u32);
        let graph = Self {
            m: layout.m,
            chosen: layout.chosen(),
            entry,
            base: atomics(count * 2 * layout.m)?,
            base_distances: atomics(count * 2 * layout.m)?,
            upper: atomics(layers as usize * layout.m)?,
            upper_distances: atomics(layers as usize * layout.m)?,
            upper_at,
            locks: (0..count.min(LOCKS)).map(|_| Mutex::new(())).collect(),
            levels,
        };
        let Some(entry) = entry else { return Ok(graph) };
        // The entry point is in place before the first insertion, without neighbours.
        let insert = |local: &mut Local, range: std::ops::Range<usize>| {
            for element in range {
                if element as u32 != entry {
                    graph.insert(coarse, element as u32, entry, options.ef_construction, local);
                }
            }
        };
        let make = || Local::new(count);
        let alone = ALONE.min(count);
        share(control, host, 1, 0..alone, GRAIN, make, insert)?;
        share(control, host, options.threads, alone..count, GRAIN, make, insert)?;
        Ok(graph)
    }

    fn lists(&self, layer: u8, element: u32) -> (&[AtomicU32], &[AtomicU32]) {
        let (start, most) = if layer == 0 {
            (element as usize * 2 * self.m, 2 * self.m)
        } else {
            let first = self.upper_at[element as usize] as usize + usize::from(layer) - 1;
            (first * self.m, self.m)
        };
        let range = start..start + most;
        if layer == 0 {
            (&self.base[range.clone()], &self.base_distances[range])
        } else {
            (&self.upper[range.clone()], &self.upper_distances[range])
        }
    }

    /// The neighbours of an element on a layer that it is in.
    pub fn neighbours(&self, layer: u8, element: u32) -> impl Iterator<Item = u32> {
        let (ids, _) = self.lists(layer, element);
        ids.iter().map(|id| id.load(Relaxed)).take_while(|id| *id != NONE)
    }

    fn insert(&self, coarse: &Coarse, element: u32, entry: u32, ef: usize, local: &mut Local) {
        let level = self.levels[element as usize];
        let top = self.levels[entry as usize];
        local.found.clear();
        local.found.push(Near(coarse.distance(element, entry), entry));
        for layer in (level + 1..=top).rev() {
            self.search(coarse, element, layer, 1, local);
        }
        let mut links = Vec::new();
        for layer in (0..=level.min(top)).rev() {
            self.search(coarse, element, layer, ef, local);
            local.candidates.clear();
            local.candidates.extend(local.found.iter().map(|Near(distance, id)| (*id, *distance)));
            let between = |a, b| coarse.distance(a, b);
            let most = if layer == 0 { self.chosen } else { self.m };
            select(&local.candidates, most, between, &mut local.chosen);
            self.set(layer, element, &local.chosen);
            links.extend(local.chosen.iter().map(|(id, distance)| (layer, *id, *distance)));
        }
        // Layer by layer from the lowest, nearest last: that one must, where no other did.
        let mut linked = false;
        for (at, (layer, neighbour, distance)) in links.iter().enumerate().rev() {
            let nearest = at == 0 || links[at - 1].0 != *layer;
            let new = (element, *distance);
            linked |= self.link(coarse, *layer, *neighbour, new, nearest && !linked, local);
            linked &= !nearest;
        }
    }

    /// Writes the list of an element that nothing points to yet on this layer.
    fn set(&self, layer: u8, element: u32, chosen: &[(u32, f32)]) {
        let (ids, distances) = self.lists(layer, element);
        let _held = self.lock(element);
        for ((id, distance), chosen) in ids.iter().zip(distances).zip(chosen) {
            distance.store(chosen.1.to_bits(), Relaxed);
            id.store(chosen.0, Relaxed);
        }
    }

    fn lock(&self, element: u32) -> impl Drop {
        let lock = &self.locks[element as usize % self.locks.len()];
        lock.lock().expect("no panic while a list is written")
    }

    /// Adds `new` to the list of `element` where there is room, and it is not there.
    fn append(&self, layer: u8, element: u32, new: u32, distance: f32) -> bool {
        let (ids, distances) = self.lists(layer, element);
        let _held = self.lock(element);
        for (id, at) in ids.iter().zip(distances) {
            match id.load(Relaxed) {
                NONE => {
                    at.store(distance.to_bits(), Relaxed);
                    id.store(new, Relaxed);
                    return true;
                }
                there if there == new => return true,
                _ => (),
            }
        }
        false
    }

    /// Adds `new`, at this distance, to the list of `element`; in a full one it has to earn a place,
    /// unless it `must` have one. Says whether it is there.
    fn link(
        &self,
        coarse: &Coarse,
        layer: u8,
        element: u32,
        (new, distance): (u32, f32),
        must: bool,
        local: &mut Local,
    ) -> bool {
        if self.append(layer, element, new, distance) {
            return true;
        }
        let (ids, distances) = self.lists(layer, element);
        let _held = self.lock(element);
        if layer > 0 {
            // Few elements, and the ways between distant regions: chosen anew among all.
            let Local { candidates, chosen, .. } = local;
            candidates.clear();
            let old = ids.iter().zip(distances);
            candidates
                .extend(old.map(|(id, at)| (id.load(Relaxed), f32::from_bits(at.load(Relaxed)))));
            candidates.push((new, distance));
            candidates.sort_unstable_by(|a, b| a.1.total_cmp(&b.1));
            select(candidates, ids.len(), |a, b| coarse.distance(a, b), chosen);
            for ((id, at), chosen) in ids.iter().zip(distances).zip(chosen.iter()) {
                at.store(chosen.1.to_bits(), Relaxed);
                id.store(chosen.0, Relaxed);
            }
            return chosen.iter().any(|(id, _)| *id == new);
        }
        let [to_element, to_new] = &mut local.distances;
        to_element.clear();
        to_element.extend(distances.iter().map(|at| f32::from_bits(at.load(Relaxed))));
        to_new.clear();
        to_new.extend(ids.iter().map(|id| coarse.distance(id.load(Relaxed), new)));
        let own = &self.lists(layer, new).0;
        let linked = |slot: usize| {
            let id: u32 = ids[slot].load(Relaxed);
            own.iter().any(|other| other.load(Relaxed) == id)
        };
        let slot = replace(distance, Full { to_element, to_new }, linked, must);
        if let Some(slot) = slot {
            distances[slot].store(distance.to_bits(), Relaxed);
            ids[slot].store(new, Relaxed);
        }
        slot.is_some()
    }

    /// From `local.found`, the `ef` nearest to an element on a layer, nearest first, back into it.
    fn search(&self, coarse: &Coarse, element: u32, layer: u8, ef: usize, local: &mut Local) {
        local.turn += 1;
        local.open.clear();
        local.best.clear();
        for near in std::mem::take(&mut local.found) {
            if near.1 != element && local.see(near.1) {
                local.open.push(Reverse(near));
                local.best.push(near);
            }
        }
        local.see(element);
        while let Some(Reverse(nearest)) = local.open.pop() {
            if local.best.len() >= ef && local.best.peek().is_some_and(|far| nearest.0 > far.0) {
                break;
            }
            local.fresh.clear();
            for id in self.neighbours(layer, nearest.1) {
                if local.see(id) {
                    coarse.prefetch(id);
                    local.fresh.push(id);
                }
            }
            for at in 0..local.fresh.len() {
                let id = local.fresh[at];
                let near = Near(coarse.distance(element, id), id);
                if local.best.len() < ef {
                    local.best.push(near);
                } else if local.best.peek().is_some_and(|far| near < *far) {
                    local.best.pop();
                    local.best.push(near);
                } else {
                    continue;
                }
                local.open.push(Reverse(near));
            }
        }
        local.found.extend(local.best.drain());
        local.found.sort_unstable();
    }
}
