//! Sources in JSON on the real stack: plain, by the reader schema alone, and behind JSON Schemas in the registry. Every record is read, held or
//! refused as the contract says, and the audit, which reads JSON by code of its own, finds nothing wrong.

use std::collections::BTreeMap;

use libtest_mimic::Failed;
use testudo::avro::registry::Named;
use testudo::avro::{SchemaId, SchemaKind};
use testudo::stack::Stack;

use crate::Test;
use crate::job::{Job, READING, Seen, ZOO, wait_for};

pub const TESTS: &[Test] = &[
    ("formats_plain_json_is_read_by_the_reader_schema", plain),
    ("formats_json_schemas_are_judged_and_their_records_validated", validated),
    ("formats_json_schemas_rest_on_others", resting),
    ("formats_a_json_schema_is_held_until_the_owner_decides", held),
    ("formats_emulated_fleets_are_refused_and_counted_alike", emulated),
];

/// 2025-04-08T08:15:00.123Z.
const TIME_MS: i64 = 1_744_100_100_123;

const EVENT: &str = r#"{"type":"record","name":"Event","namespace":"test","fields":[
    {"name":"id","type":"string"},
    {"name":"at","type":{"type":"long","logicalType":"timestamp-micros"}},
    {"name":"battery","type":"int"},
    {"name":"price","type":["null",{"type":"bytes","logicalType":"decimal","precision":9,"scale":2}],"default":null},
    {"name":"level","type":"double","default":0.5},
    {"name":"site","type":["null","string"],"aliases":["place"],"default":null}]}"#;

const TENANT: &str = r#"
tenant = "NAME"
[source.events]
topics = ["NAME-in"]
format = "FORMAT"
key = "id"
event_time = "at"
record_bytes_max = 4096
MORE
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
price = "sum(price)"
level = "max(level)"
sites = "count(site)"
[mongo.minutes]
from = "minutes"
[mongo.events]
from = "events"
"#;

fn job<'s>(stack: &'s Stack, format: &str, more: &str) -> Result<Job<'s>, Failed> {
    let job = Job::new(stack, &TENANT.replace("FORMAT", format).replace("MORE", more), &[("NAME-in", EVENT)])?;
    job.create_topic(&job.topic("in"), 1)?;
    Ok(job)
}

fn send(job: &Job<'_>, value: &[u8]) -> Result<(), Failed> {
    job.produce(&job.topic("in"), 0, Some(b"a"), Some(value), TIME_MS)
}

fn tenant_command(job: &Job<'_>, arguments: &[&str]) -> Result<(Option<i32>, String), Failed> {
    let file = job.path("tenants/tenant.toml").display().to_string();
    let output = job.command(&[arguments, &[file.as_str()]].concat()).output()?;
    let text = [output.stdout.as_slice(), output.stderr.as_slice()].concat();
    Ok((output.status.code(), String::from_utf8_lossy(&text).into_owned()))
}

const RIGHT: &[&str] = &[
    r#"{"id": "a", "at": "2025-04-08T08:15:00.123Z", "battery": 2900}"#,
    r#"{"battery":1900.0,"at":1744100100123456,"id":"a","price":12.34,"level":0.30000000000000004}"#,
    r#" { "site" : "\u00e4\ud83d\ude00", "unknown": {"deep": [1, {}]}, "id": "a", "at": "2025-04-08T10:15:00.000001+02:00", "battery": 29e2, "price": "-0.01" } "#,
    r#"{"id": "a", "at": "2025-04-08T08:15:01Z", "battery": 1, "place": "alias", "price": null, "level": 1e-300}"#,
];

