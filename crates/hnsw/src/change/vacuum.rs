//! Vacuum: dead elements lose their in-edges, then their place.
//!
//! No reverse edges are kept, so in-edges are found by looking at every element once. Only those
//! with a dead neighbour cost more: their dead edges are replaced by the best of the dead elements'
//! own neighbours, found by estimate in the dead elements' records and then measured. The phases,
//! each over all elements: [`remove_rows`] takes rows out, and [`mark_dead`] marks; [`repair()`] replaces;
//! [`move_entry`] and [`reconnect`] once; [`free`] for each that is dead. [`vacuum`] is all of them in
//! a row.

use std::collections::{HashSet, VecDeque};

use crate::change::insert::{Found, load};
use crate::change::layer::{chain, change_layer, layer_of};
use crate::change::link::{Draft, New, link_all};
use crate::change::rows::{mark_dead, remove_rows};
use crate::change::tree::{Forest, TooMany, reconnect};
use crate::error::{Corrupt, Error};
use crate::format::edges::{End, Scratch};
use crate::format::id::{Id, Tid};
use crate::format::overflow::Overflow;
use crate::format::record::{Element, ElementMut};
use crate::space::{Query, Space};
use crate::store::{Entry, StoreMut};
use crate::tuning;
use crate::walk::descent::{Descent, enter};
use crate::walk::visited::Table;
use crate::walk::{Walk, distance_of};

/// Replaces the dead neighbours of an element, on all layers. Says whether there were any on the
/// base layer. Nothing where the element is dead itself, or gone.
pub fn repair<S: StoreMut>(
    store: &S,
    space: &Space,
    id: Id,
    dead: &HashSet<Id>,
) -> Result<bool, Error<S::Error>> {
    let mut repaired = false;
    // Where another was quicker, again: no edge to what is about to be freed may stay.
    let level = loop {
        let Some(copy) = Draft::of(store, space, id)? else { return Ok(false) };
        if copy.element(space).is_dead() {
            return Ok(false);
        }
        let level = copy.element(space).level();
        if !copy.edges(space).ids().any(|id| dead.contains(&id)) {
            break level;
        }
        repaired = true;
        let own = copy.query(space);
        let new = replacements(store, space, id, &copy, &own, dead)?;
        let added: Vec<Id> = new.iter().map(|(id, _)| *id).collect();
        let mut neighbours = added.clone();
        neighbours.extend(copy.edges(space).ids().filter(|id| !dead.contains(id)));
        let written = copy.commit(store, space, id, |edges| {
            let mut slot = 0;
            while let Some(neighbour) = edges.read().id(slot) {
                if dead.contains(&neighbour) {
                    edges.remove(slot);
                } else {
                    slot += 1;
                }
            }
            for (neighbour, end) in &new {
                let count = edges.read().count();
                edges.set(count, *neighbour, End::of(space, &own), End::of(space, end));
            }
        })?;
        if written {
            link_all(store, space, &added, New { id, query: &own, neighbours: &neighbours })?;
            break level;
        }
        store.interrupt().map_err(Error::Store)?;
    };
    for layer in 1..=level {
        repair_layer(store, space, id, layer, dead)?;
    }
    Ok(repaired)
}

