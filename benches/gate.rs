//! What writer schemas cost: admission of a run of one version, of two versions that take turns record by record, and of many made-up ids.
//!
//! The rule (docs/semantics.md): two versions in turn cost at most 1.3 times one.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use testudo::avro::gate::{OnAnswer, Policy, SchemaLookup};
use testudo::avro::registry::{FetchedSchema, RegistryFault};
use testudo::avro::{Gate, SchemaId, frame};
use testudo::clock::SystemClock;
use testudo::engine::admit::Admission;
use testudo::kafka::{Offset, Run, RunBuilder, TopicPartition};
use testudo::telemetry::Metrics;
use testudo::telemetry::handle::TenantMetrics;
use testudo::tenant::{Tenant, check};

/// Records of one run.
const RECORDS: usize = 8_192;
/// Devices that send them.
const DEVICES: usize = 1_000;

/// The zoo's reading, and a version that adds a field.
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
[alert.low]
from = "readings"
where = "battery < 2000"
topic = "low"
"#;

struct Schemas(BTreeMap<u32, String>);

impl SchemaLookup for Schemas {
    fn look_up(&self, id: SchemaId, answer: OnAnswer) {
        answer(match self.0.get(&id.0) {
            Some(json) => Ok(FetchedSchema { id, json: json.clone(), references: Vec::new(), chain: Vec::new() }),
            None => Err(RegistryFault::NotFound("made up".into())),
        });
    }
}

fn second_version() -> String {
    READING.replace(r#"{"name":"battery","type":"int"}"#, r#"{"name":"site","type":"string"},{"name":"battery","type":"int"}"#)
}

fn tenant(folder: &Path) -> Arc<Tenant> {
    std::fs::write(folder.join("in-value.avsc"), READING).expect("a writable folder");
    let file = folder.join("zoo.toml");
    std::fs::write(&file, FILE).expect("a writable folder");
    let mut checked = check::tenants(&[file], &toml::Table::new()).unwrap_or_else(|faults| panic!("{faults}"));
    Arc::new(checked.tenants.remove(0))
}

fn admission(tenant: &Arc<Tenant>) -> Admission {
    let schemas = Schemas([(1, READING.to_owned()), (2, second_version())].into());
    let metrics = TenantMetrics::new(&Metrics::new(), "zoo");
    let policy = Policy { missing_tries: 1, ..Policy::default() };
    let gate = Gate::new(tenant.sources[0].reader.clone(), Arc::new(schemas), SystemClock::shared(), metrics, policy);
    Admission::new(tenant.clone(), 0, gate)
}

fn text(into: &mut Vec<u8>, text: &str) {
    into.push(u8::try_from(text.len() * 2).expect("a short text"));
    into.extend_from_slice(text.as_bytes());
}

fn long(into: &mut Vec<u8>, value: i64) {
    let mut left = ((value << 1) ^ (value >> 63)) as u64;
    while left >= 0x80 {
        into.push(left as u8 | 0x80);
        left >>= 7;
    }
    into.push(left as u8);
}

/// A run whose records' schema ids follow `id`.
fn run(id: impl Fn(usize) -> u32) -> Run {
    let mut run = RunBuilder::new(TopicPartition::new("in", 0));
    for record in 0..RECORDS {
        let (device, id) = (format!("tortoise-{:05}", record * 7_919 % DEVICES), id(record));
        let mut value = frame::prefix(SchemaId(id)).to_vec();
        text(&mut value, &device);
        long(&mut value, 1_744_100_000_000 + record as i64);
        if id == 2 {
            text(&mut value, "site 3");
        }
        long(&mut value, 2_900);
        [25.5, 35.0, 0.25].iter().for_each(|number: &f64| value.extend_from_slice(&number.to_le_bytes()));
        run.push(Offset(record as i64), 1_744_100_000_000, Some(device.as_bytes()), Some(&value), Vec::new());
    }
    run.finish()
}

fn admit(criterion: &mut Criterion) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let tenant = tenant(folder.path());
    let mut group = criterion.benchmark_group("admit");
    group.throughput(Throughput::Elements(RECORDS as u64));
    let runs = [
        ("one version", run(|_| 1)),
        ("the other version", run(|_| 2)),
        ("two versions in turn", run(|record| 1 + record as u32 % 2)),
        ("every tenth id made up", run(|record| if record % 10 == 0 { 1_000 + record as u32 / 100 } else { 1 })),
    ];
    for (name, run) in &runs {
        let mut admission = admission(&tenant);
        // Ids become known: until then the run stops at the first that is not.
        while admission.admit(run, 1).expect("admitted").waiting_at.is_some() {}
        group.bench_function(*name, |bencher| bencher.iter(|| admission.admit(run, 1).expect("admitted").rows.num_rows()));
    }
    group.finish();
}

criterion_group!(benches, admit);
criterion_main!(benches);
