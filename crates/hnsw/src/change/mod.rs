//! What changes a graph: [`insert`] with its links ([`link`], [`select`], [`layer`]), [`rows`] that come and
//! go, [`vacuum`], and the [`tree`] that holds the base layer together meanwhile.

pub mod insert;
mod layer;
mod link;
pub mod rows;
pub(crate) mod select;
pub mod tree;
pub mod vacuum;
