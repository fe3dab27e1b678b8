//! Faults planted into topics in memory, whose ledger the real writer has written: each is found, and the transaction that it is in.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::layout::Role;
use super::source::Source;
use super::walk::{Bounds, Walk};
use crate::audit::AuditError;
use crate::audit::facts::InputRecord;
use crate::audit::history::{Deed, History, Loss, Reset, Skip};
use crate::audit::report::{Kind, Report};
use crate::avro::SchemaId;
use crate::kafka::{Header, Headers, Offset, Outgoing, Position, RunBuilder, TopicPartition};
use crate::ledger::{Author, Taken, Transaction, Writer};

/// Partitions in memory.
#[derive(Clone, Default)]
struct Topics(BTreeMap<TopicPartition, VecDeque<InputRecord>>);

impl Source for Topics {
    fn next(&mut self, partition: &TopicPartition, end: i64) -> Result<Option<InputRecord>, AuditError> {
        Ok(self.0.get_mut(partition).and_then(|records| records.pop_front_if(|record| record.offset < end)))
    }
}

impl Topics {
    fn push(&mut self, partition: TopicPartition, timestamp_ms: i64, value: &str, headers: Vec<(String, Option<Vec<u8>>)>) {
        let records = self.0.entry(partition.clone()).or_default();
        let offset = records.back().map_or(0, |last| last.offset + 1);
        let (key, value) = (Some(b"k".to_vec()), Some(value.as_bytes().to_vec()));
        records.push_back(InputRecord { partition, offset, timestamp_ms, key, value, headers });
    }

    fn of(&mut self, topic: &str) -> &mut VecDeque<InputRecord> {
        self.0.get_mut(&TopicPartition::new(topic, 0)).expect("a topic with records")
    }
}

/// Everything that two workers did: one with partition 0 of `in`, one with partition 1, both writing to `results` and `alerts`.
#[derive(Clone)]
struct World {
    topics: Topics,
    ledger: Vec<Transaction>,
}

const TRANSACTIONS: i64 = 6;
const RECORDS: i64 = 5;

fn input(partition: i32) -> TopicPartition {
    TopicPartition::new("in", partition)
}

fn output(topic: &str, origin: &TopicPartition, offset: i64) -> Outgoing {
    let header = Header { name: "testudo-origin".into(), value: Some(origin.to_string().into_bytes()) };
    Outgoing {
        topic: topic.into(),
        partition: 0,
        key: Some("k".into()),
        value: Some(format!("{topic} of {origin}@{offset}").into()),
        timestamp_ms: offset + 1,
        headers: if topic == "results" { vec![header].into() } else { Headers::default() },
    }
}

impl World {
    /// Transaction by transaction; what the two workers write at the same time is mixed.
    fn new() -> Self {
        let writer = |number: i32| {
            let author = Author {
                topic: "zoo-ledger".into(),
                schema: SchemaId(1),
                transactional_id: format!("zoo-one-{number}"),
                tenant_version: "v".into(),
            };
            Writer::new(author)
        };
        let mut writers = [writer(0), writer(1)];
        let mut world = Self { topics: Topics::default(), ledger: Vec::new() };
        for transaction in 0..TRANSACTIONS {
            let (from, to) = (transaction * RECORDS, (transaction + 1) * RECORDS);
            for offset in from..to {
                for (number, writer) in writers.iter_mut().enumerate() {
                    let origin = input(number as i32);
                    world.topics.push(origin.clone(), offset + 1, &format!("{offset}"), Vec::new());
                    for topic in ["results", "alerts"] {
                        let record = output(topic, &origin, offset);
                        writer.produced(&origin, Position(from), &record);
                        world.produce(&record);
                    }
                }
            }
            for (number, writer) in writers.iter_mut().enumerate() {
                world.close(writer, &input(number as i32), from, to);
            }
        }
        world
    }

    fn produce(&mut self, record: &Outgoing) {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("text");
        let headers = record.headers.iter().map(|header| (header.name.clone(), header.value.clone()));
        let partition = TopicPartition::new(record.topic.clone(), record.partition);
        self.topics.push(partition, record.timestamp_ms, &text(record.value.as_deref().expect("a value")), headers.collect());
    }

    fn close(&mut self, writer: &mut Writer, origin: &TopicPartition, from: i64, to: i64) {
        let mut run = RunBuilder::new(origin.clone());
        for offset in from..to {
            run.push(Offset(offset), offset + 1, Some(b"k"), Some(offset.to_string().as_bytes()), Vec::new());
        }
        let run = run.finish();
        let taken = Taken {
            records: run.len(),
            end: Position(to),
            admitted: run.len() as u64,
            dropped: 0,
            dead_letters: 0,
            stream_time_us: Some(to),
            schema_ids: &[1],
        };
        writer.took(&run, Position(from), &taken);
        let value = |record: Outgoing| Transaction::decode(record.value.as_deref().expect("a value")).expect("decoded");
        self.ledger.extend(writer.close(1).into_iter().map(value));
    }

