//! Inputs that broke other products, on the real stack. Each test cites its case.

use std::collections::BTreeMap;

use apache_avro::Schema;
use apache_avro::types::Value;
use apache_avro::writer::datum::GenericDatumWriter;
use libtest_mimic::Failed;
use mongodb::bson::{Bson, doc};
use serde_json::json;
use testudo::avro::SchemaId;
use testudo::stack::Stack;

use crate::Test;
use crate::job::Job;

pub const TESTS: &[Test] = &[
    ("c11_millisecond_timestamps_are_event_times", millisecond_event_time),
    ("c15_recursive_schema_is_refused", recursive_schema),
    ("c17_types_of_other_subjects_are_found", references),
    ("c21_tombstones_are_counted", tombstones),
    ("c23_header_framing_is_named", header_framing),
    ("c27_soft_deleted_versions_are_read", soft_deleted),
    ("c45_one_fast_clock_makes_nobody_late", fast_clock),
    ("c53_event_time_zero_survives_a_restore", event_time_zero),
    ("c67_the_last_window_is_there_or_said_to_be_open", last_window),
    ("c79_decimals_keep_their_value", decimals),
    ("c81_number_types_do_not_change_with_values", number_types),
    ("c85_key_parts_with_separators_stay_apart", key_parts),
    ("c89_null_and_empty_keys", null_keys),
    ("c106_a_value_that_fills_a_record", huge_value),
    ("c133_passwords_are_in_no_log_line", passwords),
    ("key1_records_in_the_wrong_place_are_refused", wrong_place),
];

/// 2025-04-08T08:15:00.123Z.
const TIME_MS: i64 = 1_744_100_100_123;

const EVENT: &str = r#"{"type":"record","name":"Event","namespace":"test","fields":[
    {"name":"id","type":["null","string"]},
    {"name":"part","type":"string","default":"p"},
    {"name":"at","type":{"type":"long","logicalType":"timestamp-millis"}},
    {"name":"amount","type":{"type":"bytes","logicalType":"decimal","precision":8,"scale":2}},
    {"name":"count","type":"long"}]}"#;

const TENANT: &str = r#"
tenant = "NAME"
[source.events]
topics = ["NAME-in"]
key = "id"
event_time = "at"
[alert.all]
from = "events"
where = "true"
topic = "NAME-alert"
[window.minutes]
from = "events"
by = ["id", "part"]
over = { tumbling = "1 minute" }
grace = "1 minute"
emit = "EMIT"
topic = "NAME-windows"
[window.minutes.select]
readings = "count(*)"
total = "sum(count)"
mean = "avg(count)"
[mongo.minutes]
from = "minutes"
[mongo.events]
from = "events"
"#;

fn job<'s>(stack: &'s Stack, emit: &str) -> Result<(Job<'s>, SchemaId), Failed> {
    let job = Job::new(stack, &TENANT.replace("EMIT", emit), &[("NAME-in", EVENT)])?;
    job.create_topic(&job.topic("in"), 1)?;
    let id = job.register(&job.topic("in"), EVENT)?;
    Ok((job, id))
}

fn event(id: Option<&str>, part: &str, at: i64, amount: i64, count: i64) -> Value {
    let (branch, id) = id.map_or((0, Value::Null), |id| (1, Value::String(id.to_owned())));
    Value::Record(vec![
        ("id".into(), Value::Union(branch, Box::new(id))),
        ("part".into(), Value::String(part.into())),
        ("at".into(), Value::TimestampMillis(at)),
        ("amount".into(), Value::Decimal(amount.to_be_bytes().to_vec().into())),
        ("count".into(), Value::Long(count)),
    ])
}

fn frame(id: SchemaId, schema: &str, value: Value) -> Result<Vec<u8>, Failed> {
    let schema = Schema::parse_str(schema)?;
    let datum = GenericDatumWriter::builder(&schema).build()?.write_value_to_vec(value)?;
    Ok([&testudo::avro::frame::prefix(id)[..], &datum].concat())
}

fn send(job: &Job<'_>, id: SchemaId, key: &str, value: Value, timestamp_ms: i64) -> Result<(), Failed> {
    job.produce(&job.topic("in"), 0, Some(key.as_bytes()), Some(&frame(id, EVENT, value)?), timestamp_ms)
}

