//! Collects what an epoch takes and produces, and makes the transaction's ledger record of it.
//!
//! Hot path: one hash for each input record and each output record; look-ups and allocations happen for each run.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;

use super::digest::{Hasher, Sum};
use super::record::{Range, Transaction};
use crate::avro::frame::SchemaId;
use crate::kafka::{Headers, Outgoing, Position, Run, TopicPartition};

/// A ledger record is cut at about this many bytes: with hundreds of partitions it could outgrow what a broker takes.
const RECORD_BYTES_MAX: usize = 256 << 10;

/// Bytes of an entry besides its topic's name: counts, positions, hash.
const ENTRY_BYTES: usize = 80;

/// What does not change from one transaction to the next.
#[derive(Clone, Debug)]
pub struct Author {
    /// The ledger's topic.
    pub topic: Arc<str>,
    /// Id of the ledger's schema.
    pub schema: SchemaId,
    /// The worker's transactional id.
    pub transactional_id: String,
    /// Version of the tenant file.
    pub tenant_version: String,
}

/// What became of the first records of a run.
#[derive(Clone, Copy, Debug)]
pub struct Taken<'r> {
    /// How many of the run's records were dealt with.
    pub records: usize,
    /// The position that they lead to.
    pub end: Position,
    /// Records admitted.
    pub admitted: u64,
    /// Records dropped by rule.
    pub dropped: u64,
    /// Dead letters written because of them.
    pub dead_letters: u64,
    /// Stream time after them, microseconds since 1970.
    pub stream_time_us: Option<i64>,
    /// Writer schema of each admitted record.
    pub schema_ids: &'r [u32],
}

/// The ledger of one worker: the epoch being filled.
#[derive(Debug)]
pub struct Writer {
    author: Author,
    sequence: i64,
    hasher: Hasher,
    schema_ids: BTreeSet<u32>,
    inputs: BTreeMap<TopicPartition, Open>,
}

/// A range being filled.
#[derive(Debug)]
struct Open {
    range: Range,
    /// For each topic the sums of its partitions, by number.
    outputs: Vec<(Arc<str>, Vec<Sum>)>,
}

impl Writer {
    /// An empty ledger.
    pub fn new(author: Author) -> Self {
        Self { author, sequence: 0, hasher: Hasher::default(), schema_ids: BTreeSet::new(), inputs: BTreeMap::new() }
    }

    /// Records of a partition were taken into the epoch. `first` is where the partition stands without this epoch.
    pub fn took(&mut self, run: &Run, first: Position, taken: &Taken<'_>) {
        let range = &mut open(&mut self.inputs, &run.partition, first).range;
        let columns = run.offsets().iter().zip(run.timestamps_ms()).zip(run.keys().iter().zip(run.values().iter()));
        for ((offset, timestamp_ms), (key, value)) in columns.take(taken.records) {
            range.taken.add(self.hasher.input(*offset, *timestamp_ms, key, value));
        }
        range.end = taken.end;
        range.admitted += taken.admitted;
        range.dropped += taken.dropped;
        range.dead_letters += taken.dead_letters;
        range.stream_time_us = taken.stream_time_us;
        // Neighbours mostly have the same schema.
        let mut last = None;
        for id in taken.schema_ids {
            if last != Some(id) && *id != SchemaId::NONE.0 {
                self.schema_ids.insert(*id);
                last = Some(id);
            }
        }
    }

    /// A record is to be produced because of records of `origin`, which stands at `first` without this epoch.
    pub fn produced(&mut self, origin: &TopicPartition, first: Position, record: &Outgoing) {
        self.produced_all(origin, first, std::slice::from_ref(record));
    }

