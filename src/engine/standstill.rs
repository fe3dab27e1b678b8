//! Moves a tenant that stands still to other positions: the group's positions and the progress in every changelog, in one transaction.
//!
//! State, changelogs and group must agree before a partition may be taken up (EOS-9), so nobody may move one of them alone. The mover
//! joins the tenant's group as any worker does and goes on only as its sole member: nothing is processed meanwhile, and who joins
//! later makes the membership that the transaction carries an old one, which the broker refuses.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::job::identity_of;
use super::rejection::header;
use crate::clock::{Deadline, SharedClock};
use crate::kafka::transaction::{End, Phases, Ready, Waits};
use crate::kafka::{
    Broker, Failure, GroupConsumer, Header, Mark, Outgoing, Position, Reaction, Rebalance, TopicDescription, TopicPartition, TopicReader,
};
use crate::store::keys::{ChangelogKey, changelog_progress_key, read_changelog_key};
use crate::store::{LoggedProgress, WindowIdentity};
use crate::tenant::{Tenant, Window};

/// Wait for positions and bounds; longer than a dead owner's transaction lives.
const POSITIONS_WAIT: Duration = Duration::from_secs(25);
/// One wait for the group's answer.
const POLL_WAIT: Duration = Duration::from_millis(100);
/// A changelog that brings nothing for this long cannot be read.
const STALL_MAX: Duration = Duration::from_secs(60);
/// Changelog records read at once.
const RECORDS_MAX: usize = 10_000;
/// The last progress record mostly lies within so many records of a changelog's end.
const TAIL: i64 = 20_000;

/// Why a tenant was not moved; nothing has changed.
#[derive(Debug, thiserror::Error)]
pub enum StandstillFault {
    /// The broker fails.
    #[error(transparent)]
    Kafka(#[from] Failure),
    /// Others are at work.
    #[error("group {group} gives this command {mine} of {all} partitions: it has other members; stop all instances of the tenant")]
    Busy {
        /// The group.
        group: String,
        /// Partitions that were assigned here.
        mine: usize,
        /// All of them.
        all: usize,
    },
}

/// The right to move a tenant's positions, as long as nobody else joins its group.
pub struct Standstill<B: Broker> {
    broker: Arc<B>,
    clock: SharedClock,
    consumer: B::Consumer,
    positions: BTreeMap<TopicPartition, Option<Position>>,
}

impl<B: Broker> Standstill<B> {
    /// Joins the tenant's group and waits until all partitions of `inputs` are assigned here.
    pub fn enter(
        broker: Arc<B>,
        clock: SharedClock,
        tenant: &Tenant,
        inputs: &[TopicDescription],
        wait: Duration,
    ) -> Result<Self, StandstillFault> {
        let topics: Vec<Arc<str>> = tenant.input_topics().cloned().collect();
        let consumer = broker.consumer(&tenant.group(), None, &topics)?;
        let all = partitions_of(inputs);
        let mut standstill = Self { broker, clock, consumer, positions: BTreeMap::new() };
        let deadline = Deadline::after(&*standstill.clock, wait);
        while !all.iter().all(|partition| standstill.positions.contains_key(partition)) {
            if deadline.is_over(&*standstill.clock) {
                return Err(StandstillFault::Busy { group: tenant.group(), mine: standstill.positions.len(), all: all.len() });
            }
            for rebalance in standstill.consumer.poll(1, POLL_WAIT)?.rebalances {
                standstill.answer(rebalance)?;
            }
        }
        Ok(standstill)
    }

    fn answer(&mut self, rebalance: Rebalance) -> Result<(), Failure> {
        match rebalance {
            Rebalance::Assigned(partitions) => {
                let committed = self.consumer.committed(&partitions, POSITIONS_WAIT)?;
                let mut starts = Vec::with_capacity(partitions.len());
                for (partition, committed) in partitions.into_iter().zip(committed) {
                    let committed = committed.map(|mark| mark.position);
                    // Paused and never resumed; but the client must be given a place that exists.
                    let bounds = self.consumer.watermarks(&partition, POSITIONS_WAIT)?;
                    starts.push((partition.clone(), committed.unwrap_or(bounds.low).max(bounds.low).min(bounds.high)));
                    self.positions.insert(partition, committed);
                }
                self.consumer.assign(&starts)
            }
            Rebalance::Revoked(partitions) | Rebalance::Lost(partitions) => {
                self.positions.retain(|partition, _| !partitions.contains(partition));
                self.consumer.unassign(&partitions)
            }
        }
    }

    /// Where the group stands.
    pub fn positions(&self) -> &BTreeMap<TopicPartition, Option<Position>> {
        &self.positions
    }

