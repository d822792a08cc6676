//! `clip_evaluate`: how well the searches of a table find what they should, by tables of queries and
//! of right answers. Its own file because it is a client of the searches like any other: one
//! statement that calls them for each query, with the caller's rights. The measures are
//! `pgclip_query::measures`'.

use std::collections::BTreeMap;

use pgclip_query::measures::{average_precision, recalled, reciprocal_rank};
use pgrx::datum::DatumWithOid;
use pgrx::iter::TableIterator;
use pgrx::pg_sys::errcodes::PgSqlErrorCode as Code;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::{JsonB, PgRelation, name, pg_extern, pg_sys};
use serde_json::Value;

use super::source::{self, Column};
use crate::encode::failure::Failure;
use crate::extension::{Extension, namespace_name, quoted, type_name};
use crate::ingest::key::Key;
use crate::read;

/// The largest cutoff: what came of each hit of each query is kept.
const MAX_CUTOFF: i32 = 1000;

/// What `options` may hold: parameters of both searches that make sense for many queries, with
/// their types.
const OPTIONS: [(&str, &str); 6] = [
    ("embedding_column", "text"),
    ("model", "text"),
    ("min_score", "float4"),
    ("filter", "jsonb"),
    ("rerank", "text"),
    ("candidates", "int4"),
];

/// Further ones of `text_search`.
const TEXT_OPTIONS: [(&str, &str); 3] =
    [("enhance", "bool"), ("domain", "text"), ("attributes", "text")];

/// A relation of the evaluation.
struct Table {
    relation: pg_sys::Oid,
    /// Qualified and quoted.
    name: String,
    columns: Vec<Column>,
}

impl Table {
    /// `what` says in errors what the relation is.
    fn open(relation: Option<pg_sys::Oid>, what: &str) -> Result<Self, Failure> {
        let Some(relation) = relation else {
            return Err(Failure::new(
                Code::ERRCODE_NULL_VALUE_NOT_ALLOWED,
                format!("{what} is NULL"),
            )
            .hint("Name a table or view."));
        };
        let lock = pg_sys::AccessShareLock as pg_sys::LOCKMODE;
        // SAFETY: the lock is kept until the transaction ends, so that what the catalog shows stays,
        // and the columns are as the query is written for.
        let opened = unsafe {
            pg_sys::LockRelationOid(relation, lock);
            if pg_sys::get_rel_relkind(relation) == 0 {
                return Err(Failure::new(
                    Code::ERRCODE_UNDEFINED_TABLE,
                    format!("there is no relation with OID {relation}"),
                )
                .hint("Name a table or view."));
            }
            PgRelation::with_lock(relation, lock)
        };
        let schema = quoted(namespace_name(opened.namespace_oid()));
        let name = format!("{schema}.{}", quoted(opened.name()));
        Ok(Self { relation, name, columns: source::columns(&opened) })
    }

    /// Its first two columns.
    fn pair(&self, what: &str) -> Result<(&Column, &Column), Failure> {
        match self.columns.as_slice() {
            [first, second, ..] => Ok((first, second)),
            _ => Err(Failure::new(
                Code::ERRCODE_UNDEFINED_COLUMN,
                format!("{} has no two columns", self.name),
            )
            .hint(what)),
        }
    }

    /// The column that rows are known by: the one named, or the only one of the primary key.
    fn key(&self, wanted: Option<&str>) -> Result<String, Failure> {
        if let Some(wanted) = wanted {
            let found = self.columns.iter().find(|column| column.name == wanted);
            return found.map(|column| column.quoted.clone()).ok_or_else(|| {
                Failure::new(
                    Code::ERRCODE_UNDEFINED_COLUMN,
                    format!("{} has no column \"{wanted}\"", self.name),
                )
                .hint("key => '…' names the column that the relevance table refers to.")
            });
        }
        let key = Key::of(self.relation)?;
        let columns: Vec<&str> = key.iter().flat_map(Key::columns).collect();
        match columns.as_slice() {
            [only] => Ok(quoted(only)),
            _ => Err(Failure::new(
                Code::ERRCODE_UNDEFINED_OBJECT,
                format!("{} has no primary key of one column", self.name),
            )
            .hint("Name the column that the relevance table refers to: key => '…'.")),
        }
    }
}

