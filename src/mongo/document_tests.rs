//! Claims about documents: fields, their order, and `_id`.

use arrow::array::{Array, ArrayRef, Decimal128Array, Int64Array, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use mongodb::bson::{Bson, Document, doc};

use super::*;

fn source(offset: i64) -> Source {
    Source { topic: "zoo-analytics".into(), topic_id: "id-1".into(), partition: 3, offset }
}

fn window_rows() -> RecordBatch {
    let utc = || Some("+00:00".into());
    let instant = |us| -> ArrayRef { Arc::new(TimestampMicrosecondArray::from(vec![us]).with_timezone("+00:00")) };
    let price = Decimal128Array::from(vec![1_250]).with_precision_and_scale(8, 2).expect("a decimal type");
    let schema = Schema::new(vec![
        Field::new("dev_id", DataType::Utf8, false),
        Field::new("floor", DataType::Int64, false),
        Field::new("window_start", DataType::Timestamp(TimeUnit::Microsecond, utc()), false),
        Field::new("window_end", DataType::Timestamp(TimeUnit::Microsecond, utc()), false),
        Field::new("total_records", DataType::Int64, false),
        Field::new("price", price.data_type().clone(), true),
    ]);
    let text: ArrayRef = Arc::new(StringArray::from(vec!["C2:9A"]));
    let number = |value: i64| -> ArrayRef { Arc::new(Int64Array::from(vec![value])) };
    let columns = vec![text, number(2), instant(60_000_000), instant(120_000_000), number(7), Arc::new(price)];
    RecordBatch::try_new(Arc::new(schema), columns).expect("a batch")
}

fn parsed(document: &RawDocumentBuf) -> Document {
    Document::try_from(document.clone()).expect("valid BSON")
}

#[test]
fn a_windows_document_has_key_times_values_and_provenance_in_order() {
    let rows = window_rows();
    let shape = Shape::of_window(rows.schema_ref().fields(), 2).expect("a shape");
    let making = Making { origin: "readings/1".into(), tenant_version: "00ff".into() };

    let update = shape.table(&rows).expect("a table").window(0, &making, 9, source(41)).expect("storable");

    let date = |ms| Bson::DateTime(DateTime::from_millis(ms));
    let expected = doc! {
        "_id": { "dev_id": "C2:9A", "floor": 2_i64, "window": date(60_000) },
        "window_start": date(60_000),
        "window_end": date(120_000),
        "total_records": 7_i64,
        "price": Bson::Decimal128("12.50".parse().expect("a decimal")),
        "origin": "readings/1",
        "tenant_version": "00ff",
        "schema_id": 9,
        "source": { "topic": "zoo-analytics", "topic_id": "id-1", "partition": 3, "offset": 41_i64 },
    };
    let document = parsed(&update.document);
    assert_eq!(document, expected);
    assert_eq!(document.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
    assert_eq!(parsed(&update.id), *expected.get_document("_id").expect("an id"));
    assert_eq!(update.rule, Rule::Newest { origin: "readings/1".into() });
}

#[test]
fn a_readings_document_is_found_by_its_place() {
    let rows = window_rows().project(&[0, 4]).expect("columns");
    let shape = Shape::of_records(rows.schema_ref().fields()).expect("a shape");
    let times = Times { event_us: Some(1_648_039_676_974_854), kafka_ms: 1_648_039_677_000 };

    let update = shape.table(&rows).expect("a table").record(0, times, 9, source(41)).expect("storable");

    let expected = doc! {
        "_id": { "topic": "zoo-analytics", "partition": 3, "offset": 41_i64 },
        "dev_id": "C2:9A",
        "total_records": 7_i64,
        "event_time": DateTime::from_millis(1_648_039_676_974),
        "timestamp": DateTime::from_millis(1_648_039_677_000),
        "schema_id": 9,
        "source": { "topic_id": "id-1" },
    };
    assert_eq!(parsed(&update.document), expected);
    assert_eq!(update.rule, Rule::Once);
}

#[test]
fn a_record_without_timestamp_says_so() {
    let rows = window_rows().project(&[0]).expect("columns");
    let shape = Shape::of_records(rows.schema_ref().fields()).expect("a shape");

    let update = shape.table(&rows).expect("a table").record(0, Times { event_us: None, kafka_ms: -1 }, 9, source(0)).expect("storable");

    let document = parsed(&update.document);
    assert_eq!(document.get("timestamp"), Some(&Bson::Null));
    assert!(!document.contains_key("event_time"));
}

/// C91: a dot or a dollar in a name is part of the name.
#[test]
fn names_with_dots_and_dollars_stay_whole() {
    let schema = Schema::new(vec![Field::new("avg.temp", DataType::Int64, false), Field::new("$avg", DataType::Int64, false)]);
    let number = |value: i64| -> ArrayRef { Arc::new(Int64Array::from(vec![value])) };
    let rows = RecordBatch::try_new(Arc::new(schema), vec![number(1), number(2)]).expect("a batch");
    let shape = Shape::of_records(rows.schema_ref().fields()).expect("a shape");

    let update = shape.table(&rows).expect("a table").record(0, Times { event_us: None, kafka_ms: 0 }, 9, source(0)).expect("storable");

    let document = parsed(&update.document);
    assert_eq!((document.get("avg.temp"), document.get("$avg")), (Some(&Bson::Int64(1)), Some(&Bson::Int64(2))));
}

#[test]
fn names_that_documents_need_are_refused() {
    let fields = |name: &str| -> Fields { vec![Field::new(name, DataType::Utf8, false)].into() };

    for name in ["_id", "origin", "source", "schema_id", "tenant_version"] {
        assert!(Shape::of_window(&fields(name), 0).is_err_and(|fault| fault.to_string().contains("rename")), "{name}");
    }
    for name in ["_id", "event_time", "timestamp", "source"] {
        assert!(Shape::of_records(&fields(name)).is_err(), "{name}");
    }
    for name in ["window", "$where"] {
        assert!(Shape::of_window(&fields(name), 1).is_err(), "{name} in an _id");
    }
    assert!(Shape::of_records(&fields("origin")).is_ok());
}

#[test]
fn newer_means_a_larger_offset_in_the_same_place_or_another_topic_of_the_name() {
    let stored = source(10);
    let other_topic = Source { topic_id: "id-2".into(), ..source(3) };
    let other_partition = Source { partition: 4, ..source(99) };

    assert!(source(11).is_newer_than(&stored));
    assert!(!source(10).is_newer_than(&stored));
    assert!(!source(9).is_newer_than(&stored));
    assert!(other_topic.is_newer_than(&stored));
    assert!(!other_partition.is_newer_than(&stored));
}

#[test]
fn windows_that_milliseconds_do_not_tell_apart_have_no_document() {
    let at = |us: i64| {
        let rows = window_rows();
        let mut columns = rows.columns().to_vec();
        columns[1] = Arc::new(TimestampMicrosecondArray::from(vec![us]));
        let fields = rows.schema_ref().fields().iter().enumerate().map(|(index, field)| match index {
            1 => Arc::new(Field::new("seen", DataType::Timestamp(TimeUnit::Microsecond, None), false)),
            _ => field.clone(),
        });
        let rows = RecordBatch::try_new(Arc::new(Schema::new(fields.collect::<Vec<_>>())), columns).expect("a batch");
        let making = Making { origin: "readings/1".into(), tenant_version: "00ff".into() };
        let shape = Shape::of_window(rows.schema_ref().fields(), 2).expect("a shape");
        shape.table(&rows).expect("a table").window(0, &making, 9, source(41)).map(|update| parsed(&update.id))
    };

    assert_eq!(at(-1_000).map(|id| id.get_datetime("seen").copied().ok()), Ok(Some(DateTime::from_millis(-1))));
    for us in [-1_001, -999, 1, 1_500] {
        assert_eq!(at(us), Err(Unstorable::Fine { column: "seen".into() }), "{us}");
    }
}
