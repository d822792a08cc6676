//! One step of a walk over the base layer: read an element, learn its exact distance, and put its
//! neighbours into the pool with their estimates. Its own file because search, insertion and repair
//! share it.

use half::f16;
use pgclip_simd::halves;

use crate::error::{Corrupt, Error};
use crate::format::edges::{Edges, Origin, Scratch};
use crate::format::id::Id;
use crate::format::layout::{Layout, Metric};
use crate::format::record::{Element, Kind, edges_tuple};
use crate::space::{Distance, Query, Space};
use crate::store::Store;
use crate::tuning;
use crate::walk::pool::Pool;
use crate::walk::visited::Visited;

/// Records between two calls of [`Store::interrupt`].
const INTERRUPT: u64 = 32;

/// The state of a walk, kept from one to the next for its memory.
#[derive(Debug)]
pub(crate) struct Walk {
    pub pool: Pool,
    pub visited: Visited,
    /// Records expanded.
    pub expanded: u64,
    /// The element that was asked for last.
    awaited: Option<Id>,
    /// Records that lay far nearer to their neighbours than to the query, less those that did not.
    crowded: i64,
    scratch: Scratch,
    vector: Vec<f16>,
    /// The slots of the neighbours that are looked at, those neighbours and whether they were not
    /// seen before, and their estimates.
    slots: Vec<u8>,
    neighbours: Vec<(Id, bool)>,
    estimates: Vec<f32>,
    /// Those to be measured.
    ids: Vec<Id>,
    /// The neighbours of what was expanded last and their estimates, where they are asked for.
    pub wants_last: bool,
    pub last: Vec<(Id, f32)>,
}

impl Walk {
    pub fn new() -> Self {
        Self {
            pool: Pool::new(),
            visited: Visited::new(),
            expanded: 0,
            awaited: None,
            crowded: 0,
            scratch: Scratch::default(),
            vector: Vec::new(),
            slots: Vec::new(),
            neighbours: Vec::new(),
            estimates: Vec::new(),
            ids: Vec::new(),
            wants_last: false,
            last: Vec::new(),
        }
    }

    /// Begins a walk at an element whose distance is known.
    pub fn start(&mut self, layout: &Layout, id: Id, distance: Distance, limit: usize) {
        self.pool.reset(limit);
        self.visited.start(layout);
        self.expanded = 0;
        self.crowded = 0;
        self.wants_last = false;
        self.add(id, distance.inner);
    }

    /// Adds another element, with its inner distance or an estimate of it.
    pub fn add(&mut self, id: Id, estimate: f32) {
        if self.visited.insert(id) {
            self.pool.push(estimate, id);
        }
    }

    /// Is the walk among near-duplicates: does most of what it expanded lie far nearer to its neighbours
    /// than to the query? Then few edges lead out, and what they lead to may be the near-duplicates of
    /// any other scene.
    pub fn is_caught(&self) -> bool {
        self.crowded > 0
    }

