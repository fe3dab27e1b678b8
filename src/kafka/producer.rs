//! A transactional producer on rdkafka's `BaseProducer`, one thread polling it.
//!
//! Two of rdkafka's waits are stepped around: `commit_transaction` waits in steps of 100 ms unless the queue was drained
//! before, and `abort_transaction` waits for delivery reports that only polling serves, so both poll here.

use std::sync::Arc;
use std::time::Duration;

use rdkafka::consumer::ConsumerGroupMetadata;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, Producer};

use super::bounded::within;
use super::client::Callbacks;
use super::consumer::marks_list;
use super::ffi::{self, ProduceQueue};
use super::port::{Outgoing, TransactionalProducer};
use super::position::{Mark, TopicPartition};
use super::reaction::{Failure, Reaction, is_fencing};
use crate::clock::{Deadline, SharedClock};

/// So many records are queued before those under way are waited for: what more there were would only take the client's memory.
const QUEUED_MAX: usize = 16_384;
/// Then until so few are left: brokers have work meanwhile.
const QUEUED_MIN: usize = QUEUED_MAX / 2;
/// Between looks at how many are left; brokers take some thousand records in it.
const EASE_STEP: Duration = Duration::from_millis(1);
/// What librdkafka may take longer than it was told to before it counts as stuck.
const ANSWER_MARGIN: Duration = Duration::from_secs(5);
/// How long a broker is waited for before transactions are initialised, which waits by itself, in longer steps.
const CONNECT_WAIT: Duration = Duration::from_millis(500);
/// One wait for the client between polls of its event queue.
const STEP: Duration = Duration::from_millis(50);

/// A producer with a transactional id.
pub struct TxnProducer {
    // Before the client: its topics must not outlive it.
    queue: ProduceQueue,
    client: Arc<BaseProducer<Callbacks>>,
    transactional_id: String,
    clock: SharedClock,
    /// Records that may be queued or under way: those that were when it was looked at last, and all since.
    queued: usize,
}

impl TxnProducer {
    pub(super) fn new(client: BaseProducer<Callbacks>, transactional_id: &str, clock: SharedClock) -> Self {
        Self { queue: ProduceQueue::default(), client: Arc::new(client), transactional_id: transactional_id.to_owned(), clock, queued: 0 }
    }

    fn attempted(&self, what: &str) -> String {
        format!("{what} with transactional id {}", self.transactional_id)
    }

    /// Sorts an error. Once the client is dead its calls say no more than that; the first fatal error says why.
    fn failed(&self, what: &str, error: &KafkaError) -> Failure {
        let failure = Failure::of(self.attempted(what), error);
        match self.client.client().fatal_error() {
            Some((code, _)) if is_fencing(code) => Failure { is_fenced: true, ..failure },
            _ => failure,
        }
    }

    /// A fatal error that callbacks reported between calls.
    fn check_alive(&self, what: &str) -> Result<(), Failure> {
        match self.client.client().fatal_error() {
            Some((code, text)) => {
                Err(Failure { is_fenced: is_fencing(code), ..Failure::new(Reaction::ReplaceProducer, self.attempted(what), text) })
            }
            None => Ok(()),
        }
    }

    /// Serves all events that are there, each failed batch is one. rdkafka serves one where no time is given; given some, it asks without a
    /// pause until that is over (its last millisecond is rounded to none).
    fn serve_events(&self) {
        for _ in 0..ffi::reports(self.client.client()) {
            self.client.poll(Duration::ZERO);
        }
    }

    /// Waits until few records are queued or under way.
    fn ease(&mut self, wait: Duration) -> Result<(), Failure> {
        let deadline = Deadline::after(&*self.clock, wait);
        let patience = Deadline::after(&*self.clock, STEP);
        loop {
            self.queued = usize::try_from(self.client.in_flight_count()).unwrap_or(0);
            if self.queued <= QUEUED_MIN {
                return Ok(());
            }
            if patience.is_over(&*self.clock) {
                // Records may be waiting for a long `linger.ms`.
                ffi::flush(self.client.client(), STEP.min(deadline.left(&*self.clock)));
            }
            self.serve_events();
            self.check_alive("send records")?;
            if deadline.is_over(&*self.clock) {
                return Err(Failure::timed_out(Reaction::Abort, self.attempted("send records"), wait));
            }
            self.clock.sleep(EASE_STEP);
        }
    }

