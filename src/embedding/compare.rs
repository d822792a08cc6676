//! The total order and the hash behind `= <> < <= >= >`, B-tree and hash indexes, DISTINCT and
//! GROUP BY: element by element, and a prefix comes first. −0 equals 0, in order and in hash.

use std::cmp::Ordering;
use std::ffi::c_int;

use half::f16;
use pgrx::pg_extern;

use super::value::Embedding;

/// The order of finite fp16 numbers as an order of integers; both zeros are 0.
fn key(x: f16) -> i32 {
    let bits = i32::from(x.to_bits());
    let magnitude = bits & 0x7fff;
    if bits == magnitude { magnitude } else { -magnitude }
}

fn compare(a: &Embedding, b: &Embedding) -> Ordering {
    let keys = |value| Embedding::as_slice(value).iter().map(|&x| key(x));
    keys(a).cmp(keys(b))
}

#[pg_extern(sql = false)]
fn embedding_cmp(a: Embedding, b: Embedding) -> i32 {
    compare(&a, &b) as i32
}

#[pg_extern(sql = false)]
fn embedding_eq(a: Embedding, b: Embedding) -> bool {
    a.dims() == b.dims() && compare(&a, &b).is_eq()
}

#[pg_extern(sql = false)]
fn embedding_ne(a: Embedding, b: Embedding) -> bool {
    a.dims() != b.dims() || compare(&a, &b).is_ne()
}

#[pg_extern(sql = false)]
fn embedding_lt(a: Embedding, b: Embedding) -> bool {
    compare(&a, &b).is_lt()
}

#[pg_extern(sql = false)]
fn embedding_le(a: Embedding, b: Embedding) -> bool {
    compare(&a, &b).is_le()
}

#[pg_extern(sql = false)]
fn embedding_gt(a: Embedding, b: Embedding) -> bool {
    compare(&a, &b).is_gt()
}

#[pg_extern(sql = false)]
fn embedding_ge(a: Embedding, b: Embedding) -> bool {
    compare(&a, &b).is_ge()
}

unsafe extern "C-unwind" {
    // PostgreSQL's hash of bytes (src/common/hashfn.c); neither raises an error.
    fn hash_bytes(bytes: *const u8, length: c_int) -> u32;
    fn hash_bytes_extended(bytes: *const u8, length: c_int, seed: u64) -> u64;
}

#[pg_extern(sql = false)]
fn embedding_hash(value: Embedding) -> i32 {
    // SAFETY: the pointer and the length are those of a live slice.
    with_canonical_bytes(&value, |bytes| unsafe {
        hash_bytes(bytes.as_ptr(), bytes.len() as c_int) as i32
    })
}

#[pg_extern(sql = false)]
fn embedding_hash_extended(value: Embedding, seed: i64) -> i64 {
    // SAFETY: the pointer and the length are those of a live slice.
    with_canonical_bytes(&value, |bytes| unsafe {
        hash_bytes_extended(bytes.as_ptr(), bytes.len() as c_int, seed as u64) as i64
    })
}

/// Calls `hash` with the elements' bytes, every −0 replaced by 0.
fn with_canonical_bytes<R>(value: &Embedding, hash: impl FnOnce(&[u8]) -> R) -> R {
    fn bytes(elements: &[f16]) -> &[u8] {
        // SAFETY: any fp16 number is two plain bytes.
        unsafe { std::slice::from_raw_parts(elements.as_ptr().cast(), size_of_val(elements)) }
    }
    let elements = value.as_slice();
    if !elements.contains(&f16::ZERO) {
        return hash(bytes(elements));
    }
    let positive = |&x: &f16| if x == f16::ZERO { f16::ZERO } else { x };
    hash(bytes(&elements.iter().map(positive).collect::<Vec<_>>()))
}
