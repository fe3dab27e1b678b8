//! Claims about replaying a CSV file.

use std::fs;
use std::path::Path;

use apache_avro::types::Value;

use super::*;

const SCHEMA: &str = r#"{"type":"record","name":"Reading","fields":[
    {"name":"dev_id","type":"string"},
    {"name":"time","type":"long"},
    {"name":"readable_time","type":{"type":"long","logicalType":"timestamp-micros"}},
    {"name":"battery","type":"int"},
    {"name":"temperature","type":["null","double"],"default":null},
    {"name":"site","type":"string","default":"Korkeasaari"}]}"#;

fn shape() -> Shape {
    Shape::of("t", SCHEMA, "dev_id").expect("a good schema")
}

fn settings(file: &Path) -> CsvSettings {
    CsvSettings { file: file.into(), device: "C2:9A:9F:E5:58:27".into(), is_repeated: false, keeps_times: false }
}

fn sample() -> CsvSettings {
    settings(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tenants/zoo-sample.csv"))
}

fn read_all(settings: CsvSettings, base_us: Option<i64>, most: usize) -> Result<Vec<Reading>, Error> {
    let shape = shape();
    let mut replay = CsvReplay::open(settings, &shape, base_us)?;
    let mut readings = Vec::new();
    while readings.len() < most {
        let mut reading = Reading { key: String::new(), time_us: 0, record: shape.blank() };
        if !replay.read(&shape, &mut reading)? {
            break;
        }
        readings.push(reading);
    }
    Ok(readings)
}

fn written(text: &str) -> (tempfile::TempDir, CsvSettings) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("rows.csv");
    fs::write(&file, text).expect("writes");
    let settings = settings(&file);
    (folder, settings)
}

#[test]
fn columns_are_found_by_header_and_hyphens_become_underscores() {
    let readings = read_all(sample(), None, 100).expect("the shipped sample reads");

    assert_eq!(readings.len(), 10);
    assert_eq!(readings[0].key, "C2:9A:9F:E5:58:27");
    assert_eq!(readings[0].time_us, 1_540_080_018_884_000);
    let values: Vec<&Value> = readings[1].record.iter().map(|(_, value)| value).collect();
    assert_eq!(
        values,
        [
            &Value::String("D1:06:30:14:F3:75".into()),
            &Value::Long(1_540_080_024_083),
            &Value::TimestampMicros(1_540_080_024_082_999),
            &Value::Int(2959),
            &Value::Union(1, Box::new(Value::Double(27.41))),
            &Value::String("Korkeasaari".into()),
        ]
    );
}

#[test]
fn all_times_move_together() {
    let readings = read_all(sample(), Some(1_000_000), 2).expect("reads");

    assert_eq!(readings[0].time_us, 1_000_000);
    assert_eq!(readings[1].record[1].1, Value::Long(1_000 + 5_199));
    assert_eq!(readings[1].record[2].1, Value::TimestampMicros(1_000_000 + 5_198_999));
}

#[test]
fn kept_times_do_not_move_and_their_span_is_known() {
    let kept = CsvSettings { keeps_times: true, ..sample() };

    let readings = read_all(kept, Some(0), 1).expect("reads");

    assert_eq!(readings[0].time_us, 1_540_080_018_884_000);
    assert_eq!(CsvReplay::span_us(&sample(), &shape()).ok(), Some(45_939_000));
}

#[test]
fn a_repeated_file_goes_on_where_it_ended() {
    let (_folder, settings) = written("time,readable_time,battery\n1000,1000000,1\n1010,1010000,2\n");

    let readings = read_all(CsvSettings { is_repeated: true, ..settings }, None, 5).expect("reads");

    let times: Vec<i64> = readings.iter().map(|reading| reading.time_us / 1_000).collect();
    assert_eq!(times, [1000, 1010, 1020, 1030, 1040]);
}

#[test]
fn a_file_without_the_key_column_is_of_the_declared_device() {
    let (_folder, settings) = written("time,readable_time,battery,temperature\n1000,1000000,2900,\n");

    let readings = read_all(settings, None, 5).expect("reads");

    assert_eq!(readings[0].key, "C2:9A:9F:E5:58:27");
    assert_eq!(readings[0].record[0].1, Value::String("C2:9A:9F:E5:58:27".into()));
    assert_eq!(readings[0].record[4].1, Value::Union(0, Box::new(Value::Null)));
}

#[test]
fn a_missing_column_and_a_bad_cell_are_named_with_their_line() {
    let (_first, without) = written("time,readable_time\n1000,1000000\n");
    let (_second, bad) = written("time,readable_time,battery\n1000,1000000,1\n1010,1010000,full\n");

    let missing = read_all(without, None, 5).expect_err("no battery").to_string();
    let wrong = read_all(bad, None, 5).expect_err("full is no int").to_string();

    assert!(missing.contains("line 1, column battery: the header names no such column"), "{missing}");
    assert!(wrong.ends_with("line 3, column battery: \"full\" is not of type int"), "{wrong}");
}
