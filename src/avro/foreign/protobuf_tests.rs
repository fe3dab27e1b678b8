//! What Protobuf files and records become, rule by rule; random ones are in `src/audit/foreign/protobuf_tests.rs`.

use std::time::Duration;

use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::types::Value as Avro;
use prost_reflect::DynamicMessage;
use prost_reflect::prost::Message as _;
use serde_json::{Value as Json, json};

use super::*;
use crate::avro::Inspector;
use crate::clock::SystemClock;

const ALL: &str = r#"
    syntax = "proto3";
    package farm.v1;
    import "google/protobuf/timestamp.proto";
    import "google/protobuf/duration.proto";
    import "google/protobuf/wrappers.proto";

    // The first message.
    message Reading {
        enum State { STATE_UNKNOWN = 0; STATE_UP = 1; STATE_LYING = -2; }
        message Position { double x = 1; double y = 2; }
        int32 a = 1; sint32 b = 2; sfixed32 c = 3; uint32 d = 4; fixed32 e = 5;
        int64 f = 6; sint64 g = 7; sfixed64 h = 8; uint64 i = 9; fixed64 j = 10;
        float k = 11; double l = 12; bool m = 13; string n = 14; bytes o = 15;
        State p = 16; Position q = 17; optional int32 r = 18;
        repeated sint32 s = 19; repeated Position t = 20;
        map<string, int64> u = 21; map<uint32, Position> v = 22;
        google.protobuf.Timestamp w = 23; google.protobuf.Int64Value x = 24; google.protobuf.Duration y = 25;
        oneof z { string name = 26; Position place = 27; }
        repeated google.protobuf.StringValue aa = 28; map<string, State> bb = 29;
    }
"#;

fn derived(text: &str) -> Derived {
    derived_with(text, &[]).unwrap_or_else(|fault| panic!("{fault}"))
}

fn derived_with(text: &str, references: &[(&str, &str)]) -> Result<Derived, SchemaFault> {
    derive(text, &references_of(references), &SchemaLimits::default(), DatumLimits::default(), &|_| false, &|_| true)
}

fn references_of(references: &[(&str, &str)]) -> Vec<Reference> {
    references.iter().map(|(name, text)| Reference { name: (*name).to_owned(), text: (*text).to_owned() }).collect()
}

/// The first message of `text` with a value in Protobuf's text format, as bytes.
fn encoded(text: &str, value: &str) -> Vec<u8> {
    let file = compile(text, &[], &SchemaLimits::default()).expect("a Protobuf file");
    let message = file.messages().next().expect("a message");
    DynamicMessage::parse_text_format(message, value).unwrap_or_else(|error| panic!("{value}: {error}")).encode_to_vec()
}

fn transcoded(derived: &Derived, body: &[u8]) -> Result<Avro, TranscodeFault> {
    let value = [&[0], body].concat();
    // The buffer is not empty: other records' datums stand in it.
    let mut datum = vec![7];
    derived.transcoder.transcode(&value, &mut datum)?;
    assert_eq!(datum[0], 7);
    Inspector::new(&derived.schema, DatumLimits::default()).expect("an inspector").inspect(&datum[1..]).expect("a whole datum");
    let mut rest = &datum[1..];
    let reader = GenericDatumReader::builder(&derived.schema).build().expect("a reader");
    Ok(reader.read_value(&mut rest).expect("apache-avro reads it"))
}

/// The fields that a value of the first message has as a record.
fn fields(text: &str, value: &str) -> Vec<(String, Avro)> {
    record(transcoded(&derived(text), &encoded(text, value)).unwrap_or_else(|fault| panic!("{value}: {fault}")))
}

fn record(value: Avro) -> Vec<(String, Avro)> {
    let Avro::Record(fields) = value else { panic!("no record: {value:?}") };
    fields
}

fn field(fields: &[(String, Avro)], name: &str) -> Avro {
    fields.iter().find(|(found, _)| found == name).unwrap_or_else(|| panic!("no field {name}")).1.clone()
}

fn some(value: Avro) -> Avro {
    Avro::Union(1, Box::new(value))
}

fn none() -> Avro {
    Avro::Union(0, Box::new(Avro::Null))
}

