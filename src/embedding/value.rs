//! The in-memory form of an embedding, and its way in and out of a `Datum`. A file of its own
//! because it alone touches the bytes; everything else works on slices.
//!
//! ```text
//! byte  0  int32   varlena header (length word)
//!       4  int16   number of dimensions, 1 to 16000
//!       6  int16   0, reserved (as in pgvector's halfvec)
//!       8  fp16[]  the elements, native byte order, all finite
//! ```

use std::ptr::NonNull;

use half::f16;
use pgrx::callconv::{Arg, ArgAbi, BoxRet, FcInfo};
use pgrx::datum::{Datum, FromDatum, IntoDatum, UnboxDatum};
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::{PgLogLevel, PgMemoryContexts, pg_sys};

use super::error::EmbeddingError;

/// The fixed part of the byte map above.
#[repr(C)]
struct Header {
    length: u32,
    dims: i16,
    unused: i16,
}

const _: () = assert!(size_of::<Header>() == 8 && align_of::<Header>() == 4);

/// A number of dimensions that an embedding can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Dims(u16);

impl Dims {
    /// The most dimensions an embedding can have, pgvector's own limit for `halfvec`.
    pub const MAX: usize = 16_000;

    /// Checks `1 <= dims <= Dims::MAX`.
    pub fn new(dims: usize) -> Result<Self, EmbeddingError> {
        match dims {
            0 => Err(EmbeddingError::Empty),
            1..=Self::MAX => Ok(Self(dims as u16)),
            _ => Err(EmbeddingError::TooManyDimensions(dims)),
        }
    }

    /// The number itself.
    pub fn get(self) -> usize {
        usize::from(self.0)
    }

    /// Checks against a type modifier: -1 takes every length.
    pub fn expect_typmod(self, typmod: i32) -> Result<Self, EmbeddingError> {
        match usize::try_from(typmod) {
            Ok(expected) if expected != self.get() => {
                Err(EmbeddingError::UnexpectedDimensions { expected, found: self.get() })
            }
            _ => Ok(self),
        }
    }

    fn bytes(self) -> usize {
        size_of::<Header>() + self.get() * size_of::<f16>()
    }
}

/// An embedding in PostgreSQL's memory: an argument read in place, or a value allocated in the
/// current memory context.
///
/// Like every pgrx value it must not outlive the call (or the memory context) that it came with.
/// A detoasted copy is freed when the value is dropped, so a comparison called a million times by
/// a sort leaves nothing behind.
#[derive(Debug)]
pub struct Embedding {
    header: NonNull<Header>,
    dims: Dims,
    /// Whether dropping frees the bytes.
    owned: bool,
}

impl Embedding {
    /// Allocates `dims` zeros in the current memory context and lets `fill` set them.
    ///
    /// `fill` must leave finite numbers only, or the caller must call [`Embedding::check_finite`].
    pub fn build(dims: Dims, fill: impl FnOnce(&mut [f16])) -> Self {
        // SAFETY: palloc0 returns MAXALIGNed memory of this size or raises an error.
        let header = unsafe { pg_sys::palloc0(dims.bytes()) }.cast::<Header>();
        // SAFETY: the allocation holds a header, and `set_varsize_4b` writes its length word.
        unsafe {
            pgrx::set_varsize_4b(header.cast(), dims.bytes() as i32);
            (*header).dims = dims.0 as i16;
        }
        let header = NonNull::new(header).expect("palloc never returns a null pointer");
        let mut value = Self { header, dims, owned: true };
        fill(value.as_mut_slice());
        value
    }

    /// Copies `values`. Errors: no element, more than [`Dims::MAX`], a NaN or an infinity.
    pub fn from_f16_slice(values: &[f16]) -> Result<Self, EmbeddingError> {
        let value = Self::build(Dims::new(values.len())?, |out| out.copy_from_slice(values));
        value.check_finite()?;
        Ok(value)
    }

    /// Rounds `values` to fp16, ties to even. Errors as [`Embedding::from_f16_slice`], and a
    /// finite number that fp16 cannot hold.
    pub fn from_f32_slice(values: &[f32]) -> Result<Self, EmbeddingError> {
        Self::from_f32_or(values, |at| overflow(values[at].into(), at))
    }