    /// Expands an element, and shows it to `look` with its exact distance. False where there is no
    /// such element any more.
    pub fn expand<S: Store>(
        &mut self,
        store: &S,
        space: &Space,
        query: &Query,
        id: Id,
        look: impl FnOnce(&Element<'_>, Distance),
    ) -> Result<bool, Error<S::Error>> {
        self.expanded += 1;
        if self.expanded.is_multiple_of(INTERRUPT) {
            store.interrupt().map_err(Error::Store)?;
        }
        self.prefetch_next(store, space);
        self.ids.clear();
        self.last.clear();
        let (mut apart, mut inner) = (None, 0.0);
        let read = store.read(id, |bytes| {
            if Kind::Element.is_replaced(bytes) {
                return Ok(false);
            }
            let element = Element::new(space.layout(), bytes)?;
            if element.is_free() {
                return Ok(false);
            }
            let edges = element.edges();
            if let Some(edges) = edges {
                self.choose(edges, space);
            }
            let vector = halves(element.vector(), &mut self.vector);
            let norm2 = element.norm2();
            let distance = space.distance(&query.vector, query.norm2, vector, norm2);
            inner = distance.inner;
            let origin = Origin { inner, norm2, text: element.text() };
            match edges {
                Some(edges) => self.take(edges, space, query, origin),
                None => apart = element.edges_id().map(|id| (id, origin)),
            }
            look(&element, distance);
            Ok(true)
        });
        let here = read.map_err(Error::Store)?.unwrap_or(Ok(false));
        if !here.map_err(|corrupt: Corrupt| corrupt.at(id))? {
            return Ok(false);
        }
        if let Some((id, origin)) = apart {
            let read = store.read(id, |bytes| {
                if Kind::Edges.is_replaced(bytes) {
                    return Ok(());
                }
                let edges = edges_tuple(space.layout(), bytes)?;
                self.choose(edges, space);
                self.take(edges, space, query, origin);
                Ok(())
            });
            let read = read.map_err(Error::Store)?.unwrap_or(Ok(()));
            read.map_err(|corrupt: Corrupt| corrupt.at(id))?;
        }
        if !space.layout().has_codes() {
            // How long the edges are is not known here: in a crowd the query is as far from their ends.
            const ALIKE: f32 = 0.02;
            let mut crowd = true;
            for id in std::mem::take(&mut self.ids) {
                if let Some(distance) = distance_of(store, space, query, id)? {
                    self.pool.push(distance.inner, id);
                    self.last.push((id, distance.inner));
                    crowd &= (distance.inner - inner).abs() < ALIKE * inner.abs();
                }
            }
            self.crowded += if crowd { 1 } else { -1 };
        }
        self.prefetch_next(store, space);
        Ok(true)
    }

    /// Asks for what is to be expanded next, as far as is known: before an element is expanded, to have
    /// it ready then, and after, where one of the neighbours comes first.
    fn prefetch_next<S: Store>(&mut self, store: &S, space: &Space) {
        if let Some(next) = self.pool.peek()
            && self.awaited.replace(next) != Some(next)
        {
            store.prefetch(next, space.layout());
        }
    }

    /// Chooses the neighbours that are looked at: those not seen before, or all where they are asked
    /// for. Their codes are asked for at once: waiting for memory is most of what a record costs.
    fn choose(&mut self, edges: Edges<'_>, space: &Space) {
        // Written in any case and kept or not: whether one was seen before is hard to predict.
        self.slots.resize(edges.count(), 0);
        self.neighbours.resize(edges.count(), (Id { block: 0, item: 0 }, false));
        let mut kept = 0;
        for (slot, id) in edges.slots().enumerate() {
            let Some(id) = id else { continue };
            let fresh = self.visited.insert(id);
            self.slots[kept] = slot as u8;
            self.neighbours[kept] = (id, fresh);
            kept += usize::from(fresh | self.wants_last);
        }
        self.slots.truncate(kept);
        self.neighbours.truncate(kept);
        self.slots.iter().for_each(|slot| edges.prefetch(usize::from(*slot)));
        if !space.layout().has_codes() {
            let fresh = self.neighbours.iter().filter(|(_, fresh)| *fresh);
            self.ids.extend(fresh.map(|(id, _)| *id));
        }
    }

    /// Puts the chosen neighbours that were not seen before into the pool, where there are estimates.
    fn take(&mut self, edges: Edges<'_>, space: &Space, query: &Query, origin: Origin) {
        if !space.layout().has_codes() {
            return;
        }
        let Self { scratch, estimates, .. } = self;
        edges.estimate_some(query, origin, &self.slots, scratch, estimates);
        let far = match space.metric() {
            Metric::InnerProduct => origin.inner + query.norm2 + origin.norm2,
            Metric::L2 | Metric::Cosine => origin.inner,
        };
        let crowd = tuning::crowd() * self.scratch.length2(query) < far;
        self.crowded += if crowd { 1 } else { -1 };
        for (&(id, fresh), estimate) in self.neighbours.iter().zip(&self.estimates) {
            if fresh {
                self.pool.push(*estimate, id);
            }
            if self.wants_last {
                self.last.push((id, *estimate));
            }
        }
    }
}

/// The exact distance of an element; none where there is no such element any more.
pub(crate) fn distance_of<S: Store>(
    store: &S,
    space: &Space,
    query: &Query,
    id: Id,
) -> Result<Option<Distance>, Error<S::Error>> {
    Ok(visit(store, space, query, id)?.map(|stand| stand.distance))
}

/// Reads where one would stand; none where there is no such element any more.
pub(crate) fn visit<S: Store>(
    store: &S,
    space: &Space,
    query: &Query,
    id: Id,
) -> Result<Option<Stand>, Error<S::Error>> {
    let read = store.read(id, |bytes| {
        if Kind::Element.is_replaced(bytes) {
            return Ok(None);
        }
        let element = Element::new(space.layout(), bytes)?;
        if element.is_free() {
            return Ok(None);
        }
        let mut aside = Vec::new();
        let vector = halves(element.vector(), &mut aside);
        let (norm2, text) = (element.norm2(), element.text());
        let distance = space.distance(&query.vector, query.norm2, vector, norm2);
        Ok(Some(Stand { id, distance, norm2, text, upper: element.upper() }))
    });
    read.map_err(Error::Store)?.unwrap_or(Ok(None)).map_err(|corrupt: Corrupt| corrupt.at(id))
}

/// An element that a walk over the upper layers has come to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stand {
    pub id: Id,
    pub distance: Distance,
    /// The squared norm of its vector, and its inner product with the texts' direction.
    pub norm2: f32,
    pub text: f32,
    /// Its tuple on an upper layer, from which it is found on those below.
    pub upper: Option<Id>,
}
