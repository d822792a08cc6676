//! Reading and changing an element where it lies, by the byte map of [`layout`](crate::format::layout).
//!
//! A view is made by checking the record once: kind, version, length, counts. After that no
//! accessor can go out of bounds, whatever the bytes are; what they say is only as true as the page.
//! A change goes through [`ElementMut`] or [`EdgesMut`], and each ends with the change counter one
//! higher, which is how a writer who looked before it locked learns that another was quicker.

use crate::error::Corrupt;
use crate::format::edges::{EdgeMap, Edges, EdgesMut, KEPT};
use crate::format::id::{ID_BYTES, Id, Tid};
use crate::format::layout::{
    EDGES_HEADER, ELEMENT_HEADER, FORMAT_VERSION, Layout, MAX_LEVEL, Placement,
};

/// The kinds of records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// An element of the graph.
    Element = 1,
    /// The edges of an element, in a tuple of their own.
    Edges = 2,
    /// The edges of an element on an upper layer.
    Upper = 3,
    /// More rows of an element.
    Overflow = 4,
}

impl Kind {
    /// The kind of a record of any kind.
    pub fn of(bytes: &[u8]) -> Result<Self, Corrupt> {
        let kinds = [Self::Element, Self::Edges, Self::Upper, Self::Overflow];
        let kind = kinds.into_iter().find(|kind| bytes.first() == Some(&(*kind as u8)));
        kind.ok_or(Corrupt("of no known kind"))
    }

    /// Checks a record's first two bytes.
    pub(crate) fn check(self, bytes: &[u8], wrong: &'static str) -> Result<(), Corrupt> {
        match bytes {
            [kind, ..] if *kind != self as u8 => Err(Corrupt(wrong)),
            [_, FORMAT_VERSION, ..] => Ok(()),
            _ => Err(Corrupt("of another format version")),
        }
    }

    /// Is this a sound beginning of a record of another kind? Then the slot was freed and used again
    /// since its place was learnt: what is looked for is gone, which is no damage.
    pub(crate) fn is_replaced(self, bytes: &[u8]) -> bool {
        Self::of(bytes).is_ok_and(|kind| kind != self && kind.check(bytes, "").is_ok())
    }
}

pub(crate) fn get_u16(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

pub(crate) fn get_u32(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

pub(crate) fn get_f32(bytes: &[u8], at: usize) -> f32 {
    f32::from_bits(get_u32(bytes, at))
}

pub(crate) fn put(bytes: &mut [u8], at: usize, what: &[u8]) {
    bytes[at..at + what.len()].copy_from_slice(what);
}

/// The change counter of any record.
pub fn change(bytes: &[u8]) -> u32 {
    if bytes.len() < 8 { 0 } else { get_u32(bytes, CHANGE) }
}

/// Counts a change of any record.
pub(crate) fn touch(bytes: &mut [u8]) {
    let next = change(bytes).wrapping_add(1);
    put(bytes, CHANGE, &next.to_le_bytes());
}

const LEVEL: usize = 2;
const FLAGS: usize = 3;
pub(crate) const CHANGE: usize = 4;
const UPPER: usize = 8;
const OVERFLOW: usize = 14;
const TID: usize = 20;
const COUNT: usize = 26;
const NULLS: usize = 27;
const NORM: usize = 28;
const TEXT: usize = 32;
const SCALE: usize = 36;
const _: () = assert!(TID + ID_BYTES == COUNT && SCALE + 4 == ELEMENT_HEADER);

const DEAD: u8 = 1;
const FREE: u8 = 2;
const _: () = assert!((DEAD | FREE) & KEPT == 0);

fn element_map(layout: &Layout) -> EdgeMap {
    let (arrays, capacity) = (layout.element_edges_at(), layout.edges());
    EdgeMap { count: COUNT, kept: Some(FLAGS), scale: SCALE, arrays, capacity }
}

/// The filter values of one row.
#[derive(Debug, Clone, Copy)]
pub struct Values<'a> {
    nulls: u8,
    bytes: &'a [u8],
}

impl<'a> Values<'a> {
    /// Values as they lie in a record: a bit for each null, 8 bytes a column.
    pub fn new(nulls: u8, bytes: &'a [u8]) -> Self {
        Self { nulls, bytes }
    }

    /// The value of a column; none where it is null, or past the last column.
    #[inline]
    pub fn get(&self, column: usize) -> Option<u64> {
        let null = column >= 8 || self.nulls >> column & 1 == 1;
        let value = self.bytes.get(8 * column..8 * column + 8)?;
        (!null).then(|| u64::from_le_bytes(value.try_into().expect("eight bytes")))
    }

    /// The null bitmap.
    pub fn nulls(&self) -> u8 {
        self.nulls
    }

    /// The values' bytes.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }
}

/// An element, as read.
#[derive(Debug, Clone, Copy)]
pub struct Element<'a> {
    layout: &'a Layout,
    bytes: &'a [u8],
}

