//! Soft errors: since PostgreSQL 16 the caller of an input function may ask to be told of bad
//! input instead of having it raised. A file of its own because pgrx does not wrap them.

use pgrx::pg_sys;

use super::error::EmbeddingError;

/// Hands `error` to the caller, if the caller collects errors; false means: raise it.
///
/// # Safety
/// `fcinfo` must be the live call information of an input function.
#[cfg(not(any(feature = "pg14", feature = "pg15")))]
pub unsafe fn save_error(fcinfo: pg_sys::FunctionCallInfo, error: &EmbeddingError) -> bool {
    use std::ffi::{CString, c_char, c_int};

    unsafe extern "C-unwind" {
        fn errcode(sqlerrcode: c_int) -> c_int;
        // Untranslated only from 18 on; a format of a string alone has no translation.
        fn errhint(format: *const c_char, ...) -> c_int;
    }
    /// Text for a message: a zero byte cannot occur in one that was made from a C string.
    fn c_text(text: &str) -> CString {
        CString::new(text.replace('\0', "")).expect("zero bytes were removed")
    }
    const PRINT: *const c_char = c"%s".as_ptr();

    // SAFETY: the caller's promise; the context is checked to be an ErrorSaveContext before it is
    // used, and the calls are the expansion of the server's ereturn().
    unsafe {
        let context = (*fcinfo).context;
        if context.is_null() || (*context).type_ != pg_sys::NodeTag::T_ErrorSaveContext {
            return false;
        }
        if pg_sys::errsave_start(context, std::ptr::null()) {
            errcode(error.code() as c_int);
            pg_sys::errmsg_internal(PRINT, c_text(&error.to_string()).as_ptr());
            if let Some(detail) = error.detail() {
                pg_sys::errdetail_internal(PRINT, c_text(&detail).as_ptr());
            }
            if let Some(hint) = error.hint() {
                errhint(PRINT, c_text(&hint).as_ptr());
            }
            pg_sys::errsave_finish(context, c"soft.rs".as_ptr(), 0, c"embedding_in".as_ptr());
        }
        true
    }
}

/// Before PostgreSQL 16 every error is raised.
///
/// # Safety
/// None; the signature is that of the other.
#[cfg(any(feature = "pg14", feature = "pg15"))]
pub unsafe fn save_error(_fcinfo: pg_sys::FunctionCallInfo, _error: &EmbeddingError) -> bool {
    false
}
