//! The byte map of the records, chosen once an index from the vectors' dimensions, `m` and the
//! number of filter columns. Its own file because it is the format on disk; the accessors are in
//! [`record`](crate::format::record).
//!
//! An **element** (all numbers little-endian; `c` filter columns, `d` dimensions, `b` bits of a code, `n` edges,
//! at most `2m`):
//!
//! ```text
//!  0  u8      kind, 1
//!  1  u8      format version
//!  2  u8      level: the highest layer that the element is in
//!  3  u8      flags: 1 dead (no rows, still walked through), 2 free (the slot may be used again);
//!             and, but for split, the edges that are kept: 128 the first one is to the parent, bits
//!             2 to 6 how many after that are to children
//!  4  u32     change counter: one more with each change
//!  8  6 B     its tuple on the highest upper layer that it is in, or none
//! 14  6 B     overflow tuple with more rows, or none
//! 20  6 B     first row in the table, or none
//! 26  u8      number of edges in use
//! 27  u8      null bitmap of the first row's filter values
//! 28  f32     squared norm of the vector
//! 32  f32     inner product of the (scaled) vector with the texts' direction
//! 36  f32     scale of the edges' factors
//! 40  8 B×c   filter values of the first row
//!  …  2 B×d   the vector, fp16
//!  …          the edges (inline, plain), or 8 B: id of the edges' own tuple, 2 B unused (split)
//! ```
//!
//! The **edges**, as arrays, so that each is read with full registers and changing one edge changes
//! few bytes; on an upper layer `n = m`:
//!
//! ```text
//! 6 B×n  ids     2 B×n  w/√scale     2 B×n  b/scale     2 B×n  a/scale (Euclidean only)
//! 1 B×n  ⟨g,r⟩   b/8 B×n  codes      (plain: the ids alone)
//! ```
//!
//! An **edges** tuple (split) begins with kind 2, version, number of edges, the kept ones as in the
//! flags of an element, its change counter (u32), the scale (f32) and 4 unused bytes. An **overflow** tuple: kind 4, version,
//! capacity (u16), change counter (u32), next tuple (6 B), rows in use (u16), its element (6 B),
//! 2 B unused; then for each row its place (6 B), null bitmap (u8), a zero byte and `c` filter values.
//!
//! An **upper** tuple is an element's on one upper layer. Those of an element are a chain from its
//! highest layer down:
//!
//! ```text
//!  0  u8      kind, 3
//!  1  u8      format version
//!  2  u8      layer, from 1
//!  3  u8      number of edges in use
//!  4  u32     change counter
//!  8  f32     scale of the edges' factors
//! 12  6 B     the element's tuple one layer lower; none on layer 1
//! 18  6 B     unused
//! 24          the edges
//! ```

use std::f32::consts::FRAC_PI_2;

use pgclip_simd::codes::{CODE_BLOCK, rotated_dims};

use crate::error::LayoutError;
use crate::format::id::ID_BYTES;
use crate::tuning;

/// The version of all this.
pub const FORMAT_VERSION: u8 = 1;

/// The largest record: a page of 8,192 bytes less its header (24), one item pointer (4), 16 bytes
/// of special space, in whole words of 8.
pub const MAX_RECORD: usize = 8144;

/// The bytes of a page for records and their item pointers.
pub const PAGE_ROOM: usize = 8152;

/// The bytes of an item pointer.
pub const ITEM_POINTER: usize = 4;

/// The smallest `m`.
pub const MIN_M: usize = 2;
/// The largest `m`: `2m` edges are counted in a byte.
pub const MAX_M: usize = 100;
/// The most filter columns: a bit each in the null bitmap.
pub const MAX_COLUMNS: usize = 8;
/// The highest layer that an element can be in; with the smallest `m`, one in 2⁶⁰ would be higher.
pub const MAX_LEVEL: u8 = 60;

/// The bytes of an element before its filter values.
pub const ELEMENT_HEADER: usize = 40;
/// The bytes of an edges tuple before its arrays.
pub const EDGES_HEADER: usize = 16;
/// The bytes of an upper tuple before its arrays.
pub const UPPER_HEADER: usize = 24;
/// The bytes of an overflow tuple before its rows.
pub const OVERFLOW_HEADER: usize = 24;

