//! What is said along with errors that the server raises while something of ours is at work. In a file of
//! its own, since the server's stack of such callbacks has rules of its own.

use std::ffi::{CStr, CString, c_char, c_int, c_void};

use pgrx::pg_sys;

unsafe extern "C-unwind" {
    fn errcontext_msg(format: *const c_char, ...) -> c_int;
}

/// A line of context for errors, as long as it is pushed.
///
/// It is in PostgreSQL's memory, and an error leaves it in place: pgrx raises an error of a function
/// that it called a second time, at the end of ours, and only then are contexts asked. Whoever
/// catches the error in the end takes all contexts off.
pub struct Context(*mut pg_sys::ErrorContextCallback);

impl Context {
    pub fn push(text: String) -> Self {
        let text = CString::new(text).expect("a name holds no zero byte");
        // SAFETY: both allocations live in the memory of the call, as long as an error that leaves
        // it is being handled.
        unsafe {
            let callback = pg_sys::palloc0(size_of::<pg_sys::ErrorContextCallback>())
                .cast::<pg_sys::ErrorContextCallback>();
            (*callback).previous = pg_sys::error_context_stack;
            (*callback).callback = Some(tell);
            (*callback).arg = pg_sys::pstrdup(text.as_ptr()).cast();
            pg_sys::error_context_stack = callback;
            Self(callback)
        }
    }

    pub fn pop(self) {
        // SAFETY: it is the topmost context, since what was called has returned.
        unsafe {
            pg_sys::error_context_stack = (*self.0).previous;
            pg_sys::pfree((*self.0).arg);
            pg_sys::pfree(self.0.cast());
        }
    }
}

/// # Safety
/// Called by PostgreSQL with what [`Context::push`] put there.
unsafe extern "C-unwind" fn tell(text: *mut c_void) {
    // SAFETY: a format with one string, and a string.
    unsafe { errcontext_msg(c"%s".as_ptr(), text.cast::<c_char>()) };
}

/// Keeps errors of constraints from showing the row, until dropped. The server shows what the current user
/// may read, who need not be the one whom the error is told.
pub struct Discretion(Box<pg_sys::ErrorContextCallback>);

const HIDDEN: &CStr =
    c"The row is not shown, since it was written with the rights of the table's owner.";

impl Discretion {
    pub fn begin() -> Self {
        // SAFETY: reads and writes the head of the server's list; the entry stays where it is until it is
        // taken out, which an error that passes by does as well, after it has asked.
        unsafe {
            let mut callback = Box::new(pg_sys::ErrorContextCallback {
                previous: pg_sys::error_context_stack,
                callback: Some(hide),
                arg: std::ptr::null_mut(),
            });
            pg_sys::error_context_stack = &raw mut *callback;
            Self(callback)
        }
    }
}

impl Drop for Discretion {
    fn drop(&mut self) {
        // SAFETY: it is the topmost one, since what was called has returned or failed.
        unsafe { pg_sys::error_context_stack = self.0.previous };
    }
}

/// # Safety
/// Called by PostgreSQL while it raises an error.
unsafe extern "C-unwind" fn hide(_: *mut c_void) {
    // SAFETY: an error is being raised; a format with one string, and a string.
    unsafe {
        // The class of an SQLSTATE, its first two characters.
        let class = pg_sys::geterrcode() & 0xfff;
        let of = |a: u8, b: u8| i32::from((a - b'0') & 0x3f) | i32::from((b - b'0') & 0x3f) << 6;
        if class == of(b'2', b'3') || class == of(b'4', b'4') {
            pg_sys::errdetail_internal(c"%s".as_ptr(), HIDDEN.as_ptr());
        }
    }
}
