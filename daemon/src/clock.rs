//! Time and identifiers: wall clock in Unix milliseconds, a steady clock, UUIDv7, billing days.

use std::sync::OnceLock;
use std::time::Instant;

use hone_protocol::id::Id;
use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::machine;

/// Unix milliseconds, UTC.
pub fn now_ms() -> i64 {
    Timestamp::now().as_millisecond()
}

/// One moment on two clocks: the wall's, which people set, and one that only ever goes forward.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// Unix milliseconds.
    pub wall_ms: i64,
    /// Milliseconds since the machine was booted.
    pub steady_ms: i64,
}

/// Now.
pub fn moment() -> Moment {
    // The first look says how long the machine runs, so that a later process goes on with the same count.
    static FIRST: OnceLock<(i64, Instant)> = OnceLock::new();
    let (up_ms, first) = FIRST.get_or_init(|| (machine::up_ms(), Instant::now()));
    let steady_ms = up_ms + first.elapsed().as_millis() as i64;
    Moment { wall_ms: now_ms(), steady_ms }
}

/// A new identifier (UUIDv7).
pub fn new_id<K>() -> Id<K> {
    Id::from_bytes(*uuid::Uuid::now_v7().as_bytes())
}

/// The store's billing zone: the system's IANA name, or UTC when it has none.
pub fn system_zone() -> String {
    TimeZone::system().iana_name().unwrap_or("UTC").to_owned()
}

/// The billing day `YYYY-MM-DD` of a time in a zone; UTC when the zone is unknown here.
pub fn day(at_ms: i64, zone: &str) -> String {
    let zone = TimeZone::get(zone).unwrap_or(TimeZone::UTC);
    let at = Timestamp::from_millisecond(at_ms).unwrap_or(Timestamp::UNIX_EPOCH);
    at.to_zoned_datetime(zone).strftime("%Y-%m-%d").to_string()
}

/// When the billing day of a time began and when the next one begins, in Unix milliseconds.
fn day_bounds_ms(at_ms: i64, zone: &str) -> (i64, i64) {
    let zone = TimeZone::get(zone).unwrap_or(TimeZone::UTC);
    let at = Timestamp::from_millisecond(at_ms).unwrap_or(Timestamp::UNIX_EPOCH);
    let day = at.to_zoned_datetime(zone);
    let begin = day.start_of_day().map_or(at_ms, |begin| begin.timestamp().as_millisecond());
    let next = day.tomorrow().and_then(|next| next.start_of_day());
    // Only the ends of time have no day beside them.
    (begin, next.map_or(i64::MAX, |next| next.timestamp().as_millisecond()))
}

/// When the billing day of a time began.
pub fn day_of_ms(at_ms: i64, zone: &str) -> i64 {
    day_bounds_ms(at_ms, zone).0
}

/// When the billing day after it begins.
pub fn day_after_ms(at_ms: i64, zone: &str) -> i64 {
    day_bounds_ms(at_ms, zone).1
}

/// Whether a text is a day of the calendar, `YYYY-MM-DD`.
pub fn is_day(text: &str) -> bool {
    text.len() == 10 && text.parse::<jiff::civil::Date>().is_ok()
}

/// The clock time for logs.
pub fn text(at_ms: i64) -> String {
    Timestamp::from_millisecond(at_ms).unwrap_or(Timestamp::UNIX_EPOCH).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_is_the_zones_day() {
        let late = 1_700_006_400_000; // 2023-11-15 00:00:00 UTC
        assert_eq!(day(late, "UTC"), "2023-11-15");
        assert_eq!(day(late - 1, "UTC"), "2023-11-14");
        assert_eq!(day(late, "no/such zone"), "2023-11-15");
    }

    #[test]
    fn a_day_has_a_beginning_and_an_end_also_where_clocks_are_changed() {
        let noon = 1_700_049_600_000; // 2023-11-15 12:00:00 UTC
        assert_eq!((day_of_ms(noon, "UTC"), day_after_ms(noon, "UTC")), (1_700_006_400_000, 1_700_092_800_000));
        // 2023-03-26 has 23 hours in Berlin.
        let spring = 1_679_832_000_000;
        let length = day_after_ms(spring, "Europe/Berlin") - day_of_ms(spring, "Europe/Berlin");
        assert_eq!(length, 23 * 3_600_000);
    }

    #[test]
    fn ids_carry_their_time() {
        let before = now_ms();
        let id: hone_protocol::id::JobId = new_id();
        assert!((before..=now_ms() + 1).contains(&id.made_at_ms()));
    }
}
