//! Cached handles, one small struct for each component, so that counting costs an atomic addition and no look-up.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;

use super::metric::{
    CommitOutcome, LagTo, Metrics, OfCollection, OfCommit, OfKind, OfLag, OfPartition, OfPhase, OfReason, OfTenant, OfVerdict, OfWorker,
    OfWrite, Phase, RealGauge, WriteOutcome,
};

/// A tenant's metrics. Cheap to clone.
#[derive(Clone)]
pub struct TenantMetrics {
    metrics: Metrics,
    tenant: Arc<str>,
    commits: Arc<[Counter]>,
    phases: Arc<[Histogram]>,
    epoch_records: Histogram,
    lateness: Histogram,
    distance: RealGauge,
    schemas_known: Gauge,
    partitions_held: Gauge,
}

impl TenantMetrics {
    /// The handles of `tenant`.
    pub fn new(metrics: &Metrics, tenant: &str) -> Self {
        let tenant: Arc<str> = tenant.into();
        let families = &metrics.families;
        let of = OfTenant { tenant: tenant.clone() };
        let commit =
            |outcome: &CommitOutcome| families.commits.get_or_create_owned(&OfCommit { tenant: tenant.clone(), outcome: outcome.word() });
        let phase = |phase: &Phase| families.commit_phase.get_or_create_owned(&OfPhase { tenant: tenant.clone(), phase: phase.word() });
        Self {
            commits: CommitOutcome::ALL.iter().map(commit).collect(),
            phases: Phase::ALL.iter().map(phase).collect(),
            epoch_records: families.epoch_records.get_or_create_owned(&of),
            lateness: families.record_lateness.get_or_create_owned(&of),
            distance: families.event_time_distance.get_or_create_owned(&of),
            schemas_known: families.schemas_known.get_or_create_owned(&of),
            partitions_held: families.partitions_held.get_or_create_owned(&of),
            metrics: metrics.clone(),
            tenant,
        }
    }

    /// The whole catalogue.
    pub fn all(&self) -> &Metrics {
        &self.metrics
    }

    /// Counts an ended transaction.
    pub fn commit(&self, outcome: CommitOutcome) {
        if let Some(counter) = self.commits.get(outcome as usize) {
            counter.inc();
        }
    }

    /// Notes the time that one phase of an epoch took.
    pub fn phase(&self, phase: Phase, took: Duration) {
        if let Some(histogram) = self.phases.get(phase as usize) {
            histogram.observe(took.as_secs_f64());
        }
    }

    /// Notes the number of input records of an epoch.
    pub fn epoch(&self, records: usize) {
        self.epoch_records.observe(records as f64);
    }

    /// Shows these from the start, at 0: of a series that is born with a count, its first growth is seen by nobody who asks for growth.
    pub fn expect(&self, dead_letters: &[&str], dropped: &[&str], rebalances: &[&'static str]) {
        dead_letters.iter().for_each(|reason| self.dead_letter(reason, 0));
        dropped.iter().for_each(|reason| self.dropped(reason, 0));
        for kind in rebalances {
            drop(self.metrics.families.rebalances.get_or_create(&OfKind { tenant: self.tenant.clone(), kind }));
        }
    }

    /// Counts dead letters; once per reason and epoch, since it looks the reason up.
    pub fn dead_letter(&self, reason: &str, count: u64) {
        self.metrics.families.dead_letters.get_or_create(&self.of_reason(reason)).inc_by(count);
    }

    /// Counts records dropped by a declared rule; once per reason and epoch, since it looks the reason up.
    pub fn dropped(&self, reason: &str, count: u64) {
        self.metrics.families.records_dropped.get_or_create(&self.of_reason(reason)).inc_by(count);
    }

    /// Notes how long after its window's close a late record came.
    pub fn late(&self, by: Duration) {
        self.lateness.observe(by.as_secs_f64());
    }

    /// Notes a distance between event time and Kafka timestamp; the largest is shown (C43).
    pub fn event_time_distance(&self, distance: Duration) {
        let seconds = distance.as_secs_f64();
        // Two workers may pass here at once and the smaller value win; the next large one mends it.
        if seconds > self.distance.get() {
            self.distance.set(seconds);
        }
    }

    /// Counts a change of the assignment: `assigned`, `revoked`, `lost`; or one that a worker has asked for: `asked-for`.
    pub fn rebalance(&self, kind: &'static str) {
        self.metrics.families.rebalances.get_or_create(&OfKind { tenant: self.tenant.clone(), kind }).inc();
    }

    /// Shows how many writer schemas are accepted.
    pub fn schemas_known(&self, count: usize) {
        self.schemas_known.set(as_gauge(count as u64));
    }

    /// Shows how many input partitions are held.
    pub fn partitions_held(&self, count: usize) {
        self.partitions_held.set(as_gauge(count as u64));
    }

    /// Shows how many schemas wait for the owner.
    pub fn schemas_held(&self, count: usize) {
        self.metrics.families.schemas_held.get_or_create(&OfTenant { tenant: self.tenant.clone() }).set(as_gauge(count as u64));
    }

    /// Counts an announced verdict on a schema.
    pub fn schema_announced(&self, verdict: &'static str) {
        self.metrics.families.schemas_announced.get_or_create(&OfVerdict { tenant: self.tenant.clone(), verdict }).inc();
    }

    /// Shows how many input partitions wait for the verdict on a schema.
    pub fn partitions_waiting(&self, count: usize) {
        self.metrics.families.partitions_waiting.get_or_create(&OfTenant { tenant: self.tenant.clone() }).set(as_gauge(count as u64));
    }

    /// The handles of one input partition.
    pub fn partition(&self, topic: &str, partition: i32) -> PartitionMetrics {
        let labels = OfPartition { tenant: self.tenant.clone(), topic: topic.into(), partition };
        let processed = self.metrics.families.records_processed.get_or_create_owned(&labels);
        PartitionMetrics { metrics: self.metrics.clone(), labels, processed }
    }

    /// The handles of one changelog partition's restore.
    pub fn restore(&self, changelog: &str, partition: i32) -> RestoreMetrics {
        let labels = OfPartition { tenant: self.tenant.clone(), topic: changelog.into(), partition };
        let remaining = self.metrics.families.restore_remaining.get_or_create_owned(&labels);
        let restored = self.metrics.families.restored_entries.get_or_create_owned(&OfTenant { tenant: self.tenant.clone() });
        RestoreMetrics { metrics: self.metrics.clone(), labels, remaining, restored }
    }

    /// The handle of one worker's state.
    pub fn worker(&self, worker: u32) -> WorkerMetrics {
        WorkerMetrics { metrics: self.metrics.clone(), tenant: self.tenant.clone(), worker, shown: Mutex::new(None) }
    }

    /// The handles of one MongoDB collection.
    pub fn mongo(&self, collection: &str) -> MongoMetrics {
        let collection: Arc<str> = collection.into();
        let families = &self.metrics.families;
        let of_write =
            |outcome: &WriteOutcome| OfWrite { tenant: self.tenant.clone(), collection: collection.clone(), outcome: outcome.word() };
        let of = OfCollection { tenant: self.tenant.clone(), collection: collection.clone() };
        MongoMetrics {
            metrics: self.metrics.clone(),
            writes: WriteOutcome::ALL.iter().map(|outcome| families.mongo_writes.get_or_create_owned(&of_write(outcome))).collect(),
            time: families.mongo_write_time.get_or_create_owned(&of),
            of,
        }
    }

    fn of_reason(&self, reason: &str) -> OfReason {
        OfReason { tenant: self.tenant.clone(), reason: reason.into() }
    }
}

/// One input partition's metrics. Its lag is no longer shown once this is dropped: another instance owns the partition then.
pub struct PartitionMetrics {
    metrics: Metrics,
    labels: OfPartition,
    processed: Counter,
}

impl PartitionMetrics {
    /// Counts input records whose position was committed.
    pub fn processed(&self, count: u64) {
        self.processed.inc_by(count);
    }

