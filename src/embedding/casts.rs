//! Casts from and to arrays and pgvector's `vector`, and the cast that enforces a column's number
//! of dimensions.

use pgrx::array::RawArray;
use pgrx::datum::UnboxDatum;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::{AnyNumeric, Array, pg_extern};

use super::error::EmbeddingError;
use super::text;
use super::value::{Dims, Embedding};
use super::vector::Vector;
use crate::limits;

/// `embedding(d)`: the same value, if it has `d` dimensions.
#[pg_extern(sql = false)]
fn embedding_to_embedding(
    value: Embedding,
    typmod: i32,
    _explicit: bool,
) -> Result<Embedding, ErrorReport> {
    value.dims().expect_typmod(typmod)?;
    Ok(value)
}

#[pg_extern(sql = false)]
fn int4_array_to_embedding(
    array: Array<'_, i32>,
    typmod: i32,
    _explicit: bool,
) -> Result<Embedding, ErrorReport> {
    let values: Vec<f64> = elements(array, typmod)?.into_iter().map(f64::from).collect();
    Ok(Embedding::from_f64_slice(&values)?)
}

#[pg_extern(sql = false)]
fn float4_array_to_embedding(
    array: Array<'_, f32>,
    typmod: i32,
    _explicit: bool,
) -> Result<Embedding, ErrorReport> {
    Ok(Embedding::from_f32_slice(&elements(array, typmod)?)?)
}

#[pg_extern(sql = false)]
fn float8_array_to_embedding(
    array: Array<'_, f64>,
    typmod: i32,
    _explicit: bool,
) -> Result<Embedding, ErrorReport> {
    Ok(Embedding::from_f64_slice(&elements(array, typmod)?)?)
}

/// The type of `ARRAY[0.1, 0.2]` is `numeric[]`, so this is the cast that people type.
#[pg_extern(sql = false)]
fn numeric_array_to_embedding(
    array: Array<'_, AnyNumeric>,
    typmod: i32,
    _explicit: bool,
) -> Result<Embedding, ErrorReport> {
    let mut values = Vec::new();
    for (index, number) in elements(array, typmod)?.into_iter().enumerate() {
        limits::poll(index);
        let text = number.to_string();
        let value = text::parse_number(text.as_bytes(), index + 1)?;
        values.push(value.expect("the text of a numeric is a number"));
    }
    Ok(Embedding::from_f32_slice(&values)?)
}

#[pg_extern(sql = false)]
fn embedding_to_float4_array(value: Embedding) -> Vec<f32> {
    widened(&value)
}

#[pg_extern(sql = false)]
fn embedding_to_float8_array(value: Embedding) -> Vec<f64> {
    widened(&value).into_iter().map(f64::from).collect()
}

#[pg_extern(sql = false)]
fn vector_to_embedding(
    vector: Vector,
    typmod: i32,
    _explicit: bool,
) -> Result<Embedding, ErrorReport> {
    let values = vector.as_slice();
    Dims::new(values.len())?.expect_typmod(typmod)?;
    Ok(Embedding::from_f32_slice(values)?)
}

#[pg_extern(sql = false)]
fn embedding_to_vector(
    value: Embedding,
    typmod: i32,
    _explicit: bool,
) -> Result<Vector, ErrorReport> {
    value.dims().expect_typmod(typmod)?;
    Ok(Vector::from_slice(&widened(&value)))
}

/// The elements in single precision.
pub fn widened(value: &Embedding) -> Vec<f32> {
    let mut single = vec![0.0; value.dims().get()];
    pgclip_simd::widen(value.as_slice(), &mut single);
    single
}

/// The elements of a one-dimensional array without NULLs, of a length that an embedding can have.
fn elements<T>(array: Array<'_, T>, typmod: i32) -> Result<Vec<T>, EmbeddingError>
where
    for<'a> T: UnboxDatum<As<'a> = T> + pgrx::callconv::ArgAbi<'a> + 'a,
{
    let length = array.len();
    // Nothing is copied of what is too long in any case.
    let read = if length <= Dims::MAX { length } else { 0 };
    let null = array.iter().take(read).position(|element| element.is_none());
    let mut values = Vec::with_capacity(read);
    for (round, element) in array.iter().take(read).enumerate() {
        limits::poll(round);
        values.extend(element);
    }
    // SAFETY: the array came from the server, and its elements were copied above.
    let rank = unsafe { RawArray::from_array(array) }.map_or(0, |raw| raw.dims().len());
    if rank > 1 {
        return Err(EmbeddingError::NestedArray(rank));
    }
    if let Some(at) = null {
        return Err(EmbeddingError::NullElement { position: at + 1 });
    }
    Dims::new(length)?.expect_typmod(typmod)?;
    Ok(values)
}
