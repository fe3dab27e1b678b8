//! A processor on a store of maps, fed with records made here: the engine without broker, registry and disk.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use testudo::avro::encode::{Encoder, avro_schema_of};
use testudo::avro::frame::{SchemaGuid, SchemaId, prefix};
use testudo::avro::gate::{OnAnswer, Policy, SchemaLookup};
use testudo::avro::guid::OnId;
use testudo::avro::registry::{FetchedSchema, RegistryFault};
use testudo::avro::{Gate, Verdict};
use testudo::clock::SystemClock;
use testudo::engine::admit::Admission;
use testudo::engine::branch::alert::alert_schema;
use testudo::engine::branch::{AlertBranch, OutputTopic, WindowBranch};
use testudo::engine::epoch::SealedEpoch;
use testudo::engine::processor::{Processor, Task, TaskWindow};
use testudo::engine::rejection::DeadLetterTopic;
use testudo::kafka::{Mark, Offset, Outgoing, Run, RunBuilder, TopicPartition};
use testudo::store::{
    ChangelogProgress, Changes, Entry, Progress, ScanMax, StateStore, StoreFault, Swept, WindowIdentity, WindowStoreId, keys,
};
use testudo::telemetry::handle::TenantMetrics;
use testudo::telemetry::metric::Metrics;
use testudo::tenant::{Tenant, check};

/// Reads a tenant from text, with the schema of its one input topic `in`.
pub fn tenant(dir: &Path, file: &str, schema: &str) -> Arc<Tenant> {
    let (tenant, avsc) = (dir.join("tenant.toml"), dir.join("in-value.avsc"));
    std::fs::write(&avsc, schema).expect("a writable folder");
    std::fs::write(&tenant, file).expect("a writable folder");
    let mut checked = check::tenants(&[tenant], &toml::Table::new()).unwrap_or_else(|faults| panic!("{faults}"));
    Arc::new(checked.tenants.remove(0))
}

/// Answers every look-up at once with the schema under its id. The GUID of id 7 is sixteen times 7; others have none.
pub struct Schemas(pub BTreeMap<u32, String>);

impl SchemaLookup for Schemas {
    fn look_up(&self, id: SchemaId, answer: OnAnswer) {
        let json = self.0.get(&id.0).expect("a known id").clone();
        answer(Ok(FetchedSchema::avro(id, json)));
    }

    fn look_up_guid(&self, guid: SchemaGuid, answer: OnId) {
        let id = u32::from(guid.0[0]);
        let is_known = self.0.contains_key(&id) && guid.0 == [guid.0[0]; 16];
        answer(if is_known { Ok(SchemaId(id)) } else { Err(RegistryFault::Bad("this registry has no such GUID".into())) });
    }
}

/// A gate that has judged all of `schemas` already.
pub fn gate(tenant: &Tenant, schemas: BTreeMap<u32, String>) -> Arc<Gate> {
    let ids: Vec<u32> = schemas.keys().copied().collect();
    let metrics = TenantMetrics::new(&Metrics::new(), &tenant.name);
    let gate = Gate::new(tenant.sources[0].reader.clone(), Arc::new(Schemas(schemas)), SystemClock::shared(), metrics, Policy::default());
    for id in ids {
        for _ in 0..3 {
            gate.verdict(SchemaId(id));
        }
        assert!(!matches!(gate.verdict(SchemaId(id)), Verdict::Pending), "schema {id} was answered");
    }
    gate
}

/// What a store holds.
#[derive(Clone, Debug, Default)]
pub struct Maps {
    /// Window states by key.
    pub states: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Progress by partition.
    pub progress: BTreeMap<TopicPartition, Progress>,
    windows: Vec<WindowIdentity>,
}

impl Maps {
    /// The number of a window's store.
    pub fn window(&mut self, identity: &WindowIdentity) -> WindowStoreId {
        let known = self.windows.iter().position(|window| window == identity);
        let number = known.unwrap_or_else(|| {
            self.windows.push(identity.clone());
            self.windows.len() - 1
        });
        WindowStoreId(number as u32)
    }

    /// States by key, in the order asked.
    pub fn states(&self, keys: &[Bytes]) -> Vec<Option<Vec<u8>>> {
        keys.iter().map(|key| self.states.get(&key[..]).cloned()).collect()
    }

    /// Windows of a partition that start in `from ..= until`.
    pub fn started_within(&self, store: WindowStoreId, partition: i32, from_us: i64, until_us: i64, most: ScanMax) -> Vec<Entry> {
        let of = |(key, state): (&Vec<u8>, &Vec<u8>)| {
            let window = keys::read_window_key(key)?;
            let is_within = window.store == store.0 && window.partition == partition && (from_us..=until_us).contains(&window.start_us);
            is_within.then(|| Entry { start_us: window.start_us, key: window.key.to_vec(), state: state.clone() })
        };
        most.take(self.states.iter().filter_map(of).map(Ok::<_, Infallible>)).unwrap_or_default()
    }

    /// Applies changes.
    pub fn apply(&mut self, changes: Changes) {
        for (key, state) in changes.states {
            match state {
                Some(state) => self.states.insert(key.into(), state.into()),
                None => self.states.remove(&key[..]),
            };
        }
        self.progress.extend(changes.progress);
    }
}

/// A store of maps.
#[derive(Default)]
pub struct MapStore {
    inner: Mutex<Maps>,
}

impl MapStore {
    /// All states by key.
    pub fn states(&self) -> BTreeMap<Vec<u8>, Vec<u8>> {
        self.maps().states.clone()
    }

    fn maps(&self) -> MutexGuard<'_, Maps> {
        self.inner.lock().expect("not poisoned")
    }
}

