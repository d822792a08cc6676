//! The tree: what holds the base layer together. Its own file because inserting and vacuum see to it
//! alike, and nothing else of the graph depends on it.
//!
//! Which edges a full list gives up is decided by distance, and distance shuts elements out: where
//! all are equally far from each other, or an element is nobody's nearest, no list takes it in. So
//! each element but one has a *parent*, its nearest neighbour that had place for it, and both keep
//! their edge to the other whatever comes later. All elements are one tree of such edges, so from
//! each there is a way to every other.
//!
//! Nobody looks at the whole tree, so it is changed in steps that leave it one at each moment, and
//! after a crash between any two:
//! - A new element names its parent before anything points to it, and then the parent takes it. It
//!   is a leaf, and whatever else goes on, leaves make no circle.
//! - An element whose parent was taken out has none. Only a vacuum gives it another, one outside of
//!   its own part of the tree, which takes it first and is named by it then: cut off in between, it is
//!   still without a parent, and the next vacuum does it again.

use std::collections::{HashSet, VecDeque};

use crate::change::insert::load;
use crate::change::link::{Draft, New, link};
use crate::change::select::replace;
use crate::error::{Corrupt, Error};
use crate::format::edges::End;
use crate::format::id::Id;
use crate::space::Space;
use crate::store::StoreMut;
use crate::walk::Walk;
use crate::walk::descent::{Descent, enter};

/// Finds a parent for an element that names the first of these, and that nothing points to yet: the
/// first of them that has place, or an element below them in the tree. False where none of them lives.
pub(crate) fn adopt<S: StoreMut>(
    store: &S,
    space: &Space,
    near: &[Id],
    new: New<'_>,
) -> Result<bool, Error<S::Error>> {
    let mut named = near.first().copied();
    let mut seen: HashSet<Id> = near.iter().copied().collect();
    seen.insert(new.id);
    let mut open: VecDeque<Id> = near.iter().copied().collect();
    // A leaf has place, so this ends.
    while let Some(parent) = open.pop_front() {
        store.interrupt().map_err(Error::Store)?;
        if named != Some(parent) {
            if !has_place(store, space, parent)? || !name_parent(store, space, new, parent)? {
                open.extend(
                    children(store, space, parent)?.into_iter().filter(|id| seen.insert(*id)),
                );
                continue;
            }
            named = Some(parent);
        }
        if link(store, space, parent, new, true)? {
            return Ok(true);
        }
        open.extend(children(store, space, parent)?.into_iter().filter(|id| seen.insert(*id)));
    }
    Ok(false)
}

/// Is there place for a child more at an element that lives?
fn has_place<S: StoreMut>(store: &S, space: &Space, id: Id) -> Result<bool, Error<S::Error>> {
    let copy = Draft::of(store, space, id)?;
    Ok(copy.is_some_and(|copy| !copy.element(space).is_dead() && copy.edges(space).has_place()))
}

fn children<S: StoreMut>(store: &S, space: &Space, id: Id) -> Result<Vec<Id>, Error<S::Error>> {
    let copy = Draft::of(store, space, id)?;
    Ok(copy.map_or_else(Vec::new, |copy| copy.edges(space).children().collect()))
}

/// What an element says of its parent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Named {
    Parent(Id),
    Nobody,
    /// It is gone, or no longer lives.
    Gone,
}

fn named<S: StoreMut>(store: &S, space: &Space, id: Id) -> Result<Named, Error<S::Error>> {
    let copy = Draft::of(store, space, id)?.filter(|copy| !copy.element(space).is_dead());
    Ok(copy.map_or(Named::Gone, |copy| {
        copy.edges(space).parent().map_or(Named::Nobody, Named::Parent)
    }))
}

/// Names the parent of an element. False where one of them is gone.
fn name_parent<S: StoreMut>(
    store: &S,
    space: &Space,
    element: New<'_>,
    parent: Id,
) -> Result<bool, Error<S::Error>> {
    let Some(end) = load(store, space, parent)? else { return Ok(false) };
    let end = space.plain_query(&end.vector);
    loop {
        let Some(copy) = Draft::of(store, space, element.id)? else { return Ok(false) };
        let ids: Vec<Id> = copy.edges(space).ids().collect();
        let there = ids.iter().position(|id| *id == parent);
        let slot = if there.is_some() {
            there
        } else if ids.len() < space.layout().edges() {
            Some(ids.len())
        } else {
            let to_element = copy.distances(store, space, element.query)?;
            let to_new = copy.distances(store, space, &end)?;
            let distance = copy.origin(space, &end).inner;
            let kept = copy.edges(space).kept();
            let to_new = |slot: usize| to_new[slot];
            replace(distance, &to_element, kept, to_new, |_| false, true)
        };
        // An element with as many children as there may be has other neighbours beside.
        let Some(slot) = slot else { return Ok(false) };
        let written = copy.commit(store, space, element.id, |edges| {
            if there.is_none() {
                edges.set(slot, parent, End::of(space, element.query), End::of(space, &end));
            }
            edges.keep_parent(slot);
        })?;
        if written {
            return Ok(true);
        }
        store.interrupt().map_err(Error::Store)?;
    }
}

/// A way up over more elements that were inserted during one vacuum is a circle.
const DEEPEST: usize = 1 << 20;

/// Elements and their parents, as a vacuum has seen them: which are in one part of the tree.
#[derive(Debug, Default)]
pub struct Forest {
    /// In their order when it is asked.
    elements: Vec<(Id, Option<Id>)>,
    /// For each, another of its part, or itself: a union-find.
    up: Vec<u32>,
}

/// There was no memory for so many elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no memory for {0} elements")]
pub struct TooMany(pub usize);

