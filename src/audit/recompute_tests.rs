//! Faults planted into a zoo that was clean: each must be found, and nothing else.

use std::collections::HashMap;
use std::sync::Arc;

use mongodb::bson::{DateTime, doc};

use super::*;
use crate::audit::history::{Deed, Loss, Skip};
use crate::audit::report::Report;
use crate::audit::zoo::{MINUTE_US, Zoo, audit, audit_as, declaration, reading, record, result, schemas, zoo};

/// Counts of what is wrong in each row that has something wrong: missing, extra, different.
fn wrong(report: &Report) -> Vec<(String, [u64; 3])> {
    let rows = report.rows.iter().map(|row| (row.what.clone(), [row.missing, row.extra, row.different]));
    rows.filter(|(_, counts)| *counts != [0; 3]).collect()
}

fn found(counts: &[(&str, [u64; 3])]) -> Vec<(String, [u64; 3])> {
    counts.iter().map(|(row, counts)| ((*row).to_owned(), *counts)).collect()
}

fn output(zoo: &mut Zoo, topic: &str, offset: i64) -> usize {
    zoo.outputs.iter().position(|record| &*record.partition.topic == topic && record.offset == offset).expect("such an output")
}

#[test]
fn a_faultless_run_is_clean() {
    let report = audit(&zoo());

    assert_eq!(wrong(&report), found(&[]), "{report}");
    assert!(report.warnings.is_empty(), "{report}");
    assert_eq!((report.counts.records, report.counts.admitted, report.counts.tombstones), (12, 6, 1));
    let expected: Vec<(&str, u64)> = report.rows.iter().map(|row| (row.what.as_str(), row.expected)).collect();
    let all = [
        ("positions", 1),
        ("alert low", 2),
        ("window stats", 3),
        ("window closing", 2),
        ("dead letters", 7),
        ("mongo stats", 3),
        ("mongo readings", 6),
        ("store", 2),
    ];
    assert_eq!(expected, all);
}

#[test]
fn a_dropped_doubled_or_altered_alert_is_found() {
    let mut dropped = zoo();
    let at = output(&mut dropped, "alerts", 1);
    dropped.outputs.remove(at);
    let mut doubled = zoo();
    doubled.outputs.push(InputRecord { offset: 2, ..doubled.outputs[0].clone() });
    let mut altered = zoo();
    altered.outputs[0].value = reading(Some(1901), 21.0, 10_000);

    assert_eq!(wrong(&audit(&dropped)), found(&[("alert low", [1, 0, 0])]));
    assert_eq!(wrong(&audit(&doubled)), found(&[("alert low", [0, 1, 0])]));
    assert_eq!(wrong(&audit(&altered)), found(&[("alert low", [0, 0, 1])]));
    assert_eq!(audit(&dropped).discrepancies[0].at, "in/0@4");
}

#[test]
fn a_dropped_doubled_or_altered_update_is_found() {
    let mut dropped = zoo();
    let at = output(&mut dropped, "stats", 3);
    dropped.outputs.remove(at);
    dropped.documents.get_mut("stats").expect("stats").pop();
    let mut doubled = zoo();
    let at = output(&mut doubled, "stats", 1);
    doubled.outputs.insert(at, doubled.outputs[at].clone());
    let mut altered = zoo();
    let at = output(&mut altered, "stats", 0);
    altered.outputs[at].value = result(0, 1, 21.000000000000004);
    let mut stale = zoo();
    let at = output(&mut stale, "stats", 1);
    stale.outputs.remove(at);

    assert_eq!(wrong(&audit(&dropped)), found(&[("window stats", [1, 0, 0])]));
    assert_eq!(wrong(&audit(&doubled)), found(&[("window stats", [0, 1, 0])]));
    assert_eq!(wrong(&audit(&altered)), found(&[("window stats", [0, 0, 1])]));
    assert_eq!(wrong(&audit(&stale)), found(&[("window stats", [0, 0, 1]), ("mongo stats", [0, 0, 1])]));
}

#[test]
fn epochs_may_join_records_into_one_update() {
    let mut zoo = zoo();
    let at = output(&mut zoo, "stats", 0);
    zoo.outputs.remove(at);

    assert_eq!(wrong(&audit(&zoo)), found(&[]));
}

#[test]
fn a_final_result_comes_once_and_only_when_the_window_closes() {
    let mut dropped = zoo();
    let at = output(&mut dropped, "closing", 0);
    dropped.outputs.remove(at);
    let mut doubled = zoo();
    let at = output(&mut doubled, "closing", 0);
    doubled.outputs.push(InputRecord { offset: 2, ..doubled.outputs[at].clone() });
    let mut early = zoo();
    let origin = [("testudo-origin", "in/0")];
    early.outputs.push(record("closing", 2, 205_000, result(3 * MINUTE_US, 1, 22.0), &origin));

    assert_eq!(wrong(&audit(&dropped)), found(&[("window closing", [1, 0, 0])]));
    assert_eq!(wrong(&audit(&doubled)), found(&[("window closing", [0, 1, 0])]));
    assert_eq!(wrong(&audit(&early)), found(&[("window closing", [0, 1, 0])]));
}

