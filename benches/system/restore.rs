//! Restores as the program's log tells them: when each partition began and was ready, after how many entries.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::bail;
use serde_json::Value;

use crate::job::{Running, tail};

const STEP: Duration = Duration::from_millis(50);

/// A restore of several partitions.
#[derive(Clone, Copy, Debug)]
pub struct Restored {
    /// Changelog entries replayed.
    pub entries: u64,
    /// From the first partition's begin to the last one's end.
    pub seconds: f64,
}

impl Restored {
    /// Entries per second.
    pub fn per_second(&self) -> f64 {
        self.entries as f64 / self.seconds.max(1e-9)
    }
}

/// Waits until so many partitions have been restored.
///
/// # Errors
/// When that takes longer than `within`.
pub fn wait(running: &Running, partitions: usize, within: Duration) -> anyhow::Result<Restored> {
    let begun = Instant::now();
    while begun.elapsed() < within {
        if let Some(restored) = read(&running.log(), partitions) {
            return Ok(restored);
        }
        std::thread::sleep(STEP);
    }
    bail!("not restored within {} s:\n{}", within.as_secs(), tail(&running.log()))
}

fn read(log: &str, partitions: usize) -> Option<Restored> {
    let lines: Vec<Value> = log.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let of = |message: &str| lines.iter().filter(|line| line["message"] == message).collect::<Vec<_>>();
    let ready = of("partition ready");
    // One that moves to another worker is ready twice.
    if ready.iter().filter_map(|line| line["partition"].as_str()).collect::<BTreeSet<_>>().len() < partitions {
        return None;
    }
    let time = |line: &&Value| -> Option<i64> {
        let time = chrono::DateTime::parse_from_rfc3339(line["timestamp"].as_str()?).ok()?;
        Some(time.timestamp_micros())
    };
    let begun = of("restoring from changelog").iter().filter_map(time).min()?;
    let ended = ready.iter().filter_map(time).max()?;
    let entries = ready.iter().filter_map(|line| line["entries"].as_u64()).sum();
    Some(Restored { entries, seconds: (ended - begun) as f64 / 1e6 })
}
