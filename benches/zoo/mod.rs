//! The tenant of the micro-benchmarks, its readings in two versions of their schema, and a gate that knows both.

#![allow(dead_code, reason = "each benchmark uses its part")]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use testudo::avro::gate::{OnAnswer, Policy, SchemaLookup};
use testudo::avro::registry::{FetchedSchema, RegistryFault};
use testudo::avro::{Gate, SchemaId, frame};
use testudo::clock::SystemClock;
use testudo::kafka::{Offset, Run, RunBuilder, TopicPartition};
use testudo::telemetry::Metrics;
use testudo::telemetry::handle::TenantMetrics;
use testudo::tenant::Tenant;

#[path = "../../tests/model/harness.rs"]
#[allow(dead_code, reason = "shared with the model tests")]
pub mod harness;

/// Records of one run: a slice of the engine's default size.
pub const RECORDS: usize = 8_192;
/// Devices that send them.
pub const DEVICES: usize = 1_000;
/// Two windows are touched in turn, as by readings that are out of order.
const MINUTE_MS: i64 = 60_000;
const START_MS: i64 = 1_744_100_040_000;

/// Id of [`READING`].
pub const FIRST: u32 = 1;
/// Id of a version with one field more.
pub const SECOND: u32 = 2;

/// The zoo's reading.
pub const READING: &str = r#"{"type":"record","name":"Reading","fields":[
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
where = "temperature > 20 AND humidity BETWEEN 30 AND 40"
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

/// The tenant, read from files in `folder`.
pub fn tenant(folder: &Path) -> Arc<Tenant> {
    harness::tenant(folder, FILE, READING)
}

/// Knows both versions; every other id is made up.
struct Schemas(BTreeMap<u32, String>);

impl SchemaLookup for Schemas {
    fn look_up(&self, id: SchemaId, answer: OnAnswer) {
        answer(match self.0.get(&id.0) {
            Some(json) => Ok(FetchedSchema::avro(id, json.clone())),
            None => Err(RegistryFault::NotFound("made up".into())),
        });
    }
}

/// A gate before the tenant's source.
pub fn gate(tenant: &Tenant) -> Arc<Gate> {
    let second =
        READING.replace(r#"{"name":"battery","type":"int"}"#, r#"{"name":"site","type":"string"},{"name":"battery","type":"int"}"#);
    let schemas = Schemas([(FIRST, READING.to_owned()), (SECOND, second)].into());
    let metrics = TenantMetrics::new(&Metrics::new(), &tenant.name);
    let policy = Policy { missing_tries: 1, ..Policy::default() };
    Gate::new(tenant.sources[0].reader.clone(), Arc::new(schemas), SystemClock::shared(), metrics, policy)
}

fn long(into: &mut Vec<u8>, value: i64) {
    let mut left = ((value << 1) ^ (value >> 63)).cast_unsigned();
    while left >= 0x80 {
        into.push(left as u8 | 0x80);
        left >>= 7;
    }
    into.push(left as u8);
}

fn text(into: &mut Vec<u8>, text: &str) {
    long(into, text.len() as i64);
    into.extend_from_slice(text.as_bytes());
}

/// Device and datum of a reading. One in a hundred has a low battery, one in three passes the window's filter, as in the peers' generator.
pub fn datum(number: usize, id: u32) -> (String, Vec<u8>) {
    let device = format!("tortoise-{:04}", number * 7 % DEVICES);
    let mut datum = Vec::new();
    text(&mut datum, &device);
    long(&mut datum, START_MS + (number as i64 % 2) * MINUTE_MS + number as i64);
    if id == SECOND {
        text(&mut datum, "site 3");
    }
    long(&mut datum, if number.is_multiple_of(100) { 1_500 } else { 3_900 });
    let humidity = if number.is_multiple_of(3) { 35.25 } else { 45.5 };
    for value in [21.5 + number as f64 / 1e4, humidity, 0.981] {
        datum.extend_from_slice(&value.to_le_bytes());
    }
    (device, datum)
}

/// A run whose records' schema ids follow `id`.
pub fn run(id: impl Fn(usize) -> u32) -> Run {
    let mut run = RunBuilder::new(TopicPartition::new("in", 0));
    for number in 0..RECORDS {
        let id = id(number);
        let (device, datum) = datum(number, id);
        let value = [&frame::prefix(SchemaId(id))[..], &datum].concat();
        run.push(Offset(number as i64), START_MS + number as i64, Some(device.as_bytes()), Some(&value), Vec::new());
    }
    run.finish()
}
