//! Claims about values: each column type of docs/semantics.md and what MongoDB gets for it.

use std::sync::Arc;

use arrow::array::builder::Int32Builder;
use arrow::array::{
    BinaryArray, Date32Array, Float32Array, Int16Array, ListBuilder, MapBuilder, NullArray, StringBuilder, StructArray,
    Time32MillisecondArray, Time64MicrosecondArray, TimestampMicrosecondArray, TimestampNanosecondArray, TimestampSecondArray, UInt32Array,
};
use mongodb::bson::{Bson, doc};

use super::*;

/// The value of each row, or what is wrong with it.
fn values_of(field: Field, array: ArrayRef) -> Vec<Result<Bson, String>> {
    let column = Column::new(&field, &array).expect("a type with a BSON form");
    let value = |row| {
        let value = column.value(row).map_err(|unstorable| unstorable.to_string())?;
        let mut document = RawDocumentBuf::new();
        value.put(&mut document, mongodb::bson::raw::cstr!("v"));
        let mut document = mongodb::bson::Document::try_from(document).map_err(|error| error.to_string())?;
        document.remove("v").ok_or_else(|| "no value".to_owned())
    };
    (0..array.len()).map(value).collect()
}

fn plain(array: ArrayRef) -> Vec<Bson> {
    let field = Field::new("v", array.data_type().clone(), true);
    values_of(field, array).into_iter().map(|value| value.expect("storable")).collect()
}

fn decimals(values: &[i128], precision: u8, scale: i8) -> ArrayRef {
    let array = Decimal128Array::from_iter_values(values.iter().copied());
    Arc::new(array.with_precision_and_scale(precision, scale).expect("a decimal type"))
}

fn decimal_text(value: &Bson) -> String {
    match value {
        Bson::Decimal128(value) => value.to_string(),
        other => panic!("{other:?} is no Decimal128"),
    }
}

/// C79: 12.50 is a Decimal128 and keeps its scale. C07: a small negative number is small and negative.
#[test]
fn decimals_are_exact_and_keep_their_scale() {
    let shown: Vec<String> = plain(decimals(&[1_250, -1, 0, 99_999_999], 8, 2)).iter().map(decimal_text).collect();

    assert_eq!(shown, ["12.50", "-0.01", "0.00", "999999.99"]);
}

#[test]
fn decimals_are_what_the_drivers_own_parser_makes_of_their_text() {
    for (value, scale, text) in
        [(1_250, 2, "12.50"), (-314, 0, "-314"), (7, 6, "0.000007"), (10i128.pow(34) - 1, 10, "999999999999999999999999.9999999999")]
    {
        let ours = plain(decimals(&[value], 38, scale)).remove(0);

        assert_eq!(ours, Bson::Decimal128(text.parse().expect("a decimal")), "{text}");
    }
}

#[test]
fn a_number_beyond_34_digits_is_refused_and_not_rounded() {
    let zeros_at_the_end = 10i128.pow(36);
    let array = decimals(&[zeros_at_the_end, zeros_at_the_end + 1], 38, 2);

    let values = values_of(Field::new("v", array.data_type().clone(), true), array);

    assert_eq!(values[0].as_ref().map(decimal_text), Ok("1.000000000000000000000000000000000E+34".to_owned()));
    assert!(values[1].as_ref().is_err_and(|why| why.contains("34 digits")), "{values:?}");
}

#[test]
fn wide_decimals_are_exact_too() {
    let array =
        Decimal256Array::from_iter_values([i256::from_i128(-1_250), i256::MAX]).with_precision_and_scale(76, 2).expect("a decimal type");
    let array: ArrayRef = Arc::new(array);

    let values = values_of(Field::new("v", array.data_type().clone(), true), array);

    assert_eq!(values[0].as_ref().map(decimal_text), Ok("-12.50".to_owned()));
    assert!(values[1].is_err());
}

/// C81: the type is the column's, whatever the value.
#[test]
fn numbers_have_the_type_of_their_column() {
    assert_eq!(plain(Arc::new(Int64Array::from(vec![7, 2_147_483_648]))), [Bson::Int64(7), Bson::Int64(2_147_483_648)]);
    assert_eq!(plain(Arc::new(Float64Array::from(vec![21.0]))), [Bson::Double(21.0)]);
    assert_eq!(plain(Arc::new(Int32Array::from(vec![Some(-5), None]))), [Bson::Int32(-5), Bson::Null]);
    assert_eq!(plain(Arc::new(Int16Array::from(vec![300]))), [Bson::Int32(300)]);
    assert_eq!(plain(Arc::new(UInt32Array::from(vec![u32::MAX]))), [Bson::Int64(u32::MAX.into())]);
    assert_eq!(plain(Arc::new(Float32Array::from(vec![0.5]))), [Bson::Double(0.5)]);
    assert_eq!(plain(Arc::new(BooleanArray::from(vec![true]))), [Bson::Boolean(true)]);
    assert_eq!(plain(Arc::new(NullArray::new(1))), [Bson::Null]);
    assert_eq!(plain(Arc::new(Time32MillisecondArray::from(vec![1]))), [Bson::Int32(1)]);
    assert_eq!(plain(Arc::new(Time64MicrosecondArray::from(vec![1]))), [Bson::Int64(1)]);
}

