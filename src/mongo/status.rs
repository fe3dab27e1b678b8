//! What a sink tells the outside: how far MongoDB is, whether it works, and what became of the writes.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use super::write::Tally;
use crate::kafka::{Position, TopicPartition};
use crate::telemetry::handle::MongoMetrics;
use crate::telemetry::health::HealthHandle;
use crate::telemetry::metric::WriteOutcome;

/// Whether a sink reads and writes; told to the process's health and, once for each change, to the log.
pub struct Health {
    inner: Mutex<Ailments>,
}

struct Ailments {
    handle: Option<HealthHandle>,
    reading: Option<String>,
    writing: Option<String>,
}

impl Health {
    /// The health of a sink that has not started yet.
    pub fn new(handle: HealthHandle) -> Self {
        Self { inner: Mutex::new(Ailments { handle: Some(handle), reading: Some("starting".into()), writing: None }) }
    }

    /// MongoDB acknowledged a write.
    pub fn works(&self) {
        self.change(|ailments| ailments.writing.take().is_some_and(|why| told_over("MongoDB takes writes again", &why)));
    }

    /// MongoDB did not acknowledge a write; it is being repeated.
    pub fn ails(&self, why: &str) {
        self.change(|ailments| {
            ailments.writing.replace(why.to_owned()).is_none() && told("MongoDB does not take writes, repeating them", why)
        });
    }

    /// Nothing is written before the broker has said whether it may be, which it does not.
    pub fn waits(&self, why: &str) {
        let why = format!("not known whether this sink may write: {why}");
        self.change(|ailments| ailments.writing.replace(why.clone()).is_none() && told("writes wait", &why));
    }

    /// The committed records are being read.
    pub fn reads(&self) {
        self.change(|ailments| ailments.reading.take().is_some_and(|why| told_over("reading committed records", &why)));
    }

    /// They are not, for this reason; it will be tried again.
    pub fn reads_nothing(&self, why: &str) {
        self.change(|ailments| {
            ailments.reading.replace(why.to_owned()).as_deref() != Some(why) && told("committed records are not read, trying again", why)
        });
    }

    /// The sink ended on purpose.
    pub fn retire(&self) {
        if let Some(handle) = self.lock().handle.take() {
            handle.retire();
        }
    }

    fn change(&self, apply: impl FnOnce(&mut Ailments) -> bool) {
        let mut ailments = self.lock();
        let is_new = apply(&mut ailments);
        let Some(handle) = ailments.handle.as_ref().filter(|_| is_new) else { return };
        let reasons: Vec<&str> = [&ailments.reading, &ailments.writing].into_iter().flatten().map(String::as_str).collect();
        match reasons.is_empty() {
            true => handle.ready(),
            false => handle.not_ready(format!("degraded: {}", reasons.join("; "))),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Ailments> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn told(what: &'static str, why: &str) -> bool {
    tracing::warn!(why, "{what}");
    true
}

fn told_over(what: &'static str, why: &str) -> bool {
    tracing::info!(after = why, "{what}");
    true
}

/// What a sink and its handle share.
pub(super) struct Shared {
    pub(super) health: Arc<Health>,
    metrics: MongoMetrics,
    is_stopping: AtomicBool,
    applied: Mutex<HashMap<TopicPartition, Position>>,
}

impl Shared {
    pub(super) fn new(health: Arc<Health>, metrics: MongoMetrics) -> Self {
        Self { health, metrics, is_stopping: AtomicBool::new(false), applied: Mutex::default() }
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.is_stopping.load(Ordering::Relaxed)
    }

    /// MongoDB holds everything before `position`.
    pub(super) fn reached(&self, partition: &TopicPartition, position: Position) {
        self.applied().insert(partition.clone(), position);
    }

    pub(super) fn position(&self, partition: &TopicPartition) -> Option<Position> {
        self.applied().get(partition).copied()
    }

    /// Another member writes this partition now.
    pub(super) fn released(&self, partition: &TopicPartition) {
        self.applied().remove(partition);
    }

    /// Others write all of them now.
    pub(super) fn released_all(&self) {
        self.applied().clear();
    }

    pub(super) fn count(&self, tally: &Tally, took: Duration) {
        self.metrics.took(took);
        let counts = [
            (WriteOutcome::Applied, tally.written),
            (WriteOutcome::Stale, tally.stale),
            (WriteOutcome::Foreign, tally.foreign + tally.moved),
            (WriteOutcome::Failed, tally.set_aside),
            (WriteOutcome::Retried, tally.repeated),
        ];
        for (outcome, count) in counts {
            self.metrics.wrote(outcome, count);
        }
    }

    /// How far MongoDB is behind with what this sink owns; `None`: it owns nothing.
    pub(super) fn lag(&self, records: Option<u64>) {
        self.metrics.lag(records);
    }

    fn applied(&self) -> MutexGuard<'_, HashMap<TopicPartition, Position>> {
        self.applied.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A running sink.
pub struct SinkHandle {
    pub(super) topics: Vec<Arc<str>>,
    pub(super) shared: Arc<Shared>,
    pub(super) thread: JoinHandle<()>,
}

impl SinkHandle {
    /// Asks the sink to finish its batch, commit, and leave its group. A batch that MongoDB does not take within some seconds is given
    /// up: its records are read again at the next start.
    pub fn stop(&self) {
        self.shared.is_stopping.store(true, Ordering::Relaxed);
    }

    /// Whether it has ended.
    pub fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }

    /// Waits until it has ended; false when it panicked.
    pub fn join(self) -> bool {
        self.thread.join().is_ok()
    }

    /// The topics that it reads.
    pub fn topics(&self) -> &[Arc<str>] {
        &self.topics
    }

    /// Whether MongoDB holds everything before `ends`, as far as they are of this sink's topics. Partitions that another process writes
    /// are never reached here.
    pub fn has_reached(&self, ends: &HashMap<TopicPartition, Position>) -> bool {
        let applied = self.shared.applied();
        let is_reached = |(partition, end): (&TopicPartition, &Position)| {
            end.0 <= 0 || !self.topics.contains(&partition.topic) || applied.get(partition).is_some_and(|reached| reached >= end)
        };
        ends.iter().all(is_reached)
    }
}
