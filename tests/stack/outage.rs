//! Registry, database and broker away for 20 s: nothing is lost, nothing becomes a dead letter, and it goes on by itself.

use std::time::Duration;

use libtest_mimic::Failed;
use testudo::stack::Stack;

use crate::Test;
use crate::job::{Job, READING, SMALL_EPOCHS, wait_for};
use crate::zoo::send_under;

pub const TESTS: &[Test] = &[
    ("registry_away_holds_unknown_schemas", registry_away),
    ("database_killed_loses_nothing", database_killed),
    ("broker_restart_is_survived", broker_restart),
    ("broker_restart_at_once_is_survived", broker_restart_at_once),
];

const OUTAGE: Duration = Duration::from_secs(20);

/// C25: an id first seen while the registry is down waits; its partition goes on when the registry is back.
fn registry_away(stack: &Stack) -> Result<(), Failed> {
    let job = Job::zoo(stack, 2)?;
    let known = job.register(&job.topic("in"), READING)?;
    let mut second: serde_json::Value = serde_json::from_str(READING)?;
    second["fields"].as_array_mut().expect("fields").push(serde_json::json!({"name": "site", "type": ["null", "string"], "default": null}));
    let second_text = second.to_string();
    let unseen = job.register(&job.topic("in"), &second_text)?;
    job.emulate(known, 1, 2_000, None, &[])?;
    let running = job.start("one", &[])?;
    job.wait_committed(2_000)?;

    stack.stop_registry()?;
    send_under(&job, unseen, &second_text, 1_000)?;
    std::thread::sleep(OUTAGE);
    assert!(job.committed()? < 3_000, "the new schema's records wait");
    stack.start_registry()?;

    job.wait_committed(3_000)?;
    running.terminate()?;
    assert_eq!(job.dead_letters()?.get("unknown-schema-id"), None);
    job.drain()?;
    job.audit()
}

fn database_killed(stack: &Stack) -> Result<(), Failed> {
    let job = Job::zoo(stack, 2)?;
    let schema = job.register(&job.topic("in"), READING)?;
    job.emulate(schema, 1, 5_000, None, &[])?;
    let running = job.start("one", &[])?;
    wait_for("documents", || Ok(job.documents("tortoise")? > 500))?;

    stack.kill_mongod()?;
    job.emulate(schema, 2, 5_000, None, &[])?;
    job.wait_committed(10_000)?;
    std::thread::sleep(OUTAGE);
    stack.start_mongod()?;

    wait_for("all documents", || Ok(job.documents("tortoise")? == 10_000))?;
    running.terminate()?;
    job.drain()?;
    job.audit()
}

fn broker_restart(stack: &Stack) -> Result<(), Failed> {
    let job = Job::zoo(stack, 2)?;
    let schema = job.register(&job.topic("in"), READING)?;
    job.emulate(schema, 1, 20_000, None, &[])?;
    let running = job.start("one", &SMALL_EPOCHS)?;
    job.wait_committed(2_000)?;

    stack.kill_broker()?;
    std::thread::sleep(OUTAGE);
    stack.start_broker()?;

    job.wait_committed(20_000)?;
    running.terminate()?;
    job.drain()?;
    job.audit()
}

/// F07, twice under load: a broker that is started again as soon as it was killed comes back with every marker (KAFKA-20734).
fn broker_restart_at_once(stack: &Stack) -> Result<(), Failed> {
    let job = Job::zoo(stack, 2)?;
    let schema = job.register(&job.topic("in"), READING)?;
    job.emulate(schema, 1, 40_000, None, &[])?;
    let running = job.start("one", &SMALL_EPOCHS)?;
    for share in [1, 2] {
        job.wait_committed(share * 2_000)?;
        stack.kill_broker()?;
        stack.start_broker()?;
    }

    job.wait_committed(40_000)?;
    running.terminate()?;
    job.drain()?;
    job.audit()
}
