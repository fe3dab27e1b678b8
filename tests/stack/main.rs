//! Tests against a real broker, registry and database. One stack is started for all of them and stopped at the end, by pid.
//!
//! `cargo test --test stack -- NAME` runs those whose name contains NAME.

#![allow(clippy::disallowed_methods, reason = "tests wait by the machine's clock")]

mod ambiguous;
mod cases;
mod crash;
mod damage;
mod hijack;
mod job;
mod ledger;
mod matrix;
mod mishaps;
mod mongo;
mod outage;
mod planted;
mod proxy;
mod recovery;
mod schema_cli;
mod schemas;
mod servers;
mod storm;
mod zoo;

use std::sync::Arc;

use libtest_mimic::{Arguments, Failed, Trial};
use testudo::stack::{Options, Ports, Stack};

/// A test: its name and what it claims.
type Test = (&'static str, fn(&Stack) -> Result<(), Failed>);

/// What `make test` runs beside each other: tenants of their own on servers that nobody disturbs.
const CALM: &[&[Test]] = &[
    zoo::TESTS,
    crash::TESTS,
    schemas::TESTS,
    cases::TESTS,
    ledger::TESTS,
    damage::TESTS,
    mishaps::TESTS,
    schema_cli::TESTS,
    planted::TESTS,
    storm::TESTS,
];

/// What it runs one by one: tests that stop servers, make them fail, stand in the broker's way or look at the clock.
const ROUGH: &[&[Test]] = &[mongo::TESTS, recovery::TESTS, outage::TESTS, servers::TESTS, ambiguous::TESTS, hijack::TESTS];

/// So many of the calm ones at a time; they wait more than they work.
const CALM_THREADS: usize = 3;

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::from_args();
    let (calm, rough) = match matrix::full::repeat() {
        // `make crash`.
        Some(_) => (Vec::new(), [matrix::full::LONG_TESTS, storm::LONG_TESTS, recovery::LONG_TESTS, ambiguous::LONG_TESTS].concat()),
        None => (CALM.concat(), ROUGH.concat()),
    };
    if arguments.list {
        let all = calm.into_iter().chain(rough);
        libtest_mimic::run(&arguments, all.map(|(name, _)| Trial::test(name, || Ok(()))).collect()).exit();
    }
    let dir = tempfile::tempdir()?;
    let dir_path = dir.path().to_owned();
    let options = Options { dir: dir_path, ports: Ports::Free, fast_failure_settings: true, fault_listener: true, ..Options::default() };
    let stack = Arc::new(Stack::up(options)?);
    let calm_failed = run(&arguments, calm, CALM_THREADS, &stack);
    let rough_failed = run(&arguments, rough, 1, &stack);
    Arc::into_inner(stack).ok_or_else(|| anyhow::anyhow!("a test still holds the stack"))?.down()?;
    if calm_failed || rough_failed {
        std::process::exit(101);
    }
    Ok(())
}

/// Whether one of these failed.
fn run(arguments: &Arguments, tests: Vec<Test>, threads: usize, stack: &Arc<Stack>) -> bool {
    let arguments = Arguments { test_threads: Some(threads), ..arguments.clone() };
    let trial = |(name, test): Test| {
        let stack = stack.clone();
        Trial::test(name, move || test(&stack))
    };
    libtest_mimic::run(&arguments, tests.into_iter().map(trial).collect()).has_failed()
}
