//! A partition that the group has given to nobody.
//!
//! A static member that is replaced between the two rounds of a cooperative rebalance is told the first round's assignment, in which
//! what has to move belongs to nobody, and there is no second round until somebody joins (KIP-345, KIP-429). So workers look at what
//! the group's members have together, and join as new members where that is not everything (ADR 0016).

use std::time::Duration;

use super::worker::{Worker, WorkerFault};
use crate::kafka::{Broker, GroupConsumer, TopicPartition};

/// How often a worker looks.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// A partition has no owner when so many looks in a row say so: between two rounds it has none for a moment.
const SEEN_MAX: u32 = 3;
/// How long the coordinator may take to answer.
const ANSWER_WAIT: Duration = Duration::from_secs(1);

/// What the last looks said.
#[derive(Debug, Default)]
pub(super) struct Unowned {
    next_look: Duration,
    seen: Option<(TopicPartition, u32)>,
}

impl<B: Broker> Worker<B> {
    /// Ends this worker when a partition has no owner for long: the next start joins as a new member, which begins a rebalance.
    pub(super) fn look_for_unowned(&mut self, now: Duration) -> Result<(), WorkerFault> {
        if !self.job.settings.static_membership || now < self.unowned.next_look {
            return Ok(());
        }
        self.unowned.next_look = now + LOOK_EVERY;
        let all = self.job.input_partitions();
        let unowned = match self.consumer.unowned(&all, ANSWER_WAIT) {
            Ok(unowned) => unowned.into_iter().next(),
            Err(failure) => {
                tracing::debug!(worker = self.number, %failure, "owners of partitions not known");
                return Ok(());
            }
        };
        let before = self.unowned.seen.take();
        self.unowned.seen = unowned.map(|partition| {
            let seen = before.filter(|(earlier, _)| *earlier == partition).map_or(1, |(_, seen)| seen + 1);
            (partition, seen)
        });
        match &self.unowned.seen {
            Some((partition, seen)) if *seen >= SEEN_MAX => Err(WorkerFault::Unowned(partition.clone())),
            _ => Ok(()),
        }
    }
}
