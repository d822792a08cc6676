//! Finished pages: where each record goes, and its bytes.
//!
//! First the elements, so many a page that all pages are full, each page an element and those of
//! its nearest neighbours that had no place yet; then the edges' tuples, where they are apart; then
//! the upper layers, the highest first, since every search comes through it; then further rows. Places are known before a byte is written, since records
//! name each other, so pages can be written by many threads and in pieces.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Mutex;

use half::f16;

use super::graph::Graph;
use super::room::{BuildError, NoMemory, filled, reserve};
use super::{Builder, Rows};
use crate::build::threads::{Control, Host, Stopped, share};
use crate::format::edges::{EdgesMut, End};
use crate::format::id::Id;
use crate::format::layout::{ITEM_POINTER, PAGE_ROOM, Placement};
use crate::format::overflow::{new_overflow, next_capacity, push_row};
use crate::format::record::{ElementMut, edges_tuple_mut, new_edges_tuple};
use crate::format::upper::{new_upper, upper_mut};
use crate::space::{Moments, Space};
use crate::store::Entry;

/// A tuple of further rows of an element.
#[derive(Debug)]
struct Further {
    capacity: usize,
    next: Option<Id>,
    owner: Id,
    /// Indexes into the builder's further rows, sorted by element.
    rows: Range<usize>,
}

/// What lies on a page.
#[derive(Debug)]
enum Plan {
    Elements(Range<usize>),
    Edges(Range<usize>),
    Upper(Range<usize>),
    Further(Range<usize>),
}

/// A graph on its way to its pages.
#[derive(Debug)]
pub struct Pages<'a> {
    space: &'a Space,
    vectors: Vec<f16>,
    norms: Vec<f32>,
    rows: Rows,
    more: Rows,
    /// The further rows, sorted by element.
    more_order: Vec<u32>,
    moments: Moments,
    graph: Graph,
    /// The scaled vectors, rotated.
    rotated: Vec<f16>,
    texts: Vec<f32>,
    /// Elements as they lie on pages.
    order: Vec<u32>,
    element: Vec<Id>,
    edges: Vec<Id>,
    /// Elements on upper layers as they lie on pages, with the layer; and by
    /// [`Graph::upper_number`] where.
    upper_order: Vec<(u8, u32)>,
    upper: Vec<Id>,
    overflow: Vec<(u32, Id)>,
    further: Vec<Further>,
    plan: Vec<Plan>,
}

impl<'a> Pages<'a> {
    pub(super) fn new(
        builder: Builder<'a>,
        graph: Graph,
        first_block: u32,
        threads: usize,
        control: &Control,
        host: &mut dyn Host,
    ) -> Result<Self, BuildError> {
        let Builder { space, vectors, norms, rows, more, more_of, known, moments } = builder;
        drop(known);
        let mut numbers = 0..more_of.len() as u32;
        let mut more_order: Vec<u32> = filled(more_of.len(), || numbers.next().unwrap_or(0))?;
        more_order.sort_by_key(|at| more_of[*at as usize]);
        let count = norms.len();
        let mut pages = Self {
            space,
            vectors,
            norms,
            rows,
            more,
            more_order,
            moments,
            graph,
            rotated: Vec::new(),
            texts: filled(count, || 0.0)?,
            order: Vec::new(),
            element: filled(count, || Id { block: 0, item: 0 })?,
            edges: Vec::new(),
            upper_order: Vec::new(),
            upper: Vec::new(),
            overflow: Vec::new(),
            further: Vec::new(),
            plan: Vec::new(),
        };
        pages.place(first_block, &more_of)?;
        pages.rotate(threads, control, host)?;
        Ok(pages)
    }

    /// The entry point; none where there are no elements.
    pub fn entry(&self) -> Option<Entry> {
        let entry = self.graph.entry?;
        let level = self.graph.levels[entry as usize];
        Some(Entry { id: self.element[entry as usize], level })
    }

    /// The number of pages.
    pub fn len(&self) -> usize {
        self.plan.len()
    }

    /// Are there none?
    pub fn is_empty(&self) -> bool {
        self.plan.is_empty()
    }

