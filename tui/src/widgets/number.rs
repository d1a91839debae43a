//! Numbers as people read them: sizes, durations, dates, money. The same in both languages but for the words.

use hone_protocol::catalogue::{Language, fill};

/// 12480 as `12,480`.
pub(crate) fn grouped(value: u64) -> String {
    let digits = value.to_string();
    let mut out = String::new();
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(c);
    }
    out
}

/// Bytes in the largest unit of 1024 that leaves at least one: `271 M`, `1.2 G`.
pub(crate) fn bytes(value: u64) -> String {
    const UNITS: [&str; 5] = ["B", "K", "M", "G", "T"];
    let mut size = value as f64;
    let mut unit = 0;
    while size >= 1000.0 && unit + 1 < UNITS.len() {
        size /= 1024.0;
        unit += 1;
    }
    if unit == 0 || size >= 100.0 { format!("{size:.0} {}", UNITS[unit]) } else { format!("{size:.1} {}", UNITS[unit]) }
}

/// Parameters of a model: `135M`, `1.5B`.
pub(crate) fn parameters(value: u64) -> String {
    let value = value as f64;
    if value >= 1e9 { format!("{:.1}B", value / 1e9) } else { format!("{:.0}M", value / 1e6) }
}

/// Milliseconds as the two largest units: `19 min`, `2 h 4 min`.
pub(crate) fn duration(language: Language, ms: u64) -> String {
    let seconds = ms / 1000;
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    let text = |value: u64, key| fill(language, key, &[("n", &value.to_string())]);
    if days > 0 {
        format!("{} {}", text(days, "time.days"), text(hours, "time.hours"))
    } else if hours > 0 {
        format!("{} {}", text(hours, "time.hours"), text(minutes, "time.minutes"))
    } else if minutes > 0 {
        text(minutes, "time.minutes")
    } else {
        text(seconds, "time.seconds")
    }
}

/// How long ago, in one unit; the day (UTC) when it is more than a month.
pub(crate) fn ago(language: Language, now_ms: i64, at_ms: i64) -> String {
    let seconds = (now_ms - at_ms).max(0) / 1000;
    let text =
        |value: i64, key| fill(language, "time.ago", &[("t", &fill(language, key, &[("n", &value.to_string())]))]);
    match seconds {
        0..=59 => fill(language, "time.just_now", &[]),
        60..=3599 => text(seconds / 60, "time.minutes"),
        3600..=86_399 => text(seconds / 3600, "time.hours"),
        86_400..=2_591_999 => text(seconds / 86_400, "time.days"),
        _ => day(at_ms),
    }
}

/// `YYYY-MM-DD` in UTC (Howard Hinnant, "chrono-compatible low-level date algorithms", 2013).
pub(crate) fn day(at_ms: i64) -> String {
    let z = at_ms.div_euclid(86_400_000) + 719_468;
    let era = z.div_euclid(146_097);
    let of_era = z.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}

/// A measured number in about three digits: `5.49e-4`, `0.072`, `12.3`.
pub(crate) fn figure(value: f64) -> String {
    match value.abs() {
        0.0 => "0".into(),
        size if size < 1e-2 => format!("{value:.2e}"),
        size if size < 10.0 => format!("{value:.3}"),
        _ => format!("{value:.1}"),
    }
}

/// A share as whole percent.
pub(crate) fn percent(share: f64) -> String {
    format!("{:.0}%", share * 100.0)
}

/// A number as short as a person would type it: `2e-4`, `0.05`, `16`. Seven digits, which is what an `f32` holds.
pub(crate) fn typed(value: f64) -> String {
    let short = value as f32;
    if short != 0.0 && short.abs() < 1e-2 { format!("{short:e}") } else { format!("{short}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_numbers() {
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(12_480), "12,480");
        assert_eq!(grouped(1_234_567), "1,234,567");
        assert_eq!(bytes(999), "999 B");
        assert_eq!(bytes(1 << 30), "1.0 G");
        assert_eq!(bytes(284 << 20), "284 M");
        assert_eq!(parameters(134_515_008), "135M");
        assert_eq!(typed(2e-4), "2e-4");
        assert_eq!(typed(f64::from(2e-4_f32)), "2e-4");
        assert_eq!(typed(0.05), "0.05");
        assert_eq!(typed(16.0), "16");
    }

    #[test]
    fn days_of_known_moments() {
        assert_eq!(day(0), "1970-01-01");
        assert_eq!(day(951_782_400_000), "2000-02-29");
        assert_eq!(day(1_767_225_599_000), "2025-12-31");
    }
}
