//! How a worker answers rebalances: what was assigned is taken in paused and restored, what is revoked is released after the commit.
//!
//! The group waits for each answer, so it may come late: a commit comes first (EOS-5), and the positions of new partitions must be
//! known. Every event is answered, whatever else fails, since the client cannot even close before it is.

use std::time::Duration;

use super::generation;
use super::job::JobFault;
use super::restore::{Facts, Restore, RestoreFault, Step};
use super::status::WorkerState;
use super::worker::{Stage, Worker, WorkerFault};
use crate::clock::Deadline;
use crate::failpoint;
use crate::kafka::{Broker, Failure, GroupConsumer, Reaction, Rebalance, TopicPartition, TopicReader};

/// Wait for the group's positions; longer than a dead owner's transaction lives on a default broker (timeout and sweep, 10 s each).
const POSITIONS_WAIT: Duration = Duration::from_secs(25);
/// A restore that does not move for this long is told and begun again: somebody's transaction may hang for ever.
const RESTORE_STALL_MAX: Duration = Duration::from_secs(60);
/// So often the group is asked before a state that is ahead of it is believed.
const AHEAD_ASKED_MAX: u32 = 5;
/// Restores go on for so long between two polls, and by so many changelog entries at a time.
const RESTORE_SLICE: Duration = Duration::from_millis(100);
const RESTORE_ENTRIES_MAX: usize = 20_000;

impl<B: Broker> Worker<B> {
    /// Acts on a rebalance, or notes it until it can be answered.
    pub(super) fn rebalance(&mut self, rebalance: Rebalance) -> Result<(), WorkerFault> {
        self.status.rebalanced(&rebalance);
        match rebalance {
            Rebalance::Assigned(partitions) => self.assigned(partitions),
            Rebalance::Revoked(partitions) => {
                // One transaction spans all partitions: commit them all, then release (EOS-5). Released they must be, whatever
                // the commit came to: the client cannot even close before it is answered.
                failpoint::at("revoke.before_commit");
                let committed = if self.is_recovering { Ok(()) } else { self.commit() };
                failpoint::at("revoke.after_commit");
                self.is_recovering |= committed.is_err();
                self.release(&partitions)?;
                committed
            }
            Rebalance::Lost(partitions) => {
                // Somebody else may own them by now: nothing open may be committed.
                self.processor.discard()?;
                self.is_recovering = true;
                self.release(&partitions)
            }
        }
    }

    fn release(&mut self, partitions: &[TopicPartition]) -> Result<(), WorkerFault> {
        if self.is_recovering {
            self.processor.discard()?;
        }
        for partition in partitions {
            self.stages.remove(partition);
            self.restores.retain(|restore| restore.partition() != partition);
            self.resuming.remove(partition);
            self.unanswered.retain(|unanswered| unanswered != partition);
            self.processor.close(partition);
            self.claims.remove(partition);
            self.status.released(partition);
        }
        self.tell_owing();
        self.consumer.unassign(partitions)?;
        self.tell_if_running();
        Ok(())
    }

    /// Nothing to restore is as good as restored, also for a worker without partitions.
    pub(super) fn tell_if_running(&self) {
        let is_all_claimed = self.claims.len() == self.stages.len();
        if self.restores.is_empty() && self.unanswered.is_empty() && is_all_claimed && !self.is_recovering {
            self.status.worker(self.number, WorkerState::Running);
        }
    }

    fn assigned(&mut self, partitions: Vec<TopicPartition>) -> Result<(), WorkerFault> {
        if partitions.is_empty() {
            self.consumer.assign(&[])?;
            self.tell_if_running();
            return Ok(());
        }
        self.status.worker(self.number, WorkerState::Restoring);
        self.unanswered = partitions;
        Ok(())
    }

    /// Takes assigned partitions in, paused until they are claimed and restored (EOS-4), as soon as their positions are known. The
    /// group waits for the answer; heartbeats go on meanwhile.
    pub(super) fn answer_assignment(&mut self) -> Result<(), WorkerFault> {
        if self.unanswered.is_empty() {
            return Ok(());
        }
        let facts = match self.facts(&self.unanswered.clone()) {
            Ok(facts) => facts,
            Err(WorkerFault::Kafka(failure)) if failure.reaction != Reaction::Stop => {
                tracing::warn!(worker = self.number, %failure, "positions of assigned partitions are not known yet");
                return Ok(());
            }
            Err(fault) => return Err(fault),
        };
        let starts: Vec<_> = facts.iter().map(|facts| (facts.partition.clone(), facts.start())).collect();
        self.consumer.assign(&starts)?;
        failpoint::at("assignment.answered");
        for partition in self.unanswered.drain(..) {
            self.stages.insert(partition, Stage::Restoring);
        }
        Ok(())
    }

    /// Begins to restore partitions whose state has become this worker's to touch. Their positions are asked for once more: what another
    /// worker of this process committed before it gave the claim up counts.
    pub(super) fn claim(&mut self) -> Result<(), WorkerFault> {
        let claimed = self.take_claims();
        if claimed.is_empty() {
            return Ok(());
        }
        match self.facts(&claimed) {
            Ok(facts) => self.begin_restores(facts),
            Err(WorkerFault::Kafka(failure)) => self.react(failure),
            Err(fault) => Err(fault),
        }
    }

