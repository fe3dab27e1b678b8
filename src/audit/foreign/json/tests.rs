//! Two readers of one contract: the service's transcoder and the audit's own must say the same about every text.

use proptest::prelude::*;

use super::*;
use crate::avro::DatumLimits;
use crate::avro::foreign::Transcode;
use crate::avro::foreign::json::Transcoder;
use crate::avro::foreign::json::samples::records;

/// What the service makes of a text, read from its bytes.
fn theirs(schema: &Schema, shape: &Shape, json: &[u8]) -> Result<Datum, String> {
    let transcoder = Transcoder::of(schema, DatumLimits::default()).expect("a whole schema");
    let mut datum = Vec::new();
    transcoder.transcode(json, &mut datum).map_err(|fault| fault.to_string())?;
    shape.read(&datum).map_err(|fault| fault.to_string())
}

/// Decimals in as few bytes as they take: bytes of one number differ in length.
fn plain(datum: Datum) -> Datum {
    match datum {
        Datum::Bytes(bytes) => {
            let sign = if bytes.first().is_some_and(|first| *first >= 0x80) { 0xff } else { 0 };
            let extra = bytes.windows(2).take_while(|pair| pair[0] == sign && (pair[1] ^ sign) < 0x80).count();
            Datum::Bytes(bytes[extra..].to_vec())
        }
        Datum::Union(branch, inner) => Datum::Union(branch, Box::new(plain(*inner))),
        Datum::Array(items) => Datum::Array(items.into_iter().map(plain).collect()),
        Datum::Map(entries) => {
            let mut entries: Vec<(String, Datum)> = entries.into_iter().map(|(key, value)| (key, plain(value))).collect();
            entries.sort_by(|(left, _), (right, _)| left.cmp(right));
            Datum::Map(entries)
        }
        Datum::Record(fields) => Datum::Record(fields.into_iter().map(plain).collect()),
        other => other,
    }
}

#[track_caller]
fn agree(schema: &str, texts: &[(&str, bool)]) {
    let parsed = Schema::parse_str(schema).expect("a schema");
    let shape = Shape::parse(schema).expect("a schema");
    for (text, is_right) in texts {
        let (ours, service) = (read(text.as_bytes(), &shape), theirs(&parsed, &shape, text.as_bytes()));
        assert_eq!(ours.is_ok(), *is_right, "{text}: {ours:?}");
        assert_eq!(service.is_ok(), *is_right, "{text}: {service:?}");
        if let (Ok(ours), Ok(service)) = (ours, service) {
            assert_eq!(plain(ours), plain(service), "{text}");
        }
    }
}

