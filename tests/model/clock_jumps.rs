//! F49: a clock that jumps changes no result. Verdicts come from the records; clocks serve waiting, deadlines, metrics and names.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use testudo::kafka::{Offset, Outgoing, RunBuilder, TopicPartition};

use crate::harness::Input;
use crate::rig::{NOW_MS, READING, Rig, alert, reading, zoo};

/// Where results are made; and what may ask for the time of day there: a folder that is set aside is named by it, and what an operator
/// accepted is recorded with it.
const RESULTS: [&str; 5] = ["engine", "avro", "tenant", "store", "kafka"];
const EXCUSED: [&str; 3] = ["store/rocks.rs", "store/set_aside.rs", "engine/losses.rs"];

fn files(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).expect("a readable folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            files(&path, found);
        } else {
            found.push(path);
        }
    }
}

#[test]
fn nothing_that_makes_results_asks_for_the_time_of_day() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    RESULTS.iter().for_each(|layer| files(&src.join(layer), &mut found));
    let asks = |path: &PathBuf| {
        let excused = EXCUSED.iter().any(|excused| path.ends_with(excused));
        !excused && fs::read_to_string(path).expect("text").contains("wall_ms()")
    };
    let asking: Vec<PathBuf> = found.into_iter().filter(asks).collect();

    assert!(asking.is_empty(), "{asking:?}");
}

/// Readings of which some are late, one lies in the future, and windows close; fed at these times of the monotonic clock.
fn produced(times: &[Duration]) -> Vec<Outgoing> {
    let window = "[window.minutes]\nfrom = \"readings\"\nby = [\"dev_id\"]\ntopic = \"results\"\nover = { tumbling = \"1 minute\" }\n\
                  grace = \"10s\"\nemit = \"updates\"\n[window.minutes.select]\nreadings = \"count(*)\"\nmean = \"avg(temperature)\"\n";
    let mut rig = Rig::new(&zoo(&[&*alert("low", "battery < 2000"), window].concat()), READING);
    let offsets_ms = [0, 20_000, 90_000, 5_000, 86_400_000, 95_000, 200_000, 0];
    let records: Vec<Input> = (0..).zip(offsets_ms).map(|(index, ms)| reading("d1", NOW_MS + ms, Some(1_990 + index), 20.0)).collect();
    for (index, record) in records.iter().enumerate() {
        let mut run = RunBuilder::new(TopicPartition::new("in", 0));
        run.push(Offset(index as i64), record.timestamp_ms, record.key.as_deref(), record.value.as_deref(), Vec::new());
        rig.processor.process(&run.finish(), times[index % times.len()]).expect("processed");
        rig.seal();
    }
    rig.produced
}

#[test]
fn jumps_of_the_clock_change_no_result() {
    let year = Duration::from_secs(365 * 86_400);
    let steady = produced(&[Duration::from_secs(1)]);

    let jumping = produced(&[year, Duration::ZERO, year * 50, Duration::from_millis(1)]);

    assert!(steady.len() > 8, "results, alerts and dead letters: {}", steady.len());
    assert_eq!(steady, jumping);
}
