//! Operators' mistakes: topics deleted, cut, widened, groups set elsewhere. Each is refused with what to do, and what to do works; or it is
//! lived with, and told.

use std::fs;
use std::time::Duration;

use libtest_mimic::Failed;
use mongodb::bson::doc;
use rdkafka::admin::{AdminClient, AdminOptions, AlterConfig, NewPartitions, ResourceSpecifier};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use testudo::avro::{SchemaId, frame};
use testudo::kafka::partitioner::Partitioner;
use testudo::stack::Stack;

use crate::Test;
use crate::damage::{aside, asked, ran, refused, without_mongo};
use crate::job::{Instance, Job, PATIENCE, READING, wait_for};
use crate::wire::Wire;

pub const TESTS: &[Test] = &[
    ("f44_f45_a_changelog_deleted_or_cut_is_refused", changelog_lost),
    ("f46_a_recreated_input_topic_is_refused", input_recreated),
    ("f47_added_partitions_are_refused_with_the_numbers", partitions_added),
    ("f46_an_input_topic_deleted_at_work_is_missed_and_its_successor_refused", input_deleted_at_work),
    ("f47_partitions_added_at_work_end_the_tenant_with_the_numbers", partitions_added_at_work),
    ("f47_records_of_a_partition_added_at_work_become_documents_without_windows", partition_added_without_windows),
    ("f46_documents_of_a_topic_that_is_made_anew_at_work_are_replaced", topic_made_anew_without_windows),
    ("records_that_retention_takes_from_a_sink_at_work_are_told", sink_overtaken),
    ("a_database_that_dns_does_not_know_keeps_the_sinks_alone_waiting", unknown_database),
    ("f48_c100_a_group_that_was_set_elsewhere_is_refused", group_moved),
    ("reset_begins_again_on_record", reset),
];

const RUN: [&str; 2] = ["run", "--drain"];

/// A tenant without windows.
const EVENTS: &str = r#"
tenant = "NAME"
[source.events]
topics = ["NAME-in"]
key = "id"
[alert.all]
from = "events"
where = "true"
topic = "NAME-alert"
[mongo.events]
from = "events"
"#;

const EVENT: &str = r#"{"type":"record","name":"Event","fields":[{"name":"id","type":"string"}]}"#;

/// 2025-04-08T08:15:00.123Z.
const TIME_MS: i64 = 1_744_100_100_123;

/// A tenant without sinks that has read 1,000 records and left its group.
fn drained<'s>(stack: &'s Stack, partitions: i32) -> Result<Job<'s>, Failed> {
    let job = Job::new(stack, &without_mongo(), &[("NAME-in", READING)])?;
    // A member that has ended would count until its session does.
    let config = fs::read_to_string(job.path("testudo.toml"))?;
    fs::write(job.path("testudo.toml"), format!("{config}[engine]\nstatic_membership = false\n"))?;
    job.create_topic(&job.topic("in"), partitions)?;
    let schema = job.register(&job.topic("in"), READING)?;
    job.emulate(schema, 1, 1_000, None, &[])?;
    job.drain()?;
    Ok(job)
}

fn admin(job: &Job<'_>) -> Result<AdminClient<DefaultClientContext>, Failed> {
    Ok(job.client().create()?)
}

fn changelog(job: &Job<'_>) -> String {
    format!("{}-zoo_analytics-{}-changelog", job.name, job.topic("in"))
}

fn recreate(job: &Job<'_>, topic: &str, partitions: i32) -> Result<(), Failed> {
    for answer in job.block_on(admin(job)?.delete_topics(&[topic], &AdminOptions::new()))? {
        answer.map_err(|(topic, code)| format!("{topic} not deleted: {code}"))?;
    }
    wait_for("the topic to be made again", || Ok(job.create_topic(topic, partitions).is_ok()))
}

/// Deletes the first records of the changelog's partition 0, as a wrong `cleanup.policy` would.
fn cut(job: &Job<'_>) -> Result<(), Failed> {
    let (admin, topic) = (admin(job)?, changelog(job));
    let policy = |policy: &'static str| {
        let change = AlterConfig::new(ResourceSpecifier::Topic(&topic)).set("cleanup.policy", policy);
        job.block_on(admin.alter_configs(&[change], &AdminOptions::new()))
    };
    policy("delete")?;
    delete_before(job, &topic, 2)?;
    policy("compact")?;
    Ok(())
}

/// Deletes the records of partition 0 before an offset.
fn delete_before(job: &Job<'_>, topic: &str, offset: i64) -> Result<(), Failed> {
    let admin = admin(job)?;
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, 0, Offset::Offset(offset))?;
    wait_for("the cut", || {
        let deleted = job.block_on(admin.delete_records(&list, &AdminOptions::new()))?;
        Ok(deleted.elements().iter().all(|element| element.error().is_ok()))
    })
}

