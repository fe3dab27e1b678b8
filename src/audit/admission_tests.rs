//! Claims about admission, one record at a time.

use super::*;
use crate::audit::job::Declaration;
use crate::audit::zoo::{declaration, reading, record, schemas};
use crate::avro::gate::{OnAnswer, Policy, SchemaLookup};
use crate::avro::registry::FetchedSchema;
use crate::avro::{Gate, ReaderSchema, SchemaId, Verdict as GateVerdict};
use crate::clock::SystemClock;
use crate::telemetry::{Metrics, TenantMetrics};
use crate::tenant::Format;

const AT_MS: i64 = 10_000;

/// What becomes of a datum under these headers when the registry says `guid` of every GUID.
fn screened(declaration: &Declaration, headers: &[(&str, Option<Vec<u8>>)], framed: bool, guid: GuidSchema) -> Screened {
    let job = Job::compile(declaration).expect("a job");
    let partitions = HashMap::from([("in".into(), 1)]);
    let mut admission = Admission::new(&job, &partitions);
    let value = reading(Some(2_900), 21.0, AT_MS).expect("a value");
    let mut input = record("in", 0, AT_MS, Some(if framed { value } else { value[5..].to_vec() }), &[]);
    input.headers = headers.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
    if let Some(unknown) = admission.unknown_guid(&input) {
        admission.learn_guid(unknown, &guid);
    }
    if let Some(id) = admission.unknown_schema(&input) {
        admission.learn(id, &schemas(id));
    }
    admission.screen(&input)
}

fn header(value: &[&[u8]]) -> Vec<(&'static str, Option<Vec<u8>>)> {
    vec![("__value_schema_id", Some(value.concat()))]
}

#[test]
fn a_header_names_the_schema_c23() {
    let zoo = declaration();
    let by_id = header(&[&[0], &1_u32.to_be_bytes()]);
    let by_guid = header(&[&[1], &[7; 16]]);

    assert!(matches!(screened(&zoo, &[], true, GuidSchema::NoGuids), Screened::Admitted(_)));
    assert!(matches!(screened(&zoo, &by_id, false, GuidSchema::NoGuids), Screened::Admitted(row) if row.schema_id == 1));
    assert!(matches!(screened(&zoo, &by_guid, false, GuidSchema::Id(1)), Screened::Admitted(row) if row.schema_id == 1));
    assert!(matches!(screened(&zoo, &by_guid, false, GuidSchema::Missing), Screened::Refused("gate", "unknown-schema-id")));
    assert!(matches!(screened(&zoo, &by_guid, false, GuidSchema::NoGuids), Screened::Refused("frame", "header-framed")));
    assert!(matches!(screened(&zoo, &header(&[&[0, 1]]), false, GuidSchema::NoGuids), Screened::Refused("frame", "header-framed")));
    let with_indexes = header(&[&[0], &1_u32.to_be_bytes(), &[0]]);
    assert!(
        matches!(screened(&zoo, &with_indexes, false, GuidSchema::NoGuids), Screened::Refused("frame", "header-framed")),
        "message indexes are Protobuf's"
    );
    let null = [by_id[0].clone(), ("__value_schema_id", None)];
    assert!(matches!(screened(&zoo, &null, true, GuidSchema::NoGuids), Screened::Admitted(_)), "the last one has no value");
    assert!(
        matches!(screened(&zoo, &by_id, true, GuidSchema::NoGuids), Screened::Refused("inspect", _)),
        "the frame is no part of the datum"
    );
}

#[test]
fn a_record_of_a_type_that_the_source_does_not_read_is_another() {
    let mut zoo = declaration();
    zoo.sources[0].records = Some(vec!["other.Reading".into()]);

    assert!(matches!(screened(&zoo, &[], true, GuidSchema::NoGuids), Screened::OtherRecord));
    zoo.sources[0].records = Some(vec!["Reading".into()]);
    assert!(matches!(screened(&zoo, &[], true, GuidSchema::NoGuids), Screened::Admitted(_)));
}

