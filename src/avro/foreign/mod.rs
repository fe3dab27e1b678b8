//! Records in other formats than Avro. Each is *transcoded* into a datum of an Avro schema that is *derived* from its writer schema;
//! everything behind works on that datum as on any other: resolution, inspection, decoding, judgement, verdicts (docs/adr/0019).
//!
//! A derivation is strict: what has no equal in Avro is refused with its place, never dropped or bent.

use std::fmt;

use super::limits::{DatumLimits, SchemaLimits};
use super::schema::SchemaFault;

pub mod json;
pub mod json_schema;
pub mod protobuf;

mod write;

/// What a registry says that a schema is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum SchemaKind {
    /// An Avro schema.
    #[default]
    Avro,
    /// A JSON Schema.
    Json,
    /// A Protobuf file.
    Protobuf,
}

impl SchemaKind {
    /// As the registry's `schemaType` has it; none for what it has besides.
    pub fn of(word: &str) -> Option<Self> {
        [Self::Avro, Self::Json, Self::Protobuf].into_iter().find(|kind| kind.word().eq_ignore_ascii_case(word))
    }

    /// The word for sources of this kind in a tenant file.
    pub fn declared_as(self) -> &'static str {
        match self {
            Self::Avro => "avro",
            Self::Json => "json-schema",
            Self::Protobuf => "protobuf",
        }
    }

    /// The registry's `schemaType`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Avro => "AVRO",
            Self::Json => "JSON",
            Self::Protobuf => "PROTOBUF",
        }
    }
}

impl fmt::Display for SchemaKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Avro => "Avro",
            Self::Json => "JSON Schema",
            Self::Protobuf => "Protobuf",
        })
    }
}

/// A schema that another one refers to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// What the other one calls it: a type's name, the URI of a `$ref`, the path of an import.
    pub name: String,
    /// Its text.
    pub text: String,
}

/// An Avro schema in place of one of another format.
#[derive(Debug)]
pub struct Derived {
    /// The schema that datums are of.
    pub schema: apache_avro::Schema,
    /// Makes them.
    pub transcoder: Box<dyn Transcode>,
}

/// Turns values of a foreign format into datums of the derived schema.
pub trait Transcode: Send + Sync + fmt::Debug {
    /// Appends the datum of `value`, which is what stands behind the frame. After a fault `datum` holds nothing that can be used.
    ///
    /// # Errors
    /// [`TranscodeFault`] when the value is not one of its writer schema, or is beyond a bound.
    fn transcode(&self, value: &[u8], datum: &mut Vec<u8>) -> Result<(), TranscodeFault>;

    /// The same of a record whose schema is named in a header: `head` stands in it behind the name. Protobuf alone has something there.
    ///
    /// # Errors
    /// As [`Transcode::transcode`].
    fn transcode_headed(&self, head: &[u8], value: &[u8], datum: &mut Vec<u8>) -> Result<(), TranscodeFault> {
        debug_assert!(head.is_empty(), "the frame lets nothing else through");
        self.transcode(value, datum)
    }
}

/// Why a value gives no datum.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TranscodeFault {
    /// The dead letter's reason code, as docs/semantics.md lists them.
    pub reason: &'static str,
    /// Where in the value, such as `position.readings[3]`; empty for the whole.
    pub path: String,
    /// What is wrong.
    pub detail: String,
}

impl fmt::Display for TranscodeFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.path.is_empty() {
            true => f.write_str(&self.detail),
            false => write!(f, "{} (at `{}`)", self.detail, self.path),
        }
    }
}

impl std::error::Error for TranscodeFault {}

/// The reason code of a record of another message type of its writer schema than the source wants: skipped where a topic is shared.
pub const OTHER_MESSAGE: &str = "other-message";

/// Derives the Avro schema of a JSON Schema or Protobuf file, and what transcodes its records. A Protobuf file may hold several messages:
/// the one that is `wanted`, by its full name, is taken, or else the first. Of its fields, those that the source does not read, and that may
/// be absent, only have to be well-formed.
///
/// # Errors
/// [`SchemaFault`] when a bound is exceeded, the text is none of its kind, or it has something without equal in Avro, with the place.
/// `Invalid` for Avro schemas, from which nothing is derived.
pub fn derive(
    kind: SchemaKind,
    text: &str,
    references: &[Reference],
    limits: &SchemaLimits,
    datum: DatumLimits,
    wanted: &dyn Fn(&str) -> bool,
    reads: &dyn Fn(&str) -> bool,
) -> Result<Derived, SchemaFault> {
    match kind {
        SchemaKind::Avro => Err(SchemaFault::Invalid("an Avro schema needs no other".into())),
        SchemaKind::Json => json_schema::derive(text, references, limits, datum),
        SchemaKind::Protobuf => protobuf::derive(text, references, limits, datum, wanted, reads),
    }
}