const _: () = assert!(MAX_RECORD.is_multiple_of(8));
const _: () = assert!(MAX_RECORD + ITEM_POINTER <= PAGE_ROOM);
const _: () = assert!(2 * MAX_M <= u8::MAX as usize);
const _: () = assert!(ELEMENT_HEADER.is_multiple_of(8) && EDGES_HEADER.is_multiple_of(8));
const _: () = assert!(UPPER_HEADER.is_multiple_of(8));

/// What distances are measured by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Metric {
    /// Euclidean distance.
    L2,
    /// Negative inner product.
    InnerProduct,
    /// One less the cosine of the angle.
    Cosine,
}

/// Where an element's edges lie, and whether they have codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Placement {
    /// Ids, factors and codes in the element's record: one page touch a hop.
    Inline,
    /// Ids, factors and codes in a tuple of their own: two page touches a hop.
    Split,
    /// Ids alone, in the element's record; neighbours are read for their distance.
    Plain,
}

/// The byte map of one index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// What distances are measured by.
    pub metric: Metric,
    /// Components of a vector.
    pub dims: usize,
    /// Edges of an element on each upper layer; twice as many on the base layer.
    pub m: usize,
    /// Filter columns.
    pub columns: usize,
    /// Where the edges lie.
    pub placement: Placement,
    /// The most edges of an element on the base layer.
    edges: usize,
    /// Components of a rotated vector that a neighbour's code is about: whole words of 64.
    bits: usize,
}

impl Layout {
    /// The best layout that fits a page.
    pub fn new(metric: Metric, dims: usize, m: usize, columns: usize) -> Result<Self, LayoutError> {
        if !(MIN_M..=MAX_M).contains(&m) {
            return Err(LayoutError::M { m });
        }
        if columns > MAX_COLUMNS {
            return Err(LayoutError::Columns { columns });
        }
        if dims == 0 {
            return Err(LayoutError::NoDimensions);
        }
        let places = [Placement::Inline, Placement::Split, Placement::Plain];
        let (edges, bits) = (2 * m, rotated_dims(dims));
        let layouts =
            places.map(|placement| Self { metric, dims, m, columns, placement, edges, bits });
        let best = layouts.into_iter().find(Self::fits);
        best.map(|layout| layout.sharing_a_page().unwrap_or(layout)).ok_or_else(|| {
            let rest = ELEMENT_HEADER + 8 * columns + 2 * m * ID_BYTES;
            LayoutError::TooWide { dims, m, columns, most: (MAX_RECORD - rest) / 2 }
        })
    }

    /// The same with another placement, for tests of all of them.
    pub fn with_placement(self, placement: Placement) -> Option<Self> {
        Some(Self { placement, ..self }).filter(Self::fits)
    }

    /// The same with as many elements on a page as edges and codes allow: seven tenths of the edges do, and
    /// codes that are not too rough. What is left of a page is for more bits, and then for more edges.
    /// More records are looked at for the same recall, each in less time: of 15,000 generated vectors of
    /// 1,024 dimensions 73 by 26 edges of 512 bits, about 55 by all, at recall 0.977, in as much time
    /// (`… --example curve -- rows=15000 dims=1024 queries=100 edges=26 bits=512`).
    fn sharing_a_page(&self) -> Option<Self> {
        const FEW_EDGES: usize = 8;
        if self.placement != Placement::Inline {
            return None;
        }
        let (all_edges, all_bits) = (self.edges, self.bits);
        let least_edges =
            ((tuning::least_edges() * all_edges as f32) as usize).max(FEW_EDGES.min(all_edges));
        // π/2 - 1 a bit, and 1 a bit for components that no bit is about.
        let variance = |bits: usize| FRAC_PI_2 / bits as f32 - 1.0 / all_bits as f32;
        let before = self.element_edges_at();
        (1..=PAGE_ROOM / before).rev().find_map(|elements| {
            let bytes = (PAGE_ROOM / elements - ITEM_POINTER) / 8 * 8;
            let room = bytes.checked_sub(before)?;
            let mut bits = (CODE_BLOCK..=all_bits).rev().step_by(CODE_BLOCK);
            let bits = bits.find(|bits| {
                (*bits == all_bits || variance(*bits) <= tuning::rough())
                    && Self { bits: *bits, ..*self }.arrays(least_edges) <= room
            })?;
            let fitting = Self { bits, ..*self };
            let edges = (least_edges..=all_edges).rev().find(|n| fitting.arrays(*n) <= room)?;
            Some(Self { edges, ..fitting }).filter(Self::fits)
        })
    }

