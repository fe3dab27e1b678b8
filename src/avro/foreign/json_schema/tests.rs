//! What a JSON Schema becomes, what is refused in one and where, and records that keep or break theirs.

use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::types::Value as Avro;
use serde_json::json;

use super::*;
use crate::avro::ReaderSchema;
use crate::avro::resolve::check_readable;

fn derived(schema: &Value, references: &[(&str, Value)]) -> Result<Derived, SchemaFault> {
    let references: Vec<Reference> =
        references.iter().map(|(name, json)| Reference { name: (*name).to_owned(), text: json.to_string() }).collect();
    derive(&schema.to_string(), &references, &SchemaLimits::default(), DatumLimits::default())
}

fn right(schema: &Value) -> Derived {
    derived(schema, &[]).unwrap_or_else(|fault| panic!("{fault}: {schema}"))
}

/// The type of the one required property `a`, as JSON.
fn type_of(property: Value) -> Value {
    let schema = json!({"type": "object", "properties": {"a": property}, "required": ["a"]});
    let avro = serde_json::to_value(&right(&schema).schema).expect("JSON");
    avro["fields"][0]["type"].clone()
}

/// Where and why a property `a` is refused.
#[track_caller]
fn refused(property: Value, place: &str, part: &str) {
    let schema = json!({"type": "object", "properties": {"a": property, "b": {"type": "string"}}});
    match derived(&schema, &[]).expect_err("it has no equal") {
        SchemaFault::Foreign { kind: SchemaKind::Json, place: found, why } => {
            assert_eq!(found, place, "{why}");
            assert!(why.contains(part), "{why}");
        }
        other => panic!("{other}"),
    }
}

#[test]
fn every_type_has_its_equal() {
    assert_eq!(type_of(json!({"type": "string"})), json!("string"));
    assert_eq!(type_of(json!({"type": "string", "enum": ["a b", "c"]})), json!("string"));
    assert_eq!(type_of(json!({"enum": ["a", "b", null]})), json!(["null", "string"]));
    assert_eq!(type_of(json!({"const": 7})), json!("long"));
    assert_eq!(type_of(json!({"type": "integer", "minimum": 0})), json!("long"));
    assert_eq!(type_of(json!({"type": "integer", "minimum": 0, "maximum": 65_535})), json!("int"));
    assert_eq!(type_of(json!({"type": "integer", "minimum": 0, "maximum": 4_294_967_295u32})), json!("long"));
    assert_eq!(type_of(json!({"type": "number"})), json!("double"));
    assert_eq!(type_of(json!({"type": "boolean"})), json!("boolean"));
    assert_eq!(type_of(json!({"type": ["string", "null"]})), json!(["null", "string"]));
    assert_eq!(type_of(json!({"type": ["number", "integer", "string"]})), json!(["double", "string"]));
    assert_eq!(type_of(json!({"oneOf": [{"type": "null"}, {"type": "integer"}]})), json!(["null", "long"]));
    assert_eq!(type_of(json!({"anyOf": [{"type": "integer"}, {"type": "number"}]})), json!("double"));
    assert_eq!(type_of(json!({"type": "string", "format": "date-time"})), json!({"type": "long", "logicalType": "timestamp-micros"}));
    assert_eq!(type_of(json!({"type": "string", "format": "date"})), json!({"type": "int", "logicalType": "date"}));
    assert_eq!(type_of(json!({"type": "string", "format": "uuid"})), json!({"type": "string", "logicalType": "uuid"}));
    assert_eq!(type_of(json!({"type": "string", "format": "email"})), json!("string"));
    assert_eq!(type_of(json!({"type": "array", "items": {"type": "integer"}})), json!({"type": "array", "items": "long"}));
    assert_eq!(type_of(json!({"additionalProperties": {"type": "number"}})), json!({"type": "map", "values": "double"}));
    assert_eq!(type_of(json!({"type": "integer", "oneOf": [{"minimum": 1}, {"maximum": -1}]})), json!("long"));
}