    /// Shows the number of records still ahead. Before it was told once, nothing is shown: none ahead would be a claim.
    pub fn lag(&self, to: LagTo, records: u64) {
        self.metrics.families.consumer_lag.get_or_create(&of_lag(&self.labels, to)).set(as_gauge(records));
    }
}

impl Drop for PartitionMetrics {
    fn drop(&mut self) {
        for to in LagTo::ALL {
            self.metrics.families.consumer_lag.remove(&of_lag(&self.labels, *to));
        }
    }
}

/// One changelog partition's restore. Shown as long as this lives.
pub struct RestoreMetrics {
    metrics: Metrics,
    labels: OfPartition,
    remaining: Gauge,
    restored: Counter,
}

impl RestoreMetrics {
    /// Counts restored entries and shows how many are left.
    pub fn progress(&self, restored: u64, remaining: u64) {
        self.restored.inc_by(restored);
        self.remaining.set(as_gauge(remaining));
    }
}

impl Drop for RestoreMetrics {
    fn drop(&mut self) {
        self.metrics.families.restore_remaining.remove(&self.labels);
    }
}

/// One worker's state. Shown as long as this lives.
pub struct WorkerMetrics {
    metrics: Metrics,
    tenant: Arc<str>,
    worker: u32,
    shown: Mutex<Option<&'static str>>,
}

impl WorkerMetrics {
    /// Shows the state that the worker is in now, instead of the one before.
    pub fn state(&self, state: &'static str) {
        let before = self.shown.lock().unwrap_or_else(PoisonError::into_inner).replace(state);
        if before == Some(state) {
            return;
        }
        self.remove(before);
        self.metrics.families.worker_state.get_or_create(&self.of(state)).set(1);
    }

    fn remove(&self, state: Option<&'static str>) {
        if let Some(state) = state {
            self.metrics.families.worker_state.remove(&self.of(state));
        }
    }

    fn of(&self, state: &'static str) -> OfWorker {
        OfWorker { tenant: self.tenant.clone(), worker: self.worker, state }
    }
}

impl Drop for WorkerMetrics {
    fn drop(&mut self) {
        let shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner).take();
        self.remove(shown);
    }
}

/// One MongoDB collection's metrics.
pub struct MongoMetrics {
    metrics: Metrics,
    writes: Vec<Counter>,
    time: Histogram,
    of: OfCollection,
}

impl MongoMetrics {
    /// Counts writes by what became of them.
    pub fn wrote(&self, outcome: WriteOutcome, count: u64) {
        if let Some(counter) = self.writes.get(outcome as usize) {
            counter.inc_by(count);
        }
    }

    /// Notes the time of one bulk write.
    pub fn took(&self, time: Duration) {
        self.time.observe(time.as_secs_f64());
    }

    /// Shows how many committed records MongoDB does not hold yet; nothing where it is not known, or known to another instance.
    pub fn lag(&self, records: Option<u64>) {
        let family = &self.metrics.families.mongo_lag;
        match records {
            Some(records) => _ = family.get_or_create(&self.of).set(as_gauge(records)),
            None => _ = family.remove(&self.of),
        }
    }
}

fn of_lag(partition: &OfPartition, to: LagTo) -> OfLag {
    OfLag { tenant: partition.tenant.clone(), topic: partition.topic.clone(), partition: partition.partition, to: to.word() }
}

fn as_gauge(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