fn changelog_lost(stack: &Stack) -> Result<(), Failed> {
    let job = drained(stack, 1)?;
    let state = job.path("state").join(&job.name);
    fs::rename(&state, job.path("copy"))?;
    cut(&job)?;
    refused(&job, &RUN, 5, &["begins at 2, 0 is needed", "--accept-state-loss zoo_analytics"])?;
    fs::remove_dir_all(&state)?;
    // The local state is whole and needs nothing of it.
    fs::rename(job.path("copy"), &state)?;
    job.drain()?;
    job.audit()?;

    recreate(&job, &changelog(&job), 1)?;
    refused(&job, &RUN, 5, &["was deleted and created again", "--accept-state-loss zoo_analytics"])?;
    fs::remove_dir_all(&state)?;
    refused(&job, &RUN, 5, &["knows nothing of it", "--accept-state-loss zoo_analytics"])?;
    refused(&job, &[&RUN[..], &["--accept-state-loss", "nonsense"]].concat(), 2, &["there is no window `nonsense`"])?;
    let (code, text) = ran(&job, &[&RUN[..], &["--accept-state-loss", "all"]].concat())?;
    assert_eq!(code, Some(0), "{text}");
    let events = job.read(&job.topic("events"))?;
    let accepted = |event: &&crate::job::Seen| event.key.as_deref() == Some(b"accept-state-loss");
    assert_eq!(events.iter().filter(accepted).count(), 1, "the loss is on record");
    let schema = job.register(&job.topic("in"), READING)?;
    job.emulate(schema, 2, 100, None, &[])?;
    job.drain()?;

    job.produce(&changelog(&job), 0, Some(b"hello"), Some(b"world"), 1)?;
    fs::remove_dir_all(&state)?;
    refused(&job, &RUN, 5, &["somebody else writes to it"])
}

fn input_recreated(stack: &Stack) -> Result<(), Failed> {
    let job = drained(stack, 1)?;
    recreate(&job, &job.topic("in"), 1)?;
    let schema = job.register(&job.topic("in"), READING)?;
    job.emulate(schema, 2, 2_000, None, &[])?;

    refused(&job, &RUN, 5, &["input topic was deleted and created again", "testudo reset"])?;
    // On an empty disk the changelog tells.
    fs::remove_dir_all(job.path("state"))?;
    refused(&job, &RUN, 5, &["input topic was deleted and created again", "testudo reset"])
}

/// It is not ready while the topic is missing, and ends when another one of that name is there.
fn input_deleted_at_work(stack: &Stack) -> Result<(), Failed> {
    let job = drained(stack, 2)?;
    let topic = job.topic("in");
    let mut running = job.start("one", &[])?;
    wait_for("readiness", || Ok(asked(&running, "/readyz")?.contains("200 OK")))?;

    for answer in job.block_on(admin(&job)?.delete_topics(&[&topic], &AdminOptions::new()))? {
        answer.map_err(|(topic, code)| format!("{topic} not deleted: {code}"))?;
    }
    wait_for("/readyz to miss the topic", || {
        let page = asked(&running, "/readyz?verbose")?;
        Ok(page.contains("503") && page.contains(&topic))
    })?;
    wait_for("the topic to be made again", || Ok(job.create_topic(&topic, 2).is_ok()))?;
    let schema = job.register(&topic, READING)?;
    job.emulate(schema, 2, 2_000, None, &[])?;

    ended_with(&mut running, &["input topic was deleted and created again", "testudo reset"])
}

fn partitions_added_at_work(stack: &Stack) -> Result<(), Failed> {
    let job = drained(stack, 2)?;
    let mut running = job.start("one", &[])?;
    wait_for("readiness", || Ok(asked(&running, "/readyz")?.contains("200 OK")))?;

    widen(&job)?;

    ended_with(&mut running, &["had 2 partitions and has 3 now", "KEY-1", "testudo reset"])
}

/// An instance must end with code 5 and have said these words.
fn ended_with(running: &mut Instance, words: &[&str]) -> Result<(), Failed> {
    let (status, log) = (running.wait()?, running.log());
    match status.code() == Some(5) && words.iter().all(|words| log.contains(words)) {
        true => Ok(()),
        false => Err(format!("it ended with {status}, not 5 and {words:?}:\n{log}").into()),
    }
}

/// Gives the input a third partition.
fn widen(job: &Job<'_>) -> Result<(), Failed> {
    let topic = job.topic("in");
    for answer in job.block_on(admin(job)?.create_partitions(&[NewPartitions::new(&topic, 3)], &AdminOptions::new()))? {
        answer.map_err(|(topic, code)| format!("{topic} not widened: {code}"))?;
    }
    let has_grown = || -> Result<bool, Failed> {
        let consumer: BaseConsumer = job.client().create()?;
        let metadata = consumer.fetch_metadata(Some(&topic), PATIENCE)?;
        Ok(metadata.topics().iter().all(|topic| topic.partitions().len() == 3))
    };
    wait_for("three partitions", has_grown)
}

