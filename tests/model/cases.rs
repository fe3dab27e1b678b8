//! Public cases of admission and alerts, through the whole engine but its edges: from bytes of a record to what is produced.

use std::collections::BTreeSet;

use apache_avro::types::Value;
use proptest::prelude::*;
use testudo::kafka::partitioner::Partitioner;
use testudo::kafka::{Header, Offset, Position, RunBuilder, TopicPartition};

use crate::harness::{Input, framed, task};
use crate::rig::{NOW_MS, READING, Rig, alert, double, long, optional, reading, reading_datum, record, text, zoo};

/// A rig whose alert `all` lets every reading out.
fn all() -> Rig {
    Rig::new(&zoo(&alert("all", "temperature > -1000")), READING)
}

fn ints(values: impl IntoIterator<Item = i32>) -> Vec<Value> {
    values.into_iter().map(Value::Int).collect()
}

/// C01, C33: a writer schema whose items and numbers are plainer than the reader's, record by record beside the reader's own.
#[test]
fn records_of_two_writer_schemas_come_out_in_offset_order_with_their_values() {
    let schema = |items: &str, number: &str| {
        format!(
            r#"{{"type":"record","name":"Reading","fields":[
                {{"name":"dev_id","type":"string"}},
                {{"name":"at","type":{{"type":"long","logicalType":"timestamp-millis"}}}},
                {{"name":"tags","type":{{"type":"array","items":{items}}}}},
                {{"name":"battery","type":["null","{number}"],"default":null}}]}}"#
        )
    };
    let (own, older) = (schema(r#"["null","int"]"#, "double"), schema(r#""int""#, "int"));
    let mut rig = Rig::with_writers(&zoo(&alert("all", "battery > 0")), &own, &[&own, &older]);
    let input = |number: i64| {
        let device = format!("d{number}");
        let head = [text(&device), long(NOW_MS)].concat();
        let (tag, battery) = (7 + number, 2_900 + number);
        match number % 2 {
            0 => record(1, &device, &[head, long(1), optional(Some(long(tag))), long(0), optional(Some(double(battery as f64)))].concat()),
            _ => record(2, &device, &[head, long(1), long(tag), long(0), optional(Some(long(battery)))].concat()),
        }
    };

    rig.epoch(&(0..8).map(input).collect::<Vec<_>>());

    assert_eq!(rig.refused(), [""; 0]);
    assert_eq!(rig.column("all", "dev_id"), (0..8).map(|number| Value::String(format!("d{number}"))).collect::<Vec<_>>());
    assert_eq!(rig.column("all", "battery"), (0..8i32).map(|number| Value::Double(f64::from(2_900 + number))).collect::<Vec<_>>());
    let tags = |number: i32| Value::Array(vec![Value::Union(1, Box::new(Value::Int(7 + number)))]);
    assert_eq!(rig.column("all", "tags"), (0..8).map(tags).collect::<Vec<_>>());
}

/// C29
#[test]
fn bytes_after_a_datum_refuse_it_and_leave_its_neighbours_exact() {
    let mut rig = all();
    let long_one = [reading_datum("d1", NOW_MS, Some(2_800), 20.5), vec![0, 0, 0]].concat();

    rig.epoch(&[reading("d1", NOW_MS, Some(2_900), 20.0), record(1, "d1", &long_one), reading("d1", NOW_MS, Some(2_700), 21.0)]);

    assert_eq!(rig.refused(), ["1 inspect trailing-bytes"]);
    assert!(rig.details()[0].starts_with("3 bytes left"), "{:?}", rig.details());
    assert_eq!(rig.column("all", "battery"), ints([2_900, 2_700]));
    assert_eq!(rig.column("all", "temperature"), [Value::Double(20.0), Value::Double(21.0)]);
}

/// C31
#[test]
fn a_few_bytes_with_a_huge_count_are_refused_for_it() {
    let more = r#",{"name":"nulls","type":{"type":"array","items":"null"}},
        {"name":"numbers","type":{"type":"array","items":"int"}},
        {"name":"note","type":"string"}]}"#;
    let writer = [READING.strip_suffix("]}").expect("the end of its fields"), more].concat();
    let mut rig = Rig::with_writers(&zoo(&alert("all", "temperature > -1000")), READING, &[&writer]);
    let head = reading_datum("d1", NOW_MS, None, 20.0);
    let hostile = |rest: &[Vec<u8>]| record(1, "d1", &[head.clone(), rest.concat()].concat());

    let sealed = rig.epoch(&[
        hostile(&[long(i64::MAX)]),
        hostile(&[long(0), long(1 << 40)]),
        hostile(&[long(0), long(0), long(1 << 62)]),
        hostile(&[long(0), long(0), text("honest")]),
    ]);

    assert_eq!(rig.refused(), ["0 inspect too-many-items", "1 inspect too-many-items", "2 inspect bad-length"]);
    let details = rig.details();
    for (detail, field) in details.iter().zip(["`nulls`", "`numbers`", "`note`"]) {
        assert!(detail.contains(field), "{detail}");
    }
    assert_eq!(sealed.counts.admitted, 1);
}

