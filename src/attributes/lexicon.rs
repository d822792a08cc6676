//! The values of attributes as `clip_attributes` has them at this moment: for the words of a sentence,
//! and for what zero-shot classification tells apart in a picture.

use pgclip_query::attributes::{self, Value};
use pgrx::iter::TableIterator;
use pgrx::{name, pg_extern};

use crate::catalog::extension::Extension;
use crate::catalog::read;
use crate::error::Failure;
use crate::limits;

/// The values of a domain's attributes, the user's own before the built-in ones. A user's row stands
/// in for the built-in row of the same value.
pub fn values(extension: &Extension, domain: &str) -> Result<Vec<Value>, Failure> {
    let query = format!(
        "SELECT t.attribute, t.value, t.words, t.templates FROM {table} AS t \
         WHERE t.domain OPERATOR(pg_catalog.=) $1 AND t.enabled \
         AND NOT (t.builtin AND EXISTS (SELECT FROM {table} AS u \
         WHERE u.domain OPERATOR(pg_catalog.=) t.domain \
         AND u.attribute OPERATOR(pg_catalog.=) t.attribute \
         AND u.value OPERATOR(pg_catalog.=) t.value AND NOT u.builtin)) \
         ORDER BY t.builtin, t.attribute COLLATE pg_catalog.\"C\", t.value COLLATE pg_catalog.\"C\"",
        table = extension.relation("clip_attributes")
    );
    limits::option("domain", Some(domain))?;
    let values = read::all(&query, &[domain.into()], |row| {
        Ok(Value {
            domain: domain.to_owned(),
            attribute: row.get(1)?.unwrap_or_default(),
            value: row.get(2)?.unwrap_or_default(),
            words: row.get(3)?.unwrap_or_default(),
            templates: row.get(4)?.unwrap_or_default(),
        })
    })?;
    let words = values.iter().map(|value| 1 + value.words.len()).sum();
    limits::check(
        &format!("words of domain \"{domain}\" in clip_attributes"),
        words,
        limits::WORDS,
    )?;
    Ok(values)
}

/// The domains that have attributes.
pub fn domains(extension: &Extension) -> Result<Vec<String>, Failure> {
    names(extension, "domain")
}

/// The attributes of all domains, by name.
pub fn attributes(extension: &Extension) -> Result<Vec<String>, Failure> {
    names(extension, "attribute")
}

/// What a column of `clip_attributes` holds, each value once.
fn names(extension: &Extension, column: &str) -> Result<Vec<String>, Failure> {
    let table = extension.relation("clip_attributes");
    let query = format!(
        "SELECT DISTINCT t.{column} COLLATE pg_catalog.\"C\" FROM {table} AS t WHERE t.enabled ORDER BY 1"
    );
    read::all(&query, &[], |row| Ok(row.get(1)?.unwrap_or_default()))
}

/// The rows that the install script puts into `clip_attributes`.
#[pg_extern(sql = false)]
#[allow(clippy::type_complexity)]
fn clip_builtin_attributes() -> TableIterator<
    'static,
    (
        name!(domain, String),
        name!(attribute, String),
        name!(value, String),
        name!(words, Vec<String>),
        name!(templates, Vec<String>),
    ),
> {
    let rows = attributes::builtin().into_iter();
    TableIterator::new(rows.map(|v| (v.domain, v.attribute, v.value, v.words, v.templates)))
}
