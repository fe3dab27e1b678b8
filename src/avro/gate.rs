//! The gate: decides for each writer schema id, once, whether its records may be used (WIRE-1).
//!
//! [`Gate::verdict`] never blocks. The first sight of an id starts a look-up, one at a time for each id, and says
//! [`Verdict::Pending`]: the partition waits at that record. What the look-up brings:
//!
//! 1. a schema is judged against bounds and the reader schema: `Accepted` or `Refused`, for as long as the process lives,
//!    because a registry never changes the schema of an id;
//! 2. trouble with the registry (down, slow, wrong credentials) says nothing about the id: asked again for ever, with growing
//!    pauses, and never a dead letter (C25);
//! 3. "no such id" is asked again a few times, since a replica may lag, then `Missing` for a while, so that it can heal.
//!
//! The gate has no timer: whether a look-up is due is asked of the clock when a verdict is, so tests steer it.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tracing::{info, warn};

use super::frame::SchemaId;
use super::inspect::Inspector;
use super::limits::{DatumLimits, SchemaLimits};
use super::registry::{FetchedSchema, Registry, RegistryFault};
use super::resolve::check_readable;
use super::schema::ReaderSchema;
use crate::clock::SharedClock;
use crate::telemetry::TenantMetrics;

/// Receives what a look-up brought.
pub type OnAnswer = Box<dyn FnOnce(Result<FetchedSchema, RegistryFault>) + Send>;

/// Where schemas are looked up.
pub trait SchemaLookup: Send + Sync {
    /// Starts to look `id` up and returns at once; `answer` is called later from any thread, or dropped.
    fn look_up(&self, id: SchemaId, answer: OnAnswer);
}

/// Looks schemas up in the registry, on a tokio runtime.
pub struct RegistryLookup {
    registry: Registry,
    runtime: tokio::runtime::Handle,
}

impl RegistryLookup {
    /// Look-ups in `registry`, run on `runtime`.
    pub fn new(registry: Registry, runtime: tokio::runtime::Handle) -> Self {
        Self { registry, runtime }
    }
}

impl SchemaLookup for RegistryLookup {
    fn look_up(&self, id: SchemaId, answer: OnAnswer) {
        let registry = self.registry.clone();
        self.runtime.spawn(async move { answer(registry.schema(id).await) });
    }
}

/// Bounds and patience.
#[derive(Clone, Copy, Debug)]
pub struct Policy {
    /// So many answers "no such id" make an id missing.
    pub missing_tries: u32,
    /// A missing id is asked for again after this time.
    pub missing_for: Duration,
    /// Pause after the first failed look-up; doubles with each.
    pub pause_first: Duration,
    /// Longest pause between look-ups of an id.
    pub pause_max: Duration,
    /// So many ids are remembered: strangers can make ids up.
    pub remembered_max: usize,
    /// So many look-ups run at once.
    pub asking_max: usize,
    /// Bounds on a writer schema.
    pub schema: SchemaLimits,
    /// Bounds on a datum.
    pub datum: DatumLimits,
}

impl Default for Policy {
    /// An unknown id is missing after some one and a half seconds.
    fn default() -> Self {
        Self {
            missing_tries: 5,
            missing_for: Duration::from_secs(30),
            pause_first: Duration::from_millis(100),
            pause_max: Duration::from_secs(5),
            remembered_max: 1_000,
            asking_max: 16,
            schema: SchemaLimits::default(),
            datum: DatumLimits::default(),
        }
    }
}

/// A writer schema whose records may be used.
#[derive(Debug)]
pub struct Accepted {
    /// Its id.
    pub id: SchemaId,
    /// The parsed schema, with the types of other subjects in place.
    pub schema: apache_avro::Schema,
    /// Walks datums of it within bounds.
    pub inspector: Inspector,
    /// Schemas of other subjects that it rests on, for people.
    pub references: Vec<String>,
}

/// What is known about an id.
#[derive(Clone, Debug)]
pub enum Verdict {
    /// Its records may be used.
    Accepted(Arc<Accepted>),
    /// Not known yet: wait at the record and ask again.
    Pending,
    /// The registry says, in repeated tries, that it does not exist.
    Missing {
        /// The registry's words.
        detail: String,
    },
    /// Records written with it cannot be used.
    Refused {
        /// Why, naming ids and field.
        detail: String,
    },
}

