//! The producer of a worker and the commit of a sealed epoch: one Kafka transaction, which is open no longer than this takes (EOS-1), and a
//! plain answer whether it happened.
//!
//! When nobody knows (EOS-7), the answer is "no": the caller drops the epoch, a new producer fences the old one's stragglers, and
//! the group's positions, stable by then, decide. If the commit had happened after all, the restore finds it there.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::epoch::SealedEpoch;
use super::job::Job;
use super::status::{Outcome, Status};
use crate::clock::SharedClock;
use crate::failpoint;
use crate::kafka::transaction::{End, Phases, Ready, Waits};
use crate::kafka::{Broker, Failure, GroupConsumer, Mark, Reaction, TopicPartition};
use crate::planted::Bug;

/// Within this time fencings are counted together.
const FENCING_WINDOW: Duration = Duration::from_secs(60);
/// After so many refusals of the same epoch the tenant stops and says which topic refuses what.
const REFUSALS_MAX: usize = 3;
/// Pauses between tries to get a producer.
const RETRY_WAIT: Duration = Duration::from_millis(200);

/// Why there is no producer.
#[derive(Debug, thiserror::Error)]
pub enum NoProducer {
    /// The broker did not give one; its reaction says whether to try again.
    #[error(transparent)]
    Failed(#[from] Failure),
    /// A living rival takes the transactional id again and again.
    #[error(
        "transactional id {id} was fenced {times} times within a minute: another process uses it; \
         give each instance its own `instance` name"
    )]
    Fenced {
        /// The transactional id.
        id: String,
        /// How often.
        times: usize,
    },
}

/// Whether an epoch was committed.
pub enum Committed {
    /// It is in Kafka, for certain.
    Yes,
    /// Not, or nobody knows: the group has to be asked.
    No(Failure),
}

/// Owns a worker's producer and replaces it when it has to be.
pub struct Committer<B: Broker> {
    broker: Arc<B>,
    job: Arc<Job>,
    transactional_id: String,
    clock: SharedClock,
    waits: Waits,
    ready: Option<Ready<B::Producer>>,
    fencings: VecDeque<Duration>,
    /// Transactions in a row that the broker refused a record of.
    refusals: usize,
}

impl<B: Broker> Committer<B> {
    /// Makes the first producer; waits for a broker that is away.
    pub fn start(
        broker: Arc<B>,
        transactional_id: String,
        clock: SharedClock,
        job: Arc<Job>,
        stop: &AtomicBool,
    ) -> Result<Self, NoProducer> {
        let timeout = job.settings.transaction_timeout();
        let waits = Waits { init: timeout, transaction: timeout.mul_f64(0.9) };
        let mut committer = Self { broker, job, transactional_id, clock, waits, ready: None, fencings: VecDeque::new(), refusals: 0 };
        loop {
            match committer.ensure_producer() {
                Ok(()) => return Ok(committer),
                Err(NoProducer::Failed(failure)) if failure.reaction != Reaction::Stop && !stop.load(Ordering::Relaxed) => {
                    tracing::warn!(%failure, "no producer yet");
                    committer.clock.sleep(RETRY_WAIT);
                }
                Err(fault) => return Err(fault),
            }
        }
    }

    /// Has a producer after this, or says why not.
    pub fn ensure_producer(&mut self) -> Result<(), NoProducer> {
        if self.ready.is_some() {
            return Ok(());
        }
        let now = self.clock.monotonic();
        self.fencings.retain(|at| now.saturating_sub(*at) < FENCING_WINDOW);
        if self.fencings.len() >= self.job.settings.fencings_max {
            return Err(NoProducer::Fenced { id: self.transactional_id.clone(), times: self.fencings.len() });
        }
        if !self.fencings.is_empty() {
            // Each fencing doubles the pause before the next try: two rivals do not spin.
            self.clock.sleep(RETRY_WAIT * (1 << self.fencings.len().min(5)) / 2);
        }
        failpoint::at("producer.init");
        let producer = self.broker.producer(&self.transactional_id)?;
        self.ready = Some(Ready::init(producer, self.clock.clone(), self.waits)?);
        Ok(())
    }

