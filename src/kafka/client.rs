//! What all rdkafka clients share: logs into `tracing`, and the signs of doubt about a transaction coordinator (EOS-8).

use std::collections::{BTreeMap, VecDeque};
use std::ops::Deref;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext, RebalanceProtocol};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Message};
use rdkafka::producer::ProducerContext;
use rdkafka::topic_partition_list::TopicPartitionList;
use rdkafka::types::RDKafkaRespErr;

use super::bounded::within;
use super::port::Rebalance;
use super::position::TopicPartition;
use super::reaction::is_refusal;
use crate::clock::{Clock, SystemClock};

/// For so long a client's trouble is told once, and counted.
const QUIET: Duration = Duration::from_secs(10);
/// At most so many different troubles are remembered.
const TOLD_MAX: usize = 64;

/// How long a topic's leaders are waited for before partitions are assigned by hand: so long it takes without asking.
const LEARN_WITHIN: Duration = Duration::from_secs(1);

/// How long a member's client may take to close: a healthy one needs less, brokers or not.
const CLOSE_WITHIN: Duration = Duration::from_secs(10);

/// The client of a group's member. Dropped, it is closed [within a bound](super::bounded) or left behind: who waits for it starts nothing
/// again. Another client may take its place in the group at once.
pub struct MemberClient(Option<BaseConsumer<Callbacks>>);

impl MemberClient {
    /// Takes a client that is to be a member.
    pub fn new(client: BaseConsumer<Callbacks>) -> Self {
        Self(Some(client))
    }
}

impl Deref for MemberClient {
    type Target = BaseConsumer<Callbacks>;

    fn deref(&self) -> &Self::Target {
        self.0.as_ref().expect("it is there until it is dropped")
    }
}

impl Drop for MemberClient {
    fn drop(&mut self) {
        let client = self.0.take();
        if within(CLOSE_WITHIN, "kafka close", move || drop(client)).is_none() {
            tracing::warn!(within_s = CLOSE_WITHIN.as_secs(), "a member's client does not close and is left behind");
        }
    }
}

/// The callbacks of one client. librdkafka calls them only while the owner polls.
#[derive(Debug, Default)]
pub struct Callbacks {
    rebalances: Mutex<VecDeque<Rebalance>>,
    is_closing: AtomicBool,
    coordinator_doubt: AtomicBool,
    refusal: Mutex<Option<String>>,
    repeats: Mutex<Repeats>,
    clock: SystemClock,
}

/// Troubles of late. An outage makes each client say the same thing many times a second.
#[derive(Debug, Default)]
struct Repeats {
    since: Duration,
    told: BTreeMap<String, u64>,
}

impl Repeats {
    /// Whether to tell; a repeated trouble is told again after [`QUIET`].
    fn is_news(&mut self, text: String, now: Duration) -> bool {
        if now.saturating_sub(self.since) > QUIET || self.told.len() >= TOLD_MAX {
            self.since = now;
            for (text, repeats) in std::mem::take(&mut self.told).into_iter().filter(|(_, repeats)| *repeats > 0) {
                tracing::warn!(target: "librdkafka", text, repeats, "client trouble, repeated");
            }
        }
        let repeats = self.told.entry(text).and_modify(|repeats| *repeats += 1).or_insert(0);
        *repeats == 0
    }
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

    /// Whether a connection failed or a request timed out since the last call. librdkafka keeps a repeated failure to itself for 30 s,
    /// so a doubt from before the first transaction counts, too.
    pub fn take_coordinator_doubt(&self) -> bool {
        self.coordinator_doubt.swap(false, Ordering::Relaxed)
    }

    /// The last record that the broker refused for what it is, since the last call.
    pub fn take_refusal(&self) -> Option<String> {
        self.refusal.lock().ok().and_then(|mut refusal| refusal.take())
    }

    fn is_news(&self, text: String) -> bool {
        let now = self.clock.monotonic();
        self.repeats.lock().map_or(true, |mut repeats| repeats.is_news(text, now))
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
        // A request that was on its way when its connection failed may still arrive there later (KAFKA-17754): EndTxn goes to the
        // transaction's coordinator, positions to the group's, over a connection that does not say so. A refused connect carried nothing.
        if facility == "REQTMOUT" || (facility == "FAIL" && text.contains("in state UP")) {
            self.coordinator_doubt.store(true, Ordering::Relaxed);
        }
        match level {
            RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical | RDKafkaLogLevel::Error => {
                if self.is_news(facility.to_owned()) {
                    tracing::warn!(target: "librdkafka", facility, text, "client error");
                }
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
        if self.is_news(format!("{error}: {reason}")) {
            tracing::warn!(target: "librdkafka", %error, reason, "client trouble");
        }
    }
}

impl ConsumerContext for Callbacks {
    /// Only notes the event: the worker assigns and releases in its own loop, after its commits.
    fn rebalance(&self, consumer: &BaseConsumer<Self>, event: RDKafkaRespErr, partitions: &mut TopicPartitionList) {
        let named = partitions_of(partitions);
        let is_assign = event == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS;
        if self.is_closing.load(Ordering::Relaxed) {
            // Unanswered, an event of either kind would keep the client from closing.
            let answered = if is_assign { take_in(consumer, partitions) } else { give_up(consumer, partitions) };
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

/// Answers an assignment in the way of the group's protocol.
pub(super) fn take_in(consumer: &BaseConsumer<Callbacks>, partitions: &TopicPartitionList) -> KafkaResult<()> {
    match consumer.rebalance_protocol() {
        RebalanceProtocol::Eager => consumer.assign(partitions),
        _ => consumer.incremental_assign(partitions),
    }
}

/// Answers a revocation in the way of the group's protocol; an eager one takes everything.
pub(super) fn give_up(consumer: &BaseConsumer<Callbacks>, partitions: &TopicPartitionList) -> KafkaResult<()> {
    match consumer.rebalance_protocol() {
        RebalanceProtocol::Eager => consumer.unassign(),
        _ => consumer.incremental_unassign(partitions),
    }
}

/// Before a member's client closes, which it cannot while a rebalance waits for its answer: answers the one that was handed out and those
/// that come.
pub fn leave(consumer: &BaseConsumer<Callbacks>, unanswered: Option<Rebalance>) {
    let context = consumer.context();
    context.close();
    for rebalance in unanswered.into_iter().chain(context.take_rebalances()) {
        let answered = match rebalance {
            Rebalance::Assigned(partitions) => take_in(consumer, &list_of(&partitions)),
            Rebalance::Revoked(partitions) | Rebalance::Lost(partitions) => give_up(consumer, &list_of(&partitions)),
        };
        if let Err(error) = answered {
            tracing::debug!(%error, "rebalance not answered while closing");
        }
    }
}

/// Has a client learn who leads a topic's partitions before they are assigned by hand. About a topic that an assignment is the first to
/// name, librdkafka asks once a second (`rd_kafka_1s_tmr_cb`); what is not learned here it finds out then.
pub fn learn(consumer: &BaseConsumer<Callbacks>, topic: &str) {
    if let Err(error) = consumer.fetch_metadata(Some(topic), LEARN_WITHIN) {
        tracing::debug!(topic, %error, "leaders of a topic's partitions not known yet");
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
