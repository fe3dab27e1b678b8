use super::*;

fn record(field: &str) -> Shape {
    Shape::parse(&format!(r#"{{"type": "record", "name": "R", "fields": [{{"name": "id", "type": "int"}}{field}]}}"#)).expect("a schema")
}

/// Field `v` of a datum written with `writer` and read with `reader`.
fn read(writer: &str, bytes: &[u8], reader: &str) -> Result<Value, Unresolvable> {
    let (writer, reader) = (record(writer), record(reader));
    let datum = writer.read(&[&[2], bytes].concat()).expect("a datum");
    let fields = resolve_record(&datum, &writer, &reader)?;
    Ok(fields.into_iter().find(|(name, _)| &**name == "v").expect("field v").1)
}

#[test]
fn a_symbol_that_the_reader_lacks_becomes_its_default() {
    let writer = r#", {"name": "v", "type": {"type": "enum", "name": "E", "symbols": ["OK", "LOW", "CRIT"]}}"#;
    let with_default =
        r#", {"name": "v", "type": {"type": "enum", "name": "E", "symbols": ["OK", "LOW", "UNKNOWN"], "default": "UNKNOWN"}}"#;
    let without = r#", {"name": "v", "type": {"type": "enum", "name": "E", "symbols": ["OK", "LOW"]}}"#;

    assert_eq!(read(writer, &[4], with_default), Ok(Value::text("UNKNOWN")), "C03");
    assert!(read(writer, &[4], without).is_err());
}

#[test]
fn defaults_are_what_they_say() {
    let flag = r#", {"name": "v", "type": "bytes", "default": "\u00FF"}"#;
    let note = r#", {"name": "v", "type": ["string", "null"], "default": "null"}"#;

    assert_eq!(read("", &[], flag), Ok(Value::Bytes([0xff].as_slice().into())), "C05");
    assert_eq!(read("", &[], note), Ok(Value::text("null")), "C09");
}

#[test]
fn a_short_negative_decimal_is_negative() {
    let decimal = r#", {"name": "v", "type": {"type": "bytes", "logicalType": "decimal", "precision": 10, "scale": 2}}"#;

    assert_eq!(read(decimal, &[2, 0xff], decimal), Ok(Value::Decimal { unscaled: -1, scale: 2 }), "C07");
}

#[test]
fn numbers_widen_inside_a_union() {
    let writer = r#", {"name": "v", "type": ["null", "int"]}"#;
    let reader = r#", {"name": "v", "type": ["null", "double"]}"#;

    assert_eq!(read(writer, &[2, 0xa8, 0x2d], reader), Ok(Value::Double(2900.0)), "C33");
    assert_eq!(read(writer, &[0], reader), Ok(Value::Null));
}

#[test]
fn items_of_an_array_may_become_nullable() {
    let writer = r#", {"name": "v", "type": {"type": "array", "items": "int"}}"#;
    let reader = r#", {"name": "v", "type": {"type": "array", "items": ["null", "int"]}}"#;

    assert_eq!(read(writer, &[4, 14, 16, 0], reader), Ok(Value::List(vec![Value::Int(7), Value::Int(8)])), "C01");
}

#[test]
fn fields_are_found_by_alias_and_dropped_when_not_wanted() {
    let writer = r#", {"name": "old", "type": "int"}, {"name": "more", "type": "string"}"#;
    let reader = r#", {"name": "v", "aliases": ["old"], "type": "long"}"#;

    assert_eq!(read(writer, &[14, 2, b'x'], reader), Ok(Value::Long(7)));
}

/// The engine lets a writer's field feed one column (docs/adr/0009): names go before aliases, and aliases in the reader's order.
#[test]
fn a_field_is_fed_by_name_first_and_no_field_feeds_two() {
    let two = r#", {"name": "a", "type": "int"}, {"name": "b", "type": "int"}"#;
    let field = |name: &str, aliases: &str| format!(r#", {{"name": "{name}", "aliases": [{aliases}], "type": "int", "default": 3}}"#);

    assert_eq!(read(two, &[14, 16], &field("v", r#""b", "a""#)), Ok(Value::Int(8)), "the reader's order");
    let taken_by_name = [field("a", ""), field("v", r#""a""#)].concat();
    assert_eq!(read(two, &[14, 16], &taken_by_name), Ok(Value::Int(3)));
    let taken_by_alias = [field("w", r#""a""#), field("v", r#""a", "b""#)].concat();
    assert_eq!(read(two, &[14, 16], &taken_by_alias), Ok(Value::Int(8)));
    let none_is_left = [field("w", r#""a""#), field("v", r#""a""#)].concat();
    assert_eq!(read(two, &[14, 16], &none_is_left), Ok(Value::Int(3)));
}

#[test]
fn a_uuid_stays_as_it_was_written() {
    let typed = |of: &str| format!(r#", {{"name": "v", "type": {of}}}"#);
    let uuid = |of: &str| typed(&format!(r#"{{"type": "{of}", "logicalType": "uuid"}}"#));
    let fixed = typed(r#"{"type": "fixed", "name": "F", "size": 16, "logicalType": "uuid"}"#);
    let hyphenated = "550E8400-E29B-41D4-A716-446655440000";
    let spellings = [
        hyphenated.to_owned(),
        hyphenated.to_lowercase(),
        hyphenated.replace('-', ""),
        format!("{{{hyphenated}}}"),
        format!("urn:uuid:{hyphenated}"),
    ];
    for text in spellings {
        let bytes = [[2 * text.len() as u8].as_slice(), text.as_bytes()].concat();
        for writer in [typed(r#""string""#), typed(r#""bytes""#), uuid("string"), uuid("bytes")] {
            for reader in [uuid("string"), uuid("bytes"), fixed.clone()] {
                assert_eq!(read(&writer, &bytes, &reader), Ok(Value::text(&text)), "{writer} as {reader}");
            }
        }
    }
    let sixteen = [0x55, 0x0e, 0x84, 0x00, 0xe2, 0x9b, 0x41, 0xd4, 0xa7, 0x16, 0x44, 0x66, 0x55, 0x44, 0x00, 0x00];
    for reader in [uuid("string"), uuid("bytes"), fixed.clone()] {
        assert_eq!(read(&fixed, &sixteen, &reader), Ok(Value::text(&hyphenated.to_lowercase())), "{reader}");
    }
    assert!(read(&typed(r#""string""#), &[4, b'n', b'o'], &uuid("string")).is_err());
    assert!(read(&typed(r#""bytes""#), &[4, 0xff, 0xff], &uuid("string")).is_err());
}

/// Siblings of C07.
#[test]
fn a_decimal_has_its_precision_of_digits_and_is_no_text() {
    let decimal = |precision: u8| {
        format!(r#", {{"name": "v", "type": {{"type": "bytes", "logicalType": "decimal", "precision": {precision}, "scale": 2}}}}"#)
    };
    // -2^136 in 18 bytes, a number of 41 digits.
    let wide = [[36_u8, 0xff].as_slice(), &[0; 17]].concat();
    let expected = Value::WideDecimal { unscaled: "-87112285931760246646623899502532662132736".into(), scale: 2 };

    assert_eq!(read(&decimal(41), &wide, &decimal(41)), Ok(expected));
    assert!(read(&decimal(40), &wide, &decimal(40)).is_err());
    assert_eq!(read(&decimal(41), &[2, 99], &decimal(41)), Ok(Value::Decimal { unscaled: 99, scale: 2 }));
    assert!(read(&decimal(2), &[2, 100], &decimal(2)).is_err());
    let (text, bytes) = (r#", {"name": "v", "type": "string"}"#, r#", {"name": "v", "type": "bytes"}"#);
    assert!(read(text, &[2, b'1'], &decimal(2)).is_err());
    assert!(read(&decimal(2), &[2, b'1'], text).is_err());
    assert_eq!(read(bytes, &[2, b'1'], &decimal(2)), Ok(Value::Decimal { unscaled: 49, scale: 2 }));
    assert_eq!(read(&decimal(2), &[2, b'1'], bytes), Ok(Value::Bytes([b'1'].as_slice().into())));
}

#[test]
fn a_branch_that_the_schemas_rule_out_is_ruled_out_for_all_its_values() {
    let record = |names: &str, of: &str| format!(r#"{{"type": "record", {names}, "fields": [{{"name": "x", "type": {of}}}]}}"#);
    let (a, b) = (record(r#""name": "A""#, r#""int""#), record(r#""name": "B""#, r#"["null", "string"]"#));
    let writer = format!(r#", {{"name": "v", "type": [{a}, {b}]}}"#);
    let reader = format!(r#", {{"name": "v", "type": {}}}"#, record(r#""name": "A", "aliases": ["B"]"#, r#"["null", "int"]"#));

    assert_eq!(read(&writer, &[0, 14], &reader), Ok(Value::Record(vec![("x".into(), Value::Int(7))])));
    assert!(read(&writer, &[2, 0], &reader).is_err(), "null could be read, B's text could not");
}

/// Siblings of C05 and C09: JSON has no word for some floats, and a default has to be one of its type.
#[test]
fn defaults_are_those_that_the_engine_takes() {
    let with = |of: &str, default: &str| read("", &[], &format!(r#", {{"name": "v", "type": {of}, "default": {default}}}"#));
    let fixed = |of: &str| format!(r#"{{"type": "fixed", "name": "F", {of}}}"#);
    let symbols = r#"{"type": "enum", "name": "E", "symbols": ["OK", "LOW"], "default": "OK"}"#;

    assert!(matches!(with(r#""double""#, r#""NaN""#), Ok(Value::Double(number)) if number.is_nan()));
    assert_eq!(with(r#""float""#, r#""INF""#), Ok(Value::Float(f32::INFINITY)));
    assert_eq!(with(r#"["null", "double"]"#, r#""-Infinity""#), Ok(Value::Double(f64::NEG_INFINITY)));
    assert_eq!(with(symbols, r#""LOW""#), Ok(Value::text("LOW")));
    assert!(with(symbols, r#""CRIT""#).is_err(), "the enum's default is no field's");
    let decimal = fixed(r#""size": 2, "logicalType": "decimal", "precision": 4, "scale": 2"#);
    assert_eq!(with(&decimal, r#""\u0000\u0001""#), Ok(Value::Decimal { unscaled: 1, scale: 2 }));
    assert!(with(&decimal, r#""\u0001""#).is_err(), "one byte of two");
    assert!(with(&fixed(r#""size": 2"#), r#""\u0001""#).is_err());
}
