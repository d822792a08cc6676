//! What can go wrong here, apart from the store's own errors, which are passed through.

use crate::format::id::Id;
use crate::format::layout::{MAX_COLUMNS, MAX_M, MIN_M};

/// An error of a walk over the graph or of a change to it; `E` is the store's.
#[derive(Debug, thiserror::Error)]
pub enum Error<E> {
    /// The store failed, or was interrupted.
    #[error(transparent)]
    Store(E),
    /// A record does not hold what its place in the graph says.
    #[error("the index record at block {}, item {} is damaged: {what}", id.block, id.item)]
    Corrupt {
        /// Where it lies.
        id: Id,
        /// What is wrong with it.
        what: &'static str,
    },
}

/// A record that could not be read as what it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Corrupt(pub &'static str);

impl Corrupt {
    /// The error, with the record's place.
    pub fn at<E>(self, id: Id) -> Error<E> {
        Error::Corrupt { id, what: self.0 }
    }
}

/// Options that no record layout can serve.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LayoutError {
    /// `m` out of range.
    #[error("m must be between {MIN_M} and {MAX_M}, not {m}")]
    M {
        /// The option.
        m: usize,
    },
    /// No dimensions at all.
    #[error("vectors without dimensions cannot be indexed")]
    NoDimensions,
    /// Too many filter columns.
    #[error("at most {MAX_COLUMNS} filter columns are possible, not {columns}")]
    Columns {
        /// How many there are.
        columns: usize,
    },
    /// The vector alone does not fit a page beside its neighbours' ids.
    #[error(
        "vectors of {dims} dimensions with m = {m} and {columns} filter columns do not fit a page: \
         at most {most} dimensions do"
    )]
    TooWide {
        /// The vectors' dimensions.
        dims: usize,
        /// The option `m`.
        m: usize,
        /// The number of filter columns.
        columns: usize,
        /// The widest vector that fits with this `m` and these columns.
        most: usize,
    },
}
