//! Conditions on filter values: what a row must hold to be an answer. Its own file because both
//! sides of the bargain meet here: how a value becomes the 8 bytes that a record keeps, and what an
//! unsigned comparison of those 8 bytes says about the values.
//!
//! Kinds with an order are encoded so that the codes' order is the values'. A condition on them
//! becomes inclusive ranges of codes. Kinds that are kept as a hash know equality alone; a code that
//! fits is a candidate that somebody has to check.
//!
//! A constant need not be a value that a column can hold: a timestamp may lie between two dates, or
//! beyond the last. [`Place`] says where it lies among the values of the column.

use std::cmp::Ordering;

use crate::format::record::Values;

/// The code of an integer, or of anything that is counted: days, microseconds.
#[inline]
pub fn integer(value: i64) -> u64 {
    value as u64 ^ 1 << 63
}

/// The code of a truth value.
#[inline]
pub fn boolean(value: bool) -> u64 {
    value.into()
}

/// The code of a number: −0 is 0, and NaN is equal to itself and above all others.
#[inline]
pub fn float(value: f64) -> u64 {
    if value.is_nan() {
        return u64::MAX;
    }
    // Adding 0 turns −0 into 0.
    let bits = (value + 0.0).to_bits();
    if bits >> 63 == 1 { !bits } else { bits | 1 << 63 }
}

/// The code of 16 bytes, which is a hash. It is in files, so it never changes.
#[inline]
pub fn sixteen(bytes: [u8; 16]) -> u64 {
    // The finaliser of splitmix64, after each half.
    let mix = |x: u64| {
        let x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ x >> 31
    };
    let value = u128::from_le_bytes(bytes);
    let first = mix(value as u64 ^ 0x9e37_79b9_7f4a_7c15);
    mix(first.wrapping_add((value >> 64) as u64).wrapping_add(0x9e37_79b9_7f4a_7c15))
}

/// How a value is compared with a constant; the numbers are those of B-tree's strategies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum Compare {
    /// `<`
    Less = 1,
    /// `<=`
    LessEqual = 2,
    /// `=`
    Equal = 3,
    /// `>=`
    GreaterEqual = 4,
    /// `>`
    Greater = 5,
}

impl Compare {
    /// All comparisons.
    pub const ALL: [Self; 5] =
        [Self::Less, Self::LessEqual, Self::Equal, Self::GreaterEqual, Self::Greater];

    /// The comparison of a strategy number.
    pub fn of_strategy(number: u16) -> Option<Self> {
        Self::ALL.into_iter().find(|compare| *compare as u16 == number)
    }

    /// Does a value that is so to the constant fit?
    pub fn holds(self, order: Ordering) -> bool {
        match self {
            Self::Less => order.is_lt(),
            Self::LessEqual => order.is_le(),
            Self::Equal => order.is_eq(),
            Self::GreaterEqual => order.is_ge(),
            Self::Greater => order.is_gt(),
        }
    }

    /// The inclusive range of codes that may fit; none where no value does.
    pub fn range(self, place: Place) -> Option<(u64, u64)> {
        let Place { below, above, exact } = place;
        let (first, last) = match self {
            Self::Less if exact => (0, above.checked_sub(1)?),
            Self::Less | Self::LessEqual => (0, below),
            Self::Equal => (above, below),
            Self::Greater if exact => (below.checked_add(1)?, u64::MAX),
            Self::Greater | Self::GreaterEqual => (above, u64::MAX),
        };
        (first <= last).then_some((first, last))
    }
}

/// Where a constant lies among the codes of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The greatest code whose value may be less than or equal to the constant.
    pub below: u64,
    /// The least code whose value may be greater than or equal to it.
    pub above: u64,
    /// Is every value above `below` surely greater, every one below `above` surely less, and are
    /// values of both at once equal? If not, what fits is to be checked.
    pub exact: bool,
}

impl Place {
    /// Of a constant that the column can hold.
    pub fn at(code: u64) -> Self {
        Self { below: code, above: code, exact: true }
    }
}

/// A point in time, in microseconds of the column's own clock, to be compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// Minus infinity.
    Start,
    /// Not before the first, not after the second: the same unless the clock was put back or
    /// forward nearby. Beyond what a column can hold is allowed.
    Between(i128, i128),
    /// Infinity.
    End,
}

/// A day's microseconds.
pub const DAY: i64 = 86_400_000_000;

impl Moment {
    /// Of a value of PostgreSQL's `timestamp` type, whose least and greatest are the infinities.
    pub fn of_timestamp(microseconds: i64) -> Self {
        match microseconds {
            i64::MIN => Self::Start,
            i64::MAX => Self::End,
            exact => Self::Between(exact.into(), exact.into()),
        }
    }

    /// Of a value of PostgreSQL's `date` type, likewise: its midnight.
    pub fn of_date(days: i32) -> Self {
        match days {
            i32::MIN => Self::Start,
            i32::MAX => Self::End,
            day => Self::of_midnight(day.into()),
        }
    }

