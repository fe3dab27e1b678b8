//! Confluent's frame: which schema a record's value was written with. It stands before the datum (a zero byte, the schema's id as four
//! bytes big endian), or in a header of the record, as an id or as a GUID, and the value is the datum alone. Protobuf's message indexes
//! follow the schema's name, wherever that stands.
//!
//! # Source
//! Confluent Platform 8, `SchemaId`, `HeaderSchemaIdSerializer`, `DualSchemaIdDeserializer` (confluentinc/schema-registry,
//! `schema-serializer/src/main/java/io/confluent/kafka/serializers/schema/id/`).

use std::fmt;

use super::foreign::SchemaKind;
use crate::kafka::Header;

/// Bytes in front of the datum.
pub const PREFIX_BYTES: usize = 5;

/// The header that names the schema of a record's value. Its like for keys, `__key_schema_id`, is not looked at: keys are text.
pub const VALUE_HEADER: &str = "__value_schema_id";

/// Confluent's magic byte.
const MAGIC: u8 = 0;

/// What stands before a GUID in a header.
const MAGIC_GUID: u8 = 1;

/// The registry's id of a writer schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SchemaId(pub u32);

impl SchemaId {
    /// Of records that no registered schema describes. Registries count from 1.
    pub const NONE: Self = Self(0);
}

impl fmt::Display for SchemaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A schema's identity over all registries, which headers may give instead of an id.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SchemaGuid(pub [u8; 16]);

impl fmt::Display for SchemaGuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        uuid::Uuid::from_bytes(self.0).fmt(f)
    }
}

impl fmt::Debug for SchemaGuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// How a record names its writer schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SchemaName {
    /// By the registry's id.
    Id(SchemaId),
    /// By its GUID.
    Guid(SchemaGuid),
}

/// A record's frame taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Framed<'v> {
    /// Its writer schema's name.
    pub name: SchemaName,
    /// What stands behind the name in a header: Protobuf's message indexes, of other kinds nothing. None where the name stands in the value.
    pub head: Option<&'v [u8]>,
    /// The rest of the value: a datum, behind its message indexes if it is Protobuf's and the name stands in the value.
    pub datum: &'v [u8],
}

/// A record whose writer schema cannot be told.
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
    /// The header is neither of the two forms.
    #[error(
        "the header {VALUE_HEADER} holds {bytes} bytes{}: it must be 0x00 and a schema id of 4 bytes, or 0x01 and a GUID of 16 bytes; \
         configure the producer's serializer to write one of these, or the id in front of the value",
        first_byte(.first)
    )]
    Header {
        /// The header value's length.
        bytes: usize,
        /// Its first byte.
        first: Option<u8>,
    },
    /// A header that goes on behind the schema's name.
    #[error(
        "the header {VALUE_HEADER} has {bytes} bytes more than the schema's name: Protobuf's message indexes stand there and nothing else, \
         and the source declares {kind}; produce with the serializer of {kind}"
    )]
    Beyond {
        /// How many.
        bytes: usize,
        /// What the source declares.
        kind: SchemaKind,
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
        match self {
            Self::Header { .. } | Self::Beyond { .. } => HEADER_FRAMED,
            Self::Magic { .. } | Self::Short { .. } => "not-framed",
        }
    }
}

/// The reason of records whose header cannot be followed to a schema.
pub const HEADER_FRAMED: &str = "header-framed";

/// Tells a record's writer schema and datum, for a source of schemas of `kind`. A header goes before what the value begins with, as in
/// Confluent's deserializers; one without a value is none.
///
/// # Errors
/// [`FrameFault`] when neither header nor value tells.
#[inline]
pub fn of_record<'v>(headers: &'v [Header], value: &'v [u8], kind: SchemaKind) -> Result<Framed<'v>, FrameFault> {
    // The last one counts where there are several.
    match headers.iter().rfind(|header| header.name == VALUE_HEADER).and_then(|header| header.value.as_deref()) {
        None => parse(value).map(|(id, datum)| Framed { name: SchemaName::Id(id), head: None, datum }),
        Some(header) => parse_header(header, kind).map(|(name, head)| Framed { name, head: Some(head), datum: value }),
    }
}

