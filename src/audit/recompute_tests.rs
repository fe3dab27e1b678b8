//! A small zoo whose outputs are written down by hand, and faults planted into them: each must be found, and nothing else.

use std::collections::HashMap;
use std::sync::Arc;

use apache_avro::types::Value as Avro;
use apache_avro::writer::datum::GenericDatumWriter;
use mongodb::bson::{DateTime, Document, doc};

use super::*;
use crate::audit::compare::compare;
use crate::audit::documents::{observed_reading, observed_result};
use crate::audit::facts::{Observed, ObservedPosition, StoredKey};
use crate::audit::job::{AlertDeclaration, Collection, Declaration, SourceDeclaration, WindowDeclaration};
use crate::audit::outputs::Outputs;
use crate::audit::report::Report;

const READING: &str = r#"{"type": "record", "name": "Reading", "fields": [
    {"name": "dev_id", "type": "string"}, {"name": "battery", "type": ["null", "int"]}, {"name": "temperature", "type": "double"},
    {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}}]}"#;
const RESULT: &str = r#"{"type": "record", "name": "Stats", "fields": [{"name": "dev_id", "type": "string"},
    {"name": "window_start", "type": {"type": "long", "logicalType": "timestamp-micros"}},
    {"name": "window_end", "type": {"type": "long", "logicalType": "timestamp-micros"}}, {"name": "total", "type": "long"},
    {"name": "mean", "type": ["null", "double"], "default": null}, {"name": "rate", "type": ["null", "double"], "default": null}]}"#;
const READING_ID: u32 = 1;
const RESULT_ID: u32 = 2;
const MINUTE_US: i64 = 60_000_000;

