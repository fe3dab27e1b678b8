//! What operators did is no fault and is not hidden: both audits name it, and judge the rest as ever.

use std::collections::BTreeMap;
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
    ("both_audits_name_a_loss_that_is_recorded_where_it_is_and_once", lost_once),
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
    audits(&job, 0, &[&told], &["20 offsets skipped by operators", "documents of records that an operator left out"])?;
    // At the end of what was read, too.
    job.emulate(schema, 3, 500, None, &[])?;
    let from = position(&job, 0)?;
    done(&job, &["skip", &file, &partition, "--to", &(from + 5).to_string(), "--yes"])?;
    audits(&job, 0, &[&told, &format!("{partition}: {from} to {} skipped by ", from + 4)], &["25 offsets skipped by operators"])
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

/// Whether a partition's stream time in the ledger is once below what it was.
fn stream_time_went_back(job: &Job<'_>) -> Result<bool, Failed> {
    let mut reached: BTreeMap<i32, i64> = BTreeMap::new();
    for record in job.read(&job.topic("ledger"))? {
        let transaction = testudo::ledger::Transaction::decode(record.value.as_deref().unwrap_or_default())?;
        for range in &transaction.inputs {
            let Some(stream_time) = range.stream_time_us else { continue };
            let before = reached.insert(range.partition.partition, stream_time);
            if before > Some(stream_time) {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

/// Deletes the changelog and the local state: windows are lost.
fn lose_state(job: &Job<'_>) -> Result<(), Failed> {
    let changelog = format!("{}-zoo_analytics-{}-changelog", job.name, job.topic("in"));
    let admin: AdminClient<DefaultClientContext> = job.client().create()?;
    job.block_on(admin.delete_topics(&[&changelog], &AdminOptions::new()))?;
    wait_for("the changelog to be made again", || Ok(job.create_topic(&changelog, 2).is_ok()))?;
    Ok(fs::remove_dir_all(job.path("state"))?)
}

fn lost(stack: &Stack) -> Result<(), Failed> {
    let (job, schema, _) = drained(stack)?;
    lose_state(&job)?;
    job.emulate(schema, 2, 1_000, None, &[])?;

    // In small epochs the ledger shows that stream time was lost, too: the first ends before the last one of the first run did.
    let small = ["--set", "engine.epoch_records_max=200", "--set", "engine.slice_records_max=100"];
    done(&job, &[&small[..], &["run", "--drain", "--accept-state-loss", "zoo_analytics"]].concat())?;
    assert!(stream_time_went_back(&job)?, "the ledger has something to excuse");

    let told = ["operator: loss of state of zoo_analytics accepted by "];
    audits(&job, 0, &told, &["clean but for ", "differences in windows whose state was lost, as an operator accepted"])?;
    let alert = job.read(&job.topic("alert"))?.pop().ok_or("an alert")?;
    job.produce(&job.topic("alert"), 0, alert.key.as_deref(), alert.value.as_deref(), alert.timestamp_ms)?;
    audits(&job, 8, &told, &["extra      alert battery_low"])
}

/// The positions at which losses were accepted, by partition.
fn accepted(job: &Job<'_>) -> Result<Vec<(String, i64)>, Failed> {
    let mut accepted = Vec::new();
    for event in job.read(&job.topic("events"))? {
        let value: serde_json::Value = serde_json::from_slice(event.value.as_deref().unwrap_or_default())?;
        if value["event"] == "accept-state-loss" {
            assert!(value["by"]["uid"].is_number() && value["detail"]["windows"] == serde_json::json!(["zoo_analytics"]), "{value}");
            let positions = value["detail"]["old_positions"].as_object().ok_or("positions")?;
            accepted.extend(positions.iter().filter_map(|(partition, position)| Some((partition.clone(), position.as_i64()?))));
        }
    }
    accepted.sort();
    Ok(accepted)
}

/// As in a service file: the flag is given at every start.
fn lost_once(stack: &Stack) -> Result<(), Failed> {
    let (job, schema, _) = drained(stack)?;
    let run = ["--set", "engine.workers=1", "run", "--drain", "--accept-state-loss", "all"];
    let dies = |failpoint: &str| -> Result<(), Failed> {
        let ended = job.command(&run).env("FAILPOINTS", failpoint).output()?;
        if ended.status.success() {
            return Err(format!("{failpoint} did not end it").into());
        }
        Ok(())
    };
    let topic = job.topic("in");
    let both = [(format!("{topic}/0"), job.end(0)?), (format!("{topic}/1"), job.end(1)?)];

    done(&job, &run)?;
    fs::remove_dir_all(job.path("state"))?;
    done(&job, &run)?;
    assert_eq!(accepted(&job)?, [], "the changelog has everything");

    lose_state(&job)?;
    dies("commit.drained=return")?;
    assert_eq!(accepted(&job)?, [], "nothing goes on before a loss is on record, and nothing is on record before it is committed");
    dies("commit.done=return")?;
    // One partition's is committed; its marker may be on its way.
    wait_for("the first loss on record", || Ok(accepted(&job)?.len() == 1))?;
    done(&job, &run)?;
    assert_eq!(accepted(&job)?, both, "each once");

    // Nothing is left to accept, with the local state and without, with the flag and without.
    done(&job, &run)?;
    fs::remove_dir_all(job.path("state"))?;
    job.drain()?;
    job.emulate(schema, 2, 500, None, &[])?;
    done(&job, &run)?;
    assert_eq!(accepted(&job)?, both);
    audits(&job, 0, &["operator: loss of state of zoo_analytics accepted by "], &[])
}
