//! Output records as facts: what each alert, result and dead letter says, read with the schema that its frame names.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::datum::Shape;
use super::documents;
use super::facts::{InputRecord, Observed, ObservedLetter, ObservedWindow, Place, Unreadable, WindowId};
use super::job::{Declaration, Job};
use super::recompute::{WriterSchema, identity, result_hash};
use super::resolve::record_as_written;
use super::value::{Value, fnv, row_hash};
use crate::kafka::TopicPartition;
use crate::tenant::CollectionOf;

/// What a topic's records are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Alert(usize),
    Window(usize),
    DeadLetters,
}

impl Role {
    /// Whether the record comes of windows: a rebuild makes it anew, so that those of earlier generations count for nothing.
    fn is_rebuilt(self, record: &InputRecord) -> bool {
        match self {
            Self::Alert(_) => false,
            Self::Window(_) => true,
            Self::DeadLetters => record.header("testudo-stage").is_some_and(|stage| stage.starts_with("window.")),
        }
    }
}

/// Collects output records.
pub struct Outputs<'a> {
    declaration: &'a Declaration,
    job: &'a Job,
    roles: HashMap<Arc<str>, Role>,
    shapes: HashMap<u32, Option<Shape>>,
    collected_alerts: HashSet<usize>,
    collected_windows: HashSet<usize>,
    observed: Observed,
    words: HashSet<Arc<str>>,
}

/// The topic of a tenant's dead letters.
pub fn dead_letters_topic(tenant: &str) -> Arc<str> {
    format!("{tenant}-dead-letters").into()
}

type Fields = Vec<(Arc<str>, Value)>;

impl<'a> Outputs<'a> {
    /// Nothing read yet.
    pub fn new(declaration: &'a Declaration, job: &'a Job) -> Self {
        let alerts = declaration.alerts.iter().zip(0..).map(|(alert, index)| (alert.topic.clone(), Role::Alert(index)));
        let windows = declaration.windows.iter().zip(0..).map(|(window, index)| (window.topic.clone(), Role::Window(index)));
        let letters = (dead_letters_topic(&declaration.tenant), Role::DeadLetters);
        let (mut collected_alerts, mut collected_windows) = (HashSet::new(), HashSet::new());
        for collection in &declaration.collections {
            match collection.of {
                CollectionOf::Alert(alert) => collected_alerts.insert(alert),
                CollectionOf::Window(window) => collected_windows.insert(window),
                CollectionOf::Source(_) => false,
            };
        }
        Self {
            roles: alerts.chain(windows).chain([letters]).collect(),
            shapes: HashMap::new(),
            collected_alerts,
            collected_windows,
            observed: Observed::default(),
            words: HashSet::new(),
            declaration,
            job,
        }
    }

    /// The topics to be read.
    pub fn topics(&self) -> impl Iterator<Item = &Arc<str>> {
        self.roles.keys()
    }

    /// The schema id that must be [learnt](Self::learn) before `record` is pushed.
    pub fn unknown_schema(&self, record: &InputRecord) -> Option<u32> {
        let role = self.roles.get(&record.partition.topic)?;
        let (id, _) = frame(record).filter(|_| *role != Role::DeadLetters)?;
        (!self.shapes.contains_key(&id)).then_some(id)
    }

    /// Takes the registry's word on a schema id.
    pub fn learn(&mut self, id: u32, schema: &WriterSchema) {
        self.shapes.insert(id, schema.shape());
    }

    /// The next record of its partition.
    pub fn push(&mut self, record: &InputRecord) {
        let Some(role) = self.roles.get(&record.partition.topic).copied() else {
            return;
        };
        if role.is_rebuilt(record)
            && record.offset < self.declaration.generation.begins_at(&record.partition.topic, record.partition.partition)
        {
            return;
        }
        let taken = match role {
            Role::Alert(index) => self.alert(index, record),
            Role::Window(index) => self.window(index, record),
            Role::DeadLetters => self.letter(record),
        };
        if let Err(why) = taken {
            let row = match role {
                Role::Alert(index) => format!("alert {}", self.declaration.alerts[index].name),
                Role::Window(index) => format!("window {}", self.declaration.windows[index].name),
                Role::DeadLetters => "dead letters".into(),
            };
            self.observed.unreadable.push(Unreadable { row, place: record.place(), why });
        }
    }

    /// Everything that was read.
    pub fn finish(self) -> Observed {
        self.observed
    }

    fn fields(&self, record: &InputRecord) -> Result<Fields, String> {
        let (id, datum) = frame(record).ok_or("not framed")?;
        let Some(Some(shape)) = self.shapes.get(&id) else {
            return Err(format!("schema {id} is not in the registry or no schema"));
        };
        let datum = shape.read(datum).map_err(|error| error.to_string())?;
        record_as_written(&datum, shape).map_err(|error| error.to_string())
    }