    /// The number of elements.
    pub fn elements(&self) -> usize {
        self.norms.len()
    }

    /// The vectors' moments.
    pub fn moments(&self) -> &Moments {
        &self.moments
    }

    /// The records of these pages, counted from 0, each in the order of its items.
    pub fn encode(
        &self,
        pages: Range<usize>,
        threads: usize,
        control: &Control,
        host: &mut dyn Host,
    ) -> Result<Vec<Vec<Vec<u8>>>, Stopped> {
        const GRAIN: usize = 8;
        let out: Vec<_> = pages.clone().map(|_| Mutex::new(Vec::new())).collect();
        let make = || Ends::new(self.space);
        share(control, host, threads, pages.clone(), GRAIN, make, |ends, piece| {
            for page in piece {
                let records = self.page(page, ends);
                *out[page - pages.start].lock().expect("no other thread has it") = records;
            }
        })?;
        let taken = out.into_iter().map(|page| page.into_inner().expect("no thread is left"));
        Ok(taken.collect())
    }

    fn rotate(
        &mut self,
        threads: usize,
        control: &Control,
        host: &mut dyn Host,
    ) -> Result<(), BuildError> {
        const GRAIN: usize = 1024;
        let (space, dims, width) = (self.space, self.space.layout().dims, self.space.rotated());
        if width == 0 {
            return Ok(());
        }
        self.rotated = filled(width * self.norms.len(), || f16::ZERO)?;
        let (vectors, norms) = (&self.vectors, &self.norms);
        let pieces: Vec<_> = self
            .rotated
            .chunks_mut(GRAIN * width)
            .zip(self.texts.chunks_mut(GRAIN))
            .map(Mutex::new)
            .collect();
        share(
            control,
            host,
            threads,
            0..pieces.len(),
            1,
            || vec![0.0; width],
            |wide, piece| {
                for at in piece {
                    let mut out = pieces[at].lock().expect("no other thread has it");
                    let (rotated, texts) = &mut *out;
                    for (i, to) in rotated.chunks_exact_mut(width).enumerate() {
                        let element = at * GRAIN + i;
                        let vector = &vectors[element * dims..(element + 1) * dims];
                        let scale = space.scale(norms[element]);
                        space.rotate(vector, scale, wide);
                        pgclip_simd::narrow(wide, to);
                        texts[i] = space.along_text(vector, scale);
                    }
                }
            },
        )?;
        Ok(())
    }

    /// Decides where everything goes.
    fn place(&mut self, first_block: u32, more_of: &[u32]) -> Result<(), NoMemory> {
        let layout = self.space.layout();
        let mut next = Cursor { block: first_block, item: 0, room: PAGE_ROOM };
        let per_page = PAGE_ROOM / (layout.element_bytes() + ITEM_POINTER);
        self.order = self.local_order(per_page)?;
        for (page, elements) in self.order.chunks(per_page).enumerate() {
            let start = page * per_page;
            self.plan.push(Plan::Elements(start..start + elements.len()));
            for element in elements {
                self.element[*element as usize] = next.take(layout.element_bytes());
            }
            next.turn();
        }
        if layout.placement == Placement::Split {
            self.edges = filled(self.order.len(), || Id { block: 0, item: 0 })?;
            let per_page = PAGE_ROOM / (layout.edges_tuple() + ITEM_POINTER);
            for (page, elements) in self.order.chunks(per_page).enumerate() {
                let start = page * per_page;
                self.plan.push(Plan::Edges(start..start + elements.len()));
                for element in elements {
                    self.edges[*element as usize] = next.take(layout.edges_tuple());
                }
                next.turn();
            }
        }
        self.place_upper(&mut next)?;
        self.place_further(more_of, next);
        Ok(())
    }

