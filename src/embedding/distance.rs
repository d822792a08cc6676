//! The distances behind `<=>`, `<->` and `<#>`. Arguments are read in place: a call allocates
//! nothing unless the server stored the value compressed, out of line or with a short header.

use pgrx::pg_extern;
use pgrx::pg_sys::panic::ErrorReport;

use super::value::Embedding;

/// `1 - cos(a, b)`, from 0 (same direction) to 2 (opposite); NaN where either is all zeros, as in
/// pgvector.
#[pg_extern(sql = false)]
fn embedding_cosine_distance(a: Embedding, b: Embedding) -> Result<f64, ErrorReport> {
    a.check_same_dims(&b)?;
    Ok(1.0 - pgclip_simd::cosine_parts(a.as_slice(), b.as_slice()).similarity())
}

/// The Euclidean distance.
#[pg_extern(sql = false)]
fn embedding_l2_distance(a: Embedding, b: Embedding) -> Result<f64, ErrorReport> {
    a.check_same_dims(&b)?;
    Ok(f64::from(pgclip_simd::squared_l2(a.as_slice(), b.as_slice())).sqrt())
}

/// The inner product.
#[pg_extern(sql = false)]
fn embedding_inner_product(a: Embedding, b: Embedding) -> Result<f64, ErrorReport> {
    a.check_same_dims(&b)?;
    Ok(f64::from(pgclip_simd::dot(a.as_slice(), b.as_slice())))
}

/// The inner product with its sign turned, so that nearest comes first in ascending order.
#[pg_extern(sql = false)]
fn embedding_negative_inner_product(a: Embedding, b: Embedding) -> Result<f64, ErrorReport> {
    a.check_same_dims(&b)?;
    Ok(-f64::from(pgclip_simd::dot(a.as_slice(), b.as_slice())))
}
