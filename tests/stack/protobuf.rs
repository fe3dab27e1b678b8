//! Protobuf sources on the real stack: versions in turn, imports, other messages of a file, a fleet, and everything that is no such record.
//! The audit, which reads them another way, agrees in all of them.

use std::collections::BTreeMap;

use libtest_mimic::Failed;
use mongodb::bson::doc;
use serde_json::{Value, json};
use testudo::avro::{SchemaId, SchemaKind};
use testudo::stack::Stack;

use crate::Test;
use crate::between::Between;
use crate::job::{Job, READING, ZOO};

pub const TESTS: &[Test] = &[
    ("protobuf_versions_in_turn_are_read_and_wrong_records_are_dead_letters", versions_in_turn),
    ("protobuf_messages_of_a_shared_topic_are_told_apart", shared_topic),
    ("c23_protobuf_ids_and_message_indexes_in_headers_are_followed", headers),
    ("c23_protobuf_guids_are_followed_where_the_registry_knows_them", guids),
    ("protobuf_a_fleet_is_read_as_the_same_fleet_in_avro", fleet),
];

/// 2025-04-08T08:15:00Z.
const TIME_S: i64 = 1_744_100_100;

const READER: &str = r#"{"type":"record","name":"Event","namespace":"anything","fields":[
    {"name":"id","type":"string"},
    {"name":"at","type":{"type":"long","logicalType":"timestamp-micros"}},
    {"name":"battery","type":"int"},
    {"name":"site","type":["null","string"],"default":null},
    {"name":"tags","type":{"type":"map","values":"long"},"default":{}}]}"#;

const FIRST: &str = r#"syntax = "proto3";
package test;
import "google/protobuf/timestamp.proto";
message Event {
  string id = 1;
  google.protobuf.Timestamp at = 2;
  int32 battery = 3;
}
message Other {
  int64 n = 1;
}
"#;

const TENANT: &str = r#"
tenant = "NAME"
[source.events]
topics = ["NAME-in"]
format = "protobuf"
key = "id"
event_time = "at"
partitioner = "none"
SHARED
[alert.low]
from = "events"
where = "battery < 2000"
topic = "NAME-alert"
[window.minutes]
from = "events"
by = ["id"]
over = { tumbling = "1 minute" }
grace = "1 minute"
topic = "NAME-windows"
[window.minutes.select]
readings = "count(*)"
total = "sum(battery)"
[mongo.minutes]
from = "minutes"
[mongo.events]
from = "events"
"#;

fn job<'s>(stack: &'s Stack, shared: &str) -> Result<Job<'s>, Failed> {
    let job = Job::new(stack, &TENANT.replace("SHARED", shared), &[("NAME-in", READER)])?;
    job.create_topic(&job.topic("in"), 1)?;
    Ok(job)
}