impl Forest {
    /// Of no elements.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes in a living element as it is on the pages; nothing where it is gone, or dead.
    pub fn add<S: StoreMut>(
        &mut self,
        store: &S,
        space: &Space,
        id: Id,
    ) -> Result<Result<(), TooMany>, Error<S::Error>> {
        let parent = match named(store, space, id)? {
            Named::Parent(parent) => Some(parent),
            Named::Nobody => None,
            Named::Gone => return Ok(Ok(())),
        };
        Ok(self.push(id, parent))
    }

    /// Takes in an element whose parent is known.
    pub fn push(&mut self, id: Id, parent: Option<Id>) -> Result<(), TooMany> {
        if self.elements.try_reserve(1).is_err() {
            return Err(TooMany(self.elements.len() + 1));
        }
        self.elements.push((id, parent));
        Ok(())
    }

    fn number(&self, id: Id) -> Option<u32> {
        self.elements.binary_search_by_key(&id, |(id, _)| *id).ok().map(|at| at as u32)
    }

    fn find(&mut self, element: u32) -> u32 {
        let mut at = element;
        while self.up[at as usize] != at {
            let above = self.up[self.up[at as usize] as usize];
            self.up[at as usize] = above;
            at = above;
        }
        at
    }

    fn unite(&mut self, a: u32, b: u32) {
        let (a, b) = (self.find(a), self.find(b));
        self.up[a as usize] = b;
    }

    /// The part that an element is in, if that is known: one that was inserted meanwhile is in its
    /// parent's.
    fn part<S: StoreMut>(
        &mut self,
        store: &S,
        space: &Space,
        id: Id,
    ) -> Result<Option<u32>, Error<S::Error>> {
        let mut id = id;
        for _ in 0..DEEPEST {
            if let Some(number) = self.number(id) {
                return Ok(Some(self.find(number)));
            }
            store.interrupt().map_err(Error::Store)?;
            match named(store, space, id)? {
                Named::Parent(parent) => id = parent,
                Named::Nobody | Named::Gone => return Ok(None),
            }
        }
        Err(Corrupt("its parents are a circle").at(id))
    }
}

/// Gives each element that has no parent one of another part of the tree, until there is one part
/// again. To be called when all living elements were [added](Forest::add), and none of them has an
/// edge to a dead one any more. Says how many were given one.
pub fn reconnect<S: StoreMut>(
    store: &S,
    space: &Space,
    forest: &mut Forest,
) -> Result<usize, Error<S::Error>> {
    forest.elements.sort_unstable_by_key(|(id, _)| *id);
    forest.elements.dedup_by_key(|(id, _)| *id);
    forest.up = (0..forest.elements.len() as u32).collect();
    for at in 0..forest.elements.len() {
        if let (_, Some(parent)) = forest.elements[at]
            && let Some(part) = forest.part(store, space, parent)?
        {
            forest.unite(at as u32, part);
        }
    }
    let Some(entry) = store.entry().map_err(Error::Store)? else { return Ok(0) };
    let mut given = 0;
    for at in 0..forest.elements.len() {
        let (id, None) = forest.elements[at] else { continue };
        if let Some(main) = forest.part(store, space, entry.id)?
            && forest.find(at as u32) != main
        {
            given += usize::from(give_parent(store, space, forest, (id, at as u32), entry.id)?);
        }
        store.interrupt().map_err(Error::Store)?;
    }
    Ok(given)
}

/// Finds a parent for an element in another part of the tree than its own: among its neighbours, or
/// the nearest that a search finds.
fn give_parent<S: StoreMut>(
    store: &S,
    space: &Space,
    forest: &mut Forest,
    (id, number): (Id, u32),
    entry: Id,
) -> Result<bool, Error<S::Error>> {
    if named(store, space, id)? != Named::Nobody {
        return Ok(false);
    }
    let Some(copy) = Draft::of(store, space, id)? else { return Ok(false) };
    let own = copy.query(space);
    let told = copy.distances(store, space, &own)?;
    let mut near: Vec<(f32, Id)> = told.into_iter().zip(copy.edges(space).ids()).collect();
    near.sort_by(|a, b| a.0.total_cmp(&b.0));
    let new = New { id, query: &own, neighbours: &[] };
    for (_, parent) in near {
        if try_parent(store, space, forest, (new, number), parent)? {
            return Ok(true);
        }
    }
    // From the entry point all of its own part can be walked to, which is another than the element's.
    let mut walk = Walk::new();
    let Some(at) = enter(store, space, &own)? else { return Ok(false) };
    let here = Descent::new().run(store, space, &own, at, 0)?;
    walk.start(space.layout(), here.id, here.distance, usize::MAX);
    walk.add(entry, f32::MAX);
    while let Some(next) = walk.pool.pop(f32::INFINITY) {
        let mut lives = false;
        walk.expand(store, space, &own, next.id, |element, _| lives = !element.is_dead())?;
        if lives && try_parent(store, space, forest, (new, number), next.id)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Makes one element the parent of another, where it lives, has place and is of another part of the
/// tree.
fn try_parent<S: StoreMut>(
    store: &S,
    space: &Space,
    forest: &mut Forest,
    (new, number): (New<'_>, u32),
    parent: Id,
) -> Result<bool, Error<S::Error>> {
    let own = forest.find(number);
    let Some(part) = forest.part(store, space, parent)?.filter(|part| *part != own) else {
        return Ok(false);
    };
    if !link(store, space, parent, new, true)? || !name_parent(store, space, new, parent)? {
        return Ok(false);
    }
    forest.unite(number, part);
    Ok(true)
}
