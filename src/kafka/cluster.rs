//! A real Kafka cluster behind the [`Broker`] port: the settings of every client that the guarantee rests on.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic as ClientNewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::{FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::producer::{BaseProducer, Producer};
use rdkafka::topic_partition_list::Offset;

use super::client::{Callbacks, list_of};
use super::consumer::{Manners, Member};
use super::ffi;
use super::port::{Broker, NewTopic, TopicDescription};
use super::position::{Position, TopicPartition};
use super::producer::TxnProducer;
use super::reaction::Failure;
use super::reader::PartitionReader;
use super::settings::{GroupProtocol, SESSION, Settings};
use crate::clock::SharedClock;
use crate::planted::Bug;

/// What the broker decides under KIP-848: `group.consumer.session.timeout.ms` and its like there.
const BROKERS_OWN: [&str; 3] = ["partition.assignment.strategy", "heartbeat.interval.ms", "session.timeout.ms"];

/// The group of readers, which they never join.
const READERS: &str = "testudo-restore";

/// A kept client that has not answered for so long is replaced.
const KEPT_WAIT: Duration = Duration::from_secs(2);

/// A Kafka cluster reached through librdkafka.
pub struct Cluster {
    settings: Settings,
    client_id: String,
    transaction_timeout: Duration,
    clock: SharedClock,
    runtime: tokio::runtime::Handle,
    /// Keeps the client that topics are described with: one for each question would be a connection each. It asks the controller that it
    /// knows, so one whose controller is away makes place for a new one.
    kept: Mutex<Option<Asker>>,
}

/// Asks without rdkafka's `AdminClient`, which when it is dropped waits for a thread that looks up every 100 ms.
type Asker = BaseProducer<Callbacks>;

impl Cluster {
    /// A cluster by its settings; nothing is connected yet. `runtime` serves the admin client.
    pub fn new(
        settings: Settings,
        client_id: impl Into<String>,
        transaction_timeout: Duration,
        clock: SharedClock,
        runtime: tokio::runtime::Handle,
    ) -> Self {
        Self { settings, client_id: client_id.into(), transaction_timeout, clock, runtime, kept: Mutex::default() }
    }

    fn consumer_config(&self) -> ClientConfig {
        let mut config = self.settings.client(&self.client_id);
        config
            .set("partition.assignment.strategy", "cooperative-sticky")
            // Members learn of a rebalance by their heartbeats, twice in a cooperative one: 3 s each by default.
            .set("heartbeat.interval.ms", "200")
            .set("session.timeout.ms", SESSION.as_millis().to_string())
            .set("fetch.queue.backoff.ms", "2")
            .set("fetch.wait.max.ms", "100")
            // A partition is asked for more while the queue is below these, so it overshoots by an answer for each partition.
            .set("queued.min.messages", "2000")
            // Such an answer, compressed here and whole: 1 MiB by default, for each partition and beyond what the queue holds.
            .set("fetch.message.max.bytes", "262144")
            .set("queued.max.messages.kbytes", "8192")
            .set("check.crcs", "true")
            .set("topic.metadata.refresh.interval.ms", "10000");
        for (key, value) in self.settings.of_consumers() {
            config.set(key, value);
        }
        config
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            // Positions are always given; where one is gone, the client must say so instead of choosing.
            .set("auto.offset.reset", "error")
            // Also makes the group's positions stable ones (KIP-447).
            .set("isolation.level", isolation(Bug::UncommittedRead));
        config
    }

