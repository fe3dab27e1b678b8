//! What the engine asks of a broker, as small traits: rdkafka stands behind them in production, a model in simulations.
//!
//! All calls block the calling thread for at most the time they are given. One worker thread owns one consumer and one
//! producer; nothing here is called from two threads at once.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::ownership::Roster;
use super::poison::Poison;
use super::position::{Mark, Position, TopicPartition};
use super::reaction::Failure;
use super::slice::{Header, Headers, Run, Slice};

/// A Kafka cluster.
pub trait Broker: Send + Sync + 'static {
    /// A member of a consumer group.
    type Consumer: GroupConsumer;
    /// A transactional producer that takes positions of that kind of consumer into its transactions.
    type Producer: TransactionalProducer<Group = <Self::Consumer as GroupConsumer>::Group>;
    /// A reader of single partitions outside any group.
    type Reader: TopicReader;

    /// Joins `group` and subscribes to `topics`; with an `instance` as a static member of that name (KIP-345).
    fn consumer(&self, group: &str, instance: Option<&str>, topics: &[Arc<str>]) -> Result<Self::Consumer, Failure>;

    /// A producer for `transactional_id`; not yet initialised.
    fn producer(&self, transactional_id: &str) -> Result<Self::Producer, Failure>;

    /// A read-committed reader.
    fn reader(&self) -> Result<Self::Reader, Failure>;

    /// Describes the topics that exist among `topics`, in any order.
    fn describe(&self, topics: &[Arc<str>], wait: Duration) -> Result<Vec<TopicDescription>, Failure>;

    /// Creates the topics that do not exist yet.
    fn create(&self, topics: &[NewTopic], wait: Duration) -> Result<(), Failure>;
}

/// A topic as the cluster knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicDescription {
    /// Its name.
    pub name: Arc<str>,
    /// Its identity: a re-created topic has another one.
    pub id: TopicId,
    /// Number of partitions.
    pub partitions: i32,
}

/// The identity that Kafka gives a topic at its creation (KIP-516), in Kafka's base64 form.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TopicId(pub Arc<str>);

/// A topic to be created.
#[derive(Clone, Debug)]
pub struct NewTopic {
    /// Its name.
    pub name: Arc<str>,
    /// Number of partitions.
    pub partitions: i32,
    /// Topic configuration, such as `cleanup.policy`.
    pub config: Vec<(String, String)>,
}

/// A member of a consumer group. Rebalances arrive as values; nothing is assigned or released before the owner says so.
pub trait GroupConsumer: Send {
    /// Proof of membership for a transaction: member id and generation.
    type Group;

    /// Waits up to `wait` for a record or event, then takes what is there, at most `records_max` records.
    fn poll(&mut self, records_max: usize, wait: Duration) -> Result<Polled, Failure>;

    /// Takes partitions into the assignment at these positions, paused until [`GroupConsumer::resume`].
    fn assign(&mut self, partitions: &[(TopicPartition, Position)]) -> Result<(), Failure>;

    /// Gives partitions up (EOS-5: after commit or abort only).
    fn unassign(&mut self, partitions: &[TopicPartition]) -> Result<(), Failure>;

    /// Stops fetching partitions; they stay assigned.
    fn pause(&mut self, partitions: &[TopicPartition]) -> Result<(), Failure>;

    /// Fetches a paused partition again, from `position`. `Retry` while the client is not ready for that.
    fn resume(&mut self, partition: &TopicPartition, position: Position) -> Result<(), Failure>;

    /// The group's committed marks, waiting out pending transactions (KIP-447 `require_stable`); `None` for none.
    fn committed(&mut self, partitions: &[TopicPartition], wait: Duration) -> Result<Vec<Option<Mark>>, Failure>;

    /// The first readable position and the end for read-committed readers.
    fn watermarks(&mut self, partition: &TopicPartition, wait: Duration) -> Result<Watermarks, Failure>;

    /// Where fetching stands: past records delivered and control records skipped; `None` before the first record.
    fn fetch_positions(&mut self, partitions: &[TopicPartition]) -> Result<Vec<Option<Position>>, Failure>;

    /// The partition's high watermark as of the last fetch; asks nobody.
    fn known_end(&mut self, partition: &TopicPartition) -> Option<Position>;

    /// Who has what in the group. Never waits: asks, and has the answer at one of the next calls. `None` before that, and for good
    /// where a group of this kind leaves nothing without an owner ([`super::ownership`]).
    fn roster(&mut self) -> Result<Option<Roster>, Failure>;

    /// Joins the group again, which begins a rebalance; everything that is assigned is given up for it, by events that follow.
    fn join_again(&mut self) -> Result<(), Failure>;

    /// The membership as of now; an error when this consumer is not a member (trap: an empty one is accepted unfenced).
    fn group(&mut self) -> Result<Self::Group, Failure>;
}

