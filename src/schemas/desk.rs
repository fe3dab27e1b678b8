//! The desk of one tenant: follows the verdict topic, writes the policy's verdicts on schemas that have none, tells the gates what holds,
//! and has it announced.
//!
//! A verdict is used only after it was read back: between two instances that write at once the topic's order decides, for both
//! ([`super::verdicts`]). So a turn has this order: read what is there; when everything is read, write what lacks. Whatever fails, the desk
//! begins again by reading from the first record; gates keep what they were told, and records of other schemas go on.

use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use super::announce::Event;
use super::board::{Board, Message, Met};
use super::decide::{decide, ruling};
use super::fingerprint::policy_fingerprint;
use super::judge::{Finding, Judgement, Readability, judge_fetched};
use super::record::{Baseline, By, Decision, Key, Verdict, VerdictKey, json};
use super::topics::{Topic, Topics};
use super::verdicts::{Applied, Verdicts};
use crate::avro::{Gate, SchemaId, SchemaLimits};
use crate::clock::SharedClock;
use crate::kafka::Failure;
use crate::tenant::Tenant;

/// A verdict that was written and not read back within this time is written again.
const ECHO_WITHIN: Duration = Duration::from_secs(10);
/// Whoever wrote what holds announces it, and mends what lost. Others do so after this time: it may have died.
const OTHERS_AFTER: Duration = Duration::from_secs(30);
/// Nobody in particular announces the owner's decisions: each instance waits up to so long, and the first one does.
const OWNERS_WITHIN_MS: u64 = 3_000;
/// Findings that a verdict keeps: of a hostile schema there may be thousands.
const FINDINGS_MAX: usize = 30;
/// A turn in which nothing is under way lasts as long as so many others.
const REST_TURNS: u32 = 5;
/// Messages taken in one turn.
const MESSAGES_MAX: usize = 256;

/// A source as verdicts know it.
struct Fingerprints {
    source: String,
    reader: String,
    policy: String,
}

/// A schema without verdict.
struct Open {
    met: Met,
    judgement: Option<Judgement>,
    /// Until when the record that was written has to come back.
    echo_until: Option<Duration>,
}

/// The desk; see the file's head.
pub struct Desk<T> {
    tenant: Arc<Tenant>,
    who: String,
    topics: T,
    clock: SharedClock,
    gates: Vec<Arc<Gate>>,
    inbox: mpsc::Receiver<Message>,
    board: Arc<Board>,
    announcer: Box<dyn Fn(Event, VerdictKey) + Send>,
    sources: Vec<Fingerprints>,
    verdicts: Verdicts,
    is_reading: bool,
    is_current: bool,
    open: BTreeMap<VerdictKey, Open>,
    baselines_asked: HashMap<usize, Duration>,
    /// Records that lost: what has to stand behind them, and from when on we see to it.
    mends: BTreeMap<Key, (Vec<u8>, Duration)>,
    /// Verdicts to be announced, and from when on by us; none: it is under way.
    unannounced: BTreeMap<VerdictKey, Option<Duration>>,
}

/// What a desk works with.
pub struct Tools<T> {
    /// The tenant.
    pub tenant: Arc<Tenant>,
    /// Name of this instance.
    pub who: String,
    /// The tenant's topics.
    pub topics: T,
    /// Time.
    pub clock: SharedClock,
    /// One gate for each source.
    pub gates: Vec<Arc<Gate>>,
    /// What others tell.
    pub inbox: mpsc::Receiver<Message>,
    /// What they are shown.
    pub board: Arc<Board>,
    /// Announces an event outside the topics, and says so by [`Message::Announced`].
    pub announcer: Box<dyn Fn(Event, VerdictKey) + Send>,
}

impl<T: Topics> Desk<T> {
    /// A desk that has read nothing.
    pub fn new(tools: Tools<T>) -> Self {
        let Tools { tenant, who, topics, clock, gates, inbox, board, announcer } = tools;
        let fingerprints = |(index, source): (usize, &crate::tenant::Source)| Fingerprints {
            source: source.name.clone(),
            reader: source.reader.fingerprint().to_owned(),
            policy: policy_fingerprint(&tenant, index),
        };
        let sources = tenant.sources.iter().enumerate().map(fingerprints).collect();
        Self {
            tenant,
            who,
            topics,
            clock,
            gates,
            inbox,
            board,
            announcer,
            sources,
            verdicts: Verdicts::default(),
            is_reading: false,
            is_current: false,
            open: BTreeMap::new(),
            baselines_asked: HashMap::new(),
            mends: BTreeMap::new(),
            unannounced: BTreeMap::new(),
        }
    }

