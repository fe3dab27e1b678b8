//! Casts of values, as SQL means them: what does not fit is an error of the row, never a wrap.

use std::sync::Arc;

use super::time::{self, DAY, Unit};
use super::types::{PRECISION_MAX, Type};
use super::value::{Value, decimal_text};

/// Days since 1970 of the years that the engine's calendar has, -262143 to 262142.
const CALENDAR_DAYS: std::ops::RangeInclusive<i32> = -96_465_292..=95_026_236;

/// Why an expression has no value on a row: the row's dead letter says `expression-failed`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Failed(pub String);

fn failed<T>(value: &Value, to: Type) -> Result<T, Failed> {
    Err(Failed(format!("{value} does not fit {to:?}")))
}

/// Whether the audit can cast between two types at all.
pub fn is_known(from: Type, to: Type) -> bool {
    from == to
        || from == Type::Null
        || match (from, to) {
            (Type::Bool, to) => to.is_integer() || to == Type::Text,
            (from, Type::Bool) => from.is_integer(),
            (Type::Decimal(..), Type::Text) => true,
            (from, Type::Text) => from.is_integer() || matches!(from, Type::Date | Type::Uuid),
            (from, to) if from.is_numeric() && to.is_numeric() => true,
            (Type::Text, to) => to.is_numeric() && !matches!(to, Type::Decimal(..)) || matches!(to, Type::Date | Type::Timestamp(..)),
            (Type::Date | Type::Timestamp(..), Type::Date | Type::Timestamp(..)) => true,
            (Type::Long, Type::Timestamp(..)) | (Type::Timestamp(..), Type::Long) | (Type::Int, Type::Timestamp(..)) => true,
            _ => false,
        }
}

/// Casts `value` of type `from` to `to`.
///
/// # Errors
/// [`Failed`] when it does not fit.
pub fn cast(value: Value, from: Type, to: Type) -> Result<Value, Failed> {
    if from == to || value.is_null() {
        return Ok(value);
    }
    match to {
        Type::Bool => match value {
            Value::Int(number) => Ok(Value::Bool(number != 0)),
            Value::Long(number) => Ok(Value::Bool(number != 0)),
            other => failed(&other, to),
        },
        Type::Int => integer(&value, to).and_then(|number| i32::try_from(number).map(Value::Int).or_else(|_| failed(&value, to))),
        Type::Long => match (&value, from) {
            (Value::Timestamp(ns), Type::Timestamp(unit, _)) => Ok(Value::Long((ns / unit.nanos()) as i64)),
            _ => integer(&value, to).and_then(|number| i64::try_from(number).map(Value::Long).or_else(|_| failed(&value, to))),
        },
        Type::Float => match &value {
            Value::Int(number) => Ok(Value::Float(*number as f32)),
            Value::Long(number) => Ok(Value::Float(*number as f32)),
            Value::Double(number) => Ok(Value::Float(*number as f32)),
            Value::Text(text) => text.parse().map(Value::Float).or_else(|_| failed(&value, to)),
            other => double(other, to).map(|number| Value::Float(number as f32)),
        },
        Type::Double => double(&value, to).map(Value::Double),
        Type::Decimal(precision, scale) => decimal(&value, precision, scale),
        Type::Text => text(&value, to),
        Type::Date => match &value {
            Value::Timestamp(ns) => Ok(Value::Date(ns.div_euclid(DAY) as i32)),
            Value::Text(text) => match time::parse_date(text.get(..10).unwrap_or(text)) {
                Some(days) => Ok(Value::Date(days as i32)),
                None => failed(&value, to),
            },
            other => failed(other, to),
        },
        Type::Timestamp(unit, _) => timestamp(&value, unit, to),
        _ => failed(&value, to),
    }
}

/// A whole number, fractions cut off.
fn integer(value: &Value, to: Type) -> Result<i128, Failed> {
    match value {
        Value::Bool(value) => Ok(i128::from(*value)),
        Value::Int(number) => Ok(i128::from(*number)),
        Value::Long(number) => Ok(i128::from(*number)),
        Value::Float(number) => whole(f64::from(*number)).map_or_else(|| failed(value, to), Ok),
        Value::Double(number) => whole(*number).map_or_else(|| failed(value, to), Ok),
        Value::Decimal { unscaled, scale } => Ok(match u32::try_from(*scale) {
            Ok(scale) => unscaled / 10_i128.pow(scale.min(38)),
            Err(_) => unscaled * 10_i128.pow(u32::from(scale.unsigned_abs())),
        }),
        Value::Text(text) => text.parse().or_else(|_| failed(value, to)),
        other => failed(other, to),
    }
}

