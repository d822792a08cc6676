//! Re-ranking in SQL: what `rerank` and `candidates` of a search mean, the part that they add to its
//! query, and `clip_rerank`, which that part calls. The measure itself is `pgclip_query::rerank`'s.

use pgclip_query::rerank::{Adaption, Options, rerank_polling};
use pgrx::fcinfo::pg_getarg;
use pgrx::pg_sys::errcodes::PgSqlErrorCode as Code;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::{Array, pg_extern, pg_sys};

use super::arguments;
use crate::embedding::Embedding;
use crate::error::Failure;
use crate::limits::shown;

/// The most candidates: time grows with their square.
const MAX_CANDIDATES: i32 = 500;

/// How a search orders its first rows anew.
#[derive(Clone, Copy, Debug)]
pub struct Rerank {
    /// One of [`Adaption::NAMES`].
    name: &'static str,
    /// How many of the first rows.
    pub candidates: i64,
}

impl Rerank {
    /// Reads the arguments `rerank` and `candidates` of a search from number `first` on; none where
    /// re-ranking is off.
    ///
    /// # Safety
    /// `fcinfo` must be the call's own, and the arguments a text and an integer.
    pub unsafe fn of_call(
        fcinfo: pg_sys::FunctionCallInfo,
        first: usize,
    ) -> Result<Option<Self>, Failure> {
        // SAFETY: the caller's promise.
        unsafe {
            let name = arguments::text(fcinfo, first, "rerank")?;
            Self::new(name.as_deref(), pg_getarg(fcinfo, first + 1))
        }
    }

    /// By the values of `rerank` and `candidates`; none where re-ranking is off.
    pub fn new(name: Option<&str>, candidates: Option<i32>) -> Result<Option<Self>, Failure> {
        let name = match name {
            None | Some("off") => return Ok(None),
            Some(name) => adaption(name)?.0,
        };
        Ok(Some(Self { name, candidates: self::candidates(candidates)? }))
    }

    /// The rows of `found` with a column `place` that gives their order in the end, as a query: `order`
    /// is their order before, `score` an expression and `embedding` a column of theirs.
    pub fn query(
        &self,
        schema: &str,
        found: &str,
        embedding: &str,
        order: &str,
        score: &str,
    ) -> String {
        let Self { name, candidates } = self;
        format!(
            "WITH s AS MATERIALIZED (SELECT s.*, \
             pg_catalog.row_number() OVER (ORDER BY {order}) AS number FROM ({found}) AS s), \
             r AS (SELECT u.number, u.place FROM (SELECT {schema}.clip_rerank(\
             pg_catalog.array_agg(s.{embedding}::{schema}.embedding ORDER BY s.number), \
             pg_catalog.array_agg({score} ORDER BY s.number), '{name}'::pg_catalog.text) AS numbers FROM s \
             WHERE s.number OPERATOR(pg_catalog.<=) {candidates}) AS o, \
             pg_catalog.unnest(o.numbers) WITH ORDINALITY AS u(number, place)) \
             SELECT s.*, COALESCE(r.place, s.number) AS place FROM s LEFT JOIN r \
             ON r.number OPERATOR(pg_catalog.=) s.number"
        )
    }
}

/// Checks the argument `candidates` of a search.
pub fn candidates(given: Option<i32>) -> Result<i64, Failure> {
    match given {
        Some(candidates @ 1..=MAX_CANDIDATES) => Ok(candidates.into()),
        other => {
            let given = other.map_or("NULL".to_owned(), |given| given.to_string());
            Err(Failure::new(
                Code::ERRCODE_INVALID_PARAMETER_VALUE,
                format!("candidates is {given}, but must be from 1 to {MAX_CANDIDATES}"),
            )
            .hint("It is how many of the first rows are ordered anew; k may be larger."))
        }
    }
}

/// An adaption by its name.
fn adaption(name: &str) -> Result<(&'static str, Adaption), Failure> {
    let found = Adaption::NAMES.iter().find(|(known, _)| *known == name);
    found.copied().ok_or_else(|| {
        let names: Vec<&str> = Adaption::NAMES.iter().map(|(name, _)| *name).collect();
        Failure::new(
            Code::ERRCODE_INVALID_PARAMETER_VALUE,
            format!("there is no re-ranking \"{}\"", shown(name)),
        )
        .hint(format!("It is off or one of {}.", names.join(", ")))
    })
}

/// The order of candidates after re-ranking, as their numbers, which count from 1.
#[pg_extern(sql = false)]
fn clip_rerank(
    embeddings: Array<'_, Embedding>,
    scores: Array<'_, f32>,
    method: &str,
) -> Result<Vec<i32>, ErrorReport> {
    let (_, adaption) = adaption(method)?;
    if embeddings.len() > MAX_CANDIDATES as usize {
        return Err(Failure::new(
            Code::ERRCODE_PROGRAM_LIMIT_EXCEEDED,
            format!("{} candidates are more than {MAX_CANDIDATES}", embeddings.len()),
        )
        .hint("Re-rank the best of them.")
        .into());
    }
    if embeddings.len() != scores.len() {
        return Err(Failure::new(
            Code::ERRCODE_INVALID_PARAMETER_VALUE,
            format!("{} embeddings have {} scores", embeddings.len(), scores.len()),
        )
        .hint("Each embedding has its score, at the same place.")
        .into());
    }
    let (rows, dims) = super::feedback::rows("embeddings", &embeddings, None)?;
    let scores: Option<Vec<f32>> = scores.iter().collect();
    let scores = scores.ok_or_else(|| {
        Failure::new(Code::ERRCODE_NULL_VALUE_NOT_ALLOWED, "a score is NULL")
            .hint("A score is a cosine similarity.")
    })?;
    let options = Options { adaption, ..Options::default() };
    let order = rerank_polling(&rows, dims, &scores, &options, || {
        pgrx::check_for_interrupts!();
    });
    Ok(order.into_iter().map(|at| at as i32 + 1).collect())
}
