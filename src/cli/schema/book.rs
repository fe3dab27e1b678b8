//! A tenant's verdict topic as it stands now, read from its first record; and the owner's word, appended to it and read back.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use tokio::runtime::Handle;

use super::waiting;
use crate::avro::registry::FetchedSchema;
use crate::avro::{SchemaGuid, SchemaId};
use crate::cli::exit::{Exit, WithExit};
use crate::clock::{Deadline, SharedClock, SystemClock};
use crate::config::Config;
use crate::kafka::{Broker, Cluster, Failure};
use crate::schemas::desk::few;
use crate::schemas::record::{By, Decision, Key, Place, Rule, Verdict, VerdictKey, json};
use crate::schemas::topics::{KafkaTopics, Topic, Topics};
use crate::schemas::verdicts::Verdicts;
use crate::schemas::{Judgement, policy_fingerprint};
use crate::tenant::Tenant;

/// The topic is read, and a record that was appended comes back, within this time.
const WITHIN: Duration = Duration::from_secs(20);
/// One read waits so long for more.
const READ_WAIT: Duration = Duration::from_millis(200);
/// Longest remark, in characters.
const NOTE_CHARS_MAX: usize = 500;

/// What was decided for one tenant.
pub(super) struct Book {
    tenant: Arc<Tenant>,
    cluster: Arc<Cluster>,
    topics: KafkaTopics,
    clock: SharedClock,
    pub(super) verdicts: Verdicts,
}

/// An owner's word.
#[derive(Clone, Debug)]
pub(super) struct Word {
    pub(super) decision: Decision,
    pub(super) who: String,
    pub(super) note: Option<String>,
}

impl Word {
    /// The verdict that says it.
    fn verdict(&self, judgement: &Judgement, place: Option<Place>, rule: Option<Rule>, when_ms: i64) -> Verdict {
        Verdict {
            verdict: self.decision,
            by: By::Owner,
            who: self.who.clone(),
            when_ms,
            note: self.note.clone(),
            place,
            reasons: few(&judgement.reasons),
            changes: few(&judgement.changes),
            rule,
            announced: false,
        }
    }
}

impl Book {
    /// Reads the topic; an absent one holds nothing.
    pub(super) fn open(tenant: &Arc<Tenant>, config: &Config, runtime: &Handle) -> anyhow::Result<Self> {
        let clock = SystemClock::shared();
        let timeout = config.engine.transaction_timeout();
        let cluster = Arc::new(Cluster::new(config.kafka.clone(), "testudo-schema", timeout, clock.clone(), runtime.clone()));
        let names = [tenant.schemas_topic(), tenant.events_topic()];
        let known = cluster.describe(&names, Duration::from_secs(10)).exit_by(exit_of)?;
        let topics = KafkaTopics::new(tenant, cluster.clone(), config.kafka.clone(), clock.clone());
        let mut book = Self { tenant: tenant.clone(), cluster, topics, clock, verdicts: Verdicts::default() };
        if known.len() == names.len() {
            book.topics.rewind().exit_by(exit_of)?;
            book.read_until(|_, is_at_end| is_at_end).with_context(|| format!("failed to read {}", names[0]))?;
        }
        Ok(book)
    }

    /// The schema ids of the records that the tenant's group comes to next, by source, and where they stand. Read only when a
    /// schema is held: such a place is where a partition waits. `id_of` tells what a GUID stands for.
    pub(super) fn waiting(&self, id_of: &dyn Fn(SchemaGuid) -> Option<SchemaId>) -> anyhow::Result<BTreeMap<(usize, u32), Vec<String>>> {
        let is_held = self.verdicts.all().any(|(_, verdict)| verdict.verdict == Decision::Held);
        if !is_held {
            return Ok(BTreeMap::new());
        }
        waiting::next_ids(&self.tenant, &self.cluster, &*self.clock, id_of).exit_by(exit_of)
    }

    /// The key of a verdict on a schema for a source under the tenant file as it is.
    pub(super) fn key(&self, source: usize, id: u32) -> VerdictKey {
        let declared = &self.tenant.sources[source];
        VerdictKey {
            source: declared.name.clone(),
            id,
            reader: declared.reader.fingerprint().to_owned(),
            policy: policy_fingerprint(&self.tenant, source),
        }
    }