/// Which search a column of queries is for: its function, the column's cast, its options.
fn search(table: &str, column: &Column) -> Result<(&'static str, &'static str, Options), Failure> {
    match column.base {
        pg_sys::TEXTOID | pg_sys::VARCHAROID | pg_sys::BPCHAROID => {
            Ok(("text_search", "text", [&OPTIONS[..], &TEXT_OPTIONS[..]].concat()))
        }
        pg_sys::BYTEAOID => Ok(("image_search", "bytea", OPTIONS.to_vec())),
        other => Err(Failure::new(
            Code::ERRCODE_DATATYPE_MISMATCH,
            format!(
                "column {} of {table} is of type {}, which is no query",
                column.quoted,
                type_name(other)
            ),
        )
        .hint("The first column is a query's key, the second its text or image (bytea); a view can put them so.")),
    }
}

type Options = Vec<(&'static str, &'static str)>;

/// The options as arguments of the search, with their values as parameters from `$2` on.
fn arguments(
    options: Option<JsonB>,
    known: &[(&str, &str)],
) -> Result<(String, Vec<Option<String>>), Failure> {
    let given = match options.map(|JsonB(value)| value) {
        None | Some(Value::Null) => BTreeMap::new(),
        Some(Value::Object(given)) => given.into_iter().collect(),
        Some(other) => {
            return Err(Failure::new(
                Code::ERRCODE_INVALID_PARAMETER_VALUE,
                format!("options is {other}, but must be an object"),
            )
            .hint("For example {\"rerank\": \"adaption\"}."));
        }
    };
    let (mut text, mut values) = (String::new(), Vec::new());
    for (name, value) in given {
        let Some((name, kind)) = known.iter().find(|(known, _)| *known == name) else {
            let names: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
            return Err(Failure::new(
                Code::ERRCODE_INVALID_PARAMETER_VALUE,
                format!("there is no option \"{name}\" of these queries"),
            )
            .hint(format!("Options are {}.", names.join(", "))));
        };
        values.push(match value {
            Value::Null => None,
            Value::String(value) => Some(value),
            value => Some(value.to_string()),
        });
        let number = values.len() + 1;
        text += &format!(", {name} => ${number}::pg_catalog.text::pg_catalog.{kind}");
    }
    Ok((text, values))
}

/// The cutoffs, each a number of hits.
fn check(cutoffs: Option<Vec<Option<i32>>>) -> Result<Vec<i32>, Failure> {
    let wrong = |message: &str| {
        Failure::new(Code::ERRCODE_INVALID_PARAMETER_VALUE, message)
            .hint("Cutoffs are numbers of hits to measure at, for example ARRAY[1, 5, 10].")
    };
    let cutoffs = cutoffs.unwrap_or_default();
    if cutoffs.is_empty() {
        return Err(wrong("there are no cutoffs"));
    }
    let check = |cutoff: Option<i32>| match cutoff {
        Some(cutoff @ 1..=MAX_CUTOFF) => Ok(cutoff),
        Some(other) => {
            Err(wrong(&format!("a cutoff is {other}, but must be from 1 to {MAX_CUTOFF}")))
        }
        None => Err(wrong("a cutoff is NULL")),
    };
    cutoffs.into_iter().map(check).collect()
}

/// What came of one query.
struct Outcome {
    /// How many rows are relevant to it.
    relevant: usize,
    /// Of each hit, in order, whether it is one of these.
    right: Vec<bool>,
}

