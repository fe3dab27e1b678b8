//! A group member on rdkafka's `BaseConsumer`: polls slices, hands rebalances out as values.
//!
//! One worker thread owns it. The client's rebalance callback only notes the event ([`super::client`]); librdkafka waits
//! until the worker assigns or unassigns, so the worker can commit first (EOS-5).

use std::sync::Arc;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerGroupMetadata};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Headers, Message};
use rdkafka::topic_partition_list::{Offset as ListOffset, TopicPartitionList};

use super::client::{Callbacks, MemberClient, give_up, leave, list_of, take_in};
use super::ffi::{self, FetchQueue, Fetched};
use super::holding::Holding;
use super::ownership::Roster;
use super::poison::{Poison, is_poison};
use super::port::{GroupConsumer, Polled, Rebalance, Watermarks};
use super::position::{Mark, Offset, Position, TopicPartition};
use super::reaction::{Failure, Reaction};
use super::roster;
use super::slice::{Header, RunBuilder, Slice};
use crate::clock::SharedClock;

/// A slice is cut at this many bytes of keys and values, so that large records do not pile up in memory.
const SLICE_BYTES_MAX: usize = 16 << 20;
/// Messages are taken in batches of this many, between looks at the bytes.
const BATCH_MAX: usize = 1_024;
/// At most this many events are served before records are looked at. Many: during an outage errors pile up before a lost assignment,
/// and who does not hear of that goes on with partitions that are not its own.
const EVENTS_MAX: usize = 10_000;

/// How long brokers may take to say who has what: the worker stands still meanwhile.
const ROSTER_WITHIN: Duration = Duration::from_millis(300);

/// A member of a consumer group.
pub struct Member {
    // Before the client: a queue must not outlive it.
    fetched: FetchQueue,
    /// The group's name, where it may leave a partition without an owner.
    watched: Option<String>,
    client: MemberClient,
    /// A rebalance that was handed out and not answered yet; the client cannot close before it is.
    unanswered: Option<Rebalance>,
    holding: Holding,
    clock: SharedClock,
    /// Who it was as it was last asked for its group, and what the client said: the same for as long as it is that.
    known: Option<(Membership, Arc<ConsumerGroupMetadata>)>,
    topics: Vec<Arc<str>>,
    /// The client says nothing to a member that gets nothing, and has said nothing yet.
    is_in_silence: bool,
    /// An empty assignment was handed out that the client knows nothing of.
    is_own_word: bool,
}

/// A member's id and its group's generation.
type Membership = (String, i32);

/// What the protocol of a group asks of its members.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Manners<'g> {
    /// The group's name, where it may leave a partition without an owner.
    pub(super) watched: Option<&'g str>,
    /// A member that gets nothing hears nothing (KIP-848); in the other protocols it hears of an empty assignment.
    pub(super) is_silent: bool,
}

impl Member {
    /// Subscribes a configured client to `topics`.
    pub(super) fn subscribe(
        client: BaseConsumer<Callbacks>,
        clock: SharedClock,
        manners: Manners<'_>,
        topics: &[Arc<str>],
    ) -> Result<Self, Failure> {
        let no_queue = || Failure::new(Reaction::Stop, "make a consumer", "no queue");
        let fetched = FetchQueue::new(client.client()).ok_or_else(no_queue)?;
        let watched = manners.watched.map(str::to_owned);
        let client = MemberClient::new(client);
        subscribe(&client, topics)?;
        Ok(Self {
            fetched,
            watched,
            client,
            unanswered: None,
            holding: Holding::default(),
            clock,
            known: None,
            topics: topics.to_vec(),
            is_in_silence: manners.is_silent,
            is_own_word: false,
        })
    }

