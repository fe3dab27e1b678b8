//! What a run does: everything that decides it is here, so that a line of text replays it.

use std::fmt;
use std::str::FromStr;

use super::faults::{Fault, Faults};
use super::planted::Planted;
use super::random::Random;

/// A run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Where all chance comes from.
    pub seed: u64,
    /// Input records.
    pub records: usize,
    /// Moves of the scheduler before everything heals.
    pub steps: usize,
    /// Machines, each with a disk and an instance of the tenant.
    pub machines: usize,
    /// Workers of each instance.
    pub workers: usize,
    /// Whether workers are static members of their group.
    pub is_static: bool,
    /// Whether members give everything up before each rebalance, as the eager protocol has it; else they are cooperative.
    pub is_eager: bool,
    /// Whether every transaction writes a record of itself.
    pub has_ledger: bool,
    /// Faults that may strike.
    pub faults: Faults,
    /// A bug that is put in on purpose.
    pub planted: Option<Planted>,
}

impl Plan {
    /// The run of a seed. Each has its own mixture of faults: some combinations hide behind others (swarm testing).
    pub fn of_seed(seed: u64) -> Self {
        let mut random = Random::new(seed, 0);
        let mut faults = Faults::default();
        for fault in Fault::ALL {
            faults.set(fault, random.permille(550));
        }
        Self {
            seed,
            records: 30 + random.below(130),
            steps: 60 + random.below(240),
            machines: 1 + random.below(3),
            workers: 1 + random.below(2),
            is_static: random.permille(250),
            is_eager: random.permille(200),
            has_ledger: random.permille(300),
            faults,
            planted: None,
        }
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words: Vec<&str> = self.faults.iter().map(Fault::word).collect();
        write!(
            f,
            "seed={} records={} steps={} machines={} workers={} static={} eager={} ledger={} faults={}",
            self.seed,
            self.records,
            self.steps,
            self.machines,
            self.workers,
            u8::from(self.is_static),
            u8::from(self.is_eager),
            u8::from(self.has_ledger),
            words.join(",")
        )?;
        self.planted.map_or(Ok(()), |planted| write!(f, " planted={}", planted.word()))
    }
}

impl FromStr for Plan {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts: Vec<(&str, &str)> = text.split_whitespace().filter_map(|part| part.split_once('=')).collect();
        let value = |name: &str| parts.iter().find(|(key, _)| *key == name).map(|(_, value)| *value);
        let number = |name: &str| value(name).map(|value| value.parse::<u64>().map_err(|error| format!("{name}: {error}"))).transpose();
        let mut plan = Self::of_seed(number("seed")?.ok_or("a plan begins with seed=<number>")?);
        plan.records = number("records")?.map_or(plan.records, |records| records as usize);
        plan.steps = number("steps")?.map_or(plan.steps, |steps| steps as usize);
        plan.machines = number("machines")?.map_or(plan.machines, |machines| machines as usize);
        plan.workers = number("workers")?.map_or(plan.workers, |workers| workers as usize);
        let is = |name: &str, otherwise: bool| Ok::<bool, String>(number(name)?.map_or(otherwise, |number| number == 1));
        plan.is_static = is("static", plan.is_static)?;
        plan.is_eager = is("eager", plan.is_eager)?;
        plan.has_ledger = is("ledger", plan.has_ledger)?;
        if let Some(words) = value("faults") {
            plan.faults = Faults::default();
            for word in words.split(',').filter(|word| !word.is_empty()) {
                plan.faults.set(Fault::by_word(word).ok_or_else(|| format!("there is no fault {word}"))?, true);
            }
        }
        if let Some(word) = value("planted") {
            let planted = Planted::all().find(|planted| planted.word() == word);
            plan.planted = Some(planted.ok_or_else(|| format!("there is no bug {word}"))?);
        }
        Ok(plan)
    }
}
