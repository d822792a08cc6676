//! The rows of an element that a walk expands: its first, in the record, and those in its overflow
//! tuples. Its own file because these are read one by one, with nothing held between, while a vacuum
//! may take some out of the chain.

use std::cmp::Reverse;

use super::{ROW_BYTES, Row, Scan};
use crate::error::{Corrupt, Error};
use crate::format::id::{Id, Tid};
use crate::format::overflow::Overflow;
use crate::format::record::{Element, Kind, Values};
use crate::space::{Distance, Query, Space};
use crate::store::Store;

/// A chain of more tuples than this is a circle.
const MOST_TUPLES: usize = 1 << 24;

/// How often a chain is read again because it changed meanwhile. It does so when a vacuum shortens it,
/// and when an insert links the element to a new one.
const TRIES: usize = 100;

/// The state of an element when its chain was begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Seen {
    change: u32,
    newest: Option<Id>,
}

impl Scan {
    /// Expands an element and takes its rows. Says whether one passed, and whether the element came
    /// among the nearest.
    pub(super) fn expand<S: Store>(
        &mut self,
        store: &S,
        space: &Space,
        query: &Query,
        id: Id,
        pass: &mut impl FnMut(Values<'_>) -> bool,
    ) -> Result<(bool, bool), Error<S::Error>> {
        let mut first = None;
        let mut exact = None;
        let here = self.walk.expand(store, space, query, id, |element, distance| {
            first = element.tid().filter(|_| pass(element.values()));
            let seen = Seen { change: element.change(), newest: element.overflow() };
            exact = Some((distance, seen));
        })?;
        let (true, Some((distance, seen))) = (here, exact) else { return Ok((false, false)) };
        let mut tids = std::mem::take(&mut self.tids);
        tids.clear();
        tids.extend(first);
        if seen.newest.is_some() {
            self.chain(store, space, (id, seen), pass, &mut tids)?;
        }
        let passed = !tids.is_empty();
        let nearer = self.take(distance, &tids);
        self.tids = tids;
        if self.track.is_taken() {
            self.track.add(id, passed, &self.walk.last);
        }
        Ok((passed, nearer))
    }

    /// Adds the rows in the overflow tuples of an element. What was read is what was there: where the
    /// element has counted a change meanwhile, the way may have led over a tuple that was another's by
    /// then, and all is read once more.
    fn chain<S: Store>(
        &mut self,
        store: &S,
        space: &Space,
        (owner, mut seen): (Id, Seen),
        pass: &mut impl FnMut(Values<'_>) -> bool,
        tids: &mut Vec<Tid>,
    ) -> Result<(), Error<S::Error>> {
        let first = tids.len();
        for _ in 0..TRIES {
            let (mut next, mut tuples) = (seen.newest, 0);
            while let Some(id) = next {
                tuples += 1;
                if tuples > MOST_TUPLES {
                    return Err(Corrupt("more rows follow it than there can be").at(id));
                }
                let read = store.read(id, |bytes| {
                    if Kind::Overflow.is_replaced(bytes) {
                        return Ok(None);
                    }
                    let tuple = Overflow::new(space.layout(), bytes)?;
                    // One that is nobody's is closed, and has none.
                    if tuple.owner().is_some_and(|other| other != owner) {
                        return Ok(None);
                    }
                    tids.extend(tuple.rows().filter(|(_, row)| pass(*row)).map(|(tid, _)| tid));
                    Ok(tuple.next())
                });
                let read = read.map_err(Error::Store)?.unwrap_or(Ok(None));
                next = read.map_err(|corrupt: Corrupt| corrupt.at(id))?;
                if tids.len() * size_of::<Tid>() >= self.options.max_memory {
                    self.rows_full = true;
                    return Ok(());
                }
                store.interrupt().map_err(Error::Store)?;
            }
            let read = store.read(owner, |bytes| {
                if Kind::Element.is_replaced(bytes) {
                    return Ok(None);
                }
                let element = Element::new(space.layout(), bytes)?;
                let now = Seen { change: element.change(), newest: element.overflow() };
                Ok((!element.is_free()).then_some(now))
            });
            let now = read.map_err(Error::Store)?.unwrap_or(Ok(None));
            match now.map_err(|corrupt: Corrupt| corrupt.at(owner))? {
                Some(now) if now == seen => return Ok(()),
                // Of an element that is gone no row is left that anybody may see.
                None => {
                    tids.truncate(first);
                    return Ok(());
                }
                Some(now) => {
                    tids.truncate(first);
                    seen = now;
                }
            }
        }
        Err(Corrupt("its further rows change with every look").at(owner))
    }

    /// Takes the rows of an element that were found. Is it among the nearest?
    fn take(&mut self, distance: Distance, tids: &[Tid]) -> bool {
        let mut taken = false;
        for tid in tids.iter().copied().filter(|tid| !self.known.contains(tid)) {
            if (self.nearest.held() + self.held.len()) * ROW_BYTES / 2 >= self.options.max_memory {
                self.rows_full = true;
                break;
            }
            self.held.push(Reverse(Row { tid, distance: distance.operator }));
            taken = true;
        }
        taken && self.nearest.take(distance)
    }
}
