//! What goes over the wire in PostgreSQL's binary formats: vectors out, EXPLAIN's JSON in. Both
//! extensions' types have the same bytes, so one encoding serves both.

use std::error::Error;

pub use pgclip_testkit::wire::Vector;
use postgres::types::{FromSql, Type};

/// A value of type `json`.
#[derive(Debug)]
pub struct Json(pub serde_json::Value);

impl<'a> FromSql<'a> for Json {
    fn from_sql(_type: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Self(serde_json::from_slice(raw)?))
    }

    fn accepts(kind: &Type) -> bool {
        *kind == Type::JSON
    }
}
