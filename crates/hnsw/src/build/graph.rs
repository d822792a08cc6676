//! The edges: HNSW's insertion, many threads at once, on flat arrays.
//!
//! Lists of neighbours are arrays of atomics. A writer holds the element's lock; readers hold none,
//! and may see a list while it changes: each entry they see is an element, and that is all that a
//! search needs. Levels are drawn beforehand and an element of the highest one is inserted first,
//! so the entry point never moves. An element's own lists are complete before anything points to
//! it, and of those that point to it on the base layer its parent is the first
//! ([`tree`](crate::change::tree)): no element is found before it is in the tree, so no two name each other.

use std::cmp::Reverse;
use std::collections::{HashSet, VecDeque};
use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicUsize, Ordering::Relaxed};

use super::BuildOptions;
use super::coarse::Coarse;
use super::local::{Local, Near, Start};
use super::room::{BuildError, NoMemory, filled, reserve};
use crate::build::threads::{Control, Host, take_turns};
use crate::change::select::{replace, select};
use crate::format::layout::{Layout, Metric};
use crate::tuning;

/// No element.
const NONE: u32 = u32::MAX;

/// So many elements are inserted by one thread before the others join in: among fewer, threads
/// would not find each other's.
const ALONE: usize = 256;

/// A graph.
#[derive(Debug)]
pub(super) struct Graph {
    m: usize,
    /// The most neighbours on the base layer.
    edges: usize,
    chosen: usize,
    pub levels: Vec<u8>,
    pub entry: Option<u32>,
    /// Base layer: the neighbours of each element, ended by [`NONE`], and their distances' bits.
    base: Vec<AtomicU32>,
    base_distances: Vec<AtomicU32>,
    /// How many of the first neighbours are kept as children, beside the parent, which is the first
    /// of all; changed under the element's lock.
    children: Vec<AtomicU8>,
    most_children: usize,
    /// Upper layers: `m` neighbours a layer, from layer 1 up; where an element's begin.
    upper: Vec<AtomicU32>,
    upper_distances: Vec<AtomicU32>,
    upper_at: Vec<u32>,
    locks: Vec<Mutex<()>>,
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
            edges: layout.edges(),
            chosen: layout.chosen(),
            entry,
            base: atomics(count * layout.edges())?,
            base_distances: atomics(count * layout.edges())?,
            children: filled(count, || AtomicU8::new(0))?,
            most_children: layout.children(),
            upper: atomics(layers as usize * layout.m)?,
            upper_distances: atomics(layers as usize * layout.m)?,
            upper_at,
            locks: (0..count.min(LOCKS)).map(|_| Mutex::new(())).collect(),
            levels,
        };
        // The entry point is in place before the first insertion, without neighbours.
        let Some(entry) = entry else { return Ok(graph) };
        let insertion = Insertion { graph: &graph, coarse, entry, ef: options.ef_construction };
        let alone = ALONE.min(count);
        for (range, threads) in [(0..alone, 1), (alone..count, options.threads)] {
            let next = AtomicUsize::new(range.start);
            let claim = || {
                let claimed = next.fetch_update(Relaxed, Relaxed, |start| {
                    let end = start + batch(start, range.end, threads);
                    (start < range.end).then_some(end)
                });
                claimed.ok().map(|start| start..start + batch(start, range.end, threads))
            };
            let turn = |local: &mut Local| insertion.turn(claim, local);
            take_turns(control, host, threads, range.len(), Local::new, turn)?;
        }
        Ok(graph)
    }

    fn lists(&self, layer: u8, element: u32) -> (&[AtomicU32], &[AtomicU32]) {
        let (start, most) = if layer == 0 {
            (element as usize * self.edges, self.edges)
        } else {
            (self.upper_number(layer, element) * self.m, self.m)
        };
        let range = start..start + most;
        if layer == 0 {
            (&self.base[range.clone()], &self.base_distances[range])
        } else {
            (&self.upper[range.clone()], &self.upper_distances[range])
        }
    }

    /// The number of elements on upper layers, those of all layers added up.
    pub fn uppers(&self) -> usize {
        self.upper.len() / self.m
    }

    /// Which of those an element is on an upper layer that it is in; lower layers come before.
    pub fn upper_number(&self, layer: u8, element: u32) -> usize {
        self.upper_at[element as usize] as usize + usize::from(layer) - 1
    }

    /// The neighbours of an element on a layer that it is in.
    pub fn neighbours(&self, layer: u8, element: u32) -> impl Iterator<Item = u32> {
        let (ids, _) = self.lists(layer, element);
        ids.iter().map(|id| id.load(Relaxed)).take_while(|id| *id != NONE)
    }

    /// Has an element a parent, and how many children?
    pub fn kept(&self, element: u32) -> (bool, usize) {
        let children = self.children[element as usize].load(Relaxed);
        (Some(element) != self.entry, children.into())
    }

    /// The children of an element; others, where its list changes meanwhile.
    fn children(&self, element: u32) -> Vec<u32> {
        let (parent, children) = self.kept(element);
        self.neighbours(0, element).skip(usize::from(parent)).take(children).collect()
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

    /// Puts the parent of an element first in its list, which nothing but that changes yet.
    fn name_parent(&self, element: u32, parent: (u32, f32)) {
        let (ids, distances) = self.lists(0, element);
        let _held = self.lock(element);
        if ids[0].load(Relaxed) == parent.0 {
            return;
        }
        let slot = append(ids, distances, parent).unwrap_or_else(|| {
            let last = ids.len() - 1;
            distances[last].store(parent.1.to_bits(), Relaxed);
            ids[last].store(parent.0, Relaxed);
            last
        });
        swap(ids, distances, 0, slot);
    }

    fn lock(&self, element: u32) -> impl Drop {
        let lock = &self.locks[element as usize % self.locks.len()];
        lock.lock().expect("no panic while a list is written")
    }
}