    /// Decides where the upper layers go.
    fn place_upper(&mut self, next: &mut Cursor) -> Result<(), NoMemory> {
        let layout = self.space.layout();
        let levels = &self.graph.levels;
        let level = |element: &u32| levels[*element as usize];
        reserve(&mut self.upper_order, self.graph.uppers())?;
        self.upper = filled(self.graph.uppers(), || Id { block: 0, item: 0 })?;
        for layer in (1..=levels.iter().max().copied().unwrap_or(0)).rev() {
            let here = self.order.iter().filter(|element| level(element) >= layer);
            self.upper_order.extend(here.map(|element| (layer, *element)));
        }
        let per_page = PAGE_ROOM / (layout.upper_bytes() + ITEM_POINTER);
        for (page, uppers) in self.upper_order.chunks(per_page).enumerate() {
            let start = page * per_page;
            self.plan.push(Plan::Upper(start..start + uppers.len()));
            for (layer, element) in uppers {
                let number = self.graph.upper_number(*layer, *element);
                self.upper[number] = next.take(layout.upper_bytes());
            }
            next.turn();
        }
        Ok(())
    }

    /// Where an element's tuple on a layer is; none where it has none.
    fn upper_of(&self, layer: u8, element: u32) -> Option<Id> {
        let here = (1..=self.graph.levels[element as usize]).contains(&layer);
        here.then(|| self.upper[self.graph.upper_number(layer, element)])
    }

    /// Decides where further rows go: for each element a chain, whose newest tuple has room left
    /// as after so many inserts.
    fn place_further(&mut self, more_of: &[u32], mut next: Cursor) {
        let layout = self.space.layout();
        let mut start = 0;
        let mut page = 0;
        while start < self.more_order.len() {
            let element = more_of[self.more_order[start] as usize];
            let same = |at: &u32| more_of[*at as usize] == element;
            let end = start + self.more_order[start..].partition_point(same);
            let (mut older, mut capacity) = (None, None);
            while start < end {
                let places = next_capacity(layout, capacity);
                let rows = start..(start + places).min(end);
                if !next.fits(layout.overflow_bytes(places)) {
                    self.plan.push(Plan::Further(page..self.further.len()));
                    page = self.further.len();
                    next.turn();
                }
                let id = next.take(layout.overflow_bytes(places));
                start = rows.end;
                let owner = self.element[element as usize];
                self.further.push(Further { capacity: places, next: older, owner, rows });
                (older, capacity) = (Some(id), Some(places));
            }
            self.overflow.extend(older.map(|newest| (element, newest)));
        }
        if page < self.further.len() {
            self.plan.push(Plan::Further(page..self.further.len()));
        }
    }

    /// An order that puts neighbours on the same page: breadth first from the entry point, each
    /// page filled up with neighbours of its first element.
    fn local_order(&self, per_page: usize) -> Result<Vec<u32>, NoMemory> {
        let count = self.norms.len();
        let mut order = Vec::new();
        reserve(&mut order, count)?;
        let mut placed = filled(count, || false)?;
        let mut queue: VecDeque<u32> = self.graph.entry.into_iter().collect();
        let mut rest = 0..count as u32;
        while order.len() < count {
            let first = match queue.pop_front().or_else(|| rest.next()) {
                Some(first) if !placed[first as usize] => first,
                Some(_) => continue,
                None => break,
            };
            placed[first as usize] = true;
            order.push(first);
            let mut here = 1;
            for neighbour in self.graph.neighbours(0, first) {
                if placed[neighbour as usize] {
                    continue;
                }
                if here < per_page {
                    placed[neighbour as usize] = true;
                    order.push(neighbour);
                    here += 1;
                    let further = self.graph.neighbours(0, neighbour);
                    queue.extend(further.filter(|id| !placed[*id as usize]).take(per_page));
                } else {
                    queue.push_back(neighbour);
                }
            }
        }
        Ok(order)
    }

    fn page(&self, page: usize, ends: &mut Ends) -> Vec<Vec<u8>> {
        let layout = self.space.layout();
        match &self.plan[page] {
            Plan::Elements(range) => self.order[range.clone()]
                .iter()
                .map(|element| self.element(*element, ends))
                .collect(),
            Plan::Edges(range) => {
                let edges = |element: &u32| {
                    let mut bytes = new_edges_tuple(layout);
                    let edges = edges_tuple_mut(layout, &mut bytes).expect("just made");
                    self.write_edges(0, *element, edges, ends);
                    bytes
                };
                self.order[range.clone()].iter().map(edges).collect()
            }
            Plan::Upper(range) => self.upper_order[range.clone()]
                .iter()
                .map(|(layer, element)| self.upper(*layer, *element, ends))
                .collect(),
            Plan::Further(range) => {
                self.further[range.clone()].iter().map(|further| self.further(further)).collect()
            }
        }
    }

