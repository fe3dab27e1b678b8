//! What was decided about writer schemas, read from the topic `<tenant>-schemas` itself: the policy's first word on each, and the owner's
//! last, which goes before it.
//!
//! What the policy `compatible` says the audit finds out by itself. What `hold` and `refuse` say depends on what was there first, which only
//! the topic tells; so there the topic is believed, and a held record that was passed by is a discrepancy.

use std::collections::HashMap;

use serde_json::Value;

use crate::schemas::owner::key_of;
use crate::tenant::{OnNewSchema, Tenant};

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
    /// What the audit cannot follow, for people.
    pub warnings: Vec<String>,
}

#[derive(Clone, Debug)]
struct Asked {
    name: String,
    reader: String,
    policy: String,
    /// What holds without a record.
    otherwise: Ruled,
}

#[derive(Clone, Copy, Debug)]
struct Decided {
    ruled: Ruled,
    is_owners: bool,
}

impl Rulings {
    /// Nothing decided yet.
    pub fn of(tenant: &Tenant) -> Self {
        let asked = |(index, source): (usize, &crate::tenant::Source)| {
            let key = key_of(tenant, index, 0);
            let otherwise = if source.on_new_schema == OnNewSchema::Compatible { Ruled::Accepted } else { Ruled::Held };
            Asked { name: key.source, reader: key.reader, policy: key.policy, otherwise }
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
        self.rule(source, id, Decided { ruled, is_owners: value["by"] == "owner" });
    }

    fn rule(&mut self, source: usize, id: u32, decided: Decided) {
        match self.ruled.get(&(source, id)) {
            // The policy's first word is its only one, and none after the owner's.
            Some(_) if !decided.is_owners => return,
            Some(before) if before.ruled != decided.ruled && before.ruled != Ruled::Held => self.warnings.push(format!(
                "schema {id} of source {} was {:?}, then {:?}: records from before the change are compared with the later word",
                self.sources[source].name, before.ruled, decided.ruled
            )),
            _ => {}
        }
        self.ruled.insert((source, id), decided);
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
