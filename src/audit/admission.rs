//! Which records are admitted, and why the others are not: the table of docs/semantics.md, line by line, on one record.

use std::collections::HashMap;
use std::sync::Arc;

use apache_avro::Schema;

use super::bounds::is_within;
use super::datum::{Datum, Malformed, Shape};
use super::facts::InputRecord;
use super::foreign::{self, Foreign};
use super::job::{Job, Source};
use super::readable::is_readable;
use super::recompute::{GuidSchema, WriterSchema, texts_of};
use super::resolve::resolve_record;
use super::rulings::{REFUSED, Ruled, Rulings};
use super::value::Value;
use crate::avro::SchemaKind;
use crate::avro::lenient::legal;

/// An admitted record as a row.
#[derive(Clone, Debug)]
pub struct Row {
    /// Index of its source.
    pub source: usize,
    /// The tenant's columns, then the system columns.
    pub values: Vec<Value>,
    /// The source's key.
    pub key: Arc<str>,
    /// Event time in microseconds since 1970.
    pub time_us: i64,
    /// Id of the writer schema.
    pub schema_id: u32,
}

/// What becomes of a record before any branch sees it.
#[derive(Clone, Debug)]
pub enum Screened {
    /// Not of the tenant's topics.
    Ignored,
    /// Dropped by rule and counted.
    Tombstone,
    /// Of a record type that its source does not read: dropped by rule and counted.
    OtherRecord,
    /// A dead letter: stage and reason.
    Refused(&'static str, &'static str),
    /// A row.
    Admitted(Row),
}

/// No stage: the record is of another message of its writer schema than the source reads.
const OTHER: &str = "other";

/// A writer schema as one source sees it.
enum Verdict {
    Accepted(Box<Writer>),
    /// Of a record type that the source does not read.
    OtherRecord,
    Refused(&'static str),
}

/// A writer schema whose records are read.
struct Writer {
    shape: Shape,
    /// What reads them where they are not Avro.
    foreign: Option<Box<dyn Foreign>>,
}

impl Writer {
    /// The datum of what stands behind a frame, or the stage where it is refused.
    fn read(&self, framed: &Framed<'_>) -> Result<Datum, &'static str> {
        let Some(foreign) = &self.foreign else { return self.shape.read(framed.datum).map_err(|Malformed(_)| "inspect") };
        let read = match framed.head {
            None => foreign.read(framed.datum),
            Some(head) => foreign.read_headed(head, framed.datum),
        };
        read.map_err(|why| if why == foreign::OTHER_MESSAGE { OTHER } else { "transcode" })
    }
}

/// Admits records.
pub struct Admission<'a> {
    job: &'a Job,
    partitions: &'a HashMap<Arc<str>, i32>,
    verdicts: HashMap<u32, Vec<Verdict>>,
    /// What the registry said about GUIDs: an id, or why there is none.
    guids: HashMap<[u8; 16], Result<u32, (&'static str, &'static str)>>,
    /// What was decided about writer schemas.
    rulings: Rulings,
}

/// How a record names its writer schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Name {
    Id(u32),
    Guid([u8; 16]),
}

/// A record's frame taken apart: the schema's name, what follows it in a header if it stands there, and the rest of the value.
struct Framed<'r> {
    name: Name,
    head: Option<&'r [u8]>,
    datum: &'r [u8],
}

impl<'a> Admission<'a> {
    /// Knows no writer schema yet.
    pub fn new(job: &'a Job, partitions: &'a HashMap<Arc<str>, i32>) -> Self {
        Self { job, partitions, verdicts: HashMap::new(), guids: HashMap::new(), rulings: Rulings::default() }
    }

    /// Takes what was decided about writer schemas; before the first is learnt.
    pub fn rule(&mut self, rulings: Rulings) {
        self.rulings = rulings;
    }

