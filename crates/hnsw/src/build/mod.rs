//! Building a whole graph in memory: vectors are gathered, the graph is made by threads, and
//! finished pages come out.
//!
//! [`Builder`] gathers, `graph` makes the edges, `pages` decides where each record goes and
//! writes it. All arrays are flat and their sizes known beforehand, so [`Builder::bytes_for`] can
//! say what a build will take.

mod coarse;
mod graph;
mod local;
mod pages;
mod room;
pub mod threads;

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use half::f16;

pub use pages::Pages;
pub use room::{BuildError, NoMemory};

use crate::build::threads::{Control, Host};
use crate::change::select::level_of;
use crate::format::id::{Id, Tid};
use crate::format::layout::Layout;
use crate::format::record::Values;
use crate::space::{Moments, Space};

/// How a graph is built.
#[derive(Debug, Clone, Copy)]
pub struct BuildOptions {
    /// Candidates looked at for an element's neighbours.
    pub ef_construction: usize,
    /// Threads at work; with one, the calling thread itself.
    pub threads: usize,
    /// Decides levels.
    pub seed: u64,
}

/// What became of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pushed {
    /// It is a new element.
    New,
    /// Its vector is that of an element which is there already.
    Duplicate,
    /// Its vector cannot be indexed: zero, under cosine.
    Skipped,
    /// There is no memory for it, and nothing has changed.
    Full,
}

/// The bytes of an element in the table of known vectors: hash, number and a byte of control.
const KNOWN_BYTES: usize = 17;

/// Vectors and rows, on their way to become a graph.
#[derive(Debug)]
pub struct Builder<'a> {
    space: &'a Space,
    vectors: Vec<f16>,
    norms: Vec<f32>,
    rows: Rows,
    /// Rows of elements that have one already, with the element.
    more: Rows,
    more_of: Vec<u32>,
    /// The element of a vector with this hash.
    known: HashMap<u64, u32, BuildHasherDefault<Identity>>,
    moments: Moments,
}

/// Rows' places, null bitmaps and filter values.
#[derive(Debug, Default)]
pub(crate) struct Rows {
    tids: Vec<Tid>,
    nulls: Vec<u8>,
    values: Vec<u8>,
}

impl Rows {
    /// Makes room for one more row.
    fn room(&mut self, columns: usize) -> Result<(), NoMemory> {
        room::grow(&mut self.tids, 1)?;
        room::grow(&mut self.nulls, 1)?;
        room::grow(&mut self.values, 8 * columns)
    }

    fn push(&mut self, tid: Tid, values: Values<'_>) {
        self.tids.push(tid);
        self.nulls.push(values.nulls());
        self.values.extend_from_slice(values.bytes());
    }

    pub fn get(&self, at: usize, columns: usize) -> (Tid, Values<'_>) {
        let values = &self.values[at * 8 * columns..(at + 1) * 8 * columns];
        (self.tids[at], Values::new(self.nulls[at], values))
    }
}

/// Passes 64-bit hashes through.
#[derive(Debug, Default)]
struct Identity(u64);

impl Hasher for Identity {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

/// A hash of a vector's bits.
fn hash(vector: &[f16]) -> u64 {
    let mix = |hash: u64, bits: u64| {
        let mixed = (hash ^ bits).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        mixed ^ (mixed >> 29)
    };
    let (words, rest) = vector.as_chunks::<4>();
    let hash = words.iter().fold(vector.len() as u64, |hash, word| {
        let [a, b, c, d] = word.map(|x| u64::from(x.to_bits()));
        mix(hash, a | b << 16 | c << 32 | d << 48)
    });
    rest.iter().fold(hash, |hash, x| mix(hash, u64::from(x.to_bits())))
}

impl<'a> Builder<'a> {
    /// A builder without rows.
    pub fn new(space: &'a Space) -> Self {
        Self {
            space,
            vectors: Vec::new(),
            norms: Vec::new(),
            rows: Rows::default(),
            more: Rows::default(),
            more_of: Vec::new(),
            known: HashMap::default(),
            moments: Moments::default(),
        }
    }

    /// The bytes that building a graph of so many elements takes at its highest, to within a few per
    /// cent, in a builder that was told the number ([`Builder::reserve`]).
    pub fn bytes_for(space: &Space, elements: usize, threads: usize) -> usize {
        let layout = space.layout();
        let kept = 2 * layout.dims + size_of::<f32>() + size_of::<Tid>() + 1 + 8 * layout.columns;
        let known = KNOWN_BYTES * (elements * 8 / 7).next_power_of_two();
        // Ids and distances; one element in m - 1 has an upper layer, of m of them.
        let edges = 8 * layout.edges() + 8 * layout.m.div_ceil(layout.m - 1) + 2 + 4;
        let making = coarse::Coarse::bytes(layout.dims);
        let upper = size_of::<Id>() + size_of::<(u8, u32)>();
        let places = 2 * size_of::<Id>() + upper.div_ceil(layout.m - 1);
        let writing = 2 * space.rotated() + 8 + places;
        // What threads and queues take beside, whatever the number; and the elements' locks.
        let fixed = (1 + threads) * (384 << 10) + 8 * elements.min(1 << 16);
        elements * (kept + edges) + (elements * making + known).max(elements * writing) + fixed
    }