    /// Sends `records` and sets the group to `positions`, in one transaction under `transactional_id`.
    pub fn relocate(
        mut self,
        transactional_id: &str,
        timeout: Duration,
        records: &[Outgoing],
        positions: &[(TopicPartition, Position)],
    ) -> Result<(), Failure> {
        let waits = Waits { init: timeout, transaction: timeout.mul_f64(0.9) };
        let mut open = Ready::init(self.broker.producer(transactional_id)?, self.clock.clone(), waits)?.begin()?;
        for record in records {
            if let Err(failure) = open.send(record) {
                return match open.abort(failure) {
                    End::Aborted(_, failure) | End::Unknown(failure) => Err(failure),
                    End::Committed(_) | End::CommittedInDoubt => unreachable!("nothing was committed"),
                };
            }
        }
        let marks: Vec<(TopicPartition, Mark)> =
            positions.iter().map(|(partition, position)| (partition.clone(), (*position).into())).collect();
        match open.commit(&marks, || self.consumer.group(), &mut Phases::default()) {
            End::Committed(_) | End::CommittedInDoubt => Ok(()),
            End::Aborted(_, failure) => Err(failure),
            // A new producer ends what the old one left open; then the group knows (EOS-7).
            End::Unknown(failure) => {
                Ready::init(self.broker.producer(transactional_id)?, self.clock.clone(), waits)?;
                let partitions: Vec<TopicPartition> = marks.iter().map(|(partition, _)| partition.clone()).collect();
                let committed = self.consumer.committed(&partitions, POSITIONS_WAIT)?;
                let wanted = marks.iter().map(|(_, mark)| Some(*mark));
                if committed.into_iter().eq(wanted) { Ok(()) } else { Err(failure) }
            }
        }
    }
}

/// All partitions of topics.
pub fn partitions_of(topics: &[TopicDescription]) -> BTreeSet<TopicPartition> {
    let of = |topic: &TopicDescription| (0..topic.partitions).map(|partition| TopicPartition::new(topic.name.clone(), partition)).collect();
    topics.iter().flat_map(|topic| -> Vec<TopicPartition> { of(topic) }).collect()
}

/// The windows over an input topic, with the changelog of each and the identity that its progress records carry.
pub fn windows_over<'t>(tenant: &'t Tenant, topic: &str) -> Vec<(&'t Window, Arc<str>, WindowIdentity)> {
    let reads = |window: &&Window| tenant.sources[window.source].topics.iter().any(|input| **input == *topic);
    let with_changelog = |window: &'t Window| (window, tenant.changelog_topic(window, topic), identity_of(window, topic));
    tenant.windows.iter().filter(reads).map(with_changelog).collect()
}

/// The record by which an operator says in a changelog how far its input is in it; no transaction of the ledger tells of it.
pub fn progress_record(changelog: &TopicPartition, logged: &LoggedProgress, timestamp_ms: i64) -> Outgoing {
    Outgoing {
        topic: changelog.topic.clone(),
        partition: changelog.partition,
        key: Some(changelog_progress_key().into()),
        value: Some(serde_json::to_vec(logged).expect("numbers and text always encode").into()),
        timestamp_ms: Outgoing::stamp(timestamp_ms),
        headers: vec![Header { name: header::OPERATOR.into(), value: None }].into(),
    }
}

/// The last progress record of a changelog partition.
pub fn last_logged(
    reader: &mut dyn TopicReader,
    clock: &SharedClock,
    changelog: &TopicPartition,
) -> Result<Option<LoggedProgress>, Failure> {
    let bounds = reader.bounds(changelog, POSITIONS_WAIT)?;
    let tail = Position((bounds.high.0 - TAIL).max(bounds.low.0));
    let near = last_logged_from(reader, clock, changelog, tail, bounds.high)?;
    if near.is_some() || tail == bounds.low {
        return Ok(near);
    }
    last_logged_from(reader, clock, changelog, bounds.low, bounds.high)
}

fn last_logged_from(
    reader: &mut dyn TopicReader,
    clock: &SharedClock,
    changelog: &TopicPartition,
    from: Position,
    end: Position,
) -> Result<Option<LoggedProgress>, Failure> {
    let (mut at, mut last) = (from, None);
    let mut stalls = Deadline::after(&**clock, STALL_MAX);
    if at < end {
        reader.start(changelog, at)?;
    }
    while at < end {
        let read = reader.read(RECORDS_MAX, POLL_WAIT)?;
        if let Some(run) = &read.run {
            for row in 0..run.len() {
                let record = run.record(row);
                if record.key.and_then(read_changelog_key) == Some(ChangelogKey::Progress) {
                    last = record.value.and_then(|value| serde_json::from_slice(value).ok());
                }
            }
        }
        if read.position > at {
            (at, stalls) = (read.position, Deadline::after(&**clock, STALL_MAX));
        } else if stalls.is_over(&**clock) {
            return Err(Failure::timed_out(Reaction::Retry, format!("read {changelog} to its end"), STALL_MAX));
        }
    }
    Ok(last)
}
