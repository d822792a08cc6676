//! Text and binary input and output, and the type modifier.
//!
//! The binary form is what pgvector's `halfvec` sends: int16 number of dimensions, int16 zero, then
//! the fp16 bit patterns, all in network byte order.

use std::ffi::{CStr, CString};

use half::f16;
use pgrx::datum::Internal;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::{pg_extern, pg_sys};

use super::error::EmbeddingError;
use super::soft::save_error;
use super::text;
use super::value::{Dims, Embedding};

/// The type's input function. Where the caller collects errors instead of raising them
/// (`COPY … ON_ERROR ignore`, `pg_input_is_valid`), bad input is NULL and the error collected.
#[pg_extern(sql = false)]
fn embedding_in(
    input: &CStr,
    _type_oid: pg_sys::Oid,
    typmod: i32,
    fcinfo: pg_sys::FunctionCallInfo,
) -> Result<Option<Embedding>, ErrorReport> {
    let read = || {
        let values = text::parse(input.to_bytes())?;
        Dims::new(values.len())?.expect_typmod(typmod)?;
        Embedding::from_f32_slice(&values)
    };
    match read() {
        Ok(value) => Ok(Some(value)),
        // SAFETY: `fcinfo` is this call's own.
        Err(error) if unsafe { save_error(fcinfo, &error) } => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The type's output function.
#[pg_extern(sql = false)]
fn embedding_out(value: Embedding) -> CString {
    CString::new(text::print(value.as_slice())).expect("digits and punctuation hold no zero byte")
}

/// The type's binary input function. A message of any bytes is read to its end or refused.
#[pg_extern(sql = false)]
fn embedding_recv(
    message: Internal,
    _type_oid: pg_sys::Oid,
    typmod: i32,
) -> Result<Embedding, ErrorReport> {
    let datum = message.unwrap().expect("the server passes a message");
    let buffer: pg_sys::StringInfo = datum.cast_mut_ptr();
    // SAFETY: a receive function's first argument is a StringInfo, of which `cursor` to `len` is
    // yet to be read; the bytes stay where they are until this function returns.
    let (rest, cursor) = unsafe {
        let start = (*buffer).data.add((*buffer).cursor as usize).cast::<u8>();
        let length = (*buffer).len - (*buffer).cursor;
        (std::slice::from_raw_parts(start, length as usize), &mut (*buffer).cursor)
    };
    let (head, elements) = rest.split_at_checked(4).ok_or(EmbeddingError::Truncated(rest.len()))?;
    let dims = u16::from_be_bytes([head[0], head[1]]);
    let dims = Dims::new(dims.into())?.expect_typmod(typmod)?;
    let reserved = u16::from_be_bytes([head[2], head[3]]);
    if reserved != 0 {
        return Err(EmbeddingError::Reserved(reserved).into());
    }
    let length = dims.get() * size_of::<f16>();
    let bytes = elements.get(..length).ok_or(EmbeddingError::Truncated(rest.len()))?;
    *cursor += (head.len() + length) as i32;
    let value = Embedding::build(dims, |out| {
        for (to, from) in out.iter_mut().zip(bytes.chunks_exact(2)) {
            *to = f16::from_be_bytes([from[0], from[1]]);
        }
    });
    value.check_finite()?;
    Ok(value)
}

/// The type's binary output function.
#[pg_extern(sql = false)]
fn embedding_send(value: Embedding) -> Vec<u8> {
    let elements = value.as_slice();
    let mut bytes = Vec::with_capacity(4 + size_of_val(elements));
    bytes.extend_from_slice(&(elements.len() as u16).to_be_bytes());
    bytes.extend_from_slice(&[0, 0]);
    bytes.extend(elements.iter().flat_map(|x| x.to_be_bytes()));
    bytes
}

/// Reads the `d` of `embedding(d)`.
#[pg_extern(sql = false)]
fn embedding_typmod_in(modifiers: pgrx::Array<'_, &CStr>) -> Result<i32, ErrorReport> {
    let given: Vec<_> = modifiers
        .iter()
        .map(|modifier| modifier.map_or("NULL".into(), |text| text.to_string_lossy()))
        .collect();
    let dims = match given.as_slice() {
        [one] => one.trim().parse::<usize>().ok().and_then(|dims| Dims::new(dims).ok()),
        _ => None,
    };
    match dims {
        Some(dims) => Ok(dims.get() as i32),
        None => Err(EmbeddingError::TypeModifier(given.join(",")).into()),
    }
}
