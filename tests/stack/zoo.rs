//! The zoo's job from end to end: every record used once or refused with its reason, whoever works on it.

use std::collections::BTreeMap;

use libtest_mimic::Failed;
use testudo::emulator::Wrong;
use testudo::stack::Stack;

use crate::Test;
use crate::job::{Job, READING, wait_for};

pub const TESTS: &[Test] = &[
    ("zoo_end_to_end_passes_the_audit", end_to_end),
    ("wrong_records_become_dead_letters_exactly", wrong_records),
    ("restart_continues_where_it_stood", restart),
    ("local_state_is_used_without_replay", no_replay),
    ("deleted_state_folder_is_restored", deleted_state),
    ("c55_old_event_times_do_not_expire_state", old_event_times),
    ("second_process_joins_and_leaves", second_process),
    ("new_schema_version_in_mid_stream", new_schema_version),
    ("shipped_tenants_work_side_by_side", shipped_tenants),
    ("one_failing_tenant_leaves_the_other_running", two_tenants),
];

const RECORDS: u64 = 8_000;

fn end_to_end(stack: &Stack) -> Result<(), Failed> {
    let job = Job::zoo(stack, 4)?;
    let schema = job.register(&job.topic("in"), READING)?;
    job.emulate(schema, 1, RECORDS, None, &[])?;

    let result = job.drain()?;

    assert_eq!(result["records"] as u64, RECORDS);
    assert!(!job.read(&job.topic("alert"))?.is_empty(), "there are alerts");
    assert!(job.documents("zoo_analytics")? > 0, "there are windows");
    assert_eq!(job.documents("tortoise")?, RECORDS);
    let mut letters = job.dead_letters()?;
    letters.remove("late");
    assert_eq!(letters, BTreeMap::new(), "only lateness refuses good records");
    job.audit()
}

/// 0, 1, 10 and 50 % wrong data: as many dead letters as wrong records, by the reason of each kind.
fn wrong_records(stack: &Stack) -> Result<(), Failed> {
    for share in [0.0, 0.01, 0.1, 0.5] {
        let job = Job::zoo(stack, 2)?;
        let schema = job.register(&job.topic("in"), READING)?;
        let kinds: Vec<Wrong> = Wrong::ALL.to_vec();
        let shares: Vec<(Wrong, f64)> = kinds.iter().map(|kind| (*kind, share / kinds.len() as f64)).collect();
        let report = job.emulate(schema, 7, 6_000, None, &shares)?;

        job.drain()?;

        let mut found = job.dead_letters()?;
        found.remove("late");
        let sent: u64 = report.wrong().values().sum();
        assert_eq!(found.values().sum::<usize>() as u64, sent, "share {share}: {found:?} of {:?}", report.wrong());
        job.audit()?;
    }
    Ok(())
}

fn restart(stack: &Stack) -> Result<(), Failed> {
    let job = Job::zoo(stack, 4)?;
    let schema = job.register(&job.topic("in"), READING)?;
    job.emulate(schema, 1, RECORDS, None, &[])?;
    let first = job.start("one", &[])?;
    job.wait_committed(RECORDS as i64 / 4)?;
    first.terminate()?;
    job.emulate(schema, 2, RECORDS, None, &[])?;

    job.drain()?;

    job.audit()
}

fn no_replay(stack: &Stack) -> Result<(), Failed> {
    let job = Job::zoo(stack, 2)?;
    let schema = job.register(&job.topic("in"), READING)?;
    job.emulate(schema, 1, RECORDS, None, &[])?;
    job.drain()?;
    job.emulate(schema, 2, 1_000, None, &[])?;

    let again = job.start("one", &[])?;
    job.wait_committed(RECORDS as i64 + 1_000)?;

    let log = again.log();
    assert!(log.contains("partition ready"), "{log}");
    assert!(!log.contains("restoring from changelog"), "positions match, nothing is replayed:\n{log}");
    again.terminate()?;
    // Until MongoDB has the last windows, too.
    job.drain()?;
    job.audit()
}

fn deleted_state(stack: &Stack) -> Result<(), Failed> {
    let job = Job::zoo(stack, 4)?;
    let schema = job.register(&job.topic("in"), READING)?;
    job.emulate(schema, 1, RECORDS, None, &[])?;
    job.drain()?;
    std::fs::remove_dir_all(job.path("state"))?;
    job.emulate(schema, 2, RECORDS, None, &[])?;

    job.drain()?;

    job.audit()
}

/// C55: events of 2015, the state deleted: the restored windows go on, since changelogs are not cleaned by age (TIME-3).
fn old_event_times(stack: &Stack) -> Result<(), Failed> {
    let job = Job::zoo(stack, 2)?;
    let schema = job.register(&job.topic("in"), READING)?;
    let kafka = testudo::kafka::Settings { bootstrap: stack.bootstrap(), ..Default::default() };
    for part in 0..2 {
        let emulation = testudo::emulator::Emulation {
            topic: job.topic("in"),
            schema: READING.to_owned(),
            seed: 1,
            extent: testudo::emulator::Extent::Records(2_000),
            base_time_ms: Some(1_420_070_400_000 + part * 10_000),
            ..Default::default()
        };
        emulation.run(&kafka, schema)?;
        job.drain()?;
        std::fs::remove_dir_all(job.path("state"))?;
    }
    job.drain()?;

    assert!(job.documents("zoo_analytics")? > 0);
    job.audit()
}

