//! Files with mistakes, and the text that their writers see.

use std::fs;
use std::path::PathBuf;

use super::*;
use crate::tenant::model::{CollectionOf, Emit};

pub(super) const ZOO: &str = include_str!("../../../tenants/zoo.toml");
pub(super) const ZOO_SCHEMA: &str = include_str!("../../../avro/stream-topic-1-value.avsc");

/// One small tenant over the schema `odd`.
const SMALL: &str = r#"tenant = "small"
[source.in]
topics = ["odd"]
key = "devId"
[mongo.all]
from = "in"
"#;

const ODD_SCHEMA: &str = r#"{"type": "record", "name": "Odd", "fields": [
    {"name": "devId", "type": "string"},
    {"name": "v", "type": ["null", "int", "string"]},
    {"name": "local", "type": {"type": "long", "logicalType": "local-timestamp-micros"}},
    {"name": "count_of", "type": "int"},
    {"name": "size", "type": "double"}
]}"#;

/// A folder with `tenants/` and `avro/`.
pub(super) struct Bench {
    folder: tempfile::TempDir,
    files: Vec<PathBuf>,
}

impl Bench {
    pub(super) fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for below in ["tenants", "avro"] {
            fs::create_dir(folder.path().join(below)).expect("a new folder");
        }
        let bench = Self { folder, files: Vec::new() };
        bench.schema("stream-topic-1", ZOO_SCHEMA);
        bench.schema("odd", ODD_SCHEMA);
        bench
    }

    pub(super) fn schema(&self, topic: &str, json: &str) {
        fs::write(self.folder.path().join(format!("avro/{topic}-value.avsc")), json).expect("a written file");
    }

    pub(super) fn with(mut self, name: &str, text: impl AsRef<[u8]>) -> Self {
        let file = self.folder.path().join("tenants").join(name);
        fs::write(&file, text).expect("a written file");
        self.files.push(file);
        self
    }

    pub(super) fn check(&self) -> Result<Checked, Faults> {
        self.check_over("")
    }

    fn check_over(&self, overrides: &str) -> Result<Checked, Faults> {
        tenants(&self.files, &overrides.parse().expect("overrides in TOML"))
    }

    fn plain(&self, text: String) -> String {
        text.replace(&format!("{}/", self.folder.path().display()), "")
    }

    pub(super) fn faults(&self) -> String {
        self.plain(self.check().expect_err("mistakes are found").to_string())
    }
}

pub(super) fn faults_of(text: &str) -> String {
    Bench::new().with("t.toml", text).faults()
}

/// The shipped file with something replaced.
pub(super) fn zoo(from: &str, to: &str) -> String {
    assert!(ZOO.contains(from), "{from}");
    ZOO.replace(from, to)
}

fn tenant_of(text: impl AsRef<[u8]>) -> Tenant {
    let checked = Bench::new().with("t.toml", text).check();
    checked.unwrap_or_else(|faults| panic!("{faults}")).tenants.remove(0)
}

#[test]
fn the_shipped_tenants_are_right() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tenants");
    let checked =
        tenants(&[folder.join("zoo.toml"), folder.join("machines.toml")], &toml::Table::new()).unwrap_or_else(|faults| panic!("{faults}"));

    assert_eq!(checked.warnings, []);
    let [zoo, machines] = checked.tenants.as_slice() else { panic!("two tenants") };
    assert_eq!(zoo.input_topics().map(AsRef::as_ref).collect::<Vec<&str>>(), ["stream-topic-1", "stream-topic-2"]);
    assert_eq!(zoo.database, "stream_zoo");
    let window = &zoo.windows[0];
    assert_eq!((window.size_us, window.grace_us, window.emit), (60_000_000, 60_000_000, Emit::Updates));
    let results: Vec<&str> = window.output.fields().iter().map(|field| field.name().as_str()).collect();
    assert_eq!(results, ["dev-id", "window_start", "window_end", "avg_temperature", "avg_acceleration", "total_records", "throughput"]);
    assert_eq!(zoo.collections.iter().map(|one| one.of).collect::<Vec<_>>(), [CollectionOf::Window(0), CollectionOf::Source(0)]);
    assert_eq!(machines.database, "maintenance");
    assert_eq!(machines.windows[0].by.iter().map(|column| column.name.as_str()).collect::<Vec<_>>(), ["plant", "machine"]);
    assert_eq!(machines.windows[0].emit, Emit::Final);
}

#[test]
fn a_mistyped_key_is_named_with_file_line_and_suggestion() {
    // C127
    assert_eq!(
        faults_of(&zoo("where = \"battery < 2000\"", "wher = \"battery < 2000\"")),
        "tenants/t.toml:18:1: alert.battery_low.wher: unknown key `wher`
  wher = \"battery < 2000\"
  ^^^^ did you mean `where`?"
    );
}