/// The gate of one tenant's source.
pub struct Gate {
    reader: Arc<ReaderSchema>,
    lookup: Arc<dyn SchemaLookup>,
    clock: SharedClock,
    metrics: TenantMetrics,
    policy: Policy,
    jitter: RandomState,
    book: Mutex<Book>,
    me: Weak<Self>,
}

/// What is remembered, and a count of questions by which the least recently used is found.
#[derive(Default)]
struct Book {
    entries: HashMap<SchemaId, Entry>,
    asking: usize,
    questions: u64,
}

struct Entry {
    state: State,
    past: Past,
    /// Number of the question that asked for it last.
    used: u64,
}

enum State {
    Asking,
    WaitingUntil(Duration),
    MissingUntil(Duration, String),
    Accepted(Arc<Accepted>),
    Refused(String),
}

/// Failed look-ups of an id since it was last judged.
#[derive(Clone, Copy, Default)]
struct Past {
    failed: u32,
    not_found: u32,
}

impl Gate {
    /// A gate in front of rows of `reader`.
    pub fn new(
        reader: Arc<ReaderSchema>,
        lookup: Arc<dyn SchemaLookup>,
        clock: SharedClock,
        metrics: TenantMetrics,
        policy: Policy,
    ) -> Arc<Self> {
        Arc::new_cyclic(|me| Self {
            reader,
            lookup,
            clock,
            metrics,
            policy,
            jitter: RandomState::new(),
            book: Mutex::default(),
            me: me.clone(),
        })
    }

    /// Whether records of writer schema `id` may be used. Never blocks; see the file's head.
    pub fn verdict(&self, id: SchemaId) -> Verdict {
        let now = self.clock.monotonic();
        let (verdict, is_due) = self.lock().question(id, now, &self.policy);
        if is_due {
            // The lock is free here: a look-up may answer at once.
            let answer = Answer { gate: self.me.clone(), id, is_given: false };
            self.lookup.look_up(id, Box::new(move |outcome| answer.give(outcome)));
        }
        verdict
    }

    /// Takes what a look-up brought.
    fn answered(&self, id: SchemaId, outcome: Result<FetchedSchema, RegistryFault>) {
        self.metrics.all().registry_request(outcome.as_ref().err().map_or("ok", RegistryFault::word));
        let judged = match outcome {
            Ok(fetched) => Ok(self.judge(fetched)),
            Err(RegistryFault::Bad(detail)) => Ok(Err(detail)),
            Err(fault) => Err(fault),
        };
        let now = self.clock.monotonic();
        let mut book = self.lock();
        book.asking = book.asking.saturating_sub(1);
        let Some(entry) = book.entries.get_mut(&id) else { return };
        let reader = self.reader.fingerprint();
        match judged {
            Ok(Ok(accepted)) => {
                info!(schema_id = id.0, references = ?accepted.references, failed_tries = entry.past.failed, reader, "writer schema accepted");
                entry.state = State::Accepted(Arc::new(accepted));
            }
            Ok(Err(detail)) => {
                warn!(schema_id = id.0, detail, reader, "writer schema refused, its records become dead letters");
                entry.state = State::Refused(detail);
            }
            Err(fault) => entry.failed(id, &fault, now, &self.policy, self.jitter.hash_one((id, entry.past.failed))),
        }
        self.metrics.schemas_known(book.entries.values().filter(|entry| matches!(entry.state, State::Accepted(_))).count());
    }

    /// Whether records of the schema can be read; the reason why not names ids and field.
    fn judge(&self, fetched: FetchedSchema) -> Result<Accepted, String> {
        let id = fetched.id;
        let refused = |cause: String| format!("writer schema {id}, reader schema {}: {cause}", self.reader.fingerprint());
        let schema = fetched.parse(&self.policy.schema).map_err(|fault| refused(fault.to_string()))?;
        check_readable(&schema, &self.reader).map_err(|fault| refused(fault.to_string()))?;
        let inspector = Inspector::new(&schema, self.policy.datum).map_err(|fault| refused(fault.to_string()))?;
        Ok(Accepted { id, schema, inspector, references: fetched.chain })
    }

