//! Copies what a rebuilt generation wrote aside into the output topics: each record as it is, once. The positions in the topics aside
//! travel in the transactions that copy, so that a copy that was interrupted goes on where it stood.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use crate::clock::{Deadline, SharedClock};
use crate::failpoint;
use crate::kafka::transaction::{End, Phases, Ready, Waits};
use crate::kafka::{
    Broker, Failure, GroupConsumer, Header, Mark, NewTopic, Outgoing, Position, Reaction, Rebalance, Run, TopicDescription, TopicPartition,
    TopicReader,
};
use crate::tenant::Tenant;

/// One question to the broker; longer than a dead copier's transaction lives.
const WAIT: Duration = Duration::from_secs(25);
const POLL_WAIT: Duration = Duration::from_millis(100);
/// Records in one transaction.
const RECORDS_MAX: usize = 5_000;
/// So often in a row a copy may fail without having copied anything.
const TRIES_MAX: u32 = 8;
const TRY_PAUSE: Duration = Duration::from_secs(1);
/// A copy that does not move for this long is begun again.
const STALL_MAX: Duration = Duration::from_secs(60);

/// The topics aside: as wide as what they stand for, kept until they are deleted, whatever the records' times (TIME-3).
pub fn staging_topics(tenant: &Tenant, topics: &HashMap<Arc<str>, TopicDescription>) -> Vec<NewTopic> {
    let config =
        [("cleanup.policy", "delete"), ("retention.ms", "-1"), ("retention.bytes", "-1"), ("message.timestamp.type", "CreateTime")];
    let config = config.map(|(key, value)| (key.to_owned(), value.to_owned())).to_vec();
    let aside = |name: Arc<str>| NewTopic {
        partitions: topics.get(&name).map_or(1, |topic| topic.partitions),
        name: tenant.staging_topic(&name),
        config: config.clone(),
    };
    tenant.rebuilt_topics().into_iter().map(aside).collect()
}

/// The consumer group of the copy.
pub fn copy_group(tenant: &Tenant) -> String {
    // A dot: no tenant has a group of such a name.
    format!("{}.copy", tenant.own_name())
}

/// A copy under way.
pub struct Copier<'c, B: Broker> {
    /// The broker.
    pub broker: &'c Arc<B>,
    /// Time.
    pub clock: &'c SharedClock,
    /// The tenant, of the generation whose results are copied.
    pub tenant: &'c Tenant,
    /// `transaction.timeout.ms` of the producers.
    pub timeout: Duration,
    /// Whether to stop.
    pub is_stopped: &'c dyn Fn() -> bool,
}

