//! `clip_evaluate`: how well the searches of a table find what they should, by tables of queries and
//! of right answers. Its own file because it asks one search after another, as `text_search` and
//! `image_search` would, with the caller's rights. It calls neither by name: somebody's function of the
//! same name that fits the table's row type better would come first. The measures are
//! `pgclip_query::measures`'.

use std::collections::BTreeMap;

use pgclip_query::measures::{average_precision, recalled, reciprocal_rank};
use pgrx::datum::DatumWithOid;
use pgrx::iter::TableIterator;
use pgrx::pg_sys::errcodes::PgSqlErrorCode as Code;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::{FromDatum, PgRelation, name, pg_extern, pg_sys};
use serde_json::value::RawValue;

use super::arguments;
use super::attributes::Attributes;
use super::filter::Filter;
use super::rerank::Rerank;
use super::run::{Search, Sentence};
use super::source::{self, Column, Source};
use super::statement::{Options, PARAMETERS, relaxed};
use crate::catalog::extension::{Extension, qualified, type_name};
use crate::catalog::read::{self, Row};
use crate::catalog::rights;
use crate::encoder::requests::Batch;
use crate::error::Failure;
use crate::ingest::key::Key;
use crate::limits::{self, shown};

/// The largest cutoff: what came of each hit of a query is kept.
const MAX_CUTOFF: i32 = 1000;
/// The candidates of re-ranking where none are given, as the searches declare them.
const CANDIDATES: i32 = 50;

/// What `options` may hold: parameters of both searches that make sense for many queries.
const OPTIONS: [&str; 6] =
    ["embedding_column", "model", "min_score", "filter", "rerank", "candidates"];

/// Further ones of `text_search`.
const TEXT_OPTIONS: [&str; 4] = ["enhance", "domain", "attributes", "language"];

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
        // Before a lock that others may have to wait behind.
        if let (Some(name), false) = (rights::relation_name(relation), rights::may_read(relation)) {
            return Err(Failure::new(
                Code::ERRCODE_INSUFFICIENT_PRIVILEGE,
                format!("permission denied for {name}"),
            ));
        }
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
        let name = qualified(&opened);
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
    fn key(&self, wanted: Option<&str>) -> Result<&Column, Failure> {
        let named = |name: &str| self.columns.iter().find(|column| column.name == name);
        if let Some(wanted) = wanted {
            return named(wanted).ok_or_else(|| {
                Failure::new(
                    Code::ERRCODE_UNDEFINED_COLUMN,
                    format!("{} has no column \"{}\"", self.name, shown(wanted)),
                )
                .hint("key => '…' names the column that the relevance table refers to.")
            });
        }
        let key = Key::of(self.relation)?;
        let columns: Vec<&str> = key.iter().flat_map(Key::columns).collect();
        match columns.as_slice() {
            [only] if let Some(column) = named(only) => Ok(column),
            _ => Err(Failure::new(
                Code::ERRCODE_UNDEFINED_OBJECT,
                format!("{} has no primary key of one column", self.name),
            )
            .hint("Name the column that the relevance table refers to: key => '…'.")),
        }
    }
}

/// What queries are, and with it which search they are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    Text,
    Image,
}

impl Asked {
    fn of_column(table: &str, column: &Column) -> Result<Self, Failure> {
        match column.base {
            pg_sys::TEXTOID | pg_sys::VARCHAROID | pg_sys::BPCHAROID => Ok(Self::Text),
            pg_sys::BYTEAOID => Ok(Self::Image),
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

    fn cast(self) -> &'static str {
        match self {
            Self::Text => "pg_catalog.text",
            Self::Image => "pg_catalog.bytea",
        }
    }
}

/// The options of the searches, read from JSON. A value stays as it is written until it is known what
/// it is for, so that no number is too large to be told of.
struct Given<'a>(BTreeMap<String, &'a RawValue>);

impl<'a> Given<'a> {
    fn read(text: &'a str, asked: Asked) -> Result<Self, Failure> {
        let raw: &RawValue = serde_json::from_str(text).map_err(|error| {
            Failure::new(Code::ERRCODE_INVALID_PARAMETER_VALUE, "options cannot be read")
                .detail(error.to_string())
        })?;
        let mut given: BTreeMap<String, &RawValue> = match raw.get() {
            "null" => BTreeMap::new(),
            object => serde_json::from_str(object).map_err(|_| {
                Failure::new(
                    Code::ERRCODE_INVALID_PARAMETER_VALUE,
                    format!("options is {}, but must be an object", shown(object)),
                )
                .hint("For example {\"rerank\": \"adaption\"}.")
            })?,
        };
        let mut known = OPTIONS.to_vec();
        if asked == Asked::Text {
            known.extend(TEXT_OPTIONS);
        }
        if let Some(name) = given.keys().find(|name| !known.contains(&name.as_str())) {
            return Err(Failure::new(
                Code::ERRCODE_INVALID_PARAMETER_VALUE,
                format!("there is no option \"{}\" of these queries", shown(name)),
            )
            .hint(format!("Options are {}.", known.join(", "))));
        }
        given.retain(|_, value| value.get() != "null");
        Ok(Self(given))
    }