    /// Repeats a call in short steps, polling in between, while it answers `Retry` and time is left.
    fn in_steps(&self, what: &str, wait: Duration, call: impl Fn(Duration) -> Result<(), KafkaError>) -> Result<(), Failure> {
        let deadline = Deadline::after(&*self.clock, wait);
        loop {
            self.serve_events();
            let Err(error) = call(STEP.min(deadline.left(&*self.clock))) else { return Ok(()) };
            let failure = self.failed(what, &error);
            if failure.reaction != Reaction::Retry || deadline.is_over(&*self.clock) {
                return Err(failure);
            }
        }
    }
}

impl TransactionalProducer for TxnProducer {
    type Group = Arc<ConsumerGroupMetadata>;

    fn init(&mut self, wait: Duration) -> Result<(), Failure> {
        // Without a connection librdkafka looks for the coordinator only 500 ms later (`rd_kafka_txn_coord_query`).
        if !ffi::has_connected(self.client.client(), CONNECT_WAIT.min(wait)) {
            tracing::debug!(transactional_id = self.transactional_id, "no broker has answered yet");
        }
        self.client.init_transactions(wait).map_err(|error| self.failed("initialise transactions", &error))
    }

    fn begin(&mut self) -> Result<(), Failure> {
        self.client.begin_transaction().map_err(|error| self.failed("begin a transaction", &error))
    }

    fn send(&mut self, record: &Outgoing, wait: Duration) -> Result<(), Failure> {
        let mut deadline = None;
        loop {
            let Err(code) = self.queue.produce(self.client.client(), record) else {
                self.queued += 1;
                return if self.queued < QUEUED_MAX { Ok(()) } else { self.ease(wait) };
            };
            let deadline = *deadline.get_or_insert_with(|| Deadline::after(&*self.clock, wait));
            if code != RDKafkaErrorCode::QueueFull || deadline.is_over(&*self.clock) {
                let error = KafkaError::MessageProduction(code);
                let failure = self.failed(&format!("produce to {}/{}", record.topic, record.partition), &error);
                // The client lives, and takes no more because this transaction can only be aborted; after that it says why.
                let is_abortable = code == RDKafkaErrorCode::State && self.client.client().fatal_error().is_none();
                return Err(if is_abortable { Failure { reaction: Reaction::Abort, ..failure } } else { failure });
            }
            self.serve_events();
            self.clock.sleep(EASE_STEP);
        }
    }

    fn drain(&mut self, wait: Duration) -> Result<(), Failure> {
        self.queued = 0;
        let deadline = Deadline::after(&*self.clock, wait);
        loop {
            if ffi::flush(self.client.client(), STEP.min(deadline.left(&*self.clock))) {
                return self.check_alive("drain");
            }
            // Failed records are gone only when their reports are served.
            self.serve_events();
            self.check_alive("drain")?;
            if deadline.is_over(&*self.clock) {
                return Err(Failure::timed_out(Reaction::Abort, self.attempted("drain the producer"), wait));
            }
        }
    }

    fn send_positions(&mut self, marks: &[(TopicPartition, Mark)], group: &Self::Group, wait: Duration) -> Result<(), Failure> {
        const WHAT: &str = "send positions into the transaction";
        let (client, list, group) = (self.client.clone(), marks_list(marks)?, group.clone());
        let send = move || client.send_offsets_to_transaction(&list, &group, wait);
        match within(wait + ANSWER_MARGIN, "kafka positions", send) {
            Some(answer) => answer.map_err(|error| self.failed(WHAT, &error)),
            // The client takes no other call until this one ends. Nothing asks for the transaction's end, so it comes to nothing.
            None => Err(Failure::timed_out(Reaction::ReplaceProducer, self.attempted(WHAT), wait)),
        }
    }

    fn commit(&mut self, wait: Duration) -> Result<(), Failure> {
        self.client.commit_transaction(wait).map_err(|error| self.failed("commit", &error))
    }

    fn abort(&mut self, wait: Duration) -> Result<(), Failure> {
        self.in_steps("abort", wait, |step| self.client.abort_transaction(step))
    }

    fn take_coordinator_doubt(&mut self) -> bool {
        self.serve_events();
        self.client.context().take_coordinator_doubt()
    }

    fn take_refusal(&mut self) -> Option<String> {
        self.serve_events();
        self.client.context().take_refusal()
    }
}
