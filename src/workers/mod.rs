//! The server's processes that are the extension's own: the [`supervisor`] of the encoder, which starts
//! its [`process`], [`watch`]es it and brings workers back ([`revival`]), and the workers that encode
//! queued rows ([`ingest`]). The server enters them by the names of their functions; backends start them
//! from below (`encoder::launch`, `ingest::launch`).

mod ingest;
mod process;
mod revival;
mod supervisor;
mod watch;
