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

use super::client::{Callbacks, list_of};
use super::ffi;
use super::port::{GroupConsumer, Polled, Watermarks};
use super::position::{Offset, Position, TopicPartition};
use super::reaction::{Failure, Reaction};
use super::slice::{Header, RunBuilder, Slice};

/// A slice is cut at this many bytes of keys and values, so that large records do not pile up in memory.
const SLICE_BYTES_MAX: usize = 16 << 20;

/// A member of a consumer group.
pub struct Member {
    client: BaseConsumer<Callbacks>,
}

impl Member {
    /// Subscribes a configured client to `topics`.
    pub(super) fn subscribe(client: BaseConsumer<Callbacks>, topics: &[Arc<str>]) -> Result<Self, Failure> {
        let names: Vec<&str> = topics.iter().map(AsRef::as_ref).collect();
        client.subscribe(&names).map_err(|error| Failure::of(format!("subscribe to {}", names.join(", ")), &error))?;
        Ok(Self { client })
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.client.context().close();
    }
}

impl GroupConsumer for Member {
    type Group = ConsumerGroupMetadata;

    fn poll(&mut self, records_max: usize, wait: Duration) -> Result<Polled, Failure> {
        let mut polled = Polled::default();
        let mut runs = Runs::default();
        let mut next_wait = wait;
        while runs.records < records_max && runs.bytes < SLICE_BYTES_MAX {
            match self.client.poll(next_wait) {
                None => break,
                Some(Ok(message)) => runs.push(&message),
                Some(Err(error)) => match sort_poll_error(error)? {
                    Some(trouble) => polled.troubles.push(trouble),
                    None => continue,
                },
            }
            next_wait = Duration::ZERO;
        }
        polled.slice = runs.finish();
        polled.rebalances = self.client.context().take_rebalances();
        Ok(polled)
    }

    fn assign(&mut self, partitions: &[TopicPartition]) -> Result<(), Failure> {
        let attempted = || format!("assign {} partitions", partitions.len());
        let mut list = TopicPartitionList::with_capacity(partitions.len());
        for partition in partitions {
            // Nothing is read from here: the partition is paused, and resumed with a seek.
            list.add_partition_offset(&partition.topic, partition.partition, ListOffset::End)
                .map_err(|error| Failure::of(attempted(), &error))?;
        }
        self.client.incremental_assign(&list).map_err(|error| Failure::of(attempted(), &error))?;
        match partitions.is_empty() {
            true => Ok(()),
            false => self.pause(partitions),
        }
    }

    fn unassign(&mut self, partitions: &[TopicPartition]) -> Result<(), Failure> {
        self.client
            .incremental_unassign(&list_of(partitions))
            .map_err(|error| Failure::of(format!("release {} partitions", partitions.len()), &error))
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

    fn committed(&mut self, partitions: &[TopicPartition], wait: Duration) -> Result<Vec<Option<Position>>, Failure> {
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
                    ListOffset::Offset(offset) => Some(Position(offset)),
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

    fn group(&mut self) -> Result<ConsumerGroupMetadata, Failure> {
        let attempted = "take group membership into a transaction";
        match ffi::membership(self.client.client()) {
            Some((member, generation)) if !member.is_empty() && generation >= 1 => {}
            _ => return Err(Failure::new(Reaction::Rejoin, attempted, "this consumer is not a member of its group")),
        }
        self.client.group_metadata().ok_or_else(|| Failure::new(Reaction::Rejoin, attempted, "no membership"))
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

/// Positions as librdkafka's list.
pub(super) fn positions_list(positions: &[(TopicPartition, Position)]) -> Result<TopicPartitionList, Failure> {
    let mut list = TopicPartitionList::with_capacity(positions.len());
    for (partition, position) in positions {
        list.add_partition_offset(&partition.topic, partition.partition, ListOffset::Offset(position.0))
            .map_err(|error| Failure::of(format!("name position {position} of {partition}"), &error))?;
    }
    Ok(list)
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
            // The position is no longer in the log: nothing may be skipped silently.
            Some(RDKafkaErrorCode::OffsetOutOfRange | RDKafkaErrorCode::AutoOffsetReset) => {
                Err(Failure { reaction: Reaction::Stop, ..failure })
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

/// Collects polled messages into runs; consecutive messages mostly belong to one partition.
#[derive(Default)]
pub(super) struct Runs {
    builders: Vec<(TopicPartition, RunBuilder)>,
    current: usize,
    pub(super) records: usize,
    bytes: usize,
}

impl Runs {
    pub(super) fn push(&mut self, message: &BorrowedMessage<'_>) {
        let at = self.find(message.topic(), message.partition());
        let headers = message.headers().map(owned_headers).unwrap_or_default();
        let timestamp_ms = message.timestamp().to_millis().unwrap_or(-1);
        let builder = &mut self.builders[at].1;
        let before = builder.bytes();
        builder.push(Offset(message.offset()), timestamp_ms, message.key(), message.payload(), headers);
        self.bytes += builder.bytes() - before;
        self.records += 1;
    }

    fn find(&mut self, topic: &str, partition: i32) -> usize {
        let is_it = |(candidate, _): &(TopicPartition, RunBuilder)| candidate.partition == partition && &*candidate.topic == topic;
        if self.builders.get(self.current).is_some_and(is_it) {
            return self.current;
        }
        self.current = self.builders.iter().position(is_it).unwrap_or_else(|| {
            let named = TopicPartition::new(topic, partition);
            self.builders.push((named.clone(), RunBuilder::new(named)));
            self.builders.len() - 1
        });
        self.current
    }

    pub(super) fn finish(self) -> Slice {
        Slice { runs: self.builders.into_iter().map(|(_, builder)| builder.finish()).collect() }
    }
}

fn owned_headers(headers: &rdkafka::message::BorrowedHeaders) -> Vec<Header> {
    headers.iter().map(|header| Header { name: header.key.to_owned(), value: header.value.map(<[u8]>::to_vec) }).collect()
}
