//! The simulation: the real engine on a model of Kafka, on one thread and one virtual clock, under faults drawn from a seed.
//!
//! [`scheduler`] moves workers ([`instance`]) against [`cluster`]; [`link`] is where calls meet their faults; [`judges`] say whether what
//! came out is what [`expected`] says. Everything follows from a [`plan`]:
//!
//! - `SEED=123 make model` runs one seed again, `SEEDS=5000 make model` runs many;
//! - `PLAN="seed=… faults=…" make model` runs a shrunk one, as a failure prints it.

mod broker;
mod client;
mod clock;
mod cluster;
mod consumer;
mod disk;
mod expected;
mod faults;
mod group;
mod input;
mod instance;
mod judges;
mod link;
mod log;
mod mongo;
mod plan;
mod planted;
mod producer;
mod random;
mod registry;
mod run;
mod scheduler;
mod shrink;
mod tail;
mod transactions;
mod updates;

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use faults::{Fault, Faults};
use plan::Plan;
use planted::Planted;
use run::{Passed, Wrong, run};
use shrink::shrink;

/// Seeds that a plain test run goes through.
const SEEDS: u64 = 300;
/// Seeds within which a planted bug has to be found.
const PLANTED_SEEDS: u64 = 2_000;

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|error| panic!("{name}={text}: {error}")))
}

/// Fails with what is wrong, the trace, and the smallest plan that still fails.
fn report(plan: &Plan, wrong: Wrong) -> ! {
    let replayed = run(plan, true).err().unwrap_or(wrong);
    let (small, smallest) = shrink(plan, replayed.clone());
    panic!(
        "seed {} comes out wrong: {}\n\nSEED={} runs it again; PLAN=\"{small}\" a shrunk one, which comes out wrong: {}\n\nits last events:\n{}",
        plan.seed, replayed.why, plan.seed, smallest.why, smallest.trace
    );
}

/// Runs plans on all cores until one fails; each run has one thread.
fn first_failure(plans: impl Fn(u64) -> Plan + Sync, from: u64, until: u64) -> (Option<(Plan, Wrong)>, Passed) {
    let next = AtomicU64::new(from);
    let found: Mutex<Option<(Plan, Wrong)>> = Mutex::new(None);
    let sum: Mutex<Passed> = Mutex::default();
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    let is_over = seed >= until || found.lock().expect("no run panics here").is_some();
                    if is_over {
                        return;
                    }
                    let plan = plans(seed);
                    match run(&plan, false) {
                        Ok(passed) => {
                            let mut sum = sum.lock().expect("no run panics here");
                            sum.faults += passed.faults;
                            sum.lasted += passed.lasted;
                            sum.joined_again += passed.joined_again;
                        }
                        Err(wrong) => {
                            let mut found = found.lock().expect("no run panics here");
                            if found.as_ref().is_none_or(|(known, _)| seed < known.seed) {
                                *found = Some((plan, wrong));
                            }
                        }
                    }
                }
            });
        }
    });
    (found.into_inner().expect("no run panics here"), sum.into_inner().expect("no run panics here"))
}

/// I1 … I12: whatever strikes, every record's effect is there exactly once.
#[test]
fn every_seed_comes_out_exactly_once() {
    if let Ok(text) = std::env::var("PLAN") {
        let plan: Plan = text.parse().unwrap_or_else(|error| panic!("PLAN: {error}"));
        if let Err(wrong) = run(&plan, true) {
            panic!("{plan} comes out wrong: {}\n\n{}", wrong.why, wrong.trace);
        }
        return;
    }
    let (from, until) = match number("SEED") {
        Some(seed) => (seed, seed + 1),
        None => (0, number("SEEDS").unwrap_or(SEEDS)),
    };
    let (failure, sum) = first_failure(Plan::of_seed, from, until);
    if let Some((plan, wrong)) = failure {
        report(&plan, wrong);
    }
    let hours = sum.lasted.as_secs() / 3_600;
    let (faults, again) = (sum.faults, sum.joined_again);
    println!("{} seeds, {faults} faults, {hours} hours of virtual time; members joined again {again} times", until - from);
    assert!(until - from == 1 || sum.faults > 0, "nothing struck");
}

/// Crashes of static members leave partitions without an owner, and no rebalance comes by itself: a member has to see it and join again.
#[test]
fn static_members_give_every_partition_an_owner_again() {
    let plan = |seed| {
        let mut plan = Plan { is_static: true, is_eager: false, faults: Faults::default(), ..Plan::of_seed(seed) };
        plan.machines = plan.machines.max(2);
        [Fault::Crash, Fault::Freeze, Fault::Leave].into_iter().for_each(|fault| plan.faults.set(fault, true));
        plan
    };
    let (failure, sum) = first_failure(plan, 0, SEEDS);
    if let Some((plan, wrong)) = failure {
        report(&plan, wrong);
    }
    println!("members joined again {} times", sum.joined_again);
    assert!(sum.joined_again > 0, "no partition was ever without an owner");
}

/// The same plan gives the same run, or nothing could be replayed.
#[test]
fn a_seed_replays_exactly() {
    for seed in 0..12 {
        let plan = Plan::of_seed(seed);
        let (first, second) = (run(&plan, true), run(&plan, true));
        let of = |outcome: Result<Passed, Wrong>| match outcome {
            Ok(passed) => format!("{passed:?}"),
            Err(wrong) => format!("{}\n{}", wrong.why, wrong.trace),
        };
        assert_eq!(of(first), of(second), "seed {seed}");
    }
}

/// A calm world needs no luck: if this fails, the model is at fault.
#[test]
fn without_faults_nothing_goes_wrong() {
    let calm = |seed| Plan { faults: Faults::default(), ..Plan::of_seed(seed) };
    if let (Some((plan, wrong)), _) = first_failure(calm, 0, 20) {
        report(&plan, wrong);
    }
}

#[test]
fn a_plan_reads_what_it_writes() {
    for seed in 0..50 {
        let plan = Plan::of_seed(seed);
        assert_eq!(plan.to_string().parse(), Ok(plan));
    }
}

/// A run in which a bug has its chance: what it needs strikes, in every other seed nothing else.
fn with_bug(planted: Planted, seed: u64) -> Plan {
    let mut plan = Plan { planted: Some(planted), records: 160, steps: 300, is_static: false, is_eager: false, ..Plan::of_seed(seed) };
    plan.machines = plan.machines.max(2);
    if seed.is_multiple_of(2) {
        plan.faults = Faults::default();
    }
    planted.needs().iter().for_each(|fault| plan.faults.set(*fault, true));
    plan
}

/// The judges find every bug that is put in.
#[cfg_attr(not(feature = "failpoints"), ignore = "bugs are planted by failpoints")]
#[test]
fn planted_bugs_are_found() {
    let is_missed = |planted: &Planted| first_failure(|seed| with_bug(*planted, seed), 0, PLANTED_SEEDS).0.is_none();
    let missed: Vec<Planted> = Planted::all().filter(is_missed).collect();
    println!("{} of {} planted bugs found", Planted::all().count() - missed.len(), Planted::all().count());
    assert!(missed.is_empty(), "not found within {PLANTED_SEEDS} seeds: {missed:?}");
}

/// Runs take virtual time, not real time.
#[test]
fn an_hour_of_waiting_takes_none() {
    let plan = Plan { records: 10, steps: 20, ..Plan::of_seed(1) };
    let passed = run(&plan, false);
    assert!(passed.is_ok_and(|passed| passed.lasted > Duration::from_secs(1)));
}
