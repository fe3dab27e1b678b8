//! How long it takes to go on after `kill -9` with the state at hand, however large it is; how fast an empty disk is restored; what a key
//! takes on disk and in the changelog.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, ensure};
use rand::SeedableRng;
use rand_pcg::Pcg64;
use rdkafka::producer::Producer;
use testudo::kafka::partitioner::Partitioner;

use crate::Args;
use crate::book::{Book, OURS};
use crate::job::{Job, tail, value};
use crate::machine::{median, say, wall_us};
use crate::peers::Kit;
use crate::progress::Progress;
use crate::reading::{self, Fleet, Reading};
use crate::restore;
use crate::rig::{ANSWER_WITHIN, Rig, bytes_in};

const PARTITIONS: i32 = 4;
/// Readings per second while the program is killed and started.
const RATE: u64 = 1_000;
const RESTARTS: usize = 5;
const WITHIN: Duration = Duration::from_secs(120);
const HEADER: [&str; 8] =
    ["keys", "restarts", "median_ms", "worst_ms", "restored_entries", "restored_per_s", "disk_bytes_per_key", "changelog_bytes_per_key"];

/// Keeps one open window for each device.
const STATE: &str = r#"
tenant = "TENANT"
[source.readings]
topics = ["TOPIC"]
schema = "reading.avsc"
key = "dev_id"
event_time = "to_timestamp_millis(\"time\") AT TIME ZONE 'UTC'"
[window.state]
from = "readings"
by = ["dev_id"]
over = { tumbling = "1 day" }
grace = "1 day"
emit = "updates"
topic = "TENANT-state"
[window.state.select]
avg_temperature = "avg(temperature)"
total_records = "count(*)"
"#;

/// What was measured with one size of state.
struct Size {
    keys: u32,
    restarts_ms: Vec<f64>,
    restored: restore::Restored,
    disk_per_key: f64,
    changelog_per_key: f64,
}

/// Measures each size, then peers.
pub fn measure(rig: &Rig, args: &Args, book: &mut Book) -> anyhow::Result<()> {
    book.forget(&["recovery-", "restore", "disk-per-key", "changelog-per-key"]);
    let most = u32::try_from((args.records / 5).min(1_000_000))?;
    let mut rows = Vec::new();
    for keys in [10_000, 100_000, 1_000_000].into_iter().filter(|keys| *keys <= most) {
        match size(rig, args.seed, keys) {
            Err(error) => book.failed(&format!("recovery with {keys} keys"), &error),
            Ok(size) => {
                book.figure(&format!("recovery-{keys}"), OURS, median(&size.restarts_ms), "ms");
                book.figure("restore", OURS, size.restored.per_second(), "entries/s");
                book.figure("disk-per-key", OURS, size.disk_per_key, "bytes");
                book.figure("changelog-per-key", OURS, size.changelog_per_key, "bytes");
                rows.push(row(&size));
            }
        }
    }
    let about = format!(
        "Restart after kill -9 to the first commit, {RATE} readings/s arriving; then the state folder is removed and restored from the changelog"
    );
    book.table("recovery", &about, &HEADER, &rows)?;
    for system in args.peers.iter().flat_map(|_| &args.systems).filter(|system| *system == "kafka-streams") {
        match peer(rig, args, system) {
            Err(error) => book.failed(&format!("recovery of {system}"), &error),
            Ok(first_commit_ms) => book.figure("recovery-peer", system, first_commit_ms, "ms"),
        }
    }
    Ok(())
}

fn row(size: &Size) -> Vec<String> {
    let worst = size.restarts_ms.iter().copied().fold(0.0, f64::max);
    let number = |value: f64| format!("{value:.0}");
    vec![
        size.keys.to_string(),
        size.restarts_ms.len().to_string(),
        number(median(&size.restarts_ms)),
        number(worst),
        size.restored.entries.to_string(),
        number(size.restored.per_second()),
        number(size.disk_per_key),
        number(size.changelog_per_key),
    ]
}

