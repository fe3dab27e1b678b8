//! Carries a batch out: sends commands until every document is written, known to be older, or set aside.
//!
//! It ends only then, however long MongoDB is away. The caller may drop it at any moment: what was sent and what was not is all the
//! same, because the records are read again and repeating changes nothing (SINK-1).

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use mongodb::Database;
use mongodb::bson::{Bson, Document, RawDocument, RawDocumentBuf, doc};

use super::answer::{self, Answer};
use super::document::{Rule, Update};
use super::lease::Lease;
use super::rows::{Batch, SetAside};
use super::settings::{Bounds, Settings};
use super::statement::{Command, DOCUMENT_BYTES_MAX, Form, commands, markers, rounds};
use super::status::Health;
use crate::failpoint;

/// First and longest pause before a command is repeated.
const PAUSE_FIRST: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// A statement that meets a duplicate key so often is refused by a unique index of somebody else's, not by a race.
const RACES_MAX: usize = 8;

/// A statement that an answering server refuses so often in a row, with a code of which nothing is known, has a fault of its own: with
/// nothing else left to be sent this takes more than a minute, in which what passes has passed.
const REFUSALS_MAX: u32 = 20;

/// Writes to one collection.
#[derive(Clone)]
pub struct Writer {
    database: Database,
    collection: String,
    bounds: Bounds,
    timeout: Duration,
    /// Held whenever a command is sent.
    lease: Option<Arc<Lease>>,
}

/// What became of a batch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Documents inserted or replaced.
    pub written: u64,
    /// Documents that held this or something newer already.
    pub stale: u64,
    /// Documents of another origin, which were not touched (KEY-1).
    pub foreign: u64,
    /// Documents from another partition of the same topic, which were not touched: the topic has got partitions.
    pub moved: u64,
    /// Records without a document.
    pub set_aside: u64,
    /// Commands that were repeated.
    pub repeated: u64,
    /// One of the foreign or moved documents, for people.
    pub example: Option<String>,
    /// One of the records set aside, for people.
    pub example_aside: Option<String>,
}

/// How a document that was not touched stands to ours.
#[derive(Debug, PartialEq, Eq)]
enum Standing {
    Current,
    Foreign(String),
    Moved(i64),
}

impl Writer {
    /// A writer to `collection`; what has no document goes to `<collection>_set_aside`.
    pub fn new(database: Database, collection: impl Into<String>, settings: &Settings) -> Self {
        Self { database, collection: collection.into(), bounds: settings.bounds(), timeout: settings.write_timeout, lease: None }
    }

    /// Writes only while `lease` is held.
    pub fn under(self, lease: Arc<Lease>) -> Self {
        Self { lease: Some(lease), ..self }
    }

    /// Writes a batch. Ends when MongoDB has acknowledged all of it; drop the future to give up.
    pub async fn apply(&self, batch: Batch, health: &Health) -> Tally {
        let mut tally = Tally::default();
        let mut set_aside = batch.set_aside;
        let (fitting, too_large): (Vec<Update>, Vec<Update>) =
            batch.documents.into_iter().partition(|update| update.document.as_bytes().len() <= DOCUMENT_BYTES_MAX);
        set_aside.extend(too_large.iter().map(too_large_aside));
        for round in rounds(fitting) {
            self.write_round(&round, &mut set_aside, &mut tally, health).await;
        }
        self.mark(&set_aside, &mut tally, health).await;
        tally
    }

