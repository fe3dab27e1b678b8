//! The model: input records in offset order → everything that should have come of them, by docs/semantics.md alone.
//!
//! One record at a time, one row at a time, nothing batched: what the engine does with columns, epochs and stores must come
//! to the same.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use super::admission::{Admission, Row, Screened};
use super::aggregate::{Contribution, Fold};
use super::datum::Shape;
use super::documents;
use super::facts::{Expected, ExpectedLetter, ExpectedWindow, InputRecord, WindowId};
use super::history::History;
use super::job::{Alert, Job, Window};
use super::rulings::Rulings;
use super::sql::Typed;
use super::types::Type;
use super::value::{Value, fnv, row_hash};
use crate::avro::{Reference, SchemaKind};
use crate::kafka::TopicPartition;
use crate::kafka::partitioner::Partitioner;
use crate::tenant::CollectionOf;

/// What the registry said about a writer schema id.
#[derive(Clone, Debug)]
pub enum WriterSchema {
    /// Its text, and those of the schemas that it refers to.
    Known {
        /// What it is a schema of.
        kind: SchemaKind,
        /// The schema's text.
        json: String,
        /// The schemas that it refers to.
        references: Vec<Reference>,
    },
    /// There is no such id.
    Missing,
    /// It is there, but no schema of a known kind.
    Unusable,
}

impl WriterSchema {
    /// The shape of an Avro schema that can be used.
    pub fn shape(&self) -> Option<Shape> {
        match self {
            Self::Known { kind: SchemaKind::Avro, json, references } => Shape::parse_writer(json, &texts_of(references)).ok(),
            _ => None,
        }
    }
}

/// The texts of references, each once, under however many names it stands.
pub fn texts_of(references: &[Reference]) -> Vec<&str> {
    let mut texts: Vec<&str> = Vec::with_capacity(references.len());
    for reference in references {
        if !texts.contains(&reference.text.as_str()) {
            texts.push(&reference.text);
        }
    }
    texts
}

/// What the registry said about a schema's GUID.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GuidSchema {
    /// The schema has this id.
    Id(u32),
    /// No schema has it.
    Missing,
    /// The registry knows no GUIDs.
    NoGuids,
}

/// Hash of the Kafka key, the timestamp and the place: outputs with the same identity are compared by value.
pub fn identity(key: Option<&[u8]>, timestamp_ms: i64, partition: i32) -> u128 {
    let mut bytes = vec![u8::from(key.is_some())];
    bytes.extend_from_slice(&timestamp_ms.to_le_bytes());
    bytes.extend_from_slice(&partition.to_le_bytes());
    bytes.extend_from_slice(key.unwrap_or_default());
    fnv(&bytes)
}

/// Hash of a window's result: values, Kafka timestamp, place.
pub fn result_hash<'a>(fields: impl Iterator<Item = (&'a str, &'a Value)>, timestamp_ms: i64, partition: i32) -> u128 {
    let mut bytes = row_hash(fields).to_le_bytes().to_vec();
    bytes.extend_from_slice(&timestamp_ms.to_le_bytes());
    bytes.extend_from_slice(&partition.to_le_bytes());
    fnv(&bytes)
}

/// Recomputes a tenant's outputs from its inputs.
pub struct Recompute<'a> {
    job: &'a Job,
    admission: Admission<'a>,
    partitions: &'a HashMap<Arc<str>, i32>,
    stream_times: HashMap<TopicPartition, i64>,
    folds: BTreeMap<WindowId, WindowFold>,
    collected_sources: HashSet<usize>,
    /// Losses of state that were accepted: window, input partition, and the position where it happened.
    losses: Vec<(usize, TopicPartition, i64)>,
    expected: Expected,
}

/// What a record was read for.
#[derive(Clone, Copy, Debug)]
pub struct For {
    /// For windows.
    pub windows: bool,
    /// For alerts, readings and their dead letters.
    pub rest: bool,
}

/// A window that fills.
struct WindowFold {
    by: Vec<Value>,
    aggregates: Vec<Fold>,
    latest_ms: i64,
    after_each: Vec<u128>,
}

