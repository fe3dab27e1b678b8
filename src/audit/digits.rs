//! Numbers as Avro's decimals spell them: big-endian two's complement of any length.

/// The number; `None` when it needs more than 128 bits.
pub fn signed(bytes: &[u8]) -> Option<i128> {
    let is_negative = bytes.first().is_some_and(|first| first & 0x80 != 0);
    let sign = if is_negative { 0xff } else { 0 };
    let mut digits = bytes;
    while digits.len() > 16 {
        digits = digits.strip_prefix(&[sign])?;
    }
    let mut wide = [sign; 16];
    wide[16 - digits.len()..].copy_from_slice(digits);
    let number = i128::from_be_bytes(wide);
    ((number < 0) == is_negative).then_some(number)
}

/// A double as `unscaled / 10^scale`: the shortest number that is this double, or, where it was computed, that of 15 digits; `None` where
/// that has more than 38 digits before the point or behind it.
pub fn of_double(number: f64, is_as_written: bool) -> Option<(i128, i8)> {
    let text = if is_as_written { format!("{number:e}") } else { format!("{number:.14e}") };
    let (mantissa, power) = text.split_once('e')?;
    let (mut power, mut unscaled) = (power.parse::<i32>().ok()?, mantissa.replace('.', "").parse::<i128>().ok()?);
    power -= mantissa.split_once('.').map_or(0, |(_, behind)| behind.len() as i32);
    while unscaled % 10 == 0 && unscaled != 0 && power < 0 {
        (unscaled, power) = (unscaled / 10, power + 1);
    }
    while power > 0 && unscaled != 0 {
        (unscaled, power) = (unscaled.checked_mul(10)?, power - 1);
    }
    let scale = if unscaled == 0 { 0 } else { -power };
    (scale <= 38).then_some((unscaled, scale as i8))
}

/// The decimal digits, behind a sign where the number is negative; `None` when it has more than `most` of them.
pub fn in_digits(bytes: &[u8], most: usize) -> Option<String> {
    let is_negative = bytes.first().is_some_and(|first| first & 0x80 != 0);
    let absolute = digits(magnitude(bytes, is_negative, most)?);
    let sign = if is_negative { "-" } else { "" };
    (absolute.len() <= most).then(|| format!("{sign}{absolute}"))
}

/// The number without its sign, big endian; `None` when it is so long that it has more than `most` digits.
fn magnitude(bytes: &[u8], is_negative: bool, most: usize) -> Option<Vec<u8>> {
    let sign: u8 = if is_negative { 0xff } else { 0 };
    let leading = bytes.iter().take_while(|byte| **byte == sign).count();
    // A byte is more than two digits.
    if bytes.len() - leading > most / 2 + 1 {
        return None;
    }
    // -256 is FF 00, and 01 00 without its sign: a byte more than stands behind the FF.
    let mut magnitude: Vec<u8> = [0].into_iter().chain(bytes[leading..].iter().map(|byte| byte ^ sign)).collect();
    let mut carry = u8::from(is_negative);
    for byte in magnitude.iter_mut().rev() {
        let (sum, is_over) = byte.overflowing_add(carry);
        *byte = sum;
        carry = u8::from(is_over);
    }
    Some(magnitude)
}

/// Long division by ten, until nothing is left.
fn digits(mut number: Vec<u8>) -> String {
    let mut digits = Vec::new();
    while digits.is_empty() || number.iter().any(|byte| *byte != 0) {
        let mut rest = 0_u16;
        for byte in &mut number {
            let dividend = rest * 256 + u16::from(*byte);
            *byte = (dividend / 10) as u8;
            rest = dividend % 10;
        }
        digits.push(b'0' + rest as u8);
    }
    digits.iter().rev().map(|digit| char::from(*digit)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_negative_number_is_negative() {
        assert_eq!(signed(&[0xff]), Some(-1), "C07");
        assert_eq!(signed(&[0xff; 20]), Some(-1));
        assert_eq!(signed(&[0x7f; 17]), None);
    }

    #[test]
    fn digits_are_those_of_the_number_whatever_its_length() {
        for number in [0, 1, -1, 9, 10, -10, 255, -255, 256, -256, 65_535, -65_536, i128::MAX, i128::MIN] {
            let bytes = i128::to_be_bytes(number).to_vec();
            let longer = [vec![if number < 0 { 0xff } else { 0 }; 30], bytes.clone()].concat();
            assert_eq!(in_digits(&bytes, 39), Some(number.to_string()));
            assert_eq!(in_digits(&longer, 39), Some(number.to_string()));
        }
    }

    #[test]
    fn digits_are_counted() {
        let two_to_136 = [[1_u8].as_slice(), &[0; 17]].concat();
        let negative = [[0xff_u8].as_slice(), &[0; 17]].concat();

        assert_eq!(in_digits(&two_to_136, 41).as_deref(), Some("87112285931760246646623899502532662132736"));
        assert_eq!(in_digits(&negative, 41).as_deref(), Some("-87112285931760246646623899502532662132736"));
        assert_eq!(in_digits(&two_to_136, 40), None);
        assert_eq!(in_digits(&[1; 1_000], 76), None);
        assert_eq!(in_digits(&[], 1).as_deref(), Some("0"));
    }
}