/// Reason and path of the fault that a body meets.
fn refused(text: &str, body: &[u8]) -> (&'static str, String) {
    let fault = transcoded(&derived(text), body).expect_err("not readable");
    (fault.reason, fault.path)
}

#[test]
fn every_type_has_its_avro_type() {
    let schema = serde_json::to_value(&derived(ALL).schema).expect("JSON");
    let types: Vec<(&str, &Json)> = schema["fields"]
        .as_array()
        .expect("fields")
        .iter()
        .map(|field| (field["name"].as_str().unwrap_or_default(), &field["type"]))
        .collect();
    let position = json!("farm.v1.Reading.Position");
    let expected = [
        ("a", json!("int")),
        ("b", json!("int")),
        ("c", json!("int")),
        ("d", json!("long")),
        ("e", json!("long")),
        ("f", json!("long")),
        ("g", json!("long")),
        ("h", json!("long")),
        ("i", json!("long")),
        ("j", json!("long")),
        ("k", json!("float")),
        ("l", json!("double")),
        ("m", json!("boolean")),
        ("n", json!("string")),
        ("o", json!("bytes")),
        (
            "p",
            json!({"type": "enum", "namespace": "farm.v1.Reading", "name": "State", "symbols": ["STATE_UNKNOWN", "STATE_UP", "STATE_LYING"]}),
        ),
        (
            "q",
            json!(["null", {"type": "record", "namespace": "farm.v1.Reading", "name": "Position", "fields": [
            {"name": "x", "type": "double", "default": 0.0}, {"name": "y", "type": "double", "default": 0.0}]}]),
        ),
        ("r", json!(["null", "int"])),
        ("s", json!({"type": "array", "items": "int"})),
        ("t", json!({"type": "array", "items": position})),
        ("u", json!({"type": "map", "values": "long"})),
        (
            "v",
            json!({"type": "array", "items": {"type": "record", "namespace": "farm.v1.Reading", "name": "VEntry", "fields": [
            {"name": "key", "type": "long", "default": 0}, {"name": "value", "type": position}]}}),
        ),
        ("w", json!(["null", {"type": "long", "logicalType": "timestamp-micros"}])),
        ("x", json!(["null", "long"])),
        (
            "y",
            json!(["null", {"type": "record", "namespace": "google.protobuf", "name": "Duration", "fields": [
            {"name": "seconds", "type": "long", "default": 0}, {"name": "nanos", "type": "int", "default": 0}]}]),
        ),
        ("name", json!(["null", "string"])),
        ("place", json!(["null", position])),
        ("aa", json!({"type": "array", "items": "string"})),
        ("bb", json!({"type": "map", "values": "farm.v1.Reading.State"})),
    ];

    assert_eq!(schema["name"], "Reading");
    assert_eq!(schema["namespace"], "farm.v1");
    for ((name, found), (wanted, expected)) in types.iter().zip(&expected) {
        assert_eq!((name, *found), (wanted, expected));
    }
    assert_eq!(types.len(), expected.len());
}

#[test]
fn an_empty_message_has_every_default() {
    let fields = fields(ALL, "");

    assert_eq!(field(&fields, "a"), Avro::Int(0));
    assert_eq!(field(&fields, "n"), Avro::String(String::new()));
    assert_eq!(field(&fields, "p"), Avro::Enum(0, "STATE_UNKNOWN".into()));
    for absent in ["q", "r", "w", "x", "y", "name", "place"] {
        assert_eq!(field(&fields, absent), none(), "{absent}");
    }
    assert_eq!(field(&fields, "s"), Avro::Array(vec![]));
    assert_eq!(field(&fields, "u"), Avro::Map([].into()));
}