#[test]
fn an_output_without_input_is_found() {
    let mut zoo = zoo();
    zoo.outputs.push(record("alerts", 2, 11_000, reading(Some(5), 21.0, 11_000), &[]));
    zoo.outputs.push(record("stats", 4, 11_000, result(7 * MINUTE_US, 1, 21.0), &[("testudo-origin", "in/0")]));
    zoo.outputs.push(record("stats", 5, 11_000, Some(b"x".to_vec()), &[]));

    let report = audit(&zoo);

    let rows = [("alert low", [0, 1, 0]), ("window stats", [0, 2, 0]), ("mongo stats", [1, 0, 0])];
    assert_eq!(wrong(&report), found(&rows), "{report}");
}

#[test]
fn a_missing_doubled_or_altered_dead_letter_is_found() {
    let mut missing = zoo();
    let at = output(&mut missing, "zoo-dead-letters", 1);
    missing.outputs.remove(at);
    let mut doubled = zoo();
    let at = output(&mut doubled, "zoo-dead-letters", 3);
    doubled.outputs.push(InputRecord { offset: 7, ..doubled.outputs[at].clone() });
    let mut altered = zoo();
    let at = output(&mut altered, "zoo-dead-letters", 3);
    altered.outputs[at].value = Some(b"[]".to_vec());

    assert_eq!(wrong(&audit(&missing)), found(&[("dead letters", [1, 0, 0])]));
    assert_eq!(wrong(&audit(&doubled)), found(&[("dead letters", [0, 1, 0])]));
    assert_eq!(wrong(&audit(&altered)), found(&[("dead letters", [0, 0, 1])]));
}

#[test]
fn a_position_off_by_one_is_found() {
    let mut behind = zoo();
    behind.committed -= 1;
    let mut ahead = zoo();
    ahead.inputs.push(record("in", 12, 205_000, reading(Some(7), 19.0, 205_000), &[]));
    (ahead.committed, ahead.end) = (13, 13);
    let mut beyond = zoo();
    beyond.committed += 1;

    assert_eq!(wrong(&audit(&behind)), found(&[("dead letters", [0, 1, 0])]));
    assert_eq!(wrong(&audit(&ahead)), found(&[("alert low", [1, 0, 0]), ("mongo readings", [1, 0, 0])]));
    assert_eq!(wrong(&audit(&beyond)), found(&[("positions", [0, 0, 1])]));
}

#[test]
fn stale_extra_and_missing_documents_are_found() {
    let mut zoo = zoo();
    let stats = zoo.documents.get_mut("stats").expect("stats");
    stats[0].insert("total", 1_i64);
    stats[1].insert("_id", doc! { "dev-id": "t2", "window": DateTime::from_millis(60_000) });
    let source = doc! { "topic": "stats", "topic_id": "x", "partition": 0, "offset": 2_i64 };
    stats[2].insert("source", source);
    let readings = zoo.documents.get_mut("readings").expect("readings");
    readings[0].insert("battery", 1900_i64);
    readings.remove(1);

    let report = audit(&zoo);

    assert_eq!(wrong(&report), found(&[("mongo stats", [1, 1, 2]), ("mongo readings", [1, 0, 1])]), "{report}");
}

#[test]
fn a_document_ahead_of_the_positions_is_no_fault() {
    let mut zoo = zoo();
    zoo.end = 20;
    let mut early = zoo.documents["readings"][5].clone();
    early.insert("_id", doc! { "topic": "in", "partition": 0, "offset": 15_i64 });
    zoo.documents.get_mut("readings").expect("readings").push(early);

    let report = audit(&zoo);

    assert!(report.is_clean(), "{report}");
    assert_eq!(report.warnings.len(), 1);
}

#[test]
fn the_store_holds_exactly_the_open_windows() {
    let mut zoo = zoo();
    zoo.stored[0].start_us = 0;

    assert_eq!(wrong(&audit(&zoo)), found(&[("store", [1, 1, 0])]));
}

