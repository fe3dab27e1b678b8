//! The two topics of a tenant beside its data: verdicts on schemas, which every instance follows, and events for its owner.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rdkafka::ClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext};

use crate::clock::{Deadline, SharedClock};
use crate::engine::job::owner_topics;
use crate::kafka::{Broker, Cluster, Failure, NewTopic, Position, Reaction, Settings, TopicPartition, TopicReader};
use crate::tenant::Tenant;

/// How long the cluster may take to answer.
const ANSWER_WAIT: Duration = Duration::from_secs(10);
/// Records taken by one read.
const RECORDS_MAX: usize = 1_000;

/// Key and value of a record.
pub type Record = (Vec<u8>, Option<Vec<u8>>);

/// One of a tenant's two topics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Topic {
    /// `<tenant>-schemas`
    Verdicts,
    /// `<tenant>-events`
    Events,
}

/// Both topics, as a desk uses them.
pub trait Topics: Send {
    /// Begins to read the verdicts from the first.
    ///
    /// # Errors
    /// [`Failure`]; also while the topics do not exist, and when verdicts were deleted.
    fn rewind(&mut self) -> Result<(), Failure>;

    /// The next verdicts, waited for up to `wait`; and whether all are read that were there at the last rewind.
    ///
    /// # Errors
    /// [`Failure`]; reading goes on with the next rewind.
    fn read(&mut self, wait: Duration) -> Result<(Vec<Record>, bool), Failure>;

    /// Appends a record and waits until it is there. After an error it may be there or not.
    ///
    /// # Errors
    /// [`Failure`].
    fn append(&mut self, to: Topic, key: &[u8], value: &[u8]) -> Result<(), Failure>;
}

/// The topics on a cluster.
pub struct KafkaTopics {
    cluster: Arc<Cluster>,
    settings: Settings,
    clock: SharedClock,
    verdicts: Arc<str>,
    events: Arc<str>,
    wanted: [NewTopic; 2],
    may_create: bool,
    reading: Option<Reading>,
    producer: Option<BaseProducer<Delivery>>,
}

struct Reading {
    reader: <Cluster as Broker>::Reader,
    /// The high watermark at the rewind.
    end: Position,
}

impl KafkaTopics {
    /// The topics of `tenant`; nothing is connected yet.
    pub fn new(tenant: &Tenant, cluster: Arc<Cluster>, settings: Settings, clock: SharedClock) -> Self {
        let (verdicts, events, wanted) = (tenant.schemas_topic(), tenant.events_topic(), owner_topics(tenant));
        Self { cluster, settings, clock, verdicts, events, wanted, may_create: false, reading: None, producer: None }
    }

    /// The same, made where they do not exist when they are first read. The engine makes them too; whoever comes first.
    pub fn creating(self) -> Self {
        Self { may_create: true, ..self }
    }

    /// Creates the topics where they do not exist; the engine does so too, at its start.
    ///
    /// # Errors
    /// [`Failure`].
    pub fn create(&self) -> Result<(), Failure> {
        self.cluster.create(&self.wanted, ANSWER_WAIT)
    }

    fn producer(&mut self) -> Result<&BaseProducer<Delivery>, Failure> {
        if self.producer.is_none() {
            let mut config = self.settings.client("testudo-schemas");
            for (key, value) in &self.settings.producer {
                config.set(key, value);
            }
            let timeout_ms = ANSWER_WAIT.as_millis().to_string();
            config.set("enable.idempotence", "true").set("linger.ms", "0").set("message.timeout.ms", timeout_ms);
            let made = config.create_with_context(Delivery::default());
            self.producer = Some(made.map_err(|error| Failure::of("make a producer of verdicts", &error))?);
        }
        self.producer.as_ref().ok_or_else(|| Failure::new(Reaction::Stop, "make a producer of verdicts", "there is none"))
    }
}

