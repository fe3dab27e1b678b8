//! `kill -9` at the places where half of an epoch exists: the next start makes it whole.

use libtest_mimic::Failed;
use testudo::stack::Stack;

use crate::Test;
use crate::job::{Job, READING, SMALL_EPOCHS, has_file};

pub const TESTS: &[Test] = &[
    ("killed_with_positions_sent", |stack| killed_at(stack, "commit.positions_sent")),
    ("killed_after_commit_before_store", |stack| killed_at(stack, "commit.before_store")),
    ("killed_from_outside_under_load", killed_from_outside),
    ("a_second_signal_is_safe", second_signal),
];

/// The process ends at the named point of its fifth epoch; the next one must not lose or double anything.
fn killed_at(stack: &Stack, point: &str) -> Result<(), Failed> {
    let job = Job::zoo(stack, 4)?;
    let schema = job.register(&job.topic("in"), READING)?;
    let setting = format!("{point}=4*off->return");
    let [records, slice] = SMALL_EPOCHS;
    let mut dying = job.start("one", &[("FAILPOINTS", &setting), records, slice])?;
    job.emulate(schema, 1, 20_000, None, &[])?;
    let status = dying.wait()?;
    assert!(!status.success(), "it must die at {point}, not end: {status}");
    assert!(has_file(&job.path("state"), &job.name), "the state stays");

    job.drain()?;

    job.audit()
}

fn killed_from_outside(stack: &Stack) -> Result<(), Failed> {
    let job = Job::zoo(stack, 4)?;
    let schema = job.register(&job.topic("in"), READING)?;
    job.emulate(schema, 1, 60_000, None, &[])?;
    for share in [1, 2] {
        let running = job.start("one", &SMALL_EPOCHS)?;
        job.wait_committed(share * 5_000)?;
        running.kill()?;
    }

    job.drain()?;

    job.audit()
}

fn second_signal(stack: &Stack) -> Result<(), Failed> {
    let job = Job::zoo(stack, 2)?;
    let schema = job.register(&job.topic("in"), READING)?;
    job.emulate(schema, 1, 20_000, None, &[])?;
    let mut running = job.start("one", &[])?;
    job.wait_committed(1_000)?;
    running.signal("-TERM")?;
    running.signal("-INT")?;
    running.wait()?;

    job.drain()?;

    job.audit()
}