    fn element(&self, element: u32, ends: &mut Ends) -> Vec<u8> {
        let layout = self.space.layout();
        let at = element as usize;
        let mut bytes = vec![0; layout.element_bytes()];
        let mut record = ElementMut::init(layout, &mut bytes, self.graph.levels[at]);
        let vector = &self.vectors[at * layout.dims..(at + 1) * layout.dims];
        record.set_vector(vector, self.norms[at], self.texts[at]);
        record.set_row(Some(self.rows.get(at, layout.columns)));
        let level = self.graph.levels[at];
        record.set_upper(level, self.upper_of(level, element));
        let newest = self.overflow.binary_search_by_key(&element, |(element, _)| *element);
        record.set_overflow(newest.ok().map(|found| self.overflow[found].1));
        match record.edges() {
            Some(edges) => self.write_edges(0, element, edges, ends),
            None => record.set_edges_id(self.edges[at]),
        }
        bytes
    }

    fn write_edges(&self, layer: u8, element: u32, mut edges: EdgesMut<'_>, ends: &mut Ends) {
        self.load(element, &mut ends.from);
        for (slot, neighbour) in self.graph.neighbours(layer, element).enumerate() {
            self.load(neighbour, &mut ends.to);
            let end = |of: u32, rotated| End {
                rotated,
                norm2: self.space.scaled_norm2(self.norms[of as usize]),
                text: self.texts[of as usize],
            };
            let id = self.element[neighbour as usize];
            edges.set(slot, id, end(element, &ends.from), end(neighbour, &ends.to));
        }
        if layer == 0 {
            let (parent, children) = self.graph.kept(element);
            edges.set_kept(parent, children);
        }
    }

    fn load(&self, element: u32, to: &mut [f32]) {
        let at = element as usize * to.len();
        pgclip_simd::widen(&self.rotated[at..at + to.len()], to);
    }

    fn upper(&self, layer: u8, element: u32, ends: &mut Ends) -> Vec<u8> {
        let layout = self.space.layout();
        let mut bytes = new_upper(layout, layer, self.upper_of(layer - 1, element));
        let edges = upper_mut(layout, &mut bytes).expect("just made");
        self.write_edges(layer, element, edges, ends);
        bytes
    }

    fn further(&self, further: &Further) -> Vec<u8> {
        let layout = self.space.layout();
        let mut bytes = new_overflow(layout, further.capacity, further.next, further.owner);
        for at in &self.more_order[further.rows.clone()] {
            let (tid, values) = self.more.get(*at as usize, layout.columns);
            let fits = push_row(layout, &mut bytes, further.owner, tid, values);
            debug_assert_eq!(fits, Ok(true), "places were counted");
        }
        bytes
    }
}

/// A thread's memory: both ends of an edge.
struct Ends {
    from: Vec<f32>,
    to: Vec<f32>,
}

impl Ends {
    fn new(space: &Space) -> Self {
        Self { from: vec![0.0; space.rotated()], to: vec![0.0; space.rotated()] }
    }
}

/// Where the next record goes.
struct Cursor {
    block: u32,
    item: u16,
    room: usize,
}

impl Cursor {
    fn fits(&self, bytes: usize) -> bool {
        bytes.next_multiple_of(8) + ITEM_POINTER <= self.room
    }

    fn take(&mut self, bytes: usize) -> Id {
        debug_assert!(self.fits(bytes), "records are at most a page");
        self.room -= bytes.next_multiple_of(8) + ITEM_POINTER;
        self.item += 1;
        Id { block: self.block, item: self.item }
    }

    /// Goes on to the next page, unless this one is empty.
    fn turn(&mut self) {
        if self.item > 0 {
            *self = Self { block: self.block + 1, item: 0, room: PAGE_ROOM };
        }
    }
}
