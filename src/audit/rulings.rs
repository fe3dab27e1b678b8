//! What was decided about writer schemas, read from the topic `<tenant>-schemas` itself: the policy's first word on each, and the owner's
//! last, which goes before it.
//!
//! What the policy `compatible` says the audit finds out by itself. What `hold` and `refuse` say depends on what was there first, which only
//! the topic tells; so there the topic is believed, and a held record that was passed by is a discrepancy.
//!
//! A word holds for the records that come after it, and the topic does not say where in the input that was: it is compacted, and each
//! instance hears of it at its own time. So where a schema was accepted at one time and refused at another, each of its records may have met
//! either word. Its dead letter, or that there is none, says which; everything else must then be as that word says.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde_json::Value;

use super::facts::{LetterId, ObservedLetter, Place};

use crate::schemas::owner::key_of;
use crate::tenant::{OnNewSchema, Tenant};

/// The reason of dead letters whose schema was refused by policy or owner.
pub const REFUSED: &str = "schema-refused";

/// What was decided about a schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ruled {
    /// Used where it can be read.
    Accepted,
    /// Its records wait.
    Held,
    /// Its records are refused.
    Refused,
}

/// The decisions on a tenant's schemas.
#[derive(Clone, Debug, Default)]
pub struct Rulings {
    /// Of each source: its name, the fingerprints of its reader schema and policy, and whether the policy alone decides nothing.
    sources: Vec<Asked>,
    ruled: HashMap<(usize, u32), Decided>,
    /// Input records whose dead letters say that their schema was refused.
    refused: HashSet<Place>,
}

#[derive(Clone, Debug)]
struct Asked {
    name: String,
    reader: String,
    policy: String,
    /// What holds without a record.
    otherwise: Ruled,
    /// The policy's first word on a schema that can be read.
    first: Ruled,
}

#[derive(Clone, Copy, Debug)]
struct Decided {
    ruled: Ruled,
    is_owners: bool,
    /// Whether it was accepted at one time and refused at another.
    has_changed: bool,
}

impl Rulings {
    /// Nothing decided yet.
    pub fn of(tenant: &Tenant) -> Self {
        let asked = |(index, source): (usize, &crate::tenant::Source)| {
            let key = key_of(tenant, index, 0);
            let otherwise = if source.on_new_schema == OnNewSchema::Compatible { Ruled::Accepted } else { Ruled::Held };
            let first = match source.on_new_schema {
                OnNewSchema::Compatible => Ruled::Accepted,
                OnNewSchema::Hold => Ruled::Held,
                OnNewSchema::Refuse => Ruled::Refused,
            };
            Asked { name: key.source, reader: key.reader, policy: key.policy, otherwise, first }
        };
        Self { sources: tenant.sources.iter().enumerate().map(asked).collect(), ..Self::default() }
    }

    /// Takes the next record of the topic.
    pub fn push(&mut self, key: &[u8], value: Option<&[u8]>) {
        let Ok(key) = serde_json::from_slice::<Value>(key) else { return };
        let text = |name: &str| key[name].as_str().unwrap_or_default();
        let is_asked = |asked: &Asked| (text("source"), text("reader"), text("policy")) == (&*asked.name, &*asked.reader, &*asked.policy);
        let (Some(source), Some(id)) = (self.sources.iter().position(is_asked), key["id"].as_u64().and_then(|id| u32::try_from(id).ok()))
        else {
            return;
        };
        let Some(value) = value.and_then(|value| serde_json::from_slice::<Value>(value).ok()) else {
            self.ruled.remove(&(source, id));
            return;
        };
        let ruled = match value["verdict"].as_str() {
            Some("accepted") => Ruled::Accepted,
            Some("held") => Ruled::Held,
            Some("refused") => Ruled::Refused,
            _ => return,
        };
        self.rule(source, id, ruled, value["by"] == "owner");
    }

    fn rule(&mut self, source: usize, id: u32, ruled: Ruled, is_owners: bool) {
        let is_change = |before: Ruled| before != ruled && ![before, ruled].contains(&Ruled::Held);
        let before = self.ruled.get(&(source, id)).copied();
        let has_changed = match before {
            // The policy's first word is its only one, and none after the owner's.
            Some(_) if !is_owners => return,
            Some(before) => before.has_changed || is_change(before.ruled),
            // The first word may have been compacted away.
            None => is_owners && is_change(self.sources[source].first),
        };
        self.ruled.insert((source, id), Decided { ruled, is_owners, has_changed });
    }