/// The insertion of elements one by one.
struct Insertion<'a> {
    graph: &'a Graph,
    coarse: &'a Coarse,
    entry: u32,
    ef: usize,
}

impl Insertion<'_> {
    /// Inserts a few elements of the thread's queue, or fills that; says how many it inserted.
    fn turn(&self, claim: impl Fn() -> Option<Range<usize>>, local: &mut Local) -> usize {
        const TURN: usize = 16;
        if local.queue.is_empty() {
            let Some(range) = claim() else { return 0 };
            self.fill(range, local);
        }
        let mut inserted = 0;
        while inserted < TURN {
            let Some(start) = local.queue.pop() else { break };
            inserted += 1;
            if start.element != self.entry {
                self.insert(start, local);
            }
        }
        inserted
    }

    /// Finds where each of these elements begins, and queues them in an order that keeps near ones
    /// together: by the elements on the way to them.
    fn fill(&self, range: Range<usize>, local: &mut Local) {
        let top = self.graph.levels[self.entry as usize];
        for element in range.map(|element| element as u32) {
            local.measured.clear();
            let distance = self.coarse.distance(element, self.entry);
            let mut near = Near { distance, id: self.entry };
            let mut way = [self.entry; 3];
            for layer in (self.graph.levels[element as usize] + 1..=top).rev() {
                near = self.descend(element, layer, near, local);
                way.rotate_left(1);
                way[2] = near.id;
            }
            local.queue.push(Start { way, element, near });
        }
        local.queue.sort_unstable_by_key(|start| Reverse((start.way, start.element)));
    }

    /// The nearest element of a layer that can be reached by ever nearer ones.
    fn descend(&self, element: u32, layer: u8, mut here: Near, local: &mut Local) -> Near {
        loop {
            let from = here;
            self.measure(element, layer, here.id, local);
            for (id, distance) in local.fresh.iter().zip(&local.distances) {
                if *distance < here.distance {
                    here = Near { id: *id, distance: *distance };
                }
            }
            if here == from {
                return here;
            }
        }
    }

    /// Measures those neighbours of `of` that were not seen before.
    fn measure(&self, element: u32, layer: u8, of: u32, local: &mut Local) {
        let Local { measured, fresh, slots, distances, dots, .. } = local;
        let (ids, _) = self.graph.lists(layer, of);
        measured.room(ids.len());
        fresh.clear();
        slots.clear();
        for id in ids.iter().map(|id| id.load(Relaxed)).take_while(|id| *id != NONE) {
            if let Some(slot) = measured.see(id) {
                fresh.push(id);
                slots.push(slot);
            }
        }
        self.coarse.distances(element, fresh, dots, distances);
        slots.iter().zip(distances).for_each(|(slot, distance)| measured.set(*slot, *distance));
    }

    /// From what is in `local.candidates`, the `ef` nearest to an element on a layer, nearest
    /// first, back into it.
    fn search(&self, element: u32, layer: u8, ef: usize, local: &mut Local) {
        local.measured.clear();
        local.measured.see(element);
        local.best.start(ef);
        local.measured.room(local.candidates.len());
        for (id, distance) in &local.candidates {
            if let Some(slot) = local.measured.see(*id) {
                local.measured.set(slot, *distance);
                local.best.offer(Near { id: *id, distance: *distance });
            }
        }
        while let Some(id) = local.best.expand() {
            if let Some(next) = local.best.peek() {
                pgclip_simd::prefetch(self.graph.lists(layer, next).0);
            }
            self.measure(element, layer, id, local);
            for (id, distance) in local.fresh.iter().zip(&local.distances) {
                if local.best.offer(Near { id: *id, distance: *distance }) {
                    pgclip_simd::prefetch(self.graph.lists(layer, *id).0);
                }
            }
        }
        local.candidates.clear();
        local.candidates.extend(local.best.iter().map(|near| (near.id, near.distance)));
    }

    fn insert(&self, start: Start, local: &mut Local) {
        let graph = self.graph;
        let element = start.element;
        let level = graph.levels[element as usize];
        let top = graph.levels[self.entry as usize];
        let mut uppers = Vec::new();
        local.candidates.clear();
        local.candidates.push((start.near.id, start.near.distance));
        // From one element of layer 1 alone the search on the base layer can end among the near-duplicates
        // of another scene, all of them nearer than anything else it sees: bursts of frames break into
        // islands then. Not by inner product, where few long vectors are everybody's nearest: the more
        // surely all find those, the fewer lead anywhere else.
        if level == 0 && top > 0 && self.coarse.metric() != Metric::InnerProduct {
            self.search(element, 1, tuning::build_starts(), local);
        }
        for layer in (0..=level.min(top)).rev() {
            self.search(element, layer, self.ef, local);
            let between = |a, b| self.coarse.distance(a, b);
            let most = if layer == 0 { graph.chosen } else { graph.m };
            select(&local.candidates, most, between, &mut local.chosen);
            graph.set(layer, element, &local.chosen);
            if layer > 0 {
                uppers.extend(local.chosen.iter().map(|(id, distance)| (layer, *id, *distance)));
            }
        }
        for (id, _) in &local.chosen {
            local.measured.choose(*id);
        }
        self.adopt(element, local);
        for (layer, neighbour, distance) in uppers {
            self.link_upper(layer, neighbour, (element, distance));
        }
        for at in (0..local.chosen.len()).rev() {
            let (neighbour, distance) = local.chosen[at];
            self.link(neighbour, (element, distance), false, local);
        }
    }

    /// Finds the parent of an element: the nearest of the candidates that has place for a child more,
    /// or one below them in the tree, where there are always some.
    fn adopt(&self, element: u32, local: &mut Local) {
        for at in 0..local.candidates.len() {
            if self.try_parent(element, local.candidates[at], local) {
                return;
            }
        }
        // A child that changes its place in a list meanwhile may be overlooked, but not for ever.
        loop {
            let mut open: VecDeque<u32> = local.candidates.iter().map(|(id, _)| *id).collect();
            let mut seen: HashSet<u32> = open.iter().copied().collect();
            while let Some(parent) = open.pop_front() {
                let distance = self.coarse.distance(element, parent);
                if self.try_parent(element, (parent, distance), local) {
                    return;
                }
                open.extend(self.graph.children(parent).into_iter().filter(|id| seen.insert(*id)));
            }
        }
    }

    fn try_parent(&self, element: u32, (parent, distance): (u32, f32), local: &mut Local) -> bool {
        if usize::from(self.graph.children[parent as usize].load(Relaxed))
            >= self.graph.most_children
        {
            return false;
        }
        // Nothing points to the element yet, so its parent may change until one takes it.
        self.graph.name_parent(element, (parent, distance));
        self.link(parent, (element, distance), true, local)
    }

    /// Adds `new`, at this distance, to the list of `element` on the base layer: where it is worth a
    /// place, or, `kept`, as a child. Says whether it is there.
    fn link(&self, element: u32, new: (u32, f32), kept: bool, local: &mut Local) -> bool {
        let Local { measured, to_element, .. } = local;
        let (ids, distances) = self.graph.lists(0, element);
        let _held = self.graph.lock(element);
        let (parent, children) = self.graph.kept(element);
        let first = usize::from(parent) + children;
        if kept && children >= self.graph.most_children {
            return false;
        }
        let slot = append(ids, distances, new).or_else(|| {
            to_element.clear();
            to_element.extend(distances.iter().map(|at| f32::from_bits(at.load(Relaxed))));
            let known = |slot: usize| measured.get(ids[slot].load(Relaxed));
            let to_new = |slot: usize| match known(slot) {
                Some((distance, _)) => distance,
                None => self.coarse.distance(ids[slot].load(Relaxed), new.0),
            };
            let linked = |slot: usize| known(slot).is_some_and(|(_, chosen)| chosen);
            let slot = replace(new.1, to_element, first, to_new, linked, kept)?;
            distances[slot].store(new.1.to_bits(), Relaxed);
            ids[slot].store(new.0, Relaxed);
            Some(slot)
        });
        let Some(slot) = slot else { return false };
        if kept && slot >= first {
            swap(ids, distances, slot, first);
            self.graph.children[element as usize].store(children as u8 + 1, Relaxed);
        }
        true
    }

    /// The same on an upper layer: few elements, and the ways between distant regions, so all are
    /// chosen anew.
    fn link_upper(&self, layer: u8, element: u32, new: (u32, f32)) {
        let (ids, distances) = self.graph.lists(layer, element);
        let _held = self.graph.lock(element);
        if append(ids, distances, new).is_some() {
            return;
        }
        let old = ids.iter().zip(distances);
        let old = old.map(|(id, at)| (id.load(Relaxed), f32::from_bits(at.load(Relaxed))));
        let mut all: Vec<(u32, f32)> = old.chain([new]).collect();
        all.sort_unstable_by(|a, b| a.1.total_cmp(&b.1));
        let mut chosen = Vec::new();
        select(&all, ids.len(), |a, b| self.coarse.distance(a, b), &mut chosen);
        for ((id, at), chosen) in ids.iter().zip(distances).zip(&chosen) {
            at.store(chosen.1.to_bits(), Relaxed);
            id.store(chosen.0, Relaxed);
        }
    }
}

