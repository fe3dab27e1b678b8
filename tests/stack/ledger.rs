//! The ledger on the real stack: a job's transactions are all in it, and what is planted into topics and collections is found by it.

use std::time::Instant;

use libtest_mimic::Failed;
use mongodb::bson::{Document, doc};
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use testudo::emulator::Wrong;
use testudo::ledger::Transaction;
use testudo::stack::Stack;

use crate::Test;
use crate::damage::refused;
use crate::job::{Job, PATIENCE, READING, SMALL_EPOCHS, Seen, ZOO, wait_for};

pub const TESTS: &[Test] = &[
    ("the_ledger_has_every_transaction_of_crashed_and_living_workers", whole),
    ("the_ledger_audits_beside_a_service_at_work", beside),
    ("the_ledger_finds_records_lost_doubled_altered_and_added", planted_records),
    ("the_ledger_finds_stale_missing_and_surplus_documents", planted_documents),
    ("both_audits_find_what_is_wrong_with_documents_of_alerts", planted_alerts),
    ("without_a_ledger_there_is_none_and_the_audit_says_so", switched_off),
];

/// Runs the audit by the ledger: exit code and report.
fn audited(job: &Job<'_>, arguments: &[&str]) -> Result<(Option<i32>, String), Failed> {
    let output = job.command(&["audit", "--ledger"]).args(arguments).output()?;
    let (found, log) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    Ok((output.status.code(), format!("{found}\n{log}")))
}

fn must_be_clean(job: &Job<'_>, arguments: &[&str]) -> Result<String, Failed> {
    match audited(job, arguments)? {
        (Some(0), report) => Ok(report),
        (code, report) => Err(format!("the audit by the ledger ended with {code:?}:\n{report}").into()),
    }
}

/// The audit must find something, and its report must hold all of `words`.
fn must_find(job: &Job<'_>, arguments: &[&str], what: &str, words: &[&str]) -> Result<(), Failed> {
    match audited(job, arguments)? {
        (Some(8), report) if words.iter().all(|word| report.contains(word)) => Ok(()),
        (code, report) => Err(format!("{what}: the audit by the ledger ended with {code:?}, wanted 8 and {words:?}:\n{report}").into()),
    }
}

/// Works everything off in small epochs, so that there are many transactions.
fn drain_in_small_epochs(job: &Job<'_>) -> Result<(), Failed> {
    let output = job.command(&["run", "--drain"]).envs(SMALL_EPOCHS).output()?;
    match output.status.success() {
        true => Ok(()),
        false => Err(format!("drain ended with {}:\n{}", output.status, String::from_utf8_lossy(&output.stderr)).into()),
    }
}

fn transactions(job: &Job<'_>) -> Result<Vec<Transaction>, Failed> {
    let records = job.read(&job.topic("ledger"))?;
    records.iter().map(|record| Ok(Transaction::decode(record.value.as_deref().unwrap_or_default())?)).collect()
}

fn whole(stack: &Stack) -> Result<(), Failed> {
    let job = Job::zoo(stack, 4)?;
    let schema = job.register(&job.topic("in"), READING)?;
    job.emulate(schema, 1, 10_000, None, &[(Wrong::Truncated, 0.05)])?;
    let first = job.start("one", &SMALL_EPOCHS)?;
    job.wait_committed(4_000)?;
    first.kill()?;
    job.emulate(schema, 2, 10_000, None, &[(Wrong::Truncated, 0.05)])?;
    let second = job.start("two", &SMALL_EPOCHS)?;
    job.wait_committed(12_000)?;
    second.terminate()?;

    drain_in_small_epochs(&job)?;

    let report = must_be_clean(&job, &[])?;
    assert!(!report.contains("WARNING"), "{report}");
    let transactions = transactions(&job)?;
    let taken: u64 = transactions.iter().flat_map(|transaction| &transaction.inputs).map(|range| range.taken.records).sum();
    assert_eq!(taken, 20_000, "each record in one transaction");
    let first = transactions.first().ok_or("a transaction")?;
    let is_by = |instance: &str| {
        let id = format!("{}-{instance}-", job.name);
        transactions.iter().any(|transaction| transaction.transactional_id.starts_with(&id))
    };
    assert!(is_by("one") && is_by("two"), "both have taken their part");
    assert_eq!((first.program.as_str(), first.schema_ids.as_slice()), (env!("CARGO_PKG_VERSION"), [schema.0].as_slice()));
    job.audit()
}

