//! The loop of a sink: one collection, one thread, two batches written at a time.
//!
//! Poll committed records → make documents → write until MongoDB has acknowledged all; the group's positions are committed a few times
//! a second, behind the writes, in their order. While batches are written the next is read and made, so that MongoDB does not wait; which
//! of two is applied first does not matter (SINK-1), but where one key has two origins. Partitions are given up when nothing is being
//! written. While MongoDB is away the batches stay where they are, the partitions are paused and the client is polled, so that the group
//! keeps its member (F16, F18). Whatever goes wrong, the answer is the same: leave, join again, go on from the committed positions;
//! repeating changes nothing (SINK-1).

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::RecvTimeoutError;
use std::time::Duration;

use mongodb::Client;
use tokio::runtime::Handle;

use super::intake::{Fill, Intake};
use super::lease::{Forbidden, Lease};
use super::rows::{Batch, Rows, SinkFault};
use super::settings::Settings;
use super::status::{Health, Shared, SinkHandle};
use super::write::{Tally, Writer};
use super::writing::Writing;
use crate::clock::{Deadline, SharedClock};
use crate::engine::supervisor::panic_text;
use crate::failpoint;
use crate::kafka::{Broker, Cluster, Failure, Position, Reaction, Rebalance, Run, TopicDescription, TopicPartition};
use crate::telemetry::TenantMetrics;

/// A batch holds records for so many commands, which are sent one after the other: results of one window within it are written once.
const COMMANDS_MAX: usize = 4;
/// So many batches are written at a time: while one's answer is on its way the server has another to work on.
const WRITING_MAX: usize = 2;
/// How often a waiting loop looks around.
const STEP: Duration = Duration::from_millis(50);
/// A poll waits so long for a record, or for room for the batch; the stop flag is seen as often.
const IDLE_WAIT: Duration = Duration::from_millis(100);
/// A write that takes longer pauses the partitions, which costs what was fetched ahead.
const WRITE_PATIENCE: Duration = Duration::from_secs(1);
/// A batch that is in the way of a stop or a rebalance is given up after this time.
const RELEASE_PATIENCE: Duration = Duration::from_secs(5);
/// What is written is committed as often: an answer of the broker is waited for.
const COMMIT_EVERY: Duration = Duration::from_millis(100);
/// How long the broker may take to say what topics are; their group waits for it.
const LOOK_WAIT: Duration = Duration::from_secs(10);
/// Pause of a partition whose next record has to wait for its schema.
const SCHEMA_WAIT: Duration = Duration::from_millis(250);
/// How often the lag is measured, and idle positions are committed.
const MEASURE_EVERY: Duration = Duration::from_secs(5);
/// First and longest pause before the sink joins its group again after a fault.
const FAULT_PAUSE: Duration = Duration::from_millis(500);
const FAULT_PAUSE_MAX: Duration = Duration::from_secs(5);
/// Documents of foreign origin are told of so often.
const TELL_EVERY: Duration = Duration::from_secs(10);

/// What a sink feeds, and from where.
#[derive(Clone, Debug)]
pub struct Target {
    /// The consumer group that owns the sink's positions.
    pub group: String,
    /// The database.
    pub database: String,
    /// The collection.
    pub collection: String,
    /// The topics that are read, committed records only.
    pub topics: Vec<Arc<str>>,
}

/// What every sink of a process needs.
#[derive(Clone)]
pub struct Surroundings {
    /// How to reach the broker.
    pub kafka: crate::kafka::Settings,
    /// Tells what topics are.
    pub broker: Arc<Cluster>,
    /// `client.id` of the consumers.
    pub client_id: String,
    /// The database.
    pub client: Client,
    /// How writes are bundled.
    pub settings: Settings,
    /// Runs the writes.
    pub runtime: Handle,
    /// Time for waits and pauses.
    pub clock: SharedClock,
    /// Why the sink may not write (any more).
    pub forbidden: Arc<Forbidden>,
}