#[test]
fn every_value_is_kept() {
    let fields = fields(
        ALL,
        r#"a: -1 b: -2 c: -3 d: 4294967295 e: 4294967295 f: -9223372036854775808 g: -7 h: -8 i: 9223372036854775807 j: 10
           k: 1.5 l: -2.5 m: true n: "kött" o: "\000\377" p: STATE_LYING q { y: 2 } r: 0 s: [1, -1] t { x: 1 } t { }
           u { key: "b" value: -1 } u { key: "a" value: 2 } v { key: 7 value { x: 3 } } v { key: 3 }
           w { seconds: -1 nanos: 999999999 } x { } y { seconds: 5 nanos: -1 } place { x: 9 } aa { value: "in" } aa { } bb { key: "s" value: STATE_UP }"#,
    );
    let position = |x: f64, y: f64| Avro::Record(vec![("x".into(), Avro::Double(x)), ("y".into(), Avro::Double(y))]);

    assert_eq!(field(&fields, "a"), Avro::Int(-1));
    assert_eq!(field(&fields, "b"), Avro::Int(-2));
    assert_eq!(field(&fields, "c"), Avro::Int(-3));
    assert_eq!(field(&fields, "d"), Avro::Long(4_294_967_295));
    assert_eq!(field(&fields, "e"), Avro::Long(4_294_967_295));
    assert_eq!(field(&fields, "f"), Avro::Long(i64::MIN));
    assert_eq!(field(&fields, "g"), Avro::Long(-7));
    assert_eq!(field(&fields, "h"), Avro::Long(-8));
    assert_eq!(field(&fields, "i"), Avro::Long(i64::MAX));
    assert_eq!(field(&fields, "k"), Avro::Float(1.5));
    assert_eq!(field(&fields, "l"), Avro::Double(-2.5));
    assert_eq!(field(&fields, "m"), Avro::Boolean(true));
    assert_eq!(field(&fields, "n"), Avro::String("kött".into()));
    assert_eq!(field(&fields, "o"), Avro::Bytes(vec![0, 255]));
    assert_eq!(field(&fields, "p"), Avro::Enum(2, "STATE_LYING".into()));
    assert_eq!(field(&fields, "q"), some(position(0.0, 2.0)));
    assert_eq!(field(&fields, "r"), some(Avro::Int(0)), "there, and zero");
    assert_eq!(field(&fields, "s"), Avro::Array(vec![Avro::Int(1), Avro::Int(-1)]));
    assert_eq!(field(&fields, "t"), Avro::Array(vec![position(1.0, 0.0), position(0.0, 0.0)]));
    assert_eq!(field(&fields, "u"), Avro::Map([("a".into(), Avro::Long(2)), ("b".into(), Avro::Long(-1))].into()));
    let entry = |key: i64, value: Avro| Avro::Record(vec![("key".into(), Avro::Long(key)), ("value".into(), value)]);
    assert_eq!(field(&fields, "v"), Avro::Array(vec![entry(3, position(0.0, 0.0)), entry(7, position(3.0, 0.0))]), "by key");
    assert_eq!(field(&fields, "w"), some(Avro::TimestampMicros(-1)), "nanoseconds are cut off");
    assert_eq!(field(&fields, "x"), some(Avro::Long(0)), "a wrapper that is there");
    assert_eq!(field(&fields, "y"), some(Avro::Record(vec![("seconds".into(), Avro::Long(5)), ("nanos".into(), Avro::Int(-1))])));
    assert_eq!((field(&fields, "name"), field(&fields, "place")), (none(), some(position(9.0, 0.0))));
    assert_eq!(field(&fields, "aa"), Avro::Array(vec![Avro::String("in".into()), Avro::String(String::new())]));
    assert_eq!(field(&fields, "bb"), Avro::Map([("s".into(), Avro::Enum(1, "STATE_UP".into()))].into()));
}

