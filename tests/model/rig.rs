//! A rig: one tenant's processor on partition 0 of `in`, fed with hand-made datums, and everything that came out of it, readable.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::types::Value;
use testudo::avro::encode::avro_schema_of;
use testudo::engine::branch::alert::alert_schema;
use testudo::engine::epoch::SealedEpoch;
use testudo::engine::processor::Processor;
use testudo::engine::rejection::header;
use testudo::kafka::{Outgoing, Run};
use testudo::tenant::Tenant;

use crate::harness::{Input, MapStore, framed, gate, processor, run, seal_epoch, tenant};

/// The Kafka timestamp of records that do not say another: 2025-04-08T08:13:20Z, in milliseconds.
pub const NOW_MS: i64 = 1_744_100_000_000;

/// A reading; [`reading`] makes records of it.
pub const READING: &str = r#"{"type":"record","name":"Reading","fields":[
    {"name":"dev_id","type":"string"},
    {"name":"at","type":{"type":"long","logicalType":"timestamp-millis"}},
    {"name":"battery","type":["null","int"],"default":null},
    {"name":"temperature","type":"double"}]}"#;

/// The tenant `zoo` with one source `readings`, keyed by `dev_id` at `at`; `rest` goes on with the source, then the branches.
pub fn zoo(rest: &str) -> String {
    format!(
        r#"tenant = "zoo"
[source.readings]
topics = ["in"]
schema = "in-value.avsc"
key = "dev_id"
event_time = "at"
{rest}"#
    )
}

/// The alert `name` on the topic `name`.
pub fn alert(name: &str, condition: &str) -> String {
    format!("[alert.{name}]\nfrom = \"readings\"\nwhere = \"{condition}\"\ntopic = \"{name}\"\n")
}

/// The columns of an output record, by name; optional ones without their union.
pub type Row = BTreeMap<String, Value>;

/// A tenant at work.
pub struct Rig {
    /// The tenant.
    pub tenant: Arc<Tenant>,
    /// Its processor.
    pub processor: Processor,
    /// Everything produced so far.
    pub produced: Vec<Outgoing>,
    store: Arc<MapStore>,
    next: usize,
}

impl Rig {
    /// A tenant whose records are written with `schema`, its reader schema, under id 1.
    pub fn new(file: &str, schema: &str) -> Self {
        Self::with_writers(file, schema, &[schema])
    }

    /// A tenant whose records are written with `writers`, under ids 1, 2, ….
    pub fn with_writers(file: &str, reader: &str, writers: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let tenant = tenant(folder.path(), file, reader);
        let gate = gate(&tenant, (1..).zip(writers.iter().map(|json| (*json).to_owned())).collect());
        let store = Arc::new(MapStore::default());
        let processor = processor(&tenant, &gate, &store, None);
        Self { tenant, processor, produced: Vec::new(), store, next: 0 }
    }

    /// Feeds records as one slice into the open epoch.
    pub fn slice(&mut self, records: &[Input]) {
        let run = run(records, self.next);
        self.next += records.len();
        self.process(&run);
    }

    /// Feeds a run into the open epoch.
    pub fn process(&mut self, run: &Run) {
        let processed = self.processor.process(run, Duration::ZERO).expect("processed");
        assert_eq!(processed.waiting_at, None);
    }

    /// Ends the open epoch, in which something happened.
    pub fn seal(&mut self) -> SealedEpoch {
        self.try_seal().expect("an epoch with records")
    }

    /// Ends the open epoch; nothing where nothing happened in it.
    pub fn try_seal(&mut self) -> Option<SealedEpoch> {
        let sealed = seal_epoch(&mut self.processor, &self.store)?;
        self.produced.extend(sealed.records().cloned());
        Some(sealed)
    }

    /// Feeds records as one slice and one epoch.
    pub fn epoch(&mut self, records: &[Input]) -> SealedEpoch {
        self.slice(records);
        self.seal()
    }