    fn producer_config(&self, transactional_id: &str) -> ClientConfig {
        let timeout_ms = self.transaction_timeout.as_millis().to_string();
        let mut config = self.settings.client(&self.client_id);
        config
            // Records wait for their partition's registration in the transaction anyway, for longer. Without it a backlog leaves in many
            // small requests; with five of a partition under way the client asks without a pause whether it may send the next one.
            .set("linger.ms", "1")
            .set("batch.num.messages", "100000")
            .set("queue.buffering.max.messages", "100000")
            // The broker's default for a record batch; the client's own is below it.
            .set("message.max.bytes", "1048588")
            .set("compression.type", "lz4")
            .set("delivery.report.only.error", "true")
            // The retry of coordinator requests starts here; 100 ms by default, 500 ms for some of them.
            .set("retry.backoff.ms", "10")
            .set("retry.backoff.max.ms", "500");
        for (key, value) in self.settings.of_producers() {
            config.set(key, value);
        }
        config
            // EOS-8 reads the client's own words about the coordinator's connection.
            .set_log_level(RDKafkaLogLevel::Info)
            .set("log.connection.close", "true")
            .set("transactional.id", transactional_id)
            .set("enable.idempotence", "true")
            .set("transaction.timeout.ms", &timeout_ms)
            .set("message.timeout.ms", &timeout_ms)
            .set("socket.timeout.ms", &timeout_ms);
        config
    }

    fn bare_consumer(&self, group: &str, isolation: &str) -> Result<BaseConsumer<Callbacks>, Failure> {
        make(&self.bare_config(group, isolation), "make a reader")
    }

    fn bare_config(&self, group: &str, isolation: &str) -> ClientConfig {
        let mut config = self.consumer_config();
        config.remove("partition.assignment.strategy");
        // librdkafka needs a group name to consume; assigned by hand, it never joins.
        config.set("group.id", group).set("isolation.level", isolation).set("enable.partition.eof", "true");
        config
    }

    /// A reader of a topic that is read on and on, whose end is waited for at the broker.
    ///
    /// # Errors
    /// When the settings cannot be used.
    pub fn follower(&self) -> Result<PartitionReader, Failure> {
        self.make_reader(&self.bare_config(READERS, isolation(Bug::UncommittedRestore)))
    }

    fn make_reader(&self, config: &ClientConfig) -> Result<PartitionReader, Failure> {
        Ok(PartitionReader::new(make(config, "make a reader")?, self.bare_consumer("testudo-bounds", "read_uncommitted")?))
    }

    /// Where a group stands, without taking part in it; nothing where it has no position.
    ///
    /// # Errors
    /// When the broker does not say.
    pub fn group_positions(&self, group: &str, partitions: &[TopicPartition], wait: Duration) -> Result<Vec<Option<Position>>, Failure> {
        let attempted = || format!("read the positions of group {group}");
        let answer = self
            .bare_consumer(group, "read_committed")?
            .committed_offsets(list_of(partitions), wait)
            .map_err(|error| Failure::of(attempted(), &error))?;
        let position = |partition: &TopicPartition| {
            let Some(element) = answer.find_partition(&partition.topic, partition.partition) else { return Ok(None) };
            element.error().map_err(|error| Failure::of(attempted(), &error))?;
            Ok(match element.offset() {
                Offset::Offset(offset) => Some(Position(offset)),
                _ => None,
            })
        };
        partitions.iter().map(position).collect()
    }

    /// The members of a group, for people, whichever protocol it has; none where there is no such group.
    ///
    /// # Errors
    /// When the broker does not say.
    pub fn group_members(&self, group: &str, wait: Duration) -> Result<Vec<String>, Failure> {
        ffi::group_members(self.asker()?.client(), group, wait)
    }

    fn asker(&self) -> Result<Asker, Failure> {
        make(&self.settings.client(&self.client_id), "make a client to ask with")
    }
}

/// Records are read committed, unless this bug is planted.
fn isolation(unless: Bug) -> &'static str {
    if unless.is_planted() { "read_uncommitted" } else { "read_committed" }
}

fn make<T: FromClientConfigAndContext<Callbacks>>(config: &ClientConfig, attempted: &str) -> Result<T, Failure> {
    config.create_with_context(Callbacks::default()).map_err(|error| Failure::of(attempted, &error))
}

