//! A partition's log: records and markers by offset, what of it is stable, what compaction and deletion leave.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use testudo::kafka::{Header, Outgoing};

/// What has become of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It belongs to an open transaction.
    Open,
    /// Its transaction was committed, or it never had one.
    Committed,
    /// Its transaction was aborted.
    Aborted,
    /// It is a marker, which takes an offset and is never delivered.
    Marker,
}

/// One offset of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its offset.
    pub offset: i64,
    /// Kafka timestamp, milliseconds since 1970.
    pub timestamp_ms: i64,
    /// Key bytes.
    pub key: Option<Bytes>,
    /// Value bytes, `None` for a tombstone.
    pub value: Option<Bytes>,
    /// Headers.
    pub headers: Vec<Header>,
    /// What has become of it.
    pub fate: Fate,
    producer: Option<i64>,
}

/// Why records are not appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AppendFault {
    /// A newer epoch of the producer has been here.
    Fenced,
    /// These are not the records that come next.
    OutOfOrder,
}

/// What a partition knows of a producer.
#[derive(Clone, Debug, Default)]
struct Producer {
    epoch: i16,
    next_sequence: usize,
    open_from: Option<i64>,
}

/// A partition's log.
#[derive(Debug, Default)]
pub struct Log {
    /// The first offset that is still there.
    pub low: i64,
    /// The next offset: the high watermark, there being one replica.
    pub next: i64,
    entries: Vec<Entry>,
    /// What compaction and deletion took away, for the judges.
    removed: Vec<Entry>,
    producers: BTreeMap<i64, Producer>,
}

impl Log {
    /// An empty log that begins at `low`.
    pub fn starting_at(low: i64) -> Self {
        Self { low, next: low, ..Self::default() }
    }

    /// The last stable offset: read-committed readers see nothing from here on.
    pub fn stable_end(&self) -> i64 {
        self.producers.values().filter_map(|producer| producer.open_from).min().unwrap_or(self.next)
    }

    /// Whether a producer's transaction is open here.
    pub fn is_open(&self, producer: i64, epoch: i16) -> bool {
        self.producers.get(&producer).is_some_and(|known| known.open_from.is_some() && known.epoch == epoch)
    }

    /// Whether any transaction is open here.
    pub fn has_open(&self) -> bool {
        self.producers.values().any(|producer| producer.open_from.is_some())
    }

    /// Appends a record without a transaction.
    pub fn append(&mut self, record: &Outgoing) {
        self.push(record, None, Fate::Committed);
    }

    /// Appends records of a transaction; `sequence` is the number of the first among the producer's records of this epoch. Records
    /// that are here already are acknowledged and not appended.
    pub fn append_open(&mut self, producer: i64, epoch: i16, sequence: usize, records: &[Outgoing]) -> Result<(), AppendFault> {
        let next = self.next;
        let known = self.producers.entry(producer).or_insert_with(|| Producer { epoch, ..Producer::default() });
        if epoch < known.epoch {
            return Err(AppendFault::Fenced);
        }
        if epoch > known.epoch {
            (known.epoch, known.next_sequence) = (epoch, 0);
        }
        if sequence + records.len() <= known.next_sequence {
            return Ok(());
        }
        if sequence != known.next_sequence {
            return Err(AppendFault::OutOfOrder);
        }
        known.next_sequence += records.len();
        known.open_from.get_or_insert(next);
        for record in records {
            self.push(record, Some(producer), Fate::Open);
        }
        Ok(())
    }

    /// Ends a producer's transaction here.
    pub fn mark(&mut self, producer: i64, epoch: i16, is_commit: bool) {
        let known = self.producers.entry(producer).or_default();
        if epoch > known.epoch {
            (known.epoch, known.next_sequence) = (epoch, 0);
        }
        let fate = if is_commit { Fate::Committed } else { Fate::Aborted };
        if let Some(from) = known.open_from.take() {
            let first = self.entries.partition_point(|entry| entry.offset < from);
            for entry in &mut self.entries[first..] {
                if entry.producer == Some(producer) && entry.fate == Fate::Open {
                    entry.fate = fate;
                }
            }
        }
        let marker = Entry {
            offset: self.next,
            timestamp_ms: 0,
            key: None,
            value: None,
            headers: Vec::new(),
            fate: Fate::Marker,
            producer: Some(producer),
        };
        self.entries.push(marker);
        self.next += 1;
    }

    fn push(&mut self, record: &Outgoing, producer: Option<i64>, fate: Fate) {
        self.entries.push(Entry {
            offset: self.next,
            timestamp_ms: record.timestamp_ms,
            key: record.key.clone(),
            value: record.value.clone(),
            headers: record.headers.to_vec(),
            fate,
            producer,
        });
        self.next += 1;
    }

    /// Committed records from `from` on, at most `most`, and where reading goes on. `is_dirty`: open and aborted ones too, which no
    /// read-committed reader would see.
    pub fn read(&self, from: i64, most: usize, is_dirty: bool) -> (Vec<&Entry>, i64) {
        let end = if is_dirty { self.next } else { self.stable_end() };
        let first = self.entries.partition_point(|entry| entry.offset < from);
        let mut found = Vec::new();
        for entry in self.entries[first..].iter().take_while(|entry| entry.offset < end) {
            let is_seen = entry.fate == Fate::Committed || (is_dirty && entry.fate != Fate::Marker);
            if !is_seen {
                continue;
            }
            if found.len() == most {
                return (found, entry.offset);
            }
            found.push(entry);
        }
        (found, end.max(from))
    }

    /// Keeps the last value of each key below the last stable offset, and no aborted record; tombstones go, too. Markers stay.
    pub fn compact(&mut self) {
        let end = self.stable_end();
        let mut last: HashMap<Bytes, i64> = HashMap::new();
        for entry in self.entries.iter().filter(|entry| entry.offset < end && entry.fate == Fate::Committed) {
            last.insert(entry.key.clone().unwrap_or_default(), entry.offset);
        }
        let is_kept = |entry: &Entry| match entry.fate {
            _ if entry.offset >= end => true,
            Fate::Marker | Fate::Open => true,
            Fate::Aborted => false,
            Fate::Committed => entry.value.is_some() && last.get(&entry.key.clone().unwrap_or_default()) == Some(&entry.offset),
        };
        let (kept, removed): (Vec<Entry>, Vec<Entry>) = std::mem::take(&mut self.entries).into_iter().partition(is_kept);
        self.entries = kept;
        self.removed.extend(removed);
    }

    /// Deletes everything before `low`.
    pub fn truncate(&mut self, low: i64) {
        self.low = self.low.max(low);
        let (removed, kept) = std::mem::take(&mut self.entries).into_iter().partition(|entry| entry.offset < self.low);
        self.entries = kept;
        self.removed.extend::<Vec<Entry>>(removed);
    }

    /// Every record that was ever committed here, in order, removed ones too.
    pub fn committed(&self) -> Vec<&Entry> {
        let mut all: Vec<&Entry> = self.removed.iter().chain(&self.entries).filter(|entry| entry.fate == Fate::Committed).collect();
        all.sort_by_key(|entry| entry.offset);
        all
    }

    /// The position after the last committed record; where the log begins when there is none.
    pub fn committed_end(&self) -> Option<i64> {
        self.committed().last().map(|entry| entry.offset + 1)
    }
}
