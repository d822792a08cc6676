//! The upper layers, as insertion and repair need them: searched exactly, and linked. Its own file
//! because their records are small tuples of ids, and nothing else about them is like the base
//! layer.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashSet};

use crate::error::{Corrupt, Error};
use crate::id::Id;
use crate::insert::{Found, load};
use crate::link::TRIES;
use crate::record::{Element, Upper, change, set_layer};
use crate::select::select;
use crate::space::{Query, Space};
use crate::store::{Store, StoreMut};
use crate::walk::{Stand, layer_of, visit};

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
        let Some(upper) = nearest.0.upper else { continue };
        for id in layer_of(store, space, upper, layer)? {
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

/// Adds `new` to the neighbours of an element on an upper layer, if it is worth a place there.
pub(crate) fn link_upper<S: StoreMut>(
    store: &S,
    space: &Space,
    element: Id,
    layer: u8,
    new: Id,
) -> Result<(), Error<S::Error>> {
    change_layer(store, space, element, layer, |ids| {
        if !ids.contains(&new) {
            ids.push(new);
        }
    })
}

/// Changes the neighbours of an element on an upper layer by `edit`, and chooses among them where
/// they are too many. Dead ones are left out then, and where `edit` brings them.
pub(crate) fn change_layer<S: StoreMut>(
    store: &S,
    space: &Space,
    element: Id,
    layer: u8,
    edit: impl Fn(&mut Vec<Id>),
) -> Result<(), Error<S::Error>> {
    let layout = space.layout();
    for _ in 0..TRIES {
        let read = store.read(element, |bytes| {
            Element::new(layout, bytes).map(|element| (element.is_dead(), element.upper()))
        });
        let read = read.map_err(Error::Store)?.transpose().map_err(|e| e.at(element))?;
        let Some((false, Some(upper))) = read else { return Ok(()) };
        let read = store.read(upper, |bytes| {
            let upper = Upper::new(layout, bytes)?;
            let here = (1..=upper.level()).contains(&layer);
            Ok(here.then(|| (change(bytes), upper.layer(layer).collect::<Vec<_>>())))
        });
        let read = read.map_err(Error::Store)?.transpose();
        let Some(Some((before, old))) = read.map_err(|e: Corrupt| e.at(upper))? else {
            return Ok(());
        };
        let mut ids = old.clone();
        edit(&mut ids);
        ids.retain(|id| *id != element);
        if ids.len() > layout.m {
            ids = choose(store, space, element, &ids)?;
        }
        if ids == old {
            return Ok(());
        }
        let written = store.update(upper, |bytes| {
            let same = change(bytes) == before;
            same.then(|| set_layer(layout, bytes, layer, &ids).ok()).flatten()
        });
        if written.map_err(Error::Store)?.is_some() {
            return Ok(());
        }
        store.interrupt().map_err(Error::Store)?;
    }
    Ok(())
}

/// The best `m` of these for an element.
fn choose<S: StoreMut>(
    store: &S,
    space: &Space,
    element: Id,
    ids: &[Id],
) -> Result<Vec<Id>, Error<S::Error>> {
    let Some(own) = load(store, space, element)? else { return Ok(Vec::new()) };
    let between =
        |a: &Found, b: &Found| space.distance(&a.vector, a.norm2, &b.vector, b.norm2).inner;
    let mut others = Vec::new();
    for id in ids {
        if let Some(other) = load(store, space, *id)?
            && !other.dead
        {
            let inner = between(&own, &other);
            others.push((other, inner));
        }
    }
    others.sort_by(|a, b| a.1.total_cmp(&b.1));
    let candidates: Vec<(&Found, f32)> = others.iter().map(|(found, d)| (found, *d)).collect();
    let mut chosen = Vec::new();
    select(&candidates, space.layout().m, between, &mut chosen);
    Ok(chosen.iter().map(|(found, _)| found.id).collect())
}