    fn of_midnight(day: i128) -> Self {
        Self::Between(day * i128::from(DAY), day * i128::from(DAY))
    }

    /// The earlier of this and a limit, which infinity does not know.
    pub fn no_later_than(self, limit: i128) -> Self {
        match self {
            Self::Between(earliest, latest) => {
                Self::Between(earliest.min(limit), latest.min(limit))
            }
            infinity => infinity,
        }
    }

    /// Among timestamps.
    pub fn among_timestamps(self) -> Place {
        self.place(1, i64::MIN, i64::MAX)
    }

    /// Among dates.
    pub fn among_dates(self) -> Place {
        self.place(DAY, i32::MIN.into(), i32::MAX.into())
    }

    /// Among multiples of `unit`, which have codes from `start` (minus infinity) to `end`.
    fn place(self, unit: i64, start: i64, end: i64) -> Place {
        let (unit, first, last) = (i128::from(unit), i128::from(start) + 1, i128::from(end) - 1);
        match self {
            Self::Start => Place::at(integer(start)),
            Self::End => Place::at(integer(end)),
            Self::Between(earliest, latest) => Place {
                below: integer(latest.div_euclid(unit).clamp(first - 1, last) as i64),
                above: integer((-(-earliest).div_euclid(unit)).clamp(first, last + 1) as i64),
                exact: earliest == latest,
            },
        }
    }
}

/// A set of codes: inclusive ranges in ascending order, with gaps between them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ranges(Vec<(u64, u64)>);

impl Ranges {
    /// Every code.
    pub fn all() -> Self {
        Self(vec![(0, u64::MAX)])
    }

    /// No code.
    pub fn none() -> Self {
        Self(Vec::new())
    }

    /// The union of inclusive ranges in any order. Those that end before they begin are empty.
    pub fn union(mut ranges: Vec<(u64, u64)>) -> Self {
        ranges.retain(|(first, last)| first <= last);
        ranges.sort_unstable();
        ranges.dedup_by(|next, kept| {
            let joins = kept.1 == u64::MAX || next.0 <= kept.1 + 1;
            if joins {
                kept.1 = kept.1.max(next.1);
            }
            joins
        });
        Self(ranges)
    }

    /// What both have in common.
    pub fn intersect(&self, other: &Self) -> Self {
        let (mut left, mut right) = (self.0.iter().peekable(), other.0.iter().peekable());
        let mut both = Vec::new();
        while let (Some(a), Some(b)) = (left.peek(), right.peek()) {
            let (first, last) = (a.0.max(b.0), a.1.min(b.1));
            if first <= last {
                both.push((first, last));
            }
            if a.1 <= b.1 {
                left.next()
            } else {
                right.next()
            };
        }
        Self(both)
    }

    /// Is there no code in it?
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Is a code in it?
    #[inline]
    pub fn contains(&self, code: u64) -> bool {
        if let [(first, last)] = self.0[..] {
            return first <= code && code <= last;
        }
        let at = self.0.partition_point(|(_, last)| *last < code);
        self.0.get(at).is_some_and(|(first, _)| *first <= code)
    }

    /// The ranges.
    pub fn as_slice(&self) -> &[(u64, u64)] {
        &self.0
    }
}

/// What one column's values must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// Does NULL pass?
    pub null: bool,
    /// Codes that pass.
    pub codes: Ranges,
}

impl Condition {
    /// NULL alone.
    pub fn is_null() -> Self {
        Self { null: true, codes: Ranges::none() }
    }

    /// Anything but NULL.
    pub fn is_not_null() -> Self {
        Self { null: false, codes: Ranges::all() }
    }

    /// One of these codes.
    pub fn among(codes: Ranges) -> Self {
        Self { null: false, codes }
    }
}

/// Conditions that a row must all meet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    columns: Vec<(usize, Condition)>,
}

impl Filter {
    /// Adds a condition on a column.
    pub fn and(&mut self, column: usize, condition: Condition) {
        match self.columns.iter_mut().find(|(found, _)| *found == column) {
            Some((_, known)) => {
                known.null &= condition.null;
                known.codes = known.codes.intersect(&condition.codes);
            }
            None => self.columns.push((column, condition)),
        }
    }

    /// Can no row pass?
    pub fn never(&self) -> bool {
        self.columns.iter().any(|(_, condition)| !condition.null && condition.codes.is_empty())
    }

    /// Does a row pass? Called once a record: no allocation, no system call.
    #[inline]
    pub fn pass(&self, values: Values<'_>) -> bool {
        self.columns.iter().all(|(column, condition)| match values.get(*column) {
            Some(code) => condition.codes.contains(code),
            None => condition.null,
        })
    }

    /// Each column's condition, where it has one.
    pub fn columns(&self) -> &[(usize, Condition)] {
        &self.columns
    }
}
