//! An element's edges: ids, and for each the code and the factors that a neighbour's distance is
//! estimated from. Its own file because the estimator lives here, written and read.
//!
//! With `v` the element, `u` a neighbour, `r = u - v` (all scaled), `c` the ±½ code of `Rr`:
//!
//! ```text
//! w = 2|r|² / ⟨c, Rr⟩      a = |u|² - |v|²      b = |r|² - a + w⟨c, Rv⟩      γ = ⟨g, r⟩
//! d(q,u) ≈ d(q,v) + a + λb - w⟨c, Rq′⟩ - 2βγ
//! ```
//!
//! for Euclidean distances, where a code is about the first `B` of the `D` rotated components, with
//! `q = q′ + βg` and `λ = (⟨q,v⟩ - β⟨g,v⟩) / |v|²`. Between vectors
//! of unit length `a` is zero; for the inner product it is left out, since `-2⟨q,u⟩` has no square
//! in it. The estimate is RaBitQ's (arXiv 2405.12497) of `⟨q′ - λv, r⟩`: any multiple of `v` may be
//! taken out, because `⟨v, r⟩` is known, and so may any of the fixed direction `g`. For `q = v` it
//! is exact, so an element's distances to its neighbours need no fields of their own.

use pgclip_simd::codes::{encode_residual, masked_sums};
use pgclip_simd::{halves, widen};

use half::f16;

use crate::format::id::{ID_BYTES, Id};
use crate::format::layout::{Layout, Metric};
use crate::format::record::{get_f32, put, touch};
use crate::space::{Query, Space};

/// All slots that there can be: the number of edges is a byte.
const ALL: [u8; 256] = {
    let mut all = [0; 256];
    let mut slot = 0;
    while slot < all.len() {
        all[slot] = slot as u8;
        slot += 1;
    }
    all
};

/// Where the parts of the edges lie in a record.
#[derive(Debug, Clone, Copy)]
pub(crate) struct EdgeMap {
    /// Of the number of edges, a byte.
    pub count: usize,
    /// Of the byte that says which edges are kept; none on upper layers.
    pub kept: Option<usize>,
    /// Of the factors' scale.
    pub scale: usize,
    /// Of the arrays.
    pub arrays: usize,
    /// The most edges.
    pub capacity: usize,
}

/// Offsets of the arrays.
#[derive(Debug, Clone, Copy)]
struct Arrays {
    ids: usize,
    w: usize,
    b: usize,
    a: usize,
    text: usize,
    codes: usize,
}

impl Arrays {
    #[inline]
    fn new(layout: &Layout, map: EdgeMap) -> Self {
        let edges = map.capacity;
        let ids = map.arrays;
        let w = ids + ID_BYTES * edges;
        let b = w + 2 * edges;
        let a = b + 2 * edges;
        let text = if layout.has_norms() { a + 2 * edges } else { a };
        Self { ids, w, b, a, text, codes: text + edges }
    }
}

/// In the byte of the kept edges: the first edge is to the parent.
const PARENT: u8 = 1 << 7;
/// In the same byte, how many edges after that are to children.
const CHILDREN: u8 = 0b0111_1100;
const CHILDREN_SHIFT: u32 = 2;
/// The bits of that byte that are about edges.
pub(crate) const KEPT: u8 = PARENT | CHILDREN;

/// Room for the numbers of a record while it is looked at.
#[derive(Debug, Default)]
pub struct Scratch {
    halves: Vec<f16>,
    sums: Vec<i32>,
    w: Vec<f32>,
    b: Vec<f32>,
    a: Vec<f32>,
    /// What `w` is multiplied by.
    root: f32,
}