#[test]
fn objects_become_records_and_what_may_be_missing_may_be_null() {
    let schema = json!({
        "$schema": "http://json-schema.org/draft-07/schema#", "title": "farm.Reading", "type": "object", "required": ["cow", "at"],
        "properties": {
            "cow": {"type": "string"}, "at": {"$ref": "#/definitions/moment"}, "body-temperature": {"type": "number"},
            "place": {"type": "object", "properties": {"x": {"type": "number"}}, "required": ["x"], "additionalProperties": false}
        },
        "definitions": {"moment": {"type": "integer"}}
    });

    let avro = serde_json::to_value(&right(&schema).schema).expect("JSON");

    assert_eq!((&avro["name"], &avro["namespace"]), (&json!("Reading"), &json!("farm")));
    let names: Vec<&Value> = avro["fields"].as_array().expect("fields").iter().map(|field| &field["name"]).collect();
    assert_eq!(names, ["at", "body_temperature", "cow", "place"]);
    assert_eq!(avro["fields"][1]["type"], json!(["null", "double"]));
    assert_eq!(avro["fields"][0]["type"], "long");
    assert_eq!(avro["fields"][3]["type"][1]["fields"][0], json!({"name": "x", "type": "double"}));
}

#[test]
fn parts_of_all_of_and_schemas_beside_it_are_put_together() {
    let base =
        json!({"$id": "https://farm.example/base.json", "type": "object", "properties": {"cow": {"type": "string"}}, "required": ["cow"]});
    let schema = json!({
        "$id": "https://farm.example/reading.json", "allOf": [{"$ref": "base.json"}, {"properties": {"n": {"$ref": "base.json#/properties/cow"}}}]
    });

    let derived = derived(&schema, &[("base.json", base)]).expect("both are there");

    let avro = serde_json::to_value(&derived.schema).expect("JSON");
    assert_eq!(avro["fields"][0], json!({"name": "cow", "type": "string"}));
    assert_eq!(avro["fields"][1]["type"], json!(["null", "string"]));
    assert_eq!(transcode(&derived, r#"{"cow": "1", "n": "x"}"#).map(drop), Ok(()));
    assert_eq!(transcode(&derived, r#"{"n": "x"}"#).map_err(|fault| fault.reason), Err("not-of-schema"));
}

#[test]
fn what_has_no_equal_is_refused_at_its_place() {
    refused(json!(true), "#/properties/a", "every type");
    refused(json!({}), "#/properties/a", "declare a `type`");
    refused(json!({"type": "array"}), "#/properties/a", "items");
    refused(json!({"type": "array", "prefixItems": [{"type": "string"}]}), "#/properties/a/prefixItems", "different types");
    refused(json!({"type": "object"}), "#/properties/a", "`properties`");
    refused(json!({"type": "object", "additionalProperties": true}), "#/properties/a", "`properties`");
    refused(json!({"type": ["string", "integer"], "const": true}), "#/properties/a", "no value");
    refused(
        json!({"oneOf": [{"type": "object", "properties": {"x": {"type": "string"}}}, {"type": "object", "properties": {"y": {"type": "string"}}}]}),
        "#/properties/a/oneOf/1",
        "alternatives",
    );
    refused(
        json!({"type": "object", "properties": {"x": {"type": "string"}}, "oneOf": [{"properties": {"y": {"type": "string"}}}]}),
        "#/properties/a/oneOf/0",
        "beside",
    );
    refused(json!({"$ref": "#/$defs/nowhere"}), "#/properties/a", "leads nowhere");
    refused(json!({"$ref": "https://example.com/other.json"}), "#/properties/a", "nothing is fetched");
    refused(json!({"$ref": "#anchor"}), "#/properties/a", "JSON pointer");
    refused(json!({"type": "string", "$anchor": "x"}), "#/properties/a", "`$anchor`");
    refused(
        json!({"type": "object", "properties": {"x-y": {"type": "string"}, "x_y": {"type": "string"}}}),
        "#/properties/a/properties/x_y",
        "one name",
    );
    refused(json!({"type": "strin"}), "#/properties/a/type", "names no type");
    refused(json!({"type": "string", "pattern": "(?=a)b"}), "#/properties/a/pattern", "");
}

#[test]
fn recursion_is_refused_wherever_it_hides() {
    refused(json!({"$ref": "#"}), "#/properties/a", "contains itself");
    refused(json!({"type": "array", "items": {"$ref": "#/properties/a"}}), "#/properties/a/items", "contains itself");
    refused(json!({"type": "string", "not": {"$ref": "#/properties/a"}}), "#/properties/a/not", "contains itself");
    let through = json!({
        "type": "object", "properties": {"a": {"$ref": "#/$defs/x"}},
        "$defs": {"x": {"type": "array", "items": {"$ref": "#/$defs/y"}}, "y": {"type": "array", "items": {"$ref": "#/$defs/x"}}}
    });
    assert!(derived(&through, &[]).expect_err("a circle").to_string().contains("#/$defs/y/items"));
    let unused = json!({"type": "object", "properties": {"a": {"type": "string"}}, "$defs": {"x": {"$ref": "#/$defs/x"}}});
    assert!(derived(&unused, &[]).is_ok(), "nobody refers to it");
}

#[test]
fn schemas_that_unfold_without_measure_are_refused_at_once() {
    let mut defs = serde_json::Map::new();
    defs.insert("d0".into(), json!({"type": "string"}));
    for level in 1..40 {
        let below = json!({"$ref": format!("#/$defs/d{}", level - 1)});
        defs.insert(format!("d{level}"), json!({"type": "object", "properties": {"x": below, "y": below}}));
    }
    let schema = json!({"type": "object", "properties": {"a": {"$ref": "#/$defs/d39"}}, "$defs": defs});

    let fault = derived(&schema, &[]).expect_err("2^39 columns");

    assert!(fault.to_string().contains("unfolds to more than 50000"), "{fault}");
    let long = (1..200).fold(json!({"type": "string"}), |below, _| json!({"type": "array", "items": below}));
    let deep = derived(&json!({"type": "object", "properties": {"a": long}}), &[]).expect_err("too deep");
    assert!(matches!(deep, SchemaFault::TooLarge { .. }), "{deep}");
    let mut chain = serde_json::Map::new();
    chain.insert("d0".into(), json!({"type": "string"}));
    for level in 1..2_000 {
        chain.insert(format!("d{level}"), json!({"$ref": format!("#/$defs/d{}", level - 1)}));
    }
    let schema = json!({"type": "object", "properties": {"a": {"$ref": "#/$defs/d1999"}}, "$defs": chain});
    let fault = derived(&schema, &[]).expect_err("a long chain");
    assert!(fault.to_string().contains("128 levels"), "{fault}");
}

/// What one name ends in, another may be.
#[test]
fn a_reference_leads_to_what_is_named_most_exactly() {
    let place = |property: &str| json!({"type": "object", "properties": {property: {"type": "string"}}});
    let others = [("place.json", place("a")), ("v2/place.json", place("b"))];
    for (uri, property) in [("v2/place.json", "b"), ("place.json", "a"), ("https://zoo.example/v2/place.json", "b")] {
        let schema = json!({"type": "object", "properties": {"at": {"$ref": uri}}, "required": ["at"]});
        let avro = serde_json::to_value(&derived(&schema, &others).expect("a schema").schema).expect("JSON");
        assert_eq!(avro["fields"][0]["type"]["fields"][0]["name"], property, "{uri}");
    }
}

/// A sibling of C15: each level was planned once for its own sake and once for its default, so twice as often as the one above.
#[test]
fn objects_within_objects_cost_what_they_hold() {
    let schema = (0..40).fold(json!({"type": "string"}), |below, _| json!({"type": "object", "properties": {"a": below}}));

    let derived = right(&schema);

    assert!(transcode(&derived, r#"{"a":{"a":{}}}"#).is_ok());
}

fn transcode(derived: &Derived, json: &str) -> Result<Avro, TranscodeFault> {
    let mut datum = Vec::new();
    derived.transcoder.transcode(json.as_bytes(), &mut datum)?;
    Ok(GenericDatumReader::builder(&derived.schema).build().expect("a reader").read_value(&mut &*datum).expect("a datum"))
}

#[test]
fn a_record_that_breaks_its_own_schema_says_where() {
    let derived = right(&json!({
        "type": "object", "required": ["cow"], "additionalProperties": false,
        "properties": {
            "cow": {"type": "string", "pattern": "^[0-9]+$"}, "n": {"type": "integer", "maximum": 9}, "at": {"type": "string", "format": "date-time"},
            "tags": {"type": "array", "items": {"enum": ["a", "b"]}, "uniqueItems": true}
        }
    }));
    let fault = |json: &str| transcode(&derived, json).map_err(|fault| (fault.reason, fault.path)).map(drop);
    let breaks = |path: &str| Err(("not-of-schema", path.to_owned()));

    assert_eq!(fault(r#"{"cow": "7", "n": 9.0, "tags": ["a", "b"], "at": "2018-10-21T00:00:18.000001Z"}"#), Ok(()));
    assert_eq!(fault(r#"{"n": 1}"#), breaks(""));
    assert_eq!(fault(r#"{"cow": "x"}"#), breaks("cow"));
    assert_eq!(fault(r#"{"cow": "7", "n": 10}"#), breaks("n"));
    assert_eq!(fault(r#"{"cow": "7", "n": "1"}"#), breaks("n"));
    assert_eq!(fault(r#"{"cow": "7", "tags": ["a", "c"]}"#), breaks("tags[1]"));
    assert_eq!(fault(r#"{"cow": "7", "tags": ["a", "a"]}"#), breaks("tags"));
    assert_eq!(fault(r#"{"cow": "7", "more": 1}"#), breaks(""));
    assert_eq!(fault(r#"{"cow": "7", "at": "yesterday"}"#), Err(("out-of-range", "at".into())), "formats are no rules of validation");
    assert_eq!(fault(r#"{"cow": "7", "cow": "8"}"#), Err(("duplicate-key", "cow".into())));
    assert_eq!(fault(r#"{"cow": "7""#).map_err(|(reason, _)| reason), Err("not-json"));
}

/// Draft 7 would have a format be a rule, later drafts a remark: it is a remark in all of them.
#[test]
fn formats_that_give_no_type_are_no_rules_in_any_draft() {
    for draft in ["http://json-schema.org/draft-07/schema#", "https://json-schema.org/draft/2020-12/schema"] {
        let derived = right(&json!({"$schema": draft, "type": "object", "properties": {"a": {"type": "string", "format": "email"}}}));
        assert!(transcode(&derived, r#"{"a": "nobody"}"#).is_ok(), "{draft}");
    }
}

#[test]
fn properties_with_other_names_are_found_under_them() {
    let derived = right(&json!({"type": "object", "properties": {"body-temperature": {"type": "number"}, "@id": {"type": "string"}}}));

    let Ok(Avro::Record(fields)) = transcode(&derived, r#"{"@id": "x", "body-temperature": 1.5}"#) else { panic!("right") };

    assert_eq!(fields[0], ("_id".into(), Avro::Union(1, Box::new(Avro::String("x".into())))));
    assert_eq!(fields[1], ("body_temperature".into(), Avro::Union(1, Box::new(Avro::Double(1.5)))));
}

/// JSON has no names for types, so those of the reader schema do not have to be guessed.
#[test]
fn names_of_types_do_not_count() {
    let derived = right(&json!({
        "type": "object", "properties": {"place": {"type": "object", "properties": {"x": {"type": "number"}}, "required": ["x"]}}, "required": ["place"]
    }));
    let reader = ReaderSchema::parse(
        r#"{"type": "record", "name": "Whatever", "fields": [{"name": "place", "type": {"type": "record", "name": "Spot", "fields":
            [{"name": "x", "type": "double"}]}}]}"#,
    );

    assert_eq!(check_readable(&derived.schema, &reader.expect("a reader schema")), Ok(()));
}

#[test]
fn what_is_no_json_schema_is_refused() {
    let refused = |text: &str| derive(text, &[], &SchemaLimits::default(), DatumLimits::default()).expect_err(text).to_string();

    assert!(refused("{").contains("not JSON"));
    assert!(refused("[]").contains("JSON Schema"));
    assert!(refused(r#"{"type": "string"}"#).contains("must be objects"));
    assert!(refused(r#"{"type": "object", "additionalProperties": {"type": "string"}}"#).contains("must be objects"));
    assert!(
        refused(r#"{"type": "object", "properties": {"a": {"type": "string", "minLength": "x"}}}"#).contains("#/properties/a/minLength")
    );
    assert!(
        refused(r#"{"$schema": "https://example.com/own", "type": "object", "properties": {"a": {"type": "string"}}}"#)
            .contains("JSON Schema")
    );
}
