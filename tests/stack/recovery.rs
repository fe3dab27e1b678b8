//! How long it takes to go on after `kill -9`: with the state at hand, however large it is; taken over by another instance; and
//! with event times from years ago, which must not make a restored state incomplete (TIME-3).

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use libtest_mimic::Failed;
use testudo::emulator::{Emulation, Extent, FleetSettings};
use testudo::stack::Stack;

use crate::Test;
use crate::job::{Job, READING, SMALL_EPOCHS, wait_for};
use crate::matrix::load::Load;
use crate::matrix::progress::Progress;
use crate::matrix::rig::{PARTITIONS, Rig, SESSION_TIMEOUT, TRANSACTION_TIMEOUT, logs_of, ready_partitions};
use crate::matrix::scorecard::{machine_and_versions, publish};

pub const TESTS: &[Test] =
    &[("c55_killed_at_half_with_event_times_of_2023", |stack| old_event_times(stack, 100_000, 10_000, &SMALL_EPOCHS))];

pub const TIMED_TESTS: &[Test] = &[
    ("restart_takes_as_long_with_much_state_as_with_little", |stack| restarts(stack, &[5_000, 50_000], 3).map(|_| ())),
    ("takeover_is_bounded_by_the_time_outs", |stack| takeover(stack).map(|_| ())),
];

pub const LONG_TESTS: &[Test] = &[("crash_recovery", |stack| publish("recovery", &measured(stack)?))];

/// From the restart of the process to its first commit.
const FIRST_COMMIT_WITHIN: Duration = Duration::from_secs(3);
/// How much longer the largest state may take than the smallest: noise of a busy machine, not a trend over a hundredfold size.
const FLAT_WITHIN: Duration = Duration::from_millis(700);
/// Replay of what the taking instance does not have, and what a busy machine adds.
const TAIL_WITHIN: Duration = Duration::from_secs(3);
/// How often this stack's coordinator looks for transactions that have timed out.
const SWEEP: Duration = Duration::from_secs(1);

/// Keeps one open window for each device.
const STATE: &str = r#"
tenant = "NAME"
[source.readings]
topics = ["NAME-in"]
columns = { "dev-id" = "dev_id" }
key = '"dev-id"'
event_time = "readable_time"
[window.state]
from = "readings"
by = ['"dev-id"']
over = { tumbling = "1 day" }
grace = "1 day"
emit = "updates"
topic = "NAME-state"
[window.state.select]
avg_temperature = "avg(temperature)"
total_records = "count(*)"
"#;

/// Restarts with one size of state.
struct Restarts {
    keys: u32,
    state_bytes: u64,
    /// Sorted.
    first_commits: Vec<Duration>,
    from_nothing: FromNothing,
}

/// A start on an empty disk: everything comes from the changelogs.
struct FromNothing {
    /// Changelog records that were replayed.
    entries: u64,
    /// From the beginning of the first partition's replay to the end of the last one's.
    replay: Duration,
    /// From the start of the process.
    first_commit: Duration,
}

impl FromNothing {
    fn entries_per_second(&self) -> u64 {
        (self.entries as f64 / self.replay.as_secs_f64()) as u64
    }
}

impl Restarts {
    fn median(&self) -> Duration {
        self.first_commits[self.first_commits.len() / 2]
    }

    fn worst(&self) -> Duration {
        self.first_commits.last().copied().unwrap_or_default()
    }
}

/// Restarts with states of these sizes; each median is below the bound, and they hardly differ.
fn restarts(stack: &Stack, sizes: &[u32], times: usize) -> Result<Vec<Restarts>, Failed> {
    let all = sizes.iter().map(|keys| restarts_with(stack, *keys, times)).collect::<Result<Vec<_>, _>>()?;
    let medians: Vec<Duration> = all.iter().map(Restarts::median).collect();
    let (least, most) = (medians.iter().min().copied().unwrap_or_default(), medians.iter().max().copied().unwrap_or_default());
    println!("restart to first commit with {sizes:?} keys: {medians:?}");
    match most < FIRST_COMMIT_WITHIN && most - least < FLAT_WITHIN {
        true => Ok(all),
        false => Err(format!("medians with {sizes:?} keys are {medians:?}: not below {FIRST_COMMIT_WITHIN:?} and flat").into()),
    }
}

