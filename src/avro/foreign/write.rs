//! Avro's binary primitives, written to the end of a datum, up to a bound.

use super::TranscodeFault;

/// A datum being made, behind what stands in the buffer already.
pub(super) struct Datum<'d> {
    bytes: &'d mut Vec<u8>,
    /// The buffer's length that must not be passed.
    end: usize,
    /// Length of the longest text or bytes value.
    blob_bytes_max: usize,
}

impl<'d> Datum<'d> {
    /// A datum of at most `bytes_max` bytes at the end of `bytes`.
    pub(super) fn new(bytes: &'d mut Vec<u8>, bytes_max: usize, blob_bytes_max: usize) -> Self {
        let end = bytes.len().saturating_add(bytes_max);
        Self { bytes, end, blob_bytes_max }
    }

    /// Length of the buffer, for [`Datum::put_back`].
    pub(super) fn mark(&self) -> usize {
        self.bytes.len()
    }

    /// Bytes that were written after `mark`, taken away again.
    pub(super) fn put_back(&mut self, mark: usize) -> Vec<u8> {
        self.bytes.split_off(mark)
    }

    /// Puts a long in front of what was written after `mark`: the count of a block.
    pub(super) fn insert_long(&mut self, mark: usize, value: i64) -> Result<(), TranscodeFault> {
        let end = self.bytes.len();
        self.long(value)?;
        let added = self.bytes.len() - end;
        self.bytes[mark..].rotate_right(added);
        Ok(())
    }

    /// Raw bytes: a fixed type, or a part that was written elsewhere.
    pub(super) fn raw(&mut self, bytes: &[u8]) -> Result<(), TranscodeFault> {
        if bytes.len() > self.end - self.bytes.len() {
            return Err(too_large("the value takes more bytes as a datum than its size warrants".into()));
        }
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    /// A long, a union's branch, an item count.
    pub(super) fn long(&mut self, value: i64) -> Result<(), TranscodeFault> {
        let mut rest = ((value << 1) ^ (value >> 63)).cast_unsigned();
        let (mut bytes, mut length) = ([0u8; 10], 0);
        loop {
            bytes[length] = (rest & 0x7f) as u8 | if rest > 0x7f { 0x80 } else { 0 };
            length += 1;
            rest >>= 7;
            if rest == 0 {
                return self.raw(&bytes[..length]);
            }
        }
    }

    /// Text or bytes, with their length.
    pub(super) fn blob(&mut self, value: &[u8]) -> Result<(), TranscodeFault> {
        if value.len() > self.blob_bytes_max {
            return Err(too_large(format!("a text or bytes value has {} bytes, the bound is {}", value.len(), self.blob_bytes_max)));
        }
        self.long(i64::try_from(value.len()).unwrap_or(i64::MAX))?;
        self.raw(value)
    }

    /// A boolean.
    pub(super) fn boolean(&mut self, value: bool) -> Result<(), TranscodeFault> {
        self.raw(&[u8::from(value)])
    }

    /// A float.
    pub(super) fn float(&mut self, value: f32) -> Result<(), TranscodeFault> {
        self.raw(&value.to_le_bytes())
    }

    /// A double.
    pub(super) fn double(&mut self, value: f64) -> Result<(), TranscodeFault> {
        self.raw(&value.to_le_bytes())
    }
}

fn too_large(detail: String) -> TranscodeFault {
    TranscodeFault { reason: "bad-length", path: String::new(), detail }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn primitives_are_as_the_specification_has_them() {
        let mut bytes = vec![9];
        let mut datum = Datum::new(&mut bytes, 100, 10);
        for value in [0, -1, 1, -64, 64, i64::MIN, i64::MAX] {
            datum.long(value).expect("room");
        }
        datum.blob("ä".as_bytes()).expect("room");
        datum.boolean(true).expect("room");

        let mut expected = vec![9, 0, 1, 2, 0x7f, 0x80, 0x01];
        expected.extend([0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]);
        expected.extend([0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]);
        expected.extend([4, 0xc3, 0xa4, 1]);
        assert_eq!(bytes, expected);
    }

    #[test]
    fn a_datum_has_no_more_bytes_than_its_bound() {
        let mut bytes = vec![1, 2, 3];
        let mut datum = Datum::new(&mut bytes, 8, 10);
        datum.double(0.5).expect("eight bytes");

        assert_eq!(datum.boolean(true).expect_err("one more").reason, "bad-length");
        assert_eq!(datum.blob(&[0; 11]).expect_err("too long").reason, "bad-length");
    }
}
