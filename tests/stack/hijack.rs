//! A rival that takes a worker's transactional id: once is survived, again and again ends the tenant with the id named (exit code 7).

use libtest_mimic::Failed;
use rdkafka::producer::{BaseProducer, Producer};
use testudo::stack::Stack;

use crate::Test;
use crate::ambiguous::commits;
use crate::job::{Job, PATIENCE, READING};

pub const TESTS: &[Test] =
    &[("hijacked_once_the_id_is_taken_back", taken_once), ("hijacked_again_and_again_ends_the_tenant_with_code_7", taken_again_and_again)];

const RECORDS: u64 = 500;
const ONE_WORKER: [(&str, &str); 1] = [("TESTUDO__ENGINE__WORKERS", "1")];

/// F06: the worker's next commit is refused; it gets a new producer, goes back to the committed positions, and goes on.
fn taken_once(stack: &Stack) -> Result<(), Failed> {
    let job = Job::zoo(stack, 2)?;
    let schema = job.register(&job.topic("in"), READING)?;
    job.emulate(schema, 1, RECORDS, None, &[])?;
    let running = job.start("one", &ONE_WORKER)?;
    job.wait_committed(RECORDS as i64)?;

    hijack(&job)?;
    job.emulate(schema, 2, RECORDS, None, &[])?;

    job.wait_committed(2 * RECORDS as i64)?;
    assert_eq!(commits(&running, "fenced")?, 1);
    running.terminate()?;
    job.drain()?;
    job.audit()
}

/// Five times within a minute (`engine.fencings_max`) is somebody who lives and means the same id.
fn taken_again_and_again(stack: &Stack) -> Result<(), Failed> {
    let job = Job::zoo(stack, 2)?;
    let schema = job.register(&job.topic("in"), READING)?;
    job.emulate(schema, 1, RECORDS, None, &[])?;
    let mut running = job.start("one", &ONE_WORKER)?;
    job.wait_committed(RECORDS as i64)?;

    for round in 1..=5 {
        hijack(&job)?;
        job.emulate(schema, 1 + round, RECORDS, None, &[])?;
        if round < 5 {
            job.wait_committed(((1 + round) * RECORDS) as i64)?;
        }
    }

    let status = running.wait()?;
    assert_eq!(status.code(), Some(7), "{}", running.log());
    let named = format!("transactional id {} was fenced 5 times", transactional_id(&job));
    assert!(running.log().contains(&named), "{named}");
    job.drain()?;
    job.audit()
}

fn transactional_id(job: &Job<'_>) -> String {
    format!("{}-one-0", job.name)
}

/// Initialises the worker's transactional id as another process would that was given the same `instance`.
fn hijack(job: &Job<'_>) -> Result<(), Failed> {
    let mut config = job.client();
    config.set("transactional.id", transactional_id(job));
    let rival: BaseProducer = config.create()?;
    rival.init_transactions(PATIENCE)?;
    Ok(())
}