#[test]
fn what_is_not_known_is_left_out_with_a_warning() {
    let mut declaration = declaration();
    declaration.alerts[0].filter = "soundex(\"dev-id\") = 'T1' AND battery < 2000".into();
    declaration.windows[0].select[1].1 = "approx_distinct(battery)".into();

    let report = audit_as(&declaration, &zoo());

    assert!(report.is_clean(), "{report}");
    assert!(report.rows.iter().all(|row| row.what != "alert low"), "{report}");
    assert_eq!(report.warnings.len(), 2, "{report}");

    // A record may fail on its argument, and is none of the window's then.
    declaration.windows[0].select[1].1 = "approx_distinct(CAST(\"dev-id\" AS BIGINT))".into();
    let report = audit_as(&declaration, &zoo());
    assert!(report.rows.iter().all(|row| row.what != format!("window {}", declaration.windows[0].name)), "{report}");
}

#[test]
fn a_record_in_the_wrong_place_is_refused_before_its_time_counts() {
    let declaration = declaration();
    let job = Job::compile(&declaration).expect("a known job");
    let partitions: HashMap<Arc<str>, i32> = [("in".into(), 2)].into();
    let right = Partitioner::Murmur2.place(b"t1", 2).expect("murmur2 places");
    let mut wrong_place = record("in", 0, 10_000, reading(Some(1), 21.0, 10_000), &[]);
    wrong_place.partition = TopicPartition::new("in", 1 - right);
    let mut other_key = record("in", 0, 10_000, reading(Some(1), 21.0, 10_000), &[]);
    (other_key.partition, other_key.key) = (TopicPartition::new("in", right), Some(b"t2".to_vec()));
    let no_key = InputRecord { key: None, offset: 1, ..other_key.clone() };

    let expected = recompute(&job, &[], &partitions, schemas, [wrong_place, other_key, no_key].into_iter());

    let reasons: Vec<&'static str> = expected.letters.values().flat_map(|letter| letter.reasons.clone()).collect();
    assert_eq!(expected.counts.admitted, 0);
    let sorted = |mut reasons: Vec<&'static str>| {
        reasons.sort_unstable();
        reasons
    };
    assert_eq!(sorted(reasons), ["key-is-null", "key-mismatch", "wrong-partition"]);
}

fn deed() -> Deed {
    Deed { by: "ada on ops1".into(), at: "2026-01-01T00:00:00Z".into() }
}

#[test]
fn what_an_operator_skipped_is_not_missed() {
    let mut zoo = zoo();
    let at = output(&mut zoo, "zoo-dead-letters", 3);
    zoo.outputs.remove(at);
    assert_eq!(wrong(&audit(&zoo)), found(&[("dead letters", [1, 0, 0])]));

    zoo.history.skips.push(Skip { partition: TopicPartition::new("in", 0), from: 8, to: 9, generation: 1, is_aside: false, deed: deed() });
    let report = audit(&zoo);

    assert!(report.is_clean(), "{report}");
    assert_eq!((report.counts.records, report.counts.skipped), (11, 1));
    assert_eq!(report.deeds, ["in/0: 8 to 8 skipped by ada on ops1 at 2026-01-01T00:00:00Z"]);
    // The sink of the readings reads the input by itself.
    zoo.history.skips[0] = Skip { from: 4, to: 5, ..zoo.history.skips[0].clone() };
    assert!(audit(&zoo).notes.iter().any(|note| note.contains("1 documents of records that an operator left out")));
}

#[test]
fn what_was_lost_with_consent_is_listed_and_nothing_else_is_excused() {
    let mut zoo = zoo();
    let at = output(&mut zoo, "stats", 3);
    zoo.outputs[at].value = result(3 * MINUTE_US, 7, 22.0);
    zoo.documents.get_mut("stats").expect("stats")[2].extend(doc! { "total": 7_i64, "rate": 7.0 / 60.0 });
    let of_stats = found(&[("window stats", [0, 0, 1])]);
    assert_eq!(wrong(&audit(&zoo)), of_stats);
    let lost = |windows: &str, position| Loss {
        windows: vec![windows.into()],
        inputs: [(TopicPartition::new("in", 0), position)].into(),
        generation: 1,
        deed: deed(),
    };

    for (loss, is_excused) in [(lost("stats", 6), true), (lost("closing", 6), false), (lost("stats", 3), false)] {
        zoo.history.losses = vec![loss.clone()];
        let report = audit(&zoo);
        assert_eq!((report.is_clean(), report.accepted.len()), (is_excused, usize::from(is_excused)), "{loss:?}: {report}");
        assert!(report.deeds[0].starts_with("loss of state of"), "{report}");
    }
}

#[test]
fn a_state_that_is_ahead_of_the_group_is_found() {
    let mut zoo = zoo();
    zoo.positions.push((TopicPartition::new("in", 0), 12));
    assert!(audit(&zoo).is_clean());
    zoo.positions[0].1 = 13;

    assert_eq!(wrong(&audit(&zoo)), found(&[("store", [0, 0, 1])]));
}