    /// The writer schema's GUID that a record gives and that is not known yet.
    pub fn unknown_guid(&self, record: &InputRecord) -> Option<[u8; 16]> {
        let source = &self.job.sources[*self.job.source_of.get(&record.partition.topic)?];
        if source.is_plain() {
            return None;
        }
        match frame(record, source).ok()??.name {
            Name::Guid(guid) if !self.guids.contains_key(&guid) => Some(guid),
            _ => None,
        }
    }

    /// Takes the registry's word on a GUID.
    pub fn learn_guid(&mut self, guid: [u8; 16], found: &GuidSchema) {
        let found = match found {
            GuidSchema::Id(id) => Ok(*id),
            GuidSchema::Missing => Err(("gate", "unknown-schema-id")),
            GuidSchema::NoGuids => Err(("frame", "header-framed")),
        };
        self.guids.insert(guid, found);
    }

    fn id_of(&self, name: Name) -> Result<u32, (&'static str, &'static str)> {
        match name {
            Name::Id(id) => Ok(id),
            Name::Guid(guid) => self.guids.get(&guid).copied().unwrap_or(Err(("gate", "unknown-schema-id"))),
        }
    }

    /// The writer schema id that a record needs and that is not known yet.
    pub fn unknown_schema(&self, record: &InputRecord) -> Option<u32> {
        let source = &self.job.sources[*self.job.source_of.get(&record.partition.topic)?];
        if source.is_plain() {
            return None;
        }
        let id = self.id_of(frame(record, source).ok()??.name).ok()?;
        (!self.verdicts.contains_key(&id)).then_some(id)
    }

    /// Judges a writer schema for every source.
    pub fn learn(&mut self, id: u32, schema: &WriterSchema) {
        let ruled = |index: usize, verdict: Verdict| match (self.rulings.on(index, id), verdict) {
            // Each record tells: see `screen`.
            (_, verdict) if self.rulings.has_changed(index, id) => verdict,
            // A schema that does not exist, or is not this source's, is nobody's to decide on.
            (_, other @ (Verdict::OtherRecord | Verdict::Refused("unknown-schema-id"))) => other,
            (Ruled::Accepted, verdict) => verdict,
            (Ruled::Held, _) => Verdict::Refused("schema-held"),
            (Ruled::Refused, _) => Verdict::Refused(REFUSED),
        };
        let sources = self.job.sources.iter().enumerate();
        let verdicts = sources.map(|(index, source)| ruled(index, judge(schema, source)));
        self.verdicts.insert(id, verdicts.collect());
    }

    /// Takes a record through the table.
    pub fn screen(&self, record: &InputRecord) -> Screened {
        let Some(index) = self.job.source_of.get(&record.partition.topic).copied() else {
            return Screened::Ignored;
        };
        let source = &self.job.sources[index];
        if source.is_plain() {
            return self.screen_plain(index, record);
        }
        let framed = match frame(record, source) {
            Err(reason) => return Screened::Refused("frame", reason),
            Ok(None) => return Screened::Tombstone,
            Ok(Some(framed)) => framed,
        };
        let schema_id = match self.id_of(framed.name) {
            Ok(id) => id,
            Err((stage, reason)) => return Screened::Refused(stage, reason),
        };
        if self.rulings.has_changed(index, schema_id) && self.rulings.was_refused(&record.place()) {
            return Screened::Refused("gate", REFUSED);
        }
        let writer = match self.verdicts.get(&schema_id).map(|verdicts| &verdicts[index]) {
            Some(Verdict::Accepted(writer)) => writer,
            Some(Verdict::OtherRecord) => return Screened::OtherRecord,
            Some(Verdict::Refused(reason)) => return Screened::Refused("gate", reason),
            None => return Screened::Refused("gate", "unknown-schema-id"),
        };
        match writer.read(&framed) {
            Ok(datum) => self.admit(index, record, &datum, &writer.shape, schema_id),
            Err(OTHER) if source.declared.records.is_some() => Screened::OtherRecord,
            Err(OTHER) => Screened::Refused("transcode", "transcode"),
            Err(stage) => Screened::Refused(stage, stage),
        }
    }