impl Scratch {
    /// The squared length of an edge of the record estimated last: the harmonic mean, in which long
    /// edges among many short ones do not count.
    #[inline]
    pub(crate) fn length2(&self, query: &Query) -> f32 {
        // Of B of D components ⟨c, Rr⟩ is about |r|B/√(2πD), so w about |r|√(8πD)/B.
        const EIGHT_PI: f32 = 8.0 * std::f32::consts::PI;
        const LEAST: f32 = 1e-9;
        let (eights, rest) = self.w.as_chunks::<8>();
        let mut inverses = [0.0; 8];
        for eight in eights {
            inverses.iter_mut().zip(eight).for_each(|(sum, w)| *sum += 1.0 / w.max(LEAST));
        }
        let rest: f32 = rest.iter().map(|w| 1.0 / w.max(LEAST)).sum();
        let inverse = inverses.iter().sum::<f32>() + rest;
        let mean = self.root * self.w.len() as f32 / inverse;
        let (bits, dims) = (query.bytes.len() as f32, query.rotated.len() as f32);
        mean * mean * bits * bits / (dims * EIGHT_PI)
    }
}

/// The element's side of an estimate.
#[derive(Debug, Clone, Copy)]
pub struct Origin {
    /// The query's inner distance to the element.
    pub inner: f32,
    /// The squared norm of the element's vector as stored.
    pub norm2: f32,
    /// The element's inner product with the texts' direction.
    pub text: f32,
}

/// The edges of an element, checked.
#[derive(Debug, Clone, Copy)]
pub struct Edges<'a> {
    layout: &'a Layout,
    map: EdgeMap,
    bytes: &'a [u8],
}

impl<'a> Edges<'a> {
    pub(crate) fn new(layout: &'a Layout, map: EdgeMap, bytes: &'a [u8]) -> Self {
        Self { layout, map, bytes }
    }

    /// How many there are.
    #[inline]
    pub fn count(&self) -> usize {
        usize::from(self.bytes[self.map.count])
    }

    fn kept_byte(&self) -> u8 {
        self.map.kept.map_or(0, |at| self.bytes[at])
    }

    /// The parent, where there is one: see [`tree`](crate::change::tree).
    pub fn parent(&self) -> Option<Id> {
        if self.has_parent() { self.id(0) } else { None }
    }

    fn has_parent(&self) -> bool {
        self.kept_byte() & PARENT != 0
    }

    fn child_count(&self) -> usize {
        usize::from((self.kept_byte() & CHILDREN) >> CHILDREN_SHIFT)
    }

    /// How many of the first edges are kept: the one to the parent, then those to children.
    pub fn kept(&self) -> usize {
        usize::from(self.has_parent()) + self.child_count()
    }

