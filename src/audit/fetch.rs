//! How the audits fetch: plain consumers outside any group, read committed, whose partitions come through queues that name the place of
//! whatever stands there instead of a record.
//!
//! The client reports a batch that nobody can read and goes on *behind* it. Who took what comes next would call the rest lost; so the
//! report is a value, and it ends the audit, unless an operator left the batch out: then it lies in no [`Stretch`], and is jumped over.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::topic_partition_list::{Offset as ListOffset, TopicPartitionList};

use super::AuditError;
use super::facts::InputRecord;
use crate::clock::{Deadline, SystemClock};
use crate::kafka::client::{Callbacks, learn, list_of};
use crate::kafka::ffi::{FetchQueue, Fetched};
use crate::kafka::poison::is_poison;
use crate::kafka::{Offset, Poison, Settings, TopicPartition};

/// No record and no end of a partition for so long: the broker is gone.
const STALLED_AFTER: Duration = Duration::from_secs(60);
/// One wait for a record.
const POLL_WAIT: Duration = Duration::from_millis(100);
/// A client answers to a seek at once, or is lost.
const SEEK_WAIT: Duration = Duration::from_secs(30);
/// What the client may hold of a topic that is read whole, besides one answer of each partition.
const QUEUED_KIB: &str = "8192";

/// A part of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stretch {
    /// The partition's number.
    pub partition: i32,
    /// The first offset, or what is the first by now.
    pub from: i64,
    /// The offset after the last; none for the partition's end.
    pub until: Option<i64>,
}

impl Stretch {
    /// All of a partition.
    pub fn whole(partition: i32) -> Self {
        Self { partition, from: 0, until: None }
    }

    fn end(&self) -> i64 {
        self.until.unwrap_or(i64::MAX)
    }
}

/// What comes of a partition.
#[derive(Debug)]
pub enum Next {
    /// Its next record.
    Record(InputRecord),
    /// Nothing more for now, of the partition with this number.
    End(i32),
    /// A batch that cannot be read.
    Unreadable(Poison),
}

/// A client that fetches.
pub struct Fetcher {
    consumer: BaseConsumer<Callbacks>,
    clock: SystemClock,
}

impl Fetcher {
    /// A client under `group`, which it never joins. `bounds` are what it may hold, as client properties.
    ///
    /// # Errors
    /// [`AuditError::Kafka`] when the settings cannot be used.
    pub fn new(settings: &Settings, group: &str, bounds: &[(&str, &str)]) -> Result<Self, AuditError> {
        Ok(Self { consumer: consumer(settings, group, "read_committed", bounds)?, clock: SystemClock::default() })
    }

    /// A queue for some of a topic's partitions, made before they are assigned: nothing may come by another way. It must not outlive
    /// this client.
    ///
    /// # Errors
    /// [`AuditError::Kafka`].
    pub fn queue(&self, topic: &Arc<str>, partitions: impl IntoIterator<Item = i32>) -> Result<Queue, AuditError> {
        let client = self.consumer.client();
        let no_queue = || AuditError::Kafka { attempted: format!("read {topic}"), cause: "the client makes no queue".into() };
        let queue = FetchQueue::new(client).ok_or_else(no_queue)?;
        partitions.into_iter().for_each(|partition| queue.forward(client, topic, partition));
        Ok(Queue { queue, topic: topic.clone() })
    }

