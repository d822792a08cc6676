//! Changing the edges of an element: copied under a share lock, chosen with nothing held, written
//! back where the change counter says that nobody was quicker. Its own file because back-links of
//! inserts and repairs of vacuum go the same way.

use pgclip_simd::halves;

use crate::change::select::replace;
use crate::error::{Corrupt, Error};
use crate::format::edges::{Edges, EdgesMut, End, Origin, Scratch};
use crate::format::id::Id;
use crate::format::layout::Placement;
use crate::format::record::{Element, ElementMut, change, edges_tuple, edges_tuple_mut};
use crate::space::{Query, Space};
use crate::store::StoreMut;
use crate::walk::distance_of;

/// How often a change is tried where others change the element at the same time; then a back-link
/// is left out, as if the neighbour had not chosen it.
const TRIES: usize = 32;

/// A copy of an element and its edges, to be changed with nothing held.
pub(crate) struct Draft {
    /// The element's record.
    pub element: Vec<u8>,
    /// The edges' tuple, where it is apart.
    pub apart: Option<(Id, Vec<u8>)>,
}

impl Draft {
    /// Copies; none where the element is gone.
    pub fn of<S: StoreMut>(
        store: &S,
        space: &Space,
        id: Id,
    ) -> Result<Option<Self>, Error<S::Error>> {
        let layout = space.layout();
        let read = store.read(id, |bytes| {
            let element = Element::new(layout, bytes)?;
            Ok((!element.is_free()).then(|| (bytes.to_vec(), element.edges_id())))
        });
        let read = read.map_err(Error::Store)?.transpose().map_err(|e: Corrupt| e.at(id))?;
        let Some(Some((element, edges))) = read else { return Ok(None) };
        if layout.placement != Placement::Split {
            return Ok(Some(Self { element, apart: None }));
        }
        let Some(edges) = edges else { return Ok(None) };
        let read = store.read(edges, |bytes| edges_tuple(layout, bytes).map(|_| bytes.to_vec()));
        let read = read.map_err(Error::Store)?.transpose().map_err(|e| e.at(edges))?;
        Ok(read.map(|bytes| Self { element, apart: Some((edges, bytes)) }))
    }

    /// The element.
    pub fn element<'a>(&'a self, space: &'a Space) -> Element<'a> {
        Element::new(space.layout(), &self.element).expect("checked when it was copied")
    }

    /// Its edges.
    pub fn edges<'a>(&'a self, space: &'a Space) -> Edges<'a> {
        match &self.apart {
            Some((_, bytes)) => edges_tuple(space.layout(), bytes).expect("checked"),
            None => self.element(space).edges().expect("edges are in the record"),
        }
    }

    /// Changes the edges by `edit`, and writes them back where nobody else has changed them since.
    /// False where somebody has.
    pub fn commit<S: StoreMut>(
        mut self,
        store: &S,
        space: &Space,
        id: Id,
        edit: impl FnOnce(&mut EdgesMut<'_>),
    ) -> Result<bool, Error<S::Error>> {
        let layout = space.layout();
        let (at, copy) = match &mut self.apart {
            Some((at, bytes)) => (*at, bytes),
            None => (id, &mut self.element),
        };
        let before = change(copy);
        if layout.placement == Placement::Split {
            let mut edges = edges_tuple_mut(layout, copy).expect("checked when it was copied");
            edit(&mut edges);
            edges.touch();
        } else {
            let mut element = ElementMut::new(layout, copy).expect("checked when it was copied");
            let mut edges = element.edges().expect("edges are in the record");
            edit(&mut edges);
            edges.touch();
        }
        let written = store.update(at, |bytes| {
            let same = bytes.len() == copy.len() && change(bytes) == before;
            same.then(|| bytes.copy_from_slice(copy))
        });
        Ok(written.map_err(Error::Store)?.is_some())
    }

    /// Distances of a vector to all neighbours, slot by slot.
    pub fn distances<S: StoreMut>(
        &self,
        store: &S,
        space: &Space,
        query: &Query,
    ) -> Result<Vec<f32>, Error<S::Error>> {
        let mut out = Vec::new();
        let edges = self.edges(space);
        if space.layout().has_codes() {
            edges.estimate(query, self.origin(space, query), &mut Scratch::default(), &mut out);
        } else {
            for id in edges.ids() {
                let distance = distance_of(store, space, query, id)?;
                out.push(distance.map_or(f32::INFINITY, |distance| distance.inner));
            }
        }
        Ok(out)
    }

    /// The element's side of estimates for a query.
    pub fn origin(&self, space: &Space, query: &Query) -> Origin {
        let element = self.element(space);
        let mut aside = Vec::new();
        let vector = halves(element.vector(), &mut aside);
        let inner = space.distance(query.vector(), query.norm2, vector, element.norm2()).inner;
        Origin { inner, norm2: element.norm2(), text: element.text() }
    }

    /// The element's vector, made ready.
    pub fn query(&self, space: &Space) -> Query {
        let mut aside = Vec::new();
        space.plain_query(halves(self.element(space).vector(), &mut aside))
    }
}

/// An element that is to get links back to it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct New<'a> {
    pub id: Id,
    pub query: &'a Query,
    /// Its own neighbours, nearest first.
    pub neighbours: &'a [Id],
}

/// Adds `new` to the edges of an element: if it is worth a place there, or, `kept`, as a child. Says
/// whether it did.
pub(crate) fn link<S: StoreMut>(
    store: &S,
    space: &Space,
    element: Id,
    new: New<'_>,
    kept: bool,
) -> Result<bool, Error<S::Error>> {
    if element == new.id {
        return Ok(false);
    }
    for _ in 0..TRIES {
        let Some(copy) = Draft::of(store, space, element)? else { return Ok(false) };
        if copy.element(space).is_dead() {
            return Ok(false);
        }
        let ids: Vec<Id> = copy.edges(space).ids().collect();
        let there = ids.iter().position(|id| *id == new.id);
        if there.is_some() && !kept {
            return Ok(true);
        }
        if kept && !copy.edges(space).has_place() {
            return Ok(there.is_some_and(|slot| slot < copy.edges(space).kept()));
        }
        let own = copy.query(space);
        let slot = if there.is_some() {
            there
        } else if ids.len() < space.layout().edges() {
            Some(ids.len())
        } else {
            let distance = copy.origin(space, new.query).inner;
            let to_element = copy.distances(store, space, &own)?;
            let to_new = copy.distances(store, space, new.query)?;
            let linked = |slot: usize| ids.get(slot).is_some_and(|id| new.neighbours.contains(id));
            let first = copy.edges(space).kept();
            let to_new = |slot: usize| to_new[slot];
            replace(distance, &to_element, first, to_new, linked, kept)
        };
        let Some(slot) = slot else { return Ok(false) };
        let (from, to) = (End::of(space, &own), End::of(space, new.query));
        let written = copy.commit(store, space, element, |edges| {
            if there.is_none() {
                edges.set(slot, new.id, from, to);
            }
            if kept {
                edges.keep_child(slot);
            }
        })?;
        if written {
            return Ok(true);
        }
        store.interrupt().map_err(Error::Store)?;
    }
    Ok(false)
}

/// Adds a new element to its neighbours' edges, where it is worth a place.
pub(crate) fn link_all<S: StoreMut>(
    store: &S,
    space: &Space,
    to: &[Id],
    new: New<'_>,
) -> Result<(), Error<S::Error>> {
    for neighbour in to.iter().rev() {
        link(store, space, *neighbour, new, false)?;
        store.interrupt().map_err(Error::Store)?;
    }
    Ok(())
}
