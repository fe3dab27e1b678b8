//! The way to the broker: one idempotent producer per client, acknowledged by all replicas, keys placed as Java places them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rdkafka::ClientContext;
use rdkafka::message::{DeliveryResult, Header, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer, ProducerContext, ThreadedProducer};

use super::error::Error;
use super::stream::Message;
use crate::clock::{Deadline, SharedClock};
use crate::kafka::{Failure, Reaction, Settings};

/// How long the broker may leave the queue full, or the last records unacknowledged.
const PATIENCE: Duration = Duration::from_secs(60);
/// Pause before a full queue is tried again.
const FULL_PAUSE: Duration = Duration::from_millis(1);

/// Counts what was not delivered; successes need no report.
#[derive(Clone, Debug, Default)]
struct Undelivered {
    count: Arc<AtomicU64>,
    first: Arc<Mutex<Option<String>>>,
}

impl ClientContext for Undelivered {}

impl ProducerContext for Undelivered {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, _: ()) {
        if let Err((error, _)) = result {
            self.count.fetch_add(1, Ordering::Relaxed);
            if let Ok(mut first) = self.first.lock() {
                first.get_or_insert_with(|| error.to_string());
            }
        }
    }
}

/// Sends the messages of one client to one topic.
pub struct Sender {
    producer: ThreadedProducer<Undelivered>,
    undelivered: Undelivered,
    topic: String,
    headers: Option<OwnedHeaders>,
    clock: SharedClock,
    sent: u64,
}

impl Sender {
    /// A producer named `client`; nothing is connected yet. Every record gets `headers`.
    ///
    /// # Errors
    /// [`Error::Broker`] when librdkafka refuses the configuration.
    pub fn new(kafka: &Settings, client: &str, topic: &str, headers: &[(String, Vec<u8>)], clock: SharedClock) -> Result<Self, Error> {
        let mut config = kafka.client(client);
        config.set("compression.type", "lz4").set("linger.ms", "20").set("batch.num.messages", "100000");
        for (key, value) in &kafka.producer {
            config.set(key, value);
        }
        config
            .set("acks", "all")
            .set("enable.idempotence", "true")
            .set("partitioner", "murmur2_random")
            .set("delivery.report.only.error", "true");
        let undelivered = Undelivered::default();
        let producer = config
            .create_with_context(undelivered.clone())
            .map_err(|error| Failure::of(format!("make a producer for {client}"), &error))?;
        let headers = (!headers.is_empty()).then(|| {
            headers
                .iter()
                .fold(OwnedHeaders::new_with_capacity(headers.len()), |all, (key, value)| all.insert(Header { key, value: Some(value) }))
        });
        Ok(Self { producer, undelivered, topic: topic.into(), headers, clock, sent: 0 })
    }

    /// Queues a message, waiting while the queue is full.
    ///
    /// # Errors
    /// [`Error::Broker`] when the queue stays full for a minute, or the record is refused.
    pub fn send(&mut self, message: &Message) -> Result<(), Error> {
        let mut record = BaseRecord::<[u8], [u8]>::to(&self.topic).payload(&message.value).timestamp(message.timestamp_ms);
        if let Some(key) = &message.key {
            record = record.key(key);
        }
        if let Some(headers) = &self.headers {
            record = record.headers(headers.clone());
        }
        let mut deadline = None;
        loop {
            let Err((error, refused)) = self.producer.send(record) else { break };
            let failure = Failure::of(format!("send a record to topic {}", self.topic), &error);
            let until = *deadline.get_or_insert_with(|| Deadline::after(&*self.clock, PATIENCE));
            if failure.reaction != Reaction::Retry || until.is_over(&*self.clock) {
                return Err(failure.into());
            }
            self.clock.sleep(FULL_PAUSE);
            record = refused;
        }
        self.sent += 1;
        Ok(())
    }

    /// Waits until everything is acknowledged.
    ///
    /// # Errors
    /// [`Error::Broker`] when that takes longer than a minute, [`Error::Undelivered`] when records were refused.
    pub fn finish(self) -> Result<(), Error> {
        let flushed = self.producer.flush(PATIENCE);
        flushed.map_err(|error| Failure::of(format!("send the last records to topic {}", self.topic), &error))?;
        let failed = self.undelivered.count.load(Ordering::Relaxed);
        if failed == 0 {
            return Ok(());
        }
        let cause = self.undelivered.first.lock().map(|first| first.clone().unwrap_or_default()).unwrap_or_default();
        Err(Error::Undelivered { topic: self.topic, sent: self.sent, failed, cause })
    }
}
