//! The forms in which a record carries its event time: as Avro writes them, and as a CSV file spells them.

use apache_avro::Schema;
use apache_avro::types::Value;
use chrono::{DateTime, NaiveDateTime, Utc};

const US_PER_DAY: i64 = 86_400_000_000;

/// How one field holds the event time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventForm {
    /// A plain `long` of milliseconds since 1970.
    LongMillis,
    /// ISO 8601 text with microseconds, in UTC.
    Text,
    /// Logical type `timestamp-millis`.
    Millis,
    /// Logical type `timestamp-micros`.
    Micros,
    /// Logical type `timestamp-nanos`.
    Nanos,
    /// Logical type `local-timestamp-millis`.
    LocalMillis,
    /// Logical type `local-timestamp-micros`.
    LocalMicros,
    /// Logical type `local-timestamp-nanos`.
    LocalNanos,
    /// Logical type `date`.
    Date,
    /// Logical type `time-millis`.
    TimeMillis,
    /// Logical type `time-micros`.
    TimeMicros,
}

impl EventForm {
    /// The form of a field, by its type, and for a plain `long` or `string` by its name; `None` for anything else.
    pub fn of(name: &str, schema: &Schema) -> Option<Self> {
        Some(match schema {
            Schema::Long if is_time_name(name) => Self::LongMillis,
            Schema::String if is_time_name(name) => Self::Text,
            Schema::TimestampMillis => Self::Millis,
            Schema::TimestampMicros => Self::Micros,
            Schema::TimestampNanos => Self::Nanos,
            Schema::LocalTimestampMillis => Self::LocalMillis,
            Schema::LocalTimestampMicros => Self::LocalMicros,
            Schema::LocalTimestampNanos => Self::LocalNanos,
            Schema::Date => Self::Date,
            Schema::TimeMillis => Self::TimeMillis,
            Schema::TimeMicros => Self::TimeMicros,
            _ => return None,
        })
    }

    /// The Avro value for an instant in microseconds since 1970; coarser forms are floored.
    pub fn value(self, us: i64) -> Value {
        let of_day = us.rem_euclid(US_PER_DAY);
        match self {
            Self::LongMillis => Value::Long(us.div_euclid(1_000)),
            Self::Text => Value::String(text(us)),
            Self::Millis => Value::TimestampMillis(us.div_euclid(1_000)),
            Self::Micros => Value::TimestampMicros(us),
            Self::Nanos => Value::TimestampNanos(us.saturating_mul(1_000)),
            Self::LocalMillis => Value::LocalTimestampMillis(us.div_euclid(1_000)),
            Self::LocalMicros => Value::LocalTimestampMicros(us),
            Self::LocalNanos => Value::LocalTimestampNanos(us.saturating_mul(1_000)),
            Self::Date => Value::Date(i32::try_from(us.div_euclid(US_PER_DAY)).unwrap_or(i32::MAX)),
            Self::TimeMillis => Value::TimeMillis(i32::try_from(of_day / 1_000).expect("a day has 86,400,000 ms")),
            Self::TimeMicros => Value::TimeMicros(of_day),
        }
    }

    /// Whether the form tells an instant, not only a day or a time of day.
    pub fn is_instant(self) -> bool {
        !matches!(self, Self::Date | Self::TimeMillis | Self::TimeMicros)
    }

    /// Reads a CSV cell: an integer in the form's own unit, or ISO 8601. Microseconds since 1970.
    ///
    /// # Errors
    /// Says what was expected.
    pub fn read(self, cell: &str) -> Result<i64, String> {
        if let Ok(number) = cell.parse::<i64>() {
            return Ok(match self {
                Self::LongMillis | Self::Millis | Self::LocalMillis | Self::TimeMillis => number.saturating_mul(1_000),
                Self::Nanos | Self::LocalNanos => number.div_euclid(1_000),
                Self::Date => number.saturating_mul(US_PER_DAY),
                Self::Micros | Self::LocalMicros | Self::TimeMicros | Self::Text => number,
            });
        }
        if let Ok(instant) = DateTime::parse_from_rfc3339(cell) {
            return Ok(instant.timestamp_micros());
        }
        for pattern in ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f"] {
            if let Ok(local) = NaiveDateTime::parse_from_str(cell, pattern) {
                return Ok(local.and_utc().timestamp_micros());
            }
        }
        Err(format!("\"{cell}\" is neither a number nor an ISO 8601 time"))
    }
}

/// ISO 8601 in UTC with microseconds, as the zoo's `readable_time`.
fn text(us: i64) -> String {
    let instant = DateTime::<Utc>::from_timestamp_micros(us).unwrap_or(DateTime::<Utc>::MAX_UTC);
    instant.format("%Y-%m-%dT%H:%M:%S%.6fZ").to_string()
}

fn is_time_name(name: &str) -> bool {
    matches!(name, "time" | "timestamp" | "ts") || ["_time", "_timestamp", "_at", "_ts"].iter().any(|end| name.ends_with(end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_readable_time_keeps_its_microseconds() {
        let us = EventForm::Text.read("2018-10-21T00:00:24.082999Z").expect("a time of the sample");

        assert_eq!(us, 1_540_080_024_082_999);
        assert_eq!(EventForm::Text.value(us), Value::String("2018-10-21T00:00:24.082999Z".into()));
    }

    #[test]
    fn c49_a_leap_second_is_the_first_instant_of_the_new_year() {
        let before = EventForm::Text.read("2016-12-31T23:59:59.900Z").expect("a time");

        for leap in ["2016-12-31T23:59:60Z", "2016-12-31T23:59:60", "2017-01-01T00:00:00Z"] {
            assert_eq!(EventForm::Text.read(leap), Ok(before + 100_000), "{leap}");
        }
        assert_eq!(EventForm::Text.value(before + 100_000), Value::String("2017-01-01T00:00:00.000000Z".into()));
    }

    #[test]
    fn coarse_forms_floor_before_1970_too() {
        assert_eq!(EventForm::LongMillis.value(-1), Value::Long(-1));
        assert_eq!(EventForm::Date.value(-1), Value::Date(-1));
        assert_eq!(EventForm::TimeMicros.value(-1), Value::TimeMicros(US_PER_DAY - 1));
    }

    #[test]
    fn numbers_are_read_in_the_forms_own_unit() {
        assert_eq!(EventForm::LongMillis.read("1540080018884"), Ok(1_540_080_018_884_000));
        assert_eq!(EventForm::Nanos.read("1540080018884000999"), Ok(1_540_080_018_884_000));
        assert!(EventForm::Micros.read("yesterday").is_err());
    }

    #[test]
    fn only_names_of_times_make_a_plain_long_an_event_time() {
        assert_eq!(EventForm::of("readable_time", &Schema::String), Some(EventForm::Text));
        assert_eq!(EventForm::of("time", &Schema::Long), Some(EventForm::LongMillis));
        assert_eq!(EventForm::of("uptime", &Schema::Long), None);
        assert_eq!(EventForm::of("battery", &Schema::Int), None);
    }
}
