//! Claims about compiling a schema.

use super::*;

fn shape(fields: &str) -> Result<Shape, Error> {
    Shape::of("t", &format!(r#"{{"type":"record","name":"R","namespace":"n","fields":[{fields}]}}"#), "id")
}

#[test]
fn the_key_must_be_a_text_field_of_the_schema() {
    let missing = shape(r#"{"name":"dev","type":"string"}"#).expect_err("no field id").to_string();
    let number = shape(r#"{"name":"id","type":"int"}"#).expect_err("id is a number").to_string();

    assert_eq!(missing, "cannot make up records for topic t: its schema has no key column id; it has dev");
    assert!(number.ends_with("key column id is not of type string"), "{number}");
}

#[test]
fn a_type_that_contains_itself_ends_in_null() {
    let list = r#"{"name":"next","type":["null",{"type":"record","name":"Link","fields":[
        {"name":"value","type":"int"},{"name":"next","type":["null","Link"]}]}]}"#;

    let shape = shape(&format!(r#"{{"name":"id","type":"string"}},{list}"#)).expect("compiles");

    let Maker::Union { branch: 1, maker, .. } = &shape.fields[1].maker else { panic!("a union") };
    let Maker::Record(fields) = &**maker else { panic!("a record") };
    assert_eq!(fields[1].1, Maker::Union { branch: 0, null: Some(0), maker: Box::new(Maker::Null) });
}

#[test]
fn a_type_defined_before_is_found_by_its_name() {
    let twice = r#"{"name":"a","type":{"type":"enum","name":"E","symbols":["X","Y"]}},{"name":"b","type":"E"}"#;

    let shape = shape(&format!(r#"{{"name":"id","type":"string"}},{twice}"#)).expect("compiles");

    assert_eq!(shape.fields[1].maker, shape.fields[2].maker);
}

#[test]
fn a_nullable_key_is_a_key() {
    let shape = shape(r#"{"name":"id","type":["null","string"]}"#).expect("compiles");

    assert!(shape.fields[0].maker.is_key());
}