impl<B: Broker> Copier<'_, B> {
    /// Copies everything. False when it was stopped before.
    ///
    /// # Errors
    /// When the broker refuses, or fails again and again; what is copied stays, once.
    pub fn run(&self) -> Result<bool, Failure> {
        let (mut tries, mut copied) = (0, 0);
        loop {
            let before = copied;
            let failure = match self.attempt(&mut copied) {
                Ok(is_done) => return Ok(is_done),
                Err(failure) => failure,
            };
            tries = if copied > before { 1 } else { tries + 1 };
            if failure.reaction == Reaction::Stop || tries >= TRIES_MAX {
                return Err(failure);
            }
            tracing::warn!(%failure, "copy begins again at its committed positions");
            self.clock.sleep(TRY_PAUSE);
        }
    }

    /// Copies what is left; counts what it has copied.
    fn attempt(&self, copied: &mut usize) -> Result<bool, Failure> {
        let targets: HashMap<Arc<str>, Arc<str>> =
            self.tenant.rebuilt_topics().into_iter().map(|topic| (self.tenant.staging_topic(&topic), topic)).collect();
        let aside: Vec<Arc<str>> = targets.keys().cloned().collect();
        let ends = self.ends(&aside)?;
        let group = copy_group(self.tenant);
        let waits = Waits { init: self.timeout, transaction: self.timeout.mul_f64(0.9) };
        // First: it ends what a dead copier left open.
        let mut ready = Ready::init(self.broker.producer(&group)?, self.clock.clone(), waits)?;
        let mut consumer = self.broker.consumer(&group, None, &aside)?;
        let mut paused: BTreeMap<TopicPartition, Position> = BTreeMap::new();
        let mut next: BTreeMap<TopicPartition, Position> = BTreeMap::new();
        let mut reached: BTreeMap<TopicPartition, Position> = BTreeMap::new();
        let mut stalls = Deadline::after(&**self.clock, STALL_MAX);
        while !ends.iter().all(|(partition, end)| reached.get(partition) >= Some(end)) {
            if (self.is_stopped)() {
                return Ok(false);
            }
            let polled = consumer.poll(RECORDS_MAX, POLL_WAIT)?;
            for rebalance in polled.rebalances {
                answer(&mut consumer, rebalance, &mut paused, &mut next)?;
                reached.retain(|partition, _| next.contains_key(partition));
            }
            if let Some(poison) = polled.poisoned.first() {
                return Err(Failure::new(Reaction::Retry, format!("read {}", poison.partition), &poison.cause));
            }
            resume(&mut consumer, &mut paused)?;
            let from_next = |run: Run| {
                let from = *next.get(&run.partition)?;
                Some(run.starting_at(from)).filter(|run| !run.is_empty())
            };
            let runs: Vec<Run> = polled.slice.runs.into_iter().filter_map(from_next).collect();
            if !runs.is_empty() {
                ready = self.copy(ready, &runs, &targets, &mut consumer, waits)?;
                *copied += runs.iter().map(Run::len).sum::<usize>();
                next.extend(runs.iter().filter_map(|run| Some((run.partition.clone(), run.end()?))));
                stalls = Deadline::after(&**self.clock, STALL_MAX);
            }
            // Past control records too, which no run holds.
            let flowing: Vec<TopicPartition> = next.keys().filter(|partition| !paused.contains_key(*partition)).cloned().collect();
            for (partition, position) in flowing.iter().zip(consumer.fetch_positions(&flowing)?) {
                reached.insert(partition.clone(), position.unwrap_or(next[partition]).max(next[partition]));
            }
            if stalls.is_over(&**self.clock) {
                return Err(Failure::timed_out(Reaction::Retry, format!("copy {}", aside.join(", ")), STALL_MAX));
            }
        }
        Ok(true)
    }

    /// Where the topics aside end; nobody writes to them any more. All of them are there until the results are exchanged.
    fn ends(&self, topics: &[Arc<str>]) -> Result<Vec<(TopicPartition, Position)>, Failure> {
        let described = self.broker.describe(topics, WAIT)?;
        if let Some(missing) = topics.iter().find(|topic| !described.iter().any(|known| known.name == **topic)) {
            let why = "it is not there: the tenant file names other output topics than those that were rebuilt; take that change back";
            return Err(Failure::new(Reaction::Retry, format!("copy {missing}"), why));
        }
        let mut reader = self.broker.reader()?;
        let mut ends = Vec::new();
        for topic in described {
            for partition in 0..topic.partitions {
                let partition = TopicPartition::new(topic.name.clone(), partition);
                let bounds = reader.bounds(&partition, WAIT)?;
                if bounds.high > bounds.low {
                    ends.push((partition, bounds.high));
                }
            }
        }
        Ok(ends)
    }

    /// One transaction: records, and the positions behind them.
    fn copy(
        &self,
        ready: Ready<B::Producer>,
        runs: &[Run],
        targets: &HashMap<Arc<str>, Arc<str>>,
        consumer: &mut B::Consumer,
        waits: Waits,
    ) -> Result<Ready<B::Producer>, Failure> {
        let mut open = ready.begin()?;
        for run in runs {
            let Some(topic) = targets.get(&run.partition.topic) else { continue };
            for row in 0..run.len() {
                if let Err(failure) = open.send(&copied(run, row, topic)) {
                    return match open.abort(failure) {
                        End::Aborted(_, failure) | End::Unknown(failure) => Err(failure),
                        End::Committed(_) | End::CommittedInDoubt => unreachable!("nothing was committed"),
                    };
                }
            }
        }
        failpoint::at("rebuild.copying");
        let marks: Vec<(TopicPartition, Mark)> = runs.iter().filter_map(|run| Some((run.partition.clone(), run.end()?.into()))).collect();
        let end = open.commit(&marks, || consumer.group(), &mut Phases::default());
        failpoint::at("rebuild.copied_some");
        match end {
            End::Committed(ready) => Ok(ready),
            End::CommittedInDoubt => Ready::init(self.broker.producer(&copy_group(self.tenant))?, self.clock.clone(), waits),
            End::Aborted(_, failure) | End::Unknown(failure) => Err(failure),
        }
    }
}

fn copied(run: &Run, row: usize, topic: &Arc<str>) -> Outgoing {
    let record = run.record(row);
    let headers: Vec<Header> = record.headers.to_vec();
    Outgoing {
        topic: topic.clone(),
        partition: run.partition.partition,
        key: record.key.map(|key| key.to_vec().into()),
        value: record.value.map(|value| value.to_vec().into()),
        timestamp_ms: record.timestamp_ms,
        headers: headers.into(),
    }
}

fn answer<C: GroupConsumer>(
    consumer: &mut C,
    rebalance: Rebalance,
    paused: &mut BTreeMap<TopicPartition, Position>,
    next: &mut BTreeMap<TopicPartition, Position>,
) -> Result<(), Failure> {
    match rebalance {
        Rebalance::Assigned(partitions) => {
            let committed = consumer.committed(&partitions, WAIT)?;
            let mut starts = Vec::with_capacity(partitions.len());
            for (partition, committed) in partitions.into_iter().zip(committed) {
                let low = consumer.watermarks(&partition, WAIT)?.low;
                starts.push((partition, committed.map_or(low, |mark| mark.position)));
            }
            consumer.assign(&starts)?;
            next.extend(starts.iter().cloned());
            paused.extend(starts);
            Ok(())
        }
        Rebalance::Revoked(partitions) | Rebalance::Lost(partitions) => {
            paused.retain(|partition, _| !partitions.contains(partition));
            next.retain(|partition, _| !partitions.contains(partition));
            consumer.unassign(&partitions)
        }
    }
}

/// Partitions are assigned paused; a client that does not fetch them yet is asked again.
fn resume<C: GroupConsumer>(consumer: &mut C, paused: &mut BTreeMap<TopicPartition, Position>) -> Result<(), Failure> {
    let waiting: Vec<(TopicPartition, Position)> = paused.iter().map(|(partition, position)| (partition.clone(), *position)).collect();
    for (partition, position) in waiting {
        match consumer.resume(&partition, position) {
            Ok(()) => {
                paused.remove(&partition);
            }
            Err(failure) if failure.reaction == Reaction::Retry => {}
            Err(failure) => return Err(failure),
        }
    }
    Ok(())
}
