//! A partition whose next batch nobody can read is held: it alone stands still, before the batch, and is tried again from time to time.
//!
//! Another replica may have the batch whole, so a new leader can mend it. What cannot be mended is left out by `testudo skip`; to go
//! on behind it by ourselves would lose records silently (EOS-6).

use std::time::Duration;

use super::worker::{Stage, Worker, WorkerFault};
use crate::clock::Deadline;
use crate::kafka::{Broker, GroupConsumer, Poison, Position, TopicPartition};

/// Wait before a batch that could not be read is asked for again.
const RETRY_WAIT: Duration = Duration::from_secs(30);

impl<B: Broker> Worker<B> {
    /// Holds the partitions of batches that cannot be read; what lies before them was taken already.
    pub(super) fn hold(&mut self, poisoned: Vec<Poison>) -> Result<(), WorkerFault> {
        for poison in poisoned {
            let Some(Stage::Running(position)) = self.stages.get(&poison.partition) else { continue };
            let position = *position;
            self.consumer.pause(std::slice::from_ref(&poison.partition))?;
            tracing::error!(
                worker = self.number,
                partition = %poison.partition,
                position = position.0,
                batch = poison.offset.0,
                cause = poison.cause,
                remedy = "have another replica lead, or leave the batch out: `testudo skip`",
                "input batch cannot be read, partition held"
            );
            let why = format!("{} is held at {position}: {}; `testudo skip` leaves records out", poison.partition, poison.cause);
            self.status.held(&poison.partition, why);
            self.stages.insert(poison.partition, Stage::Held(position, Deadline::after(&*self.clock, RETRY_WAIT)));
        }
        Ok(())
    }

    /// Tries held partitions again.
    pub(super) fn look_at_held(&mut self) -> Result<(), WorkerFault> {
        let due = |(partition, stage): (&TopicPartition, &Stage)| match stage {
            Stage::Held(position, until) if until.is_over(&*self.clock) && !self.resuming.contains_key(partition) => {
                Some((partition.clone(), *position))
            }
            _ => None,
        };
        let due: Vec<(TopicPartition, Position)> = self.stages.iter().filter_map(due).collect();
        for (partition, position) in due {
            self.resume(&partition, position)?;
        }
        Ok(())
    }
}
