//! Arithmetic, and the functions of one embedding: `dims`, `norm`, `l2_normalize`, `subvector`.
//! Calculated in single precision and rounded once.

use pgrx::pg_extern;
use pgrx::pg_sys::panic::ErrorReport;

use super::casts::widened;
use super::error::EmbeddingError;
use super::value::{Dims, Embedding};

#[pg_extern(sql = false)]
fn embedding_dims(value: Embedding) -> i32 {
    value.dims().get() as i32
}

/// The Euclidean norm.
#[pg_extern(sql = false)]
fn embedding_norm(value: Embedding) -> f64 {
    f64::from(pgclip_simd::squared_norm(value.as_slice())).sqrt()
}

/// The same direction at length 1; all zeros stay all zeros.
#[pg_extern(sql = false)]
fn embedding_l2_normalize(value: Embedding) -> Result<Embedding, ErrorReport> {
    let norm = f64::from(pgclip_simd::squared_norm(value.as_slice())).sqrt();
    if norm == 0.0 {
        return Ok(value);
    }
    let scaled: Vec<f32> =
        widened(&value).into_iter().map(|x| (f64::from(x) / norm) as f32).collect();
    Ok(Embedding::from_f32_slice(&scaled)?)
}

/// `count` elements from `start` on, counted from 1. As in pgvector and `substring`, what lies
/// outside the embedding is cut off.
#[pg_extern(sql = false)]
fn embedding_subvector(value: Embedding, start: i32, count: i32) -> Result<Embedding, ErrorReport> {
    let dims = value.dims().get() as i64;
    let first = i64::from(start).max(1);
    let end = (i64::from(start) + i64::from(count)).min(dims + 1);
    if count < 1 || first >= end {
        return Err(EmbeddingError::EmptyRange { start, count }.into());
    }
    let part = &value.as_slice()[first as usize - 1..end as usize - 1];
    Ok(Embedding::build(Dims::new(part.len())?, |out| out.copy_from_slice(part)))
}

#[pg_extern(sql = false)]
fn embedding_add(a: Embedding, b: Embedding) -> Result<Embedding, ErrorReport> {
    Ok(elementwise(a, b, |a, b| a + b)?)
}

#[pg_extern(sql = false)]
fn embedding_sub(a: Embedding, b: Embedding) -> Result<Embedding, ErrorReport> {
    Ok(elementwise(a, b, |a, b| a - b)?)
}

#[pg_extern(sql = false)]
fn embedding_mul(a: Embedding, b: Embedding) -> Result<Embedding, ErrorReport> {
    Ok(elementwise(a, b, |a, b| a * b)?)
}

fn elementwise(
    a: Embedding,
    b: Embedding,
    op: impl Fn(f32, f32) -> f32,
) -> Result<Embedding, EmbeddingError> {
    a.check_same_dims(&b)?;
    let values: Vec<f32> =
        widened(&a).into_iter().zip(widened(&b)).map(|(a, b)| op(a, b)).collect();
    Embedding::from_f32_slice(&values)
}