/// A sink; lives on its own thread.
pub struct Sink {
    target: Target,
    around: Surroundings,
    writer: Writer,
    lease: Arc<Lease>,
    rows: Box<dyn Rows>,
    shared: Arc<Shared>,
    told: Option<Deadline>,
}

impl Sink {
    /// Starts a sink on a thread of its own.
    ///
    /// # Errors
    /// When the system has no more threads.
    pub fn spawn(
        target: Target,
        around: Surroundings,
        rows: Box<dyn Rows>,
        health: Arc<Health>,
        metrics: &TenantMetrics,
    ) -> std::io::Result<SinkHandle> {
        let shared = Arc::new(Shared::new(health, metrics.mongo(&target.collection)));
        let lease = Arc::new(Lease::new(around.forbidden.clone(), around.clock.clone()));
        let writer = Writer::new(around.client.database(&target.database), &target.collection, &around.settings).under(lease.clone());
        let topics = target.topics.clone();
        let name = target.group.clone();
        let mut sink = Self { target, around, writer, lease, rows, shared: shared.clone(), told: None };
        let thread = std::thread::Builder::new().name(name).spawn(move || sink.run())?;
        Ok(SinkHandle { topics, shared, thread })
    }

    fn run(&mut self) {
        let mut pause = FAULT_PAUSE;
        while !self.shared.is_stopping() {
            let before = self.around.clock.monotonic();
            let Err(fault) = self.serve() else { break };
            if self.shared.is_stopping() {
                tracing::warn!(collection = self.target.collection, %fault, "stopped with a batch open");
                break;
            }
            self.shared.health.reads_nothing(&fault.to_string());
            if let SinkFault::Superseded(why) = &fault {
                tracing::warn!(collection = self.target.collection, why, "sink ends");
                break;
            }
            // A fault after a good while is a new one.
            let lasted = self.around.clock.monotonic().saturating_sub(before);
            pause = if lasted > FAULT_PAUSE_MAX { FAULT_PAUSE } else { (pause * 2).min(FAULT_PAUSE_MAX) };
            self.wait(pause);
        }
        self.shared.health.retire();
        tracing::info!(collection = self.target.collection, "sink ended");
    }

    fn wait(&self, pause: Duration) {
        let deadline = Deadline::after(&*self.around.clock, pause);
        while !deadline.is_over(&*self.around.clock) && !self.shared.is_stopping() {
            self.around.clock.sleep(STEP.min(deadline.left(&*self.around.clock)));
        }
    }

    /// Takes part in the group until stopped or a fault; a panic is one.
    fn serve(&mut self) -> Result<(), SinkFault> {
        let served = catch_unwind(AssertUnwindSafe(|| self.take_part()));
        self.shared.released_all();
        self.shared.lag(None);
        served.unwrap_or_else(|panic| {
            self.rows.forget();
            Err(SinkFault::Panicked(panic_text(&*panic)))
        })
    }

    fn take_part(&mut self) -> Result<(), SinkFault> {
        let intake = Intake::join(&self.around.kafka, &self.around.client_id, &self.target.group, &self.target.topics)?;
        tracing::info!(collection = self.target.collection, group = self.target.group, "sink joins its group");
        let mut session = Session::new(self, intake);
        let served = session.serve();
        session.leave();
        served
    }

    /// Says what people should know of a batch; a mistake that lasts is told now and then.
    fn tell(&mut self, tally: &Tally) {
        let collection = &self.target.collection;
        if let Some(example) = &tally.example_aside {
            tracing::warn!(collection, count = tally.set_aside, example, "records set aside, their places are in <collection>_set_aside");
        }
        let is_time = self.told.is_none_or(|told| told.is_over(&*self.around.clock));
        if let Some(example) = tally.example.as_ref().filter(|_| is_time) {
            self.told = Some(Deadline::after(&*self.around.clock, TELL_EVERY));
            tracing::warn!(
                collection,
                foreign = tally.foreign,
                moved = tally.moved,
                example,
                "results not written: one key has two origins (KEY-1)"
            );
        }
    }
}

