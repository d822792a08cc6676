//! Is the graph sound? Everything that can be told by looking: records that cannot be read, edges to
//! nothing or to the dead, elements that no way leads to, codes that say another distance than the
//! vectors do.

use std::collections::{HashMap, HashSet};

use pgclip_simd::halves;

use crate::error::{Corrupt, Error};
use crate::format::edges::{Edges, Origin, Scratch};
use crate::format::id::Id;
use crate::format::record::{Element, edges_tuple};
use crate::format::upper::Upper;
use crate::space::{Query, Space};
use crate::store::Store;
use crate::walk::visit;

/// What is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// A record cannot be read.
    Damaged(&'static str),
    /// A living element's edge leads to a place where no element is.
    Dangling(Id),
    /// An edge leads to the element itself, or the same edge is there twice.
    Doubled(Id),
    /// An edge's code says another distance than the vectors.
    WrongCode(Id),
    /// No way leads from the entry point to the element, over the base layer.
    Unreachable,
    /// The element's parent, which is there, does not keep it as a child; or it is not there.
    Orphan(Id),
    /// The entry point is not there, or not of the level that it should be.
    Entry,
}

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Elements, the dead included.
    pub elements: u64,
    /// Of those, dead ones.
    pub dead: u64,
    /// Edges on the base layer.
    pub edges: u64,
    /// Elements on each layer, from the base up.
    pub layers: Vec<u64>,
    /// What is wrong, and where.
    pub faults: Vec<(Id, Fault)>,
}

/// One element's part of the graph.
struct Part {
    dead: bool,
    level: u8,
    upper: Option<Id>,
    /// The element as a query, and its side of the estimates for it.
    own: Query,
    origin: Origin,
    base: List,
}

/// The edges of an element on a layer.
#[derive(Default)]
struct List {
    ids: Vec<Id>,
    parent: Option<Id>,
    /// How many of the first are kept.
    kept: usize,
    /// Distances to the neighbours as the codes tell them; empty without codes.
    told: Vec<f32>,
}

impl List {
    fn new(edges: Edges<'_>, own: &Query, origin: Origin) -> Self {
        let mut told = Vec::new();
        edges.estimate(own, origin, &mut Scratch::default(), &mut told);
        Self { ids: edges.ids().collect(), parent: edges.parent(), kept: edges.kept(), told }
    }
}

/// Checks the elements at these places, which are all there are. Takes about 16 bytes of memory an
/// edge.
pub fn check<S: Store>(
    store: &S,
    space: &Space,
    elements: impl Iterator<Item = Id>,
) -> Result<Report, Error<S::Error>> {
    let mut report = Report::default();
    let mut graph: HashMap<Id, Node> = HashMap::new();
    let mut levels: HashMap<Id, u8> = HashMap::new();
    for id in elements {
        let part = match part(store, space, id) {
            Ok(Some(part)) => part,
            Ok(None) => continue,
            Err(Error::Corrupt { id, what }) => {
                report.faults.push((id, Fault::Damaged(what)));
                continue;
            }
            Err(error) => return Err(error),
        };
        report.elements += 1;
        report.dead += u64::from(part.dead);
        report.edges += part.base.ids.len() as u64;
        let layers = usize::from(part.level) + 1;
        report.layers.resize(report.layers.len().max(layers), 0);
        report.layers[..layers].iter_mut().for_each(|count| *count += 1);
        // A vacuum that was cut short while it freed leaves dead elements whose dead neighbours are gone;
        // nothing leads to either.
        if !part.dead {
            edges_of(store, space, id, &part, &mut report)?;
        }
        levels.insert(id, part.level);
        let List { ids, parent, kept, .. } = part.base;
        graph.insert(id, Node { ids, parent, kept, dead: part.dead });
        store.interrupt().map_err(Error::Store)?;
    }
    let entry = store.entry().map_err(Error::Store)?;
    if let Some(entry) = entry
        && levels.get(&entry.id) != Some(&entry.level)
    {
        report.faults.push((entry.id, Fault::Entry));
    }
    let mut open: Vec<Id> = entry.map(|entry| entry.id).into_iter().collect();
    let mut seen: HashSet<Id> = open.iter().copied().collect();
    while let Some(id) = open.pop() {
        let edges = graph.get(&id).map_or(&[][..], |node| &node.ids);
        open.extend(edges.iter().copied().filter(|id| seen.insert(*id)));
    }
    let living = || graph.iter().filter(|(_, node)| !node.dead);
    let mut lost: Vec<(Id, Fault)> = Vec::new();
    for (id, node) in living() {
        if !seen.contains(id) {
            lost.push((*id, Fault::Unreachable));
        }
        if let Some(parent) = node.parent
            && !graph.get(&parent).is_some_and(|there| there.ids[..there.kept].contains(id))
        {
            lost.push((*id, Fault::Orphan(parent)));
        }
    }
    lost.sort_unstable_by_key(|(id, _)| *id);
    report.faults.extend(lost);
    Ok(report)
}