/// What takes the places of an element's dead neighbours, made ready.
fn replacements<S: StoreMut>(
    store: &S,
    space: &Space,
    id: Id,
    copy: &Draft,
    own: &Query,
    dead: &HashSet<Id>,
) -> Result<Vec<(Id, Query)>, Error<S::Error>> {
    let most = space.layout().edges();
    let kept: Vec<Id> = copy.edges(space).ids().filter(|id| !dead.contains(id)).collect();
    let holes = copy.edges(space).count() - kept.len();
    // So many are read and measured.
    let read = 2 * holes + 4;
    let mut near = around(store, space, id, copy, own, (dead, 2 * read))?;
    if kept.len() + near.len() < most / 4 {
        near.extend(searched(store, space, id, own, &kept)?);
    }
    near.sort_by(|a, b| a.0.total_cmp(&b.0));
    // One that was found both ways has two distances: an estimate and the exact one.
    let mut seen = HashSet::new();
    near.retain(|(_, id)| seen.insert(*id));
    // Estimates decide what is read, exact distances what is chosen.
    let mut candidates: Vec<Found> = Vec::new();
    for (_, candidate) in near.into_iter().take(read) {
        if let Some(mut found) = load(store, space, candidate)?
            && !found.dead
        {
            found.inner = space.distance(own.vector(), own.norm2, &found.vector, found.norm2).inner;
            candidates.push(found);
        }
    }
    candidates.sort_by(|a, b| a.inner.total_cmp(&b.inner));
    let to_element = copy.distances(store, space, own)?;
    let mut chosen: Vec<(Id, Query)> = Vec::new();
    let mut chosen_at: Vec<usize> = Vec::new();
    let mut rest: Vec<usize> = Vec::new();
    let slots: Vec<bool> = copy.edges(space).ids().map(|id| !dead.contains(&id)).collect();
    for (at, candidate) in candidates.iter().enumerate() {
        if chosen.len() == holes {
            break;
        }
        let query = space.plain_query(&candidate.vector);
        let to_new = copy.distances(store, space, &query)?;
        let by_kept = to_element.iter().zip(&to_new).zip(&slots).any(|((element, new), alive)| {
            *alive && *element <= candidate.inner && *new < candidate.inner
        });
        let by_chosen = chosen_at.iter().any(|other| {
            let other = &candidates[*other];
            let (a, b) = (&candidate.vector, &other.vector);
            space.distance(a, candidate.norm2, b, other.norm2).inner < candidate.inner
        });
        if by_kept || by_chosen {
            rest.push(at);
        } else {
            chosen.push((candidate.id, query));
            chosen_at.push(at);
        }
    }
    let room = holes - chosen.len();
    chosen.extend(rest.into_iter().take(room).map(|at| {
        let candidate = &candidates[at];
        (candidate.id, space.plain_query(&candidate.vector))
    }));
    Ok(chosen)
}

/// The living neighbours of an element's dead neighbours, with estimates of their distance; and of
/// the dead ones behind those, as long as there are fewer than `enough`.
fn around<S: StoreMut>(
    store: &S,
    space: &Space,
    id: Id,
    copy: &Draft,
    own: &Query,
    (dead, enough): (&HashSet<Id>, usize),
) -> Result<Vec<(f32, Id)>, Error<S::Error>> {
    let mut seen = Table::new();
    seen.insert(id);
    let mut open: VecDeque<Id> = VecDeque::new();
    for id in copy.edges(space).ids() {
        if seen.insert(id) && dead.contains(&id) {
            open.push_back(id);
        }
    }
    let direct = open.len();
    let mut near = Vec::new();
    let mut scratch = Scratch::default();
    let mut estimates = Vec::new();
    for looked in 0..tuning::repair_dead() {
        if looked >= direct && near.len() >= enough {
            break;
        }
        let Some(gone) = open.pop_front() else { break };
        let Some(other) = Draft::of(store, space, gone)? else { continue };
        let edges = other.edges(space);
        edges.estimate(own, other.origin(space, own), &mut scratch, &mut estimates);
        for (slot, neighbour) in edges.ids().enumerate() {
            if !seen.insert(neighbour) {
                continue;
            }
            if dead.contains(&neighbour) {
                open.push_back(neighbour);
                continue;
            }
            let estimate = match estimates.get(slot) {
                Some(estimate) => Some(*estimate),
                None => distance_of(store, space, own, neighbour)?.map(|distance| distance.inner),
            };
            near.extend(estimate.map(|estimate| (estimate, neighbour)));
        }
        store.interrupt().map_err(Error::Store)?;
    }
    Ok(near)
}

/// Neighbours found by a search, for an element that the dead leave alone.
fn searched<S: StoreMut>(
    store: &S,
    space: &Space,
    id: Id,
    own: &Query,
    kept: &[Id],
) -> Result<Vec<(f32, Id)>, Error<S::Error>> {
    let Some(entry) = enter(store, space, own)? else { return Ok(Vec::new()) };
    let mut walk = Walk::new();
    let here = Descent::new().run(store, space, own, entry, 0)?;
    walk.start(space.layout(), here.id, here.distance, usize::MAX);
    let mut near = Vec::new();
    while near.len() < tuning::repair_searched() {
        let Some(next) = walk.pool.pop(f32::INFINITY) else { break };
        walk.expand(store, space, own, next.id, |element, distance| {
            if !element.is_dead() && next.id != id && !kept.contains(&next.id) {
                near.push((distance.inner, next.id));
            }
        })?;
    }
    Ok(near)
}