/// One membership in the group.
struct Session<'s> {
    sink: &'s mut Sink,
    /// On their way, oldest first. Before the membership: what is given up is given up before its partitions are.
    writing: VecDeque<Writing>,
    /// Until when they may be in the way of a stop or a rebalance.
    release_by: Option<Deadline>,
    intake: Intake,
    /// Partitions whose next record waits for its schema: where, and until when.
    held: BTreeMap<TopicPartition, (Position, Deadline)>,
    /// Applied and not committed yet.
    uncommitted: HashMap<TopicPartition, Position>,
    /// Since when there is something that was written and not committed, and until when it may stay so.
    commit_by: Option<Deadline>,
    measure_at: Deadline,
}

impl<'s> Session<'s> {
    fn new(sink: &'s mut Sink, intake: Intake) -> Self {
        let measure_at = Deadline::after(&*sink.around.clock, Duration::ZERO);
        Self {
            sink,
            writing: VecDeque::new(),
            release_by: None,
            intake,
            held: BTreeMap::new(),
            uncommitted: HashMap::new(),
            commit_by: None,
            measure_at,
        }
    }

    fn serve(&mut self) -> Result<(), SinkFault> {
        let (bounds, linger) = (self.sink.around.settings.bounds(), self.sink.around.settings.linger);
        let records_max = bounds.statements_max.saturating_mul(COMMANDS_MAX);
        let fill = Fill { records_max, bytes_max: bounds.bytes_max, wait: IDLE_WAIT, linger, busy: IDLE_WAIT };
        while !self.sink.shared.is_stopping() {
            self.follow_rebalances()?;
            self.end_holds()?;
            self.intake.look_for_unowned(&*self.sink.around.clock)?;
            // With nothing there the batches that are being written are waited for instead.
            let wait = if self.writing.is_empty() { fill.wait } else { Duration::ZERO };
            let is_busy = || self.writing.len() == WRITING_MAX && !self.writing[0].task.is_finished();
            let runs = self.intake.take(Fill { wait, ..fill }, is_busy, &*self.sink.around.clock)?;
            match (runs.is_empty(), self.writing.is_empty()) {
                (true, true) => self.rest()?,
                (true, false) => self.settle()?,
                (false, _) => self.apply(&runs)?,
            }
            if self.measure_at.is_over(&*self.sink.around.clock) {
                self.commit();
                self.measure();
            }
        }
        self.settle_all()
    }

    /// Partitions are taken and given up, once nothing is being written.
    fn follow_rebalances(&mut self) -> Result<(), SinkFault> {
        if self.intake.has_rebalances() {
            self.settle_all()?;
        }
        for rebalance in self.intake.take_rebalances() {
            match rebalance {
                Rebalance::Assigned(partitions) => {
                    if !partitions.is_empty() {
                        self.sink.lease.ask()?;
                        self.must_be_held()?;
                        self.look_up(&partitions)?;
                    }
                    for (partition, start) in self.intake.assign(&partitions)? {
                        self.sink.shared.reached(&partition, start.unwrap_or(Position(0)));
                    }
                    self.sink.shared.health.reads();
                    self.measure_at = Deadline::after(&*self.sink.around.clock, Duration::ZERO);
                }
                Rebalance::Revoked(partitions) => {
                    self.commit();
                    self.give_up(&partitions)?;
                }
                Rebalance::Lost(partitions) => self.give_up(&partitions)?,
            }
        }
        Ok(())
    }

