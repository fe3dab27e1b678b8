//! GUIDs that records name their schemas by become the registry's ids, so that everything else knows ids only.
//!
//! [`Guids::id_of`] never blocks; its patience is the gate's: trouble with the registry makes a record wait for ever, "no such GUID" is
//! asked again a few times, then the record is refused for a while. While a GUID is asked for, its records wait under a *stand-in*, an id
//! that no registry gives out (they are 31 bits): whoever waits asks [`Guids::is_waiting`] with it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tracing::{info, warn};

use super::frame::{HEADER_FRAMED, SchemaGuid, SchemaId, VALUE_HEADER};
use super::gate::{Policy, SchemaLookup};
use super::registry::RegistryFault;
use crate::clock::SharedClock;

/// Receives the id of a GUID.
pub type OnId = Box<dyn FnOnce(Result<SchemaId, RegistryFault>) + Send>;

/// Bit of stand-ins; registries give out ids of 31 bits.
const STAND_IN: u32 = 1 << 31;

/// What is known about a GUID.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GuidAnswer {
    /// The id of its schema.
    Id(SchemaId),
    /// Not known yet: wait at the record, under this stand-in.
    Pending(SchemaId),
    /// It leads to no schema: reason code and the registry's words.
    Refused(&'static str, String),
}

/// The GUIDs that a gate has met.
pub struct Guids {
    lookup: Arc<dyn SchemaLookup>,
    clock: SharedClock,
    policy: Policy,
    book: Mutex<HashMap<SchemaGuid, Entry>>,
    me: Weak<Self>,
}

struct Entry {
    state: State,
    failed: u32,
    not_found: u32,
}

enum State {
    Asking,
    WaitingUntil(Duration),
    Known(SchemaId),
    RefusedUntil(Duration, &'static str, String),
}

impl Guids {
    /// None met yet.
    pub fn new(lookup: Arc<dyn SchemaLookup>, clock: SharedClock, policy: Policy) -> Arc<Self> {
        Arc::new_cyclic(|me| Self { lookup, clock, policy, book: Mutex::default(), me: me.clone() })
    }

    /// The id of a GUID's schema. Never blocks; see the file's head.
    pub fn id_of(&self, guid: SchemaGuid) -> GuidAnswer {
        let now = self.clock.monotonic();
        let mut book = self.lock();
        if let Some(entry) = book.get(&guid)
            && let Some(known) = entry.answer(guid, now)
        {
            return known;
        }
        if !book.contains_key(&guid) && book.len() >= self.policy.remembered_max {
            // Strangers can make GUIDs up: those that led nowhere are forgotten first, then all that is known.
            book.retain(|_, entry| !matches!(entry.state, State::RefusedUntil(..)));
            if book.len() >= self.policy.remembered_max {
                book.retain(|_, entry| matches!(entry.state, State::Asking));
            }
        }
        let asking = book.values().filter(|entry| matches!(entry.state, State::Asking)).count();
        let entry = book.entry(guid).or_insert(Entry { state: State::WaitingUntil(now), failed: 0, not_found: 0 });
        if asking >= self.policy.asking_max {
            return GuidAnswer::Pending(stand_in(guid));
        }
        entry.state = State::Asking;
        // A look-up may answer at once, and takes the lock then.
        drop(book);
        let answer = Answer { guids: self.me.clone(), guid, is_given: false };
        self.lookup.look_up_guid(guid, Box::new(move |outcome| answer.give(outcome)));
        self.lock().get(&guid).and_then(|entry| entry.answer(guid, now)).unwrap_or(GuidAnswer::Pending(stand_in(guid)))
    }

    /// Whether records that wait under a stand-in have to go on waiting; none for an id that is no stand-in.
    pub fn is_waiting(&self, id: SchemaId) -> Option<bool> {
        if id.0 & STAND_IN == 0 {
            return None;
        }
        let now = self.clock.monotonic();
        let waits = |state: &State| match state {
            State::Asking => true,
            State::WaitingUntil(until) => now < *until,
            State::Known(_) | State::RefusedUntil(..) => false,
        };
        Some(self.lock().iter().any(|(guid, entry)| stand_in(*guid) == id && waits(&entry.state)))
    }

