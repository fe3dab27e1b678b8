//! Protobuf files: the Avro schema derived from a message, and its records.
//!
//! A file holds several messages; a record says by *message indexes*, in front of it or in a header, which one it is. The schema is derived from the message
//! that the source wants, or else from the first; records of the file's other messages say so. What each type becomes stands in
//! docs/schemas.md.
//!
//! The bytes are walked by code of its own ([`walk`]), which builds no message: it writes the datum from what it finds. What it says of any
//! bytes is what prost-reflect says of them: the audit reads through that one, and its property tests hold both together.
//!
//! # Source
//! Confluent documentation, "Wire format": message indexes.

use std::collections::HashMap;

use prost_reflect::{FileDescriptor, MessageDescriptor};

use super::{Derived, OTHER_MESSAGE, Reference, SchemaKind, Transcode, TranscodeFault, TranscodeFault as Fault};
use crate::avro::frame::VALUE_HEADER;
use crate::avro::limits::{DatumLimits, SchemaLimits};
use crate::avro::schema::SchemaFault;

mod body;
mod files;
mod known;
mod plan;
mod schema;
mod values;
mod walk;

use body::Body;
use plan::Plan;

/// Message indexes that are read; messages nest 31 levels at most.
const INDEXES_MAX: usize = 32;

/// The reason code of a record of another message that the source would read as well.
const WRONG_MESSAGE: &str = "wrong-message";

type Walked<T> = Result<T, Box<Fault>>;

/// Derives the Avro schema of a Protobuf file's message: of the first that is `wanted` by its full name, or else of the first. `reads` says
/// which of its fields are read.
///
/// # Errors
/// As [`super::derive`].
pub fn derive(
    text: &str,
    references: &[Reference],
    limits: &SchemaLimits,
    datum: DatumLimits,
    wanted: &dyn Fn(&str) -> bool,
    reads: &dyn Fn(&str) -> bool,
) -> Result<Derived, SchemaFault> {
    let file = compile(text, references, limits)?;
    let messages = messages_of(&file);
    let chosen = messages.iter().find(|(_, message)| wanted(message.full_name())).or(messages.first());
    let Some((indexes, message)) = chosen else { return Err(fault("", "it has no message: a record is one".into())) };
    let plan = Plan::of(message, reads);
    let schema = schema::of(&plan, limits)?;
    let others = messages.iter().filter(|(other, _)| other != indexes).map(|(indexes, other)| {
        let name = other.full_name().to_owned();
        let is_wanted = wanted(&name);
        (indexes.clone(), Other { name, is_wanted })
    });
    let transcoder = Transcoder { plan, indexes: indexes.clone(), others: others.collect(), limits: datum };
    Ok(Derived { schema, transcoder: Box::new(transcoder) })
}

/// The descriptors of a Protobuf file, within `limits`: what a library makes of the text, and nothing that says what a record holds.
///
/// # Errors
/// As [`super::derive`].
pub fn compile(text: &str, references: &[Reference], limits: &SchemaLimits) -> Result<FileDescriptor, SchemaFault> {
    files::compile(text, references, limits)
}

/// A file's messages with their indexes, in their order. Entries of maps are no messages of the text, so they are not counted.
///
/// # Source
/// Confluent's `ProtobufSchema.toMessageIndexes`.
fn messages_of(file: &FileDescriptor) -> Vec<(Vec<u32>, MessageDescriptor)> {
    let mut found = Vec::new();
    for (index, message) in (0..).zip(file.messages()) {
        collect(message, vec![index], &mut found);
    }
    found
}

/// Adds a message and those in it. The parser bounds how deep they stand.
fn collect(message: MessageDescriptor, indexes: Vec<u32>, found: &mut Vec<(Vec<u32>, MessageDescriptor)>) {
    let children = message.child_messages().filter(|child| !child.is_map_entry());
    let below: Vec<MessageDescriptor> = children.collect();
    found.push((indexes.clone(), message));
    for (index, child) in (0..).zip(below) {
        collect(child, [indexes.as_slice(), &[index]].concat(), found);
    }
}

/// Makes datums of one message's records.
#[derive(Debug)]
struct Transcoder {
    plan: Plan,
    indexes: Vec<u32>,
    others: HashMap<Vec<u32>, Other>,
    limits: DatumLimits,
}

/// Another message of the file.
#[derive(Debug)]
struct Other {
    name: String,
    is_wanted: bool,
}

impl Transcode for Transcoder {
    fn transcode(&self, value: &[u8], datum: &mut Vec<u8>) -> Result<(), TranscodeFault> {
        let mut body = Body::new(value);
        self.check_indexes(&mut body).and_then(|()| walk::transcode(&self.plan, &self.limits, body.rest(), datum)).map_err(|fault| *fault)
    }

    fn transcode_headed(&self, head: &[u8], value: &[u8], datum: &mut Vec<u8>) -> Result<(), TranscodeFault> {
        let mut indexes = Body::new(head);
        let checked = self.check_indexes(&mut indexes).and_then(|()| match indexes.rest().len() {
            0 => Ok(()),
            more => Err(boxed("not-protobuf", format!("{more} bytes stand behind the message indexes"))),
        });
        let is_other = |fault: &Fault| matches!(fault.reason, OTHER_MESSAGE | WRONG_MESSAGE);
        checked.map_err(|fault| match is_other(&fault) {
            true => *fault,
            false => Fault { detail: format!("in the header {VALUE_HEADER}: {}", fault.detail), ..*fault },
        })?;
        walk::transcode(&self.plan, &self.limits, value, datum).map_err(|fault| *fault)
    }
}

impl Transcoder {
    /// Takes the message indexes: their number and each of them, as zig-zag numbers; a single zero stands for the first message.
    fn check_indexes(&self, body: &mut Body<'_>) -> Walked<()> {
        let mut next = || -> Walked<usize> {
            let number = body.varint()?;
            let number = (number >> 1).cast_signed() ^ -(number & 1).cast_signed();
            usize::try_from(number).map_err(|_| boxed("not-protobuf", format!("{number} is no message index")))
        };
        let count = next()?;
        if count > INDEXES_MAX {
            return Err(boxed("not-protobuf", format!("the record begins with {count} message indexes, {INDEXES_MAX} at most can be")));
        }
        let mut indexes = [0u32; INDEXES_MAX];
        for index in &mut indexes[..count] {
            *index = u32::try_from(next()?).unwrap_or(u32::MAX);
        }
        let indexes = &indexes[..count.max(1)];
        if indexes == self.indexes {
            return Ok(());
        }
        let read = &self.plan.messages[0].full_name;
        match self.others.get(indexes) {
            Some(Other { name, is_wanted: false }) => {
                Err(boxed(OTHER_MESSAGE, format!("the record is a `{name}`, read are those of `{read}`")))
            }
            Some(Other { name, is_wanted: true }) => {
                Err(boxed(WRONG_MESSAGE, format!("the record is a `{name}`, of this schema only those of `{read}` are read")))
            }
            None => Err(boxed("not-protobuf", format!("the schema has no message with indexes {indexes:?}"))),
        }
    }
}

fn fault(place: &str, why: String) -> SchemaFault {
    SchemaFault::Foreign { kind: SchemaKind::Protobuf, place: place.to_owned(), why }
}

fn boxed(reason: &'static str, detail: impl Into<String>) -> Box<Fault> {
    Box::new(Fault { reason, path: String::new(), detail: detail.into() })
}

#[cfg(test)]
mod indexes_tests;
#[cfg(test)]
#[path = "protobuf_tests.rs"]
mod tests;
