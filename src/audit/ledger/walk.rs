//! The walk: the ledger from its first transaction to its last, inputs and outputs beside it at its pace.
//!
//! What has to be kept is small: where each input partition stands, two sums for each lane, and the hashes of records that were read
//! before the ledger told of them. These are as many as transactions run at the same time, unless records are lacking; then
//! [`WAITING_MAX`] bounds them, and what could not be read in time is compared at the end.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

use super::chain::{Chain, Fault, Verdict};
use super::findings::Findings;
use super::lane::{Lane, Outcome, Point};
use super::layout::{BY_OPERATOR, Role};
use super::source::Source;
use crate::audit::AuditError;
use crate::audit::facts::InputRecord;
use crate::audit::history::History;
use crate::audit::report::Kind;
use crate::kafka::TopicPartition;
use crate::ledger::{Hasher, Range, Sum, Transaction};

/// Hashes that may wait in all lanes together: 24 MiB, twice that while a lane's room grows. A lane that asks for more has lost records.
pub const WAITING_MAX: usize = 1 << 20;
/// Ranges of a transaction that are shown.
const RANGES_SHOWN: usize = 4;

/// Looks at what passes by; MongoDB is held against it.
pub trait Witness {
    /// A committed output record before the end of what is audited.
    ///
    /// # Errors
    /// When it cannot be looked at.
    fn output(&mut self, record: &InputRecord, findings: &mut Findings) -> Result<(), AuditError>;

    /// A range that is as the ledger says, from the transaction at this offset of the ledger.
    ///
    /// # Errors
    /// When it cannot be looked at.
    fn range(&mut self, at: i64, range: &Range, findings: &mut Findings) -> Result<(), AuditError>;

    /// Everything has passed by.
    ///
    /// # Errors
    /// When it cannot be looked at.
    fn finish(&mut self, findings: &mut Findings) -> Result<(), AuditError>;
}

/// Bounds of a partition at the moment that is audited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// The first offset that is there.
    pub low: i64,
    /// The offset after the last.
    pub end: i64,
}

/// An output partition and its lanes.
#[derive(Debug)]
struct Output {
    role: Role,
    bounds: Bounds,
    lanes: BTreeMap<Option<TopicPartition>, Lane>,
    /// Its first records are gone.
    is_cut: bool,
    is_at_end: bool,
    /// Everything before was read.
    read_until: i64,
    /// The ledger tells of nothing more.
    is_told: bool,
}

/// A walk under way.
pub struct Walk<'w> {
    source: &'w mut dyn Source,
    witnesses: Vec<Box<dyn Witness + 'w>>,
    hasher: Hasher,
    chains: BTreeMap<TopicPartition, Chain>,
    outputs: BTreeMap<TopicPartition, Output>,
    /// Whether the ledger's first records are gone.
    is_cut: bool,
    history: Arc<History>,
    /// Records read of which the ledger has not told yet, and how many may be.
    waiting: usize,
    waiting_max: usize,
    /// Whether so many waited once.
    was_crowded: bool,
    /// Everything found so far.
    pub findings: Findings,
}

impl<'w> Walk<'w> {
    /// Nothing read yet. `inputs` are the first offsets of the input partitions.
    pub fn new(
        source: &'w mut dyn Source,
        inputs: BTreeMap<TopicPartition, i64>,
        outputs: BTreeMap<TopicPartition, (Role, Bounds)>,
        is_cut: bool,
        first: usize,
    ) -> Self {
        let chains = inputs.into_iter().map(|(partition, low)| (partition.clone(), Chain::new(partition, low))).collect();
        let output = |(partition, (role, bounds)): (TopicPartition, (Role, Bounds))| {
            let is_cut = bounds.low > 0;
            (partition, Output { role, bounds, lanes: BTreeMap::new(), is_cut, is_at_end: false, read_until: bounds.low, is_told: false })
        };
        Self {
            source,
            witnesses: Vec::new(),
            hasher: Hasher::default(),
            chains,
            outputs: outputs.into_iter().map(output).collect(),
            is_cut,
            history: Arc::default(),
            waiting: 0,
            waiting_max: WAITING_MAX,
            was_crowded: false,
            findings: Findings::new(first),
        }
    }

    /// Lets fewer records wait.
    #[cfg(test)]
    pub fn keep_at_most(&mut self, waiting: usize) {
        self.waiting_max = waiting;
    }

    /// Has somebody look at what passes by.
    pub fn witness(&mut self, witness: Box<dyn Witness + 'w>) {
        self.witnesses.push(witness);
    }

