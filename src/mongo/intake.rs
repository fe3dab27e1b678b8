//! A member of the sink's own group: polls runs of committed records, commits positions after MongoDB has acknowledged.
//!
//! Rebalances are values here as in the engine ([`crate::kafka::client`]): nothing is assigned or given up before the sink says so, which
//! it does between batches only.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use rdkafka::topic_partition_list::{Offset as ListOffset, TopicPartitionList};

use super::rows::SinkFault;
use crate::clock::{Clock, Deadline};
use crate::kafka::client::{Callbacks, MemberClient, leave, list_of};
use crate::kafka::consumer::{Runs, join_again};
use crate::kafka::ffi::{self, FetchQueue};
use crate::kafka::ownership::Watch;
use crate::kafka::roster;
use crate::kafka::{Failure, Position, Reaction, Rebalance, Run, Settings, TopicPartition};

/// How long the broker may take to answer a question.
const ANSWER_WAIT: Duration = Duration::from_secs(10);

/// How long brokers may take to say who has what: the sink stands still meanwhile.
const ROSTER_WITHIN: Duration = Duration::from_millis(300);

/// Another sink lets a partition go within this: it ends its batch first, or gives it up.
const PATIENCE: Duration = Duration::from_secs(30);

/// How much one batch may hold, and how long it is waited for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fill {
    pub(super) records_max: usize,
    pub(super) bytes_max: usize,
    /// For the first record.
    pub(super) wait: Duration,
    /// For more, once the first is there.
    pub(super) linger: Duration,
    /// For more, as long as it could not be written anyway.
    pub(super) busy: Duration,
}

/// One wait for more records while batches before are being written.
const BUSY_STEP: Duration = Duration::from_millis(2);

/// Messages are taken in batches of this many, between looks at the bytes.
const MESSAGES_MAX: usize = 512;

/// A group member.
pub(super) struct Intake {
    // Before the client: a queue must not outlive it.
    fetched: FetchQueue,
    group: String,
    client: MemberClient,
    rebalances: Vec<Rebalance>,
    /// The last of them, until it is acted on: the client cannot close before that.
    unanswered: Option<Rebalance>,
    owned: BTreeSet<TopicPartition>,
    topics: Vec<Arc<str>>,
    watch: Watch,
    /// Of a client that sees what is not committed.
    uncommitted_reader: ClientConfig,
}

impl Intake {
    /// Joins `group` and subscribes to `topics`.
    pub(super) fn join(kafka: &Settings, client_id: &str, group: &str, topics: &[Arc<str>]) -> Result<Self, Failure> {
        let mut config = kafka.client(client_id);
        config
            .set("partition.assignment.strategy", "cooperative-sticky")
            .set("heartbeat.interval.ms", "500")
            .set("session.timeout.ms", "10000")
            .set("fetch.queue.backoff.ms", "5")
            // The broker answers when records are there; this is how often it answers while none are.
            .set("fetch.wait.max.ms", "250")
            .set("queued.min.messages", "10000")
            .set("queued.max.messages.kbytes", "4096")
            .set("check.crcs", "true")
            // Partitions that were added are found as soon as the engine finds them.
            .set("topic.metadata.refresh.interval.ms", "10000");
        for (key, value) in kafka.of_consumers() {
            config.set(key, value);
        }
        config
            .set("group.id", group)
            // A restarted instance has its partitions back at once (KIP-345, ADR 0016).
            .set("group.instance.id", client_id)
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            // Of a position that is gone from the topic the client would say nothing: its loss is told at the next assignment.
            .set("auto.offset.reset", "error")
            .set("isolation.level", "read_committed");
        let client: BaseConsumer<Callbacks> =
            config.create_with_context(Callbacks::default()).map_err(|error| Failure::of(format!("make a consumer of {group}"), &error))?;
        let names: Vec<&str> = topics.iter().map(AsRef::as_ref).collect();
        let no_queue = || Failure::new(Reaction::Rejoin, format!("join {group}"), "no queue");
        let fetched = FetchQueue::new(client.client()).ok_or_else(no_queue)?;
        let (group, client) = (group.to_owned(), MemberClient::new(client));
        client.subscribe(&names).map_err(|error| Failure::of(format!("subscribe to {}", names.join(", ")), &error))?;
        let (topics, watch) = (topics.to_vec(), Watch::new(PATIENCE));
        let mut uncommitted_reader = kafka.client(client_id);
        uncommitted_reader.set("isolation.level", "read_uncommitted");
        Ok(Self {
            fetched,
            group,
            client,
            rebalances: Vec::new(),
            unanswered: None,
            owned: BTreeSet::new(),
            topics,
            watch,
            uncommitted_reader,
        })
    }