fn size(rig: &Rig, seed: u64, keys: u32) -> anyhow::Result<Size> {
    let input = Fleet { readings: keys.into(), devices: keys, partitions: PARTITIONS, seed }.fill(rig, "zoo-state")?;
    let job = Job::new(rig, "state", STATE, &input.topic)?;
    job.drain(&["--no-mongo"])?;
    let changelog_per_key = changelog_bytes(rig, &job, &input.topic) as f64 / f64::from(keys);
    let disk_per_key = bytes_in(&job.state(), "") as f64 / f64::from(keys);
    let progress = Progress::of(rig, &job.name, &input.topic)?;
    let stop = AtomicBool::new(false);
    let restarts_ms = std::thread::scope(|scope| {
        let loading = scope.spawn(|| load(rig, &input.topic, keys, seed, &stop));
        let restarts = restarts(&job, &progress);
        stop.store(true, Ordering::Relaxed);
        loading.join().map_err(|_| anyhow!("the load panicked"))??;
        restarts
    })?;
    job.drain(&["--no-mongo"])?;
    job.audit(&["--no-mongo"])?;
    std::fs::remove_dir_all(job.state()).context("failed to remove the state folder")?;
    let running = job.start("restore", &["--no-mongo"])?;
    let restored = restore::wait(&running, usize::try_from(PARTITIONS)?, WITHIN)?;
    running.stop(ANSWER_WITHIN)?;
    ensure!(restored.entries >= u64::from(keys), "{} entries restored of {keys}", restored.entries);
    say(&format!("  {keys} keys: first commit after {restarts_ms:.0?} ms; {restored:.2?}"));
    Ok(Size { keys, restarts_ms, restored, disk_per_key, changelog_per_key })
}

fn changelog_bytes(rig: &Rig, job: &Job<'_>, topic: &str) -> u64 {
    rig.bytes_of_topic(&format!("{}-state-{topic}-changelog", job.name))
}

/// Killed while it works, again and again.
fn restarts(job: &Job<'_>, progress: &Progress) -> anyhow::Result<Vec<f64>> {
    let mut running = job.start("one", &["--no-mongo"])?;
    progress.beyond(progress.committed()?, Instant::now(), WITHIN)?;
    let mut took = Vec::with_capacity(RESTARTS);
    for _ in 0..RESTARTS {
        std::thread::sleep(Duration::from_millis(500));
        running.kill()?;
        let (before, since) = (progress.committed()?, Instant::now());
        running = job.start("one", &["--no-mongo"])?;
        let first_commit = progress.beyond(before, since, WITHIN).with_context(|| tail(&running.log()))?;
        took.push(first_commit.as_secs_f64() * 1e3);
    }
    running.kill()?;
    Ok(took)
}

/// Readings of devices that are known, at a constant rate, until told to stop.
fn load(rig: &Rig, topic: &str, devices: u32, seed: u64, stop: &AtomicBool) -> anyhow::Result<()> {
    let id = rig.register(topic, reading::SCHEMA)?;
    let devices = reading::devices(devices, seed);
    let producer = reading::producer(rig, 1)?;
    let mut random = Pcg64::seed_from_u64(seed);
    let mut value = Vec::new();
    let begun = Instant::now();
    for number in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let due = begun + Duration::from_micros(number * 1_000_000 / RATE);
        if let Some(left) = due.checked_duration_since(Instant::now()) {
            std::thread::sleep(left);
        }
        let device = &devices[usize::try_from(number)? % devices.len()];
        let partition = Partitioner::Murmur2.place(device.as_bytes(), PARTITIONS).unwrap_or_default();
        let reading =
            Reading { time_ms: reading::BASE_MS + 60_000, readable: &wall_us().to_string(), ..reading::values(&mut random, 0.01) };
        reading.encode(id, device, &mut random, &mut value);
        reading::send(&producer, topic, partition, device, &value)?;
    }
    Ok(producer.flush(ANSWER_WITHIN)?)
}

/// The kit's own recovery, on an input of its own size.
fn peer(rig: &Rig, args: &Args, system: &str) -> anyhow::Result<f64> {
    let fleet = Fleet { readings: args.records * 2 / 5, devices: 200_000, partitions: PARTITIONS, seed: args.seed };
    let input = fleet.fill(rig, "zoo-wide-recovery")?;
    let line = Kit::of(rig, args)?.recovery(system, &input.topic)?;
    value(&line, "first_commit_ms").context("no first_commit_ms")
}
