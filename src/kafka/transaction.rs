//! The order of a transaction's calls, held by types: [`Ready`] → [`Open`] → an [`End`]. No call can be made in another order.
//!
//! Steps of [`Open::commit`], each only after the one before has succeeded:
//! 1. positions, with the membership of this very moment (EOS-2; a stale one aborts a healthy transaction); records travel meanwhile;
//! 2. drain: every record acknowledged, so that `commit` does not wait in steps;
//! 3. commit, repeated while its outcome is open and time is left. It is never followed by an abort: the first try may have
//!    arrived. An outcome still open at the end is *unknown* (EOS-7): the producer is dropped, the caller asks the group.
//!
//! After any doubt about a connection the producer is replaced even when the commit is known to have happened, since a delayed EndTxn
//! could end the *next* transaction, and delayed positions get into it (EOS-8, KAFKA-17754: librdkafka speaks EndTxn v1).

use std::time::Duration;

use super::port::{Outgoing, TransactionalProducer};
use super::position::{Mark, TopicPartition};
use super::reaction::{Failure, Reaction};
use crate::clock::{Deadline, SharedClock};
use crate::failpoint;
use crate::planted::Bug;

/// A commit, or positions, that take longer were repeated inside the client, perhaps: that counts as doubt, whether or not a log line says so.
const SLOW_COMMIT: Duration = Duration::from_secs(1);

/// After so many records the time left is looked at again.
const LOOK_EVERY: usize = 64;

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
    /// A request of it may still be on its way (EOS-8).
    is_in_doubt: bool,
    /// Records sent, and the time that was left when it was looked at last: not for each of them.
    sent: usize,
    left: Duration,
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
    /// Positions into the transaction.
    pub offsets: Duration,
    /// Waiting for acknowledgements that had not come meanwhile.
    pub drain: Duration,
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
        Ok(Self { producer, clock, waits })
    }

    /// Opens a transaction.
    pub fn begin(mut self) -> Result<Open<P>, Failure> {
        self.producer.begin()?;
        failpoint::at("commit.begun");
        let deadline = Deadline::after(&*self.clock, self.waits.transaction);
        let (clock, waits, left) = (self.clock, self.waits, Duration::ZERO);
        Ok(Open { producer: self.producer, clock, waits, deadline, is_in_doubt: false, sent: 0, left })
    }
}

impl<P: TransactionalProducer> Open<P> {
    /// Queues a record.
    pub fn send(&mut self, record: &Outgoing) -> Result<(), Failure> {
        if self.sent.is_multiple_of(LOOK_EVERY) {
            self.left = self.deadline.left(&*self.clock);
        }
        self.sent += 1;
        self.producer.send(record, self.left)
    }

    /// Sends marks, if there are any, drains, commits. See the module's text for the order and its reasons.
    pub fn commit(
        mut self,
        marks: &[(TopicPartition, Mark)],
        membership: impl FnOnce() -> Result<P::Group, Failure>,
        phases: &mut Phases,
    ) -> End<P> {
        if let Err(failure) = self.prepare(marks, membership, phases) {
            return self.abort(failure);
        }
        failpoint::at("commit.drained");
        let started = self.clock.monotonic();
        let mut is_repeated = false;
        loop {
            match self.producer.commit(self.deadline.left(&*self.clock).max(Duration::from_millis(100))) {
                Ok(()) => break,
                Err(failure) if failure.reaction == Reaction::Retry && !self.deadline.is_over(&*self.clock) => is_repeated = true,
                // librdkafka says for certain that this transaction can only be aborted.
                Err(failure) if matches!(failure.reaction, Reaction::Abort | Reaction::Rejoin) && !is_repeated => {
                    return self.abort(failure);
                }
                Err(_) if Bug::GuessedOutcome.is_planted() => break,
                Err(failure) => return End::Unknown(failure),
            }
        }
        phases.commit = self.clock.monotonic().saturating_sub(started);
        failpoint::at("commit.done");
        self.is_in_doubt |= is_repeated || phases.commit > SLOW_COMMIT;
        if self.has_doubt() {
            return End::CommittedInDoubt;
        }
        End::Committed(Ready { producer: self.producer, clock: self.clock, waits: self.waits })
    }

    /// Aborts because of `reason`.
    pub fn abort(mut self, reason: Failure) -> End<P> {
        if reason.reaction == Reaction::ReplaceProducer {
            return End::Unknown(reason);
        }
        failpoint::at("abort.begun");
        let aborted = self.producer.abort(self.deadline.left(&*self.clock).max(Duration::from_secs(1)));
        failpoint::at("abort.done");
        let reason = match self.producer.take_refusal() {
            Some(cause) => Failure { cause, is_refused: true, ..reason },
            None => reason,
        };
        match aborted {
            Ok(()) if !self.has_doubt() => End::Aborted(Ready { producer: self.producer, clock: self.clock, waits: self.waits }, reason),
            Ok(()) => End::Unknown(reason),
            Err(failure) => {
                tracing::warn!(%reason, %failure, "transaction could not be aborted; replacing the producer");
                End::Unknown(failure)
            }
        }
    }

    /// Whether a request may still be on its way that could meet the next transaction (EOS-8).
    fn has_doubt(&mut self) -> bool {
        let has_told = self.producer.take_coordinator_doubt();
        (has_told || self.is_in_doubt) && !Bug::ForgottenDoubt.is_planted()
    }

    fn prepare(
        &mut self,
        marks: &[(TopicPartition, Mark)],
        membership: impl FnOnce() -> Result<P::Group, Failure>,
        phases: &mut Phases,
    ) -> Result<(), Failure> {
        let started = self.clock.monotonic();
        let group = if marks.is_empty() { None } else { Some(membership()?) };
        while let Some(group) = &group {
            match self.producer.send_positions(marks, group, self.deadline.left(&*self.clock)) {
                Ok(()) => break,
                Err(failure) if failure.reaction == Reaction::Retry && !self.deadline.is_over(&*self.clock) => self.is_in_doubt = true,
                Err(failure) => return Err(failure),
            }
        }
        let sent = self.clock.monotonic();
        phases.offsets = sent.saturating_sub(started);
        self.is_in_doubt |= phases.offsets > SLOW_COMMIT;
        failpoint::at("commit.positions_sent");
        self.producer.drain(self.deadline.left(&*self.clock))?;
        phases.drain = self.clock.monotonic().saturating_sub(sent);
        Ok(())
    }
}
