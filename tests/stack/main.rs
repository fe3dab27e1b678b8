//! Tests against a real broker, registry and database: stacks that are started for them and stopped at the end, by pid.
//!
//! `cargo test --test stack -- NAME` runs those whose name contains NAME.

#![allow(clippy::disallowed_methods, reason = "tests wait by the machine's clock")]

mod ambiguous;
mod between;
mod cases;
mod crash;
mod damage;
mod deeds;
mod formats;
mod hijack;
mod job;
mod lanes;
mod ledger;
mod matrix;
mod memory;
mod mishaps;
mod mongo;
mod outage;
mod ownership;
mod planted;
mod protobuf;
mod protocols;
mod proxy;
mod rebuild;
mod recovery;
mod schema_cli;
mod schemas;
mod secured;
mod servers;
mod storm;
mod sweeps;
mod wire;
mod zoo;

use std::ops::RangeInclusive;

use lanes::{Lane, Report};
use libtest_mimic::{Arguments, Failed};
use testudo::stack::Stack;

/// A test: its name and what it claims.
type Test = (&'static str, fn(&Stack) -> Result<(), Failed>);

/// Tenants of their own on servers that nobody disturbs; those that take longest first.
const CALM: &[&[Test]] = &[
    storm::TESTS,
    crash::TESTS,
    rebuild::TESTS,
    protocols::TESTS,
    ownership::TESTS,
    recovery::TESTS,
    damage::TESTS,
    deeds::TESTS,
    zoo::TESTS,
    schemas::TESTS,
    formats::TESTS,
    protobuf::TESTS,
    ledger::TESTS,
    memory::TESTS,
    mishaps::TESTS,
    schema_cli::TESTS,
    secured::TESTS,
    planted::TESTS,
    cases::TESTS,
    sweeps::TESTS,
    wire::TESTS,
];

/// One by one beside them: a stack has one place for a proxy, and a rival has a minute for its deeds.
const IN_TURN: &[&[Test]] = &[ambiguous::TESTS, hijack::TESTS];

/// Stop servers or make them fail: on a stack of their own, one by one.
const ROUGH: &[&[Test]] = &[outage::TESTS, servers::TESTS, mongo::TESTS];

/// Look at the clock: alone, in the end.
const TIMED: &[&[Test]] = &[recovery::TIMED_TESTS];

/// `make crash`.
const LONG: &[&[Test]] =
    &[matrix::full::LONG_TESTS, storm::LONG_TESTS, recovery::LONG_TESTS, ambiguous::LONG_TESTS, servers::LONG_TESTS, planted::LONG_TESTS];

/// What `make crash` runs before, beside each other and once: damage and mistakes are the same each time.
const LONG_CALM: &[&[Test]] = &[damage::TESTS, mishaps::TESTS];

/// So many of the calm ones at a time, unless `--test-threads` says otherwise; they wait more than they work.
const CALM_THREADS: RangeInclusive<usize> = 3..=8;
/// One by one.
const ONE: RangeInclusive<usize> = 1..=1;

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::from_args();
    let lane = |name, stack, at_a_time, tests: &[&[Test]]| Lane { name, stack, at_a_time, tests: tests.concat() };
    let rounds = match matrix::full::repeat() {
        Some(_) => {
            vec![
                vec![lane("damage", 0, CALM_THREADS, LONG_CALM), lane("rival", 0, ONE, &[hijack::TESTS])],
                vec![lane("long", 0, ONE, LONG)],
            ]
        }
        None => vec![
            vec![
                lane("calm", 0, arguments.test_threads.map_or(CALM_THREADS, |threads| threads..=threads), CALM),
                lane("in turn", 0, ONE, IN_TURN),
                lane("rough", 1, ONE, ROUGH),
            ],
            vec![lane("timed", 0, ONE, TIMED)],
        ],
    };
    if arguments.list {
        lanes::list(&arguments, &rounds);
        return Ok(());
    }
    let mut report = Report::default();
    let ran = lanes::run(&arguments, rounds, &mut report);
    report.print();
    ran?;
    if report.has_failed() {
        std::process::exit(101);
    }
    Ok(())
}