    fn lock(&self) -> MutexGuard<'_, Book> {
        // Nothing below the lock leaves the book half changed, so it stays usable after a panic.
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Book {
    /// The verdict on `id`, and whether a look-up has to be started now.
    fn question(&mut self, id: SchemaId, now: Duration, policy: &Policy) -> (Verdict, bool) {
        self.questions += 1;
        if !self.entries.contains_key(&id) {
            // While every remembered id is still undecided nothing is forgotten, and new ones wait outside.
            if self.entries.len() >= policy.remembered_max && !self.forget_one() {
                return (Verdict::Pending, false);
            }
            self.entries.insert(id, Entry { state: State::WaitingUntil(now), past: Past::default(), used: 0 });
        }
        let may_ask = self.asking < policy.asking_max;
        let Some(entry) = self.entries.get_mut(&id) else { return (Verdict::Pending, false) };
        entry.used = self.questions;
        let due = match &entry.state {
            State::Accepted(accepted) => return (Verdict::Accepted(accepted.clone()), false),
            State::Refused(detail) => return (Verdict::Refused { detail: detail.clone() }, false),
            State::MissingUntil(until, detail) if now < *until => return (Verdict::Missing { detail: detail.clone() }, false),
            State::Asking => return (Verdict::Pending, false),
            State::MissingUntil(until, _) | State::WaitingUntil(until) => *until,
        };
        let is_due = may_ask && due <= now;
        if is_due {
            entry.state = State::Asking;
            self.asking += 1;
        }
        (Verdict::Pending, is_due)
    }

    /// Forgets a missing id, else a refused one, else an accepted one; of these the least recently used.
    fn forget_one(&mut self) -> bool {
        let rank = |entry: &Entry| match entry.state {
            State::MissingUntil(..) => Some(0),
            State::Refused(_) => Some(1),
            State::Accepted(_) => Some(2),
            State::Asking | State::WaitingUntil(_) => None,
        };
        let candidates = self.entries.iter().filter_map(|(id, entry)| Some((rank(entry)?, entry.used, *id)));
        let Some((_, _, id)) = candidates.min() else { return false };
        self.entries.remove(&id).is_some()
    }
}

impl Entry {
    /// Notes a failed look-up and when to try again; `random` shortens the pause by up to a quarter.
    fn failed(&mut self, id: SchemaId, fault: &RegistryFault, now: Duration, policy: &Policy, random: u64) {
        let pause = policy.pause_first.saturating_mul(1 << self.past.failed.min(16)).min(policy.pause_max);
        let pause = pause - pause.mul_f64((random % 256) as f64 / 1_024.0);
        if self.past.failed == 0 {
            warn!(schema_id = id.0, fault = %fault, "writer schema not known yet, records wait");
        }
        self.past.failed = self.past.failed.saturating_add(1);
        self.past.not_found += u32::from(matches!(fault, RegistryFault::NotFound(_)));
        if self.past.not_found < policy.missing_tries {
            self.state = State::WaitingUntil(now + pause);
            return;
        }
        warn!(schema_id = id.0, fault = %fault, tries = policy.missing_tries, "writer schema missing, its records become dead letters");
        self.state = State::MissingUntil(now + policy.missing_for, fault.to_string());
        // When it is asked for again, one answer is enough: the partition has waited once.
        self.past = Past { failed: 0, not_found: policy.missing_tries.saturating_sub(1) };
    }
}

/// The way back from a look-up. Dropped unused (the runtime ends, the look-up panics) it counts as no answer.
struct Answer {
    gate: Weak<Gate>,
    id: SchemaId,
    is_given: bool,
}

impl Answer {
    fn give(mut self, outcome: Result<FetchedSchema, RegistryFault>) {
        if let Some(gate) = self.gate.upgrade() {
            gate.answered(self.id, outcome);
        }
        self.is_given = true;
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        if self.is_given {
            return;
        }
        if let Some(gate) = self.gate.upgrade() {
            gate.answered(self.id, Err(RegistryFault::Unavailable(format!("the look-up of schema {} was given up", self.id))));
        }
    }
}

#[cfg(test)]
#[path = "gate_tests.rs"]
mod tests;
