//! The Protobuf wire format, read from a slice: never past its end, never allocating but for groups within groups.
//!
//! # Source
//! Protobuf documentation, "Encoding".

use super::plan::Wire;

/// What can be wrong with bytes, without saying where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flaw {
    /// They end too early.
    Truncated,
    /// A number has more than 64 bits.
    Overflow,
    /// Messages or groups are nested too deep.
    TooDeep,
    /// They are no message of any type.
    NoMessage(&'static str),
}

/// A message's bytes and how far they have been read.
#[derive(Clone, Debug)]
pub(super) struct Body<'v> {
    rest: &'v [u8],
}

impl<'v> Body<'v> {
    pub(super) fn new(bytes: &'v [u8]) -> Self {
        Self { rest: bytes }
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// What is left.
    pub(super) fn rest(&self) -> &'v [u8] {
        self.rest
    }

    #[inline]
    pub(super) fn varint(&mut self) -> Result<u64, Flaw> {
        match self.rest {
            [byte, rest @ ..] if *byte < 0x80 => {
                self.rest = rest;
                Ok(u64::from(*byte))
            }
            _ => self.long_varint(),
        }
    }

    fn long_varint(&mut self) -> Result<u64, Flaw> {
        let mut value = 0u64;
        for index in 0..10 {
            let (byte, rest) = self.rest.split_first().ok_or(Flaw::Truncated)?;
            self.rest = rest;
            // The tenth byte holds the one bit that is left of 64.
            if index == 9 && *byte > 1 {
                return Err(Flaw::Overflow);
            }
            value |= u64::from(byte & 0x7f) << (7 * index);
            if *byte < 0x80 {
                return Ok(value);
            }
        }
        Err(Flaw::Overflow)
    }

    /// A field's number and wire type; none for the end of a group.
    #[inline]
    pub(super) fn key(&mut self) -> Result<(u32, Option<Wire>), Flaw> {
        let key = u32::try_from(self.varint()?).map_err(|_| Flaw::NoMessage("a field number is beyond 29 bits"))?;
        let wire = match key & 7 {
            0 => Some(Wire::Varint),
            1 => Some(Wire::Fixed64),
            2 => Some(Wire::Delimited),
            3 => Some(Wire::Group),
            4 => None,
            5 => Some(Wire::Fixed32),
            _ => return Err(Flaw::NoMessage("a field has a wire type that does not exist")),
        };
        match key >> 3 {
            0 => Err(Flaw::NoMessage("a field has number 0")),
            number => Ok((number, wire)),
        }
    }

    #[inline]
    pub(super) fn fixed32(&mut self) -> Result<u32, Flaw> {
        self.array().map(u32::from_le_bytes)
    }

    #[inline]
    pub(super) fn fixed64(&mut self) -> Result<u64, Flaw> {
        self.array().map(u64::from_le_bytes)
    }

    #[inline]
    fn array<const N: usize>(&mut self) -> Result<[u8; N], Flaw> {
        let (taken, rest) = self.rest.split_first_chunk::<N>().ok_or(Flaw::Truncated)?;
        self.rest = rest;
        Ok(*taken)
    }

    /// A length and so many bytes.
    #[inline]
    pub(super) fn delimited(&mut self) -> Result<&'v [u8], Flaw> {
        let length = usize::try_from(self.varint()?).map_err(|_| Flaw::Truncated)?;
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(Flaw::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }

    /// Moves past a value of a field that nobody knows; `levels` of messages and groups may be opened below.
    pub(super) fn skip(&mut self, number: u32, wire: Option<Wire>, levels: u32) -> Result<(), Flaw> {
        match wire {
            Some(Wire::Varint) => self.varint().map(drop),
            Some(Wire::Fixed64) => self.fixed64().map(drop),
            Some(Wire::Delimited) => self.delimited().map(drop),
            Some(Wire::Fixed32) => self.fixed32().map(drop),
            Some(Wire::Group) => self.group(number, levels).map(drop),
            None => Err(Flaw::NoMessage("a group ends that did not begin")),
        }
    }

    /// What stands in the group that began just now, up to its end.
    pub(super) fn group(&mut self, number: u32, levels: u32) -> Result<&'v [u8], Flaw> {
        let whole = self.rest;
        let mut open = vec![number];
        loop {
            if open.len() > levels as usize {
                return Err(Flaw::TooDeep);
            }
            let before = self.rest.len();
            match self.key()? {
                (number, Some(Wire::Group)) => open.push(number),
                (number, None) if open.pop() != Some(number) => return Err(Flaw::NoMessage("a group ends with another one's number")),
                (_, None) if open.is_empty() => return Ok(&whole[..whole.len() - before]),
                (_, None) => {}
                (number, wire) => self.skip(number, wire, 0)?,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_to_their_ends() {
        assert_eq!(Body::new(&[0x96, 0x01]).varint(), Ok(150));
        assert_eq!(Body::new(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]).varint(), Ok(u64::MAX));
        assert_eq!(Body::new(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02]).varint(), Err(Flaw::Overflow));
        assert_eq!(Body::new(&[0x80; 11]).varint(), Err(Flaw::Overflow));
        assert_eq!(Body::new(&[0x80]).varint(), Err(Flaw::Truncated));
    }

    #[test]
    fn keys_that_mean_nothing_are_refused() {
        assert_eq!(Body::new(&[0x08]).key(), Ok((1, Some(Wire::Varint))));
        assert!(matches!(Body::new(&[0x00]).key(), Err(Flaw::NoMessage(_))));
        assert!(matches!(Body::new(&[0x0e]).key(), Err(Flaw::NoMessage(_))));
        assert!(matches!(Body::new(&[0x80, 0x80, 0x80, 0x80, 0x10]).key(), Err(Flaw::NoMessage(_))));
    }

    #[test]
    fn groups_are_skipped_whole_or_not_at_all() {
        // 1 { 2 { } 3: 7 }, then one byte more.
        let bytes = [0x0b, 0x13, 0x14, 0x18, 0x07, 0x0c, 0x55];
        let mut body = Body::new(&bytes);

        assert_eq!(body.key(), Ok((1, Some(Wire::Group))));
        assert_eq!(body.clone().group(1, 2), Ok(&bytes[1..5]));
        assert_eq!(body.clone().group(1, 1), Err(Flaw::TooDeep));
        body.skip(1, Some(Wire::Group), 2).expect("well-formed");
        assert_eq!(body.rest(), [0x55]);
        assert!(matches!(Body::new(&[0x13, 0x0c]).group(1, 9), Err(Flaw::NoMessage(_))));
        assert_eq!(Body::new(&[0x13, 0x14]).group(1, 9), Err(Flaw::Truncated));
    }
}
