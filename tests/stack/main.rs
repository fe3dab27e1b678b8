//! Tests against a real broker, registry and database. One stack is started for all of them and stopped at the end, by pid.
//!
//! `cargo test --test stack -- NAME` runs those whose name contains NAME.

#![allow(clippy::disallowed_methods, reason = "tests wait by the machine's clock")]

mod cases;
mod crash;
mod job;
mod mongo;
mod outage;
mod planted;
mod zoo;

use std::sync::Arc;

use libtest_mimic::{Arguments, Failed, Trial};
use testudo::stack::{Options, Ports, Stack};

/// A test: its name and what it claims.
type Test = (&'static str, fn(&Stack) -> Result<(), Failed>);

fn main() -> anyhow::Result<()> {
    let mut arguments = Arguments::from_args();
    // Tests stop brokers and databases that others need.
    arguments.test_threads = Some(1);
    let tests: Vec<Test> = [zoo::TESTS, crash::TESTS, cases::TESTS, mongo::TESTS, planted::TESTS, outage::TESTS].concat();
    if arguments.list {
        libtest_mimic::run(&arguments, tests.into_iter().map(|(name, _)| Trial::test(name, || Ok(()))).collect()).exit();
    }
    let dir = tempfile::tempdir()?;
    let stack = Stack::up(Options { dir: dir.path().to_owned(), ports: Ports::Free, kafka_heap_mib: 512, fast_failure_settings: true })?;
    let stack = Arc::new(stack);
    let trial = |(name, test): Test| {
        let stack = stack.clone();
        Trial::test(name, move || test(&stack))
    };
    let trials = tests.into_iter().map(trial).collect();
    let conclusion = libtest_mimic::run(&arguments, trials);
    Arc::into_inner(stack).ok_or_else(|| anyhow::anyhow!("a test still holds the stack"))?.down()?;
    conclusion.exit()
}
