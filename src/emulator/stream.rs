//! The records of one client, one after the other, as they go to the broker: a pure function of the emulation.

use std::mem;

use apache_avro::types::Value;
use apache_avro::writer::datum::GenericDatumWriter;

use super::csv::CsvReplay;
use super::emulation::{Emulation, Framing};
use super::error::Error;
use super::fleet::Fleet;
use super::json::JsonRecords;
use super::protobuf::{FRAME_BYTES, ProtobufWriter, proto_of};
use super::shape::Shape;
use super::wrong::{Spoiler, Wrong};
use crate::avro::{SchemaId, frame};
use crate::tenant::Format;

/// A reading before it is encoded.
#[derive(Debug)]
pub struct Reading {
    /// The key column's text.
    pub key: String,
    /// When it is sent: its Kafka timestamp, in microseconds since 1970.
    pub time_us: i64,
    /// Its fields, in the schema's order.
    pub record: Vec<(String, Value)>,
}

/// A record ready for the broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Kafka key.
    pub key: Option<Vec<u8>>,
    /// Kafka value.
    pub value: Vec<u8>,
    /// Kafka timestamp in milliseconds since 1970.
    pub timestamp_ms: i64,
    /// How it was made wrong, if it was.
    pub wrong: Option<Wrong>,
}

#[derive(Debug)]
enum Source {
    Fleet(Fleet),
    Csv(CsvReplay),
}

/// The messages of one emulation; endless for a fleet and for a repeated file.
pub struct Messages<'s> {
    topic: &'s str,
    shape: &'s Shape,
    writer: GenericDatumWriter<'s>,
    schema_id: SchemaId,
    source: Source,
    spoiler: Spoiler,
    reading: Reading,
    framing: Framing,
    /// In place of the writer, where the format is JSON.
    json: Option<JsonRecords>,
    /// In place of the writer, where the format is Protobuf.
    protobuf: Option<ProtobufWriter>,
    is_plain: bool,
}

impl<'s> Messages<'s> {
    /// Starts from the beginning; `shape` must be the emulation's own.
    ///
    /// # Errors
    /// [`Error`] for settings out of range and an unreadable CSV file.
    pub fn new(emulation: &'s Emulation, shape: &'s Shape, schema_id: SchemaId) -> Result<Self, Error> {
        let topic = &emulation.topic;
        let base_us = emulation.base_time_ms.map(|ms| ms.saturating_mul(1_000));
        let source = match &emulation.csv {
            Some(csv) => Source::Csv(CsvReplay::open(csv.clone(), shape, base_us)?),
            None => Source::Fleet(Fleet::new(emulation.fleet.clone(), &emulation.key, emulation.seed, base_us.unwrap_or(0))?),
        };
        let in_frame =
            [Wrong::NoMagic, Wrong::UnknownId].into_iter().find(|kind| emulation.wrong.get(kind).is_some_and(|share| *share > 0.0));
        if let (Some(kind), Framing::HeaderId | Framing::HeaderGuid(_)) = (in_frame, emulation.framing) {
            let why = format!("{kind} spoils the frame in front of the value, and the schema is named in a header");
            return Err(Error::Setting { setting: "wrong", why });
        }
        let is_json = matches!(emulation.format, Format::Json | Format::JsonSchema);
        let json = is_json.then(|| JsonRecords::of(&shape.schema));
        let protobuf = if emulation.format == Format::Protobuf { Some(protobuf_writer(topic, shape)?) } else { None };
        check_wrong(emulation, json.as_ref())?;
        let spoiler = Spoiler::new(&emulation.wrong, topic, &emulation.schema, shape, emulation.seed)?;
        // Values are made from the schema, so they need not be validated against it again.
        let writer = GenericDatumWriter::builder(&shape.schema).validate(false).build();
        let writer = writer.map_err(|cause| Error::Encode { topic: topic.clone(), cause: Box::new(cause) })?;
        let reading = Reading { key: String::new(), time_us: 0, record: shape.blank() };
        let (framing, is_plain) = (emulation.framing, emulation.format == Format::Json);
        Ok(Self { topic, shape, writer, schema_id, source, spoiler, reading, framing, json, protobuf, is_plain })
    }

