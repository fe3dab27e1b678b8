//! Claims about output records: what becomes a document, what is set aside, what waits.

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use mongodb::bson::Document;

use super::*;
use crate::avro::Encoder;
use crate::avro::encode::avro_schema_of;
use crate::avro::gate::{OnAnswer, Policy, SchemaLookup};
use crate::avro::registry::FetchedSchema;
use crate::clock::SystemClock;
use crate::kafka::{Header, Offset, RunBuilder, TopicId};
use crate::telemetry::{Metrics, TenantMetrics};

const KNOWN: SchemaId = SchemaId(7);

/// Knows one schema and answers at once; any other question gets no answer.
struct OneSchema(String);

impl SchemaLookup for OneSchema {
    fn look_up(&self, id: SchemaId, answer: OnAnswer) {
        if id == KNOWN {
            answer(Ok(FetchedSchema::avro(id, self.0.clone())));
        }
    }
}

fn output() -> SchemaRef {
    let instant = DataType::Timestamp(TimeUnit::Microsecond, Some("+00:00".into()));
    Arc::new(Schema::new(vec![
        Field::new("dev-id", DataType::Utf8, false),
        Field::new("window_start", instant.clone(), false),
        Field::new("window_end", instant, false),
        Field::new("total_records", DataType::Int64, false),
    ]))
}

fn value(total: i64) -> Vec<u8> {
    let json = avro_schema_of("result", "zoo", &output()).expect("a schema").to_string();
    let instant = |us| -> ArrayRef { Arc::new(TimestampMicrosecondArray::from(vec![us]).with_timezone("+00:00")) };
    let device: ArrayRef = Arc::new(StringArray::from(vec!["C2:9A"]));
    let columns = vec![device, instant(60_000_000), instant(120_000_000), Arc::new(Int64Array::from(vec![total]))];
    let rows = RecordBatch::try_new(output(), columns).expect("rows");
    Encoder::new(&output(), &json, KNOWN).expect("an encoder").encode(&rows).expect("encoded")[0].to_vec()
}

fn rows_of_window() -> ResultRows {
    let json = avro_schema_of("result", "zoo", &output()).expect("a schema").to_string();
    let reader = Arc::new(ReaderSchema::parse(&json).expect("a reader schema"));
    let metrics = TenantMetrics::new(&Metrics::new(), "zoo");
    let gate = Gate::new(reader.clone(), Arc::new(OneSchema(json)), SystemClock::shared(), metrics, Policy::default());
    ResultRows::of_results(output().fields(), 1, reader, gate, "id-1".into()).expect("rows")
}

fn headers() -> Vec<Header> {
    [(header::ORIGIN, "readings/1"), (header::TENANT_VERSION, "00ff")]
        .map(|(name, value)| Header { name: name.into(), value: Some(value.as_bytes().to_vec()) })
        .to_vec()
}

/// Offset, value and headers.
type Record = (i64, Option<Vec<u8>>, Vec<Header>);

fn run(records: &[Record]) -> Run {
    let mut builder = RunBuilder::new(TopicPartition::new("zoo-analytics", 2));
    for (offset, value, headers) in records {
        builder.push(Offset(*offset), 1_000, Some(b"C2:9A"), value.as_deref(), headers.clone());
    }
    builder.finish()
}

/// Asks until the gate has judged the schema: the first question starts the look-up.
fn judged(rows: &mut ResultRows, run: &Run) -> Batch {
    rows.gate.verdict(KNOWN);
    rows.rows(run).expect("no fault")
}

#[test]
fn a_result_becomes_a_document_under_its_columns_own_names() {
    let mut rows = rows_of_window();

    let batch = judged(&mut rows, &run(&[(5, Some(value(7)), headers()), (6, None, headers()), (9, Some(value(8)), headers())]));

    assert_eq!((batch.documents.len(), batch.set_aside.len(), batch.waiting_at), (2, 0, None));
    let document = Document::try_from(batch.documents[1].document.clone()).expect("valid BSON");
    assert_eq!(document.get_document("_id").and_then(|id| id.get_str("dev-id")).ok(), Some("C2:9A"));
    assert_eq!(document.get_i64("total_records").ok(), Some(8));
    assert_eq!(document.get_str("origin").ok(), Some("readings/1"));
    assert_eq!(document.get_i32("schema_id").ok(), Some(7));
    assert_eq!(batch.documents[1].source.offset, 9);
}

#[test]
fn a_result_is_of_the_topic_as_it_was_when_its_partition_was_assigned() {
    let mut rows = rows_of_window();
    let anew = TopicDescription { name: "zoo-analytics".into(), id: TopicId("id-2".into()), partitions: 4 };

    let before = judged(&mut rows, &run(&[(5, Some(value(7)), headers())]));
    rows.learn(&TopicPartition::new("zoo-analytics", 2), &anew);
    let after = judged(&mut rows, &run(&[(0, Some(value(7)), headers())]));

    let ids = [&before, &after].map(|batch| &*batch.documents[0].source.topic_id);
    assert_eq!(ids, ["id-1", "id-2"]);
}

#[test]
fn a_record_that_testudo_did_not_produce_is_set_aside_and_the_next_goes_on() {
    let mut rows = rows_of_window();
    let mut cut = value(1);
    cut.truncate(cut.len() - 1);
    let records = [
        (1, Some(b"{\"json\": true}".to_vec()), headers()),
        (2, Some(value(1)), Vec::new()),
        (3, Some(cut), headers()),
        (4, Some(value(4)), headers()),
    ];

    let batch = judged(&mut rows, &run(&records));

    let reasons: Vec<(i64, &str)> = batch.set_aside.iter().map(|aside| (aside.source.offset, aside.reason)).collect();
    let mut sorted = reasons.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, [(1, "not-framed"), (2, "not-a-result"), (3, "truncated")]);
    assert_eq!(batch.documents.iter().map(|update| update.source.offset).collect::<Vec<_>>(), [4]);
}

#[test]
fn a_schema_without_a_verdict_ends_the_batch_before_its_record() {
    let mut rows = rows_of_window();
    let mut unknown = value(2);
    unknown[4] = 8;

    let batch = judged(&mut rows, &run(&[(1, Some(value(1)), headers()), (2, Some(unknown), headers()), (3, Some(value(3)), headers())]));

    assert_eq!(batch.waiting_at, Some(Offset(2)));
    assert_eq!(batch.documents.iter().map(|update| update.source.offset).collect::<Vec<_>>(), [1]);
}
