//! Claims about output values, read back by an implementation that is not ours.

use std::collections::HashMap;

use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::types::Value as Datum;
use arrow::array::{
    BinaryArray, BooleanArray, Date32Array, Decimal128Array, DictionaryArray, FixedSizeBinaryArray, Float32Array, Float64Array, Int8Array,
    Int32Array, Int64Array, ListArray, StringArray, StringViewArray, StructArray, TimestampMicrosecondArray, TimestampMillisecondArray,
    TimestampSecondArray, UInt64Array,
};
use arrow::datatypes::{Int32Type, Int64Type};

use super::*;

const ID: SchemaId = SchemaId(0x0a0b_0c0d);

fn batch(columns: Vec<(Field, ArrayRef)>) -> RecordBatch {
    let (fields, columns): (Vec<_>, Vec<_>) = columns.into_iter().unzip();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).expect("columns fit their fields")
}

fn encoder_of(rows: &RecordBatch) -> (AvroSchema, Encoder) {
    let json = avro_schema_of("zoo analytics", "test", rows.schema_ref()).expect("every column has an Avro type").to_string();
    let avro = AvroSchema::parse_str(&json).expect("a valid schema");
    (avro, Encoder::new(&rows.schema(), &json, ID).expect("an encoder"))
}

/// The fields of each row as apache-avro reads them.
fn read_back(rows: &RecordBatch) -> Vec<HashMap<String, Datum>> {
    let (avro, mut encoder) = encoder_of(rows);
    let values = encoder.encode(rows).expect("encoded");
    assert_eq!(values.len(), rows.num_rows());
    let reader = GenericDatumReader::builder(&avro).build().expect("a reader");
    let read = |value: Bytes| {
        let (prefix, mut datum) = value.split_at(5);
        assert_eq!(prefix, [0, 0x0a, 0x0b, 0x0c, 0x0d]);
        let Ok(Datum::Record(fields)) = reader.read_value(&mut datum) else { panic!("not a record") };
        assert!(datum.is_empty(), "bytes left");
        fields.into_iter().collect()
    };
    values.into_iter().map(read).collect()
}

fn some(value: Datum) -> Datum {
    Datum::Union(1, Box::new(value))
}

#[test]
fn every_type_is_read_back_by_another_implementation() {
    let list = ListArray::from_iter_primitive::<Int64Type, _, _>([Some(vec![Some(7), Some(8)]), None]);
    let position = StructArray::from(vec![(
        Arc::new(Field::new("in-door", DataType::Boolean, false)),
        Arc::new(BooleanArray::from(vec![true, false])) as ArrayRef,
    )]);
    let dictionary: DictionaryArray<Int32Type> = ["a", "b"].into_iter().collect();
    let rows = batch(vec![
        (Field::new("dev-id", DataType::Utf8, false), Arc::new(StringArray::from(vec!["d1", "d2"]))),
        (Field::new("view", DataType::Utf8View, true), Arc::new(StringViewArray::from(vec![Some("v"), None]))),
        (Field::new("small", DataType::Int8, true), Arc::new(Int8Array::from(vec![Some(-3), None]))),
        (Field::new("count", DataType::UInt64, false), Arc::new(UInt64Array::from(vec![7, i64::MAX as u64]))),
        (Field::new("f", DataType::Float32, false), Arc::new(Float32Array::from(vec![0.1, -0.0]))),
        (
            Field::new("start", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), false),
            Arc::new(TimestampMicrosecondArray::from(vec![-1, 5]).with_timezone("UTC")),
        ),
        (
            Field::new("seen", DataType::Timestamp(TimeUnit::Millisecond, Some("+00:00".into())), false),
            Arc::new(TimestampMillisecondArray::from(vec![1, 2]).with_timezone("+00:00")),
        ),
        (
            Field::new("sec", DataType::Timestamp(TimeUnit::Second, Some("UTC".into())), false),
            Arc::new(TimestampSecondArray::from(vec![1, 2]).with_timezone("UTC")),
        ),
        (Field::new("day", DataType::Date32, false), Arc::new(Date32Array::from(vec![0, 20_000]))),
        (
            Field::new("price", DataType::Decimal128(10, 2), false),
            Arc::new(Decimal128Array::from(vec![-1, 1250]).with_precision_and_scale(10, 2).expect("fits")),
        ),
        (Field::new("raw", DataType::Binary, false), Arc::new(BinaryArray::from(vec![b"\xff".as_slice(), b""]))),
        (
            Field::new("mac", DataType::FixedSizeBinary(2), false),
            Arc::new(FixedSizeBinaryArray::try_from_iter([[1_u8, 2], [3, 4]].iter()).expect("equal sizes")),
        ),
        (Field::new("tags", list.data_type().clone(), true), Arc::new(list)),
        (Field::new("place", position.data_type().clone(), false), Arc::new(position)),
        (Field::new("word", dictionary.data_type().clone(), false), Arc::new(dictionary)),
    ]);

    let read = read_back(&rows);

    let first = &read[0];
    assert_eq!(first["dev_id"], Datum::String("d1".into()));
    assert_eq!(first["view"], some(Datum::String("v".into())));
    assert_eq!(first["small"], some(Datum::Int(-3)));
    assert_eq!(first["count"], Datum::Long(7));
    assert_eq!(first["f"], Datum::Float(0.1));
    assert_eq!(first["start"], Datum::TimestampMicros(-1));
    assert_eq!(first["seen"], Datum::TimestampMillis(1));
    assert_eq!(first["sec"], Datum::TimestampMillis(1_000));
    assert_eq!(first["day"], Datum::Date(0));
    assert!(
        matches!(&first["price"], Datum::Decimal(price) if <Vec<u8>>::try_from(price).expect("bytes") == [0xff]),
        "{:?}",
        first["price"]
    );
    assert_eq!(first["raw"], Datum::Bytes(vec![0xff]));
    assert_eq!(first["mac"], Datum::Fixed(2, vec![1, 2]));
    assert_eq!(first["tags"], some(Datum::Array(vec![some(Datum::Long(7)), some(Datum::Long(8))])));
    assert_eq!(first["place"], Datum::Record(vec![("in_door".into(), Datum::Boolean(true))]));
    assert_eq!(first["word"], Datum::String("a".into()));
    let second = &read[1];
    assert_eq!(second["view"], Datum::Union(0, Box::new(Datum::Null)));
    assert_eq!(second["count"], Datum::Long(i64::MAX));
    assert!(matches!(second["f"], Datum::Float(zero) if zero.to_bits() == (-0.0_f32).to_bits()));
    assert_eq!(second["tags"], Datum::Union(0, Box::new(Datum::Null)));
}

