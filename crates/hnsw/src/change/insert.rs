//! Inserting a row: find the neighbours, write the element, link back to it.
//!
//! The element is complete before anything points to it, and each back-link is a step of its own,
//! the first of them its parent's ([`tree`](crate::change::tree)), so an insert that is cut off leaves an
//! element that nothing points to or that is poorly linked, never a graph that is damaged. For a back-link the neighbour is copied, its new edges are chosen with nothing held, and
//! the copy goes back only where the change counter says that nobody was quicker.
//!
//! A vacuum must not free what this insert has seen alive: the host lets a vacuum that has marked
//! elements dead wait, before it repairs, for the inserts that run (or takes any interlock to that
//! effect).

use half::f16;
use pgclip_simd::halves;

use crate::change::layer::{chain, link_upper, search_layer};
use crate::change::link::{New, link_all};
use crate::change::rows::add_row;
use crate::change::select::select;
use crate::change::tree::adopt;
use crate::error::{Corrupt, Error};
use crate::format::edges::{EdgesMut, End};
use crate::format::id::{Id, Tid};
use crate::format::layout::{MAX_LEVEL, Placement};
use crate::format::record::{Element, ElementMut, Kind, Values, edges_tuple_mut, new_edges_tuple};
use crate::format::upper::{new_upper, upper_mut};
use crate::space::{Query, Space};
use crate::store::{Entry, StoreMut};
use crate::walk::descent::{Descent, enter};
use crate::walk::{Stand, Walk};

/// A row to insert.
#[derive(Debug, Clone, Copy)]
pub struct NewRow<'a> {
    /// Its vector.
    pub vector: &'a [f16],
    /// Its place in the table.
    pub tid: Tid,
    /// Its filter values.
    pub values: Values<'a>,
}

/// How a row is inserted.
#[derive(Debug, Clone, Copy)]
pub struct InsertOptions {
    /// Candidates looked at for the neighbours.
    pub ef_construction: usize,
    /// The level, drawn with [`level`](crate::level()).
    pub level: u8,
}

/// What became of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Inserted {
    /// It is a new element.
    New(Id),
    /// It joined the element of an equal vector.
    Joined(Id),
    /// Its vector cannot be indexed: zero, under cosine.
    Skipped,
}

/// An element near the new one.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    pub id: Id,
    pub inner: f32,
    pub vector: Vec<f16>,
    pub norm2: f32,
    pub dead: bool,
}

/// How often an insert begins again because all that it found died meanwhile. In a damaged graph it
/// may seem so for ever.
const TRIES: usize = 100;

/// Inserts a row.
pub fn insert<S: StoreMut>(
    store: &S,
    space: &Space,
    row: NewRow<'_>,
    options: InsertOptions,
) -> Result<Inserted, Error<S::Error>> {
    if !space.is_indexable(row.vector) {
        return Ok(Inserted::Skipped);
    }
    let query = space.plain_query(row.vector);
    let level = options.level.min(MAX_LEVEL);
    for _ in 0..TRIES {
        let Some((entry, stand)) = enter(store, space, &query)? else {
            let id = write(store, space, row, &query, &[], None)?;
            write_upper(store, space, id, &query, level, &[])?;
            if store.set_entry(None, Some(Entry { id, level })).map_err(Error::Store)? {
                return Ok(Inserted::New(id));
            }
            // Another was first, and nothing points to this one.
            discard(store, space, id)?;
            continue;
        };
        let at = (entry, stand);
        let ef = options.ef_construction;
        if let Some(inserted) = insert_at(store, space, row, &query, level, ef, at)? {
            return Ok(inserted);
        }
        store.interrupt().map_err(Error::Store)?;
    }
    let entry = store.entry().map_err(Error::Store)?.map_or(Id { block: 0, item: 0 }, |e| e.id);
    Err(Corrupt("no element takes another in").at(entry))
}

