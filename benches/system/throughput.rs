//! Readings per second over inputs that are there, with few devices and with many: Testudo, the bare consumer, peers.

use crate::Args;
use crate::book::{Book, OURS};
use crate::job::{Job, Outcome, WINDOWS_TO_MONGO, ZOO};
use crate::machine::{median, say};
use crate::reading::{Fleet, Input};
use crate::rig::Rig;
use crate::{ceiling, peers};

const PARTITIONS: i32 = 4;
/// Runs that are not counted.
const WARM_UP: usize = 4;
const HEADER: [&str; 11] =
    ["input", "system", "mongodb", "run", "readings", "seconds", "readings_per_s", "cpu_s", "broker_cpu_s", "peak_mib", "whole_s"];

/// What was measured of one system.
struct Runs {
    system: String,
    mongodb: bool,
    outcomes: Vec<Outcome>,
}

impl Runs {
    fn of(&self, number: impl Fn(&Outcome) -> f64) -> Vec<f64> {
        self.outcomes.iter().map(number).collect()
    }

    fn rows<'r>(&'r self, input: &'r str) -> impl Iterator<Item = Vec<String>> + 'r {
        let row = move |(number, outcome): (usize, &Outcome)| {
            vec![
                input.to_owned(),
                self.system.clone(),
                if self.mongodb { "on" } else { "off" }.to_owned(),
                (number + 1).to_string(),
                format!("{:.0}", outcome.readings),
                format!("{:.3}", outcome.seconds),
                format!("{:.0}", outcome.per_second),
                format!("{:.2}", outcome.cpu_s),
                format!("{:.2}", outcome.broker_cpu_s),
                format!("{:.0}", outcome.peak_mib),
                format!("{:.2}", outcome.whole_s),
            ]
        };
        self.outcomes.iter().enumerate().map(row)
    }
}

/// Measures both inputs.
pub fn measure(rig: &Rig, args: &Args, book: &mut Book) -> anyhow::Result<()> {
    book.forget(&["throughput-", "cpu-narrow", "cpu-wide", "memory-"]);
    let inputs = [("narrow", args.records, 1_000), ("wide", args.records * 2 / 5, 200_000)];
    let mut rows = Vec::new();
    for (name, readings, devices) in inputs {
        let fleet = Fleet { readings, devices, partitions: PARTITIONS, seed: args.seed };
        let input = fleet.fill(rig, &format!("zoo-{name}"))?;
        if name == "narrow" {
            warm_up(rig, &input)?;
        }
        let runs = systems(rig, args, name, &input, book);
        rows.extend(runs.iter().flat_map(|runs| runs.rows(name)));
        let about = "Readings per second over inputs of 4 partitions: narrow has 1,000 devices, wide 200,000; the last run of each of Testudo's was audited";
        book.table("throughput", about, &HEADER, &rows)?;
    }
    Ok(())
}

/// A broker that has just started compiles for a minute while it serves, on the same cores: nobody is measured meanwhile.
fn warm_up(rig: &Rig, input: &Input) -> anyhow::Result<()> {
    for _ in 0..WARM_UP {
        let outcome = Job::new(rig, "warm-up", ZOO, &input.topic)?.drain(&["--no-mongo"])?;
        say(&format!("  the broker warms up: {outcome:.3?}"));
    }
    Ok(())
}

fn systems(rig: &Rig, args: &Args, name: &str, input: &Input, book: &mut Book) -> Vec<Runs> {
    let mut all = Vec::new();
    let mut note = |book: &mut Book, runs: anyhow::Result<Runs>, what: &str| match runs {
        Err(error) => book.failed(&format!("throughput {name}, {what}"), &error),
        Ok(runs) => {
            figures(book, name, &runs);
            all.push(runs);
        }
    };
    note(book, bare(rig, args, input), "bare consumer");
    note(book, testudo(rig, args, name, input, false), "testudo");
    note(book, testudo(rig, args, name, input, true), "testudo with MongoDB");
    for system in args.peers.iter().flat_map(|_| &args.systems) {
        note(book, peer(rig, args, system, &[], system, input), system);
        if system == "kafka-streams" {
            // Testudo's epochs grow to this age while it is behind, as it is here: a peer may have the same.
            let name = "kafka-streams, commit 1 s";
            note(book, peer(rig, args, system, &["--commit-ms", "1000"], name, input), name);
        }
    }
    all
}

