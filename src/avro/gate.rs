//! The gate: decides for each writer schema id, once, whether its records may be used (WIRE-1).
//!
//! [`Gate::verdict`] never blocks. The first sight of an id starts a look-up, one at a time for each id, and says
//! [`Verdict::Pending`]: the partition waits at that record. What the look-up brings:
//!
//! 1. a schema is judged against bounds and the reader schema, once, because a registry never changes the schema of an id. Where
//!    the gate has an [`Arbiter`], that one has the last word: it hears of the schema, and until its [`Ruling`] comes the partition
//!    waits. Then the schema is `Accepted`, `Held` (its records wait until the owner decides) or `Refused`;
//! 2. trouble with the registry (down, slow, wrong credentials) says nothing about the id: asked again for ever, with growing
//!    pauses, and never a dead letter (C25);
//! 3. "no such id" is asked again a few times, since a replica may lag, then `Missing` for a while, so that it can heal.
//!
//! The gate has no timer: whether a look-up is due is asked of the clock when a verdict is, so tests steer it. While one id is waited
//! for, look-ups of all others that were asked for go on too: see [`Gate::ask_ahead`].

use std::hash::{BuildHasher, DefaultHasher, Hash, Hasher, RandomState};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tracing::{info, warn};

use super::foreign::{self, SchemaKind, Transcode};
use super::frame::{SchemaGuid, SchemaId};
use super::guid::{GuidAnswer, Guids, OnId};
use super::inspect::Inspector;
use super::lenient::as_written;
use super::limits::{DatumLimits, SchemaLimits};
use super::registry::{FetchedSchema, Registry, RegistryFault};
use super::resolve::check_readable;
use super::schema::ReaderSchema;
use crate::clock::SharedClock;
use crate::failpoint;
use crate::telemetry::TenantMetrics;

mod book;

use book::{Book, Told};

/// Receives what a look-up brought.
pub type OnAnswer = Box<dyn FnOnce(Result<FetchedSchema, RegistryFault>) + Send>;

/// Where schemas are looked up.
pub trait SchemaLookup: Send + Sync {
    /// Starts to look `id` up and returns at once; `answer` is called later from any thread, or dropped.
    fn look_up(&self, id: SchemaId, answer: OnAnswer);

    /// Starts to look up which id the schema with this GUID has, in the same way.
    fn look_up_guid(&self, guid: SchemaGuid, answer: OnId) {
        answer(Err(RegistryFault::Bad(format!("schemas are looked up by id only here, not by GUID {guid}"))));
    }
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
        let (registry, runtime) = (self.registry.clone(), self.runtime.clone());
        self.runtime.spawn(async move {
            let outcome = registry.schema(id).await;
            // A stranger's schema may take its bounded time to be judged; other answers do not wait for it.
            runtime.spawn_blocking(move || answer(outcome));
        });
    }

    fn look_up_guid(&self, guid: SchemaGuid, answer: OnId) {
        let registry = self.registry.clone();
        self.runtime.spawn(async move { answer(registry.id_of_guid(guid).await) });
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
    /// Sets the pauses of gates apart, so that a registry that comes back is not asked by all at once; each has another number.
    pub jitter: u64,
    /// So many ids are remembered: strangers can make ids up.
    pub remembered_max: usize,
    /// So many look-ups run at once.
    pub asking_max: usize,
    /// Bounds on a writer schema.
    pub schema: SchemaLimits,
    /// Bounds on a datum.
    pub datum: DatumLimits,
    /// The kind of schemas that the source declares; others are refused.
    pub kind: SchemaKind,
}

impl Default for Policy {
    /// An unknown id is missing after some one and a half seconds.
    fn default() -> Self {
        Self {
            missing_tries: 5,
            missing_for: Duration::from_secs(30),
            pause_first: Duration::from_millis(100),
            pause_max: Duration::from_secs(5),
            jitter: RandomState::new().hash_one(()),
            remembered_max: 1_000,
            asking_max: 8,
            schema: SchemaLimits::default(),
            datum: DatumLimits::default(),
            kind: SchemaKind::Avro,
        }
    }
}

fn jitter(seed: u64, id: SchemaId, now: Duration) -> u64 {
    let mut hasher = DefaultHasher::new();
    (seed, id, now).hash(&mut hasher);
    hasher.finish()
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
    /// Makes datums of records that are in another format than Avro.
    pub transcoder: Option<Box<dyn Transcode>>,
    /// Schemas of other subjects that it rests on, for people.
    pub references: Vec<String>,
}

impl Accepted {
    /// JSON records without a schema of their own: what they hold is what `reader` asks for.
    ///
    /// # Panics
    /// Never: a reader schema is whole.
    pub fn plain_json(reader: &ReaderSchema, datum: DatumLimits) -> Self {
        let schema = reader.avro().clone();
        let inspector = Inspector::new(&schema, datum).expect("a reader schema defines every type that it uses");
        let transcoder = foreign::json::Transcoder::of(&schema, datum).expect("a reader schema defines every type that it uses");
        Self { id: SchemaId::NONE, schema, inspector, transcoder: Some(Box::new(transcoder)), references: Vec::new() }
    }
}

