//! What each stage of a record's path costs: inspect, decode, admit, evaluate, group, seal, encode, store, MongoDB documents.
//!
//! Throughput is in records of the stage; docs/performance/README.md has the cost model that is made of these.

use std::cell::Cell;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::compute::cast;
use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use testudo::avro::decode::Decoder;
use testudo::avro::encode::{Encoder, avro_schema_of};
use testudo::avro::inspect::Inspector;
use testudo::avro::limits::DatumLimits;
use testudo::avro::{Gate, SchemaId};
use testudo::engine::admit::{Admission, Admitted};
use testudo::engine::branch::groups::Groups;
use testudo::engine::processor::Processor;
use testudo::kafka::Run;
use testudo::mongo::Source;
use testudo::mongo::document::{Making, Shape, Times};
use testudo::store::memory::Memory;
use testudo::store::rocks::Store;
use testudo::store::{Changes, StateStore, WindowIdentity, keys};
use testudo::tenant::Tenant;

mod zoo;

use zoo::{FIRST, READING, RECORDS, datum, harness};

/// Length of the tenant's window.
const MINUTE_US: i64 = 60_000_000;

struct Rig {
    tenant: Arc<Tenant>,
    gate: Arc<Gate>,
    run: Run,
    _folder: tempfile::TempDir,
}

fn rig() -> Rig {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let tenant = zoo::tenant(folder.path());
    let (gate, run) = (zoo::gate(&tenant), zoo::run(|_| FIRST));
    let rig = Rig { tenant, gate, run, _folder: folder };
    // The schema becomes known.
    while rig.admission().admit(&rig.run, 1).expect("admitted").waiting_at.is_some() {}
    rig
}

impl Rig {
    fn admission(&self) -> Admission {
        Admission::new(self.tenant.clone(), 0, self.gate.clone())
    }

    fn admitted(&self) -> Admitted {
        self.admission().admit(&self.run, 1).expect("admitted")
    }

    fn processor(&self, store: &Arc<harness::MapStore>) -> Processor {
        harness::processor(&self.tenant, &self.gate, store, None)
    }

    /// Rows of the window's output: the readings' values under its columns' names.
    fn results(&self) -> RecordBatch {
        let (rows, window) = (self.admitted().rows, &self.tenant.windows[0]);
        let column = |field: &arrow::datatypes::FieldRef| -> ArrayRef {
            let from = match field.name().as_str() {
                "dev_id" => "dev_id",
                "window_start" | "window_end" => "at",
                _ => "temperature",
            };
            cast(rows.column_by_name(from).expect("a column of the reading"), field.data_type()).expect("a number or an instant")
        };
        RecordBatch::try_new(window.output.clone(), window.output.fields().iter().map(column).collect()).expect("rows of results")
    }
}

fn avro(c: &mut Criterion) {
    let rig = rig();
    let schema = apache_avro::Schema::parse_str(READING).expect("a schema");
    let inspector = Inspector::new(&schema, DatumLimits::default()).expect("an inspector");
    let datums: Vec<Vec<u8>> = (0..RECORDS).map(|number| datum(number, FIRST).1).collect();
    let mut group = c.benchmark_group("avro");
    group.throughput(Throughput::Elements(RECORDS as u64));
    group.bench_function("inspect", |b| b.iter(|| datums.iter().filter(|datum| inspector.inspect(black_box(datum)).is_ok()).count()));
    let mut decoder = Decoder::new(&schema, &rig.tenant.sources[0].reader).expect("a decoder");
    group.bench_function("decode", |b| b.iter(|| decoder.decode(datums.iter().map(Vec::as_slice)).expect("rows")));
    let results = rig.results();
    let json = avro_schema_of("result", "zoo", &results.schema()).expect("an Avro form").to_string();
    let mut encoder = Encoder::new(&results.schema(), &json, SchemaId(100)).expect("an encoder");
    group.bench_function("encode results", |b| b.iter(|| encoder.encode(black_box(&results)).expect("values")));
    group.finish();
}

