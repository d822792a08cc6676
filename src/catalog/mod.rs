//! The server's catalog and the extension's own tables: where the extension is installed
//! ([`extension`]), whose rights a piece of work has ([`identity`]), what a role may do ([`rights`]), how
//! statements of the extension's own are run ([`read`]), and what a dump carries ([`dump`]).

mod dump;
pub mod extension;
pub mod identity;
pub mod read;
pub mod rights;
