//! The same comings and goings under each protocol of a group (ADR 0018), and a group that changes its protocol.

use std::time::Instant;

use libtest_mimic::Failed;
use testudo::stack::Stack;

use crate::Test;
use crate::damage::{asked, ran};
use crate::job::{Job, READING, wait_for};
use crate::matrix::fault::PAUSE;
use crate::matrix::rig::{Rig, logs_of, ready_partitions};
use crate::storm::PROTOCOLS;

pub const TESTS: &[Test] = &[
    ("protocols_eager_restart_and_second_process", |stack| comings_and_goings(stack, "eager")),
    ("protocols_kip_848_restart_and_second_process", |stack| comings_and_goings(stack, "consumer")),
    ("protocols_a_group_changes_its_protocol", changed),
    ("protocols_a_worker_without_partitions_is_ready", without_partitions),
    ("protocols_reset_under_kip_848", reset),
];

/// Under load: `kill -9` and restart; a second process joins, is stopped for longer than its session and its transaction, goes on as a
/// zombie, and leaves; a restart in good order, which finds its state.
fn comings_and_goings(stack: &Stack, protocol: &str) -> Result<(), Failed> {
    let mut rig = Rig::new(stack)?;
    rig.job.use_protocol(protocol)?;
    let load = rig.load(u64::from(std::process::id()));
    let killed = rig.start("one", "", 2)?;
    rig.wait_for_more(1_000)?;
    killed.kill()?;
    let one = rig.start("one", "", 2)?;
    rig.progress.all_moved(Instant::now())?;

    let mut two = rig.start("two", "", 2)?;
    wait_for("the second process to own partitions", || Ok(!ready_partitions(&two.log()).is_empty()))?;
    rig.wait_for_more(4_000)?;
    two.signal("-STOP")?;
    std::thread::sleep(PAUSE);
    two.signal("-CONT")?;
    rig.progress.all_moved(Instant::now())?;
    two.terminate()?;
    rig.progress.all_moved(Instant::now())?;

    load.stop()?;
    rig.progress.wait_for_everything()?;
    one.terminate()?;
    let load = rig.load(u64::from(std::process::id()) + 1);
    let again = rig.start("one", "", 2)?;
    rig.progress.all_moved(Instant::now())?;
    let replayed = again.log().contains("restoring from changelog");
    load.stop()?;
    let verdict = rig.judge(vec![again]).map_err(|failed| told(&rig, &format!("{failed:?}")))?;
    match verdict.is_clean() && !replayed {
        true => Ok(()),
        false => Err(told(&rig, &format!("replayed after a stop in good order: {replayed}; {verdict:#?}"))),
    }
}

fn told(rig: &Rig<'_>, what: &str) -> Failed {
    format!("{what}\n{}", logs_of(&rig.job)).into()
}

/// Two workers for one partition: one of them has nothing to do, and nothing to wait for.
fn without_partitions(stack: &Stack) -> Result<(), Failed> {
    for protocol in PROTOCOLS {
        let job = Job::zoo(stack, 1)?;
        let schema = job.register(&job.topic("in"), READING)?;
        job.emulate(schema, 1, 500, None, &[])?;
        job.use_protocol(protocol)?;
        let running = job.start("one", &[("TESTUDO__ENGINE__WORKERS", "2")])?;
        job.wait_committed(500)?;
        wait_for(&format!("readiness under {protocol}"), || Ok(asked(&running, "/readyz")?.contains("200 OK")))?;
        running.terminate()?;
    }
    Ok(())
}

/// A reset sees members under the brokers' own protocol, too, and waits until those that have ended do not count any more.
fn reset(stack: &Stack) -> Result<(), Failed> {
    let job = Job::zoo(stack, 2)?;
    job.use_protocol("consumer")?;
    let schema = job.register(&job.topic("in"), READING)?;
    job.emulate(schema, 1, 1_000, None, &[])?;
    let tenant = job.path("tenants/tenant.toml").display().to_string();
    // With a state folder of its own, so that the group alone tells of it.
    let other = job.start("two", &[("TESTUDO__ENGINE__WORKERS", "1")])?;
    job.wait_committed(1_000)?;

    other.kill()?;
    let (code, text) = ran(&job, &["reset", &tenant, "--yes"])?;
    if code != Some(0) || !text.contains("has members") {
        return Err(format!("the reset ended with {code:?}:\n{text}").into());
    }

    assert_eq!(job.committed()?, 0, "the group begins again");
    job.drain()?;
    assert_eq!(job.committed()?, 1_000);
    job.audit()
}

/// Stopped under one protocol and started under the next: the positions are the group's, whatever its type. Names of static members
/// that are not there any more are waited out.
fn changed(stack: &Stack) -> Result<(), Failed> {
    let job = Job::zoo(stack, 4)?;
    let schema = job.register(&job.topic("in"), READING)?;
    for (round, protocol) in (0..).zip(["cooperative", "consumer", "eager", "cooperative"]) {
        job.emulate(schema, 1 + round, 2_000, None, &[])?;
        job.use_protocol(protocol)?;
        let running = job.start("one", &[])?;
        job.wait_committed(2_000 * (round as i64 + 1))
            .map_err(|failed| Failed::from(format!("{protocol}: {failed:?}\n{}", logs_of(&job))))?;
        running.terminate()?;
    }
    job.drain()?;
    job.audit()
}