    /// The children.
    pub fn children(&self) -> impl Iterator<Item = Id> + use<'a> {
        self.ids().take(self.kept()).skip(usize::from(self.has_parent()))
    }

    /// Are there as many edges as are kept, and no more children than there may be?
    pub(crate) fn is_sound(&self) -> bool {
        self.kept() <= self.count() && self.child_count() <= self.layout.children()
    }

    /// Is there place for one child more?
    pub fn has_place(&self) -> bool {
        self.child_count() < self.layout.children()
    }

    /// The neighbour of a slot.
    #[inline]
    pub fn id(&self, slot: usize) -> Option<Id> {
        let at = Arrays::new(self.layout, self.map).ids + slot * ID_BYTES;
        if slot < self.count() { Id::decode(&self.bytes[at..at + ID_BYTES]) } else { None }
    }

    /// The neighbours, slot by slot.
    pub fn ids(&self) -> impl Iterator<Item = Id> + use<'a> {
        self.slots().flatten()
    }

    /// The same, with the slots that name nothing: in a sound record there are none.
    pub(crate) fn slots(&self) -> impl Iterator<Item = Option<Id>> + use<'a> {
        let at = Arrays::new(self.layout, self.map).ids;
        let ids = &self.bytes[at..at + self.count() * ID_BYTES];
        ids.as_chunks::<ID_BYTES>().0.iter().map(|id| Id::decode(id))
    }

    /// Says that the code of a slot will be read.
    #[inline]
    pub(crate) fn prefetch(&self, slot: usize) {
        let code = self.layout.code();
        let from = Arrays::new(self.layout, self.map).codes + slot * code;
        if self.layout.has_codes() {
            pgclip_simd::prefetch(&self.bytes[from..from + code]);
        }
    }

    /// Estimates the query's inner distance to each neighbour, slot by slot, into `out`. Not for
    /// records without codes.
    pub fn estimate(
        &self,
        query: &Query,
        origin: Origin,
        scratch: &mut Scratch,
        out: &mut Vec<f32>,
    ) {
        self.estimate_some(query, origin, &ALL[..self.count()], scratch, out);
    }

    /// The same for the neighbours of these slots.
    pub(crate) fn estimate_some(
        &self,
        query: &Query,
        origin: Origin,
        slots: &[u8],
        scratch: &mut Scratch,
        out: &mut Vec<f32>,
    ) {
        out.clear();
        if !self.layout.has_codes() {
            return;
        }
        let count = self.count();
        let at = Arrays::new(self.layout, self.map);
        let code = self.layout.code();
        let Scratch { halves: aside, sums, w, b, a, root: factor } = scratch;
        sums.resize(slots.len(), 0);
        let all = &self.bytes[at.codes..at.codes + code * count];
        masked_sums(&query.bytes, all, slots, sums);
        let mut read = |from: usize, to: &mut Vec<f32>| {
            to.resize(count, 0.0);
            widen(halves(&self.bytes[from..from + 2 * count], aside), to);
        };
        read(at.w, w);
        read(at.b, b);
        let metric = self.layout.metric;
        let scale = get_f32(self.bytes, self.map.scale);
        let lambda = scale * query.lambda(metric, origin.inner, origin.norm2, origin.text);
        let root = scale.sqrt();
        *factor = root;
        let text = 2.0 * query.beta * text_step(query.bytes.len());
        let texts = &self.bytes[at.text..at.text + count];
        for (slot, sum) in slots.iter().zip(sums) {
            let slot = usize::from(*slot);
            let product =
                query.step * (*sum as f32 - query.half_sum) + text * f32::from(texts[slot] as i8);
            out.push(origin.inner + lambda * b[slot] - root * w[slot] * product);
        }
        if self.layout.has_norms() {
            read(at.a, a);
            let of_slots = slots.iter().map(|slot| a[usize::from(*slot)]);
            out.iter_mut().zip(of_slots).for_each(|(out, a)| *out += scale * a);
        }
    }
}

/// One step of the byte that `⟨g, r⟩` is kept in, as a share of `w`: since `|r|` is at most
/// `w·√B/4`, the byte never overflows.
fn text_step(bits: usize) -> f32 {
    (bits as f32).sqrt() / (4.0 * 127.0)
}

/// The squared distance of two vectors of a multiple of 64 components.
fn squared(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0.0; 16];
    for (a, b) in a.as_chunks::<16>().0.iter().zip(b.as_chunks::<16>().0) {
        for (sum, (a, b)) in sums.iter_mut().zip(a.iter().zip(b)) {
            *sum += (a - b) * (a - b);
        }
    }
    sums.iter().sum()
}

/// One end of an edge, as far as its code needs it.
#[derive(Debug, Clone, Copy)]
pub struct End<'a> {
    /// The scaled vector, rotated.
    pub rotated: &'a [f32],
    /// The squared norm of the scaled vector.
    pub norm2: f32,
    /// The inner product of the scaled vector with the texts' direction.
    pub text: f32,
}

impl<'a> End<'a> {
    /// Of a vector made ready as it is.
    pub fn of(space: &Space, query: &'a Query) -> Self {
        debug_assert_eq!(query.beta, 0.0, "the rotated vector is to be whole");
        let norm2 = space.scaled_norm2(query.norm2);
        Self { rotated: &query.rotated, norm2, text: query.along_text }
    }
}