#[test]
fn an_unknown_column_is_underlined_inside_the_expression() {
    assert_eq!(
        faults_of(&zoo("battery < 2000", "temperature > 5 AND batery < 2000")),
        "tenants/t.toml:18:30: alert.battery_low.where: unknown column `batery`
  where = \"temperature > 5 AND batery < 2000\"
                               ^^^^^^ did you mean `battery`?"
    );
}

#[test]
#[expect(clippy::too_many_lines, reason = "one file and its whole report, word for word")]
fn every_mistake_of_a_file_is_reported_at_once() {
    let text = r#"tenant = "Zoo"
databse = "x"
[source.readings]
topics = ["stream-topic-1", "stream-topic-1", "b d"]
columns = { "dev-id" = "dev-id", "dev_id" = "time" }
partitioner = "murmur"
record_bytes_max = 5
max_future = "0s"
[alert.a]
from = "reading"
topic = 7
[window.w]
from = "readings"
over = { hopping = "1 minute" }
grace = 60
emit = "update"
topic = "stream-topic-1"
"#;
    assert_eq!(
        faults_of(text),
        r#"tenants/t.toml:1:10: tenant: `Zoo` is not a legal name: names here are of a to z, 0 to 9, `_` and `-`
  tenant = "Zoo"
           ^^^^^
tenants/t.toml:2:1: databse: unknown key `databse`
  databse = "x"
  ^^^^^^^ did you mean `database`?
tenants/t.toml:3:9: source.readings.key: `key` is missing: an expression that is each record's Kafka key
  [source.readings]
          ^^^^^^^^
tenants/t.toml:4:29: source.readings.topics: topic `stream-topic-1` is listed twice
  topics = ["stream-topic-1", "stream-topic-1", "b d"]
                              ^^^^^^^^^^^^^^^^
tenants/t.toml:4:47: source.readings.topics: `b d` is not a legal topic name: Kafka allows letters, digits, `.`, `_` and `-`
  topics = ["stream-topic-1", "stream-topic-1", "b d"]
                                                ^^^^^
tenants/t.toml:5:24: source.readings.columns.dev-id: the reader schema has no field `dev-id`
  columns = { "dev-id" = "dev-id", "dev_id" = "time" }
                         ^^^^^^^^ did you mean `dev_id`?
tenants/t.toml:5:34: source.readings.columns.dev_id: there is a column `dev_id` already
  columns = { "dev-id" = "dev-id", "dev_id" = "time" }
                                   ^^^^^^^^ rename one of them to something else
tenants/t.toml:6:15: source.readings.partitioner: `murmur` is none of murmur2, crc32, none
  partitioner = "murmur"
                ^^^^^^^^ did you mean `murmur2`?
tenants/t.toml:7:20: source.readings.record_bytes_max: must lie between 64 and 67108864 bytes, this is 5
  record_bytes_max = 5
                     ^
tenants/t.toml:8:14: source.readings.max_future: a duration of zero is no use here: it must be above zero
  max_future = "0s"
               ^^^^
tenants/t.toml:9:8: alert.a.where: `where` is missing: the condition that lets a record out
  [alert.a]
         ^
tenants/t.toml:10:8: alert.a.from: there is no source `reading`
  from = "reading"
         ^^^^^^^^^ did you mean `readings`?
tenants/t.toml:11:9: alert.a.topic: must be text in quotes, this is an integer
  topic = 7
          ^
tenants/t.toml:12:9: window.w.select: `select` is missing: what is computed for each window
  [window.w]
          ^
tenants/t.toml:12:9: window.w.by: `by` is missing: the window's key, which contains the source's key
  [window.w]
          ^
tenants/t.toml:14:10: window.w.over.hopping: hopping windows are not yet available
  over = { hopping = "1 minute" }
           ^^^^^^^ tumbling windows are: over = { tumbling = "1 minute" }
tenants/t.toml:15:9: window.w.grace: must be text in quotes, this is an integer
  grace = 60
          ^^
tenants/t.toml:16:8: window.w.emit: `update` is none of updates, final
  emit = "update"
         ^^^^^^^^ did you mean `updates`?
tenants/t.toml:17:9: window.w.topic: topic `stream-topic-1` is an input of source.readings: the tenant would feed itself
  topic = "stream-topic-1"
          ^^^^^^^^^^^^^^^^"#
    );
}

