//! What a dump carries of the extension's own tables, which not everybody may read. A file of its own,
//! since it is about all of them, and about the rights of whoever dumps.

use std::collections::VecDeque;

use pgrx::iter::TableIterator;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::{name, pg_extern, pg_sys};

use crate::catalog::extension::Extension;
use crate::catalog::{read, rights};
use crate::error::Failure;

/// Waiting rows that are read at once.
const PAGE: i64 = 1000;

/// A row as JSON, with the table that it is of.
type Entry = (&'static str, String);

#[pg_extern(sql = false)]
#[allow(clippy::type_complexity)]
fn clip_dumped(
    fcinfo: pg_sys::FunctionCallInfo,
) -> Result<TableIterator<'static, (name!(relation, String), name!(entry, String))>, ErrorReport> {
    let extension = Extension::of_call(fcinfo);
    let mut entries: VecDeque<Entry> = VecDeque::new();
    if rights::may_read_files() {
        let models = format!(
            "SELECT t.* FROM {} AS t WHERE NOT t.builtin",
            extension.relation("clip_model")
        );
        // A role that is gone would be another one's number elsewhere.
        let roots = format!(
            "SELECT t.name, t.directory, ARRAY(SELECT u.role FROM pg_catalog.unnest(t.roles) AS u (role) \
             JOIN pg_catalog.pg_authid AS a ON a.oid OPERATOR(pg_catalog.=) u.role::pg_catalog.oid) AS roles \
             FROM {} AS t",
            extension.relation("clip_root")
        );
        entries.extend(of_table(&extension, "clip_model", &models)?);
        entries.extend(of_table(&extension, "clip_root", &roots)?);
    }
    let mut queue = Queue { extension, after: None, done: false };
    let rows = std::iter::from_fn(move || {
        while entries.is_empty() && !queue.done {
            entries.extend(queue.page().unwrap_or_else(|failure| failure.raise()));
        }
        entries.pop_front().map(|(relation, entry)| (relation.to_owned(), entry))
    });
    Ok(TableIterator::new(rows))
}

/// All rows of a small table, as a query gives them.
fn of_table(extension: &Extension, table: &'static str, rows: &str) -> Result<Vec<Entry>, Failure> {
    let query = format!(
        "SELECT pg_catalog.to_jsonb(t)::pg_catalog.text FROM ({rows}) AS t ORDER BY t.name"
    );
    let _owner = extension.as_owner();
    read::all(&query, &[], |row| Ok((table, row.get(1)?.unwrap_or_default())))
}

/// The rows that wait, page by page: there may be many.
struct Queue {
    extension: Extension,
    /// The last row of the page before.
    after: Option<String>,
    done: bool,
}

impl Queue {
    /// The next page, less what the caller may not read; empty also where all of it is.
    fn page(&mut self) -> Result<Vec<Entry>, Failure> {
        pgrx::check_for_interrupts!();
        let query = format!(
            "SELECT q.id::pg_catalog.text, q.relation::pg_catalog.oid, pg_catalog.to_jsonb(q)::pg_catalog.text \
             FROM {} AS q WHERE $1 IS NULL OR q.id OPERATOR(pg_catalog.>) $1::pg_catalog.uuid \
             ORDER BY q.id LIMIT $2",
            self.extension.relation("clip_queue")
        );
        let owner = self.extension.as_owner();
        let found = read::all(&query, &[self.after.as_deref().into(), PAGE.into()], |row| {
            let relation = row.get::<pg_sys::Oid>(2)?.unwrap_or(pg_sys::InvalidOid);
            Ok((row.get::<String>(1)?, relation, row.get::<String>(3)?.unwrap_or_default()))
        })?;
        drop(owner);
        self.done = found.len() < PAGE as usize;
        self.after = found.last().and_then(|(id, ..)| id.clone());
        let readable = found.into_iter().filter(|(_, relation, _)| {
            rights::sees_all_of(*relation) && !rights::is_temporary(*relation)
        });
        Ok(readable.map(|(.., entry)| ("clip_queue", entry)).collect())
    }
}
