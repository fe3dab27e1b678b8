//! A worker: one OS thread that owns one consumer, one transactional producer and the partitions assigned to it.
//!
//! Its loop: rebalances first, then restores, then records into the epoch, then the commit when it is due. Every failure is met
//! by its reaction ([`crate::kafka::reaction`]): whatever is uncommitted is dropped, and every partition is taken up again from
//! what the group says. There is no other way back, so that is the only one to get right.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::commit::{Committed, Committer, NoProducer};
use super::job::{Job, JobFault};
use super::processor::{ProcessFault, Processor};
use super::restore::{Restore, RestoreFault, Step};
use super::status::{Status, WorkerState};
use crate::avro::Verdict;
use crate::avro::frame::SchemaId;
use crate::clock::{Deadline, SharedClock};
use crate::failpoint;
use crate::kafka::{Broker, Failure, GroupConsumer, Position, Reaction, Rebalance, Run, TopicPartition};
use crate::store::StoreFault;

/// Wait for records while nothing is going on.
const IDLE_WAIT: Duration = Duration::from_millis(100);
/// Wait between looks at something that others must change: a schema's verdict, a broker that is away.
const RETRY_WAIT: Duration = Duration::from_millis(200);
/// Wait for the group's positions; longer than a dead owner's transaction lives on a default broker (timeout and sweep, 10 s each).
const POSITIONS_WAIT: Duration = Duration::from_secs(25);
/// Changelog entries replayed between two polls.
const RESTORE_ENTRIES_MAX: usize = 20_000;

