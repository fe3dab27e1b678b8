//! Who runs beside whom. Each test belongs to a lane; a lane takes so many of its tests at a time, in their order, and all lanes of a
//! round run at once. How long each test took is told at the end.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::RangeInclusive;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use libtest_mimic::{Arguments, Failed, Trial};
use tempfile::TempDir;
use testudo::stack::{Options, Ports, Stack};

use crate::Test;

/// So many of the slowest tests are told.
const SLOWEST: usize = 10;
/// So many lines of a failure are told once more at the end, the last ones, and so many characters of each.
const TOLD_LINES: usize = 6;
const TOLD_CHARACTERS: usize = 400;
/// Where the machine was busier, in percent, no test is begun beside those that have to be.
const BUSY_MAX: u64 = 75;
/// For so long: what a test costs shows only after its start.
const LOOKED_AT_FOR: Duration = Duration::from_secs(3);

/// A lane: tests that may disturb each other take turns in one, tests that disturb those of another lane have a stack of their own.
pub struct Lane {
    /// Name in the table of times.
    pub name: &'static str,
    /// Which stack its tests work on; lanes with the same number share one.
    pub stack: usize,
    /// So many of them at a time: always the least, up to the most while the machine has time.
    pub at_a_time: RangeInclusive<usize>,
    /// Its tests, those that take longest first.
    pub tests: Vec<Test>,
}

/// A test that has ended.
struct Ended {
    name: &'static str,
    lane: &'static str,
    took: Duration,
    /// Why it failed, where it did.
    failure: Option<String>,
}

/// What ran, and how long.
#[derive(Default)]
pub struct Report {
    has_failed: bool,
    ended: Vec<Ended>,
    /// How busy the machine was in each round, in percent: near 100, more tests at a time take longer.
    busy: Vec<u64>,
}

/// What all cores have done since the machine started, in clock ticks.
struct Busy {
    all: u64,
    idle: u64,
}

impl Busy {
    /// From the first line of `/proc/stat`: user, nice, system, idle, iowait, …; zeros where there is none. What is nice gives way: it
    /// counts as idle.
    fn now() -> Self {
        let text = std::fs::read_to_string("/proc/stat").unwrap_or_default();
        let ticks: Vec<u64> =
            text.lines().next().unwrap_or_default().split_ascii_whitespace().filter_map(|tick| tick.parse().ok()).collect();
        Self { all: ticks.iter().sum(), idle: [1, 3, 4].iter().filter_map(|column| ticks.get(*column)).sum() }
    }

    fn since(&self, before: &Self) -> u64 {
        let all = self.all.saturating_sub(before.all).max(1);
        100 - (self.idle.saturating_sub(before.idle) * 100 / all).min(100)
    }
}

impl Report {
    /// Whether a test failed.
    pub fn has_failed(&self) -> bool {
        self.has_failed
    }

    /// The slowest tests, what each lane did, what failed and why.
    pub fn print(&mut self) {
        self.ended.sort_by_key(|test| std::cmp::Reverse(test.took));
        println!("slowest tests, with waiting for each other on a busy machine:");
        for Ended { name, lane, took, .. } in self.ended.iter().take(SLOWEST) {
            println!("{:>7.1} s  {lane:<8} {name}", took.as_secs_f64());
        }
        let mut lanes = BTreeMap::<&str, (usize, Duration)>::new();
        for test in &self.ended {
            let (tests, sum) = lanes.entry(test.lane).or_default();
            (*tests, *sum) = (*tests + 1, *sum + test.took);
        }
        for (lane, (tests, sum)) in lanes {
            println!("{:>7.1} s  {lane:<8} sum of {tests} tests", sum.as_secs_f64());
        }
        println!("the machine was busy in each round, in percent: {:?}", self.busy);
        for Ended { name, failure, .. } in &self.ended {
            let Some(failure) = failure else { continue };
            println!("failed: {name}");
            let lines: Vec<&str> = failure.lines().collect();
            for line in &lines[lines.len().saturating_sub(TOLD_LINES)..] {
                println!("  {}", line.chars().take(TOLD_CHARACTERS).collect::<String>());
            }
        }
    }
}

/// Whose turn it is in a lane.
struct Turns {
    at_a_time: RangeInclusive<usize>,
    state: Mutex<Turn>,
    changed: Condvar,
}

struct Turn {
    next: usize,
    running: usize,
    /// From when on the machine is looked at, and what it had done by then.
    since: (Instant, Busy),
}

impl Turn {
    fn look_again(&mut self) {
        self.since = (Instant::now(), Busy::now());
    }

    /// Whether one more may run.
    fn has_room(&mut self, at_a_time: &RangeInclusive<usize>) -> bool {
        if self.running < *at_a_time.start() {
            return true;
        }
        if self.running >= *at_a_time.end() || self.since.0.elapsed() < LOOKED_AT_FOR {
            return false;
        }
        let busy = Busy::now().since(&self.since.1);
        self.look_again();
        busy <= BUSY_MAX
    }
}

/// A test that has its turn; the end of it is the next one's beginning.
struct Running<'t>(&'t Turns);

impl Turns {
    fn new(at_a_time: RangeInclusive<usize>) -> Self {
        let turn = Turn { next: 0, running: 0, since: (Instant::now(), Busy::now()) };
        Self { at_a_time, state: Mutex::new(turn), changed: Condvar::new() }
    }

