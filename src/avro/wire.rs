//! Avro's binary primitives, read from a slice: never past its end, never allocating.

/// What can be wrong with a datum, without saying where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flaw {
    Truncated,
    TrailingBytes,
    InvalidUtf8,
    BadUnionBranch,
    BadEnumSymbol,
    BadBoolean,
    VarintOverflow,
    BadLength,
    TooDeep,
    TooManyItems,
}

impl Flaw {
    /// The dead letter's reason code.
    pub(super) fn code(self) -> &'static str {
        match self {
            Self::Truncated => "truncated",
            Self::TrailingBytes => "trailing-bytes",
            Self::InvalidUtf8 => "invalid-utf8",
            Self::BadUnionBranch => "bad-union-branch",
            Self::BadEnumSymbol => "bad-enum-symbol",
            Self::BadBoolean => "bad-boolean",
            Self::VarintOverflow => "varint-overflow",
            Self::BadLength => "bad-length",
            Self::TooDeep => "too-deep",
            Self::TooManyItems => "too-many-items",
        }
    }
}

/// The bytes of a datum and how far they have been read.
#[derive(Clone, Debug)]
pub(super) struct Wire<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Wire<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// Bytes read so far.
    #[inline]
    pub(super) fn at(&self) -> usize {
        self.at
    }

    /// Bytes not read yet.
    #[inline]
    pub(super) fn left(&self) -> usize {
        self.bytes.len() - self.at
    }

    #[inline]
    pub(super) fn byte(&mut self) -> Result<u8, Flaw> {
        let byte = *self.bytes.get(self.at).ok_or(Flaw::Truncated)?;
        self.at += 1;
        Ok(byte)
    }

    #[inline]
    pub(super) fn take(&mut self, bytes: usize) -> Result<&'a [u8], Flaw> {
        if bytes > self.left() {
            return Err(Flaw::Truncated);
        }
        let taken = &self.bytes[self.at..self.at + bytes];
        self.at += bytes;
        Ok(taken)
    }

    /// A fixed number of bytes, as an array.
    #[inline]
    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], Flaw> {
        let taken = self.bytes[self.at..].first_chunk::<N>().ok_or(Flaw::Truncated)?;
        self.at += N;
        Ok(*taken)
    }

    #[inline]
    pub(super) fn boolean(&mut self) -> Result<bool, Flaw> {
        match self.byte()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Flaw::BadBoolean),
        }
    }

    #[inline]
    pub(super) fn long(&mut self) -> Result<i64, Flaw> {
        let raw = self.varint()?;
        Ok((raw >> 1) as i64 ^ -((raw & 1) as i64))
    }

    /// An int: at most five bytes, as Java's reader has it, even when more would spell a small number.
    #[inline]
    pub(super) fn int(&mut self) -> Result<i32, Flaw> {
        let start = self.at;
        let raw = self.varint()?;
        match u32::try_from(raw) {
            Ok(raw) if self.at - start <= 5 => Ok((raw >> 1) as i32 ^ -((raw & 1) as i32)),
            _ => Err(Flaw::VarintOverflow),
        }
    }

    /// The length of a text or bytes value.
    #[inline]
    pub(super) fn length(&mut self) -> Result<usize, Flaw> {
        usize::try_from(self.long()?).map_err(|_| Flaw::BadLength)
    }

    #[inline]
    fn varint(&mut self) -> Result<u64, Flaw> {
        let first = self.byte()?;
        if first < 0x80 {
            return Ok(u64::from(first));
        }
        self.varint_after(first)
    }

    fn varint_after(&mut self, first: u8) -> Result<u64, Flaw> {
        let mut value = u64::from(first & 0x7f);
        for index in 1..10 {
            let byte = self.byte()?;
            // The tenth byte holds the one bit that is left of 64.
            if index == 9 && byte > 1 {
                return Err(Flaw::VarintOverflow);
            }
            value |= u64::from(byte & 0x7f) << (7 * index);
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(Flaw::VarintOverflow)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ends_of_long_and_int_are_read() {
        let longest = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
        assert_eq!(Wire::new(&longest).long(), Ok(i64::MIN));
        assert_eq!(Wire::new(&[0xfe, 0xff, 0xff, 0xff, 0x0f]).int(), Ok(i32::MAX));
        assert_eq!(Wire::new(&[0xff, 0xff, 0xff, 0xff, 0x0f]).int(), Ok(i32::MIN));
    }

    #[test]
    fn numbers_that_do_not_fit_overflow() {
        let eleven = [0x80; 11];
        assert_eq!(Wire::new(&eleven).long(), Err(Flaw::VarintOverflow));
        assert_eq!(Wire::new(&[0x80, 0x80, 0x80, 0x80, 0x10]).int(), Err(Flaw::VarintOverflow));
        assert_eq!(Wire::new(&[0x80, 0x80, 0x80, 0x80, 0x80, 0x00]).int(), Err(Flaw::VarintOverflow));
    }

    #[test]
    fn nothing_is_read_past_the_end() {
        assert_eq!(Wire::new(&[0x80]).long(), Err(Flaw::Truncated));
        assert_eq!(Wire::new(&[1, 2, 3]).take(4), Err(Flaw::Truncated));
        assert_eq!(Wire::new(&[1, 2, 3]).array::<4>(), Err(Flaw::Truncated));
        assert_eq!(Wire::new(&[0x01]).length(), Err(Flaw::BadLength));
    }
}
