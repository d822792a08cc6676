//! Relevance feedback in SQL: the arrays `liked` and `disliked` of a search, and the query that they
//! make. The formula is `pgclip_query::feedback`'s.

use pgclip_query::feedback::moved;
use pgrx::fcinfo::pg_getarg;
use pgrx::pg_sys::errcodes::PgSqlErrorCode as Code;
use pgrx::{Array, pg_sys};

use crate::embedding::Embedding;
use crate::error::Failure;
use crate::limits;
use crate::models::Model;

/// The most rows of each array: what people like and dislike, not a table.
const MAX_ROWS: usize = 1000;

/// What a person said about rows that were found.
#[derive(Debug)]
pub struct Feedback {
    /// Row by row, as many elements each as the model has dimensions.
    liked: Vec<f32>,
    disliked: Vec<f32>,
}

impl Feedback {
    /// Reads the arguments `liked` and `disliked` of a search from number `first` on.
    ///
    /// # Safety
    /// `fcinfo` must be the call's own, and the arguments arrays of embeddings.
    pub unsafe fn of_call(
        fcinfo: pg_sys::FunctionCallInfo,
        first: usize,
        model: &Model,
    ) -> Result<Self, Failure> {
        let read = |number, name| {
            // SAFETY: the caller's promise.
            match unsafe { pg_getarg::<Array<'_, Embedding>>(fcinfo, number) } {
                Some(array) if array.len() > MAX_ROWS => Err(Failure::new(
                    Code::ERRCODE_PROGRAM_LIMIT_EXCEEDED,
                    format!("{name} has {} embeddings, more than {MAX_ROWS}", array.len()),
                )
                .hint(
                    "Give some of them, or their average: ARRAY[(SELECT avg(embedding) FROM …)].",
                )),
                Some(array) => Ok(rows(name, &array, Some(model))?.0),
                None => Ok(Vec::new()),
            }
        };
        Ok(Self { liked: read(first, "liked")?, disliked: read(first + 1, "disliked")? })
    }

    /// The query after the feedback; as it was where there is none.
    pub fn apply(&self, query: Embedding) -> Result<Embedding, Failure> {
        if self.liked.is_empty() && self.disliked.is_empty() {
            return Ok(query);
        }
        let elements: Vec<f32> = query.as_slice().iter().map(|x| x.to_f32()).collect();
        let Some(moved) = moved(&elements, &self.liked, &self.disliked) else {
            return Err(Failure::new(
                Code::ERRCODE_INVALID_PARAMETER_VALUE,
                "liked and disliked leave nothing of the query",
            )
            .hint("Leave out what contradicts it."));
        };
        Embedding::from_f32_slice(&moved).map_err(|error| {
            Failure::new(Code::ERRCODE_DATA_EXCEPTION, "liked and disliked make no query")
                .detail(error.to_string())
        })
    }
}

/// The elements of an array of embeddings, row by row, and their dimensions: those of the model, or
/// of the first row where there is none. `name` is the array's in errors.
pub fn rows(
    name: &str,
    array: &Array<'_, Embedding>,
    model: Option<&Model>,
) -> Result<(Vec<f32>, usize), Failure> {
    let mut dims = model.map(|model| model.dimensions);
    let mut rows = Vec::new();
    if let Some(Some(first)) = array.iter().next() {
        limits::reserve(&mut rows, array.len().saturating_mul(first.dims().get()))?;
    }
    for (at, embedding) in array.iter().enumerate() {
        limits::poll(at);
        let place = at + 1;
        let Some(embedding) = embedding else {
            return Err(Failure::new(
                Code::ERRCODE_NULL_VALUE_NOT_ALLOWED,
                format!("{name}[{place}] is NULL"),
            )
            .hint("Leave rows without an embedding out."));
        };
        let found = embedding.dims().get();
        let expected = *dims.get_or_insert(found);
        if found != expected {
            let other = match model {
                Some(model) => format!("model \"{}\" has {expected}", model.name),
                None => format!("{name}[1] has {expected}"),
            };
            return Err(Failure::new(
                Code::ERRCODE_DATA_EXCEPTION,
                format!("{name}[{place}] has {found} dimensions, {other}"),
            )
            .hint("Embeddings of different models cannot be compared."));
        }
        rows.extend(embedding.as_slice().iter().map(|x| x.to_f32()));
    }
    Ok((rows, dims.unwrap_or(0)))
}
