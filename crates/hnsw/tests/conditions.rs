//! Conditions on filter values: codes are in the order of the values, ranges are the sets they
//! stand for, and a constant from beyond a column's values is compared as the exact value would be.

mod common;

use std::cmp::Ordering;

use common::Dice;
use pgclip_hnsw::Values;
use pgclip_hnsw::filter::{
    Compare, Condition, DAY, Filter, Moment, Place, Ranges, boolean, float, integer, sixteen,
};

const INTEGERS: [i64; 13] = [
    i64::MIN,
    i64::MIN + 1,
    i32::MIN as i64,
    i16::MIN as i64,
    -2,
    -1,
    0,
    1,
    2,
    i16::MAX as i64,
    i32::MAX as i64,
    i64::MAX - 1,
    i64::MAX,
];

/// Does a value of this code pass a comparison with a constant of this place?
fn passes(compare: Compare, place: Place, code: u64) -> bool {
    Ranges::union(compare.range(place).into_iter().collect()).contains(code)
}

#[test]
fn codes_are_in_the_order_of_integers() {
    for a in INTEGERS {
        for b in INTEGERS {
            assert_eq!(integer(a).cmp(&integer(b)), a.cmp(&b), "{a} {b}");
        }
    }
    assert!(boolean(false) < boolean(true));
}

/// PostgreSQL's order: NaN is equal to itself and above infinity, −0 equals 0.
#[test]
fn codes_are_in_the_order_of_floats() {
    let order = |a: f64, b: f64| a.partial_cmp(&b).unwrap_or_else(|| a.is_nan().cmp(&b.is_nan()));
    let tiny = f64::from_bits(1);
    let mut values = vec![0.0, -0.0, f64::NAN, -f64::NAN, f64::from_bits(0x7ff8_0000_0000_1234)];
    for x in [tiny, f64::MIN_POSITIVE, 0.1, f64::from(0.1f32), 1.0, f64::MAX, f64::INFINITY] {
        values.extend([x, -x]);
    }
    let mut dice = Dice(1);
    values.extend((0..200).map(|_| f64::from_bits(dice.next())));
    for &a in &values {
        for &b in &values {
            assert_eq!(float(a).cmp(&float(b)), order(a, b), "{a} {b}");
        }
    }
}

/// Values are in files: another hash would make every index that has a uuid column wrong.
#[test]
fn the_hash_of_sixteen_bytes_never_changes() {
    assert_eq!(sixteen([0; 16]), 0xa706_dd2f_4d19_7e6f);
    assert_eq!(sixteen(std::array::from_fn(|i| i as u8)), 0x7f72_91bf_2556_e3ab);
    let mut dice = Dice(2);
    let mut codes: Vec<u64> = Vec::new();
    for bit in 0..128 {
        codes.push(sixteen((1u128 << bit).to_le_bytes()));
        codes.push(sixteen(u128::from(dice.next()).to_le_bytes()));
    }
    codes.sort_unstable();
    codes.dedup();
    assert_eq!(codes.len(), 256);
}

#[test]
fn comparisons_with_values_of_the_column() {
    for constant in INTEGERS {
        for value in INTEGERS {
            for compare in Compare::ALL {
                let right = compare.holds(value.cmp(&constant));
                let place = Place::at(integer(constant));
                assert_eq!(passes(compare, place, integer(value)), right, "{value} {constant}");
            }
        }
    }
    for number in 0..8 {
        let found = Compare::of_strategy(number).map(|compare| compare as u16);
        assert_eq!(found, (1..=5).contains(&number).then_some(number));
    }
}

/// A day or a timestamp on one line: infinities at the ends, else microseconds.
fn line(infinity: Ordering, microseconds: i128) -> (Ordering, i128) {
    (infinity, if infinity.is_eq() { microseconds } else { 0 })
}

fn of_day(days: i32) -> (Ordering, i128) {
    let infinity = match days {
        i32::MIN => Ordering::Less,
        i32::MAX => Ordering::Greater,
        _ => Ordering::Equal,
    };
    line(infinity, i128::from(days) * i128::from(DAY))
}

fn of_timestamp(microseconds: i64) -> (Ordering, i128) {
    let infinity = match microseconds {
        i64::MIN => Ordering::Less,
        i64::MAX => Ordering::Greater,
        _ => Ordering::Equal,
    };
    line(infinity, microseconds.into())
}

#[test]
fn dates_and_timestamps_are_compared_exactly() {
    let far = (i64::MAX / DAY) as i32;
    let mut days = vec![i32::MIN, i32::MIN + 1, i32::MAX - 1, i32::MAX, -far - 1, far + 1, far];
    days.extend(-3..=3);
    let mut timestamps = INTEGERS.to_vec();
    for day in days.iter().filter(|day| (-far..=far).contains(*day)) {
        let midnight = i64::from(*day) * DAY;
        let near = [-1, 0, 1, DAY / 2].map(|step| midnight.checked_add(step));
        timestamps.extend(near.into_iter().flatten());
    }
    for compare in Compare::ALL {
        for &day in &days {
            for &timestamp in &timestamps {
                let order = of_day(day).cmp(&of_timestamp(timestamp));
                let place = Moment::of_timestamp(timestamp).among_dates();
                let right = compare.holds(order);
                assert_eq!(passes(compare, place, integer(day.into())), right, "{day} {timestamp}");
                let place = Moment::of_date(day).among_timestamps();
                let right = compare.holds(order.reverse());
                assert_eq!(passes(compare, place, integer(timestamp)), right, "{timestamp} {day}");
            }
            for &other in &days {
                let right = compare.holds(day.cmp(&other));
                let place = Moment::of_date(other).among_dates();
                assert_eq!(passes(compare, place, integer(day.into())), right, "{day} {other}");
            }
        }
    }
}