fn beside(stack: &Stack) -> Result<(), Failed> {
    let job = Job::zoo(stack, 2)?;
    let schema = job.register(&job.topic("in"), READING)?;
    let running = job.start("one", &[])?;
    std::thread::scope(|scope| -> Result<(), Failed> {
        let feeding = scope.spawn(|| job.emulate(schema, 1, 24_000, Some(1_500), &[]).map(|_| ()).map_err(|failed| format!("{failed:?}")));
        job.wait_committed(2_000)?;
        let mut beside = 0;
        while !feeding.is_finished() {
            let before = job.committed()?;
            must_be_clean(&job, &[])?;
            beside += u32::from(job.committed()? > before);
        }
        assert!(beside > 0, "the service was at work while it was audited");
        feeding.join().map_err(|_| "the emulator panicked")??;
        Ok(())
    })?;
    running.terminate()?;
    job.drain()?;
    must_be_clean(&job, &[]).map(|_| ())
}

/// Writes a topic of one partition anew with these records.
fn rewrite(job: &Job<'_>, topic: &str, records: &[Seen]) -> Result<(), Failed> {
    let admin: AdminClient<DefaultClientContext> = job.client().create()?;
    job.block_on(async { admin.delete_topics(&[topic], &AdminOptions::new()).await })?;
    wait_for("the topic to be made anew", || Ok(job.create_topic(topic, 1).is_ok()))?;
    let producer: BaseProducer = job.client().create()?;
    let deadline = Instant::now() + PATIENCE;
    for record in records {
        let mut headers = OwnedHeaders::new();
        for (key, value) in &record.headers {
            headers = headers.insert(Header { key, value: Some(value) });
        }
        let mut wanted = BaseRecord::<[u8], [u8]>::to(topic).partition(0).timestamp(record.timestamp_ms).headers(headers);
        wanted.key = record.key.as_deref();
        wanted.payload = record.value.as_deref();
        while let Err((error, refused)) = producer.send(wanted) {
            if Instant::now() > deadline {
                return Err(error.into());
            }
            wanted = refused;
            producer.poll(std::time::Duration::from_millis(10));
        }
    }
    producer.flush(PATIENCE)?;
    Ok(())
}

/// Copies of the results and the ledger with a fault in each, MongoDB left aside: a copy has other offsets.
fn planted_records(stack: &Stack) -> Result<(), Failed> {
    let job = Job::zoo(stack, 1)?;
    let schema = job.register(&job.topic("in"), READING)?;
    job.emulate(schema, 1, 5_000, None, &[])?;
    drain_in_small_epochs(&job)?;
    must_be_clean(&job, &[])?;

    let (topic, ledger) = (job.topic("analytics"), job.topic("ledger"));
    let (results, transactions) = (job.read(&topic)?, job.read(&ledger)?);
    assert!(transactions.len() >= 8 && results.len() > 20, "{} transactions, {} results", transactions.len(), results.len());
    let only_kafka = ["--no-mongo"];
    rewrite(&job, &topic, &results)?;
    must_be_clean(&job, &only_kafka)?;

    let row = format!("output {topic}");
    let middle = results.len() / 2;
    let mut lost = results.clone();
    lost.remove(middle);
    let mut doubled = results.clone();
    doubled.insert(middle, results[middle].clone());
    let mut altered = results.clone();
    altered[middle].value.as_mut().ok_or("a value")?.push(0);
    for (what, records, kind) in [("lost", &lost, "missing"), ("doubled", &doubled, "extra"), ("altered", &altered, "different")] {
        rewrite(&job, &topic, records)?;
        must_find(&job, &only_kafka, what, &[&format!("{kind:<9}  {row}"), "the first discrepancy is in transaction ledger@"])?;
    }
    rewrite(&job, &topic, &results)?;
    must_be_clean(&job, &only_kafka)?;

    job.produce(&topic, 0, Some(b"somebody"), Some(b"else"), 1)?;
    must_find(&job, &only_kafka, "a record of somebody else", &[&format!("extra      {row}"), "it was not produced by Testudo"])?;
    rewrite(&job, &topic, &results)?;

    let mut gap = transactions.clone();
    gap.remove(transactions.len() / 2);
    rewrite(&job, &ledger, &gap)?;
    must_find(&job, &only_kafka, "a ledger record that is lost", &["no transaction of the ledger has positions"])?;
    let mut short = transactions.clone();
    short.pop();
    rewrite(&job, &ledger, &short)?;
    must_find(&job, &only_kafka, "a ledger that ends early", &["the ledger ends at"])?;
    rewrite(&job, &ledger, &transactions)?;
    must_be_clean(&job, &only_kafka).map(|_| ())
}

