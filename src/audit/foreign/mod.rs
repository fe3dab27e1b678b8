//! Records in other formats than Avro, read anew: the audit has its own idea of what a JSON Schema or a Protobuf file says, and of what a
//! record of it holds. It makes a [`Datum`] of each value; resolution to the reader schema is the same as for Avro.

use super::datum::{Datum, Malformed, Shape};
use crate::avro::{Reference, SchemaKind};

pub mod json;
mod json_schema;
mod protobuf;
mod size;
mod text;

/// Why a record is none that its source reads, without being wrong: of another message of its file.
pub const OTHER_MESSAGE: Malformed = Malformed("of another message");

/// Reads the records of one writer schema.
pub trait Foreign {
    /// The datum of what stands behind a record's frame, in the shape that came with this.
    ///
    /// # Errors
    /// [`Malformed`] when it is no record of its writer schema.
    fn read(&self, value: &[u8]) -> Result<Datum, Malformed>;

    /// The same of a record whose schema is named in a header; `head` is the rest of that.
    ///
    /// # Errors
    /// As [`Foreign::read`].
    fn read_headed(&self, _head: &[u8], value: &[u8]) -> Result<Datum, Malformed> {
        self.read(value)
    }
}

/// What a writer schema of another kind says in Avro's words, and what reads its records; none where it cannot be used. Of several messages
/// in a Protobuf file it is the one that is wanted; what stands in fields that nobody `reads` does not count.
pub fn of(
    kind: SchemaKind,
    text: &str,
    references: &[Reference],
    wanted: &dyn Fn(&str) -> bool,
    reads: &dyn Fn(&str) -> bool,
) -> Option<(Shape, Box<dyn Foreign>)> {
    match kind {
        SchemaKind::Avro => None,
        SchemaKind::Json => json_schema::of(text, references),
        SchemaKind::Protobuf => protobuf::of(text, references, wanted, reads),
    }
}