fn partitions_added(stack: &Stack) -> Result<(), Failed> {
    let job = drained(stack, 2)?;

    widen(&job)?;

    refused(&job, &RUN, 5, &["had 2 partitions and has 3 now", "KEY-1", "testudo reset"])
}

/// A tenant without windows, whose clients notice soon what becomes of its topic.
fn events(stack: &Stack, partitions: i32) -> Result<(Job<'_>, SchemaId), Failed> {
    let job = Job::new(stack, EVENTS, &[("NAME-in", EVENT)])?;
    let config = fs::read_to_string(job.path("testudo.toml"))?;
    let often = "[kafka.consumer]\n\"topic.metadata.refresh.interval.ms\" = \"1000\"\n";
    fs::write(job.path("testudo.toml"), config.replacen("[kafka.consumer]\n", often, 1))?;
    job.create_topic(&job.topic("in"), partitions)?;
    let schema = job.register(&job.topic("in"), EVENT)?;
    Ok((job, schema))
}

fn send_event(job: &Job<'_>, schema: SchemaId, partition: i32, id: &str) -> Result<(), Failed> {
    // A short text is a byte with twice its length, and its bytes.
    let value = [&frame::prefix(schema)[..], &[2 * id.len() as u8], id.as_bytes()].concat();
    job.produce(&job.topic("in"), partition, Some(id.as_bytes()), Some(&value), TIME_MS)
}

/// Keys that have moved into an old partition are placed by the old number until a restart; so all lie in the new one.
fn partition_added_without_windows(stack: &Stack) -> Result<(), Failed> {
    let (job, schema) = events(stack, 2)?;
    let running = job.start("one", &[])?;
    wait_for("readiness", || Ok(asked(&running, "/readyz")?.contains("200 OK")))?;

    widen(&job)?;
    let ids = (0..).map(|number| format!("d{number}"));
    for id in ids.filter(|id| Partitioner::Murmur2.place(id.as_bytes(), 3) == Some(2)).take(20) {
        send_event(&job, schema, 2, &id)?;
    }

    wait_for("the documents", || Ok(job.documents("events")? == 20))?;
    job.wait_committed(20)?;
    running.terminate()?;
    job.drain()?;
    job.audit()
}

/// The new topic is shorter than the old one: also a sink that has not seen it deleted has to begin at its first record.
fn topic_made_anew_without_windows(stack: &Stack) -> Result<(), Failed> {
    let (job, schema) = events(stack, 1)?;
    for number in 0..10 {
        send_event(&job, schema, 0, &format!("d{number}"))?;
    }
    let running = job.start("one", &[])?;
    wait_for("the first documents", || Ok(job.documents("events")? == 10))?;
    let documents = job.collection("events")?;
    let one = job.block_on(async { documents.find_one(doc! {}).await })?.ok_or("a document")?;
    let old = one.get_document("source")?.get_str("topic_id")?;

    recreate(&job, &job.topic("in"), 1)?;
    for number in 0..5 {
        send_event(&job, schema, 0, &format!("d{number}"))?;
    }

    let new = doc! { "source.topic_id": { "$ne": old } };
    wait_for("the new documents", || Ok(job.block_on(async { documents.count_documents(new.clone()).await })? == 5))?;
    running.kill()
}

/// Its database does not answer meanwhile; then it goes on behind what is gone.
fn sink_overtaken(stack: &Stack) -> Result<(), Failed> {
    let job = Job::zoo(stack, 1)?;
    let schema = job.register(&job.topic("in"), READING)?;
    let uri = stack.mongo_uri();
    let port = uri.split("127.0.0.1:").nth(1).and_then(|rest| rest.split('/').next()).ok_or("a port")?;
    let wire = Wire::to(port.parse()?)?;
    let uri = wire.instead_of(&uri);
    let small = [("TESTUDO__MONGO__BATCH_STATEMENTS_MAX", "10"), ("TESTUDO__MONGO__WRITE_TIMEOUT", "2s")];
    let running = job.start("one", &[small[0], small[1], ("TESTUDO__MONGO__URI", uri.as_str())])?;
    wait_for("readiness", || Ok(asked(&running, "/readyz")?.contains("200 OK")))?;

    wire.hold();
    job.emulate(schema, 1, 1_000, None, &[])?;
    job.wait_committed(1_000)?;
    // Long before an attempt times out the sink lets go of what it has fetched ahead.
    let waits = format!("failed to write to {}.tortoise", job.database());
    wait_for("the sink to wait", || Ok(asked(&running, "/readyz?verbose")?.contains(&waits)))?;
    delete_before(&job, &job.topic("in"), 500)?;
    wire.carry_on();

    wait_for("the loss to be told", || Ok(running.log().contains("records deleted before they reached MongoDB")))?;
    wait_for("the rest", || Ok(job.committed_of(&format!("{}-mongo-tortoise", job.name))? == 1_000))?;
    let documents = job.documents("tortoise")?;
    assert!((500..1_000).contains(&documents), "{documents} documents");
    running.terminate()
}

