//! A partition that the group has given to nobody: the worker whose turn it is joins the group again ([`crate::kafka::ownership`]).

use std::time::Duration;

use super::settings::Settings;
use super::worker::{Worker, WorkerFault};
use crate::kafka::ownership::Watch;
use crate::kafka::{Broker, GroupConsumer};

/// A worker lets a partition go when its commit has come to an end, which takes no longer than a transaction, and a little.
const MARGIN: Duration = Duration::from_secs(10);

/// The watch of a worker.
pub(super) fn watch(settings: &Settings) -> Watch {
    Watch::new(settings.transaction_timeout() + MARGIN)
}

impl<B: Broker> Worker<B> {
    /// Looks whether every input partition has an owner. Called between epochs: who joins again has nothing left to commit.
    pub(super) fn look_for_unowned(&mut self, now: Duration) -> Result<(), WorkerFault> {
        if !self.watch.is_due(now) || !self.unanswered.is_empty() {
            return Ok(());
        }
        let roster = match self.consumer.roster() {
            Ok(Some(roster)) => roster,
            Ok(None) => return Ok(()),
            Err(failure) => {
                tracing::debug!(worker = self.number, %failure, "owners of partitions not known");
                self.watch.was_not_answered(now);
                return Ok(());
            }
        };
        if let Some(partition) = self.watch.saw(&roster, &self.job.input_partitions(), now) {
            tracing::warn!(worker = self.number, %partition, members = roster.members.len(), "the group has given a partition to nobody, joining it again");
            self.status.joins_again();
            self.consumer.join_again()?;
        }
        Ok(())
    }
}