#[test]
fn a_byte_order_mark_and_windows_line_ends_do_no_harm() {
    // C125
    let text = format!("\u{feff}{}", SMALL.replace('\n', "\r\n"));
    assert_eq!(tenant_of(&text).version, tenant_of(SMALL).version);

    let wrong = format!("\u{feff}{}", SMALL.replace("tenant =", "tenat ="));
    assert!(faults_of(&wrong).starts_with("tenants/t.toml:1:1: tenat: unknown key `tenat`"));
}

#[test]
fn five_m_is_three_hundred_seconds() {
    // C131
    let tenant = tenant_of(zoo("grace = \"1 minute\"", "grace = \"5m\""));
    assert_eq!(tenant.windows[0].grace_us, 300_000_000);

    assert_eq!(
        faults_of(&zoo("grace = \"1 minute\"", "grace = \"5M\"")),
        "tenants/t.toml:27:9: window.zoo_analytics.grace: `M` has no fixed length: write days or weeks, and minutes are written `m`
  grace = \"5M\"
          ^^^^"
    );
}

#[test]
fn an_override_takes_effect_and_its_origin_is_shown() {
    // C129
    let bench = Bench::new().with("zoo.toml", ZOO);
    let checked = bench.check_over("[zoo.source.readings]\nmax_future = \"3 minutes\"").expect("a good override");
    assert_eq!(checked.tenants[0].sources[0].max_future.as_secs(), 180);
    assert_ne!(checked.tenants[0].version, tenant_of(ZOO).version);

    let faults =
        bench.check_over("[zoo.source.readings]\nmax_future = \"soon\"\n[zoo.source.reading]\nkey = \"x\"").expect_err("bad overrides");
    assert_eq!(
        bench.plain(faults.to_string()),
        r#"tenants/zoo.toml: source.reading (given from outside the file): the tenant file declares no `reading` here, and an override declares nothing new
  zoo.source.reading = { key = "x" }
                       ^^^^^^^^^^^^^ did you mean `readings`?
tenants/zoo.toml: source.readings.max_future (given from outside the file): `soon` is not a duration: write a number and a unit (ms, s, m, h, d and w), such as `90s` or `1 minute`
  zoo.source.readings.max_future = "soon"
                                   ^^^^^^"#
    );

    let warnings = bench.check_over("[zo]\ndatabase = \"x\"").expect("allowed").warnings;
    assert_eq!(
        warnings[0].to_string(),
        "overrides: there is no tenant `zo` among the files, so what is given for it does nothing\n  did you mean `zoo`?"
    );
}

#[test]
fn an_override_means_the_names_of_the_file_in_any_case_and_adds_none() {
    // C129
    let bench = Bench::new().with("zoo.toml", ZOO.replace("avg_temperature", "avgTemperature"));
    let select = |over: &str| bench.check_over(&format!("[zoo.window.zoo_analytics.select]\n{over}"));
    let of = |checked: Checked| {
        let window = &checked.tenants[0].windows[0];
        (window.select.len(), window.select[0].name.clone(), window.aggregates[0].sql.clone())
    };
    let (columns, name, _) = of(bench.check().expect("a good file"));

    let changed = of(select("avgtemperature = \"max(temperature)\"").expect("the file's column"));
    assert_eq!(changed, (columns, name.clone(), "max(temperature)".into()));
    let changed = of(select("avgTemperature = \"min(temperature)\"\navgtemperature = \"max(temperature)\"").expect("one column, twice"));
    assert_eq!(changed, (columns, name, "min(temperature)".into()), "as the file spells it");

    let faults = bench.plain(select("lowest = \"min(temperature)\"").expect_err("no column of the file").to_string());
    assert!(faults.contains("declares no `lowest` here, and an override declares nothing new"), "{faults}");

    bench.schema("one", ZOO_SCHEMA);
    let listed = bench.check_over("[zoo.source.readings]\ntopics = \"one, two\"").expect("items between commas");
    assert_eq!(listed.tenants[0].sources[0].topics.iter().map(|topic| &**topic).collect::<Vec<_>>(), ["one", "two"]);
}

#[test]
fn a_field_of_several_types_is_listed_and_refused_only_where_it_is_used() {
    // C35
    let bench = Bench::new().with("t.toml", SMALL);
    let checked = bench.check().expect("the job does not use it");
    assert_eq!(checked.warnings.len(), 1);
    assert_eq!(
        bench.plain(checked.warnings[0].to_string()),
        r#"tenants/t.toml:3:11: source.in.topics: field `v` gives no column: `v` is a union of several types (null, int, string), a column has one
  topics = ["odd"]
            ^^^^^"#
    );

    assert_eq!(
        faults_of(&format!("{SMALL}[alert.a]\nfrom = \"in\"\nwhere = \"size > 1 AND v > 1\"\ntopic = \"out\"\n")),
        r#"tenants/t.toml:9:23: alert.a.where: column `v` cannot be used: `v` is a union of several types (null, int, string), a column has one
  where = "size > 1 AND v > 1"
                        ^"#
    );
}