/// Why a worker ended.
#[derive(Debug, thiserror::Error)]
pub enum WorkerFault {
    /// The broker, and only an operator can help.
    #[error(transparent)]
    Kafka(#[from] Failure),
    /// A partition cannot be taken up.
    #[error(transparent)]
    Restore(#[from] RestoreFault),
    /// The job does not fit the cluster any more.
    #[error(transparent)]
    Job(#[from] JobFault),
    /// Processing failed.
    #[error(transparent)]
    Process(#[from] ProcessFault),
    /// The store failed after a commit; the state is restored at the next start.
    #[error(transparent)]
    Store(#[from] StoreFault),
    /// There is no producer to be had.
    #[error(transparent)]
    Producer(#[from] NoProducer),
}

/// What a partition is doing.
enum Stage {
    Restoring,
    Running(Position),
    /// Paused before a record whose schema is not judged yet.
    Waiting(Position, SchemaId),
}

/// A worker before it runs.
pub struct Worker<B: Broker> {
    job: Arc<Job>,
    clock: SharedClock,
    status: Arc<Status>,
    stop: Arc<AtomicBool>,
    number: usize,
    // Dropped first: closing a consumer releases its partitions, which must find nothing open.
    consumer: B::Consumer,
    processor: Processor,
    committer: Committer<B>,
    reader: B::Reader,
    stages: BTreeMap<TopicPartition, Stage>,
    restores: VecDeque<Restore>,
    /// Restored, but the client was not able to resume them yet.
    resuming: Vec<(TopicPartition, Position)>,
    /// Everything has to be taken up again from the group's positions.
    is_recovering: bool,
    next_look: Duration,
    next_report: Duration,
}

impl<B: Broker> Worker<B> {
    /// Initialises the producer, which ends what a predecessor left open, and joins the group.
    pub fn start(
        job: Arc<Job>,
        broker: Arc<B>,
        clock: SharedClock,
        status: Arc<Status>,
        stop: Arc<AtomicBool>,
        instance: &str,
        number: usize,
    ) -> Result<Self, WorkerFault> {
        let transactional_id = format!("{}-{instance}-{number}", job.tenant.name);
        let committer = Committer::start(broker.clone(), transactional_id, clock.clone(), job.clone(), &stop)?;
        let topics: Vec<Arc<str>> = job.tenant.input_topics().cloned().collect();
        let consumer = broker.consumer(&job.tenant.group(), &topics)?;
        let reader = broker.reader()?;
        let processor = job.processor()?;
        Ok(Self {
            processor,
            committer,
            consumer,
            reader,
            stages: BTreeMap::new(),
            restores: VecDeque::new(),
            resuming: Vec::new(),
            is_recovering: false,
            next_look: Duration::ZERO,
            next_report: Duration::ZERO,
            job,
            clock,
            status,
            stop,
            number,
        })
    }

    /// Works until told to stop; then commits what is open and leaves.
    pub fn run(mut self) -> Result<(), WorkerFault> {
        while !self.stop.load(Ordering::Relaxed) {
            self.turn()?;
        }
        if !self.is_recovering {
            self.commit()?;
        }
        self.status.worker(self.number, WorkerState::Stopped);
        Ok(())
    }

    /// One turn of the loop.
    fn turn(&mut self) -> Result<(), WorkerFault> {
        let wait = self.poll_wait();
        let polled = match self.consumer.poll(self.job.settings.slice_records_max, wait) {
            Ok(polled) => polled,
            Err(failure) => return self.react(failure),
        };
        for trouble in &polled.troubles {
            tracing::warn!(worker = self.number, %trouble, "broker trouble");
        }
        for rebalance in polled.rebalances {
            self.rebalance(rebalance)?;
        }
        if self.is_recovering {
            return self.recover();
        }
        self.restore()?;
        self.resume_restored()?;
        self.look_at_waiting()?;
        let took_records = self.take(polled.slice.runs)?;
        let settings = &self.job.settings;
        let is_due = self.processor.epoch().is_due(
            self.clock.monotonic(),
            settings.commit_interval(),
            settings.epoch_records_max,
            settings.epoch_bytes_max,
        );
        if is_due || !took_records {
            self.commit()?;
        }
        self.report()
    }

    /// Tells how far fetching has come: past control records too, so that lag is 0 at the end of a transactional topic (C96).
    fn report(&mut self) -> Result<(), WorkerFault> {
        let now = self.clock.monotonic();
        if !self.processor.epoch().is_empty() || now < self.next_report {
            return Ok(());
        }
        self.next_report = now + IDLE_WAIT;
        let running: Vec<TopicPartition> =
            self.stages.iter().filter(|(_, stage)| matches!(stage, Stage::Running(_))).map(|(partition, _)| partition.clone()).collect();
        for (partition, position) in running.iter().zip(self.consumer.fetch_positions(&running)?) {
            let Some(Stage::Running(processed)) = self.stages.get(partition) else { continue };
            self.status.reached(partition, position.map_or(*processed, |fetched| fetched.max(*processed)));
        }
        Ok(())
    }

    fn poll_wait(&self) -> Duration {
        if !self.processor.epoch().is_empty() || !self.restores.is_empty() {
            return Duration::ZERO;
        }
        if self.is_recovering { RETRY_WAIT } else { IDLE_WAIT }
    }

    /// Takes runs of running partitions into the epoch. Whether there were any.
    fn take(&mut self, runs: Vec<Run>) -> Result<bool, WorkerFault> {
        let mut took_any = false;
        for run in runs {
            let Some(Stage::Running(position)) = self.stages.get(&run.partition) else { continue };
            let run = run.starting_at(*position);
            let Some(end) = run.end() else { continue };
            took_any = true;
            self.status.first_record(self.clock.monotonic());
            let processed = self.processor.process(&run, self.clock.monotonic())?;
            failpoint::at("process.done");
            let stage = match processed.waiting_at {
                None => Stage::Running(end),
                Some((offset, schema)) => {
                    tracing::info!(partition = %run.partition, offset = offset.0, schema = schema.0, "waiting for the verdict on a schema");
                    self.consumer.pause(std::slice::from_ref(&run.partition))?;
                    Stage::Waiting(Position(offset.0), schema)
                }
            };
            self.stages.insert(run.partition.clone(), stage);
        }
        Ok(took_any)
    }

    /// Resumes partitions whose schema has been judged.
    fn look_at_waiting(&mut self) -> Result<(), WorkerFault> {
        let now = self.clock.monotonic();
        if now < self.next_look {
            return Ok(());
        }
        self.next_look = now + RETRY_WAIT / 4;
        let mut judged = Vec::new();
        for (partition, stage) in &self.stages {
            if let Stage::Waiting(position, schema) = stage
                && let Some(gate) = self.job.gate(partition)
                && !matches!(gate.verdict(*schema), Verdict::Pending)
            {
                judged.push((partition.clone(), *position));
            }
        }
        for (partition, position) in judged {
            self.resume(&partition, position)?;
        }
        let waiting = self.stages.values().filter(|stage| matches!(stage, Stage::Waiting(..))).count();
        self.status.waiting(self.number, waiting);
        Ok(())
    }

    fn resume(&mut self, partition: &TopicPartition, position: Position) -> Result<(), WorkerFault> {
        match self.consumer.resume(partition, position) {
            Ok(()) => {
                self.stages.insert(partition.clone(), Stage::Running(position));
                Ok(())
            }
            // The client has not started to fetch the partition yet.
            Err(failure) if failure.reaction == Reaction::Retry => {
                self.resuming.push((partition.clone(), position));
                Ok(())
            }
            Err(failure) => self.react(failure),
        }
    }

    fn resume_restored(&mut self) -> Result<(), WorkerFault> {
        for (partition, position) in std::mem::take(&mut self.resuming) {
            self.resume(&partition, position)?;
        }
        Ok(())
    }

    fn rebalance(&mut self, rebalance: Rebalance) -> Result<(), WorkerFault> {
        self.status.rebalanced(&rebalance);
        match rebalance {
            Rebalance::Assigned(partitions) => self.assigned(partitions),
            Rebalance::Revoked(partitions) => {
                // One transaction spans all partitions: commit them all, then release (EOS-5).
                if !self.is_recovering {
                    failpoint::at("revoke.before_commit");
                    self.commit()?;
                    failpoint::at("revoke.after_commit");
                }
                self.release(&partitions)
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
            self.resuming.retain(|(resuming, _)| resuming != partition);
            self.processor.close(partition);
            self.status.released(partition);
        }
        self.consumer.unassign(partitions)?;
        Ok(())
    }

    /// Takes partitions into the assignment, paused until they are restored (EOS-4).
    fn assigned(&mut self, partitions: Vec<TopicPartition>) -> Result<(), WorkerFault> {
        self.consumer.assign(&partitions)?;
        if partitions.is_empty() {
            return Ok(());
        }
        for partition in &partitions {
            self.stages.insert(partition.clone(), Stage::Restoring);
        }
        if self.is_recovering {
            return Ok(());
        }
        match self.begin_restores(&partitions) {
            Err(WorkerFault::Restore(RestoreFault::Kafka(failure)) | WorkerFault::Kafka(failure)) => self.react(failure),
            other => other,
        }
    }

    fn begin_restores(&mut self, partitions: &[TopicPartition]) -> Result<(), WorkerFault> {
        self.status.worker(self.number, WorkerState::Restoring);
        let committed = self.consumer.committed(partitions, POSITIONS_WAIT)?;
        for (partition, committed) in partitions.iter().zip(committed) {
            let low = self.consumer.watermarks(partition, POSITIONS_WAIT)?.low;
            if let Some(committed) = committed.filter(|committed| *committed < low) {
                return Err(RestoreFault::Refused {
                    partition: partition.clone(),
                    why: format!(
                        "the group stands at {committed}, the topic begins at {low}: {} records were deleted unread; \
                         set the group to {low} to accept the loss",
                        low.0 - committed.0
                    ),
                }
                .into());
            }
            let facts = self.job.facts(partition, committed, low)?;
            self.restores.push_back(Restore::begin(facts, &*self.job.store)?);
        }
        Ok(())
    }

    /// A bounded part of the first restore in line.
    fn restore(&mut self) -> Result<(), WorkerFault> {
        let Some(restore) = self.restores.front_mut() else { return Ok(()) };
        let deadline = Deadline::after(&*self.clock, IDLE_WAIT);
        loop {
            failpoint::at("restore.step");
            match restore.step(&mut self.reader, &*self.job.store, RESTORE_ENTRIES_MAX, Duration::from_millis(20)) {
                Ok(Step::Busy) if deadline.is_over(&*self.clock) => return Ok(()),
                Ok(Step::Busy) => {}
                Ok(Step::Done(task, position)) => {
                    let partition = restore.partition().clone();
                    self.status.restored(&partition, restore.entries, position);
                    self.restores.pop_front();
                    self.processor.open(&partition, task);
                    self.resume(&partition, position)?;
                    if self.restores.is_empty() {
                        self.status.worker(self.number, WorkerState::Running);
                    }
                    return Ok(());
                }
                Err(RestoreFault::Kafka(failure)) => return self.react(failure),
                Err(fault) => return Err(fault.into()),
            }
        }
    }

    /// Seals the epoch and commits it.
    fn commit(&mut self) -> Result<(), WorkerFault> {
        let Some(sealed) = self.processor.seal()? else { return Ok(()) };
        match self.committer.commit(&sealed, &mut self.consumer, &self.status)? {
            Committed::Yes => {
                failpoint::at("commit.before_store");
                self.job.store.apply(sealed.changes.clone())?;
                failpoint::at("commit.stored");
                self.processor.settle(&sealed)?;
                self.status.committed(&sealed, self.clock.monotonic());
                Ok(())
            }
            Committed::No(failure) => self.react(failure),
        }
    }

    /// Meets a failure: gives up, or drops what is open and takes everything up again.
    fn react(&mut self, failure: Failure) -> Result<(), WorkerFault> {
        if failure.reaction == Reaction::Stop {
            return Err(failure.into());
        }
        tracing::warn!(worker = self.number, reaction = ?failure.reaction, %failure, "going back to the committed positions");
        self.status.worker(self.number, WorkerState::Recovering(failure.to_string()));
        self.is_recovering = true;
        Ok(())
    }

    /// Drops everything uncommitted and begins to restore every partition from the group's positions; tried until it works.
    fn recover(&mut self) -> Result<(), WorkerFault> {
        self.processor.discard()?;
        self.restores.clear();
        self.resuming.clear();
        let partitions: Vec<TopicPartition> = self.stages.keys().cloned().collect();
        for partition in &partitions {
            self.stages.insert(partition.clone(), Stage::Restoring);
            self.processor.close(partition);
        }
        let again = |worker: &mut Self, failure: Failure| {
            if failure.reaction == Reaction::Stop {
                return Err(WorkerFault::Kafka(failure));
            }
            tracing::warn!(worker = worker.number, %failure, "still not able to go on");
            worker.status.worker(worker.number, WorkerState::Recovering(failure.to_string()));
            Ok(())
        };
        if !partitions.is_empty()
            && let Err(failure) = self.consumer.pause(&partitions)
        {
            return again(self, failure);
        }
        match self.committer.ensure_producer() {
            Ok(()) => {}
            Err(NoProducer::Failed(failure)) => return again(self, failure),
            Err(fenced) => return Err(fenced.into()),
        }
        match self.begin_restores(&partitions) {
            Ok(()) => {
                self.is_recovering = false;
                if partitions.is_empty() {
                    self.status.worker(self.number, WorkerState::Running);
                }
                Ok(())
            }
            Err(WorkerFault::Kafka(failure) | WorkerFault::Restore(RestoreFault::Kafka(failure))) => {
                self.restores.clear();
                again(self, failure)
            }
            Err(other) => Err(other),
        }
    }
}
