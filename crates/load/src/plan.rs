//! The two statements that load a batch, made once for the table, and the locks that keep two loads
//! of one table apart.
//!
//! Values that come as text are turned into their columns' types by the server, in the same query
//! that finds which files are missing, and come back in binary form, ready for COPY.

use anyhow::{Context, Result, bail, ensure};
use postgres::Client;

use crate::options::Options;

#[derive(Debug)]
pub struct Plan {
    /// `$1`: names, `$2` …: values of a column each. Gives the number of each missing row, from 1,
    /// then name and values in binary form.
    pub missing: String,
    /// COPY of name, values and image.
    pub copy: String,
    /// A lock that each batch shares until its end.
    pub batch_lock: i64,
    /// Values of the columns that are the same in all rows.
    pub constants: Vec<String>,
    /// Columns beside name and image: constants first.
    pub columns: usize,
}

impl Plan {
    /// Looks at the table, and waits for the batches of an earlier load that still run.
    pub fn make(client: &mut Client, options: &Options) -> Result<Self> {
        let found = client
            .query_one(
                "SELECT pg_catalog.to_regclass($1)::pg_catalog.oid, \
                 pg_catalog.to_regclass($1)::pg_catalog.text",
                &[&options.table],
            )
            .context("cannot look for the table")?;
        let (Some(oid), Some(table)) =
            (found.get::<_, Option<u32>>(0), found.get::<_, Option<&str>>(1))
        else {
            bail!("there is no table {}", options.table);
        };
        let given = options.set.iter().map(|(column, _)| column);
        let given: Vec<&String> = given.chain(options.from.iter().map(|from| &from.0)).collect();
        let mut types = Vec::new();
        let all = [&options.name_column].into_iter().chain(given.iter().copied());
        for column in all.chain([&options.image_column]) {
            types.push(column_type(client, oid, table, column)?);
        }
        let mut names: Vec<String> = vec![quoted(&options.name_column)];
        names.extend(given.iter().map(|column| quoted(column)));
        let image = quoted(&options.image_column);
        let mut distinct = names.clone();
        distinct.push(image.clone());
        distinct.sort();
        distinct.dedup();
        ensure!(distinct.len() == names.len() + 1, "a column is named twice");
        if !has_index(client, oid, &options.name_column)? {
            eprintln!(
                "pgclip-load: {table} has no index on {}: each batch will read the whole table. \
                 Make a unique one first.",
                names[0]
            );
        }
        let cast = |at: usize| format!("CAST(v.c{at} AS {})", types[at]);
        let select: Vec<String> = (0..names.len()).map(cast).collect();
        let arrays: Vec<String> = (1..=names.len()).map(|n| format!("${n}::text[]")).collect();
        let aliases: Vec<String> = (0..names.len()).map(|at| format!("c{at}")).collect();
        let missing = format!(
            "SELECT v.n, {} FROM ROWS FROM (unnest({})) WITH ORDINALITY AS v ({}, n) \
             WHERE NOT EXISTS (SELECT FROM {table} AS t WHERE t.{} = {}) ORDER BY v.n",
            select.join(", "),
            arrays.join(", "),
            aliases.join(", "),
            names[0],
            select[0],
        );
        let copy =
            format!("COPY {table} ({}, {image}) FROM STDIN (FORMAT binary)", names.join(", "));
        let [alone, batch_lock] = [0, 1].map(|which| lock(oid, which));
        let ours = client.query_one("SELECT pg_catalog.pg_try_advisory_lock($1)", &[&alone])?;
        ensure!(ours.get::<_, bool>(0), "another pgclip-load is loading into {table}");
        // A load that was killed may have left a batch that the server is still committing.
        client.execute("SELECT pg_catalog.pg_advisory_lock($1)", &[&batch_lock])?;
        client.execute("SELECT pg_catalog.pg_advisory_unlock($1)", &[&batch_lock])?;
        Ok(Self {
            missing,
            copy,
            batch_lock,
            constants: options.set.iter().map(|(_, value)| value.clone()).collect(),
            columns: given.len(),
        })
    }
}

/// The key of an advisory lock: ours ("pgcl"), one of two, and the table.
fn lock(table: u32, which: i64) -> i64 {
    0x7067_6c00_0000_0000 | which << 32 | i64::from(table)
}

/// A column's type without its modifier: COPY applies that, a cast would cut values off.
fn column_type(client: &mut Client, oid: u32, table: &str, column: &str) -> Result<String> {
    let found = client.query_opt(
        "SELECT pg_catalog.format_type(a.atttypid, NULL) FROM pg_catalog.pg_attribute AS a \
         WHERE a.attrelid = $1 AND a.attname = $2 AND a.attnum > 0 AND NOT a.attisdropped",
        &[&oid, &column],
    )?;
    let found = found.with_context(|| format!("table {table} has no column {}", quoted(column)))?;
    Ok(found.get(0))
}

fn has_index(client: &mut Client, oid: u32, column: &str) -> Result<bool> {
    let found = client.query_opt(
        "SELECT FROM pg_catalog.pg_index AS i JOIN pg_catalog.pg_attribute AS a \
         ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0] \
         WHERE i.indrelid = $1 AND i.indisvalid AND i.indpred IS NULL AND a.attname = $2 LIMIT 1",
        &[&oid, &column],
    )?;
    Ok(found.is_some())
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
