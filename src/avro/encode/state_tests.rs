//! Claims about stored states: bit for bit the same, or a named fault.

use arrow::array::{Float64Array, Int64Array, UInt64Array};
use arrow::buffer::{BooleanBuffer, NullBuffer, OffsetBuffer};
use arrow::datatypes::i256;
use proptest::prelude::*;

use super::*;

fn schema(fields: impl IntoIterator<Item = DataType>) -> SchemaRef {
    Arc::new(Schema::new(
        fields.into_iter().enumerate().map(|(at, kind)| Field::new(format!("c{at}[sum]"), kind, true)).collect::<Vec<_>>(),
    ))
}

fn round_trip(rows: &RecordBatch) -> RecordBatch {
    let mut codec = StateCodec::new(&rows.schema()).expect("a codec");
    let values = codec.encode(rows).expect("encoded");
    assert_eq!(values.len(), rows.num_rows());
    codec.decode(values.iter().map(AsRef::as_ref)).expect("decoded")
}

/// The bytes of each valid value of a fixed-width array, so that NaNs and zeros are told apart.
fn bits(array: &ArrayRef) -> Vec<Option<Vec<u8>>> {
    let width = width(array.data_type()).expect("fixed width");
    let data = array.to_data();
    let bytes = &data.buffers()[0].as_slice()[data.offset() * width..];
    let value = |row: usize| array.is_valid(row).then(|| bytes[row * width..(row + 1) * width].to_vec());
    (0..array.len()).map(value).collect()
}

/// An array of `kind` made of raw bytes.
fn fixed(kind: &DataType, raw: &[u8], valid: &[bool]) -> ArrayRef {
    let width = width(kind).expect("fixed width");
    let bytes: Vec<u8> =
        (0..valid.len()).flat_map(|row| raw.iter().cycle().skip(row * 7 + row * row).take(width).copied().collect::<Vec<_>>()).collect();
    let data = arrow::array::ArrayData::builder(kind.clone())
        .len(valid.len())
        .add_buffer(bytes.into())
        .nulls(Some(NullBuffer::new(BooleanBuffer::from(valid.to_vec()))))
        .align_buffers(true)
        .build()
        .expect("any bytes are a value");
    make_array(data)
}

fn fixed_kinds() -> Vec<DataType> {
    use DataType as T;
    let units = [TimeUnit::Second, TimeUnit::Millisecond, TimeUnit::Microsecond, TimeUnit::Nanosecond];
    let mut kinds = vec![
        T::Int8,
        T::Int16,
        T::Int32,
        T::Int64,
        T::UInt8,
        T::UInt16,
        T::UInt32,
        T::UInt64,
        T::Float16,
        T::Float32,
        T::Float64,
        T::Date32,
        T::Date64,
        T::FixedSizeBinary(5),
        T::Decimal128(38, 10),
        T::Decimal256(76, -3),
        T::Interval(IntervalUnit::DayTime),
        T::Interval(IntervalUnit::MonthDayNano),
    ];
    kinds.extend(units.map(|unit| T::Timestamp(unit, None)));
    kinds.extend(units.map(|unit| T::Timestamp(unit, Some("Europe/Helsinki".into()))));
    kinds.extend(units.map(T::Duration));
    kinds
}

proptest! {
    #[test]
    fn every_fixed_width_type_comes_back_bit_for_bit(raw in prop::collection::vec(any::<u8>(), 1..200), valid in prop::collection::vec(any::<bool>(), 1..40)) {
        let kinds = fixed_kinds();
        let columns: Vec<ArrayRef> = kinds.iter().map(|kind| fixed(kind, &raw, &valid)).collect();
        let rows = RecordBatch::try_new(schema(kinds), columns).expect("columns fit");

        let back = round_trip(&rows);

        prop_assert_eq!(back.schema(), rows.schema());
        for (before, after) in rows.columns().iter().zip(back.columns()) {
            prop_assert_eq!(bits(before), bits(after), "{}", before.data_type());
        }
    }

    #[test]
    fn texts_bytes_and_lists_come_back(
        texts in prop::collection::vec(prop::option::of(".{0,20}"), 1..30),
        floats in prop::collection::vec(prop::option::of(prop::num::f64::ANY), 0..60),
    ) {
        let count = texts.len();
        let text: ArrayRef = Arc::new(texts.iter().cloned().collect::<arrow::array::StringArray>());
        let bytes: ArrayRef = Arc::new(texts.iter().map(|text| text.as_ref().map(String::as_bytes)).collect::<arrow::array::BinaryArray>());
        let flags: ArrayRef = Arc::new(texts.iter().map(|text| text.as_ref().map(|text| text.len() > 3)).collect::<arrow::array::BooleanArray>());
        let values: ArrayRef = Arc::new(floats.iter().copied().collect::<Float64Array>());
        let counts: ArrayRef = Arc::new(floats.iter().map(|value| value.map(f64::to_bits)).collect::<UInt64Array>());
        let lengths = (0..count).map(|row| if row + 1 == count { floats.len() - floats.len() / count * row } else { floats.len() / count });
        let offsets = OffsetBuffer::from_lengths(lengths);
        let nulls = Some(NullBuffer::from_iter(texts.iter().map(Option::is_some)));
        let list = |values: &ArrayRef| -> ArrayRef {
            let item = Arc::new(Field::new("anything", values.data_type().clone(), true));
            Arc::new(ListArray::try_new(item, offsets.clone(), values.clone(), nulls.clone()).expect("offsets fit"))
        };
        let views = to_wire(&text, &DataType::Utf8View).expect("texts have views");
        let words = to_wire(&text, &DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8))).expect("texts have words");
        let large = to_wire(&list(&values), &DataType::LargeList(Arc::new(Field::new("x", DataType::Float64, true)))).expect("lists grow");
        let columns = vec![list(&values), list(&counts), text, bytes, flags, views, words, large];
        let rows = RecordBatch::try_new(schema(columns.iter().map(|column| column.data_type().clone())), columns).expect("columns fit");

        let back = round_trip(&rows);

        prop_assert_eq!(back.schema(), rows.schema());
        for (before, after) in rows.columns().iter().zip(back.columns()).skip(1).take(6) {
            prop_assert_eq!(before.to_data(), after.to_data(), "{}", before.data_type());
        }
        for row in (0..count).filter(|row| rows.column(0).is_valid(*row)) {
            let of = |batch: &RecordBatch| bits(&batch.column(0).as_list::<i32>().value(row));
            prop_assert_eq!(of(&rows), of(&back));
        }
    }
}