impl Broker for Cluster {
    type Consumer = Member;
    type Producer = TxnProducer;
    type Reader = PartitionReader;

    fn consumer(&self, group: &str, instance: Option<&str>, topics: &[Arc<str>]) -> Result<Member, Failure> {
        let mut config = self.consumer_config();
        config.set("group.id", group);
        match self.settings.group_protocol {
            GroupProtocol::Cooperative => {}
            GroupProtocol::Eager => {
                config.set("partition.assignment.strategy", "range,roundrobin");
            }
            GroupProtocol::Consumer => {
                // The broker decides these, and librdkafka refuses a client that has an opinion.
                for key in BROKERS_OWN {
                    config.remove(key);
                }
                if let Some((key, _)) = self.settings.of_consumers().find(|(key, _)| BROKERS_OWN.contains(key)) {
                    tracing::warn!(key, "this property does nothing under group_protocol = \"consumer\": the broker decides");
                }
                config.set("group.protocol", "consumer");
            }
        }
        // Under KIP-848 a broker keeps the name of a dead static member until its session has ended: a restart would wait for that.
        let instance = instance.filter(|_| self.settings.group_protocol != GroupProtocol::Consumer);
        if let Some(instance) = instance {
            config.set("group.instance.id", instance);
        }
        let is_silent = self.settings.group_protocol == GroupProtocol::Consumer;
        let manners = Manners { watched: instance.map(|_| group), is_silent };
        Member::subscribe(make(&config, "make a consumer")?, self.clock.clone(), manners, topics)
    }

    fn producer(&self, transactional_id: &str) -> Result<TxnProducer, Failure> {
        let client: BaseProducer<Callbacks> = make(&self.producer_config(transactional_id), "make a producer")?;
        Ok(TxnProducer::new(client, transactional_id, self.clock.clone()))
    }

    fn reader(&self) -> Result<PartitionReader, Failure> {
        let mut config = self.bare_config(READERS, isolation(Bug::UncommittedRestore));
        // A client asks a broker one thing at a time: the next partition waits for the answer about the end of the last one.
        config.set("fetch.wait.max.ms", "10");
        self.make_reader(&config)
    }

    fn describe(&self, topics: &[Arc<str>], wait: Duration) -> Result<Vec<TopicDescription>, Failure> {
        let names: Vec<&str> = topics.iter().map(AsRef::as_ref).collect();
        let kept = || self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = kept().take();
        if let Some(asker) = taken
            && let Ok(found) = ffi::describe_topics(asker.client(), &names, wait.min(KEPT_WAIT))
        {
            *kept() = Some(asker);
            return Ok(found);
        }
        let asker = self.asker()?;
        let found = ffi::describe_topics(asker.client(), &names, wait)?;
        *kept() = Some(asker);
        Ok(found)
    }

    fn create(&self, topics: &[NewTopic], wait: Duration) -> Result<(), Failure> {
        let config = self.settings.client(&self.client_id);
        let admin: AdminClient<DefaultClientContext> = config.create().map_err(|error| Failure::of("make an admin client", &error))?;
        let wanted: Vec<ClientNewTopic<'_>> = topics
            .iter()
            .map(|topic| {
                let made = ClientNewTopic::new(&topic.name, topic.partitions, TopicReplication::Fixed(-1));
                topic.config.iter().fold(made, |made, (key, value)| made.set(key, value))
            })
            .collect();
        let names = || topics.iter().map(|topic| &*topic.name).collect::<Vec<_>>().join(", ");
        let options = AdminOptions::new().operation_timeout(Some(wait)).request_timeout(Some(wait));
        let answers = self
            .runtime
            .block_on(admin.create_topics(&wanted, &options))
            .map_err(|error| Failure::of(format!("create topics {}", names()), &error))?;
        for answer in answers {
            match answer {
                Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
                Err((topic, code)) => return Err(Failure::of_code(format!("create topic {topic}"), code)),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "cluster_tests.rs"]
mod tests;
