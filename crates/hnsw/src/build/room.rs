//! Memory for a build, asked for so that its lack is an error. Its own file because every array that
//! grows with the number of rows gets its memory here: a process that is out of memory would be
//! ended otherwise, and with it, in a server, everybody's.

use crate::build::threads::Stopped;

/// There was no memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no memory for {bytes} bytes")]
pub struct NoMemory {
    /// What was asked for.
    pub bytes: usize,
}

/// Why a build ended without a graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BuildError {
    /// It was asked to stop.
    #[error(transparent)]
    Stopped(#[from] Stopped),
    /// There was no memory.
    #[error(transparent)]
    NoMemory(#[from] NoMemory),
}

/// Makes room for `more` items, and no more.
pub(super) fn reserve<T>(list: &mut Vec<T>, more: usize) -> Result<(), NoMemory> {
    let bytes = more.saturating_mul(size_of::<T>());
    list.try_reserve_exact(more).map_err(|_| NoMemory { bytes })
}

/// Makes room for `more` items where there is none, and for an eighth more than there are.
#[inline]
pub(super) fn grow<T>(list: &mut Vec<T>, more: usize) -> Result<(), NoMemory> {
    if list.capacity() - list.len() >= more {
        return Ok(());
    }
    reserve(list, more.max(list.len() / 8)).or_else(|_| reserve(list, more))
}

/// So many items, each made by `make`.
pub(super) fn filled<T>(count: usize, make: impl FnMut() -> T) -> Result<Vec<T>, NoMemory> {
    let mut list = Vec::new();
    reserve(&mut list, count)?;
    list.resize_with(count, make);
    Ok(list)
}
