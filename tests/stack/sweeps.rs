//! More windows that close at once than an epoch sweeps: their results come without another record, once, whatever is killed in between.

use std::collections::BTreeSet;
use std::time::Duration;

use apache_avro::Schema;
use apache_avro::types::Value;
use apache_avro::writer::datum::GenericDatumWriter;
use libtest_mimic::Failed;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use testudo::avro::SchemaId;
use testudo::stack::Stack;

use crate::Test;
use crate::job::Job;

pub const TESTS: &[Test] = &[("c67_windows_that_close_at_once_are_all_reported_without_another_record", all_at_once)];

const EVENT: &str = r#"{"type":"record","name":"Event","namespace":"test","fields":[
    {"name":"id","type":"string"},
    {"name":"at","type":{"type":"long","logicalType":"timestamp-millis"}}]}"#;

const TENANT: &str = r#"
tenant = "NAME"
[source.events]
topics = ["NAME-in"]
key = "id"
event_time = "at"
[window.minutes]
from = "events"
by = ["id"]
over = { tumbling = "1 minute" }
grace = "0s"
emit = "final"
topic = "NAME-windows"
[window.minutes.select]
readings = "count(*)"
"#;

/// 2025-04-08T08:15:00Z.
const TIME_MS: i64 = 1_744_100_100_000;
/// Two epochs sweep 40,000, a third one the rest.
const KEYS: usize = 45_000;

/// Produces an event of each key.
fn produce(job: &Job<'_>, schema: SchemaId, keys: impl Iterator<Item = String>, at_ms: i64) -> Result<(), Failed> {
    let parsed = Schema::parse_str(EVENT)?;
    let writer = GenericDatumWriter::builder(&parsed).build()?;
    let (producer, topic): (BaseProducer, String) = (job.client().create()?, job.topic("in"));
    for key in keys {
        let event = Value::Record(vec![("id".into(), Value::String(key.clone())), ("at".into(), Value::TimestampMillis(at_ms))]);
        let value = [&testudo::avro::frame::prefix(schema)[..], &writer.write_value_to_vec(event)?].concat();
        let mut record = BaseRecord::to(&topic).partition(0).timestamp(at_ms).key(&key).payload(&value);
        while let Err((error, back)) = producer.send(record) {
            if error != KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull) {
                return Err(error.into());
            }
            producer.poll(Duration::from_millis(10));
            record = back;
        }
    }
    Ok(producer.flush(Duration::from_secs(30))?)
}

/// Killed before the state of the second sweep is written, whose transaction is committed at a position that stays; then before the third
/// one is committed.
fn all_at_once(stack: &Stack) -> Result<(), Failed> {
    let job = Job::new(stack, TENANT, &[("NAME-in", EVENT)])?;
    job.create_topic(&job.topic("in"), 1)?;
    let schema = job.register(&job.topic("in"), EVENT)?;
    produce(&job, schema, (0..KEYS).map(|number| format!("k{number}")), TIME_MS)?;
    job.drain()?;
    assert_eq!(job.read(&job.topic("windows"))?.len(), 0, "all are open");
    produce(&job, schema, std::iter::once("last".to_owned()), TIME_MS + 60_000)?;

    for (failpoint, reported) in [("commit.before_store=1*off->return", 40_000), ("commit.drained=return", 40_000)] {
        let mut killed = job.start("one", &[("FAILPOINTS", failpoint)])?;
        assert!(!killed.wait()?.success(), "{failpoint}: {}", killed.log());
        // The last transaction is open until somebody ends it; what is committed before it can be read.
        assert_eq!(job.read(&job.topic("windows"))?.len(), reported, "{failpoint}");
        assert_eq!(job.committed()?, KEYS as i64 + 1, "{failpoint}: no record is left to be read");
    }
    job.drain()?;

    let results = job.read(&job.topic("windows"))?;
    let keys: BTreeSet<&[u8]> = results.iter().filter_map(|result| result.key.as_deref()).collect();
    assert_eq!((results.len(), keys.len()), (KEYS, KEYS), "one result of each window");
    job.audit()
}