    /// Writes documents of different `_id`s: sends commands one after the other until every one is written or set aside.
    async fn write_round(&self, updates: &[Update], set_aside: &mut Vec<SetAside>, tally: &mut Tally, health: &Health) {
        let Some(first) = updates.first() else { return };
        let all: Vec<usize> = (0..updates.len()).collect();
        let mut queue = VecDeque::from(commands(&self.collection, Form::first(&first.rule), updates, &all, self.bounds));
        let mut races: HashMap<usize, usize> = HashMap::new();
        let mut doubts = Doubts::default();
        let mut pause = Pause::default();
        while let Some(command) = queue.pop_front() {
            failpoint::at("sink.send");
            let Some(answer) = self.send(&command, tally, health, &mut pause).await else {
                queue.push_front(command);
                continue;
            };
            failpoint::at("sink.answered");
            let of = |statements: &[usize]| statements.iter().map(|statement| command.documents[*statement]).collect::<Vec<_>>();
            tally.written += answer.written;
            if answer.unchanged > 0 {
                self.explain(updates, &command, answer.unchanged, tally).await;
            }
            for refusal in &answer.refused {
                set_aside.push(refused_aside(&updates[command.documents[refusal.statement]], &refusal.detail));
            }
            let (mut raced, mut again) = (of(&answer.raced), of(&answer.again));
            again.iter().for_each(|index| doubts.end(*index));
            for doubt in &answer.doubted {
                let index = command.documents[doubt.statement];
                match doubts.are_enough(index, doubt.code) {
                    true => set_aside.push(refused_aside(&updates[index], &doubt.detail)),
                    false => again.push(index),
                }
            }
            raced.retain(|index| {
                let met = races.entry(*index).and_modify(|met| *met += 1).or_insert(1);
                if *met > RACES_MAX {
                    set_aside.push(refused_aside(&updates[*index], "a unique index of the collection holds its value already"));
                }
                *met <= RACES_MAX
            });
            queue.extend(commands(&self.collection, Form::Update, updates, &raced, self.bounds));
            queue.extend(commands(&self.collection, command.form, updates, &again, self.bounds));
        }
    }

    /// Notes what was set aside.
    async fn mark(&self, set_aside: &[SetAside], tally: &mut Tally, health: &Health) {
        tally.set_aside += set_aside.len() as u64;
        tally.example_aside = set_aside
            .first()
            .map(|aside| format!("{}/{}@{}: {}", aside.source.topic, aside.source.partition, aside.source.offset, aside.detail));
        let collection = format!("{}_set_aside", self.collection);
        let mut queue = VecDeque::from(markers(&collection, set_aside, self.bounds));
        let mut pause = Pause::default();
        while let Some(command) = queue.pop_front() {
            match self.send(&command, tally, health, &mut pause).await {
                // A marker that is refused or meets its own twin stays away: the log has the record's place.
                Some(answer) if answer.again.is_empty() && answer.doubted.is_empty() => {}
                _ => queue.push_back(command),
            }
        }
    }

    /// Sends a command once. `None`: nothing is known about it; a pause was made.
    async fn send(&self, command: &Command, tally: &mut Tally, health: &Health, pause: &mut Pause) -> Option<Answer> {
        if let Some(lease) = &self.lease {
            lease.hold(|why| health.waits(why)).await;
        }
        let attempt = self.database.run_raw_command(command.body.clone());
        let outcome = match tokio::time::timeout(self.timeout, attempt).await {
            Ok(Ok(reply)) => Ok(answer::read(&reply, command.form, command.documents.len())),
            Ok(Err(error)) => Err(error.kind.to_string()),
            Err(_) => Err(format!("no answer within {} s", self.timeout.as_secs())),
        };
        let (answer, trouble) = match outcome {
            Ok(mut answer) => {
                let trouble = answer.trouble.take();
                (Some(answer), trouble)
            }
            Err(trouble) => (None, Some(trouble)),
        };
        match trouble {
            None => {
                pause.reset();
                health.works();
            }
            Some(trouble) => {
                tally.repeated += 1;
                health.ails(&format!("failed to write to {}.{}: {trouble}", self.database.name(), self.collection));
                pause.make().await;
            }
        }
        answer
    }

    /// Finds out why documents stayed as they were. Only for people: when it cannot be found out, nothing else depends on it.
    async fn explain(&self, updates: &[Update], command: &Command, unchanged: u64, tally: &mut Tally) {
        let asked: HashMap<&[u8], &Update> =
            command.documents.iter().map(|index| (updates[*index].id.as_bytes(), &updates[*index])).collect();
        let before = tally.foreign + tally.moved;
        if command.form == Form::Update
            && let Err(error) = tokio::time::timeout(self.timeout, self.compare(&asked, tally)).await.unwrap_or(Ok(()))
        {
            tracing::debug!(collection = self.collection, error = %error.kind, "not known why documents stayed as they were");
        }
        tally.stale += unchanged.saturating_sub(tally.foreign + tally.moved - before);
    }

