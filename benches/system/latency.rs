//! How long a reading takes from its append to its alert, as a read-committed consumer sees it, and to its window's document, as a change
//! stream shows it. The stamp is taken right before the send; the last reading counts as the first.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, ensure};
use rand::SeedableRng;
use rand_pcg::Pcg64;
use rdkafka::producer::Producer;
use testudo::avro::SchemaId;
use testudo::kafka::partitioner::Partitioner;

use crate::Args;
use crate::book::{Book, OURS};
use crate::job::{Job, Running, WINDOWS_TO_MONGO, ZOO, value};
use crate::machine::{quantile, say, wall_us};
use crate::peers::Kit;
use crate::probe::{AlertProbe, Sends, document_ages, prepare};
use crate::reading::{self, Reading};
use crate::rig::{ANSWER_WITHIN, Rig};

/// As in the peers' kit.
const RATE: u64 = 2_000;
const DEVICES: u32 = 1_000;
const LOW_BATTERY: f64 = 0.2;
const LINGER_MS: u32 = 1;
const PARTITIONS: i32 = 4;
/// What is sent before counts for nothing.
const WARM_UP: Duration = Duration::from_secs(15);
/// How long the last readings may take.
const LAST_WITHIN: Duration = Duration::from_secs(10);
const MINUTE_MS: i64 = 60_000;

/// What was sent.
#[derive(Clone, Copy, Debug, Default)]
struct Sent {
    alerts: usize,
    windowed: usize,
    lag_ms: f64,
}

/// Measures Testudo, then peers.
pub fn measure(rig: &Rig, args: &Args, book: &mut Book) -> anyhow::Result<()> {
    book.forget(&["latency-"]);
    let mut rows = Vec::new();
    match testudo(rig, args) {
        Err(error) => book.failed("latency of testudo", &error),
        Ok((alerts, documents)) => {
            for (what, ages) in [("alert", &alerts), ("document", &documents)] {
                for (name, share) in [("p50", 0.5), ("p99", 0.99)] {
                    book.figure(&format!("latency-{what}-{name}"), OURS, quantile(ages, share), "ms");
                }
                let shares = [0.0, 0.5, 0.9, 0.99, 0.999, 1.0].map(|share| format!("{:.1}", quantile(ages, share)));
                rows.push([vec![OURS.to_owned(), what.to_owned(), ages.len().to_string()], shares.to_vec()].concat());
            }
            book.table(
                "latency-histogram",
                "Readings by latency, 2,000 readings/s",
                &["below_ms", "alerts", "documents"],
                &histogram(&alerts, &documents),
            )?;
        }
    }
    for system in args.peers.iter().flat_map(|_| &args.systems) {
        match Kit::of(rig, args).and_then(|kit| kit.latency(system, args.seconds)) {
            Err(error) => book.failed(&format!("latency of {system}"), &error),
            Ok(line) => {
                let number = |name| value(&line, name).unwrap_or_default();
                book.figure("latency-alert-p50", system, number("p50"), "ms");
                book.figure("latency-alert-p99", system, number("p99"), "ms");
                let shares = ["min", "p50", "p90", "p99", "p99.9", "max"].map(|name| format!("{:.1}", number(name)));
                rows.push([vec![system.clone(), "alert".to_owned(), format!("{:.0}", number("measured"))], shares.to_vec()].concat());
            }
        }
    }
    let about = format!(
        "Milliseconds from the send, {RATE} readings/s of {DEVICES} devices, a fifth of them alerts; peers by their kit's own generator and probe"
    );
    book.table("latency", &about, &["system", "until", "readings", "min", "p50", "p90", "p99", "p99_9", "max"], &rows)
}

