//! What goes to and fro between a tenant's desk and those that look at the registry for it: messages in, a board to be read.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::record::{Place, Rule, VerdictKey};
use crate::avro::registry::FetchedSchema;

/// What others tell the desk.
pub enum Message {
    /// Somebody met a schema.
    Met(Box<Met>),
    /// What is registered under the subjects of a source that has no baseline yet.
    Baseline {
        /// Index of the source.
        source: usize,
        /// Ids, ascending.
        ids: Vec<u32>,
    },
    /// An announcement was made.
    Announced(VerdictKey),
}

/// A schema that a record uses, or that was seen in the registry.
pub struct Met {
    /// Index of the source.
    pub source: usize,
    /// The schema's id.
    pub id: u32,
    /// As it was fetched, or why it is none.
    pub found: Result<FetchedSchema, String>,
    /// Where it is registered.
    pub place: Option<Place>,
    /// What the registry's own rule says.
    pub rule: Option<Rule>,
}

/// What the desk shows to those that ask the registry for it.
#[derive(Default)]
pub struct Board {
    shown: Mutex<Shown>,
}

#[derive(Default)]
pub(super) struct Shown {
    pub(super) is_ready: bool,
    /// Indexes of sources.
    pub(super) baselines: BTreeSet<usize>,
    /// Ids by source.
    pub(super) settled: HashMap<usize, BTreeSet<u32>>,
}

impl Board {
    pub(super) fn shown(&self) -> MutexGuard<'_, Shown> {
        // Whole after every operation, so a panic elsewhere leaves it usable.
        self.shown.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the topic was read to its end once.
    pub fn is_ready(&self) -> bool {
        self.shown().is_ready
    }

    /// Whether a source has its baseline.
    pub fn has_baseline(&self, source: usize) -> bool {
        self.shown().baselines.contains(&source)
    }

    /// Whether a schema has a verdict.
    pub fn is_settled(&self, source: usize, id: u32) -> bool {
        self.shown().settled.get(&source).is_some_and(|ids| ids.contains(&id))
    }
}
