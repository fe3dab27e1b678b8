//! New schema versions on the real stack: two producers in turn under each policy, holds that survive restarts, hostile schemas, and a
//! registry in trouble. The audit is right in all of them.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use libtest_mimic::Failed;
use serde_json::{Value, json};
use testudo::avro::SchemaId;
use testudo::clock::SystemClock;
use testudo::kafka::Cluster;
use testudo::schemas::owner::{self, Wish};
use testudo::schemas::record::Decision;
use testudo::schemas::topics::KafkaTopics;
use testudo::stack::Stack;

use crate::Test;
use crate::between::{Between, Trouble, read_request};
use crate::job::{Instance, Job, wait_for};

pub const TESTS: &[Test] = &[
    ("schemas_two_versions_in_turn_are_both_read", in_turn_compatible),
    ("schemas_two_versions_in_turn_the_new_one_refused", in_turn_refused),
    ("schemas_a_hold_survives_a_restart_and_ends_with_the_owner", held),
    ("schemas_two_instances_reach_one_verdict", two_instances),
    ("schemas_of_every_kind_are_read_or_refused", |stack| every_kind(stack, "compatible")),
    ("schemas_of_every_kind_under_the_policy_refuse", |stack| every_kind(stack, "refuse")),
    ("schemas_of_every_kind_under_the_policy_hold", |stack| every_kind(stack, "hold")),
    ("schemas_that_are_hostile_stop_nobody", hostile),
    ("schemas_survive_a_registry_in_trouble", registry_in_trouble),
    ("schemas_are_announced_before_use", announced),
];

/// 2025-04-08T08:15:00.123Z.
const TIME_MS: i64 = 1_744_100_100_123;

const FIRST: &str = r#"{"type":"record","name":"Event","namespace":"test","fields":[
    {"name":"id","type":"string"},
    {"name":"at","type":{"type":"long","logicalType":"timestamp-millis"}},
    {"name":"battery","type":"int"}]}"#;

const SECOND: &str = r#"{"type":"record","name":"Event","namespace":"test","fields":[
    {"name":"id","type":"string"},
    {"name":"at","type":{"type":"long","logicalType":"timestamp-millis"}},
    {"name":"site","type":"string","default":"here"},
    {"name":"battery","type":"int"}]}"#;

const TENANT: &str = r#"
tenant = "NAME"
[source.events]
topics = ["NAME-in"]
key = "id"
event_time = "at"
partitioner = "none"
on_new_schema = "POLICY"
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

/// A tenant with this policy whose first version is in use, so that everything else is new.
fn job<'s>(stack: &'s Stack, policy: &str, partitions: i32) -> Result<(Job<'s>, SchemaId), Failed> {
    let job = Job::new(stack, &TENANT.replace("POLICY", policy), &[("NAME-in", FIRST)])?;
    job.create_topic(&job.topic("in"), partitions)?;
    let first = job.register(&job.topic("in"), FIRST)?;
    send(&job, 0, first, false, 2_900)?;
    job.drain()?;
    assert_eq!(job.committed()?, 1);
    Ok((job, first))
}

fn long(value: i64) -> Vec<u8> {
    let mut left = ((value << 1) ^ (value >> 63)) as u64;
    let mut bytes = Vec::new();
    while left >= 0x80 {
        bytes.push(left as u8 | 0x80);
        left >>= 7;
    }
    bytes.push(left as u8);
    bytes
}

fn text(value: &str) -> Vec<u8> {
    [long(value.len() as i64), value.as_bytes().to_vec()].concat()
}

/// A record of the first version, or of the second.
fn send(job: &Job<'_>, partition: i32, id: SchemaId, is_second: bool, battery: i64) -> Result<(), Failed> {
    let site = if is_second { text("there") } else { Vec::new() };
    let datum = [text("a"), long(TIME_MS), site, long(battery)].concat();
    send_datum(job, partition, id, &datum)
}