    /// What was produced to `topic` so far.
    pub fn of(&self, topic: &str) -> Vec<&Outgoing> {
        self.produced.iter().filter(|record| &*record.topic == topic).collect()
    }

    /// Dead letters so far, each as "offset stage reason".
    pub fn refused(&self) -> Vec<String> {
        let of = |letter: &Outgoing| [header::OFFSET, header::STAGE, header::REASON].map(|name| text_header(letter, name)).join(" ");
        self.of(&self.tenant.dead_letters_topic()).into_iter().map(of).collect()
    }

    /// The details of the dead letters so far.
    pub fn details(&self) -> Vec<String> {
        self.of(&self.tenant.dead_letters_topic()).into_iter().map(|letter| text_header(letter, header::DETAIL)).collect()
    }

    /// What was produced to an alert's or a window's topic so far, decoded.
    pub fn rows(&self, topic: &str) -> Vec<Row> {
        let window = self.tenant.windows.iter().find(|window| &*window.topic == topic).map(|window| window.output.clone());
        let alert = self.tenant.alerts.iter().find(|alert| &*alert.topic == topic);
        let columns = window.or_else(|| alert.map(|alert| alert_schema(&self.tenant.sources[alert.source]))).expect("an output topic");
        let json = avro_schema_of("output", "test", &columns).expect("an Avro form").to_string();
        let schema = apache_avro::Schema::parse_str(&json).expect("a schema");
        let reader = GenericDatumReader::builder(&schema).build().expect("a reader");
        let row = |record: &Outgoing| {
            let value = record.value.as_ref().expect("a value");
            let Value::Record(fields) = reader.read_value(&mut &value[5..]).expect("a datum") else { panic!("{value:?} is no record") };
            fields.into_iter().map(|(name, value)| (name, plain(value))).collect::<Row>()
        };
        self.of(topic).into_iter().map(row).collect()
    }

    /// One column of [`Rig::rows`].
    pub fn column(&self, topic: &str, name: &str) -> Vec<Value> {
        self.rows(topic).iter().map(|row| row[name].clone()).collect()
    }
}

/// The text of a header of a dead letter.
fn text_header(letter: &Outgoing, name: &str) -> String {
    let found = letter.headers.iter().find(|header| header.name == name).and_then(|header| header.value.clone());
    String::from_utf8(found.unwrap_or_else(|| panic!("no header {name}"))).expect("UTF-8")
}

fn plain(value: Value) -> Value {
    match value {
        Value::Union(_, value) => *value,
        value => value,
    }
}

/// A record with `datum`, written with schema `id`.
pub fn record(id: u32, key: &str, datum: &[u8]) -> Input {
    Input { key: Some(key.as_bytes().to_vec()), value: Some(framed(id, datum)), timestamp_ms: NOW_MS }
}

/// A record of [`READING`].
pub fn reading(device: &str, at_ms: i64, battery: Option<i64>, temperature: f64) -> Input {
    record(1, device, &reading_datum(device, at_ms, battery, temperature))
}

/// The datum of [`reading`].
pub fn reading_datum(device: &str, at_ms: i64, battery: Option<i64>, temperature: f64) -> Vec<u8> {
    [text(device), long(at_ms), optional(battery.map(long)), double(temperature)].concat()
}

/// An int or long in Avro.
pub fn long(value: i64) -> Vec<u8> {
    let mut left = ((value << 1) ^ (value >> 63)) as u64;
    let mut bytes = Vec::new();
    while left >= 0x80 {
        bytes.push(left as u8 | 0x80);
        left >>= 7;
    }
    bytes.push(left as u8);
    bytes
}

/// A text in Avro.
pub fn text(value: &str) -> Vec<u8> {
    [&long(value.len() as i64)[..], value.as_bytes()].concat()
}

/// A double in Avro.
pub fn double(value: f64) -> Vec<u8> {
    value.to_le_bytes().to_vec()
}

/// A value of `["null", …]` in Avro.
pub fn optional(value: Option<Vec<u8>>) -> Vec<u8> {
    value.map_or_else(|| vec![0], |value| [vec![2], value].concat())
}