/// The statement that searches for each query that has a relevant row. Keys are compared as text,
/// so that types of keys need not be the same in all tables. A key that is hit twice counts once.
fn statement(
    extension: &Extension,
    (queries, relevance, searched): (&Table, &Table, &Table),
    key: Option<&str>,
    options: Option<JsonB>,
) -> Result<(String, Vec<Option<String>>), Failure> {
    let (query_key, query) =
        queries.pair("The first column is a query's key, the second its text or image.")?;
    let (of_query, of_row) =
        relevance.pair("The first column is a query's key, the second a row's that is right.")?;
    let key = searched.key(key)?;
    let (function, kind, known) = search(&queries.name, query)?;
    let (arguments, values) = arguments(options, &known)?;
    let text = |value: String| format!("({value}::pg_catalog.text COLLATE pg_catalog.\"C\")");
    let column = |of: &str, column: &Column| text(format!("{of}.{}", column.quoted));
    let statement = format!(
        "SELECT r.relevant, h.hits FROM {queries} AS q \
         JOIN (SELECT {of_query} AS query, pg_catalog.count(DISTINCT {of_row}) AS relevant, \
         pg_catalog.array_agg(DISTINCT {of_row}) AS keys FROM {relevance} AS r \
         WHERE {of_query} IS NOT NULL AND {of_row} IS NOT NULL GROUP BY 1) AS r \
         ON r.query OPERATOR(pg_catalog.=) {query_key} \
         CROSS JOIN LATERAL (SELECT pg_catalog.array_agg(\
         s.key OPERATOR(pg_catalog.=) ANY (r.keys) AND s.nth OPERATOR(pg_catalog.=) 1 \
         ORDER BY s.place) AS hits FROM (SELECT s.key, s.place, \
         pg_catalog.row_number() OVER (PARTITION BY s.key ORDER BY s.place) AS nth \
         FROM (SELECT {hit} AS key, s.place FROM {schema}.{function}(NULL::{searched}, \
         q.{query}::pg_catalog.{kind}, k => $1{arguments}) \
         WITH ORDINALITY AS s (hit, score, place)) AS s) AS s) AS h",
        queries = queries.name,
        relevance = relevance.name,
        searched = searched.name,
        schema = extension.schema_name(),
        query_key = column("q", query_key),
        query = query.quoted,
        of_query = column("r", of_query),
        of_row = column("r", of_row),
        hit = text(format!("(s.hit).{key}")),
    );
    Ok((statement, values))
}

fn outcomes(statement: &str, arguments: &[DatumWithOid<'_>]) -> Result<Vec<Outcome>, Failure> {
    read::all(statement, arguments, |row| {
        let relevant: i64 = row.get(1)?.unwrap_or_default();
        let hits: Vec<Option<bool>> = row.get(2)?.unwrap_or_default();
        let right = hits.into_iter().map(|hit| hit == Some(true)).collect();
        Ok(Outcome { relevant: relevant as usize, right })
    })
}

/// The mean of a measure; none of no queries.
fn mean(outcomes: &[Outcome], measure: impl Fn(&Outcome) -> f64) -> Option<f64> {
    let sum: f64 = outcomes.iter().map(measure).sum();
    (!outcomes.is_empty()).then(|| sum / outcomes.len() as f64)
}

#[pg_extern(sql = false)]
#[allow(clippy::type_complexity)]
fn clip_evaluate(
    queries: Option<pg_sys::Oid>,
    relevance: Option<pg_sys::Oid>,
    searched: Option<pg_sys::Oid>,
    cutoffs: Option<Vec<Option<i32>>>,
    key: Option<&str>,
    options: Option<JsonB>,
    fcinfo: pg_sys::FunctionCallInfo,
) -> Result<
    TableIterator<
        'static,
        (
            name!(k, i32),
            name!(map, Option<f64>),
            name!(recall, Option<f64>),
            name!(mrr, Option<f64>),
            name!(asked, i64),
        ),
    >,
    ErrorReport,
> {
    let extension = Extension::of_call(fcinfo);
    let cutoffs = check(cutoffs)?;
    let queries = Table::open(queries, "queries")?;
    let relevance = Table::open(relevance, "relevance")?;
    let searched = Table::open(searched, "tbl")?;
    let (statement, values) =
        statement(&extension, (&queries, &relevance, &searched), key, options)?;
    let most = cutoffs.iter().copied().max();
    let mut arguments: Vec<DatumWithOid<'_>> = vec![most.into()];
    arguments.extend(values.into_iter().map(DatumWithOid::from));
    let outcomes = outcomes(&statement, &arguments)?;
    let rows: Vec<_> = (cutoffs.into_iter())
        .map(|cutoff| {
            let k = cutoff as usize;
            (
                cutoff,
                mean(&outcomes, |o| average_precision(&o.right, o.relevant, k)),
                mean(&outcomes, |o| f64::from(recalled(&o.right, k))),
                mean(&outcomes, |o| reciprocal_rank(&o.right, k)),
                outcomes.len() as i64,
            )
        })
        .collect();
    Ok(TableIterator::new(rows))
}
