//! What a tenant's workers tell the outside: metrics, readiness, how far they have come.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::epoch::SealedEpoch;
use super::processor::Processed;
use super::rejection::{self, OTHER_RECORD, TOMBSTONE};
use crate::avro::Verdict;
use crate::avro::frame::SchemaId;
use crate::kafka::transaction::Phases;
use crate::kafka::{Position, Rebalance, TopicPartition};
use crate::telemetry::handle::{PartitionMetrics, RestoreMetrics, TenantMetrics, WorkerMetrics};
use crate::telemetry::health::HealthHandle;
use crate::telemetry::metric::{CommitOutcome, LagTo, Phase};

pub use crate::telemetry::metric::CommitOutcome as Outcome;

/// An event time this far from its record's Kafka timestamp is worth a warning.
const FAR: Duration = Duration::from_secs(30 * 86_400);

/// Kinds of changes of an assignment.
const ASSIGNED: &str = "assigned";
const REVOKED: &str = "revoked";
const LOST: &str = "lost";
const ASKED_FOR: &str = "asked-for";

fn micros(us: i64) -> Duration {
    Duration::from_micros(us.unsigned_abs())
}

/// What a worker is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WorkerState {
    /// Before its first assignment.
    Starting,
    /// Some partition is being restored.
    Restoring,
    /// Working.
    Running,
    /// Going back to committed positions, because of this.
    Recovering(String),
    /// Ended.
    Stopped,
}

/// Why a partition waits before a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// Where the record stands.
    pub position: Position,
    /// Its schema.
    pub schema: SchemaId,
    /// What the owner has to decide; none while the registry is asked.
    pub owner: Option<String>,
}

impl Waiting {
    /// Before a record at `position` whose schema has this verdict.
    pub fn of(position: Position, schema: SchemaId, verdict: Verdict) -> Self {
        let owner = match verdict {
            Verdict::Held { detail } => Some(detail),
            _ => None,
        };
        Self { position, schema, owner }
    }
}

/// Shared by the workers of one tenant.
pub struct Status {
    metrics: TenantMetrics,
    health: HealthHandle,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    workers: HashMap<usize, (WorkerState, WorkerMetrics)>,
    partitions: HashMap<TopicPartition, (PartitionMetrics, Option<Position>)>,
    restores: HashMap<TopicPartition, (RestoreMetrics, u64)>,
    waiting: HashMap<usize, BTreeMap<TopicPartition, Waiting>>,
    held: BTreeMap<TopicPartition, String>,
    /// By worker.
    owing: HashMap<usize, BTreeSet<TopicPartition>>,
    far_told: Duration,
    totals: Totals,
}

impl Inner {
    fn has_reached(&self, partition: &TopicPartition, end: Position) -> bool {
        let has_read = end.0 == 0 || self.partitions.get(partition).is_some_and(|(_, reached)| *reached >= Some(end));
        has_read && !self.owes(partition)
    }

    fn owes(&self, partition: &TopicPartition) -> bool {
        self.owing.values().any(|of_worker| of_worker.contains(partition))
    }

    fn waits_for_a_person(&self, partition: &TopicPartition) -> Option<String> {
        if self.owes(partition) {
            return None;
        }
        let waiting = self.waiting.values().find_map(|of_worker| of_worker.get(partition));
        let decision = waiting.and_then(|waiting| Some(format!("{partition} at {}: {}", waiting.position, waiting.owner.as_ref()?)));
        decision.or_else(|| self.held.get(partition).cloned())
    }
}

/// Sums since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Records whose positions were committed.
    pub records: u64,
    /// Alerts produced.
    pub alerts: u64,
    /// Window results produced.
    pub results: u64,
    /// Dead letters written.
    pub dead_letters: u64,
    /// When the first record was taken up, by the monotonic clock.
    pub first_record: Option<Duration>,
    /// When the last epoch was committed.
    pub last_commit: Option<Duration>,
}

