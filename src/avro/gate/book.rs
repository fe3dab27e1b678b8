//! What the gate remembers of each id: how far its look-up has come, what was found, and what was ruled about it.
//!
//! Pure: facts and the time in, verdicts and ids to ask for out. Strangers can make ids up, so only so many are remembered.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tracing::warn;

use super::{Accepted, Policy, Ruling, Verdict};
use crate::avro::frame::SchemaId;
use crate::avro::registry::RegistryFault;

/// What is remembered, and a count of questions by which the least recently used is found.
#[derive(Default)]
pub(super) struct Book {
    entries: HashMap<SchemaId, Entry>,
    /// The arbiter's words; none where the gate has no arbiter.
    rulings: HashMap<SchemaId, Ruling>,
    asking: usize,
    questions: u64,
    /// Whether the last answer was none: while the registry is in trouble, ids that nobody waits for are not asked for.
    is_in_trouble: bool,
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
    /// Looked at: of a record type, named here, that the source does not read.
    OtherRecord(String),
    /// Looked at: can be used, or why not.
    Judged(Result<Arc<Accepted>, String>),
}

/// Failed look-ups of an id since it was last judged.
#[derive(Clone, Copy, Default)]
struct Past {
    failed: u32,
    not_found: u32,
}

/// What a schema that was looked at has come to.
pub(super) enum Told {
    /// There is no ruling yet: the arbiter has to hear of it.
    Unruled,
    /// This is what holds now.
    Verdict(Verdict),
}

impl Book {
    /// The verdict on `id`, and whether a look-up has to be started now.
    pub(super) fn question(&mut self, id: SchemaId, now: Duration, policy: &Policy, has_arbiter: bool) -> (Verdict, bool) {
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
            State::Judged(judged) => return (verdict_on(judged, self.rulings.get(&id), has_arbiter), false),
            State::OtherRecord(name) => return (Verdict::OtherRecord { name: name.clone() }, false),
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

    /// Other ids whose next look-up is due, as many as may be asked for at once: so that the many ids of a slice become known in the time of
    /// one. They count as asked for.
    pub(super) fn due_too(&mut self, now: Duration, policy: &Policy) -> Vec<SchemaId> {
        let room = policy.asking_max.saturating_sub(self.asking);
        if room == 0 || self.is_in_trouble {
            return Vec::new();
        }
        let is_due = |entry: &Entry| matches!(entry.state, State::WaitingUntil(until) if until <= now);
        let due: Vec<SchemaId> = self
            .entries
            .iter_mut()
            .filter(|(_, entry)| is_due(entry))
            .take(room)
            .map(|(id, entry)| (*id, entry))
            .map(|(id, entry)| {
                entry.state = State::Asking;
                id
            })
            .collect();
        self.asking += due.len();
        due
    }

    /// Notes that a schema was looked at; none when its id was forgotten meanwhile.
    pub(super) fn judged(&mut self, id: SchemaId, judged: Result<Accepted, String>, has_arbiter: bool) -> Option<Told> {
        self.answered(false);
        let entry = self.entries.get_mut(&id)?;
        let judged = judged.map(Arc::new);
        let told = match (self.rulings.get(&id), has_arbiter) {
            (None, true) => Told::Unruled,
            (ruling, _) => Told::Verdict(verdict_on(&judged, ruling, has_arbiter)),
        };
        entry.state = State::Judged(judged);
        Some(told)
    }

    /// Notes that a schema is of a record type that the source does not read.
    pub(super) fn other_record(&mut self, id: SchemaId, name: String) {
        self.answered(false);
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.state = State::OtherRecord(name);
        }
    }

    /// Notes a failed look-up and when to try again; `random` shortens the pause by up to a quarter.
    pub(super) fn failed(&mut self, id: SchemaId, fault: &RegistryFault, now: Duration, policy: &Policy, random: u64) {
        self.answered(matches!(fault, RegistryFault::Unavailable(_) | RegistryFault::Unauthorized(_)));
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.failed(id, fault, now, policy, random);
        }
    }

    /// Notes a ruling. What holds for the id now, when that has changed and some record asked for it.
    pub(super) fn ruled(&mut self, id: SchemaId, ruling: Ruling) -> Option<Verdict> {
        if self.rulings.get(&id) == Some(&ruling) {
            return None;
        }
        self.rulings.insert(id, ruling);
        let State::Judged(judged) = &self.entries.get(&id)?.state else { return None };
        Some(verdict_on(judged, self.rulings.get(&id), true))
    }

    /// How many schemas are accepted.
    pub(super) fn accepted(&self, has_arbiter: bool) -> usize {
        let is_accepted = |(id, entry): &(&SchemaId, &Entry)| match &entry.state {
            State::Judged(judged) => matches!(verdict_on(judged, self.rulings.get(id), has_arbiter), Verdict::Accepted(_)),
            _ => false,
        };
        self.entries.iter().filter(is_accepted).count()
    }

    /// Held ids that some record asked for, ascending.
    pub(super) fn held_in_use(&self) -> Vec<SchemaId> {
        let is_held = |id: &SchemaId| matches!(self.rulings.get(id), Some(Ruling::Hold { .. }));
        let is_judged = |entry: &Entry| matches!(entry.state, State::Judged(_));
        let held = self.entries.iter().filter(|(id, entry)| is_judged(entry) && is_held(id));
        let mut held: Vec<SchemaId> = held.map(|(id, _)| *id).collect();
        held.sort_unstable();
        held
    }

    fn answered(&mut self, is_in_trouble: bool) {
        self.asking = self.asking.saturating_sub(1);
        self.is_in_trouble = is_in_trouble;
    }

    /// Forgets a missing id, else one that cannot be read, else one that can; of these the least recently used.
    fn forget_one(&mut self) -> bool {
        let rank = |entry: &Entry| match entry.state {
            State::MissingUntil(..) => Some(0),
            State::Judged(Err(_)) | State::OtherRecord(_) => Some(1),
            State::Judged(Ok(_)) => Some(2),
            State::Asking | State::WaitingUntil(_) => None,
        };
        let candidates = self.entries.iter().filter_map(|(id, entry)| Some((rank(entry)?, entry.used, *id)));
        let Some((_, _, id)) = candidates.min() else { return false };
        self.entries.remove(&id).is_some()
    }
}

/// What can be read is used when nobody forbids it; what cannot be read is never used, but may be held.
fn verdict_on(judged: &Result<Arc<Accepted>, String>, ruling: Option<&Ruling>, has_arbiter: bool) -> Verdict {
    match (ruling, judged) {
        (None, _) if has_arbiter => Verdict::Pending,
        (Some(Ruling::Hold { detail }), _) => Verdict::Held { detail: detail.clone() },
        (Some(Ruling::Refuse { detail }), Ok(_)) => Verdict::Refused { detail: detail.clone() },
        (None | Some(Ruling::Accept), Ok(accepted)) => Verdict::Accepted(accepted.clone()),
        (None | Some(Ruling::Accept | Ruling::Refuse { .. }), Err(why_not)) => Verdict::Refused { detail: why_not.clone() },
    }
}

impl Entry {
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
