//! Constants with a point beside decimal columns: `8.2` is eight and two tenths there, not the double that is nearest to it.

use arrow::datatypes::DECIMAL128_MAX_PRECISION;
use datafusion_common::ScalarValue;

/// Most digits of a decimal in SQL.
const PRECISION_MAX: i32 = DECIMAL128_MAX_PRECISION as i32;
/// What a computed constant is rounded to: more digits of it are the error of doubles (`0.1 + 0.2`).
const DIGITS_OF_COMPUTED: usize = 15;

/// A constant as the decimal that it is compared as with a column of this precision and scale: of the column's type where that holds it, of
/// its own where it is finer or larger. `None` where both together have more digits than SQL's decimals.
pub fn constant(value: f64, is_as_written: bool, precision: u8, scale: i8) -> Option<ScalarValue> {
    let (unscaled, own_scale) = digits(value, is_as_written)?;
    let (column, of_column) = (i32::from(precision), i32::from(scale));
    let of_column_type = u32::try_from(of_column - own_scale).ok().and_then(|zeros| unscaled.checked_mul(10_i128.checked_pow(zeros)?));
    if let Some(rescaled) = of_column_type.filter(|rescaled| count(*rescaled) <= column) {
        return Some(ScalarValue::Decimal128(Some(rescaled), precision, scale));
    }
    let own = count(unscaled).max(own_scale).max(1);
    let together = (column - of_column).max(own - own_scale) + of_column.max(own_scale);
    (together <= PRECISION_MAX).then(|| ScalarValue::Decimal128(Some(unscaled), own as u8, own_scale as i8))
}

/// The number as `unscaled / 10^scale`, without zeros at its end behind the point.
fn digits(value: f64, is_as_written: bool) -> Option<(i128, i32)> {
    let text = match is_as_written {
        true => format!("{value:e}"),
        false => format!("{value:.*e}", DIGITS_OF_COMPUTED - 1),
    };
    let (mantissa, exponent) = text.split_once('e')?;
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let fraction = fraction.trim_end_matches('0');
    let scale = i32::try_from(fraction.len()).ok()? - exponent.parse::<i32>().ok()?;
    let unscaled: i128 = format!("{whole}{fraction}").parse().ok()?;
    match u32::try_from(scale) {
        Ok(_) if scale <= PRECISION_MAX => Some((unscaled, scale)),
        Ok(_) => None,
        // Zeros before the point.
        Err(_) => Some((unscaled.checked_mul(10_i128.checked_pow(scale.unsigned_abs())?)?, 0)),
    }
}

fn count(unscaled: i128) -> i32 {
    unscaled.unsigned_abs().checked_ilog10().map_or(0, |log| log as i32 + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decimal(unscaled: i128, precision: u8, scale: i8) -> Option<ScalarValue> {
        Some(ScalarValue::Decimal128(Some(unscaled), precision, scale))
    }

    #[test]
    fn a_constant_has_the_digits_that_were_written() {
        let of = |value| constant(value, true, 8, 2);

        assert_eq!([of(8.2), of(4.4), of(-8.3), of(0.0), of(1e5)], [820, 440, -830, 0, 10_000_000].map(|unscaled| decimal(unscaled, 8, 2)));
        assert_eq!(of(8.205), decimal(8_205, 4, 3), "finer than the column");
        assert_eq!(of(0.001), decimal(1, 3, 3));
        assert_eq!(of(1e7), decimal(10_000_000, 8, 0), "larger than the column");
        assert_eq!((of(1e300), of(1e-300), of(f64::NAN), of(f64::INFINITY)), (None, None, None, None));
    }

    #[test]
    fn what_was_computed_has_no_digits_of_its_error() {
        assert_eq!(constant(0.1 + 0.2, false, 8, 2), decimal(30, 8, 2));
        assert_eq!(constant(0.1 + 0.2, true, 8, 2), decimal(30_000_000_000_000_004, 17, 17));
        assert_eq!(constant(12_345_678_901_234.56, true, 38, 2), decimal(1_234_567_890_123_456, 38, 2));
    }

    #[test]
    fn more_digits_than_a_decimal_has_are_not_guessed() {
        assert_eq!(constant(0.123_456_789_1, true, 38, 9), None);
        assert_eq!(constant(1e30, true, 38, 9), None);
    }
}