    /// The same with so many edges and bits of a code, to measure what they do.
    pub fn with_shape(self, edges: usize, bits: usize) -> Option<Self> {
        let bits = bits.min(rotated_dims(self.dims)).next_multiple_of(CODE_BLOCK);
        Some(Self { edges, bits, ..self }).filter(Self::fits)
    }

    fn fits(&self) -> bool {
        let records = [self.element_bytes(), self.edges_tuple(), self.upper_bytes()];
        records.iter().all(|bytes| *bytes <= MAX_RECORD)
    }

    /// The most edges of an element on the base layer.
    pub fn edges(&self) -> usize {
        self.edges
    }

    /// How many neighbours a new element chooses on the base layer; links back to it, and those it
    /// displaces, fill the rest.
    pub fn chosen(&self) -> usize {
        self.edges() * 3 / 4
    }

    /// The most children of an element: edges that are kept whatever comes later. With two, any
    /// number of elements can be put into a tree; more let it be one of near neighbours.
    pub fn children(&self) -> usize {
        const MOST: usize = 31;
        (self.edges() / 4).clamp(2, MOST)
    }

    /// Components of a rotated vector that a code is about.
    pub fn bits(&self) -> usize {
        self.bits
    }

    /// The bytes of a neighbour's code.
    pub fn code(&self) -> usize {
        self.bits / 8
    }

    /// Have edges codes?
    pub fn has_codes(&self) -> bool {
        self.placement != Placement::Plain
    }

    /// Do edges keep the difference of squared norms?
    pub fn has_norms(&self) -> bool {
        self.metric == Metric::L2
    }

    /// Where an element's vector begins.
    pub fn vector_at(&self) -> usize {
        ELEMENT_HEADER + 8 * self.columns
    }

    /// Where an element's edges, or the id of their tuple, begin.
    pub fn element_edges_at(&self) -> usize {
        self.vector_at() + 2 * self.dims
    }

    /// The bytes of the arrays of so many edges.
    fn arrays(&self, edges: usize) -> usize {
        let factors = 2 + 2 + 1 + if self.has_norms() { 2 } else { 0 };
        let coded = if self.has_codes() { factors + self.code() } else { 0 };
        edges * (ID_BYTES + coded)
    }

    /// The bytes of an element's record, whole words of 8.
    pub fn element_bytes(&self) -> usize {
        let edges = if self.placement == Placement::Split { 8 } else { self.arrays(self.edges()) };
        (self.element_edges_at() + edges).next_multiple_of(8)
    }

    /// The most elements that a page holds.
    pub fn elements_a_page(&self) -> usize {
        PAGE_ROOM / (self.element_bytes() + ITEM_POINTER)
    }

    /// The bytes of the tuple of edges of its own; 0 where there is none.
    pub fn edges_tuple(&self) -> usize {
        match self.placement {
            Placement::Split => (EDGES_HEADER + self.arrays(self.edges())).next_multiple_of(8),
            _ => 0,
        }
    }

    /// The bytes of an upper tuple, whole words of 8.
    pub fn upper_bytes(&self) -> usize {
        (UPPER_HEADER + self.arrays(self.m)).next_multiple_of(8)
    }

    /// The bytes of a row in an overflow tuple.
    pub fn overflow_row(&self) -> usize {
        8 + 8 * self.columns
    }

    /// The bytes of an overflow tuple for `rows` rows.
    pub fn overflow_bytes(&self, rows: usize) -> usize {
        OVERFLOW_HEADER + rows * self.overflow_row()
    }

    /// The most rows of an overflow tuple.
    pub fn max_overflow(&self) -> usize {
        (MAX_RECORD - OVERFLOW_HEADER) / self.overflow_row()
    }
}
