//! `CALL clip_backfill(table)`: encodes what an attached table still lacks, a batch a transaction. It
//! [`walk`]s the table, tells its [`progress`], and can be cancelled at any moment and called again.

mod progress;
mod walk;

use pgrx::pg_sys::errcodes::PgSqlErrorCode as Code;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::{pg_extern, pg_sys};

use self::progress::{ColumnLock, Progress};
use self::walk::{Part, Walk};
use super::commits::{commit, expect_commits};
use super::rights::{check_attributes, check_rights};
use crate::catalog::extension::Extension;
use crate::catalog::read;
use crate::error::Failure;
use crate::limits;

#[pg_extern(sql = false)]
fn clip_backfill(
    table: Option<pg_sys::Oid>,
    batch: Option<i32>,
    embedding: Option<&str>,
    retry: Option<bool>,
    fcinfo: pg_sys::FunctionCallInfo,
) -> Result<(), ErrorReport> {
    let (Some(table), Some(batch), Some(embedding), Some(retry)) = (table, batch, embedding, retry)
    else {
        return Err(Failure::new(
            Code::ERRCODE_NULL_VALUE_NOT_ALLOWED,
            "the arguments of clip_backfill must not be NULL",
        )
        .hint("Leave out what has a default: CALL clip_backfill('photos').")
        .into());
    };
    let batch = rows_of_batch(batch)?;
    limits::option("embedding", Some(embedding))?;
    // SAFETY: a call's context is NULL or a node, and the tag says which.
    unsafe { expect_commits(fcinfo, "clip_backfill")? };
    let extension = Extension::of_call(fcinfo);
    run(&extension, table, embedding, batch, retry)?;
    Ok(())
}

/// Checks the argument `batch`.
pub fn rows_of_batch(batch: i32) -> Result<usize, Failure> {
    match batch {
        1..=10_000 => Ok(batch as usize),
        _ => Err(Failure::new(
            Code::ERRCODE_INVALID_PARAMETER_VALUE,
            format!("invalid value for batch: {batch}"),
        )
        .hint("A batch has 1 to 10000 rows.")),
    }
}

/// The whole of a backfill; commits the transaction that it is called in.
pub fn run(
    extension: &Extension,
    table: pg_sys::Oid,
    embedding: &str,
    batch: usize,
    retry: bool,
) -> Result<(), Failure> {
    let column = check_rights(table, embedding)?;
    let _lock = ColumnLock::take(table, column)?;
    let leaves = leaves(table)?;
    let mut total = 0;
    for leaf in &leaves {
        let Some(part) = Part::open(extension, *leaf, embedding)? else { continue };
        check_attributes(table, part.target.attribute_columns())?;
        total += part.count()?;
    }
    let progress = Progress { extension, table, embedding };
    progress.begin(column, total)?;
    commit();
    for leaf in leaves {
        let mut walk = Walk { extension, leaf, embedding, batch, retry, progress: &progress };
        walk.run()?;
    }
    progress.finish()?;
    Ok(())
}

/// The relations with rows of a table, which may be partitioned.
fn leaves(table: pg_sys::Oid) -> Result<Vec<pg_sys::Oid>, Failure> {
    let found = read::one::<Vec<pg_sys::Oid>>(
        "SELECT pg_catalog.array_agg(c.oid ORDER BY c.oid) FROM pg_catalog.pg_class AS c \
         WHERE c.relkind OPERATOR(pg_catalog.=) 'r'::pg_catalog.\"char\" \
         AND (c.oid OPERATOR(pg_catalog.=) $1 OR c.oid OPERATOR(pg_catalog.=) ANY (ARRAY( \
         SELECT relid::pg_catalog.oid FROM pg_catalog.pg_partition_tree($1::pg_catalog.regclass))))",
        &[table.into()],
    );
    found.map(Option::unwrap_or_default)
}

fn broken(error: pgrx::spi::Error) -> Failure {
    Failure::new(Code::ERRCODE_INTERNAL_ERROR, "cannot fill a table").detail(error.to_string())
}