    /// Takes what operators did; before the first transaction.
    pub fn follow(&mut self, history: &Arc<History>) {
        self.chains.values_mut().for_each(|chain| chain.follow(history));
        for (partition, output) in &mut self.outputs {
            output.is_cut = output.bounds.low > history.output_from(partition);
        }
        self.findings.deeds = history.notes();
        self.findings.warnings.extend(history.warnings.iter().cloned());
        self.history = history.clone();
    }

    /// The next transaction of the ledger, which stands at offset `at` there.
    ///
    /// # Errors
    /// When inputs or outputs cannot be read.
    pub fn transaction(&mut self, at: i64, transaction: &Transaction) -> Result<(), AuditError> {
        let mut told: BTreeMap<(TopicPartition, Option<TopicPartition>), (Sum, bool)> = BTreeMap::new();
        for range in &transaction.inputs {
            self.input(at, transaction, range)?;
            let begins_late = self.is_cut || self.chains.get(&range.partition).is_some_and(Chain::began_late);
            let mut letters = 0;
            for (partition, sum) in &range.outputs {
                let Some(output) = self.outputs.get(partition) else {
                    self.findings.warn(format!("the ledger tells of {partition}, which is no output of the tenant (any more)"));
                    continue;
                };
                letters += if output.role == Role::DeadLetters { sum.records } else { 0 };
                let (told, is_late) = told.entry((partition.clone(), output.role.lane_of(&range.partition))).or_default();
                *told += *sum;
                *is_late |= begins_late;
            }
            if letters != range.dead_letters {
                let detail = format!("{letters} dead letters were produced, the ledger counts {}", range.dead_letters);
                self.wrong_input(at, transaction, range, Kind::Different, detail);
            }
        }
        let described: Arc<str> = described(at, transaction).into();
        for ((partition, lane), (sum, begins_late)) in told {
            self.output(at, &described, &partition, lane, sum, begins_late)?;
        }
        Ok(())
    }

    fn wrong_input(&mut self, at: i64, transaction: &Transaction, range: &Range, kind: Kind, detail: String) {
        let what = format!("input {}", range.partition.topic);
        self.findings.wrong(&what, kind, format!("{} {} to {}", range.partition, range.first, range.end), detail);
        self.findings.parts_at(at, described(at, transaction));
    }

    fn input(&mut self, at: i64, transaction: &Transaction, range: &Range) -> Result<(), AuditError> {
        let Some(chain) = self.chains.get_mut(&range.partition) else {
            self.findings.warn(format!("the ledger tells of {}, which is no input of the tenant (any more)", range.partition));
            return Ok(());
        };
        let (verdict, found) = chain.take(range, self.source, &mut self.hasher)?;
        let what = format!("input {}", range.partition.topic);
        self.findings.counts.records += range.taken.records;
        self.findings.counts.admitted += range.admitted;
        self.findings.counts.dropped += range.dropped;
        self.findings.counts.refused += range.taken.records.saturating_sub(range.admitted + range.dropped);
        match verdict {
            Verdict::Gone => {
                self.findings.count(&what, found, found);
                self.findings.warn(format!("{what}: records are gone already, their transactions' sums were not compared"));
                return Ok(());
            }
            Verdict::Right => self.findings.count(&what, range.taken.records, found),
            Verdict::Late { records } => {
                self.findings.count(&what, range.taken.records, found);
                self.findings.warn(format!(
                    "the ledger of {} begins at {}: {records} records before it are in no transaction that it knows",
                    range.partition, range.first
                ));
            }
            Verdict::Wrong(faults) => {
                self.findings.count(&what, range.taken.records, found);
                for fault in faults {
                    let (kind, detail) = told_input(&fault, range);
                    self.wrong_input(at, transaction, range, kind, detail);
                }
                return Ok(());
            }
        }
        for witness in &mut self.witnesses {
            witness.range(at, range, &mut self.findings)?;
        }
        Ok(())
    }

    /// The ledger tells of records in a lane: as many are read, and compared.
    fn output(
        &mut self,
        at: i64,
        transaction: &Arc<str>,
        partition: &TopicPartition,
        id: Option<TopicPartition>,
        sum: Sum,
        begins_late: bool,
    ) -> Result<(), AuditError> {
        if begins_late {
            self.align(partition, &id, sum)?;
        }
        self.read_for(partition, &id, sum.records)?;
        let Some(output) = self.outputs.get_mut(partition) else { return Ok(()) };
        let lane = output.lanes.entry(id).or_default();
        let before = lane.waiting();
        lane.tell(sum, at, transaction);
        self.waiting -= before - lane.waiting();
        Ok(())
    }

