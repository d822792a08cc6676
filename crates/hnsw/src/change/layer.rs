//! The upper layers, as insertion and repair need them: searched exactly, and linked. Its own file
//! because few elements are there, so that more is measured for each than on the base layer.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashSet};

use crate::change::insert::{Found, load};
use crate::change::select::select;
use crate::error::{Corrupt, Error};
use crate::format::edges::End;
use crate::format::id::Id;
use crate::format::record::{Element, Kind, change};
use crate::format::upper::{Upper, upper_mut};
use crate::space::{Query, Space};
use crate::store::{Store, StoreMut};
use crate::walk::descent::look_at_layer;
use crate::walk::{Stand, visit};

/// Stands in the order of their distance.
#[derive(Debug, Clone, Copy)]
struct ByDistance(Stand);

impl PartialEq for ByDistance {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for ByDistance {}

impl Ord for ByDistance {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        let (a, b) = (&self.0, &other.0);
        a.distance.inner.total_cmp(&b.distance.inner).then_with(|| a.id.cmp(&b.id))
    }
}

impl PartialOrd for ByDistance {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

/// The `ef` nearest elements on an upper layer, nearest first.
pub(crate) fn search_layer<S: Store>(
    store: &S,
    space: &Space,
    query: &Query,
    from: Vec<Stand>,
    layer: u8,
    ef: usize,
) -> Result<Vec<Stand>, Error<S::Error>> {
    let mut seen: HashSet<Id> = from.iter().map(|stand| stand.id).collect();
    let mut open: BinaryHeap<Reverse<ByDistance>> =
        from.iter().map(|stand| Reverse(ByDistance(*stand))).collect();
    let mut best: BinaryHeap<ByDistance> = from.into_iter().map(ByDistance).collect();
    while let Some(Reverse(nearest)) = open.pop() {
        if best.len() >= ef && best.peek().is_some_and(|far| nearest > *far) {
            break;
        }
        for id in layer_of(store, space, nearest.0.upper, layer)? {
            if !seen.insert(id) {
                continue;
            }
            let Some(stand) = visit(store, space, query, id)?.map(ByDistance) else { continue };
            if best.len() >= ef {
                if best.peek().is_some_and(|far| stand > *far) {
                    continue;
                }
                best.pop();
            }
            best.push(stand);
            open.push(Reverse(stand));
        }
        store.interrupt().map_err(Error::Store)?;
    }
    Ok(best.into_sorted_vec().into_iter().map(|stand| stand.0).collect())
}

/// The neighbours of an element on an upper layer, found from its tuple on the highest; none where
/// it is not in the layer.
pub(crate) fn layer_of<S: Store>(
    store: &S,
    space: &Space,
    top: Option<Id>,
    layer: u8,
) -> Result<Vec<Id>, Error<S::Error>> {
    let Some(top) = top else { return Ok(Vec::new()) };
    let look = |_, _: &[u8], upper: Upper<'_>| upper.edges().ids().collect();
    Ok(look_at_layer(store, space, top, layer, look)?.unwrap_or_default())
}

/// The places of all tuples of upper layers of an element, from the highest down.
pub(crate) fn chain<S: Store>(
    store: &S,
    space: &Space,
    top: Option<Id>,
) -> Result<Vec<Id>, Error<S::Error>> {
    let (mut next, mut above) = (top, u8::MAX);
    let mut all = Vec::new();
    while let Some(id) = next {
        let read = store.read(id, |bytes| {
            if Kind::Upper.is_replaced(bytes) {
                return Ok(None);
            }
            let upper = Upper::new(space.layout(), bytes)?;
            Ok((upper.layer() < above).then(|| (upper.layer(), upper.below())))
        });
        let read = read.map_err(Error::Store)?.unwrap_or(Ok(None));
        let Some((layer, below)) = read.map_err(|corrupt: Corrupt| corrupt.at(id))? else { break };
        all.push(id);
        (next, above) = (below, layer);
    }
    Ok(all)
}

/// Adds `new` to the neighbours of an element on an upper layer, if it is worth a place there.
pub(crate) fn link_upper<S: StoreMut>(
    store: &S,
    space: &Space,
    element: Id,
    layer: u8,
    new: Id,
) -> Result<(), Error<S::Error>> {
    change_layer(store, space, element, layer, |_| false, &[new])
}

/// Changes the neighbours of an element on an upper layer: takes those out that are `gone`, adds
/// the living of `more`, and chooses among all where they are too many. Dead ones are left out then
/// as well.
pub(crate) fn change_layer<S: StoreMut>(
    store: &S,
    space: &Space,
    element: Id,
    layer: u8,
    gone: impl Fn(Id) -> bool,
    more: &[Id],
) -> Result<(), Error<S::Error>> {
    let layout = space.layout();
    loop {
        let read = store.read(element, |bytes| {
            Element::new(layout, bytes).map(|element| (element.is_dead(), element.upper()))
        });
        let read = read.map_err(Error::Store)?.transpose().map_err(|e| e.at(element))?;
        let Some((false, Some(top))) = read else { return Ok(()) };
        let copy = |id, bytes: &[u8], _: Upper<'_>| (id, bytes.to_vec());
        let Some((upper, mut copy)) = look_at_layer(store, space, top, layer, copy)? else {
            return Ok(());
        };
        let Some(own) = load(store, space, element)? else { return Ok(()) };
        let edges = Upper::new(layout, &copy).expect("checked when it was copied").edges();
        let old: Vec<Id> = edges.ids().collect();
        let mut ids: Vec<Id> = old.iter().copied().filter(|id| !gone(*id)).collect();
        for id in more {
            if *id != element && !ids.contains(id) {
                ids.push(*id);
            }
        }
        let mut added = Vec::new();
        if ids.len() > layout.m {
            let chosen = choose(store, space, &own, &ids)?;
            ids = chosen.iter().map(|found| found.id).collect();
            added.extend(chosen.into_iter().filter(|found| !old.contains(&found.id)));
        } else {
            for id in ids.iter().filter(|id| !old.contains(id)) {
                added.extend(load(store, space, *id)?.filter(|found| !found.dead));
            }
        }
        if added.is_empty() && old.iter().all(|id| ids.contains(id)) {
            return Ok(());
        }
        let before = change(&copy);
        let own = space.plain_query(&own.vector);
        let mut edges = upper_mut(layout, &mut copy).expect("checked when it was copied");
        let mut slot = 0;
        while let Some(id) = edges.read().id(slot) {
            if ids.contains(&id) {
                slot += 1;
            } else {
                edges.remove(slot);
            }
        }
        for (slot, found) in (slot..).zip(&added) {
            let end = space.plain_query(&found.vector);
            edges.set(slot, found.id, End::of(space, &own), End::of(space, &end));
        }
        edges.touch();
        let written = store.update(upper, |bytes| {
            let same = bytes.len() == copy.len() && change(bytes) == before;
            same.then(|| bytes.copy_from_slice(&copy))
        });
        if written.map_err(Error::Store)?.is_some() {
            return Ok(());
        }
        // Another was quicker.
        store.interrupt().map_err(Error::Store)?;
    }
}

/// The best `m` of these for an element.
fn choose<S: StoreMut>(
    store: &S,
    space: &Space,
    own: &Found,
    ids: &[Id],
) -> Result<Vec<Found>, Error<S::Error>> {
    let between =
        |a: &Found, b: &Found| space.distance(&a.vector, a.norm2, &b.vector, b.norm2).inner;
    let mut others = Vec::new();
    for id in ids {
        if let Some(other) = load(store, space, *id)?
            && !other.dead
        {
            let inner = between(own, &other);
            others.push((other, inner));
        }
    }
    others.sort_by(|a, b| a.1.total_cmp(&b.1));
    let candidates: Vec<(&Found, f32)> = others.iter().map(|(found, d)| (found, *d)).collect();
    let mut chosen = Vec::new();
    select(&candidates, space.layout().m, between, &mut chosen);
    Ok(chosen.iter().map(|(found, _)| (*found).clone()).collect())
}
