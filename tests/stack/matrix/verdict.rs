//! What a run came to: `testudo audit`, the witnesses, and whether a transaction was left open.

use std::time::{Duration, Instant};

use libtest_mimic::Failed;
use rdkafka::consumer::{BaseConsumer, Consumer};

use super::rig::TRANSACTION_TIMEOUT;
use crate::job::Job;

/// Beyond its time-out, the longest time until the coordinator's sweep (every second on this stack) has ended a transaction.
const SWEEP: Duration = Duration::from_secs(3);
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// How many places of each kind are told.
const TOLD: usize = 5;

/// The numbers of the scorecard. All but the records should be 0.
#[derive(Clone, Debug, Default)]
pub struct Verdict {
    /// Input records that the audit recomputed.
    pub records: u64,
    /// Effects that are there too often.
    pub duplicates: u64,
    /// Effects that lack.
    pub losses: u64,
    /// Effects that say something else.
    pub wrong: u64,
    /// Values that a reader of committed data saw and that are not there.
    pub dirty: u64,
    /// Documents that went back to an older result.
    pub stale: u64,
    /// Partitions whose last stable offset stays below their end.
    pub open: u64,
    /// What was found, for people.
    pub findings: Vec<String>,
}

impl Verdict {
    /// Whether everything is as it should be.
    pub fn is_clean(&self) -> bool {
        self.duplicates + self.losses + self.wrong + self.dirty + self.stale + self.open == 0 && self.findings.is_empty()
    }

    /// Adds the audit's numbers.
    pub fn audited(&mut self, job: &Job<'_>) -> Result<(), Failed> {
        let output = job.command(&["audit", "--output", "json"]).output()?;
        let text = String::from_utf8_lossy(&output.stdout);
        let start = text.find('{').unwrap_or(0);
        let report: serde_json::Value = serde_json::from_str(&text[start..]).map_err(|_| {
            format!("the audit ended with {} and no report:\n{text}\n{}", output.status, String::from_utf8_lossy(&output.stderr))
        })?;
        let sum = |name: &str| report["rows"].as_array().into_iter().flatten().filter_map(|row| row[name].as_u64()).sum::<u64>();
        self.records = report["counts"]["records"].as_u64().unwrap_or(0);
        self.duplicates += sum("extra");
        self.losses += sum("missing");
        self.wrong += sum("different");
        self.findings.extend(report["discrepancies"].as_array().into_iter().flatten().take(TOLD).map(ToString::to_string));
        match report["clean"].as_bool() {
            Some(clean) if clean == output.status.success() => Ok(()),
            _ => Err(format!("the audit ended with {}, its report says clean: {}", output.status, report["clean"]).into()),
        }
    }

    /// Adds places where uncommitted values were seen.
    pub fn saw_dirty(&mut self, places: &[String]) {
        self.dirty += places.len() as u64;
        self.findings.extend(places.iter().take(TOLD).map(|place| format!("dirty read: {place}")));
    }

    /// Adds documents that went back.
    pub fn saw_stale(&mut self, documents: &[String]) {
        self.stale += documents.len() as u64;
        self.findings.extend(documents.iter().take(TOLD).map(|document| format!("stale overwrite: {document}")));
    }

    /// Waits until nothing is open in the tenant's topics and the group's positions, as long as that may take.
    ///
    /// What counts ends where the logs end now, its instances gone: other tenants' transactions come and go in the positions' log.
    pub fn looked_for_open_transactions(&mut self, job: &Job<'_>) -> Result<(), Failed> {
        let deadline = Instant::now() + TRANSACTION_TIMEOUT + SWEEP;
        let stable = reader(job, "read_committed")?;
        let mut open = ends(job)?;
        loop {
            let mut left = Vec::new();
            for (topic, partition, end) in open {
                let (_, stable_end) = stable.fetch_watermarks(&topic, partition, ANSWER_WITHIN)?;
                if stable_end < end {
                    left.push((topic, partition, end));
                }
            }
            open = left;
            if open.is_empty() || Instant::now() > deadline {
                break;
            }
            std::thread::sleep(Duration::from_millis(200));
        }
        self.open += open.len() as u64;
        let told = open
            .iter()
            .take(TOLD)
            .map(|(topic, partition, end)| format!("open transaction: {topic}/{partition} is not stable up to {end}"));
        self.findings.extend(told);
        Ok(())
    }
}

fn reader(job: &Job<'_>, isolation: &str) -> Result<BaseConsumer, Failed> {
    let mut config = job.client();
    config.set("group.id", "open-transactions").set("isolation.level", isolation);
    Ok(config.create()?)
}

/// The ends of the tenant's partitions and of the groups' positions, whatever is open before them.
fn ends(job: &Job<'_>) -> Result<Vec<(String, i32, i64)>, Failed> {
    let all = reader(job, "read_uncommitted")?;
    let metadata = all.fetch_metadata(None, ANSWER_WITHIN)?;
    let prefix = format!("{}-", job.name);
    let mut ends = Vec::new();
    for topic in metadata.topics().iter().filter(|topic| topic.name().starts_with(&prefix) || topic.name() == "__consumer_offsets") {
        for partition in 0..topic.partitions().len() as i32 {
            let (_, end) = all.fetch_watermarks(topic.name(), partition, ANSWER_WITHIN)?;
            ends.push((topic.name().to_owned(), partition, end));
        }
    }
    Ok(ends)
}
