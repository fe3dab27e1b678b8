//! The catalogue: every metric that Testudo exports, with its labels and what it says. There is no other place.
//!
//! Labels are tenants, topics, partitions, workers and words from fixed lists; never a device, a key or any other text of a
//! record, so that the number of series does not grow with data. Components write through the handles of [`super::handle`].

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Metric, Registry};

/// A gauge of real numbers.
pub(super) type RealGauge = Gauge<f64, AtomicU64>;

/// Labels of a metric: a struct whose fields are the labels' names.
macro_rules! labels {
    ($($name:ident { $($label:ident: $kind:ty),+ })+) => {
        $(
            #[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
            pub(super) struct $name {
                $(pub(super) $label: $kind,)+
            }
        )+
    };
}

labels! {
    OfTenant { tenant: Arc<str> }
    OfReason { tenant: Arc<str>, reason: Arc<str> }
    OfPartition { tenant: Arc<str>, topic: Arc<str>, partition: i32 }
    OfLag { tenant: Arc<str>, topic: Arc<str>, partition: i32, to: &'static str }
    OfCommit { tenant: Arc<str>, outcome: &'static str }
    OfPhase { tenant: Arc<str>, phase: &'static str }
    OfKind { tenant: Arc<str>, kind: &'static str }
    OfWorker { tenant: Arc<str>, worker: u32, state: &'static str }
    OfCollection { tenant: Arc<str>, collection: Arc<str> }
    OfWrite { tenant: Arc<str>, collection: Arc<str>, outcome: &'static str }
    OfRequest { outcome: &'static str }
    OfVerdict { tenant: Arc<str>, verdict: &'static str }
}

/// A fixed list of label values.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name {
            $($(#[$variant_doc])* $variant,)+
        }

        impl $name {
            /// All of them, in declaration order.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The label's value.
            pub fn word(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)+
                }
            }
        }
    };
}

words! {
    /// How a transaction ended.
    CommitOutcome {
        /// Committed.
        Ok = "ok",
        /// Committed, but the coordinator's connection was in doubt: the producer is replaced (EOS-8).
        InDoubt = "ok-in-doubt",
        /// Aborted: nothing of it is visible, the records are processed again.
        Aborted = "aborted",
        /// Not known when it ended; the group's committed position decides (EOS-7).
        Unknown = "unknown",
        /// Refused, because a newer instance of the same name has taken over.
        Fenced = "fenced",
    }
}

words! {
    /// A part of an epoch's time.
    Phase {
        /// Admission and branches.
        Process = "process",
        /// Handing records to the client.
        Send = "send",
        /// Waiting until the broker has them.
        Drain = "drain",
        /// Sending the positions into the transaction.
        Offsets = "offsets",
        /// Ending the transaction.
        Commit = "commit",
        /// Writing the store.
        Store = "store",
    }
}

words! {
    /// Where a consumer's lag is measured to.
    LagTo {
        /// The last stable offset: what a read-committed consumer can reach.
        Lso = "lso",
        /// The high watermark, open transactions included.
        Hwm = "hwm",
    }
}

words! {
    /// What became of a write to MongoDB.
    WriteOutcome {
        /// The document now holds it.
        Applied = "applied",
        /// The document held this or a newer result already.
        Stale = "stale",
        /// The document belongs to another origin and was not touched.
        Foreign = "foreign",
        /// Set aside: no repetition would mend it.
        Failed = "failed",
        /// Will be tried again.
        Retried = "retried",
    }
}

/// All metrics of the process. Cheap to clone.
#[derive(Clone)]
pub struct Metrics {
    registry: Arc<Registry>,
    pub(super) families: Arc<Families>,
}

/// One family per metric.
pub(super) struct Families {
    pub(super) records_processed: Family<OfPartition, Counter>,
    pub(super) records_dropped: Family<OfReason, Counter>,
    pub(super) dead_letters: Family<OfReason, Counter>,
    pub(super) commits: Family<OfCommit, Counter>,
    pub(super) commit_phase: Family<OfPhase, Histogram>,
    pub(super) epoch_records: Family<OfTenant, Histogram>,
    pub(super) consumer_lag: Family<OfLag, Gauge>,
    pub(super) record_lateness: Family<OfTenant, Histogram>,
    pub(super) event_time_distance: Family<OfTenant, RealGauge>,
    pub(super) restore_remaining: Family<OfPartition, Gauge>,
    pub(super) restored_entries: Family<OfTenant, Counter>,
    pub(super) rebalances: Family<OfKind, Counter>,
    pub(super) worker_state: Family<OfWorker, Gauge>,
    pub(super) mongo_writes: Family<OfWrite, Counter>,
    pub(super) mongo_write_time: Family<OfCollection, Histogram>,
    pub(super) mongo_lag: Family<OfCollection, Gauge>,
    pub(super) registry_requests: Family<OfRequest, Counter>,
    pub(super) schemas_known: Family<OfTenant, Gauge>,
    pub(super) schemas_held: Family<OfTenant, Gauge>,
    pub(super) schemas_announced: Family<OfVerdict, Counter>,
    pub(super) partitions_waiting: Family<OfTenant, Gauge>,
    pub(super) partitions_held: Family<OfTenant, Gauge>,
}

/// What `/metrics` says its body is.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

impl Metrics {
    /// An empty catalogue.
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("testudo");
        let families = Families::registered(&mut registry);
        registry.register("build", "The program that runs", Info::new([("version", env!("CARGO_PKG_VERSION"))]));
        Self { registry: Arc::new(registry), families: Arc::new(families) }
    }

    /// All metrics as OpenMetrics text, for [`CONTENT_TYPE`].
    pub fn encode(&self) -> String {
        let mut text = String::new();
        encode(&mut text, &self.registry).expect("a String takes every write");
        text
    }

    /// Counts an answer, or none, of the schema registry.
    pub fn registry_request(&self, outcome: &'static str) {
        self.families.registry_requests.get_or_create(&OfRequest { outcome }).inc();
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Families {
    /// Names carry the unit; the encoder adds `_total` to counters and the registry the prefix `testudo_`.
    fn registered(into: &mut Registry) -> Self {
        Self {
            records_processed: counted(into, "records_processed", "Input records whose position was committed"),
            records_dropped: counted(into, "records_dropped", "Input records left out by a declared rule, without a dead letter"),
            dead_letters: counted(into, "dead_letters", "Dead letters, by reason"),
            commits: counted(into, "commits", "Ended transactions, by outcome"),
            commit_phase: timed(into, "commit_phase_seconds", "Time of an epoch's phases", seconds),
            epoch_records: timed(into, "epoch_records", "Input records of an epoch", powers_of_four),
            consumer_lag: shown(into, "consumer_lag_records", "Records between the position and the partition's end"),
            record_lateness: timed(into, "record_lateness_seconds", "How far stream time was ahead of late records", days),
            event_time_distance: shown(into, "event_time_distance_seconds", "Largest distance seen between event time and Kafka timestamp"),
            restore_remaining: shown(into, "restore_entries_remaining", "Changelog entries still to be restored"),
            restored_entries: counted(into, "restored_entries", "Changelog entries restored"),
            rebalances: counted(into, "rebalances", "Changes of the assignment, by kind"),
            worker_state: shown(into, "worker_state", "1 for the state that the worker is in"),
            mongo_writes: counted(into, "mongo_writes", "Writes to MongoDB, by outcome"),
            mongo_write_time: timed(into, "mongo_write_seconds", "Time of a bulk write to MongoDB", seconds),
            mongo_lag: shown(into, "mongo_lag_records", "Committed records that MongoDB does not hold yet"),
            registry_requests: counted(into, "registry_requests", "Requests to the schema registry, by outcome"),
            schemas_known: shown(into, "schemas_known", "Writer schemas that the gate has accepted"),
            schemas_held: shown(into, "schemas_held", "Schemas that wait for the owner's decision"),
            schemas_announced: counted(into, "schemas_announced", "Verdicts on new schemas that this instance has announced"),
            partitions_waiting: shown(into, "partitions_waiting", "Input partitions that wait for the verdict on a schema"),
            partitions_held: shown(into, "partitions_held", "Input partitions that stand before a batch that cannot be read"),
        }
    }
}

fn counted<L>(into: &mut Registry, name: &str, help: &str) -> Family<L, Counter>
where
    L: Clone + std::hash::Hash + Eq,
    Family<L, Counter>: Metric,
{
    let family = Family::default();
    into.register(name, help, family.clone());
    family
}

fn shown<L, G: Default>(into: &mut Registry, name: &str, help: &str) -> Family<L, G>
where
    L: Clone + std::hash::Hash + Eq,
    Family<L, G>: Metric,
{
    let family = Family::default();
    into.register(name, help, family.clone());
    family
}

fn timed<L>(into: &mut Registry, name: &str, help: &str, buckets: fn() -> Histogram) -> Family<L, Histogram>
where
    L: Clone + std::hash::Hash + Eq,
    Family<L, Histogram>: Metric,
{
    let family = Family::new_with_constructor(buckets);
    into.register(name, help, family.clone());
    family
}

/// 0.1 ms to 6.5 s.
fn seconds() -> Histogram {
    Histogram::new(exponential_buckets(0.000_1, 4.0, 9))
}

/// 1 to 1,048,576.
fn powers_of_four() -> Histogram {
    Histogram::new(exponential_buckets(1.0, 4.0, 11))
}

/// A second to a month.
fn days() -> Histogram {
    Histogram::new([1.0, 10.0, 60.0, 600.0, 3_600.0, 21_600.0, 86_400.0, 604_800.0, 2_592_000.0])
}

#[cfg(test)]
#[path = "metric_tests.rs"]
mod tests;