/// C39: the audit says the same of them.
#[test]
fn a_time_that_does_not_fit_microseconds_is_none() {
    let mut rig = all();

    rig.epoch(&[i64::MAX / 1_000, i64::MAX / 1_000 + 1, i64::MAX, i64::MIN].map(|at_ms| reading("d1", at_ms, Some(1), 20.0)));

    let is_null = ["1", "2", "3"].map(|offset| format!("{offset} event-time event-time-is-null"));
    assert_eq!(rig.refused(), [&["0 event-time event-time-in-future".to_owned()][..], &is_null].concat());
}

/// C37
#[test]
fn a_text_that_is_not_utf8_is_named_by_field_and_byte_and_the_others_pass() {
    let mut rig = all();
    let datum = reading_datum("abc", NOW_MS, Some(1), 20.0);
    let broken = [&long(3)[..], &[0x74, 0xc3, 0x28], &datum[4..]].concat();

    rig.epoch(&[reading("d1", NOW_MS, Some(2), 20.0), record(1, "d1", &broken), reading("d2", NOW_MS, Some(3), 20.0)]);

    assert_eq!(rig.refused(), ["1 inspect invalid-utf8"]);
    let detail = &rig.details()[0];
    assert!(detail.contains("`dev_id`") && detail.contains("byte 1"), "{detail}");
    assert_eq!(rig.column("all", "battery"), ints([2, 3]));
}

