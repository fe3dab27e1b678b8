//! A worker: one OS thread that owns one consumer, one transactional producer and the partitions assigned to it.
//!
//! Its loop: rebalances first, then restores, then records into the epoch, then the commit when it is due. Every failure is met
//! by its reaction ([`crate::kafka::reaction`]): whatever is uncommitted is dropped, and every partition is taken up again from
//! what the group says. There is no other way back, so that is the only one to get right.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::claims::Claim;
use super::commit::{Committed, Committer, NoProducer};
use super::job::{Job, JobFault};
use super::ownership;
use super::processor::{ProcessFault, Processor};
use super::restore::{Restore, RestoreFault};
use super::sealing::Caution;
use super::status::{Status, Waiting, WorkerState};
use crate::avro::frame::SchemaId;
use crate::clock::{Deadline, SharedClock};
use crate::failpoint;
use crate::kafka::ownership::Watch;
use crate::kafka::{Broker, Failure, GroupConsumer, Position, Reaction, Run, TopicPartition};
use crate::planted::Bug;
use crate::store::StoreFault;

/// Wait for records while nothing is going on.
const IDLE_WAIT: Duration = Duration::from_millis(100);
/// Wait between looks at something that others must change: a schema's verdict, a broker that is away.
const RETRY_WAIT: Duration = Duration::from_millis(200);
/// How often a last stable offset is asked for.
const STABLE_END_EVERY: Duration = Duration::from_millis(500);
/// A stop waits so long for results of windows that are closed.
const SWEEP_WITHIN: Duration = Duration::from_secs(5);
/// Wait before the client is asked again to resume a partition.
const RESUME_WAIT: Duration = Duration::from_millis(5);
/// A partition that cannot be resumed for this long needs a new client.
const RESUME_WITHIN: Duration = Duration::from_secs(30);

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
pub(super) enum Stage {
    Restoring,
    Running(Position),
    /// Paused before a record whose schema is not judged yet.
    Waiting(Position, SchemaId),
    /// Paused before a batch that cannot be read; when to try again.
    Held(Position, Deadline),
    /// Paused before this bound of a rebuild.
    AtBound(Position, Position),
}