fn planted_documents(stack: &Stack) -> Result<(), Failed> {
    let job = Job::zoo(stack, 1)?;
    let schema = job.register(&job.topic("in"), READING)?;
    job.emulate(schema, 1, 5_000, None, &[])?;
    drain_in_small_epochs(&job)?;
    must_be_clean(&job, &[])?;

    let (windows, readings) = (job.collection("zoo_analytics")?, job.collection("tortoise")?);
    let window = job.block_on(async { windows.find_one(doc! {}).await })?.ok_or("a window")?;
    let reading = job.block_on(async { readings.find_one(doc! {}).await })?.ok_or("a reading")?;
    let id = |document: &Document| doc! { "_id": document.get("_id").cloned() };
    let update = |change: Document| job.block_on(async { windows.update_one(id(&window), change).await });
    let restore = || job.block_on(async { windows.replace_one(id(&window), &window).await });

    update(doc! { "$inc": { "total_records": 1_i64 } })?;
    must_find(&job, &[], "an altered document", &["mongo zoo_analytics", "does not say what"])?;
    restore()?;
    update(doc! { "$inc": { "source.offset": -1_i64 } })?;
    must_find(&job, &[], "a stale document", &["mongo zoo_analytics", "stale"])?;
    restore()?;

    job.block_on(async { windows.delete_one(id(&window)).await })?;
    must_find(&job, &[], "a missing document", &["mongo zoo_analytics", "no document"])?;
    let mut surplus = window.clone();
    surplus.insert("_id", doc! { "dev-id": "nobody", "window": 1 });
    job.block_on(async { windows.insert_many([&window, &surplus]).await })?;
    must_find(&job, &[], "a document too many", &["mongo zoo_analytics", "no record in the topic calls for"])?;
    job.block_on(async { windows.delete_one(id(&surplus)).await })?;

    job.block_on(async { readings.delete_one(id(&reading)).await })?;
    must_find(&job, &[], "a missing reading", &["mongo tortoise", "documents of", "the first discrepancy is in transaction ledger@"])?;
    job.block_on(async { readings.insert_one(&reading).await })?;
    must_be_clean(&job, &[])?;
    job.audit()
}

fn planted_alerts(stack: &Stack) -> Result<(), Failed> {
    let job = Job::new(stack, &format!("{ZOO}[mongo.low]\nfrom = \"battery_low\"\n"), &[("NAME-in", READING)])?;
    job.create_topic(&job.topic("in"), 1)?;
    let schema = job.register(&job.topic("in"), READING)?;
    job.emulate(schema, 1, 5_000, None, &[])?;
    drain_in_small_epochs(&job)?;
    job.audit()?;
    let alerts = job.collection("low")?;
    let alert = job.block_on(async { alerts.find_one(doc! {}).await })?.ok_or("an alert")?;
    let id = || doc! { "_id": alert.get("_id").cloned() };
    let both = |what: &str, by_ledger: &str, recomputed: &str| -> Result<(), Failed> {
        must_find(&job, &[], what, &["mongo low", by_ledger])?;
        refused(&job, &["audit"], 8, &["mongo low", recomputed])
    };

    job.block_on(async { alerts.update_one(id(), doc! { "$inc": { "battery": 1 } }).await })?;
    both("an altered document", "does not say what", "the document does not say what the record does")?;
    job.block_on(async { alerts.delete_one(id()).await })?;
    both("a missing document", "no document", "missing    mongo low")?;
    let mut surplus = alert.clone();
    surplus.insert("_id", doc! { "topic": "elsewhere", "partition": 0, "offset": 0_i64 });
    job.block_on(async { alerts.insert_many([&alert, &surplus]).await })?;
    both("a document too many", "no record in the topic calls for", "extra      mongo low")?;
    job.block_on(async { alerts.delete_one(doc! { "_id": surplus.get("_id").cloned() }).await })?;
    job.audit()
}

fn switched_off(stack: &Stack) -> Result<(), Failed> {
    let job = Job::zoo(stack, 1)?;
    let schema = job.register(&job.topic("in"), READING)?;
    job.emulate(schema, 1, 1_000, None, &[])?;
    let off = [("TESTUDO__ENGINE__LEDGER", "false")];
    let drained = job.command(&["run", "--drain"]).envs(off).output()?;
    assert!(drained.status.success(), "{}", String::from_utf8_lossy(&drained.stderr));

    let (code, report) = audited(&job, &[])?;

    assert_eq!(code, Some(5), "{report}");
    assert!(report.contains("engine.ledger"), "{report}");
    job.audit()?;
    // Switched on later: what came before is said not to be audited, the rest is.
    job.emulate(schema, 2, 1_000, None, &[])?;
    job.drain()?;
    let report = must_be_clean(&job, &[])?;
    assert!(report.contains("WARNING: the ledger of") && report.contains("1000 records before it"), "{report}");
    job.audit()
}
