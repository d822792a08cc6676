//! pgvector's `vector` type as far as the casts need it: its bytes. A file of its own because it
//! alone knows a layout that is not ours.
//!
//! ```text
//! byte  0  int32    varlena header
//!       4  int16    number of dimensions, 1 to 16000
//!       6  int16    0, reserved
//!       8  float4[] the elements, native byte order
//! ```

use pgrx::callconv::{Arg, ArgAbi, BoxRet, FcInfo};
use pgrx::datum::Datum;
use pgrx::pg_sys;

const HEADER: usize = 8;

/// A detoasted `vector`. Only an argument or a result: it lives in the call's memory context.
pub struct Vector(*mut pg_sys::varlena);

impl Vector {
    /// A new `vector` of these elements.
    pub fn from_slice(values: &[f32]) -> Self {
        let bytes = HEADER + size_of_val(values);
        // SAFETY: palloc0 returns memory of this size, aligned for f32, or raises an error.
        unsafe {
            let start = pg_sys::palloc0(bytes);
            pgrx::set_varsize_4b(start.cast(), bytes as i32);
            start.cast::<u16>().add(2).write(values.len() as u16);
            let elements = start.cast::<u8>().add(HEADER).cast::<f32>();
            elements.copy_from_nonoverlapping(values.as_ptr(), values.len());
            Self(start.cast())
        }
    }

    /// The elements.
    pub fn as_slice(&self) -> &[f32] {
        // SAFETY: a detoasted varlena of pgvector's; the length word bounds the slice.
        unsafe {
            let room = pgrx::varsize_4b(self.0).saturating_sub(HEADER) / size_of::<f32>();
            let dims = usize::from(self.0.cast::<u16>().add(2).read());
            let elements = self.0.cast::<u8>().add(HEADER).cast::<f32>();
            std::slice::from_raw_parts(elements, dims.min(room))
        }
    }
}

// SAFETY: an argument declared `vector` in SQL is a varlena of pgvector's for the whole call.
unsafe impl<'fcx> ArgAbi<'fcx> for Vector {
    unsafe fn unbox_arg_unchecked(arg: Arg<'_, 'fcx>) -> Self {
        // SAFETY: the caller's promise.
        unsafe {
            let datum: pg_sys::Datum =
                arg.unbox_arg_using_from_datum().expect("a strict function sees no NULL");
            Self(pg_sys::pg_detoast_datum(datum.cast_mut_ptr()))
        }
    }
}

// SAFETY: the datum is a plain varlena in the call's memory context.
unsafe impl BoxRet for Vector {
    unsafe fn box_into<'fcx>(self, fcinfo: &mut FcInfo<'fcx>) -> Datum<'fcx> {
        // SAFETY: the result is returned at once.
        unsafe { fcinfo.return_raw_datum(self.0.into()) }
    }
}

pgrx::pgrx_sql_entity_graph::impl_sql_translatable!(Vector, "vector");