    /// One turn: reads for up to `wait`, or, where nothing is under way, waits for a message for a few times that; then writes what lacks.
    ///
    /// # Errors
    /// [`Failure`]; the next turn begins to read anew.
    pub fn turn(&mut self, wait: Duration) -> Result<(), Failure> {
        let outcome = self.try_turn(wait);
        if outcome.is_err() {
            (self.is_reading, self.is_current) = (false, false);
        }
        outcome
    }

    fn try_turn(&mut self, wait: Duration) -> Result<(), Failure> {
        if !self.is_reading {
            self.topics.rewind()?;
            self.is_reading = true;
            (self.verdicts, self.mends, self.unannounced) = (Verdicts::default(), BTreeMap::new(), BTreeMap::new());
        }
        let (records, is_at_end) = match self.is_at_rest() {
            true => {
                self.rest(wait * REST_TURNS);
                self.topics.read(Duration::ZERO)?
            }
            false => self.topics.read(wait)?,
        };
        for (key, value) in &records {
            self.apply(key, value.as_deref());
        }
        if !self.is_current {
            if !is_at_end {
                return Ok(());
            }
            self.is_current = true;
            self.tell_everything();
        }
        self.take_messages();
        self.mend()?;
        self.write_verdicts()?;
        self.announce()
    }

    /// What holds now; complete once the topic was read to its end.
    pub fn verdicts(&self) -> &Verdicts {
        &self.verdicts
    }

    /// Whether the topic was read to its end.
    pub fn is_current(&self) -> bool {
        self.is_current
    }

    /// Held schemas that records wait for.
    pub fn waited_for(&self) -> Vec<(&VerdictKey, &Verdict)> {
        let mut waited = Vec::new();
        for (source, gate) in self.gates.iter().enumerate() {
            for id in gate.held_in_use() {
                waited.extend(self.verdicts.all().find(|(key, _)| key.id == id.0 && self.source_of(key) == Some(source)));
            }
        }
        waited
    }

    /// All held schemas.
    pub fn held(&self) -> impl Iterator<Item = (&VerdictKey, &Verdict)> {
        self.verdicts.all().filter(|(key, verdict)| verdict.verdict == Decision::Held && self.source_of(key).is_some())
    }

    fn apply(&mut self, key: &[u8], value: Option<&[u8]>) {
        if let Ok(key) = serde_json::from_slice::<Key>(key) {
            self.mends.remove(&key);
        }
        match self.verdicts.apply(key, value) {
            Applied::Nothing => {}
            Applied::Baseline(source) => {
                if let Some(index) = self.sources.iter().position(|known| known.source == source) {
                    self.board.shown().baselines.insert(index);
                }
            }
            Applied::Verdict(key) => self.holds(&key),
            Applied::Lost { key, who, holds } => {
                let after = if who == self.who { Duration::ZERO } else { OTHERS_AFTER };
                self.mends.insert(key, (holds, self.clock.monotonic() + after));
            }
        }
    }

    /// A verdict holds now.
    fn holds(&mut self, key: &VerdictKey) {
        let Some(source) = self.source_of(key) else { return };
        let Some(verdict) = self.verdicts.of(key) else { return };
        let due = match (verdict.announced, verdict.by) {
            (true, _) => None,
            (false, By::Policy) if verdict.who == self.who => Some(Duration::ZERO),
            (false, By::Policy) => Some(OTHERS_AFTER),
            (false, By::Owner) => Some(self.turn_of_ours(key)),
        };
        match due {
            Some(after) => drop(self.unannounced.insert(key.clone(), Some(self.clock.monotonic() + after))),
            None => drop(self.unannounced.remove(key)),
        }
        self.open.remove(key);
        self.board.shown().settled.entry(source).or_default().insert(key.id);
        if self.is_current {
            self.tell(source, key);
        }
    }

