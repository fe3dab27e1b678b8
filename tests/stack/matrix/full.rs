//! `make crash`: every fault many times, in random order, three tenants at a time where nobody is in another's way.
//!
//! `TESTUDO_CRASH_REPEAT` is how often each kill point is hit at least; a case hits it [`HITS`] times on one tenant.
//! `TESTUDO_CRASH_SEED` is the seed of the first case of each fault (the next one's is one more) and of the order,
//! `TESTUDO_CRASH_ONLY` a part of a fault's name, or several with commas between. With the three of a line of the output a case is
//! repeated. `TESTUDO_CRASH_RESUME` goes on where a run of the same three broke off.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use libtest_mimic::Failed;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_pcg::Pcg64;
use testudo::stack::{Options, Ports, Stack};

use super::disturb::hindrance;
use super::fault::{Fault, HITS, Place};
use super::scorecard::{Line, RunFacts, Scorecard, csv_path, publish};
use super::trial::{self, Case};
use crate::Test;

pub const LONG_TESTS: &[Test] = &[("crash_matrix", matrix)];

/// After so many bad cases the rest would say nothing new.
const BAD_MAX: usize = 20;
/// Cases at a time that are not in each other's way: they wait more than they work.
const LANES: usize = 3;

/// What to run.
struct Plan {
    repeat: u64,
    seed: u64,
    only: String,
    is_resumed: bool,
}

/// What has been run.
struct Told {
    scorecard: Scorecard,
    number: usize,
    of: usize,
}

/// How often each kill point is to be hit; nothing: this is not `make crash`.
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
        let is_resumed = std::env::var("TESTUDO_CRASH_RESUME").is_ok_and(|resume| !resume.is_empty());
        Ok(Self { repeat, seed, only: std::env::var("TESTUDO_CRASH_ONLY").unwrap_or_default(), is_resumed })
    }

    /// The kinds asked for: those that can happen here, and those that cannot, with the reason.
    fn faults(&self) -> (Vec<Fault>, Vec<(&'static str, &'static str)>) {
        let is_wanted = |fault: &Fault| self.only.split(',').any(|part| fault.name().contains(part.trim()));
        let wanted: Vec<Fault> = Fault::all().into_iter().filter(is_wanted).collect();
        let missing = wanted.iter().filter_map(|fault| Some((fault.name(), hindrance(*fault)?))).collect();
        (wanted.into_iter().filter(|fault| hindrance(*fault).is_none()).collect(), missing)
    }

    fn cases(&self, faults: &[Fault]) -> Vec<Case> {
        let seeds = |fault: Fault| self.seed..self.seed + fault.cases(self.repeat);
        let mut cases: Vec<Case> =
            faults.iter().flat_map(|fault| seeds(*fault).map(|seed| Case { fault: *fault, seed, hits: HITS })).collect();
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
    let (faults, missing) = plan.faults();
    for (fault, why) in &missing {
        println!("skipped: {fault}: {why}");
    }
    let mut cases = plan.cases(&faults);
    let (of, last_seed) = (cases.len(), cases.iter().map(|case| case.seed).max().unwrap_or(plan.seed));
    let scorecard = if plan.is_resumed { Scorecard::resume()? } else { Scorecard::begin()? };
    cases.retain(|case| !scorecard.cases().any(|told| (told.fault.name(), told.seed) == (case.fault.name(), case.seed)));
    let resumed = of - cases.len();
    println!("\n{}: {of} cases, {resumed} of them told before, each also in {}", plan.command(), csv_path().display());
    let told = Mutex::new(Told { scorecard, number: resumed, of });
    carried_out(stack, &cases, &told)?;
    let scorecard = told.into_inner().unwrap_or_else(PoisonError::into_inner).scorecard;
    let seeds = format!("{} to {last_seed}", plan.seed);
    let table = scorecard.table(&RunFacts { command: plan.command(), took: started.elapsed(), resumed, seeds, missing });
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
fn carried_out(stack: &Stack, cases: &[Case], told: &Mutex<Told>) -> Result<(), Failed> {
    let at = |place| cases.iter().filter(|case| case.fault.place() == place).copied().collect::<VecDeque<Case>>();
    in_lanes(LANES, stack, at(Place::Beside), told)?;
    in_lanes(1, stack, at(Place::Alone), told)?;
    let with_three = at(Place::ThreeBrokers);
    if with_three.is_empty() {
        return Ok(());
    }
    let dir = tempfile::tempdir()?;
    let options = Options {
        dir: dir.path().to_owned(),
        ports: Ports::Free,
        kafka_heap_mib: 320,
        fast_failure_settings: true,
        brokers: 3,
        ..Options::default()
    };
    let three = Stack::up(options)?;
    in_lanes(1, &three, with_three, told)?;
    Ok(three.down()?)
}

fn in_lanes(lanes: usize, stack: &Stack, cases: VecDeque<Case>, told: &Mutex<Told>) -> Result<(), Failed> {
    let cases = Mutex::new(cases);
    std::thread::scope(|scope| {
        let running: Vec<_> = (0..lanes).map(|_| scope.spawn(|| one_after_the_other(stack, &cases, told))).collect();
        running.into_iter().try_for_each(|lane| lane.join().map_err(|_| "a lane panicked")?.map_err(Failed::from))
    })
}

fn one_after_the_other(stack: &Stack, cases: &Mutex<VecDeque<Case>>, told: &Mutex<Told>) -> Result<(), String> {
    loop {
        if lock(told).scorecard.bad() >= BAD_MAX {
            return Ok(());
        }
        let Some(case) = lock(cases).pop_front() else { return Ok(()) };
        let line = run(stack, case);
        tell(&mut lock(told), line).map_err(|failed| failed.message().unwrap_or("a line was not written").to_owned())?;
    }
}

fn tell(told: &mut Told, line: Line) -> Result<(), Failed> {
    told.number += 1;
    let recoveries: Vec<String> =
        line.result.iter().flat_map(|outcome| &outcome.recoveries).map(|recovery| recovery.as_millis().to_string()).collect();
    println!(
        "[{}/{}] {} SEED={} {:.1} s, first commits after [{}] ms{}",
        told.number,
        told.of,
        line.case.fault.name(),
        line.case.seed,
        line.took.as_secs_f64(),
        recoveries.join(" "),
        if line.is_good() { String::new() } else { format!(" BAD\n{}", line.fault_found()) },
    );
    told.scorecard.add(line)
}

fn run(stack: &Stack, case: Case) -> Line {
    let started = Instant::now();
    let result = catch_unwind(AssertUnwindSafe(|| trial::run(stack, case)));
    let result = result.unwrap_or_else(|_| Err("the case panicked".into()));
    let result = result.map_err(|failed| failed.message().unwrap_or("failed").to_owned());
    Line { case, took: started.elapsed(), result }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