    /// A value that JSON or its text stands for: `7` and `"7"` alike.
    fn value<T>(
        &self,
        name: &str,
        wanted: &str,
        read: impl FnOnce(&str) -> Option<T>,
    ) -> Result<Option<T>, Failure> {
        let Some(raw) = self.0.get(name) else { return Ok(None) };
        let text: Option<String> = match raw.get().as_bytes().first() {
            Some(b'"') => serde_json::from_str(raw.get()).ok(),
            Some(b'{' | b'[') => None,
            _ => Some(raw.get().to_owned()),
        };
        let value = text.and_then(|text| read(&text));
        value.map(Some).ok_or_else(|| {
            Failure::new(
                Code::ERRCODE_INVALID_PARAMETER_VALUE,
                format!("option \"{name}\" is {}, but must be {wanted}", shown(raw.get())),
            )
        })
    }

    fn text(&self, name: &str) -> Result<Option<String>, Failure> {
        let value = self.value(name, "text", |text| Some(text.to_owned()))?;
        limits::option(name, value.as_deref())?;
        Ok(value)
    }

    fn candidates(&self) -> Result<Option<i32>, Failure> {
        let number = |text: &str| text.parse().ok();
        Ok(Some(self.value("candidates", "a number", number)?.unwrap_or(CANDIDATES)))
    }

    /// What both searches are told, for `k` hits.
    fn options(&self, k: Option<i32>) -> Result<Options, Failure> {
        let column = self.text("embedding_column")?;
        let least = self.value("min_score", "a number", |text| text.parse::<f32>().ok())?;
        let options = Options::new(k, column, self.text("model")?, least, None)?;
        let rerank = Rerank::new(self.text("rerank")?.as_deref(), self.candidates()?)?;
        Ok(Options { rerank, ..options })
    }

