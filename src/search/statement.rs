//! The statement of a search: what it was told, as SQL. Apart from running it, since all that a search
//! can be asked for comes together here.

use pgrx::pg_sys::errcodes::PgSqlErrorCode as Code;

use super::attributes::Agreement;
use super::filter::Filter;
use super::rerank::Rerank;
use super::source::Source;
use crate::catalog::extension::Extension;
use crate::catalog::identity::Changed;
use crate::error::Failure;
use crate::settings::{self, IterativeScan};

/// The most hits of one search.
const MAX_K: i32 = 100_000;

/// What both searches can be told.
pub struct Options {
    pub k: i64,
    pub embedding_column: Option<String>,
    pub model: Option<String>,
    pub min_score: Option<f32>,
    pub with_image: bool,
    pub rerank: Option<Rerank>,
    /// What the order also goes by.
    pub agreement: Option<Agreement>,
}

impl Options {
    pub fn new(
        k: Option<i32>,
        embedding_column: Option<String>,
        model: Option<String>,
        min_score: Option<f32>,
        with_image: Option<bool>,
    ) -> Result<Self, Failure> {
        let k = match k {
            Some(k @ 1..=MAX_K) => k.into(),
            other => {
                let given = other.map_or("NULL".to_owned(), |k| k.to_string());
                return Err(Failure::new(
                    Code::ERRCODE_INVALID_PARAMETER_VALUE,
                    format!("k is {given}, but must be from 1 to {MAX_K}"),
                )
                .hint("k is the number of hits."));
            }
        };
        if min_score.is_some_and(f32::is_nan) {
            return Err(Failure::new(Code::ERRCODE_INVALID_PARAMETER_VALUE, "min_score is NaN")
                .hint("A score is a cosine similarity, from -1 to 1."));
        }
        let with_image = with_image.unwrap_or(false);
        Ok(Self {
            k,
            embedding_column,
            model,
            min_score,
            with_image,
            rerank: None,
            agreement: None,
        })
    }

    /// How many of the nearest rows are looked at.
    pub fn nearest(&self) -> i64 {
        let reranked = self.rerank.map_or(0, |rerank| rerank.candidates);
        let agreeing = self.agreement.as_ref().map_or(0, |agreement| agreement.candidates);
        self.k.max(reranked).max(agreeing)
    }
}

/// Parameters of the query before those of the filter: the embedding, how many rows, the least score.
pub const PARAMETERS: usize = 3;

/// The query: the k nearest rows first, so that only they are put together as rows. They are put in
/// order once more, by a sum that the index does not give, since it may give late rows late
/// ([`relaxed`]).
pub fn query(extension: &Extension, source: &Source, filter: &Filter, options: &Options) -> String {
    let mut inner = Vec::new();
    let mut outer = Vec::new();
    for (at, column) in source.columns.iter().enumerate() {
        if source.images.contains(&at) && !options.with_image {
            // A NULL of a domain would have the domain's constraints looked at, which run its owner's
            // code; the field of a row that is NULL has not.
            outer.push(match column.is_domain {
                true => format!("(NULL::{}).{}", source.name, column.quoted),
                false => "NULL".to_owned(),
            });
        } else {
            inner.push(format!("t.{} AS c{at}, ", column.quoted));
            outer.push(format!("s.c{at}"));
        }
    }
    let schema = extension.schema_name();
    let embedding = &source.columns[source.embedding];
    let distance = format!("{} OPERATOR({schema}.<=>) $1", embedding.compared());
    let score = similarity("s.distance");
    let bound = match options.min_score {
        // A vector of zeros has no direction: its score is NaN, which sorts above all numbers.
        Some(_) => format!(
            "WHERE {score} OPERATOR(pg_catalog.>=) $3 \
             AND s.distance OPERATOR(pg_catalog.<>) 'NaN'::pg_catalog.float8"
        ),
        None => String::new(),
    };
    let mut conditions = vec![format!("t.{} IS NOT NULL", embedding.quoted)];
    conditions.extend(filter.conditions.iter().cloned());
    let agreement = options.agreement.as_ref();
    let agrees = agreement.map(|a| format!(", {} AS agreement", a.sum)).unwrap_or_default();
    let nearest = format!(
        "SELECT {columns}{distance} OPERATOR(pg_catalog.+) 0::pg_catalog.float8 AS distance{agrees} \
         FROM {name} AS t WHERE {conditions} ORDER BY {distance} LIMIT $2",
        name = source.name,
        columns = inner.concat(),
        conditions = conditions.join(" AND "),
    );
    let found = format!("({nearest}) AS s {bound}");
    let passing = format!("SELECT s.* FROM {found}");
    let adjusted = agreement.map(Agreement::adjusted);
    let (found, order) = match (&options.rerank, adjusted) {
        (None, None) => (found, "s.distance".to_owned()),
        (None, Some(adjusted)) => (format!("({passing}) AS s"), format!("{adjusted}, s.distance")),
        (Some(rerank), adjusted) => {
            let adjusted = adjusted.as_deref().unwrap_or("s.distance");
            let order = format!("{adjusted}, s.distance");
            let embedding = format!("c{}", source.embedding);
            let score = similarity(adjusted);
            let placed = rerank.query(&schema, &passing, &embedding, &order, &score);
            (format!("({placed}) AS s"), "s.place".to_owned())
        }
    };
    let found = match options.nearest() == options.k && order == "s.distance" {
        true => found,
        false => format!("(SELECT s.* FROM {found} ORDER BY {order} LIMIT {}) AS s", options.k),
    };
    format!(
        "SELECT ROW({row})::{name}, {score} FROM {found} ORDER BY {order}",
        row = outer.join(", "),
        name = source.name,
    )
}

/// While a search runs, scans return rows that they find late instead of leaving them out: all that are
/// asked for are known before any is shown.
pub fn relaxed() -> Option<Changed> {
    (settings::ITERATIVE_SCAN.get() == IterativeScan::Strict).then(|| {
        let changed = Changed::none();
        changed.set(c"pgclip.iterative_scan", c"relaxed");
        changed
    })
}

/// The score of a row of `s` at a distance.
fn similarity(distance: &str) -> String {
    format!("(1::pg_catalog.float8 OPERATOR(pg_catalog.-) {distance})::pg_catalog.float4")
}