/// An element's edges on the base layer.
struct Node {
    ids: Vec<Id>,
    parent: Option<Id>,
    kept: usize,
    dead: bool,
}

/// Reads an element and its edges on the base layer; none where it is free.
fn part<S: Store>(store: &S, space: &Space, id: Id) -> Result<Option<Part>, Error<S::Error>> {
    let layout = space.layout();
    let read = store.read(id, |bytes| {
        let element = Element::new(layout, bytes)?;
        let mut aside = Vec::new();
        let own = space.plain_query(halves(element.vector(), &mut aside));
        let itself = space.distance(own.vector(), own.norm2, own.vector(), own.norm2);
        let (norm2, text) = (element.norm2(), element.text());
        let origin = Origin { inner: itself.inner, norm2, text };
        let base = element.edges().map(|edges| List::new(edges, &own, origin));
        let part = Part {
            dead: element.is_dead(),
            level: element.level(),
            upper: element.upper(),
            own,
            origin,
            base: base.unwrap_or_default(),
        };
        Ok((!element.is_free()).then_some((part, element.edges_id())))
    });
    let read = read.map_err(Error::Store)?.transpose().map_err(|e: Corrupt| e.at(id))?;
    let Some(Some((mut part, apart))) = read else { return Ok(None) };
    if let Some(edges_id) = apart {
        let read = store.read(edges_id, |bytes| {
            let edges = edges_tuple(layout, bytes)?;
            part.base = List::new(edges, &part.own, part.origin);
            Ok(())
        });
        read.map_err(Error::Store)?
            .unwrap_or(Err(Corrupt("the edges are not there")))
            .map_err(|corrupt| corrupt.at(edges_id))?;
    }
    Ok(Some(part))
}

/// Checks an element's edges, on all layers.
fn edges_of<S: Store>(
    store: &S,
    space: &Space,
    id: Id,
    part: &Part,
    report: &mut Report,
) -> Result<(), Error<S::Error>> {
    list(store, space, id, part, &part.base, report)?;
    let (mut layer, mut next) = (part.level, part.upper);
    while let Some(tuple) = next {
        let read = store.read(tuple, |bytes| {
            let upper = Upper::new(space.layout(), bytes)?;
            if upper.layer() != layer || layer == 0 {
                return Err(Corrupt("a tuple of another layer"));
            }
            Ok((upper.below(), List::new(upper.edges(), &part.own, part.origin)))
        });
        let read = read.map_err(Error::Store)?.unwrap_or(Err(Corrupt("an upper layer is missing")));
        let read = read.map(Some).map_err(|corrupt: Corrupt| corrupt.at(tuple));
        let Some((below, upper)) = or_fault(read, report)? else { return Ok(()) };
        list(store, space, id, part, &upper, report)?;
        (layer, next) = (layer - 1, below);
    }
    if layer > 0 {
        report.faults.push((id, Fault::Damaged("the chain of its upper layers is broken")));
    }
    Ok(())
}

/// Checks an element's edges on a layer.
fn list<S: Store>(
    store: &S,
    space: &Space,
    id: Id,
    part: &Part,
    list: &List,
    report: &mut Report,
) -> Result<(), Error<S::Error>> {
    let (own, itself) = (&part.own, part.origin.inner);
    let mut seen = HashSet::from([id]);
    for (slot, neighbour) in list.ids.iter().enumerate() {
        if !seen.insert(*neighbour) {
            report.faults.push((id, Fault::Doubled(*neighbour)));
        }
        let Some(there) = or_fault(visit(store, space, own, *neighbour), report)? else {
            report.faults.push((id, Fault::Dangling(*neighbour)));
            continue;
        };
        // What rounding of factors and vectors may come to, of the larger of both; and of a factor of
        // the size of the neighbour's square.
        const SLACK: f32 = 0.02;
        const FACTOR: f32 = 0.002;
        let exact = there.distance;
        let rounding = FACTOR * space.scaled_norm2(there.norm2);
        let size = exact.inner.abs().max(itself.abs()).max(space.scaled_norm2(own.norm2));
        if let Some(told) = list.told.get(slot)
            && (told - exact.inner).abs() > SLACK * size + rounding
        {
            report.faults.push((id, Fault::WrongCode(*neighbour)));
        }
    }
    Ok(())
}

/// Notes damage as a fault, and goes on.
fn or_fault<T, E>(
    result: Result<Option<T>, Error<E>>,
    report: &mut Report,
) -> Result<Option<T>, Error<E>> {
    match result {
        Err(Error::Corrupt { id, what }) => {
            report.faults.push((id, Fault::Damaged(what)));
            Ok(None)
        }
        other => other,
    }
}
