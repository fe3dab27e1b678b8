//! The records of one client, one after the other, as they go to the broker: a pure function of the emulation.

use std::mem;

use apache_avro::types::Value;
use apache_avro::writer::datum::GenericDatumWriter;

use super::csv::CsvReplay;
use super::emulation::{Emulation, Framing};
use super::error::Error;
use super::fleet::Fleet;
use super::shape::Shape;
use super::wrong::{Spoiler, Wrong};
use crate::avro::{SchemaId, frame};

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
        let spoiler = Spoiler::new(&emulation.wrong, topic, &emulation.schema, shape, emulation.seed)?;
        // Values are made from the schema, so they need not be validated against it again.
        let writer = GenericDatumWriter::builder(&shape.schema).validate(false).build();
        let writer = writer.map_err(|cause| Error::Encode { topic: topic.clone(), cause: Box::new(cause) })?;
        let reading = Reading { key: String::new(), time_us: 0, record: shape.blank() };
        Ok(Self { topic, shape, writer, schema_id, source, spoiler, reading, framing: emulation.framing })
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
        let mut value = self.framed()?;
        if let Some(kind) = wrong {
            self.spoiler.spoil_bytes(kind, &self.reading.record, &mut value);
        }
        if self.framing != Framing::Value && value.starts_with(&frame::prefix(self.schema_id)) {
            value.drain(..frame::PREFIX_BYTES);
        }
        let key = (wrong != Some(Wrong::NullKey)).then(|| self.reading.key.as_bytes().to_vec());
        Ok(Message { key, value, timestamp_ms: self.reading.time_us.div_euclid(1_000), wrong })
    }

    fn framed(&mut self) -> Result<Vec<u8>, Error> {
        let mut value = Vec::with_capacity(128);
        value.extend_from_slice(&frame::prefix(self.schema_id));
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
