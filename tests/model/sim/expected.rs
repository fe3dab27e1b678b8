//! What a run has to come to: the same engine, once, without a fault, a worker or a broker, all input in one epoch.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use testudo::engine::processor::{Task, TaskWindow};
use testudo::kafka::{Header, Mark, Offset, Outgoing, Position, RunBuilder, TopicPartition};
use testudo::store::{ChangelogProgress, LoggedProgress, StateStore, Swept};

use super::client::Process;
use super::cluster::Cluster;
use super::disk::{Disk, OpenDisk};
use super::faults::Faults;
use super::input;
use super::instance::{Parts, settings};
use super::link::{Link, Shared};
use super::log::Entry;
use super::plan::Plan;
use super::registry::{Registry, judge_all};

/// A record as it can be compared: key, value, timestamp, headers.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Produced {
    /// Key bytes.
    pub key: Option<Bytes>,
    /// Value bytes.
    pub value: Option<Bytes>,
    /// Kafka timestamp, milliseconds since 1970.
    pub timestamp_ms: i64,
    /// Headers, by name.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
}

/// All that the input comes to.
#[derive(Debug, Default)]
pub struct Expected {
    /// Records by topic and partition, as one epoch produces them.
    pub outputs: BTreeMap<(Arc<str>, i32), Vec<Produced>>,
    /// The store.
    pub states: BTreeMap<Vec<u8>, Vec<u8>>,
    /// For each partition of the input: position, stream time.
    pub progress: BTreeMap<TopicPartition, (i64, Option<i64>)>,
}

fn headers(headers: &[Header]) -> Vec<(String, Option<Vec<u8>>)> {
    headers.iter().map(|header| (header.name.clone(), header.value.clone())).collect()
}

impl From<&Outgoing> for Produced {
    fn from(record: &Outgoing) -> Self {
        let (key, value) = (record.key.clone(), record.value.clone());
        Self { key, value, timestamp_ms: record.timestamp_ms, headers: headers(&record.headers) }
    }
}

impl From<&Entry> for Produced {
    fn from(entry: &Entry) -> Self {
        Self { key: entry.key.clone(), value: entry.value.clone(), timestamp_ms: entry.timestamp_ms, headers: headers(&entry.headers) }
    }
}

/// Recomputes a run from the input that its cluster holds.
pub fn expected(ran: &Cluster) -> Expected {
    let calm = Plan { machines: 1, faults: Faults::default(), ..Plan::of_seed(0) };
    let mut cluster = Cluster::new(&calm, false);
    cluster.create(&input::topic(), 0);
    cluster.chances.is_healed = true;
    let shared = Shared::new(cluster);
    let registry = Registry::new(shared.clone());
    let process = Process { machine: 0, incarnation: 0 };
    let disk = Arc::new(Disk::default());
    let parts = Parts::prepare(&shared, &registry, process, &disk, &Arc::default(), settings(false, false)).expect("a calm cluster");
    judge_all(parts.gate(), &registry);
    let mut processor = parts.job().processor("calm").expect("a processor");
    let mut expected = Expected::default();
    for partition in (0..input::PARTITIONS).map(|number| TopicPartition::new("in", number)) {
        let log = &ran.topics["in"].logs[partition.partition as usize];
        processor.open(&partition, task(&parts, &partition));
        let mut run = RunBuilder::new(partition.clone());
        for entry in log.committed() {
            run.push(Offset(entry.offset), entry.timestamp_ms, entry.key.as_deref(), entry.value.as_deref(), entry.headers.clone());
        }
        let processed = (!run.is_empty()).then(|| processor.process(&run.finish(), Duration::ZERO).expect("processed"));
        assert!(processed.is_none_or(|processed| processed.waiting_at.is_none()), "every schema is judged");
    }
    let Some(sealed) = processor.seal().expect("sealed") else { return expected };
    for record in sealed.records() {
        expected.outputs.entry((record.topic.clone(), record.partition)).or_default().push(Produced::from(record));
    }
    for (partition, advance) in &sealed.advances {
        expected.progress.insert(partition.clone(), (advance.mark.position.0, advance.stream_time_us));
    }
    let store = OpenDisk { disk: disk.clone(), link: Link { shared, process } };
    store.apply(sealed.changes).expect("a calm disk");
    expected.states = disk.contents().states;
    expected
}

/// A partition that nobody has processed yet.
fn task(parts: &Parts, partition: &TopicPartition) -> Task {
    let facts = parts.job().facts(partition, None, Position(0)).expect("the input's own partition");
    let window = |plan: &testudo::engine::restore::WindowPlan| {
        let progress = ChangelogProgress { topic_id: plan.changelog_id.clone(), position: 0, logged: None };
        let changelog = plan.changelog.topic.clone();
        let task = TaskWindow { store: plan.store, changelog, progress, identity: plan.identity.clone(), swept: Swept::default() };
        (plan.window.clone(), task)
    };
    Task {
        source: facts.source,
        topic_partitions: facts.topic_partitions,
        topic_id: facts.topic_id.clone(),
        mark: Mark::START,
        stream_time_us: None,
        windows: facts.windows.iter().map(window).collect(),
    }
}

/// The last value of each key; tombstones leave nothing.
pub fn folded(records: &[Produced]) -> BTreeMap<Bytes, Bytes> {
    let mut last = BTreeMap::new();
    for record in records {
        let key = record.key.clone().unwrap_or_default();
        match &record.value {
            Some(value) => last.insert(key, value.clone()),
            None => last.remove(&key),
        };
    }
    last
}

/// A progress record of a changelog.
pub fn logged(value: &Bytes) -> Option<LoggedProgress> {
    serde_json::from_slice(value).ok()
}