    /// A ledger that begins in the middle: leaves out what stands before the records of its first transaction.
    fn align(&mut self, partition: &TopicPartition, id: &Option<TopicPartition>, sum: Sum) -> Result<(), AuditError> {
        let is_new = |output: &Output| output.lanes.get(id).is_none_or(|lane| lane.is_new() && !lane.is_unaligned);
        if !self.outputs.get(partition).is_some_and(is_new) {
            return Ok(());
        }
        loop {
            self.read_for(partition, id, sum.records)?;
            let Some(output) = self.outputs.get_mut(partition) else { return Ok(()) };
            let lane = output.lanes.entry(id.clone()).or_default();
            if lane.lacking(sum.records) > 0 {
                lane.is_unaligned = true;
                return Ok(());
            }
            if lane.begins_with(sum) {
                return Ok(());
            }
            self.waiting -= 1;
        }
    }

    /// Reads an output partition until a lane has so many records waiting, or its end is reached.
    fn read_for(&mut self, partition: &TopicPartition, id: &Option<TopicPartition>, records: u64) -> Result<(), AuditError> {
        loop {
            let Some(output) = self.outputs.get(partition) else { return Ok(()) };
            let lacking = output.lanes.get(id).map_or(records, |lane| lane.lacking(records));
            let others = self.waiting - output.lanes.get(id).map_or(0, Lane::waiting);
            if lacking == 0 || output.is_at_end {
                return Ok(());
            }
            if others >= self.waiting_max {
                self.was_crowded = true;
                return Ok(());
            }
            self.read_one(partition)?;
        }
    }

    /// Reads the next record of an output partition into its lane.
    fn read_one(&mut self, partition: &TopicPartition) -> Result<(), AuditError> {
        let record = self.source.next(partition, i64::MAX)?;
        let Some(output) = self.outputs.get_mut(partition) else { return Ok(()) };
        let Some(record) = record else {
            output.is_at_end = true;
            return Ok(());
        };
        if matches!(output.role, Role::Changelog(_)) && record.header(BY_OPERATOR).is_some() {
            output.read_until = record.offset + 1;
            return Ok(());
        }
        let headers = record.headers.iter().map(|(name, value)| (name.as_str(), value.as_deref().unwrap_or_default()));
        let hash = self.hasher.output(record.timestamp_ms, record.key.as_deref(), record.value.as_deref(), headers);
        output.read_until = record.offset + 1;
        let is_audited = record.offset < output.bounds.end;
        match output.role.lane(&record) {
            Some(id) => {
                let lane = output.lanes.entry(id).or_default();
                let waits = lane.read(record.offset, hash);
                match output.is_told {
                    true => lane.close(output.bounds.end),
                    false => self.waiting += usize::from(waits),
                }
            }
            None if is_audited => {
                let what = format!("output {}", partition.topic);
                self.findings.count(&what, 0, 1);
                self.findings.wrong(&what, Kind::Extra, record.place(), "names no input partition: it was not produced by Testudo");
            }
            None => {}
        }
        if is_audited {
            for witness in &mut self.witnesses {
                witness.output(&record, &mut self.findings)?;
            }
        }
        Ok(())
    }

    /// Everything is told: reads what is left of the outputs. `committed` has the group's positions from before and after the ledger was
    /// read.
    ///
    /// # Errors
    /// When outputs cannot be read.
    pub fn finish(mut self, committed: &BTreeMap<TopicPartition, (Option<i64>, Option<i64>)>) -> Result<Findings, AuditError> {
        self.positions(committed);
        let partitions: Vec<TopicPartition> = self.outputs.keys().cloned().collect();
        for partition in &partitions {
            self.close_lanes(partition);
            while self.outputs.get(partition).is_some_and(|output| !output.is_at_end && output.read_until < output.bounds.end) {
                self.read_one(partition)?;
            }
        }
        for (partition, output) in std::mem::take(&mut self.outputs) {
            let (mut told, mut found) = (0, 0);
            for (id, lane) in output.lanes {
                let name = match id {
                    Some(origin) => format!("{partition} from {origin}"),
                    None => partition.to_string(),
                };
                let (before, is_unaligned, outcome) = (lane.before, lane.is_unaligned, lane.finish());
                told += outcome.told;
                found += outcome.found;
                let is_compacted = matches!(output.role, Role::Changelog(_)) && outcome.found < outcome.told;
                if is_compacted {
                    let note = format!("{name}: compacted, {} of {} records are left and were not compared", outcome.found, outcome.told);
                    self.findings.notes.push(note);
                } else if outcome.parting.is_some() && (is_unaligned || (output.is_cut && outcome.found <= outcome.told)) {
                    let why = if is_unaligned { "the ledger begins in the middle" } else { "the first records are gone already" };
                    self.findings.warnings.push(format!("{name}: {why}, sums were not compared"));
                } else {
                    self.lane(&partition, &name, outcome);
                }
                if before > 0 && !is_unaligned {
                    self.findings.notes.push(format!("{name}: {before} records stand before the first of which the ledger tells"));
                }
            }
            self.findings.count(&format!("output {}", partition.topic), told, found);
        }
        if self.was_crowded {
            let why = "some were compared later, as a whole: what is wrong may lie behind the transaction that is told";
            self.findings.notes.push(format!("more than {} records waited for the ledger to tell of them; {why}", self.waiting_max));
        }
        for witness in &mut self.witnesses {
            witness.finish(&mut self.findings)?;
        }
        Ok(self.findings)
    }