impl StateStore for MapStore {
    fn window(&self, identity: &WindowIdentity) -> Result<WindowStoreId, StoreFault> {
        Ok(self.maps().window(identity))
    }

    fn progress(&self, partition: &TopicPartition) -> Result<Option<Progress>, StoreFault> {
        Ok(self.maps().progress.get(partition).cloned())
    }

    fn states(&self, keys: &[Bytes]) -> Result<Vec<Option<Vec<u8>>>, StoreFault> {
        Ok(self.maps().states(keys))
    }

    fn started_within(&self, store: WindowStoreId, partition: i32, from: i64, until: i64, most: ScanMax) -> Result<Vec<Entry>, StoreFault> {
        Ok(self.maps().started_within(store, partition, from, until, most))
    }

    fn apply(&self, changes: Changes) -> Result<(), StoreFault> {
        self.maps().apply(changes);
        Ok(())
    }
}

/// Windows are sealed in parts of so few groups that most tests meet their seams.
const SEALED_AT_ONCE: usize = 3;

/// A processor with partition 0 of `in` open, over `store`.
pub fn processor(tenant: &Arc<Tenant>, gate: &Arc<Gate>, store: &Arc<MapStore>, stream_time_us: Option<i64>) -> Processor {
    let topic = |name: &Arc<str>| OutputTopic { name: name.clone(), partitions: 1, record_bytes_max: 1_000_000 };
    let encoder = |columns: &arrow::datatypes::SchemaRef| {
        let json = avro_schema_of("output", "test", columns).expect("an Avro form").to_string();
        Encoder::new(columns, &json, SchemaId(100)).expect("an encoder")
    };
    let alerts = tenant.alerts.iter().enumerate().map(|(index, alert)| {
        AlertBranch::new(tenant.clone(), index, topic(&alert.topic), encoder(&alert_schema(&tenant.sources[alert.source])))
    });
    let windows = tenant.windows.iter().enumerate().map(|(index, window)| {
        let branch = WindowBranch::new(tenant.clone(), index, topic(&window.topic), encoder(&window.output)).expect("a branch");
        branch.sealing_at_once(SEALED_AT_ONCE)
    });
    let dead_letters = DeadLetterTopic { name: tenant.dead_letters_topic(), partitions: 1, value_bytes_max: 1_000_000 };
    let admission = Admission::new(tenant.clone(), 0, gate.clone());
    let mut processor = Processor::new(vec![admission], alerts.collect(), windows.collect(), dead_letters, store.clone());
    processor.open(&TopicPartition::new("in", 0), task(tenant, 1, stream_time_us));
    processor
}

/// Partition 0 of `in`, a topic of so many partitions, as restored.
pub fn task(tenant: &Tenant, topic_partitions: i32, stream_time_us: Option<i64>) -> Task {
    let windows = tenant.windows.iter().enumerate().map(|(number, window)| {
        let progress = ChangelogProgress { topic_id: "changelog".into(), position: 0, logged: None };
        let store = WindowStoreId(number as u32);
        let changelog = tenant.changelog_topic(window, "in");
        (window.name.clone(), TaskWindow { store, changelog, progress, identity: "identity".into(), swept: Swept::default() })
    });
    Task { source: 0, topic_partitions, topic_id: "topic".into(), mark: Mark::START, stream_time_us, windows: windows.collect() }
}

/// A record of `in`.
#[derive(Clone, Debug)]
pub struct Input {
    /// Kafka key.
    pub key: Option<Vec<u8>>,
    /// Kafka value.
    pub value: Option<Vec<u8>>,
    /// Kafka timestamp.
    pub timestamp_ms: i64,
}

/// Records from `first` on as a run of partition 0.
pub fn run(records: &[Input], first: usize) -> Run {
    let mut run = RunBuilder::new(TopicPartition::new("in", 0));
    for (index, record) in records.iter().enumerate() {
        run.push(Offset((first + index) as i64), record.timestamp_ms, record.key.as_deref(), record.value.as_deref(), Vec::new());
    }
    run.finish()
}

/// A datum in Confluent's frame.
pub fn framed(id: u32, datum: &[u8]) -> Vec<u8> {
    [&prefix(SchemaId(id))[..], datum].concat()
}

/// Feeds `records` in slices and epochs of the given lengths (used again and again), and returns all that was produced.
pub fn feed(processor: &mut Processor, store: &MapStore, records: &[Input], slices: &[usize], epochs: &[usize]) -> Vec<Outgoing> {
    let mut produced = Vec::new();
    let (mut at, mut slice, mut epoch, mut in_epoch) = (0, 0, 0, 0);
    while at < records.len() {
        let length = slices[slice % slices.len()].clamp(1, records.len() - at);
        let processed = processor.process(&run(&records[at..at + length], at), Duration::ZERO).expect("processed");
        assert_eq!(processed.waiting_at, None);
        at += length;
        slice += 1;
        in_epoch += 1;
        if in_epoch >= epochs[epoch % epochs.len()] || at == records.len() {
            produced.extend(seal(processor, store));
            (epoch, in_epoch) = (epoch + 1, 0);
        }
    }
    produced
}

/// Seals, stores and settles the open epoch, and returns what it produced.
pub fn seal(processor: &mut Processor, store: &MapStore) -> Vec<Outgoing> {
    seal_epoch(processor, store).map(|sealed| sealed.outgoing.concat()).unwrap_or_default()
}

/// Seals, stores and settles the open epoch; `None` when nothing happened in it.
pub fn seal_epoch(processor: &mut Processor, store: &MapStore) -> Option<SealedEpoch> {
    let sealed = processor.seal().expect("sealed")?;
    store.apply(sealed.changes.clone()).expect("applied");
    processor.settle(&sealed).expect("settled");
    Some(sealed)
}