/// What is known about an id.
#[derive(Clone, Debug)]
pub enum Verdict {
    /// Its records may be used.
    Accepted(Arc<Accepted>),
    /// Not known yet: wait at the record and ask again.
    Pending,
    /// Known and not to be used before the owner has decided: wait at the record and ask again.
    Held {
        /// Who waits for whom, and why.
        detail: String,
    },
    /// Of a record type that the source does not read, in topics that several types share: skipped and counted.
    OtherRecord {
        /// The type's full name.
        name: String,
    },
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

impl Verdict {
    /// Whether records have to wait.
    pub fn must_wait(&self) -> bool {
        matches!(self, Self::Pending | Self::Held { .. })
    }
}

/// What was decided about a schema, whether or not its records can be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ruling {
    /// Use it, if its records can be read.
    Accept,
    /// Its records wait.
    Hold {
        /// For people: for whom, and why.
        detail: String,
    },
    /// Its records become dead letters.
    Refuse {
        /// For people: by whom, and why.
        detail: String,
    },
}

/// Has the last word on schemas: the tenant's policy and its owner, the same for all instances.
pub trait Arbiter: Send + Sync {
    /// A record uses a schema that has no ruling yet: as it was fetched, or why it is none. Returns at once; the ruling comes by
    /// [`Gate::rule`].
    fn unruled(&self, id: SchemaId, found: Result<FetchedSchema, String>);
}

/// The gate of one tenant's source.
pub struct Gate {
    reader: Arc<ReaderSchema>,
    lookup: Arc<dyn SchemaLookup>,
    clock: SharedClock,
    metrics: TenantMetrics,
    policy: Policy,
    arbiter: Option<Arc<dyn Arbiter>>,
    guids: Arc<Guids>,
    book: Mutex<Book>,
    is_going_on: AtomicBool,
    me: Weak<Self>,
}

impl Gate {
    /// A gate in front of rows of `reader` that uses whatever can be read.
    pub fn new(
        reader: Arc<ReaderSchema>,
        lookup: Arc<dyn SchemaLookup>,
        clock: SharedClock,
        metrics: TenantMetrics,
        policy: Policy,
    ) -> Arc<Self> {
        Self::with_arbiter(reader, lookup, clock, metrics, policy, None)
    }

    /// A gate that uses what can be read when `arbiter` rules so.
    pub fn with_arbiter(
        reader: Arc<ReaderSchema>,
        lookup: Arc<dyn SchemaLookup>,
        clock: SharedClock,
        metrics: TenantMetrics,
        policy: Policy,
        arbiter: Option<Arc<dyn Arbiter>>,
    ) -> Arc<Self> {
        let guids = Guids::new(lookup.clone(), clock.clone(), policy);
        Arc::new_cyclic(|me| Self {
            reader,
            lookup,
            clock,
            metrics,
            policy,
            arbiter,
            guids,
            book: Mutex::default(),
            is_going_on: AtomicBool::new(false),
            me: me.clone(),
        })
    }

    /// Whether records of writer schema `id` may be used. Never blocks; see the file's head.
    pub fn verdict(&self, id: SchemaId) -> Verdict {
        match self.guids.is_waiting(id) {
            Some(true) => return Verdict::Pending,
            Some(false) => return Verdict::Missing { detail: format!("{id} is no schema id") },
            None => {}
        }
        let now = self.clock.monotonic();
        let (verdict, is_due) = self.lock().question(id, now, &self.policy, self.arbiter.is_some());
        if is_due {
            self.look_up(id);
        }
        if matches!(verdict, Verdict::Pending) {
            self.go_on();
        }
        verdict
    }

    /// Starts a look-up. The lock is free here: it may be answered at once.
    fn look_up(&self, id: SchemaId) {
        failpoint::at("gate.asking");
        let answer = Answer { gate: self.me.clone(), id, is_given: false };
        self.lookup.look_up(id, Box::new(move |outcome| answer.give(outcome)));
    }

    /// Starts look-ups of other ids that are due, while there is room. Answers come here too, perhaps at once: the outermost call goes on.
    fn go_on(&self) {
        if self.is_going_on.swap(true, Ordering::Acquire) {
            return;
        }
        loop {
            let due = self.lock().due_too(self.clock.monotonic(), &self.policy);
            if due.is_empty() {
                break;
            }
            due.into_iter().for_each(|id| self.look_up(id));
        }
        self.is_going_on.store(false, Ordering::Release);
    }

    /// Begins to look at ids that records behind a waiting one use, so that many unknown ids cost hardly more time than one.
    pub fn ask_ahead(&self, ids: impl Iterator<Item = SchemaId>) {
        // What holds for them is asked when their records are reached.
        ids.for_each(|id| drop(self.verdict(id)));
    }

    /// Held schemas that records wait for, or waited for in this process, ascending.
    pub fn held_in_use(&self) -> Vec<SchemaId> {
        self.lock().held_in_use()
    }