    /// Says to a member that has come to be one, and that the client has nothing to say to, that it has nothing.
    fn break_silence(&mut self, rebalances: &mut Vec<Rebalance>) {
        if !self.is_in_silence {
            return;
        }
        if rebalances.is_empty() && ffi::membership(self.client.client()).is_some_and(|(_, generation)| generation >= 1) {
            rebalances.push(Rebalance::Assigned(Vec::new()));
            self.is_own_word = true;
        }
        self.is_in_silence = rebalances.is_empty();
    }

    /// Its membership, once it is seen to be who it was.
    fn membership(&mut self, attempted: &str) -> Result<Option<Membership>, Failure> {
        let membership = ffi::membership(self.client.client());
        let member = membership.as_ref().map(|(member, _)| member.as_str());
        self.holding.check(member, matches!(self.unanswered, Some(Rebalance::Lost(_))), self.clock.monotonic(), attempted)?;
        Ok(membership)
    }

    /// Events that have not been served yet.
    pub(super) fn waiting(&self) -> usize {
        ffi::waiting(self.client.client())
    }

    /// Serves rebalances and errors. Records come through [`FetchQueue`]; one that was fetched before its partition was
    /// forwarded there comes here, and first.
    fn serve_events(&mut self, polled: &mut Polled, runs: &mut Runs) -> Result<(), Failure> {
        for _ in 0..EVENTS_MAX {
            match self.client.poll(Duration::ZERO) {
                // Without time rdkafka says so after an event that it handles itself, such as a line of the client's log.
                None if self.waiting() == 0 => break,
                None => {}
                Some(Ok(message)) => runs.push(&message),
                Some(Err(error)) => note_trouble(&mut polled.troubles, error)?,
            }
        }
        polled.rebalances = self.client.context().take_rebalances();
        if let Some(last) = polled.rebalances.last() {
            self.unanswered = Some(last.clone());
        }
        self.break_silence(&mut polled.rebalances);
        Ok(())
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        leave(&self.client, self.unanswered.take());
    }
}

impl GroupConsumer for Member {
    type Group = Arc<ConsumerGroupMetadata>;

    fn poll(&mut self, records_max: usize, wait: Duration) -> Result<Polled, Failure> {
        let mut polled = Polled::default();
        let mut runs = Runs::default();
        self.serve_events(&mut polled, &mut runs)?;
        if !polled.rebalances.is_empty() || self.holding.is_due(self.clock.monotonic()) {
            self.membership("poll")?;
        }
        let mut next_wait = if polled.rebalances.is_empty() { wait } else { Duration::ZERO };
        let mut errors = Vec::new();
        while runs.records < records_max && runs.bytes < SLICE_BYTES_MAX {
            let wanted = BATCH_MAX.min(records_max - runs.records);
            let taken = self.fetched.consume(wanted, next_wait, |message| match message.error() {
                None if lies_behind(message, &polled.poisoned) => {}
                None => runs.push_fetched(message),
                Some(code) if is_poison(code) && message.topic_identity() != 0 => polled.poisoned.push(poison(message)),
                Some(code) => errors.push(code),
            });
            if taken < wanted {
                break;
            }
            next_wait = Duration::ZERO;
        }
        for code in errors {
            note_trouble(&mut polled.troubles, KafkaError::MessageConsumption(code))?;
        }
        polled.slice = runs.finish();
        Ok(polled)
    }

    fn assign(&mut self, partitions: &[(TopicPartition, Position)]) -> Result<(), Failure> {
        let attempted = || format!("assign {} partitions", partitions.len());
        if std::mem::take(&mut self.is_own_word) {
            // The client has not asked: what it asks next would be answered by this.
            return Ok(());
        }
        // At explicit positions: a look-up of a logical one may be answered after a seek, and win.
        let list = positions_list(partitions)?;
        take_in(&self.client, &list).map_err(|error| Failure::of(attempted(), &error))?;
        self.unanswered = None;
        if partitions.is_empty() {
            return Ok(());
        }
        let member = || ffi::membership(self.client.client()).map(|(member, _)| member);
        self.holding.take(partitions.iter().map(|(partition, _)| partition.clone()), member);
        for (partition, _) in partitions {
            self.fetched.forward(self.client.client(), &partition.topic, partition.partition);
        }
        self.client.pause(&list).map_err(|error| Failure::of(attempted(), &error))
    }