fn parse_header(header: &[u8], kind: SchemaKind) -> Result<(SchemaName, &[u8]), FrameFault> {
    let odd = || FrameFault::Header { bytes: header.len(), first: header.first().copied() };
    let (name, head) = match header {
        [MAGIC, rest @ ..] => {
            let (id, head) = rest.split_first_chunk().ok_or_else(odd)?;
            (SchemaName::Id(SchemaId(u32::from_be_bytes(*id))), head)
        }
        [MAGIC_GUID, rest @ ..] => {
            let (guid, head) = rest.split_first_chunk().ok_or_else(odd)?;
            (SchemaName::Guid(SchemaGuid(*guid)), head)
        }
        _ => return Err(odd()),
    };
    match kind == SchemaKind::Protobuf || head.is_empty() {
        true => Ok((name, head)),
        false => Err(FrameFault::Beyond { bytes: head.len(), kind }),
    }
}

/// What a header holds for a value written with schema `name`; message indexes follow it for Protobuf.
pub fn header_value(name: SchemaName) -> Vec<u8> {
    match name {
        SchemaName::Id(id) => prefix(id).to_vec(),
        SchemaName::Guid(guid) => [&[MAGIC_GUID][..], &guid.0].concat(),
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

fn first_byte(first: &Option<u8>) -> String {
    first.map_or_else(String::new, |first| format!(", the first of them 0x{first:02x}"))
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

    fn header(value: &[u8]) -> Header {
        Header { name: VALUE_HEADER.into(), value: Some(value.to_vec()) }
    }

    #[test]
    fn a_header_names_the_schema_by_id_or_guid_and_leaves_the_value_whole_c23() {
        let guid = SchemaGuid([7; 16]);
        for name in [SchemaName::Id(SchemaId(0x0102_0304)), SchemaName::Guid(guid)] {
            let value = b"datum".as_slice();

            assert_eq!(
                of_record(&[header(&header_value(name))], value, SchemaKind::Json),
                Ok(Framed { name, head: Some(&[]), datum: value })
            );
        }
        assert_eq!(guid.to_string(), "07070707-0707-0707-0707-070707070707");
    }

    #[test]
    fn the_last_header_of_that_name_counts_and_others_do_not() {
        let (first, last) = (SchemaName::Id(SchemaId(1)), SchemaName::Id(SchemaId(2)));
        let other = Header { name: "__key_schema_id".into(), value: Some(vec![9]) };
        let headers = [header(&header_value(first)), header(&header_value(last)), other.clone()];

        assert_eq!(of_record(&headers, b"x", SchemaKind::Avro).map(|framed| framed.name), Ok(last));
        let in_front = Ok(Framed { name: SchemaName::Id(SchemaId(7)), head: None, datum: [].as_slice() });
        assert_eq!(of_record(&[other], &[0, 0, 0, 0, 7], SchemaKind::Avro), in_front);
        let empty = Header { name: VALUE_HEADER.into(), value: None };
        assert_eq!(
            of_record(&[headers[0].clone(), empty], &[0, 0, 0, 0, 7], SchemaKind::Avro),
            in_front,
            "a header without a value is none"
        );
    }

    #[test]
    fn behind_the_name_stand_message_indexes_and_only_in_protobuf() {
        for name in [SchemaName::Id(SchemaId(9)), SchemaName::Guid(SchemaGuid([7; 16]))] {
            let headers = [header(&[&header_value(name)[..], &[4, 2, 0]].concat())];

            let of_protobuf = of_record(&headers, b"message", SchemaKind::Protobuf);

            assert_eq!(of_protobuf, Ok(Framed { name, head: Some(&[4, 2, 0]), datum: b"message" }));
            for kind in [SchemaKind::Avro, SchemaKind::Json] {
                let fault = of_record(&headers, b"datum", kind).expect_err("nothing stands there");
                assert_eq!(fault.reason(), "header-framed");
                assert!(fault.to_string().contains("3 bytes more") && fault.to_string().contains(&format!("declares {kind}")), "{fault}");
            }
        }
    }

    #[test]
    fn a_header_of_another_form_is_named_with_its_length() {
        for value in [&[][..], &[0, 0, 0, 1], &[1; 16], &[2, 0, 0, 0, 1]] {
            for kind in [SchemaKind::Avro, SchemaKind::Protobuf] {
                let headers = [header(value)];
                let fault = of_record(&headers, b"datum", kind).expect_err("no form");

                assert_eq!(fault.reason(), "header-framed");
                assert!(fault.to_string().contains(&format!("{VALUE_HEADER} holds {} bytes", value.len())), "{fault}");
            }
        }
    }

    #[test]
    fn json_is_recognised() {
        let fault = parse(b" {\"dev_id\": 1}").expect_err("JSON is no frame");

        assert!(fault.to_string().contains("looks like JSON"), "{fault}");
        assert!(!parse(b"\x01abcdef").expect_err("wrong magic").to_string().contains("JSON"));
    }
}