/// C39: as the engine, which counts in microseconds of 64 bits.
#[test]
fn a_time_that_does_not_fit_microseconds_is_none() {
    let zoo = declaration();
    let job = Job::compile(&zoo).expect("a job");
    let partitions = HashMap::from([("in".into(), 1)]);
    let mut admission = Admission::new(&job, &partitions);
    admission.learn(1, &schemas(1));
    let screened_at = |at_ms| admission.screen(&record("in", 0, AT_MS, reading(Some(2_900), 21.0, at_ms), &[]));
    let last_ms = i64::MAX / 1_000;

    assert!(matches!(screened_at(last_ms), Screened::Refused("event-time", "event-time-in-future")));
    for at_ms in [last_ms + 1, i64::MAX, i64::MIN] {
        assert!(matches!(screened_at(at_ms), Screened::Refused("event-time", "event-time-is-null")), "{at_ms}");
    }
}

const READER: &str = r#"{"type":"record","name":"Reading","namespace":"farm","fields":[{"name":"id","type":"string"}]}"#;

/// Schemas of every kind that somebody may register for a shared topic.
fn strangers() -> Vec<(SchemaKind, String)> {
    let nested = format!("{}\"int\"{}", r#"{"type":"array","items":"#.repeat(120), "}".repeat(120));
    let avro = [
        READER.to_owned(),
        READER.replace("\"farm\"", "\"other\""),
        READER.replace("\"id\"", "\"name\""),
        READER.replace("Reading", "Feeding"),
        READER.replace("Reading", "Feeding").replace("\"string\"", "\"nowhere.Type\""),
        READER.replace("Reading", "Feeding").replace("\"string\"", &nested),
        r#"{"type":"enum","name":"Color","namespace":"farm","symbols":["RED"]}"#.into(),
        r#"{"type":"fixed","name":"Reading","namespace":"farm","size":4}"#.into(),
        r#"{"type":"array","items":"int"}"#.into(),
        "\"string\"".into(),
        "{".into(),
    ];
    let object = r#"{"title": "farm.Reading", "type": "object", "required": ["id"], "properties": {"id": {"type": "string"}}}"#;
    let json = [
        object.to_owned(),
        object.replace("farm.Reading", "farm.Feeding"),
        object.replace("\"title\": \"farm.Reading\",", ""),
        object.replace("farm.Reading", "not a name"),
        object.replace("farm.Reading", "farm.Feeding").replace("{\"type\": \"string\"}", "{}"),
        object.replace("\"id\"", "\"name\""),
        r#"{"title": "farm.Feeding", "type": "string"}"#.into(),
        "true".into(),
        "{".into(),
    ];
    let (reading, feeding) = ("message Reading { string id = 1; }", "message Feeding { string what = 1; }");
    let file = |messages: &[&str]| format!("syntax = \"proto3\"; package farm; {}", messages.join(" "));
    let protobuf = [
        file(&[reading]),
        file(&[feeding]),
        file(&[feeding, reading]),
        file(&["message Outer { message Reading { string id = 1; } }"]),
        file(&["message Reading { bytes id = 1; }", feeding]),
        file(&["message Feeding { nowhere.Type what = 1; }"]),
        file(&["enum Color { RED = 0; }"]),
        format!("syntax = \"proto3\"; {reading}"),
        "{".into(),
    ];
    let of = |kind: SchemaKind, texts: Vec<String>| texts.into_iter().map(move |text| (kind, text));
    of(SchemaKind::Avro, avro.into()).chain(of(SchemaKind::Json, json.into())).chain(of(SchemaKind::Protobuf, protobuf.into())).collect()
}

/// Answers at once with one schema.
struct Knows(SchemaKind, String);

impl SchemaLookup for Knows {
    fn look_up(&self, id: SchemaId, answer: OnAnswer) {
        answer(Ok(FetchedSchema { kind: self.0, ..FetchedSchema::avro(id, self.1.clone()) }));
    }
}

fn by_gate(format: Format, records: Option<&[String]>, kind: SchemaKind, text: &str) -> &'static str {
    let reader = ReaderSchema::parse(READER).expect("a reader schema");
    let reader = match records {
        Some(records) => reader.for_types(records.to_vec()),
        None => reader,
    };
    let policy = Policy { kind: format.schemas().expect("a kind"), ..Policy::default() };
    let metrics = TenantMetrics::new(&Metrics::new(), "zoo");
    let gate = Gate::new(Arc::new(reader), Arc::new(Knows(kind, text.to_owned())), SystemClock::shared(), metrics, policy);
    gate.verdict(SchemaId(7));
    match gate.verdict(SchemaId(7)) {
        GateVerdict::Accepted(_) => "accepted",
        GateVerdict::OtherRecord { .. } => "other record",
        GateVerdict::Refused { .. } => "refused",
        other => panic!("{other:?}"),
    }
}

