//! Curves: what a reading costs as partitions, devices, branches and tenants grow. A cliff would show here.

use std::fmt::Write as _;

use anyhow::{Context, ensure};

use crate::Args;
use crate::book::{Book, OURS};
use crate::job::{Job, Outcome, ZOO};
use crate::machine::say;
use crate::reading::{Fleet, Input};
use crate::rig::Rig;

const HEADER: [&str; 8] =
    ["along", "of", "readings", "readings_per_s", "cpu_ns_per_reading", "peak_mib", "broker_cpu_ns_per_reading", "start_cpu_s"];
const DEVICES: u32 = 1_000;
const PARTITIONS: i32 = 4;

/// One point of a curve.
struct Point {
    along: &'static str,
    of: u32,
    drained: Drained,
}

/// A run, and the processor time of a second one that found nothing to do: what start and end take.
#[derive(Debug)]
struct Drained {
    outcome: Outcome,
    start_cpu_s: f64,
}

/// Measures the four curves; a point that fails is told and left out.
pub fn measure(rig: &Rig, args: &Args, book: &mut Book) -> anyhow::Result<()> {
    book.forget(&["growth-"]);
    let readings = (args.records / 5).max(10_000);
    let fleet = Fleet { readings, devices: DEVICES, partitions: PARTITIONS, seed: args.seed };
    let mut points = Vec::new();
    let mut note = |along, of, drained: anyhow::Result<Drained>, book: &mut Book| match drained {
        Ok(drained) => {
            say(&format!("  {along} {of}: {drained:.2?}"));
            points.push(Point { along, of, drained });
        }
        Err(error) => book.failed(&format!("growth, {of} {along}"), &error),
    };
    for partitions in [1, 2, 4, 8, 16, 64] {
        let outcome = Fleet { partitions, ..fleet }.fill(rig, "partitions").and_then(|input| drain(rig, &[ZOO], &input));
        note("partitions", partitions.unsigned_abs(), outcome, book);
    }
    for devices in [1, 10, 100, 1_000, 10_000, 100_000, 1_000_000] {
        let fleet = Fleet { devices, readings: readings.max(devices.into()).min(args.records), ..fleet };
        let outcome = fleet.fill(rig, "devices").and_then(|input| drain(rig, &[ZOO], &input));
        note("devices", devices, outcome, book);
    }
    let input = fleet.fill(rig, "branches")?;
    for branches in [1, 2, 5, 10, 20] {
        let file = with_branches(branches)?;
        note("branches", branches, drain(rig, &[file.as_str()], &input), book);
    }
    for tenants in [1, 2, 5, 10, 20, 50] {
        let fleet = Fleet { readings: (readings / u64::from(tenants)).max(1_000), ..fleet };
        let files = vec![ZOO; usize::try_from(tenants)?];
        let outcome = fleet.fill(rig, "tenants").and_then(|input| drain(rig, &files, &input));
        note("tenants", tenants, outcome, book);
    }
    for along in ["partitions", "devices", "branches", "tenants"] {
        if let Some(factor) = flatness(&points, along) {
            book.figure(&format!("growth-{along}"), OURS, factor, "times");
        }
    }
    let rows: Vec<Vec<String>> = points.iter().map(row).collect();
    let about = format!(
        "The zoo's job, not audited here; unless it grows: {DEVICES} devices, {PARTITIONS} partitions, 2 branches, 1 tenant. Processor time is of the whole process less that of a start which finds nothing to do"
    );
    book.table("growth", &about, &HEADER, &rows)
}

fn drain(rig: &Rig, files: &[&str], input: &Input) -> anyhow::Result<Drained> {
    let job = Job::many(rig, "growth", files, &input.topic)?;
    let outcome = job.drain(&["--no-mongo"])?;
    let wanted = input.readings as f64 * files.len() as f64;
    ensure!(outcome.readings == wanted, "{} of {wanted} readings committed", outcome.readings);
    let again = job.drain(&["--no-mongo"])?;
    ensure!(again.readings == 0.0, "{} readings were committed twice", again.readings);
    Ok(Drained { outcome, start_cpu_s: again.cpu_s })
}

/// The zoo's tenant with so many branches: windows and alerts by turns, no two alike.
fn with_branches(count: u32) -> anyhow::Result<String> {
    let source = ZOO.split_once("[alert.").context("the zoo has an alert")?.0;
    let mut file = source.to_owned();
    for number in 0..count {
        if number % 2 == 1 {
            writeln!(file, "[alert.low_{number}]\nfrom = \"readings\"\nwhere = \"battery < {}\"", 2_000 - number)?;
            writeln!(file, "topic = \"TENANT-low-{number}\"")?;
            continue;
        }
        writeln!(file, "[window.warm_{number}]\nfrom = \"readings\"\nby = [\"dev_id\"]\nover = {{ tumbling = \"1 minute\" }}")?;
        writeln!(file, "grace = \"1 minute\"\nemit = \"updates\"\ntopic = \"TENANT-warm-{number}\"")?;
        writeln!(file, "where = \"temperature > 20 AND humidity BETWEEN {}.0 AND {}.0\"", 25 + number / 4, 35 + number / 4)?;
        writeln!(file, "[window.warm_{number}.select]\navg_temperature = \"avg(temperature)\"\ntotal_records = \"count(*)\"")?;
    }
    Ok(file)
}

/// The dearest point over the cheapest, in processor time per reading.
fn flatness(points: &[Point], along: &str) -> Option<f64> {
    let costs = || points.iter().filter(|point| point.along == along).map(|point| cost_ns(&point.drained));
    let (least, most) = (costs().reduce(f64::min)?, costs().reduce(f64::max)?);
    Some(most / least)
}

fn cost_ns(drained: &Drained) -> f64 {
    (drained.outcome.cpu_s - drained.start_cpu_s).max(0.0) * 1e9 / drained.outcome.readings.max(1.0)
}

fn row(point: &Point) -> Vec<String> {
    let outcome = &point.drained.outcome;
    vec![
        point.along.to_owned(),
        point.of.to_string(),
        format!("{:.0}", outcome.readings),
        format!("{:.0}", outcome.per_second),
        format!("{:.0}", cost_ns(&point.drained)),
        format!("{:.0}", outcome.peak_mib),
        format!("{:.0}", outcome.broker_cpu_s * 1e9 / outcome.readings.max(1.0)),
        format!("{:.2}", point.drained.start_cpu_s),
    ]
}
