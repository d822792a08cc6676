//! Who may have a table filled by `clip_backfill`: who could do the same by hand.

use pgrx::pg_sys;
use pgrx::pg_sys::errcodes::PgSqlErrorCode as Code;

use crate::catalog::read;
use crate::error::Failure;

/// The owner, or who may read the image and write the embedding of every row, may call. Returns the
/// embedding column's number.
pub fn check_rights(table: pg_sys::Oid, embedding: &str) -> Result<i16, Failure> {
    let query = "SELECT a.attnum, \
         pg_catalog.has_table_privilege(c.oid, 'SELECT') \
         AND pg_catalog.has_column_privilege(c.oid, a.attnum, 'UPDATE') \
         AND NOT pg_catalog.row_security_active(c.oid), \
         c.oid::pg_catalog.regclass::pg_catalog.text \
         FROM pg_catalog.pg_class AS c LEFT JOIN pg_catalog.pg_attribute AS a \
         ON a.attrelid OPERATOR(pg_catalog.=) c.oid AND a.attname OPERATOR(pg_catalog.=) $2 \
         AND NOT a.attisdropped WHERE c.oid OPERATOR(pg_catalog.=) $1";
    let arguments = [table.into(), embedding.into()];
    let found = read::all(query, &arguments, |row| {
        Ok((row.get::<i16>(1)?, row.get::<bool>(2)?, row.get::<String>(3)?))
    })?;
    match found.into_iter().next() {
        None => Err(Failure::new(
            Code::ERRCODE_UNDEFINED_TABLE,
            format!("there is no table with OID {}", table.to_u32()),
        )),
        Some((None, _, name)) => Err(Failure::new(
            Code::ERRCODE_UNDEFINED_COLUMN,
            format!("table {} has no column \"{embedding}\"", name.unwrap_or_default()),
        )
        .hint("Name the column: CALL clip_backfill('photos', embedding => 'vector').")),
        Some((Some(_), Some(false) | None, name)) => Err(Failure::new(
            Code::ERRCODE_INSUFFICIENT_PRIVILEGE,
            format!("permission denied to fill table {}", name.unwrap_or_default()),
        )
        .detail(
            "It takes SELECT on the table, UPDATE on the embedding, and no row-level security.",
        )),
        Some((Some(column), Some(true), _)) => Ok(column),
    }
}

/// The same for the columns of attributes, by their quoted names.
pub fn check_attributes(table: pg_sys::Oid, columns: &[String]) -> Result<(), Failure> {
    let query = "SELECT pg_catalog.string_agg(c, ', ') FROM pg_catalog.unnest($2::pg_catalog.text[]) AS c \
         WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_attribute AS a \
         WHERE a.attrelid OPERATOR(pg_catalog.=) $1 \
         AND pg_catalog.quote_ident(a.attname::pg_catalog.text) OPERATOR(pg_catalog.=) c \
         AND pg_catalog.has_column_privilege($1, a.attnum, 'UPDATE'))";
    match read::one::<String>(query, &[table.into(), columns.to_vec().into()])? {
        None => Ok(()),
        Some(columns) => Err(Failure::new(
            Code::ERRCODE_INSUFFICIENT_PRIVILEGE,
            format!("permission denied to fill {columns}"),
        )
        .detail("Columns of attributes are filled beside the embedding.")
        .hint("It takes UPDATE on them.")),
    }
}