    /// Commits a sealed epoch. Its records are used up, each as it is handed to the client: they are many.
    pub fn commit(&mut self, sealed: &mut SealedEpoch, consumer: &mut B::Consumer, status: &Status) -> Result<Committed, NoProducer> {
        match self.ensure_producer() {
            Ok(()) => {}
            Err(NoProducer::Failed(failure)) => return Ok(Committed::No(failure)),
            Err(fenced) => return Err(fenced),
        }
        let Some(ready) = self.ready.take() else {
            return Ok(Committed::No(Failure::new(Reaction::ReplaceProducer, "commit", "no producer")));
        };
        let started = self.clock.monotonic();
        let mut open = match ready.begin() {
            Ok(open) => open,
            Err(failure) => return Ok(self.lost(failure, Outcome::Aborted, status)),
        };
        let again = sealed.records().next().filter(|_| Bug::DoubledRecord.is_planted()).cloned();
        for record in std::mem::take(&mut sealed.outgoing).into_iter().flatten().chain(again) {
            failpoint::at("commit.sending");
            if let Err(failure) = open.send(&self.job.placed(&record)) {
                return Ok(self.ended(open.abort(failure), status));
            }
        }
        failpoint::at("commit.sent");
        let sent = self.clock.monotonic();
        let mut phases = Phases::default();
        let end = open.commit(&marks(sealed), || consumer.group(), &mut phases);
        status.phases(sent.saturating_sub(started), &phases);
        Ok(self.ended(end, status))
    }

    fn ended(&mut self, end: End<B::Producer>, status: &Status) -> Committed {
        match end {
            End::Committed(ready) => {
                self.ready = Some(ready);
                self.refusals = 0;
                status.ended(Outcome::Ok);
                Committed::Yes
            }
            End::CommittedInDoubt => {
                tracing::warn!(
                    transactional_id = self.transactional_id,
                    "committed, but the coordinator's connection was in doubt: replacing the producer (EOS-8)"
                );
                self.refusals = 0;
                status.ended(Outcome::InDoubt);
                Committed::Yes
            }
            End::Aborted(ready, failure) => {
                self.ready = Some(ready);
                status.ended(Outcome::Aborted);
                self.refusals += usize::from(failure.is_refused || failure.is_forbidden);
                match self.refusals >= REFUSALS_MAX {
                    // The same records would be refused for ever.
                    true => Committed::No(Failure { reaction: Reaction::Stop, ..failure }),
                    false => Committed::No(failure),
                }
            }
            End::Unknown(failure) => {
                let outcome = if failure.is_fenced { Outcome::Fenced } else { Outcome::Unknown };
                self.lost(failure, outcome, status)
            }
        }
    }

    fn lost(&mut self, failure: Failure, outcome: Outcome, status: &Status) -> Committed {
        if failure.is_fenced {
            self.fencings.push_back(self.clock.monotonic());
        }
        status.ended(outcome);
        Committed::No(Failure {
            reaction: if failure.reaction == Reaction::Stop { Reaction::Stop } else { Reaction::ReplaceProducer },
            ..failure
        })
    }
}

/// The marks that a sealed epoch commits.
fn marks(sealed: &SealedEpoch) -> Cow<'_, [(TopicPartition, Mark)]> {
    let mut marks = Cow::Borrowed(&*sealed.marks);
    if Bug::PositionsOffByOne.is_planted() {
        marks.to_mut().iter_mut().for_each(|(_, mark)| mark.position.0 -= 1);
    }
    if Bug::SwappedOffsets.is_planted()
        && let [(_, first), (_, second), ..] = marks.to_mut().as_mut_slice()
    {
        std::mem::swap(first, second);
    }
    marks
}