    /// Waits until the test of this number may run.
    fn wait_for(&self, number: usize) -> Running<'_> {
        let is_not_next = |turn: &mut Turn| turn.next != number;
        let mut turn = self.changed.wait_while(self.state(), is_not_next).unwrap_or_else(PoisonError::into_inner);
        while !turn.has_room(&self.at_a_time) {
            turn = self.changed.wait_timeout(turn, LOOKED_AT_FOR).unwrap_or_else(PoisonError::into_inner).0;
        }
        turn.next += 1;
        turn.running += 1;
        turn.look_again();
        self.changed.notify_all();
        Running(self)
    }

    fn state(&self) -> MutexGuard<'_, Turn> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.state().running -= 1;
        self.0.changed.notify_all();
    }
}

/// Runs a test and notes how it ended.
fn noted(
    name: &'static str,
    lane: &'static str,
    ended: &Mutex<Vec<Ended>>,
    test: impl FnOnce() -> Result<(), Failed>,
) -> Result<(), Failed> {
    let started = Instant::now();
    let outcome = catch_unwind(AssertUnwindSafe(test));
    let failure = match &outcome {
        Ok(Ok(())) => None,
        Ok(Err(failed)) => Some(failed.message().unwrap_or("no reason is given").to_owned()),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
            Some(text.unwrap_or("a panic without words").to_owned())
        }
    };
    ended.lock().unwrap_or_else(PoisonError::into_inner).push(Ended { name, lane, took: started.elapsed(), failure });
    outcome.unwrap_or_else(|panic| resume_unwind(panic))
}

/// Names every test of these lanes, or those that the arguments want.
pub fn list(arguments: &Arguments, rounds: &[Vec<Lane>]) {
    let tests = rounds.iter().flatten().flat_map(|lane| &lane.tests);
    libtest_mimic::run(arguments, tests.map(|(name, _)| Trial::test(*name, || Ok(()))).collect()).exit_if_failed();
}

/// Runs the rounds one after the other, of each what the arguments want, and reports what ran. A stack runs from the first round that needs
/// it to the last.
pub fn run(arguments: &Arguments, rounds: Vec<Vec<Lane>>, report: &mut Report) -> anyhow::Result<()> {
    let is_wanted = |(name, _): &Test| !arguments.is_filtered_out(&Trial::test(*name, || Ok(())));
    let wanted = |lane: Lane| Lane { tests: lane.tests.into_iter().filter(is_wanted).collect(), ..lane };
    let mut rounds: VecDeque<Vec<Lane>> = rounds
        .into_iter()
        .map(|lanes| lanes.into_iter().map(wanted).filter(|lane| !lane.tests.is_empty()).collect::<Vec<_>>())
        .filter(|lanes| !lanes.is_empty())
        .collect();
    let mut stacks = BTreeMap::<usize, Servers>::new();
    while let Some(lanes) = rounds.pop_front() {
        let missing: BTreeSet<usize> = lanes.iter().map(|lane| lane.stack).filter(|number| !stacks.contains_key(number)).collect();
        stacks.extend(in_parallel::<_, _, Vec<_>>(missing.into_iter().collect(), |number| Ok((number, Servers::start()?)))?);
        let before = Busy::now();
        one_round(arguments, lanes, &stacks, report);
        report.busy.push(Busy::now().since(&before));
        let (needed, done) = stacks.into_iter().partition(|(number, _)| rounds.iter().flatten().any(|lane| lane.stack == *number));
        stacks = needed;
        in_parallel::<_, (), Vec<()>>(BTreeMap::into_values(done).collect(), Servers::stop)?;
    }
    Ok(())
}

fn one_round(arguments: &Arguments, lanes: Vec<Lane>, stacks: &BTreeMap<usize, Servers>, report: &mut Report) {
    let ended = Arc::new(Mutex::new(Vec::new()));
    let mut trials = Vec::new();
    for lane in lanes {
        let turns = Arc::new(Turns::new(lane.at_a_time));
        for (number, (name, test)) in lane.tests.into_iter().enumerate() {
            let (turns, stack, ended, lane) = (turns.clone(), stacks[&lane.stack].stack.clone(), ended.clone(), lane.name);
            trials.push(Trial::test(name, move || {
                let _running = turns.wait_for(number);
                noted(name, lane, &ended, || test(&stack))
            }));
        }
    }
    // One thread for each: the lanes decide who waits.
    let arguments = Arguments { test_threads: Some(trials.len()), ..arguments.clone() };
    report.has_failed |= libtest_mimic::run(&arguments, trials).has_failed();
    report.ended.append(&mut ended.lock().unwrap_or_else(PoisonError::into_inner));
}

/// A stack that runs, and its folder.
struct Servers {
    stack: Arc<Stack>,
    _dir: TempDir,
}

impl Servers {
    /// Once more in another folder when that fails: another program may take a free port before a server does.
    fn start() -> anyhow::Result<Self> {
        Self::try_to_start().or_else(|error| {
            eprintln!("a stack did not start, trying again: {error:#}");
            Self::try_to_start()
        })
    }

    fn try_to_start() -> anyhow::Result<Self> {
        let dir = tempfile::tempdir()?;
        let path = dir.path().to_owned();
        let options = Options {
            dir: path,
            ports: Ports::Free,
            fast_failure_settings: true,
            fault_listener: true,
            secured: true,
            ..Options::default()
        };
        Ok(Self { stack: Arc::new(Stack::up(options)?), _dir: dir })
    }

    fn stop(self) -> anyhow::Result<()> {
        Arc::into_inner(self.stack).ok_or_else(|| anyhow::anyhow!("a test still holds its stack"))?.down()
    }
}

fn in_parallel<T: Send, R: Send, C: FromIterator<R>>(items: Vec<T>, act: impl Fn(T) -> anyhow::Result<R> + Sync) -> anyhow::Result<C> {
    thread::scope(|scope| {
        let act = &act;
        let threads: Vec<_> = items.into_iter().map(|item| scope.spawn(move || act(item))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap_or_else(|panic| resume_unwind(panic))).collect()
    })
}
