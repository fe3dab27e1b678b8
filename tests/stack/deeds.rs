//! What operators did is no fault and is not hidden: both audits name it, and judge the rest as ever.

use std::fs;

use libtest_mimic::Failed;
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use testudo::avro::SchemaId;
use testudo::stack::Stack;

use crate::Test;
use crate::damage::ran;
use crate::job::{Job, READING, wait_for};

pub const TESTS: &[Test] = &[
    ("both_audits_name_what_was_skipped", skipped),
    ("both_audits_begin_where_a_reset_did", reset),
    ("both_audits_list_what_a_lost_state_was_accepted_for", lost),
];

/// A tenant with sinks that has read 1,000 records and left its group.
fn drained(stack: &Stack) -> Result<(Job<'_>, SchemaId, String), Failed> {
    let job = Job::zoo(stack, 2)?;
    // A member that has ended would count until its session does.
    let config = fs::read_to_string(job.path("testudo.toml"))?;
    fs::write(job.path("testudo.toml"), format!("{config}[engine]\nstatic_membership = false\n"))?;
    let schema = job.register(&job.topic("in"), READING)?;
    job.emulate(schema, 1, 1_000, None, &[])?;
    job.drain()?;
    let file = job.path("tenants/tenant.toml").display().to_string();
    Ok((job, schema, file))
}

fn done(job: &Job<'_>, arguments: &[&str]) -> Result<(), Failed> {
    match ran(job, arguments)? {
        (Some(0), _) => Ok(()),
        (code, text) => Err(format!("{arguments:?} ended with {code:?}:\n{text}").into()),
    }
}

/// Both audits end so, and say these words.
fn audits(job: &Job<'_>, code: i32, words: &[&str], of_recomputing: &[&str]) -> Result<(), Failed> {
    for (arguments, more) in [(&["audit"][..], of_recomputing), (&["audit", "--ledger"], &[])] {
        let (ended, text) = ran(job, arguments)?;
        let mut wanted = words.iter().chain(more);
        if ended != Some(code) || !wanted.all(|words| text.contains(words)) {
            return Err(format!("{arguments:?} ended with {ended:?}, wanted {code}, {words:?} and {more:?}:\n{text}").into());
        }
    }
    Ok(())
}

/// The committed position of a partition, as the last ledger record says.
fn position(job: &Job<'_>, partition: i32) -> Result<i64, Failed> {
    let ledger = job.read(&job.topic("ledger"))?;
    let mut position = 0;
    for record in ledger {
        let transaction = testudo::ledger::Transaction::decode(record.value.as_deref().unwrap_or_default())?;
        let ranges = transaction.inputs.iter().filter(|range| range.partition.partition == partition);
        position = ranges.map(|range| range.end.0).max().unwrap_or(position);
    }
    Ok(position)
}

fn skipped(stack: &Stack) -> Result<(), Failed> {
    let (job, schema, file) = drained(stack)?;
    let (partition, from) = (format!("{}/0", job.topic("in")), position(&job, 0)?);
    job.emulate(schema, 2, 500, None, &[])?;

    done(&job, &["skip", &file, &partition, "--to", &(from + 20).to_string(), "--yes"])?;
    job.drain()?;

    let told = format!("{partition}: {from} to {} skipped by ", from + 19);
    audits(&job, 0, &[&told], &["20 skipped by operators", "documents of records that an operator left out"])?;
    // At the end of what was read, too.
    job.emulate(schema, 3, 500, None, &[])?;
    let from = position(&job, 0)?;
    done(&job, &["skip", &file, &partition, "--to", &(from + 5).to_string(), "--yes"])?;
    audits(&job, 0, &[&told, &format!("{partition}: {from} to {} skipped by ", from + 4)], &["25 skipped by operators"])
}

fn reset(stack: &Stack) -> Result<(), Failed> {
    let (job, schema, file) = drained(stack)?;
    let topic = job.topic("in");
    job.emulate(schema, 2, 500, None, &[])?;

    done(&job, &["reset", &file, "--to", &format!("{topic}/0=250,{topic}/1=200"), "--yes"])?;
    job.drain()?;

    let told = ["operator: reset by ", &format!("{topic}/0 at 250, {topic}/1 at 200")];
    audits(&job, 0, &told, &["documents are from before the reset"])?;
    let alert = job.read(&job.topic("alert"))?.pop().ok_or("an alert")?;
    job.produce(&job.topic("alert"), 0, alert.key.as_deref(), alert.value.as_deref(), alert.timestamp_ms)?;
    audits(&job, 8, &told, &[])
}

fn lost(stack: &Stack) -> Result<(), Failed> {
    let (job, schema, _) = drained(stack)?;
    let changelog = format!("{}-zoo_analytics-{}-changelog", job.name, job.topic("in"));
    let admin: AdminClient<DefaultClientContext> = job.client().create()?;
    job.block_on(admin.delete_topics(&[&changelog], &AdminOptions::new()))?;
    wait_for("the changelog to be made again", || Ok(job.create_topic(&changelog, 2).is_ok()))?;
    fs::remove_dir_all(job.path("state"))?;
    job.emulate(schema, 2, 1_000, None, &[])?;

    done(&job, &["run", "--drain", "--accept-state-loss", "zoo_analytics"])?;

    let told = ["operator: loss of state of zoo_analytics accepted by "];
    audits(&job, 0, &told, &["clean but for ", "differences in windows whose state was lost, as an operator accepted"])?;
    let alert = job.read(&job.topic("alert"))?.pop().ok_or("an alert")?;
    job.produce(&job.topic("alert"), 0, alert.key.as_deref(), alert.value.as_deref(), alert.timestamp_ms)?;
    audits(&job, 8, &told, &["extra      alert battery_low"])
}
