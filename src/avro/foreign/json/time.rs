//! Dates, times and instants from their text: RFC 3339's forms, and no digit above a microsecond that the type cannot hold.

use chrono::{DateTime, NaiveDate, NaiveDateTime, NaiveTime, Timelike};

/// What a time is counted in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    Millis,
    Micros,
    Nanos,
}

impl Unit {
    fn nanos(self) -> i64 {
        match self {
            Self::Millis => 1_000_000,
            Self::Micros => 1_000,
            Self::Nanos => 1,
        }
    }

    /// A moment since a zero, when it is a whole number of units. What is below a microsecond is cut, as everywhere: many producers write
    /// more digits than that.
    fn count(self, seconds: i64, nanos: u32) -> Option<i64> {
        let nanos = i64::from(nanos);
        let per_second = 1_000_000_000 / self.nanos();
        let whole = (self == Self::Micros || nanos % self.nanos() == 0).then_some(nanos / self.nanos())?;
        let count = i128::from(seconds) * i128::from(per_second) + i128::from(whole);
        i64::try_from(count).ok()
    }
}

/// Days since 1970, of `2018-10-21`.
pub(super) fn date(text: &str) -> Option<i32> {
    let date = NaiveDate::parse_from_str(text, "%Y-%m-%d").ok().filter(|_| has_form(text, DATE))?;
    let days = date.signed_duration_since(NaiveDate::from_ymd_opt(1970, 1, 1)?).num_days();
    i32::try_from(days).ok()
}

/// Units since midnight, of `00:00:18.25`. A day has no place for a leap second.
pub(super) fn time(text: &str, unit: Unit) -> Option<i64> {
    let (clock, _) = split_fraction(text, "")?;
    let time = NaiveTime::parse_from_str(text, "%H:%M:%S%.f").ok().filter(|_| has_form(clock, TIME) && !clock.ends_with("60"))?;
    unit.count(i64::from(time.num_seconds_from_midnight()), time.nanosecond())
}

/// Units since 1970 in UTC, of `2018-10-21T00:00:18.25Z` or with an offset such as `+02:00`. A leap second is the next minute's first.
pub(super) fn instant(text: &str, unit: Unit) -> Option<i64> {
    let zone = match text.len().checked_sub(6).and_then(|at| text.split_at_checked(at)) {
        Some((_, zone)) if has_form(zone, "+##:##") || has_form(zone, "-##:##") => zone,
        _ if text.ends_with('Z') => "Z",
        _ => return None,
    };
    let (clock, _) = split_fraction(text, zone)?;
    let at = DateTime::parse_from_rfc3339(text).ok().filter(|_| has_form(clock, DATE_TIME))?;
    unit.count(at.timestamp(), at.timestamp_subsec_nanos())
}

/// Units since 1970 on the wall's calendar, of `2018-10-21T00:00:18.25`.
pub(super) fn local(text: &str, unit: Unit) -> Option<i64> {
    let (clock, _) = split_fraction(text, "")?;
    let at = NaiveDateTime::parse_from_str(text, "%Y-%m-%dT%H:%M:%S%.f").ok().filter(|_| has_form(clock, DATE_TIME))?;
    unit.count(at.and_utc().timestamp(), at.and_utc().timestamp_subsec_nanos())
}

const DATE: &str = "####-##-##";
const TIME: &str = "##:##:##";
const DATE_TIME: &str = "####-##-##T##:##:##";

/// Whether `text` is `form` with a digit for each `#`.
fn has_form(text: &str, form: &str) -> bool {
    let alike = |(letter, wanted): (u8, u8)| if wanted == b'#' { letter.is_ascii_digit() } else { letter == wanted };
    text.len() == form.len() && text.bytes().zip(form.bytes()).all(alike)
}

