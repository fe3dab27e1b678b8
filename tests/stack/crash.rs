//! `kill -9` wherever half of something exists: the next start makes it whole. The short version of `make crash`.

use libtest_mimic::Failed;
use rand::SeedableRng;
use rand_pcg::Pcg64;
use testudo::stack::Stack;

use crate::Test;
use crate::job::{Job, READING, SMALL_EPOCHS};
use crate::matrix::fault::Fault;
use crate::matrix::kill;
use crate::matrix::points::POINTS;
use crate::matrix::rig::Rig;
use crate::matrix::roles;
use crate::matrix::trial::{self, Case};
use crate::matrix::witness;

pub const TESTS: &[Test] = &[
    ("killed_once_at_every_point", every_point),
    ("killed_from_outside_under_load", killed_from_outside),
    ("f05_a_stopped_process_that_continues_changes_nothing", |stack| one(stack, Fault::Pause)),
    ("f11_mongod_unreachable_loses_nothing", |stack| one(stack, Fault::DatabaseSilent)),
    ("f55_a_panic_in_a_worker_loses_nothing", |stack| one(stack, Fault::Panic)),
    ("a_second_signal_is_safe", second_signal),
    ("the_witness_knows_a_dirty_read", |_| witness::finds_what_it_should()),
    ("coordinators_are_found_as_the_broker_does", |_| roles::finds_what_it_should()),
];

/// One tenant under load dies at one point after the other; in the end everything is there once.
fn every_point(stack: &Stack) -> Result<(), Failed> {
    let seed = u64::from(std::process::id());
    println!("SEED={seed}");
    let mut rng = Pcg64::seed_from_u64(seed);
    let mut rig = Rig::new(stack)?;
    let load = rig.load(seed);
    for point in POINTS {
        let death = kill::die_at(&rig, point, 2, &mut rng).map_err(|failed| told(&rig, failed))?;
        for other in death.others {
            other.terminate()?;
        }
    }
    let last = rig.start("one", "", 2)?;
    rig.wait_for_more(1_000).map_err(|failed| told(&rig, failed))?;
    load.stop()?;
    let verdict = rig.judge(vec![last]).map_err(|failed| told(&rig, failed))?;
    match verdict.is_clean() {
        true => Ok(()),
        false => Err(format!("{verdict:#?}\n{}", rig.logs()).into()),
    }
}

fn told(rig: &Rig<'_>, failed: Failed) -> Failed {
    format!("{}\n{}", failed.message().unwrap_or("failed"), rig.logs()).into()
}

/// One case of the matrix.
fn one(stack: &Stack, fault: Fault) -> Result<(), Failed> {
    let seed = u64::from(std::process::id());
    println!("SEED={seed}");
    let outcome = trial::run(stack, Case { fault, seed, hits: 1 })?;
    match outcome.verdict.is_clean() {
        true => Ok(()),
        false => Err(format!("{:#?}", outcome.verdict).into()),
    }
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