impl<'a> Recompute<'a> {
    /// Nothing read yet. `partitions` gives the number of partitions of every input and output topic.
    pub fn new(job: &'a Job, collections: &[super::job::Collection], partitions: &'a HashMap<Arc<str>, i32>) -> Self {
        let collected = collections.iter().filter_map(|collection| match collection.of {
            CollectionOf::Source(source) => Some(source),
            _ => None,
        });
        let mut expected = Expected { unaudited: job.unaudited.clone(), ..Expected::default() };
        for (alert, index) in job.alerts.iter().zip(0..) {
            if alert.is_some() {
                expected.alerts.insert(index, HashMap::new());
            }
        }
        let stages = job.unaudited.iter().filter_map(|text| text.split(':').next());
        expected.unaudited_stages = stages.filter(|stage| !stage.starts_with("column ")).map(Into::into).collect();
        Self {
            job,
            admission: Admission::new(job, partitions),
            partitions,
            stream_times: HashMap::new(),
            folds: BTreeMap::new(),
            collected_sources: collected.collect(),
            losses: Vec::new(),
            expected,
        }
    }

    /// The writer schema id that must be [learnt](Self::learn) before `record` is pushed.
    pub fn unknown_schema(&self, record: &InputRecord) -> Option<u32> {
        self.admission.unknown_schema(record)
    }

    /// The GUID that must be [learnt](Self::learn_guid) before `record` is pushed, and before its id is asked for.
    pub fn unknown_guid(&self, record: &InputRecord) -> Option<[u8; 16]> {
        self.admission.unknown_guid(record)
    }

    /// Takes the registry's word on a GUID.
    pub fn learn_guid(&mut self, guid: [u8; 16], found: &GuidSchema) {
        self.admission.learn_guid(guid, found);
    }

    /// Takes what was decided about writer schemas; before the first is learnt.
    pub fn rule(&mut self, rulings: Rulings) {
        self.admission.rule(rulings);
    }

    /// Takes the registry's word on a writer schema id.
    pub fn learn(&mut self, id: u32, schema: &WriterSchema) {
        self.admission.learn(id, schema);
    }

    /// Takes what operators did; before the first record is pushed.
    pub fn follow(&mut self, history: &History) {
        let positions = history.losses.iter().flat_map(|loss| loss.inputs.keys());
        let partitions: BTreeSet<&TopicPartition> = positions.collect();
        for (window, index) in self.job.windows.iter().zip(0..) {
            let Some(window) = window else { continue };
            let over = partitions.iter().filter(|partition| self.job.source_of.get(&partition.topic) == Some(&window.declared.source));
            self.losses.extend(
                over.filter_map(|partition| Some((index, (*partition).clone(), history.lost_at(&window.declared.name, partition)?))),
            );
        }
    }

    /// Offsets that an operator left out.
    pub fn skip(&mut self, offsets: u64) {
        self.expected.counts.skipped += offsets;
    }