    /// As [`Writer::produced`], for many records.
    pub fn produced_all(&mut self, origin: &TopicPartition, first: Position, records: &[Outgoing]) {
        if records.is_empty() {
            return;
        }
        let outputs = &mut open(&mut self.inputs, origin, first).outputs;
        for record in records {
            let headers = record.headers.iter().map(|header| (header.name.as_str(), header.value.as_deref().unwrap_or_default()));
            let hash = self.hasher.output(record.timestamp_ms, record.key.as_deref(), record.value.as_deref(), headers);
            let is_its = |(topic, _): &(Arc<str>, _)| Arc::ptr_eq(topic, &record.topic) || *topic == record.topic;
            let at = outputs.iter().position(is_its).unwrap_or_else(|| {
                outputs.push((record.topic.clone(), Vec::new()));
                outputs.len() - 1
            });
            let sums = &mut outputs[at].1;
            let partition = usize::try_from(record.partition).expect("records are placed in partitions from 0 on");
            if sums.len() <= partition {
                sums.resize(partition + 1, Sum::default());
            }
            sums[partition].add(hash);
        }
    }

    /// Ends the epoch: its ledger record, or a few where it would be too large for one, with this Kafka timestamp.
    pub fn close(&mut self, timestamp_ms: i64) -> Vec<Outgoing> {
        let schema_ids: Vec<u32> = std::mem::take(&mut self.schema_ids).into_iter().collect();
        let mut records = Vec::with_capacity(1);
        let (mut inputs, mut bytes) = (Vec::new(), 0);
        for open in std::mem::take(&mut self.inputs).into_values() {
            let range = open.close();
            let size = bytes_of(&range);
            if bytes + size > RECORD_BYTES_MAX && !inputs.is_empty() {
                records.push(self.record(std::mem::take(&mut inputs), &schema_ids, timestamp_ms));
                bytes = 0;
            }
            bytes += size;
            inputs.push(range);
        }
        records.push(self.record(inputs, &schema_ids, timestamp_ms));
        self.sequence += 1;
        records
    }

    /// The epoch came to nothing.
    pub fn discard(&mut self) {
        self.schema_ids.clear();
        self.inputs.clear();
    }

    fn record(&self, inputs: Vec<Range>, schema_ids: &[u32], timestamp_ms: i64) -> Outgoing {
        let transaction = Transaction {
            transactional_id: self.author.transactional_id.clone(),
            sequence: self.sequence,
            program: env!("CARGO_PKG_VERSION").to_owned(),
            tenant_version: self.author.tenant_version.clone(),
            schema_ids: schema_ids.to_vec(),
            inputs,
        };
        Outgoing {
            topic: self.author.topic.clone(),
            partition: 0,
            key: Some(Bytes::copy_from_slice(self.author.transactional_id.as_bytes())),
            value: Some(transaction.encode(self.author.schema).into()),
            timestamp_ms,
            headers: Headers::default(),
        }
    }
}

/// The open range of a partition.
fn open<'i>(inputs: &'i mut BTreeMap<TopicPartition, Open>, partition: &TopicPartition, first: Position) -> &'i mut Open {
    if !inputs.contains_key(partition) {
        let range = Range {
            partition: partition.clone(),
            first,
            end: first,
            taken: Sum::default(),
            admitted: 0,
            dropped: 0,
            dead_letters: 0,
            stream_time_us: None,
            outputs: Vec::new(),
        };
        inputs.insert(partition.clone(), Open { range, outputs: Vec::new() });
    }
    inputs.get_mut(partition).expect("inserted where it was lacking")
}

impl Open {
    fn close(self) -> Range {
        let sums = self.outputs.into_iter().flat_map(|(topic, sums)| {
            let of_topic = sums.into_iter().zip(0..).filter(|(sum, _)| sum.records > 0);
            of_topic.map(move |(sum, partition)| (TopicPartition::new(topic.clone(), partition), sum)).collect::<Vec<_>>()
        });
        Range { outputs: sums.collect(), ..self.range }
    }
}

fn bytes_of(range: &Range) -> usize {
    let topics = std::iter::once(&range.partition).chain(range.outputs.iter().map(|(partition, _)| partition));
    topics.map(|partition| ENTRY_BYTES + partition.topic.len()).sum()
}

#[cfg(test)]
#[path = "writer_tests.rs"]
mod tests;
