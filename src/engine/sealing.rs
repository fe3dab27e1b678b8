//! When an epoch is sealed: soon for what has just come in, late for what has been waiting anyway.

use std::time::Duration;

use super::worker::{Stage, Worker};
use crate::kafka::{Broker, GroupConsumer};

impl<B: Broker> Worker<B> {
    /// Whether the open epoch has to be committed now.
    pub(super) fn is_sealing_due(&mut self, took_records: bool) -> bool {
        let has_run_dry = !took_records && self.pause_left().is_zero();
        let settings = &self.job.settings;
        let (interval, catch_up) = (settings.commit_interval(), settings.catch_up_interval());
        let epoch = self.processor.epoch();
        let age = epoch.age(self.clock.monotonic()).unwrap_or(Duration::ZERO);
        has_run_dry
            || epoch.is_full(settings.epoch_records_max, settings.epoch_bytes_max)
            || age >= interval && (age >= catch_up || !self.is_behind())
    }

    /// Whether another whole epoch waits in the log: then a larger one costs no reader time, and saves commits.
    fn is_behind(&mut self) -> bool {
        let mut left: u64 = 0;
        for (partition, stage) in &self.stages {
            if let Stage::Running(position) = stage
                && let Some(end) = self.consumer.known_end(partition)
            {
                left += u64::try_from(end.0 - position.0).unwrap_or(0);
            }
        }
        left >= self.job.settings.epoch_records_max as u64
    }
}