    /// Claims what is assigned and free. The group has its answer already: it may have to move on before the worker that holds a claim
    /// hears that the partition is no longer its own.
    pub(super) fn take_claims(&mut self) -> Vec<TopicPartition> {
        let mut claimed = Vec::new();
        for partition in self.stages.keys().filter(|partition| !self.claims.contains_key(*partition)) {
            if let Some(claim) = self.job.claims.take(partition) {
                claimed.push((partition.clone(), claim));
            }
        }
        let partitions = claimed.iter().map(|(partition, _)| partition.clone()).collect();
        self.claims.extend(claimed);
        partitions
    }

    /// What a restore has to know about partitions: committed positions first, then everything that must not be older.
    pub(super) fn facts(&mut self, partitions: &[TopicPartition]) -> Result<Vec<Facts>, WorkerFault> {
        self.job.look_again(&*self.broker)?;
        let committed = self.consumer.committed(partitions, POSITIONS_WAIT)?;
        let (tenant, is_staging) = (&self.job.tenant, self.job.settings.staging.is_some());
        let standing = generation::read(&*self.broker, &*self.clock, tenant)?;
        if let Some(why) = generation::permits(&standing, tenant.generation().number, is_staging) {
            return Err(JobFault::Superseded(why).into());
        }
        let mut all = Vec::with_capacity(partitions.len());
        for (partition, committed) in partitions.iter().zip(committed) {
            let low = self.consumer.watermarks(partition, POSITIONS_WAIT)?.low;
            let committed = match committed {
                // Others may have gone on, and retention after them, between the two answers.
                Some(before) if before.position < low => {
                    self.consumer.committed(std::slice::from_ref(partition), POSITIONS_WAIT)?.pop().flatten()
                }
                committed => committed,
            };
            if let Some(committed) = committed.map(|mark| mark.position).filter(|committed| *committed < low) {
                return Err(RestoreFault::Refused {
                    partition: partition.clone(),
                    why: format!(
                        "the group stands at {committed}, the topic begins at {low}: {} records were deleted unread; \
                         accept the loss by `testudo skip … {partition} --to {low}`, and lengthen retention",
                        low.0 - committed.0
                    ),
                }
                .into());
            }
            all.push(self.job.facts(partition, committed, low)?);
        }
        Ok(all)
    }

    pub(super) fn begin_restores(&mut self, facts: Vec<Facts>) -> Result<(), WorkerFault> {
        self.status.worker(self.number, WorkerState::Restoring);
        for facts in facts {
            match Restore::begin(facts, &*self.job.store) {
                Ok(restore) => self.restores.push_back(restore),
                Err(fault) => return self.meet(fault),
            }
        }
        Ok(())
    }

    /// Whether the restore in line has had so much left for too long.
    fn has_stalled(&mut self, left: u64) -> bool {
        match &self.stall {
            Some((before, until)) if *before == left => until.is_over(&*self.clock),
            _ => {
                self.stall = Some((left, Deadline::after(&*self.clock, RESTORE_STALL_MAX)));
                false
            }
        }
    }

    /// A bounded part of the first restore in line.
    pub(super) fn restore(&mut self) -> Result<(), WorkerFault> {
        let Some(restore) = self.restores.front_mut() else { return Ok(self.reader.stop()?) };
        let deadline = Deadline::after(&*self.clock, RESTORE_SLICE);
        loop {
            failpoint::at("restore.step");
            match restore.step(&mut self.reader, &*self.job.store, RESTORE_ENTRIES_MAX, Duration::from_millis(20)) {
                Ok(Step::Busy) if deadline.is_over(&*self.clock) => {
                    let (partition, left, entries) = (restore.partition().clone(), restore.remaining(), restore.entries);
                    self.status.restoring(&partition, entries, left);
                    if !self.has_stalled(left) {
                        return Ok(());
                    }
                    let attempted = format!("restore {partition}: an open transaction holds its changelog's end back");
                    return self.react(Failure::timed_out(Reaction::Retry, attempted, RESTORE_STALL_MAX));
                }
                Ok(Step::Busy) => {}
                Ok(Step::Lost(loss)) => return self.record(loss),
                Ok(Step::Done(task, position)) => {
                    let (partition, entries) = (restore.partition().clone(), restore.entries);
                    self.restores.pop_front();
                    self.stall = None;
                    self.ahead = self.ahead.take().filter(|(ahead, _)| *ahead != partition);
                    self.processor.open(&partition, task);
                    self.tell_owing();
                    self.status.restored(&partition, entries, position);
                    failpoint::at("restore.ready");
                    self.resume(&partition, position)?;
                    self.tell_if_running();
                    return Ok(());
                }
                Err(fault) => return self.meet(fault),
            }
        }
    }

    /// Meets a restore that cannot go on. A state ahead of the group is believed only when the group says the same again and again: its
    /// answer may be older than a commit (EOS-9).
    fn meet(&mut self, fault: RestoreFault) -> Result<(), WorkerFault> {
        let partition = match fault {
            RestoreFault::Kafka(failure) => return self.react(failure),
            RestoreFault::Ahead { ref partition, .. } => partition.clone(),
            fault => return Err(fault.into()),
        };
        let asked = self.ahead.take().filter(|(before, _)| *before == partition).map_or(1, |(_, asked)| asked + 1);
        if asked >= AHEAD_ASKED_MAX {
            return Err(fault.into());
        }
        self.ahead = Some((partition, asked));
        self.react(Failure::new(Reaction::Retry, "take a partition up", fault))
    }
}