    fn audit(self) -> Report {
        self.audit_after(History::default())
    }

    fn audit_after(self, history: History) -> Report {
        self.audit_keeping(usize::MAX, history)
    }

    /// With at most so many records that wait.
    fn audit_keeping(mut self, waiting: usize, history: History) -> Report {
        let end = TRANSACTIONS * RECORDS;
        let bounds = |topics: &Topics, topic: &str| {
            let records = &topics.0[&TopicPartition::new(topic, 0)];
            Bounds { low: 0, end: records.back().map_or(0, |last| last.offset + 1) }
        };
        let outputs = [("results", Role::Window(0)), ("alerts", Role::Alert(0))]
            .map(|(topic, role)| (TopicPartition::new(topic, 0), (role, bounds(&self.topics, topic))));
        let inputs: BTreeMap<TopicPartition, i64> = (0..2).map(|partition| (input(partition), 0)).collect();
        let committed = inputs.keys().map(|partition| (partition.clone(), (Some(end), Some(end)))).collect();
        let mut walk = Walk::new(&mut self.topics, inputs, outputs.into(), false, 20);
        walk.keep_at_most(waiting);
        walk.follow(&Arc::new(history));
        for (at, transaction) in self.ledger.into_iter().enumerate() {
            walk.transaction(at as i64, &transaction).expect("read");
        }
        walk.finish(&committed).expect("read").report()
    }
}

/// Row and kind of each discrepancy.
fn found(report: &Report) -> Vec<(&str, Kind)> {
    report.discrepancies.iter().map(|discrepancy| (discrepancy.row.as_str(), discrepancy.kind)).collect()
}

/// The offset in the ledger of the first transaction that is wrong.
fn parts_at(report: &Report) -> i64 {
    let note = report.notes.iter().find_map(|note| note.split_once("transaction ledger@")).unwrap_or_else(|| panic!("no place: {report}"));
    note.1.split(' ').next().and_then(|at| at.parse().ok()).expect("an offset")
}

#[test]
fn a_job_that_did_its_work_is_clean() {
    let report = World::new().audit();

    assert!(report.is_clean() && report.warnings.is_empty() && report.notes.is_empty(), "{report}");
    assert_eq!(report.counts.records, 60);
    let rows: Vec<(&str, u64, u64)> = report.rows.iter().map(|row| (row.what.as_str(), row.expected, row.found)).collect();
    assert_eq!(rows, [("input in", 60, 60), ("output alerts", 60, 60), ("output results", 60, 60)]);
}

/// Records of both workers lie between each other; still the transaction is found, since each result names its origin.
#[test]
fn a_result_that_is_lost_doubled_or_altered_is_found_in_its_transaction() {
    // The third transaction of the second worker: the sixth of the ledger.
    let of_it = |records: &VecDeque<InputRecord>| {
        records.iter().position(|record| record.value.as_deref() == Some(b"results of in/1@12")).expect("the record")
    };
    let (mut lost, mut doubled, mut altered) = (World::new(), World::new(), World::new());
    let results = lost.topics.of("results");
    results.remove(of_it(results));
    let results = doubled.topics.of("results");
    let again = results[of_it(results)].clone();
    results.insert(of_it(results), again);
    let results = altered.topics.of("results");
    let at = of_it(results);
    results[at].value = Some(b"results of in/1@12!".to_vec());

    for (world, kind) in [(lost, Kind::Missing), (doubled, Kind::Extra), (altered, Kind::Different)] {
        let report = world.audit();

        assert_eq!(found(&report), [("output results", kind)], "{report}");
        assert_eq!(parts_at(&report), 5, "{report}");
        let detail = &report.discrepancies[0].detail;
        assert!(report.discrepancies[0].at.contains("from in/1") && detail.contains("zoo-one-1 #2: in/1 10 to 15"), "{report}");
    }
}

