//! What an image column holds: the image itself, the path of a file beneath a root, or the number of
//! a large object. A file of its own, since the rest of ingest need not know which.

use pgclip_wire::protocol::{ByteBuf, Image, MAX_PATH_BYTES};
use pgrx::pg_sys::errcodes::PgSqlErrorCode as Code;
use pgrx::{FromDatum, PgTupleDesc, pg_sys};

use crate::catalog::extension::Extension;
use crate::catalog::read;
use crate::encoder::requests::Batch;
use crate::error::Failure;
use crate::limits;
use crate::models::roots::{self, Root};

/// Bytes of a large object that are read at once.
const PIECE: i32 = 1 << 20;

/// A column's value as the row has it, compressed or out of line.
#[derive(Clone, Copy)]
pub struct Raw<'a>(Option<Value<'a>>);

#[derive(Clone, Copy)]
enum Value<'a> {
    /// With the length in front.
    Long(&'a [u8]),
    LargeObject([u8; 4]),
}

impl<'a> Raw<'a> {
    /// An error: the column is of a type that is neither, so somebody made this trigger by hand.
    ///
    /// # Safety
    /// The tuple must be of the description, and live longer than the result.
    pub unsafe fn of(
        tuple: pg_sys::HeapTuple,
        column: i16,
        columns: pg_sys::TupleDesc,
    ) -> Result<Self, Failure> {
        // SAFETY: the caller's promise; a description that is not counted is not released. A value
        // of a type of variable length is a varlena.
        unsafe {
            let described = PgTupleDesc::from_pg_unchecked(columns);
            let at = usize::try_from(column - 1).ok();
            let found =
                at.and_then(|at| described.get(at)).map(|found| (found.attlen, found.atttypid));
            let mut null = false;
            let mut value = || pg_sys::heap_getattr(tuple, column.into(), columns, &mut null);
            let value = match found {
                Some((-1, _)) => {
                    let at = value().cast_mut_ptr::<pg_sys::varlena>();
                    match null {
                        true => None,
                        false => Some(Value::Long(std::slice::from_raw_parts(
                            at.cast::<u8>(),
                            pgrx::varsize_any(at),
                        ))),
                    }
                }
                Some((4, of)) if pg_sys::getBaseType(of) == pg_sys::OIDOID => {
                    let number = (value().value() as u32).to_ne_bytes();
                    (!null).then_some(Value::LargeObject(number))
                }
                _ => {
                    return Err(Failure::new(
                        Code::ERRCODE_DATATYPE_MISMATCH,
                        "the trigger's columns are not an image and an embedding",
                    )
                    .hint("Drop the trigger and call clip_attach."));
                }
            };
            Ok(Self(value))
        }
    }

    pub fn is_null(self) -> bool {
        self.0.is_none()
    }

    /// The bytes in the row. Equal bytes are equal values: out of line, the same stored value.
    pub fn bytes(&self) -> Option<&[u8]> {
        match &self.0 {
            None => None,
            Some(Value::Long(bytes)) => Some(bytes),
            Some(Value::LargeObject(number)) => Some(number),
        }
    }
}

/// How a column holds its images.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    Bytes,
    Path(Root),
    LargeObject,
}

impl Kind {
    /// Of a column's type, `None` for one that cannot hold images. With a root it takes the current
    /// user's right to it.
    pub fn of_column(
        extension: &Extension,
        base: pg_sys::Oid,
        root: Option<&str>,
    ) -> Result<Option<Self>, Failure> {
        Ok(match (base, root) {
            (pg_sys::BYTEAOID, None) => Some(Self::Bytes),
            (pg_sys::OIDOID, None) => Some(Self::LargeObject),
            (pg_sys::TEXTOID | pg_sys::VARCHAROID, Some(root)) => {
                Some(Self::Path(roots::resolve(extension, root)?))
            }
            _ => None,
        })
    }

    /// Whether the current user may have that image encoded; the right to a root is known.
    pub fn check(&self, raw: Raw) -> Result<(), Failure> {
        match raw.0 {
            Some(Value::LargeObject(number)) => {
                check_object(pg_sys::Oid::from_u32(u32::from_ne_bytes(number)))
            }
            _ => Ok(()),
        }
    }

