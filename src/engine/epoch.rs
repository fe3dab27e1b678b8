//! The epoch: everything that a stretch of records will make true, as plain data, until it is committed.

use std::collections::BTreeMap;
use std::time::Duration;

use super::rejection::Rejection;
use crate::kafka::{Mark, Outgoing, TopicPartition};
use crate::store::Changes;

/// An epoch being filled.
#[derive(Debug, Default)]
pub struct Epoch {
    /// When its first record was taken up, by the monotonic clock.
    pub began: Option<Duration>,
    /// How far each partition has come in it.
    pub advances: BTreeMap<TopicPartition, Advance>,
    /// Alerts and dead letters so far.
    pub outgoing: Vec<Outgoing>,
    /// About as many bytes as `outgoing` takes.
    pub bytes: usize,
    /// What was counted.
    pub counts: Counts,
}

/// How far a partition has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Advance {
    /// How far it is when the epoch is committed.
    pub mark: Mark,
    /// Largest event time admitted, microseconds since 1970.
    pub stream_time_us: Option<i64>,
    /// Largest Kafka timestamp of the epoch's records, milliseconds since 1970 (TIME-3).
    pub latest_ms: i64,
    /// Records taken in this epoch.
    pub records: u64,
}

/// What an epoch's records came to (EOS-6: every one is in one of these).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Records dealt with.
    pub records: u64,
    /// Of these admitted.
    pub admitted: u64,
    /// Tombstones, dropped by rule.
    pub tombstones: u64,
    /// Records of other types than their source reads, dropped by rule.
    pub other_records: u64,
    /// Dead letters by reason.
    pub dead_letters: BTreeMap<&'static str, u64>,
    /// Alerts.
    pub alerts: u64,
    /// Window results.
    pub results: u64,
}

/// An epoch that takes nothing more: what has to be produced, committed and stored.
#[derive(Debug)]
pub struct SealedEpoch {
    /// Records to produce, in this order, in the parts that they were made in: joined they would be held twice.
    pub outgoing: Vec<Vec<Outgoing>>,
    /// Marks to commit with them.
    pub marks: Vec<(TopicPartition, Mark)>,
    /// What the store applies after the commit.
    pub changes: Changes,
    /// How many records went to each partition's changelogs, for their positions.
    pub logged: BTreeMap<(TopicPartition, String), i64>,
    /// Where the partitions stand afterwards.
    pub advances: BTreeMap<TopicPartition, Advance>,
    /// What was counted.
    pub counts: Counts,
    /// When its first record was taken up.
    pub began: Duration,
}

impl SealedEpoch {
    /// The records to produce, in their order.
    pub fn records(&self) -> impl Iterator<Item = &Outgoing> {
        self.outgoing.iter().flatten()
    }
}

impl Epoch {
    /// Whether no mark has moved.
    pub fn is_empty(&self) -> bool {
        self.advances.is_empty()
    }

    /// Adds a record to produce.
    pub fn push(&mut self, record: Outgoing) {
        self.bytes += record.held_bytes();
        self.outgoing.push(record);
    }

    /// Counts a dead letter.
    pub fn count_dead_letter(&mut self, rejection: &Rejection) {
        *self.counts.dead_letters.entry(rejection.reason).or_default() += 1;
    }

    /// How old it is; `None` while it is empty.
    pub fn age(&self, now: Duration) -> Option<Duration> {
        self.began.map(|began| now.saturating_sub(began))
    }
}
