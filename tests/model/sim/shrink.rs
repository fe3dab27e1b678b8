//! Makes a failing run small: fewer kinds of faults, machines, workers, records and steps, as long as it still fails.

use super::plan::Plan;
use super::run::{Wrong, run};

/// So many runs are spent on one failure.
const RUNS_MAX: usize = 250;
/// A smaller run may need another seed; so many are tried for each.
const SEEDS: u64 = 3;

/// Shrinks.
struct Shrinking {
    best: Plan,
    wrong: Wrong,
    runs_left: usize,
}

/// A small plan that fails, and how; it need not fail in the same way.
pub fn shrink(plan: &Plan, wrong: Wrong) -> (Plan, Wrong) {
    let mut shrinking = Shrinking { best: plan.clone(), wrong, runs_left: RUNS_MAX };
    loop {
        let before = shrinking.best.clone();
        for fault in before.faults.iter() {
            shrinking.attempt(|plan| plan.faults.set(fault, false));
        }
        shrinking.attempt(|plan| plan.is_static = false);
        shrinking.attempt(|plan| plan.is_eager = false);
        shrinking.attempt(|plan| plan.has_ledger = false);
        shrinking.attempt(|plan| plan.machines = 1);
        shrinking.attempt(|plan| plan.machines -= usize::from(plan.machines > 1));
        shrinking.attempt(|plan| plan.workers = 1);
        for (numerator, denominator) in [(1, 4), (1, 2), (3, 4)] {
            shrinking.attempt(|plan| plan.records = (plan.records * numerator / denominator).max(1));
            shrinking.attempt(|plan| plan.steps = plan.steps * numerator / denominator);
        }
        if shrinking.best == before || shrinking.runs_left == 0 {
            return (shrinking.best, shrinking.wrong);
        }
    }
}

impl Shrinking {
    fn attempt(&mut self, change: impl Fn(&mut Plan)) {
        let mut smaller = self.best.clone();
        change(&mut smaller);
        if smaller == self.best {
            return;
        }
        for other in 0..SEEDS {
            if self.runs_left == 0 {
                return;
            }
            self.runs_left -= 1;
            let candidate = Plan { seed: self.best.seed + other * 1_000_003, ..smaller.clone() };
            if let Err(wrong) = run(&candidate, true) {
                (self.best, self.wrong) = (candidate, wrong);
                return;
            }
        }
    }
}