#[test]
fn negative_zero_and_payloads_of_nan_survive() {
    let odd = [-0.0, f64::from_bits(0x7ff0_0000_0000_0001), f64::from_bits(0xfff8_0000_dead_beef), f64::MIN_POSITIVE / 2.0];
    let rows = RecordBatch::try_new(schema([DataType::Float64]), vec![Arc::new(Float64Array::from(odd.to_vec()))]).expect("one column");

    let back = round_trip(&rows);

    assert_eq!(bits(back.column(0)), bits(rows.column(0)));
}

#[test]
fn a_slice_of_a_batch_is_encoded_as_that_slice() {
    let counts: ArrayRef = Arc::new(UInt64Array::from(vec![u64::MAX, 1, 2, u64::MAX - 1]));
    let sums: ArrayRef = Arc::new(arrow::array::Decimal256Array::from(vec![i256::MIN, i256::MAX, i256::ONE, i256::ZERO]));
    let kinds = [DataType::UInt64, sums.data_type().clone()];
    let rows = RecordBatch::try_new(schema(kinds), vec![counts, sums]).expect("two columns").slice(1, 2);

    assert_eq!(round_trip(&rows), rows);
}

#[test]
fn many_rows_come_back_as_one_batch_in_order() {
    let counts: ArrayRef = Arc::new(Int64Array::from_iter_values(0..50_000));
    let rows = RecordBatch::try_new(schema([DataType::Int64]), vec![counts]).expect("one column");

    assert_eq!(round_trip(&rows), rows);
}

#[test]
fn no_values_are_no_rows() {
    let mut codec = StateCodec::new(&schema([DataType::UInt64])).expect("a codec");

    let rows = codec.decode([]).expect("nothing to read");

    assert_eq!((rows.num_rows(), rows.schema()), (0, schema([DataType::UInt64])));
}

#[test]
fn a_value_of_another_shape_is_recognised_even_when_its_datum_would_fit() {
    let count = RecordBatch::try_new(schema([DataType::UInt64]), vec![Arc::new(UInt64Array::from(vec![7]))]).expect("one column");
    let value = StateCodec::new(&count.schema()).expect("a codec").encode(&count).expect("encoded");

    let mut signed = StateCodec::new(&schema([DataType::Int64])).expect("a codec");
    let fault = signed.decode(value.iter().map(AsRef::as_ref)).expect_err("it was written as UInt64");

    assert!(matches!(fault, StateFault::OtherShape { .. }), "{fault}");
}

#[test]
fn a_damaged_value_is_refused_and_leaves_nothing_behind() {
    let kinds = [DataType::UInt64, DataType::Float64];
    let columns: Vec<ArrayRef> = vec![Arc::new(UInt64Array::from(vec![7, 8])), Arc::new(Float64Array::from(vec![0.5, 1.5]))];
    let rows = RecordBatch::try_new(schema(kinds), columns).expect("two columns");
    let mut codec = StateCodec::new(&rows.schema()).expect("a codec");
    let values = codec.encode(&rows).expect("encoded");
    let cut = &values[1][..values[1].len() - 3];
    let longer = [values[1].as_ref(), &[0]].concat();

    for damaged in [cut, &longer, &[values[1].as_ref(), values[0].as_ref()].concat(), &values[1][..PREFIX_BYTES]] {
        let fault = codec.decode([values[0].as_ref(), damaged]).expect_err("the second value is damaged");
        assert!(matches!(fault, StateFault::Damaged(_)), "{fault}");
        assert_eq!(codec.decode(values.iter().map(AsRef::as_ref)).expect("both are whole"), rows);
    }
}

#[test]
fn the_shape_of_a_state_does_not_change_between_versions() {
    let codec = StateCodec::new(&schema([DataType::UInt64, DataType::Float64])).expect("a codec");

    assert_eq!(
        codec.avro.json_string,
        json!({ "type": "record", "name": "State", "fields": [
            { "name": "s0_c0_sum__u64", "type": ["null", "long"] },
            { "name": "s1_c1_sum__f64", "type": ["null", "double"] },
        ]})
        .to_string()
    );
}

#[test]
fn a_type_that_no_state_has_is_refused_by_name() {
    let map = DataType::Map(Arc::new(Field::new("e", DataType::Struct(Fields::empty()), false)), false);

    let fault = StateCodec::new(&schema([map])).err().map(|fault| fault.to_string());

    assert!(fault.is_some_and(|text| text.contains("`c0[sum]`")));
}
