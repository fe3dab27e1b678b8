//! Confluent's frame around a datum: a zero byte, the writer schema's id as four bytes big endian, the datum.

use std::fmt;

/// Bytes in front of the datum.
pub const PREFIX_BYTES: usize = 5;

/// Confluent's magic byte.
const MAGIC: u8 = 0;

/// The registry's id of a writer schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SchemaId(pub u32);

impl fmt::Display for SchemaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A value that does not begin with a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameFault {
    /// The first byte is not the magic byte.
    #[error("the first byte is 0x{first:02x}, not 0{}", json_hint(.looks_like_json))]
    Magic {
        /// The byte that is there.
        first: u8,
        /// Whether the value begins as a JSON document does.
        looks_like_json: bool,
    },
    /// No room for magic byte and schema id.
    #[error("the value has {bytes} bytes, a frame has at least {PREFIX_BYTES}")]
    Short {
        /// The value's length.
        bytes: usize,
    },
}

impl FrameFault {
    /// The dead letter's reason code.
    pub fn reason(&self) -> &'static str {
        "not-framed"
    }
}

/// Splits a record's value into schema id and datum.
///
/// # Errors
/// [`FrameFault`] when the value is not framed.
pub fn parse(value: &[u8]) -> Result<(SchemaId, &[u8]), FrameFault> {
    match value {
        [MAGIC, a, b, c, d, datum @ ..] => Ok((SchemaId(u32::from_be_bytes([*a, *b, *c, *d])), datum)),
        [] | [MAGIC, ..] => Err(FrameFault::Short { bytes: value.len() }),
        [first, ..] => Err(FrameFault::Magic { first: *first, looks_like_json: looks_like_json(value) }),
    }
}

/// The bytes in front of a datum written with schema `id`.
pub fn prefix(id: SchemaId) -> [u8; PREFIX_BYTES] {
    let [a, b, c, d] = id.0.to_be_bytes();
    [MAGIC, a, b, c, d]
}

fn json_hint(looks_like_json: &bool) -> &'static str {
    if *looks_like_json { ": this looks like JSON; produce with the registry's Avro serializer" } else { "" }
}

fn looks_like_json(value: &[u8]) -> bool {
    matches!(value.trim_ascii_start().first(), Some(b'{' | b'[' | b'"'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefix_and_datum_come_back() {
        let mut value = prefix(SchemaId(0x0102_0304)).to_vec();
        value.extend(b"datum");

        assert_eq!(parse(&value), Ok((SchemaId(0x0102_0304), b"datum".as_slice())));
    }

    #[test]
    fn an_empty_datum_is_framed() {
        assert_eq!(parse(&[0, 0, 0, 0, 7]), Ok((SchemaId(7), [].as_slice())));
    }

    #[test]
    fn a_short_value_says_its_length() {
        let fault = parse(&[0, 0, 1]).expect_err("three bytes are no frame");

        assert_eq!(fault.reason(), "not-framed");
        assert_eq!(fault.to_string(), "the value has 3 bytes, a frame has at least 5");
    }

    #[test]
    fn json_is_recognised() {
        let fault = parse(b" {\"dev_id\": 1}").expect_err("JSON is no frame");

        assert!(fault.to_string().contains("looks like JSON"), "{fault}");
        assert!(!parse(b"\x01abcdef").expect_err("wrong magic").to_string().contains("JSON"));
    }
}