/// Adds an element to a list where there is room, or it is there; says where.
fn append(
    ids: &[AtomicU32],
    distances: &[AtomicU32],
    (new, distance): (u32, f32),
) -> Option<usize> {
    for (slot, (id, at)) in ids.iter().zip(distances).enumerate() {
        match id.load(Relaxed) {
            NONE => {
                at.store(distance.to_bits(), Relaxed);
                id.store(new, Relaxed);
                return Some(slot);
            }
            there if there == new => return Some(slot),
            _ => (),
        }
    }
    None
}

/// Exchanges two entries of a list.
fn swap(ids: &[AtomicU32], distances: &[AtomicU32], a: usize, b: usize) {
    for list in [ids, distances] {
        let (x, y) = (list[a].load(Relaxed), list[b].load(Relaxed));
        list[a].store(y, Relaxed);
        list[b].store(x, Relaxed);
    }
}

/// How many elements a thread takes from here on: many enough that some are near each other, few
/// beside those that are there already and those that are left.
fn batch(start: usize, end: usize, threads: usize) -> usize {
    const LEAST: usize = 64;
    const MOST: usize = 1024;
    let left = end.saturating_sub(start);
    (start / 8).min(left / (2 * threads.max(1))).clamp(LEAST, MOST).min(left)
}
