//! A slice: what one poll brought, for each partition a run of records in offset order, as columns.

use std::ops::Deref;
use std::sync::Arc;

use arrow::array::{Array, BinaryArray, BinaryBuilder};

use super::position::{Offset, Position, TopicPartition};

/// What one poll brought: at most one run for each partition.
#[derive(Debug, Default)]
pub struct Slice {
    /// The runs, one for each partition that had records.
    pub runs: Vec<Run>,
}

impl Slice {
    /// Number of records in all runs.
    pub fn records(&self) -> usize {
        self.runs.iter().map(Run::len).sum()
    }
}

/// A record header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// The header's name.
    pub name: String,
    /// The header's value; Kafka allows none.
    pub value: Option<Vec<u8>>,
}

/// The headers of a record to be produced. Records that carry the same ones share them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headers(Option<Arc<[Header]>>);

impl Deref for Headers {
    type Target = [Header];

    fn deref(&self) -> &[Header] {
        self.0.as_deref().unwrap_or_default()
    }
}

impl From<Vec<Header>> for Headers {
    fn from(headers: Vec<Header>) -> Self {
        Self((!headers.is_empty()).then(|| headers.into()))
    }
}

/// Records of one partition in offset order, as columns of equal length.
#[derive(Clone, Debug)]
pub struct Run {
    /// Where the records come from.
    pub partition: TopicPartition,
    offsets: Vec<i64>,
    timestamps_ms: Vec<i64>,
    keys: BinaryArray,
    values: BinaryArray,
    /// Only records that carry headers, by row.
    headers: Vec<(usize, Vec<Header>)>,
}

/// One record of a run, borrowed.
#[derive(Clone, Copy, Debug)]
pub struct RecordRef<'a> {
    /// The record's offset.
    pub offset: Offset,
    /// The record's Kafka timestamp in milliseconds since 1970, -1 where it has none.
    pub timestamp_ms: i64,
    /// Key bytes, if any.
    pub key: Option<&'a [u8]>,
    /// Value bytes, `None` for a tombstone.
    pub value: Option<&'a [u8]>,
    /// The record's headers, mostly none.
    pub headers: &'a [Header],
}

impl Run {
    /// Number of records.
    pub fn len(&self) -> usize {
        self.offsets.len()
    }

    /// Whether the run holds no record.
    pub fn is_empty(&self) -> bool {
        self.offsets.is_empty()
    }

    /// Offsets, ascending.
    pub fn offsets(&self) -> &[i64] {
        &self.offsets
    }

    /// Kafka timestamps in milliseconds since 1970, -1 where a record has none.
    pub fn timestamps_ms(&self) -> &[i64] {
        &self.timestamps_ms
    }

    /// Key bytes, null where a record has no key.
    pub fn keys(&self) -> &BinaryArray {
        &self.keys
    }

    /// Value bytes, null for tombstones.
    pub fn values(&self) -> &BinaryArray {
        &self.values
    }

    /// The record in `row`. Panics when `row` is not below [`Run::len`].
    pub fn record(&self, row: usize) -> RecordRef<'_> {
        RecordRef {
            offset: Offset(self.offsets[row]),
            timestamp_ms: self.timestamps_ms[row],
            key: self.keys.is_valid(row).then(|| self.keys.value(row)),
            value: self.values.is_valid(row).then(|| self.values.value(row)),
            headers: self.headers(row),
        }
    }

    /// The headers of the record in `row`.
    pub fn headers(&self, row: usize) -> &[Header] {
        match self.headers.binary_search_by_key(&row, |(at, _)| *at) {
            Ok(found) => &self.headers[found].1,
            Err(_) => &[],
        }
    }

    /// The records from `position` on; the whole run as it is when nothing lies before.
    pub fn starting_at(self, position: Position) -> Self {
        let first = self.offsets.partition_point(|offset| position.is_past(Offset(*offset)));
        if first == 0 {
            return self;
        }
        let rest = self.len() - first;
        Self {
            keys: self.keys.slice(first, rest),
            values: self.values.slice(first, rest),
            offsets: self.offsets[first..].to_vec(),
            timestamps_ms: self.timestamps_ms[first..].to_vec(),
            headers: self.headers.into_iter().filter_map(|(row, headers)| Some((row.checked_sub(first)?, headers))).collect(),
            partition: self.partition,
        }
    }

    /// The records before `position`; the whole run as it is when nothing lies behind.
    pub fn ending_at(self, position: Position) -> Self {
        let kept = self.offsets.partition_point(|offset| position.is_past(Offset(*offset)));
        if kept == self.len() {
            return self;
        }
        Self {
            keys: self.keys.slice(0, kept),
            values: self.values.slice(0, kept),
            offsets: self.offsets[..kept].to_vec(),
            timestamps_ms: self.timestamps_ms[..kept].to_vec(),
            headers: self.headers.into_iter().take_while(|(row, _)| *row < kept).collect(),
            partition: self.partition,
        }
    }

    /// The position after the last record; `None` for an empty run.
    pub fn end(&self) -> Option<Position> {
        self.offsets.last().map(|last| Position::after(Offset(*last)))
    }

    /// Bytes of keys and values.
    pub fn bytes(&self) -> usize {
        self.keys.value_data().len() + self.values.value_data().len()
    }
}

/// Builds a [`Run`] record by record.
pub struct RunBuilder {
    partition: TopicPartition,
    offsets: Vec<i64>,
    timestamps_ms: Vec<i64>,
    keys: BinaryBuilder,
    values: BinaryBuilder,
    headers: Vec<(usize, Vec<Header>)>,
    bytes: usize,
}

impl RunBuilder {
    /// An empty run of `partition`.
    pub fn new(partition: TopicPartition) -> Self {
        Self {
            partition,
            offsets: Vec::new(),
            timestamps_ms: Vec::new(),
            keys: BinaryBuilder::new(),
            values: BinaryBuilder::new(),
            headers: Vec::new(),
            bytes: 0,
        }
    }

    /// Where the records come from.
    pub fn partition(&self) -> &TopicPartition {
        &self.partition
    }

    /// Appends a record; its offset must be above the last one's.
    pub fn push(&mut self, offset: Offset, timestamp_ms: i64, key: Option<&[u8]>, value: Option<&[u8]>, headers: Vec<Header>) {
        debug_assert!(self.offsets.last().is_none_or(|last| *last < offset.0), "a run is in offset order");
        if !headers.is_empty() {
            self.headers.push((self.offsets.len(), headers));
        }
        self.offsets.push(offset.0);
        self.timestamps_ms.push(timestamp_ms);
        self.keys.append_option(key);
        self.values.append_option(value);
        self.bytes += key.map_or(0, <[u8]>::len) + value.map_or(0, <[u8]>::len);
    }

    /// Number of records so far.
    pub fn len(&self) -> usize {
        self.offsets.len()
    }

    /// Whether nothing was appended.
    pub fn is_empty(&self) -> bool {
        self.offsets.is_empty()
    }

    /// Bytes of keys and values so far.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The finished run.
    pub fn finish(mut self) -> Run {
        Run {
            partition: self.partition,
            offsets: self.offsets,
            timestamps_ms: self.timestamps_ms,
            keys: self.keys.finish(),
            values: self.values.finish(),
            headers: self.headers,
        }
    }
}