    /// Takes a ruling of the arbiter's, on an id that records use or will use.
    pub fn rule(&self, id: SchemaId, ruling: Ruling) {
        let mut book = self.lock();
        let changed = book.ruled(id, ruling);
        let accepted = book.accepted(self.arbiter.is_some());
        drop(book);
        if let Some(verdict) = changed {
            self.tell(id, &verdict);
            self.metrics.schemas_known(accepted);
        }
    }

    /// The id of the schema with a GUID. Never blocks; see [`Guids`].
    pub fn id_of(&self, guid: SchemaGuid) -> GuidAnswer {
        self.guids.id_of(guid)
    }

    /// Takes what a look-up brought, and uses the room that it leaves.
    fn answered(&self, id: SchemaId, outcome: Result<FetchedSchema, RegistryFault>) {
        self.take(id, outcome);
        self.go_on();
    }

    fn take(&self, id: SchemaId, outcome: Result<FetchedSchema, RegistryFault>) {
        self.metrics.all().registry_request(outcome.as_ref().err().map_or("ok", RegistryFault::word));
        let has_arbiter = self.arbiter.is_some();
        let found = match outcome {
            Ok(fetched) => Ok(fetched),
            Err(RegistryFault::Bad(detail)) => Err(detail),
            Err(fault) => {
                let now = self.clock.monotonic();
                let random = jitter(self.policy.jitter, id, now);
                return self.lock().failed(id, &fault, now, &self.policy, random);
            }
        };
        if let Some(name) = found.as_ref().ok().and_then(|fetched| self.other_record(fetched)) {
            info!(
                schema_id = id.0,
                record = as_written(&name),
                "writer schema of another record type, its records are skipped and counted"
            );
            return self.lock().other_record(id, name);
        }
        let judged = found.as_ref().map_err(String::clone).and_then(|fetched| self.judge(fetched));
        let told = self.lock().judged(id, judged, has_arbiter);
        match (told, &self.arbiter) {
            (Some(Told::Unruled), Some(arbiter)) => arbiter.unruled(id, found),
            (Some(Told::Verdict(verdict)), _) => self.tell(id, &verdict),
            _ => {}
        }
        self.metrics.schemas_known(self.lock().accepted(has_arbiter));
    }

    /// One line for each schema and change, never for a record.
    fn tell(&self, id: SchemaId, verdict: &Verdict) {
        let reader = self.reader.fingerprint();
        match verdict {
            Verdict::Accepted(accepted) => info!(schema_id = id.0, references = ?accepted.references, reader, "writer schema accepted"),
            Verdict::Held { detail } => warn!(schema_id = id.0, detail, reader, "writer schema held, its records wait for the owner"),
            Verdict::Refused { detail } => {
                warn!(schema_id = id.0, detail, reader, "writer schema refused, its records become dead letters")
            }
            Verdict::Pending | Verdict::OtherRecord { .. } | Verdict::Missing { .. } => {}
        }
    }

    /// The name of a record type that the source does not read.
    fn other_record(&self, fetched: &FetchedSchema) -> Option<String> {
        // A schema of another kind is a mistake, whatever its type is called.
        if self.reader.reads_all_types() || fetched.kind != self.policy.kind {
            return None;
        }
        let name = fetched.parse_for(&self.reader, &self.policy.schema).ok()?.name()?.to_string();
        (!self.reader.reads_type(&name)).then_some(name)
    }

    /// Whether records of the schema can be read; the reason why not names ids and field.
    fn judge(&self, fetched: &FetchedSchema) -> Result<Accepted, String> {
        let id = fetched.id;
        let refused = |cause: String| format!("writer schema {id}, reader schema {}: {}", self.reader.fingerprint(), as_written(&cause));
        check_kind(fetched.kind, self.policy.kind).map_err(refused)?;
        let parsed = fetched.parse_with_transcoder(&self.policy.schema, self.policy.datum, Some(&self.reader));
        let (schema, transcoder) = parsed.map_err(|fault| refused(fault.to_string()))?;
        check_readable(&schema, &self.reader).map_err(|fault| refused(fault.to_string()))?;
        let inspector = Inspector::new(&schema, self.policy.datum).map_err(|fault| refused(fault.to_string()))?;
        Ok(Accepted { id, schema, inspector, transcoder, references: fetched.chain.clone() })
    }

    fn lock(&self) -> MutexGuard<'_, Book> {
        // Nothing below the lock leaves the book half changed, so it stays usable after a panic.
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a schema is of the kind that the source declares.
///
/// # Errors
/// What it is, and what to do.
pub fn check_kind(found: SchemaKind, declared: SchemaKind) -> Result<(), String> {
    match found == declared {
        true => Ok(()),
        false => Err(format!(
            "it is a schema of {found}, the source declares {declared}: produce with the serializer of {declared}, or declare format = \"{}\"",
            found.declared_as()
        )),
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
mod chain_tests;
#[cfg(test)]
#[path = "gate_tests.rs"]
mod tests;
