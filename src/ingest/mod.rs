//! Ingest: what makes a column of embeddings follow a column of images.
//!
//! `clip_attach` ([`attach`]) puts row triggers on a table. They ([`trigger`]) gather rows in a
//! [`batch`], which are encoded several batches at once, and [`write`] the embeddings by ctid before the
//! statement ends; or they put them into the [`queue`] of the worker that [`launch`] starts.
//! [`backfill`] and [`reencode`] encode what is there already.

mod attach;
mod backfill;
mod batch;
mod commits;
pub mod errors;
pub mod fill;
mod image;
pub mod key;
pub mod launch;
mod queue;
pub mod reencode;
mod rights;
mod row;
mod standing;
mod trigger;
pub mod write;