fn send_datum(job: &Job<'_>, partition: i32, id: SchemaId, datum: &[u8]) -> Result<(), Failed> {
    let value = [&testudo::avro::frame::prefix(id)[..], datum].concat();
    job.produce(&job.topic("in"), partition, Some(b"a"), Some(&value), TIME_MS)
}

/// `count` records of each version, in turn.
fn in_turn(job: &Job<'_>, partition: i32, ids: [SchemaId; 2], count: usize) -> Result<(), Failed> {
    for _ in 0..count {
        send(job, partition, ids[0], false, 2_900)?;
        send(job, partition, ids[1], true, 1_900)?;
    }
    Ok(())
}

fn in_turn_compatible(stack: &Stack) -> Result<(), Failed> {
    let (job, first) = job(stack, "compatible", 1)?;
    let second = job.register(&job.topic("in"), SECOND)?;
    in_turn(&job, 0, [first, second], 10)?;

    job.drain()?;

    assert_eq!(job.dead_letters()?, BTreeMap::new());
    assert_eq!(job.documents("events")?, 21);
    assert_eq!(job.read(&job.topic("alert"))?.len(), 10, "the new version's values are read");
    job.audit()
}

fn in_turn_refused(stack: &Stack) -> Result<(), Failed> {
    let (job, first) = job(stack, "refuse", 1)?;
    let second = job.register(&job.topic("in"), SECOND)?;
    in_turn(&job, 0, [first, second], 10)?;

    job.drain()?;

    assert_eq!(job.dead_letters()?, BTreeMap::from([("schema-refused".to_owned(), 10)]));
    let letters = job.read(&job.topic("dead-letters"))?;
    let headers = &letters[0].headers;
    assert_eq!(headers["testudo-schema-id"], second.to_string());
    assert_eq!(headers["testudo-reader-schema"].len(), 16, "{headers:?}");
    assert!(headers["testudo-detail"].contains("on_new_schema"), "{headers:?}");
    assert_eq!(job.documents("events")?, 11);
    job.audit()
}

/// Only the partition with such a record waits; killed in between, it goes on waiting; accepted, nothing is lost.
fn held(stack: &Stack) -> Result<(), Failed> {
    let (job, first) = job(stack, "hold", 2)?;
    let second = job.register(&job.topic("in"), SECOND)?;
    let running = job.start("one", &FAST_WATCH)?;
    in_turn(&job, 0, [first, second], 10)?;
    (0..5).try_for_each(|_| send(&job, 1, first, false, 2_900))?;

    job.wait_committed(7)?;
    wait_for("a hold in the log", || Ok(running.log().contains("writer schema held")))?;
    let ready = ready(&job, &running)?;
    assert!(ready.contains(&format!("schema {second}")) && ready.contains("waits for its owner"), "{ready}");
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(job.committed()?, 7, "the first record before the new version, five of the other partition, one of before");
    assert_eq!(running.log().matches("writer schema held").count(), 1, "one warning, not one for each record");
    running.kill()?;

    let again = job.start("one", &FAST_WATCH)?;
    wait_for("a hold in the log", || Ok(again.log().contains("writer schema held")))?;
    assert_eq!(job.committed()?, 7, "the hold holds after a restart");
    decide(&job, second, Decision::Accepted)?;
    job.wait_committed(26)?;
    again.terminate()?;

    job.drain()?;
    assert_eq!(job.dead_letters()?, BTreeMap::new());
    assert_eq!(job.documents("events")?, 26);
    assert_eq!(job.read(&job.topic("alert"))?.len(), 10);
    job.audit()
}