fn testudo(rig: &Rig, args: &Args) -> anyhow::Result<(Vec<f64>, Vec<f64>)> {
    let topic = rig.unique("zoo-latency");
    rig.create_topic(&topic, PARTITIONS)?;
    let schema = rig.register(&topic, reading::SCHEMA)?;
    let job = Job::new(rig, "latency", &format!("{ZOO}{WINDOWS_TO_MONGO}"), &topic)?;
    let database = rig.mongo()?.database(&job.database());
    rig.runtime.block_on(prepare(&database, "zoo_analytics"))?;
    let running = job.start("latency", &[])?;
    let probe = until_it_exists(rig, &format!("{}-alerts", job.name), &running)?;
    let seconds = Duration::from_secs(args.seconds) + WARM_UP;
    let from_us = wall_us() + i64::try_from(WARM_UP.as_micros())?;
    let (stop, sends) = (Arc::new(AtomicBool::new(false)), Sends::default());
    let watching = rig.runtime.spawn(document_ages(database.collection("zoo_analytics"), sends.clone(), from_us, stop.clone()));
    let outcome = std::thread::scope(|scope| {
        let probing = scope.spawn(|| probe.ages(from_us, &stop));
        let sent = load(rig, &topic, schema, args.seed, seconds, from_us, &sends);
        // Late ones are what the tail is made of: wait for them, and only then look.
        let deadline = Instant::now() + LAST_WITHIN;
        while sends.hidden() > 0 && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(50));
        }
        std::thread::sleep(Duration::from_secs(1));
        stop.store(true, Ordering::Relaxed);
        let alerts = probing.join().map_err(|_| anyhow!("the probe of alerts panicked"));
        (sent, alerts)
    });
    let (sent, alerts) = (outcome.0?, outcome.1??);
    let documents = rig.runtime.block_on(watching).context("the watcher of documents panicked")??;
    running.stop(ANSWER_WITHIN)?;
    say(&format!("  {sent:?}; seen {} alerts, {} readings in documents", alerts.len(), documents.len()));
    ensure!(alerts.len() == sent.alerts, "{} of {} alerts were seen", alerts.len(), sent.alerts);
    ensure!(documents.len() == sent.windowed, "{} of {} readings were seen in documents", documents.len(), sent.windowed);
    job.audit(&[])?;
    Ok((alerts, documents))
}

/// The probe, as soon as the program has made the topic.
fn until_it_exists(rig: &Rig, topic: &str, running: &Running) -> anyhow::Result<AlertProbe> {
    let deadline = Instant::now() + ANSWER_WITHIN;
    loop {
        match AlertProbe::at_the_end_of(rig, topic) {
            Err(_) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(200)),
            probe => return probe.with_context(|| format!("no alerts to look at:\n{}", crate::job::tail(&running.log()))),
        }
    }
}

/// Sends at a constant rate; event time is the clock's, a device's readings are in order.
fn load(rig: &Rig, topic: &str, schema: SchemaId, seed: u64, lasts: Duration, from_us: i64, sends: &Sends) -> anyhow::Result<Sent> {
    let devices = reading::devices(DEVICES, seed);
    let place = |device: &String| Partitioner::Murmur2.place(device.as_bytes(), PARTITIONS).unwrap_or_default();
    let places: Vec<i32> = devices.iter().map(place).collect();
    let producer = reading::producer(rig, LINGER_MS)?;
    let mut random = Pcg64::seed_from_u64(seed);
    let (mut value, mut sent) = (Vec::new(), Sent::default());
    let begun = Instant::now();
    for number in 0..lasts.as_secs() * RATE {
        let due = begun + Duration::from_micros(number * 1_000_000 / RATE);
        while let Some(left) = due.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
            std::thread::sleep(left);
        }
        sent.lag_ms = sent.lag_ms.max(due.elapsed().as_secs_f64() * 1e3);
        let device = usize::try_from(number)? % devices.len();
        let now_us = wall_us();
        let (stamp, time_ms) = (now_us.to_string(), now_us / 1_000);
        let reading = Reading { time_ms, readable: &stamp, ..reading::values(&mut random, LOW_BATTERY) };
        let counts = now_us >= from_us;
        if reading.is_warm_and_dry() {
            sends.note(&devices[device], time_ms - time_ms.rem_euclid(MINUTE_MS), now_us);
            sent.windowed += usize::from(counts);
        }
        sent.alerts += usize::from(counts && reading.battery < 2_000);
        reading.encode(schema, &devices[device], &mut random, &mut value);
        reading::send(&producer, topic, places[device], &devices[device], &value)?;
    }
    producer.flush(ANSWER_WITHIN)?;
    Ok(sent)
}

/// Counts in buckets whose bounds grow by an eighth.
fn histogram(alerts: &[f64], documents: &[f64]) -> Vec<Vec<String>> {
    let most = alerts.iter().chain(documents).copied().fold(1.0, f64::max);
    let (mut rows, mut low, mut high) = (Vec::new(), 0.0, 1.0);
    while low < most {
        let count = |ages: &[f64]| ages.iter().filter(|age| (low..high).contains(*age)).count().to_string();
        rows.push(vec![format!("{high:.2}"), count(alerts), count(documents)]);
        (low, high) = (high, high * 1.125);
    }
    rows
}