/// What is wrong with it, and the record.
fn wrong() -> Vec<(&'static str, Vec<u8>)> {
    let at = r#""at": "2025-04-08T08:15:00Z""#;
    let texts = [
        ("not-json", r#"{"id": "a","#.to_owned()),
        ("not-json", String::new()),
        ("not-json", format!(r#"{{"id": "a", {at}, "battery": NaN}}"#)),
        ("duplicate-key", format!(r#"{{"id": "a", {at}, "battery": 1, "battery": 2}}"#)),
        ("wrong-type", format!(r#"{{"id": "a", {at}, "battery": "2900"}}"#)),
        ("wrong-type", "[1]".to_owned()),
        ("missing-field", format!(r#"{{"id": "a", {at}}}"#)),
        ("out-of-range", format!(r#"{{"id": "a", {at}, "battery": 2147483648}}"#)),
        ("out-of-range", format!(r#"{{"id": "a", {at}, "battery": 1, "price": 0.001}}"#)),
        ("out-of-range", r#"{"id": "a", "at": "2025-02-30T00:00:00Z", "battery": 1}"#.to_owned()),
        ("out-of-range", format!(r#"{{"id": "a", {at}, "battery": 1, "level": 1e999}}"#)),
        ("too-deep", format!(r#"{{"id": "a", {at}, "battery": 1, "x": {}{}}}"#, "[".repeat(70), "]".repeat(70))),
        ("too-large", format!(r#"{{"id": "a", {at}, "battery": 1, "x": "{}"}}"#, "x".repeat(4_096))),
        ("key-mismatch", format!(r#"{{"id": "b", {at}, "battery": 1}}"#)),
        ("event-time-in-future", r#"{"id": "a", "at": "2025-04-09T08:15:00Z", "battery": 1}"#.to_owned()),
    ];
    let mut wrong: Vec<(&str, Vec<u8>)> = texts.into_iter().map(|(reason, text)| (reason, text.into_bytes())).collect();
    wrong.push(("invalid-utf8", b"{\"id\": \"\xc3\x28\"}".to_vec()));
    wrong
}

fn by_reason<'r>(reasons: impl Iterator<Item = &'r str>) -> BTreeMap<String, usize> {
    reasons.fold(BTreeMap::new(), |mut counts, reason| {
        *counts.entry(reason.to_owned()).or_default() += 1;
        counts
    })
}

fn plain(stack: &Stack) -> Result<(), Failed> {
    let job = job(stack, "json", "")?;
    let wrong = wrong();
    // In turn, so that runs are mixed.
    for (at, (_, record)) in wrong.iter().enumerate() {
        send(&job, RIGHT[at % RIGHT.len()].as_bytes())?;
        send(&job, record)?;
    }
    job.produce(&job.topic("in"), 0, Some(b"a"), None, TIME_MS)?;

    let (code, shown) = tenant_command(&job, &["check", "--connect"])?;
    assert_eq!(code, Some(0), "{shown}");
    assert!(shown.contains("source events reads JSON without registered schemas"), "{shown}");
    job.drain()?;

    assert_eq!(job.dead_letters()?, by_reason(wrong.iter().map(|(reason, _)| *reason)));
    let letters = job.read(&job.topic("dead-letters"))?;
    assert!(letters.iter().all(|letter| !letter.headers.contains_key("testudo-schema-id")), "no schema, no id");
    let bytes: Vec<Vec<u8>> = letters.iter().filter_map(|letter| letter.value.clone()).collect();
    assert!(wrong.iter().all(|(_, record)| bytes.contains(record)), "the original bytes are kept");
    let missing = letters.iter().find(|letter| letter.headers["testudo-reason"] == "missing-field").ok_or("one is missing")?;
    assert_eq!(missing.headers["testudo-stage"], "transcode");
    assert!(missing.headers["testudo-detail"].contains("`battery`"), "{:?}", missing.headers);
    assert_eq!(job.documents("events")?, wrong.len() as u64);
    assert_eq!(job.read(&job.topic("alert"))?.len(), 8, "every second of the right ones is low");
    let document = job.collection("minutes")?;
    let document = job.block_on(async { document.find_one(mongodb::bson::doc! {}).await })?.ok_or("one window")?;
    assert_eq!(document.get_i64("readings")?, 16);
    assert_eq!(document.get_i64("total")?, 4 * (2_900 + 1_900 + 2_900 + 1));
    assert_eq!(document.get_decimal128("price")?.to_string(), "49.32", "four times 12.34 less 0.01");
    assert_eq!(document.get_f64("level")?, 0.5);
    assert_eq!(document.get_i64("sites")?, 8);
    job.audit()
}

/// Closed: a member that comes with a later version is one that this one forbids, so registries call that version compatible.
const FIRST: &str = r#"{"$schema": "http://json-schema.org/draft-07/schema#", "title": "Event", "type": "object", "additionalProperties": false,
    "required": ["id", "at", "battery"], "properties": {
        "id": {"type": "string", "minLength": 1}, "at": {"type": "string", "format": "date-time"},
        "battery": {"type": "integer", "minimum": 0, "maximum": 5000}}}"#;

fn second() -> String {
    FIRST
        .replace("\"properties\": {", "\"properties\": {\"site\": {\"$ref\": \"#/definitions/site\"}, \"level\": {\"type\": \"number\"},")
        .replacen(
            "\"type\": \"object\",",
            "\"type\": \"object\", \"definitions\": {\"site\": {\"type\": \"string\", \"enum\": [\"barn\", \"field\"]}},",
            1,
        )
}

fn register(job: &Job<'_>, topic: &str, kind: SchemaKind, schema: &str) -> Result<SchemaId, Failed> {
    register_resting(job, topic, kind, schema, &[])
}

/// The same with references: names, and the topics whose subjects' first versions they are.
fn register_resting(job: &Job<'_>, topic: &str, kind: SchemaKind, schema: &str, on: &[(&str, &str)]) -> Result<SchemaId, Failed> {
    let registry = job.registry()?;
    let subject = |topic: &str| format!("{}-value", job.topic(topic));
    let named = |(name, topic): &(&str, &str)| Named { name: (*name).to_owned(), subject: subject(topic), version: 1 };
    let references: Vec<Named> = on.iter().map(named).collect();
    Ok(job.block_on(registry.register_as(&subject(topic), kind, schema, &references))?)
}

fn framed(job: &Job<'_>, id: SchemaId, json: &str) -> Result<(), Failed> {
    send(job, &[&testudo::avro::frame::prefix(id)[..], json.as_bytes()].concat())
}

fn event(battery: &str, more: &str) -> String {
    format!(r#"{{"id": "a", "at": "2025-04-08T08:15:00.123Z", "battery": {battery}{more}}}"#)
}

fn validated(stack: &Stack) -> Result<(), Failed> {
    // What a version may leave out is written as null or a number, and read as either.
    let job = job(stack, "json-schema", "")?;
    make_level_nullable(&job)?;
    let first = register(&job, "in", SchemaKind::Json, FIRST)?;
    let second = register(&job, "in", SchemaKind::Json, &second())?;
    let (code, shown) = tenant_command(&job, &["schema", "check"])?;
    assert_eq!(code, Some(0), "{shown}");
    for _ in 0..10 {
        framed(&job, first, &event("2900", ""))?;
        framed(&job, second, &event("1900", r#", "site": "barn", "level": 0.1"#))?;
    }
    // Records that break their own schema.
    framed(&job, first, &event("2900", r#", "site": "barn""#))?;
    framed(&job, first, &event("5001", ""))?;
    framed(&job, second, &event("1", r#", "site": "moon""#))?;
    framed(&job, second, r#"{"id": "a"}"#)?;
    framed(&job, first, &event("1", "").replace("00.123Z", "00"))?;
    framed(&job, first, "{")?;
    // Schemas of another type, of another kind, and without an equal.
    let text = register(&job, "text", SchemaKind::Json, &FIRST.replace("\"integer\", \"minimum\": 0, \"maximum\": 5000", "\"string\""))?;
    framed(&job, text, &event("\"1\"", ""))?;
    let avro = register(&job, "avro", SchemaKind::Avro, EVENT)?;
    framed(&job, avro, &event("1", ""))?;
    let open = register(&job, "open", SchemaKind::Json, &FIRST.replace("\"battery\": {", "\"more\": {\"$ref\": \"#\"}, \"battery\": {"))?;
    framed(&job, open, &event("1", ""))?;
    send(&job, event("1", "").as_bytes())?;

    let (code, shown) = tenant_command(&job, &["check", "--connect"])?;
    assert_eq!(code, Some(0), "{shown}");
    job.drain()?;

    let expected = [("not-of-schema", 4), ("out-of-range", 1), ("not-json", 1), ("schema-refused", 3), ("not-framed", 1)];
    assert_eq!(job.dead_letters()?, expected.map(|(reason, count)| (reason.to_owned(), count)).into());
    let letters = job.read(&job.topic("dead-letters"))?;
    let details: Vec<&str> = letters.iter().map(|letter| letter.headers["testudo-detail"].as_str()).collect();
    let has = |part: &str| details.iter().any(|detail| detail.contains(part));
    assert!(has("(at `battery`)") && has("(at `site`)"), "{details:#?}");
    assert!(has("it is a schema of Avro, the source declares JSON Schema"), "{details:#?}");
    assert!(has("`battery` cannot be read") && has("at `#/properties/more`"), "{details:#?}");
    assert_eq!(job.documents("events")?, 20);
    assert_eq!(job.read(&job.topic("alert"))?.len(), 10);
    let (code, shown) = tenant_command(&job, &["schema", "show", &second.to_string()])?;
    assert_eq!(code, Some(0), "{shown}");
    assert!(shown.contains("read as the Avro schema") && shown.contains("timestamp-micros"), "{shown}");
    job.audit()
}

/// Has the reader take a level that is not there for null: a JSON Schema's optional property may be absent.
fn make_level_nullable(job: &Job<'_>) -> Result<(), Failed> {
    let nullable = r#"{"name":"level","type":["null","double"],"default":null}"#;
    let reader = EVENT.replace(r#"{"name":"level","type":"double","default":0.5}"#, nullable);
    Ok(std::fs::write(job.path(&format!("avro/{}-value.avsc", job.topic("in"))), reader)?)
}

/// A schema that refers to one of another subject, which refers to a third; and one whose reference is gone.
fn resting(stack: &Stack) -> Result<(), Failed> {
    let job = job(stack, "json-schema", "")?;
    make_level_nullable(&job)?;
    let draft = r#""$schema": "http://json-schema.org/draft-07/schema#""#;
    let names = format!(r#"{{{draft}, "definitions": {{"short": {{"type": "string", "maxLength": 5}}}}}}"#);
    register(&job, "names", SchemaKind::Json, &names)?;
    let site = format!(r#"{{{draft}, "allOf": [{{"$ref": "names.json#/definitions/short"}}], "type": "string"}}"#);
    register_resting(&job, "site", SchemaKind::Json, &site, &[("names.json", "names")])?;
    let text = FIRST.replace("\"properties\": {", "\"properties\": {\"site\": {\"$ref\": \"site.json\"},");
    let id = register_resting(&job, "in", SchemaKind::Json, &text, &[("site.json", "site")])?;
    for _ in 0..3 {
        framed(&job, id, &event("1900", r#", "site": "barn""#))?;
        framed(&job, id, &event("2900", r#", "site": "too long""#))?;
    }
    let unnamed = register(&job, "unnamed", SchemaKind::Json, &text.replace("site.json", "nowhere.json"))?;
    framed(&job, unnamed, &event("2900", r#", "site": "barn""#))?;
    // What nobody has registered; a registry that refuses that itself leaves nothing to meet.
    let never = register_resting(&job, "of-never", SchemaKind::Json, &text.replace("site.json", "never.json"), &[("never.json", "never")]);
    let missing = usize::from(never.is_ok());
    if let Ok(never) = never {
        framed(&job, never, &event("2900", r#", "site": "barn""#))?;
    }

    let (code, shown) = tenant_command(&job, &["schema", "check"])?;
    assert_eq!(code, Some(0), "{shown}");
    assert!(shown.contains("rests on site.json (subject ") && shown.contains("rests on names.json (subject "), "{shown}");
    job.drain()?;

    let letters = job.read(&job.topic("dead-letters"))?;
    let of = |reason: &str| -> Vec<&str> {
        let is_it = |letter: &&Seen| letter.headers["testudo-reason"] == reason;
        letters.iter().filter(is_it).map(|letter| letter.headers["testudo-detail"].as_str()).collect()
    };
    assert_eq!((of("not-of-schema").len(), of("schema-refused").len(), of("unknown-schema-id").len()), (3, 1, missing), "{letters:?}");
    assert!(of("not-of-schema")[0].contains("longer than 5") && of("not-of-schema")[0].contains("(at `site`)"), "{letters:?}");
    assert!(of("schema-refused")[0].contains("`$ref` to `nowhere.json`"), "{letters:?}");
    assert!(of("unknown-schema-id").iter().all(|detail| detail.contains("rests on never.json (subject ")), "{letters:?}");
    assert_eq!(job.documents("events")?, 3);
    job.audit()
}

fn held(stack: &Stack) -> Result<(), Failed> {
    let job = job(stack, "json-schema", "on_new_schema = \"hold\"")?;
    make_level_nullable(&job)?;
    let first = register(&job, "in", SchemaKind::Json, FIRST)?;
    framed(&job, first, &event("2900", ""))?;
    job.drain()?;
    assert_eq!(job.committed()?, 1);

    let second = register(&job, "in", SchemaKind::Json, &second())?;
    for _ in 0..5 {
        framed(&job, first, &event("2900", ""))?;
        framed(&job, second, &event("1900", r#", "site": "field""#))?;
    }
    let running = job.start("one", &[("TESTUDO__REGISTRY__WATCH_MS", "200")])?;
    job.wait_committed(2)?;
    wait_for("a hold in the log", || Ok(running.log().contains("writer schema held")))?;
    std::thread::sleep(std::time::Duration::from_secs(2));
    assert_eq!(job.committed()?, 2, "up to the first record of the new version");
    let (code, shown) = tenant_command(&job, &["schema", "accept", &second.to_string(), "--who", "ada"])?;
    assert_eq!(code, Some(0), "{shown}");
    job.wait_committed(11)?;
    running.terminate()?;

    assert_eq!(job.dead_letters()?, BTreeMap::new());
    job.drain()?;
    assert_eq!(job.documents("events")?, 11);
    job.audit()
}

/// The zoo's fleet in each format, with wrong records: as many dead letters as the emulator made, and a clean audit.
fn emulated(stack: &Stack) -> Result<(), Failed> {
    for format in ["json", "json-schema"] {
        let file = ZOO.replace("key = '\"dev-id\"'", &format!("format = \"{format}\"\nkey = '\"dev-id\"'"));
        let job = Job::new(stack, &file, &[("NAME-in", READING)])?;
        job.create_topic(&job.topic("in"), 2)?;
        let schema = job.path(&format!("avro/{}-value.avsc", job.topic("in"))).display().to_string();
        let report = job.path("report.json").display().to_string();
        let mut arguments = vec!["emulate", "--schema", &schema, "--format", format, "--records", "2000", "--report", &report];
        for share in ["truncated=0.01", "missing-field=0.01", "wrong-type=0.01", "non-finite=0.01", "null-key=0.01"] {
            arguments.extend(["--wrong", share]);
        }
        if format == "json-schema" {
            arguments.extend(["--wrong", "no-magic=0.01", "--wrong", "unknown-id=0.01", "--wrong", "json=0.01"]);
        }
        let topic = job.topic("in");
        arguments.extend(["--topic", &topic]);
        let output = job.command(&arguments).output()?;
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));

        job.drain()?;

        let report: serde_json::Value = serde_json::from_slice(&std::fs::read(&report)?)?;
        let wrong: u64 = report["clients"][0]["wrong"].as_object().ok_or("counts")?.values().filter_map(serde_json::Value::as_u64).sum();
        let letters: usize = job.dead_letters()?.values().sum();
        assert!(wrong > 50, "{report}");
        assert_eq!(letters as u64, wrong, "{:?} {report}", job.dead_letters()?);
        assert_eq!(job.documents("tortoise")?, 2_000 - wrong);
        job.audit()?;
    }
    Ok(())
}