/// Two instances start at once and meet the new version at once, each in a partition of its own: one verdict. The owner refuses.
fn two_instances(stack: &Stack) -> Result<(), Failed> {
    let (job, first) = job(stack, "hold", 2)?;
    let second = job.register(&job.topic("in"), SECOND)?;
    in_turn(&job, 0, [first, second], 5)?;
    in_turn(&job, 1, [first, second], 5)?;
    let instances = [job.start("one", &FAST_WATCH)?, job.start("two", &FAST_WATCH)?];

    job.wait_committed(3)?;
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(job.committed()?, 3, "each partition waits at its first record of the new version");
    decide(&job, second, Decision::Refused)?;
    job.wait_committed(21)?;
    for instance in instances {
        instance.terminate()?;
    }

    let verdicts = verdicts(&job, second)?;
    let words: Vec<(&str, &str)> = verdicts.iter().filter_map(|one| Some((one["verdict"].as_str()?, one["by"].as_str()?))).collect();
    assert!(words.starts_with(&[("held", "policy")]) && words.contains(&("refused", "owner")), "{words:?}");
    assert!(!words.contains(&("accepted", "policy")), "{words:?}");
    assert_eq!(job.dead_letters()?, BTreeMap::from([("schema-refused".to_owned(), 10)]));
    job.drain()?;
    job.audit()
}

