//! Texts and bytes that a window keeps have a bound, so that a changelog record of it is one that a broker takes: the engine and the audit
//! draw the same line.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use testudo::audit::{Declaration, InputRecord, Job, WriterSchema, recompute};
use testudo::avro::SchemaKind;
use testudo::kafka::TopicPartition;

use crate::harness::Input;
use crate::rig::{NOW_MS, Rig, long, record, text, zoo};

const SCHEMA: &str = r#"{"type":"record","name":"Reading","fields":[
    {"name":"dev_id","type":"string"},
    {"name":"at","type":{"type":"long","logicalType":"timestamp-millis"}},
    {"name":"wanted","type":"boolean"},
    {"name":"note","type":"string"},
    {"name":"raw","type":"bytes"}]}"#;

/// Most bytes of a record that a broker takes unless it is told otherwise.
const BROKER_BYTES_MAX: usize = 1 << 20;

fn rig(select: &str) -> Rig {
    let head = "[window.w]\nfrom = \"readings\"\nby = [\"dev_id\"]\nover = { tumbling = \"1 minute\" }\ngrace = \"0s\"\ntopic = \"w\"";
    Rig::new(&zoo(&format!("{head}\n[window.w.select]\n{select}\n")), SCHEMA)
}

/// A reading whose key, note and raw bytes are so long.
struct Of {
    at_ms: i64,
    is_wanted: bool,
    key: usize,
    note: usize,
    raw: usize,
}

const SHORT: Of = Of { at_ms: NOW_MS, is_wanted: true, key: 2, note: 3, raw: 3 };

/// Keys are of zero bytes: none takes more room in state keys.
fn input(of: &Of) -> Input {
    let key = "\0".repeat(of.key);
    let raw = text(&"r".repeat(of.raw));
    record(1, &key, &[text(&key), long(of.at_ms), vec![u8::from(of.is_wanted)], text(&"n".repeat(of.note)), raw].concat())
}

fn audited(rig: &Rig) -> Job {
    Job::compile(&Declaration::of(&rig.tenant)).expect("a job that the audit knows")
}

/// The dead letters that the audit calls for, each as [`Rig::refused`] has it.
fn refused_by_audit(rig: &Rig, inputs: &[Input]) -> Vec<String> {
    let partitions: HashMap<Arc<str>, i32> = HashMap::from([("in".into(), 1)]);
    let schema = |_| WriterSchema::Known { kind: SchemaKind::Avro, json: SCHEMA.to_owned(), references: Vec::new() };
    let records = inputs.iter().cloned().zip(0..).map(|(Input { key, value, timestamp_ms }, offset)| InputRecord {
        partition: TopicPartition::new("in", 0),
        offset,
        timestamp_ms,
        key,
        value,
        headers: Vec::new(),
    });
    let expected = recompute(&audited(rig), &[], &partitions, schema, records);
    let letters = expected.letters.iter();
    letters.map(|((place, stage), letter)| format!("{} {stage} {}", place.offset, letter.reasons.join(" or "))).collect()
}

#[test]
fn a_value_that_a_window_cannot_keep_is_refused_by_it_and_by_the_audit() {
    let mut rig = rig("note = \"max(note) FILTER (WHERE wanted)\"\nraw = \"first_value(raw ORDER BY at)\"");
    let bound = 131_072;
    let inputs = [
        Of { key: bound, note: bound, raw: bound, ..SHORT },
        Of { note: bound + 1, ..SHORT },
        Of { note: bound + 1, is_wanted: false, ..SHORT },
        Of { raw: bound + 1, ..SHORT },
        Of { key: bound + 1, ..SHORT },
        Of { note: bound + 1, at_ms: NOW_MS - 120_000, ..SHORT },
    ]
    .map(|of| input(&of));

    rig.epoch(&inputs);

    let refused = ["1 window.w value-too-large", "3 window.w value-too-large", "4 window.w value-too-large", "5 window.w late"];
    assert_eq!(rig.refused(), refused);
    assert_eq!(refused_by_audit(&rig, &inputs), refused);
    assert_eq!(rig.of("w").len(), 2, "records 0 and 2");
    let detail = &rig.details()[0];
    assert!(["131073", "131072", "max(note)"].iter().all(|part| detail.contains(part)), "{detail}");
}

#[test]
fn the_longest_key_makes_a_changelog_record_that_a_broker_takes() {
    let mut rig = rig("readings = \"count(*)\"");
    let bound = rig.tenant.windows[0].kept_value_bytes_max();

    rig.epoch(&[input(&Of { key: bound, ..SHORT })]);

    assert_eq!(rig.refused(), [""; 0]);
    let changelog = rig.tenant.changelog_topic(&rig.tenant.windows[0], "in");
    let length = |part: &Option<Bytes>| part.as_ref().map_or(0, Bytes::len);
    let longest = rig.of(&changelog).iter().map(|record| length(&record.key) + length(&record.value)).max().expect("a changelog record");
    assert!((2 * bound..BROKER_BYTES_MAX).contains(&longest), "{longest}");
}

#[test]
fn the_bound_is_shared_by_the_texts_and_bytes_that_a_window_keeps() {
    let cases = [
        ("count(*)", 1),
        ("max(at)", 1),
        ("max(note)", 2),
        ("max(note) || MAX( \\\"note\\\" )", 2),
        ("max(note) || max(note) FILTER (WHERE wanted)", 3),
        ("last_value(raw ORDER BY note, at)", 3),
    ];
    for (select, shares) in cases {
        let rig = rig(&format!("x = \"{select}\""));
        let audited = audited(&rig);

        assert_eq!(audited.unaudited, [""; 0], "{select}");
        let by_audit = audited.windows[0].as_ref().map(|window| window.kept_value_bytes_max);
        assert_eq!((rig.tenant.windows[0].kept_value_bytes_max(), by_audit), (393_216 / shares, Some(393_216 / shares)), "{select}");
    }
}