impl<'a> Element<'a> {
    /// Checks a record and makes a view of it.
    #[inline]
    pub fn new(layout: &'a Layout, bytes: &'a [u8]) -> Result<Self, Corrupt> {
        Kind::Element.check(bytes, "not an element")?;
        if bytes.len() != layout.element_bytes() {
            return Err(Corrupt("an element of another length"));
        }
        if usize::from(bytes[COUNT]) > layout.edges() {
            return Err(Corrupt("more edges than an element can have"));
        }
        if bytes[LEVEL] > MAX_LEVEL {
            return Err(Corrupt("a layer higher than there can be"));
        }
        let element = Self { layout, bytes };
        if element.edges().is_some_and(|edges| !edges.is_sound()) {
            return Err(Corrupt("more kept edges than edges"));
        }
        Ok(element)
    }

    /// The highest layer that the element is in.
    pub fn level(&self) -> u8 {
        self.bytes[LEVEL]
    }

    /// Has it lost all its rows? It is walked through, but nothing may be added or linked to it.
    pub fn is_dead(&self) -> bool {
        self.bytes[FLAGS] & (DEAD | FREE) != 0
    }

    /// Is it no longer part of the graph?
    pub fn is_free(&self) -> bool {
        self.bytes[FLAGS] & FREE != 0
    }

    /// The change counter.
    pub fn change(&self) -> u32 {
        get_u32(self.bytes, CHANGE)
    }

    /// Its tuple on the highest layer that it is in.
    pub fn upper(&self) -> Option<Id> {
        Id::decode(&self.bytes[UPPER..UPPER + ID_BYTES])
    }

    /// The newest tuple of more rows.
    pub fn overflow(&self) -> Option<Id> {
        Id::decode(&self.bytes[OVERFLOW..OVERFLOW + ID_BYTES])
    }

    /// The first row.
    pub fn tid(&self) -> Option<Tid> {
        Tid::decode(&self.bytes[TID..TID + ID_BYTES])
    }

    /// The first row's filter values.
    pub fn values(&self) -> Values<'a> {
        Values::new(self.bytes[NULLS], &self.bytes[ELEMENT_HEADER..self.layout.vector_at()])
    }

    /// The squared norm of the vector as stored.
    pub fn norm2(&self) -> f32 {
        get_f32(self.bytes, NORM)
    }

    /// The inner product of the scaled vector with the texts' direction.
    pub fn text(&self) -> f32 {
        get_f32(self.bytes, TEXT)
    }

    /// The vector: fp16, little-endian.
    pub fn vector(&self) -> &'a [u8] {
        &self.bytes[self.layout.vector_at()..self.layout.element_edges_at()]
    }

    /// The edges, where they are in the record.
    pub fn edges(&self) -> Option<Edges<'a>> {
        let map = element_map(self.layout);
        (self.layout.placement != Placement::Split)
            .then(|| Edges::new(self.layout, map, self.bytes))
    }

    /// The tuple of the edges, where they are not in the record.
    pub fn edges_id(&self) -> Option<Id> {
        let at = self.layout.element_edges_at();
        let split = self.layout.placement == Placement::Split;
        split.then(|| Id::decode(&self.bytes[at..at + ID_BYTES])).flatten()
    }

    /// The whole record.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }
}

/// An element, for changing.
#[derive(Debug)]
pub struct ElementMut<'a> {
    layout: &'a Layout,
    bytes: &'a mut [u8],
}

impl<'a> ElementMut<'a> {
    /// Checks a record and makes a view of it.
    pub fn new(layout: &'a Layout, bytes: &'a mut [u8]) -> Result<Self, Corrupt> {
        Element::new(layout, bytes)?;
        Ok(Self { layout, bytes })
    }

    /// Makes an element without rows and edges of a buffer of [`Layout::element_bytes`].
    pub fn init(layout: &'a Layout, bytes: &'a mut [u8], level: u8) -> Self {
        assert_eq!(bytes.len(), layout.element_bytes(), "a buffer of another length");
        bytes.fill(0);
        put(bytes, 0, &[Kind::Element as u8, FORMAT_VERSION, level]);
        for at in [UPPER, OVERFLOW, TID] {
            put(bytes, at, &Id::encode(None));
        }
        put(bytes, SCALE, &1f32.to_le_bytes());
        if layout.placement == Placement::Split {
            put(bytes, layout.element_edges_at(), &Id::encode(None));
        }
        Self { layout, bytes }
    }