    /// Rounds `values` to fp16 by way of single precision. Errors as
    /// [`Embedding::from_f32_slice`].
    pub fn from_f64_slice(values: &[f64]) -> Result<Self, EmbeddingError> {
        let single: Vec<f32> = values.iter().map(|&x| x as f32).collect();
        Self::from_f32_or(&single, |at| overflow(values[at], at))
    }

    /// [`Embedding::from_f32_slice`] with the caller's own error for the element at an index that
    /// does not become a finite fp16 number.
    pub fn from_f32_or(
        values: &[f32],
        error: impl FnOnce(usize) -> EmbeddingError,
    ) -> Result<Self, EmbeddingError> {
        let dims = Dims::new(values.len())?;
        let value = Self::build(dims, |out| pgclip_simd::narrow(values, out));
        match pgclip_simd::first_non_finite(value.as_slice()) {
            None => Ok(value),
            Some(at) => Err(error(at)),
        }
    }

    /// Refuses NaN and infinity.
    pub fn check_finite(&self) -> Result<(), EmbeddingError> {
        match pgclip_simd::first_non_finite(self.as_slice()) {
            None => Ok(()),
            Some(at) => {
                let value = self.as_slice()[at].to_f64();
                Err(EmbeddingError::NotFinite { value, position: at + 1 })
            }
        }
    }

    /// The elements, all finite.
    pub fn as_slice(&self) -> &[f16] {
        // SAFETY: `build` and `from_varlena` saw to it that `dims` elements follow the header,
        // which is aligned to 4 bytes.
        unsafe { std::slice::from_raw_parts(self.header.as_ptr().add(1).cast(), self.dims.get()) }
    }

    fn as_mut_slice(&mut self) -> &mut [f16] {
        debug_assert!(self.owned);
        // SAFETY: as in `as_slice`; called by `build` alone, on memory nobody else knows.
        unsafe {
            std::slice::from_raw_parts_mut(self.header.as_ptr().add(1).cast(), self.dims.get())
        }
    }

    /// The number of elements.
    pub fn dims(&self) -> Dims {
        self.dims
    }

    /// Checks that `other` has as many elements as this.
    pub fn check_same_dims(&self, other: &Self) -> Result<(), EmbeddingError> {
        if self.dims == other.dims {
            return Ok(());
        }
        Err(EmbeddingError::DifferentDimensions { left: self.dims.get(), right: other.dims.get() })
    }

    /// Reads a varlena in place where it is plain, else a detoasted copy.
    ///
    /// # Safety
    /// `varlena` must be a live datum of type `embedding` (or `halfvec`) that outlives the result.
    unsafe fn from_varlena(varlena: *mut pg_sys::varlena) -> Result<Self, EmbeddingError> {
        // SAFETY: the caller's promise; detoasting a plain varlena returns it as it is.
        let plain = unsafe {
            if pgrx::varatt_is_4b_u(varlena) { varlena } else { pg_sys::pg_detoast_datum(varlena) }
        };
        let header = NonNull::new(plain.cast::<Header>()).expect("a datum is no null pointer");
        // SAFETY: a plain varlena starts with its length word.
        let bytes = unsafe { pgrx::varsize_4b(plain) };
        if bytes < size_of::<Header>() {
            return Err(EmbeddingError::Corrupt { bytes, dims: -1 });
        }
        // SAFETY: `bytes` says that the header is there.
        let stored = unsafe { header.as_ref().dims };
        match usize::try_from(stored).map(Dims::new) {
            Ok(Ok(dims)) if dims.bytes() == bytes => {
                Ok(Self { header, dims, owned: plain != varlena })
            }
            _ => Err(EmbeddingError::Corrupt { bytes, dims: i64::from(stored) }),
        }
    }
}

/// The error for `value` at index `at` having become non-finite in fp16.
pub fn overflow(value: f64, at: usize) -> EmbeddingError {
    let position = at + 1;
    if value.is_finite() {
        let value = if value.abs() < 1e9 { value.to_string() } else { format!("{value:e}") };
        EmbeddingError::OutOfRange { value, position }
    } else {
        EmbeddingError::NotFinite { value, position }
    }
}

impl Drop for Embedding {
    fn drop(&mut self) {
        if self.owned {
            // SAFETY: `owned` memory came from palloc and is nobody else's.
            unsafe { pg_sys::pfree(self.header.as_ptr().cast()) }
        }
    }
}