/// Inserts a row into a graph that has an entry point. None where that was gone meanwhile, or all
/// elements were dead, and another insert was first to begin anew.
fn insert_at<S: StoreMut>(
    store: &S,
    space: &Space,
    row: NewRow<'_>,
    query: &Query,
    level: u8,
    ef: usize,
    (entry, stand): (Entry, Stand),
) -> Result<Option<Inserted>, Error<S::Error>> {
    let layout = space.layout();
    let mut walk = Walk::new();
    let top = level.min(entry.level);
    // All the way down: the walk below looks at so many and no more, and none of them should be spent
    // on the way. A graph made by inserts alone loses 1 % of recall otherwise.
    let here = Descent::new().run(store, space, query, (entry, stand), top)?;
    let mut stands = vec![here];
    let mut uppers: Vec<Vec<(Id, Query)>> = vec![Vec::new(); usize::from(level)];
    for layer in (1..=top).rev() {
        stands = search_layer(store, space, query, stands, layer, ef)?;
        uppers[usize::from(layer) - 1] = choose_upper(store, space, query, &stands)?;
    }
    let nearest = stands[0];
    let mut found = gather(store, space, query, nearest, ef, &mut walk)?;
    if found.iter().all(|found| found.dead) {
        // A vacuum may have freed what the way down led to, and the ways on with it. Only where the
        // entry point itself is dead, and leads to none that lives, there is none.
        found = gather(store, space, query, stand, ef, &mut walk)?;
        if found.is_empty() {
            return Ok(None);
        }
    }
    for equal in found.iter().filter(|found| !found.dead && is_equal(&found.vector, row.vector)) {
        if add_row(store, space, equal.id, row.tid, row.values)? {
            return Ok(Some(Inserted::Joined(equal.id)));
        }
    }
    let alive: Vec<(&Found, f32)> =
        found.iter().filter(|found| !found.dead).map(|found| (found, found.inner)).collect();
    if alive.is_empty() {
        // Nothing may be linked to the dead, which a vacuum may be about to take out.
        return begin_anew(store, space, row, query, level, entry);
    }
    let mut chosen = Vec::new();
    let between =
        |a: &Found, b: &Found| space.distance(&a.vector, a.norm2, &b.vector, b.norm2).inner;
    select(&alive, layout.chosen(), between, &mut chosen);
    let ends: Vec<(Id, Query)> =
        chosen.iter().map(|(found, _)| (found.id, space.plain_query(&found.vector))).collect();
    let id = write(store, space, row, query, &ends, Some(nearest.id))?;
    write_upper(store, space, id, query, level, &uppers)?;
    let neighbours: Vec<Id> = ends.iter().map(|(id, _)| *id).collect();
    let new = New { id, query, neighbours: &neighbours };
    let near: Vec<Id> = alive.iter().map(|(found, _)| found.id).collect();
    if !adopt(store, space, &near, new)? {
        // All of them died meanwhile, and nothing points to this one.
        discard(store, space, id)?;
        return Ok(None);
    }
    link_all(store, space, &neighbours, new)?;
    for (layer, ids) in (1..).zip(&uppers) {
        for (neighbour, _) in ids {
            link_upper(store, space, *neighbour, layer, id)?;
        }
    }
    raise_entry(store, Entry { id, level })?;
    Ok(Some(Inserted::New(id)))
}

/// Writes the first living element of a graph of dead ones, and makes it the entry point. None where
/// that has moved meanwhile.
fn begin_anew<S: StoreMut>(
    store: &S,
    space: &Space,
    row: NewRow<'_>,
    query: &Query,
    level: u8,
    dead: Entry,
) -> Result<Option<Inserted>, Error<S::Error>> {
    let id = write(store, space, row, query, &[], None)?;
    write_upper(store, space, id, query, level, &[])?;
    if store.set_entry(Some(dead), Some(Entry { id, level })).map_err(Error::Store)? {
        return Ok(Some(Inserted::New(id)));
    }
    discard(store, space, id)?;
    Ok(None)
}