/// The name is too long for any DNS, so none is asked.
fn unknown_database(stack: &Stack) -> Result<(), Failed> {
    let job = Job::zoo(stack, 1)?;
    let schema = job.register(&job.topic("in"), READING)?;
    job.emulate(schema, 1, 500, None, &[])?;
    let uri = format!("mongodb+srv://{}.example.org", "a".repeat(64));

    let running = job.start("one", &[("TESTUDO__MONGO__URI", uri.as_str())])?;

    job.wait_committed(500)?;
    let why = "failed to look up the servers of mongo.uri";
    wait_for("/readyz to say why", || Ok(asked(&running, "/readyz?verbose")?.contains(why)))?;
    running.terminate()?;
    job.drain()?;
    job.audit()
}

/// Sets the group of a tenant that stands still.
fn set_group(job: &Job<'_>, position: i64) -> Result<(), Failed> {
    let mut client = job.client();
    client.set("group.id", &job.name).set("enable.auto.commit", "false");
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(&job.topic("in"), 0, Offset::Offset(position))?;
    wait_for("the group to be set", || {
        let consumer: BaseConsumer = client.create()?;
        Ok(consumer.commit(&list, CommitMode::Sync).is_ok())
    })
}

fn group_moved(stack: &Stack) -> Result<(), Failed> {
    let job = drained(stack, 1)?;
    set_group(&job, 400)?;
    refused(&job, &RUN, 5, &["the state stands at 1000, the group at 400", "KAFKA-20734", "set the group to 1000"])?;
    set_group(&job, 1_000)?;
    let schema = job.register(&job.topic("in"), READING)?;
    job.emulate(schema, 2, 1_000, None, &[])?;
    set_group(&job, 1_500)?;
    refused(&job, &RUN, 5, &["stands at 1000, the group at 1500", "testudo skip"])?;
    // The last process may count as a member until its session has ended.
    wait_for("the end of the group", || {
        let answers = job.block_on(admin(&job)?.delete_groups(&[&job.name], &AdminOptions::new()))?;
        Ok(answers.iter().all(Result::is_ok))
    })?;
    refused(&job, &RUN, 5, &["the group at no position", "its offsets expired"])?;

    set_group(&job, 1_000)?;
    job.drain()?;
    job.audit()
}

fn reset(stack: &Stack) -> Result<(), Failed> {
    let job = drained(stack, 2)?;
    let tenant = job.path("tenants/tenant.toml").display().to_string();
    let running = job.start("one", &[])?;
    wait_for("readiness", || Ok(asked(&running, "/readyz")?.contains("200 OK")))?;
    refused(&job, &["reset", &tenant, "--yes"], 6, &["stop it first"])?;
    running.terminate()?;
    refused(&job, &["reset", &tenant], 2, &["moved aside", "deleted, created again empty", "give --yes"])?;
    refused(&job, &["reset", &tenant, "--to", "nonsense/0=5", "--yes"], 2, &["names no position"])?;
    assert_eq!(aside(&job, "reset")?, 0, "nothing was done so far");

    let (code, text) = ran(&job, &["reset", &tenant, "--yes"])?;

    assert_eq!(code, Some(0), "{text}");
    assert_eq!(aside(&job, "reset")?, 1);
    assert_eq!(job.committed()?, 0, "the group stands at the first records");
    let read = job.drain()?;
    assert_eq!(read.get("records"), Some(&1_000.0), "everything is read again");
    let events = job.read(&job.topic("events"))?;
    let values = events.iter().filter_map(|event| serde_json::from_slice::<serde_json::Value>(event.value.as_deref()?).ok());
    let values: Vec<serde_json::Value> =
        values.filter(|event| event["event"].as_str().is_some_and(|kind| kind.starts_with("reset"))).collect();
    assert_eq!(values.iter().map(|event| event["event"].as_str().unwrap_or_default()).collect::<Vec<_>>(), ["reset-begun", "reset"]);
    let old: i64 =
        values[1]["detail"]["old_positions"].as_object().ok_or("positions")?.values().filter_map(serde_json::Value::as_i64).sum();
    assert_eq!(old, 1_000, "the old positions are on record");
    // The state is what the input says, on an empty disk too.
    fs::remove_dir_all(job.path("state"))?;
    std::thread::sleep(Duration::from_millis(100));
    job.drain()?;
    Ok(())
}