    fn unassign(&mut self, partitions: &[TopicPartition]) -> Result<(), Failure> {
        give_up(&self.client, &list_of(partitions))
            .map_err(|error| Failure::of(format!("release {} partitions", partitions.len()), &error))?;
        self.unanswered = None;
        self.holding.give_up(partitions);
        Ok(())
    }

    fn pause(&mut self, partitions: &[TopicPartition]) -> Result<(), Failure> {
        self.client.pause(&list_of(partitions)).map_err(|error| Failure::of(format!("pause {} partitions", partitions.len()), &error))
    }

    fn resume(&mut self, partition: &TopicPartition, position: Position) -> Result<(), Failure> {
        let attempted = || format!("resume {partition} at {position}");
        // Seek while paused: the fetcher starts at the new position, nothing older is delivered.
        self.client.seek(&partition.topic, partition.partition, ListOffset::Offset(position.0), Duration::from_secs(5)).map_err(
            |error| match error.rdkafka_error_code() {
                Some(RDKafkaErrorCode::State) => Failure::new(Reaction::Retry, attempted(), error),
                _ => Failure::of(attempted(), &error),
            },
        )?;
        self.client.resume(&list_of(std::slice::from_ref(partition))).map_err(|error| Failure::of(attempted(), &error))
    }

    fn committed(&mut self, partitions: &[TopicPartition], wait: Duration) -> Result<Vec<Option<Mark>>, Failure> {
        let attempted = || format!("read committed positions of {} partitions", partitions.len());
        let answer = self.client.committed_offsets(list_of(partitions), wait).map_err(|error| Failure::of(attempted(), &error))?;
        partitions
            .iter()
            .map(|partition| {
                let element = answer
                    .find_partition(&partition.topic, partition.partition)
                    .ok_or_else(|| Failure::new(Reaction::Retry, attempted(), format_args!("{partition} is missing in the answer")))?;
                element.error().map_err(|error| Failure::of(attempted(), &error))?;
                Ok(match element.offset() {
                    ListOffset::Offset(offset) => {
                        Some(Mark::of(Position(offset), &ffi::metadata(&answer, &partition.topic, partition.partition)))
                    }
                    _ => None,
                })
            })
            .collect()
    }

    fn watermarks(&mut self, partition: &TopicPartition, wait: Duration) -> Result<Watermarks, Failure> {
        let (low, high) = self
            .client
            .fetch_watermarks(&partition.topic, partition.partition, wait)
            .map_err(|error| Failure::of(format!("read the bounds of {partition}"), &error))?;
        Ok(Watermarks { low: Position(low), high: Position(high) })
    }

    fn known_end(&mut self, partition: &TopicPartition) -> Option<Position> {
        ffi::known_end(self.client.client(), &partition.topic, partition.partition).map(Position)
    }

    fn roster(&mut self) -> Result<Option<Roster>, Failure> {
        let Some(group) = &self.watched else { return Ok(None) };
        let me = ffi::membership(self.client.client()).map(|(member, _)| member).unwrap_or_default();
        roster::ask(self.client.client(), group, me, ROSTER_WITHIN).map(Some)
    }

    fn join_again(&mut self) -> Result<(), Failure> {
        join_again(&self.client, &self.topics)
    }

    fn group(&mut self) -> Result<Arc<ConsumerGroupMetadata>, Failure> {
        let attempted = "take group membership into a transaction";
        let lost = || Failure::new(Reaction::Rejoin, attempted, "this consumer is not a member of its group");
        let is_member = |(member, generation): &Membership| !member.is_empty() && *generation >= 1;
        let now = self.membership(attempted)?.filter(is_member).ok_or_else(lost)?;
        if let Some((known, group)) = &self.known
            && *known == now
        {
            return Ok(group.clone());
        }
        let group = Arc::new(self.client.group_metadata().ok_or_else(lost)?);
        // Generations only grow: equal before and after, the one in between is the same.
        if ffi::membership(self.client.client()).as_ref() != Some(&now) {
            return Err(lost());
        }
        self.known = Some((now, group.clone()));
        Ok(group)
    }