fn whole(number: f64) -> Option<i128> {
    // Beyond 2^100 no integer type holds it; the cast of a NaN would be 0.
    (number.is_finite() && number.abs() < 1.3e30).then_some(number as i128)
}

fn double(value: &Value, to: Type) -> Result<f64, Failed> {
    match value {
        Value::Bool(value) => Ok(f64::from(u8::from(*value))),
        Value::Int(number) => Ok(f64::from(*number)),
        Value::Long(number) => Ok(*number as f64),
        Value::Float(number) => Ok(f64::from(*number)),
        Value::Double(number) => Ok(*number),
        Value::Decimal { unscaled, scale } => Ok(*unscaled as f64 / 10_f64.powi(i32::from(*scale))),
        Value::Text(text) => text.parse().or_else(|_| failed(value, to)),
        other => failed(other, to),
    }
}

/// A decimal of `scale`, rounded half away from zero, that fits `precision`.
fn decimal(value: &Value, precision: u8, scale: i8) -> Result<Value, Failed> {
    let to = Type::Decimal(precision, scale);
    let power = |exponent: i8| 10_i128.checked_pow(u32::from(exponent.unsigned_abs()));
    let unscaled = match value {
        Value::Int(_) | Value::Long(_) => power(scale).and_then(|power| integer(value, to).ok()?.checked_mul(power)),
        Value::Float(_) | Value::Double(_) => whole((double(value, to)? * 10_f64.powi(i32::from(scale))).round()),
        Value::Decimal { unscaled, scale: from } if *from <= scale => power(scale - from).and_then(|power| unscaled.checked_mul(power)),
        Value::Decimal { unscaled, scale: from } => power(from - scale).map(|power| {
            let half = power / 2;
            (unscaled + if *unscaled < 0 { -half } else { half }) / power
        }),
        _ => None,
    };
    match unscaled {
        Some(unscaled) if fits(unscaled, precision) => Ok(Value::Decimal { unscaled, scale }),
        _ => failed(value, to),
    }
}

/// Whether a number has at most `precision` digits.
pub fn fits(unscaled: i128, precision: u8) -> bool {
    precision > PRECISION_MAX || unscaled.unsigned_abs() < 10_u128.pow(u32::from(precision))
}

fn text(value: &Value, to: Type) -> Result<Value, Failed> {
    let text: Arc<str> = match value {
        Value::Date(days) if !CALENDAR_DAYS.contains(days) => return failed(value, to),
        Value::Bool(_) | Value::Int(_) | Value::Long(_) | Value::Date(_) | Value::Uuid(_) => value.to_string().into(),
        Value::Decimal { unscaled, scale } => decimal_text(*unscaled, *scale).into(),
        other => return failed(other, to),
    };
    Ok(Value::Text(text))
}

/// An instant in `unit`, cut towards 1970 where it is finer; it must fit 64 bits of that unit.
fn timestamp(value: &Value, unit: Unit, to: Type) -> Result<Value, Failed> {
    let ns = match value {
        Value::Timestamp(ns) => *ns,
        Value::Date(days) => i128::from(*days) * DAY,
        Value::Int(number) => i128::from(*number) * unit.nanos(),
        Value::Long(number) => i128::from(*number) * unit.nanos(),
        Value::Text(text) => match time::parse_timestamp(text) {
            Some(ns) => ns,
            None => return failed(value, to),
        },
        other => return failed(other, to),
    };
    let units = ns / unit.nanos();
    if i64::try_from(units).is_err() {
        return failed(value, to);
    }
    Ok(Value::Timestamp(units * unit.nanos()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_an_error_of_the_row() {
        assert!(cast(Value::Long(3_000_000_000), Type::Long, Type::Int).is_err());
        assert!(cast(Value::Double(f64::NAN), Type::Double, Type::Long).is_err());
        assert!(cast(Value::text("12x"), Type::Text, Type::Long).is_err());
        assert_eq!(cast(Value::Double(-1.9), Type::Double, Type::Long), Ok(Value::Long(-1)));
    }

    #[test]
    fn the_year_9999_does_not_wrap() {
        let end = Value::timestamp_ms(253_402_300_799_000);
        let (millis, nanos) = (Type::Timestamp(Unit::Milli, true), Type::Timestamp(Unit::Nano, true));

        assert!(cast(end, millis, nanos).is_err(), "C39");
    }

    #[test]
    fn seconds_through_milliseconds_are_what_was_declared() {
        let millis = Type::Timestamp(Unit::Milli, false);

        let cast = cast(Value::Long(1_744_100_000), Type::Long, millis).map(|value| value.to_string());

        assert_eq!(cast.as_deref(), Ok("1970-01-21T04:28:20Z"), "C43");
    }
}