#[test]
fn presence_in_proto2_is_the_fields_own() {
    const TEXT: &str = r#"
        syntax = "proto2";
        message Old {
            required int32 id = 1;
            optional string note = 2;
            optional double limit = 3 [default = 39.5];
            optional Mood mood = 4 [default = CALM];
            optional group Extra = 5 { optional int32 n = 1; }
            enum Mood { option allow_alias = true; WILD = 1; CALM = 2; QUIET = 2; }
            extensions 100 to 199;
        }
        extend Old { optional int32 later = 100; }
    "#;

    let empty = fields(TEXT, "id: 1");
    let mut full = encoded(TEXT, r#"id: 1 note: "" limit: 1 mood: WILD Extra { n: 4 }"#);
    full.extend([0xa0, 0x06, 3]);
    let full = record(transcoded(&derived(TEXT), &full).expect("an extension is skipped"));

    assert_eq!((field(&empty, "note"), field(&full, "note")), (none(), some(Avro::String(String::new()))));
    assert_eq!((field(&empty, "limit"), field(&full, "limit")), (Avro::Double(39.5), Avro::Double(1.0)));
    assert_eq!((field(&empty, "mood"), field(&full, "mood")), (Avro::Enum(1, "CALM".into()), Avro::Enum(0, "WILD".into())));
    assert_eq!(field(&full, "extra"), some(Avro::Record(vec![("n".into(), some(Avro::Int(4)))])));
    assert_eq!(refused(TEXT, &[]), ("missing-field", "id".into()));
    let schema = serde_json::to_value(&derived(TEXT).schema).expect("JSON");
    assert_eq!(schema["fields"][2], json!({"name": "limit", "type": "double", "default": 39.5}));
    assert_eq!(schema["fields"][3]["default"], "CALM");
}

#[test]
fn occurrences_are_put_together_as_protobuf_does() {
    const TEXT: &str = r#"
        syntax = "proto3";
        message M {
            int32 last = 1; N merged = 2; repeated int32 list = 3; oneof one { N a = 4; N b = 5; } map<string, N> map = 6;
        }
        message N { int32 x = 1; int32 y = 2; }
    "#;
    let read = |body: &[u8]| record(transcoded(&derived(TEXT), body).expect("a message"));
    let n = |x: i32, y: i32| Avro::Record(vec![("x".into(), Avro::Int(x)), ("y".into(), Avro::Int(y))]);

    assert_eq!(field(&read(&[0x08, 1, 0x08, 2]), "last"), Avro::Int(2), "the last one counts");
    assert_eq!(field(&read(&[0x12, 2, 0x08, 1, 0x08, 9, 0x12, 2, 0x10, 2]), "merged"), some(n(1, 2)), "messages are merged");
    let list = Avro::Array([1, 2, 3, 4].map(Avro::Int).to_vec());
    assert_eq!(field(&read(&[0x18, 1, 0x1a, 2, 2, 3, 0x1a, 0, 0x18, 4]), "list"), list, "packed or not");
    let one = read(&[0x22, 2, 0x08, 1, 0x2a, 2, 0x08, 2, 0x22, 2, 0x10, 3, 0x22, 2, 0x08, 4]);
    assert_eq!((field(&one, "a"), field(&one, "b")), (some(n(4, 3)), none()), "a oneof begins anew with each member");
    let map = read(&[0x32, 7, 0x0a, 1, b'k', 0x12, 2, 0x08, 1, 0x32, 7, 0x0a, 1, b'k', 0x12, 2, 0x10, 2, 0x32, 0]);
    let expected = Avro::Map([("k".into(), n(0, 2)), (String::new(), n(0, 0))].into());
    assert_eq!(field(&map, "map"), expected, "the last entry of a key counts; an empty one is of the empty key");
    assert_eq!(field(&read(&[0x50, 1, 0x53, 0x58, 1, 0x54, 0x08, 7]), "last"), Avro::Int(7), "what nobody knows is skipped, groups too");
}

#[test]
fn what_is_no_such_message_is_refused_with_its_place() {
    const TEXT: &str = r#"
        syntax = "proto3";
        import "google/protobuf/timestamp.proto";
        message M { N n = 1; repeated uint64 list = 2; map<string, E> map = 3; string text = 4; google.protobuf.Timestamp at = 5; oneof o { N a = 6; int32 b = 7; } }
        message N { fixed32 f = 1; repeated N below = 2; }
        enum E { ZERO = 0; }
    "#;
    let deep = |levels: usize| {
        (0..levels).fold(Vec::new(), |inner, _| {
            let mut body = vec![0x12];
            prost_reflect::prost::encoding::encode_varint(inner.len() as u64, &mut body);
            [body, inner].concat()
        })
    };
    let in_n = |body: Vec<u8>| {
        let mut outer = vec![0x0a];
        prost_reflect::prost::encoding::encode_varint(body.len() as u64, &mut outer);
        [outer, body].concat()
    };
    let cases: [(&[u8], &str, &str); 17] = [
        (&[0x0a], "truncated", "n"),
        (&[0x0a, 3, 0x0d, 0, 0], "truncated", "n.f"),
        (&[0x0a, 2, 0x08, 1], "wrong-type", "n.f"),
        (&[0x08, 1], "wrong-type", "n"),
        (&[0x12, 2, 1, 0x80], "truncated", "list[1]"),
        (&[0x10, 1, 0x10, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01], "out-of-range", "list[1]"),
        (&[0x10, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02], "varint-overflow", "list"),
        (&[0x1a, 5, 0x0a, 1, b'k', 0x10, 5], "bad-enum-symbol", "map[0]"),
        (&[0x1a, 3, 0x0a, 1, 0xff], "invalid-utf8", "map.key"),
        (&[0x22, 1, 0xc3], "invalid-utf8", "text"),
        (&[0x22, 1, 0xc3, 0x22, 0], "invalid-utf8", "text"),
        (&[0x2a, 2, 0x10, 0xff], "truncated", "at.nanos"),
        (&[0x2a, 11, 0x10, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01], "out-of-range", "at"),
        (&[0x32, 1, 0x0d, 0x38, 1], "truncated", "a.f"),
        (&[0x00], "not-protobuf", ""),
        (&[0x54], "not-protobuf", ""),
        (&[0x53, 0x5c], "not-protobuf", ""),
    ];

    for (body, reason, path) in cases {
        assert_eq!(refused(TEXT, body), (reason, path.to_owned()), "{body:02x?}");
    }
    // Not through apache-avro, which needs more stack for this than a test has.
    let deepest = [vec![0], in_n(deep(30))].concat();
    assert_eq!(derived(TEXT).transcoder.transcode(&deepest, &mut Vec::new()), Ok(()));
    assert_eq!(refused(TEXT, &in_n(deep(32))).0, "too-deep");
    assert_eq!(refused(TEXT, &in_n(deep(4_000))).0, "too-deep");
    assert_eq!(refused(TEXT, &[0x53].repeat(200)).0, "too-deep", "groups that nobody knows");
}

#[test]
fn a_small_message_unfolds_to_no_large_datum() {
    let fields: String = (1..=900).map(|number| format!("int64 f{number} = {number};")).collect();
    let text = format!(
        "syntax = \"proto3\"; message M {{ repeated W list = 1; repeated E nothing = 2; }} message W {{ {fields} }} message E {{ }}"
    );

    assert!(transcoded(&derived(&text), &[0x0a, 0].repeat(50)).is_ok());
    assert_eq!(refused(&text, &[0x0a, 0].repeat(5_000)).0, "bad-length");
    assert_eq!(refused(&text, &[0x12, 0].repeat(5_000)).0, "too-many-items");
}

#[test]
fn imports_are_references_or_protobufs_own_and_nothing_else() {
    let main = r#"syntax = "proto3"; import "a.proto"; import "validate/validate.proto"; message M { a.A a = 1 [(validate.rules).x = 1]; d.D d = 2; }"#;
    let references = [
        ("a.proto", r#"syntax = "proto3"; package a; import public "b.proto"; message A { b.B b = 1; }"#),
        ("b.proto", r#"syntax = "proto3"; package b; import public "d.proto"; message B { }"#),
        ("d.proto", r#"syntax = "proto3"; package d; message D { int32 i = 1; }"#),
        ("unused.proto", "this is no Protobuf"),
        ("/etc/passwd", "never read"),
    ];

    let found = derived_with(main, &references).expect("public imports reach through");
    assert_eq!(found.schema.name().map(ToString::to_string), Some("M".into()));

    let missing =
        derived_with(r#"syntax = "proto3"; import "x.proto"; message M { x.X x = 1; }"#, &references).expect_err("no such import");
    assert_eq!(missing.to_string(), "not a usable Protobuf, at `M.x`: name 'x.X' is not defined; not among the references: x.proto");
    let file = derived_with(r#"syntax = "proto3"; import "/etc/passwd"; message M { }"#, &references).expect_err("not a relative name");
    assert!(file.to_string().contains("at `1:27`"), "{file}");
    let other = derived_with(r#"syntax = "proto3"; import "d.proto"; message M { D d = 1; }"#, &references).expect_err("another package");
    assert!(other.to_string().contains("`M.d`"), "{other}");
}

/// Numbers beyond what Avro has, in fields that the source has nothing to do with.
#[test]
fn what_nobody_reads_only_has_to_be_well_formed() {
    let text = r#"syntax = "proto3"; enum K { A = 0; B = 1; }
        message M { string dev_id = 1; fixed64 trace = 2; K kind = 3; repeated S list = 4; map<string, S> map = 5; M below = 6; }
        message S { uint64 big = 1; K kind = 2; }"#;
    let reads = |name: &str| matches!(name, "dev_id" | "below");
    let derived = |reads: &dyn Fn(&str) -> bool| {
        derive(text, &[], &SchemaLimits::default(), DatumLimits::default(), &|_| false, reads).expect("a schema")
    };
    let beyond = [0x11, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];
    let unknown = [0x18, 7];
    let item = [0x22, 11, 0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
    let whole = [&beyond[..], &unknown, &item].concat();

    for body in [&beyond[..], &unknown, &item] {
        assert!(transcoded(&derived(&|_| true), body).is_err(), "{body:02x?}");
    }
    let Ok(Avro::Record(fields)) = transcoded(&derived(&reads), &whole) else { panic!("nobody reads them") };
    assert_eq!(field(&fields, "trace"), Avro::Long(0));
    assert!(matches!(field(&fields, "list"), Avro::Array(items) if items.is_empty()));
    let below = [&[0x32, u8::try_from(beyond.len()).expect("short")][..], &beyond].concat();
    assert!(transcoded(&derived(&reads), &below).is_err(), "the same field, of a message that is read");
    assert!(transcoded(&derived(&reads), &[0x22, 2, 0x08]).is_err(), "a damaged one is no record");
}

#[test]
fn types_may_hold_themselves_and_be_used_again_with_or_without_package() {
    const TEXT: &str = r#"
        syntax = "proto3";
        import "google/protobuf/struct.proto";
        message Tree { repeated Tree below = 1; Leaf leaf = 2; google.protobuf.Struct more = 3; message Leaf { Tree up = 1; Kind kind = 2; } }
        enum Kind { ZERO = 0; }
    "#;

    let fields = fields(TEXT, r#"below { leaf { up { } } } more { fields { key: "k" value { number_value: 2 } } }"#);

    assert!(matches!(field(&fields, "below"), Avro::Array(items) if items.len() == 1));
    assert!(matches!(field(&fields, "more"), Avro::Union(1, _)));
    let schema = serde_json::to_string(&derived(TEXT).schema).expect("JSON");
    assert!(schema.contains("\"Tree_Leaf\"") && schema.contains("\"google.protobuf.Value\""), "{schema}");
    let same = [("a.proto", "syntax = \"proto3\"; package a; message Tree { }")];
    let fault = derived_with("syntax = \"proto3\"; import \"a.proto\"; message Tree { a.Tree t = 1; }", &same).expect_err("two of a name");
    assert!(fault.to_string().contains("at `a.Tree`: another type has the same name and no package"), "{fault}");
}

#[test]
fn schemas_that_are_none_are_refused_with_their_place() {
    let cases = [
        ("{\"type\": \"record\"}", "at `1:1`"),
        ("syntax = \"proto3\";\nmessage M { int32 a = 1; int32 b = 1; }", "at `M.b`: field number '1' is already used"),
        ("syntax = \"proto3\"; message M { Missing m = 1; }", "at `M.m`: name 'Missing' is not defined"),
        ("syntax = \"proto3\"; enum E { A = 0; }", "it has no message"),
        ("edition = \"2023\"; message M { }", "1:1"),
        ("syntax = \"proto3\"; message M { int32 ä = 1; }", "line 1`: byte 0xc3"),
        ("", "it has no message"),
    ];

    for (text, expected) in cases {
        let fault = derived_with(text, &[]).expect_err(text);
        assert!(fault.to_string().contains(expected), "{text}: {fault}");
    }
}

/// Built to hang a compiler, to overflow its stack or to fill memory: each is refused, or read, within a second.
#[test]
fn hostile_schemas_are_refused_at_once() {
    let nested = |levels: usize| format!("syntax = \"proto2\"; {}{}", "message M {".repeat(levels), "}".repeat(levels));
    let groups = |levels: usize| format!("message M {{ {}{} }}", "optional group G = 1 {".repeat(levels), "}".repeat(levels));
    let chain = |types: usize| {
        let messages = (0..types).map(|at| format!("message M{at} {{ M{} m = 1; }}\n", at + 1)).collect::<String>();
        format!("syntax = \"proto3\"; {messages} message M{types} {{ }}")
    };
    let wide = |fields: usize| {
        format!("syntax = \"proto3\"; message M {{ {} }}", (1..=fields).map(|at| format!("int32 f{at} = {at};")).collect::<String>())
    };
    let unknown = (1..=9_000).map(|at| format!("X f{at} = {at};")).collect::<String>();
    let cases = [
        ("nesting", nested(31), true),
        ("nesting", nested(32), false),
        ("nesting", nested(90_000), false),
        ("groups", groups(50_000), false),
        ("chain", chain(20), true),
        ("chain", chain(60), false),
        ("chain", chain(5_000), false),
        ("fields", wide(9_000), true),
        ("fields", wide(10_001), false),
        ("unknown types", format!("syntax = \"proto3\"; message M {{ {unknown} }}"), false),
        ("package", format!("package a{}; message M {{ }}", ".a".repeat(300)), false),
        ("name", format!("message {} {{ }}", "M".repeat(513)), false),
        ("junk", "@".repeat(1 << 20), false),
        ("keywords", "message ".repeat(100_000), false),
        ("option", format!("option (a) = {}{}; message M {{ }}", "{ a ".repeat(80_000), "}".repeat(80_000)), false),
        ("reserved", format!("message M {{ reserved {}1; }}", "1, ".repeat(200_000)), false),
        ("enum", format!("message M {{ enum E {{ {} }} }}", (0..20_000).map(|at| format!("V{at} = {at};")).collect::<String>()), false),
        ("comment", format!("/*{}", "*".repeat(1_000_000)), false),
        ("text", format!("option java_package = \"{}\"; message M {{ }}", "x".repeat(1_000_000)), true),
        ("size", " ".repeat((1 << 20) + 1), false),
    ];

    for (what, text, is_usable) in cases {
        let clock = SystemClock::shared();
        let begin = clock.monotonic();
        let outcome = derived_with(&text, &[]);
        assert!((clock.monotonic() - begin) < Duration::from_secs(5), "{what}: {:?}", (clock.monotonic() - begin));
        assert_eq!(outcome.is_ok(), is_usable, "{what}: {:?}", outcome.err());
    }
}

/// Each file imports two publicly, which import two …: followed once for every path, these are 2^31 look-ups.
#[test]
fn public_imports_cost_no_more_than_their_number() {
    let file = |level: usize, side: &str| {
        let imports = if level == 31 { String::new() } else { format!("import public \"a{0}\"; import public \"b{0}\";", level + 1) };
        (format!("{side}{level}"), format!("syntax = \"proto3\"; {imports} message {}{level} {{ }}", side.to_uppercase()))
    };
    let files: Vec<(String, String)> = (0..=31).flat_map(|level| [file(level, "a"), file(level, "b")]).collect();
    let references: Vec<(&str, &str)> = files.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
    let clock = SystemClock::shared();
    let begin = clock.monotonic();

    let found = derived_with("syntax = \"proto3\"; import \"a0\"; message M { B31 b = 1; }", &references);

    assert!(found.is_ok(), "{:?}", found.err());
    assert!((clock.monotonic() - begin) < Duration::from_secs(5), "{:?}", (clock.monotonic() - begin));
    let circle = [("x", "import public \"y\"; message X { }"), ("y", "import public \"x\"; message Y { }")];
    assert!(derived_with("import \"x\"; message M { optional Y y = 1; }", &circle).is_ok(), "a circle does no harm");
}