#[test]
fn an_unsigned_number_beyond_int64_is_a_decimal() {
    let values = plain(Arc::new(UInt64Array::from(vec![7, u64::MAX])));

    assert_eq!(values[0], Bson::Int64(7));
    assert_eq!(decimal_text(&values[1]), "18446744073709551615");
}

#[test]
fn not_a_number_stays_a_double() {
    let values = plain(Arc::new(Float64Array::from(vec![f64::NAN, f64::NEG_INFINITY])));

    assert!(matches!(values[0], Bson::Double(value) if value.is_nan()));
    assert_eq!(values[1], Bson::Double(f64::NEG_INFINITY));
}

/// C121: microseconds are floored, before 1970 too.
#[test]
fn times_are_floored_to_milliseconds() {
    let micros = TimestampMicrosecondArray::from(vec![1_648_039_676_974_854, 253_370_768_461_999_999, -1]).with_timezone("+00:00");
    let shown: Vec<String> = plain(Arc::new(micros))
        .iter()
        .map(|value| value.as_datetime().expect("a date").try_to_rfc3339_string().expect("in range"))
        .collect();
    assert_eq!(shown, ["2022-03-23T12:47:56.974Z", "9999-01-01T01:01:01.999Z", "1969-12-31T23:59:59.999Z"]);

    let date = |ms| Bson::DateTime(DateTime::from_millis(ms));
    assert_eq!(plain(Arc::new(TimestampNanosecondArray::from(vec![-1, 1_999_999]))), [date(-1), date(1)]);
    assert_eq!(plain(Arc::new(TimestampSecondArray::from(vec![2]))), [date(2_000)]);
    assert_eq!(plain(Arc::new(Date32Array::from(vec![1, -1]))), [date(86_400_000), date(-86_400_000)]);
}

#[test]
fn bytes_are_binary_and_a_uuid_is_subtype_4() {
    let uuid = "123e4567-e89b-12d3-a456-426614174000";
    let field = Field::new("v", DataType::Utf8, false).with_metadata([(LOGICAL_KEY.to_owned(), "uuid".to_owned())].into());

    let values = values_of(field, Arc::new(StringArray::from(vec![uuid, "no uuid"])));

    assert_eq!(values[0], Ok(Bson::Binary(Binary::from(Uuid::parse_str(uuid).expect("a uuid")))));
    assert!(matches!(&values[0], Ok(Bson::Binary(binary)) if binary.subtype == BinarySubtype::Uuid));
    assert_eq!(values[1], Ok(Bson::String("no uuid".into())));
    let binary = plain(Arc::new(BinaryArray::from(vec![b"\x00\xff".as_slice()]))).remove(0);
    assert_eq!(binary, Bson::Binary(Binary { subtype: BinarySubtype::Generic, bytes: vec![0, 255] }));
}

#[test]
fn lists_records_and_maps_nest() {
    let mut lists = ListBuilder::new(Int32Builder::new());
    lists.append_value([Some(1), None]);
    lists.append_null();
    lists.append_value([]);
    assert_eq!(plain(Arc::new(lists.finish())), [Bson::Array(vec![Bson::Int32(1), Bson::Null]), Bson::Null, Bson::Array(vec![])]);

    let inner: ArrayRef = Arc::new(StringArray::from(vec!["x"]));
    let record = StructArray::from(vec![(Arc::new(Field::new("avg.temp", DataType::Utf8, false)), inner)]);
    assert_eq!(plain(Arc::new(record)), [Bson::Document(doc! { "avg.temp": "x" })]);

    let mut maps = MapBuilder::new(None, StringBuilder::new(), Int32Builder::new());
    for (key, value) in [("b", 1), ("$a.b", 2), ("b", 3)] {
        maps.keys().append_value(key);
        maps.values().append_value(value);
    }
    maps.append(true).expect("a map");
    assert_eq!(plain(Arc::new(maps.finish())), [Bson::Document(doc! { "$a.b": 2, "b": 3 })]);
}

#[test]
fn a_map_key_with_a_zero_byte_is_refused() {
    let mut maps = MapBuilder::new(None, StringBuilder::new(), Int32Builder::new());
    maps.keys().append_value("a\0b");
    maps.values().append_value(1);
    maps.append(true).expect("a map");
    let array: ArrayRef = Arc::new(maps.finish());

    let values = values_of(Field::new("v", array.data_type().clone(), true), array);

    assert!(values[0].as_ref().is_err_and(|why| why.contains("zero byte")), "{values:?}");
}

#[test]
fn a_type_without_a_form_is_named() {
    let array: ArrayRef = Arc::new(arrow::array::DurationSecondArray::from(vec![1]));

    let fault = Column::new(&Field::new("took", array.data_type().clone(), true), &array).err().expect("durations have no form");

    assert!(fault.to_string().contains("`took`"), "{fault}");
}