    fn alert(&mut self, index: usize, record: &InputRecord) -> Result<(), String> {
        let fields = self.fields(record)?;
        let hash = row_hash(fields.iter().map(|(name, value)| (&**name, value)));
        if self.collected_alerts.contains(&index) {
            let schema_id = frame(record).map_or(0, |(id, _)| id);
            let hashes = documents::alert_hashes(&fields, record, schema_id);
            self.observed.alert_documents.entry(index).or_default().insert(record.place(), hashes);
        }
        let identity = identity(record.key.as_deref(), record.timestamp_ms, record.partition.partition);
        let alerts = self.observed.alerts.entry(index).or_default();
        alerts.entry(identity).or_insert_with(|| Vec::with_capacity(1)).push((hash, record.place()));
        Ok(())
    }

    fn window(&mut self, index: usize, record: &InputRecord) -> Result<(), String> {
        let fields = self.fields(record)?;
        let origin = record.header("testudo-origin").and_then(|text| partition_of(text, &mut self.words));
        let origin = origin.ok_or("no header testudo-origin that names topic/partition")?;
        let start = fields.iter().find(|(name, _)| &**name == "window_start").map(|(_, value)| value);
        let Some(Value::Timestamp(start_ns)) = start else {
            return Err("no window_start".into());
        };
        let start_us = i64::try_from(start_ns.div_euclid(1_000)).map_err(|_| "window_start is out of range")?;
        let key = record.key.as_deref().ok_or("no key")?.into();
        let left_out = self.job.windows[index].as_ref().map_or(&[][..], |window| window.left_out.as_slice());
        let audited = fields.iter().filter(|(name, _)| !left_out.iter().any(|left_out| **left_out == **name));
        let hash = result_hash(audited.map(|(name, value)| (&**name, value)), record.timestamp_ms, record.partition.partition);
        let by = &self.declaration.windows[index].by;
        let document = self.collected_windows.contains(&index).then(|| documents::result_hashes(&fields, by, &origin));
        let id = WindowId { window: index, origin, start_us, key };
        // Mostly there are few, and a list grows to four places.
        let empty = || ObservedWindow { results: Vec::with_capacity(1), document: None };
        let window = self.observed.windows.entry(id).or_insert_with(empty);
        window.results.push((hash, record.place()));
        window.document = document;
        Ok(())
    }

    fn letter(&mut self, record: &InputRecord) -> Result<(), String> {
        let text = |name: &str| record.header(name).ok_or_else(|| format!("no header {name}"));
        let number = |name: &str| text(name)?.parse::<i64>().map_err(|_| format!("header {name} is no number"));
        let partition = i32::try_from(number("testudo-partition")?).map_err(|_| "header testudo-partition is out of range")?;
        let origin = Place {
            partition: TopicPartition::new(word(&mut self.words, text("testudo-topic")?), partition),
            offset: number("testudo-offset")?,
        };
        let value = record.value.as_deref().unwrap_or_default();
        let length = usize::try_from(number("testudo-value-bytes")?).map_err(|_| "header testudo-value-bytes is negative")?;
        let letter = ObservedLetter {
            place: record.place(),
            reason: text("testudo-reason")?.into(),
            key: fnv(record.key.as_deref().unwrap_or_default()),
            timestamp_ms: record.timestamp_ms,
            value: (length, value.len(), fnv(value)),
        };
        let stage = word(&mut self.words, text("testudo-stage")?);
        // Mostly there is one, and a list grows to four places.
        self.observed.letters.entry((origin, stage)).or_insert_with(|| Vec::with_capacity(1)).push(letter);
        Ok(())
    }
}

/// A word that many records have, kept once.
fn word(words: &mut HashSet<Arc<str>>, text: &str) -> Arc<str> {
    match words.get(text) {
        Some(known) => known.clone(),
        None => {
            let word: Arc<str> = text.into();
            words.insert(word.clone());
            word
        }
    }
}

fn frame(record: &InputRecord) -> Option<(u32, &[u8])> {
    match record.value.as_deref()? {
        [0, a, b, c, d, datum @ ..] => Some((u32::from_be_bytes([*a, *b, *c, *d]), datum)),
        _ => None,
    }
}

/// `topic/3`; a topic's name holds no slash.
fn partition_of(text: &str, words: &mut HashSet<Arc<str>>) -> Option<TopicPartition> {
    let (topic, partition) = text.rsplit_once('/')?;
    Some(TopicPartition::new(word(words, topic), partition.parse().ok()?))
}
