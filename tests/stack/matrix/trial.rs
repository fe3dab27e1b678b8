//! One case: a tenant under load, one kind of fault several times, the way back each time, and the judgement.

use std::time::{Duration, Instant};

use libtest_mimic::Failed;
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64;
use testudo::stack::Stack;

use super::fault::{Fault, Place};
use super::rig::Rig;
use super::verdict::Verdict;
use crate::job::Instance;

/// Records that are committed before something goes wrong, where the fault has no place of its own.
pub const SETTLED: i64 = 1_000;

/// A fault and the seed of everything random about it.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// What goes wrong.
    pub fault: Fault,
    /// Decides moments, passes, delays, records and the number of instances.
    pub seed: u64,
    /// How often it goes wrong before the judgement.
    pub hits: u64,
}

/// What a case came to.
pub struct Outcome {
    /// The judgement.
    pub verdict: Verdict,
    /// How often the fault struck.
    pub hits: u64,
    /// From each restart (or end of a fault) to the first commit, where nobody else could commit meanwhile.
    pub recoveries: Vec<Duration>,
    /// Instances that took part.
    pub instances: usize,
}

/// A case while it goes on.
pub struct Play<'r, 's> {
    /// The tenant.
    pub rig: &'r Rig<'s>,
    /// Everything random.
    pub rng: Pcg64,
    /// Instances beside `one`, to which things happen.
    pub others: Vec<Instance>,
    /// Ways back so far.
    pub recoveries: Vec<Duration>,
    /// Faults so far.
    pub hits: u64,
}

/// Runs a case on a tenant of its own.
pub fn run(stack: &Stack, case: Case) -> Result<Outcome, Failed> {
    let mut rig = Rig::new(stack)?;
    let outcome = inject_and_judge(&mut rig, case);
    // Whatever happened, the next case finds everything running.
    if case.fault.place() == Place::Alone {
        stack.start_broker()?;
        stack.start_registry()?;
        stack.start_mongod()?;
    }
    if case.fault.place() == Place::ThreeBrokers {
        (1..=3).try_for_each(|number| stack.start_broker_of(number))?;
    }
    let told = |failed: Failed| Failed::from(format!("{}\n{}", failed.message().unwrap_or("failed"), rig.logs()));
    let outcome = outcome.map_err(told)?;
    match outcome.verdict.is_clean() {
        true => Ok(outcome),
        false => Ok(Outcome {
            verdict: Verdict { findings: [outcome.verdict.findings, vec![rig.logs()]].concat(), ..outcome.verdict },
            ..outcome
        }),
    }
}

fn inject_and_judge(rig: &mut Rig<'_>, case: Case) -> Result<Outcome, Failed> {
    // What stands between the program and its surroundings is there before it, and after it.
    let between = super::disturb::prepare(rig, case.fault)?;
    let load = rig.load(case.seed);
    let mut play = Play { rig, rng: Pcg64::seed_from_u64(case.seed), others: Vec::new(), recoveries: Vec::new(), hits: 0 };
    play.invite(case.fault)?;
    let one = match case.fault {
        Fault::Point(point) => play.die_at(point, case.hits)?,
        Fault::Kill => play.be_killed(case.hits)?,
        Fault::Memory => play.starve(case.hits)?,
        Fault::Panic => play.panic(case.hits)?,
        fault => play.disturb(fault, &between, case.hits)?,
    };
    // What comes after the faults is worked on like what came before.
    rig.wait_for_more(SETTLED)?;
    load.stop()?;
    let Play { mut others, recoveries, hits, .. } = play;
    others.push(one);
    let instances = others.len();
    let verdict = rig.judge(others)?;
    drop(between);
    Ok(Outcome { verdict, hits, recoveries, instances })
}

impl Play<'_, '_> {
    /// Other instances that work beside the one that something happens to: none in most cases, one or two in others.
    fn invite(&mut self, fault: Fault) -> Result<(), Failed> {
        let count = match self.rng.random_range(0..10) {
            _ if !fault.may_have_companions() => 0,
            0..7 => 0,
            7..9 => 1,
            _ => 2,
        };
        for name in ["two", "three"].into_iter().take(count) {
            self.others.push(self.rig.start(name, "", 1)?);
        }
        Ok(())
    }

    /// Workers of instance `one`: two where it is alone.
    pub fn workers(&self) -> usize {
        if self.others.is_empty() { 2 } else { 1 }
    }

    /// A random time.
    pub fn some_ms(&mut self, range: std::ops::Range<u64>) -> Duration {
        Duration::from_millis(self.rng.random_range(range))
    }

    /// Notes a way back, unless others could commit meanwhile.
    pub fn note(&mut self, recovery: Option<Duration>) {
        self.recoveries.extend(recovery.filter(|_| self.others.is_empty()));
    }

    /// Starts instance `one` and waits for its first commit.
    pub fn back(&mut self) -> Result<Instance, Failed> {
        let (before, since) = (self.rig.progress.committed()?, Instant::now());
        let mut one = self.rig.start("one", "", self.workers())?;
        let recovery = self.rig.progress.first_commit_of(&mut one, before, since)?;
        self.note(Some(recovery));
        Ok(one)
    }
}