    /// The view for reading.
    pub fn read(&self) -> Element<'_> {
        Element { layout: self.layout, bytes: self.bytes }
    }

    /// Sets vector, squared norm and inner product with the texts' direction.
    pub fn set_vector(&mut self, vector: &[half::f16], norm2: f32, text: f32) {
        assert_eq!(vector.len(), self.layout.dims, "a vector of another length");
        put(self.bytes, NORM, &norm2.to_le_bytes());
        put(self.bytes, TEXT, &text.to_le_bytes());
        let at = self.layout.vector_at()..self.layout.element_edges_at();
        for (to, x) in self.bytes[at].chunks_exact_mut(2).zip(vector) {
            to.copy_from_slice(&x.to_le_bytes());
        }
    }

    /// Sets or removes the first row.
    pub fn set_row(&mut self, row: Option<(Tid, Values<'_>)>) {
        put(self.bytes, TID, &Tid::encode(row.map(|(tid, _)| tid)));
        let values = ELEMENT_HEADER..self.layout.vector_at();
        match row {
            Some((_, row)) => {
                self.bytes[NULLS] = row.nulls;
                self.bytes[values].copy_from_slice(row.bytes);
            }
            None => {
                self.bytes[NULLS] = 0;
                self.bytes[values].fill(0);
            }
        }
    }

    /// Sets the tuple of more rows.
    pub fn set_overflow(&mut self, id: Option<Id>) {
        put(self.bytes, OVERFLOW, &Id::encode(id));
    }

    /// Sets the level and the tuple on that layer.
    pub fn set_upper(&mut self, level: u8, id: Option<Id>) {
        self.bytes[LEVEL] = level;
        put(self.bytes, UPPER, &Id::encode(id));
    }

    /// Sets the tuple of the edges. Panics where edges are in the record.
    pub fn set_edges_id(&mut self, id: Id) {
        assert_eq!(self.layout.placement, Placement::Split, "edges are in the record");
        put(self.bytes, self.layout.element_edges_at(), &Id::encode(Some(id)));
    }

    /// Marks it dead.
    pub fn set_dead(&mut self) {
        self.bytes[FLAGS] |= DEAD;
    }

    /// Takes the mark back.
    pub(crate) fn revive(&mut self) {
        self.bytes[FLAGS] &= !DEAD;
    }

    /// Marks it free.
    pub fn set_free(&mut self) {
        self.bytes[FLAGS] |= DEAD | FREE;
    }

    /// The edges, where they are in the record.
    pub fn edges(&mut self) -> Option<EdgesMut<'_>> {
        let map = element_map(self.layout);
        (self.layout.placement != Placement::Split)
            .then(|| EdgesMut::new(self.layout, map, self.bytes))
    }

    /// Counts the change. Each batch of the changes above ends with this.
    pub fn touch(&mut self) {
        touch(self.bytes);
    }
}

/// Views of an edges tuple: see [`Placement::Split`].
pub fn edges_tuple<'a>(layout: &'a Layout, bytes: &'a [u8]) -> Result<Edges<'a>, Corrupt> {
    check_edges_tuple(layout, bytes)?;
    Ok(Edges::new(layout, edges_map(layout), bytes))
}

/// As [`edges_tuple`], for changing.
pub fn edges_tuple_mut<'a>(
    layout: &'a Layout,
    bytes: &'a mut [u8],
) -> Result<EdgesMut<'a>, Corrupt> {
    check_edges_tuple(layout, bytes)?;
    Ok(EdgesMut::new(layout, edges_map(layout), bytes))
}

/// An edges tuple without edges.
pub fn new_edges_tuple(layout: &Layout) -> Vec<u8> {
    let mut bytes = vec![0; layout.edges_tuple()];
    put(&mut bytes, 0, &[Kind::Edges as u8, FORMAT_VERSION]);
    put(&mut bytes, EDGES_SCALE, &1f32.to_le_bytes());
    bytes
}

const EDGES_COUNT: usize = 2;
const EDGES_KEPT: usize = 3;
const EDGES_SCALE: usize = 8;

fn edges_map(layout: &Layout) -> EdgeMap {
    let (arrays, capacity) = (EDGES_HEADER, layout.edges());
    EdgeMap { count: EDGES_COUNT, kept: Some(EDGES_KEPT), scale: EDGES_SCALE, arrays, capacity }
}

fn check_edges_tuple(layout: &Layout, bytes: &[u8]) -> Result<(), Corrupt> {
    Kind::Edges.check(bytes, "not a tuple of edges")?;
    if layout.placement != Placement::Split || bytes.len() != layout.edges_tuple() {
        return Err(Corrupt("a tuple of edges of another length"));
    }
    if usize::from(bytes[EDGES_COUNT]) > layout.edges() {
        return Err(Corrupt("more edges than an element can have"));
    }
    if !Edges::new(layout, edges_map(layout), bytes).is_sound() {
        return Err(Corrupt("more kept edges than edges"));
    }
    Ok(())
}