fn restarts_with(stack: &Stack, keys: u32, times: usize) -> Result<Restarts, Failed> {
    let job = Job::new(stack, STATE, &[("NAME-in", READING)])?;
    job.create_topic(&job.topic("in"), PARTITIONS)?;
    let schema = job.register(&job.topic("in"), READING)?;
    send(&job, u64::from(keys), keys, None)?;
    let progress = Progress::of(&job, PARTITIONS)?;
    let first = job.start("one", &[])?;
    progress.wait_for_everything()?;
    let load = Load::start(&job, schema, 1_000);
    wait_for("the load", || Ok(progress.committed()? > i64::from(keys)))?;
    first.kill()?;
    let mut first_commits = Vec::with_capacity(times);
    for _ in 0..times {
        let (before, since) = (progress.committed()?, Instant::now());
        let mut running = job.start("one", &[])?;
        let first_commit = progress.first_commit_of(&mut running, before, since);
        first_commits.push(first_commit.map_err(|failed| format!("{}\n{}", failed.message().unwrap_or_default(), logs_of(&job)))?);
        std::thread::sleep(Duration::from_millis(300));
        running.kill()?;
    }
    first_commits.sort_unstable();
    let state_bytes = bytes_in(&job.path("state"));
    let from_nothing = from_nothing(&job, &progress)?;
    load.stop()?;
    job.drain()?;
    job.audit()?;
    Ok(Restarts { keys, state_bytes, first_commits, from_nothing })
}

/// Starts without the state folder, under load.
fn from_nothing(job: &Job<'_>, progress: &Progress) -> Result<FromNothing, Failed> {
    std::fs::remove_dir_all(job.path("state"))?;
    let (before, since) = (progress.committed()?, Instant::now());
    let mut running = job.start("one", &[])?;
    let first_commit = progress.first_commit_of(&mut running, before, since)?;
    wait_for("every partition", || Ok(ready_partitions(&running.log()).len() == PARTITIONS as usize))?;
    let (entries, replay) = replayed(&running.log())?;
    running.kill()?;
    let restored = FromNothing { entries, replay, first_commit };
    println!("{entries} entries from the changelogs in {replay:?}: {} a second", restored.entries_per_second());
    Ok(restored)
}

/// Changelog records that an instance says it has replayed, and the time from the first beginning to the last end.
fn replayed(log: &str) -> Result<(u64, Duration), Failed> {
    let lines: Vec<serde_json::Value> = log.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let said = |message: &'static str| lines.iter().filter(move |line| line["message"] == message);
    let time = |line: &serde_json::Value| -> Result<chrono::DateTime<chrono::FixedOffset>, Failed> {
        Ok(chrono::DateTime::parse_from_rfc3339(line["timestamp"].as_str().ok_or("a log line has a timestamp")?)?)
    };
    let begun = said("restoring from changelog").map(time).collect::<Result<Vec<_>, _>>()?.into_iter().min();
    let ended = said("partition ready").map(time).collect::<Result<Vec<_>, _>>()?.into_iter().max();
    let entries = said("partition ready").filter_map(|line| line["entries"].as_u64()).sum();
    match (begun, ended, entries) {
        (Some(begun), Some(ended), 1..) => Ok((entries, (ended - begun).to_std()?)),
        _ => Err("an empty disk is restored from changelogs, and the log says so".into()),
    }
}

/// One of two instances dies; how long until the other has moved every partition on.
fn takeover(stack: &Stack) -> Result<Duration, Failed> {
    let mut rig = Rig::new(stack)?;
    let load = rig.load(u64::from(std::process::id()));
    let (one, two) = (rig.start("one", "", 2)?, rig.start("two", "", 2)?);
    wait_for("both to own partitions", || Ok(!ready_partitions(&one.log()).is_empty() && !ready_partitions(&two.log()).is_empty()))?;
    rig.wait_for_more(4_000)?;
    one.kill()?;
    let took = rig.progress.all_moved(Instant::now())?;
    load.stop()?;
    let verdict = rig.judge(vec![two])?;
    // Positions of an open transaction are not known before the coordinator has aborted it.
    let bound = SESSION_TIMEOUT.max(TRANSACTION_TIMEOUT + SWEEP) + TAIL_WITHIN;
    println!("taken over after {took:?}");
    match verdict.is_clean() && took < bound {
        true => Ok(took),
        false => Err(format!("taken over after {took:?}, bound {bound:?}; {verdict:#?}\n{}", rig.logs()).into()),
    }
}