/// Expands the `ef` living elements nearest to a vector, and returns them and the dead between them,
/// nearest first. Caught among near-duplicates, it goes on for as many from other ways in. Among many
/// dead it looks at several times as many, and goes on until it has found
/// one that lives, or has seen all. One that has the vector itself ends it: an UPDATE of other columns
/// is such an insert, and looks at a dozen records instead of `ef`.
fn gather<S: StoreMut>(
    store: &S,
    space: &Space,
    query: &Query,
    from: Stand,
    ef: usize,
    walk: &mut Walk,
) -> Result<Vec<Found>, Error<S::Error>> {
    const AMONG_DEAD: usize = 4;
    let mut found: Vec<Found> = Vec::with_capacity(ef);
    let (mut living, mut wanted, mut equal) = (0, ef, false);
    walk.start(space.layout(), from.id, from.distance, usize::MAX);
    loop {
        if living >= wanted || living > 0 && found.len() >= AMONG_DEAD * wanted {
            if wanted > ef || !walk.is_caught() {
                break;
            }
            let (around, _) = Descent::new().survey(store, space, query, u64::MAX)?;
            for (id, estimate) in around {
                walk.add(id, estimate);
            }
            wanted += ef;
        }
        let Some(next) = walk.pool.pop(f32::INFINITY) else { break };
        walk.expand(store, space, query, next.id, |element, distance| {
            let mut aside = Vec::new();
            let vector = halves(element.vector(), &mut aside);
            living += usize::from(!element.is_dead());
            equal = !element.is_dead() && is_equal(vector, &query.vector);
            found.push(Found {
                id: next.id,
                inner: distance.inner,
                vector: vector.to_vec(),
                norm2: element.norm2(),
                dead: element.is_dead(),
            });
        })?;
        if equal {
            break;
        }
    }
    found.sort_by(|a, b| a.inner.total_cmp(&b.inner));
    Ok(found)
}

/// Are these the same vector, bit for bit?
fn is_equal(a: &[f16], b: &[f16]) -> bool {
    a.iter().map(|x| x.to_bits()).eq(b.iter().map(|x| x.to_bits()))
}

/// Chooses the neighbours on an upper layer, and makes them ready.
fn choose_upper<S: StoreMut>(
    store: &S,
    space: &Space,
    query: &Query,
    stands: &[Stand],
) -> Result<Vec<(Id, Query)>, Error<S::Error>> {
    let mut candidates = Vec::new();
    for stand in stands {
        if let Some(other) = load(store, space, stand.id)?
            && !other.dead
        {
            let inner =
                space.distance(query.vector(), query.norm2, &other.vector, other.norm2).inner;
            candidates.push((other, inner));
        }
    }
    let candidates: Vec<(&Found, f32)> = candidates.iter().map(|(found, d)| (found, *d)).collect();
    let mut chosen = Vec::new();
    let between =
        |a: &Found, b: &Found| space.distance(&a.vector, a.norm2, &b.vector, b.norm2).inner;
    select(&candidates, space.layout().m, between, &mut chosen);
    Ok(chosen.iter().map(|(found, _)| (found.id, space.plain_query(&found.vector))).collect())
}

/// Reads an element; none where it is gone.
pub(crate) fn load<S: StoreMut>(
    store: &S,
    space: &Space,
    id: Id,
) -> Result<Option<Found>, Error<S::Error>> {
    let read = store.read(id, |bytes| {
        if Kind::Element.is_replaced(bytes) {
            return Ok(None);
        }
        let element = Element::new(space.layout(), bytes)?;
        let mut aside = Vec::new();
        let vector = halves(element.vector(), &mut aside).to_vec();
        let (norm2, dead) = (element.norm2(), element.is_dead());
        Ok(Some(Found { id, inner: 0.0, vector, norm2, dead }))
    });
    let found = read.map_err(Error::Store)?.unwrap_or(Ok(None));
    found.map_err(|corrupt: Corrupt| corrupt.at(id))
}