    /// Takes the dead letters that are there.
    pub fn follow(&mut self, letters: &BTreeMap<LetterId, Vec<ObservedLetter>>) {
        let is_refused = |stage: &str, letters: &[ObservedLetter]| stage == "gate" && letters.iter().any(|letter| letter.reason == REFUSED);
        let places = letters.iter().filter(|((_, stage), letters)| is_refused(stage, letters)).map(|((place, _), _)| place.clone());
        self.refused = places.collect();
    }

    /// Whether records of this schema may have met either word.
    pub fn has_changed(&self, source: usize, id: u32) -> bool {
        self.ruled.get(&(source, id)).is_some_and(|decided| decided.has_changed)
    }

    /// Whether the record at `place`, of a schema whose word [has changed](Self::has_changed), met the word that refused it.
    pub fn was_refused(&self, place: &Place) -> bool {
        self.refused.contains(place)
    }

    /// What the audit takes on trust, for people.
    pub fn warnings(&self) -> Vec<String> {
        let mut changed: Vec<_> = self.ruled.iter().filter(|(_, decided)| decided.has_changed).collect();
        changed.sort_by_key(|(key, _)| **key);
        let told = |((source, id), decided): (&(usize, u32), &Decided)| {
            let (now, name) = (if decided.ruled == Ruled::Refused { "refused" } else { "accepted" }, &self.sources[*source].name);
            format!(
                "schema {id} of source {name} is {now} now and was not always: each of its records may have met either word, its dead letter says which"
            )
        };
        changed.into_iter().map(told).collect()
    }

    /// What holds for a schema of a source.
    pub fn on(&self, source: usize, id: u32) -> Ruled {
        let Some(asked) = self.sources.get(source) else { return Ruled::Accepted };
        match self.ruled.get(&(source, id)) {
            // What can be read is the audit's own question.
            Some(decided) if !decided.is_owners && asked.otherwise == Ruled::Accepted => Ruled::Accepted,
            Some(decided) => decided.ruled,
            None => asked.otherwise,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The rulings of one source that a topic's records come to: who says what about schema 9.
    fn ruled(first: Ruled, words: &[(&str, &str)]) -> Rulings {
        let otherwise = if first == Ruled::Accepted { first } else { Ruled::Held };
        let asked = Asked { name: "readings".into(), reader: "r".into(), policy: "p".into(), otherwise, first };
        let mut rulings = Rulings { sources: vec![asked], ..Rulings::default() };
        let key = br#"{"source": "readings", "reader": "r", "policy": "p", "id": 9}"#;
        for (by, verdict) in words {
            rulings.push(key, Some(format!(r#"{{"verdict": "{verdict}", "by": "{by}"}}"#).as_bytes()));
        }
        rulings
    }

    #[test]
    fn what_waited_met_one_word_alone() {
        let rulings = ruled(Ruled::Held, &[("policy", "held"), ("owner", "refused")]);

        assert_eq!((rulings.on(0, 9), rulings.has_changed(0, 9)), (Ruled::Refused, false));
        assert!(rulings.warnings().is_empty());
    }

    #[test]
    fn a_schema_accepted_and_then_refused_may_have_met_either_word() {
        let by_owner = ruled(Ruled::Held, &[("owner", "accepted"), ("owner", "refused")]);
        let after_the_policy = ruled(Ruled::Accepted, &[("policy", "accepted"), ("owner", "refused")]);
        let compacted = ruled(Ruled::Accepted, &[("owner", "refused")]);
        let and_back = ruled(Ruled::Accepted, &[("owner", "refused"), ("owner", "accepted")]);

        for rulings in [by_owner, after_the_policy, compacted, and_back] {
            assert!(rulings.has_changed(0, 9), "{rulings:?}");
            assert_eq!(rulings.warnings().len(), 1);
        }
    }

    #[test]
    fn dead_letters_tell_which_records_met_the_word_that_refused() {
        let mut rulings = ruled(Ruled::Accepted, &[("owner", "refused")]);
        let place = |offset| Place { partition: crate::kafka::TopicPartition::new("in", 0), offset };
        let letter = |reason: &str| ObservedLetter { place: place(0), reason: reason.into(), key: 0, timestamp_ms: 1, value: (0, 0, 0) };
        let letters = [((place(7), "gate".into()), vec![letter(REFUSED)]), ((place(8), "gate".into()), vec![letter("unknown-schema-id")])];

        rulings.follow(&BTreeMap::from(letters));

        assert_eq!([6, 7, 8].map(|offset| rulings.was_refused(&place(offset))), [false, true, false]);
    }
}
