//! What all rdkafka clients share: logs into `tracing`, and the signs of doubt about a transaction coordinator (EOS-8).

use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Message};
use rdkafka::producer::ProducerContext;
use rdkafka::topic_partition_list::TopicPartitionList;
use rdkafka::types::RDKafkaRespErr;

use super::port::Rebalance;
use super::position::TopicPartition;
use super::reaction::is_refusal;

/// The callbacks of one client. librdkafka calls them only while the owner polls.
#[derive(Debug, Default)]
pub struct Callbacks {
    rebalances: Mutex<VecDeque<Rebalance>>,
    is_closing: AtomicBool,
    coordinator_doubt: AtomicBool,
    refusal: Mutex<Option<String>>,
}

impl Callbacks {
    /// Takes the rebalance events noted since the last call, oldest first.
    pub fn take_rebalances(&self) -> Vec<Rebalance> {
        self.rebalances.lock().map(|mut noted| noted.drain(..).collect()).unwrap_or_default()
    }

    /// From now on rebalances are acknowledged at once: nobody will come to act on them.
    pub fn close(&self) {
        self.is_closing.store(true, Ordering::Relaxed);
    }

    /// Whether the transaction coordinator's connection failed or timed out since the last call.
    pub fn take_coordinator_doubt(&self) -> bool {
        self.coordinator_doubt.swap(false, Ordering::Relaxed)
    }

    /// The last record that the broker refused for what it is, since the last call.
    pub fn take_refusal(&self) -> Option<String> {
        self.refusal.lock().ok().and_then(|mut refusal| refusal.take())
    }

    fn note(&self, rebalance: Rebalance) {
        tracing::info!(event = ?rebalance, "rebalance");
        if let Ok(mut noted) = self.rebalances.lock() {
            noted.push_back(rebalance);
        }
    }
}

impl ClientContext for Callbacks {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        // A request to the coordinator that failed may still arrive there later (KAFKA-17754).
        if matches!(facility, "FAIL" | "REQTMOUT") && text.contains("TxnCoordinator") {
            self.coordinator_doubt.store(true, Ordering::Relaxed);
        }
        match level {
            RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical | RDKafkaLogLevel::Error => {
                tracing::warn!(target: "librdkafka", facility, text, "client error");
            }
            RDKafkaLogLevel::Warning => tracing::warn!(target: "librdkafka", facility, text, "client warning"),
            RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info => tracing::info!(target: "librdkafka", facility, text, "client message"),
            RDKafkaLogLevel::Debug => tracing::debug!(target: "librdkafka", facility, text, "client message"),
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        // The end of a partition is told to whoever polls; here it is no trouble.
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::PartitionEOF) {
            return;
        }
        tracing::warn!(target: "librdkafka", %error, reason, "client trouble");
    }
}

impl ConsumerContext for Callbacks {
    /// Only notes the event: the worker assigns and releases in its own loop, after its commits.
    fn rebalance(&self, consumer: &BaseConsumer<Self>, event: RDKafkaRespErr, partitions: &mut TopicPartitionList) {
        let named = partitions_of(partitions);
        let is_assign = event == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS;
        if self.is_closing.load(Ordering::Relaxed) {
            // Unanswered, an event of either kind would keep the client from closing.
            let answered = if is_assign { consumer.incremental_assign(partitions) } else { consumer.incremental_unassign(partitions) };
            if let Err(error) = answered {
                tracing::debug!(%error, "rebalance not answered while closing");
            }
            return;
        }
        self.note(match (is_assign, consumer.assignment_lost()) {
            (true, _) => Rebalance::Assigned(named),
            (false, true) => Rebalance::Lost(named),
            (false, false) => Rebalance::Revoked(named),
        });
    }
}

impl ProducerContext for Callbacks {
    type DeliveryOpaque = ();

    /// Only failures are reported; they fail the transaction too, which is where they are handled.
    fn delivery(&self, result: &DeliveryResult<'_>, _: ()) {
        if let Err((error, message)) = result {
            tracing::debug!(%error, "record not delivered");
            if error.rdkafka_error_code().is_some_and(is_refusal)
                && let Ok(mut refusal) = self.refusal.lock()
            {
                let bytes = message.key_len() + message.payload_len();
                *refusal = Some(format!("{}/{} refuses a record of {bytes} bytes: {error}", message.topic(), message.partition()));
            }
        }
    }
}

/// The partitions of a librdkafka list.
pub fn partitions_of(list: &TopicPartitionList) -> Vec<TopicPartition> {
    list.elements().iter().map(|element| TopicPartition::new(element.topic(), element.partition())).collect()
}

/// A librdkafka list of partitions without offsets.
pub fn list_of(partitions: &[TopicPartition]) -> TopicPartitionList {
    let mut list = TopicPartitionList::with_capacity(partitions.len());
    for partition in partitions {
        list.add_partition(&partition.topic, partition.partition);
    }
    list
}