/// Raises what a value inside a conversion trait, which has no error of its own, ran into.
fn raise(error: EmbeddingError) -> ! {
    ErrorReport::from(error).report(PgLogLevel::ERROR);
    unreachable!("an ERROR does not return")
}

impl FromDatum for Embedding {
    unsafe fn from_polymorphic_datum(
        datum: pg_sys::Datum,
        is_null: bool,
        _type_oid: pg_sys::Oid,
    ) -> Option<Self> {
        if is_null {
            return None;
        }
        // SAFETY: the caller hands over a datum of our type.
        Some(unsafe { Self::from_varlena(datum.cast_mut_ptr()) }.unwrap_or_else(|e| raise(e)))
    }

    /// SPI calls this for values that must survive its own memory: they are copied.
    unsafe fn from_datum_in_memory_context(
        mut memory_context: PgMemoryContexts,
        datum: pg_sys::Datum,
        is_null: bool,
        _type_oid: pg_sys::Oid,
    ) -> Option<Self> {
        if is_null {
            return None;
        }
        // SAFETY: the caller's context is live, and the copy is a plain varlena of our type.
        unsafe {
            memory_context.switch_to(|_| {
                let copy = pg_sys::pg_detoast_datum_copy(datum.cast_mut_ptr());
                let mut value = Self::from_varlena(copy).unwrap_or_else(|e| raise(e));
                value.owned = true;
                Some(value)
            })
        }
    }
}

impl IntoDatum for Embedding {
    /// Hands the bytes over: a returned argument is returned in place.
    fn into_datum(self) -> Option<pg_sys::Datum> {
        Some(std::mem::ManuallyDrop::new(self).header.as_ptr().into())
    }

    /// The type's OID: the type named `embedding` that belongs to this extension, wherever its
    /// schema is. A catalog lookup on each call, since the extension may be dropped and recreated.
    fn type_oid() -> pg_sys::Oid {
        // SAFETY: plain catalog reads inside a transaction; the list is released on every path
        // (an error releases it with the resource owner).
        unsafe {
            let extension = pg_sys::get_extension_oid(c"pgclip".as_ptr(), false);
            let list = pg_sys::SearchSysCacheList(
                pg_sys::SysCacheIdentifier::TYPENAMENSP as i32,
                1,
                c"embedding".as_ptr().into(),
                pg_sys::Datum::null(),
                pg_sys::Datum::null(),
            );
            let members = (*list).members.as_slice((*list).n_members as usize);
            let found = members.iter().find_map(|&member| {
                let row = pg_sys::heap_tuple_get_struct::<pg_sys::FormData_pg_type>(
                    &raw mut (*member).tuple,
                );
                let oid = (*row).oid;
                let owner = pg_sys::getExtensionOfObject(pg_sys::TypeRelationId, oid);
                (owner == extension).then_some(oid)
            });
            pg_sys::ReleaseCatCacheList(list);
            found.unwrap_or(pg_sys::InvalidOid)
        }
    }
}

// SAFETY: an embedding holds no lifetime to shorten; an array's elements are varlenas of ours.
unsafe impl UnboxDatum for Embedding {
    type As<'src> = Self;

    unsafe fn unbox<'src>(datum: Datum<'src>) -> Self
    where
        Self: 'src,
    {
        // SAFETY: the caller's promise.
        let found = unsafe { Self::from_varlena(datum.sans_lifetime().cast_mut_ptr()) };
        found.unwrap_or_else(|error| raise(error))
    }
}

// SAFETY: an argument declared `embedding` in SQL holds a varlena of ours for the whole call.
unsafe impl<'fcx> ArgAbi<'fcx> for Embedding {
    unsafe fn unbox_arg_unchecked(arg: Arg<'_, 'fcx>) -> Self {
        // SAFETY: the caller's promise.
        unsafe { arg.unbox_arg_using_from_datum() }.expect("a strict function sees no NULL")
    }
}

// SAFETY: the datum is a varlena in memory that outlives the call's result.
unsafe impl BoxRet for Embedding {
    unsafe fn box_into<'fcx>(self, fcinfo: &mut FcInfo<'fcx>) -> Datum<'fcx> {
        match self.into_datum() {
            // SAFETY: the result is returned at once.
            Some(datum) => unsafe { fcinfo.return_raw_datum(datum) },
            None => fcinfo.return_null(),
        }
    }
}

pgrx::pgrx_sql_entity_graph::impl_sql_translatable!(Embedding, "embedding");
