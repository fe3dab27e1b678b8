//! What owners read, word by word: one version of a subject after the other, judged for one small tenant.

use std::sync::Arc;

use super::*;
use crate::avro::SchemaId;
use crate::avro::registry::FetchedSchema;
use crate::tenant::check;

const READER: &str = r#"{"type":"record","name":"Reading","namespace":"zoo","fields":[
    {"name":"dev_id","type":"string"},
    {"name":"at","type":{"type":"long","logicalType":"timestamp-millis"}},
    {"name":"battery","type":["null","int"],"default":null},
    {"name":"temperature","type":"double"},
    {"name":"level","type":{"type":"enum","name":"Level","symbols":["OK","LOW"]}},
    {"name":"amount","type":{"type":"bytes","logicalType":"decimal","precision":8,"scale":2}},
    {"name":"tag","type":{"type":"fixed","name":"Tag","size":8}}]}"#;

const FILE: &str = r#"tenant = "zoo"

[source.readings]
topics = ["in"]
schema = "reading.avsc"
columns = { "dev-id" = "dev_id" }
key = '"dev-id"'
event_time = "at"
on_new_schema = "POLICY"

[alert.battery_low]
from = "readings"
where = "battery < 2000"
topic = "low"

[window.stats]
from = "readings"
where = "temperature > 20 AND level = 'LOW'"
by = ['"dev-id"']
over = { tumbling = "1 minute" }
grace = "1 minute"
topic = "stats"

[window.stats.select]
mean_temperature = "avg(temperature)"
lowest_battery = "min( battery )"
"#;

/// The message on a version whose schema is `json`, or never usable.
fn message_under(policy: &str, schema: Result<&str, &str>) -> String {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("zoo.toml");
    std::fs::write(folder.path().join("reading.avsc"), READER).expect("a writable folder");
    std::fs::write(&path, FILE.replace("POLICY", policy)).expect("a writable folder");
    let mut checked = check::tenants(&[path], &toml::Table::new()).unwrap_or_else(|faults| panic!("{faults}"));
    let tenant = Arc::new(checked.tenants.remove(0));
    let fetched = |json: &str| FetchedSchema::avro(SchemaId(9), json);
    let version = Version {
        subject: "in-value".into(),
        number: Some(3),
        id: Some(SchemaId(9)),
        is_deleted: false,
        schema: schema.map(fetched).map_err(str::to_owned),
    };
    let judgement = version.judge(&tenant, 0);
    let verdict = Verdict { source: &tenant.sources[0], version: &version, judgement: &judgement };
    let text = verdict.text(&mut Places::of(&tenant, &toml::Table::new()));
    text.replace(&format!("{}/", folder.path().display()), "")
}

fn message(json: &str) -> String {
    message_under("compatible", Ok(json))
}

/// The message on the reader schema with one change.
fn changed(from: &str, to: &str) -> String {
    assert!(READER.contains(from), "{from}");
    message(&READER.replace(from, to))
}