fn declaration() -> Declaration {
    let source = SourceDeclaration {
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
        select: [("total", "count(*)"), ("mean", "avg(temperature)"), ("rate", "count(*) / 60.0")].map(|(name, sql)| (name.into(), sql.into())).to_vec(),
    };
    Declaration {
        tenant: "zoo".into(),
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

fn reading(battery: Option<i32>, temperature: f64, at_ms: i64) -> Option<Vec<u8>> {
    let fields = vec![
        ("dev_id".into(), Avro::String("t1".into())),
        ("battery".into(), optional(battery, Avro::Int)),
        ("temperature".into(), Avro::Double(temperature)),
        ("at".into(), Avro::TimestampMillis(at_ms)),
    ];
    framed(READING_ID, READING, Avro::Record(fields))
}

fn result(start_us: i64, total: i64, mean: f64) -> Option<Vec<u8>> {
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

fn record(topic: &str, offset: i64, timestamp_ms: i64, value: Option<Vec<u8>>, headers: &[(&str, &str)]) -> InputRecord {
    InputRecord {
        partition: TopicPartition::new(topic, 0),
        offset,
        timestamp_ms,
        key: Some(b"t1".to_vec()),
        value,
        headers: headers.iter().map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec())).collect(),
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
struct Zoo {
    inputs: Vec<InputRecord>,
    outputs: Vec<InputRecord>,
    documents: HashMap<&'static str, Vec<Document>>,
    stored: Vec<StoredKey>,
    committed: i64,
    end: i64,
}

fn zoo() -> Zoo {
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
    Zoo { documents: documents(), committed: inputs.len() as i64, end: inputs.len() as i64, stored: stored.to_vec(), inputs, outputs }
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
            "at": DateTime::from_millis(at), "event_time": DateTime::from_millis(at), "timestamp": DateTime::from_millis(timestamp), "schema_id": 1,
            "source": { "topic_id": "y" },
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

fn schemas(id: u32) -> WriterSchema {
    let known = |json: &str| WriterSchema::Known { json: json.into(), references: Vec::new() };
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
    observed.stored = Some(zoo.stored.clone());
    observed.positions = vec![ObservedPosition { partition: TopicPartition::new("in", 0), start: 0, end: zoo.end, committed: Some(zoo.committed) }];
    observed
}

fn audit(zoo: &Zoo) -> Report {
    audit_as(&declaration(), zoo)
}

fn audit_as(declaration: &Declaration, zoo: &Zoo) -> Report {
    let job = Job::compile(declaration).expect("a known job");
    let partitions: HashMap<Arc<str>, i32> = ["in", "alerts", "stats", "closing", "zoo-dead-letters"].map(|topic| (topic.into(), 1)).into();
    let inputs = zoo.inputs.iter().filter(|record| record.offset < zoo.committed).cloned();
    let expected = recompute(&job, &declaration.collections, &partitions, schemas, inputs);
    compare(declaration, &expected, &observe(declaration, &job, zoo), 20)
}

/// Counts of what is wrong in each row that has something wrong: missing, extra, different.
fn wrong(report: &Report) -> Vec<(String, [u64; 3])> {
    let rows = report.rows.iter().map(|row| (row.what.clone(), [row.missing, row.extra, row.different]));
    rows.filter(|(_, counts)| *counts != [0; 3]).collect()
}

fn found(counts: &[(&str, [u64; 3])]) -> Vec<(String, [u64; 3])> {
    counts.iter().map(|(row, counts)| ((*row).to_owned(), *counts)).collect()
}

fn output(zoo: &mut Zoo, topic: &str, offset: i64) -> usize {
    zoo.outputs.iter().position(|record| &*record.partition.topic == topic && record.offset == offset).expect("such an output")
}

#[test]
fn a_faultless_run_is_clean() {
    let report = audit(&zoo());

    assert_eq!(wrong(&report), found(&[]), "{report}");
    assert!(report.warnings.is_empty(), "{report}");
    assert_eq!((report.counts.records, report.counts.admitted, report.counts.tombstones), (12, 6, 1));
    let expected: Vec<(&str, u64)> = report.rows.iter().map(|row| (row.what.as_str(), row.expected)).collect();
    let all = [("positions", 1), ("alert low", 2), ("window stats", 3), ("window closing", 2), ("dead letters", 7), ("mongo stats", 3), ("mongo readings", 6), ("store", 2)];
    assert_eq!(expected, all);
}

#[test]
fn a_dropped_doubled_or_altered_alert_is_found() {
    let mut dropped = zoo();
    let at = output(&mut dropped, "alerts", 1);
    dropped.outputs.remove(at);
    let mut doubled = zoo();
    doubled.outputs.push(InputRecord { offset: 2, ..doubled.outputs[0].clone() });
    let mut altered = zoo();
    altered.outputs[0].value = reading(Some(1901), 21.0, 10_000);

    assert_eq!(wrong(&audit(&dropped)), found(&[("alert low", [1, 0, 0])]));
    assert_eq!(wrong(&audit(&doubled)), found(&[("alert low", [0, 1, 0])]));
    assert_eq!(wrong(&audit(&altered)), found(&[("alert low", [0, 0, 1])]));
    assert_eq!(audit(&dropped).discrepancies[0].at, "in/0@4");
}

#[test]
fn a_dropped_doubled_or_altered_update_is_found() {
    let mut dropped = zoo();
    let at = output(&mut dropped, "stats", 3);
    dropped.outputs.remove(at);
    dropped.documents.get_mut("stats").expect("stats").pop();
    let mut doubled = zoo();
    let at = output(&mut doubled, "stats", 1);
    doubled.outputs.insert(at, doubled.outputs[at].clone());
    let mut altered = zoo();
    let at = output(&mut altered, "stats", 0);
    altered.outputs[at].value = result(0, 1, 21.000000000000004);
    let mut stale = zoo();
    let at = output(&mut stale, "stats", 1);
    stale.outputs.remove(at);

    assert_eq!(wrong(&audit(&dropped)), found(&[("window stats", [1, 0, 0])]));
    assert_eq!(wrong(&audit(&doubled)), found(&[("window stats", [0, 1, 0])]));
    assert_eq!(wrong(&audit(&altered)), found(&[("window stats", [0, 0, 1])]));
    assert_eq!(wrong(&audit(&stale)), found(&[("window stats", [0, 0, 1]), ("mongo stats", [0, 0, 1])]));
}

#[test]
fn epochs_may_join_records_into_one_update() {
    let mut zoo = zoo();
    let at = output(&mut zoo, "stats", 0);
    zoo.outputs.remove(at);

    assert_eq!(wrong(&audit(&zoo)), found(&[]));
}

#[test]
fn a_final_result_comes_once_and_only_when_the_window_closes() {
    let mut dropped = zoo();
    let at = output(&mut dropped, "closing", 0);
    dropped.outputs.remove(at);
    let mut doubled = zoo();
    let at = output(&mut doubled, "closing", 0);
    doubled.outputs.push(InputRecord { offset: 2, ..doubled.outputs[at].clone() });
    let mut early = zoo();
    let origin = [("testudo-origin", "in/0")];
    early.outputs.push(record("closing", 2, 205_000, result(3 * MINUTE_US, 1, 22.0), &origin));

    assert_eq!(wrong(&audit(&dropped)), found(&[("window closing", [1, 0, 0])]));
    assert_eq!(wrong(&audit(&doubled)), found(&[("window closing", [0, 1, 0])]));
    assert_eq!(wrong(&audit(&early)), found(&[("window closing", [0, 1, 0])]));
}

#[test]
fn an_output_without_input_is_found() {
    let mut zoo = zoo();
    zoo.outputs.push(record("alerts", 2, 11_000, reading(Some(5), 21.0, 11_000), &[]));
    zoo.outputs.push(record("stats", 4, 11_000, result(7 * MINUTE_US, 1, 21.0), &[("testudo-origin", "in/0")]));
    zoo.outputs.push(record("stats", 5, 11_000, Some(b"x".to_vec()), &[]));

    let report = audit(&zoo);

    let rows = [("alert low", [0, 1, 0]), ("window stats", [0, 2, 0]), ("mongo stats", [1, 0, 0])];
    assert_eq!(wrong(&report), found(&rows), "{report}");
}

#[test]
fn a_missing_doubled_or_altered_dead_letter_is_found() {
    let mut missing = zoo();
    let at = output(&mut missing, "zoo-dead-letters", 1);
    missing.outputs.remove(at);
    let mut doubled = zoo();
    let at = output(&mut doubled, "zoo-dead-letters", 3);
    doubled.outputs.push(InputRecord { offset: 7, ..doubled.outputs[at].clone() });
    let mut altered = zoo();
    let at = output(&mut altered, "zoo-dead-letters", 3);
    altered.outputs[at].value = Some(b"[]".to_vec());

    assert_eq!(wrong(&audit(&missing)), found(&[("dead letters", [1, 0, 0])]));
    assert_eq!(wrong(&audit(&doubled)), found(&[("dead letters", [0, 1, 0])]));
    assert_eq!(wrong(&audit(&altered)), found(&[("dead letters", [0, 0, 1])]));
}

#[test]
fn a_position_off_by_one_is_found() {
    let mut behind = zoo();
    behind.committed -= 1;
    let mut ahead = zoo();
    ahead.inputs.push(record("in", 12, 205_000, reading(Some(7), 19.0, 205_000), &[]));
    (ahead.committed, ahead.end) = (13, 13);
    let mut beyond = zoo();
    beyond.committed += 1;

    assert_eq!(wrong(&audit(&behind)), found(&[("dead letters", [0, 1, 0])]));
    assert_eq!(wrong(&audit(&ahead)), found(&[("alert low", [1, 0, 0]), ("mongo readings", [1, 0, 0])]));
    assert_eq!(wrong(&audit(&beyond)), found(&[("positions", [0, 0, 1])]));
}

#[test]
fn stale_extra_and_missing_documents_are_found() {
    let mut zoo = zoo();
    let stats = zoo.documents.get_mut("stats").expect("stats");
    stats[0].insert("total", 1_i64);
    stats[1].insert("_id", doc! { "dev-id": "t2", "window": DateTime::from_millis(60_000) });
    let source = doc! { "topic": "stats", "topic_id": "x", "partition": 0, "offset": 2_i64 };
    stats[2].insert("source", source);
    let readings = zoo.documents.get_mut("readings").expect("readings");
    readings[0].insert("battery", 1900_i64);
    readings.remove(1);

    let report = audit(&zoo);

    assert_eq!(wrong(&report), found(&[("mongo stats", [1, 1, 2]), ("mongo readings", [1, 0, 1])]), "{report}");
}

#[test]
fn a_document_ahead_of_the_positions_is_no_fault() {
    let mut zoo = zoo();
    zoo.end = 20;
    let mut early = zoo.documents["readings"][5].clone();
    early.insert("_id", doc! { "topic": "in", "partition": 0, "offset": 15_i64 });
    zoo.documents.get_mut("readings").expect("readings").push(early);

    let report = audit(&zoo);

    assert!(report.is_clean(), "{report}");
    assert_eq!(report.warnings.len(), 1);
}

#[test]
fn the_store_holds_exactly_the_open_windows() {
    let mut zoo = zoo();
    zoo.stored[0].start_us = 0;

    assert_eq!(wrong(&audit(&zoo)), found(&[("store", [1, 1, 0])]));
}

#[test]
fn what_is_not_known_is_left_out_with_a_warning() {
    let mut declaration = declaration();
    declaration.alerts[0].filter = "soundex(\"dev-id\") = 'T1' AND battery < 2000".into();
    declaration.windows[0].select[1].1 = "approx_distinct(battery)".into();

    let report = audit_as(&declaration, &zoo());

    assert!(report.is_clean(), "{report}");
    assert!(report.rows.iter().all(|row| row.what != "alert low"), "{report}");
    assert_eq!(report.warnings.len(), 2, "{report}");
}

#[test]
fn a_record_in_the_wrong_place_is_refused_before_its_time_counts() {
    let declaration = declaration();
    let job = Job::compile(&declaration).expect("a known job");
    let partitions: HashMap<Arc<str>, i32> = [("in".into(), 2)].into();
    let right = Partitioner::Murmur2.place(b"t1", 2).expect("murmur2 places");
    let mut wrong_place = record("in", 0, 10_000, reading(Some(1), 21.0, 10_000), &[]);
    wrong_place.partition = TopicPartition::new("in", 1 - right);
    let mut other_key = record("in", 0, 10_000, reading(Some(1), 21.0, 10_000), &[]);
    (other_key.partition, other_key.key) = (TopicPartition::new("in", right), Some(b"t2".to_vec()));
    let no_key = InputRecord { key: None, offset: 1, ..other_key.clone() };

    let expected = recompute(&job, &[], &partitions, schemas, [wrong_place, other_key, no_key].into_iter());

    let reasons: Vec<&'static str> = expected.letters.values().flat_map(|letter| letter.reasons.clone()).collect();
    assert_eq!(expected.counts.admitted, 0);
    let sorted = |mut reasons: Vec<&'static str>| {
        reasons.sort_unstable();
        reasons
    };
    assert_eq!(sorted(reasons), ["key-is-null", "key-mismatch", "wrong-partition"]);
}