/// Lacking records have others read ahead of the ledger: where no more may wait, these are compared later, and nothing else is wrong.
#[test]
fn few_records_wait_and_the_fault_is_found_all_the_same() {
    let is_lost = |record: &InputRecord| record.value.as_ref().is_some_and(|value| value.starts_with(b"results of in/1@"));
    let mut none = World::new();
    none.topics.of("results").retain(|record| !is_lost(record));
    let mut one = World::new();
    let at = one.topics.of("results").iter().rposition(is_lost).expect("the record");
    one.topics.of("results").remove(at);

    for waiting in [0, 1, 7, usize::MAX] {
        let clean = World::new().audit_keeping(waiting, History::default());
        assert!(clean.is_clean() && clean.warnings.is_empty(), "{waiting}: {clean}");
        for world in [&none, &one] {
            let report = world.clone().audit_keeping(waiting, History::default());
            assert_eq!(found(&report), [("output results", Kind::Missing)], "{waiting}: {report}");
            assert!(report.discrepancies[0].at.contains("from in/1"), "{waiting}: {report}");
        }
        let crowded = none.clone().audit_keeping(waiting, History::default()).notes.iter().any(|note| note.contains("records waited"));
        assert_eq!(crowded, waiting < 30, "{waiting}");
    }
}

/// Alerts name no origin: the last point where both sides agree and the first where they do not are a transaction of each worker apart.
#[test]
fn an_alert_that_is_lost_is_found_near_its_transaction() {
    let mut world = World::new();
    world.topics.of("alerts").remove(25);

    let report = world.audit();

    assert_eq!(found(&report), [("output alerts", Kind::Missing)], "{report}");
    assert!((4..=5).contains(&parts_at(&report)), "{report}");
}

#[test]
fn a_record_that_was_added_behind_all_is_found() {
    let mut world = World::new();
    let added = output("results", &input(0), 1_000);
    world.produce(&added);
    world.produce(&Outgoing { headers: Headers::default(), ..added });

    let report = world.audit();

    assert_eq!(found(&report), [("output results", Kind::Extra), ("output results", Kind::Extra)], "{report}");
    let details: Vec<&str> = report.discrepancies.iter().map(|discrepancy| discrepancy.detail.as_str()).collect();
    assert!(details.iter().any(|detail| detail.contains("names no input partition")), "{report}");
    assert!(details.iter().any(|detail| detail.contains("no transaction tells of")), "{report}");
}

#[test]
fn a_ledger_record_that_is_lost_is_a_gap() {
    let mut world = World::new();
    world.ledger.remove(4);

    let report = world.audit();

    assert_eq!(report.discrepancies[0].row, "input in", "{report}");
    assert!(report.discrepancies[0].detail.contains("no transaction of the ledger has positions 10 to 15 (5 records)"), "{report}");
    assert!((4..=5).contains(&parts_at(&report)), "beside or behind the gap: {report}");
}

#[test]
fn a_transaction_that_stands_twice_took_positions_again() {
    let mut world = World::new();
    world.ledger.insert(5, world.ledger[4].clone());

    let report = world.audit();

    assert!(found(&report).contains(&("input in", Kind::Extra)), "{report}");
    assert!(report.discrepancies[0].detail.contains("taken again"), "{report}");
}

#[test]
fn inputs_that_are_other_than_they_were_are_found() {
    let mut world = World::new();
    world.topics.0.get_mut(&input(1)).expect("the input")[17].value = Some(b"other".to_vec());

    let report = world.audit();

    assert_eq!(found(&report), [("input in", Kind::Different)], "{report}");
    assert_eq!(report.discrepancies[0].at, "in/1 15 to 20");
}

#[test]
fn a_ledger_that_ends_too_early_is_found() {
    let mut world = World::new();
    world.ledger.pop();

    let report = world.audit();

    assert!(report.discrepancies.iter().any(|found| found.detail.contains("the ledger ends at 25, the group stands at 30")), "{report}");
}

/// A lane may have its first record in a late transaction, such as the first dead letter; the ledger has not begun late for that.
#[test]
fn the_first_record_of_a_lane_is_not_excused() {
    let mut world = World::new();
    for transaction in world.ledger.iter_mut().take(8) {
        transaction.inputs[0].outputs.retain(|(partition, _)| &*partition.topic != "results");
    }
    world.topics.of("results").drain(..40);
    let clean = world.clone().audit();
    world.topics.of("results")[0].value = Some(b"altered".to_vec());

    let report = world.audit();

    assert!(clean.is_clean() && clean.warnings.is_empty(), "{clean}");
    assert_eq!(found(&report), [("output results", Kind::Different)], "{report}");
    assert_eq!(parts_at(&report), 8, "{report}");
}

