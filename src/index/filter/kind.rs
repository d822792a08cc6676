//! What a filter column can hold, and how a value of it becomes the 8 bytes of a record. A file of
//! its own because build and insert need this and nothing else of the filters.

use pgclip_hnsw::filter;
use pgrx::pg_sys;
use pgrx::pg_sys::Datum;

/// What a filter column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Integer,
    Bool,
    Float,
    Date,
    Timestamp,
    TimestampTz,
    Oid,
    Enum,
    Uuid,
    Text,
}

impl Kind {
    /// The kind of an operator class's input type; none where there are no filters on it.
    pub fn of_type(opcintype: pg_sys::Oid) -> Option<Self> {
        Some(match opcintype {
            pg_sys::INT2OID | pg_sys::INT4OID | pg_sys::INT8OID => Self::Integer,
            pg_sys::BOOLOID => Self::Bool,
            pg_sys::FLOAT4OID | pg_sys::FLOAT8OID => Self::Float,
            pg_sys::DATEOID => Self::Date,
            pg_sys::TIMESTAMPOID => Self::Timestamp,
            pg_sys::TIMESTAMPTZOID => Self::TimestampTz,
            pg_sys::OIDOID => Self::Oid,
            pg_sys::ANYENUMOID => Self::Enum,
            pg_sys::UUIDOID => Self::Uuid,
            pg_sys::TEXTOID => Self::Text,
            _ => return None,
        })
    }

    /// Is the code a hash, so that different values may share it?
    pub fn is_hashed(self) -> bool {
        matches!(self, Self::Uuid | Self::Text)
    }

    /// The code of a value. `kind_type` tells the width of numbers, `collation` which texts are
    /// equal. May raise an error of text hashing; leaves nothing allocated.
    ///
    /// # Safety
    /// `value` must be a value of `kind_type`, which must be a type of this kind, and not NULL.
    pub unsafe fn encode(
        self,
        value: Datum,
        kind_type: pg_sys::Oid,
        collation: pg_sys::Oid,
    ) -> u64 {
        match self {
            Self::Integer => filter::integer(integer(value, kind_type)),
            Self::Bool => filter::boolean(value.value() as u8 != 0),
            Self::Float => filter::float(float(value, kind_type)),
            Self::Date => filter::integer((value.value() as i32).into()),
            Self::Timestamp | Self::TimestampTz => filter::integer(value.value() as i64),
            Self::Oid | Self::Enum => u64::from(value.value() as u32),
            // SAFETY: a uuid is 16 bytes, passed by reference.
            Self::Uuid => filter::sixteen(unsafe { *value.cast_mut_ptr::<[u8; 16]>() }),
            // SAFETY: PostgreSQL's own function, with a text and a seed.
            Self::Text => unsafe {
                let hash = pg_sys::DirectFunctionCall2Coll(
                    Some(hashtextextended),
                    collation,
                    value,
                    Datum::from(0usize),
                );
                hash.value() as u64
            },
        }
    }
}

unsafe extern "C-unwind" {
    /// PostgreSQL's hash of a text, the same for texts that are equal under the collation.
    fn hashtextextended(call: pg_sys::FunctionCallInfo) -> Datum;
}

/// An integer of any width.
pub fn integer(value: Datum, type_oid: pg_sys::Oid) -> i64 {
    match type_oid {
        pg_sys::INT2OID => (value.value() as i16).into(),
        pg_sys::INT4OID => (value.value() as i32).into(),
        _ => value.value() as i64,
    }
}

/// A number of either width.
pub fn float(value: Datum, type_oid: pg_sys::Oid) -> f64 {
    match type_oid {
        pg_sys::FLOAT4OID => f32::from_bits(value.value() as u32).into(),
        _ => f64::from_bits(value.value() as u64),
    }
}

// Wide values are passed in the Datum itself: pgrx supports no machine where they are not.
const _: () = assert!(size_of::<Datum>() == 8);