    /// What the topics of assigned partitions are now: one may have been widened, or made anew. Where a broker knows less than the group
    /// does, the group is joined again.
    fn look_up(&mut self, assigned: &[TopicPartition]) -> Result<(), SinkFault> {
        let sink = &mut *self.sink;
        let topics = sink.around.broker.describe(&sink.target.topics, LOOK_WAIT)?;
        for partition in assigned {
            let is_its = |topic: &&TopicDescription| topic.name == partition.topic && topic.partitions > partition.partition;
            let Some(topic) = topics.iter().find(is_its) else {
                let attempted = format!("look up {partition}");
                return Err(Failure::new(Reaction::Retry, attempted, "it was assigned, and the broker does not know it").into());
            };
            sink.rows.learn(partition, topic);
        }
        Ok(())
    }

    fn must_be_held(&self) -> Result<(), SinkFault> {
        self.sink.lease.lost().map_or(Ok(()), |why| Err(SinkFault::Superseded(why)))
    }

    fn give_up(&mut self, partitions: &[TopicPartition]) -> Result<(), SinkFault> {
        for partition in partitions {
            self.held.remove(partition);
            self.uncommitted.remove(partition);
            self.sink.shared.released(partition);
        }
        self.measure_at = Deadline::after(&*self.sink.around.clock, Duration::ZERO);
        Ok(self.intake.release(partitions)?)
    }

    /// Looks again at records that waited for their schema.
    fn end_holds(&mut self) -> Result<(), SinkFault> {
        let clock = self.sink.around.clock.clone();
        let due: Vec<TopicPartition> =
            self.held.iter().filter(|(_, (_, until))| until.is_over(&*clock)).map(|(partition, _)| partition.clone()).collect();
        for partition in due {
            if let Some((position, _)) = self.held.remove(&partition) {
                self.intake.resume_at(&partition, position)?;
            }
        }
        Ok(())
    }

    /// Runs → documents, which are sent when there is room for another batch.
    fn apply(&mut self, runs: &[Run]) -> Result<(), SinkFault> {
        let mut batch = Batch::default();
        let mut ends = Vec::with_capacity(runs.len());
        for run in runs {
            if self.held.contains_key(&run.partition) {
                return Err(SinkFault::Stray { partition: run.partition.to_string() });
            }
            let documents = self.sink.rows.rows(run)?;
            let end = match documents.waiting_at {
                Some(offset) => {
                    self.hold(&run.partition, Position(offset.0))?;
                    Some(Position(offset.0))
                }
                None => run.end(),
            };
            ends.extend(end.map(|end| (run.partition.clone(), end)));
            batch.append(documents);
        }
        if batch.is_empty() {
            self.settle_all()?;
            self.written(ends);
            return Ok(());
        }
        while self.writing.len() >= WRITING_MAX {
            self.settle()?;
        }
        self.write(batch, ends);
        Ok(())
    }

    fn hold(&mut self, partition: &TopicPartition, position: Position) -> Result<(), SinkFault> {
        self.intake.pause([partition])?;
        self.held.insert(partition.clone(), (position, Deadline::after(&*self.sink.around.clock, SCHEMA_WAIT)));
        Ok(())
    }

    /// Has a batch written.
    fn write(&mut self, batch: Batch, ends: Vec<(TopicPartition, Position)>) {
        let Sink { writer, shared, around, .. } = &*self.sink;
        let writing = Writing::start(writer.clone(), batch, ends, shared.clone(), around.clock.clone(), &around.runtime);
        self.writing.push_back(writing);
    }

    fn settle_all(&mut self) -> Result<(), SinkFault> {
        while !self.writing.is_empty() {
            self.settle()?;
        }
        self.release_by = None;
        Ok(())
    }