    /// Joins the group again when it has given a partition to nobody ([`crate::kafka::ownership`]). What is lost by that is given up as in
    /// every rebalance.
    pub(super) fn look_for_unowned(&mut self, clock: &dyn Clock) -> Result<(), Failure> {
        let now = clock.monotonic();
        if !self.watch.is_due(now) || self.unanswered.is_some() {
            return Ok(());
        }
        let me = ffi::membership(self.client.client()).map(|(member, _)| member).unwrap_or_default();
        let (Ok(roster), Some(all)) = (roster::ask(self.client.client(), &self.group, me, ROSTER_WITHIN), self.partitions()) else {
            self.watch.was_not_answered(now);
            return Ok(());
        };
        match self.watch.saw(&roster, &all, now) {
            None => Ok(()),
            Some(partition) => {
                tracing::warn!(%partition, members = roster.members.len(), "the sink's group has given a partition to nobody, joining it again");
                join_again(&self.client, &self.topics)
            }
        }
    }

    /// The partitions of the topics; nothing where the broker does not answer.
    fn partitions(&self) -> Option<Vec<TopicPartition>> {
        let mut all = Vec::new();
        for topic in &self.topics {
            let known = self.client.fetch_metadata(Some(topic), Duration::from_secs(1)).ok()?;
            let of = known.topics().iter().flat_map(|topic| topic.partitions());
            all.extend(of.map(|partition| TopicPartition::new(topic.clone(), partition.id())));
        }
        Some(all)
    }

    /// The partitions that are assigned.
    pub(super) fn owned(&self) -> &BTreeSet<TopicPartition> {
        &self.owned
    }

    /// Waits for a record, then takes what comes until the batch is full, or has lingered. As long as it could not be written, because the
    /// sink `is_busy` with batches before, it is filled on.
    pub(super) fn take(&mut self, fill: Fill, is_busy: impl Fn() -> bool, clock: &dyn Clock) -> Result<Vec<Run>, Failure> {
        let mut runs = Runs::default();
        // Events; and records that were fetched before their partition was forwarded, which come first.
        while let Some(polled) = self.client.poll(Duration::ZERO) {
            match polled {
                Ok(message) => runs.push(&message),
                Err(error) => lived_with(&error)?,
            }
        }
        let patience = Deadline::after(clock, fill.busy);
        let mut linger = (runs.records > 0).then(|| Deadline::after(clock, fill.linger));
        while runs.records < fill.records_max && runs.bytes < fill.bytes_max {
            let is_filling = is_busy() && !patience.is_over(clock);
            let wait = match &linger {
                _ if is_filling => BUSY_STEP,
                Some(linger) => linger.left(clock),
                None => fill.wait,
            };
            let wanted = MESSAGES_MAX.min(fill.records_max - runs.records);
            let mut troubles = Vec::new();
            let taken = self.fetched.consume(wanted, wait, |message| match message.error() {
                None => runs.push_fetched(message),
                Some(code) => troubles.push(code),
            });
            troubles.into_iter().try_for_each(|code| lived_with(&KafkaError::MessageConsumption(code)))?;
            match taken {
                0 if !is_filling => break,
                0 => {}
                _ => _ = linger.get_or_insert_with(|| Deadline::after(clock, fill.linger)),
            }
        }
        self.note_rebalances();
        Ok(runs.finish().runs)
    }

    /// Serves the group while everything is paused, so that the member is not thrown out.
    pub(super) fn keep_alive(&mut self) -> Result<(), SinkFault> {
        let mut stray = None;
        while let Some(polled) = self.client.poll(Duration::ZERO) {
            match polled {
                Ok(message) => stray = Some(TopicPartition::new(message.topic(), message.partition())),
                Err(error) => lived_with(&error)?,
            }
        }
        let mut troubles = Vec::new();
        self.fetched.consume(MESSAGES_MAX, Duration::ZERO, |message| match message.error() {
            None => stray = Some(TopicPartition::new(message.topic(), message.partition())),
            Some(code) => troubles.push(code),
        });
        troubles.into_iter().try_for_each(|code| lived_with(&KafkaError::MessageConsumption(code)))?;
        self.note_rebalances();
        match stray {
            Some(partition) => Err(SinkFault::Stray { partition: partition.to_string() }),
            None => Ok(()),
        }
    }

