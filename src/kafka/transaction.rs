//! The order of a transaction's calls, held by types: [`Ready`] → [`Open`] → an [`End`]. No call can be made in another order.
//!
//! Steps of [`Open::commit`], each only after the one before has succeeded:
//! 1. drain: every record acknowledged, so that `commit` does not wait in steps;
//! 2. positions, with the membership of this very moment (EOS-2; a stale one aborts a healthy transaction);
//! 3. commit, repeated while its outcome is open and time is left. It is never followed by an abort: the first try may have
//!    arrived. An outcome still open at the end is *unknown* (EOS-7): the producer is dropped, the caller asks the group.
//!
//! After any doubt about the coordinator's connection the producer is replaced even when the commit is known to have
//! happened, since a delayed EndTxn could end the *next* transaction (EOS-8, KAFKA-17754: librdkafka speaks EndTxn v1).

use std::time::Duration;

use super::port::{Outgoing, TransactionalProducer};
use super::position::{Position, TopicPartition};
use super::reaction::{Failure, Reaction};
use crate::clock::{Deadline, SharedClock};
use crate::failpoint;

/// A commit that takes longer was repeated inside the client, perhaps: it counts as doubt, whether or not a log line says so.
const SLOW_COMMIT: Duration = Duration::from_secs(1);

/// How long the steps of a transaction may take.
#[derive(Clone, Copy, Debug)]
pub struct Waits {
    /// For `init_transactions`, which waits for a predecessor's transaction to end.
    pub init: Duration,
    /// For everything from the first record to the end of the transaction; below `transaction.timeout.ms`.
    pub transaction: Duration,
}

/// A producer without an open transaction.
pub struct Ready<P> {
    producer: P,
    clock: SharedClock,
    waits: Waits,
}

/// A producer with an open transaction.
pub struct Open<P> {
    producer: P,
    clock: SharedClock,
    waits: Waits,
    deadline: Deadline,
}

/// How a transaction ended.
pub enum End<P> {
    /// Committed; the producer goes on.
    Committed(Ready<P>),
    /// Committed, but the coordinator's connection was in doubt: the producer is gone (EOS-8).
    CommittedInDoubt,
    /// Nothing of it will ever be visible; the producer goes on. The caller goes back to the committed positions.
    Aborted(Ready<P>, Failure),
    /// Nobody here knows: the producer is gone. The caller asks the group for its positions (EOS-7).
    Unknown(Failure),
}

/// How long each phase of a commit took.
#[derive(Clone, Copy, Debug, Default)]
pub struct Phases {
    /// Waiting for acknowledgements.
    pub drain: Duration,
    /// Positions into the transaction.
    pub offsets: Duration,
    /// EndTxn.
    pub commit: Duration,
}

impl<P: TransactionalProducer> Ready<P> {
    /// Initialises a new producer: fences older ones of its id and ends what they left open.
    pub fn init(mut producer: P, clock: SharedClock, waits: Waits) -> Result<Self, Failure> {
        let deadline = Deadline::after(&*clock, waits.init);
        loop {
            match producer.init(deadline.left(&*clock)) {
                Ok(()) => break,
                Err(failure) if failure.reaction == Reaction::Retry && !deadline.is_over(&*clock) => {}
                Err(failure) => return Err(failure),
            }
        }
        producer.take_coordinator_doubt();
        Ok(Self { producer, clock, waits })
    }

    /// Opens a transaction.
    pub fn begin(mut self) -> Result<Open<P>, Failure> {
        self.producer.begin()?;
        failpoint::at("commit.begun");
        let deadline = Deadline::after(&*self.clock, self.waits.transaction);
        Ok(Open { producer: self.producer, clock: self.clock, waits: self.waits, deadline })
    }
}

impl<P: TransactionalProducer> Open<P> {
    /// Queues a record.
    pub fn send(&mut self, record: &Outgoing) -> Result<(), Failure> {
        let left = self.deadline.left(&*self.clock);
        self.producer.send(record, left)
    }

    /// Drains, sends positions, commits. See the module's text for the order and its reasons.
    pub fn commit(
        mut self,
        positions: &[(TopicPartition, Position)],
        membership: impl FnOnce() -> Result<P::Group, Failure>,
        phases: &mut Phases,
    ) -> End<P> {
        if let Err(failure) = self.prepare(positions, membership, phases) {
            return self.abort(failure);
        }
        failpoint::at("commit.positions_sent");
        let started = self.clock.monotonic();
        let mut was_in_doubt = false;
        loop {
            match self.producer.commit(self.deadline.left(&*self.clock).max(Duration::from_millis(100))) {
                Ok(()) => break,
                Err(failure) if failure.reaction == Reaction::Retry && !self.deadline.is_over(&*self.clock) => was_in_doubt = true,
                // librdkafka says for certain that this transaction can only be aborted.
                Err(failure) if matches!(failure.reaction, Reaction::Abort | Reaction::Rejoin) && !was_in_doubt => {
                    return self.abort(failure);
                }
                Err(failure) => return End::Unknown(failure),
            }
        }
        phases.commit = self.clock.monotonic().saturating_sub(started);
        failpoint::at("commit.done");
        if self.producer.take_coordinator_doubt() || was_in_doubt || phases.commit > SLOW_COMMIT {
            return End::CommittedInDoubt;
        }
        End::Committed(Ready { producer: self.producer, clock: self.clock, waits: self.waits })
    }

    /// Aborts because of `reason`.
    pub fn abort(mut self, reason: Failure) -> End<P> {
        if reason.reaction == Reaction::ReplaceProducer {
            return End::Unknown(reason);
        }
        let aborted = self.producer.abort(self.deadline.left(&*self.clock).max(Duration::from_secs(1)));
        let reason = match self.producer.take_refusal() {
            Some(cause) => Failure { cause, is_refused: true, ..reason },
            None => reason,
        };
        match aborted {
            Ok(()) if !self.producer.take_coordinator_doubt() => {
                End::Aborted(Ready { producer: self.producer, clock: self.clock, waits: self.waits }, reason)
            }
            Ok(()) => End::Unknown(reason),
            Err(failure) => {
                tracing::warn!(%reason, %failure, "transaction could not be aborted; replacing the producer");
                End::Unknown(failure)
            }
        }
    }

    fn prepare(
        &mut self,
        positions: &[(TopicPartition, Position)],
        membership: impl FnOnce() -> Result<P::Group, Failure>,
        phases: &mut Phases,
    ) -> Result<(), Failure> {
        let started = self.clock.monotonic();
        self.producer.drain(self.deadline.left(&*self.clock))?;
        let drained = self.clock.monotonic();
        phases.drain = drained.saturating_sub(started);
        failpoint::at("commit.drained");
        let group = membership()?;
        loop {
            match self.producer.send_positions(positions, &group, self.deadline.left(&*self.clock)) {
                Ok(()) => break,
                Err(failure) if failure.reaction == Reaction::Retry && !self.deadline.is_over(&*self.clock) => {}
                Err(failure) => return Err(failure),
            }
        }
        phases.offsets = self.clock.monotonic().saturating_sub(drained);
        Ok(())
    }
}
