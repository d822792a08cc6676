//! A scan's keys as conditions. A file of its own because keys come raw from the executor: with
//! NULLs where a comparison can't be true, arrays of any length, and values that may be toasted.

use pgclip_hnsw::filter::{Compare, Condition, Ranges};
use pgrx::pg_sys::Datum;
use pgrx::{PgMemoryContexts, pg_sys};

use super::constant::unsupported;
use super::{Column, Conditions, Kind};
use crate::error::Failure;

/// The first index column that is a filter; before it is the vector.
const FIRST: i16 = 2;

impl Conditions {
    /// Puts the conditions of a scan together. `columns` are the index's filter columns, in order;
    /// keys on the vector are left to the caller. Called once a rescan: what is allocated in
    /// PostgreSQL's memory meanwhile is freed, also by an error.
    ///
    /// # Safety
    /// The keys must be of a scan of an index that has these columns.
    pub unsafe fn compile(
        keys: &[pg_sys::ScanKeyData],
        columns: &[Column],
    ) -> Result<Self, Failure> {
        let mut conditions = Self::default();
        for key in keys {
            let Ok(at) = usize::try_from(key.sk_attno - FIRST) else { continue };
            let column = columns.get(at).ok_or_else(|| {
                unsupported(format!("a condition on index column {}", key.sk_attno))
            })?;
            // SAFETY: the key is of this column.
            let condition = unsafe { condition(key, column, &mut conditions.lossy)? };
            conditions.filter.and(at, condition);
            if conditions.never() {
                break;
            }
        }
        Ok(conditions)
    }
}

/// # Safety
/// The key must be of a scan, and of this column.
unsafe fn condition(
    key: &pg_sys::ScanKeyData,
    column: &Column,
    lossy: &mut bool,
) -> Result<Condition, Failure> {
    let has = |flag: u32| key.sk_flags as u32 & flag != 0;
    if has(pg_sys::SK_SEARCHNULL) {
        return Ok(Condition::is_null());
    }
    if has(pg_sys::SK_SEARCHNOTNULL) {
        return Ok(Condition::is_not_null());
    }
    if has(pg_sys::SK_ROW_HEADER | pg_sys::SK_ROW_MEMBER) {
        return Err(unsupported("a comparison of rows as condition of an index".to_owned()));
    }
    // Nothing compares with NULL.
    if has(pg_sys::SK_ISNULL) {
        return Ok(Condition::among(Ranges::none()));
    }
    let Some(compare) = Compare::of_strategy(key.sk_strategy) else {
        return Err(unsupported(format!("strategy number {} of a filter column", key.sk_strategy)));
    };
    let mut target = Target {
        column,
        compare,
        given: column.constant_type(key.sk_subtype)?,
        ranges: Vec::new(),
        lossy: false,
    };
    // SAFETY: the argument of such a key is an array, or a value of the key's type.
    unsafe {
        match has(pg_sys::SK_SEARCHARRAY) {
            true => PgMemoryContexts::new("pgclip filter array")
                .switch_to(|_| target.add_array(key.sk_argument))?,
            false => target.add(key.sk_argument)?,
        }
    }
    *lossy |= target.lossy;
    Ok(Condition::among(Ranges::union(target.ranges)))
}

/// A comparison, and the ranges of codes that fit one of its constants.
struct Target<'a> {
    column: &'a Column,
    compare: Compare,
    given: pg_sys::Oid,
    ranges: Vec<(u64, u64)>,
    lossy: bool,
}

impl Target<'_> {
    /// Adds what fits one constant.
    ///
    /// # Safety
    /// It must be of the given type, and not NULL.
    unsafe fn add(&mut self, value: Datum) -> Result<(), Failure> {
        let (kind, compare) = (self.column.kind, self.compare);
        if kind == Kind::Enum && compare != Compare::Equal {
            // SAFETY: the value is of an enum type.
            unsafe { self.add_enum_values(value.value() as u32) };
            return Ok(());
        }
        if kind.is_hashed() && compare != Compare::Equal {
            return Err(unsupported(format!(
                "a comparison with strategy number {} of a column that is kept as a hash",
                compare as u16
            )));
        }
        // SAFETY: as the caller's.
        let place = unsafe { self.column.place(value, self.given) };
        self.lossy |= kind.is_hashed() || !place.exact;
        self.ranges.extend(compare.range(place));
        Ok(())
    }

    /// Adds what fits an element of an array. NULLs in it fit nothing.
    ///
    /// # Safety
    /// It must be an array of the given type. What is allocated in the current memory context is
    /// left there.
    unsafe fn add_array(&mut self, array: Datum) -> Result<(), Failure> {
        // SAFETY: an array in memory has its element type in its header; the elements and the
        // marks of NULL are as many as PostgreSQL says.
        unsafe {
            let array = pg_sys::pg_detoast_datum(array.cast_mut_ptr()).cast::<pg_sys::ArrayType>();
            let element = (*array).elemtype;
            let (mut length, mut by_value, mut align) = (0, false, 0);
            pg_sys::get_typlenbyvalalign(element, &mut length, &mut by_value, &mut align);
            let (mut values, mut nulls, mut count) =
                (std::ptr::null_mut(), std::ptr::null_mut(), 0);
            pg_sys::deconstruct_array(
                array,
                element,
                length.into(),
                by_value,
                align,
                &mut values,
                &mut nulls,
                &mut count,
            );
            for at in 0..count as usize {
                pg_sys::check_for_interrupts!();
                if !*nulls.add(at) {
                    self.add(*values.add(at))?;
                }
            }
        }
        Ok(())
    }

    /// Adds the values of an enum type that compare so with one of them. Their OIDs are in the
    /// order in which they were added to the type, which need not be theirs.
    ///
    /// # Safety
    /// `value` must be the OID of a value of an enum type.
    unsafe fn add_enum_values(&mut self, value: u32) {
        for (order, other) in enum_values(pg_sys::Oid::from(value)) {
            if self.compare.holds(order) {
                self.ranges.push((other.into(), other.into()));
            }
        }
    }
}

/// All values of an enum type by their OIDs, and how each compares with one of them.
fn enum_values(value: pg_sys::Oid) -> Vec<(std::cmp::Ordering, u32)> {
    // SAFETY: rows of the catalog's cache are read before they are given back; an error gives them
    // back with the statement's resources.
    unsafe {
        let by_oid = pg_sys::SysCacheIdentifier::ENUMOID as i32;
        let row = pg_sys::SearchSysCache1(by_oid, value.into());
        if row.is_null() {
            return Vec::new();
        }
        let found = *pg_sys::heap_tuple_get_struct::<pg_sys::FormData_pg_enum>(row);
        pg_sys::ReleaseSysCache(row);
        let by_name = pg_sys::SysCacheIdentifier::ENUMTYPOIDNAME as i32;
        let none = Datum::from(0usize);
        let list = pg_sys::SearchSysCacheList(by_name, 1, found.enumtypid.into(), none, none);
        let members = (*list).members.as_ptr();
        let mut values = Vec::with_capacity((*list).n_members as usize);
        for at in 0..(*list).n_members as usize {
            let tuple = &raw mut (**members.add(at)).tuple;
            let other = *pg_sys::heap_tuple_get_struct::<pg_sys::FormData_pg_enum>(tuple);
            values.push((other.enumsortorder.total_cmp(&found.enumsortorder), other.oid.to_u32()));
        }
        pg_sys::ReleaseCatCacheList(list);
        values
    }
}
