//! The verdict topic folded to what holds now: pure, so that every instance that has read the same records rules the same.
//!
//! Instances write without asking each other, and each uses only what it has read back. The order of the topic decides:
//! - of the policy's verdicts on one key the *first* holds, and of baselines too: whoever has used it was not alone;
//! - the owner's goes before the policy's, and of the owner's the last holds.
//!
//! Compaction keeps the last record of a key, which may be one that lost. So whoever reads that its own record has lost writes the
//! one that holds again ([`Applied::Lost`]); the topic is not compacted before a day has passed.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::record::{Baseline, By, Decision, Key, Verdict, VerdictKey};

/// What holds.
#[derive(Clone, Debug, Default)]
pub struct Verdicts {
    baselines: BTreeMap<String, Baseline>,
    verdicts: BTreeMap<VerdictKey, Verdict>,
    /// The last word on each id of a source, whatever it was reached for.
    last: HashMap<(String, u32), Decision>,
}

/// What a record has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Applied {
    /// Nothing: it says what holds already, or cannot be read.
    Nothing,
    /// A source's baseline holds now.
    Baseline(String),
    /// This verdict holds now, or its announcement was noted.
    Verdict(VerdictKey),
    /// It came too late: key, who wrote it, and the value that holds.
    Lost {
        /// Of the record.
        key: Key,
        /// Who wrote the one that lost.
        who: String,
        /// The value that holds, as the topic should end with it.
        holds: Vec<u8>,
    },
}

impl Verdicts {
    /// Takes the next record of the topic; one without a value takes its key back.
    pub fn apply(&mut self, key: &[u8], value: Option<&[u8]>) -> Applied {
        let Ok(key) = serde_json::from_slice::<Key>(key) else {
            tracing::warn!(key = %String::from_utf8_lossy(key), "a record of the verdict topic has a key that is not known; it is left alone");
            return Applied::Nothing;
        };
        let known = match (&key, value) {
            (Key::Baseline { source }, None) => {
                self.baselines.remove(source);
                return Applied::Nothing;
            }
            (Key::Verdict(of), None) => {
                self.verdicts.remove(of);
                self.last.remove(&(of.source.clone(), of.id));
                return Applied::Nothing;
            }
            (Key::Baseline { source }, Some(value)) => {
                serde_json::from_slice(value).map(|baseline| self.apply_baseline(&key, source.clone(), baseline))
            }
            (Key::Verdict(of), Some(value)) => serde_json::from_slice(value).map(|verdict| self.apply_verdict(&key, of.clone(), verdict)),
        };
        known.unwrap_or_else(|error| {
            tracing::warn!(?key, %error, "a record of the verdict topic cannot be read; it is left alone");
            Applied::Nothing
        })
    }

    fn apply_baseline(&mut self, key: &Key, source: String, baseline: Baseline) -> Applied {
        match self.baselines.get(&source) {
            Some(holds) if holds.ids == baseline.ids => Applied::Nothing,
            Some(holds) => Applied::Lost { key: key.clone(), who: baseline.who, holds: super::record::json(holds) },
            None => {
                self.baselines.insert(source.clone(), baseline);
                Applied::Baseline(source)
            }
        }
    }

    fn apply_verdict(&mut self, key: &Key, of: VerdictKey, verdict: Verdict) -> Applied {
        match self.verdicts.get_mut(&of) {
            Some(holds) if holds.is_same(&verdict) => {
                let is_news = verdict.announced && !holds.announced;
                holds.announced |= verdict.announced;
                return if is_news { Applied::Verdict(of) } else { Applied::Nothing };
            }
            Some(holds) if verdict.by == By::Policy => {
                return Applied::Lost { key: key.clone(), who: verdict.who, holds: super::record::json(holds) };
            }
            _ => {}
        }
        self.last.insert((of.source.clone(), of.id), verdict.verdict);
        self.verdicts.insert(of.clone(), verdict);
        Applied::Verdict(of)
    }

    /// The verdict that holds for a key.
    pub fn of(&self, key: &VerdictKey) -> Option<&Verdict> {
        self.verdicts.get(key)
    }

    /// All verdicts, by source and id.
    pub fn all(&self) -> impl Iterator<Item = (&VerdictKey, &Verdict)> {
        self.verdicts.iter()
    }

    /// Whether a source's baseline was taken.
    pub fn has_baseline(&self, source: &str) -> bool {
        self.baselines.contains_key(source)
    }

    /// Whether a schema is known to a source: accepted under this tenant file or an earlier one, or there before its first start.
    pub fn is_known(&self, source: &str, id: u32) -> bool {
        match self.last.get(&(source.to_owned(), id)) {
            Some(last) => *last == Decision::Accepted,
            None => self.baselines.get(source).is_some_and(|baseline| baseline.ids.binary_search(&id).is_ok()),
        }
    }

    /// Ids that have a verdict for these fingerprints.
    pub fn settled(&self, source: &str, reader: &str, policy: &str) -> BTreeSet<u32> {
        let is_of = |key: &&VerdictKey| key.source == source && key.reader == reader && key.policy == policy;
        self.verdicts.keys().filter(is_of).map(|key| key.id).collect()
    }
}

#[cfg(test)]
#[path = "verdicts_tests.rs"]
mod tests;
