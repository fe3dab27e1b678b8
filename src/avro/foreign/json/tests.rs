//! What JSON becomes, type by type, and what is refused with which reason and place.

use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::types::Value as Avro;
use proptest::prelude::*;

use super::samples::records;
use super::*;
use crate::avro::{Inspector, ReaderSchema};

fn schema(fields: &str) -> Schema {
    let json = format!(r#"{{"type": "record", "name": "R", "fields": [{fields}]}}"#);
    Schema::parse_str(&json).unwrap_or_else(|error| panic!("{json}: {error}"))
}

fn transcode(schema: &Schema, json: &[u8]) -> Result<Vec<u8>, TranscodeFault> {
    let transcoder = Transcoder::of(schema, DatumLimits::default()).expect("a whole schema");
    let mut datum = b"before".to_vec();
    transcoder.transcode(json, &mut datum)?;
    assert_eq!(&datum[..6], b"before", "what stands in the buffer is somebody else's");
    let datum = datum[6..].to_vec();
    let inspector = Inspector::new(schema, DatumLimits::default()).expect("a whole schema");
    assert_eq!(inspector.inspect(&datum), Ok(()), "{}", String::from_utf8_lossy(json));
    Ok(datum)
}

fn read(schema: &Schema, datum: &[u8]) -> Avro {
    GenericDatumReader::builder(schema).build().expect("a reader").read_value(&mut &*datum).expect("a datum")
}

/// The one field `a` of type `of`, as the JSON text makes it.
fn value(of: &str, json: &str) -> Result<Avro, TranscodeFault> {
    let schema = schema(&format!(r#"{{"name": "a", "type": {of}}}"#));
    let datum = transcode(&schema, format!(r#"{{"a": {json}}}"#).as_bytes())?;
    match read(&schema, &datum) {
        Avro::Record(mut fields) => Ok(fields.remove(0).1),
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn refused(of: &str, json: &str, reason: &str) {
    let found = value(of, json).expect_err(json);
    assert_eq!((found.reason, found.path.as_str()), (reason, "a"), "{of} {json}: {found}");
}

#[test]
fn numbers_fit_exactly_or_are_refused() {
    assert_eq!(value(r#""int""#, "-2147483648"), Ok(Avro::Int(i32::MIN)));
    assert_eq!(value(r#""long""#, "1.0e3"), Ok(Avro::Long(1_000)));
    assert_eq!(value(r#""double""#, "0.30000000000000004"), Ok(Avro::Double(0.1 + 0.2)));
    assert_eq!(value(r#""double""#, "7"), Ok(Avro::Double(7.0)));
    for (of, json) in [
        (r#""int""#, "2147483648"),
        (r#""int""#, "1.5"),
        (r#""long""#, "9223372036854775808"),
        (r#""long""#, "1e-1"),
        (r#""float""#, "1e39"),
        (r#""double""#, "-1e309"),
        (r#"{"type": "int", "logicalType": "date"}"#, "2147483648"),
        (r#"{"type": "bytes", "logicalType": "decimal", "precision": 4, "scale": 2}"#, "1.234"),
        (r#"{"type": "bytes", "logicalType": "decimal", "precision": 4, "scale": 2}"#, "\"123.45\""),
        (r#"{"type": "long", "logicalType": "timestamp-millis"}"#, "\"2018-10-21T00:00:18.0001Z\""),
        (r#"{"type": "long", "logicalType": "timestamp-millis"}"#, "\"yesterday\""),
    ] {
        refused(of, json, "out-of-range");
    }
}

#[test]
fn a_value_of_another_type_says_what_is_read_there() {
    for (of, json) in [
        (r#""int""#, "\"7\""),
        (r#""string""#, "7"),
        (r#""boolean""#, "0"),
        (r#""double""#, "null"),
        (r#"{"type": "array", "items": "int"}"#, "{}"),
        (r#"{"type": "map", "values": "int"}"#, "[]"),
        (r#"["null", "int"]"#, "true"),
        (r#"{"type": "string", "logicalType": "uuid"}"#, "\"x\""),
        (r#"{"type": "bytes", "logicalType": "decimal", "precision": 4, "scale": 2}"#, "\"1.2 \""),
        (r#"{"type": "bytes", "logicalType": "decimal", "precision": 4, "scale": 2}"#, "\"\""),
        (r#""bytes""#, "\"\\u0100\""),
    ] {
        refused(of, json, "wrong-type");
    }
    let found = value(r#"["null", "int"]"#, "true").expect_err("a boolean");
    assert_eq!(found.to_string(), "this is a boolean, where null or a whole number is read (at `a`)");
    refused(r#"{"type": "enum", "name": "E", "symbols": ["A"]}"#, "\"B\"", "bad-enum-symbol");
    assert!(value(r#"{"type": "enum", "name": "E", "symbols": ["A"], "default": "A"}"#, "\"B\"").is_ok());
    refused(r#"{"type": "fixed", "name": "F", "size": 2}"#, "\"abc\"", "bad-length");
    let long = format!("\"{}\"", "x".repeat((1 << 20) + 1));
    refused(r#""string""#, &long, "bad-length");
}

#[test]
fn a_fault_says_where_it_is() {
    let nested = schema(
        r#"{"name": "a", "type": {"type": "array", "items": {"type": "map", "values":
            {"type": "record", "name": "I", "fields": [{"name": "x", "type": "int"}]}}}}"#,
    );
    let path = |json: &str| transcode(&nested, json.as_bytes()).map_err(|fault| (fault.reason, fault.path));

    assert_eq!(path(r#"{"a": [{}, {"k": {"x": 1}}, {"k": {"x": "1"}}]}"#), Err(("wrong-type", "a[2].k.x".into())));
    assert_eq!(path(r#"{"a": [{"k": {}}]}"#), Err(("missing-field", "a[0].k.x".into())));
    assert_eq!(path(r#"{"a": [], "b": {"c": 1, "c": 2}}"#), Err(("duplicate-key", "b.c".into())), "in what nobody reads too");
    assert_eq!(path(r#"{"a": [{"k": {"x": 1}, "k": {"x": 1}}]}"#), Err(("duplicate-key", "a[0].k".into())));
    assert_eq!(path("[]"), Err(("wrong-type", String::new())));
    assert_eq!(path(r#"{"a": []"#).map_err(|(reason, _)| reason), Err("not-json"));
    assert_eq!(path(r#"{"a": []} x"#).map_err(|(reason, _)| reason), Err("not-json"));
    assert_eq!(path(r#"{"a": [NaN]}"#).map_err(|(reason, _)| reason), Err("not-json"));
    let deep = format!(r#"{{"a": [], "b": {}1{}}}"#, "[".repeat(64), "]".repeat(64));
    assert_eq!(path(&deep).map_err(|(reason, _)| reason), Err("too-deep"));
}

#[test]
fn what_is_not_there_takes_its_default_as_avro_spells_it() {
    let schema = schema(
        r#"{"name": "key", "type": "string"},
           {"name": "n", "type": "int", "default": 7},
           {"name": "d", "type": {"type": "bytes", "logicalType": "decimal", "precision": 4, "scale": 2}, "default": "\u0001\u00ff"},
           {"name": "t", "type": {"type": "long", "logicalType": "timestamp-millis"}, "default": 5},
           {"name": "l", "type": {"type": "array", "items": ["null", "int"]}, "default": [null, 3]},
           {"name": "o", "type": ["null", "string"], "default": null}"#,
    );

    let datum = transcode(&schema, br#"{"x": {}, "key": "k"}"#).expect("all others have defaults");

    let Avro::Record(fields) = read(&schema, &datum) else { panic!("a record") };
    let list = vec![Avro::Union(0, Box::new(Avro::Null)), Avro::Union(1, Box::new(Avro::Int(3)))];
    assert_eq!(fields[1].1, Avro::Int(7));
    assert_eq!(fields[2].1, Avro::Decimal(vec![0x01, 0xff].into()));
    assert_eq!(fields[3].1, Avro::TimestampMillis(5));
    assert_eq!(fields[4].1, Avro::Array(list));
    assert_eq!(fields[5].1, Avro::Union(0, Box::new(Avro::Null)));
    let found = transcode(&schema, b"{}").expect_err("the key has no default");
    assert_eq!((found.reason, found.path.as_str()), ("missing-field", "key"));
}

#[test]
fn a_field_is_found_by_its_name_before_its_aliases_in_any_order() {
    let schema = schema(r#"{"name": "a", "aliases": ["b", "c"], "type": "int"}, {"name": "z", "type": "int", "default": 0}"#);
    let read = |json: &str| match read(&schema, &transcode(&schema, json.as_bytes()).expect("right")) {
        Avro::Record(fields) => fields[0].1.clone(),
        other => other,
    };

    assert_eq!(read(r#"{"c": 3}"#), Avro::Int(3));
    assert_eq!(read(r#"{"c": 3, "b": 2}"#), Avro::Int(2));
    assert_eq!(read(r#"{"b": 2, "z": 9, "a": 1, "c": 3}"#), Avro::Int(1));
    for json in [r#"{"a": 1, "b": "x"}"#, r#"{"b": "x", "a": 1}"#] {
        assert_eq!(transcode(&schema, json.as_bytes()).expect_err("in any order").path, "b");
    }
}

#[test]
fn a_small_value_cannot_become_a_large_datum() {
    let default = "x".repeat(100_000);
    let schema = schema(&format!(
        r#"{{"name": "a", "type": {{"type": "array", "items":
            {{"type": "record", "name": "I", "fields": [{{"name": "s", "type": "string", "default": "{default}"}}]}}}}}}"#
    ));
    let json = format!(r#"{{"a": [{}]}}"#, vec!["{}"; 1_000].join(","));

    let found = transcode(&schema, json.as_bytes()).expect_err("100 MB out of 3 kB");

    assert_eq!(found.reason, "bad-length");
}

/// What makes a column has a form in JSON.
#[test]
fn types_without_a_form_in_json_make_no_column_either() {
    let json = r#"{"type": "record", "name": "R", "fields": [{"name": "a", "type": "int"},
        {"name": "b", "type": {"type": "bytes", "logicalType": "big-decimal"}}]}"#;
    let reader = ReaderSchema::parse(json).expect("one column");

    assert_eq!(reader.unusable().len(), 1);
    assert!(transcode(reader.avro(), br#"{"a": 1, "b": "?"}"#).is_ok(), "what makes no column is passed over");
}

proptest! {
    #[test]
    fn what_is_written_as_json_is_read_back(sample in records()) {
        let schema = Schema::parse(&sample.schema).expect("a schema");

        let datum = transcode(&schema, sample.json.as_bytes());

        let datum = datum.map_err(|fault| TestCaseError::fail(format!("{fault}\n{}\n{}", sample.schema, sample.json)))?;
        prop_assert_eq!(read(&schema, &datum), sample.avro, "{}", sample.json);
    }

    /// Whatever bytes come, there is a datum that passes inspection, or a fault with a reason.
    #[test]
    fn damaged_json_is_refused_or_read_but_never_a_panic(sample in records(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let schema = Schema::parse(&sample.schema).expect("a schema");
        let mut damaged = sample.json.into_bytes();
        let at = at.index(damaged.len());
        damaged[at] = byte;

        if let Err(fault) = transcode(&schema, &damaged) {
            prop_assert!(!fault.reason.is_empty() && !fault.detail.is_empty());
        }
        if let Err(fault) = transcode(&schema, &damaged[..at]) {
            prop_assert!(matches!(fault.reason, "not-json" | "invalid-utf8" | "wrong-type" | "out-of-range"), "{}", fault);
        }
    }
}