/// What stands before a fraction of one to nine digits and `zone`, and the fraction.
fn split_fraction<'t>(text: &'t str, zone: &str) -> Option<(&'t str, &'t str)> {
    let local = text.strip_suffix(zone)?;
    match local.split_once('.') {
        None => Some((local, "")),
        Some((clock, fraction)) => {
            let is_fraction = (1..=9).contains(&fraction.len()) && fraction.bytes().all(|digit| digit.is_ascii_digit());
            is_fraction.then_some((clock, fraction))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_are_counted_in_utc() {
        assert_eq!(instant("2018-10-21T00:00:18Z", Unit::Millis), Some(1_540_080_018_000));
        assert_eq!(instant("2018-10-21T02:00:18.25+02:00", Unit::Millis), Some(1_540_080_018_250));
        assert_eq!(instant("2018-10-20T18:30:18-05:30", Unit::Micros), Some(1_540_080_018_000_000));
        assert_eq!(instant("1969-12-31T23:59:59.999999999Z", Unit::Nanos), Some(-1));
        assert_eq!(local("2018-10-21T00:00:18.000001", Unit::Micros), Some(1_540_080_018_000_001));
        assert_eq!(date("1969-12-31"), Some(-1));
        assert_eq!(time("00:01:00.5", Unit::Millis), Some(60_500));
    }

    #[test]
    fn digits_that_the_type_cannot_hold_are_refused() {
        assert_eq!(instant("2018-10-21T00:00:18.000100Z", Unit::Millis), None);
        assert_eq!(instant("2018-10-21T00:00:18.000000Z", Unit::Millis), Some(1_540_080_018_000), "zeros say nothing");
        assert_eq!(time("00:00:00.0000001", Unit::Millis), None);
        assert_eq!(instant("2300-01-01T00:00:00Z", Unit::Nanos), None, "beyond 64 bits");
    }

    #[test]
    fn what_is_below_a_microsecond_is_cut() {
        assert_eq!(instant("2024-05-01T12:34:56.1234567Z", Unit::Micros), Some(1_714_566_896_123_456));
        assert_eq!(instant("1969-12-31T23:59:59.999999999+00:00", Unit::Micros), Some(-1));
        assert_eq!(local("2018-10-21T00:00:18.000000999", Unit::Micros), Some(1_540_080_018_000_000));
        assert_eq!(time("00:00:00.0000019", Unit::Micros), Some(1));
    }

    /// C49, as in SQL.
    #[test]
    fn a_leap_second_is_the_first_instant_of_the_next_minute() {
        let new_year = instant("2017-01-01T00:00:00Z", Unit::Millis);

        assert_eq!(instant("2016-12-31T23:59:60Z", Unit::Millis), new_year);
        assert_eq!(instant("2017-01-01T00:59:60.25+01:00", Unit::Millis), new_year.map(|at| at + 250));
        assert_eq!(local("2016-12-31T23:59:60", Unit::Millis), new_year);
        assert_eq!(time("23:59:60", Unit::Millis), None);
        assert_eq!(time("23:59:60.5", Unit::Millis), None);
    }

    #[test]
    fn other_forms_are_refused() {
        let wrong = [
            "2018-10-21",
            "2018-10-21T00:00:18",
            "2018-10-21 00:00:18Z",
            "2018-10-21t00:00:18z",
            "2018-10-21T00:00:18+0200",
            "2018-10-21T00:00:61Z",
            "2018-10-21T24:00:00Z",
            "2018-02-30T00:00:00Z",
            "2018-10-21T00:00:18.Z",
            "2018-10-21T00:00:18,5Z",
            "2018-10-21T00:00:18.0000000001Z",
            "+2018-10-21T00:00:18Z",
            "",
            "Z",
            "+02:00",
            "ä+02:00",
        ];
        for text in wrong {
            assert_eq!(instant(text, Unit::Nanos), None, "{text}");
        }
        assert_eq!(local("2018-10-21T00:00:18Z", Unit::Nanos), None);
        assert_eq!(date("2018-1-1"), None);
        assert_eq!(time("1:2:3", Unit::Millis), None);
    }
}