#[test]
fn a_schema_that_says_the_same_is_one_line() {
    insta::assert_snapshot!(message(READER), @r##"
    ✓ subject in-value, version 3 (id 9): read as it is written
    "##);
}

#[test]
fn another_type() {
    insta::assert_snapshot!(changed(r#"["null","int"]"#, r#"["null","string"]"#).replace("\"default\":null", ""), @r##"
    ✗ subject in-value, version 3 (id 9): cannot be read by source readings
        field `battery` cannot be read: it is written as string and read as int
          zoo.toml:13:10: alert.battery_low.where: needs `battery`
            where = "battery < 2000"
                     ^^^^^^^
          zoo.toml:26:24: window.stats.select.lowest_battery: needs `battery`
            lowest_battery = "min( battery )"
                                   ^^^^^^^
          to do: declare `battery` in reading.avsc as it is written and convert it in SQL, or have the producers register another version
        read instead: nothing; each of its records becomes a dead letter `schema-refused`
    "##);
}

#[test]
fn a_field_that_is_gone_and_has_no_default() {
    insta::assert_snapshot!(changed(r#"{"name":"dev_id","type":"string"},"#, ""), @r##"
    ✗ subject in-value, version 3 (id 9): cannot be read by source readings
        field `dev_id` (column `dev-id`) cannot be read: the writer schema has no such field and the reader schema gives no default
          zoo.toml:7:8: source.readings.key: needs `dev-id`
            key = '"dev-id"'
                   ^^^^^^^^
          zoo.toml:19:8: window.stats.by: needs `dev-id`
            by = ['"dev-id"']
                   ^^^^^^^^
          to do: in reading.avsc, add a default, or an alias if it was renamed
        read instead: nothing; each of its records becomes a dead letter `schema-refused`
    "##);
}

#[test]
fn a_field_that_was_renamed_without_the_readers_knowing() {
    insta::assert_snapshot!(changed(r#""temperature""#, r#""temperature_c""#), @r##"
    ✗ subject in-value, version 3 (id 9): cannot be read by source readings
        field `temperature` cannot be read: the writer schema has no such field and the reader schema gives no default
          zoo.toml:18:10: window.stats.where: needs `temperature`
            where = "temperature > 20 AND level = 'LOW'"
                     ^^^^^^^^^^^
          zoo.toml:25:25: window.stats.select.mean_temperature: needs `temperature`
            mean_temperature = "avg(temperature)"
                                    ^^^^^^^^^^^
          to do: if `temperature` was renamed to `temperature_c`: give it "aliases": ["temperature_c"] in reading.avsc; else give it a default there
        read instead: nothing; each of its records becomes a dead letter `schema-refused`
    "##);
}

#[test]
fn null_where_the_reader_has_none() {
    insta::assert_snapshot!(changed(r#""name":"temperature","type":"double""#, r#""name":"temperature","type":"null""#), @r##"
    ✗ subject in-value, version 3 (id 9): cannot be read by source readings
        field `temperature` cannot be read: it is written as null, and the reader schema has no null here
          zoo.toml:18:10: window.stats.where: needs `temperature`
            where = "temperature > 20 AND level = 'LOW'"
                     ^^^^^^^^^^^
          zoo.toml:25:25: window.stats.select.mean_temperature: needs `temperature`
            mean_temperature = "avg(temperature)"
                                    ^^^^^^^^^^^
          to do: in reading.avsc, make it a union with null
        read instead: nothing; each of its records becomes a dead letter `schema-refused`
    "##);
}

#[test]
fn another_meaning_of_the_same_number() {
    insta::assert_snapshot!(changed("timestamp-millis", "timestamp-micros"), @r##"
    ✗ subject in-value, version 3 (id 9): cannot be read by source readings
        field `at` cannot be read: it is written as timestamp-micros and read as timestamp-millis
          zoo.toml:8:15: source.readings.event_time: needs `at`
            event_time = "at"
                          ^^
          to do: in reading.avsc, declare it as timestamp-micros and convert in SQL
        read instead: nothing; each of its records becomes a dead letter `schema-refused`
    "##);
}

#[test]
fn another_scale() {
    insta::assert_snapshot!(changed(r#""scale":2"#, r#""scale":3"#), @r##"
    ✗ subject in-value, version 3 (id 9): cannot be read by source readings
        field `amount` cannot be read: it is written as decimal(8, 3) and read as decimal(8, 2)
          to do: in reading.avsc, declare it as decimal(8, 3) and convert in SQL
        read instead: nothing; each of its records becomes a dead letter `schema-refused`
    "##);
}

#[test]
fn an_enum_with_nothing_in_common() {
    insta::assert_snapshot!(changed(r#"["OK","LOW"]"#, r#"["GOOD","BAD"]"#), @r##"
    ✗ subject in-value, version 3 (id 9): cannot be read by source readings
        field `level` cannot be read: writer and reader have no enum symbol in common
          zoo.toml:18:31: window.stats.where: needs `level`
            where = "temperature > 20 AND level = 'LOW'"
                                          ^^^^^
          to do: in reading.avsc, give the reader's enum a default
        read instead: nothing; each of its records becomes a dead letter `schema-refused`
    "##);
}

#[test]
fn another_size() {
    insta::assert_snapshot!(changed(r#""size":8"#, r#""size":16"#), @r##"
    ✗ subject in-value, version 3 (id 9): cannot be read by source readings
        field `tag` cannot be read: it is written as 16 bytes and read as 8 bytes
          to do: declare `tag` in reading.avsc as it is written and convert it in SQL, or have the producers register another version
        read instead: nothing; each of its records becomes a dead letter `schema-refused`
    "##);
}

#[test]
fn a_record_of_another_name() {
    insta::assert_snapshot!(changed(r#""name":"Reading""#, r#""name":"Feeding""#), @r##"
    ✗ subject in-value, version 3 (id 9): cannot be read by source readings
        field `Reading` cannot be read: it is written as `Feeding` and read as `Reading`
          to do: in reading.avsc, give the reader's type the writer's name as an alias
        read instead: nothing; each of its records becomes a dead letter `schema-refused`
    "##);
}

#[test]
fn a_schema_that_nests_too_deep() {
    let deep = format!(r#"{}"string"{}"#, r#"{"type":"array","items":"#.repeat(200), "}".repeat(200));
    insta::assert_snapshot!(changed(r#""fields":["#, &format!(r#""fields":[{{"name":"deep","type":{deep}}},"#)), @r##"
    ✗ subject in-value, version 3 (id 9): cannot be read by source readings
        the schema has 203 levels (too much from byte 2316 on, in `deep`), the bound is 96
          to do: split it or drop what is not needed
        read instead: nothing; each of its records becomes a dead letter `schema-refused`
    "##);
}

#[test]
fn a_schema_that_is_no_record() {
    insta::assert_snapshot!(message(r#""string""#), @r##"
    ✗ subject in-value, version 3 (id 9): cannot be read by source readings
        not a usable Avro schema: a record is needed at the top, this is string
          to do: have the producers register another schema
        read instead: nothing; each of its records becomes a dead letter `schema-refused`
    "##);
}

#[test]
fn a_type_that_contains_itself_where_a_text_is_read() {
    let list = r#""name":"dev_id","type":{"type":"record","name":"Node","fields":[{"name":"next","type":["null","Node"]}]}"#;
    insta::assert_snapshot!(changed(r#""name":"dev_id","type":"string""#, list), @r##"
    ✗ subject in-value, version 3 (id 9): cannot be read by source readings
        field `dev_id` (column `dev-id`) cannot be read: it is written as `Node` and read as string
          zoo.toml:7:8: source.readings.key: needs `dev-id`
            key = '"dev-id"'
                   ^^^^^^^^
          zoo.toml:19:8: window.stats.by: needs `dev-id`
            by = ['"dev-id"']
                   ^^^^^^^^
          to do: declare `dev_id` in reading.avsc as it is written and convert it in SQL, or have the producers register another version
        read instead: nothing; each of its records becomes a dead letter `schema-refused`
    "##);
}

#[test]
fn something_else_than_avro() {
    insta::assert_snapshot!(message_under("compatible", Err("schema 9 is of type Protobuf, not Avro")), @r##"
    ✗ subject in-value, version 3 (id 9): cannot be read by source readings
        schema 9 is of type Protobuf, not Avro
          to do: have the producers register another schema
        read instead: nothing; each of its records becomes a dead letter `schema-refused`
    "##);
}

#[test]
fn a_schema_that_cannot_be_read_under_hold() {
    insta::assert_snapshot!(message_under("hold", Ok(&READER.replace(r#""size":8"#, r#""size":16"#))), @r##"
    ✗ subject in-value, version 3 (id 9): cannot be read by source readings
        field `tag` cannot be read: it is written as 16 bytes and read as 8 bytes
          to do: declare `tag` in reading.avsc as it is written and convert it in SQL, or have the producers register another version
        read instead: nothing; the partitions with its records wait (on_new_schema = "hold") until `testudo schema refuse 9`, or until it can be read
    "##);
}

#[test]
fn a_default_in_place_of_a_field_that_was_probably_renamed() {
    insta::assert_snapshot!(changed(r#""name":"battery""#, r#""name":"battery_mv""#), @r##"
    ~ subject in-value, version 3 (id 9): can be read, but not everything as it is written
        field `battery` is not written: every row would hold the reader's default, null
          zoo.toml:13:10: alert.battery_low.where: sees `battery`
            where = "battery < 2000"
                     ^^^^^^^
          zoo.toml:26:24: window.stats.select.lowest_battery: sees `battery`
            lowest_battery = "min( battery )"
                                   ^^^^^^^
          was it renamed to `battery_mv`? then give `battery` "aliases": ["battery_mv"] in reading.avsc, and its values are read
        field `battery_mv` is written as null or int and not read: the reader schema has no such field
    "##);
}

#[test]
fn a_promotion_and_a_field_that_is_not_read() {
    insta::assert_snapshot!(changed(r#""name":"temperature","type":"double"}"#, r#""name":"temperature","type":"float"},{"name":"note","type":"string"}"#), @r##"
    ~ subject in-value, version 3 (id 9): can be read, but not everything as it is written
        field `temperature` is written as float and read as double
          zoo.toml:18:10: window.stats.where: sees `temperature`
            where = "temperature > 20 AND level = 'LOW'"
                     ^^^^^^^^^^^
          zoo.toml:25:25: window.stats.select.mean_temperature: sees `temperature`
            mean_temperature = "avg(temperature)"
                                    ^^^^^^^^^^^
        field `note` is written as string and not read: the reader schema has no such field
    "##);
}

#[test]
fn values_that_are_refused_one_by_one() {
    insta::assert_snapshot!(changed(r#"["null","int"]"#, r#"["null","int","string"]"#), @r##"
    ~ subject in-value, version 3 (id 9): can be read, but not everything as it is written
        field `battery` is written as null or int or string and read as null or int
          zoo.toml:13:10: alert.battery_low.where: sees `battery`
            where = "battery < 2000"
                     ^^^^^^^
          zoo.toml:26:24: window.stats.select.lowest_battery: sees `battery`
            lowest_battery = "min( battery )"
                                   ^^^^^^^
        field `battery` has values that would be refused one by one: `battery`, branch 2 of the writer's union: it is written as string and read as int
    "##);
}

#[test]
fn a_symbol_that_the_reader_does_not_know() {
    insta::assert_snapshot!(changed(r#"["OK","LOW"]"#, r#"["OK","LOW","CRIT"]"#), @r##"
    ~ subject in-value, version 3 (id 9): can be read, but not everything as it is written
        field `level` has values that would be refused one by one: `level`, symbols CRIT: the reader's enum has neither them nor a default
          zoo.toml:18:31: window.stats.where: sees `level`
            where = "temperature > 20 AND level = 'LOW'"
                                          ^^^^^
    "##);
}
