//! What stands in the topic `<tenant>-schemas`: JSON keys, JSON values, readable without Testudo.
//!
//! A verdict belongs to a source of the tenant, a schema id, and what the verdict was reached for: the reader schema and the policy
//! with the expressions that see the columns. A changed tenant file has other fingerprints, so it finds no verdict and asks again.

use serde::{Deserialize, Serialize};

use super::judge::Finding;

/// Key of a record.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Key {
    /// What was registered when a source was started for the first time.
    Baseline {
        /// Name of the source.
        source: String,
    },
    /// What was decided about a schema.
    Verdict(VerdictKey),
}

/// What a verdict is about, and what it was reached for.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct VerdictKey {
    /// Name of the source.
    pub source: String,
    /// The schema's id.
    pub id: u32,
    /// Fingerprint of the source's reader schema.
    pub reader: String,
    /// Fingerprint of the source's policy and expressions.
    pub policy: String,
}

/// Value of a [`Key::Baseline`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Baseline {
    /// Ids registered under the source's subjects, deleted versions too, ascending.
    pub ids: Vec<u32>,
    /// The instance that looked.
    pub who: String,
    /// When, in milliseconds since 1970.
    pub when_ms: i64,
}

/// What was decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Decision {
    /// Records are used, as far as they can be read.
    Accepted,
    /// Records wait for the owner.
    Held,
    /// Records become dead letters.
    Refused,
}

impl Decision {
    /// As people and the topic say it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Held => "held",
            Self::Refused => "refused",
        }
    }
}

/// Who decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum By {
    /// The tenant's policy.
    Policy,
    /// Its owner, whose word goes before the policy's.
    Owner,
}

/// Value of a [`Key::Verdict`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// What was decided.
    pub verdict: Decision,
    /// Who decided.
    pub by: By,
    /// The instance that asked the policy, or the owner's name.
    pub who: String,
    /// When, in milliseconds since 1970.
    pub when_ms: i64,
    /// The owner's remark.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// A subject and version under which the schema is registered, where one is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<Place>,
    /// Why its records cannot be read; empty when they can.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reasons: Vec<Finding>,
    /// What would be read instead of what is written.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<Finding>,
    /// What the registry's own rule says, where it was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<Rule>,
    /// Whether the owner was told, or does not have to be.
    #[serde(default)]
    pub announced: bool,
}

/// A version of a subject.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// The subject.
    pub subject: String,
    /// Number of the version.
    pub version: i32,
}

/// A subject's own compatibility rule, and what it says of a version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// Such as `BACKWARD`.
    pub level: String,
    /// Whether the version keeps it, compared with the version before; absent: not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub is_kept: Option<bool>,
}

impl Verdict {
    /// Whether another record says the same of a schema; by whom, when and in which words does not count.
    pub fn is_same(&self, other: &Self) -> bool {
        (self.verdict, self.by) == (other.verdict, other.by)
    }
}

/// A key or value as the topic holds it.
pub fn json<T: Serialize>(part: &T) -> Vec<u8> {
    serde_json::to_vec(part).expect("texts, numbers and lists always encode")
}
