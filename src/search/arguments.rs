//! The arguments of a search that a user sizes, looked at before they are copied. Apart from the
//! searches, which are called by hand-written wrappers and would each copy first.

use std::ffi::CStr;

use pgrx::fcinfo::{pg_getarg, pg_getarg_datum};
use pgrx::pg_sys;

use crate::encoder::requests::Batch;
use crate::error::Failure;
use crate::limits;

/// A name or an option; none where it is NULL.
///
/// # Safety
/// `fcinfo` must be the call's own, and the argument a text.
pub unsafe fn text(
    fcinfo: pg_sys::FunctionCallInfo,
    number: usize,
    name: &str,
) -> Result<Option<String>, Failure> {
    // SAFETY: the caller's promise.
    unsafe {
        check(fcinfo, number, &format!("bytes of {name}"), limits::OPTION_BYTES)?;
        Ok(pg_getarg(fcinfo, number))
    }
}

/// A text to be encoded; none where it is NULL.
///
/// # Safety
/// As [`text`].
pub unsafe fn query(
    fcinfo: pg_sys::FunctionCallInfo,
    number: usize,
) -> Result<Option<String>, Failure> {
    // SAFETY: the caller's promise.
    unsafe {
        if let Some(value) = pg_getarg_datum(fcinfo, number) {
            limits::text_of(limits::size_of_value(value))?;
        }
        Ok(pg_getarg(fcinfo, number))
    }
}

/// The bytes of an image; none where it is NULL.
///
/// # Safety
/// `fcinfo` must be the call's own, and the argument a bytea.
pub unsafe fn image(
    fcinfo: pg_sys::FunctionCallInfo,
    number: usize,
) -> Result<Option<Vec<u8>>, Failure> {
    // SAFETY: the caller's promise.
    unsafe {
        if let Some(value) = pg_getarg_datum(fcinfo, number) {
            Batch::check_bytes(limits::size_of_value(value))?;
        }
        Ok(pg_getarg(fcinfo, number))
    }
}

/// A jsonb as it is written; none where it is NULL.
///
/// # Safety
/// `fcinfo` must be the call's own, and the argument a jsonb.
pub unsafe fn json(
    fcinfo: pg_sys::FunctionCallInfo,
    number: usize,
    name: &str,
) -> Result<Option<String>, Failure> {
    // SAFETY: the caller's promise; the output function of jsonb makes a string.
    unsafe {
        check(fcinfo, number, &format!("bytes of {name}"), limits::JSON_BYTES)?;
        Ok(pg_getarg_datum(fcinfo, number).map(|value| {
            let text = pg_sys::OidOutputFunctionCall(pg_sys::Oid::from(pg_sys::F_JSONB_OUT), value);
            CStr::from_ptr(text).to_string_lossy().into_owned()
        }))
    }
}

/// Refuses an argument of a type of variable length that is larger than its bound.
///
/// # Safety
/// `fcinfo` must be the call's own, and the argument of such a type.
pub unsafe fn check(
    fcinfo: pg_sys::FunctionCallInfo,
    number: usize,
    what: &str,
    most: usize,
) -> Result<(), Failure> {
    // SAFETY: the caller's promise.
    match unsafe { pg_getarg_datum(fcinfo, number) } {
        // SAFETY: as above.
        Some(value) => limits::check(what, unsafe { limits::size_of_value(value) }, most),
        None => Ok(()),
    }
}