    /// Begins to fetch these partitions, each at an offset, or at what is its first record by now.
    ///
    /// # Errors
    /// [`AuditError::Kafka`].
    pub fn assign<'p>(&self, starts: impl IntoIterator<Item = (&'p TopicPartition, i64)>) -> Result<(), AuditError> {
        let mut list = TopicPartitionList::new();
        let failed = |error: KafkaError| AuditError::kafka("assign partitions".into(), &error);
        let mut learned: Option<&Arc<str>> = None;
        for (partition, from) in starts {
            if learned.replace(&partition.topic) != Some(&partition.topic) {
                learn(&self.consumer, &partition.topic);
            }
            let start = if from > 0 { ListOffset::Offset(from) } else { ListOffset::Beginning };
            list.add_partition_offset(&partition.topic, partition.partition, start).map_err(failed)?;
        }
        self.consumer.assign(&list).map_err(failed)
    }

    /// Has a partition that is being fetched go on at another offset; what was fetched before is dropped.
    ///
    /// # Errors
    /// [`AuditError::Kafka`].
    pub fn seek(&self, partition: &TopicPartition, offset: i64) -> Result<(), AuditError> {
        self.consumer
            .seek(&partition.topic, partition.partition, ListOffset::Offset(offset), SEEK_WAIT)
            .map_err(|error| AuditError::kafka(format!("go on at {offset} in {partition}"), &error))
    }

    /// Has a partition stand still; all of it that is wanted has come. A client asks for a batch that cannot be read again and again.
    ///
    /// # Errors
    /// [`AuditError::Kafka`].
    pub fn pause(&self, partition: &TopicPartition) -> Result<(), AuditError> {
        let list = list_of(std::slice::from_ref(partition));
        self.consumer.pause(&list).map_err(|error| AuditError::kafka(format!("pause {partition}"), &error))
    }

    /// Has a partition that was paused, and it alone, be fetched again, after a [`seek`](Self::seek).
    ///
    /// # Errors
    /// [`AuditError::Kafka`].
    pub fn resume(&self, partition: &TopicPartition) -> Result<(), AuditError> {
        let list = list_of(std::slice::from_ref(partition));
        self.consumer.resume(&list).map_err(|error| AuditError::kafka(format!("resume {partition}"), &error))
    }

    /// Serves the client's own events; its trouble, if there is any.
    fn trouble(&self) -> Option<String> {
        match self.consumer.poll(Duration::ZERO) {
            Some(Err(error)) if !matches!(error, KafkaError::PartitionEOF(_)) => Some(error.to_string()),
            _ => None,
        }
    }
}

/// What was fetched of some of a topic's partitions.
pub struct Queue {
    queue: FetchQueue,
    topic: Arc<str>,
}

impl Queue {
    /// Waits for what comes next.
    ///
    /// # Errors
    /// [`AuditError::Stalled`], about `place`, when nothing comes.
    pub fn next(&mut self, client: &Fetcher, place: impl Fn() -> String) -> Result<Next, AuditError> {
        let deadline = Deadline::after(&client.clock, STALLED_AFTER);
        let Self { queue, topic } = self;
        let mut trouble = None;
        loop {
            let mut next = None;
            // One at a time: what is fetched stays with the client, whose bounds count it.
            queue.consume(1, POLL_WAIT, |fetched| match fetched.error() {
                None => next = Some(Next::Record(record_of(topic, fetched))),
                Some(RDKafkaErrorCode::PartitionEOF) => next = Some(Next::End(fetched.partition())),
                Some(code) if is_poison(code) && fetched.topic_identity() != 0 => next = Some(Next::Unreadable(poison_of(topic, fetched))),
                Some(code) => trouble = Some(code.to_string()),
            });
            if let Some(next) = next {
                return Ok(next);
            }
            trouble = client.trouble().or(trouble);
            if deadline.is_over(&client.clock) {
                let trouble = trouble.map(|trouble| format!(" ({trouble})")).unwrap_or_default();
                return Err(AuditError::Stalled { place: place(), trouble });
            }
        }
    }
}