fn second_process(stack: &Stack) -> Result<(), Failed> {
    let job = Job::zoo(stack, 4)?;
    let schema = job.register(&job.topic("in"), READING)?;
    let first = job.start("one", &[])?;
    std::thread::scope(|scope| -> Result<(), Failed> {
        let feeding = scope.spawn(|| job.emulate(schema, 1, 40_000, Some(4_000), &[]).map(|_| ()).map_err(|failed| format!("{failed:?}")));
        job.wait_committed(4_000)?;
        let second = job.start("two", &[])?;
        wait_for("the second process to own partitions", || Ok(second.log().contains("partition ready")))?;
        job.wait_committed(20_000)?;
        second.terminate()?;
        feeding.join().map_err(|_| "the emulator panicked")??;
        Ok(())
    })?;
    job.wait_committed(40_000)?;
    first.terminate()?;
    // What this instance holds is whole again after the other one left.
    job.drain()?;
    job.audit()
}

fn new_schema_version(stack: &Stack) -> Result<(), Failed> {
    let job = Job::zoo(stack, 2)?;
    let first = job.register(&job.topic("in"), READING)?;
    job.emulate(first, 1, 5_000, None, &[])?;
    let running = job.start("one", &[])?;
    job.wait_committed(2_000)?;
    let mut second: serde_json::Value = serde_json::from_str(READING)?;
    second["fields"].as_array_mut().expect("fields").push(serde_json::json!({"name": "firmware", "type": "string", "default": "unknown"}));
    let second_text = second.to_string();
    let second = job.register(&job.topic("in"), &second_text)?;
    assert_ne!(first, second, "another version has another id");
    send_under(&job, second, &second_text, 2_000)?;
    job.emulate(first, 3, 1_000, None, &[])?;

    job.wait_committed(8_000)?;

    running.terminate()?;
    let mut letters = job.dead_letters()?;
    letters.remove("late");
    assert_eq!(letters, BTreeMap::new(), "both versions are read");
    job.drain()?;
    job.audit()
}

/// Readings of another schema than the tenant's own.
pub fn send_under(job: &Job<'_>, id: testudo::avro::SchemaId, schema: &str, records: u64) -> Result<(), Failed> {
    let emulation = testudo::emulator::Emulation {
        topic: job.topic("in"),
        schema: schema.to_owned(),
        seed: 99,
        extent: testudo::emulator::Extent::Records(records),
        ..Default::default()
    };
    let kafka = testudo::kafka::Settings { bootstrap: job.stack.bootstrap().to_owned(), ..Default::default() };
    emulation.run(&kafka, id)?;
    Ok(())
}

/// The two tenant files that are shipped, as they are, in one process: own groups, topics, state, databases.
fn shipped_tenants(stack: &Stack) -> Result<(), Failed> {
    let job = Job::zoo(stack, 1)?;
    let shipped = |name: &str| format!("{}/tenants/{name}.toml", env!("CARGO_MANIFEST_DIR"));
    let kafka = testudo::kafka::Settings { bootstrap: stack.bootstrap(), ..Default::default() };
    for (topic, schema, key) in [
        ("stream-topic-1", READING, "dev_id"),
        ("stream-topic-2", READING, "dev_id"),
        ("machine-vibration", include_str!("../../avro/machine-vibration-value.avsc"), "plant"),
    ] {
        job.create_topic(topic, 2)?;
        let id = job.register(topic, schema)?;
        let emulation = testudo::emulator::Emulation {
            topic: topic.to_owned(),
            schema: schema.to_owned(),
            key: key.to_owned(),
            seed: if topic == "stream-topic-2" { 1_000 } else { 1 },
            extent: testudo::emulator::Extent::Records(3_000),
            ..Default::default()
        };
        emulation.run(&kafka, id)?;
    }
    let files = [shipped("zoo"), shipped("machines")];

    let drained = job.command(&["run", "--drain"]).args(&files).output()?;
    let audited = job.command(&["audit"]).args(&files).output()?;

    for output in [drained, audited] {
        let (text, log) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{text}\n{log}");
    }
    let client = job.block_on(mongodb::Client::with_uri_str(stack.mongo_uri()))?;
    let names = job.block_on(async { client.list_database_names().await })?;
    assert!(["stream_zoo", "maintenance"].iter().all(|name| names.iter().any(|found| found == name)), "{names:?}");
    Ok(())
}

/// The second tenant's topic does not exist: it waits and says so, the first works.
fn two_tenants(stack: &Stack) -> Result<(), Failed> {
    let job = Job::zoo(stack, 2)?;
    let other = crate::job::ZOO.replace("NAME", &format!("{}-other", job.name));
    std::fs::write(job.path("tenants/other.toml"), other)?;
    std::fs::copy(job.path(&format!("avro/{}-in-value.avsc", job.name)), job.path(&format!("avro/{}-other-in-value.avsc", job.name)))?;
    let schema = job.register(&job.topic("in"), READING)?;
    job.emulate(schema, 1, 2_000, None, &[])?;
    let files = format!("[\"{}\", \"{}\"]", job.path("tenants/tenant.toml").display(), job.path("tenants/other.toml").display());

    let both = job.start("one", &[("TESTUDO__TENANTS", &files)])?;
    job.wait_committed(2_000)?;

    let log = both.log();
    assert!(
        log.contains(&format!("{}-other-in", job.name)) && log.contains("do not exist"),
        "the other tenant says what it waits for:\n{log}"
    );
    both.terminate()?;
    job.drain()?;
    job.audit()
}