#[test]
fn a_timestamp_without_zone_needs_one_to_be_the_event_time() {
    // C13
    let text = SMALL.replace("key = \"devId\"", "key = \"devId\"\nevent_time = \"local\"");
    assert_eq!(
        faults_of(&text),
        "tenants/t.toml:5:14: source.in.event_time: the event time is a timestamp without zone, so it names no instant
  event_time = \"local\"
               ^^^^^^^ name its zone: local AT TIME ZONE 'UTC', or 'Europe/Helsinki'"
    );
    assert!(tenant_of(text.replace("\"local\"", "\"local AT TIME ZONE 'Europe/Helsinki'\"")).sources[0].event_time.is_some());
}

#[test]
fn mixed_case_columns_are_found_as_they_are_written() {
    // C135
    assert_eq!(tenant_of(SMALL).sources[0].key.columns(), ["devId"]);

    assert_eq!(
        faults_of(&SMALL.replace("key = \"devId\"", "key = \"devid\"")),
        r#"tenants/t.toml:4:8: source.in.key: unknown column `devid`
  key = "devid"
         ^^^^^ did you mean `"devId"`?"#
    );
}

#[test]
fn a_window_that_could_span_partitions_is_refused_with_the_remedy() {
    // KEY-1
    assert_eq!(
        faults_of(&zoo("by    = ['\"dev-id\"']", "by    = [\"battery\"]")),
        r#"tenants/t.toml:25:10: window.zoo_analytics.by: `by` does not contain the source's key "dev-id", so one window's records could lie in several partitions (KEY-1)
  by    = ["battery"]
           ^^^^^^^^^ add "dev-id" to it, or re-key the topics by battery and declare that as source.readings.key"#
    );
}

#[test]
fn names_of_results_hold_no_dot_and_no_dollar_and_stay_different_in_avro() {
    // C91
    let text = zoo(
        "total_records    = ",
        "\"avg.temp\" = \"avg(temperature)\"\n\"$avg\" = \"avg(temperature)\"\ndev_id = \"count(*)\"\nwindow = \"count(*)\"\ntotal_records = ",
    );
    assert_eq!(
        faults_of(&text),
        r#"tenants/t.toml:34:1: window.zoo_analytics.select."avg.temp": `avg.temp` holds a dot, which MongoDB takes for a path into a document
  "avg.temp" = "avg(temperature)"
  ^^^^^^^^^^
tenants/t.toml:35:1: window.zoo_analytics.select."$avg": `$avg` begins with a dollar, which MongoDB takes for an operator
  "$avg" = "avg(temperature)"
  ^^^^^^
tenants/t.toml:36:1: window.zoo_analytics.select.dev_id: `dev_id` and `dev-id` have one name in Avro, `dev_id`
  dev_id = "count(*)"
  ^^^^^^ choose another
tenants/t.toml:37:1: window.zoo_analytics.select.window: `window` is a name of the results' own
  window = "count(*)"
  ^^^^^^ choose another"#
    );
}

#[test]
fn a_key_must_be_text() {
    assert_eq!(
        faults_of(&SMALL.replace("\"devId\"", "\"count_of\"")),
        r#"tenants/t.toml:4:7: source.in.key: the key must be text, this is integer
  key = "count_of"
        ^^^^^^^^^^ write CAST(count_of AS VARCHAR), if that is what the records' Kafka keys hold"#
    );
}

#[test]
fn a_source_that_feeds_nothing_is_worth_a_warning() {
    let bench = Bench::new().with("t.toml", format!("{SMALL}[source.idle]\ntopics = [\"stream-topic-1\"]\nkey = \"dev_id\"\n"));
    let warnings = bench.check().expect("allowed").warnings;
    assert!(warnings.iter().any(|warning| warning.to_string().contains(":7:9: source.idle: source `idle` feeds nothing")), "{warnings:?}");
}

#[test]
fn a_division_that_drops_the_fraction_is_worth_a_warning_in_a_condition() {
    // C73
    let text = zoo("battery < 2000", "battery / 1000 < 2");
    let warnings = Bench::new().with("t.toml", text).check().expect("allowed").warnings;
    let [alert] = warnings.as_slice() else { panic!("{warnings:?}") };
    assert!(alert.to_string().contains("alert.battery_low.where: `battery / 1000` divides whole numbers"), "{alert}");

    let exact = Bench::new().with("t.toml", zoo("battery < 2000", "battery / 1000.0 < 2")).check().expect("allowed");
    assert_eq!(exact.warnings, []);
}