fn one(job: &Job<'_>, collection: &str) -> Result<mongodb::bson::Document, Failed> {
    let documents = job.collection(collection)?;
    Ok(job.block_on(async { documents.find_one(doc! {}).await })?.ok_or("one document")?)
}

fn millisecond_event_time(stack: &Stack) -> Result<(), Failed> {
    let (job, id) = job(stack, "updates")?;
    let at = 1_744_100_000_123;
    send(&job, id, "a", event(Some("a"), "p", at, 1, 1), at)?;

    job.drain()?;

    let window = one(&job, "minutes")?;
    assert_eq!(window.get_datetime("window_start")?.timestamp_millis(), 1_744_099_980_000, "2025-04-08T08:13:00Z");
    job.audit()
}

fn recursive_schema(stack: &Stack) -> Result<(), Failed> {
    let (job, id) = job(stack, "updates")?;
    let list = r#"{"type":"record","name":"Event","namespace":"test","fields":[{"name":"id","type":"string"},{"name":"next","type":["null","Event"]}]}"#;
    // A subject of its own: the registry's own rule must not refuse it for us.
    let hostile = job.register(&job.topic("elsewhere"), list)?;
    let value = Value::Record(vec![("id".into(), Value::String("a".into())), ("next".into(), Value::Union(0, Box::new(Value::Null)))]);
    job.produce(&job.topic("in"), 0, Some(b"a"), Some(&frame(hostile, list, value)?), TIME_MS)?;
    send(&job, id, "a", event(Some("a"), "p", TIME_MS, 1, 1), TIME_MS)?;

    job.drain()?;

    assert_eq!(job.dead_letters()?, BTreeMap::from([("schema-refused".to_owned(), 1)]));
    assert_eq!(job.documents("events")?, 1, "the good record passes");
    job.audit()
}

