//! Which message of a file a record is, told in front of the record or in a header.

use super::*;

#[test]
fn message_indexes_say_which_message_a_record_is() {
    const TEXT: &str = r#"
        syntax = "proto3";
        package farm;
        message Other { map<string, int32> m = 1; message Inner { int32 i = 1; } }
        message Reading { int32 id = 1; }
        message Third { }
    "#;
    let wants = |name: &'static str| {
        derive(TEXT, &[], &SchemaLimits::default(), DatumLimits::default(), &move |found: &str| found.ends_with(name), &|_| true)
            .expect("a schema")
    };
    let told = |derived: &Derived, value: &[u8]| derived.transcoder.transcode(value, &mut Vec::new()).map_err(|fault| fault.reason);
    let name = |derived: &Derived| derived.schema.name().map(ToString::to_string);

    let (first, reading, inner) = (wants("nothing"), wants("Reading"), wants("Inner"));

    assert_eq!(name(&first), Some("farm.Other".into()), "where none is wanted");
    assert_eq!(told(&first, &[0]), Ok(()));
    assert_eq!(told(&first, &[2, 0]), Ok(()), "the same, spelt out");
    assert_eq!(name(&reading), Some("farm.Reading".into()));
    assert_eq!(told(&reading, &[2, 2, 0x08, 7]), Ok(()));
    assert_eq!(told(&reading, &[0, 0x08, 7]), Err(OTHER_MESSAGE));
    assert_eq!(told(&reading, &[2, 4]), Err(OTHER_MESSAGE));
    assert_eq!(name(&inner), Some("farm.Other.Inner".into()));
    assert_eq!(told(&inner, &[4, 0, 0, 0x08, 7]), Ok(()), "entries of maps are not counted");
    assert_eq!(told(&wants("r"), &[4, 0, 0]), Err("wrong-message"), "wanted as well, but only one is read");
    for wrong in [&[][..], &[2], &[2, 8], &[1], &[2, 1], &[66], &[4, 2, 0], &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]] {
        let reason = told(&reading, wrong).expect_err("no message");
        assert!(matches!(reason, "not-protobuf" | "truncated"), "{wrong:?}: {reason}");
    }
}

#[test]
fn message_indexes_may_stand_in_a_header() {
    let text = "syntax = \"proto3\"; message A { int32 a = 1; } message B { int32 b = 1; }";
    let wants_b = |found: &str| found == "B";
    let derived = derive(text, &[], &SchemaLimits::default(), DatumLimits::default(), &wants_b, &|_| true).expect("a schema");
    let transcoded = |head: &[u8], body: &[u8]| {
        let mut datum = Vec::new();
        derived.transcoder.transcode_headed(head, body, &mut datum).map(|()| datum)
    };

    assert_eq!(transcoded(&[2, 2], &[0x08, 7]), Ok(vec![14]));
    assert_eq!(transcoded(&[2, 2], &[]), Ok(vec![0]), "all fields are absent");
    assert_eq!(transcoded(&[0], &[0x08, 7]).expect_err("the first message").reason, OTHER_MESSAGE);
    for (head, reason) in [(&[][..], "truncated"), (&[2], "truncated"), (&[2, 2, 0], "not-protobuf"), (&[66], "not-protobuf")] {
        let fault = transcoded(head, &[0x08, 7]).expect_err("no indexes");
        assert_eq!(fault.reason, reason, "{head:?}");
        assert!(fault.detail.contains("in the header __value_schema_id"), "{fault}");
    }
    assert_eq!(transcoded(&[2, 2], &[2, 2, 0x08, 7]).expect_err("the message begins at once").reason, "not-protobuf");
}
