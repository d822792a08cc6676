//! Constants of conditions among the values of a column, also where their types differ. A file of
//! its own because it is where the families' cross-type operators get their meaning.

use pgclip_hnsw::filter::{Moment, Place};
use pgrx::pg_sys;
use pgrx::pg_sys::Datum;
use pgrx::pg_sys::errcodes::PgSqlErrorCode as Code;

use super::kind::{Kind, float, integer};
use super::{Column, zone};
use crate::catalog::extension::type_name;
use crate::error::Failure;

impl Column {
    /// The type of a constant: a key that does not say means the column's.
    pub(super) fn constant_type(&self, subtype: pg_sys::Oid) -> Result<pg_sys::Oid, Failure> {
        if subtype == pg_sys::InvalidOid || subtype == self.type_oid {
            return Ok(self.type_oid);
        }
        let is_time = |kind| matches!(kind, Kind::Date | Kind::Timestamp | Kind::TimestampTz);
        let fits = Kind::of_type(subtype)
            .is_some_and(|kind| kind == self.kind || is_time(kind) && is_time(self.kind));
        match fits {
            true => Ok(subtype),
            false => Err(unsupported(format!(
                "a filter column of type {} cannot be compared with type {}",
                type_name(self.type_oid),
                type_name(subtype)
            ))),
        }
    }

    /// Where a constant lies among the column's values.
    ///
    /// # Safety
    /// `value` must be a value of type `given`, which [`constant_type`](Self::constant_type) must
    /// have let pass, and not NULL.
    pub(super) unsafe fn place(&self, value: Datum, given: pg_sys::Oid) -> Place {
        match self.kind {
            Kind::Integer => Place::at(pgclip_hnsw::filter::integer(integer(value, given))),
            Kind::Float => Place::at(pgclip_hnsw::filter::float(float(value, given))),
            Kind::Date if given == pg_sys::TIMESTAMPTZOID => {
                moment(value, given).no_later_than(LAST_TIMESTAMP).among_dates()
            }
            Kind::Date => moment(value, given).among_dates(),
            Kind::Timestamp => moment(value, given).among_timestamps(),
            Kind::TimestampTz => moment_of_zone(value, given).among_timestamps(),
            // SAFETY: as the caller's; what has no cross-type operators is of the column's type.
            kind => Place::at(unsafe { kind.encode(value, given, self.collation) }),
        }
    }
}

/// The last that PostgreSQL has. A date after it is later than any `timestamptz` but infinity, even
/// where the session's clock would make the two one moment.
const LAST_TIMESTAMP: i128 = 9_223_371_331_199_999_999;

/// On the clock of a column without a time zone.
fn moment(value: Datum, given: pg_sys::Oid) -> Moment {
    match given {
        pg_sys::DATEOID => Moment::of_date(value.value() as i32),
        pg_sys::TIMESTAMPTZOID => zone::on_local_clock(value.value() as i64),
        _ => Moment::of_timestamp(value.value() as i64),
    }
}

/// On the clock of a column of moments: a local time is one of them, by the session's time zone.
fn moment_of_zone(value: Datum, given: pg_sys::Oid) -> Moment {
    let mut overflow = 0;
    // SAFETY: both functions take any value of their type, and leave overflow to the caller.
    let converted = unsafe {
        match given {
            pg_sys::DATEOID => {
                pg_sys::date2timestamptz_opt_overflow(value.value() as i32, &mut overflow)
            }
            pg_sys::TIMESTAMPOID => {
                pg_sys::timestamp2timestamptz_opt_overflow(value.value() as i64, &mut overflow)
            }
            _ => value.value() as i64,
        }
    };
    let beyond = 2 * i128::from(i64::MAX);
    match overflow.signum() {
        1 => Moment::Between(beyond, beyond),
        -1 => Moment::Between(-beyond, -beyond),
        _ => Moment::of_timestamp(converted),
    }
}

pub(super) fn unsupported(message: String) -> Failure {
    Failure::new(Code::ERRCODE_FEATURE_NOT_SUPPORTED, message)
        .hint("Take what was added to pgclip's operator families out of them again.")
}
