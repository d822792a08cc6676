//! Vectors rounded to bytes, row after row, for many inner products of one of them with others that
//! lie anywhere. Its own file because where a row lies matters more than how it is summed: each
//! begins with a cache line and has its factors at its end, so that reading a row is one run of
//! lines, and the rows to come are asked for while one is worked on.

use std::collections::TryReserveError;

use crate::level::code_level;

/// The operations on bytes that every variant has.
pub trait ByteKernels: Copy {
    /// See [`dot_i8`].
    fn dot_i8(self, a: &[i8], b: &[i8]) -> i32;

    /// For each id the inner product of `query` with that row: `rows` has one every `stride`.
    /// Panics where a row is not there, and where the numbers of ids and of results differ.
    fn dots_i8(self, query: &[i8], rows: &[i8], stride: usize, ids: &[u32], dots: &mut [i32]);

    /// See [`masked_sums`](crate::codes::masked_sums).
    fn masked_sums(self, values: &[i8], codes: &[u8], slots: &[u8], sums: &mut [i32]);
}

/// The inner product of two vectors of bytes, exact below 130,000 components. Panics when the
/// lengths differ.
#[inline]
pub fn dot_i8(a: &[i8], b: &[i8]) -> i32 {
    assert_eq!(a.len(), b.len(), "vectors of different length");
    code_level().dot_i8(a, b)
}

/// What [`ByteKernels::dots_i8`] relies on.
#[inline]
pub(crate) fn check_dots(query: &[i8], rows: &[i8], stride: usize, ids: &[u32], dots: &[i32]) {
    assert_eq!(ids.len(), dots.len(), "as many results as ids");
    assert!(query.len() <= stride, "a query longer than a row");
    let rows = rows.len() / stride.max(1);
    assert!(ids.iter().all(|id| (*id as usize) < rows), "a row that is not there");
}

/// A cache line.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
struct Line([i8; LINE]);

const LINE: usize = 64;

/// The bytes of a row's two factors.
const FACTORS: usize = 8;

/// The rows.
#[derive(Debug)]
pub struct ByteRows {
    dims: usize,
    /// Lines a row.
    lines: usize,
    all: Vec<Line>,
}

/// The bytes of these lines.
fn flat(lines: &[Line]) -> &[i8] {
    // SAFETY: a line is 64 bytes without padding, and bytes need no alignment.
    unsafe { std::slice::from_raw_parts(lines.as_ptr().cast(), lines.len() * LINE) }
}

fn flat_mut(lines: &mut [Line]) -> &mut [i8] {
    // SAFETY: as above, and the lines are borrowed as long as the bytes.
    unsafe { std::slice::from_raw_parts_mut(lines.as_mut_ptr().cast(), lines.len() * LINE) }
}

impl ByteRows {
    /// The bytes of a row of `dims` components.
    pub const fn row_bytes(dims: usize) -> usize {
        (dims + FACTORS).next_multiple_of(LINE)
    }

    /// So many rows of zeros.
    pub fn new(dims: usize, count: usize) -> Result<Self, TryReserveError> {
        let lines = Self::row_bytes(dims) / LINE;
        let mut all = Vec::new();
        all.try_reserve_exact(lines.saturating_mul(count))?;
        all.resize(lines * count, Line([0; LINE]));
        Ok(Self { dims, lines, all })
    }

    /// The rows for writing, `grain` at a time.
    pub fn chunks_mut(&mut self, grain: usize) -> impl Iterator<Item = ByteRowsMut<'_>> {
        let Self { dims, lines, all } = self;
        all.chunks_mut(grain * *lines).map(|all| ByteRowsMut { dims: *dims, lines: *lines, all })
    }

    /// A row's components.
    #[inline]
    pub fn row(&self, id: u32) -> &[i8] {
        let at = id as usize * self.lines;
        &flat(&self.all[at..at + self.lines])[..self.dims]
    }

    /// A row's factors.
    #[inline]
    pub fn factors(&self, id: u32) -> [f32; 2] {
        let at = id as usize * self.lines;
        let row = flat(&self.all[at..at + self.lines]);
        let [a, b, c, d, e, f, g, h] = *row[self.dims..].first_chunk::<FACTORS>().expect("room");
        [[a, b, c, d], [e, f, g, h]].map(|x| f32::from_ne_bytes(x.map(|byte| byte as u8)))
    }

    /// The inner product of two rows.
    #[inline]
    pub fn dot(&self, a: u32, b: u32) -> i32 {
        code_level().dot_i8(self.row(a), self.row(b))
    }

    /// The inner products of a row with others.
    #[inline]
    pub fn dots(&self, a: u32, others: &[u32], dots: &mut [i32]) {
        let stride = self.lines * LINE;
        code_level().dots_i8(self.row(a), flat(&self.all), stride, others, dots);
    }
}

/// Some rows, for writing.
#[derive(Debug)]
pub struct ByteRowsMut<'a> {
    dims: usize,
    lines: usize,
    all: &'a mut [Line],
}

impl ByteRowsMut<'_> {
    /// How many there are.
    pub fn count(&self) -> usize {
        self.all.len() / self.lines
    }

    /// Writes a row: `fill` its components, and returns its factors.
    pub fn write(&mut self, at: usize, fill: impl FnOnce(&mut [i8]) -> [f32; 2]) {
        let row = flat_mut(&mut self.all[at * self.lines..(at + 1) * self.lines]);
        let (components, rest) = row.split_at_mut(self.dims);
        let factors = fill(components);
        for (to, byte) in rest.iter_mut().zip(factors.map(f32::to_ne_bytes).as_flattened()) {
            *to = *byte as i8;
        }
    }
}