    fn tell(&self, source: usize, key: &VerdictKey) {
        if let (Some(gate), Some(verdict)) = (self.gates.get(source), self.verdicts.of(key)) {
            gate.rule(SchemaId(key.id), ruling(key, verdict));
        }
    }

    /// The end was reached: what holds can be used.
    fn tell_everything(&mut self) {
        for (key, _) in self.verdicts.all() {
            if let Some(source) = self.source_of(key) {
                self.tell(source, key);
            }
        }
        self.board.shown().is_ready = true;
        tracing::info!(tenant = self.tenant.name, verdicts = self.verdicts.all().count(), "verdicts on schemas read");
    }

    /// Whether nothing is expected of the topic: what others write there can wait for a few turns.
    fn is_at_rest(&self) -> bool {
        let asks = !self.open.is_empty() || self.sources.iter().any(|of| !self.verdicts.has_baseline(&of.source));
        self.is_current && !asks && self.mends.is_empty() && self.unannounced.is_empty()
    }

    /// Waits for a message.
    fn rest(&mut self, wait: Duration) {
        match self.inbox.recv_timeout(wait) {
            Ok(message) => self.take(message),
            Err(mpsc::RecvTimeoutError::Timeout) => {}
            Err(mpsc::RecvTimeoutError::Disconnected) => self.clock.sleep(wait),
        }
    }

    fn take_messages(&mut self) {
        for _ in 0..MESSAGES_MAX {
            match self.inbox.try_recv() {
                Ok(message) => self.take(message),
                Err(_) => return,
            }
        }
    }

    fn take(&mut self, message: Message) {
        match message {
            Message::Met(met) => self.meet(*met),
            Message::Baseline { source, ids } => self.take_baseline(source, ids),
            Message::Announced(key) => self.announced(&key),
        }
    }

    fn meet(&mut self, met: Met) {
        let Some(of) = self.sources.get(met.source) else { return };
        let key = VerdictKey { source: of.source.clone(), id: met.id, reader: of.reader.clone(), policy: of.policy.clone() };
        if self.verdicts.of(&key).is_some() {
            return self.tell(met.source, &key);
        }
        match self.open.get_mut(&key) {
            // The watcher knows more of a schema than a record does.
            Some(open) if open.met.rule.is_none() => (open.met.place, open.met.rule) = (met.place.or(open.met.place.take()), met.rule),
            Some(_) => {}
            None => drop(self.open.insert(key, Open { met, judgement: None, echo_until: None })),
        }
    }

    fn take_baseline(&mut self, source: usize, ids: Vec<u32>) {
        let now = self.clock.monotonic();
        let Some(of) = self.sources.get(source) else { return };
        if self.verdicts.has_baseline(&of.source) || self.baselines_asked.get(&source).is_some_and(|until| now < *until) {
            return;
        }
        let key = Key::Baseline { source: of.source.clone() };
        let baseline = Baseline { ids, who: self.who.clone(), when_ms: self.clock.wall_ms() };
        match self.topics.append(Topic::Verdicts, &json(&key), &json(&baseline)) {
            Ok(()) => drop(self.baselines_asked.insert(source, now + ECHO_WITHIN)),
            // The watcher brings it again.
            Err(failure) => tracing::warn!(tenant = self.tenant.name, %failure, "baseline of schemas not written"),
        }
    }

    fn announced(&mut self, key: &VerdictKey) {
        let Some(verdict) = self.verdicts.of(key) else { return };
        let told = Verdict { announced: true, ..verdict.clone() };
        if let Err(failure) = self.topics.append(Topic::Verdicts, &json(&Key::Verdict(key.clone())), &json(&told)) {
            tracing::warn!(tenant = self.tenant.name, %failure, "announcement not noted; it is made again");
            self.unannounced.insert(key.clone(), Some(self.clock.monotonic() + OTHERS_AFTER));
        }
    }

    fn mend(&mut self) -> Result<(), Failure> {
        let now = self.clock.monotonic();
        let due: Vec<(Key, Vec<u8>)> =
            self.mends.iter().filter(|(_, (_, from))| *from <= now).map(|(key, (holds, _))| (key.clone(), holds.clone())).collect();
        for (key, holds) in due {
            self.topics.append(Topic::Verdicts, &json(&key), &holds)?;
            self.mends.remove(&key);
        }
        Ok(())
    }