    /// Nothing more will be told of a partition's lanes.
    fn close_lanes(&mut self, partition: &TopicPartition) {
        let Some(output) = self.outputs.get_mut(partition) else { return };
        output.is_told = true;
        for lane in output.lanes.values_mut() {
            self.waiting -= lane.waiting();
            lane.close(output.bounds.end);
        }
    }

    /// Where the chains ended, beside the group's positions.
    fn positions(&mut self, committed: &BTreeMap<TopicPartition, (Option<i64>, Option<i64>)>) {
        for (partition, chain) in &self.chains {
            let what = format!("input {}", partition.topic);
            match (chain.end(), committed.get(partition).copied().unwrap_or_default()) {
                (None, (Some(position), _)) if position > 0 => self
                    .findings
                    .warnings
                    .push(format!("the ledger knows no transaction of {partition}, where the group stands at {position}: not audited")),
                (Some(end), (Some(before), _)) if end < before && !self.history.is_skipped(partition, end, before) => {
                    let detail = format!("the ledger ends at {end}, the group stands at {before}");
                    self.findings.wrong(&what, Kind::Missing, partition, detail);
                }
                (Some(end), (_, after)) if after.is_none_or(|after| after < end) => {
                    let stands = after.map_or_else(|| "nowhere".to_owned(), |after| format!("at {after}"));
                    self.findings.wrong(&what, Kind::Extra, partition, format!("the ledger ends at {end}, the group stands {stands}"));
                }
                _ => {}
            }
        }
    }

    /// Notes where a lane's two sides part.
    fn lane(&mut self, partition: &TopicPartition, name: &str, outcome: Outcome) {
        let Some((agreed, parted)) = outcome.parting else { return };
        let kind = match outcome.found.cmp(&outcome.told) {
            Ordering::Less => Kind::Missing,
            Ordering::Equal => Kind::Different,
            Ordering::Greater => Kind::Extra,
        };
        let until = agreed.as_ref().map_or_else(
            || "from the first record on".to_owned(),
            |point| format!("right up to offset {} ({})", point.offset, point.transaction),
        );
        let then = match &parted {
            Some(point) => format!("wrong from {} on", point.transaction),
            None => "then records that no transaction tells of".to_owned(),
        };
        let detail = format!("{until}, {then}: the ledger tells of {} records, {} are there", outcome.told, outcome.found);
        self.findings.wrong(&format!("output {}", partition.topic), kind, name, detail);
        if let Some(Point { at, transaction, .. }) = parted {
            self.findings.parts_at(at, transaction);
        }
    }
}

/// A transaction for people: its place in the ledger, who committed it, and its input ranges.
fn described(at: i64, transaction: &Transaction) -> String {
    let range = |range: &Range| format!("{} {} to {}", range.partition, range.first, range.end);
    let ranges: Vec<String> = transaction.inputs.iter().take(RANGES_SHOWN).map(range).collect();
    let more = if transaction.inputs.len() > RANGES_SHOWN { ", …" } else { "" };
    format!("ledger@{at} {} #{}: {}{more}", transaction.transactional_id, transaction.sequence, ranges.join(", "))
}

fn told_input(fault: &Fault, range: &Range) -> (Kind, String) {
    match fault {
        Fault::Gap { from, records } => (
            Kind::Missing,
            format!(
                "the range before it ended at {from}: no transaction of the ledger has positions {from} to {} ({records} records)",
                range.first
            ),
        ),
        Fault::Again { from } => (Kind::Extra, format!("the range before it ended at {from}: positions were taken again")),
        Fault::Records { found } => {
            let kind = match found.records.cmp(&range.taken.records) {
                Ordering::Less => Kind::Missing,
                Ordering::Equal => Kind::Different,
                Ordering::Greater => Kind::Extra,
            };
            (kind, format!("the transaction took {} records, {} are there, and their sum is another", range.taken.records, found.records))
        }
        Fault::Counts => (Kind::Different, "its counts contradict each other".to_owned()),
        Fault::StreamTime => (Kind::Different, "stream time went back (TIME-1)".to_owned()),
    }
}
