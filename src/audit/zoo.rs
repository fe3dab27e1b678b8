//! A small zoo for tests: inputs, and what an engine makes of them, written down by hand.

use std::collections::HashMap;
use std::sync::Arc;

use apache_avro::types::Value as Avro;
use apache_avro::writer::datum::GenericDatumWriter;
use mongodb::bson::{DateTime, Document, doc};

use super::compare::compare;
use super::documents::{observed_reading, observed_result};
use super::facts::{InputRecord, Observed, ObservedPosition, Stored, StoredKey};
use super::history::History;
use super::job::{AlertDeclaration, Collection, Declaration, Job, SourceDeclaration, WindowDeclaration};
use super::outputs::Outputs;
use super::recompute::{Recompute, WriterSchema};
use super::report::Report;
use crate::avro::SchemaKind;
use crate::kafka::TopicPartition;
use crate::kafka::partitioner::Partitioner;
use crate::tenant::{CollectionOf, Format};

const READING: &str = r#"{"type": "record", "name": "Reading", "fields": [
    {"name": "dev_id", "type": "string"}, {"name": "battery", "type": ["null", "int"]}, {"name": "temperature", "type": "double"},
    {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}}]}"#;
const RESULT: &str = r#"{"type": "record", "name": "Stats", "fields": [{"name": "dev_id", "type": "string"},
    {"name": "window_start", "type": {"type": "long", "logicalType": "timestamp-micros"}},
    {"name": "window_end", "type": {"type": "long", "logicalType": "timestamp-micros"}}, {"name": "total", "type": "long"},
    {"name": "mean", "type": ["null", "double"], "default": null}, {"name": "rate", "type": ["null", "double"], "default": null}]}"#;
const READING_ID: u32 = 1;
const RESULT_ID: u32 = 2;
pub(super) const MINUTE_US: i64 = 60_000_000;

pub(super) fn declaration() -> Declaration {
    let source = SourceDeclaration {
        records: None,
        format: Format::Avro,
        topics: vec!["in".into()],
        reader: READING.into(),
        columns: ["dev-id", "battery", "temperature", "at"].map(str::to_owned).to_vec(),
        key: "\"dev-id\"".into(),
        event_time: Some("at".into()),
        max_future_us: 10 * MINUTE_US,
        partitioner: Partitioner::Murmur2,
        refuses_non_finite: true,
        record_bytes_max: 1_000_000,
    };
    let window = |name: &str, is_final| WindowDeclaration {
        name: name.into(),
        source: 0,
        filter: Some("temperature > 20".into()),
        by: vec![("dev-id".into(), "\"dev-id\"".into())],
        size_us: MINUTE_US,
        grace_us: MINUTE_US,
        is_final,
        topic: name.into(),
        select: [("total", "count(*)"), ("mean", "avg(temperature)"), ("rate", "count(*) / 60.0")]
            .map(|(name, sql)| (name.into(), sql.into()))
            .to_vec(),
    };
    Declaration {
        tenant: "zoo".into(),
        generation: crate::tenant::Generation::first(),
        sources: vec![source],
        alerts: vec![AlertDeclaration { name: "low".into(), source: 0, filter: "battery < 2000".into(), topic: "alerts".into() }],
        windows: vec![window("stats", false), window("closing", true)],
        collections: vec![
            Collection { name: "stats".into(), of: CollectionOf::Window(0) },
            Collection { name: "readings".into(), of: CollectionOf::Source(0) },
        ],
    }
}

fn framed(id: u32, json: &str, value: Avro) -> Option<Vec<u8>> {
    let schema = apache_avro::Schema::parse_str(json).expect("a schema");
    let datum = GenericDatumWriter::builder(&schema).build().and_then(|writer| writer.write_value_to_vec(value)).expect("a datum");
    Some([[0].as_slice(), &id.to_be_bytes(), &datum].concat())
}

fn optional<T>(value: Option<T>, avro: impl Fn(T) -> Avro) -> Avro {
    value.map_or(Avro::Union(0, Box::new(Avro::Null)), |value| Avro::Union(1, Box::new(avro(value))))
}

pub(super) fn reading(battery: Option<i32>, temperature: f64, at_ms: i64) -> Option<Vec<u8>> {
    let fields = vec![
        ("dev_id".into(), Avro::String("t1".into())),
        ("battery".into(), optional(battery, Avro::Int)),
        ("temperature".into(), Avro::Double(temperature)),
        ("at".into(), Avro::TimestampMillis(at_ms)),
    ];
    framed(READING_ID, READING, Avro::Record(fields))
}

