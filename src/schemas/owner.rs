//! The owner's side of the verdict topic: read what holds, decide. The command line and the API use this; running instances follow the topic.

use std::time::Duration;

use super::fingerprint::policy_fingerprint;
use super::record::{By, Decision, Key, Verdict, VerdictKey, json};
use super::topics::{Topic, Topics};
use super::verdicts::Verdicts;
use crate::clock::{Clock, Deadline};
use crate::kafka::{Failure, Reaction};
use crate::tenant::Tenant;

/// One wait for records.
const STEP: Duration = Duration::from_millis(100);

/// The key of a verdict on schema `id` for a source, as this tenant file asks for it. Panics when the tenant has no such source.
pub fn key_of(tenant: &Tenant, source: usize, id: u32) -> VerdictKey {
    let declared = &tenant.sources[source];
    VerdictKey {
        source: declared.name.clone(),
        id,
        reader: declared.reader.fingerprint().to_owned(),
        policy: policy_fingerprint(tenant, source),
    }
}

/// Everything that is decided so far.
///
/// # Errors
/// [`Failure`] when the topic does not exist or is not read to its end in time.
pub fn read(topics: &mut dyn Topics, within: Duration, clock: &dyn Clock) -> Result<Verdicts, Failure> {
    let deadline = Deadline::after(clock, within);
    let mut verdicts = Verdicts::default();
    topics.rewind()?;
    loop {
        let (records, is_at_end) = topics.read(STEP)?;
        for (key, value) in &records {
            verdicts.apply(key, value.as_deref());
        }
        if is_at_end {
            return Ok(verdicts);
        }
        if deadline.is_over(clock) {
            return Err(Failure::timed_out(Reaction::Retry, "read the verdicts on schemas", within));
        }
    }
}

/// What an owner wants.
#[derive(Clone, Debug)]
pub struct Wish {
    /// Accept, hold or refuse.
    pub decision: Decision,
    /// The owner's name.
    pub who: String,
    /// A remark, which dead letters repeat.
    pub note: Option<String>,
    /// When, in milliseconds since 1970.
    pub when_ms: i64,
}

/// The owner's verdict, with what is known of the schema from an earlier one.
pub fn verdict(before: Option<&Verdict>, wish: Wish) -> Verdict {
    let Wish { decision, who, note, when_ms } = wish;
    let before = before.cloned();
    let (place, rule) = before.as_ref().map_or((None, None), |before| (before.place.clone(), before.rule.clone()));
    let (reasons, changes) = before.map_or_else(Default::default, |before| (before.reasons, before.changes));
    Verdict { verdict: decision, by: By::Owner, who, when_ms, note, place, reasons, changes, rule, announced: false }
}

/// Writes the owner's verdict; running instances follow within a second.
///
/// # Errors
/// [`Failure`]; whether it was written is seen by reading.
pub fn write(topics: &mut dyn Topics, key: &VerdictKey, verdict: &Verdict) -> Result<(), Failure> {
    topics.append(Topic::Verdicts, &json(&Key::Verdict(key.clone())), &json(verdict))
}
