//! The public cases about Avro content that need no network: each from bytes to columns.

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Decimal128Type, Float64Type, Int32Type, TimeUnit, TimestampMicrosecondType, TimestampMillisecondType};

use super::limits::{DatumLimits, SchemaLimits};
use super::{Decoded, Decoder, Inspector, Path, ReaderSchema, SchemaFault, check_readable, parse_writer};

fn record(fields: &str) -> String {
    format!(r#"{{"type":"record","name":"R","fields":[{fields}]}}"#)
}

fn decoder(writer: &str, reader: &str) -> Result<Decoder, SchemaFault> {
    let writer_schema = parse_writer(writer, &SchemaLimits::default())?;
    let reader = ReaderSchema::parse(reader)?;
    check_readable(&writer_schema, &reader)?;
    Decoder::new(&writer_schema, &reader)
}

/// Inspects and decodes, and holds the fast road to the plain one.
fn decode(writer: &str, reader: &str, datums: &[&[u8]]) -> Decoded {
    let schema = parse_writer(writer, &SchemaLimits::default()).expect("a writer schema");
    let inspector = Inspector::new(&schema, DatumLimits::default()).expect("a complete schema");
    datums.iter().for_each(|datum| inspector.inspect(datum).expect("a datum of the writer schema"));
    let mut decoder = decoder(writer, reader).expect("a readable pair");
    let plain = decoder.decode_plainly(datums).expect("rows");
    let decoded = decoder.decode(datums.iter().copied()).expect("rows");
    assert_eq!((&plain.rows, &plain.rejected), (&decoded.rows, &decoded.rejected));
    decoded
}

fn rows(fields_written: &str, fields_read: &str, datums: &[&[u8]]) -> RecordBatch {
    let decoded = decode(&record(fields_written), &record(fields_read), datums);
    assert_eq!(decoded.rejected, []);
    decoded.rows
}

#[test]
fn c01_items_written_without_branches_are_read_as_such() {
    let written = r#"{"name":"tags","type":{"type":"array","items":"int"}},{"name":"battery","type":"int"}"#;
    let read = r#"{"name":"tags","type":{"type":"array","items":["null","int"]}},{"name":"battery","type":"int"}"#;
    let datum: &[u8] = &[4, 14, 16, 0, 0xa8, 0x2d];

    let rows = rows(written, read, &[datum, datum]);

    for row in 0..2 {
        let tags = rows.column(0).as_list::<i32>().value(row);
        assert_eq!(tags.as_primitive::<Int32Type>().values(), &[7, 8]);
        assert_eq!(rows.column(1).as_primitive::<Int32Type>().value(row), 2900);
    }
}

#[test]
fn c03_a_symbol_unknown_to_the_reader_becomes_its_default() {
    let of = |symbols: &str, default: &str| format!(r#"{{"name":"s","type":{{"type":"enum","name":"S","symbols":[{symbols}]{default}}}}}"#);
    let written = of(r#""OK","LOW","CRIT""#, "");

    let with_default = rows(&written, &of(r#""OK","LOW","UNKNOWN""#, r#","default":"UNKNOWN""#), &[&[4], &[2]]);
    let without = decode(&record(&written), &record(&of(r#""OK","LOW""#, "")), &[&[0], &[4], &[2]]);

    assert_eq!(with_default.column(0).as_string::<i32>().iter().collect::<Vec<_>>(), [Some("UNKNOWN"), Some("LOW")]);
    assert_eq!(without.rows.column(0).as_string::<i32>().iter().collect::<Vec<_>>(), [Some("OK"), Some("LOW")]);
    let (index, why) = &without.rejected[0];
    assert_eq!(*index, 1);
    assert!(why.contains("`s`") && why.contains("`CRIT`"), "{why}");
}

#[test]
fn c05_a_bytes_default_is_code_points() {
    let read = r#"{"name":"a","type":"int"},{"name":"flag","type":"bytes","default":"\u00ff"}"#;

    let rows = rows(r#"{"name":"a","type":"int"}"#, read, &[&[2]]);

    assert_eq!(rows.column(1).as_binary::<i32>().value(0), [0xff]);
}

#[test]
fn c07_a_negative_decimal_in_few_bytes_stays_negative() {
    let price = r#"{"name":"price","type":{"type":"bytes","logicalType":"decimal","precision":10,"scale":2}}"#;

    let rows = rows(price, price, &[&[2, 0xff], &[4, 0x00, 0xff], &[0]]);

    assert_eq!(rows.column(0).as_primitive::<Decimal128Type>().values(), &[-1, 255, 0]);
    assert_eq!(rows.column(0).data_type(), &DataType::Decimal128(10, 2));
}

/// Siblings of C07 and C79: the bytes of a text would be read as digits, those of a number as letters.
#[test]
fn c79_a_text_is_no_decimal_and_a_decimal_no_text() {
    let decimal = r#"{"name":"v","type":{"type":"bytes","logicalType":"decimal","precision":10,"scale":2}}"#;
    let big = r#"{"name":"v","type":{"type":"bytes","logicalType":"big-decimal"}}"#;
    let text = r#"{"name":"v","type":["null","string"]}"#;
    let bytes = r#"{"name":"v","type":"bytes"}"#;
    let read = |writer: &str, reader: &str| {
        let writer = parse_writer(&record(writer), &Default::default()).expect("a writer schema");
        check_readable(&writer, &ReaderSchema::parse(&record(reader)).expect("a reader schema"))
    };

    for (writer, reader) in [(text, decimal), (decimal, text), (big, text)] {
        let fault = read(writer, reader).expect_err("a number's bytes are no text").to_string();
        assert!(fault.contains("`v`") && fault.contains("convert in SQL"), "{fault}");
    }
    for (writer, reader) in [(bytes, decimal), (decimal, bytes), (text, text), (bytes, text)] {
        assert_eq!(read(writer, reader), Ok(()), "{writer} as {reader}");
    }
}

#[test]
fn a_decimal_with_too_many_digits_is_rejected_alone() {
    let price = record(r#"{"name":"price","type":{"type":"bytes","logicalType":"decimal","precision":2,"scale":0}}"#);

    let decoded = decode(&price, &price, &[&[2, 7], &[2, 100], &[2, 9]]);

    assert_eq!(decoded.rows.column(0).as_primitive::<Decimal128Type>().values(), &[7, 9]);
    assert_eq!(decoded.rejected, [(1, "field `price`: the decimal has more than 2 digits".to_owned())]);
}

#[test]
fn c09_the_text_null_is_a_text() {
    for order in [r#"["string","null"]"#, r#"["null","string"]"#] {
        let read = format!(r#"{{"name":"a","type":"int"}},{{"name":"note","type":{order},"default":"null"}}"#);

        let rows = rows(r#"{"name":"a","type":"int"}"#, &read, &[&[2]]);

        assert!(rows.column(1).is_valid(0));
        assert_eq!(rows.column(1).as_string::<i32>().value(0), "null");
    }
}

#[test]
fn c13_a_local_timestamp_is_a_timestamp_without_zone() {
    let at = r#"{"name":"at","type":{"type":"long","logicalType":"local-timestamp-micros"}}"#;

    let rows = rows(at, at, &[&[2]]);

    assert_eq!(rows.column(0).data_type(), &DataType::Timestamp(TimeUnit::Microsecond, None));
    assert_eq!(rows.column(0).as_primitive::<TimestampMicrosecondType>().value(0), 1);
}

#[test]
fn c15_a_list_in_a_skipped_field_does_not_matter() {
    let list = r#"{"type":"record","name":"R","fields":[{"name":"value","type":"int"},{"name":"next","type":["null","R"]}]}"#;

    let decoded = decode(list, &record(r#"{"name":"value","type":"int"}"#), &[&[2, 2, 4, 0], &[6, 0]]);

    assert_eq!(decoded.rows.column(0).as_primitive::<Int32Type>().values(), &[1, 3]);
}

#[test]
fn c15_a_refusal_says_that_the_writer_type_contains_itself() {
    let list = r#"{"type":"record","name":"R","fields":[{"name":"value","type":"int"},{"name":"next","type":["null","R"]}]}"#;

    let fault = decoder(list, &record(r#"{"name":"dev_id","type":"string"}"#)).expect_err("dev_id is missing").to_string();

    assert!(fault.contains("`dev_id`") && fault.contains("type `R`") && fault.contains("`R.next`"), "{fault}");
}

#[test]
fn c19_only_the_namespace_changed() {
    let of = |namespace: &str| {
        format!(
            r#"{{"type":"record","name":"User","namespace":"{namespace}","fields":[
                {{"name":"home","type":{{"type":"record","name":"Place","fields":[{{"name":"x","type":"int"}}]}}}},
                {{"name":"work","type":"Place"}},
                {{"name":"kind","type":{{"type":"enum","name":"Kind","symbols":["A","B"]}}}}]}}"#
        )
    };

    let decoded = decode(&of("v1"), &of("v2"), &[&[2, 4, 2]]);

    let work = decoded.rows.column(1).as_struct().column(0).as_primitive::<Int32Type>().value(0);
    assert_eq!((work, decoded.rows.column(2).as_string::<i32>().value(0)), (2, "B"));
}

#[test]
fn c33_a_number_is_promoted_within_a_nullable_union() {
    let rows = rows(r#"{"name":"b","type":["null","int"]}"#, r#"{"name":"b","type":["null","double"]}"#, &[&[2, 0xa8, 0x2d], &[0]]);

    let column = rows.column(0).as_primitive::<Float64Type>();
    assert_eq!((column.value(0), column.is_null(1)), (2900.0, true));
}

#[test]
fn c35_a_union_of_several_types_is_skipped() {
    let fields = record(r#"{"name":"v","type":["null","int","string"]},{"name":"battery","type":"int"}"#);

    let decoded = decode(&fields, &fields, &[&[4, 2, b'x', 2], &[2, 8, 4], &[0, 6]]);

    assert_eq!(decoded.rows.num_columns(), 1);
    assert_eq!(decoded.rows.column(0).as_primitive::<Int32Type>().values(), &[1, 2, 3]);
}

#[test]
fn c39_the_year_9999_is_kept() {
    let at = r#"{"name":"at","type":{"type":"long","logicalType":"timestamp-millis"}}"#;
    let end_of_9999_ms = 253_402_300_799_000_i64;
    let mut datum = Vec::new();
    let mut left = (end_of_9999_ms << 1) as u64;
    while left >= 0x80 {
        datum.push((left as u8) | 0x80);
        left >>= 7;
    }
    datum.push(left as u8);

    let rows = rows(at, at, &[&datum]);

    assert_eq!(rows.column(0).as_primitive::<TimestampMillisecondType>().value(0), end_of_9999_ms);
}

#[test]
fn a_null_that_the_reader_has_no_place_for_is_rejected_alone() {
    let decoded =
        decode(&record(r#"{"name":"b","type":["null","int"]}"#), &record(r#"{"name":"b","type":"int"}"#), &[&[2, 2], &[0], &[2, 4]]);

    assert_eq!(decoded.rows.column(0).as_primitive::<Int32Type>().values(), &[1, 2]);
    assert_eq!(decoded.rejected.iter().map(|(index, _)| *index).collect::<Vec<_>>(), [1]);
}

#[test]
fn a_changed_unit_is_refused_by_field() {
    let of = |unit: &str| record(&format!(r#"{{"name":"at","type":{{"type":"long","logicalType":"timestamp-{unit}"}}}}"#));

    let fault = decoder(&of("millis"), &of("micros")).expect_err("the numbers would mean other times");

    let text = fault.to_string();
    assert!(text.starts_with("field `at` cannot be read: it is written as timestamp-millis and read as timestamp-micros"), "{text}");
}

#[test]
fn a_renamed_field_is_found_by_the_readers_alias_only() {
    let read = r#"{"name":"dev_id","type":"string","aliases":["device"]}"#;
    let rows = rows(r#"{"name":"device","type":"string"}"#, read, &[&[2, b'x']]);
    let writers_alias = r#"{"name":"device","type":"string","aliases":["dev_id"]}"#;

    assert_eq!(rows.column(0).as_string::<i32>().value(0), "x");
    assert!(decoder(&record(writers_alias), &record(r#"{"name":"dev_id","type":"string"}"#)).is_err(), "a writer's alias renames nothing");
}

#[test]
fn flat_readings_take_the_fast_road() {
    let written = r#"{"name":"dev_id","type":"string"},
        {"name":"readable_time","type":{"type":"long","logicalType":"timestamp-millis"}},
        {"name":"battery","type":["null","int"]},
        {"name":"temperature","type":"float"},
        {"name":"state","type":{"type":"enum","name":"State","symbols":["OK","LOW"]}}"#;
    let read = r#"{"name":"temperature","type":"double"},
        {"name":"dev_id","type":"string"},
        {"name":"readable_time","type":{"type":"long","logicalType":"timestamp-millis"}},
        {"name":"site","type":"string","default":"north"}"#;

    assert_eq!(decoder(&record(written), &record(written)).expect("readable").path(), &Path::Arrow);
    assert_eq!(decoder(&record(written), &record(read)).expect("readable").path(), &Path::Arrow);
}

#[test]
fn no_datums_give_no_rows() {
    let mut decoder = decoder(&record(r#"{"name":"a","type":"int"}"#), &record(r#"{"name":"a","type":"int"}"#)).expect("readable");

    let decoded = decoder.decode(std::iter::empty()).expect("nothing to do");

    assert_eq!((decoded.rows.num_rows(), decoded.rows.num_columns()), (0, 1));
}

#[test]
fn a_slice_longer_than_arrow_avros_batch_comes_out_whole() {
    let mut decoder = decoder(&record(r#"{"name":"a","type":"int"}"#), &record(r#"{"name":"a","type":"long"}"#)).expect("readable");
    let datums = vec![[2u8].as_slice(); 20_000];

    let decoded = decoder.decode(datums.iter().copied()).expect("rows");

    assert_eq!(decoded.rows.num_rows(), 20_000);
}