#[test]
fn moments_are_read_alike() {
    let schema = r#"{"type": "record", "name": "R", "fields": [
        {"name": "m", "type": {"type": "long", "logicalType": "timestamp-millis"}, "default": 0},
        {"name": "l", "type": {"type": "long", "logicalType": "local-timestamp-micros"}, "default": 0},
        {"name": "d", "type": {"type": "int", "logicalType": "date"}, "default": 0},
        {"name": "t", "type": {"type": "int", "logicalType": "time-millis"}, "default": 0}]}"#;
    agree(
        schema,
        &[
            (r#"{"m": "2018-10-21T00:00:18Z"}"#, true),
            (r#"{"m": "2018-10-21T00:00:18.120+05:30"}"#, true),
            (r#"{"m": "2018-10-21T00:00:18.1201Z"}"#, false),
            (r#"{"m": "2018-10-21T00:00:18"}"#, false),
            (r#"{"m": "2018-10-21 00:00:18Z"}"#, false),
            (r#"{"m": "2018-10-21t00:00:18Z"}"#, false),
            (r#"{"m": "2018-10-21T00:00:18z"}"#, false),
            (r#"{"m": "2016-12-31T23:59:60Z"}"#, true),
            (r#"{"m": "2016-12-31T23:59:60.5Z"}"#, true),
            (r#"{"m": "2016-12-31T23:59:61Z"}"#, false),
            (r#"{"l": "2016-12-31T23:59:60"}"#, true),
            (r#"{"t": "23:59:60"}"#, false),
            (r#"{"m": "2018-10-21T00:00:18+24:00"}"#, false),
            (r#"{"m": "2018-10-21T00:00:18 Z"}"#, false),
            (r#"{"m": "2018-10-21T00:00:18.1234567891Z"}"#, false),
            (r#"{"m": "2018-10-21T00:00:18UTC"}"#, false),
            (r#"{"m": "2018-10-21"}"#, false),
            (r#"{"m": "0000-01-01T00:00:00Z"}"#, true),
            (r#"{"m": 1.5e3}"#, true),
            (r#"{"m": "1500"}"#, false),
            (r#"{"l": "2018-10-21T00:00:18.000001"}"#, true),
            (r#"{"l": "2018-10-21T00:00:18Z"}"#, false),
            (r#"{"d": "2020-02-29"}"#, true),
            (r#"{"d": "2019-02-29"}"#, false),
            (r#"{"d": "2019-2-3"}"#, false),
            (r#"{"t": "23:59:59.999"}"#, true),
            (r#"{"t": "24:00:00"}"#, false),
            (r#"{"t": "00:00:00Z"}"#, false),
        ],
    );
}

#[test]
fn numbers_texts_and_members_are_read_alike() {
    let schema = r#"{"type": "record", "name": "R", "fields": [
        {"name": "a", "type": ["null", "long"], "aliases": ["A"], "default": null},
        {"name": "f", "type": "double", "default": 0.5},
        {"name": "s", "type": "float", "default": 0},
        {"name": "d", "type": {"type": "fixed", "name": "F", "size": 2, "logicalType": "decimal", "precision": 4, "scale": 1}, "default": "\u0000\u0001"},
        {"name": "b", "type": "bytes", "default": "\u00ff"},
        {"name": "e", "type": {"type": "enum", "name": "E", "symbols": ["X", "Y"], "default": "Y"}, "default": "X"}]}"#;
    agree(
        schema,
        &[
            ("{}", true),
            (r#"{"A": 1, "a": 2}"#, true),
            (r#"{"A": "x", "a": 2}"#, false),
            (r#"{"a": 2, "A": "x"}"#, false),
            (r#"{"a": 2, "A": 1}"#, true),
            (r#"{"a": 9223372036854775808}"#, false),
            (r#"{"a": 10e-1}"#, true),
            (r#"{"a": 1e-1}"#, false),
            (r#"{"f": 1e400}"#, false),
            (r#"{"x": 1e400}"#, true),
            (r#"{"f": 123456789012345678901234567890}"#, true),
            (r#"{"s": 3.5e38}"#, false),
            (r#"{"d": 999.9}"#, true),
            (r#"{"d": -1}"#, true),
            (r#"{"d": "1e1"}"#, true),
            (r#"{"d": 1000}"#, false),
            (r#"{"d": 0.01}"#, false),
            (r#"{"d": " 1"}"#, false),
            (r#"{"b": "\u0100"}"#, false),
            (r#"{"e": "Z"}"#, true),
            (r#"{"e": 1}"#, false),
            (r#"{"a": 1, "a": 1}"#, false),
            (r#"{"x": {"a": 1, "a": 1}}"#, false),
            (r#"{"a": true}"#, false),
            (r#"[]"#, false),
            (r#"{"#, false),
            (r#""#, false),
        ],
    );
}

proptest! {
    #[test]
    fn right_records_are_read_alike(sample in records()) {
        let schema = Schema::parse(&sample.schema).expect("a schema");
        let shape = Shape::parse(&sample.schema.to_string()).expect("a schema");

        let ours = read(sample.json.as_bytes(), &shape).map_err(|fault| TestCaseError::fail(format!("{fault}: {}", sample.json)))?;
        let service = theirs(&schema, &shape, sample.json.as_bytes()).map_err(TestCaseError::fail)?;

        prop_assert_eq!(plain(ours), plain(service));
    }

    #[test]
    fn damaged_records_are_refused_alike(sample in records(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let schema = Schema::parse(&sample.schema).expect("a schema");
        let shape = Shape::parse(&sample.schema.to_string()).expect("a schema");
        let mut damaged = sample.json.into_bytes();
        let at = at.index(damaged.len());
        damaged[at] = byte;

        let (ours, service) = (read(&damaged, &shape), theirs(&schema, &shape, &damaged));

        prop_assert_eq!(ours.is_ok(), service.is_ok(), "{:?} {:?} {}", ours, service, String::from_utf8_lossy(&damaged));
        if let (Ok(ours), Ok(service)) = (ours, service) {
            prop_assert_eq!(plain(ours), plain(service));
        }
    }
}