    /// Whether a verdict was reached for the tenant file as it is.
    pub(super) fn is_current(&self, key: &VerdictKey) -> bool {
        self.tenant.sources.iter().position(|source| source.name == key.source).is_some_and(|source| self.key(source, key.id) == *key)
    }

    /// Writes the owner's word and waits until it is read back: from then on it holds for all instances.
    pub(super) fn decide(&mut self, key: &VerdictKey, word: &Word, judgement: &Judgement, place: Option<Place>) -> anyhow::Result<Verdict> {
        if word.note.as_ref().is_some_and(|note| note.chars().count() > NOTE_CHARS_MAX) {
            return Err(anyhow!("the reason is longer than {NOTE_CHARS_MAX} characters")).exit(Exit::Usage);
        }
        let rule = self.verdicts.of(key).and_then(|known| known.rule.clone());
        let verdict = word.verdict(judgement, place, rule, self.clock.wall_ms());
        self.topics.create().exit_by(exit_of)?;
        self.topics.append(Topic::Verdicts, &json(&Key::Verdict(key.clone())), &json(&verdict)).exit_by(exit_of)?;
        self.topics.rewind().exit_by(exit_of)?;
        self.verdicts = Verdicts::default();
        self.read_until(|verdicts, _| verdicts.of(key).is_some_and(|holds| holds.by == By::Owner && holds.verdict == word.decision))
            .context("the decision was written, but did not come back; `testudo schema ls` shows what holds")?;
        Ok(verdict)
    }

    fn read_until(&mut self, is_enough: impl Fn(&Verdicts, bool) -> bool) -> anyhow::Result<()> {
        let deadline = Deadline::after(&*self.clock, WITHIN);
        loop {
            let (records, is_at_end) = self.topics.read(READ_WAIT).exit_by(exit_of)?;
            for (key, value) in &records {
                self.verdicts.apply(key, value.as_deref());
            }
            if is_enough(&self.verdicts, is_at_end) {
                return Ok(());
            }
            if deadline.is_over(&*self.clock) {
                bail!("topic {} was not read within {} s", self.tenant.schemas_topic(), WITHIN.as_secs());
            }
        }
    }
}

/// The place that a verdict remembers of a schema.
pub(super) fn place_of(found: &[(String, i32)], subjects: &[String]) -> Option<Place> {
    let own = found.iter().find(|(subject, _)| subjects.contains(subject)).or_else(|| found.first());
    own.map(|(subject, version)| Place { subject: subject.clone(), version: *version })
}

/// The schema's text for people: indented where it is JSON.
pub(super) fn pretty(schema: &FetchedSchema) -> String {
    match serde_json::from_str::<serde_json::Value>(&schema.json) {
        Ok(json) => format!("{json:#}"),
        Err(_) => schema.json.clone(),
    }
}

fn exit_of(failure: &Failure) -> Exit {
    if failure.is_forbidden { Exit::Forbidden } else { Exit::Unreachable }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schemas::{Finding, Readability};

    /// A producer's own bound, `message.max.bytes`, where nothing else is set.
    const RECORD_BYTES_MAX: usize = 1_000_000;

    #[test]
    fn an_owners_word_on_a_schema_of_many_long_fields_is_a_record_that_can_be_sent() {
        let finding = |at: usize| Finding {
            field: format!("{at:0>512}"),
            column: None,
            text: "is written as int and not read: the reader schema has no such field".into(),
            used_by: Vec::new(),
        };
        let changes: Vec<Finding> = (0..5_000).map(finding).collect();
        let judgement = Judgement { verdict: Readability::Readable, reasons: Vec::new(), changes };
        let word = Word { decision: Decision::Accepted, who: "ada".into(), note: None };

        let verdict = word.verdict(&judgement, None, None, 0);

        assert!(json(&judgement).len() > RECORD_BYTES_MAX && json(&verdict).len() < RECORD_BYTES_MAX);
        assert!(verdict.changes.last().is_some_and(|last| last.text.starts_with("and ")), "{:?}", verdict.changes.last());
    }
}
