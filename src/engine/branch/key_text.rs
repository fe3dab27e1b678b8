//! Key columns as the text that results are keyed by.
//!
//! Texts, integers, booleans, dates and instants have one each. Arrow writes times with a calendar that ends at the year 262142; a record
//! may hold later ones, and its window needs a key all the same. These are spelt here, in the same form: ISO 8601 with a signed year.

use arrow::array::{Array, ArrayRef, AsArray, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Date32Type, Int64Type, TimeUnit};
use arrow::error::ArrowError;

const DAY_S: i64 = 86_400;

/// The texts of a key column, which holds no null.
///
/// # Errors
/// If a column of its type has no text.
pub fn texts(column: &ArrayRef) -> Result<StringArray, ArrowError> {
    match cast(column, &DataType::Utf8) {
        Ok(texts) => Ok(texts.as_string::<i32>().clone()),
        // One that cannot be written spoils the whole column.
        Err(_) => (0..column.len()).map(|row| text(&column.slice(row, 1)).map(Some)).collect(),
    }
}

fn text(one: &ArrayRef) -> Result<String, ArrowError> {
    let spelt = cast(one, &DataType::Utf8);
    match (spelt, one.data_type()) {
        (Ok(text), _) => Ok(text.as_string::<i32>().value(0).to_owned()),
        (Err(_), DataType::Date32) => Ok(date(i64::from(one.as_primitive::<Date32Type>().value(0)))),
        (Err(_), DataType::Timestamp(unit, zone)) => {
            let ticks = cast(one, &DataType::Int64)?.as_primitive::<Int64Type>().value(0);
            // Rules of zones do not reach so far.
            Ok(instant(ticks, *unit) + if zone.is_some() { "Z" } else { "" })
        }
        (Err(error), _) => Err(error),
    }
}

fn instant(ticks: i64, unit: TimeUnit) -> String {
    let (ticks_per_second, digits) = match unit {
        TimeUnit::Second => (1, 0),
        TimeUnit::Millisecond => (1_000, 3),
        TimeUnit::Microsecond => (1_000_000, 6),
        TimeUnit::Nanosecond => (1_000_000_000, 9),
    };
    let (seconds, fraction) = (ticks.div_euclid(ticks_per_second), ticks.rem_euclid(ticks_per_second));
    let second = seconds.rem_euclid(DAY_S);
    let of_day = format!("{:02}:{:02}:{:02}", second / 3_600, second / 60 % 60, second % 60);
    // Digits go in threes, as many as are needed.
    let mut fraction = if fraction == 0 { String::new() } else { format!(".{fraction:0digits$}") };
    while fraction.ends_with("000") {
        fraction.truncate(fraction.len() - 3);
    }
    format!("{}T{of_day}{fraction}", date(seconds.div_euclid(DAY_S)))
}

/// The date of a day since 1970-01-01 that lies far outside of the years that have four digits.
///
/// # Source
/// Howard Hinnant, "chrono-compatible low-level date algorithms", `civil_from_days`.
fn date(days_since_1970: i64) -> String {
    let days = days_since_1970 + 719_468;
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    format!("{year:+05}-{month:02}-{day:02}")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Date32Array, TimestampMicrosecondArray, TimestampMillisecondArray};
    use proptest::prelude::*;

    use super::*;

    fn of(column: ArrayRef) -> Vec<String> {
        texts(&column).expect("it has a text").iter().map(|text| text.expect("not null").to_owned()).collect()
    }

    #[test]
    fn times_beyond_the_calendar_have_a_text_and_do_not_spoil_their_neighbours() {
        let millis = TimestampMillisecondArray::from(vec![i64::MAX, -1, i64::MIN, 253_402_300_800_000]).with_timezone("+00:00");
        assert_eq!(
            of(Arc::new(millis)),
            ["+292278994-08-17T07:12:55.807Z", "1969-12-31T23:59:59.999Z", "-292275055-05-16T16:47:04.192Z", "+10000-01-01T00:00:00Z"]
        );
        assert_eq!(of(Arc::new(TimestampMicrosecondArray::from(vec![i64::MAX]))), ["+294247-01-10T04:00:54.775807"]);
        assert_eq!(of(Arc::new(Date32Array::from(vec![i32::MAX, 0, i32::MIN]))), ["+5881580-07-11", "1970-01-01", "-5877641-06-23"]);
    }

    proptest! {
        /// Where Arrow's calendar reaches, it is the same one.
        #[test]
        fn the_spelling_is_arrows(days in -90_000_000_i32..90_000_000, ticks in any::<i64>()) {
            prop_assume!(!(-719_528..=2_932_896).contains(&days));
            prop_assert_eq!(of(Arc::new(Date32Array::from(vec![days]))), [date(i64::from(days))]);
            let micros = ticks / 40;
            prop_assume!(!(-719_528..=2_932_896).contains(&micros.div_euclid(1_000_000 * DAY_S)));
            prop_assert_eq!(of(Arc::new(TimestampMicrosecondArray::from(vec![micros]))), [instant(micros, TimeUnit::Microsecond)]);
        }
    }
}
