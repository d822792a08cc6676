//! Rows of an element: adding one to it, and taking those out that the table no longer has. Its own
//! file because the two meet here, without any lock between them.
//!
//! An element that has lost its last row is marked dead, which is final, but for one case: the mark
//! is set first and the rows are counted again after it, and whoever adds a row looks for the mark
//! after that. So either the mark is taken back, or the row is.

use crate::error::{Corrupt, Error};
use crate::format::id::{Id, Tid};
use crate::format::overflow::{
    Overflow, close, new_overflow, next_capacity, push_row, retain_rows, set_next,
};
use crate::format::record::{Element, ElementMut, Values};
use crate::space::Space;
use crate::store::StoreMut;

/// What there is to know before a row is added.
struct State {
    dead: bool,
    has_first: bool,
    overflow: Option<Id>,
}

fn state<S: StoreMut>(store: &S, space: &Space, id: Id) -> Result<Option<State>, Error<S::Error>> {
    let read = store.read(id, |bytes| {
        let element = Element::new(space.layout(), bytes)?;
        let has_first = element.tid().is_some();
        Ok(State { dead: element.is_dead(), has_first, overflow: element.overflow() })
    });
    read.map_err(Error::Store)?.transpose().map_err(|corrupt: Corrupt| corrupt.at(id))
}

/// Adds a row to an element; false where that is dying, or gone.
pub(crate) fn add_row<S: StoreMut>(
    store: &S,
    space: &Space,
    id: Id,
    tid: Tid,
    values: Values<'_>,
) -> Result<bool, Error<S::Error>> {
    let layout = space.layout();
    loop {
        let Some(State { dead: false, has_first, overflow }) = state(store, space, id)? else {
            return Ok(false);
        };
        if !has_first {
            let written = store.update(id, |bytes| {
                let mut element = ElementMut::new(layout, bytes).ok()?;
                let free = !element.read().is_dead() && element.read().tid().is_none();
                free.then(|| {
                    element.set_row(Some((tid, values)));
                    element.touch();
                })
            });
            if written.map_err(Error::Store)?.is_some() {
                return Ok(true);
            }
            continue;
        }
        let Some(newest) = overflow else {
            let tuple = new_overflow(layout, next_capacity(layout, None), None, id);
            if prepend(store, space, id, None, tuple, tid, values)? {
                return Ok(true);
            }
            continue;
        };
        let mut capacity = None;
        let pushed = store.update(newest, |bytes| {
            capacity = Overflow::new(layout, bytes).ok().map(|tuple| tuple.capacity());
            matches!(push_row(layout, bytes, id, tid, values), Ok(true)).then_some(())
        });
        if pushed.map_err(Error::Store)?.is_some() {
            match state(store, space, id)? {
                Some(State { dead: false, .. }) => return Ok(true),
                _ => {
                    take_rows(store, space, newest, &mut |row| row == tid)?;
                    return Ok(false);
                }
            }
        }
        if let Some(capacity) = capacity {
            let places = next_capacity(layout, Some(capacity));
            let tuple = new_overflow(layout, places, Some(newest), id);
            if prepend(store, space, id, Some(newest), tuple, tid, values)? {
                return Ok(true);
            }
        }
        store.interrupt().map_err(Error::Store)?;
    }
}

/// Puts a new tuple with a row before the chain of an element; false where that has changed.
fn prepend<S: StoreMut>(
    store: &S,
    space: &Space,
    id: Id,
    expected: Option<Id>,
    mut tuple: Vec<u8>,
    tid: Tid,
    values: Values<'_>,
) -> Result<bool, Error<S::Error>> {
    let layout = space.layout();
    push_row(layout, &mut tuple, id, tid, values).map_err(|corrupt| corrupt.at(id))?;
    let new = store.append(&tuple, Some(id)).map_err(Error::Store)?;
    let written = store.update(id, |bytes| {
        let mut element = ElementMut::new(layout, bytes).ok()?;
        let same = !element.read().is_dead() && element.read().overflow() == expected;
        same.then(|| {
            element.set_overflow(Some(new));
            element.touch();
        })
    });
    let written = written.map_err(Error::Store)?.is_some();
    if !written {
        store.free(new).map_err(Error::Store)?;
    }
    Ok(written)
}

/// What was done to one overflow tuple.
struct Taken {
    removed: usize,
    kept: usize,
    next: Option<Id>,
}

/// Takes rows out of one overflow tuple.
fn take_rows<S: StoreMut>(
    store: &S,
    space: &Space,
    id: Id,
    is_dead: &mut dyn FnMut(Tid) -> bool,
) -> Result<Taken, Error<S::Error>> {
    let layout = space.layout();
    let look = |bytes: &[u8]| {
        let tuple = Overflow::new(layout, bytes)?;
        Ok((tuple.rows().map(|(tid, _)| tid).collect::<Vec<_>>(), tuple.next()))
    };
    let read = store.read(id, look).map_err(Error::Store)?.transpose();
    let Some((tids, next)) = read.map_err(|corrupt: Corrupt| corrupt.at(id))? else {
        return Ok(Taken { removed: 0, kept: 0, next: None });
    };
    let mut dead: Vec<Tid> = tids.iter().copied().filter(|tid| is_dead(*tid)).collect();
    dead.sort_unstable();
    if dead.is_empty() {
        return Ok(Taken { removed: 0, kept: tids.len(), next });
    }
    let kept = store.update(id, |bytes| {
        retain_rows(layout, bytes, |tid| dead.binary_search(&tid).is_ok()).ok()
    });
    let kept = kept.map_err(Error::Store)?.unwrap_or(0);
    Ok(Taken { removed: dead.len(), kept, next })
}