    fn fetch_positions(&mut self, partitions: &[TopicPartition]) -> Result<Vec<Option<Position>>, Failure> {
        let list = self.client.position().map_err(|error| Failure::of("read fetch positions", &error))?;
        let position = |partition: &TopicPartition| match list.find_partition(&partition.topic, partition.partition)?.offset() {
            ListOffset::Offset(offset) => Some(Position(offset)),
            _ => None,
        };
        Ok(partitions.iter().map(position).collect())
    }
}

/// Subscribes a client.
fn subscribe(client: &BaseConsumer<Callbacks>, topics: &[Arc<str>]) -> Result<(), Failure> {
    let names: Vec<&str> = topics.iter().map(AsRef::as_ref).collect();
    client.subscribe(&names).map_err(|error| Failure::of(format!("subscribe to {}", names.join(", ")), &error))
}

/// Has a member of a group join it again. librdkafka has no call for that: a member that gives its subscription up gives up what it has,
/// and one that has subscribed anew before that was answered joins as who it was, without partitions, which is news to the coordinator.
pub(crate) fn join_again(client: &BaseConsumer<Callbacks>, topics: &[Arc<str>]) -> Result<(), Failure> {
    client.unsubscribe();
    subscribe(client, topics)
}

/// Positions as librdkafka's list.
pub(super) fn positions_list(positions: &[(TopicPartition, Position)]) -> Result<TopicPartitionList, Failure> {
    let mut list = TopicPartitionList::with_capacity(positions.len());
    for (partition, position) in positions {
        list.add_partition_offset(&partition.topic, partition.partition, ListOffset::Offset(position.0))
            .map_err(|error| Failure::of(format!("name position {position} of {partition}"), &error))?;
    }
    Ok(list)
}

/// Marks as librdkafka's list.
pub(super) fn marks_list(marks: &[(TopicPartition, Mark)]) -> Result<TopicPartitionList, Failure> {
    let positions: Vec<(TopicPartition, Position)> = marks.iter().map(|(partition, mark)| (partition.clone(), mark.position)).collect();
    let list = positions_list(&positions)?;
    for (partition, mark) in marks {
        let element = list.find_partition(&partition.topic, partition.partition);
        if let (Some(metadata), Some(mut element)) = (mark.metadata(), element) {
            element.set_metadata(metadata);
        }
    }
    Ok(list)
}

fn poison(message: &Fetched<'_>) -> Poison {
    Poison {
        partition: TopicPartition::new(message.topic(), message.partition()),
        offset: Offset(message.offset()),
        // In the place of a value stands the client's text.
        cause: String::from_utf8_lossy(message.value().unwrap_or_default()).into_owned(),
    }
}

/// Whether a message comes after a batch of its partition that could not be read.
fn lies_behind(message: &Fetched<'_>, poisoned: &[Poison]) -> bool {
    let is_its = |poison: &Poison| poison.partition.partition == message.partition() && *poison.partition.topic == *message.topic();
    !poisoned.is_empty() && poisoned.iter().any(is_its)
}

/// Notes a trouble once, however often the client repeats it.
fn note_trouble(troubles: &mut Vec<Failure>, error: KafkaError) -> Result<(), Failure> {
    if let Some(failure) = sort_poll_error(error)?
        && !troubles.iter().any(|known| known.cause == failure.cause)
    {
        troubles.push(failure);
    }
    Ok(())
}