/// The edges of an element, for changing. The change counter of the record is counted by
/// [`EdgesMut::touch`] alone.
#[derive(Debug)]
pub struct EdgesMut<'a> {
    layout: &'a Layout,
    map: EdgeMap,
    bytes: &'a mut [u8],
}

impl<'a> EdgesMut<'a> {
    pub(crate) fn new(layout: &'a Layout, map: EdgeMap, bytes: &'a mut [u8]) -> Self {
        Self { layout, map, bytes }
    }

    /// The view for reading.
    pub fn read(&self) -> Edges<'_> {
        Edges { layout: self.layout, map: self.map, bytes: self.bytes }
    }

    /// Writes the edge of a slot: one in use, or the first that is not. Panics past that, and past
    /// the last that there is.
    pub fn set(&mut self, slot: usize, id: Id, from: End<'_>, to: End<'_>) {
        let count = self.read().count();
        assert!(slot <= count && slot < self.map.capacity, "slot {slot} of {count}");
        let at = Arrays::new(self.layout, self.map);
        put(self.bytes, at.ids + slot * ID_BYTES, &Id::encode(Some(id)));
        self.bytes[self.map.count] = count.max(slot + 1) as u8;
        if !self.layout.has_codes() {
            return;
        }
        let bytes = self.layout.code();
        let code = at.codes + slot * bytes;
        let (to_code, to_rest) = to.rotated.split_at(self.layout.bits());
        let (from_code, from_rest) = from.rotated.split_at(self.layout.bits());
        let sums = encode_residual(to_code, from_code, &mut self.bytes[code..code + bytes]);
        let square = sums.square + squared(to_rest, from_rest);
        let w = if sums.l1 > 0.0 { 4.0 * square / sums.l1 } else { 0.0 };
        let a = if self.layout.metric == Metric::Cosine { 0.0 } else { to.norm2 - from.norm2 };
        let b = square - a + w * sums.origin;
        let step = w * text_step(self.layout.bits());
        let text = if step > 0.0 { ((to.text - from.text) / step).round() } else { 0.0 };
        self.bytes[at.text + slot] = (text as i8) as u8;
        self.set_factors(slot, [w, b, a]);
    }

    /// Writes factors in the record's scale, which is made larger where they need it.
    fn set_factors(&mut self, slot: usize, [w, b, a]: [f32; 3]) {
        /// The largest stored factor right after the scale was set: well below fp16's largest
        /// number, so that later edges may be much longer.
        const FRESH: f32 = 16.0;
        const LARGEST: f32 = 60_000.0;
        let largest = (w * w).max(b.abs()).max(a.abs());
        let first = self.read().count() == 1 && slot == 0;
        let mut scale = get_f32(self.bytes, self.map.scale);
        // A w above √scale · LARGEST has a square above scale · LARGEST.
        let fits = scale > 0.0 && largest <= scale * LARGEST;
        if first || !fits {
            let fresh = largest / FRESH;
            let wanted = if fresh.is_normal() { fresh } else { 1.0 };
            if !first {
                self.rescale(scale, wanted);
            }
            scale = wanted;
            put(self.bytes, self.map.scale, &scale.to_le_bytes());
        }
        let at = Arrays::new(self.layout, self.map);
        self.set_half(at.w, slot, w / scale.sqrt());
        self.set_half(at.b, slot, b / scale);
        if self.layout.has_norms() {
            self.set_half(at.a, slot, a / scale);
        }
    }

    fn set_half(&mut self, array: usize, slot: usize, x: f32) {
        put(self.bytes, array + 2 * slot, &f16::from_f32(x).to_le_bytes());
    }

    /// Brings all factors from one scale to another.
    fn rescale(&mut self, from: f32, to: f32) {
        let at = Arrays::new(self.layout, self.map);
        let count = self.read().count();
        let by = from / to;
        for (array, by) in [(at.w, by.sqrt()), (at.b, by), (at.a, by)] {
            if array == at.a && !self.layout.has_norms() {
                continue;
            }
            for slot in 0..count {
                let here = array + 2 * slot;
                let x = f16::from_le_bytes([self.bytes[here], self.bytes[here + 1]]);
                self.set_half(array, slot, x.to_f32() * by);
            }
        }
    }

    /// Where the arrays begin, and how many bytes an edge has in each.
    fn parts(&self) -> Vec<(usize, usize)> {
        let at = Arrays::new(self.layout, self.map);
        let mut parts = vec![(at.ids, ID_BYTES)];
        if self.layout.has_codes() {
            parts.extend([(at.w, 2), (at.b, 2), (at.text, 1), (at.codes, self.layout.code())]);
        }
        if self.layout.has_codes() && self.layout.has_norms() {
            parts.push((at.a, 2));
        }
        parts
    }

    fn swap(&mut self, a: usize, b: usize) {
        let (a, b) = (a.min(b), a.max(b));
        if a == b {
            return;
        }
        for (array, bytes) in self.parts() {
            let (low, high) = self.bytes.split_at_mut(array + b * bytes);
            low[array + a * bytes..][..bytes].swap_with_slice(&mut high[..bytes]);
        }
    }

    /// Says which of the first edges are kept: whether the first is to the parent, and how many after
    /// that are to children. Panics where there are no such edges.
    pub(crate) fn set_kept(&mut self, parent: bool, children: usize) {
        let at = self.map.kept.expect("on upper layers no edge is kept");
        let kept = usize::from(parent) + children;
        assert!(kept <= self.read().count() && children <= self.layout.children(), "{kept} kept");
        let byte = if parent { PARENT } else { 0 } | (children as u8) << CHILDREN_SHIFT;
        self.bytes[at] = self.bytes[at] & !KEPT | byte;
    }

    /// Makes the edge of a slot the one to the parent. One that was before is no longer kept.
    pub(crate) fn keep_parent(&mut self, slot: usize) {
        let mut slot = slot;
        let children = self.read().child_count();
        if self.read().has_parent() {
            if slot == 0 {
                return;
            }
            self.swap(0, children);
            self.set_kept(false, children);
            slot = if slot == children { 0 } else { slot };
        }
        let mut left = children;
        if slot < children {
            left -= 1;
            self.swap(slot, left);
            slot = left;
        }
        self.swap(slot, left);
        self.swap(left, 0);
        self.set_kept(true, left);
    }

    /// Keeps the edge of a slot as one to a child. Panics where there is no place for one more.
    pub(crate) fn keep_child(&mut self, slot: usize) {
        let (parent, kept) = (self.read().has_parent(), self.read().kept());
        if slot >= kept {
            self.swap(slot, kept);
            self.set_kept(parent, self.read().child_count() + 1);
        }
    }

    /// Takes an edge out, kept or not; the last one moves into its slot.
    pub fn remove(&mut self, slot: usize) {
        let count = self.read().count();
        assert!(slot < count, "slot {slot} of {count}");
        let mut slot = slot;
        let (parent, children) = (self.read().has_parent(), self.read().child_count());
        if slot < usize::from(parent) + children {
            let own = parent && slot == 0;
            let left = if own { children } else { children - 1 };
            // The last that is kept.
            let last = usize::from(parent) + children - 1;
            self.swap(slot, last);
            slot = last;
            self.set_kept(parent && !own, left);
        }
        let last = count - 1;
        for (array, bytes) in self.parts() {
            let from = array + last * bytes;
            self.bytes.copy_within(from..from + bytes, array + slot * bytes);
            self.bytes[from..from + bytes].fill(0);
        }
        self.bytes[self.map.count] = last as u8;
    }

    /// Counts the change of the record.
    pub fn touch(&mut self) {
        touch(self.bytes);
    }
}
