//! One step of a walk over the base layer: read an element, learn its exact distance, and put its
//! neighbours into the pool with their estimates. And the way down to the base layer, which is
//! exact. Its own file because search, insertion and repair share it.

use half::f16;
use pgclip_simd::halves;

use crate::edges::{Edges, Origin, Scratch};
use crate::error::{Corrupt, Error};
use crate::id::Id;
use crate::pool::{Pool, Visited};
use crate::record::{Element, Upper, edges_tuple};
use crate::space::{Distance, Query, Space};
use crate::store::{Entry, Store};

/// Records between two calls of [`Store::interrupt`].
const INTERRUPT: u64 = 32;

/// How often the entry point is looked up again where it is gone: it moves before it is freed.
const ENTRY_TRIES: usize = 8;

/// Layers up to this one are not walked down: the base layer's codes find the way from a thousandth
/// of the elements in a few records more, where each exact step on the upper layers reads one a
/// neighbour. On 60,000 vectors that are 14 reads before the walk instead of 77, at equal recall.
pub(crate) const LOWEST: u8 = 2;

/// The state of a walk, kept from one to the next for its memory.
#[derive(Debug)]
pub(crate) struct Walk {
    pub pool: Pool,
    pub visited: Visited,
    /// Records expanded.
    pub expanded: u64,
    scratch: Scratch,
    vector: Vec<f16>,
    estimates: Vec<f32>,
    ids: Vec<Id>,
}

impl Walk {
    pub fn new() -> Self {
        Self {
            pool: Pool::new(),
            visited: Visited::new(),
            expanded: 0,
            scratch: Scratch::default(),
            vector: Vec::new(),
            estimates: Vec::new(),
            ids: Vec::new(),
        }
    }

    /// Begins a walk at an element whose distance is known.
    pub fn start(&mut self, id: Id, distance: Distance, limit: usize) {
        self.pool.reset(limit);
        self.visited.clear();
        self.expanded = 0;
        self.visited.insert(id);
        self.pool.push(distance.inner, id);
    }

    /// Begins at these as well, whose inner distances are known.
    pub fn also(&mut self, others: &[(Id, f32)]) {
        for (id, inner) in others {
            if self.visited.insert(*id) {
                self.pool.push(*inner, *id);
            }
        }
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
        self.ids.clear();
        let mut apart = None;
        let read = store.read(id, |bytes| {
            let element = Element::new(space.layout(), bytes)?;
            if element.is_free() {
                return Ok(false);
            }
            let vector = halves(element.vector(), &mut self.vector);
            let norm2 = element.norm2();
            let distance = space.distance(&query.vector, query.norm2, vector, norm2);
            let origin = Origin { inner: distance.inner, norm2, text: element.text() };
            match element.edges() {
                Some(edges) => self.take(edges, query, origin),
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
                edges_tuple(space.layout(), bytes).map(|edges| self.take(edges, query, origin))
            });
            read.map_err(Error::Store)?.unwrap_or(Ok(())).map_err(|corrupt| corrupt.at(id))?;
        }
        if !space.layout().has_codes() {
            for id in std::mem::take(&mut self.ids) {
                if let Some(distance) = distance_of(store, space, query, id)? {
                    self.pool.push(distance.inner, id);
                }
            }
        }
        Ok(true)
    }

    /// Puts the neighbours that were not seen yet into the pool, or, where there are no estimates,
    /// aside.
    fn take(&mut self, edges: Edges<'_>, query: &Query, origin: Origin) {
        edges.estimate(query, origin, &mut self.scratch, &mut self.estimates);
        if self.estimates.is_empty() {
            self.ids.extend(edges.ids().filter(|id| self.visited.insert(*id)));
            return;
        }
        for (id, estimate) in edges.slots().zip(&self.estimates) {
            if let Some(id) = id
                && self.visited.insert(id)
            {
                self.pool.push(*estimate, id);
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
        let element = Element::new(space.layout(), bytes)?;
        if element.is_free() {
            return Ok(None);
        }
        let mut aside = Vec::new();
        let vector = halves(element.vector(), &mut aside);
        let distance = space.distance(&query.vector, query.norm2, vector, element.norm2());
        Ok(Some(Stand { id, distance, upper: element.upper() }))
    });
    read.map_err(Error::Store)?.unwrap_or(Ok(None)).map_err(|corrupt: Corrupt| corrupt.at(id))
}

/// The neighbours of an upper tuple on a layer; none where it is gone.
pub(crate) fn layer_of<S: Store>(
    store: &S,
    space: &Space,
    id: Id,
    layer: u8,
) -> Result<Vec<Id>, Error<S::Error>> {
    let read = store.read(id, |bytes| {
        Upper::new(space.layout(), bytes).map(|upper| upper.layer(layer).collect())
    });
    let layer = read.map_err(Error::Store)?.unwrap_or_else(|| Ok(Vec::new()));
    layer.map_err(|corrupt| corrupt.at(id))
}

/// An element that a walk over the upper layers has come to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stand {
    pub id: Id,
    pub distance: Distance,
    pub upper: Option<Id>,
}

/// The entry point, read; none while the graph is empty.
pub(crate) fn enter<S: Store>(
    store: &S,
    space: &Space,
    query: &Query,
) -> Result<Option<(Entry, Stand)>, Error<S::Error>> {
    for _ in 0..ENTRY_TRIES {
        let Some(entry) = store.entry().map_err(Error::Store)? else { return Ok(None) };
        if let Some(stand) = visit(store, space, query, entry.id)? {
            return Ok(Some((entry, stand)));
        }
        store.interrupt().map_err(Error::Store)?;
    }
    let entry = store.entry().map_err(Error::Store)?;
    match entry {
        Some(entry) => Err(Corrupt("the entry point is not there").at(entry.id)),
        None => Ok(None),
    }
}

/// Walks down from `from` to the nearest element on layer `to + 1`, greedily and exactly, and shows
/// what it measures on the way to `passed`; `seen` is only lent for its memory.
pub(crate) fn descend<S: Store>(
    store: &S,
    space: &Space,
    query: &Query,
    (entry, mut here): (Entry, Stand),
    to: u8,
    seen: &mut Visited,
    mut passed: impl FnMut(&Stand),
) -> Result<Stand, Error<S::Error>> {
    seen.clear();
    seen.insert(here.id);
    passed(&here);
    for layer in (to + 1..=entry.level).rev() {
        let mut moved = true;
        while std::mem::take(&mut moved) {
            let Some(upper) = here.upper else { break };
            for id in layer_of(store, space, upper, layer)? {
                if !seen.insert(id) {
                    continue;
                }
                let Some(stand) = visit(store, space, query, id)? else { continue };
                passed(&stand);
                if stand.distance.inner < here.distance.inner {
                    here = stand;
                    moved = true;
                }
            }
            store.interrupt().map_err(Error::Store)?;
        }
    }
    Ok(here)
}