/// `Err`: nothing goes on. `Ok(Some)`: the client copes, tell. `Ok(None)`: not worth telling.
pub(super) fn sort_poll_error(error: KafkaError) -> Result<Option<Failure>, Failure> {
    if let KafkaError::PartitionEOF(_) = error {
        return Ok(None);
    }
    let failure = Failure::of("poll", &error);
    match error {
        KafkaError::MessageConsumptionFatal(_) => Err(Failure { reaction: Reaction::Rejoin, ..failure }),
        _ => match error.rdkafka_error_code() {
            // Of what cannot be read the client goes on behind; a new one meets it again.
            Some(code) if is_poison(code) => Err(Failure { reaction: Reaction::Rejoin, ..failure }),
            // The position is no longer in the log: nothing may be skipped silently. It may be a stale one, of a member that has stood
            // still while others went on, so the group is asked before anybody stops.
            Some(RDKafkaErrorCode::OffsetOutOfRange | RDKafkaErrorCode::AutoOffsetReset) => {
                Err(Failure { reaction: Reaction::Rejoin, ..failure })
            }
            Some(
                RDKafkaErrorCode::TopicAuthorizationFailed
                | RDKafkaErrorCode::GroupAuthorizationFailed
                | RDKafkaErrorCode::SaslAuthenticationFailed
                | RDKafkaErrorCode::Authentication,
            ) => Err(Failure { reaction: Reaction::Stop, ..failure }),
            Some(RDKafkaErrorCode::PollExceeded) => Ok(Some(Failure { reaction: Reaction::Rejoin, ..failure })),
            _ => Ok(Some(failure)),
        },
    }
}

/// Collects messages into runs; consecutive messages mostly belong to one partition.
#[derive(Default)]
pub(crate) struct Runs {
    builders: Vec<RunBuilder>,
    /// The builder that took the last message, and what told its topic apart.
    current: usize,
    current_topic: usize,
    pub(crate) records: usize,
    pub(crate) bytes: usize,
}

impl Runs {
    pub(crate) fn push(&mut self, message: &BorrowedMessage<'_>) {
        self.find(message.topic(), message.partition());
        self.current_topic = 0;
        let headers = message.headers().map(owned_headers).unwrap_or_default();
        let timestamp_ms = message.timestamp().to_millis().unwrap_or(-1);
        self.append(Offset(message.offset()), timestamp_ms, message.key(), message.payload(), headers);
    }

    pub(crate) fn push_fetched(&mut self, message: &Fetched<'_>) {
        let is_current = self.current_topic == message.topic_identity()
            && self.builders.get(self.current).is_some_and(|builder| builder.partition().partition == message.partition());
        if !is_current {
            self.find(&message.topic(), message.partition());
            self.current_topic = message.topic_identity();
        }
        self.append(Offset(message.offset()), message.timestamp_ms(), message.key(), message.value(), message.headers());
    }

    /// Makes the builder of a partition the current one.
    fn find(&mut self, topic: &str, partition: i32) {
        let is_it = |builder: &RunBuilder| builder.partition().partition == partition && &*builder.partition().topic == topic;
        self.current = self.builders.iter().position(is_it).unwrap_or_else(|| {
            self.builders.push(RunBuilder::new(TopicPartition::new(topic, partition)));
            self.builders.len() - 1
        });
    }

    fn append(&mut self, offset: Offset, timestamp_ms: i64, key: Option<&[u8]>, value: Option<&[u8]>, headers: Vec<Header>) {
        self.builders[self.current].push(offset, timestamp_ms, key, value, headers);
        self.bytes += key.map_or(0, <[u8]>::len) + value.map_or(0, <[u8]>::len);
        self.records += 1;
    }

    pub(crate) fn finish(self) -> Slice {
        Slice { runs: self.builders.into_iter().map(RunBuilder::finish).collect() }
    }
}

fn owned_headers(headers: &rdkafka::message::BorrowedHeaders) -> Vec<Header> {
    headers.iter().map(|header| Header { name: header.key.to_owned(), value: header.value.map(<[u8]>::to_vec) }).collect()
}