    /// Takes a record that no registered schema describes through the table.
    fn screen_plain(&self, index: usize, record: &InputRecord) -> Screened {
        let source = &self.job.sources[index];
        let Some(value) = &record.value else { return Screened::Tombstone };
        if value.len() > source.declared.record_bytes_max {
            return Screened::Refused("frame", "too-large");
        }
        match foreign::json::read(value, &source.reader) {
            Ok(datum) => self.admit(index, record, &datum, &source.reader, 0),
            Err(Malformed(_)) => Screened::Refused("transcode", "transcode"),
        }
    }

    /// The rest of the table, from the datum on.
    fn admit(&self, index: usize, record: &InputRecord, datum: &Datum, writer: &Shape, schema_id: u32) -> Screened {
        let source = &self.job.sources[index];
        let Ok(fields) = resolve_record(datum, writer, &source.reader) else {
            return Screened::Refused("decode", "unresolvable-value");
        };
        let mut values: Vec<Value> = fields.into_iter().map(|(_, value)| value).collect();
        if source.declared.refuses_non_finite && values.iter().any(Value::is_non_finite) {
            return Screened::Refused("non-finite", "non-finite");
        }
        values.extend(system_values(record));
        let key = match self.key(source, record, &values) {
            Ok(key) => key,
            Err(reason) => return Screened::Refused("key", reason),
        };
        let time_us = match event_time(source, record, &values) {
            Ok(time_us) => time_us,
            Err(reason) => return Screened::Refused("event-time", reason),
        };
        if let Some(time) = values.last_mut() {
            *time = Value::timestamp_us(time_us);
        }
        Screened::Admitted(Row { source: index, values, key, time_us, schema_id })
    }

    fn key(&self, source: &Source, record: &InputRecord, values: &[Value]) -> Result<Arc<str>, &'static str> {
        let key = match source.key.expr.eval(values) {
            Ok(Value::Text(key)) => key,
            Ok(_) => return Err("key-is-null"),
            Err(_) => return Err("key-failed"),
        };
        let partitions = self.partitions.get(&record.partition.topic).copied().unwrap_or(1);
        let Some(place) = source.declared.partitioner.place(key.as_bytes(), partitions) else {
            return Ok(key);
        };
        match &record.key {
            None => Err("key-is-null"),
            Some(bytes) if bytes.as_slice() != key.as_bytes() => Err("key-mismatch"),
            Some(_) if place != record.partition.partition => Err("wrong-partition"),
            Some(_) => Ok(key),
        }
    }
}

/// The schema's name and the datum of a value; none for a tombstone.
fn frame<'r>(record: &'r InputRecord, source: &Source) -> Result<Option<Framed<'r>>, &'static str> {
    let Some(value) = &record.value else { return Ok(None) };
    if value.len() > source.declared.record_bytes_max {
        return Err("too-large");
    }
    if let Some((_, Some(header))) = record.headers.iter().rev().find(|(name, _)| name == "__value_schema_id") {
        let name_bytes = match header.first() {
            Some(0) => 5,
            Some(1) => 17,
            _ => return Err("header-framed"),
        };
        let (name, head) = header.split_at_checked(name_bytes).ok_or("header-framed")?;
        if !head.is_empty() && source.declared.format.schemas() != Some(SchemaKind::Protobuf) {
            return Err("header-framed");
        }
        let name = match name[1..].try_into() {
            Ok(id) => Name::Id(u32::from_be_bytes(id)),
            Err(_) => Name::Guid(name[1..].try_into().map_err(|_| "header-framed")?),
        };
        return Ok(Some(Framed { name, head: Some(head), datum: value }));
    }
    match value.as_slice() {
        [0, a, b, c, d, datum @ ..] => Ok(Some(Framed { name: Name::Id(u32::from_be_bytes([*a, *b, *c, *d])), head: None, datum })),
        _ => Err("not-framed"),
    }
}

