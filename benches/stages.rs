//! What each stage of a record's path costs: inspect, decode, admit, fold into windows, seal and encode, store, MongoDB documents.
//!
//! Throughput is in records of the stage; docs/performance/README.md has the cost model that is made of these.

use std::cell::Cell;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use testudo::avro::decode::Decoder;
use testudo::avro::inspect::Inspector;
use testudo::avro::limits::DatumLimits;
use testudo::engine::admit::Admission;
use testudo::engine::processor::Processor;
use testudo::kafka::Run;
use testudo::store::memory::Memory;
use testudo::store::rocks::Store;
use testudo::store::{Changes, StateStore, WindowIdentity, keys};
use testudo::tenant::Tenant;

#[path = "../tests/model/harness.rs"]
#[allow(dead_code, reason = "shared with the model tests")]
mod harness;

/// Records of one run: a slice of the engine's default size.
const RECORDS: usize = 8_192;
/// Devices that send them.
const DEVICES: usize = 1_000;
/// Two windows are touched in turn, as by readings that are out of order.
const MINUTE_MS: i64 = 60_000;
const START_MS: i64 = 1_744_100_040_000;

const READING: &str = r#"{"type":"record","name":"Reading","fields":[
    {"name":"dev_id","type":"string"},
    {"name":"at","type":{"type":"long","logicalType":"timestamp-millis"}},
    {"name":"battery","type":"int"},
    {"name":"temperature","type":"double"},
    {"name":"humidity","type":"double"},
    {"name":"acceleration","type":"double"}]}"#;

const FILE: &str = r#"
tenant = "zoo"
[source.readings]
topics = ["in"]
schema = "in-value.avsc"
key = "dev_id"
event_time = "at"
partitioner = "none"
[alert.battery_low]
from = "readings"
where = "battery < 2000"
topic = "battery-low"
[window.analytics]
from = "readings"
by = ["dev_id"]
over = { tumbling = "1 minute" }
grace = "1 minute"
topic = "analytics"
[window.analytics.select]
avg_temperature = "avg(temperature)"
avg_acceleration = "avg(acceleration)"
total_records = "count(*)"
throughput = "count(*) / 60.0"
"#;

fn zigzag(value: i64) -> Vec<u8> {
    let mut left = ((value << 1) ^ (value >> 63)) as u64;
    let mut bytes = Vec::new();
    while left >= 0x80 {
        bytes.push(left as u8 | 0x80);
        left >>= 7;
    }
    bytes.push(left as u8);
    bytes
}

/// One in a hundred readings has a low battery, as in the peers' generator.
fn datum(number: usize) -> (String, Vec<u8>) {
    let device = format!("tortoise-{:04}", number * 7 % DEVICES);
    let at = START_MS + (number as i64 % 2) * MINUTE_MS + number as i64;
    let battery = if number.is_multiple_of(100) { 1_500 } else { 3_900 };
    let doubles = [21.5 + number as f64 / 1e4, 35.25, 0.981].map(f64::to_le_bytes).concat();
    let bytes = [zigzag(device.len() as i64), device.clone().into_bytes(), zigzag(at), zigzag(battery), doubles].concat();
    (device, bytes)
}

fn records() -> Vec<harness::Input> {
    let input = |number| {
        let (device, datum) = datum(number);
        harness::Input { key: Some(device.into_bytes()), value: Some(harness::framed(1, &datum)), timestamp_ms: START_MS + number as i64 }
    };
    (0..RECORDS).map(input).collect()
}

struct Rig {
    tenant: Arc<Tenant>,
    gate: Arc<testudo::avro::Gate>,
    run: Run,
    _folder: tempfile::TempDir,
}

fn rig() -> Rig {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let tenant = harness::tenant(folder.path(), FILE, READING);
    let gate = harness::gate(&tenant, [(1, READING.to_owned())].into());
    Rig { tenant, gate, run: harness::run(&records(), 0), _folder: folder }
}

