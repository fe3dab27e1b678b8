//! `make crash`: every fault many times, in random order, on one stack.
//!
//! `TESTUDO_CRASH_REPEAT` is how often, `TESTUDO_CRASH_SEED` the seed of the first repetition (the next one's is one more) and of
//! the order, `TESTUDO_CRASH_ONLY` a part of a fault's name. With the three of a line of the output a case is repeated.

use std::time::Instant;

use libtest_mimic::Failed;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_pcg::Pcg64;
use testudo::stack::Stack;

use super::fault::Fault;
use super::scorecard::{Line, Scorecard, csv_path, publish};
use super::trial::{self, Case};
use crate::Test;

pub const LONG_TESTS: &[Test] = &[("crash_matrix", matrix)];

/// After so many bad cases the rest would say nothing new.
const BAD_MAX: usize = 20;

/// What to run.
struct Plan {
    repeat: u64,
    seed: u64,
    only: String,
}

/// How often each fault is to be injected; nothing: this is not `make crash`.
pub fn repeat() -> Option<u64> {
    std::env::var("TESTUDO_CRASH_REPEAT").ok()?.parse().ok()
}

impl Plan {
    fn from_environment() -> Result<Self, Failed> {
        let seed = match std::env::var("TESTUDO_CRASH_SEED").unwrap_or_default().as_str() {
            "" => chrono::Utc::now().timestamp().unsigned_abs(),
            text => text.parse()?,
        };
        let repeat = repeat().ok_or("TESTUDO_CRASH_REPEAT must be a number")?;
        Ok(Self { repeat, seed, only: std::env::var("TESTUDO_CRASH_ONLY").unwrap_or_default() })
    }

    fn cases(&self) -> Vec<Case> {
        let faults: Vec<Fault> = Fault::all().into_iter().filter(|fault| fault.name().contains(&self.only)).collect();
        let seeds = self.seed..self.seed + self.repeat;
        let mut cases: Vec<Case> = seeds.flat_map(|seed| faults.iter().map(move |fault| Case { fault: *fault, seed })).collect();
        cases.shuffle(&mut Pcg64::seed_from_u64(self.seed));
        cases
    }

    fn command(&self) -> String {
        let only = if self.only.is_empty() { String::new() } else { format!(" ONLY=\"{}\"", self.only) };
        format!("make crash REPEAT={} SEED={}{only}", self.repeat, self.seed)
    }
}

fn matrix(stack: &Stack) -> Result<(), Failed> {
    let plan = Plan::from_environment()?;
    let started = Instant::now();
    let scorecard = carried_out(stack, &plan)?;
    let table = scorecard.table(&plan.command(), started.elapsed());
    println!("{table}");
    if plan.only.is_empty() {
        publish("scorecard", &table)?;
    }
    match scorecard.bad() {
        0 => Ok(()),
        bad => Err(format!("{bad} cases were not as they should be").into()),
    }
}

/// Runs every case, telling each as it ends.
fn carried_out(stack: &Stack, plan: &Plan) -> Result<Scorecard, Failed> {
    let cases = plan.cases();
    println!("\n{}: {} cases, each also in {}", plan.command(), cases.len(), csv_path().display());
    let mut scorecard = Scorecard::begin()?;
    for (number, case) in cases.iter().enumerate() {
        let line = run(stack, *case);
        let recovery = line.result.as_ref().ok().and_then(|outcome| outcome.recovery);
        println!(
            "[{}/{}] {} SEED={} {:.1} s{}{}",
            number + 1,
            cases.len(),
            case.fault.name(),
            case.seed,
            line.took.as_secs_f64(),
            recovery.map_or_else(String::new, |recovery| format!(", first commit after {} ms", recovery.as_millis())),
            if line.is_good() { String::new() } else { format!(" BAD\n{}", line.fault_found()) },
        );
        scorecard.add(line)?;
        if scorecard.bad() >= BAD_MAX {
            break;
        }
    }
    Ok(scorecard)
}

fn run(stack: &Stack, case: Case) -> Line {
    let started = Instant::now();
    let result = trial::run(stack, case).map_err(|failed| failed.message().unwrap_or("failed").to_owned());
    Line { case, took: started.elapsed(), result }
}
