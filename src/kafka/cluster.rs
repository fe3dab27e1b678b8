//! A real Kafka cluster behind the [`Broker`] port: the settings of every client that the guarantee rests on.

use std::sync::Arc;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic as ClientNewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::{FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::consumer::BaseConsumer;
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::producer::BaseProducer;

use super::client::Callbacks;
use super::consumer::Member;
use super::ffi;
use super::port::{Broker, NewTopic, TopicDescription};
use super::producer::TxnProducer;
use super::reaction::Failure;
use super::reader::PartitionReader;
use super::settings::{GroupProtocol, Settings};
use crate::clock::SharedClock;

/// A Kafka cluster reached through librdkafka.
pub struct Cluster {
    settings: Settings,
    client_id: String,
    transaction_timeout: Duration,
    clock: SharedClock,
    runtime: tokio::runtime::Handle,
}

impl Cluster {
    /// A cluster by its settings; nothing is connected yet. `runtime` serves the admin client.
    pub fn new(
        settings: Settings,
        client_id: impl Into<String>,
        transaction_timeout: Duration,
        clock: SharedClock,
        runtime: tokio::runtime::Handle,
    ) -> Self {
        Self { settings, client_id: client_id.into(), transaction_timeout, clock, runtime }
    }

    fn consumer_config(&self) -> ClientConfig {
        let mut config = self.settings.client(&self.client_id);
        config
            .set("partition.assignment.strategy", "cooperative-sticky")
            // Members learn of a rebalance by their heartbeats, twice in a cooperative one: 3 s each by default.
            .set("heartbeat.interval.ms", "500")
            // How long the partitions of a dead instance wait for another one.
            .set("session.timeout.ms", "10000")
            .set("fetch.queue.backoff.ms", "2")
            .set("fetch.wait.max.ms", "50")
            .set("queued.min.messages", "20000")
            .set("queued.max.messages.kbytes", "8192")
            .set("check.crcs", "true")
            .set("topic.metadata.refresh.interval.ms", "10000");
        for (key, value) in &self.settings.consumer {
            config.set(key, value);
        }
        config
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            // Positions are always given; where one is gone, the client must say so instead of choosing.
            .set("auto.offset.reset", "error")
            // Also makes the group's positions stable ones (KIP-447).
            .set("isolation.level", "read_committed");
        config
    }

    fn producer_config(&self, transactional_id: &str) -> ClientConfig {
        let timeout_ms = self.transaction_timeout.as_millis().to_string();
        let mut config = self.settings.client(&self.client_id);
        config
            // Records wait for their partition's registration in the transaction anyway, which is when batches form.
            .set("linger.ms", "0")
            .set("batch.num.messages", "100000")
            .set("queue.buffering.max.messages", "1000000")
            // The broker's default for a record batch; the client's own is below it.
            .set("message.max.bytes", "1048588")
            .set("compression.type", "lz4")
            .set("delivery.report.only.error", "true")
            // The retry of coordinator requests starts here; 100 ms by default, 500 ms for some of them.
            .set("retry.backoff.ms", "10")
            .set("retry.backoff.max.ms", "500");
        for (key, value) in &self.settings.producer {
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
        let mut config = self.consumer_config();
        config.remove("partition.assignment.strategy");
        // librdkafka needs a group name to consume; assigned by hand, it never joins.
        config.set("group.id", group).set("isolation.level", isolation).set("enable.partition.eof", "true");
        make(&config, "make a reader")
    }

    fn admin(&self) -> Result<AdminClient<DefaultClientContext>, Failure> {
        let config = self.settings.client(&self.client_id);
        config.create().map_err(|error| Failure::of("make an admin client", &error))
    }
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
                // The broker decides these.
                for key in ["partition.assignment.strategy", "heartbeat.interval.ms", "session.timeout.ms"] {
                    config.remove(key);
                }
                config.set("group.protocol", "consumer");
            }
        }
        // Under KIP-848 a broker keeps the name of a dead static member until its session has ended: a restart would wait for that.
        if let Some(instance) = instance.filter(|_| self.settings.group_protocol != GroupProtocol::Consumer) {
            config.set("group.instance.id", instance);
        }
        Member::subscribe(make(&config, "make a consumer")?, topics)
    }

    fn producer(&self, transactional_id: &str) -> Result<TxnProducer, Failure> {
        let client: BaseProducer<Callbacks> = make(&self.producer_config(transactional_id), "make a producer")?;
        Ok(TxnProducer::new(client, transactional_id, self.clock.clone()))
    }

    fn reader(&self) -> Result<PartitionReader, Failure> {
        Ok(PartitionReader::new(
            self.bare_consumer("testudo-restore", "read_committed")?,
            self.bare_consumer("testudo-bounds", "read_uncommitted")?,
        ))
    }

    fn describe(&self, topics: &[Arc<str>], wait: Duration) -> Result<Vec<TopicDescription>, Failure> {
        let names: Vec<&str> = topics.iter().map(AsRef::as_ref).collect();
        let admin = self.admin()?;
        ffi::describe_topics(admin.inner(), &names, wait)
    }

    fn create(&self, topics: &[NewTopic], wait: Duration) -> Result<(), Failure> {
        let admin = self.admin()?;
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
