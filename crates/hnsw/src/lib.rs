//! The graph of pgclip's index: HNSW (arXiv 1603.09320) in records that carry one-bit codes of
//! their neighbours, so that expanding an element touches one page.
//!
//! Nothing here knows PostgreSQL. [`format`](mod@format) is the bytes of records, and [`Space`] measures. [`store`] is what
//! the algorithms ask of storage, with one in memory to try them with. `walk` has the ways through the
//! graph; [`search`], [`change`] (insert and vacuum) and [`build`] (a whole graph in memory, by threads,
//! handed out as finished pages) are the algorithms. [`filter`] encodes filter values and decides which
//! rows pass. [`check`](mod@check) says whether a graph is sound, [`recall`] what a search of it finds;
//! [`tuning`] has the numbers that were chosen.

#![forbid(unsafe_code)]

pub mod build;
pub mod change;
pub mod check;
pub mod error;
pub mod filter;
pub mod format;
pub mod recall;
pub mod search;
pub mod space;
pub mod store;
pub mod tuning;
mod walk;

pub use build::threads::{Control, Host, Quiet, Stopped};
pub use build::{BuildError, BuildOptions, Builder, NoMemory, Pages, Pushed};
pub use change::insert::{InsertOptions, Inserted, NewRow, insert};
pub use change::rows::{RowsLeft, mark_dead, remove_rows};
pub use change::select::level;
pub use change::tree::{Forest, TooMany, reconnect};
pub use change::vacuum::{Vacuumed, free, move_entry, repair, vacuum};
pub use check::{Fault, Report, check};
pub use error::{Corrupt, Error, LayoutError};
pub use format::id::{Id, Tid};
pub use format::layout::{Layout, Metric, Placement};
pub use format::record::{Element, Values};
pub use recall::{Calibration, Truth};
pub use search::{Cut, Order, Row, Scan, ScanOptions, ScanStats};
pub use space::{Distance, Moments, Query, Space};
pub use store::{Entry, Store, StoreMut};