#[test]
fn a_logical_type_beside_the_type_is_worth_a_warning() {
    // C07: Java and apache-avro read the field as if it were not there.
    let bench = Bench::new().with("t.toml", SMALL);
    let double = r#""type": "double""#;
    bench.schema("odd", &ODD_SCHEMA.replace(double, r#""type": "long", "logicalType": "timestamp-millis""#));
    let warnings = bench.check().expect("allowed").warnings;
    let told = warnings.iter().map(ToString::to_string).find(|text| text.contains("logicalType")).expect("a warning");
    assert!(
        told.contains(r#"has its logicalType "timestamp-millis" beside its type, where it means nothing: write it as "type": {"#),
        "{told}"
    );

    bench.schema("odd", &ODD_SCHEMA.replace(double, r#""type": {"type": "long", "logicalType": "timestamp-millis"}"#));
    let warnings = bench.check().expect("allowed").warnings;
    assert!(!warnings.iter().any(|warning| warning.to_string().contains("logicalType")), "{warnings:?}");
}

#[test]
fn renames_are_of_fields_that_exist_to_names_that_do_not() {
    assert_eq!(
        faults_of(&SMALL.replace(
            "key =",
            "columns = { size = \"count_of\", w = \"v\", \"dev-id\" = \"devid\", count = \"number\", _time = \"local\" }\nkey ="
        )),
        r#"tenants/t.toml:4:13: source.in.columns.size: there is a column `size` already
  columns = { size = "count_of", w = "v", "dev-id" = "devid", count = "number", _time = "local" }
              ^^^^ rename one of them to something else
tenants/t.toml:4:36: source.in.columns.w: field `v` cannot be used: `v` is a union of several types (null, int, string), a column has one
  columns = { size = "count_of", w = "v", "dev-id" = "devid", count = "number", _time = "local" }
                                     ^^^
tenants/t.toml:4:52: source.in.columns.dev-id: the reader schema has no field `devid`
  columns = { size = "count_of", w = "v", "dev-id" = "devid", count = "number", _time = "local" }
                                                     ^^^^^^^ did you mean `devId`?
tenants/t.toml:4:69: source.in.columns.count: the reader schema has no field `number`
  columns = { size = "count_of", w = "v", "dev-id" = "devid", count = "number", _time = "local" }
                                                                      ^^^^^^^^
tenants/t.toml:4:79: source.in.columns._time: column `_time` has the name of a system column
  columns = { size = "count_of", w = "v", "dev-id" = "devid", count = "number", _time = "local" }
                                                                                ^^^^^ rename it: source.in.columns = { "…" = "local" }"#
    );
}

#[test]
fn the_version_changes_with_the_declaration_and_its_schemas_only() {
    let before = tenant_of(SMALL).version;

    assert_eq!(before.len(), 16);
    assert_eq!(tenant_of(format!("# a comment\n{SMALL}")).version, before);
    assert_ne!(tenant_of(SMALL.replace("[mongo.all]", "[mongo.every]")).version, before);
    let bench = Bench::new().with("t.toml", SMALL);
    bench.schema("odd", &ODD_SCHEMA.replace("\"double\"", "\"float\""));
    assert_ne!(bench.check().expect("still right").tenants[0].version, before);
}

#[test]
fn a_missing_schema_says_where_it_was_looked_for() {
    let faults = faults_of(&SMALL.replace("\"odd\"", "\"even\""));
    assert!(faults.contains("the reader schema cannot be read from tenants/../avro/even-value.avsc"), "{faults}");
    assert!(faults.contains("or say where it is: source.in.schema"), "{faults}");
}

#[test]
fn a_format_without_schemas_leaves_nothing_to_say_about_them() {
    let json = |more: &str| SMALL.replace("key =", &format!("format = \"json\"\n{more}key ="));

    let tenant = tenant_of(json(""));

    assert_eq!(tenant.sources[0].format, crate::tenant::Format::Json);
    assert_eq!(tenant.sources[0].subjects(), Vec::<String>::new());
    let faults = faults_of(&json("on_new_schema = \"hold\"\nsubject = \"record\"\n"));
    assert!(faults.contains("`on_new_schema` says something about registered schemas") && faults.contains("`subject` says"), "{faults}");
    let faults = faults_of(&SMALL.replace("key =", "format = \"jsn\"\nkey ="));
    assert!(faults.contains("`jsn` is none of avro, json-schema, protobuf, json"), "{faults}");
}
