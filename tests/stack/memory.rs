//! How much memory the audits take: by the ledger as much for a large tenant as for a small one, recomputing as much as
//! docs/operations.md says.

use std::fs;
use std::process::Stdio;
use std::time::Duration;

use libtest_mimic::Failed;
use testudo::avro::SchemaId;
use testudo::emulator::{Emulation, Extent, FleetSettings, Wrong};
use testudo::stack::Stack;

use crate::Test;
use crate::damage::without_mongo;
use crate::job::{Job, READING};

pub const TESTS: &[Test] = &[("the_audits_take_as_much_memory_as_is_said", as_said)];

/// Records of the small tenant, and how many more the large one has; enough to fill whatever has a bound.
const RECORDS: u64 = 40_000;
const MORE: u64 = 40_000;
/// What is said: bytes for each window of a key, record in a window with updates, alert, and dead letter.
const OF_WINDOW: u64 = 3_072;
const OF_RECORD: u64 = 16;
const OF_ALERT: u64 = 250;
const OF_LETTER: u64 = 600;
/// What a process takes more at one time than at another.
const NOISE: u64 = 16 << 20;

/// Peak resident memory of a command that must succeed, in bytes.
fn peak(job: &Job<'_>, arguments: &[&str]) -> Result<u64, Failed> {
    let mut child = job.command(arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    let status = format!("/proc/{}/status", child.id());
    let mut peak = 0;
    let ended = loop {
        let text = fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
        let kib: u64 = line.split_whitespace().next().and_then(|kib| kib.parse().ok()).unwrap_or(0);
        peak = peak.max(kib << 10);
        if let Some(ended) = child.try_wait()? {
            break ended;
        }
        std::thread::sleep(Duration::from_millis(2));
    };
    match ended.success() {
        true => Ok(peak),
        false => Err(format!("{arguments:?} ended with {ended}").into()),
    }
}

/// What the audits look at, and what they take.
#[derive(Clone, Copy, Debug)]
struct Size {
    windows: u64,
    alerts: u64,
    letters: u64,
    by_ledger: u64,
    recomputed: u64,
}

/// Adds readings of a fleet of its own, some of them cut, and audits everything.
fn measured(job: &Job<'_>, schema: SchemaId, seed: u64, records: u64) -> Result<Size, Failed> {
    let emulation = Emulation {
        topic: job.topic("in"),
        schema: READING.to_owned(),
        seed,
        fleet: FleetSettings { devices: 20_000, ..FleetSettings::default() },
        extent: Extent::Records(records),
        wrong: [(Wrong::Truncated, 0.2)].into(),
        ..Emulation::default()
    };
    let kafka = testudo::kafka::Settings { bootstrap: job.stack.bootstrap().to_owned(), ..Default::default() };
    emulation.run(&kafka, schema)?;
    job.drain()?;
    let output = job.command(&["audit", "--output", "json"]).output()?;
    let report: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let rows = report["rows"].as_array().ok_or("rows")?;
    let found = |what: &str| rows.iter().find(|row| row["what"] == what).and_then(|row| row["found"].as_u64()).ok_or("a row");
    Ok(Size {
        windows: found("window zoo_analytics")?,
        alerts: found("alert battery_low")?,
        letters: found("dead letters")?,
        by_ledger: peak(job, &["audit", "--ledger"])?,
        // How the heap is cut up differs by 20 MiB from one time to another; what is needed does not.
        recomputed: peak(job, &["audit"])?.min(peak(job, &["audit"])?),
    })
}

fn as_said(stack: &Stack) -> Result<(), Failed> {
    // Without its condition each record is in a window.
    let file = without_mongo();
    let file: Vec<&str> = file.lines().filter(|line| !line.starts_with("where = \"temperature")).collect();
    let job = Job::new(stack, &file.join("\n"), &[("NAME-in", READING)])?;
    job.create_topic(&job.topic("in"), 1)?;
    let schema = job.register(&job.topic("in"), READING)?;

    let small = measured(&job, schema, 1, RECORDS)?;
    let large = measured(&job, schema, 2, MORE)?;

    let more = |of: fn(&Size) -> u64| of(&large) - of(&small);
    let said = more(|size| size.windows) * OF_WINDOW
        + MORE * OF_RECORD
        + more(|size| size.alerts) * OF_ALERT
        + more(|size| size.letters) * OF_LETTER;
    let numbers = format!("{small:?}, {large:?}, recomputing is said to take {said} B more");
    eprintln!("{numbers}");
    assert!(large.windows > small.windows + 8_000 && large.letters > small.letters + 6_000, "{numbers}");
    assert!(large.by_ledger <= small.by_ledger + NOISE, "{numbers}");
    assert!(large.recomputed <= small.recomputed + said + NOISE, "{numbers}");
    Ok(())
}