    fn read(&mut self) -> Result<bool, Error> {
        match &mut self.source {
            Source::Fleet(fleet) => {
                fleet.read(self.shape, &mut self.reading);
                Ok(true)
            }
            Source::Csv(csv) => csv.read(self.shape, &mut self.reading),
        }
    }

    fn message(&mut self) -> Result<Message, Error> {
        let wrong = self.spoiler.draw();
        if let Some(kind) = wrong {
            self.spoiler.spoil_reading(kind, self.shape, &mut self.reading);
        }
        let mut value = self.framed(wrong)?;
        if let Some(kind) = wrong.filter(|kind| self.json.is_none() || !matches!(kind, Wrong::MissingField | Wrong::WrongType)) {
            match (&self.protobuf, kind) {
                (Some(protobuf), Wrong::Truncated) => {
                    // What stands in a header is not in reach of a cut.
                    let kept = if self.framing == Framing::Value { frame::PREFIX_BYTES } else { FRAME_BYTES };
                    protobuf.cut(&mut value, kept, self.spoiler.rng());
                }
                (Some(protobuf), Wrong::WrongType) => protobuf.add_wrong_type(&mut value, self.spoiler.rng()),
                _ => self.spoiler.spoil_bytes(kind, &self.reading.record, &mut value),
            }
        }
        if (self.framing != Framing::Value || self.is_plain) && value.starts_with(&frame::prefix(self.schema_id)) {
            value.drain(..if self.protobuf.is_some() { FRAME_BYTES } else { frame::PREFIX_BYTES });
        }
        let key = (wrong != Some(Wrong::NullKey)).then(|| self.reading.key.as_bytes().to_vec());
        Ok(Message { key, value, timestamp_ms: self.reading.time_us.div_euclid(1_000), wrong })
    }

    fn framed(&mut self, wrong: Option<Wrong>) -> Result<Vec<u8>, Error> {
        let mut value = Vec::with_capacity(128);
        value.extend_from_slice(&frame::prefix(self.schema_id));
        if let Some(json) = &self.json {
            value.extend_from_slice(json.text(&self.reading.record, wrong, self.spoiler.rng()).as_bytes());
            return Ok(value);
        }
        if let Some(protobuf) = &self.protobuf {
            protobuf.write(&self.reading.record, &mut value);
            return Ok(value);
        }
        // The encoder wants the record as one value; the fields come back for the next reading.
        let record = Value::Record(mem::take(&mut self.reading.record));
        let written = self.writer.write_value_ref(&mut value, &record);
        if let Value::Record(fields) = record {
            self.reading.record = fields;
        }
        written.map_err(|cause| Error::Encode { topic: self.topic.to_owned(), cause: Box::new(cause) })?;
        Ok(value)
    }
}

fn protobuf_writer(topic: &str, shape: &Shape) -> Result<ProtobufWriter, Error> {
    let refuse = |why: String| Error::Schema { topic: topic.to_owned(), why };
    let text = proto_of(&shape.schema).ok_or_else(|| refuse("it has a type that Protobuf has not".into()))?;
    ProtobufWriter::of(&text).map_err(|fault| refuse(fault.to_string()))
}

/// Whether the format can be wrong in every way that is asked for.
fn check_wrong(emulation: &Emulation, json: Option<&JsonRecords>) -> Result<(), Error> {
    let is_possible = |kind: &Wrong| match (emulation.format, kind) {
        // Without a frame nothing can be wrong in it, and a record as JSON is a right one.
        (Format::Json, Wrong::NoMagic | Wrong::UnknownId | Wrong::Json) => false,
        // Every field of Protobuf's may be absent.
        (Format::Protobuf, Wrong::MissingField) => false,
        _ => json.is_none_or(|json| json.can_be(*kind)),
    };
    match emulation.wrong.iter().find(|(kind, share)| **share > 0.0 && !is_possible(kind)) {
        Some((kind, _)) => {
            let why = format!("records of format {} cannot be wrong in the way {kind}", emulation.format.word());
            Err(Error::Setting { setting: "wrong", why })
        }
        None => Ok(()),
    }
}

impl Iterator for Messages<'_> {
    type Item = Result<Message, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.read() {
            Ok(true) => Some(self.message()),
            Ok(false) => None,
            Err(error) => Some(Err(error)),
        }
    }
}
