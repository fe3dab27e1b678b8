//! What a commit asks of the broker: the client's own counts of requests, by kind, over a while of steady load.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, ensure};
use rand::SeedableRng;
use rand_pcg::Pcg64;
use rdkafka::producer::Producer;
use serde_json::Value;
use testudo::kafka::partitioner::Partitioner;

use crate::Args;
use crate::book::{Book, OURS};
use crate::job::{Job, ZOO};
use crate::machine::{cpu_s, wall_us};
use crate::reading::{self, Reading};
use crate::rig::{ANSWER_WITHIN, Rig};

const PARTITIONS: i32 = 4;
const DEVICES: u32 = 1_000;
const SETTLED: Duration = Duration::from_secs(5);
const LASTS: Duration = Duration::from_secs(10);
/// Statistics come once in this time.
const STATISTICS_MS: u64 = 500;
/// Ends a transaction, committed or not: there is one of it for each.
const END: &str = "EndTxn";
const HEADER: [&str; 5] = ["readings_per_s", "request", "count", "per_s", "per_commit"];

/// Measures with little to do and with more.
pub fn measure(rig: &Rig, args: &Args, book: &mut Book) -> anyhow::Result<()> {
    book.forget(&["requests-per-commit-", "commits-", "cpu-steady-"]);
    let mut rows = Vec::new();
    for rate in [0, 2_000, 20_000] {
        let (requests, cpu_s) = steady(rig, args.seed, rate)?;
        let commits = requests.get(END).copied().unwrap_or_default() as f64;
        ensure!(commits > 0.0 || rate == 0, "no commit was counted at {rate} readings/s");
        for (request, count) in &requests {
            let count = *count as f64;
            let per_commit = if commits > 0.0 { format!("{:.2}", count / commits) } else { String::new() };
            rows.push(vec![
                rate.to_string(),
                request.clone(),
                format!("{count:.0}"),
                format!("{:.1}", count / LASTS.as_secs_f64()),
                per_commit,
            ]);
        }
        let transactional = |request: &str| request == "Produce" || request.contains("Txn");
        let of_commits: i64 = requests.iter().filter(|(request, _)| transactional(request)).map(|(_, count)| count).sum();
        if commits > 0.0 {
            book.figure(&format!("requests-per-commit-{rate}"), OURS, of_commits as f64 / commits, "requests");
            book.figure(&format!("commits-{rate}"), OURS, commits / LASTS.as_secs_f64(), "commits/s");
        }
        book.figure(&format!("cpu-steady-{rate}"), OURS, cpu_s / LASTS.as_secs_f64() * 100.0, "% of a core");
    }
    let about = format!("Requests of Testudo's clients in {} s of steady load, {PARTITIONS} partitions, MongoDB off", LASTS.as_secs());
    book.table("requests", &about, &HEADER, &rows)
}

/// Requests and processor seconds of a while of steady load.
fn steady(rig: &Rig, seed: u64, rate: u64) -> anyhow::Result<(BTreeMap<String, i64>, f64)> {
    let topic = rig.unique("zoo-steady");
    rig.create_topic(&topic, PARTITIONS)?;
    rig.register(&topic, reading::SCHEMA)?;
    let job = Job::new(rig, "steady", ZOO, &topic)?;
    let running = job.start("steady", &["--no-mongo", "-X", &format!("statistics.interval.ms={STATISTICS_MS}")])?;
    let stop = AtomicBool::new(false);
    let measured = std::thread::scope(|scope| {
        let loading = scope.spawn(|| load(rig, &topic, seed, rate, &stop));
        std::thread::sleep(SETTLED);
        let before = (requests(&running.log()), cpu_s(running.pid()));
        std::thread::sleep(LASTS);
        let after = (requests(&running.log()), cpu_s(running.pid()));
        stop.store(true, Ordering::Relaxed);
        loading.join().map_err(|_| anyhow!("the load panicked"))??;
        Ok::<_, anyhow::Error>((before, after))
    });
    let ((before, cpu_before), (mut after, cpu_after)) = measured?;
    running.stop(ANSWER_WITHIN)?;
    ensure!(!after.is_empty(), "the log holds no statistics");
    for (request, count) in &mut after {
        *count -= before.get(request).copied().unwrap_or_default();
    }
    after.retain(|_, count| *count > 0);
    Ok((after, cpu_after - cpu_before))
}

/// Sums over all clients of what each one's last statistics say. The line is the client library's debug form of them:
/// `Client stats: Statistics { name: "…", … req: {"Produce": 3, …} … }`.
fn requests(log: &str) -> BTreeMap<String, i64> {
    let mut last: BTreeMap<String, BTreeMap<String, i64>> = BTreeMap::new();
    for line in log.lines().filter(|line| line.contains("Client stats: ")) {
        let Ok(Value::Object(entry)) = serde_json::from_str::<Value>(line) else { continue };
        let Some(text) = entry.get("message").and_then(Value::as_str) else { continue };
        if let Some((client, counts)) = counts(text) {
            last.insert(client, counts);
        }
    }
    let mut sums = BTreeMap::new();
    for (request, count) in last.into_values().flatten() {
        *sums.entry(request).or_default() += count;
    }
    sums
}

fn counts(text: &str) -> Option<(String, BTreeMap<String, i64>)> {
    let client = text.split_once("name: \"")?.1.split_once('"')?.0.to_owned();
    let mut counts = BTreeMap::new();
    for part in text.split("req: {").skip(1) {
        let pairs = part.split_once('}')?.0;
        for (request, count) in pairs.split(", ").filter_map(|pair| pair.split_once(": ")) {
            *counts.entry(request.trim_matches('"').to_owned()).or_default() += count.parse::<i64>().ok()?;
        }
    }
    Some((client, counts))
}

fn load(rig: &Rig, topic: &str, seed: u64, rate: u64, stop: &AtomicBool) -> anyhow::Result<()> {
    let id = rig.register(topic, reading::SCHEMA)?;
    let devices = reading::devices(DEVICES, seed);
    let producer = reading::producer(rig, 1)?;
    let mut random = Pcg64::seed_from_u64(seed);
    let mut value = Vec::new();
    let begun = Instant::now();
    let mut number: u64 = 0;
    while !stop.load(Ordering::Relaxed) {
        let due = u128::from(rate) * begun.elapsed().as_micros() / 1_000_000;
        while u128::from(number) < due {
            let now_us = wall_us();
            let device = devices.get(usize::try_from(number)? % devices.len()).context("a device")?;
            let partition = Partitioner::Murmur2.place(device.as_bytes(), PARTITIONS).unwrap_or_default();
            let reading = Reading { time_ms: now_us / 1_000, readable: &now_us.to_string(), ..reading::values(&mut random, 0.01) };
            reading.encode(id, device, &mut random, &mut value);
            reading::send(&producer, topic, partition, device, &value)?;
            number += 1;
        }
        std::thread::sleep(Duration::from_micros(500));
    }
    Ok(producer.flush(ANSWER_WITHIN)?)
}