/// C75: the float next to 20.1 is above the double 20.1, and still not above "20.1".
#[test]
fn a_float_is_compared_as_a_float() {
    let schema = READING.replace(r#""double""#, r#""float""#);
    let mut rig = Rig::new(&zoo(&alert("hot", "temperature > 20.1")), &schema);
    let input = |celsius: f32| {
        let datum = [text("d1"), long(NOW_MS), optional(None), celsius.to_le_bytes().to_vec()].concat();
        record(1, "d1", &datum)
    };

    let sealed = rig.epoch(&[input(20.1), input(20.2)]);

    assert_eq!(sealed.counts.admitted, 2);
    assert_eq!(rig.column("hot", "temperature"), [Value::Float(20.2)]);
}

/// C83
#[test]
fn null_is_neither_below_a_bound_nor_not_above_it() {
    let alerts = [alert("low", "battery < 2000"), alert("not-high", "NOT (battery >= 2000)")].concat();
    let mut rig = Rig::new(&zoo(&alerts), READING);

    let sealed = rig.epoch(&[reading("d1", NOW_MS, None, 20.0), reading("d1", NOW_MS, Some(1_500), 20.0)]);

    assert_eq!(sealed.counts.admitted, 2);
    assert_eq!(rig.column("low", "battery"), ints([1_500]));
    assert_eq!(rig.column("not-high", "battery"), ints([1_500]));
}

/// C89
#[test]
fn a_null_key_is_refused_and_an_empty_one_is_a_key() {
    let schema = READING.replacen(r#""string""#, r#"["null","string"]"#, 1);
    let mut rig = Rig::new(&zoo(&alert("all", "temperature > -1000")), &schema);
    let rest = [long(NOW_MS), optional(None), double(20.0)].concat();
    let of = |device: Option<&str>| record(1, device.unwrap_or_default(), &[optional(device.map(text)), rest.clone()].concat());

    rig.epoch(&[of(None), of(Some(""))]);

    assert_eq!(rig.refused(), ["0 key key-is-null"]);
    assert!(rig.details()[0].starts_with("key is null"), "{:?}", rig.details());
    assert_eq!(rig.of("all").iter().map(|alert| alert.key.as_deref()).collect::<Vec<_>>(), [Some(b"".as_slice())]);
}

#[test]
fn a_record_without_kafka_key_is_refused() {
    let mut rig = all();

    rig.epoch(&[Input { key: None, ..reading("d1", NOW_MS, None, 20.0) }]);

    assert_eq!(rig.refused(), ["0 key key-is-null"]);
}

#[test]
fn numbers_that_are_not_finite_are_refused_unless_accepted() {
    let mut rig = all();
    let temperatures = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 20.0];

    rig.epoch(&temperatures.map(|temperature| reading("d1", NOW_MS, None, temperature)));

    assert_eq!(rig.refused(), ["0 non-finite non-finite", "1 non-finite non-finite", "2 non-finite non-finite"]);
    assert!(rig.details().iter().all(|detail| detail.contains("`temperature`")), "{:?}", rig.details());
    assert_eq!(rig.column("all", "temperature"), [Value::Double(20.0)]);
}

/// C23: by id, by GUID, by a GUID that leads nowhere, in a form that is none; and a plain frame between them.
#[test]
fn a_schema_named_in_a_header_is_followed_and_the_value_is_the_datum_alone() {
    let mut rig = all();
    let header = |value: &[u8]| vec![Header { name: "__value_schema_id".into(), value: Some(value.to_vec()) }];
    let by_guid = |byte: u8| header(&[[1].as_slice(), &[byte; 16]].concat());
    let datum = |temperature: f64| reading_datum("d1", NOW_MS, None, temperature);
    let records = [
        (header(&[0, 0, 0, 0, 1]), datum(20.0)),
        (by_guid(1), datum(21.0)),
        (Vec::new(), framed(1, &datum(22.0))),
        (by_guid(9), datum(23.0)),
        (header(&[1; 5]), datum(24.0)),
        (header(&[0, 0, 0, 0, 1]), framed(1, &datum(25.0))),
    ];
    let mut run = RunBuilder::new(TopicPartition::new("in", 0));
    for (offset, (headers, value)) in (0..).zip(records) {
        run.push(Offset(offset), NOW_MS, Some(b"d1"), Some(&value), headers);
    }

    rig.process(&run.finish());
    rig.seal();

    assert_eq!(rig.column("all", "temperature"), [20.0, 21.0, 22.0].map(Value::Double));
    let refused = rig.refused();
    assert_eq!(refused[..2], ["3 frame header-framed", "4 frame header-framed"]);
    assert!(refused[2].starts_with("5 inspect "), "{refused:?}");
    assert!(rig.details()[..2].iter().all(|detail| detail.contains("__value_schema_id")), "{:?}", rig.details());
}

#[test]
fn values_without_a_frame_are_refused() {
    let mut rig = all();
    let of = |value: &[u8]| Input { key: Some(b"d1".to_vec()), value: Some(value.to_vec()), timestamp_ms: NOW_MS };

    rig.epoch(&[of(b""), of(&[0, 0, 1]), of(br#"{"dev_id":"d1"}"#)]);

    assert_eq!(rig.refused(), ["0 frame not-framed", "1 frame not-framed", "2 frame not-framed"]);
    assert!(rig.details()[2].contains("JSON"), "{:?}", rig.details());
}

/// C21
#[test]
fn a_tombstone_is_counted_and_passed() {
    let mut rig = all();
    let tombstone = Input { key: Some(b"d1".to_vec()), value: None, timestamp_ms: NOW_MS };

    let sealed = rig.epoch(&[reading("d1", NOW_MS, None, 20.0), tombstone]);

    assert_eq!((sealed.counts.records, sealed.counts.admitted, sealed.counts.tombstones), (2, 1, 1));
    assert_eq!(sealed.marks, [(TopicPartition::new("in", 0), Position(2).into())]);
    assert_eq!(rig.refused(), [""; 0]);
}

#[test]
fn a_kafka_key_that_is_not_the_key_is_refused_with_the_remedy() {
    let mut rig = all();

    rig.epoch(&[Input { key: Some(b"other".to_vec()), ..reading("d1", NOW_MS, None, 20.0) }]);

    assert_eq!(rig.refused(), ["0 key key-mismatch"]);
    let detail = &rig.details()[0];
    assert!(detail.contains("`other`") && detail.contains("`d1`") && detail.contains("re-key"), "{detail}");
}

#[test]
fn a_key_that_belongs_to_another_partition_is_refused() {
    let mut rig = all();
    rig.processor.open(&TopicPartition::new("in", 0), task(&rig.tenant, 4, None));
    let is_here = |number: &i32| Partitioner::Murmur2.place(format!("d{number}").as_bytes(), 4) == Some(0);
    let strangers: Vec<i32> = (0..16).filter(|number| !is_here(number)).collect();

    rig.epoch(&(0..16).map(|number| reading(&format!("d{number}"), NOW_MS, None, 20.0)).collect::<Vec<_>>());

    assert!((1..16).contains(&strangers.len()), "{strangers:?}");
    assert_eq!(rig.refused(), strangers.iter().map(|offset| format!("{offset} key wrong-partition")).collect::<Vec<_>>());
    assert_eq!(rig.of("all").len(), 16 - strangers.len());
}

#[test]
fn a_condition_that_fails_on_a_row_hides_that_row_from_its_branch_only() {
    let alerts = [alert("ratio", "10 / battery > 1"), alert("all", "temperature > -1000")].concat();
    let mut rig = Rig::new(&zoo(&alerts), READING);

    rig.epoch(&[5, 0, 4].map(|battery| reading("d1", NOW_MS, Some(battery), 20.0)));

    assert_eq!(rig.refused(), ["1 alert.ratio expression-failed"]);
    assert_eq!(rig.column("ratio", "battery"), ints([5, 4]));
    assert_eq!(rig.column("all", "battery"), ints([5, 0, 4]));
}

#[test]
fn every_alert_of_a_source_sees_every_record() {
    let alerts = [alert("low", "battery < 2000"), alert("hot", "temperature > 30"), alert("cold", "temperature < 0")].concat();
    let mut rig = Rig::new(&zoo(&alerts), READING);

    let sealed = rig.epoch(&[reading("d1", NOW_MS, Some(1_500), 40.0), reading("d2", NOW_MS, Some(1_600), -1.0)]);

    assert_eq!(rig.column("low", "battery"), ints([1_500, 1_600]));
    assert_eq!(rig.column("hot", "battery"), ints([1_500]));
    assert_eq!(rig.column("cold", "battery"), ints([1_600]));
    assert_eq!(sealed.counts.alerts, 4);
}

/// One record of a mix.
#[derive(Clone, Debug)]
enum Kind {
    Reading { device: u8, seconds: i64, battery: Option<i64> },
    Tombstone,
    Garbage(Vec<u8>),
    Longer(Vec<u8>),
    NotFinite,
    OtherKey,
    NoKey,
    Future,
}

fn kinds() -> impl Strategy<Value = Vec<Kind>> {
    let bytes = || proptest::collection::vec(any::<u8>(), 0..12);
    let reading = (0u8..3, 0i64..120, proptest::option::of(0i64..3)).prop_map(|(device, seconds, battery)| Kind::Reading {
        device,
        seconds,
        battery,
    });
    let plain = prop_oneof![Just(Kind::Tombstone), Just(Kind::NotFinite), Just(Kind::OtherKey), Just(Kind::NoKey), Just(Kind::Future)];
    let kind = prop_oneof![6 => reading, 4 => plain, 1 => bytes().prop_map(Kind::Garbage), 1 => bytes().prop_map(Kind::Longer)];
    proptest::collection::vec(kind, 1..80)
}

fn input(kind: &Kind) -> Input {
    let good = || reading("d1", NOW_MS, Some(1), 20.0);
    match kind {
        Kind::Reading { device, seconds, battery } => reading(&format!("d{device}"), NOW_MS - 1_000 * seconds, *battery, 20.0),
        Kind::Tombstone => Input { value: None, ..good() },
        Kind::Garbage(bytes) => Input { value: Some([&[0xff][..], bytes].concat()), ..good() },
        Kind::Longer(bytes) => Input { value: good().value.map(|value| [&value[..], bytes].concat()), ..good() },
        Kind::NotFinite => reading("d1", NOW_MS, Some(1), f64::NAN),
        Kind::OtherKey => Input { key: Some(b"other".to_vec()), ..good() },
        Kind::NoKey => Input { key: None, ..good() },
        Kind::Future => reading("d1", NOW_MS + 86_400_000, Some(1), 20.0),
    }
}

const BRANCHES: &str = r#"
[alert.ratio]
from = "readings"
where = "1 / battery > 0"
topic = "ratio"
[window.per_device]
from = "readings"
by = ["dev_id"]
over = { tumbling = "5 seconds" }
grace = "10 seconds"
topic = "results"
[window.per_device.select]
readings = "count(*)"
"#;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    /// EOS-6: admitted, dropped by rule, or in a dead letter: nothing else happens to a record.
    #[test]
    fn every_record_is_admitted_or_a_tombstone_or_refused(kinds in kinds(), epoch in 1usize..20) {
        let mut rig = Rig::new(&zoo(BRANCHES), READING);
        let records: Vec<Input> = kinds.iter().map(input).collect();
        let (mut taken, mut admitted, mut tombstones) = (0, 0, 0);

        for part in records.chunks(epoch) {
            let counts = rig.epoch(part).counts;
            taken += counts.records;
            admitted += counts.admitted;
            tombstones += counts.tombstones;
        }

        let refused = rig.refused();
        let at_admission = refused.iter().filter(|letter| !letter.contains(" alert.") && !letter.contains(" window."));
        let offsets: BTreeSet<&str> = at_admission.filter_map(|letter| letter.split(' ').next()).collect();
        prop_assert_eq!(taken, records.len() as u64);
        prop_assert_eq!(taken, admitted + tombstones + offsets.len() as u64);
    }
}
