//! The graph of pgclip's index: HNSW (arXiv 1603.09320) in records that carry one-bit codes of
//! their neighbours, so that expanding an element touches one page.
//!
//! Nothing here knows PostgreSQL. [`layout`] is the byte map of a record, [`record`], [`edges`],
//! [`upper`] and [`overflow`] read and change one; [`Space`] measures. [`store`] is what the algorithms ask of
//! storage, and [`search`], [`insert`](mod@insert) and [`repair`](mod@repair) are the algorithms, a
//! file a phase; [`tree`] keeps every element within reach. [`filter`] encodes filter values and decides which rows pass.
//! [`build`] makes a whole graph in memory, with threads, and hands out finished pages;
//! [`check`](mod@check) says whether a graph is sound. [`memory`] is a store to try all this with.

#![forbid(unsafe_code)]

pub mod build;
pub mod check;
mod descent;
pub mod edges;
pub mod error;
pub mod filter;
pub mod id;
pub mod insert;
mod layer;
pub mod layout;
mod link;
pub mod memory;
pub mod overflow;
mod pool;
pub mod record;
pub mod repair;
pub mod rows;
pub mod search;
mod select;
pub mod space;
pub mod store;
pub mod threads;
mod track;
pub mod tree;
pub mod upper;
mod visited;
mod walk;

pub use build::{BuildError, BuildOptions, Builder, NoMemory, Pages, Pushed};
pub use check::{Fault, Report, check};
pub use error::{Corrupt, Error, LayoutError};
pub use id::{Id, Tid};
pub use insert::{InsertOptions, Inserted, NewRow, insert};
pub use layout::{Layout, Metric, Placement};
pub use record::{Element, Values};
pub use repair::{Vacuumed, free, move_entry, repair, vacuum};
pub use rows::{RowsLeft, mark_dead, remove_rows};
pub use search::{Cut, Order, Row, Scan, ScanOptions, ScanStats};
pub use select::level;
pub use space::{Distance, Moments, Query, Space};
pub use store::{Entry, Store, StoreMut};
pub use threads::{Control, Host, Quiet, Stopped};
pub use tree::{Forest, TooMany, reconnect};
