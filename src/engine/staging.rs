//! A generation that is being rebuilt follows the current one: it writes results and dead letters aside, lets out what only its windows
//! know, and takes no record that the current generation has not committed. So whatever becomes of it, every record is the current one's.
//!
//! Alerts, and dead letters of admission and of alerts, are the current generation's: they were let out, once.

use std::collections::BTreeMap;
use std::sync::{PoisonError, RwLock};

use super::worker::{Stage, Worker, WorkerFault};
use crate::kafka::{Broker, GroupConsumer, Position, Run, TopicPartition};

/// How far a generation that is being rebuilt may go: where the current one stands.
#[derive(Debug, Default)]
pub struct Staging {
    until: RwLock<BTreeMap<TopicPartition, Position>>,
}

impl Staging {
    /// The first position that is not to be read. A partition that the current generation has not begun is not begun.
    pub fn until(&self, partition: &TopicPartition) -> Position {
        self.until.read().unwrap_or_else(PoisonError::into_inner).get(partition).copied().unwrap_or(Position(0))
    }

    /// The current generation stands here.
    pub fn follow(&self, positions: impl IntoIterator<Item = (TopicPartition, Position)>) {
        self.until.write().unwrap_or_else(PoisonError::into_inner).extend(positions);
    }
}

impl<B: Broker> Worker<B> {
    /// Takes runs in, as far as a rebuild allows; a partition that has come to its bound is paused there. Whether there were records.
    pub(super) fn take_within_bounds(&mut self, runs: Vec<Run>) -> Result<bool, WorkerFault> {
        let Some(staging) = self.job.settings.staging.clone() else { return self.take(runs) };
        self.look_at_bounds(&staging)?;
        let mut stopped = Vec::new();
        let mut within = Vec::with_capacity(runs.len());
        for run in runs {
            let (partition, records) = (run.partition.clone(), run.len());
            let until = staging.until(&partition);
            let run = run.ending_at(until);
            if run.len() < records {
                stopped.push((partition, until));
            }
            within.push(run);
        }
        let took_any = self.take(within)?;
        for (partition, until) in stopped {
            if let Some(Stage::Running(position)) = self.stages.get(&partition) {
                let position = *position;
                self.consumer.pause(std::slice::from_ref(&partition))?;
                self.stages.insert(partition, Stage::AtBound(position, until));
            }
        }
        Ok(took_any)
    }

    /// Goes on where the bound has moved; tells of those that stand at theirs, with nothing uncommitted.
    fn look_at_bounds(&mut self, staging: &Staging) -> Result<(), WorkerFault> {
        let mut moved = Vec::new();
        let is_told = !self.is_recovering && self.processor.epoch().is_empty();
        for (partition, stage) in &self.stages {
            let Stage::AtBound(position, until) = stage else { continue };
            if is_told {
                self.status.reached(partition, *until, None);
            }
            if staging.until(partition) > *until && !self.resuming.contains_key(partition) {
                moved.push((partition.clone(), *position));
            }
        }
        for (partition, position) in moved {
            self.resume(&partition, position)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_that_the_current_generation_has_not_begun_is_not_begun() {
        let (staging, partition) = (Staging::default(), TopicPartition::new("in", 0));
        assert_eq!(staging.until(&partition), Position(0));

        staging.follow([(partition.clone(), Position(7))]);

        assert_eq!(staging.until(&partition), Position(7));
    }
}