/// Takes a tuple without rows out of the chain of an element, and frees it. Only a vacuum does this,
/// so no other tuple leaves the chain meanwhile; others may come before it. Three steps, so that
/// nobody loses a row over it: the tuple is closed, and takes none from then on; the one before it, or
/// the element, is pointed past it; and the element counts a change, by which a scan that was on its
/// way over the tuple learns that it has to begin the chain again.
fn unchain<S: StoreMut>(
    store: &S,
    space: &Space,
    id: Id,
    tuple: Id,
    next: Option<Id>,
) -> Result<(), Error<S::Error>> {
    let layout = space.layout();
    let closed =
        store.update(tuple, |bytes| close(layout, bytes, id).ok().filter(|closed| *closed));
    if closed.map_err(Error::Store)?.is_none() {
        return Ok(());
    }
    loop {
        // The element's own pointer, and its change in any case.
        let mut newest = None;
        let changed = store.update(id, |bytes| {
            let mut element = ElementMut::new(layout, bytes).ok()?;
            newest = element.read().overflow();
            if newest == Some(tuple) {
                element.set_overflow(next);
            }
            element.touch();
            Some(())
        });
        let Some(mut at) = newest.filter(|_| matches!(changed, Ok(Some(())))) else {
            return changed.map(|_| ()).map_err(Error::Store);
        };
        if at == tuple {
            break;
        }
        // The tuple before it.
        let mut found = false;
        loop {
            let read =
                store.read(at, |bytes| Overflow::new(layout, bytes).map(|tuple| tuple.next()));
            let read = read.map_err(Error::Store)?.transpose().map_err(|corrupt| corrupt.at(at))?;
            match read.flatten() {
                Some(next) if next == tuple => {
                    found = true;
                    break;
                }
                Some(next) => at = next,
                None => break,
            }
            store.interrupt().map_err(Error::Store)?;
        }
        if !found {
            return Ok(());
        }
        let written = store.update(at, |bytes| set_next(layout, bytes, next).ok());
        if written.map_err(Error::Store)?.is_some() {
            // A scan that had read the pointer before sees the change after this one.
            touch_element(store, space, id)?;
            break;
        }
    }
    store.free(tuple).map_err(Error::Store)
}

fn touch_element<S: StoreMut>(store: &S, space: &Space, id: Id) -> Result<(), Error<S::Error>> {
    let touched = store.update(id, |bytes| {
        ElementMut::new(space.layout(), bytes).ok()?.touch();
        Some(())
    });
    touched.map(|_| ()).map_err(Error::Store)
}

/// What became of an element's rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RowsLeft {
    /// Rows taken out.
    pub removed: usize,
    /// Rows left.
    pub left: usize,
    /// Was the element dead before, or is it gone?
    pub dead: bool,
}

/// Takes the rows out that `is_dead` names, and the overflow tuples that have none left. An element
/// without rows is then to be [marked](mark_dead). Nothing where it is free or gone.
pub fn remove_rows<S: StoreMut>(
    store: &S,
    space: &Space,
    id: Id,
    mut is_dead: impl FnMut(Tid) -> bool,
) -> Result<RowsLeft, Error<S::Error>> {
    let layout = space.layout();
    let look = |bytes: &[u8]| {
        let element = Element::new(layout, bytes)?;
        Ok((element.tid(), element.overflow(), element.is_dead()))
    };
    let read = store.read(id, look).map_err(Error::Store)?.transpose();
    let Some((first, overflow, dead)) = read.map_err(|corrupt: Corrupt| corrupt.at(id))? else {
        return Ok(RowsLeft { dead: true, ..RowsLeft::default() });
    };
    if dead {
        return Ok(RowsLeft { dead, ..RowsLeft::default() });
    }
    let mut rows = RowsLeft::default();
    if let Some(tid) = first {
        if is_dead(tid) {
            let written = store.update(id, |bytes| {
                let mut element = ElementMut::new(layout, bytes).ok()?;
                (element.read().tid() == Some(tid)).then(|| {
                    element.set_row(None);
                    element.touch();
                })
            });
            rows.removed += usize::from(written.map_err(Error::Store)?.is_some());
        } else {
            rows.left += 1;
        }
    }
    let mut next = overflow;
    while let Some(tuple) = next {
        let taken = take_rows(store, space, tuple, &mut is_dead)?;
        rows.removed += taken.removed;
        rows.left += taken.kept;
        if taken.kept == 0 {
            unchain(store, space, id, tuple, taken.next)?;
        }
        next = taken.next;
        store.interrupt().map_err(Error::Store)?;
    }
    Ok(rows)
}

/// Marks an element dead, unless it has rows after all.
pub fn mark_dead<S: StoreMut>(store: &S, space: &Space, id: Id) -> Result<bool, Error<S::Error>> {
    let layout = space.layout();
    let mut overflow = None;
    let marked = store.update(id, |bytes| {
        let mut element = ElementMut::new(layout, bytes).ok()?;
        overflow = element.read().overflow();
        element.read().tid().is_none().then(|| {
            element.set_dead();
            element.touch();
        })
    });
    if marked.map_err(Error::Store)?.is_none() {
        return Ok(false);
    }
    let mut next = overflow;
    while let Some(tuple) = next {
        let taken = take_rows(store, space, tuple, &mut |_| false)?;
        if taken.kept > 0 {
            let revived = store.update(id, |bytes| {
                let mut element = ElementMut::new(layout, bytes).ok()?;
                element.revive();
                element.touch();
                Some(())
            });
            revived.map_err(Error::Store)?;
            return Ok(false);
        }
        next = taken.next;
    }
    Ok(true)
}