    /// The image that a value means. A large object is read with the rights of the current user.
    pub fn image(&self, raw: Raw) -> Result<Image, Failure> {
        match (self, raw.0) {
            (Self::LargeObject, Some(Value::LargeObject(number))) => {
                large_object(u32::from_ne_bytes(number)).map(|bytes| bytes.into())
            }
            (Self::Bytes, Some(Value::Long(value))) => {
                let datum = pg_sys::Datum::from(value.as_ptr());
                // SAFETY: a whole varlena.
                Batch::check_bytes(unsafe { limits::size_of_value(datum) })?;
                // SAFETY: a whole varlena of type bytea.
                let bytes = unsafe { plain(value, |bytes| ByteBuf::from(bytes)) };
                Ok(Image::Bytes(bytes))
            }
            (Self::Path(root), Some(Value::Long(value))) => {
                let datum = pg_sys::Datum::from(value.as_ptr());
                // SAFETY: a whole varlena.
                let bytes = unsafe { limits::size_of_value(datum) };
                limits::check("bytes of a path", bytes, MAX_PATH_BYTES)?;
                // SAFETY: a whole varlena of type text.
                let path = unsafe { String::from_datum(datum, false) }.unwrap_or_default();
                Ok(root.file(&path))
            }
            _ => Err(Failure::new(
                Code::ERRCODE_DATATYPE_MISMATCH,
                "the value is not of its column's type",
            )),
        }
    }
}

/// Hands out the content of a varlena.
///
/// # Safety
/// `value` must be a whole varlena.
unsafe fn plain<T>(value: &[u8], take: impl FnOnce(&[u8]) -> T) -> T {
    // SAFETY: the caller's promise; what detoasting copied is freed after its use.
    unsafe {
        let stored = value.as_ptr().cast_mut().cast::<pg_sys::varlena>();
        let plain = pg_sys::pg_detoast_datum_packed(stored);
        let taken = take(std::slice::from_raw_parts(
            pgrx::vardata_any(plain).cast(),
            pgrx::varsize_any_exhdr(plain),
        ));
        if plain != stored {
            pg_sys::pfree(plain.cast());
        }
        taken
    }
}

/// Sees that a large object is there and the current user may read it. One that is gone, or somebody
/// else's, is a fault of this image: an error of the server's own would end a backfill.
fn check_object(number: pg_sys::Oid) -> Result<(), Failure> {
    let exists = read::one::<bool>(
        "SELECT EXISTS (SELECT FROM pg_catalog.pg_largeobject_metadata \
         WHERE oid OPERATOR(pg_catalog.=) $1)",
        &[number.into()],
    );
    if exists? != Some(true) {
        return Err(Failure::new(
            Code::ERRCODE_UNDEFINED_OBJECT,
            format!("large object {} does not exist", number.to_u32()),
        ));
    }
    // SAFETY: catalog lookups; the object has just been there, and a NULL snapshot sees the present.
    let allowed = unsafe {
        let user = pg_sys::GetUserId();
        let mode = pg_sys::ACL_SELECT.into();
        pg_sys::pg_largeobject_aclcheck_snapshot(number, user, mode, std::ptr::null_mut())
    };
    if allowed != pg_sys::AclResult::ACLCHECK_OK {
        return Err(Failure::new(
            Code::ERRCODE_INSUFFICIENT_PRIVILEGE,
            format!("permission denied for large object {}", number.to_u32()),
        ));
    }
    Ok(())
}

/// The bytes of a large object, read in pieces by the server's own function.
fn large_object(number: u32) -> Result<Vec<u8>, Failure> {
    let number = pg_sys::Oid::from_u32(number);
    check_object(number)?;
    let mut bytes = Vec::new();
    loop {
        pgrx::check_for_interrupts!();
        let piece = read::one::<Vec<u8>>(
            "SELECT pg_catalog.lo_get($1, $2, $3)",
            &[number.into(), (bytes.len() as i64).into(), PIECE.into()],
        )?
        .unwrap_or_default();
        let last = piece.len() < PIECE as usize;
        bytes.extend(piece);
        Batch::check_bytes(bytes.len())?;
        if last {
            return Ok(bytes);
        }
    }
}