/// First and next offset of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watermarks {
    /// The first offset that is still there.
    pub low: Position,
    /// The position after the last record.
    pub high: Position,
}

/// What a poll of a group consumer brought.
#[derive(Debug, Default)]
pub struct Polled {
    /// Records, of assigned partitions only.
    pub slice: Slice,
    /// Rebalance events, in the order they happened.
    pub rebalances: Vec<Rebalance>,
    /// Troubles the client reports but lives with, such as a broker that is down.
    pub troubles: Vec<Failure>,
    /// Batches that cannot be read. `slice` holds what lies before them, nothing from behind them.
    pub poisoned: Vec<Poison>,
}

/// A rebalance, as a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rebalance {
    /// These partitions are ours as soon as we assign them.
    Assigned(Vec<TopicPartition>),
    /// These must be given up; what is open may be committed first.
    Revoked(Vec<TopicPartition>),
    /// These are gone already: somebody else may be reading them.
    Lost(Vec<TopicPartition>),
}

/// A record to be produced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// The topic.
    pub topic: Arc<str>,
    /// The partition; placed by us, never by the client.
    pub partition: i32,
    /// Key bytes.
    pub key: Option<Bytes>,
    /// Value bytes; `None` writes a tombstone.
    pub value: Option<Bytes>,
    /// The Kafka timestamp of the record that caused this one (TIME-3), milliseconds since 1970.
    pub timestamp_ms: i64,
    /// Headers, mostly none.
    pub headers: Headers,
}

impl Outgoing {
    /// A record's Kafka timestamp as it can be produced: librdkafka takes 0 for "now", which replay would not repeat (DET-1).
    pub fn stamp(timestamp_ms: i64) -> i64 {
        timestamp_ms.max(1)
    }

    /// Bytes of key and value.
    pub fn bytes(&self) -> usize {
        self.key.as_ref().map_or(0, Bytes::len) + self.value.as_ref().map_or(0, Bytes::len)
    }

    /// About as many bytes as it takes while it waits, with headers of its own and what holds them.
    pub fn held_bytes(&self) -> usize {
        let header = |header: &Header| size_of::<Header>() + 32 + header.name.len() + header.value.as_ref().map_or(0, Vec::len);
        size_of::<Self>() + self.bytes() + self.headers.iter().map(header).sum::<usize>()
    }
}

/// A transactional producer, as raw calls; [`super::transaction`] gives them their order.
pub trait TransactionalProducer: Send {
    /// The membership it takes into a transaction.
    type Group;

    /// Fences older producers of the same transactional id and ends what they left open.
    fn init(&mut self, wait: Duration) -> Result<(), Failure>;

    /// Opens a transaction.
    fn begin(&mut self) -> Result<(), Failure>;

    /// Queues a record, waiting for room for at most `wait`.
    fn send(&mut self, record: &Outgoing, wait: Duration) -> Result<(), Failure>;

    /// Waits until every queued record was acknowledged.
    fn drain(&mut self, wait: Duration) -> Result<(), Failure>;

    /// Puts the partitions' new marks into the transaction (EOS-2).
    fn send_positions(&mut self, marks: &[(TopicPartition, Mark)], group: &Self::Group, wait: Duration) -> Result<(), Failure>;

    /// Commits. `Retry` means: the outcome is open and the same call may be repeated.
    fn commit(&mut self, wait: Duration) -> Result<(), Failure>;

    /// Aborts.
    fn abort(&mut self, wait: Duration) -> Result<(), Failure>;

    /// Whether the connection to the coordinator failed or timed out since the last call of this method (EOS-8).
    fn take_coordinator_doubt(&mut self) -> bool;

    /// The record that the broker refused for what it is (too large, wrong time), if there was one since the last call.
    fn take_refusal(&mut self) -> Option<String>;
}

/// Reads one partition at a time, read-committed, outside any group.
pub trait TopicReader: Send {
    /// First offset and *high watermark* (not the last stable offset) of a partition.
    fn bounds(&mut self, partition: &TopicPartition, wait: Duration) -> Result<Watermarks, Failure>;

    /// Starts reading `partition` at `position`, leaving any other.
    fn start(&mut self, partition: &TopicPartition, position: Position) -> Result<(), Failure>;

    /// Ends reading: until then the partition is fetched, its end waited for, and what comes is held in memory.
    fn stop(&mut self) -> Result<(), Failure>;

    /// Waits up to `wait` for records of the current partition; `position` in the answer moves past control records too.
    fn read(&mut self, records_max: usize, wait: Duration) -> Result<Read, Failure>;
}

/// What a [`TopicReader`] brought.
#[derive(Debug)]
pub struct Read {
    /// Committed records, in offset order; none when nothing came.
    pub run: Option<Run>,
    /// Whether the end of committed data was reached.
    pub is_at_end: bool,
    /// Where reading goes on: everything below has been delivered, was aborted, or is a control record.
    pub position: Position,
}