/// A worker before it runs.
pub struct Worker<B: Broker> {
    pub(super) job: Arc<Job>,
    pub(super) broker: Arc<B>,
    pub(super) clock: SharedClock,
    pub(super) status: Arc<Status>,
    pub(super) stop: Arc<AtomicBool>,
    pub(super) number: usize,
    // Dropped first: closing a consumer releases its partitions, which must find nothing open.
    pub(super) consumer: B::Consumer,
    pub(super) processor: Processor,
    pub(super) committer: Committer<B>,
    pub(super) reader: B::Reader,
    pub(super) stages: BTreeMap<TopicPartition, Stage>,
    pub(super) restores: VecDeque<Restore>,
    /// Restored or judged, but the client was not able to resume them yet; until when it has to be.
    pub(super) resuming: BTreeMap<TopicPartition, (Position, Deadline)>,
    /// Assigned, but not answered yet: the group's positions are not known.
    pub(super) unanswered: Vec<TopicPartition>,
    /// The partitions with a stage whose state this worker alone may touch.
    pub(super) claims: BTreeMap<TopicPartition, Claim>,
    /// Everything has to be taken up again from the group's positions.
    pub(super) is_recovering: bool,
    /// The last partition whose state was ahead of the group, and how often in a row the group was asked about it.
    pub(super) ahead: Option<(TopicPartition, u32)>,
    pub(super) next_look: Duration,
    pub(super) next_report: Duration,
    pub(super) next_commit: Duration,
    pub(super) next_stable_end: Duration,
    pub(super) asked_stable_ends: usize,
    pub(super) watch: Watch,
    pub(super) caution: Caution,
    /// What the restore in line has left, and until when that has to change.
    pub(super) stall: Option<(u64, Deadline)>,
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
        let transactional_id = format!("{}-{instance}-{number}", job.tenant.own_name());
        let committer = Committer::start(broker.clone(), transactional_id.clone(), clock.clone(), job.clone(), &stop)?;
        let topics: Vec<Arc<str>> = job.tenant.input_topics().cloned().collect();
        let member = job.settings.static_membership.then_some(&*transactional_id);
        let consumer = broker.consumer(&job.tenant.group(), member, &topics)?;
        let reader = broker.reader()?;
        let processor = job.processor(&transactional_id)?;
        Ok(Self {
            processor,
            committer,
            consumer,
            reader,
            stages: BTreeMap::new(),
            restores: VecDeque::new(),
            resuming: BTreeMap::new(),
            unanswered: Vec::new(),
            claims: BTreeMap::new(),
            is_recovering: false,
            ahead: None,
            next_look: Duration::ZERO,
            next_report: Duration::ZERO,
            next_commit: Duration::ZERO,
            next_stable_end: Duration::ZERO,
            asked_stable_ends: 0,
            watch: ownership::watch(&job.settings),
            caution: Caution::default(),
            stall: None,
            job,
            broker,
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
        self.finish()
    }

    /// Commits what is open and leaves.
    pub fn finish(mut self) -> Result<(), WorkerFault> {
        failpoint::at("shutdown.begun");
        if !self.is_recovering {
            self.commit()?;
        }
        let until = Deadline::after(&*self.clock, SWEEP_WITHIN);
        while !self.is_recovering && !self.processor.owing().is_empty() && !until.is_over(&*self.clock) {
            self.processor.sweep(self.clock.monotonic());
            self.commit()?;
        }
        failpoint::at("shutdown.committed");
        self.status.worker(self.number, WorkerState::Stopped);
        Ok(())
    }

    /// One turn of the loop; simulations call it step by step.
    pub fn turn(&mut self) -> Result<(), WorkerFault> {
        let wait = self.poll_wait();
        // A fault here means a dead client: the next start makes a new one.
        let polled = self.consumer.poll(self.caution.slice(self.job.settings.slice_records_max), wait)?;
        if !polled.slice.runs.is_empty() {
            failpoint::at("intake.polled");
        }
        for trouble in &polled.troubles {
            tracing::debug!(worker = self.number, %trouble, "broker trouble");
        }
        for rebalance in polled.rebalances {
            self.rebalance(rebalance)?;
        }
        self.answer_assignment()?;
        if self.is_recovering {
            return self.recover();
        }
        self.claim()?;
        self.restore()?;
        self.resume_restored()?;
        if self.is_recovering {
            // What was polled is read again.
            return Ok(());
        }
        self.look_at_waiting()?;
        self.look_at_held()?;
        let took_records = self.take_within_bounds(polled.slice.runs)?;
        self.hold(polled.poisoned)?;
        if self.is_sealing_due(took_records) {
            self.commit()?;
        }
        self.report()
    }

    /// Tells how far fetching has come: past control records too, so that lag is 0 at the end of a transactional topic (C96).
    fn report(&mut self) -> Result<(), WorkerFault> {
        let now = self.clock.monotonic();
        // After a failed commit the stages are ahead of what is committed.
        if self.is_recovering || !self.processor.epoch().is_empty() || now < self.next_report {
            return Ok(());
        }
        self.next_report = now + IDLE_WAIT;
        let running: Vec<TopicPartition> =
            self.stages.iter().filter(|(_, stage)| matches!(stage, Stage::Running(_))).map(|(partition, _)| partition.clone()).collect();
        for (partition, position) in running.iter().zip(self.consumer.fetch_positions(&running)?) {
            let Some(Stage::Running(processed)) = self.stages.get(partition) else { continue };
            let reached = position.map_or(*processed, |fetched| fetched.max(*processed));
            let end = self.consumer.known_end(partition);
            self.status.reached(partition, reached, end);
        }
        self.ask_stable_end(&running, now);
        self.look_for_unowned(now)
    }

    /// Asks for the last stable offset of one partition, another one each time: the lag that a pinned transaction hides.
    fn ask_stable_end(&mut self, running: &[TopicPartition], now: Duration) {
        if running.is_empty() || now < self.next_stable_end {
            return;
        }
        self.next_stable_end = now + STABLE_END_EVERY;
        let partition = &running[self.asked_stable_ends % running.len()];
        self.asked_stable_ends += 1;
        match self.consumer.watermarks(partition, IDLE_WAIT) {
            Ok(bounds) => self.status.stable_end(partition, bounds.high),
            Err(failure) => tracing::debug!(%partition, %failure, "last stable offset not known"),
        }
    }

    /// How long the next transaction has to wait for the last one's markers.
    pub(super) fn pause_left(&self) -> Duration {
        self.next_commit.saturating_sub(self.clock.monotonic())
    }

    fn poll_wait(&self) -> Duration {
        if self.is_recovering || !self.unanswered.is_empty() {
            return RETRY_WAIT;
        }
        if !self.restores.is_empty() {
            return Duration::ZERO;
        }
        if !self.processor.epoch().is_empty() || !self.processor.owing().is_empty() {
            return self.pause_left();
        }
        if self.resuming.is_empty() { IDLE_WAIT } else { RESUME_WAIT }
    }

    /// Takes runs of running partitions into the epoch. Whether there were any.
    pub(super) fn take(&mut self, runs: Vec<Run>) -> Result<bool, WorkerFault> {
        let mut took_any = false;
        for run in runs {
            let Some(Stage::Running(position)) = self.stages.get(&run.partition) else { continue };
            let run = run.starting_at(*position);
            let Some(end) = run.end() else { continue };
            took_any = true;
            self.status.first_record(self.clock.monotonic());
            let started = self.clock.monotonic();
            let processed = self.processor.process(&run, started)?;
            self.status.processed(self.clock.monotonic().saturating_sub(started), &processed);
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
        let (mut judged, mut waiting) = (Vec::new(), BTreeMap::new());
        for (partition, stage) in &self.stages {
            let Stage::Waiting(position, schema) = stage else { continue };
            let Some(verdict) = self.job.gate(partition).map(|gate| gate.verdict(*schema)) else { continue };
            if verdict.must_wait() {
                waiting.insert(partition.clone(), Waiting::of(*position, *schema, verdict));
            } else if !self.resuming.contains_key(partition) {
                judged.push((partition.clone(), *position));
            }
        }
        for (partition, position) in judged {
            self.resume(&partition, position)?;
        }
        self.status.waiting(self.number, waiting);
        Ok(())
    }

    pub(super) fn resume(&mut self, partition: &TopicPartition, position: Position) -> Result<(), WorkerFault> {
        match self.consumer.resume(partition, position) {
            Ok(()) => {
                self.resuming.remove(partition);
                self.stages.insert(partition.clone(), Stage::Running(position));
                Ok(())
            }
            // The client has not started to fetch the partition yet, or still ends an earlier fetch.
            Err(failure) if failure.reaction == Reaction::Retry => {
                let within = Deadline::after(&*self.clock, RESUME_WITHIN);
                let (_, deadline) = self.resuming.entry(partition.clone()).or_insert((position, within));
                match deadline.is_over(&*self.clock) {
                    true => Err(Failure { reaction: Reaction::Rejoin, ..failure }.into()),
                    false => Ok(()),
                }
            }
            Err(failure) => Err(failure.into()),
        }
    }

    fn resume_restored(&mut self) -> Result<(), WorkerFault> {
        let waiting: Vec<(TopicPartition, Position)> =
            self.resuming.iter().map(|(partition, (position, _))| (partition.clone(), *position)).collect();
        for (partition, position) in waiting {
            self.resume(&partition, position)?;
        }
        Ok(())
    }

    /// Seals the epoch and commits it.
    pub(super) fn commit(&mut self) -> Result<(), WorkerFault> {
        let Some(mut sealed) = self.seal()? else { return Ok(()) };
        if Bug::StateBeforeCommit.is_planted() {
            self.job.store.apply(sealed.changes.clone())?;
        }
        match self.committer.commit(&mut sealed, &mut self.consumer, &self.status)? {
            Committed::Yes => {
                self.caution.succeeded();
                failpoint::at("commit.before_store");
                let started = self.clock.monotonic();
                self.job.store.apply(std::mem::take(&mut sealed.changes))?;
                self.status.stored(self.clock.monotonic().saturating_sub(started));
                failpoint::at("commit.stored");
                self.processor.settle(&sealed)?;
                let now = self.clock.monotonic();
                self.next_commit = now + self.job.settings.commit_pause();
                self.tell_owing();
                self.status.committed(&sealed, now);
                Ok(())
            }
            Committed::No(failure) => {
                // Taken from it by the group, it says nothing about what gets through.
                if failure.reaction != Reaction::Rejoin {
                    self.caution.failed();
                }
                self.react(failure)
            }
        }
    }

    /// Meets a failure: gives up, or drops what is open and takes everything up again.
    pub(super) fn react(&mut self, failure: Failure) -> Result<(), WorkerFault> {
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
        self.stall = None;
        self.resuming.clear();
        let partitions: Vec<TopicPartition> = self.stages.keys().cloned().collect();
        for partition in &partitions {
            self.stages.insert(partition.clone(), Stage::Restoring);
            self.processor.close(partition);
            self.status.unknown(partition);
        }
        let again = |worker: &mut Self, failure: Failure| {
            if failure.reaction == Reaction::Stop {
                return Err(WorkerFault::Kafka(failure));
            }
            tracing::warn!(worker = worker.number, %failure, "still not able to go on");
            worker.status.worker(worker.number, WorkerState::Recovering(failure.to_string()));
            Ok(())
        };
        if !partitions.is_empty() {
            self.consumer.pause(&partitions)?;
        }
        match self.committer.ensure_producer() {
            Ok(()) => {}
            Err(NoProducer::Failed(failure)) => return again(self, failure),
            Err(fenced) => return Err(fenced.into()),
        }
        if !partitions.is_empty()
            && let Err(failure) = self.consumer.group()
        {
            // The client takes part again by itself; until then nothing of these partitions could be committed.
            self.status.worker(self.number, WorkerState::Recovering(failure.to_string()));
            return Ok(());
        }
        self.take_claims();
        let claimed: Vec<TopicPartition> = self.claims.keys().cloned().collect();
        match self.facts(&claimed) {
            Ok(facts) => {
                self.is_recovering = false;
                self.begin_restores(facts)?;
                self.tell_if_running();
                Ok(())
            }
            Err(WorkerFault::Kafka(failure)) => again(self, failure),
            Err(other) => Err(other),
        }
    }
}