    /// Keeps the stream time at which windows' state was lost, before the first record after it.
    fn pass_losses(&mut self, reached: impl Fn(&TopicPartition, i64) -> bool) {
        let (passed, ahead): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.losses).into_iter().partition(|(_, partition, at)| reached(partition, *at));
        self.losses = ahead;
        for (window, partition, _) in passed {
            let stream_time = self.stream_times.get(&partition).copied().unwrap_or(i64::MIN);
            self.expected.lost.insert((window, partition), stream_time);
        }
    }

    /// The next record of its partition.
    pub fn push(&mut self, record: &InputRecord) {
        self.push_for(record, For { windows: true, rest: true });
    }

    /// The same of a record that an operator may have left out of windows, or of everything else.
    pub fn push_for(&mut self, record: &InputRecord, read_for: For) {
        if !self.losses.is_empty() {
            self.pass_losses(|partition, at| *partition == record.partition && record.offset >= at);
        }
        self.expected.counts.records += 1;
        match self.admission.screen(record) {
            Screened::Ignored => {}
            Screened::Tombstone => self.expected.counts.tombstones += 1,
            Screened::OtherRecord => self.expected.counts.other_records += 1,
            Screened::Refused(stage, reason) => {
                self.expected.counts.refused += 1;
                if read_for.rest {
                    self.refuse(record, &stage.into(), vec![reason]);
                }
            }
            Screened::Admitted(row) => {
                self.expected.counts.admitted += 1;
                if read_for.rest {
                    self.branch_to_the_rest(record, &row);
                }
                if read_for.windows {
                    self.branch_to_windows(record, &row);
                }
            }
        }
    }

    fn refuse(&mut self, record: &InputRecord, stage: &Arc<str>, reasons: Vec<&'static str>) {
        let value = record.value.as_deref().unwrap_or_default();
        let letter = ExpectedLetter {
            reasons,
            key: fnv(record.key.as_deref().unwrap_or_default()),
            timestamp_ms: record.timestamp_ms.max(1),
            value: (value.len(), fnv(value)),
        };
        self.expected.letters.insert((record.place(), stage.clone()), letter);
    }

    /// Offers an admitted record to its source's collection and alerts.
    fn branch_to_the_rest(&mut self, record: &InputRecord, row: &Row) {
        if self.collected_sources.contains(&row.source) {
            let hashes = documents::reading_hashes(&self.job.sources[row.source], record, row);
            self.expected.admitted.entry(row.source).or_default().insert(record.place(), hashes);
        }
        let job = self.job;
        for (alert, index) in job.alerts.iter().zip(0..) {
            if let Some(alert) = alert.as_ref().filter(|alert| alert.declared.source == row.source) {
                self.alert(index, alert, record, row);
            }
        }
    }

    /// Offers an admitted record to its source's windows.
    fn branch_to_windows(&mut self, record: &InputRecord, row: &Row) {
        let stream_time = self.stream_times.entry(record.partition.clone()).or_insert(i64::MIN);
        *stream_time = (*stream_time).max(row.time_us);
        let stream_time = *stream_time;
        let job = self.job;
        for (window, index) in job.windows.iter().zip(0..) {
            if let Some(window) = window.as_ref().filter(|window| window.declared.source == row.source) {
                self.window(index, window, record, row, stream_time);
            }
        }
    }

    fn alert(&mut self, index: usize, alert: &Alert, record: &InputRecord, row: &Row) {
        match alert.filter.expr.is_met(&row.values) {
            Err(_) => self.refuse(record, &alert.stage, vec!["expression-failed"]),
            Ok(false) => {}
            Ok(true) => {
                let source = &self.job.sources[row.source];
                let fields = source.columns.iter().map(|column| column.name.as_str()).zip(&row.values).take(source.tenant_columns);
                let key = row.key.as_bytes();
                let place = self.place_of(&alert.declared.topic, key);
                let found = self.expected.alerts.entry(index).or_default();
                found.entry(identity(Some(key), record.timestamp_ms.max(1), place)).or_default().push((row_hash(fields), record.place()));
            }
        }
    }

    /// The partition of an output key.
    fn place_of(&self, topic: &str, key: &[u8]) -> i32 {
        let partitions = self.partitions.get(topic).copied().unwrap_or(1);
        Partitioner::Murmur2.place(key, partitions).unwrap_or(0)
    }

    fn window(&mut self, index: usize, window: &Window, record: &InputRecord, row: &Row, stream_time: i64) {
        match window.filter.as_ref().map(|filter| filter.expr.is_met(&row.values)) {
            Some(Err(_)) => return self.refuse(record, &window.stage, vec!["expression-failed"]),
            Some(Ok(false)) => return,
            Some(Ok(true)) | None => {}
        }
        let start_us = window.start_of(row.time_us);
        let by: Result<Vec<Value>, _> = window.by.iter().map(|column| column.expr.eval(&row.values)).collect();
        let contributions: Result<Vec<Contribution>, _> =
            window.aggregates.iter().map(|aggregate| aggregate.contribution(&row.values)).collect();
        let (by, contributions) = match (by, contributions) {
            (Ok(by), Ok(contributions)) => (by, contributions),
            _ => return self.refuse(record, &window.stage, vec!["expression-failed"]),
        };
        if by.iter().any(Value::is_null) {
            return self.refuse(record, &window.stage, vec!["key-is-null"]);
        }
        if window.is_closed(start_us, stream_time) {
            return self.refuse(record, &window.stage, vec!["late"]);
        }
        if window.is_too_large(&by, &contributions) {
            return self.refuse(record, &window.stage, vec!["value-too-large"]);
        }
        let key = result_key(&window.by, &by);
        let place = self.place_of(&window.declared.topic, &key);
        let id = WindowId { window: index, origin: record.partition.clone(), start_us, key };
        let fold = self.folds.entry(id).or_insert_with(|| WindowFold {
            by,
            aggregates: window.aggregates.iter().map(super::aggregate::Aggregate::empty).collect(),
            latest_ms: i64::MIN,
            after_each: Vec::new(),
        });
        for ((aggregate, fold), contribution) in window.aggregates.iter().zip(&mut fold.aggregates).zip(contributions) {
            aggregate.fold(fold, contribution);
        }
        fold.latest_ms = fold.latest_ms.max(record.timestamp_ms);
        if !window.declared.is_final {
            let hash = fold.hash(window, start_us, place);
            fold.after_each.push(hash);
        }
    }

    /// Everything that the records so far call for.
    pub fn finish(mut self) -> Expected {
        self.pass_losses(|_, _| true);
        for (id, fold) in std::mem::take(&mut self.folds) {
            let Some(window) = &self.job.windows[id.window] else { continue };
            let stream_time = self.stream_times.get(&id.origin).copied().unwrap_or(i64::MIN);
            let place = self.place_of(&window.declared.topic, &id.key);
            let fields = fold.fields(window, id.start_us);
            let text = fields.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" ");
            let expected = ExpectedWindow {
                result: fold.hash(window, id.start_us, place),
                text,
                is_closed: window.is_closed(id.start_us, stream_time),
                store_key: fold.by.iter().zip(&window.by).map(|(value, column)| documents::store_part(value, column.kind)).collect(),
                after_each: fold.after_each,
            };
            self.expected.windows.insert(id, expected);
        }
        self.expected
    }
}