/// Writes the element, with its edges, still on the base layer alone.
fn write<S: StoreMut>(
    store: &S,
    space: &Space,
    row: NewRow<'_>,
    query: &Query,
    ends: &[(Id, Query)],
    near: Option<Id>,
) -> Result<Id, Error<S::Error>> {
    let layout = space.layout();
    let own = End::of(space, query);
    let fill = |mut edges: EdgesMut<'_>| {
        for (slot, (id, end)) in ends.iter().enumerate() {
            edges.set(slot, *id, own, End::of(space, end));
        }
        // The nearest is the parent, if it has place.
        edges.set_kept(!ends.is_empty(), 0);
    };
    let mut apart = None;
    if layout.placement == Placement::Split {
        let mut bytes = new_edges_tuple(layout);
        fill(edges_tuple_mut(layout, &mut bytes).expect("just made"));
        apart = Some(store.append(&bytes, near).map_err(Error::Store)?);
    }
    let mut bytes = vec![0; layout.element_bytes()];
    let mut element = ElementMut::init(layout, &mut bytes, 0);
    element.set_vector(row.vector, query.norm2, query.along_text);
    element.set_row(Some((row.tid, row.values)));
    if let Some(edges) = element.edges() {
        fill(edges);
    } else if let Some(apart) = apart {
        element.set_edges_id(apart);
    }
    store.append(&bytes, near).map_err(Error::Store)
}

/// Writes the element's tuples on the upper layers, from the lowest up, and then points it to the
/// highest: only then it is in any of them.
fn write_upper<S: StoreMut>(
    store: &S,
    space: &Space,
    id: Id,
    query: &Query,
    level: u8,
    layers: &[Vec<(Id, Query)>],
) -> Result<(), Error<S::Error>> {
    if level == 0 {
        return Ok(());
    }
    let layout = space.layout();
    let mut top = None;
    for layer in 1..=level {
        let mut bytes = new_upper(layout, layer, top);
        let mut edges = upper_mut(layout, &mut bytes).expect("just made");
        let ends = layers.get(usize::from(layer) - 1).map_or(&[][..], |ends| ends);
        for (slot, (id, end)) in ends.iter().enumerate() {
            edges.set(slot, *id, End::of(space, query), End::of(space, end));
        }
        top = Some(store.append(&bytes, Some(id)).map_err(Error::Store)?);
    }
    let updated = store.update(id, |bytes| {
        let mut element = ElementMut::new(layout, bytes).ok()?;
        element.set_upper(level, top);
        element.touch();
        Some(())
    });
    updated.map_err(Error::Store)?.ok_or_else(|| Corrupt("a new element is gone").at(id))
}

/// Takes an element back that nothing points to.
fn discard<S: StoreMut>(store: &S, space: &Space, id: Id) -> Result<(), Error<S::Error>> {
    let parts = store.read(id, |bytes| {
        Element::new(space.layout(), bytes).map(|element| (element.edges_id(), element.upper()))
    });
    let parts = parts.map_err(Error::Store)?.transpose().map_err(|corrupt| corrupt.at(id))?;
    let (edges, upper) = parts.unwrap_or((None, None));
    let mut all = chain(store, space, upper)?;
    all.extend(edges);
    all.push(id);
    all.into_iter().try_for_each(|id| store.free(id).map_err(Error::Store))
}

/// Makes an element the entry point where it is in a higher layer than the present one.
fn raise_entry<S: StoreMut>(store: &S, new: Entry) -> Result<(), Error<S::Error>> {
    loop {
        let entry = store.entry().map_err(Error::Store)?;
        if entry.is_some_and(|entry| entry.level >= new.level)
            || store.set_entry(entry, Some(new)).map_err(Error::Store)?
        {
            return Ok(());
        }
    }
}
