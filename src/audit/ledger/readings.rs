//! A collection of readings beside the walk: as many documents in each range as records were admitted.

use std::collections::HashMap;

use super::collections::told;
use super::findings::Findings;
use super::mongo::Mongo;
use super::walk::Witness;
use crate::audit::AuditError;
use crate::audit::facts::InputRecord;
use crate::audit::report::Kind;
use crate::kafka::TopicPartition;
use crate::ledger::Range;

/// Ranges are counted together up to so many records; one by one where the number is wrong.
const SPAN_RECORDS: i64 = 50_000;
/// And up to so many ranges, of which each takes 24 bytes until they are counted.
const SPAN_RANGES: usize = 4_096;

/// A collection that is fed from input topics.
pub struct Readings<'w> {
    name: String,
    mongo: Mongo<'w>,
    /// Up to here its sink has written, for the partitions that feed it.
    written: HashMap<TopicPartition, i64>,
    spans: HashMap<TopicPartition, Span>,
    waiting: u64,
    set_aside: u64,
}

/// Ranges that follow each other.
#[derive(Debug, Default)]
struct Span {
    from: i64,
    until: i64,
    admitted: u64,
    /// Place in the ledger, end and admitted records of each range.
    ranges: Vec<(i64, i64, u64)>,
}

impl<'w> Readings<'w> {
    /// A collection of which nothing was looked at yet; `written` has the partitions that feed it, and how far its sink is with them.
    pub fn new(name: &str, mongo: Mongo<'w>, written: HashMap<TopicPartition, i64>) -> Self {
        Self { name: name.to_owned(), mongo, written, spans: HashMap::new(), waiting: 0, set_aside: 0 }
    }

    fn check(&mut self, partition: &TopicPartition, findings: &mut Findings) -> Result<(), AuditError> {
        let Some(span) = self.spans.remove(partition).filter(|span| !span.ranges.is_empty()) else { return Ok(()) };
        let row = format!("mongo {}", self.name);
        let (documents, set_aside) = self.mongo.records_within(&self.name, partition, span.from, span.until)?;
        self.set_aside += set_aside;
        findings.count(&row, span.admitted, documents + set_aside);
        if documents + set_aside == span.admitted {
            return Ok(());
        }
        let mut from = span.from;
        for (at, end, admitted) in span.ranges {
            let (documents, set_aside) = self.mongo.records_within(&self.name, partition, from, end)?;
            let found = documents + set_aside;
            if found != admitted {
                let kind = if found < admitted { Kind::Missing } else { Kind::Extra };
                let detail = format!("{found} documents of {admitted} admitted records");
                findings.wrong(&row, kind, format!("{partition} {from} to {end}"), detail);
                findings.parts_at(at, format!("ledger@{at}: {partition} {from} to {end}"));
            }
            from = end;
        }
        Ok(())
    }
}

impl Witness for Readings<'_> {
    fn output(&mut self, _: &InputRecord, _: &mut Findings) -> Result<(), AuditError> {
        Ok(())
    }

    fn range(&mut self, at: i64, range: &Range, findings: &mut Findings) -> Result<(), AuditError> {
        let Some(written) = self.written.get(&range.partition).copied() else { return Ok(()) };
        if range.end.0 > written {
            self.waiting += range.admitted;
            return Ok(());
        }
        let is_next =
            |span: &Span| span.until == range.first.0 && range.end.0 - span.from <= SPAN_RECORDS && span.ranges.len() < SPAN_RANGES;
        if !self.spans.get(&range.partition).is_some_and(is_next) {
            self.check(&range.partition, findings)?;
            self.spans.insert(range.partition.clone(), Span { from: range.first.0, ..Span::default() });
        }
        if let Some(span) = self.spans.get_mut(&range.partition) {
            span.until = range.end.0;
            span.admitted += range.admitted;
            span.ranges.push((at, range.end.0, range.admitted));
        }
        Ok(())
    }

    fn finish(&mut self, findings: &mut Findings) -> Result<(), AuditError> {
        let mut partitions: Vec<TopicPartition> = self.spans.keys().cloned().collect();
        partitions.sort();
        for partition in partitions {
            self.check(&partition, findings)?;
        }
        told(findings, &format!("mongo {}", self.name), self.waiting, self.set_aside, 0);
        Ok(())
    }
}