    fn answered(&self, guid: SchemaGuid, outcome: Result<SchemaId, RegistryFault>) {
        let now = self.clock.monotonic();
        let mut book = self.lock();
        let Some(entry) = book.get_mut(&guid) else { return };
        match outcome {
            Ok(id) => {
                info!(%guid, schema_id = id.0, "schema guid resolved");
                *entry = Entry { state: State::Known(id), failed: 0, not_found: 0 };
            }
            Err(fault) => entry.failed(guid, &fault, now, &self.policy),
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<SchemaGuid, Entry>> {
        // Nothing below the lock leaves the book half changed, so it stays usable after a panic.
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    /// What is known, unless it is time to ask.
    fn answer(&self, guid: SchemaGuid, now: Duration) -> Option<GuidAnswer> {
        match &self.state {
            State::Known(id) => Some(GuidAnswer::Id(*id)),
            State::RefusedUntil(until, reason, detail) if now < *until => Some(GuidAnswer::Refused(reason, detail.clone())),
            State::WaitingUntil(until) if now < *until => Some(GuidAnswer::Pending(stand_in(guid))),
            State::Asking => Some(GuidAnswer::Pending(stand_in(guid))),
            State::WaitingUntil(_) | State::RefusedUntil(..) => None,
        }
    }

    fn failed(&mut self, guid: SchemaGuid, fault: &RegistryFault, now: Duration, policy: &Policy) {
        if self.failed == 0 {
            warn!(%guid, %fault, "schema guid not known yet, records wait");
        }
        let pause = policy.pause_first.saturating_mul(1 << self.failed.min(16)).min(policy.pause_max);
        self.failed = self.failed.saturating_add(1);
        let reason = match fault {
            // What it says will not change by asking again soon: a registry without GUIDs.
            RegistryFault::Bad(_) | RegistryFault::Refused { .. } => HEADER_FRAMED,
            RegistryFault::NotFound(_) => {
                self.not_found += 1;
                if self.not_found < policy.missing_tries {
                    self.state = State::WaitingUntil(now + pause);
                    return;
                }
                "unknown-schema-id"
            }
            RegistryFault::Unavailable(_) | RegistryFault::Unauthorized(_) => {
                self.state = State::WaitingUntil(now + pause);
                return;
            }
        };
        warn!(%guid, %fault, "schema guid leads to no schema, its records become dead letters");
        self.state = State::RefusedUntil(now + policy.missing_for, reason, format!("schema GUID {guid} of header {VALUE_HEADER}: {fault}"));
        // When it is asked for again, one answer is enough: the partition has waited once.
        (self.failed, self.not_found) = (0, policy.missing_tries.saturating_sub(1));
    }
}

/// The way back from a look-up. Dropped unused (the runtime ends, the look-up panics) it counts as no answer.
struct Answer {
    guids: Weak<Guids>,
    guid: SchemaGuid,
    is_given: bool,
}

impl Answer {
    fn give(mut self, outcome: Result<SchemaId, RegistryFault>) {
        if let Some(guids) = self.guids.upgrade() {
            guids.answered(self.guid, outcome);
        }
        self.is_given = true;
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        if self.is_given {
            return;
        }
        if let Some(guids) = self.guids.upgrade() {
            guids.answered(self.guid, Err(RegistryFault::Unavailable(format!("the look-up of GUID {} was given up", self.guid))));
        }
    }
}

fn stand_in(guid: SchemaGuid) -> SchemaId {
    let [.., a, b, c, d] = guid.0;
    SchemaId(STAND_IN | u32::from_be_bytes([a, b, c, d]))
}

#[cfg(test)]
#[path = "guid_tests.rs"]
mod tests;