/// Where the clock was put back, a timestamp stands for one of several moments: whatever the right
/// one is, the value must pass.
#[test]
fn an_uncertain_moment_loses_nothing() {
    for (earliest, latest) in [(-3 * i128::from(DAY), 2), (i128::from(i64::MAX) - 5, i128::MAX / 4)]
    {
        let moment = Moment::Between(earliest, latest);
        for right in [earliest, latest, (earliest + latest) / 2] {
            for value in [i64::MIN, -4 * DAY, -3 * DAY, -DAY, 0, 2, 3, DAY, i64::MAX - 2, i64::MAX]
            {
                for compare in Compare::ALL {
                    if compare.holds(of_timestamp(value).cmp(&(Ordering::Equal, right))) {
                        let place = moment.among_timestamps();
                        assert!(!place.exact && passes(compare, place, integer(value)));
                    }
                    let day = value.div_euclid(DAY) as i32;
                    if compare.holds(of_day(day).cmp(&(Ordering::Equal, right))) {
                        let place = moment.among_dates();
                        assert!(!place.exact && passes(compare, place, integer(day.into())));
                    }
                }
            }
        }
    }
}

/// Ranges against sets of the codes 0 to 15 and their mirror images at the upper end.
#[test]
fn ranges_are_sets() {
    let codes = || (0..16u64).flat_map(|i| [i, u64::MAX - i]);
    let mut dice = Dice(3);
    for _ in 0..20_000 {
        let mut some = |most: usize| -> Vec<(u64, u64)> {
            let mut code = || {
                let i = dice.next();
                if i & 16 == 0 { i & 15 } else { u64::MAX - (i & 15) }
            };
            let all = [(code(), code()), (code(), code()), (code(), code()), (code(), code())];
            all[..(all[0].0 % (most as u64 + 1)) as usize].to_vec()
        };
        let (left, right) = (some(4), some(4));
        let has = |set: &[(u64, u64)], x| set.iter().any(|(first, last)| *first <= x && x <= *last);
        let (a, b) = (Ranges::union(left.clone()), Ranges::union(right.clone()));
        let both = a.intersect(&b);
        assert_eq!(both, b.intersect(&a));
        for set in [&a, &b, &both] {
            assert!(set.as_slice().iter().all(|(first, last)| first <= last));
            assert!(set.as_slice().windows(2).all(|two| two[0].1 + 1 < two[1].0));
            assert_eq!(set.is_empty(), set.as_slice().is_empty());
        }
        for x in codes() {
            assert_eq!(a.contains(x), has(&left, x), "{left:?} {x}");
            assert_eq!(both.contains(x), has(&left, x) && has(&right, x), "{left:?} {right:?} {x}");
        }
    }
    assert!(Ranges::none().is_empty() && !Ranges::none().contains(0));
    assert!([0, 7, u64::MAX].into_iter().all(|x| Ranges::all().contains(x)));
}

#[test]
fn long_lists_are_searched() {
    let points: Vec<u64> = (0..10_000).map(|i| i * 3).rev().collect();
    let set = Ranges::union(points.iter().map(|x| (*x, *x)).collect());
    assert_eq!(set.as_slice().len(), 10_000);
    assert!((0..30_003).all(|x| set.contains(x) == (x % 3 == 0 && x < 30_000)));
}

#[test]
fn conditions_of_a_row_are_all_met() {
    let bytes: Vec<u8> = [5u64, 9].iter().flat_map(|x| x.to_le_bytes()).collect();
    let values = |nulls| Values::new(nulls, &bytes);
    let among = |first, last| Condition::among(Ranges::union(vec![(first, last)]));

    let mut filter = Filter::default();
    assert!(filter.pass(values(0)) && filter.pass(values(0b11)) && !filter.never());
    filter.and(0, among(3, 7));
    assert!(filter.pass(values(0)) && filter.pass(values(0b10)) && !filter.pass(values(0b01)));
    filter.and(1, Condition::is_null());
    assert!(!filter.pass(values(0)) && filter.pass(values(0b10)) && !filter.never());
    filter.and(0, among(6, u64::MAX));
    assert!(!filter.pass(values(0b10)) && !filter.never());
    assert_eq!(filter.columns()[0], (0, among(6, 7)));
    filter.and(1, Condition::is_not_null());
    assert!(filter.never());

    let mut filter = Filter::default();
    filter.and(1, Condition::is_not_null());
    assert!(filter.pass(values(0)) && !filter.pass(values(0b10)) && !filter.never());
    filter.and(1, among(10, 4));
    assert!(filter.never() && !filter.pass(values(0)));
}