    fn filter(&self, source: &Source) -> Result<Filter, Failure> {
        match self.0.get("filter") {
            Some(raw) => Filter::of_text(raw.get(), source, PARAMETERS + 1),
            None => Ok(Filter::default()),
        }
    }
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

/// The key of a row as text, so that types of keys need not be the same in all tables. Of a type that a
/// user made it is the type's own output: its cast to text may be the user's function.
fn key_text(of: &str, column: &Column) -> String {
    let key = format!("{of}.{}", column.quoted);
    let text = match column.base.to_u32() < pg_sys::FirstNormalObjectId {
        true => format!("{key}::pg_catalog.text"),
        false => {
            format!("CASE WHEN {key} IS NOT NULL THEN pg_catalog.format('%s', {key}) END")
        }
    };
    format!("(({text}) COLLATE pg_catalog.\"C\")")
}

/// The queries that have a relevant row: what is asked, the keys of these rows, and their number.
fn queries(
    queries: &Table,
    relevance: &Table,
    (query_key, query): (&Column, &Column),
    asked: Asked,
) -> Result<String, Failure> {
    let (of_query, of_row) =
        relevance.pair("The first column is a query's key, the second a row's that is right.")?;
    Ok(format!(
        "SELECT q.{query}::{kind}, r.keys, r.relevant FROM {queries} AS q \
         JOIN (SELECT {of_query} AS query, pg_catalog.count(DISTINCT {of_row}) AS relevant, \
         pg_catalog.array_agg(DISTINCT {of_row}) AS keys FROM {relevance} AS r \
         WHERE {of_query} IS NOT NULL AND {of_row} IS NOT NULL GROUP BY 1) AS r \
         ON r.query OPERATOR(pg_catalog.=) {query_key}",
        query = query.quoted,
        kind = asked.cast(),
        of_query = key_text("r", of_query),
        of_row = key_text("r", of_row),
        queries = queries.name,
        relevance = relevance.name,
        query_key = key_text("q", query_key),
    ))
}

/// Of each hit of a search, in order, whether it is one of the rows with `keys`. A row that is hit twice
/// counts once.
fn right(search: Search, key: &Column, keys: pg_sys::Datum) -> Result<Vec<bool>, Failure> {
    let Search { query, mut parameters } = search;
    parameters.push((pg_sys::TEXTARRAYOID, Some(keys)));
    let statement = format!(
        "SELECT s.key OPERATOR(pg_catalog.=) ANY (${number}) AND s.nth OPERATOR(pg_catalog.=) 1 \
         FROM (SELECT s.key, s.place, \
         pg_catalog.row_number() OVER (PARTITION BY s.key ORDER BY s.place) AS nth \
         FROM (SELECT {hit} AS key, pg_catalog.row_number() OVER () AS place \
         FROM ({query}) AS s (hit, score)) AS s) AS s ORDER BY s.place",
        number = parameters.len(),
        hit = key_text("(s.hit)", key),
    );
    let arguments: Vec<DatumWithOid<'_>> = (parameters.into_iter())
        .map(|(kind, value)| match value {
            // SAFETY: the value is of the type beside it, and lives until the query is done.
            Some(value) => unsafe { DatumWithOid::new(value, kind) },
            None => DatumWithOid::null_oid(kind),
        })
        .collect();
    let _relaxed = relaxed();
    read::as_caller(&statement, &arguments, |row| Ok(row.get(1)? == Some(true)))
}

/// Sums of the measures at a cutoff.
#[derive(Clone, Copy, Debug, Default)]
struct Sums {
    precision: f64,
    recalled: f64,
    reciprocal: f64,
}

/// The image or text of a query, as far as it may be encoded.
fn image_of(row: &Row) -> Result<Option<Vec<u8>>, Failure> {
    let Some(value) = row.datum(1) else { return Ok(None) };
    // SAFETY: a bytea, as the query casts it.
    unsafe {
        Batch::check_bytes(limits::size_of_value(value))?;
        Ok(Vec::from_datum(value, false))
    }
}

#[pg_extern(sql = false)]
#[allow(clippy::type_complexity)]
fn clip_evaluate(
    queries: Option<pg_sys::Oid>,
    relevance: Option<pg_sys::Oid>,
    searched: Option<pg_sys::Oid>,
    cutoffs: Option<Vec<Option<i32>>>,
    key: Option<&str>,
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
    // SAFETY: the sixth argument is a jsonb.
    let options = unsafe { arguments::json(fcinfo, 5, "options")? };
    let (sums, asked) = measure(
        &extension,
        (
            &Table::open(queries, "queries")?,
            &Table::open(relevance, "relevance")?,
            &Table::open(searched, "tbl")?,
        ),
        key,
        options.as_deref().unwrap_or("null"),
        &cutoffs,
    )?;
    let mean = move |sum: f64| (asked > 0).then(|| sum / asked as f64);
    Ok(TableIterator::new(cutoffs.into_iter().zip(sums).map(move |(cutoff, sums)| {
        (cutoff, mean(sums.precision), mean(sums.recalled), mean(sums.reciprocal), asked)
    })))
}

/// Asks all queries that have an answer: the sums at each cutoff, and the number of queries.
fn measure(
    extension: &Extension,
    (asking, relevance, searched): (&Table, &Table, &Table),
    key: Option<&str>,
    options: &str,
    cutoffs: &[i32],
) -> Result<(Vec<Sums>, i64), Failure> {
    let (query_key, query) =
        asking.pair("The first column is a query's key, the second its text or image.")?;
    let key = searched.key(key)?;
    let asked = Asked::of_column(&asking.name, query)?;
    let given = Given::read(options, asked)?;
    let most = cutoffs.iter().copied().max();
    let told = given.options(most)?;
    // SAFETY: a catalog lookup for a relation that is locked.
    let row_type = unsafe { pg_sys::get_rel_type_id(searched.relation) };
    let (column, model) = (told.embedding_column.as_deref(), told.model.as_deref());
    let mut source = Source::of_row_type(extension, row_type, column, model)?;
    let language = given.text("language")?;
    source.model = source.model.in_language(language.as_deref())?.into_owned();
    let attributes = Attributes::new(given.text("attributes")?.as_deref(), given.candidates()?)?;
    let enhance = given.value("enhance", "true or false", |text| text.parse().ok())?;
    let (enhance, domain) = (enhance.unwrap_or(true), given.text("domain")?);
    let mut sums = vec![Sums::default(); cutoffs.len()];
    let mut count = 0;
    let statement = self::queries(asking, relevance, (query_key, query), asked)?;
    read::each_as_caller(&statement, |row| {
        pgrx::check_for_interrupts!();
        let (filter, options) = (given.filter(&source)?, given.options(most)?);
        let search = match asked {
            Asked::Text => row.get::<String>(1)?.map(|text| {
                let (domain, attributes) = (domain.as_deref(), attributes.as_ref());
                let sentence = Sentence { text, enhance, domain, attributes };
                Search::by_text(extension, &source, &sentence, filter, options, None)
            }),
            Asked::Image => image_of(row)?.map(|image| {
                Search::by_image(extension, &source, image.into(), filter, &options, None)
            }),
        };
        let keys = row.datum(2).unwrap_or(pg_sys::Datum::null());
        let relevant = row.get::<i64>(3)?.unwrap_or_default() as usize;
        // A query that is NULL finds nothing.
        let right = match search.transpose()? {
            Some(search) => right(search, key, keys)?,
            None => Vec::new(),
        };
        for (sums, &cutoff) in sums.iter_mut().zip(cutoffs) {
            let k = cutoff as usize;
            sums.precision += average_precision(&right, relevant, k);
            sums.recalled += f64::from(recalled(&right, k));
            sums.reciprocal += reciprocal_rank(&right, k);
        }
        count += 1;
        Ok(())
    })?;
    Ok((sums, count))
}