/// Replaces the dead neighbours of an element on an upper layer by theirs.
fn repair_layer<S: StoreMut>(
    store: &S,
    space: &Space,
    id: Id,
    layer: u8,
    dead: &HashSet<Id>,
) -> Result<(), Error<S::Error>> {
    let layer_ids = |id: Id| -> Result<Vec<Id>, Error<S::Error>> {
        let read = store
            .read(id, |bytes| Element::new(space.layout(), bytes).map(|element| element.upper()));
        let upper = read.map_err(Error::Store)?.transpose().map_err(|e| e.at(id))?.flatten();
        layer_of(store, space, upper, layer)
    };
    let gone: Vec<Id> = layer_ids(id)?.into_iter().filter(|id| dead.contains(id)).collect();
    if gone.is_empty() {
        return Ok(());
    }
    let mut theirs = Vec::new();
    for gone in gone {
        theirs.extend(layer_ids(gone)?.into_iter().filter(|id| !dead.contains(id)));
    }
    change_layer(store, space, id, layer, |id| dead.contains(&id), &theirs)
}

/// Moves the entry point where it is dead, to the highest of the living elements; none where there
/// are none left. To be called with the highest found while repairing.
pub fn move_entry<S: StoreMut>(
    store: &S,
    dead: &HashSet<Id>,
    highest: Option<Entry>,
) -> Result<(), Error<S::Error>> {
    loop {
        let entry = store.entry().map_err(Error::Store)?;
        let gone = entry.is_some_and(|entry| dead.contains(&entry.id));
        if !gone || store.set_entry(entry, highest).map_err(Error::Store)? {
            return Ok(());
        }
    }
}

/// Gives a dead element's records back. Nothing may point to it any more.
pub fn free<S: StoreMut>(store: &S, space: &Space, id: Id) -> Result<(), Error<S::Error>> {
    let layout = space.layout();
    let read = store.read(id, |bytes| {
        let element = Element::new(layout, bytes)?;
        let parts = (element.edges_id(), element.upper(), element.overflow());
        Ok(element.is_dead().then_some(parts))
    });
    let read = read.map_err(Error::Store)?.transpose().map_err(|e: Corrupt| e.at(id))?;
    let Some(Some((edges, upper, mut overflow))) = read else { return Ok(()) };
    let mut all = chain(store, space, upper)?;
    all.extend(edges);
    let marked = store.update(id, |bytes| {
        let mut element = ElementMut::new(layout, bytes).ok()?;
        element.set_free();
        element.touch();
        Some(())
    });
    if marked.map_err(Error::Store)?.is_none() {
        return Ok(());
    }
    while let Some(tuple) = overflow {
        let read =
            store.read(tuple, |bytes| Overflow::new(layout, bytes).map(|overflow| overflow.next()));
        all.push(tuple);
        overflow = read.map_err(Error::Store)?.transpose().map_err(|e| e.at(tuple))?.flatten();
    }
    all.push(id);
    all.into_iter().try_for_each(|id| store.free(id).map_err(Error::Store))
}

/// What a vacuum did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Vacuumed {
    /// Rows taken out.
    pub rows: usize,
    /// Elements that died, and were freed.
    pub dead: usize,
    /// Elements that had dead neighbours.
    pub repaired: usize,
}

/// All phases over all elements, of which `elements` gives the places, twice.
pub fn vacuum<S: StoreMut, I: Iterator<Item = Id>>(
    store: &S,
    space: &Space,
    elements: impl Fn() -> I,
    mut is_gone: impl FnMut(Tid) -> bool,
) -> Result<Vacuumed, Error<S::Error>> {
    let mut done = Vacuumed::default();
    let mut dead = HashSet::new();
    for id in elements() {
        let rows = remove_rows(store, space, id, &mut is_gone)?;
        done.rows += rows.removed;
        if rows.dead || rows.left == 0 && mark_dead(store, space, id)? {
            dead.insert(id);
        }
    }
    done.dead = dead.len();
    if dead.is_empty() {
        return Ok(done);
    }
    let mut highest: Option<Entry> = None;
    let mut forest = Forest::new();
    for id in elements().filter(|id| !dead.contains(id)) {
        done.repaired += usize::from(repair(store, space, id, &dead)?);
        let read = store.read(id, |bytes| {
            let element = Element::new(space.layout(), bytes)?;
            Ok((!element.is_dead()).then(|| element.level()))
        });
        let level = read.map_err(Error::Store)?.transpose().map_err(|e: Corrupt| e.at(id))?;
        if let Some(level) = level.flatten()
            && highest.is_none_or(|highest| level > highest.level)
        {
            highest = Some(Entry { id, level });
        }
        forest.add(store, space, id)?.unwrap_or_else(|TooMany(_)| panic!("no memory"));
        store.interrupt().map_err(Error::Store)?;
    }
    move_entry(store, &dead, highest)?;
    reconnect(store, space, &mut forest)?;
    for id in dead {
        free(store, space, id)?;
    }
    Ok(done)
}