    fn note_rebalances(&mut self) {
        self.rebalances.extend(self.client.context().take_rebalances());
        self.unanswered = self.rebalances.last().cloned().or(self.unanswered.take());
    }

    /// Whether there are rebalances to act on.
    pub(super) fn has_rebalances(&self) -> bool {
        !self.rebalances.is_empty()
    }

    /// Whether partitions have to be given up.
    pub(super) fn is_asked_to_release(&self) -> bool {
        self.rebalances.iter().any(|rebalance| !matches!(rebalance, Rebalance::Assigned(_)))
    }

    /// The rebalances that were noted, oldest first; the caller acts on each.
    pub(super) fn take_rebalances(&mut self) -> Vec<Rebalance> {
        std::mem::take(&mut self.rebalances)
    }

    /// Takes partitions in, from the group's committed positions; gives these back. Without one reading begins at the first record.
    pub(super) fn assign(&mut self, partitions: &[TopicPartition]) -> Result<Vec<(TopicPartition, Option<Position>)>, Failure> {
        let attempted = || format!("assign {} partitions", partitions.len());
        let fault = |error: KafkaError| Failure::of(attempted(), &error);
        let answer = match partitions.is_empty() {
            true => TopicPartitionList::new(),
            false => self.client.committed_offsets(list_of(partitions), ANSWER_WAIT).map_err(fault)?,
        };
        let mut list = TopicPartitionList::with_capacity(partitions.len());
        let mut starts = Vec::with_capacity(partitions.len());
        for partition in partitions {
            let committed = match answer.find_partition(&partition.topic, partition.partition) {
                Some(element) => {
                    element.error().map_err(fault)?;
                    element.offset()
                }
                None => ListOffset::Invalid,
            };
            let start = match committed {
                ListOffset::Offset(offset) => self.start(partition, Position(offset)),
                _ => None,
            };
            let from = start.map_or(ListOffset::Beginning, |start| ListOffset::Offset(start.0));
            list.add_partition_offset(&partition.topic, partition.partition, from).map_err(fault)?;
            starts.push((partition.clone(), start));
        }
        self.client.incremental_assign(&list).map_err(fault)?;
        self.unanswered = None;
        for partition in partitions {
            self.fetched.forward(self.client.client(), &partition.topic, partition.partition);
        }
        self.owned.extend(partitions.iter().cloned());
        Ok(starts)
    }

    /// Where a partition is read from; nothing: from its first record. Says so when retention was faster than the sink: what is gone from
    /// the topic can only be made again from the input.
    fn start(&self, partition: &TopicPartition, committed: Position) -> Option<Position> {
        let Some((low, stable_end)) = self.watermarks(partition) else { return Some(committed) };
        // A generation may begin behind the end of what is committed, which an open transaction holds back.
        let end = if committed > stable_end { self.uncommitted_end(partition).unwrap_or(committed) } else { stable_end };
        if committed < low {
            tracing::error!(
                %partition, start = %committed, first_record = %low,
                "records deleted before they reached MongoDB, raise retention.ms"
            );
        }
        if committed > end {
            tracing::warn!(%partition, %committed, %end, "the topic ends before the sink's position, reading it from its first record");
        }
        within(committed, low, end)
    }

    fn uncommitted_end(&self, partition: &TopicPartition) -> Option<Position> {
        let client: BaseConsumer = self.uncommitted_reader.create().ok()?;
        let (_, end) = client.fetch_watermarks(&partition.topic, partition.partition, ANSWER_WAIT).ok()?;
        Some(Position(end))
    }

    /// Gives partitions up; no batch is open.
    pub(super) fn release(&mut self, partitions: &[TopicPartition]) -> Result<(), Failure> {
        self.owned.retain(|owned| !partitions.contains(owned));
        self.client
            .incremental_unassign(&list_of(partitions))
            .map_err(|error| Failure::of(format!("release {} partitions", partitions.len()), &error))?;
        self.unanswered = None;
        Ok(())
    }

    /// Commits positions and waits for the answer.
    pub(super) fn commit(&self, positions: &HashMap<TopicPartition, Position>) -> Result<(), Failure> {
        let attempted = || format!("commit positions of {} partitions", positions.len());
        let mut list = TopicPartitionList::with_capacity(positions.len());
        for (partition, position) in positions {
            list.add_partition_offset(&partition.topic, partition.partition, ListOffset::Offset(position.0))
                .map_err(|error| Failure::of(attempted(), &error))?;
        }
        self.client.commit(&list, CommitMode::Sync).map_err(|error| Failure::of(attempted(), &error))
    }

