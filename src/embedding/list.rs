//! Arrays of embeddings as results. Apart from [`value`](super::value), since pgrx makes an array by
//! asking for its elements' type once an element, which for a type of an extension is a search of the
//! catalog.

use pgrx::callconv::{BoxRet, FcInfo};
use pgrx::datum::{Datum, IntoDatum};
use pgrx::pg_sys;

use super::value::Embedding;
use crate::limits;

/// Embeddings, or NULLs, in a row.
#[derive(Debug)]
pub struct Embeddings(pub Vec<Option<Embedding>>);

impl Embeddings {
    /// The array in the current memory context.
    fn into_array(self) -> pg_sys::Datum {
        let nulls_of = |value: &Option<Embedding>| value.is_none();
        let mut nulls: Vec<bool> = self.0.iter().map(nulls_of).collect();
        let value_of = |value: Option<Embedding>| value.and_then(IntoDatum::into_datum);
        let mut values: Vec<pg_sys::Datum> = Vec::with_capacity(nulls.len());
        for (round, value) in self.0.into_iter().enumerate() {
            limits::poll(round);
            values.push(value_of(value).unwrap_or(pg_sys::Datum::null()));
        }
        let (mut count, mut from) = (values.len() as i32, 1);
        let of = Embedding::type_oid();
        let (mut length, mut by_value, mut align) = (0, false, 0);
        // SAFETY: a catalog lookup that fills in three variables; as many values and nulls as are
        // said; the array copies the values, which are then freed.
        unsafe {
            pg_sys::get_typlenbyvalalign(of, &mut length, &mut by_value, &mut align);
            let array = match count {
                0 => pg_sys::construct_empty_array(of),
                _ => pg_sys::construct_md_array(
                    values.as_mut_ptr(),
                    nulls.as_mut_ptr(),
                    1,
                    &mut count,
                    &mut from,
                    of,
                    length.into(),
                    by_value,
                    align,
                ),
            };
            for (value, null) in values.iter().zip(&nulls) {
                if !null {
                    pg_sys::pfree(value.cast_mut_ptr());
                }
            }
            pg_sys::Datum::from(array)
        }
    }
}

// SAFETY: the datum is an array in memory that outlives the call's result.
unsafe impl BoxRet for Embeddings {
    unsafe fn box_into<'fcx>(self, fcinfo: &mut FcInfo<'fcx>) -> Datum<'fcx> {
        // SAFETY: the result is returned at once.
        unsafe { fcinfo.return_raw_datum(self.into_array()) }
    }
}

pgrx::pgrx_sql_entity_graph::impl_sql_translatable!(Embeddings, "embedding[]");