fn engine(c: &mut Criterion) {
    let rig = rig();
    let mut group = c.benchmark_group("engine");
    group.throughput(Throughput::Elements(RECORDS as u64));
    let mut admission = rig.admission();
    group.bench_function("admit: frame, gate, inspect, decode, key, time", |b| b.iter(|| admission.admit(&rig.run, 1).expect("admitted")));
    let (admitted, window) = (rig.admitted(), &rig.tenant.windows[0]);
    let filter = window.filter.as_ref().expect("the window has a filter");
    group.bench_function("evaluate: the window's filter", |b| b.iter(|| filter.evaluate(black_box(&admitted.rows)).expect("booleans")));
    group.bench_function("group: find or add each row's group", |b| {
        b.iter_batched_ref(|| Groups::new(window).expect("groups"), |groups| assign(groups, &admitted), BatchSize::SmallInput);
    });
    group.finish();
}

/// The number of each row's group, summed so that nothing is left out.
fn assign(groups: &mut Groups, admitted: &Admitted) -> usize {
    let rows = admitted.keys.iter().zip(admitted.times_us.values());
    rows.map(|(key, time_us)| {
        groups.find_or_add(0, time_us - time_us.rem_euclid(MINUTE_US), key.unwrap_or_default().as_bytes(), time_us / 1_000)
    })
    .sum()
}

fn epochs(c: &mut Criterion) {
    let rig = rig();
    let mut group = c.benchmark_group("epoch");
    group.throughput(Throughput::Elements(RECORDS as u64));
    let processed = |processor: &mut Processor| processor.process(&rig.run, Duration::ZERO).expect("processed");
    group.bench_function("process: admit, alert, group, fold", |b| {
        let store = Arc::new(harness::MapStore::default());
        b.iter_batched_ref(|| rig.processor(&store), processed, BatchSize::SmallInput);
    });
    group.bench_function("seal: states, results, encode", |b| {
        let store = Arc::new(harness::MapStore::default());
        let filled = || {
            let mut processor = rig.processor(&store);
            processed(&mut processor);
            processor
        };
        b.iter_batched_ref(filled, |processor| processor.seal().expect("sealed"), BatchSize::SmallInput);
    });
    group.finish();
}

fn mongo(c: &mut Criterion) {
    let rig = rig();
    let source = |offset: usize| Source { topic: "in".into(), topic_id: "id".into(), partition: 0, offset: offset as i64 };
    let mut group = c.benchmark_group("mongo");
    group.throughput(Throughput::Elements(RECORDS as u64));
    let (admitted, declared) = (rig.admitted(), &rig.tenant.sources[0]);
    let readings = Shape::of_records(&declared.columns.fields()[..declared.tenant_columns]).expect("a shape");
    group.bench_function("documents of readings", |b| {
        b.iter(|| {
            let table = readings.table(&admitted.rows).expect("columns");
            let document = |row| {
                let times = Times { event_us: Some(admitted.times_us.value(row)), kafka_ms: 0 };
                table.record(row, times, FIRST, source(row)).expect("a document").document.as_bytes().len()
            };
            (0..admitted.rows.num_rows()).map(document).sum::<usize>()
        });
    });
    let (results, window) = (rig.results(), &rig.tenant.windows[0]);
    let windows = Shape::of_window(window.output.fields(), window.by.len()).expect("a shape");
    let making = Making { origin: "in/0".into(), tenant_version: "1".into() };
    group.bench_function("documents of windows", |b| {
        b.iter(|| {
            let table = windows.table(&results).expect("columns");
            let document = |row| table.window(row, &making, 100, source(row)).expect("a document").document.as_bytes().len();
            (0..results.num_rows()).map(document).sum::<usize>()
        });
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
    let key = |number: usize, minute: i64| {
        Bytes::from(keys::window_key(id.0, 0, minute * 60_000_000, format!("tortoise-{number:06}").as_bytes()))
    };
    let state = Bytes::from(vec![7_u8; 40]);
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
    let wanted: Vec<Bytes> = (0..RECORDS).map(|number| key(number, minute.get())).collect();
    group.bench_function("read states that are there", |b| b.iter(|| store.states(black_box(&wanted)).expect("states")));
    let absent: Vec<Bytes> = (0..RECORDS).map(|number| key(number, 1 << 40)).collect();
    group.bench_function("read states that are not there", |b| b.iter(|| store.states(black_box(&absent)).expect("states")));
    group.finish();
}

criterion_group!(stages, avro, engine, epochs, store, mongo);
criterion_main!(stages);
