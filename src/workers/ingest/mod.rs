//! The worker that encodes queued rows: one a database that has some, started when a transaction that
//! queued them commits, ended when nothing is left.
//!
//! [`worker`] decides what is done when, by [`turns`]; [`entries`] is the queue, [`step`] the work, and
//! both run in [`transaction`]s with a [`limit`]. [`tuning`] has the figures.

mod entries;
mod limit;
mod step;
mod transaction;
mod tuning;
mod turns;
mod worker;
