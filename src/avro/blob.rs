//! What text, bytes and fixed values become: the same, a decimal, or a uuid.

use std::borrow::Cow;

use arrow::datatypes::i256;
use uuid::Uuid;

use super::cell::Cell;

/// What the reader's type makes of a run of bytes.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Blob {
    Text,
    Bytes,
    /// Two's complement, big endian, unscaled; smaller than `bound` in size.
    Decimal {
        precision: usize,
        bound: i256,
    },
    /// Kept as text: as it was written, or in the usual form when it came as 16 bytes.
    Uuid,
}

impl Blob {
    /// A decimal of `precision` digits; at most 76, which the column's type has checked.
    pub(super) fn decimal(precision: usize) -> Self {
        let bound = u32::try_from(precision).ok().and_then(|digits| i256::from_i128(10).checked_pow(digits)).unwrap_or(i256::MAX);
        Self::Decimal { precision, bound }
    }

    /// The cell for a text value.
    ///
    /// # Errors
    /// Why the text has no counterpart.
    pub(super) fn of_text<'a>(&self, text: Cow<'a, str>) -> Result<Cell<'a>, String> {
        match self {
            Self::Text => Ok(Cell::Text(text)),
            Self::Uuid => match Uuid::try_parse(&text) {
                Ok(_) => Ok(Cell::Text(text)),
                Err(_) => Err(format!("`{}` is not a uuid", shortened(&text))),
            },
            Self::Bytes | Self::Decimal { .. } => self.of_bytes(match text {
                Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
                Cow::Owned(text) => Cow::Owned(text.into_bytes()),
            }),
        }
    }

    /// The cell for a bytes or fixed value.
    ///
    /// # Errors
    /// Why the bytes have no counterpart.
    pub(super) fn of_bytes<'a>(&self, bytes: Cow<'a, [u8]>) -> Result<Cell<'a>, String> {
        match self {
            Self::Bytes => Ok(Cell::Bytes(bytes)),
            Self::Text => text(bytes).map(Cell::Text).ok_or_else(|| "the bytes are not UTF-8".to_owned()),
            Self::Decimal { precision, bound } => match number(&bytes) {
                Some(value) if value < *bound && value > bound.wrapping_neg() => Ok(Cell::Decimal(value)),
                _ => Err(format!("the decimal has more than {precision} digits")),
            },
            Self::Uuid => match Uuid::from_slice(&bytes) {
                Ok(uuid) => Ok(Cell::Text(Cow::Owned(uuid.to_string()))),
                Err(_) => self.of_text(text(bytes).ok_or("the bytes are not a uuid")?),
            },
        }
    }
}

fn text(bytes: Cow<'_, [u8]>) -> Option<Cow<'_, str>> {
    match bytes {
        Cow::Borrowed(bytes) => std::str::from_utf8(bytes).ok().map(Cow::Borrowed),
        Cow::Owned(bytes) => String::from_utf8(bytes).ok().map(Cow::Owned),
    }
}

/// The signed number that bytes spell, big endian; none when it does not fit into 256 bits. No bytes spell zero.
fn number(bytes: &[u8]) -> Option<i256> {
    let fill = if bytes.first().is_some_and(|first| first & 0x80 != 0) { 0xff } else { 0x00 };
    let (head, tail) = bytes.split_at(bytes.len().saturating_sub(32));
    let is_extension = head.iter().all(|byte| *byte == fill) && tail.first().is_none_or(|first| (first ^ fill) & 0x80 == 0);
    if !is_extension {
        return None;
    }
    let mut wide = [fill; 32];
    wide[32 - tail.len()..].copy_from_slice(tail);
    Some(i256::from_be_bytes(wide))
}

fn shortened(text: &str) -> Cow<'_, str> {
    match text.char_indices().nth(40) {
        Some((cut, _)) => Cow::Owned(format!("{}…", &text[..cut])),
        None => Cow::Borrowed(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_sign_extended() {
        assert_eq!(number(&[0xff]), Some(i256::from_i128(-1)));
        assert_eq!(number(&[0x00, 0xff]), Some(i256::from_i128(255)));
        assert_eq!(number(&[]), Some(i256::ZERO));
        assert_eq!(number(&[0xff; 40]), Some(i256::from_i128(-1)));
    }

    #[test]
    fn numbers_beyond_256_bits_are_none() {
        let mut bytes = vec![0x01];
        bytes.extend([0; 32]);

        assert_eq!(number(&bytes), None);
    }

    #[test]
    fn a_decimal_has_no_more_digits_than_declared() {
        let two_digits = Blob::decimal(2);

        assert_eq!(two_digits.of_bytes(Cow::Borrowed(&[99])), Ok(Cell::Decimal(i256::from_i128(99))));
        assert_eq!(two_digits.of_bytes(Cow::Borrowed(&[157])), Ok(Cell::Decimal(i256::from_i128(-99))));
        assert!(two_digits.of_bytes(Cow::Borrowed(&[100])).is_err());
        assert!(two_digits.of_bytes(Cow::Borrowed(&[156])).is_err());
    }
}
