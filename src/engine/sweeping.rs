//! Closed windows that an epoch leaves over, because its bound is met: the next epoch goes on, with records or without
//! (docs/adr/0024-sweeps.md).

use std::collections::BTreeSet;
use std::time::Duration;

use super::branch::SealedWindows;
use super::epoch::Advance;
use super::processor::Processor;
use crate::kafka::TopicPartition;
use crate::store::ScanMax;

/// What a small epoch sweeps of closed windows, at most.
pub const SWEEP_MAX: ScanMax = ScanMax { entries: 20_000, bytes: 32 << 20 };

impl Processor {
    /// Has small epochs sweep at most so much from now on.
    pub fn bound_sweeps(&mut self, most: ScanMax) {
        self.sweep = most;
    }

    /// How many closed windows that it did not touch the epoch may sweep: its transaction has to end in time, and is held in memory. As
    /// many as it has records, which is what keeps pace where each opens a window, within bounds.
    pub(super) fn sweep_max(&self) -> ScanMax {
        let records = usize::try_from(self.epoch.counts.records).unwrap_or(usize::MAX);
        ScanMax { entries: records.clamp(self.sweep.entries, self.sweep.entries.saturating_mul(5)), ..self.sweep }
    }

    /// Partitions with closed windows that may still have to be swept.
    pub fn owing(&self) -> &BTreeSet<TopicPartition> {
        &self.owing
    }

    /// Notes whether closed windows of a partition may still have to be swept.
    pub(super) fn look_for_owed(&mut self, partition: &TopicPartition) {
        let stream_time = self.tasks.get(partition).and_then(|task| task.stream_time_us);
        let owes = stream_time.is_some_and(|stream_time| self.windows.iter().any(|branch| branch.owes(partition, stream_time)));
        match owes {
            true => self.owing.insert(partition.clone()),
            false => self.owing.remove(partition),
        };
    }

    /// Begins an epoch without records, where nothing is open and closed windows may still have to be swept.
    pub fn sweep(&mut self, now: Duration) {
        if self.epoch.is_empty() && !self.owing.is_empty() {
            self.epoch.began = Some(now);
            self.take_owing_in();
        }
    }

    /// Takes partitions that owe into the epoch, without a record of theirs.
    pub(super) fn take_owing_in(&mut self) {
        for partition in &self.owing {
            let Some(task) = self.tasks.get(partition).filter(|_| !self.epoch.advances.contains_key(partition)) else { continue };
            let advance = Advance { mark: task.mark.swept(), stream_time_us: task.stream_time_us, latest_ms: -1, records: 0 };
            self.epoch.advances.insert(partition.clone(), advance);
        }
    }

    /// Leaves those partitions without records in the epoch of which something was swept: there was room for them, and they did owe. Their
    /// Kafka timestamp is that of what was swept, which the broker took before.
    pub(super) fn keep_what_was_swept(&mut self, sealed: &[(usize, SealedWindows)]) {
        self.epoch.advances.retain(|partition, advance| {
            if advance.records == 0 {
                let partitions = sealed.iter().flat_map(|(_, windows)| &windows.partitions);
                let swept = partitions.filter(|sealed| sealed.partition == *partition).flat_map(|sealed| &sealed.changelog);
                advance.latest_ms = swept.map(|record| record.timestamp_ms).max().unwrap_or(advance.latest_ms);
            }
            advance.records > 0 || advance.latest_ms >= 0
        });
    }
}
