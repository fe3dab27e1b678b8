//! Where the walk reads from: partitions side by side, each once and in order, each only as far as it is asked for.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::consumer::base_consumer::PartitionQueue;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use crate::audit::AuditError;
use crate::audit::facts::InputRecord;
use crate::audit::observe::record_of;
use crate::clock::{Deadline, SystemClock};
use crate::kafka::client::Callbacks;
use crate::kafka::{Settings, TopicPartition};

/// No record and no end of a partition for so long: the broker is gone.
const STALLED_AFTER: Duration = Duration::from_secs(60);
/// One wait for a record.
const POLL_WAIT: Duration = Duration::from_millis(100);

/// Partitions that are read side by side.
pub trait Source {
    /// The next committed record of a partition; `None` at its end.
    ///
    /// # Errors
    /// [`AuditError`] when it cannot be read.
    fn next(&mut self, partition: &TopicPartition) -> Result<Option<InputRecord>, AuditError>;
}

/// Partitions of a cluster, read committed. Each holds back some 2 MiB at most.
pub struct Streams {
    streams: HashMap<TopicPartition, Stream>,
    consumer: Arc<BaseConsumer<Callbacks>>,
    clock: SystemClock,
}

struct Stream {
    queue: PartitionQueue<Callbacks>,
    is_at_end: bool,
}

impl Streams {
    /// Opens partitions, each at this offset, or at what is its first record by now.
    ///
    /// # Errors
    /// [`AuditError::Kafka`].
    pub fn open(settings: &Settings, group: &str, partitions: &[(TopicPartition, i64)]) -> Result<Self, AuditError> {
        let failed = |error: KafkaError| AuditError::kafka(format!("read {} partitions side by side", partitions.len()), &error);
        let consumer = Arc::new(consumer(settings, group)?);
        let mut list = TopicPartitionList::new();
        let mut streams = HashMap::new();
        for (partition, from) in partitions {
            let start = if *from > 0 { Offset::Offset(*from) } else { Offset::Beginning };
            list.add_partition_offset(&partition.topic, partition.partition, start).map_err(failed)?;
            // Before anything is fetched: nothing may come through the common queue.
            let queue = consumer.split_partition_queue(&partition.topic, partition.partition).ok_or_else(|| AuditError::Kafka {
                attempted: format!("read {partition}"),
                cause: "the client has no queue for it".into(),
            })?;
            streams.insert(partition.clone(), Stream { queue, is_at_end: false });
        }
        consumer.assign(&list).map_err(failed)?;
        Ok(Self { streams, consumer, clock: SystemClock::default() })
    }
}

impl Source for Streams {
    fn next(&mut self, partition: &TopicPartition) -> Result<Option<InputRecord>, AuditError> {
        let Some(stream) = self.streams.get_mut(partition).filter(|stream| !stream.is_at_end) else { return Ok(None) };
        let deadline = Deadline::after(&self.clock, STALLED_AFTER);
        loop {
            match stream.queue.poll(POLL_WAIT) {
                Some(Ok(message)) => return Ok(Some(record_of(&partition.topic, &message))),
                Some(Err(KafkaError::PartitionEOF(_))) => {
                    stream.is_at_end = true;
                    return Ok(None);
                }
                Some(Err(error)) => tracing::warn!(%partition, %error, "trouble while reading"),
                None => {}
            }
            // Serves the client's events.
            if let Some(Err(error)) = self.consumer.poll(Duration::ZERO) {
                tracing::warn!(%error, "trouble while reading");
            }
            if deadline.is_over(&self.clock) {
                return Err(AuditError::Stalled { topic: partition.topic.to_string() });
            }
        }
    }
}

fn consumer(settings: &Settings, group: &str) -> Result<BaseConsumer<Callbacks>, AuditError> {
    let mut config = settings.client("testudo-audit");
    for (key, value) in &settings.consumer {
        config.set(key, value);
    }
    config
        .set("group.id", group)
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("auto.offset.reset", "earliest")
        .set("enable.partition.eof", "true")
        .set("isolation.level", "read_committed")
        // For each partition: there may be hundreds, and each waits for the others.
        .set("queued.min.messages", "2000")
        .set("queued.max.messages.kbytes", "1024");
    config.create_with_context(Callbacks::default()).map_err(|error| AuditError::kafka("create a consumer".into(), &error))
}