fn by_audit(format: Format, records: Option<&[String]>, kind: SchemaKind, text: &str) -> &'static str {
    let mut zoo = declaration();
    zoo.sources[0].reader = READER.into();
    zoo.sources[0].columns = vec!["id".into()];
    zoo.sources[0].key = "id".into();
    zoo.sources[0].event_time = None;
    zoo.sources[0].format = format;
    zoo.sources[0].records = records.map(<[String]>::to_vec);
    (zoo.alerts, zoo.windows, zoo.collections) = Default::default();
    let job = Job::compile(&zoo).expect("a job");
    let partitions = HashMap::from([("in".into(), 1)]);
    let mut admission = Admission::new(&job, &partitions);
    admission.learn(7, &WriterSchema::Known { kind, json: text.to_owned(), references: Vec::new() });
    match &admission.verdicts[&7][0] {
        Verdict::Accepted(_) => "accepted",
        Verdict::OtherRecord => "other record",
        Verdict::Refused(_) => "refused",
    }
}

/// Sibling of C19: what only Java takes is read in other words, here and in what the tenant names.
#[test]
fn a_wanted_type_may_have_a_namespace_that_only_java_takes() {
    let java = READER.replace("\"farm\"", "\"com.acme-farm\"");
    for (wanted, verdict) in [("com.acme-farm.Reading", "accepted"), ("com.acme_farm.Reading", "other record")] {
        let records = [wanted.to_owned()];
        assert_eq!(by_gate(Format::Avro, Some(records.as_slice()), SchemaKind::Avro, &java), verdict, "{wanted}");
        assert_eq!(by_audit(Format::Avro, Some(records.as_slice()), SchemaKind::Avro, &java), verdict, "{wanted}");
    }
}

/// Kind, record type, what can be read: whichever the two look at first, they come to the same.
#[test]
fn the_gate_and_the_audit_judge_strangers_alike_in_topics_that_are_shared_or_not() {
    let mut met = HashMap::new();
    let own = ["farm.Reading".to_owned()];
    for format in [Format::Avro, Format::JsonSchema, Format::Protobuf] {
        for records in [None, Some(own.as_slice())] {
            for (kind, text) in strangers() {
                let (gate, audit) = (by_gate(format, records, kind, &text), by_audit(format, records, kind, &text));
                assert_eq!(gate, audit, "source of {format:?}, records {records:?}, schema of {kind}: {text}");
                *met.entry((records.is_some(), Some(kind) == format.schemas(), gate)).or_insert(0) += 1;
            }
        }
    }
    for of_kind in [(true, true, "accepted"), (true, true, "other record"), (true, true, "refused"), (false, true, "accepted")] {
        assert!(met[&of_kind] >= 3, "{met:?}");
    }
    assert!(met.keys().all(|(_, is_of_kind, verdict)| *is_of_kind || *verdict == "refused"), "another kind is a mistake: {met:?}");
    assert!(met.keys().all(|(is_shared, _, verdict)| *is_shared || *verdict != "other record"), "{met:?}");
}
