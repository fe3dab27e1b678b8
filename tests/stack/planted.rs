//! The audit is worth something only if it finds what is wrong: faults planted into the real topics and collections.

use libtest_mimic::Failed;
use mongodb::bson::doc;
use testudo::stack::Stack;

use crate::Test;
use crate::job::{Job, READING};

pub const TESTS: &[Test] = &[("the_audit_finds_planted_faults", planted)];

fn planted(stack: &Stack) -> Result<(), Failed> {
    let job = Job::zoo(stack, 1)?;
    let schema = job.register(&job.topic("in"), READING)?;
    job.emulate(schema, 1, 5_000, None, &[])?;
    job.drain()?;
    job.audit()?;

    let windows = job.collection("zoo_analytics")?;
    let readings = job.collection("tortoise")?;
    let some_window = job.block_on(async { windows.find_one(doc! {}).await })?.ok_or("a window")?;
    let some_reading = job.block_on(async { readings.find_one(doc! {}).await })?.ok_or("a reading")?;
    let id = some_window.get("_id").cloned().ok_or("an id")?;

    job.block_on(async { windows.update_one(doc! {"_id": id.clone()}, doc! {"$inc": {"total_records": 1_i64}}).await })?;
    must_fail(&job, "an altered window document")?;
    job.block_on(async { windows.replace_one(doc! {"_id": id}, some_window).await })?;
    job.audit()?;

    job.block_on(async { readings.delete_one(doc! {"_id": some_reading.get("_id").cloned()}).await })?;
    must_fail(&job, "a missing reading")?;
    job.block_on(async { readings.insert_one(some_reading).await })?;
    job.audit()?;

    let alert = job.read(&job.topic("alert"))?.into_iter().next().ok_or("an alert")?;
    job.produce(&job.topic("alert"), 0, alert.key.as_deref(), alert.value.as_deref(), alert.timestamp_ms)?;
    must_fail(&job, "a doubled alert")
}

fn must_fail(job: &Job<'_>, what: &str) -> Result<(), Failed> {
    let output = job.command(&["audit"]).output()?;
    match output.status.code() {
        Some(8) => Ok(()),
        other => Err(format!("{what}: the audit ended with {other:?}:\n{}", String::from_utf8_lossy(&output.stdout)).into()),
    }
}