fn avro(c: &mut Criterion) {
    let rig = rig();
    let schema = apache_avro::Schema::parse_str(READING).expect("a schema");
    let inspector = Inspector::new(&schema, DatumLimits::default()).expect("an inspector");
    let datums: Vec<Vec<u8>> = (0..RECORDS).map(|number| datum(number).1).collect();
    let mut group = c.benchmark_group("avro");
    group.throughput(Throughput::Elements(RECORDS as u64));
    group.bench_function("inspect", |b| b.iter(|| datums.iter().filter(|datum| inspector.inspect(black_box(datum)).is_ok()).count()));
    let mut decoder = Decoder::new(&schema, &rig.tenant.sources[0].reader).expect("a decoder");
    group.bench_function("decode", |b| b.iter(|| decoder.decode(datums.iter().map(Vec::as_slice)).expect("rows")));
    group.finish();
}

fn admit(c: &mut Criterion) {
    let rig = rig();
    let mut admission = Admission::new(rig.tenant.clone(), 0, rig.gate.clone());
    let mut group = c.benchmark_group("engine");
    group.throughput(Throughput::Elements(RECORDS as u64));
    group.bench_function("admit: frame, gate, inspect, decode, key, time", |b| b.iter(|| admission.admit(&rig.run, 1).expect("admitted")));
    group.finish();
}

fn fresh(rig: &Rig, store: &Arc<harness::MapStore>) -> Processor {
    harness::processor(&rig.tenant, &rig.gate, store, None)
}

fn epochs(c: &mut Criterion) {
    let rig = rig();
    let mut group = c.benchmark_group("epoch");
    group.throughput(Throughput::Elements(RECORDS as u64));
    let processed = |processor: &mut Processor| processor.process(&rig.run, Duration::ZERO).expect("processed");
    group.bench_function("process: admit, alert, group, fold", |b| {
        let store = Arc::new(harness::MapStore::default());
        b.iter_batched_ref(|| fresh(&rig, &store), processed, BatchSize::SmallInput);
    });
    group.bench_function("seal: states, results, encode", |b| {
        let store = Arc::new(harness::MapStore::default());
        let filled = || {
            let mut processor = fresh(&rig, &store);
            processed(&mut processor);
            processor
        };
        b.iter_batched_ref(filled, |processor| processor.seal().expect("sealed"), BatchSize::SmallInput);
    });
    group.finish();
}

fn store(c: &mut Criterion) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let memory = Memory::new(&testudo::store::Settings::default());
    let store = Store::open(folder.path(), "zoo", &memory).expect("a store");
    let identity = WindowIdentity {
        window: "analytics".into(),
        topic: "in".into(),
        size_us: 60_000_000,
        grace_us: 60_000_000,
        emit: "updates".into(),
        by: vec!["dev_id Utf8".into()],
        aggregates: vec!["avg(temperature)".into()],
        state: vec!["sum Float64".into(), "count UInt64".into()],
    };
    let id = store.window(&identity).expect("a number");
    let key = |number: usize, minute: i64| keys::window_key(id.0, 0, minute * 60_000_000, format!("tortoise-{number:06}").as_bytes());
    let state = vec![7_u8; 40];
    let mut group = c.benchmark_group("store");
    group.throughput(Throughput::Elements(RECORDS as u64));
    let minute = Cell::new(0);
    group.bench_function("apply an epoch's states", |b| {
        let changes = || {
            minute.set(minute.get() + 1);
            Changes { states: (0..RECORDS).map(|number| (key(number, minute.get()), Some(state.clone()))).collect(), progress: Vec::new() }
        };
        b.iter_batched(changes, |changes| store.apply(changes).expect("applied"), BatchSize::LargeInput);
    });
    let wanted: Vec<Vec<u8>> = (0..RECORDS).map(|number| key(number, minute.get())).collect();
    group.bench_function("read states that are there", |b| b.iter(|| store.states(black_box(&wanted)).expect("states")));
    let absent: Vec<Vec<u8>> = (0..RECORDS).map(|number| key(number, 1 << 40)).collect();
    group.bench_function("read states that are not there", |b| b.iter(|| store.states(black_box(&absent)).expect("states")));
    group.finish();
}

criterion_group!(stages, avro, admit, epochs, store);
criterion_main!(stages);