/// Medians of ours, the best of others.
fn figures(book: &mut Book, name: &str, runs: &Runs) {
    let system = runs.system.as_str();
    let rates = runs.of(|outcome| outcome.per_second);
    if runs.mongodb {
        let whole = median(&runs.of(|outcome| outcome.readings / outcome.whole_s.max(1e-9)));
        book.figure(&format!("throughput-{name}-mongodb"), system, whole, "readings/s");
        return;
    }
    let is_ours = system == OURS;
    let rate = if is_ours { median(&rates) } else { rates.iter().copied().fold(0.0, f64::max) };
    let peaks = runs.of(|outcome| outcome.peak_mib);
    let cpu = median(&runs.of(|outcome| outcome.cpu_s / outcome.readings.max(1.0) * 1e6));
    book.figure(&format!("throughput-{name}"), system, rate, "readings/s");
    book.figure(&format!("cpu-{name}"), system, cpu, "s per million readings");
    if system != peers::CEILING {
        book.figure(&format!("memory-{name}"), system, peaks.iter().copied().fold(0.0, f64::max), "MiB");
    }
}

fn bare(rig: &Rig, args: &Args, input: &Input) -> anyhow::Result<Runs> {
    let mut outcomes = Vec::new();
    for _ in 0..args.runs {
        let pass = ceiling::pass(rig, input)?;
        let readings = input.readings as f64;
        let per_second = readings / pass.seconds.max(1e-9);
        say(&format!("  bare consumer: {per_second:.0} records/s"));
        outcomes.push(Outcome {
            readings,
            seconds: pass.seconds,
            per_second,
            peak_mib: 0.0,
            cpu_s: pass.cpu_s,
            broker_cpu_s: 0.0,
            whole_s: pass.seconds,
        });
    }
    Ok(Runs { system: peers::CEILING.to_owned(), mongodb: false, outcomes })
}

/// Each run is a tenant of its own: another group, other topics, an empty state folder. The last one is audited.
fn testudo(rig: &Rig, args: &Args, name: &str, input: &Input, mongodb: bool) -> anyhow::Result<Runs> {
    let file = if mongodb { format!("{ZOO}{WINDOWS_TO_MONGO}") } else { ZOO.to_owned() };
    let without: &[&str] = if mongodb { &[] } else { &["--no-mongo"] };
    let mut outcomes = Vec::new();
    // The windows' documents are a stream of their own, and slower: once.
    let runs = if mongodb { 1 } else { args.runs };
    for number in 1..=runs {
        let job = Job::new(rig, &format!("run-{name}"), &file, &input.topic)?;
        let outcome = job.drain(without)?;
        say(&format!("  testudo, MongoDB {}: {outcome:.3?}", if mongodb { "on" } else { "off" }));
        anyhow::ensure!(outcome.readings == input.readings as f64, "{} of {} readings committed", outcome.readings, input.readings);
        outcomes.push(outcome);
        if number == runs {
            job.audit(without)?;
            say("  audited: clean");
        }
    }
    Ok(Runs { system: OURS.to_owned(), mongodb, outcomes })
}

/// Runs of a peer with these options, under this name, half as many as of Testudo; the last one's output is verified.
fn peer(rig: &Rig, args: &Args, system: &str, options: &[&str], name: &str, input: &Input) -> anyhow::Result<Runs> {
    let kit = peers::Kit::of(rig, args)?;
    let mut outcomes = Vec::new();
    for _ in 0..args.runs.div_ceil(2) {
        let line = kit.throughput(system, &input.topic, options)?;
        let number = |name| crate::job::value(&line, name).unwrap_or_default();
        outcomes.push(Outcome {
            readings: number("records"),
            seconds: number("seconds"),
            per_second: number("records_per_s"),
            peak_mib: number("vmhwm_mib"),
            cpu_s: number("cpu_s"),
            broker_cpu_s: number("broker_cpu_s"),
            whole_s: 0.0,
        });
    }
    kit.verify(system)?;
    Ok(Runs { system: name.to_owned(), mongodb: false, outcomes })
}