    /// Waits for the oldest batch that is being written, however long MongoDB is away; the group is served meanwhile.
    fn settle(&mut self) -> Result<(), SinkFault> {
        let Some(mut writing) = self.writing.pop_front() else { return Ok(()) };
        let clock = self.sink.around.clock.clone();
        let patience = Deadline::after(&*clock, WRITE_PATIENCE);
        let mut is_paused = false;
        let (tally, took) = loop {
            match writing.answer.recv_timeout(STEP) {
                Ok(answer) => break answer,
                Err(RecvTimeoutError::Disconnected) => return Err(SinkFault::WriterGone),
                Err(RecvTimeoutError::Timeout) => {}
            }
            self.must_be_held()?;
            if !is_paused && patience.is_over(&*clock) {
                self.intake.pause(self.intake.owned())?;
                is_paused = true;
            }
            if is_paused {
                self.intake.keep_alive()?;
            }
            if self.measure_at.is_over(&*clock) {
                self.measure();
            }
            let is_in_the_way = self.sink.shared.is_stopping() || self.intake.is_asked_to_release();
            if is_in_the_way && self.release_by.get_or_insert_with(|| Deadline::after(&*clock, RELEASE_PATIENCE)).is_over(&*clock) {
                return Err(SinkFault::Abandoned);
            }
        };
        self.sink.shared.count(&tally, took);
        tracing::debug!(collection = self.sink.target.collection, ?tally, ?took, "batch written");
        self.sink.tell(&tally);
        if is_paused {
            self.intake.resume(self.intake.owned().iter().filter(|partition| !self.held.contains_key(*partition)))?;
        }
        self.written(std::mem::take(&mut writing.ends));
        Ok(())
    }

    /// MongoDB holds everything before `ends`.
    fn written(&mut self, ends: Vec<(TopicPartition, Position)>) {
        for (partition, end) in ends {
            self.sink.shared.reached(&partition, end);
            self.uncommitted.insert(partition, end);
        }
        failpoint::at("sink.written");
        let clock = &*self.sink.around.clock;
        self.commit_by.get_or_insert_with(|| Deadline::after(clock, COMMIT_EVERY));
        self.commit_if_due();
        failpoint::at("sink.committed");
    }

    fn commit_if_due(&mut self) {
        if self.commit_by.as_ref().is_some_and(|by| by.is_over(&*self.sink.around.clock)) {
            self.commit();
        }
    }

    /// Commits what MongoDB has. When that fails it is tried again with the next positions: they only grow.
    fn commit(&mut self) {
        self.commit_by = None;
        self.uncommitted.retain(|partition, _| self.intake.owned().contains(partition));
        if self.uncommitted.is_empty() {
            return;
        }
        match self.intake.commit(&self.uncommitted) {
            Ok(()) => self.uncommitted.clear(),
            Err(failure) => tracing::warn!(collection = self.sink.target.collection, %failure, "positions not committed, trying again"),
        }
    }

    /// Nothing came and nothing is being written: reading's own position, which skips control records, is reached.
    fn rest(&mut self) -> Result<(), SinkFault> {
        self.commit_if_due();
        for (partition, position) in self.intake.positions()? {
            let is_ahead = self.sink.shared.position(&partition).is_none_or(|reached| reached < position);
            if is_ahead && !self.held.contains_key(&partition) {
                self.sink.shared.reached(&partition, position);
                self.uncommitted.insert(partition, position);
            }
        }
        Ok(())
    }

    /// Shows how far MongoDB is behind.
    fn measure(&mut self) {
        let behind = |partition: &TopicPartition| {
            let (_, end) = self.intake.watermarks(partition)?;
            let reached = self.sink.shared.position(partition)?;
            u64::try_from((end.0 - reached.0).max(0)).ok()
        };
        // The first question without an answer ends the round: a broker that is away would cost its time for each partition.
        let lags: Option<Vec<u64>> = self.intake.owned().iter().map(behind).collect();
        match lags.as_deref() {
            Some([]) => self.sink.shared.lag(None),
            Some(lags) => self.sink.shared.lag(Some(lags.iter().sum())),
            None => {}
        }
        self.measure_at = Deadline::after(&*self.sink.around.clock, MEASURE_EVERY);
    }

    /// The last commit, then the group is left.
    fn leave(mut self) {
        self.writing.clear();
        self.commit();
    }
}
