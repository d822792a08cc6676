//! Ingest: what makes a column of embeddings follow a column of images.
//!
//! `clip_attach` ([`attach`]) puts row triggers on a table ([`binding`] reads them back). They
//! ([`trigger`]) hand rows to a [`queue`] of the backend, which encodes them in batches,
//! several under way at once, and [`write`]s the embeddings by ctid before the statement ends, with
//! what their pictures show into [`attributes`] columns.

pub mod attach;
pub mod attributes;
mod backfill;
pub mod background;
pub mod binding;
mod errors;
mod fill;
mod image;
pub mod key;
mod later;
mod queue;
pub mod reencode;
mod rights;
mod row;
mod standing;
mod trigger;
mod write;
