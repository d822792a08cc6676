//! The table `clip_error`: which rows have no embedding because their image could not be encoded.
//! It is written with the rights of the extension's owner, whoever writes the rows.

use pgrx::pg_sys::errcodes::PgSqlErrorCode as Code;
use pgrx::{Spi, pg_sys};

use super::standing::Pages;
use crate::catalog::extension::Extension;
use crate::error::Failure;

/// The entries of one attached column.
#[derive(Clone, Copy, Debug)]
pub struct Errors<'a> {
    pub extension: &'a Extension,
    pub relation: pg_sys::Oid,
    pub embedding: &'a str,
}

impl Errors<'_> {
    fn table(&self) -> String {
        self.extension.relation("clip_error")
    }

    /// Notes, or notes anew, why a row has no embedding.
    pub fn record(&self, key: &str, failure: &Failure, model: &str) -> Result<(), Failure> {
        let query = format!(
            "INSERT INTO {} (relation, embedding, key, reason, sqlstate, model) \
             VALUES ($1::pg_catalog.regclass, $2::pg_catalog.name, $3::pg_catalog.jsonb, $4, $5, $6) \
             ON CONFLICT (relation, embedding, pg_catalog.md5(key::pg_catalog.text)) DO UPDATE \
             SET reason = excluded.reason, sqlstate = excluded.sqlstate, model = excluded.model, \
             failed_at = excluded.failed_at",
            self.table()
        );
        let _owner = self.extension.as_owner();
        Spi::run_with_args(
            &query,
            &[
                self.relation.into(),
                self.embedding.into(),
                key.into(),
                failure.message.as_str().into(),
                sqlstate(failure.code).as_str().into(),
                model.into(),
            ],
        )
        .map_err(broken)
    }

    /// Whether there is any entry.
    pub fn any(&self) -> Result<bool, Failure> {
        let query = format!("SELECT EXISTS (SELECT FROM {} WHERE {OURS})", self.table());
        let _owner = self.extension.as_owner();
        let found =
            Spi::get_one_with_args::<bool>(&query, &[self.relation.into(), self.embedding.into()]);
        found.map(Option::unwrap_or_default).map_err(broken)
    }

    /// Which of these keys have an entry.
    pub fn among(&self, keys: &[String]) -> Result<Vec<String>, Failure> {
        let query = format!(
            "SELECT pg_catalog.array_agg(key::pg_catalog.text) FROM {} WHERE {OURS} AND {KEYS}",
            self.table()
        );
        let _owner = self.extension.as_owner();
        let found = Spi::get_one_with_args::<Vec<String>>(
            &query,
            &[self.relation.into(), self.embedding.into(), keys.to_vec().into()],
        );
        found.map(Option::unwrap_or_default).map_err(broken)
    }

    /// Removes entries of rows that are gone, or have an embedding or no image by now.
    pub fn prune(&self) -> Result<(), Failure> {
        let mut pages = Pages::of(self.extension, self.relation, self.embedding);
        while let Some(page) = pages.next()? {
            self.clear(&page.gone())?;
        }
        Ok(())
    }

    /// Removes the entries of rows that have an embedding now, or are gone.
    pub fn clear(&self, keys: &[String]) -> Result<(), Failure> {
        let query = format!("DELETE FROM {} WHERE {OURS} AND {KEYS}", self.table());
        let _owner = self.extension.as_owner();
        Spi::run_with_args(
            &query,
            &[self.relation.into(), self.embedding.into(), keys.to_vec().into()],
        )
        .map_err(broken)
    }
}

const OURS: &str = "relation::pg_catalog.oid OPERATOR(pg_catalog.=) $1 \
    AND embedding OPERATOR(pg_catalog.=) $2::pg_catalog.name";
const KEYS: &str = "pg_catalog.md5(key::pg_catalog.text) OPERATOR(pg_catalog.=) ANY \
    (ARRAY(SELECT pg_catalog.md5(k) FROM pg_catalog.unnest($3::pg_catalog.text[]) AS k))";

/// Removes all entries of a column, of its table's partitions as well, and those of tables that are gone.
pub fn forget(
    extension: &Extension,
    relation: pg_sys::Oid,
    embedding: &str,
) -> Result<(), Failure> {
    let query = format!(
        "DELETE FROM {} AS e WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_class AS c \
         WHERE c.oid OPERATOR(pg_catalog.=) e.relation::pg_catalog.oid) \
         OR embedding OPERATOR(pg_catalog.=) $2::pg_catalog.name \
         AND (relation::pg_catalog.oid OPERATOR(pg_catalog.=) $1 \
         OR relation::pg_catalog.oid OPERATOR(pg_catalog.=) ANY (ARRAY( \
         SELECT relid::pg_catalog.oid FROM pg_catalog.pg_partition_tree($1::pg_catalog.regclass))))",
        extension.relation("clip_error")
    );
    let _owner = extension.as_owner();
    Spi::run_with_args(&query, &[relation.into(), embedding.into()]).map_err(broken)
}

/// The five characters of an SQLSTATE.
pub fn sqlstate(code: Code) -> String {
    let code = code as i32;
    (0..5).map(|at| char::from((((code >> (6 * at)) & 0x3f) as u8) + b'0')).collect()
}

fn broken(error: pgrx::spi::Error) -> Failure {
    Failure::new(Code::ERRCODE_INTERNAL_ERROR, "cannot keep the table of errors")
        .detail(error.to_string())
}