fn judge(schema: &WriterSchema, source: &Source) -> Verdict {
    let (kind, json, references) = match schema {
        WriterSchema::Known { kind, json, references } => (*kind, json, references),
        WriterSchema::Missing => return Verdict::Refused("unknown-schema-id"),
        WriterSchema::Unusable => return Verdict::Refused("schema-refused"),
    };
    if Some(kind) != source.declared.format.schemas() {
        return Verdict::Refused("schema-refused");
    }
    if kind != SchemaKind::Avro {
        return match foreign::of(kind, json, references, &|name| is_wanted(name, source), &|name| reads_field(name, source)) {
            Some((shape, foreign)) => judge_shape(Writer { shape, foreign: Some(foreign) }, source),
            None => Verdict::Refused("schema-refused"),
        };
    }
    let references = texts_of(references);
    if !is_within(json, &references) {
        return Verdict::Refused("schema-refused");
    }
    match Shape::parse_writer(json, &references) {
        Ok(shape) => judge_shape(Writer { shape, foreign: None }, source),
        Err(_) => Verdict::Refused("schema-refused"),
    }
}

fn judge_shape(writer: Writer, source: &Source) -> Verdict {
    match &writer.shape {
        shape if is_other_record(shape, source) => Verdict::OtherRecord,
        shape if is_readable(shape, &source.reader) => Verdict::Accepted(Box::new(writer)),
        _ => Verdict::Refused("schema-refused"),
    }
}

/// Whether a source reads messages of this full name: by its last part or an alias, and where it names its record types if it is one.
fn is_wanted(full_name: &str, source: &Source) -> bool {
    let last = full_name.rsplit('.').next().unwrap_or_default();
    let reader = &source.reader.root;
    let mut aliases = reader.aliases().into_iter().flatten();
    let is_named = reader.name().is_some_and(|name| name.name() == last) || aliases.any(|alias| alias.name() == last);
    is_named && reads_type(full_name, source)
}

/// Whether a source reads a writer's field of this name, under an alias or not.
fn reads_field(name: &str, source: &Source) -> bool {
    match &source.reader.root {
        Schema::Record(record) => {
            record.fields.iter().any(|field| field.name == name || field.aliases.iter().any(|alias| legal(alias) == name))
        }
        _ => true,
    }
}

/// Whether a source reads record types of this full name: all of them where it names none.
fn reads_type(full_name: &str, source: &Source) -> bool {
    source.declared.records.as_ref().is_none_or(|records| records.iter().any(|record| legal(record) == full_name))
}

/// Of topics that several record types share, a source reads those that it names. An enum or fixed has a name and is no record type.
fn is_other_record(writer: &Shape, source: &Source) -> bool {
    match &writer.root {
        Schema::Record(record) => !reads_type(record.name.as_ref(), source),
        _ => false,
    }
}

fn system_values(record: &InputRecord) -> [Value; 5] {
    [
        Value::Text(record.partition.topic.clone()),
        Value::Int(record.partition.partition),
        Value::Long(record.offset),
        Value::timestamp_ms(record.timestamp_ms),
        Value::timestamp_ms(record.timestamp_ms),
    ]
}

fn event_time(source: &Source, record: &InputRecord, values: &[Value]) -> Result<i64, &'static str> {
    let Some(expression) = &source.event_time else {
        return Ok(record.timestamp_ms.saturating_mul(1_000));
    };
    let time_us = match expression.expr.eval(values) {
        Ok(Value::Timestamp(ns)) => ns.div_euclid(1_000),
        Ok(Value::Date(days)) => i128::from(days) * 86_400_000_000,
        Ok(_) => return Err("event-time-is-null"),
        Err(_) => return Err("event-time-failed"),
    };
    // What does not fit microseconds is no time, rather than one that is ahead.
    let time_us = i64::try_from(time_us).map_err(|_| "event-time-is-null")?;
    let bound = i128::from(record.timestamp_ms) * 1_000 + i128::from(source.declared.max_future_us);
    match record.timestamp_ms >= 0 && i128::from(time_us) > bound {
        true => Err("event-time-in-future"),
        false => Ok(time_us),
    }
}

#[cfg(test)]
#[path = "admission_tests.rs"]
mod tests;