    /// Writes the policy's verdicts on schemas that have none.
    fn write_verdicts(&mut self) -> Result<(), Failure> {
        let (now, when_ms) = (self.clock.monotonic(), self.clock.wall_ms());
        for (key, open) in &mut self.open {
            if !self.verdicts.has_baseline(&key.source) || open.echo_until.is_some_and(|until| now < until) {
                continue;
            }
            let judgement = open.judgement.get_or_insert_with(|| judged(&open.met, &self.tenant));
            let is_known = self.verdicts.is_known(&key.source, key.id);
            let verdict = decide(self.tenant.sources[open.met.source].on_new_schema, is_known, judgement);
            let verdict = Verdict {
                verdict,
                by: By::Policy,
                who: self.who.clone(),
                when_ms,
                note: None,
                place: open.met.place.clone(),
                reasons: few(&judgement.reasons),
                changes: few(&judgement.changes),
                rule: open.met.rule.clone(),
                announced: is_known && verdict == Decision::Accepted,
            };
            self.topics.append(Topic::Verdicts, &json(&Key::Verdict(key.clone())), &json(&verdict))?;
            open.echo_until = Some(now + ECHO_WITHIN);
        }
        Ok(())
    }

    fn announce(&mut self) -> Result<(), Failure> {
        let now = self.clock.monotonic();
        let due: Vec<VerdictKey> =
            self.unannounced.iter().filter(|(_, from)| from.is_some_and(|from| from <= now)).map(|(key, _)| key.clone()).collect();
        for key in due {
            let Some(verdict) = self.verdicts.of(&key) else { continue };
            let event = Event::of(&self.tenant.name, &key, verdict);
            self.topics.append(Topic::Events, event.record_key().as_bytes(), &json(&event))?;
            tracing::info!(
                tenant = event.tenant,
                source = event.source,
                subject = event.subject.as_deref().unwrap_or("unknown"),
                version = event.version,
                schema_id = event.schema_id,
                verdict = event.verdict.word(),
                reasons = %texts(&event.reasons),
                changes = %texts(&event.changes),
                "schema version judged"
            );
            self.unannounced.insert(key.clone(), None);
            (self.announcer)(event, key);
        }
        Ok(())
    }

    /// The source of this tenant file that a key is about.
    fn source_of(&self, key: &VerdictKey) -> Option<usize> {
        self.sources.iter().position(|of| of.source == key.source && of.reader == key.reader && of.policy == key.policy)
    }

    fn turn_of_ours(&self, key: &VerdictKey) -> Duration {
        let mut hasher = DefaultHasher::new();
        (&self.who, key).hash(&mut hasher);
        Duration::from_millis(hasher.finish() % OWNERS_WITHIN_MS)
    }
}

fn judged(met: &Met, tenant: &Tenant) -> Judgement {
    match &met.found {
        Ok(fetched) => {
            // A stranger's text: what fails over it must not keep all others from their verdicts.
            let judged = catch_unwind(AssertUnwindSafe(|| judge_fetched(fetched, &SchemaLimits::default(), tenant, met.source)));
            judged.unwrap_or_else(|_| unreadable("judging it fails; the log says how"))
        }
        Err(why) => unreadable(why),
    }
}

fn unreadable(why: &str) -> Judgement {
    let reason = Finding { field: String::new(), column: None, text: why.to_owned(), used_by: Vec::new() };
    Judgement { verdict: Readability::Unreadable, reasons: vec![reason], changes: Vec::new() }
}

/// As many findings as a verdict keeps: with all of them a record may be larger than a producer takes.
pub(crate) fn few(findings: &[Finding]) -> Vec<Finding> {
    let mut kept: Vec<Finding> = findings.iter().take(FINDINGS_MAX).cloned().collect();
    if let Some(left @ 1..) = findings.len().checked_sub(FINDINGS_MAX) {
        kept.push(Finding { field: String::new(), column: None, text: format!("and {left} more"), used_by: Vec::new() });
    }
    kept
}

fn texts(findings: &[Finding]) -> String {
    findings.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
#[path = "desk_tests.rs"]
mod tests;
