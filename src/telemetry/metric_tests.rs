//! Claims about the catalogue, read back by a strict parser of the exposition format.

use std::collections::BTreeMap;
use std::time::Duration;

use super::*;
use crate::telemetry::TenantMetrics;

/// One sample line.
#[derive(Debug, PartialEq)]
struct Sample {
    name: String,
    labels: BTreeMap<String, String>,
    value: f64,
}

/// Reads OpenMetrics text and refuses whatever is not in its grammar.
fn parse(text: &str) -> Result<Vec<Sample>, String> {
    let body = text.strip_suffix("# EOF\n").ok_or("no end mark")?;
    body.split_terminator('\n')
        .filter(|line| !line.starts_with("# "))
        .map(|line| sample(line).map_err(|why| format!("{why}: {line}")))
        .collect()
}

fn sample(line: &str) -> Result<Sample, String> {
    let name_end = line.find(['{', ' ']).ok_or("no value")?;
    let (name, mut rest) = line.split_at(name_end);
    if !is_name(name) {
        return Err("bad metric name".into());
    }
    let mut labels = BTreeMap::new();
    if let Some(inner) = rest.strip_prefix('{') {
        rest = inner;
        while !rest.starts_with('}') {
            let (label, after) = rest.split_once("=\"").ok_or("no label value")?;
            let (value, after) = quoted(after)?;
            if !is_name(label) || labels.insert(label.to_owned(), value).is_some() {
                return Err("bad label name".into());
            }
            rest = after.strip_prefix(',').unwrap_or(after);
            if after == rest && !rest.starts_with('}') {
                return Err("labels not separated".into());
            }
        }
        rest = &rest[1..];
    }
    let value = rest.strip_prefix(' ').ok_or("no space before the value")?;
    Ok(Sample { name: name.to_owned(), labels, value: value.parse().map_err(|_| "bad value")? })
}

fn is_name(text: &str) -> bool {
    let mut bytes = text.bytes();
    bytes.next().is_some_and(|first| first.is_ascii_alphabetic() || first == b'_')
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

fn quoted(text: &str) -> Result<(String, &str), String> {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Ok((value, &text[at + 1..])),
            '\\' => match characters.next() {
                Some((_, 'n')) => value.push('\n'),
                Some((_, plain @ ('"' | '\\'))) => value.push(plain),
                other => return Err(format!("bad escape {other:?}")),
            },
            plain => value.push(plain),
        }
    }
    Err("label value does not end".into())
}

fn values_of(metrics: &Metrics, name: &str) -> Vec<Sample> {
    let samples = parse(&metrics.encode()).expect("the exposition is strict");
    samples.into_iter().filter(|sample| sample.name == name).collect()
}

#[test]
fn a_tenant_name_with_quote_backslash_and_line_feed_does_not_spoil_the_scrape_c141() {
    let metrics = Metrics::new();
    let name = "zoo\"} evil{x=\"1\\\nnext";

    let tenant = TenantMetrics::new(&metrics, name);
    tenant.dead_letter("late", 3);
    let _partition = tenant.partition("topic\\", 4);

    let letters = values_of(&metrics, "testudo_dead_letters_total");
    let labels = BTreeMap::from([("tenant".to_owned(), name.to_owned()), ("reason".to_owned(), "late".to_owned())]);
    assert_eq!(letters, [Sample { name: "testudo_dead_letters_total".into(), labels, value: 3.0 }]);
}

#[test]
fn every_outcome_and_phase_has_a_series_from_the_start() {
    let metrics = Metrics::new();
    let tenant = TenantMetrics::new(&metrics, "zoo");

    tenant.commit(CommitOutcome::Fenced);
    tenant.phase(Phase::Drain, Duration::from_millis(5));

    let commits: BTreeMap<String, f64> =
        values_of(&metrics, "testudo_commits_total").into_iter().map(|sample| (sample.labels["outcome"].clone(), sample.value)).collect();
    let expected = [("aborted", 0.0), ("fenced", 1.0), ("ok", 0.0), ("ok-in-doubt", 0.0), ("unknown", 0.0)];
    assert_eq!(commits, expected.map(|(outcome, count)| (outcome.to_owned(), count)).into());
    let drained = values_of(&metrics, "testudo_commit_phase_seconds_sum").into_iter().find(|sample| sample.labels["phase"] == "drain");
    assert_eq!(drained.map(|sample| sample.value), Some(0.005));
}

#[test]
fn a_partition_that_left_shows_no_lag_but_keeps_its_count() {
    let metrics = Metrics::new();
    let tenant = TenantMetrics::new(&metrics, "zoo");
    let partition = tenant.partition("stream-topic-1", 2);
    partition.processed(10);
    partition.lag(LagTo::Lso, 7);
    assert_eq!(values_of(&metrics, "testudo_consumer_lag_records").len(), 1, "the other one is not known");

    drop(partition);

    assert_eq!(values_of(&metrics, "testudo_consumer_lag_records"), []);
    assert_eq!(values_of(&metrics, "testudo_records_processed_total").first().map(|sample| sample.value), Some(10.0));
}

#[test]
fn a_collection_shows_its_lag_while_it_is_known() {
    let metrics = Metrics::new();
    let collection = TenantMetrics::new(&metrics, "zoo").mongo("readings");
    let lag = || values_of(&metrics, "testudo_mongo_lag_records").first().map(|sample| sample.value);
    assert_eq!(lag(), None);

    collection.lag(Some(3));
    assert_eq!(lag(), Some(3.0));

    collection.lag(None);
    assert_eq!(lag(), None);
}

#[test]
fn a_worker_is_in_one_state() {
    let metrics = Metrics::new();
    let worker = TenantMetrics::new(&metrics, "zoo").worker(0);

    worker.state("restoring");
    worker.state("running");

    let states: Vec<String> =
        values_of(&metrics, "testudo_worker_state").into_iter().map(|sample| sample.labels["state"].clone()).collect();
    assert_eq!(states, ["running"]);
}

#[test]
fn the_largest_event_time_distance_stays_c43() {
    let metrics = Metrics::new();
    let tenant = TenantMetrics::new(&metrics, "zoo");

    tenant.event_time_distance(Duration::from_secs(1_742_000_000));
    tenant.event_time_distance(Duration::from_secs(3));

    let shown = values_of(&metrics, "testudo_event_time_distance_seconds");
    assert_eq!(shown.first().map(|sample| sample.value), Some(1_742_000_000.0));
}
