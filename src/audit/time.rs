//! Instants without a calendar library's help: text to nanoseconds since 1970 and back, truncation, parts.
//!
//! Days are counted in the proleptic Gregorian calendar.
//!
//! # Source
//! Howard Hinnant, "chrono-compatible low-level date algorithms", `days_from_civil` and `civil_from_days`.

/// Nanoseconds in a second.
pub const SECOND: i128 = 1_000_000_000;
/// Nanoseconds in a day.
pub const DAY: i128 = 86_400 * SECOND;

/// Resolution of a timestamp type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Unit {
    /// Seconds.
    Second,
    /// Milliseconds.
    Milli,
    /// Microseconds.
    Micro,
    /// Nanoseconds.
    Nano,
}

impl Unit {
    /// Nanoseconds in one of this unit.
    pub fn nanos(self) -> i128 {
        match self {
            Self::Second => SECOND,
            Self::Milli => 1_000_000,
            Self::Micro => 1_000,
            Self::Nano => 1,
        }
    }
}

/// Days since 1970-01-01 of a date.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * (month + if month > 2 { -3 } else { 9 }) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

/// The date of a day since 1970-01-01: year, month, day.
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

fn days_in_month(year: i64, month: i64) -> i64 {
    let (next_year, next_month) = if month == 12 { (year + 1, 1) } else { (year, month + 1) };
    days_from_civil(next_year, next_month, 1) - days_from_civil(year, month, 1)
}

/// A date as `2025-04-08`.
pub fn date_text(days: i32) -> String {
    let (year, month, day) = civil_from_days(i64::from(days));
    format!("{}-{month:02}-{day:02}", year_text(year))
}

/// Four digits, or a sign and as many as it needs.
fn year_text(year: i64) -> String {
    match year {
        0..=9_999 => format!("{year:04}"),
        _ => format!("{year:+05}"),
    }
}

/// An instant as `2025-04-08T08:13:00Z`, with as many fraction digits as it needs in threes.
pub fn timestamp_text(ns: i128) -> String {
    let days = ns.div_euclid(DAY) as i64;
    let within = ns.rem_euclid(DAY);
    let (year, month, day) = civil_from_days(days);
    let seconds = within / SECOND;
    let fraction = within % SECOND;
    let digits = match fraction {
        0 => String::new(),
        fraction if fraction % 1_000_000 == 0 => format!(".{:03}", fraction / 1_000_000),
        fraction if fraction % 1_000 == 0 => format!(".{:06}", fraction / 1_000),
        fraction => format!(".{fraction:09}"),
    };
    format!("{}-{month:02}-{day:02}T{:02}:{:02}:{:02}{digits}Z", year_text(year), seconds / 3600, seconds / 60 % 60, seconds % 60)
}

/// Reads `2025-04-08`, `2025-04-08T08:13:00.5`, `2025-04-08 08:13:00Z`, `…+01:30`; `None` when it is none of these.
///
/// A sixtieth second is the next minute's first (C49).
pub fn parse_timestamp(text: &str) -> Option<i128> {
    let bytes = text.as_bytes();
    let days = parse_date(text.get(..10)?)?;
    let midnight = i128::from(days) * DAY;
    if bytes.len() == 10 {
        return Some(midnight);
    }
    if !matches!(bytes[10], b'T' | b't' | b' ') {
        return None;
    }
    let time = text.get(11..)?;
    let (hour, minute, second) = (digits(time, 0)?, separated_digits(time, 2)?, separated_digits(time, 5)?);
    if hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let mut rest = time.get(8..)?;
    let mut fraction = 0;
    if let Some(after) = rest.strip_prefix('.') {
        let count = after.bytes().take_while(u8::is_ascii_digit).count();
        if count == 0 {
            return None;
        }
        let kept = &after[..count.min(9)];
        fraction = kept.parse::<i128>().ok()? * 10_i128.pow(9 - kept.len() as u32);
        rest = &after[count..];
    }
    let instant = midnight + (i128::from(hour) * 3600 + i128::from(minute) * 60 + i128::from(second)) * SECOND + fraction;
    Some(instant - offset_seconds(rest.trim_start())? * SECOND)
}

/// Reads `2025-04-08` as days since 1970-01-01.
pub fn parse_date(text: &str) -> Option<i64> {
    let bytes = text.as_bytes();
    if bytes.len() != 10 || bytes[4] != b'-' || bytes[7] != b'-' {
        return None;
    }
    let year = digits(text, 0)? * 100 + digits(text, 2)?;
    let (month, day) = (digits(text, 5)?, digits(text, 8)?);
    let is_date = (1..=12).contains(&month) && (1..=days_in_month(year, month)).contains(&day);
    is_date.then(|| days_from_civil(year, month, day))
}

