//! The index access method `clip_hnsw`: the graph of `pgclip-hnsw` on PostgreSQL's pages.
//!
//! [`handler`] lists what the server calls, a file a phase: [`build`], [`insert`], [`scan`],
//! [`vacuum`], [`cost`]. Below them, [`meta`] and [`page`] are the bytes, [`locked`] is one page in
//! the buffer manager, [`store`] reads and changes records on them, [`open`] knows an index's vector space, and
//! [`columns`] what its columns are. [`elements`] goes through all of an index. [`check`] has the SQL functions that look into one, [`recall`] what its
//! searches find.

mod build;
mod check;
mod columns;
mod cost;
mod elements;
mod error;
mod filter;
mod handler;
mod insert;
mod locked;
mod meta;
mod open;
mod options;
mod page;
mod places;
mod recall;
mod scan;
mod store;
mod vacuum;

/// Called once when a server process loads the library.
pub fn init() {
    options::init();
}