/// Readings of 2023: killed at half, and, with the state folder removed, at three quarters. Every window comes out right, as if
/// nothing had happened. Changelogs cleaned by event time would have lost their heads.
fn old_event_times(stack: &Stack, records: u64, devices: u32, environment: &[(&str, &str)]) -> Result<(), Failed> {
    const NEW_YEAR_2023_MS: i64 = 1_672_531_200_000;
    let file = crate::job::ZOO.split("[mongo.").next().unwrap_or_default();
    let job = Job::new(stack, file, &[("NAME-in", READING)])?;
    job.create_topic(&job.topic("in"), PARTITIONS)?;
    job.register(&job.topic("in"), READING)?;
    send(&job, records, devices, Some(NEW_YEAR_2023_MS))?;
    for (share, loses_state) in [(0.5, false), (0.75, true)] {
        let running = job.start("one", environment)?;
        job.wait_committed((records as f64 * share) as i64)?;
        running.kill()?;
        if loses_state {
            std::fs::remove_dir_all(job.path("state"))?;
        }
    }

    job.drain()?;

    job.audit()
}

/// A fleet's readings, flat out.
fn send(job: &Job<'_>, records: u64, devices: u32, base_time_ms: Option<i64>) -> Result<(), Failed> {
    let schema = job.register(&job.topic("in"), READING)?;
    let emulation = Emulation {
        topic: job.topic("in"),
        schema: READING.to_owned(),
        fleet: FleetSettings { devices, ..FleetSettings::default() },
        extent: Extent::Records(records),
        base_time_ms,
        ..Emulation::default()
    };
    let kafka = testudo::kafka::Settings { bootstrap: job.stack.bootstrap(), ..Default::default() };
    emulation.run(&kafka, schema)?;
    Ok(())
}

/// The long version's table.
fn measured(stack: &Stack) -> Result<String, Failed> {
    const TIMES: usize = 7;
    let all = restarts(stack, &[10_000, 100_000, 1_000_000], TIMES)?;
    let taken_over = takeover(stack)?;
    old_event_times(stack, 2_000_000, 200_000, &[])?;
    let mut text = format!(
        "Written by `make crash` on {}; {}.\n\n| keys in the state | state folder, MiB | restart to first commit, median of {TIMES}, ms | worst, ms | \
         on an empty disk, ms | changelog entries replayed | of these in a second |\n|---:|---:|---:|---:|---:|---:|---:|\n",
        chrono::Utc::now().format("%Y-%m-%d"),
        machine_and_versions(),
    );
    for one in &all {
        let (median, worst, restored) = (one.median().as_millis(), one.worst().as_millis(), &one.from_nothing);
        writeln!(
            text,
            "| {} | {} | {median} | {worst} | {} | {} | {} |",
            one.keys,
            one.state_bytes >> 20,
            restored.first_commit.as_millis(),
            restored.entries,
            restored.entries_per_second()
        )?;
    }
    write!(
        text,
        "\nTaken over by another instance (session time-out {} s, transaction time-out {} s): every partition had moved after {} ms. \
         2,000,000 readings of 200,000 devices with event times of 2023, killed at half, and killed again at three quarters with the state \
         folder removed: every window right.",
        SESSION_TIMEOUT.as_secs(),
        TRANSACTION_TIMEOUT.as_secs(),
        taken_over.as_millis()
    )?;
    Ok(text)
}

fn bytes_in(folder: &std::path::Path) -> u64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| if entry.path().is_dir() { bytes_in(&entry.path()) } else { entry.metadata().map_or(0, |data| data.len()) }).sum()
}