    /// The bytes taken now.
    pub fn bytes(&self) -> usize {
        let rows = |rows: &Rows| {
            rows.tids.capacity() * size_of::<Tid>() + rows.nulls.capacity() + rows.values.capacity()
        };
        self.vectors.capacity() * 2
            + self.norms.capacity() * 4
            + rows(&self.rows)
            + rows(&self.more)
            + self.more_of.capacity() * 4
            + self.known.capacity() * 18
    }

    /// Makes room for so many elements at once. A builder that gets more grows by an eighth at a
    /// time, and needs the old memory beside the new while it does.
    pub fn reserve(&mut self, elements: usize) -> Result<(), NoMemory> {
        let layout = self.space.layout();
        room::reserve(&mut self.vectors, elements.saturating_mul(layout.dims))?;
        room::reserve(&mut self.norms, elements)?;
        room::reserve(&mut self.rows.tids, elements)?;
        room::reserve(&mut self.rows.nulls, elements)?;
        room::reserve(&mut self.rows.values, elements.saturating_mul(8 * layout.columns))?;
        let bytes = elements.saturating_mul(KNOWN_BYTES);
        self.known.try_reserve(elements).map_err(|_| NoMemory { bytes })
    }

    /// The number of elements.
    pub fn len(&self) -> usize {
        self.norms.len()
    }

    /// Are there none?
    pub fn is_empty(&self) -> bool {
        self.norms.is_empty()
    }

    /// Adds a row. Panics when the vector or the values are not of the index's.
    pub fn push(&mut self, vector: &[f16], tid: Tid, values: Values<'_>) -> Pushed {
        let layout = self.space.layout();
        assert_eq!(vector.len(), layout.dims, "a vector of another length");
        assert_eq!(values.bytes().len(), 8 * layout.columns, "other filter columns");
        if !self.space.is_indexable(vector) {
            return Pushed::Skipped;
        }
        let hash = hash(vector);
        let known = self.known.get(&hash).copied();
        if let Some(element) = known.filter(|element| self.is(*element, vector)) {
            if self.more.room(layout.columns).and(room::grow(&mut self.more_of, 1)).is_err() {
                return Pushed::Full;
            }
            self.more.push(tid, values);
            self.more_of.push(element);
            return Pushed::Duplicate;
        }
        if self.room().is_err() {
            return Pushed::Full;
        }
        self.known.entry(hash).or_insert(self.norms.len() as u32);
        self.vectors.extend_from_slice(vector);
        self.norms.push(pgclip_simd::squared_norm(vector));
        self.rows.push(tid, values);
        self.moments.add(self.space, vector);
        Pushed::New
    }

    /// Has this element this vector, bit for bit?
    fn is(&self, element: u32, vector: &[f16]) -> bool {
        let at = element as usize * vector.len();
        let bits = |x: &f16| x.to_bits();
        self.vectors[at..at + vector.len()].iter().map(bits).eq(vector.iter().map(bits))
    }

    /// Makes room for one more element.
    fn room(&mut self) -> Result<(), NoMemory> {
        let Layout { dims, columns, .. } = *self.space.layout();
        room::grow(&mut self.vectors, dims)?;
        room::grow(&mut self.norms, 1)?;
        self.rows.room(columns)?;
        let bytes = self.known.len().saturating_mul(KNOWN_BYTES);
        self.known.try_reserve(1).map_err(|_| NoMemory { bytes })
    }

    /// Makes the graph and lays it out on pages from `first_block` on.
    pub fn build(
        self,
        options: BuildOptions,
        first_block: u32,
        control: &Control,
        host: &mut dyn Host,
    ) -> Result<Pages<'a>, BuildError> {
        let levels: Vec<u8> = (0..self.len() as u64)
            .map(|number| level_of(self.space.layout(), options.seed, number))
            .collect();
        let graph = {
            let coarse = coarse::Coarse::new(
                self.space,
                &self.vectors,
                &self.norms,
                options.threads,
                control,
                host,
            )?;
            graph::Graph::build(self.space.layout(), levels, &coarse, options, control, host)?
        };
        pages::Pages::new(self, graph, first_block, options.threads, control, host)
    }
}