pub(super) fn result(start_us: i64, total: i64, mean: f64) -> Option<Vec<u8>> {
    let fields = vec![
        ("dev_id".into(), Avro::String("t1".into())),
        ("window_start".into(), Avro::TimestampMicros(start_us)),
        ("window_end".into(), Avro::TimestampMicros(start_us + MINUTE_US)),
        ("total".into(), Avro::Long(total)),
        ("mean".into(), optional(Some(mean), Avro::Double)),
        ("rate".into(), optional(Some(total as f64 / 60.0), Avro::Double)),
    ];
    framed(RESULT_ID, RESULT, Avro::Record(fields))
}

pub(super) fn record(topic: &str, offset: i64, timestamp_ms: i64, value: Option<Vec<u8>>, headers: &[(&str, &str)]) -> InputRecord {
    InputRecord {
        partition: TopicPartition::new(topic, 0),
        offset,
        timestamp_ms,
        key: Some(b"t1".to_vec()),
        value,
        headers: headers.iter().map(|(name, value)| ((*name).to_owned(), Some(value.as_bytes().to_vec()))).collect(),
    }
}

fn letter(offset: i64, of: &InputRecord, stage: &str, reason: &str) -> InputRecord {
    let bytes = of.value.as_ref().map_or(0, Vec::len).to_string();
    let headers = [
        ("testudo-reason", reason),
        ("testudo-stage", stage),
        ("testudo-topic", "in"),
        ("testudo-partition", "0"),
        ("testudo-offset", &of.offset.to_string()),
        ("testudo-value-bytes", &bytes),
    ];
    record("zoo-dead-letters", offset, of.timestamp_ms, of.value.clone(), &headers)
}

/// Inputs, and what the engine made of them.
pub(super) struct Zoo {
    pub(super) inputs: Vec<InputRecord>,
    pub(super) outputs: Vec<InputRecord>,
    pub(super) documents: HashMap<&'static str, Vec<Document>>,
    pub(super) stored: Vec<StoredKey>,
    /// Where the store's partitions stand.
    pub(super) positions: Vec<(TopicPartition, i64)>,
    pub(super) committed: i64,
    pub(super) end: i64,
    /// What operators did.
    pub(super) history: History,
}

pub(super) fn zoo() -> Zoo {
    let unknown = Some(vec![0, 0, 0, 0, 9, 1]);
    let values = [
        (10_000, reading(Some(1900), 21.0, 10_000)),
        (20_000, reading(Some(2500), 23.0, 20_000)),
        (70_000, reading(None, 25.0, 70_000)),
        (70_000, Some(vec![0, 0, 0, 0, 1, 0xff])),
        (200_000, reading(Some(1000), 19.0, 200_000)),
        (200_000, reading(Some(3000), 30.0, 15_000)),
        (205_000, reading(Some(3000), 22.0, 205_000)),
        (205_000, None),
        (205_000, Some(b"{}".to_vec())),
        (205_000, unknown),
        (205_000, reading(Some(1), f64::NAN, 205_000)),
        (205_000, reading(Some(1), 20.5, 900_000_000)),
    ];
    let inputs: Vec<InputRecord> = values.into_iter().zip(0..).map(|((at, value), offset)| record("in", offset, at, value, &[])).collect();
    let origin = [("testudo-origin", "in/0"), ("testudo-tenant-version", "v1")];
    let outputs = vec![
        record("alerts", 0, 10_000, reading(Some(1900), 21.0, 10_000), &[]),
        record("alerts", 1, 200_000, reading(Some(1000), 19.0, 200_000), &[]),
        record("stats", 0, 10_000, result(0, 1, 21.0), &origin),
        record("stats", 1, 20_000, result(0, 2, 22.0), &origin),
        record("stats", 2, 70_000, result(MINUTE_US, 1, 25.0), &origin),
        record("stats", 3, 205_000, result(3 * MINUTE_US, 1, 22.0), &origin),
        record("closing", 0, 20_000, result(0, 2, 22.0), &origin),
        record("closing", 1, 70_000, result(MINUTE_US, 1, 25.0), &origin),
        letter(0, &inputs[3], "inspect", "truncated"),
        letter(1, &inputs[5], "window.stats", "late"),
        letter(2, &inputs[5], "window.closing", "late"),
        letter(3, &inputs[8], "frame", "not-framed"),
        letter(4, &inputs[9], "gate", "unknown-schema-id"),
        letter(5, &inputs[10], "non-finite", "non-finite"),
        letter(6, &inputs[11], "event-time", "event-time-in-future"),
    ];
    let stored = ["stats", "closing"].map(|window| StoredKey {
        window: window.into(),
        origin: TopicPartition::new("in", 0),
        start_us: 3 * MINUTE_US,
        key: vec!["t1".into()],
    });
    let (committed, end) = (inputs.len() as i64, inputs.len() as i64);
    Zoo {
        documents: documents(),
        committed,
        end,
        stored: stored.to_vec(),
        positions: Vec::new(),
        history: History::default(),
        inputs,
        outputs,
    }
}

