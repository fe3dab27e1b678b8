//! Reader schemas, bounds, and what has no column form.

use arrow::datatypes::{DataType, TimeUnit};

use super::*;

fn record(fields: &str) -> String {
    format!(r#"{{"type":"record","name":"R","namespace":"test","fields":[{fields}]}}"#)
}

fn reader(fields: &str) -> ReaderSchema {
    ReaderSchema::parse(&record(fields)).expect("a usable schema")
}

#[test]
fn every_supported_type_has_its_column() {
    let schema = reader(
        r#"{"name":"text","type":["null","string"]},
           {"name":"raw","type":["bytes","null"]},
           {"name":"at","type":{"type":"long","logicalType":"timestamp-millis"}},
           {"name":"local","type":{"type":"long","logicalType":"local-timestamp-micros"}},
           {"name":"day","type":{"type":"int","logicalType":"date"}},
           {"name":"price","type":{"type":"bytes","logicalType":"decimal","precision":10,"scale":2}},
           {"name":"huge","type":{"type":"bytes","logicalType":"decimal","precision":50,"scale":0}},
           {"name":"state","type":{"type":"enum","name":"State","symbols":["OK"]}},
           {"name":"id","type":{"type":"string","logicalType":"uuid"}},
           {"name":"mac","type":{"type":"fixed","name":"Mac","size":6}},
           {"name":"tags","type":{"type":"array","items":["null","int"]}}"#,
    );

    let types: Vec<(&str, &DataType, bool)> =
        schema.fields().iter().map(|field| (field.name().as_str(), field.data_type(), field.is_nullable())).collect();
    let tags = DataType::new_list(DataType::Int32, true);
    assert_eq!(
        types,
        [
            ("text", &DataType::Utf8, true),
            ("raw", &DataType::Binary, true),
            ("at", &DataType::Timestamp(TimeUnit::Millisecond, Some("+00:00".into())), false),
            ("local", &DataType::Timestamp(TimeUnit::Microsecond, None), false),
            ("day", &DataType::Date32, false),
            ("price", &DataType::Decimal128(10, 2), false),
            ("huge", &DataType::Decimal256(50, 0), false),
            ("state", &DataType::Utf8, false),
            ("id", &DataType::Utf8, false),
            ("mac", &DataType::FixedSizeBinary(6), false),
            ("tags", &tags, false),
        ]
    );
    assert_eq!(schema.fields()[8].metadata().get("avro.logical").map(String::as_str), Some("uuid"));
}

#[test]
fn c35_a_union_of_several_types_is_set_aside_with_its_reason() {
    let schema = reader(r#"{"name":"v","type":["null","int","string"]},{"name":"battery","type":"int"}"#);

    assert_eq!(schema.fields().len(), 1);
    assert_eq!(schema.unusable().len(), 1);
    let (field, why) = &schema.unusable()[0];
    assert_eq!(field, "v");
    assert!(why.contains("null, int, string"), "{why}");
    assert!(!schema.json().contains("\"v\""), "{}", schema.json());
}

#[test]
fn c35_a_type_defined_in_an_unusable_field_is_kept_for_the_others() {
    let schema = reader(
        r#"{"name":"v","type":["int",{"type":"record","name":"Point","fields":[{"name":"x","type":"int","default":7}]}]},
           {"name":"at","type":"test.Point"}"#,
    );

    assert_eq!(schema.fields().len(), 1);
    let again = ReaderSchema::parse(schema.json()).expect("the effective schema stands by itself");
    assert_eq!(again.fields(), schema.fields());
    assert_eq!(again.fingerprint(), schema.fingerprint());
}

#[test]
fn c15_a_reader_type_that_contains_itself_is_refused_by_name() {
    let list = r#"{"type":"record","name":"Node","fields":[{"name":"value","type":"int"},{"name":"next","type":["null","Node"]}]}"#;

    let fault = ReaderSchema::parse(list).expect_err("no column can hold it");

    assert_eq!(fault, SchemaFault::Recursive { type_name: "Node".into(), field: "Node.next".into() });
    assert!(parse_writer(list, &SchemaLimits::default()).is_ok(), "a writer may have such types: they can be skipped");
}

#[test]
fn deep_json_is_refused_before_it_is_parsed() {
    let deep = format!("{}{}", "[".repeat(200_000), "]".repeat(200_000));

    let fault = parse_writer(&deep, &SchemaLimits::default()).expect_err("too deep");

    assert!(fault.to_string().contains("200000 levels"), "{fault}");
}

#[test]
fn brackets_in_texts_are_not_levels() {
    let text = "[{".repeat(200);
    let json = format!(r#"{{"type":"record","name":"R","doc":"{text}\"","fields":[{{"name":"a","type":"int"}}]}}"#);

    assert!(parse_writer(&json, &SchemaLimits::default()).is_ok());
}

#[test]
fn a_schema_with_too_many_fields_is_refused() {
    let fields: Vec<String> = (0..10_001).map(|at| format!(r#"{{"name":"f{at}","type":"int"}}"#)).collect();

    let fault = parse_writer(&record(&fields.join(",")), &SchemaLimits::default()).expect_err("too many");

    assert!(fault.to_string().contains("10002 fields and types"), "{fault}");
}

#[test]
fn types_that_double_at_each_level_are_set_aside() {
    let mut fields = vec![r#"{"name":"l0","type":{"type":"record","name":"L0","fields":[{"name":"x","type":"int"}]}}"#.to_owned()];
    for level in 1..15 {
        let below = level - 1;
        let twice = format!(r#"{{"name":"a","type":"L{below}"}},{{"name":"b","type":"L{below}"}}"#);
        fields.push(format!(r#"{{"name":"l{level}","type":{{"type":"record","name":"L{level}","fields":[{twice}]}}}}"#));
    }

    let schema = reader(&fields.join(","));

    let (_, why) = schema.unusable().first().expect("the widest ones are set aside");
    assert!(why.contains("unfolds to more than"), "{why}");
}

#[test]
fn types_of_other_subjects_are_found() {
    let order = record(r#"{"name":"meta","type":"test.message.Metadata"}"#);
    let metadata = r#"{"type":"record","name":"Metadata","namespace":"test.message","fields":[{"name":"id","type":"string"}]}"#;

    let schema = parse_writer_with_references(&order, &[metadata], &SchemaLimits::default()).expect("the reference is given");

    assert!(Names::of(&schema).is_ok_and(|names| names.definitions().count() == 2));
    assert!(parse_writer(&order, &SchemaLimits::default()).is_err(), "without the reference it is not complete");
}

#[test]
fn the_fingerprint_tells_defaults_apart_but_not_spaces() {
    let one = reader(r#"{"name":"a","type":"int","default":1}"#);
    let spaced = reader(r#" {"name" : "a", "type":"int","default":1}"#);
    let two = reader(r#"{"name":"a","type":"int","default":2}"#);

    assert_eq!(one.fingerprint(), spaced.fingerprint());
    assert_ne!(one.fingerprint(), two.fingerprint());
    assert_eq!(rabin(b"\"int\""), 0x7275_d51a_3f39_5c8f, "the specification's example");
}

#[test]
fn a_bound_names_the_place_where_it_is_passed() {
    let deep = format!(
        r#"{{"type":"record","name":"R","fields":[{{"name":"nest","type":{}"int"{}}}]}}"#,
        r#"{"type":"array","items":"#.repeat(120),
        "}".repeat(120)
    );
    let fields: Vec<String> = (0..10_001).map(|at| format!(r#"{{"name":"f{at}","type":"int"}}"#)).collect();
    let wide = format!(r#"{{"type":"record","name":"R","fields":[{}]}}"#, fields.join(","));

    let fault = |json: &str| parse_writer(json, &SchemaLimits::default()).expect_err("too large").to_string();

    assert!(fault(&deep).contains("levels (too much from byte") && fault(&deep).contains("in `nest`"), "{}", fault(&deep));
    assert!(fault(&wide).contains("in `f9998`"), "{}", fault(&wide));
}