fn digits(text: &str, at: usize) -> Option<i64> {
    let two = text.get(at..at + 2)?;
    two.bytes().all(|byte| byte.is_ascii_digit()).then(|| two.parse().ok()).flatten()
}

fn separated_digits(text: &str, at: usize) -> Option<i64> {
    (text.as_bytes().get(at) == Some(&b':')).then(|| digits(text, at + 1)).flatten()
}

fn offset_seconds(zone: &str) -> Option<i128> {
    if zone.is_empty() || zone.eq_ignore_ascii_case("z") || zone == "UTC" {
        return Some(0);
    }
    let (sign, rest) = match zone.as_bytes()[0] {
        b'+' => (1, &zone[1..]),
        b'-' => (-1, &zone[1..]),
        _ => return None,
    };
    let hours = digits(rest, 0)?;
    let minutes = match rest.len() {
        2 => 0,
        4 => digits(rest, 2)?,
        5 => separated_digits(rest, 2)?,
        _ => return None,
    };
    Some(sign * (i128::from(hours) * 3600 + i128::from(minutes) * 60))
}

/// The start of the `part` (`minute`, `day`, …) that `ns` falls in, in UTC; `None` for an unknown part.
pub fn truncate(part: &str, ns: i128) -> Option<i128> {
    let days = ns.div_euclid(DAY) as i64;
    let (year, month, _) = civil_from_days(days);
    let at_day = |days: i64| i128::from(days) * DAY;
    let floor = |step: i128| ns.div_euclid(step) * step;
    Some(match part {
        "microsecond" => floor(1_000),
        "millisecond" => floor(1_000_000),
        "second" => floor(SECOND),
        "minute" => floor(60 * SECOND),
        "hour" => floor(3600 * SECOND),
        "day" => at_day(days),
        "week" => at_day(days - (days + 3).rem_euclid(7)),
        "month" => at_day(days_from_civil(year, month, 1)),
        "quarter" => at_day(days_from_civil(year, (month - 1) / 3 * 3 + 1, 1)),
        "year" => at_day(days_from_civil(year, 1, 1)),
        _ => return None,
    })
}

/// An integer part of an instant in UTC; `None` for a part the audit does not know.
pub fn part(name: &str, ns: i128) -> Option<i32> {
    let days = ns.div_euclid(DAY) as i64;
    let within = ns.rem_euclid(DAY);
    let (year, month, day) = civil_from_days(days);
    let value = match name {
        "year" => year,
        "quarter" => (month - 1) / 3 + 1,
        "month" => month,
        "day" => day,
        "doy" => days - days_from_civil(year, 1, 1) + 1,
        "dow" => (days + 4).rem_euclid(7),
        "isodow" => (days + 3).rem_euclid(7) + 1,
        "hour" => (within / (3600 * SECOND)) as i64,
        "minute" => (within / (60 * SECOND) % 60) as i64,
        "second" => (within / SECOND % 60) as i64,
        "millisecond" => (within % (60 * SECOND) / 1_000_000) as i64,
        "microsecond" => (within % (60 * SECOND) / 1_000) as i64,
        _ => return None,
    };
    i32::try_from(value).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_name_the_instants_they_mean() {
        let millis = |text| parse_timestamp(text).map(|ns| ns / 1_000_000);

        assert_eq!(millis("2025-04-08T08:13:20.123Z"), Some(1_744_100_000_123));
        assert_eq!(
            parse_timestamp("2010-01-12T12:35:26.123456+01:30").map(timestamp_text).as_deref(),
            Some("2010-01-12T11:05:26.123456Z"),
            "C47"
        );
        assert_eq!(parse_timestamp("2016-12-31T23:59:60Z").map(timestamp_text).as_deref(), Some("2017-01-01T00:00:00Z"), "C49");
        assert_eq!(millis("1970-01-01"), Some(0));
        assert_eq!(millis("2025-02-29"), None);
        assert_eq!(millis("yesterday"), None);
    }

    #[test]
    fn truncation_goes_down_before_1970_too() {
        let before = parse_timestamp("1969-12-31T19:00:59.5Z").expect("a timestamp");

        assert_eq!(truncate("minute", before).map(timestamp_text).as_deref(), Some("1969-12-31T19:00:00Z"), "C41");
        assert_eq!(truncate("week", before).map(timestamp_text).as_deref(), Some("1969-12-29T00:00:00Z"));
        assert_eq!(truncate("fortnight", before), None);
    }

    #[test]
    fn dates_go_there_and_back() {
        for days in [-719_468, -1, 0, 11_016, 20_186, 2_932_896] {
            let (year, month, day) = civil_from_days(days);
            assert_eq!(days_from_civil(year, month, day), days);
        }
        assert_eq!(timestamp_text(253_402_300_799_000 * 1_000_000), "9999-12-31T23:59:59Z", "C39");
    }
}