fn documents() -> HashMap<&'static str, Vec<Document>> {
    let stats = |start_ms: i64, total: i64, mean: f64, offset: i64| {
        let (start, end) = (DateTime::from_millis(start_ms), DateTime::from_millis(start_ms + 60_000));
        doc! {
            "_id": { "dev-id": "t1", "window": start }, "window_start": start, "window_end": end, "total": total, "mean": mean,
            "rate": total as f64 / 60.0, "origin": "in/0", "tenant_version": "v1", "schema_id": 2,
            "source": { "topic": "stats", "topic_id": "x", "partition": 0, "offset": offset },
        }
    };
    let reading = |offset: i64, battery: Option<i32>, temperature: f64, at: i64, timestamp: i64| {
        doc! {
            "_id": { "topic": "in", "partition": 0, "offset": offset }, "dev-id": "t1", "battery": battery, "temperature": temperature,
            "at": DateTime::from_millis(at), "event_time": DateTime::from_millis(at), "timestamp": DateTime::from_millis(timestamp),
            "schema_id": 1, "source": { "topic_id": "y" },
        }
    };
    let readings = vec![
        reading(0, Some(1900), 21.0, 10_000, 10_000),
        reading(1, Some(2500), 23.0, 20_000, 20_000),
        reading(2, None, 25.0, 70_000, 70_000),
        reading(4, Some(1000), 19.0, 200_000, 200_000),
        reading(5, Some(3000), 30.0, 15_000, 200_000),
        reading(6, Some(3000), 22.0, 205_000, 205_000),
    ];
    HashMap::from([("stats", vec![stats(0, 2, 22.0, 1), stats(60_000, 1, 25.0, 2), stats(180_000, 1, 22.0, 3)]), ("readings", readings)])
}

pub(super) fn schemas(id: u32) -> WriterSchema {
    let known = |json: &str| WriterSchema::Known { kind: SchemaKind::Avro, json: json.into(), references: Vec::new() };
    match id {
        READING_ID => known(READING),
        RESULT_ID => known(RESULT),
        _ => WriterSchema::Missing,
    }
}

fn observe(declaration: &Declaration, job: &Job, zoo: &Zoo) -> Observed {
    let mut outputs = Outputs::new(declaration, job);
    for record in &zoo.outputs {
        if let Some(id) = outputs.unknown_schema(record) {
            outputs.learn(id, &schemas(id));
        }
        outputs.push(record);
    }
    let mut observed = outputs.finish();
    observed.documents.insert("stats".into(), zoo.documents["stats"].iter().map(observed_result).collect());
    observed.documents.insert("readings".into(), zoo.documents["readings"].iter().map(observed_reading).collect());
    observed.stored = Some(Stored { windows: zoo.stored.clone(), positions: zoo.positions.clone() });
    observed.history = zoo.history.clone();
    observed.positions = vec![ObservedPosition {
        partition: TopicPartition::new("in", 0),
        start: 0,
        end: zoo.end,
        committed: Some(zoo.committed),
        metadata: String::new(),
    }];
    observed
}

pub(super) fn audit(zoo: &Zoo) -> Report {
    audit_as(&declaration(), zoo)
}

pub(super) fn audit_as(declaration: &Declaration, zoo: &Zoo) -> Report {
    let job = Job::compile(declaration).expect("a known job");
    let partitions: HashMap<Arc<str>, i32> = ["in", "alerts", "stats", "closing", "zoo-dead-letters"].map(|topic| (topic.into(), 1)).into();
    let mut recompute = Recompute::new(&job, &declaration.collections, &partitions);
    recompute.follow(&zoo.history);
    for record in zoo.inputs.iter().filter(|record| record.offset < zoo.committed) {
        if zoo.history.skip_of(&record.partition, record.offset).is_some() {
            recompute.skip(1);
            continue;
        }
        if let Some(id) = recompute.unknown_schema(record) {
            recompute.learn(id, &schemas(id));
        }
        recompute.push(record);
    }
    compare(declaration, &recompute.finish(), &observe(declaration, &job, zoo), 20)
}
