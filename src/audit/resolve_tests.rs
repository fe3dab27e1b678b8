use super::*;

fn record(field: &str) -> Shape {
    Shape::parse(&format!(r#"{{"type": "record", "name": "R", "fields": [{{"name": "id", "type": "int"}}{field}]}}"#), &[])
        .expect("a schema")
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
    assert_eq!(signed(&[0xff; 20]), Some(-1));
    assert_eq!(signed(&[0x7f; 17]), None);
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