fn references(stack: &Stack) -> Result<(), Failed> {
    let (job, _) = job(stack, "updates")?;
    let amount = r#"{"type":"record","name":"Amount","namespace":"other","fields":[{"name":"cents","type":"long"}]}"#;
    let subject = format!("{}-amount", job.name);
    job.register(&subject, amount)?;
    let referring =
        EVENT.replace(r#"{"name":"count","type":"long"}"#, r#"{"name":"count","type":"long"},{"name":"extra","type":"other.Amount"}"#);
    let body = json!({"schema": referring, "references": [{"name": "other.Amount", "subject": format!("{subject}-value"), "version": 1}]});
    let url = format!("{}/subjects/{}-value/versions", stack.registry_url(), job.topic("referring"));
    let answer: serde_json::Value = job.block_on(async { reqwest::Client::new().post(url).json(&body).send().await?.json().await })?;
    let id = SchemaId(answer["id"].as_u64().ok_or_else(|| format!("no id in {answer}"))? as u32);
    // The datum: the five known fields, then the referenced record's one field.
    let mut value = frame(id, EVENT, event(Some("a"), "p", TIME_MS, 1, 7))?;
    value.push(8);
    job.produce(&job.topic("in"), 0, Some(b"a"), Some(&value), TIME_MS)?;

    job.drain()?;

    assert_eq!(job.dead_letters()?, BTreeMap::new());
    assert_eq!(one(&job, "events")?.get_i64("count")?, 7);
    Ok(())
}

fn tombstones(stack: &Stack) -> Result<(), Failed> {
    let (job, id) = job(stack, "updates")?;
    job.produce(&job.topic("in"), 0, Some(b"d1"), None, TIME_MS)?;
    send(&job, id, "a", event(Some("a"), "p", TIME_MS, 1, 1), TIME_MS)?;

    job.drain()?;

    assert_eq!(job.committed()?, 2, "the position moves");
    assert_eq!(job.dead_letters()?, BTreeMap::new());
    job.audit()
}

fn header_framing(stack: &Stack) -> Result<(), Failed> {
    use rdkafka::message::{Header, OwnedHeaders};
    use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
    let (job, _) = job(stack, "updates")?;
    let producer: BaseProducer = job.client().create()?;
    let topic = job.topic("in");
    let guid = [&[1u8][..], &[7; 16]].concat();
    let headers = OwnedHeaders::new().insert(Header { key: "__value_schema_id", value: Some(&guid) });
    let record = BaseRecord::<[u8], [u8]>::to(&topic).key(b"a").payload(b"\x02\x02").headers(headers);
    producer.send(record).map_err(|(error, _)| error)?;
    producer.flush(crate::job::PATIENCE)?;

    job.drain()?;

    let letters = job.read(&job.topic("dead-letters"))?;
    assert_eq!(letters.len(), 1);
    assert_eq!(letters[0].headers["testudo-reason"], "header-framed");
    assert!(letters[0].headers["testudo-detail"].contains("header"));
    job.audit()
}

fn soft_deleted(stack: &Stack) -> Result<(), Failed> {
    let (job, id) = job(stack, "updates")?;
    send(&job, id, "a", event(Some("a"), "p", TIME_MS, 1, 1), TIME_MS)?;
    let url = format!("{}/subjects/{}-value/versions/1", stack.registry_url(), job.topic("in"));
    let status = job.block_on(async { reqwest::Client::new().delete(url).send().await })?.status();
    assert!(status.is_success(), "{status}");

    job.drain()?;

    assert_eq!(job.dead_letters()?, BTreeMap::new());
    assert_eq!(job.documents("events")?, 1);
    Ok(())
}

fn fast_clock(stack: &Stack) -> Result<(), Failed> {
    let (job, id) = job(stack, "updates")?;
    send(&job, id, "a", event(Some("a"), "p", TIME_MS, 1, 1), TIME_MS)?;
    send(&job, id, "fast", event(Some("fast"), "p", TIME_MS + 86_400_000, 1, 1), TIME_MS)?;
    for second in 1..10 {
        send(&job, id, "a", event(Some("a"), "p", TIME_MS + second * 1_000, 1, 1), TIME_MS + second * 1_000)?;
    }

    job.drain()?;

    assert_eq!(job.dead_letters()?, BTreeMap::from([("event-time-in-future".to_owned(), 1)]));
    assert_eq!(one(&job, "minutes")?.get_i64("readings")?, 10);
    job.audit()
}

fn event_time_zero(stack: &Stack) -> Result<(), Failed> {
    let (job, id) = job(stack, "updates")?;
    send(&job, id, "a", event(Some("a"), "p", 0, 1, 1), TIME_MS)?;
    job.drain()?;
    std::fs::remove_dir_all(job.path("state"))?;
    send(&job, id, "a", event(Some("a"), "p", 1_000, 1, 1), TIME_MS)?;

    job.drain()?;

    let window = one(&job, "minutes")?;
    assert_eq!(window.get_datetime("window_start")?.timestamp_millis(), 0);
    assert_eq!(window.get_i64("readings")?, 2, "the restored window goes on");
    job.audit()
}

/// `updates`: three at once. `final`: nothing yet, and the window is in the store, open.
fn last_window(stack: &Stack) -> Result<(), Failed> {
    for (emit, documents) in [("updates", 1), ("final", 0)] {
        let (job, id) = job(stack, emit)?;
        for second in 0..3 {
            send(&job, id, "a", event(Some("a"), "p", TIME_MS + second, 1, 1), TIME_MS)?;
        }

        job.drain()?;

        assert_eq!(job.documents("minutes")?, documents, "{emit}");
        if documents == 1 {
            assert_eq!(one(&job, "minutes")?.get_i64("readings")?, 3);
        }
        let audited = job.command(&["audit"]).output()?;
        let text = String::from_utf8_lossy(&audited.stdout);
        assert!(audited.status.success(), "{text}");
        assert_eq!(text.contains("1 open, no result yet"), emit == "final", "an open window is shown with the reason: {text}");
    }
    Ok(())
}

fn decimals(stack: &Stack) -> Result<(), Failed> {
    let (job, id) = job(stack, "updates")?;
    send(&job, id, "a", event(Some("a"), "p", TIME_MS, 1_250, 1), TIME_MS)?;

    job.drain()?;

    let amount = one(&job, "events")?.get("amount").cloned();
    match amount {
        Some(Bson::Decimal128(amount)) => assert_eq!(amount.to_string(), "12.50"),
        other => return Err(format!("amount is {other:?}").into()),
    }
    job.audit()
}

fn number_types(stack: &Stack) -> Result<(), Failed> {
    for count in [7, 2_147_483_648] {
        let (job, id) = job(stack, "updates")?;
        send(&job, id, "a", event(Some("a"), "p", TIME_MS, 1, count), TIME_MS)?;

        job.drain()?;

        let window = one(&job, "minutes")?;
        assert!(matches!(window.get("readings"), Some(Bson::Int64(1))), "{window}");
        assert!(matches!(window.get("total"), Some(Bson::Int64(total)) if *total == count), "{window}");
        assert!(matches!(window.get("mean"), Some(Bson::Double(_))), "{window}");
    }
    Ok(())
}

fn key_parts(stack: &Stack) -> Result<(), Failed> {
    let (job, id) = job(stack, "updates")?;
    for (first, second) in [("x;y", "z"), ("x", "y;z"), ("x\u{0}", "z"), ("x", "\u{0}z")] {
        send(&job, id, first, event(Some(first), second, TIME_MS, 1, 1), TIME_MS)?;
    }

    job.drain()?;

    assert_eq!(job.documents("minutes")?, 4);
    job.audit()
}

fn null_keys(stack: &Stack) -> Result<(), Failed> {
    let (job, id) = job(stack, "updates")?;
    send(&job, id, "a", event(None, "p", TIME_MS, 1, 1), TIME_MS)?;
    send(&job, id, "", event(Some(""), "p", TIME_MS, 1, 1), TIME_MS)?;

    job.drain()?;

    assert_eq!(job.dead_letters()?, BTreeMap::from([("key-is-null".to_owned(), 1)]));
    assert_eq!(one(&job, "minutes")?.get_document("_id")?.get_str("id")?, "");
    job.audit()
}

fn huge_value(stack: &Stack) -> Result<(), Failed> {
    let (job, _) = job(stack, "updates")?;
    job.produce(&job.topic("in"), 0, Some(b"a"), Some(&vec![b'x'; 1_048_400]), TIME_MS)?;

    job.drain()?;

    let letters = job.read(&job.topic("dead-letters"))?;
    assert_eq!(letters.len(), 1);
    assert_eq!(letters[0].headers["testudo-value-bytes"], "1048400");
    assert_eq!(job.committed()?, 1, "the position moves");
    job.audit()
}

fn passwords(stack: &Stack) -> Result<(), Failed> {
    let (job, id) = job(stack, "updates")?;
    send(&job, id, "a", event(Some("a"), "p", TIME_MS, 1, 1), TIME_MS)?;
    let marker = "s3cr3t-marker";
    let uri = stack.mongo_uri().replace("mongodb://", &format!("mongodb://zoo:{marker}@"));
    let output = job
        .command(&["--set", "registry.username=zoo", "--set", &format!("registry.password={marker}"), "run", "--drain"])
        .args(["--set", &format!("mongo.uri={uri}"), "-X", &format!("sasl.password={marker}"), "--log-level", "debug", "--no-mongo"])
        .output()?;
    let shown = job
        .command(&["--set", &format!("mongo.uri={uri}"), "-X", &format!("sasl.password={marker}"), "config", "show", "--origin"])
        .output()?;

    for output in [output, shown] {
        let texts = [output.stdout, output.stderr].concat();
        assert!(!texts.is_empty());
        assert!(!String::from_utf8_lossy(&texts).contains(marker), "{}", String::from_utf8_lossy(&texts));
    }
    Ok(())
}

/// KEY-1: another key than the Kafka key, no Kafka key, and the right key in a partition where murmur2 would not put it.
fn wrong_place(stack: &Stack) -> Result<(), Failed> {
    let job = Job::new(stack, &TENANT.replace("EMIT", "updates"), &[("NAME-in", EVENT)])?;
    job.create_topic(&job.topic("in"), 2)?;
    let id = job.register(&job.topic("in"), EVENT)?;
    let place = testudo::kafka::partitioner::Partitioner::Murmur2.place(b"a", 2).ok_or("a place")?;
    let value = frame(id, EVENT, event(Some("a"), "p", TIME_MS, 1, 1))?;
    job.produce(&job.topic("in"), place, Some(b"a"), Some(&value), TIME_MS)?;
    job.produce(&job.topic("in"), 1 - place, Some(b"a"), Some(&value), TIME_MS)?;
    job.produce(&job.topic("in"), place, Some(b"b"), Some(&value), TIME_MS)?;
    job.produce(&job.topic("in"), place, None, Some(&value), TIME_MS)?;

    job.drain()?;

    let wanted = [("key-is-null", 1), ("key-mismatch", 1), ("wrong-partition", 1)];
    assert_eq!(job.dead_letters()?, wanted.into_iter().map(|(reason, count)| (reason.to_owned(), count)).collect());
    assert_eq!(one(&job, "minutes")?.get_i64("readings")?, 1);
    job.audit()
}