    async fn compare(&self, asked: &HashMap<&[u8], &Update>, tally: &mut Tally) -> mongodb::error::Result<()> {
        let ids =
            asked.values().filter(|update| matches!(update.rule, Rule::Newest { .. })).map(|update| Document::try_from(update.id.clone()));
        let ids: Vec<Bson> = ids.filter_map(Result::ok).map(Bson::Document).collect();
        if ids.is_empty() {
            return Ok(());
        }
        let stored = self.database.collection::<RawDocumentBuf>(&self.collection);
        let mut found = stored.find(doc! { "_id": { "$in": ids } }).projection(doc! { "origin": 1, "source": 1 }).await?;
        while found.advance().await? {
            let current = found.current();
            let Some(update) = current.get_document("_id").ok().and_then(|id| asked.get(id.as_bytes())) else { continue };
            match standing(update, current) {
                Standing::Current => {}
                Standing::Foreign(origin) => {
                    tally.foreign += 1;
                    tally.example = Some(format!("{} is of {origin}, the result of {} was not written", shown(&update.id), of(update)));
                }
                Standing::Moved(partition) => {
                    tally.moved += 1;
                    let source = &update.source;
                    tally.example = Some(format!(
                        "{} came from partition {partition} of {}, the result from partition {} was not written",
                        shown(&update.id),
                        source.topic,
                        source.partition
                    ));
                }
            }
        }
        Ok(())
    }
}

/// How the stored document stands to ours.
fn standing(update: &Update, stored: &RawDocument) -> Standing {
    let origin = stored.get_str("origin").unwrap_or_default();
    if let Rule::Newest { origin: ours } = &update.rule
        && **ours != *origin
    {
        return Standing::Foreign(origin.to_owned());
    }
    let Ok(source) = stored.get_document("source") else { return Standing::Current };
    let is_same_topic = source.get_str("topic_id").is_ok_and(|topic_id| topic_id == &*update.source.topic_id);
    match source.get_i32("partition") {
        Ok(partition) if is_same_topic && partition != update.source.partition => Standing::Moved(partition.into()),
        _ => Standing::Current,
    }
}

fn of(update: &Update) -> &str {
    match &update.rule {
        Rule::Newest { origin } => origin,
        Rule::Once => &update.source.topic,
    }
}

fn shown(id: &RawDocumentBuf) -> String {
    Document::try_from(id.clone()).map_or_else(|_| "a document".to_owned(), |id| id.to_string())
}

fn too_large_aside(update: &Update) -> SetAside {
    let bytes = update.document.as_bytes().len();
    SetAside {
        source: update.source.clone(),
        reason: "document-too-large",
        detail: format!("the document has {bytes} bytes, MongoDB takes 16 MiB, Testudo writes up to {DOCUMENT_BYTES_MAX}"),
        bytes,
    }
}

fn refused_aside(update: &Update, detail: &str) -> SetAside {
    let bytes = update.document.as_bytes().len();
    SetAside { source: update.source.clone(), reason: "refused-by-server", detail: detail.to_owned(), bytes }
}

/// Documents that the server refused for an unknown reason: with which code, and how often in a row.
#[derive(Default)]
struct Doubts {
    refused: HashMap<usize, (i64, u32)>,
}

impl Doubts {
    /// Counts a refusal with `code`; whether nothing else is to be expected.
    fn are_enough(&mut self, document: usize, code: i64) -> bool {
        let (last, times) = self.refused.entry(document).or_insert((code, 0));
        *times = if *last == code { *times + 1 } else { 1 };
        *last = code;
        *times >= REFUSALS_MAX
    }

    /// The row is broken: the document was not refused, or for another reason.
    fn end(&mut self, document: usize) {
        self.refused.remove(&document);
    }
}

/// Growing pauses between repetitions.
#[derive(Default)]
struct Pause {
    made: u32,
}

impl Pause {
    async fn make(&mut self) {
        let pause = PAUSE_FIRST.saturating_mul(1 << self.made.min(10)).min(PAUSE_MAX);
        self.made += 1;
        tokio::time::sleep(pause).await;
    }

    fn reset(&mut self) {
        self.made = 0;
    }
}

#[cfg(test)]
#[path = "write_tests.rs"]
mod tests;
