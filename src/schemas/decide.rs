//! The policy's verdict on a schema, as a pure function, and what a verdict means at the gate.

use super::judge::Judgement;
use super::record::{By, Decision, Verdict, VerdictKey};
use crate::avro::Ruling;
use crate::tenant::OnNewSchema;

/// What the policy says of a schema. Known and readable is always accepted: the policy is for new ones, and for known ones that a
/// changed tenant file can no longer read.
pub fn decide(policy: OnNewSchema, is_known: bool, judgement: &Judgement) -> Decision {
    match policy {
        _ if is_known && judgement.is_readable() => Decision::Accepted,
        OnNewSchema::Compatible if judgement.is_readable() => Decision::Accepted,
        OnNewSchema::Compatible | OnNewSchema::Refuse => Decision::Refused,
        OnNewSchema::Hold => Decision::Held,
    }
}

/// What the gate does by a verdict. The texts become details of dead letters, so they say nothing that differs between instances.
pub fn ruling(key: &VerdictKey, verdict: &Verdict) -> Ruling {
    match verdict.verdict {
        Decision::Accepted => Ruling::Accept,
        Decision::Held => Ruling::Hold { detail: waits(key, verdict) },
        Decision::Refused => {
            let by = match (verdict.by, &verdict.note) {
                (By::Policy, _) => "it is new, and on_new_schema is \"refuse\"".to_owned(),
                (By::Owner, None) => format!("refused by its owner ({})", verdict.who),
                (By::Owner, Some(note)) => format!("refused by its owner ({}): {note}", verdict.who),
            };
            let why_not = reasons(verdict).map_or_else(String::new, |why_not| format!("; {why_not}"));
            Ruling::Refuse { detail: format!("writer schema {}, reader schema {}: {by}{why_not}", key.id, key.reader) }
        }
    }
}

/// Who waits for whom, for people.
pub fn waits(key: &VerdictKey, verdict: &Verdict) -> String {
    let why_not = reasons(verdict).map_or_else(|| "it can be read".to_owned(), |why_not| format!("it cannot be read: {why_not}"));
    format!(
        "{} of source {} waits for its owner's decision, `testudo schema accept` or `testudo schema refuse`; {why_not}",
        name(key, verdict),
        key.source
    )
}

/// A schema for people: `schema 7 (subject in-value, version 2)`.
pub fn name(key: &VerdictKey, verdict: &Verdict) -> String {
    match &verdict.place {
        Some(place) => format!("schema {} (subject {}, version {})", key.id, place.subject, place.version),
        None => format!("schema {}", key.id),
    }
}

fn reasons(verdict: &Verdict) -> Option<String> {
    let reasons: Vec<String> = verdict.reasons.iter().map(ToString::to_string).collect();
    (!reasons.is_empty()).then(|| reasons.join("; "))
}