/// Reads stretches of a topic's partitions; of each partition they stand in order.
///
/// # Errors
/// [`AuditError`] when they cannot be read, or what `take` fails with.
pub fn read(
    settings: &Settings,
    group: &str,
    topic: &Arc<str>,
    stretches: &[Stretch],
    take: &mut dyn FnMut(InputRecord) -> Result<(), AuditError>,
) -> Result<(), AuditError> {
    let mut open: BTreeMap<i32, VecDeque<Stretch>> = BTreeMap::new();
    for stretch in stretches.iter().filter(|stretch| stretch.end() > stretch.from) {
        open.entry(stretch.partition).or_default().push_back(*stretch);
    }
    if open.is_empty() {
        return Ok(());
    }
    // Declared before its queue, which must not outlive it.
    let client = Fetcher::new(settings, group, &[("queued.min.messages", "20000"), ("queued.max.messages.kbytes", QUEUED_KIB)])?;
    let mut queue = client.queue(topic, open.keys().copied())?;
    let first =
        |(partition, ahead): (&i32, &VecDeque<Stretch>)| Some((TopicPartition::new(topic.clone(), *partition), ahead.front()?.from));
    let starts: Vec<(TopicPartition, i64)> = open.iter().filter_map(first).collect();
    client.assign(starts.iter().map(|(partition, from)| (partition, *from)))?;
    while !open.is_empty() {
        let awaited = || open.keys().next().map_or_else(|| topic.to_string(), |partition| format!("{topic}/{partition}"));
        let (partition, at) = match queue.next(&client, awaited)? {
            Next::End(partition) => {
                open.remove(&partition);
                continue;
            }
            Next::Record(record) => {
                let (partition, offset) = (record.partition.partition, record.offset);
                let Some(stretch) = open.get(&partition).and_then(|ahead| ahead.front().copied()) else { continue };
                if offset < stretch.end() {
                    take(record)?;
                }
                (partition, offset + 1)
            }
            Next::Unreadable(poison) => {
                let (partition, offset) = (poison.partition.partition, poison.offset.0);
                let Some(stretch) = open.get(&partition).and_then(|ahead| ahead.front().copied()) else { continue };
                if offset < stretch.end() {
                    return Err(unreadable(poison));
                }
                (partition, offset)
            }
        };
        go_on(&client, topic, partition, at, &mut open)?;
    }
    Ok(())
}

/// Everything before `at` has come of a partition: if that was its stretch, the next one is begun.
fn go_on(
    client: &Fetcher,
    topic: &Arc<str>,
    partition: i32,
    at: i64,
    open: &mut BTreeMap<i32, VecDeque<Stretch>>,
) -> Result<(), AuditError> {
    let Some(ahead) = open.get_mut(&partition) else { return Ok(()) };
    if ahead.front().is_some_and(|stretch| at < stretch.end()) {
        return Ok(());
    }
    ahead.pop_front();
    let place = TopicPartition::new(topic.clone(), partition);
    match ahead.front() {
        Some(next) => client.seek(&place, next.from),
        None => {
            open.remove(&partition);
            client.pause(&place)
        }
    }
}

/// A consumer outside any group. `bounds` go before the user's settings, what makes an audit one behind them.
///
/// # Errors
/// [`AuditError::Kafka`] when the settings cannot be used.
pub fn consumer(settings: &Settings, group: &str, isolation: &str, bounds: &[(&str, &str)]) -> Result<BaseConsumer<Callbacks>, AuditError> {
    let mut config = settings.client("testudo-audit");
    config
        .set("check.crcs", "true")
        // An audit reads what is there: it waits for no more (500 ms for each end otherwise), nor a second when its queue was full.
        .set("fetch.wait.max.ms", "10")
        .set("fetch.queue.backoff.ms", "2");
    for (key, value) in bounds {
        config.set(*key, *value);
    }
    for (key, value) in &settings.consumer {
        config.set(key, value);
    }
    config
        .set("group.id", group)
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("auto.offset.reset", "earliest")
        .set("enable.partition.eof", "true")
        .set("isolation.level", isolation);
    config.create_with_context(Callbacks::default()).map_err(|error| AuditError::kafka("create a consumer".into(), &error))
}

/// A batch that nobody can read ends the audit.
pub fn unreadable(poison: Poison) -> AuditError {
    AuditError::Unreadable { partition: poison.partition.to_string(), offset: poison.offset.0, cause: poison.cause }
}

fn record_of(topic: &Arc<str>, fetched: &Fetched<'_>) -> InputRecord {
    InputRecord {
        partition: TopicPartition::new(topic.clone(), fetched.partition()),
        offset: fetched.offset(),
        timestamp_ms: fetched.timestamp_ms(),
        key: fetched.key().map(<[u8]>::to_vec),
        value: fetched.value().map(<[u8]>::to_vec),
        headers: fetched.headers().into_iter().map(|header| (header.name, header.value)).collect(),
    }
}

fn poison_of(topic: &Arc<str>, fetched: &Fetched<'_>) -> Poison {
    Poison {
        partition: TopicPartition::new(topic.clone(), fetched.partition()),
        offset: Offset(fetched.offset()),
        // In the place of a value stands the client's text.
        cause: String::from_utf8_lossy(fetched.value().unwrap_or_default()).into_owned(),
    }
}

#[cfg(test)]
#[path = "fetch_tests.rs"]
pub mod tests;
