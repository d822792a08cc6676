//! A row's primary key as JSON: what rows are known by where they outlive a statement, since a ctid
//! changes with every update. In a file of its own, because all must write keys alike.

use pgrx::pg_sys::errcodes::PgSqlErrorCode as Code;
use pgrx::{Spi, pg_sys};

use crate::encode::failure::Failure;
use crate::extension::quoted;

/// The primary key of a relation: its columns' names.
#[derive(Clone, Debug)]
pub struct Key {
    columns: Vec<String>,
}

impl Key {
    /// The primary key, if there is one.
    pub fn of(relation: pg_sys::Oid) -> Result<Option<Self>, Failure> {
        const QUERY: &str = "SELECT pg_catalog.array_agg(a.attname::pg_catalog.text ORDER BY k.position) \
             FROM pg_catalog.pg_index AS i, \
             pg_catalog.unnest(i.indkey::pg_catalog.int2[]) WITH ORDINALITY AS k (number, position), \
             pg_catalog.pg_attribute AS a \
             WHERE i.indrelid OPERATOR(pg_catalog.=) $1 AND i.indisprimary \
             AND k.position OPERATOR(pg_catalog.<=) i.indnkeyatts \
             AND a.attrelid OPERATOR(pg_catalog.=) $1 AND a.attnum OPERATOR(pg_catalog.=) k.number";
        let columns =
            Spi::get_one_with_args::<Vec<String>>(QUERY, &[relation.into()]).map_err(|error| {
                Failure::new(Code::ERRCODE_INTERNAL_ERROR, "cannot read a table's primary key")
                    .detail(error.to_string())
            })?;
        Ok(columns.map(|columns| Self { columns }))
    }

    /// The columns' names.
    pub fn columns(&self) -> impl Iterator<Item = &str> {
        self.columns.iter().map(String::as_str)
    }

    /// An expression that makes the key's JSON, as text, from a row called `t`.
    pub fn of_row(&self) -> String {
        let pairs: Vec<String> = (self.columns.iter())
            .map(|column| format!("{}, t.{}", pgrx::spi::quote_literal(column), quoted(column)))
            .collect();
        format!("pg_catalog.jsonb_build_object({})::pg_catalog.text", pairs.join(", "))
    }
}

/// Where rows must be known by their key and a table has none.
pub fn missing(table: &str) -> Failure {
    Failure::new(
        Code::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
        format!("table {table} has no primary key"),
    )
    .detail("Rows that fail or wait are known by it.")
    .hint("Add one with ALTER TABLE ... ADD PRIMARY KEY.")
}