/// Registers a file with what it imports: import names, subjects.
fn register(job: &Job<'_>, subject: &str, text: &str, imports: &[(&str, &str)]) -> Result<SchemaId, Failed> {
    let references: Vec<Value> = imports.iter().map(|(name, subject)| json!({ "name": name, "subject": subject, "version": 1 })).collect();
    let body = json!({ "schemaType": "PROTOBUF", "schema": text, "references": references });
    let url = format!("{}/subjects/{subject}/versions", job.stack.registry_url());
    let answer: Value = job.block_on(async { reqwest::Client::new().post(url).json(&body).send().await?.json().await })?;
    Ok(SchemaId(answer["id"].as_u64().ok_or_else(|| format!("no id in {answer}"))? as u32))
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

fn number(field: u64, value: i64) -> Vec<u8> {
    [varint(field << 3), varint(value as u64)].concat()
}

fn blob(field: u64, bytes: &[u8]) -> Vec<u8> {
    [varint(field << 3 | 2), varint(bytes.len() as u64), bytes.to_vec()].concat()
}

/// The fields that all versions have.
fn event(battery: i64) -> Vec<u8> {
    let at = [number(1, TIME_S), number(2, 123_456_789)].concat();
    [blob(1, b"a"), blob(2, &at), number(3, battery)].concat()
}

/// A record with these message indexes, as they are written.
fn send(job: &Job<'_>, id: SchemaId, indexes: &[u8], body: &[u8]) -> Result<(), Failed> {
    let value = [&testudo::avro::frame::prefix(id)[..], indexes, body].concat();
    job.produce(&job.topic("in"), 0, Some(b"a"), Some(&value), TIME_S * 1_000)
}

/// Records that are wrong in every way that there is.
fn send_wrong(job: &Job<'_>, first: SchemaId, broken: SchemaId, avro: SchemaId) -> Result<(), Failed> {
    send(job, broken, &[0], &[blob(1, b"a"), blob(3, b"full")].concat())?;
    send(job, first, &[0], &event(2_900)[..9])?;
    send(job, first, &[0], &[event(2_900), blob(3, b"x")].concat())?;
    send(job, first, &[0], &[event(2_900), vec![0x0e]].concat())?;
    send(job, first, &[0], &[event(2_900), blob(1, &[0xff])].concat())?;
    send(job, first, &[0], &[event(2_900), blob(2, &number(2, -1))].concat())?;
    send(job, first, &[2, 2], &number(1, 7))?;
    send(job, first, &[2, 8], &event(2_900))?;
    send(job, first, &[], &[])?;
    send(job, avro, &[], &[2, b'a'])?;
    send(job, SchemaId(987_654), &[0], &event(2_900))?;
    // Without a time there is no event time: the column has no room for null.
    send(job, first, &[0], &blob(1, b"a"))
}

fn versions_in_turn(stack: &Stack) -> Result<(), Failed> {
    let job = job(stack, "")?;
    let subject = format!("{}-value", job.topic("in"));
    let first = register(&job, &subject, FIRST, &[])?;
    let second = register(&job, &subject, &FIRST.replace("battery = 3;", "battery = 3;\n  string site = 4;"), &[])?;
    let (kind, place) = (format!("{}-kind", job.name), format!("{}-place", job.name));
    register(&job, &kind, "syntax = \"proto3\";\npackage other;\nenum Kind {\n  BARN = 0;\n  FIELD = 1;\n}\n", &[])?;
    let place_text =
        "syntax = \"proto3\";\npackage other;\nimport \"other/kind.proto\";\nmessage Place {\n  double x = 1;\n  Kind kind = 2;\n}\n";
    register(&job, &place, place_text, &[("other/kind.proto", &kind)])?;
    let importing = FIRST.replace("message Event", "import \"other/place.proto\";\nmessage Event");
    let importing = importing.replace("battery = 3;", "battery = 3;\n  map<string, int64> tags = 5;\n  other.Place place = 6;");
    let third = register(&job, &format!("{}-value", job.topic("third")), &importing, &[("other/place.proto", &place)])?;
    let broken = register(&job, &format!("{}-value", job.topic("broken")), &FIRST.replace("int32 battery", "string battery"), &[])?;
    let avro = job.register(&job.topic("avro"), READER)?;
    for _ in 0..5 {
        send(&job, first, &[0], &event(2_900))?;
        send(&job, second, &[0], &[event(1_900), blob(4, b"there")].concat())?;
        let tag = blob(5, &[blob(1, b"t"), number(2, -7)].concat());
        send(&job, third, &[2, 0], &[event(2_900), tag, blob(6, &[9, 0, 0, 0, 0, 0, 0, 0, 0, 16, 1])].concat())?;
    }
    send(&job, first, &[0], &[event(2_900), number(77, 1)].concat())?;
    send_wrong(&job, first, broken, avro)?;

    job.drain()?;

    let reasons: [(&str, usize); 9] = [
        ("schema-refused", 2),
        ("truncated", 2),
        ("wrong-type", 1),
        ("not-protobuf", 2),
        ("invalid-utf8", 1),
        ("out-of-range", 1),
        ("other-message", 1),
        ("unknown-schema-id", 1),
        ("unresolvable-value", 1),
    ];
    let expected: BTreeMap<String, usize> = reasons.into_iter().map(|(reason, count)| (reason.to_owned(), count)).collect();
    assert_eq!(job.dead_letters()?, expected);
    assert_eq!(job.documents("events")?, 16);
    assert_eq!(job.read(&job.topic("alert"))?.len(), 5);
    let letters = job.read(&job.topic("dead-letters"))?;
    let refused = letters.iter().find(|letter| letter.headers["testudo-schema-id"] == broken.to_string()).ok_or("a refused schema")?;
    let detail = &refused.headers["testudo-detail"];
    assert!(detail.contains(&format!("writer schema {broken}")) && detail.contains("`battery`") && detail.contains("string"), "{detail}");
    assert_eq!(refused.headers["testudo-reader-schema"].len(), 16);
    let stage = letters.iter().filter(|letter| letter.headers["testudo-stage"] == "transcode").count();
    assert_eq!(stage, 8);
    let events = job.collection("events")?;
    let event = job.block_on(async { events.find_one(doc! { "site": "there" }).await })?.ok_or("an event of the second version")?;
    assert_eq!(event.get_datetime("at")?.timestamp_millis(), TIME_S * 1_000 + 123);
    let tagged = job.block_on(async { events.count_documents(doc! { "tags.t": -7 }).await })?;
    assert_eq!(tagged, 5);
    job.audit()?;

    let check = job.command(&["schema", "check", &job.path("tenants/tenant.toml").display().to_string()]).output()?;
    let text = String::from_utf8_lossy(&check.stdout);
    assert!(check.status.success(), "{text}{}", String::from_utf8_lossy(&check.stderr));
    assert!(text.contains(&format!("version 2 (id {second})")), "{text}");
    let file = job.path("broken.proto");
    std::fs::write(&file, FIRST.replace("int32 battery", "string battery"))?;
    let tenant = job.path("tenants/tenant.toml").display().to_string();
    let file = file.display().to_string();
    let candidate = job.command(&["schema", "check", "--offline", "--candidate", &file, "--subject", &subject, &tenant]).output()?;
    let text = String::from_utf8_lossy(&candidate.stdout);
    assert_eq!(candidate.status.code(), Some(5), "{text}{}", String::from_utf8_lossy(&candidate.stderr));
    assert!(text.contains("it is written as string and read as int"), "{text}");
    Ok(())
}

/// One file with two messages, both in one topic: the source's own are read, the others skipped, a third one's as well.
fn shared_topic(stack: &Stack) -> Result<(), Failed> {
    let job = job(stack, "subject = \"topic-record\"\nrecords = [\"test.Event\"]")?;
    let file = register(&job, &format!("{}-test.Event", job.topic("in")), FIRST, &[])?;
    let other = register(
        &job,
        &format!("{}-test.Third", job.topic("in")),
        "syntax = \"proto3\";\npackage test;\nmessage Third {\n  int32 n = 1;\n}\n",
        &[],
    )?;
    for _ in 0..3 {
        send(&job, file, &[0], &event(1_900))?;
        send(&job, file, &[2, 2], &number(1, 5))?;
        send(&job, other, &[0], &number(1, 5))?;
    }

    job.drain()?;

    assert_eq!(job.committed()?, 9);
    assert_eq!(job.dead_letters()?, BTreeMap::new());
    assert_eq!(job.documents("events")?, 3);
    assert_eq!(job.read(&job.topic("alert"))?.len(), 3);
    job.audit()
}

/// What Confluent's header serializer writes: the schema's name and the message indexes in a header, the message alone in the value.
fn headers(stack: &Stack) -> Result<(), Failed> {
    let job = job(stack, "")?;
    let subject = format!("{}-value", job.topic("in"));
    let first = register(&job, &subject, FIRST, &[])?;
    let turned = FIRST.replace("message Event", "message Before {\n  int32 n = 1;\n}\nmessage Event");
    let turned = register(&job, &format!("{}-value", job.topic("turned")), &turned, &[])?;
    let avro = job.register(&job.topic("avro"), READER)?;
    let headed = |header: Option<&[u8]>, value: &[u8]| {
        job.produce_with(&job.topic("in"), 0, Some(b"a"), Some(value), TIME_S * 1_000, &[("__value_schema_id", header)])
    };
    let by_id = |id: SchemaId, indexes: &[u8]| [&testudo::avro::frame::prefix(id)[..], indexes].concat();
    let by_guid = [&[1][..], &[7; 16], &[0]].concat();
    for _ in 0..3 {
        headed(Some(&by_id(first, &[0])), &event(1_900))?;
        send(&job, first, &[0], &event(2_900))?;
        headed(Some(&by_id(turned, &[2, 2])), &event(2_900))?;
        headed(None, &[&by_id(first, &[0])[..], &event(2_900)].concat())?;
    }
    headed(Some(&by_id(first, &[])), &event(2_900))?;
    headed(Some(&by_id(first, &[0, 0])), &event(2_900))?;
    headed(Some(&by_id(first, &[2, 2])), &number(1, 7))?;
    headed(Some(&by_id(first, &[0])), &[&[0][..], &event(2_900)].concat())?;
    headed(Some(&by_id(avro, &[])), &[2, b'a'])?;
    headed(Some(&by_guid[..9]), &event(2_900))?;
    // The stack's registry has no GUIDs.
    headed(Some(&by_guid), &event(2_900))?;

    job.drain()?;

    let reasons = [("truncated", 1), ("not-protobuf", 2), ("other-message", 1), ("schema-refused", 1), ("header-framed", 2)];
    assert_eq!(job.dead_letters()?, reasons.map(|(reason, count)| (reason.to_owned(), count)).into());
    let letters = job.read(&job.topic("dead-letters"))?;
    let details: Vec<&str> = letters.iter().map(|letter| letter.headers["testudo-detail"].as_str()).collect();
    assert!(details.iter().any(|detail| detail.contains("in the header __value_schema_id")), "{details:#?}");
    assert!(details.iter().any(|detail| detail.contains("07070707-0707-0707-0707-070707070707")), "{details:#?}");
    assert_eq!(job.documents("events")?, 12);
    assert_eq!(job.read(&job.topic("alert"))?.len(), 3);
    job.audit()
}

/// What the header serializer writes by default. The stack's registry has no GUIDs, so something in front of it answers for them.
fn guids(stack: &Stack) -> Result<(), Failed> {
    let job = job(stack, "")?;
    let first = register(&job, &format!("{}-value", job.topic("in")), FIRST, &[])?;
    let between = Between::start(&stack.registry_url())?;
    between.knows("07070707-0707-0707-0707-070707070707", first);
    let config = std::fs::read_to_string(job.path("testudo.toml"))?;
    std::fs::write(job.path("testudo.toml"), config.replace(&stack.registry_url(), &between.url))?;
    for (byte, indexes) in [(7, 0), (8, 0), (7, 0)] {
        let header = [&[1][..], &[byte; 16], &[indexes]].concat();
        let headers = [("__value_schema_id", Some(header.as_slice()))];
        job.produce_with(&job.topic("in"), 0, Some(b"a"), Some(&event(1_900)), TIME_S * 1_000, &headers)?;
    }

    job.drain()?;

    assert_eq!(job.dead_letters()?, [("unknown-schema-id".to_owned(), 1)].into());
    let letters = job.read(&job.topic("dead-letters"))?;
    assert!(letters[0].headers["testudo-detail"].contains("08080808-0808"), "{letters:?}");
    assert_eq!(job.documents("events")?, 2);
    job.audit()
}

/// The program's own fleet, in Protobuf: with its wrong records it comes to what the zoo's tenant makes of the same fleet in Avro.
fn fleet(stack: &Stack) -> Result<(), Failed> {
    let (avro, protobuf) = (
        Job::zoo(stack, 2)?,
        Job::new(stack, &ZOO.replace("[source.readings]", "[source.readings]\nformat = \"protobuf\""), &[("NAME-in", READING)])?,
    );
    protobuf.create_topic(&protobuf.topic("in"), 2)?;
    let wrong = ["--wrong", "truncated=0.02", "--wrong", "wrong-type=0.02", "--wrong", "unknown-id=0.01", "--wrong", "no-magic=0.01"];
    for (job, format) in [(&avro, "avro"), (&protobuf, "protobuf")] {
        let (topic, schema) = (job.topic("in"), job.path(&format!("avro/{}-value.avsc", job.topic("in"))).display().to_string());
        let mut arguments = vec![
            "emulate",
            "--topic",
            &topic,
            "--schema",
            &schema,
            "--format",
            format,
            "--records",
            "2000",
            "--seed",
            "7",
            "--base-time",
            "1744100100000",
        ];
        arguments.extend(wrong);
        let output = job.command(&arguments).output()?;
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let latest = protobuf.block_on(protobuf.registry()?.latest(&format!("{}-value", protobuf.topic("in"))))?.ok_or("a version")?;
    assert_eq!(protobuf.block_on(protobuf.registry()?.schema(latest.id))?.kind, SchemaKind::Protobuf);

    avro.drain()?;
    protobuf.drain()?;

    assert!(avro.documents("zoo_analytics")? > 10);
    assert_eq!(avro.documents("zoo_analytics")?, protobuf.documents("zoo_analytics")?);
    assert_eq!(avro.documents("tortoise")?, protobuf.documents("tortoise")?);
    let letters = protobuf.dead_letters()?;
    assert_eq!(letters.values().sum::<usize>(), avro.dead_letters()?.values().sum::<usize>(), "{letters:?}");
    assert!(letters["truncated"] > 10 && letters["wrong-type"] > 10, "{letters:?}");
    avro.audit()?;
    protobuf.audit()
}
