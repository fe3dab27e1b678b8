//! Durations as people write them: `"90s"`, `"5m"` (minutes), `"1 minute"`, `"1h30m"`, to the microsecond.

use std::time::Duration;

/// Longest duration, in days: longer ones are slips, and event times must not overflow when one is added.
const DAYS_MAX: u64 = 36_525;

/// Most digits of a number; larger numbers overflow the parser.
const DIGITS_MAX: usize = 15;

/// Words for spans of no fixed length. `M` is a month to the parser and a minute to most people.
const CALENDAR_UNITS: [&str; 9] = ["months", "month", "mon", "M", "years", "year", "yrs", "yr", "y"];

/// Reads a duration of whole microseconds, zero or more.
///
/// # Errors
/// What is wrong and how to write it.
pub fn parse(text: &str) -> Result<Duration, String> {
    if text.contains('-') {
        return Err("a duration cannot be negative".into());
    }
    if text.split(|letter: char| !letter.is_ascii_digit()).any(|number| number.len() > DIGITS_MAX) {
        return Err(format!("a duration's numbers have {DIGITS_MAX} digits at most"));
    }
    if let Some(unit) = text.split(|letter: char| !letter.is_alphabetic()).find(|word| CALENDAR_UNITS.contains(word)) {
        let meant = if unit == "M" { ", and minutes are written `m`" } else { "" };
        return Err(format!("`{unit}` has no fixed length: write days or weeks{meant}"));
    }
    let duration = humantime::parse_duration(text).map_err(|error| explain(text, &error))?;
    if duration.subsec_nanos() % 1_000 != 0 {
        return Err("a duration is whole microseconds, this one is finer".into());
    }
    if duration > Duration::from_secs(DAYS_MAX * 86_400) {
        return Err(format!("a duration is {DAYS_MAX} days at most"));
    }
    Ok(duration)
}

/// Reads a duration above zero.
///
/// # Errors
/// As [`parse`].
pub fn parse_above_zero(text: &str) -> Result<Duration, String> {
    match parse(text)? {
        Duration::ZERO => Err("a duration of zero is no use here: it must be above zero".into()),
        duration => Ok(duration),
    }
}

/// Whole microseconds of a duration that [`parse`] gave.
pub fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).expect("parsed durations are far shorter than 2^63 microseconds")
}

fn explain(text: &str, error: &humantime::DurationError) -> String {
    let units = "ms, s, m, h, d and w";
    match error {
        humantime::DurationError::UnknownUnit { unit, .. } if unit.is_empty() => {
            format!("`{text}` lacks a unit: write `{text}s` or `{text}m`")
        }
        humantime::DurationError::UnknownUnit { unit, .. } => format!("`{unit}` is not a unit of time: there are {units}"),
        humantime::DurationError::NumberOverflow => "a duration is whole microseconds, this one is finer or too long".into(),
        _ => format!("`{text}` is not a duration: write a number and a unit ({units}), such as `90s` or `1 minute`"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn minutes_are_minutes() {
        // C131
        for (text, seconds) in
            [("5m", 300), ("1 minute", 60), ("90s", 90), ("1h30m", 5_400), ("1.5h", 5_400), ("2 days", 172_800), ("0s", 0)]
        {
            assert_eq!(parse(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        assert_eq!(parse("10us"), Ok(Duration::from_micros(10)));
    }

    #[test]
    fn what_has_no_fixed_length_or_no_sense_is_refused_with_the_reason() {
        let cases = [
            ("5M", "`M` has no fixed length: write days or weeks, and minutes are written `m`"),
            ("1 month", "`month` has no fixed length: write days or weeks"),
            ("1y", "`y` has no fixed length: write days or weeks"),
            ("-5m", "a duration cannot be negative"),
            ("1500ns", "a duration is whole microseconds, this one is finer"),
            ("60", "`60` lacks a unit: write `60s` or `60m`"),
            ("5 parsecs", "`parsecs` is not a unit of time: there are ms, s, m, h, d and w"),
            ("soon", "`soon` is not a duration: write a number and a unit (ms, s, m, h, d and w), such as `90s` or `1 minute`"),
            ("99999 days", "a duration is 36525 days at most"),
            ("18446744073709551615s 1000ms", "a duration's numbers have 15 digits at most"),
        ];

        for (text, reason) in cases {
            assert_eq!(parse(text), Err(reason.to_owned()), "{text}");
        }
        assert!(parse_above_zero("0s").is_err());
    }
}
