//! Moments of `timestamptz` on the clock of a column without a time zone. A file of its own because
//! this alone depends on the session's time zone, and on when its clocks are changed.
//!
//! A timestamp without zone is turned into a moment by the offset that holds then. Where clocks are
//! changed nearby, the order of timestamps is not that of moments, so a constant becomes an
//! interval wide enough to hold every timestamp of which the answer is not certain, and the
//! executor checks again. Far from any change, which is nearly always, the offset is one number and
//! the comparison exact.

use pgclip_hnsw::filter::Moment;
use pgrx::pg_sys;

const SECOND: i128 = 1_000_000;
const DAY: i128 = 86_400 * SECOND;
/// Seconds from 1970, where time zones count from, to 2000, where PostgreSQL does.
const EPOCH: i64 = 946_684_800;

/// How far apart two offsets of one zone can lie. In the time zone database less than 26 hours
/// (Samoa has been on both sides of the date line); a rule of one's own, such as
/// `<A>167<B>-167,M3.1.0,M9.1.0`, has offsets up to a week either way. Such rules have digits.
fn spread(zone: *mut pg_sys::pg_tz) -> i128 {
    // SAFETY: the session's time zone is always set; its name is in it.
    let name = unsafe { std::ffi::CStr::from_ptr(pg_sys::pg_get_timezone_name(zone)) };
    let own_rule = name.to_bytes().iter().any(u8::is_ascii_digit);
    if own_rule { 15 * DAY } else { 2 * DAY }
}

/// Where a moment lies on the session's clock.
pub fn on_local_clock(moment: i64) -> Moment {
    let Moment::Between(exact, _) = Moment::of_timestamp(moment) else {
        return Moment::of_timestamp(moment);
    };
    // SAFETY: PostgreSQL's own time zone, asked with variables of our own to fill in.
    let (change, offset, zone_spread) = unsafe {
        let zone = pg_sys::session_timezone;
        let zone_spread = spread(zone);
        let seconds = |moment: i128| moment.div_euclid(SECOND) as i64 + EPOCH;
        let from = seconds(exact - 2 * zone_spread);
        let (mut before, mut after, mut boundary) = (0, 0, 0);
        let (mut summer_before, mut summer_after) = (0, 0);
        let found = pg_sys::pg_next_dst_boundary(
            &from,
            &mut before,
            &mut summer_before,
            &mut boundary,
            &mut after,
            &mut summer_after,
            zone,
        );
        let change = match found {
            0 => false,
            1 => boundary <= seconds(exact + 2 * zone_spread),
            _ => true,
        };
        (change, i128::from(before) * SECOND, zone_spread)
    };
    let local = exact + offset;
    match change {
        false => Moment::Between(local, local),
        // The offset at the moment is within a spread of this one, and what is uncertain lies
        // within another of that.
        true => Moment::Between(local - 2 * zone_spread, local + 2 * zone_spread),
    }
}