    /// Stops fetching some partitions; they stay assigned.
    pub(super) fn pause<'p>(&self, partitions: impl IntoIterator<Item = &'p TopicPartition>) -> Result<(), Failure> {
        self.client.pause(&listed(partitions)).map_err(|error| Failure::of("pause partitions", &error))
    }

    /// Fetches partitions again, from where they were paused.
    pub(super) fn resume<'p>(&self, partitions: impl IntoIterator<Item = &'p TopicPartition>) -> Result<(), Failure> {
        self.client.resume(&listed(partitions)).map_err(|error| Failure::of("resume partitions", &error))
    }

    /// Fetches a paused partition again, from `position`.
    pub(super) fn resume_at(&self, partition: &TopicPartition, position: Position) -> Result<(), Failure> {
        self.client
            .seek(&partition.topic, partition.partition, ListOffset::Offset(position.0), ANSWER_WAIT)
            .map_err(|error| Failure::of(format!("go back to {position} of {partition}"), &error))?;
        self.resume([partition])
    }

    /// Where reading stands: past records taken, aborted ones and control records; only partitions that brought something.
    pub(super) fn positions(&self) -> Result<Vec<(TopicPartition, Position)>, Failure> {
        let list = self.client.position().map_err(|error| Failure::of("read fetch positions", &error))?;
        let known = |partition: &TopicPartition| match list.find_partition(&partition.topic, partition.partition)?.offset() {
            ListOffset::Offset(offset) => Some((partition.clone(), Position(offset))),
            _ => None,
        };
        Ok(self.owned.iter().filter_map(known).collect())
    }

    /// First position and end of committed records; nothing when the broker does not answer, as only people ask.
    pub(super) fn watermarks(&self, partition: &TopicPartition) -> Option<(Position, Position)> {
        let (low, high) = self.client.fetch_watermarks(&partition.topic, partition.partition, Duration::from_secs(1)).ok()?;
        Some((Position(low), Position(high)))
    }
}

impl Drop for Intake {
    fn drop(&mut self) {
        leave(&self.client, self.unanswered.take());
    }
}

/// Has `group`, while it has no members, begin at `starts` where it has no position yet.
///
/// # Errors
/// When the broker does not tell or take positions.
pub fn begin_at(kafka: &Settings, group: &str, starts: &[(TopicPartition, Position)]) -> Result<(), Failure> {
    let failed = |error: KafkaError| Failure::of(format!("have group {group} begin where its generation does"), &error);
    let mut config = kafka.client("testudo-sinks");
    config.set("group.id", group).set("enable.auto.commit", "false").set("isolation.level", "read_committed");
    let client: BaseConsumer = config.create().map_err(failed)?;
    let partitions: Vec<TopicPartition> = starts.iter().map(|(partition, _)| partition.clone()).collect();
    let known = client.committed_offsets(list_of(&partitions), ANSWER_WAIT).map_err(failed)?;
    let mut missing = TopicPartitionList::new();
    for (partition, start) in starts {
        let element = known.find_partition(&partition.topic, partition.partition);
        if let Some(element) = &element {
            element.error().map_err(failed)?;
        }
        if !element.is_some_and(|element| matches!(element.offset(), ListOffset::Offset(_))) {
            missing.add_partition_offset(&partition.topic, partition.partition, ListOffset::Offset(start.0)).map_err(failed)?;
        }
    }
    match missing.count() {
        0 => Ok(()),
        _ => client.commit(&missing, CommitMode::Sync).map_err(failed),
    }
}

/// A position in what a topic holds: behind what was deleted, and nowhere if the topic is another one by now, or lost its end.
fn within(committed: Position, low: Position, end: Position) -> Option<Position> {
    if committed > end { None } else { Some(committed.max(low)) }
}

/// What the client gets over by itself; anything else makes the sink begin anew.
fn lived_with(error: &KafkaError) -> Result<(), Failure> {
    if let KafkaError::PartitionEOF(_) = error {
        return Ok(());
    }
    let failure = Failure::of("poll committed records", error);
    match failure.reaction {
        Reaction::Retry => {
            tracing::debug!(trouble = %failure, "trouble while polling");
            Ok(())
        }
        _ => Err(failure),
    }
}

fn listed<'p>(partitions: impl IntoIterator<Item = &'p TopicPartition>) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    for partition in partitions {
        list.add_partition(&partition.topic, partition.partition);
    }
    list
}

#[cfg(test)]
#[path = "intake_tests.rs"]
mod tests;
