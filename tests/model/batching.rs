//! DET-1: what comes out does not depend on how the input was cut into slices and epochs, nor on where it was interrupted.

use std::collections::BTreeMap;
use std::sync::Arc;

use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::types::Value;
use apache_avro::writer::datum::GenericDatumWriter;
use proptest::prelude::*;
use testudo::avro::SchemaId;
use testudo::kafka::{Outgoing, Position};
use testudo::ledger::{Author, Hasher, Sum, Transaction, Writer};

use crate::harness::{Input, MapStore, feed, framed, gate, processor, tenant};

const SCHEMA: &str = r#"{"type":"record","name":"Reading","fields":[
    {"name":"dev_id","type":"string"},
    {"name":"at","type":{"type":"long","logicalType":"timestamp-millis"}},
    {"name":"battery","type":"int"},
    {"name":"temperature","type":["null","double"],"default":null}]}"#;

const TENANT: &str = r#"
tenant = "zoo"
[source.readings]
topics = ["in"]
schema = "in-value.avsc"
columns = { "dev-id" = "dev_id" }
key = '"dev-id"'
event_time = "at"
max_future = "1 day"
[alert.low]
from = "readings"
where = "battery < 2000"
topic = "low"
[window.updated]
from = "readings"
where = "temperature > 0 OR temperature IS NULL"
by = ['"dev-id"']
over = { tumbling = "10 seconds" }
grace = "5 seconds"
emit = "updates"
topic = "updated"
[window.updated.select]
readings = "count(*)"
total = "sum(temperature)"
mean = "avg(temperature)"
spread = "stddev(temperature)"
lowest = "min(battery)"
latest = "last_value(temperature ORDER BY at)"
[window.closed]
from = "readings"
by = ['"dev-id"']
over = { tumbling = "7 seconds" }
grace = "0 seconds"
emit = "final"
topic = "closed"
[window.closed.select]
readings = "count(*)"
per_second = "count(*) / 7.0"
highest = "max(temperature)"
"#;

/// One generated reading, or a record of another kind.
#[derive(Clone, Debug)]
enum Kind {
    Reading { device: u8, seconds: i64, battery: i32, temperature: Option<f64> },
    Garbage(Vec<u8>),
    Tombstone,
}

fn kinds() -> impl Strategy<Value = Vec<Kind>> {
    let temperature = prop_oneof![Just(1e16), Just(-1e16), Just(1.0), -30.0..50.0f64];
    let reading = (0u8..4, 0i64..60, 1_500i32..3_000, proptest::option::of(temperature))
        .prop_map(|(device, seconds, battery, temperature)| Kind::Reading { device, seconds, battery, temperature });
    let garbage = proptest::collection::vec(any::<u8>(), 0..20).prop_map(Kind::Garbage);
    let kind = prop_oneof![12 => reading, 1 => garbage, 1 => Just(Kind::Tombstone)];
    proptest::collection::vec(kind, 1..120)
}

fn input(kind: &Kind, index: usize) -> Input {
    let timestamp_ms = 1_700_000_100_000 + index as i64;
    match kind {
        Kind::Reading { device, seconds, battery, temperature } => {
            let schema = apache_avro::Schema::parse_str(SCHEMA).expect("a schema");
            // Mostly forward, with some disorder: late readings must occur.
            let at = 1_700_000_000_000 + (index as i64) * 700 + seconds * 300;
            let branch = temperature.map_or((0, Value::Null), |value| (1, Value::Double(value)));
            let record = Value::Record(vec![
                ("dev_id".into(), Value::String(format!("d{device}"))),
                ("at".into(), Value::TimestampMillis(at)),
                ("battery".into(), Value::Int(*battery)),
                ("temperature".into(), Value::Union(branch.0, Box::new(branch.1))),
            ]);
            let writer = GenericDatumWriter::builder(&schema).build().expect("a writer");
            let datum = writer.write_value_to_vec(record).expect("a datum");
            Input { key: Some(format!("d{device}").into_bytes()), value: Some(framed(1, &datum)), timestamp_ms }
        }
        Kind::Garbage(bytes) => Input { key: None, value: Some([&[0xff][..], bytes].concat()), timestamp_ms },
        Kind::Tombstone => Input { key: Some(b"d1".to_vec()), value: None, timestamp_ms },
    }
}

/// What must not depend on the cut: alerts and dead letters in order, final results as they are, updates by their last value, the state, and
/// the ledger's totals. Its records do: each is one epoch's.
#[derive(Debug, PartialEq)]
struct Outcome {
    alerts: Vec<Outgoing>,
    dead_letters: Vec<Outgoing>,
    closed: Vec<Outgoing>,
    updated: BTreeMap<(Vec<u8>, i64), Outgoing>,
    states: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Of the input, and of the topics above that hold the same records for every cut.
    totals: BTreeMap<Arc<str>, Sum>,
}