impl WindowFold {
    /// The result's fields: key columns, bounds, select columns. A select expression that fails on a row is null there.
    fn fields<'w>(&self, window: &'w Window, start_us: i64) -> Vec<(&'w str, Value)> {
        let mut finished = self.by.clone();
        finished.push(Value::timestamp_us(start_us));
        finished.push(Value::timestamp_us(start_us.saturating_add(window.declared.size_us)));
        let bounds = finished.len();
        finished.extend(window.aggregates.iter().zip(&self.aggregates).map(|(aggregate, fold)| aggregate.finish(fold)));
        let names = window.declared.by.iter().map(|(name, _)| name.as_str()).chain(["window_start", "window_end"]);
        let mut fields: Vec<(&str, Value)> = names.zip(finished.iter().take(bounds).cloned()).collect();
        fields.extend(window.select.iter().map(|(name, column)| (name.as_str(), column.expr.eval(&finished).unwrap_or(Value::Null))));
        fields
    }

    fn hash(&self, window: &Window, start_us: i64, partition: i32) -> u128 {
        let fields = self.fields(window, start_us);
        result_hash(fields.iter().map(|(name, value)| (*name, value)), self.latest_ms.max(1), partition)
    }
}

/// The Kafka key of a window's results: the one key column as text, or a JSON array of several.
fn result_key(columns: &[Typed], by: &[Value]) -> Arc<[u8]> {
    let text = |(column, value): (&Typed, &Value)| match column.kind {
        // No zone, no instant.
        Type::Timestamp(_, false) => value.to_string().trim_end_matches('Z').to_owned(),
        _ => value.to_string(),
    };
    let mut parts: Vec<String> = columns.iter().zip(by).map(text).collect();
    match parts.len() {
        1 => parts.remove(0).as_bytes().into(),
        _ => serde_json::Value::from(parts).to_string().as_bytes().into(),
    }
}

/// Recomputes from records that are all at hand; `schemas` answers for the registry.
pub fn recompute(
    job: &Job,
    collections: &[super::job::Collection],
    partitions: &HashMap<Arc<str>, i32>,
    mut schemas: impl FnMut(u32) -> WriterSchema,
    inputs: impl Iterator<Item = InputRecord>,
) -> Expected {
    let mut recompute = Recompute::new(job, collections, partitions);
    for record in inputs {
        if let Some(id) = recompute.unknown_schema(&record) {
            recompute.learn(id, &schemas(id));
        }
        recompute.push(&record);
    }
    recompute.finish()
}

#[cfg(test)]
#[path = "recompute_tests.rs"]
mod tests;
