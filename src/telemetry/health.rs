//! Which parts of the service are ready: each part says so itself, `/readyz` asks here.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;

/// The states of all parts, shared by reference count.
#[derive(Clone, Debug, Default)]
pub struct Health {
    components: Arc<Mutex<BTreeMap<String, Told>>>,
}

/// What a part says of itself.
#[derive(Clone, Debug, Default)]
struct Told {
    is_ready: bool,
    text: Option<String>,
}

/// One part and whether it is ready.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ComponentState {
    /// The part's name, such as `tenant zoo worker 0`.
    pub name: String,
    /// Whether it does its work.
    pub ready: bool,
    /// Why not; of a ready part, what should be known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

impl Health {
    /// Enters a part, as not ready yet. A name stands for one part at a time.
    pub fn component(&self, name: impl Into<String>) -> HealthHandle {
        let handle = HealthHandle { health: self.clone(), name: name.into() };
        handle.not_ready("starting");
        handle
    }

    /// All parts, by name.
    pub fn snapshot(&self) -> Vec<ComponentState> {
        let state = |(name, told): (&String, &Told)| ComponentState { name: name.clone(), ready: told.is_ready, why: told.text.clone() };
        self.lock().iter().map(state).collect()
    }

    /// Whether every part is ready.
    pub fn is_ready(&self) -> bool {
        self.lock().values().all(|told| told.is_ready)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Told>> {
        // The map is whole after every operation, so a panic elsewhere leaves it usable.
        self.components.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A part's own entry. When it is dropped without [`HealthHandle::retire`], as in a panic, the part counts as not ready.
#[derive(Debug)]
pub struct HealthHandle {
    health: Health,
    name: String,
}

impl HealthHandle {
    /// The part does its work.
    pub fn ready(&self) {
        self.set(Told { is_ready: true, text: None });
    }

    /// The part does its work, and this should be known.
    pub fn ready_with(&self, note: impl Into<String>) {
        self.set(Told { is_ready: true, text: Some(note.into()) });
    }

    /// The part does not do its work, for the reason `why`.
    pub fn not_ready(&self, why: impl Into<String>) {
        self.set(Told { is_ready: false, text: Some(why.into()) });
    }

    /// The part is gone on purpose and no longer asked for.
    pub fn retire(mut self) {
        let name = std::mem::take(&mut self.name);
        self.health.lock().remove(&name);
    }

    fn set(&self, told: Told) {
        let mut components = self.health.lock();
        match components.get_mut(&self.name) {
            Some(state) => *state = told,
            None => {
                components.insert(self.name.clone(), told);
            }
        }
    }
}

impl Drop for HealthHandle {
    fn drop(&mut self) {
        if !self.name.is_empty() {
            self.not_ready("ended");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_part_that_is_not_ready_makes_the_whole_not_ready() {
        let health = Health::default();
        let worker = health.component("worker 0");
        let sink = health.component("sink");
        worker.ready();

        sink.not_ready("no database");

        assert!(!health.is_ready());
        let why: Vec<_> = health.snapshot().into_iter().map(|state| (state.name, state.why)).collect();
        assert_eq!(why, [("sink".to_owned(), Some("no database".to_owned())), ("worker 0".to_owned(), None)]);
    }

    #[test]
    fn a_part_that_vanished_is_not_ready_and_a_retired_one_is_not_asked_for() {
        let health = Health::default();
        let crashed = health.component("worker 0");
        crashed.ready();
        let stopped = health.component("worker 1");
        stopped.ready();

        drop(crashed);
        stopped.retire();

        let states = health.snapshot();
        assert_eq!(states, [ComponentState { name: "worker 0".into(), ready: false, why: Some("ended".into()) }]);
    }
}
