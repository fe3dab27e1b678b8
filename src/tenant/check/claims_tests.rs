//! What belongs to one only: topics, collections, names; and the text that their writers see.

use super::super::tests::{Bench, ZOO, ZOO_SCHEMA, faults_of, zoo};

#[test]
fn topics_belong_to_one_and_never_feed_the_tenant_itself() {
    let text = zoo("topic = \"zoo-analytics\"", "topic = \"battery-alert-topic\"")
        .replace("topic = \"battery-alert-topic\"\n\n# Tort", "topic = \"stream-topic-2\"\n\n# Tort");
    let text = format!(
        "{text}[alert.again]\nfrom = \"readings\"\nwhere = \"true\"\ntopic = \"battery-alert-topic\"\n[alert.dots]\nfrom = \"readings\"\nwhere = \"true\"\ntopic = \"a.b_c\"\n[alert.spelt]\nfrom = \"readings\"\nwhere = \"true\"\ntopic = \"a_b.c\"\n[source.more]\ntopics = [\"stream-topic-1\"]\nkey = \"dev_id\"\n"
    );
    assert_eq!(
        faults_of(&text),
        r#"tenants/t.toml:19:9: alert.battery_low.topic: topic `stream-topic-2` is an input of source.readings: the tenant would feed itself
  topic = "stream-topic-2"
          ^^^^^^^^^^^^^^^^
tenants/t.toml:29:9: window.zoo_analytics.topic: topic `battery-alert-topic` would be the output of window.zoo_analytics, and it is the output of alert.again
  topic = "battery-alert-topic"
          ^^^^^^^^^^^^^^^^^^^^^
tenants/t.toml:55:9: alert.spelt.topic: topics `a_b.c` and `a.b_c` differ by `.` and `_` only, which Kafka refuses
  topic = "a_b.c"
          ^^^^^^^
tenants/t.toml:57:11: source.more.topics: topic `stream-topic-1` belongs to source.readings already: a topic has one source
  topics = ["stream-topic-1"]
            ^^^^^^^^^^^^^^^^"#
    );
}

#[test]
fn long_names_are_refused_before_the_broker_refuses_them() {
    let topic = "t".repeat(240);
    let bench = Bench::new();
    bench.schema(&topic, ZOO_SCHEMA);
    let faults = bench.with("t.toml", zoo("\"stream-topic-2\"", &format!("\"{topic}\""))).faults();
    assert!(
        faults.contains("window.zoo_analytics: the changelog of window.zoo_analytics: topic name of 268 characters: Kafka allows 249"),
        "{faults}"
    );
}

#[test]
fn tenants_that_are_loaded_together_share_nothing_that_they_write() {
    let other = ZOO.replace("tenant = \"zoo\"", "tenant = \"zoo2\"\ndatabase = \"stream_zoo\"");
    let bench = Bench::new().with("a.toml", ZOO).with("b.toml", &other).with("c.toml", ZOO);
    assert_eq!(
        bench.faults(),
        r#"tenants/b.toml:20:9: alert.battery_low.topic: topic `battery-alert-topic` would be the output of alert.battery_low, and it is the output of alert.battery_low in tenants/a.toml
  topic = "battery-alert-topic"
          ^^^^^^^^^^^^^^^^^^^^^
tenants/b.toml:30:9: window.zoo_analytics.topic: topic `zoo-analytics` would be the output of window.zoo_analytics, and it is the output of window.zoo_analytics in tenants/a.toml
  topic = "zoo-analytics"
          ^^^^^^^^^^^^^^^
tenants/b.toml:39:8: mongo.zoo_analytics: collection `zoo_analytics` of database `stream_zoo` is fed by tenant `zoo` (tenants/a.toml)
  [mongo.zoo_analytics]
         ^^^^^^^^^^^^^ give one of the tenants another database
tenants/b.toml:43:8: mongo.tortoise: collection `tortoise` of database `stream_zoo` is fed by tenant `zoo` (tenants/a.toml)
  [mongo.tortoise]
         ^^^^^^^^ give one of the tenants another database
tenants/c.toml:5:10: tenant: tenant `zoo` is also that of tenants/a.toml
  tenant = "zoo"
           ^^^^^"#
    );
}

#[test]
fn documents_have_room_for_their_own_fields() {
    let text = zoo("total_records    = ", "origin = ")
        .replace("columns     = { \"dev-id\" = \"dev_id\" }", "columns     = { \"dev-id\" = \"dev_id\", timestamp = \"time\" }");
    assert_eq!(
        faults_of(&text),
        r#"tenants/t.toml:34:1: window.zoo_analytics.select.origin: `origin` is a field of every document of mongo.zoo_analytics
  origin = "count(*)"
  ^^^^^^ choose another name
tenants/t.toml:42:8: mongo.tortoise: column `timestamp` has the name of a field of every document
  [mongo.tortoise]
         ^^^^^^^^ give the column another name in source.readings.columns"#
    );
}

/// Joined by hyphens, names of two tenants can be one: group `a-mongo-b` of tenant `a`'s collection `b`, and of a tenant `a-mongo-b`.
#[test]
fn names_that_become_one_when_they_are_joined_are_told_apart() {
    let of = |tenant: &str, collections: &str| {
        format!(
            "tenant = \"{tenant}\"\ndatabase = \"{tenant}\"\n[source.s]\ntopics = [\"stream-topic-1\"]\nkey = \"dev_id\"\n{collections}"
        )
    };
    let bench = Bench::new()
        .with("a.toml", of("a", "[mongo.b]\nfrom = \"s\"\n[mongo.b-mongo-c]\nfrom = \"s\"\n"))
        .with("b.toml", of("a-mongo-b", "[mongo.c]\nfrom = \"s\"\n"));
    assert_eq!(
        bench.faults(),
        r#"tenants/b.toml:1:10: tenant: `a-mongo-b` would be the consumer group of tenant `a-mongo-b`, and it is that of mongo.b of tenant `a` (tenants/a.toml)
  tenant = "a-mongo-b"
           ^^^^^^^^^^^ choose another name
tenants/b.toml:6:8: mongo.c: `a-mongo-b-mongo-c` would be the consumer group of mongo.c of tenant `a-mongo-b`, and it is that of mongo.b-mongo-c of tenant `a` (tenants/a.toml)
  [mongo.c]
         ^ choose another name"#
    );

    let aside = of("a", "[mongo.b]\nfrom = \"s\"\n[mongo.b_set_aside]\nfrom = \"s\"\n");
    let faults = Bench::new().with("a.toml", &aside).faults();
    assert!(faults.contains("collection `b_set_aside` of database `a` is where mongo.b keeps what has no document"), "{faults}");
}

#[test]
fn windows_finer_than_milliseconds_have_no_collection() {
    let faults = faults_of(&zoo("over  = { tumbling = \"1 minute\" }", "over  = { tumbling = \"1500 us\" }"));
    assert!(faults.contains("mongo.zoo_analytics.from: zoo_analytics has windows finer than a date in MongoDB"), "{faults}");
}
