//! The way down: from the entry point to the nearest element on the layer above the one that is
//! wanted, greedily. Its own file because search, insertion and repair all come this way, and
//! nothing else walks over upper layers by estimate.
//!
//! A hop reads the stand's tuple, which estimates all its neighbours, and then the element of the
//! nearest of them: two records, where measuring every neighbour takes one each. On 100,000 vectors
//! that are 12 records on the way down instead of 84, at equal recall. Going down by the highest
//! layers alone saves 5 more, but ends farther away.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use crate::error::{Corrupt, Error};
use crate::format::edges::{Origin, Scratch};
use crate::format::id::Id;
use crate::format::record::Kind;
use crate::format::upper::Upper;
use crate::space::{Query, Space};
use crate::store::{Entry, Store};
use crate::tuning;
use crate::walk::pool::Candidate;
use crate::walk::visited::Table;
use crate::walk::{Stand, distance_of, visit};

/// How often the entry point is looked up again where it is gone: it moves before it is freed.
const ENTRY_TRIES: usize = 8;

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

/// Shows an element's tuple on a layer to `look`, found from `top`, the one on its highest layer or
/// any other above; none where the element is not in the layer, or no longer there.
pub(crate) fn look_at_layer<S: Store, R>(
    store: &S,
    space: &Space,
    top: Id,
    layer: u8,
    look: impl FnOnce(Id, &[u8], Upper<'_>) -> R,
) -> Result<Option<R>, Error<S::Error>> {
    let (mut id, mut above) = (top, u8::MAX);
    let mut look = Some(look);
    loop {
        let mut below = None;
        let read = store.read(id, |bytes| {
            if Kind::Upper.is_replaced(bytes) {
                return Ok(None);
            }
            let upper = Upper::new(space.layout(), bytes)?;
            match upper.layer().cmp(&layer) {
                Ordering::Equal => return Ok(look.take().map(|look| look(id, bytes, upper))),
                // A chain that does not go down was another element's meanwhile.
                Ordering::Greater if upper.layer() < above => {
                    above = upper.layer();
                    below = upper.below();
                }
                _ => (),
            }
            Ok(None)
        });
        let found = read.map_err(Error::Store)?.unwrap_or(Ok(None));
        let found = found.map_err(|corrupt: Corrupt| corrupt.at(id))?;
        match (found, below) {
            (None, Some(next)) => id = next,
            (found, _) => return Ok(found),
        }
    }
}

/// Elements with their estimates, and how many were looked at for them.
pub(crate) type Surveyed = (Vec<(Id, f32)>, u64);

/// What a descent needs, kept from one to the next for its memory.
#[derive(Debug)]
pub(crate) struct Descent {
    /// Elements visited: none of them is nearer than the present stand.
    seen: Table,
    /// Neighbours not visited yet, with estimates.
    near: Vec<(f32, Id)>,
    scratch: Scratch,
    estimates: Vec<f32>,
}

impl Descent {
    pub fn new() -> Self {
        Self {
            seen: Table::new(),
            near: Vec::new(),
            scratch: Scratch::default(),
            estimates: Vec::new(),
        }
    }

    /// Walks down from the entry point to the nearest element on layer `to + 1`, as far as it is
    /// found. Its `upper` is a tuple that leads on down.
    pub fn run<S: Store>(
        &mut self,
        store: &S,
        space: &Space,
        query: &Query,
        (entry, mut here): (Entry, Stand),
        to: u8,
    ) -> Result<Stand, Error<S::Error>> {
        self.seen.clear();
        self.seen.insert(here.id);
        for layer in (to + 1..=entry.level).rev() {
            loop {
                let Some(below) = self.look_around(store, space, query, here, layer)? else {
                    break;
                };
                store.interrupt().map_err(Error::Store)?;
                match self.nearer(store, space, query, here)? {
                    Some(stand) => here = stand,
                    None => {
                        here.upper = below;
                        break;
                    }
                }
            }
        }
        Ok(here)
    }

    /// Collects the stand's neighbours on a layer that may be nearer, and returns its tuple one
    /// layer lower; none where it is not in the layer.
    fn look_around<S: Store>(
        &mut self,
        store: &S,
        space: &Space,
        query: &Query,
        here: Stand,
        layer: u8,
    ) -> Result<Option<Option<Id>>, Error<S::Error>> {
        let Self { seen, near, scratch, estimates } = self;
        near.clear();
        let Some(top) = here.upper else { return Ok(None) };
        look_at_layer(store, space, top, layer, |_, _, upper| {
            let edges = upper.edges();
            let inner = here.distance.inner;
            let origin = Origin { inner, norm2: here.norm2, text: here.text };
            edges.estimate(query, origin, scratch, estimates);
            for (slot, id) in edges.slots().enumerate() {
                // Without codes all may be nearer.
                let estimate = estimates.get(slot).copied().unwrap_or(f32::NEG_INFINITY);
                if let Some(id) = id
                    && estimate < inner
                    && !seen.contains(id)
                {
                    near.push((estimate, id));
                }
            }
            upper.below()
        })
    }

    /// The most promising of the neighbours that were collected, by its estimate where there are any, if
    /// it is nearer than the stand.
    fn nearer<S: Store>(
        &mut self,
        store: &S,
        space: &Space,
        query: &Query,
        here: Stand,
    ) -> Result<Option<Stand>, Error<S::Error>> {
        if space.layout().has_codes() {
            let nearest = self.near.iter().copied().min_by(|a, b| a.0.total_cmp(&b.0));
            self.near.clear();
            self.near.extend(nearest);
        }
        let mut best: Option<Stand> = None;
        for (_, id) in &self.near {
            self.seen.insert(*id);
            let Some(stand) = visit(store, space, query, *id)? else { continue };
            let least = best.map_or(here.distance.inner, |best| best.distance.inner);
            if stand.distance.inner < least {
                best = Some(stand);
            }
        }
        Ok(best)
    }

    /// Goes over layer 1, where few elements of each crowd of near-duplicates are, from the nearest one
    /// on, and returns all that it comes by with their estimates, and how many elements it looked at,
    /// which are no more than `most`. Nothing where there is one layer alone.
    pub fn survey<S: Store>(
        &mut self,
        store: &S,
        space: &Space,
        query: &Query,
        most: u64,
    ) -> Result<Surveyed, Error<S::Error>> {
        let Some((entry, stand)) = enter(store, space, query)? else { return Ok((Vec::new(), 0)) };
        if entry.level == 0 {
            return Ok((Vec::new(), 0));
        }
        let here = self.run(store, space, query, (entry, stand), 1)?;
        let Self { seen, near, scratch, estimates } = self;
        seen.clear();
        seen.insert(here.id);
        let first = Candidate { estimate: here.distance.inner, id: here.id };
        let (mut open, mut found) = (BinaryHeap::from([first]), vec![(first.id, first.estimate)]);
        let mut looked = 0;
        for _ in 0..tuning::around() {
            if looked >= most {
                break;
            }
            let Some(next) = open.pop() else { break };
            looked += 1;
            store.interrupt().map_err(Error::Store)?;
            let Some(here) = visit(store, space, query, next.id)? else { continue };
            let Some(top) = here.upper else { continue };
            near.clear();
            look_at_layer(store, space, top, 1, |_, _, upper| {
                let edges = upper.edges();
                let inner = here.distance.inner;
                let origin = Origin { inner, norm2: here.norm2, text: here.text };
                edges.estimate(query, origin, scratch, estimates);
                for (slot, id) in edges.slots().enumerate() {
                    if let Some(id) = id
                        && seen.insert(id)
                    {
                        near.push((estimates.get(slot).copied().unwrap_or(f32::NAN), id));
                    }
                }
            })?;
            for &(estimate, id) in near.iter() {
                let estimate = match estimate.is_nan() {
                    true if looked >= most => break,
                    true => {
                        looked += 1;
                        distance_of(store, space, query, id)?.map(|there| there.inner)
                    }
                    false => Some(estimate),
                };
                if let Some(estimate) = estimate {
                    found.push((id, estimate));
                    open.push(Candidate { estimate, id });
                }
            }
        }
        Ok((found, looked))
    }
}
