//! The audit's own derivation against the service's: the same schemas are usable, and the same records are read alike.

use apache_avro::Schema;

use super::*;
use crate::audit::readable::is_readable;
use crate::avro::resolve::check_readable;
use crate::avro::{DatumLimits, ReaderSchema, SchemaKind, SchemaLimits, foreign};

const SCHEMAS: &[&str] = &[
    r#"{"type": "object", "properties": {"a": {"type": "string"}, "n": {"type": ["integer", "null"]}}, "required": ["a"]}"#,
    r#"{"type": "object", "properties": {"a": {"type": "integer"}}}"#,
    r##"{"properties": {"a": {"$ref": "#/$defs/x"}}, "$defs": {"x": {"oneOf": [{"type": "null"}, {"type": "string", "format": "date-time"}]}}}"##,
    r#"{"allOf": [{"properties": {"a": {"enum": ["x", "y"]}}, "required": ["a"]}, {"properties": {"n": {"const": 4}}}]}"#,
    r#"{"type": "object", "properties": {"a": {"type": "array", "items": {"type": "object", "additionalProperties": {"type": "number"}}}}}"#,
    r#"{"type": "object", "properties": {"a": {"anyOf": [{"type": "string"}, {"type": "integer"}, {"type": "number"}]}}}"#,
    r##"{"type": "object", "properties": {"a": {"$ref": "#"}}}"##,
    r#"{"type": "object", "properties": {"a": true}}"#,
    r#"{"type": "object", "properties": {"a": {"type": "array"}}}"#,
    r#"{"type": "object", "properties": {"a-b": {"type": "string"}, "a_b": {"type": "string"}}}"#,
    r#"{"type": "object", "properties": {"a": {"type": "string", "pattern": "(?=x)"}}}"#,
    r#"{"type": "object", "properties": {"a": {"$ref": "elsewhere.json"}}}"#,
    r##"{"$schema": "http://json-schema.org/draft-07/schema#", "properties": {"a": {"$ref": "#/definitions/x", "type": "integer"}}, "definitions": {"x": {"type": "string"}}}"##,
    r#"{"type": "object", "properties": {"a": {"type": "object", "properties": {"x": {"type": "string", "format": "uuid"}}}}}"#,
    r#"{"type": "object", "properties": {"n": {"type": "integer", "minimum": 0, "maximum": 10}}}"#,
    r#"{"type": "string"}"#,
    r#"{"type": "object", "properties": {"a": {"oneOf": [{"type": "string"}, {"type": "string", "format": "date"}]}}}"#,
    "{",
];

const RECORDS: &[&str] = &[
    r#"{"a": "x", "n": 4}"#,
    r#"{"a": "x", "n": null, "more": {"a": 1}}"#,
    r#"{"a": 4}"#,
    r#"{"a": 4.5}"#,
    r#"{"a": null}"#,
    r#"{"a": "2018-10-21T00:00:18.5Z"}"#,
    r#"{"a": [{"k": 1e2}, {}]}"#,
    r#"{"a": {"x": "00000000-0000-0000-0000-00000000000a"}}"#,
    r#"{"a": {"x": "no"}}"#,
    "{}",
    r#"{"a": "x", "a": "x"}"#,
    "[1]",
    "nonsense",
];

const READER: &str = r#"{"type": "record", "name": "R", "fields": [{"name": "a", "type": ["null", "string"], "default": null},
    {"name": "n", "type": ["null", "double"], "default": null}]}"#;

#[test]
fn both_accept_the_same_schemas_and_records() {
    let (limits, datum) = (SchemaLimits::default(), DatumLimits::default());
    let reader = ReaderSchema::parse(READER).expect("a reader schema");
    let reader_shape = Shape::parse(READER).expect("a reader schema");
    let mut usable = 0;
    for text in SCHEMAS {
        let service = foreign::derive(SchemaKind::Json, text, &[], &limits, datum, &|_| false, &|_| true);
        let ours = of(text, &[]);
        assert_eq!(ours.is_some(), service.is_ok(), "{text}: {service:?}");
        let (Some((shape, records)), Ok(service)) = (ours, service) else { continue };
        usable += 1;
        assert_eq!(is_readable(&shape, &reader_shape), check_readable(&service.schema, &reader).is_ok(), "{text}");
        let written = Shape::parse(&serde_json::to_string::<Schema>(&service.schema).expect("JSON")).expect("a schema");
        for record in RECORDS {
            let mut bytes = Vec::new();
            let transcoded = service.transcoder.transcode(record.as_bytes(), &mut bytes);
            let ours = records.read(record.as_bytes());
            assert_eq!(ours.is_ok(), transcoded.is_ok(), "{text} {record}: {transcoded:?} {ours:?}");
            if transcoded.is_ok() {
                assert_eq!(ours, written.read(&bytes), "{text} {record}");
            }
        }
    }
    assert_eq!(usable, 9, "schemas that both can use");
}
