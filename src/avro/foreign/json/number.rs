//! Numbers from their text: exactly, or not at all. Only floats are rounded, to the nearest.

use arrow::datatypes::i256;

/// Most digits of a decimal.
const DIGITS_MAX: usize = 76;

/// A number as digits and an exponent: no zeros before the digits, none behind them.
struct Exact {
    is_negative: bool,
    digits: String,
    /// The last digit stands at this power of ten.
    exponent: i64,
}

impl Exact {
    /// Takes apart what [`super::scan::number_length`] has measured.
    fn of(text: &str) -> Self {
        let (is_negative, unsigned) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
        let (mantissa, exponent) = unsigned.split_once(['e', 'E']).unwrap_or((unsigned, "0"));
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let digits = format!("{whole}{fraction}");
        let kept = digits.trim_end_matches('0');
        // An exponent that does not fit is beyond every type, in its own direction.
        let exponent = exponent.parse().unwrap_or(if exponent.starts_with('-') { i64::MIN } else { i64::MAX });
        let moved = (digits.len() - kept.len()) as i64 - fraction.len() as i64;
        Self { is_negative, digits: kept.trim_start_matches('0').to_owned(), exponent: exponent.saturating_add(moved) }
    }

    /// The digits of this number in units of `10^-scale`, with its sign; none when there is a part of a unit, or more than `digits_max`.
    fn in_units(&self, scale: usize, digits_max: usize) -> Option<String> {
        if self.digits.is_empty() {
            return Some("0".into());
        }
        let zeros = usize::try_from(self.exponent.checked_add(i64::try_from(scale).ok()?)?).ok()?;
        if self.digits.len().checked_add(zeros)? > digits_max {
            return None;
        }
        let sign = if self.is_negative { "-" } else { "" };
        Some(format!("{sign}{}{}", self.digits, "0".repeat(zeros)))
    }
}

/// A whole number that a long can hold; `1.0` and `1e3` are whole.
pub(super) fn long(text: &str) -> Option<i64> {
    match text.parse() {
        Ok(number) => Some(number),
        Err(_) => Exact::of(text).in_units(0, 19)?.parse().ok(),
    }
}

/// The unscaled value of a decimal, when it is exactly one of this precision and scale.
pub(super) fn unscaled(text: &str, precision: usize, scale: usize) -> Option<i256> {
    i256::from_string(&Exact::of(text).in_units(scale, precision.min(DIGITS_MAX))?)
}

/// Big-endian two's complement in as few bytes as it takes.
pub(super) fn shortest(number: i256) -> Vec<u8> {
    let bytes = number.to_be_bytes();
    let sign = if number < i256::ZERO { 0xff } else { 0 };
    let is_needed = |at: &usize| bytes[*at] != sign || (bytes.get(at + 1).is_some_and(|next| (next ^ sign) & 0x80 != 0));
    let begin = (0..bytes.len()).find(is_needed).unwrap_or(bytes.len() - 1);
    bytes[begin..].to_vec()
}

/// The same in exactly `size` bytes; none when it does not fit.
pub(super) fn widened(number: i256, size: usize) -> Option<Vec<u8>> {
    let short = shortest(number);
    let sign = if number < i256::ZERO { 0xff } else { 0 };
    let mut wide = vec![sign; size.checked_sub(short.len())?];
    wide.extend(short);
    Some(wide)
}

/// The nearest double; none beyond the largest.
pub(super) fn double(text: &str) -> Option<f64> {
    text.parse().ok().filter(|number: &f64| number.is_finite())
}

/// The nearest float; none beyond the largest.
pub(super) fn float(text: &str) -> Option<f32> {
    text.parse().ok().filter(|number: &f32| number.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_numbers_are_whole_however_they_are_spelt() {
        let whole = [
            ("0", 0),
            ("-0", 0),
            ("-0.0e5", 0),
            ("1.0", 1),
            ("1e3", 1_000),
            ("12.50e1", 125),
            ("1000e-3", 1),
            ("9223372036854775807", i64::MAX),
            ("-9223372036854775808", i64::MIN),
            ("-9.223372036854775808E18", i64::MIN),
        ];
        for (text, number) in whole {
            assert_eq!(long(text), Some(number), "{text}");
        }
        for text in ["9223372036854775808", "1.5", "1e-1", "1e19", "1e99999999999999999999", "1e-99999999999999999999", "12.345e2"] {
            assert_eq!(long(text), None, "{text}");
        }
    }

    #[test]
    fn decimals_are_exact_or_none() {
        let number = |text: &str| unscaled(text, 6, 2).map(|number| number.to_string());

        assert_eq!(number("12.34").as_deref(), Some("1234"));
        assert_eq!(number("-12.3").as_deref(), Some("-1230"));
        assert_eq!(number("1234e-2").as_deref(), Some("1234"));
        assert_eq!(number("9999.99").as_deref(), Some("999999"));
        assert_eq!(number("12.340").as_deref(), Some("1234"));
        assert_eq!(number("12.345"), None, "a digit more");
        assert_eq!(number("10000"), None, "beyond the precision");
        assert_eq!(unscaled(&"9".repeat(76), 76, 0).map(|number| number.to_string()), Some("9".repeat(76)));
        assert_eq!(unscaled(&"9".repeat(77), 77, 0), None);
    }

    #[test]
    fn twos_complement_is_as_short_as_it_can_be() {
        let bytes = |number: i64| shortest(i256::from(number));

        assert_eq!(bytes(0), [0]);
        assert_eq!(bytes(-1), [0xff]);
        assert_eq!(bytes(127), [0x7f]);
        assert_eq!(bytes(128), [0, 0x80]);
        assert_eq!(bytes(-128), [0x80]);
        assert_eq!(bytes(-129), [0xff, 0x7f]);
        assert_eq!(widened(i256::from(-129), 4), Some(vec![0xff, 0xff, 0xff, 0x7f]));
        assert_eq!(widened(i256::from(1_000), 1), None);
    }

    #[test]
    fn floats_are_the_nearest_and_finite() {
        assert_eq!(double("0.30000000000000004"), Some(0.1 + 0.2));
        assert_eq!(double("1e309"), None);
        assert_eq!(double("5e-324"), Some(5e-324));
        assert_eq!(float("3.5e38"), None);
        assert_eq!(float("0.1"), Some(0.1));
    }
}