fn outcome(produced: Vec<Outgoing>, store: &MapStore) -> Outcome {
    let of = |topic: &str| produced.iter().filter(|record| &*record.topic == topic).cloned().collect::<Vec<_>>();
    let mut closed = of("closed");
    closed.sort_by(|a, b| (&a.key, &a.value).cmp(&(&b.key, &b.value)));
    let mut updated = BTreeMap::new();
    for record in of("updated") {
        updated.insert((record.key.clone().expect("a key").to_vec(), window_start(&record)), record);
    }
    let mut totals = told(&of("zoo-ledger"));
    assert_eq!(totals, added_up(&produced, totals.get("in").copied()), "the ledger tells of all that was produced");
    totals.retain(|topic, _| ["in", "low", "zoo-dead-letters", "closed"].contains(&&**topic));
    Outcome { alerts: of("low"), dead_letters: of("zoo-dead-letters"), closed, updated, states: store.states(), totals }
}

/// What ledger records come to, by topic; their ranges must follow each other.
fn told(ledger: &[Outgoing]) -> BTreeMap<Arc<str>, Sum> {
    let mut totals: BTreeMap<Arc<str>, Sum> = BTreeMap::new();
    let mut position = Position(0);
    for record in ledger {
        let transaction = Transaction::decode(record.value.as_deref().expect("a value")).expect("a ledger record");
        for range in transaction.inputs {
            assert_eq!(range.first, position, "ranges follow each other");
            position = range.end;
            *totals.entry(range.partition.topic).or_default() += range.taken;
            for (partition, sum) in range.outputs {
                *totals.entry(partition.topic).or_default() += sum;
            }
        }
    }
    totals
}

/// The same of what was produced, beside the input's.
fn added_up(produced: &[Outgoing], input: Option<Sum>) -> BTreeMap<Arc<str>, Sum> {
    let mut totals: BTreeMap<Arc<str>, Sum> = input.map(|sum| (Arc::from("in"), sum)).into_iter().collect();
    let mut hasher = Hasher::default();
    for record in produced.iter().filter(|record| &*record.topic != "zoo-ledger") {
        let headers = record.headers.iter().map(|header| (header.name.as_str(), header.value.as_deref().unwrap_or_default()));
        let hash = hasher.output(record.timestamp_ms, record.key.as_deref(), record.value.as_deref(), headers);
        totals.entry(record.topic.clone()).or_default().add(hash);
    }
    totals
}

/// The window start of a result: the second field, after the device.
fn window_start(record: &Outgoing) -> i64 {
    let value = record.value.as_ref().expect("a value");
    let schema = r#"{"type":"record","name":"Head","fields":[{"name":"dev_id","type":["null","string"]},{"name":"start","type":"long"}]}"#;
    let plain = r#"{"type":"record","name":"Head","fields":[{"name":"dev_id","type":"string"},{"name":"start","type":"long"}]}"#;
    for schema in [schema, plain] {
        let schema = apache_avro::Schema::parse_str(schema).expect("a schema");
        if let Ok(Value::Record(fields)) = GenericDatumReader::builder(&schema).build().expect("a reader").read_value(&mut &value[5..])
            && let Value::Long(start) = fields[1].1
            && start > 1_600_000_000_000_000
        {
            return start;
        }
    }
    panic!("no window start in {value:?}");
}

fn run_cut(records: &[Input], slices: &[usize], epochs: &[usize]) -> Outcome {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let tenant = tenant(dir.path(), TENANT, SCHEMA);
    let gate = gate(&tenant, BTreeMap::from([(1, SCHEMA.to_owned())]));
    let store = Arc::new(MapStore::default());
    let author = Author {
        topic: tenant.ledger_topic(),
        schema: SchemaId(101),
        transactional_id: "zoo-one-0".into(),
        tenant_version: tenant.version.clone(),
    };
    let mut processor = processor(&tenant, &gate, &store, None).with_ledger(Writer::new(author));
    let produced = feed(&mut processor, &store, records, slices, epochs);
    outcome(produced, &store)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn any_cut_gives_the_same(
        kinds in kinds(),
        slices in proptest::collection::vec(1usize..40, 1..8),
        epochs in proptest::collection::vec(1usize..5, 1..8),
    ) {
        let records: Vec<Input> = kinds.iter().enumerate().map(|(index, kind)| input(kind, index)).collect();

        let whole = run_cut(&records, &[records.len()], &[1]);
        let one_by_one = run_cut(&records, &[1], &[1]);
        let cut = run_cut(&records, &slices, &epochs);

        prop_assert_eq!(&whole, &one_by_one);
        prop_assert_eq!(&whole, &cut);
    }
}

/// C77: float sums have the same bits however the epochs were cut, and are the exact sum here.
#[test]
fn float_sums_do_not_see_epochs() {
    let temperatures = [1e16, 1.0, 1.0, -1e16];
    let reading = |temperature: &f64| Kind::Reading { device: 1, seconds: 0, battery: 2_500, temperature: Some(*temperature) };
    let records: Vec<Input> = temperatures.iter().map(|temperature| input(&reading(temperature), 0)).collect();

    let outcomes = [run_cut(&records, &[4], &[1]), run_cut(&records, &[1, 3], &[1]), run_cut(&records, &[1], &[1])];

    assert_eq!(outcomes[0].updated.len(), 1);
    assert_eq!(outcomes[0].updated, outcomes[1].updated);
    assert_eq!(outcomes[0].updated, outcomes[2].updated);
}