impl Topics for KafkaTopics {
    fn rewind(&mut self) -> Result<(), Failure> {
        self.reading = None;
        let names = [self.verdicts.clone(), self.events.clone()];
        let known = self.cluster.describe(&names, ANSWER_WAIT)?;
        if let Some(missing) = names.iter().find(|name| !known.iter().any(|known| known.name == **name)) {
            let missing = Failure::new(Reaction::Retry, format!("read topic {missing}"), "it does not exist yet");
            return if self.may_create { self.create().and(Err(missing)) } else { Err(missing) };
        }
        let partition = TopicPartition::new(self.verdicts.clone(), 0);
        let mut reader = self.cluster.follower()?;
        let bounds = reader.bounds(&partition, ANSWER_WAIT)?;
        if bounds.low > Position(0) {
            return Err(deleted_from(&partition));
        }
        reader.start(&partition, bounds.low)?;
        self.reading = Some(Reading { reader, end: bounds.high });
        Ok(())
    }

    fn read(&mut self, wait: Duration) -> Result<(Vec<Record>, bool), Failure> {
        let Some(reading) = &mut self.reading else {
            return Err(Failure::new(Reaction::Retry, format!("read topic {}", self.verdicts), "it was not begun"));
        };
        let read = match reading.reader.read(RECORDS_MAX, wait) {
            Ok(read) => read,
            Err(failure) => {
                self.reading = None;
                return Err(failure);
            }
        };
        let record = |run: &crate::kafka::Run, row: usize| {
            let record = run.record(row);
            (record.key.unwrap_or_default().to_vec(), record.value.map(<[u8]>::to_vec))
        };
        let records = read.run.iter().flat_map(|run| (0..run.len()).map(move |row| record(run, row))).collect();
        Ok((records, read.position >= reading.end))
    }

    fn append(&mut self, to: Topic, key: &[u8], value: &[u8]) -> Result<(), Failure> {
        let topic = match to {
            Topic::Verdicts => self.verdicts.clone(),
            Topic::Events => self.events.clone(),
        };
        let attempted = || format!("append to topic {topic}");
        let deadline = Deadline::after(&*self.clock, ANSWER_WAIT);
        let clock = self.clock.clone();
        let producer = self.producer()?;
        let record = BaseRecord::<[u8], [u8]>::to(&topic).partition(0).key(key).payload(value);
        producer.send(record).map_err(|(error, _)| Failure::of(attempted(), &error))?;
        while producer.in_flight_count() > 0 && !deadline.is_over(&*clock) {
            producer.poll(Duration::from_millis(5));
        }
        match producer.context().take() {
            Some(Ok(())) => Ok(()),
            Some(Err(code)) => Err(Failure::of_code(attempted(), code)),
            None => {
                // What is still under way must not be counted for the next record.
                let failure = Failure::timed_out(Reaction::Retry, attempted(), ANSWER_WAIT);
                self.producer = None;
                Err(failure)
            }
        }
    }
}

/// Compaction leaves a topic's beginning where it is; retention and deleting records move it. What is left is not believed: without its
/// baseline a schema that was held or refused would count as one that was there first.
fn deleted_from(verdicts: &TopicPartition) -> Failure {
    let why = "records were deleted from it, so what was decided is not known: make it anew with cleanup.policy=compact, from a copy, or \
               empty and decide again";
    Failure::new(Reaction::Stop, format!("read the verdicts on schemas from {verdicts}"), why)
}

/// What became of the record under way.
#[derive(Default)]
struct Delivery {
    outcome: Mutex<Option<Result<(), RDKafkaErrorCode>>>,
}

impl Delivery {
    fn take(&self) -> Option<Result<(), RDKafkaErrorCode>> {
        self.outcome.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl ClientContext for Delivery {
    fn error(&self, error: KafkaError, reason: &str) {
        tracing::warn!(target: "librdkafka", %error, reason, "client trouble");
    }
}

impl ProducerContext for Delivery {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, _: ()) {
        let code = |error: &KafkaError| error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Fail);
        let outcome = result.as_ref().map(|_| ()).map_err(|(error, _)| code(error));
        *self.outcome.lock().unwrap_or_else(PoisonError::into_inner) = Some(outcome);
    }
}