/// Under `hold` the owner decides before the first record is met; that goes before the policy.
fn every_kind(stack: &Stack, policy: &str) -> Result<(), Failed> {
    let (job, first) = job(stack, policy, 1)?;
    let elsewhere = job.topic("elsewhere");
    let unreadable = job.register(&elsewhere, &FIRST.replace("\"int\"", "\"string\""))?;
    send_datum(&job, 0, unreadable, &[text("a"), long(TIME_MS), text("full")].concat())?;
    let recursive =
        FIRST.replace(r#"{"name":"battery","type":"int"}"#, r#"{"name":"battery","type":"int"},{"name":"next","type":["null","Event"]}"#);
    let recursive = job.register(&job.topic("recursive"), &recursive)?;
    send_datum(&job, 0, recursive, &[text("a"), long(TIME_MS), long(2_900), long(0)].concat())?;
    send(&job, 0, SchemaId(987_654), false, 2_900)?;
    // Deleted for good: what its id still says is the registry's matter, and the audit must see it as the engine did. Nobody else may
    // register the same, which has the same id there.
    let gone = job.register(&job.topic("gone"), &SECOND.replace("site", &format!("place_{policy}")))?;
    for query in ["", "?permanent=true"] {
        delete(&job, &format!("{}-value{query}", job.topic("gone")))?;
    }
    send(&job, 0, gone, true, 2_900)?;
    // Soft-deleted and registered again.
    delete(&job, &format!("{}-value/versions/1", job.topic("in")))?;
    send(&job, 0, first, false, 2_900)?;
    let again = job.register(&job.topic("in"), FIRST)?;
    send(&job, 0, again, false, 2_900)?;
    let is_hold = policy == "hold";
    for (id, decision) in [(unreadable, Decision::Refused), (recursive, Decision::Accepted), (gone, Decision::Accepted)] {
        if is_hold {
            decide(&job, id, decision)?;
        }
    }

    job.drain()?;

    assert_eq!(job.committed()?, 7);
    let letters = job.dead_letters()?;
    let unknown = letters.get("unknown-schema-id").copied().unwrap_or(0);
    assert!([1, 2].contains(&unknown), "{letters:?}");
    // What is new and can be read, where that is refused: the recursive one, and the one that is gone if its id still says something.
    let refused = if policy == "refuse" { 1 + 1 + (2 - unknown) } else { 1 };
    assert_eq!(letters.get("schema-refused"), Some(&refused), "{letters:?}");
    assert_eq!(job.documents("events")?, 7 - (refused + unknown) as u64);
    let letters = job.read(&job.topic("dead-letters"))?;
    let detail = letters.iter().map(|letter| &letter.headers["testudo-detail"]).find(|detail| detail.contains("battery"));
    assert!(detail.is_some_and(|detail| detail.contains("written as string")), "the field is named: {detail:?}");
    job.audit()
}

/// C15 and its kin: what a stranger registers is refused within a second of being met, and good records pass.
fn hostile(stack: &Stack) -> Result<(), Failed> {
    let (job, first) = job(stack, "compatible", 1)?;
    let nested = format!("{}\"int\"{}", r#"{"type":"array","items":"#.repeat(120), "}".repeat(120));
    let deep = FIRST.replace(r#""type":"int""#, &format!(r#""type":{nested}"#));
    let fields: Vec<String> = (0..11_000).map(|at| format!(r#"{{"name":"f{at}","type":"int"}}"#)).collect();
    let wide = format!(r#"{{"type":"record","name":"Event","namespace":"test","fields":[{}]}}"#, fields.join(","));
    let long_text = FIRST.replace(r#""name":"battery""#, &format!(r#""doc":"{}","name":"battery""#, "x".repeat(1_100_000)));
    let mut refused = 0;
    for (name, schema) in [("deep", deep), ("wide", wide), ("long", long_text)] {
        // Whatever the registry refuses by itself cannot be met.
        if let Ok(id) = job.register(&job.topic(name), &schema) {
            send_datum(&job, 0, id, &[text("a"), long(TIME_MS), long(0)].concat())?;
            refused += 1;
        }
    }
    assert!(refused > 0, "the registry takes none of them");
    send(&job, 0, first, false, 2_900)?;

    let began = Instant::now();
    job.drain()?;

    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
    assert_eq!(job.dead_letters()?, BTreeMap::from([("schema-refused".to_owned(), refused)]));
    assert_eq!(job.documents("events")?, 2);
    job.audit()
}

/// Slow, overloaded, broken, cut off: the new version's records wait, nothing is refused, and all is read when the registry is well.
fn registry_in_trouble(stack: &Stack) -> Result<(), Failed> {
    let (job, first) = job(stack, "compatible", 1)?;
    let second = job.register(&job.topic("in"), SECOND)?;
    let between = Between::start(&stack.registry_url())?;
    let running =
        job.start("one", &[("TESTUDO__REGISTRY__URL", between.url.as_str()), FAST_WATCH[0], ("TESTUDO__REGISTRY__REQUEST_TIMEOUT", "1s")])?;
    job.wait_committed(1)?;
    wait_for("a running worker", || Ok(running.log().contains("verdicts on schemas read")))?;
    for trouble in [Trouble::Status429, Trouble::Status500, Trouble::Status503, Trouble::Half, Trouble::Slow] {
        between.meet(trouble);
        std::thread::sleep(Duration::from_millis(300));
    }
    in_turn(&job, 0, [first, second], 10)?;
    std::thread::sleep(Duration::from_secs(3));
    between.meet(Trouble::None);

    job.wait_committed(21)?;
    running.terminate()?;
    assert_eq!(job.dead_letters()?, BTreeMap::new());
    job.drain()?;
    job.audit()
}

/// The owner hears of a version that no record uses yet: once, on the events topic and by webhook.
fn announced(stack: &Stack) -> Result<(), Failed> {
    let (job, _) = job(stack, "hold", 1)?;
    let hook = Hook::start()?;
    let running = job.start("one", &[FAST_WATCH[0], ("TESTUDO__EVENTS__WEBHOOK_URL", hook.url.as_str())])?;
    wait_for("verdicts read", || Ok(running.log().contains("verdicts on schemas read")))?;
    let second = job.register(&job.topic("in"), SECOND)?;

    wait_for("a post", || Ok(!hook.posts.lock().expect("not poisoned").is_empty()))?;
    std::thread::sleep(Duration::from_secs(2));
    let posts = hook.posts.lock().expect("not poisoned").clone();
    running.terminate()?;

    assert_eq!(posts.len(), 1, "{posts:?}");
    let (head, body) = posts[0].split_once("\r\n\r\n").ok_or("a request")?;
    let posted: Value = serde_json::from_str(body)?;
    assert!(head.contains(&format!("testudo-event-id: {}", posted["id"].as_str().unwrap_or_default())), "{head}");
    assert_eq!((&posted["verdict"], &posted["schema_id"], &posted["version"]), (&json!("held"), &json!(second.0), &json!(2)));
    assert!(posted["changes"].to_string().contains("site"), "{posted}");
    assert!(posted["rule"]["level"].is_string(), "{posted}");
    let events = job.read(&job.topic("events"))?;
    let of_schema: Vec<Value> = events.iter().filter_map(|event| serde_json::from_slice(event.value.as_deref()?).ok()).collect();
    assert_eq!(of_schema.iter().filter(|event| event["kind"] == "schema-version").count(), 1, "{of_schema:?}");
    Ok(())
}

const FAST_WATCH: [(&str, &str); 1] = [("TESTUDO__REGISTRY__WATCH_MS", "300")];

fn delete(job: &Job<'_>, path: &str) -> Result<(), Failed> {
    let url = format!("{}/subjects/{path}", job.stack.registry_url());
    let status = job.block_on(async { reqwest::Client::new().delete(url).send().await })?.status();
    match status.is_success() {
        true => Ok(()),
        false => Err(format!("{path} was not deleted: {status}").into()),
    }
}

/// The owner's decision, as the command line makes it.
fn decide(job: &Job<'_>, id: SchemaId, decision: Decision) -> Result<(), Failed> {
    let runtime = tokio::runtime::Runtime::new()?;
    let settings = testudo::kafka::Settings { bootstrap: job.stack.bootstrap().to_owned(), ..Default::default() };
    let clock = SystemClock::shared();
    let cluster = Cluster::new(settings.clone(), "owner", Duration::from_secs(10), clock.clone(), runtime.handle().clone());
    let mut checked =
        testudo::tenant::tenants(&[job.path("tenants/tenant.toml")], &toml::Table::new()).map_err(|faults| faults.to_string())?;
    let tenant = checked.tenants.remove(0);
    let mut topics = KafkaTopics::new(&tenant, Arc::new(cluster), settings, clock.clone());
    let before = owner::read(&mut topics, Duration::from_secs(20), &*clock)?;
    let key = owner::key_of(&tenant, 0, id.0);
    let wish = Wish { decision, who: "test".into(), note: None, when_ms: clock.wall_ms() };
    owner::write(&mut topics, &key, &owner::verdict(before.of(&key), wish))?;
    Ok(())
}

/// What the topic says of a schema, oldest first.
fn verdicts(job: &Job<'_>, id: SchemaId) -> Result<Vec<Value>, Failed> {
    let mut found = Vec::new();
    for record in job.read(&job.topic("schemas"))? {
        let key: Value = serde_json::from_slice(record.key.as_deref().unwrap_or_default())?;
        if key["id"] == id.0 {
            found.push(serde_json::from_slice(record.value.as_deref().unwrap_or_default())?);
        }
    }
    Ok(found)
}

/// The answer of `/readyz`.
fn ready(job: &Job<'_>, running: &Instance) -> Result<String, Failed> {
    let log = running.log();
    let line = log.lines().find(|line| line.contains("http listening")).ok_or("no http")?;
    let address = line.split("127.0.0.1:").nth(1).map(|rest| rest.chars().take_while(char::is_ascii_digit).collect::<String>());
    let url = format!("http://127.0.0.1:{}/readyz", address.ok_or("no port")?);
    let mut answer = String::new();
    wait_for("a held schema in /readyz", || {
        answer = job.block_on(async { reqwest::get(&url).await?.text().await })?;
        Ok(answer.contains("waits for its owner"))
    })?;
    Ok(answer)
}

/// Takes posts, and refuses the first.
struct Hook {
    url: String,
    posts: Arc<Mutex<Vec<String>>>,
}

impl Hook {
    fn start() -> Result<Self, Failed> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let url = format!("http://{}/hook", listener.local_addr()?);
        let posts = Arc::new(Mutex::new(Vec::new()));
        let taken = posts.clone();
        std::thread::spawn(move || {
            for (number, mut stream) in listener.incoming().flatten().enumerate() {
                let request = read_request(&mut stream).unwrap_or_default();
                let status = if number == 0 { "503 Service Unavailable" } else { "204 No Content" };
                if number > 0 {
                    taken.lock().expect("not poisoned").push(request);
                }
                let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
                stream.write_all(answer.as_bytes()).unwrap_or_default();
            }
        });
        Ok(Self { url, posts })
    }
}
