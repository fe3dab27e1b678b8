//! Public cases of event time, windows and aggregates, through the whole engine but its edges.

use std::collections::BTreeSet;
use std::time::Duration;

use apache_avro::types::Value;
use testudo::kafka::{Mark, Offset, Outgoing, Position, RunBuilder, TopicPartition};

use testudo::store::{ScanMax, Swept};

use crate::harness::{Input, task};
use crate::rig::{NOW_MS, READING, Rig, Row, long, optional, reading, record, text, zoo};

/// A window over `by` on the topic `results`; `rest` is size, grace and, where it matters, emit.
fn window(by: &str, rest: &str, select: &str) -> String {
    format!("[window.per_device]\nfrom = \"readings\"\nby = {by}\ntopic = \"results\"\n{rest}\n[window.per_device.select]\n{select}\n")
}

/// A rig that counts readings for each device.
fn counting(rest: &str) -> Rig {
    Rig::new(&zoo(&window(r#"["dev_id"]"#, rest, r#"readings = "count(*)""#)), READING)
}

/// A rig with `select` over windows of an hour; `source` goes on with the source.
fn selecting(source: &str, schema: &str, select: &str) -> Rig {
    let hour = "over = { tumbling = \"1 hour\" }\ngrace = \"0s\"";
    Rig::new(&zoo(&[source, &window(r#"["dev_id"]"#, hour, select)].concat()), schema)
}

fn at(device: &str, at_ms: i64) -> Input {
    reading(device, at_ms, Some(2_900), 20.0)
}

fn warm(temperature: f64) -> Input {
    reading("d1", NOW_MS, None, temperature)
}

/// Device, window start in milliseconds and count of each result so far.
fn counted(rig: &Rig) -> Vec<(String, i64, i64)> {
    let of = |row: &Row| match (&row["dev_id"], &row["window_start"], &row["readings"]) {
        (Value::String(device), Value::TimestampMicros(start_us), Value::Long(count)) => (device.clone(), start_us / 1_000, *count),
        other => panic!("not a result: {other:?}"),
    };
    rig.rows("results").iter().map(of).collect()
}

fn result(device: &str, start_ms: i64, count: i64) -> (String, i64, i64) {
    (device.to_owned(), start_ms, count)
}

fn last(rig: &Rig, column: &str) -> Value {
    rig.rows("results").last().expect("a result")[column].clone()
}

const MINUTE: &str = "over = { tumbling = \"1 minute\" }\ngrace = \"0s\"";

/// C39: the end of the year 9999 as an event time is a clock out of order, and moves nothing.
#[test]
fn an_event_of_the_year_9999_does_not_move_stream_time() {
    let mut rig = counting(MINUTE);

    let sealed = rig.epoch(&[at("d1", NOW_MS), at("d1", 253_402_300_799_000), at("d1", NOW_MS)]);

    assert_eq!(rig.refused(), ["1 event-time event-time-in-future"]);
    assert_eq!(counted(&rig), [result("d1", NOW_MS - 20_000, 2)]);
    assert!(sealed.advances.values().all(|advance| advance.stream_time_us == Some(NOW_MS * 1_000)), "{:?}", sealed.advances);
}

/// C41: 1969-12-31T19:00:00Z begins a window of 30 s.
#[test]
fn an_event_on_a_boundary_before_1970_is_in_the_window_that_begins_there() {
    let mut rig = counting("over = { tumbling = \"30s\" }\ngrace = \"0s\"");

    rig.epoch(&[at("d1", -18_000_000)]);

    assert_eq!(counted(&rig), [result("d1", -18_000_000, 1)]);
}

/// C45
#[test]
fn one_fast_clock_makes_nobody_late() {
    let mut rig = counting(MINUTE);
    let mut records: Vec<Input> = (0..10).map(|second| at("d1", NOW_MS + 1_000 * second)).collect();
    records.insert(1, at("d1", NOW_MS + 86_400_000));

    rig.epoch(&records);

    assert_eq!(rig.refused(), ["1 event-time event-time-in-future"]);
    assert_eq!(counted(&rig), [result("d1", NOW_MS - 20_000, 10)]);
}

/// C53: zero is a time like any other, also where Kafka's client would take it for "now".
#[test]
fn the_event_time_zero_is_kept() {
    let mut rig = counting(MINUTE);

    let sealed = rig.epoch(&[Input { timestamp_ms: 0, ..at("d1", 0) }]);

    assert_eq!(counted(&rig), [result("d1", 0, 1)]);
    let progress: Vec<Option<i64>> = sealed.changes.progress.iter().map(|(_, progress)| progress.stream_time_us).collect();
    assert_eq!(progress, [Some(0)]);
    assert!(sealed.records().all(|record| record.timestamp_ms > 0), "{:?}", sealed.outgoing);
}

/// C57
#[test]
fn the_end_of_a_window_is_in_the_next_one_only() {
    let mut rig = counting(MINUTE);

    rig.epoch(&[at("d1", 60_000)]);

    assert_eq!(counted(&rig), [result("d1", 60_000, 1)]);
    assert_eq!(last(&rig, "window_end"), Value::TimestampMicros(120_000_000));
}

/// C61
#[test]
fn grace_ends_with_its_last_instant() {
    let mut rig = counting("over = { tumbling = \"60s\" }\ngrace = \"60s\"");

    rig.epoch(&[at("d1", 119_999), at("d1", 59_999), at("d2", 120_000), at("d1", 59_998)]);

    assert_eq!(rig.refused(), ["3 window.per_device late"]);
    assert_eq!(counted(&rig), [result("d1", 60_000, 1), result("d1", 0, 1), result("d2", 120_000, 1)]);
}

#[test]
fn a_record_that_is_late_for_two_windows_has_a_dead_letter_of_each_in_the_order_of_the_file() {
    let zebra = window(r#"["dev_id"]"#, MINUTE, r#"readings = "count(*)""#).replace("per_device", "zebra");
    let apple = zebra.replace("zebra", "apple").replace("results", "others");
    let mut rig = Rig::new(&zoo(&[zebra, apple].concat()), READING);

    rig.epoch(&[at("d1", 60_000), at("d1", 59_999)]);

    assert_eq!(rig.refused(), ["1 window.zebra late", "1 window.apple late"]);
}

const FINAL: &str = "over = { tumbling = \"7s\" }\ngrace = \"3s\"\nemit = \"final\"";

#[test]
fn a_final_result_comes_once_for_windows_that_the_closing_epoch_does_not_touch() {
    let mut rig = counting(FINAL);

    let results: Vec<u64> = [vec![at("d1", 0), at("d2", 1_000)], vec![at("d1", 9_999)], vec![at("d3", 10_000)], vec![at("d3", 11_000)]]
        .iter()
        .map(|records| rig.epoch(records).counts.results)
        .collect();

    assert_eq!(results, [0, 0, 2, 0]);
    let mut counted = counted(&rig);
    counted.sort();
    assert_eq!(counted, [result("d1", 0, 1), result("d2", 0, 1)]);
}

#[test]
fn a_final_result_comes_once_for_a_window_that_the_closing_epoch_touches() {
    let mut rig = counting(FINAL);

    rig.epoch(&[at("d1", 0)]);
    rig.epoch(&[at("d1", 1_000), at("d2", 20_000)]);
    rig.epoch(&[at("d2", 20_001)]);

    assert_eq!(counted(&rig), [result("d1", 0, 2)]);
}

#[test]
fn an_epoch_that_came_to_nothing_closes_nothing() {
    let mut rig = counting(FINAL);
    rig.epoch(&[at("d1", 0)]);

    rig.slice(&[at("d2", 10_000)]);
    rig.processor.seal().expect("sealed");
    rig.processor.discard().expect("discarded");
    rig.epoch(&[at("d1", 9_999)]);
    rig.epoch(&[at("d2", 10_000)]);

    assert_eq!(rig.refused(), [""; 0]);
    assert_eq!(counted(&rig), [result("d1", 0, 1)]);
}

/// Seals epochs without records until nothing is left to sweep. The marks that each commits.
fn swept_out(rig: &mut Rig) -> Vec<Vec<(TopicPartition, Mark)>> {
    let mut marks = Vec::new();
    let sent = rig.produced.len();
    while !rig.processor.owing().is_empty() {
        rig.processor.sweep(Duration::ZERO);
        marks.extend(rig.try_seal().map(|sealed| sealed.marks));
    }
    // A broker may refuse a time that no record had (KIP-1030): results, changelog and progress have that of a record.
    assert!(rig.produced[sent..].iter().all(|record| record.timestamp_ms == NOW_MS), "{:?}", rig.produced);
    marks
}

#[test]
fn what_an_epoch_leaves_to_sweep_is_swept_without_a_record() {
    let mut rig = counting(FINAL);
    rig.processor.bound_sweeps(ScanMax { entries: 1, bytes: 1 << 20 });
    rig.epoch(&[at("d1", 0), at("d2", 0), at("d3", 0)]);
    rig.epoch(&[at("d4", 10_000)]);
    assert_eq!(counted(&rig).len(), 1);
    let input = TopicPartition::new("in", 0);
    assert_eq!(*rig.processor.owing(), BTreeSet::from([input.clone()]));

    // One that comes to nothing changes nothing.
    rig.processor.sweep(Duration::ZERO);
    rig.processor.seal().expect("sealed");
    rig.processor.discard().expect("discarded");
    let marks = swept_out(&mut rig);

    let mut counted = counted(&rig);
    counted.sort();
    assert_eq!(counted, ["d1", "d2", "d3"].map(|device| result(device, 0, 1)));
    let swept = |sweeps| vec![(input.clone(), Mark { position: Position(4), sweeps })];
    assert_eq!(marks, [swept(1), swept(2)], "each epoch moves the mark: a store that lacks it is not level (EOS-9)");
    rig.processor.sweep(Duration::ZERO);
    assert!(rig.processor.epoch().is_empty(), "nothing is left");
    assert_eq!(rig.epoch(&[at("d4", 10_001)]).marks, [(input, Position(5).into())], "a record begins anew");
}

#[test]
fn an_epoch_sweeps_what_is_left_of_partitions_that_give_it_no_record() {
    let mut rig = counting(FINAL);
    rig.processor.bound_sweeps(ScanMax { entries: 1, bytes: 1 << 20 });
    let other = TopicPartition::new("in", 1);
    rig.processor.open(&other, task(&rig.tenant, 2, None));
    rig.epoch(&[at("d1", 0), at("d2", 0), at("d3", 0)]);
    rig.epoch(&[at("d4", 10_000)]);
    let swept = counted(&rig).len();

    let mut run = RunBuilder::new(other.clone());
    // Half of them have their place there.
    for (offset, device) in (0..).zip(["e1", "e2", "e3", "e4", "e5", "e6"]) {
        let record = at(device, 0);
        run.push(Offset(offset), record.timestamp_ms, record.key.as_deref(), record.value.as_deref(), Vec::new());
    }
    rig.process(&run.finish());
    let sealed = rig.seal();

    let marks = [(TopicPartition::new("in", 0), Mark { position: Position(4), sweeps: 1 }), (other, Position(6).into())];
    assert_eq!(sealed.marks, marks);
    assert!(counted(&rig).len() > swept, "{swept}");
}

/// A partition is taken up where another owner had windows left over.
#[test]
fn what_is_left_is_known_after_a_restore() {
    let rig = counting(FINAL);
    let window = rig.tenant.windows[0].name.clone();
    let owes = |stream_time_us, swept_until_us: Option<i64>| {
        let mut rig = counting(FINAL);
        let mut taken = task(&rig.tenant, 1, Some(stream_time_us));
        taken.windows.get_mut(&window).expect("its window").swept = swept_until_us.map(Swept::until).unwrap_or_default();
        rig.processor.open(&TopicPartition::new("in", 0), taken);
        let owes = !rig.processor.owing().is_empty();
        rig.processor.close(&TopicPartition::new("in", 0));
        assert!(rig.processor.owing().is_empty());
        owes
    };

    // Windows of 7 s with 3 s of grace: at 10 s those are closed that start up to 0.
    assert_eq!([owes(10_000_000, None), owes(10_000_000, Some(-1)), owes(10_000_000, Some(0))], [true, true, false]);
    assert_eq!([owes(10_000_001, Some(0)), owes(9_000_000, Some(0))], [true, false]);
}

#[test]
fn a_closed_window_leaves_the_store() {
    let mut rig = counting(FINAL);
    let kept = rig.epoch(&[at("d1", 0)]).changes.states;

    let swept = rig.epoch(&[at("d2", 10_000)]).changes.states;

    let (key, state) = &kept[0];
    assert!(kept.len() == 1 && state.is_some(), "{kept:?}");
    assert!(swept.contains(&(key.clone(), None)), "{swept:?}");
}

/// C69
#[test]
fn the_highest_and_lowest_of_nan_and_a_number_depend_on_no_order_and_no_epoch() {
    for order in [[f64::NAN, 1.0], [1.0, f64::NAN]] {
        for epoch in [1, 2] {
            let select = "highest = \"max(temperature)\"\nlowest = \"min(temperature)\"";
            let mut rig = selecting("non_finite = \"accept\"\n", READING, select);

            order.map(warm).chunks(epoch).for_each(|records| drop(rig.epoch(records)));

            let (highest, lowest) = (last(&rig, "highest"), last(&rig, "lowest"));
            assert!(matches!(highest, Value::Double(number) if number.is_nan()), "{order:?} by {epoch}: max is {highest:?}");
            assert_eq!(lowest, Value::Double(1.0), "{order:?} by {epoch}");
        }
    }
}

/// C71: the sum is above every long, the average is not.
#[test]
fn the_average_of_large_integers_does_not_wrap() {
    let schema = READING.replace(r#""double""#, r#""long""#);
    let mut rig = selecting("", &schema, r#"mean = "avg(temperature)""#);
    let of = |number: i64| record(1, "d1", &[text("d1"), long(NOW_MS), optional(None), long(number)].concat());

    rig.epoch(&[of(i64::MAX), of(1)]);

    assert_eq!(last(&rig, "mean"), Value::Double(4.611686018427388e18));
}

/// C73: integers divide as integers, which `check` warns of; with a decimal point it is a rate.
#[test]
fn a_rate_is_a_double_where_the_divisor_is() {
    let mut rig = selecting("", READING, "whole = \"count(*) / 60\"\nrate = \"count(*) / 60.0\"");

    rig.epoch(&[20.0; 7].map(warm));

    assert_eq!(last(&rig, "whole"), Value::Long(0));
    assert_eq!(last(&rig, "rate"), Value::Double(0.11666666666666667));
}

/// C77: in one epoch, in two, and with an epoch done again; the sum is the exact one.
#[test]
fn a_float_sum_is_exact_however_it_was_cut() {
    let select = "total = \"sum(temperature)\"\nmean = \"avg(temperature)\"";
    let records = [1e16, 1.0, 1.0, -1e16].map(warm);
    let (mut whole, mut cut, mut again) = (selecting("", READING, select), selecting("", READING, select), selecting("", READING, select));

    whole.epoch(&records);
    cut.epoch(&records[..1]);
    cut.epoch(&records[1..]);
    again.epoch(&records[..1]);
    again.slice(&records[1..3]);
    again.processor.discard().expect("discarded");
    again.epoch(&records[1..]);

    for rig in [whole, cut, again] {
        assert_eq!((last(&rig, "total"), last(&rig, "mean")), (Value::Double(2.0), Value::Double(0.5)));
    }
}

/// C85: parts of a key do not run into each other, whatever stands in them.
#[test]
fn keys_of_two_parts_stay_apart() {
    let schema = READING.replace(r#"{"name":"temperature","type":"double"}"#, r#"{"name":"place","type":"string"}"#);
    for separator in [";", ",", "|", "/", "\"", "\\", " ", "\0", "\u{1}", "\u{1f}", "\u{ff}", "\",\""] {
        let mut rig = Rig::new(&zoo(&window(r#"["dev_id", "place"]"#, MINUTE, r#"readings = "count(*)""#)), &schema);
        let of = |device: &str, place: &str| record(1, device, &[text(device), long(NOW_MS), optional(None), text(place)].concat());
        let records = [of(&format!("x{separator}y"), "z"), of("x", &format!("y{separator}z"))];

        rig.epoch(&records);
        rig.epoch(&records);

        let mut keys: Vec<&Outgoing> = rig.of("results");
        keys.dedup_by_key(|result| result.key.clone());
        assert_eq!(keys.len(), 4, "keys of separator {separator:?}");
        assert_eq!(rig.column("results", "readings"), [1, 1, 2, 2].map(Value::Long), "groups of separator {separator:?}");
    }
}

/// C87
#[test]
fn closing_a_key_leaves_the_key_that_begins_with_it() {
    let mut rig = counting("over = { tumbling = \"10s\" }\ngrace = \"0s\"\nemit = \"final\"");

    rig.epoch(&[at("tortoise_1", 0), at("tortoise_12", 1_000)]);
    let closing = rig.epoch(&[at("tortoise_12", 10_000)]);
    rig.epoch(&[at("tortoise_12", 11_000)]);
    rig.epoch(&[at("tortoise_1", 20_000)]);

    assert_eq!(closing.counts.results, 2);
    let mut counted = counted(&rig);
    counted.sort();
    assert_eq!(counted, [result("tortoise_1", 0, 1), result("tortoise_12", 0, 1), result("tortoise_12", 10_000, 2)]);
}
