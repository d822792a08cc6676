//! A row's primary key as JSON: what rows are known by where they outlive a statement, since a ctid
//! changes with every update. In a file of its own, because errors, the queue and the backfill must
//! write and read keys alike.
//!
//! Numbers and truth values are written as JSON has them, all else as a string: the value's text, which
//! its type's input function reads again. JSON's own form of an array, a row or a document is not it.

use std::collections::HashMap;

use pgrx::pg_sys;
use pgrx::pg_sys::errcodes::PgSqlErrorCode as Code;
use serde_json::value::RawValue;

use crate::catalog::extension::{base_type, qualified_type, quoted};
use crate::catalog::read;
use crate::error::Failure;

/// Types whose values JSON has.
const PLAIN: [pg_sys::Oid; 7] = [
    pg_sys::BOOLOID,
    pg_sys::INT2OID,
    pg_sys::INT4OID,
    pg_sys::INT8OID,
    pg_sys::FLOAT4OID,
    pg_sys::FLOAT8OID,
    pg_sys::NUMERICOID,
];

/// The primary key of a relation.
#[derive(Clone, Debug)]
pub struct Key {
    columns: Vec<Column>,
}

#[derive(Clone, Debug)]
struct Column {
    name: String,
    /// Its type, of a domain the one below: qualified and quoted for SQL.
    type_name: String,
    /// Whether JSON has such values.
    plain: bool,
    /// The equality of the key's index, as SQL writes it.
    equals: String,
    /// The type that the equality takes, or the column's where it takes any of a kind. An operator for a
    /// domain would come first as the one that fits exactly.
    taken_as: String,
}

impl Key {
    /// The primary key, if there is one.
    pub fn of(relation: pg_sys::Oid) -> Result<Option<Self>, Failure> {
        const QUERY: &str = "SELECT a.attname::pg_catalog.text, a.atttypid, \
             pg_catalog.format('OPERATOR(%I.%s)', pn.nspname, o.oprname), \
             CASE WHEN it.typtype OPERATOR(pg_catalog.<>) 'p'::pg_catalog.\"char\" \
             THEN pg_catalog.format('%I.%I', itn.nspname, it.typname) END \
             FROM pg_catalog.pg_index AS i, \
             ROWS FROM (pg_catalog.unnest(i.indkey::pg_catalog.int2[]), \
             pg_catalog.unnest(i.indclass::pg_catalog.oid[])) \
             WITH ORDINALITY AS k (number, class, position), \
             pg_catalog.pg_attribute AS a, pg_catalog.pg_opclass AS c, pg_catalog.pg_amop AS m, pg_catalog.pg_operator AS o, \
             pg_catalog.pg_namespace AS pn, pg_catalog.pg_type AS it, pg_catalog.pg_namespace AS itn \
             WHERE i.indrelid OPERATOR(pg_catalog.=) $1 AND i.indisprimary \
             AND k.position OPERATOR(pg_catalog.<=) i.indnkeyatts \
             AND a.attrelid OPERATOR(pg_catalog.=) $1 AND a.attnum OPERATOR(pg_catalog.=) k.number \
             AND c.oid OPERATOR(pg_catalog.=) k.class \
             AND m.amopfamily OPERATOR(pg_catalog.=) c.opcfamily \
             AND m.amoplefttype OPERATOR(pg_catalog.=) c.opcintype \
             AND m.amoprighttype OPERATOR(pg_catalog.=) c.opcintype \
             AND m.amopstrategy OPERATOR(pg_catalog.=) 3 \
             AND o.oid OPERATOR(pg_catalog.=) m.amopopr \
             AND pn.oid OPERATOR(pg_catalog.=) o.oprnamespace \
             AND it.oid OPERATOR(pg_catalog.=) o.oprleft \
             AND itn.oid OPERATOR(pg_catalog.=) it.typnamespace ORDER BY k.position";
        let columns = read::all(QUERY, &[relation.into()], |row| {
            let base = base_type(row.get(2)?.unwrap_or(pg_sys::InvalidOid));
            let type_name = qualified_type(base);
            Ok(Column {
                name: row.get(1)?.unwrap_or_default(),
                plain: PLAIN.contains(&base),
                equals: row.get(3)?.unwrap_or_default(),
                taken_as: row.get(4)?.unwrap_or_else(|| type_name.clone()),
                type_name,
            })
        })?;
        Ok((!columns.is_empty()).then_some(Self { columns }))
    }

    /// The columns' names.
    pub fn columns(&self) -> impl Iterator<Item = &str> {
        self.columns.iter().map(|column| column.name.as_str())
    }

    /// An expression that makes the key's JSON, as text, from a row called `t`.
    pub fn of_row(&self) -> String {
        let pairs: Vec<String> = (self.columns.iter())
            .map(|column| {
                let (key, name) = (pgrx::spi::quote_literal(&column.name), quoted(&column.name));
                match column.plain {
                    true => format!("{key}, t.{name}"),
                    false => format!("{key}, pg_catalog.format('%s'::pg_catalog.text, t.{name})"),
                }
            })
            .collect();
        format!("pg_catalog.jsonb_build_object({})::pg_catalog.text", pairs.join(", "))
    }

    /// Whether a key was written when the columns had their present names.
    pub fn fits(&self, json: &str) -> bool {
        // No numbers: those of a numeric column may be larger than any float.
        let parsed: Option<HashMap<String, Box<RawValue>>> = serde_json::from_str(json).ok();
        parsed.is_some_and(|key| self.columns().all(|column| key.contains_key(column)))
    }

    /// A condition on a row called `t`, where `json` is an expression of type jsonb. The text is cast from
    /// varchar, so that the type's input function reads it whatever cast from text a user made.
    pub fn matches(&self, json: &str) -> String {
        let parts: Vec<String> = (self.columns.iter())
            .map(|column| {
                format!(
                    "t.{name}::{taken_as} {equals} ({json} OPERATOR(pg_catalog.->>) \
                     {key}::pg_catalog.text)::pg_catalog.varchar::{kind}::{taken_as}",
                    name = quoted(&column.name),
                    taken_as = column.taken_as,
                    equals = column.equals,
                    key = pgrx::spi::quote_literal(&column.name),
                    kind = column.type_name
                )
            })
            .collect();
        parts.join(" AND ")
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