impl Status {
    /// Status that shows up in `metrics` and under `health`.
    pub fn new(metrics: TenantMetrics, health: HealthHandle) -> Self {
        health.not_ready("starting");
        metrics.expect(&rejection::REASONS, &[TOMBSTONE, OTHER_RECORD], &[ASSIGNED, REVOKED, LOST, ASKED_FOR]);
        Self { metrics, health, inner: Mutex::default() }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A worker's state changed.
    pub fn worker(&self, number: usize, state: WorkerState) {
        let mut inner = self.inner();
        let word = match &state {
            WorkerState::Starting => "starting",
            WorkerState::Restoring => "restoring",
            WorkerState::Running => "running",
            WorkerState::Recovering(_) => "recovering",
            WorkerState::Stopped => "stopped",
        };
        let entry = inner.workers.entry(number).or_insert_with(|| (WorkerState::Starting, self.metrics.worker(number as u32)));
        entry.1.state(word);
        entry.0 = state;
        self.tell_health(&inner);
    }

    /// These partitions of a worker wait for a schema's verdict.
    pub fn waiting(&self, worker: usize, partitions: BTreeMap<TopicPartition, Waiting>) {
        let mut inner = self.inner();
        let is_news = inner.waiting.get(&worker) != Some(&partitions);
        inner.waiting.insert(worker, partitions);
        if is_news {
            self.metrics.partitions_waiting(inner.waiting.values().map(BTreeMap::len).sum());
            self.tell_health(&inner);
        }
    }

    /// A partition is held before a batch that cannot be read, because of this.
    pub fn held(&self, partition: &TopicPartition, why: String) {
        let mut inner = self.inner();
        inner.held.insert(partition.clone(), why);
        self.tell_held(&inner);
    }

    fn tell_held(&self, inner: &Inner) {
        self.metrics.partitions_held(inner.held.len());
        self.tell_health(inner);
    }

    fn tell_health(&self, inner: &Inner) {
        let waiting: usize = inner.waiting.values().map(BTreeMap::len).sum();
        let mut reasons: Vec<String> = inner
            .workers
            .iter()
            .filter_map(|(number, (state, _))| match state {
                WorkerState::Running => None,
                WorkerState::Recovering(why) => Some(format!("worker {number} is going back to committed positions: {why}")),
                other => Some(format!("worker {number} is {}", format!("{other:?}").to_lowercase())),
            })
            .collect();
        if waiting > 0 {
            reasons.push(format!("{waiting} partitions wait for the verdict on a schema, see `schemas`"));
        }
        reasons.extend(inner.held.values().cloned());
        match reasons.is_empty() {
            true => self.health.ready(),
            false => self.health.not_ready(reasons.join("; ")),
        }
    }

    /// The tenant as a whole cannot work, because of this.
    pub fn not_ready(&self, why: &str) {
        self.health.not_ready(why);
    }

    /// A rebalance happened.
    pub fn rebalanced(&self, rebalance: &Rebalance) {
        self.metrics.rebalance(match rebalance {
            Rebalance::Assigned(_) => ASSIGNED,
            Rebalance::Revoked(_) => REVOKED,
            Rebalance::Lost(_) => LOST,
        });
    }

    /// A worker joins its group again, so that a partition without an owner gets one.
    pub fn joins_again(&self) {
        self.metrics.rebalance(ASKED_FOR);
    }

    /// A partition's state is being restored.
    pub fn restoring(&self, partition: &TopicPartition, restored: u64, remaining: u64) {
        let mut inner = self.inner();
        let metrics = &self.metrics;
        let (shown, known) =
            inner.restores.entry(partition.clone()).or_insert_with(|| (metrics.restore(&partition.topic, partition.partition), 0));
        shown.progress(restored.saturating_sub(*known), remaining);
        *known = restored;
    }

    /// Where a partition's committed records end.
    pub fn stable_end(&self, partition: &TopicPartition, end: Position) {
        if let Some((metrics, Some(reached))) = self.inner().partitions.get(partition) {
            metrics.lag(LagTo::Lso, u64::try_from(end.0 - reached.0).unwrap_or(0));
        }
    }

    /// A partition may be processed from `position` on, after so many changelog entries.
    pub fn restored(&self, partition: &TopicPartition, entries: u64, position: Position) {
        self.restoring(partition, entries, 0);
        let mut inner = self.inner();
        inner.restores.remove(partition);
        // One that is taken up again keeps its metrics: dropped, they would take the lag of their successors away.
        let make = || (self.metrics.partition(&partition.topic, partition.partition), None);
        inner.partitions.entry(partition.clone()).or_insert_with(make).1 = Some(position);
    }

    /// How far a partition is, and what it owes, has to be found out again.
    pub fn unknown(&self, partition: &TopicPartition) {
        if let Some((_, reached)) = self.inner().partitions.get_mut(partition) {
            *reached = None;
        }
    }

    /// A partition was given up.
    pub fn released(&self, partition: &TopicPartition) {
        let mut inner = self.inner();
        inner.partitions.remove(partition);
        inner.restores.remove(partition);
        if inner.held.remove(partition).is_some() {
            self.tell_held(&inner);
        }
    }

    /// All workers have ended by a fault: what they said of partitions holds no longer, which may be others' by now.
    pub fn forget(&self) {
        let mut inner = self.inner();
        inner.partitions.clear();
        inner.restores.clear();
        inner.waiting.clear();
        inner.held.clear();
        inner.owing.clear();
        self.metrics.partitions_waiting(0);
        self.tell_held(&inner);
    }

    /// Everything before `position` is committed or was not a record; `end` is where the partition ends, as far as known.
    pub fn reached(&self, partition: &TopicPartition, position: Position, end: Option<Position>) {
        if let Some((metrics, reached)) = self.inner().partitions.get_mut(partition) {
            *reached = Some(position);
            if let Some(end) = end {
                metrics.lag(LagTo::Hwm, u64::try_from(end.0 - position.0).unwrap_or(0));
            }
        }
    }

    /// Partitions of a worker with closed windows whose results are still to come.
    pub fn owing(&self, worker: usize, partitions: &BTreeSet<TopicPartition>) {
        let mut inner = self.inner();
        if inner.owing.get(&worker).map_or(!partitions.is_empty(), |before| before != partitions) {
            inner.owing.insert(worker, partitions.clone());
        }
    }

    /// A run was processed.
    pub fn processed(&self, took: Duration, processed: &Processed) {
        self.metrics.phase(Phase::Process, took);
        for late_by in &processed.late_by_us {
            self.metrics.late(micros(*late_by));
        }
        let distance = micros(processed.distance_us);
        self.metrics.event_time_distance(distance);
        let mut inner = self.inner();
        if distance > FAR && distance > inner.far_told * 2 {
            inner.far_told = distance;
            let days = distance.as_secs() / 86_400;
            tracing::warn!(days, "event times lie far from the records' Kafka timestamps: a wrong unit, or a replay of old data");
        }
    }

    /// An epoch was applied to the store.
    pub fn stored(&self, took: Duration) {
        self.metrics.phase(Phase::Store, took);
    }

    /// Whether every partition of `ends` was reached, and what that closes was let out.
    pub fn has_reached(&self, ends: &[(TopicPartition, Position)]) -> bool {
        let inner = self.inner();
        ends.iter().all(|(partition, end)| inner.has_reached(partition, *end))
    }

    /// What keeps the partitions that have not reached `ends`, a line for each, when every one of them waits for a person: for an
    /// owner's decision, or for a way past a batch that cannot be read.
    pub fn stuck_before(&self, ends: &[(TopicPartition, Position)]) -> Option<Vec<String>> {
        let inner = self.inner();
        let left = ends.iter().filter(|(partition, end)| !inner.has_reached(partition, *end));
        let lines: Option<Vec<String>> = left.map(|(partition, _)| inner.waits_for_a_person(partition)).collect();
        lines.filter(|lines| !lines.is_empty())
    }

    /// The first record is being taken up.
    pub fn first_record(&self, now: Duration) {
        self.inner().totals.first_record.get_or_insert(now);
    }

    /// An epoch is committed and stored.
    pub fn committed(&self, sealed: &SealedEpoch, now: Duration) {
        self.metrics.epoch(usize::try_from(sealed.counts.records).unwrap_or(usize::MAX));
        for (reason, count) in &sealed.counts.dead_letters {
            self.metrics.dead_letter(reason, *count);
        }
        if sealed.counts.tombstones > 0 {
            self.metrics.dropped(TOMBSTONE, sealed.counts.tombstones);
        }
        if sealed.counts.other_records > 0 {
            self.metrics.dropped(OTHER_RECORD, sealed.counts.other_records);
        }
        let mut inner = self.inner();
        let held = inner.held.len();
        for (partition, advance) in &sealed.advances {
            if advance.records > 0 {
                inner.held.remove(partition);
            }
            if let Some((metrics, reached)) = inner.partitions.get_mut(partition) {
                metrics.processed(advance.records);
                *reached = Some(advance.mark.position);
            }
        }
        let totals = &mut inner.totals;
        totals.records += sealed.counts.records;
        totals.alerts += sealed.counts.alerts;
        totals.results += sealed.counts.results;
        totals.dead_letters += sealed.counts.dead_letters.values().sum::<u64>();
        totals.last_commit = Some(now);
        if inner.held.len() < held {
            self.tell_held(&inner);
        }
    }

    /// A transaction ended.
    pub fn ended(&self, outcome: CommitOutcome) {
        self.metrics.commit(outcome);
    }

    /// How long the phases of a commit took.
    pub fn phases(&self, send: Duration, phases: &Phases) {
        self.metrics.phase(Phase::Send, send);
        self.metrics.phase(Phase::Drain, phases.drain);
        self.metrics.phase(Phase::Offsets, phases.offsets);
        self.metrics.phase(Phase::Commit, phases.commit);
    }

    /// Sums since the start.
    pub fn totals(&self) -> Totals {
        self.inner().totals
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::health::Health;
    use crate::telemetry::metric::Metrics;

    #[test]
    fn a_drain_is_stuck_when_all_that_is_left_waits_for_a_person() {
        let status = Status::new(TenantMetrics::new(&Metrics::new(), "t"), Health::default().component("t"));
        let [one, two] = [0, 1].map(|number| TopicPartition::new("in", number));
        let ends = [(one.clone(), Position(10)), (two.clone(), Position(10))];
        let before = |owner: Option<&str>| Waiting { position: Position(5), schema: SchemaId(9), owner: owner.map(ToOwned::to_owned) };
        status.restored(&one, 0, Position(10));
        status.restored(&two, 0, Position(0));

        assert_eq!(status.stuck_before(&ends), None, "work is left");
        status.waiting(0, BTreeMap::from([(two.clone(), before(None))]));
        assert_eq!(status.stuck_before(&ends), None, "the registry's answer comes by itself");
        status.waiting(0, BTreeMap::from([(two.clone(), before(Some("schema 9 waits")))]));
        assert_eq!(status.stuck_before(&ends), Some(vec!["in/1 at 5: schema 9 waits".to_owned()]));
        assert_eq!(status.stuck_before(&ends[..1]), None, "nothing is left");
        status.waiting(0, BTreeMap::new());
        status.held(&two, "in/1 is held at 5".to_owned());
        assert_eq!(status.stuck_before(&ends), Some(vec!["in/1 is held at 5".to_owned()]));
    }

    /// A drain ends when results of closed windows are out; what a worker that starts over has done is not known until it is there again.
    #[test]
    fn a_partition_that_owes_results_or_is_taken_up_again_has_not_reached_its_end() {
        let status = Status::new(TenantMetrics::new(&Metrics::new(), "t"), Health::default().component("t"));
        let partition = TopicPartition::new("in", 0);
        let ends = [(partition.clone(), Position(10))];
        status.restored(&partition, 0, Position(10));
        assert!(status.has_reached(&ends));

        status.owing(1, &BTreeSet::from([partition.clone()]));
        status.held(&partition, "in/0 is held at 10".to_owned());
        assert!(!status.has_reached(&ends));
        assert_eq!(status.stuck_before(&ends), None, "nobody has to do anything");
        status.owing(1, &BTreeSet::new());
        assert!(status.has_reached(&ends));

        status.unknown(&partition);
        assert!(!status.has_reached(&ends));
        status.restored(&partition, 0, Position(10));
        assert!(status.has_reached(&ends));
    }

    /// So many lags are shown.
    fn lags(metrics: &Metrics) -> usize {
        metrics.encode().lines().filter(|line| line.starts_with("testudo_consumer_lag_records{")).count()
    }

    #[test]
    fn a_partition_that_is_taken_up_again_still_shows_its_lag() {
        let metrics = Metrics::new();
        let status = Status::new(TenantMetrics::new(&metrics, "t"), Health::default().component("t"));
        let partition = TopicPartition::new("in", 0);
        let tell = || status.inner().partitions[&partition].0.lag(LagTo::Hwm, 3);
        status.restored(&partition, 0, Position(0));
        tell();

        status.restored(&partition, 0, Position(5));
        tell();

        assert_eq!(lags(&metrics), 1);
        assert!(status.has_reached(&[(partition.clone(), Position(5))]));
        status.released(&partition);
        assert_eq!(lags(&metrics), 0);
    }

    #[test]
    fn what_workers_said_of_partitions_ends_with_them() {
        let (metrics, health) = (Metrics::new(), Health::default());
        let status = Status::new(TenantMetrics::new(&metrics, "t"), health.component("t"));
        let partition = TopicPartition::new("in", 0);
        status.worker(0, WorkerState::Running);
        status.restored(&partition, 0, Position(10));
        status.held(&partition, "in/0 is held at 10".to_owned());
        let waiting = Waiting { position: Position(10), schema: SchemaId(9), owner: None };
        status.waiting(0, BTreeMap::from([(partition.clone(), waiting)]));
        assert!(!health.is_ready());

        status.forget();

        assert!(health.is_ready(), "{:?}", health.snapshot());
        assert!(!status.has_reached(&[(partition, Position(10))]), "it may be another instance's");
        assert_eq!(lags(&metrics), 0);
    }
}