/// Switched on in the middle: what came before is not audited, and said so; what came after is.
#[test]
fn a_ledger_that_begins_later_audits_the_rest() {
    let mut world = World::new();
    world.ledger.drain(..4);
    let clean = world.clone().audit();
    world.topics.of("results").remove(45);
    let lost = world.audit();

    assert!(clean.is_clean(), "{clean}");
    assert!(clean.warnings.iter().any(|warning| warning.contains("begins at 10: 10 records before it")), "{clean}");
    assert!(clean.notes.iter().any(|note| note.contains("10 records stand before")), "{clean}");
    assert_eq!(found(&lost), [("output results", Kind::Missing)], "{lost}");
}

#[test]
fn stream_time_that_goes_back_is_found() {
    let mut world = World::new();
    world.ledger[8].inputs[0].stream_time_us = Some(1);

    let report = world.audit();

    assert_eq!(found(&report), [("input in", Kind::Different)], "{report}");
    assert!(report.discrepancies[0].detail.contains("TIME-1"), "{report}");
}

#[test]
fn a_lane_without_records_ends_at_its_topics_end() {
    let mut world = World::new();
    let results = world.topics.of("results");
    results.retain(|record| !record.headers.iter().any(|(_, value)| value.as_deref() == Some(b"in/0")));

    let report = world.audit();

    assert_eq!(found(&report), [("output results", Kind::Missing)], "{report}");
    assert_eq!(parts_at(&report), 0, "{report}");
}

fn deed() -> Deed {
    Deed { by: "ada on ops1".into(), at: "2026-01-01T00:00:00Z".into() }
}

/// The world without the third transaction of `in/0`, and without what it produced.
fn without_the_third() -> World {
    let mut world = World::new();
    world.ledger.retain(|transaction| transaction.inputs[0].partition != input(0) || transaction.inputs[0].first != Position(2 * RECORDS));
    for topic in ["results", "alerts"] {
        let lacks = |record: &InputRecord| {
            (2 * RECORDS..3 * RECORDS).any(|offset| record.value == Some(format!("{topic} of in/0@{offset}").into_bytes()))
        };
        world.topics.of(topic).retain(|record| !lacks(record));
    }
    world
}

#[test]
fn what_an_operator_skipped_is_no_gap() {
    let skip = |from, to| History {
        skips: vec![Skip { partition: input(0), from, to, generation: 1, is_aside: false, deed: deed() }],
        ..History::default()
    };

    assert_eq!(found(&without_the_third().audit()), [("input in", Kind::Missing)]);
    assert_eq!(found(&without_the_third().audit_after(skip(10, 14))), [("input in", Kind::Missing)]);
    let report = without_the_third().audit_after(skip(10, 15));
    assert!(report.is_clean() && report.deeds.len() == 1, "{report}");
}

#[test]
fn stream_time_goes_back_only_where_state_was_lost_with_consent() {
    let world = || {
        let mut world = World::new();
        world.ledger[4].inputs[0].stream_time_us = Some(1);
        world
    };
    let lost = |position| {
        let loss = Loss { windows: vec!["w".into()], inputs: [(input(0), position)].into(), generation: 1, deed: deed() };
        History { losses: vec![loss], ..History::default() }
    };

    assert_eq!(found(&world().audit()), [("input in", Kind::Different)]);
    assert!(!world().audit_after(lost(15)).is_clean());
    assert!(world().audit_after(lost(10)).is_clean());
}

#[test]
fn after_a_reset_the_chains_begin_where_it_set_them() {
    let inputs = [(input(0), 3 * RECORDS), (input(1), 3 * RECORDS)].into();
    let reset = || History { reset: Some(Reset { inputs, outputs: BTreeMap::new(), generation: 1, deed: deed() }), ..History::default() };
    let mut world = World::new();
    // What stands before it is not read.
    world.ledger.drain(..6);
    for topic in ["results", "alerts"] {
        world.topics.of(topic).drain(..6 * RECORDS as usize);
    }
    for partition in [0, 1] {
        world.topics.0.get_mut(&input(partition)).expect("records").drain(..3 * RECORDS as usize);
    }

    let report = world.audit_after(reset());

    assert!(report.is_clean() && report.warnings.is_empty() && report.deeds[0].starts_with("reset by ada"), "{report}");
}

#[test]
fn what_was_computed_anew_begins_at_the_beginning_whatever_was_reset_before() {
    let inputs = [(input(0), 3 * RECORDS), (input(1), 3 * RECORDS)].into();
    let reset = Reset { inputs, outputs: BTreeMap::new(), generation: 1, deed: deed() };
    let history = History { reset: Some(reset), ..History::default() };

    assert!(!World::new().audit_after(history.of_windows(1)).is_clean());
    let report = World::new().audit_after(history.of_windows(2));
    assert!(report.is_clean() && report.warnings.is_empty(), "{report}");
}
