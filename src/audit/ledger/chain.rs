//! A chain: one input partition's ranges in the ledger, each beginning where the last one ended, beside the records that are there.

use std::sync::Arc;

use crate::audit::AuditError;
use crate::audit::history::History;
use crate::kafka::TopicPartition;
use crate::ledger::{Hasher, Range, Sum};

use super::source::Source;

/// One input partition.
#[derive(Debug)]
pub struct Chain {
    partition: TopicPartition,
    /// First offset that is still there.
    low: i64,
    /// Where the last range ended.
    end: Option<i64>,
    /// Where the first range began.
    began: Option<i64>,
    /// Everything before was read.
    read_until: i64,
    stream_time_us: Option<i64>,
    /// What operators did.
    history: Arc<History>,
}

/// What a range came to.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// As the ledger says.
    Right,
    /// Its records are gone by now.
    Gone,
    /// The first one begins behind records that no transaction took.
    Late {
        /// How many.
        records: u64,
    },
    /// Something is wrong with it.
    Wrong(Vec<Fault>),
}

/// What can be wrong with a range.
#[derive(Debug, PartialEq, Eq)]
pub enum Fault {
    /// It begins behind the end of the one before.
    Gap {
        /// Where that ended.
        from: i64,
        /// Records between the two.
        records: u64,
    },
    /// It begins before the end of the one before.
    Again {
        /// Where that ended.
        from: i64,
    },
    /// Its records are not those that the ledger tells of.
    Records {
        /// What is there.
        found: Sum,
    },
    /// Its own numbers contradict each other.
    Counts,
    /// Stream time went back (TIME-1).
    StreamTime,
}

impl Chain {
    /// A partition whose first record stands at `low`.
    pub fn new(partition: TopicPartition, low: i64) -> Self {
        Self { partition, low, end: None, began: None, read_until: low, stream_time_us: None, history: Arc::default() }
    }

    /// Takes what operators did. After a reset the chain begins where that set it.
    pub fn follow(&mut self, history: &Arc<History>) {
        self.history = history.clone();
        self.end = history.reset.as_ref().and_then(|reset| reset.inputs.get(&self.partition).copied());
        self.read_until = self.read_until.max(self.end.unwrap_or(0));
    }

    /// Where the last range ended.
    pub fn end(&self) -> Option<i64> {
        self.end
    }

    /// Whether records may stand before the first range.
    pub fn began_late(&self) -> bool {
        self.began > Some(self.history.input_from(&self.partition))
    }

    /// The next range, beside its records. Also says how many records were read for it.
    ///
    /// # Errors
    /// When the records cannot be read.
    pub fn take(&mut self, range: &Range, source: &mut dyn Source, hasher: &mut Hasher) -> Result<(Verdict, u64), AuditError> {
        let (first, end) = (range.first.0, range.end.0);
        let mut faults = Vec::new();
        let mut late = 0;
        match self.end {
            Some(from) if first < from => faults.push(Fault::Again { from }),
            Some(from) if first > from && self.history.is_skipped(&self.partition, from, first) => {
                self.sum_until(first, source, hasher)?;
            }
            Some(from) if first > from => {
                let records = self.sum_until(first, source, hasher)?.records;
                faults.push(Fault::Gap { from, records });
            }
            Some(_) => {}
            None => late = self.sum_until(first, source, hasher)?.records,
        }
        let found = self.sum_until(end, source, hasher)?;
        let is_gone = self.low > first;
        let was_read = !matches!(faults.first(), Some(Fault::Again { .. }));
        if was_read && !is_gone && found != range.taken {
            faults.push(Fault::Records { found });
        }
        let dropped_or_admitted = range.admitted + range.dropped;
        if dropped_or_admitted > range.taken.records || dropped_or_admitted + range.dead_letters < range.taken.records || end < first {
            faults.push(Fault::Counts);
        }
        if range.stream_time_us.is_some() && range.stream_time_us < self.stream_time_us {
            if self.was_lost_before(first) {
                self.stream_time_us = None;
            } else {
                faults.push(Fault::StreamTime);
            }
        }
        self.stream_time_us = self.stream_time_us.max(range.stream_time_us);
        self.end = self.end.max(Some(end));
        self.began.get_or_insert(first);
        let verdict = match (faults.is_empty(), late) {
            (false, _) => Verdict::Wrong(faults),
            (true, records) if records > 0 => Verdict::Late { records },
            (true, _) if is_gone && range.taken.records > 0 => Verdict::Gone,
            (true, _) => Verdict::Right,
        };
        Ok((verdict, found.records))
    }

    /// Whether state, and perhaps stream time with it, was lost with consent between the last range and one that begins at `first`.
    fn was_lost_before(&self, first: i64) -> bool {
        let between = self.end.unwrap_or(0)..=first;
        self.history.losses.iter().filter_map(|loss| loss.inputs.get(&self.partition)).any(|at| between.contains(at))
    }

    /// Adds up the records before `end` that were not read yet.
    fn sum_until(&mut self, end: i64, source: &mut dyn Source, hasher: &mut Hasher) -> Result<Sum, AuditError> {
        let mut sum = Sum::default();
        // The last record of a range is the one before its end: what stands behind is not asked for, it may not be there yet.
        while self.read_until < end {
            let Some(record) = source.next(&self.partition, end)? else {
                self.read_until = end;
                break;
            };
            self.read_until = record.offset + 1;
            sum.add(hasher.input(record.offset, record.timestamp_ms, record.key.as_deref(), record.value.as_deref()));
        }
        Ok(sum)
    }
}