#[test]
fn a_uuid_is_text_on_the_wire_from_both_column_forms() {
    let text = "00112233-4455-6677-8899-aabbccddeeff";
    let bytes: Vec<u8> = (0..16).map(|byte| byte * 0x11).collect();
    let marked = |data_type, key: &str| {
        Field::new(key.replace('.', "_"), data_type, false).with_metadata([(key.to_owned(), "uuid".to_owned())].into())
    };
    let rows = batch(vec![
        (marked(DataType::Utf8, LOGICAL_KEY), Arc::new(StringArray::from(vec![text]))),
        (
            marked(DataType::FixedSizeBinary(16), ARROW_AVRO_LOGICAL_KEY),
            Arc::new(FixedSizeBinaryArray::try_from_iter([bytes].iter()).expect("one size")),
        ),
    ]);

    let read = read_back(&rows);

    for field in ["avro_logical", "logicalType"] {
        assert!(matches!(&read[0][field], Datum::Uuid(uuid) if uuid.to_string() == text), "{:?}", read[0][field]);
    }
}

#[test]
fn a_count_beyond_long_is_an_error_that_names_the_column() {
    let rows = batch(vec![(Field::new("count", DataType::UInt64, false), Arc::new(UInt64Array::from(vec![u64::MAX])))]);
    let (_, mut encoder) = encoder_of(&rows);

    let fault = encoder.encode(&rows).expect_err("a long is smaller");

    assert!(fault.to_string().contains("`count`"), "{fault}");
}

#[test]
fn two_columns_of_one_avro_name_are_refused() {
    let rows = Schema::new(vec![Field::new("dev-id", DataType::Utf8, false), Field::new("dev.id", DataType::Utf8, false)]);

    let fault = avro_schema_of("r", "", &rows).expect_err("both would be dev_id");

    assert_eq!(fault.to_string(), "columns `dev-id` and `dev.id` would both be field `dev_id` in Avro: rename one");
}

#[test]
fn nullable_columns_have_a_null_default_first() {
    let rows = Schema::new(vec![Field::new("1st", DataType::Float64, true)]);

    let json = avro_schema_of("zoo", "a.b", &rows).expect("a schema");

    let field = json!({ "name": "_1st", "type": ["null", "double"], "default": null });
    assert_eq!(json, json!({ "type": "record", "name": "zoo", "namespace": "a.b", "fields": [field] }));
}

#[test]
fn a_schema_for_other_rows_is_refused_and_names_of_types_are_free() {
    let rows: SchemaRef = Schema::new(vec![Field::new("battery", DataType::Int32, true)]).into();
    let with =
        |field: &str| Encoder::new(&rows, &format!(r#"{{"type":"record","name":"Own","doc":"free","fields":[{field}]}}"#), ID).map(drop);

    assert!(with(r#"{"name":"battery","type":["null","int"],"doc":"free"}"#).is_ok());
    let narrower = with(r#"{"name":"battery","type":"int"}"#).expect_err("null could not be written");
    let wider = with(r#"{"name":"battery","type":["null","long"]}"#).expect_err("another type");
    let other = with(r#"{"name":"volt","type":["null","int"]}"#).expect_err("another field");
    assert!(narrower.to_string().contains("`battery`") && wider.to_string().contains("`battery`"), "{narrower} {wider}");
    assert!(other.to_string().contains("volt"), "{other}");
}

#[test]
fn rows_of_another_shape_are_refused() {
    let (_, mut encoder) = encoder_of(&batch(vec![(Field::new("a", DataType::Int32, false), Arc::new(Int32Array::from(vec![1])))]));
    let other = batch(vec![(Field::new("a", DataType::Int64, false), Arc::new(Int64Array::from(vec![1])))]);

    assert!(encoder.encode(&other).is_err());
}

#[test]
fn an_empty_batch_has_no_values() {
    let rows = batch(vec![(Field::new("a", DataType::Float64, false), Arc::new(Float64Array::from(Vec::<f64>::new())))]);
    let (_, mut encoder) = encoder_of(&rows);

    assert_eq!(encoder.encode(&rows).expect("encoded"), Vec::<Bytes>::new());
}
